"""``regatta runs``: list runs, show one, and pause, resume, scale, move, stop or delete it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from regatta.cli import output
from regatta.cli import train as training
from regatta.cli.progress import ProgressBar
from regatta.runs import diagnosis, service
from regatta.runs.states import IllegalTransition, RunState
from regatta.runs.store import RunRecord, RunStore, waiting
from regatta.runs.tuning import Tuning
from regatta.utils import RegattaError, counted, home

# A coordinator looks at its commands a few times a second, but may be reading a block of a file.
OBEY_SECONDS = 15.0
_LOOK_SECONDS = 0.05
LAST_LINES = 10


def list_runs(chosen: argparse.Namespace) -> int:
    """``regatta runs list``."""
    store = RunStore(home())
    runs = store.list()
    if chosen.json:
        output.print_json({"runs": [run.to_json() for run in runs]})
    elif not runs:
        print("No run yet. `regatta train FILE --target NAME` makes one.")
    else:
        shown = runs[: chosen.limit] if chosen.limit else runs
        print(_listing(shown, output.width_of_lines(), waiting(runs)))
        if len(shown) < len(runs):
            print(f"({len(runs) - len(shown):,} older ones: `regatta runs list -n 0` lists all)")
    try:
        service.nudge(store)  # runs that wait for a supervisor that was killed
    except RegattaError as error:
        output.say_aside(str(error))
    return 0


def show(chosen: argparse.Namespace) -> int:
    """``regatta runs show RUN``."""
    store = RunStore(home())
    run = service.find(chosen.run, store=store)
    result = training.result_of(run.run_id, store)
    directory = store.directory(run.run_id)
    config = store.config(run.run_id)
    limits = diagnosis.limits_of(run, directory)
    if chosen.json:
        output.print_json(
            {
                **run.to_json(),
                "config": config.to_json(),
                "result": result,
                "directory": str(directory.path),
                "process": directory.holder(),
                "limits": limits.to_json(),
            }
        )
        return 0
    print(_details(run, config.path, str(directory.path), directory.holder(), limits.sentence))
    if run.state is RunState.FINISHED and result is not None:
        print(f"\n{training.summary(result)}")
    elif run.state in (RunState.FAILED, RunState.INTERRUPTED, RunState.DIVERGED):
        for line in _last_lines(store, run.run_id):
            print(f"  {line}")
    return 0


def pause(chosen: argparse.Namespace) -> int:
    """``regatta runs pause RUN``."""
    return _command(chosen, "pause", lambda state: state is RunState.PAUSED or state.is_terminal)


def stop(chosen: argparse.Namespace) -> int:
    """``regatta runs stop RUN``."""
    return _command(chosen, "stop", lambda state: state.is_terminal)


def scale(chosen: argparse.Namespace) -> int:
    """``regatta runs scale RUN N``."""
    store = RunStore(home())
    run_id = service.find(chosen.run, store=store).run_id
    run, wanted = service.scale(run_id, chosen.workers, store=store)
    if wanted < chosen.workers:
        output.say_aside(
            f"the run has {counted(wanted, 'shard')}, and so {counted(wanted, 'worker')} at most, "
            f"not {chosen.workers:,}."
        )
    deadline = time.monotonic() + OBEY_SECONDS
    while run.workers != wanted and run.state.is_live and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
        run = store.get(run_id)
    if run.workers != wanted and run.state.is_live:
        output.say_aside(f"told to take {counted(wanted, 'worker')}; it has not yet done so.")
    if chosen.json:
        return _tell_state(run, as_json=True)
    print(f"Run {run_id} is {run.state}, with {counted(run.workers or 0, 'worker')}.")
    return 0


def resume(chosen: argparse.Namespace) -> int:
    """``regatta runs resume RUN``: a paused run goes on where it is, any other one here."""
    store = RunStore(home())
    run = service.find(chosen.run, store=store)
    if run.state is RunState.PAUSED:
        return _command(chosen, "resume", lambda state: state is not RunState.PAUSED)
    if chosen.detach or run.state is RunState.QUEUED:
        run = service.resume(run.run_id, store=store)
        return _tell_state(run, as_json=chosen.json)
    if run.state.is_resumable:
        try:
            store.requeue(run.run_id, detached=False)
        except IllegalTransition:
            pass  # the supervisor was faster
        else:
            return training.work_on(run.run_id, store, as_json=chosen.json)
    elif run.state.is_terminal:
        raise service.not_resumable(run)
    return _follow(run.run_id, store, as_json=chosen.json)


def tune(chosen: argparse.Namespace) -> int:
    """``regatta runs set RUN --learning-rate X --batch-size N``."""
    store = RunStore(home())
    run_id = service.find(chosen.run, store=store).run_id
    wish = Tuning(chosen.learning_rate, chosen.batch_size, chosen.at_step)
    before = store.get(run_id)
    run = service.tune(run_id, wish, store=store)
    deadline = time.monotonic() + OBEY_SECONDS
    while run.tuned == before.tuned and run.state.is_live and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
        run = store.get(run_id)
    if chosen.json:
        return _tell_state(run, as_json=True)
    in_force = f"learning rate {run.learning_rate or 0:.4g} and {run.batch_size or 0:,} rows a step"
    stands = run.state is RunState.PAUSED
    if run.tuned == before.tuned and not stands:
        output.say_aside("told to change; it has not yet done so.")
    elif chosen.at_step is not None and chosen.at_step > (run.step or 0):
        print(f"Run {run_id} makes the change once {chosen.at_step:,} steps are taken.")
        return 0
    elif stands and not wish.is_in_force(run.learning_rate, run.batch_size):
        print(f"Run {run_id} is paused and makes the change when it goes on. Now: {in_force}.")
        return 0
    elif wish.batch_size not in (None, run.batch_size):
        output.say_aside("the change is made after the step that it is taking.")
    print(f"Run {run_id} is {run.state}, with {in_force}.")
    return 0


def move(chosen: argparse.Namespace) -> int:
    """``regatta runs move RUN first|last|up|down``."""
    store = RunStore(home())
    run = service.move(service.find(chosen.run, store=store).run_id, chosen.where, store=store)
    if chosen.json:
        return _tell_state(run, as_json=True)
    queue = [each.run_id for each in waiting(store.list())]
    if run.run_id in queue:
        print(
            f"Run {run.run_id} is number {queue.index(run.run_id) + 1} of {len(queue)} that wait."
        )
    else:
        print(f"Run {run.run_id} has just been taken from the queue.")
    return 0


def delete(chosen: argparse.Namespace) -> int:
    """``regatta runs delete RUN …``."""
    store = RunStore(home())
    found = [service.find(word, store=store).run_id for word in chosen.runs]
    for run_id in found:
        store.delete(run_id)
        if not chosen.json:
            print(f"Run {run_id} is deleted.")
    if chosen.json:
        output.print_json({"deleted": found})
    return 0


def _command(chosen: argparse.Namespace, word: str, obeyed: Callable[[RunState], bool]) -> int:
    """Send a command and wait a while until it shows."""
    store = RunStore(home())
    run = service.find(chosen.run, store=store)
    if not (run.state.is_live and obeyed(run.state)):
        run = service.command(run.run_id, word, store=store)
    deadline = time.monotonic() + OBEY_SECONDS
    while not obeyed(run.state) and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
        run = store.get(run.run_id)
    if not obeyed(run.state):
        output.say_aside(f"told to {word}; it has not yet done so.")
    return _tell_state(run, as_json=chosen.json)


def _tell_state(run: RunRecord, *, as_json: bool) -> int:
    if as_json:
        output.print_json(run.to_json())
    else:
        more = f" {run.message}" if run.message and run.state is not RunState.FINISHED else ""
        print(f"Run {run.run_id} is {run.state}.{more}")
    return 0


@dataclass(frozen=True)
class _Far:
    """How far a run in another process is, for the bar."""

    stage: str
    fraction: float
    epoch: float
    epochs: int
    loss: float | None
    validation_r2: float | None
    rows_per_second: float | None
    eta_seconds: float | None
    message: str


def _follow(run_id: str, store: RunStore, *, as_json: bool) -> int:
    """Watch a run that another process works on, to its end."""
    output.say_aside(
        f"run {run_id} is at work in process {store.directory(run_id).holder()}; following it. "
        "Ctrl-C ends only the following."
    )
    with ProgressBar() as bar:
        while (run := store.get(run_id)).state.is_live or run.state is RunState.QUEUED:
            bar(_far(run))
            time.sleep(_LOOK_SECONDS)
    result = training.result_of(run_id, store)
    if run.state is RunState.FINISHED and result is not None:
        return training.tell(result, as_json=as_json)
    if run.state is RunState.STOPPED:
        return training.tell(
            {"run_id": run_id, "state": str(run.state), "step": run.step}, as_json=as_json
        )
    raise RegattaError(f"Run {run_id} is {run.state}: {run.message}", run.hint)


def _far(run: RunRecord) -> _Far:
    epochs = int(run.epochs or 0)
    return _Far(
        stage="train" if run.state is not RunState.STARTING else "prepare",
        fraction=run.progress,
        epoch=run.progress * epochs,
        epochs=epochs,
        loss=None,
        validation_r2=run.validation_r2,
        rows_per_second=run.rows_per_second,
        eta_seconds=None,
        message=run.message,
    )


def _listing(runs: list[RunRecord], width: int, queue: list[RunRecord]) -> str:
    places = {run.run_id: f" {place}/{len(queue)}" for place, run in enumerate(queue, 1)}
    rows = [["RUN", "STATE", "MODEL", "DATA → TARGET", "HELD-OUT R²", "STARTED", "TOOK", "NAME"]]
    for run in runs:
        rows.append(
            [
                run.run_id,
                _state(run) + places.get(run.run_id, ""),
                run.model,
                output.shortened(f"{run.dataset} → {run.target}", 40),
                "–" if run.validation_r2 is None else f"{run.validation_r2:.4f}",
                _when(run.started or run.created),
                _took(run),
                output.shortened(run.name, 30),
            ]
        )
    if not any(run.name for run in runs):
        rows = [row[:-1] for row in rows]
    lines = output.table(rows, right=(4, 6)).splitlines()
    return "\n".join(output.shortened(line, width) for line in lines)


def _state(run: RunRecord) -> str:
    if run.state is RunState.RUNNING and run.total_steps is not None:
        return f"{run.state} {run.progress:.0%}"
    return str(run.state)


def _steps(run: RunRecord) -> str:
    if run.step is None:
        return ""
    return f"{run.step:,}" if run.total_steps is None else f"{run.step:,} of {run.total_steps:,}"


def _when(moment: float) -> str:
    then, today = datetime.fromtimestamp(moment), datetime.now().date()
    return then.strftime("%H:%M:%S" if then.date() == today else "%Y-%m-%d %H:%M")


def _took(run: RunRecord) -> str:
    if run.started is None:
        return "–"
    end = run.ended if run.ended is not None else time.time()
    return output.duration(max(end - run.started, 0.0))


def _details(run: RunRecord, path: str, directory: str, process: int | None, limits: str) -> str:
    facts: list[tuple[str, Any]] = [
        ("Run", run.run_id),
        ("Name", run.name),
        ("State", f"{_state(run)}{f' in process {process}' if process else ''}"),
        ("", run.message),
        ("", run.hint if run.state.is_terminal else ""),
        ("File", path),
        ("Target", run.target),
        ("Model", run.model),
        ("Started", _when(run.started) if run.started else ""),
        ("Took", _took(run) if run.started else ""),
        ("Rows" if run.solver == "exact" else "Steps", _steps(run)),
        ("Resumed", f"{run.attempts} times by itself" if run.attempts else ""),
        ("Limits", limits),
        ("Files", directory),
    ]
    return "\n".join(
        f"{name:8} {output.shortened(str(value), 400)}" for name, value in facts if value
    )


def _last_lines(store: RunStore, run_id: str) -> list[str]:
    directory = store.directory(run_id)
    path = directory.log if directory.log.exists() else directory.output
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
    return ["", f"The end of {path.name}:", *(output.shortened(line, 300) for line in lines)]
