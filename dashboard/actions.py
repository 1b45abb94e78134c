"""What a click does: start a run, command it, go to a page."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from regatta.configuration import TrainingConfig
from regatta.dashboard import fields, samples, words
from regatta.dashboard.jobs import Status
from regatta.runs import service
from regatta.runs.store import RunRecord, RunStore
from regatta.utils import RegattaError, fingerprint, home

PAGES = Path(__file__).resolve().parent / "pages"
# The second click of a double click comes after the first has been served.
SAME_CLICK_SECONDS = 3.0


def launch(config: TrainingConfig) -> None:
    """Queue a run and go to it. A double click queues one."""
    key = fingerprint(config.to_json())
    last_key, moment, run_id = st.session_state.get("launched", ("", 0.0, ""))
    if key != last_key or time.monotonic() - moment > SAME_CLICK_SECONDS:
        run_id = service.submit(config).run_id
        st.session_state["launched"] = (key, time.monotonic(), run_id)
    go_to_run(run_id)


def launch_sample(sample: samples.Sample) -> None:
    """Queue a run on a sample and go to it."""
    launch(
        TrainingConfig(
            path=str(sample.path),
            target=sample.target,
            drop=sample.drop,
            name=sample.title,
            **sample.settings,
        )
    )


def go_to_run(run_id: str) -> None:
    """Show a run."""
    st.session_state["run"] = run_id
    st.switch_page(PAGES / "train.py", query_params={"run": run_id})


def go_to_new_run(**parameters: str | Sequence[str]) -> None:
    """Open "New run" for a file, a target and columns to leave out, or like another run."""
    given = {name: value for name, value in parameters.items() if value}
    st.switch_page(PAGES / "new_run.py", query_params=given)


def go_to_data(**parameters: str) -> None:
    """Open "Data"."""
    st.switch_page(PAGES / "data.py", query_params=parameters)


def go_to_comparison(run_ids: Sequence[str]) -> None:
    """Show runs beside each other."""
    st.switch_page(PAGES / "runs.py", query_params={"compare": list(run_ids)})


def command(record: RunRecord, word: str, told: str) -> None:
    """Send a command, and say so until the state of the run follows."""
    if attempt(lambda: service.command(record.run_id, word)):
        st.session_state["told"] = (record.run_id, record.stands, told)


def scale(record: RunRecord, n_workers: int) -> None:
    """Ask for another number of workers, and say so until the run has them."""
    if attempt(lambda: service.scale(record.run_id, n_workers)):
        going = "Another worker starts …" if n_workers > (record.workers or 0) else "One leaves …"
        st.session_state["told"] = (record.run_id, record.stands, going)


def told(record: RunRecord) -> str:
    """What was said about the last command, as long as the run has not followed it."""
    run_id, stands, text = st.session_state.get("told", ("", "", ""))
    return str(text) if (run_id, stands) == (record.run_id, record.stands) else ""


def attempt(action: Callable[[], Any]) -> bool:
    """Do something that may be refused; a refusal is shown as its sentence."""
    try:
        action()
    except RegattaError as error:
        tell(error)
        return False
    return True


def tell(error: RegattaError) -> None:
    """Show an error: what happened, and what to do."""
    st.error(told_here(error.message, error.hint), icon=":material/error:")


def told_here(message: str | None, hint: str | None) -> str:
    """What happened and what to do, in the words of the page and free of markup."""
    return words.plain(fields.in_page_words(f"{message or ''} {hint or ''}".strip()))


def store() -> RunStore:
    """The runs of this home."""
    return RunStore(home())


def tell_failure(status: Status) -> None:
    """Show why a job failed: the sentence, where in the file, and what to do."""
    where = []
    if status.row is not None and str(status.row) not in status.message:
        where.append(f"row {status.row:,}")
    if status.column and status.column not in status.message:
        where.append(f"column “{status.column}”")
    text = status.message + (f" ({', '.join(where)})" if where else "")
    text, hint = told_here(text, ""), told_here(status.hint, "")
    st.error(f"{text}  \n{hint}" if hint else text, icon=":material/error:")
