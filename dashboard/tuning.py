"""Learning rate and batch size of a run that goes on: the popover beside Pause."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from regatta.dashboard import actions, fields, words
from regatta.runs import service
from regatta.runs.states import RunState
from regatta.runs.store import RunRecord
from regatta.runs.tuning import Tuning, batch_size_of, learning_rate_of
from regatta.utils import RegattaError, UserError

RATE_HELP = "Of the next step; from there the schedule goes on. Too large a rate ends the run."
ROWS_HELP = (
    "Rows a step, from the next one on. A learning rate that nobody gave is derived anew with it."
)


def offer(record: RunRecord) -> None:
    """The popover, for a run that takes mini-batches and is at work or paused."""
    live = record.state in (RunState.RUNNING, RunState.PAUSED)
    if not live or record.batch_size is None:
        return
    popover = st.popover(
        "Tune",
        icon=":material/tune:",
        help="Change learning rate and batch size while it goes on.",
        key=f"tune-{record.run_id}",
        on_change="rerun",  # so that it says what is in force when it is opened
    )
    with popover, st.container(width=340):
        show(record)


def show(record: RunRecord) -> None:
    """What is in force, and two fields to change it."""
    rate, rows = words.number(record.learning_rate, 3), f"{record.batch_size or 0:,} rows"
    st.markdown(f"In force now: learning rate **{rate}**, **{rows}** a step")
    rate_key, rows_key = _keys(record)
    _field("learning_rate", rate_key, f"as it is: {rate}", RATE_HELP, _rate)
    kept = f"as it is: {rows}"
    _field("batch_size", rows_key, kept, ROWS_HELP, lambda text: _rows(text, record))
    st.button(
        "Apply",
        type="primary",
        icon=":material/check:",
        key=f"tune-apply-{record.run_id}",
        on_click=apply,
        args=(record,),
    )
    refused = st.session_state.pop(_refused_key(record), "")
    if refused:
        st.markdown(f":red[:material/error: {refused}]")


def apply(record: RunRecord) -> None:
    """Ask for what the fields say; what is wrong is told beside them when they are drawn."""
    rate_key, rows_key = _keys(record)
    try:
        rate = _rate(st.session_state.get(rate_key, ""))
        rows = _rows(st.session_state.get(rows_key, ""), record)
    except UserError:
        return
    if rate is None and rows is None:
        st.session_state[_refused_key(record)] = "Type a value to change."
        return
    try:
        service.tune(record.run_id, Tuning(rate, rows))
    except RegattaError as error:
        st.session_state[_refused_key(record)] = actions.told_here(error.message, error.hint)
        return
    st.session_state[rate_key] = st.session_state[rows_key] = ""
    st.session_state["told"] = (record.run_id, record.stands, "Changing after this step …")


def _field(
    name: str, key: str, placeholder: str, help_: str, read: Callable[[str], object]
) -> None:
    text = st.text_input(
        fields.label(name), key=key, placeholder=placeholder, help=help_, autocomplete="off"
    )
    try:
        read(text)
    except UserError as error:
        st.markdown(f":red[:material/error: {words.plain(error.message)}]")


def _rate(text: str) -> float | None:
    return learning_rate_of(text.strip()) if text.strip() else None


def _rows(text: str, record: RunRecord) -> int | None:
    if not text.strip():
        return None
    rows = batch_size_of(text.strip())
    Tuning(batch_size=rows).check_rows(record.rows_train)
    return rows


def _keys(record: RunRecord) -> tuple[str, str]:
    return f"tune-rate-{record.run_id}", f"tune-rows-{record.run_id}"


def _refused_key(record: RunRecord) -> str:
    return f"tune-refused-{record.run_id}"
