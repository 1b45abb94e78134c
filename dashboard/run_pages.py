"""What the pages about one run share: which run it is, its name, and the way to another one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import streamlit as st

from regatta.dashboard import actions, words
from regatta.runs.states import RunState
from regatta.runs.store import RunRecord
from regatta.utils import UserError

MOST_CHOICES = 200
# What stands in the address for the view of a page that has several.
VIEW = "view"


def any_run(title: str, why: str) -> RunRecord | None:
    """The run that a page is about: that of the address, the one looked at last, one under way, or
    the newest. ``None`` after the way to a first run has been offered; ``why`` says what for."""
    return _chosen(title, why, lambda record: True)


def finished_run(title: str, why: str) -> RunRecord | None:
    """As `any_run`, among those that have a model."""
    return _chosen(title, why, lambda record: record.state is RunState.FINISHED)


def choose_view(views: Mapping[str, str], *, key: str) -> str:
    """Ask which of the views of a page is to be seen, by name and words; the address keeps it."""
    wanted = st.query_params.get(VIEW, "")
    shown = wanted if wanted in views else next(iter(views))

    def changed() -> None:
        st.query_params[VIEW] = st.session_state[key] or shown

    st.session_state[key] = shown
    st.segmented_control(
        "View",
        list(views),
        format_func=views.__getitem__,
        key=key,
        on_change=changed,
        label_visibility="collapsed",
    )
    return shown


def _chosen(title: str, why: str, fits: Callable[[RunRecord], bool]) -> RunRecord | None:
    st.title(title)
    records = actions.store().list()
    fitting = [each for each in records if fits(each)]
    _tell_of_misfit(fitting)
    if not fitting:
        _offer_first(why, waiting=[each for each in records if not each.state.is_terminal])
        return None
    record = _ask(_first(fitting), fitting[:MOST_CHOICES])
    st.session_state["run"] = record.run_id
    if st.query_params.get("run") != record.run_id:
        st.query_params["run"] = record.run_id
    return record


def _tell_of_misfit(fitting: list[RunRecord]) -> None:
    """Say why the run of the address is not shown, and forget it."""
    wanted = st.query_params.get("run")
    if not wanted or any(each.run_id == wanted for each in fitting):
        return
    del st.query_params["run"]
    try:
        record = actions.store().get(wanted)
    except UserError:
        st.warning("That run is not here any more.", icon=":material/info:")
        return
    name = words.plain(record.title)
    st.info(f"“{name}” is {record.state}: it has no model yet.", icon=":material/info:")


def _first(fitting: list[RunRecord]) -> RunRecord:
    by_id = {each.run_id: each for each in fitting}
    for wanted in (st.query_params.get("run"), st.session_state.get("run")):
        if wanted in by_id:
            return by_id[wanted]
    return next((each for each in fitting if each.state.is_live), fitting[0])


def _ask(record: RunRecord, choices: list[RunRecord]) -> RunRecord:
    """A box with the runs, the shown one chosen, and the way to its training."""
    if record not in choices:
        choices = [record, *choices]
    by_id = {each.run_id: each for each in choices}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        wanted = st.selectbox(
            "Run",
            list(by_id),
            index=list(by_id).index(record.run_id),
            format_func=lambda run_id: _in_a_line(by_id[run_id]),
            key=f"run-of-the-page-{record.run_id}",  # another address is another box
            label_visibility="collapsed",
        )
        if st.button("Training", icon=":material/monitoring:", help="How this run was trained."):
            actions.go_to_run(record.run_id)
    if wanted != record.run_id:
        st.query_params["run"] = wanted
        st.session_state["run"] = wanted
        st.rerun()
    return record


def _in_a_line(record: RunRecord) -> str:
    model = words.MODEL_NAMES.get(record.model, record.model)
    named = record.target in record.title
    parts = [record.title, model, "" if named else f"predicts {record.target}", str(record.state)]
    return " · ".join(filter(None, [*parts, words.ago(record.created)]))


def _offer_first(why: str, waiting: list[RunRecord]) -> None:
    with st.container(border=True):
        st.header("No finished run yet" if waiting else "No run yet")
        st.markdown(why)
        with st.container(horizontal=True):
            if waiting:
                if st.button("Watch it train", type="primary", icon=":material/monitoring:"):
                    actions.go_to_run(waiting[0].run_id)
                return
            if st.button("Run a demo", type="primary", icon=":material/play_arrow:"):
                st.switch_page(actions.PAGES / "train.py")
            if st.button("Bring a CSV", icon=":material/upload:"):
                actions.go_to_data()
