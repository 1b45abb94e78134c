"""The same run in the other ways: what "Compare the ways" queues.

A synchronous run of steps gets twins that differ in one thing: asynchronous and local with as many
workers, and synchronous with half of them and with one.
"""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from regatta.configuration import TrainingConfig
from regatta.dashboard import actions, comparison
from regatta.runs import service
from regatta.runs.states import RunState
from regatta.runs.store import RunRecord, RunStore
from regatta.utils import RegattaError, available_cores

# A twin in one of these states tells nothing, or not soon.
USELESS = {RunState.FAILED, RunState.DIVERGED, RunState.STOPPED, RunState.INTERRUPTED}


def is_comparable(record: RunRecord, config: TrainingConfig) -> bool:
    """Whether a run took mini-batches synchronously on workers, to its end."""
    synchronous = config.consistency == "sync" or config.staleness == 0
    return (
        record.state is RunState.FINISHED
        and record.solver == "sgd"
        and synchronous
        and bool(record.workers)
        and not record.tuned
    )


def twins(config: TrainingConfig, workers: int) -> list[TrainingConfig]:
    """The same settings in the other ways; of a run with one worker, with one a core."""
    crew = workers if workers > 1 else min(available_cores(), config.shards)
    base = replace(config, consistency="sync", staleness=None, workers=crew)
    title = config.name or f"{config.path.rsplit('/', 1)[-1]}: {config.target}"
    fewer = [each for each in (crew // 2, 1) if 0 < each < crew]
    found = [
        replace(base, consistency="async", name=f"{title}, async"),
        replace(base, consistency="local", name=f"{title}, local"),
        *(_with_crew(base, each, title) for each in dict.fromkeys(fewer)),
    ]
    if crew != workers:
        found = [_with_crew(base, crew, title), *found]
    return [each for each in found if each.consistency != "sync" or each.workers != workers]


def _with_crew(base: TrainingConfig, workers: int, title: str) -> TrainingConfig:
    crew = "1 worker" if workers == 1 else f"{workers} workers"
    return replace(base, workers=workers, name=f"{title}, {crew}")


def queue_twins(store: RunStore, record: RunRecord, *, supervise: bool = True) -> list[str]:
    """The ids of a run and its twins; those that are not there yet are queued.

    A second click finds what the first has queued.
    """
    wanted = twins(store.config(record.run_id), record.workers or 1)
    there = _known(store) if wanted else []
    run_ids = [record.run_id]
    for config in wanted:
        run_id = next((known for known, each in there if _same(each, config)), None)
        if run_id is None:
            run_id = service.submit(config, store=store, supervise=supervise).run_id
        run_ids.append(run_id)
    return run_ids[: comparison.MOST_RUNS]


def _known(store: RunStore) -> list[tuple[str, TrainingConfig]]:
    found = []
    for record in store.list():
        if record.state in USELESS or record.tuned:
            continue
        try:
            config = store.config(record.run_id)
        except (RegattaError, OSError, ValueError):
            continue
        # A run that was given another number of workers on its way is no twin of any.
        found.append((record.run_id, replace(config, workers=record.workers)))
    return found


def _same(one: TrainingConfig, other: TrainingConfig) -> bool:
    return replace(one, name="") == replace(other, name="")


def offer(record: RunRecord, *, primary: bool = False) -> None:
    """The button, where it makes sense."""
    store = actions.store()
    try:
        if not is_comparable(record, store.config(record.run_id)):
            return
    except (RegattaError, OSError, ValueError):
        return
    if st.button(
        "Compare the ways",
        icon=":material/compare_arrows:",
        type="primary" if primary else "secondary",
        help="Queues the same settings asynchronous and local, and with fewer workers, and sets "
        "the runs beside each other. Those that are there already are taken.",
    ):
        try:
            run_ids = queue_twins(store, record)
        except RegattaError as error:
            actions.tell(error)
        else:
            actions.go_to_comparison(run_ids)
