"""What the pages about one run share: which run it is, its name, and the way to another one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import streamlit as st

from regatta.dashboard import actions, words
from regatta.runs.states import RunState
from regatta.runs.store import RunRecord

MOST_CHOICES = 200
ENDED = {
    RunState.FAILED: "failed",
    RunState.DIVERGED: "diverged",
    RunState.STOPPED: "was stopped",
    RunState.INTERRUPTED: "was interrupted",
}
# What stands in the address for the view of a page that has several.
VIEW = "view"


def any_run(title: str, why: str) -> RunRecord | None:
    """The run that a page is about: that of the address, the one looked at last, one under way, or
    the newest. ``None`` after the way to a first run has been offered; ``why`` says what for."""
    return _chosen(title, why, lambda record: True)


def finished_run(title: str, why: str) -> RunRecord | None:
    """As `any_run`, among those that have a model. Where the one that is looked at has none, it is
    said what it lacks, and no other run's is shown."""
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
    looked_at = _looked_at(records)
    if looked_at is None and not fitting:
        _offer_first(why, waiting=[each for each in records if not each.state.is_terminal])
        return None
    record = _ask(looked_at or _first(fitting), fitting[:MOST_CHOICES])
    st.session_state["run"] = record.run_id
    if st.query_params.get("run") != record.run_id:
        st.query_params["run"] = record.run_id
    if fits(record):
        return record
    _tell_what_is_missing(record, others=bool(fitting))
    return None


def _looked_at(records: list[RunRecord]) -> RunRecord | None:
    """The run of the address, else the one looked at last."""
    by_id = {each.run_id: each for each in records}
    wanted = st.query_params.get("run")
    if wanted and wanted not in by_id:
        del st.query_params["run"]
        st.warning("That run is not here any more.", icon=":material/info:")
        wanted = None
    return by_id.get(wanted or st.session_state.get("run") or "")


def _first(records: list[RunRecord]) -> RunRecord:
    return next((each for each in records if each.state.is_live), records[0])


def _tell_what_is_missing(record: RunRecord, *, others: bool) -> None:
    """That a run has no model, why, and what to do."""
    state = record.state
    label, icon = "Watch it train", ":material/monitoring:"
    told = "Its model is written when the training ends."
    if state in (RunState.FAILED, RunState.DIVERGED):
        label, icon = "See what to do", ":material/error:"
        told = actions.told_here(record.message, record.hint) or "Its log says why."
    elif state.is_resumable:
        label, icon = "Go to the run", ":material/play_arrow:"
        told = "It ended before its model was written. Resume takes it up from its last checkpoint."
    with st.container(border=True):
        st.header(f"No model yet: the run {ENDED.get(state, f'is {state}')}")
        st.markdown(told)
        if others:
            st.caption("Runs that have one can be chosen above.")
        if st.button(label, type="primary", icon=icon):
            actions.go_to_run(record.run_id)


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
