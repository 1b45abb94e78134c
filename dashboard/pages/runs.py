"""Page "Runs": every run, and what can be done with it."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from regatta.dashboard import actions, comparing, components, live, queueing, runs_table, words
from regatta.dashboard.comparison import MOST_RUNS
from regatta.runs import service
from regatta.runs.states import RunState
from regatta.runs.store import RunRecord, waiting
from regatta.utils import fingerprint

WATCH_SECONDS = 3.0
COLUMNS = {
    "run": st.column_config.TextColumn("Run", width=290),
    "state": st.column_config.TextColumn("State", width=125),
    "loss": st.column_config.LineChartColumn(
        "Loss", width=100,
        help="Training loss along the run, on a logarithmic scale. The exact solver has no curve: "
        "it takes one pass over the rows.",
    ),
    "r2": st.column_config.NumberColumn(
        "Validation R²", format="%.4f", width=100,
        help="Share of the target's variance explained on held-out rows: 1 is perfect, 0 no better "
        "than the mean.",
    ),
    "model": st.column_config.TextColumn("Model", width=105),
    "data": st.column_config.TextColumn("Data", width=135),
    "target": st.column_config.TextColumn("Target", width=135),
    "time": st.column_config.TextColumn("Time", width=75),
    "when": st.column_config.TextColumn("Made", width=114),
}  # fmt: skip


def main() -> None:
    if comparing.wanted() and actions.store().list():
        comparing.show()
        return
    st.title("Runs")
    if not actions.store().list():
        show_empty()
        return
    show_runs()


def follow(known: str) -> None:
    """Run the page, or the fragment that this stands in, again when the list is not as known."""
    components.watch("runs", "/api/changes", known, seconds=WATCH_SECONDS)


def show_empty() -> None:
    """No run yet: offer the next step."""
    known = live.version_of_runs(actions.store())
    with st.container(border=True):
        st.header("No run yet")
        st.markdown(
            "A run is one training of one model on one file. Start with a demo or your own data."
        )
        with st.container(horizontal=True):
            if st.button("Run a demo", type="primary", icon=":material/play_arrow:"):
                st.switch_page(actions.PAGES / "train.py")
            if st.button("Bring a CSV", icon=":material/upload:"):
                actions.go_to_data()
    follow(known)


@st.fragment
def show_runs() -> None:
    """The list as it is now, and anew when it changes."""
    known = live.version_of_runs(actions.store())
    show_list()
    follow(known)


def show_list() -> None:
    """Filter, queue and table, and buttons for the runs that are chosen in it."""
    import pandas as pd

    store = actions.store()
    records = store.list()
    queue = waiting(records)
    shown = runs_table.chosen(records, *ask_which())
    queueing.show(queue)
    if not shown:
        st.caption("No run is like that. Choose “All”, or another word.")
        return
    # A selection is a place in the table: with another list of runs it would mean another run.
    key = "runs-" + fingerprint([each.run_id for each in shown])
    chosen = st.dataframe(
        pd.DataFrame(runs_table.rows(store, records, shown)),
        hide_index=True,
        height=words.table_height(len(shown), 12),
        on_select="rerun",
        selection_mode=["multi-row", "single-cell"],
        selection_default={"selection": {"rows": _ticked_at_first(key, shown)}},
        key=key,
        placeholder="–",
        column_config=COLUMNS,
    )
    rows = [*chosen.selection.rows, *(cell[0] for cell in chosen.selection.cells)]
    chosen_runs = [shown[row] for row in dict.fromkeys(rows)]
    st.session_state["runs-chosen"] = [each.run_id for each in chosen_runs]
    if not chosen_runs:
        few = f" {len(shown):,} of {len(records):,} runs." if len(shown) < len(records) else ""
        st.caption(f"Click a run to open, resume, stop or delete it; tick two to compare.{few}")
    elif len(chosen_runs) == 1:
        show_actions(chosen_runs[0], queue)
    else:
        show_comparing(chosen_runs)


def ask_which() -> tuple[str, str]:
    """Which states, and which words; both stand in the address."""
    with st.container(horizontal=True, vertical_alignment="center"):
        state = st.pills(
            "Show", runs_table.STATES, default="All", label_visibility="collapsed", key="show",
            required=True, bind="query-params",
        )  # fmt: skip
        text = st.text_input(
            "Filter", key="filter", bind="query-params", live="300ms", width=320, type="search",
            label_visibility="collapsed", placeholder="Name, data, target or model",
            icon=":material/search:",
        )  # fmt: skip
    return state or "All", text or ""


def show_actions(record: RunRecord, queue: Sequence[RunRecord]) -> None:
    """What can be done with one run."""
    state = record.state
    with st.container(horizontal=True, vertical_alignment="center", border=True):
        st.markdown(
            f"**{words.plain(record.title)}**  \n{state} · {record.run_id}", width="stretch"
        )
        if st.button("Open", type="primary", icon=":material/monitoring:"):
            st.session_state["runs-go"] = record.run_id
            st.rerun()
        if st.button("Compare", icon=":material/compare_arrows:", help="With other runs."):
            compare([record])
        resumable = state.is_resumable or state is RunState.PAUSED
        if resumable and st.button("Resume", icon=":material/play_arrow:"):
            actions.command(record, "resume", "Taking it up again …")
        if not state.is_terminal and st.button("Stop", icon=":material/stop:"):
            confirm_stop(record)
        if not state.is_live and st.button("Delete", icon=":material/delete:"):
            confirm_delete(record.run_id, record.title)
    if record in queue and len(queue) > 1:
        show_place(record, queue)
    if actions.told(record):
        st.caption(f":material/hourglass_top: {actions.told(record)}")
    if record.message and state.is_terminal and state is not RunState.FINISHED:
        st.caption(actions.told_here(record.message, record.hint))


def show_place(record: RunRecord, queue: Sequence[RunRecord]) -> None:
    """Where a run waits, and where else it could."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"Number {queue.index(record) + 1:,} of {len(queue):,} in the queue")
        queueing.show_moves(queue, record, tuple(queueing.MOVES), "chosen")


def show_comparing(records: Sequence[RunRecord]) -> None:
    """What can be done with several."""
    most = MOST_RUNS
    with st.container(horizontal=True, vertical_alignment="center", border=True):
        many = "" if len(records) <= most else f"; {most} at most can be compared"
        st.markdown(f"**{len(records)} runs are ticked**{many}", width="stretch")
        if st.button(
            f"Compare these {len(records)}", type="primary", icon=":material/compare_arrows:",
            disabled=len(records) > most,
        ):  # fmt: skip
            compare(records)


def compare(records: Sequence[RunRecord]) -> None:
    """Set runs beside each other, the oldest first."""
    run_ids = [each.run_id for each in sorted(records, key=lambda each: each.created)]
    st.query_params[comparing.PARAMETER] = run_ids
    st.rerun()


@st.dialog("Stop this run?")
def confirm_stop(record: RunRecord) -> None:
    """Ask before a run is stopped."""
    st.markdown("It saves a checkpoint and ends; you can resume it later.")
    with st.container(horizontal=True):
        if st.button("Stop it", type="primary"):
            actions.command(record, "stop", "Stopping …")
            st.rerun()
        if st.button("Keep training"):
            st.rerun()


@st.dialog("Delete this run?")
def confirm_delete(run_id: str, title: str) -> None:
    """Ask before a run and its model go."""
    st.markdown(f"**{words.plain(title)}**: its model, curves and log are removed for good.")
    with st.container(horizontal=True):
        if st.button("Delete it", type="primary"):
            if actions.attempt(lambda: service.delete(run_id)):
                st.rerun()
        elif st.button("Keep it"):
            st.rerun()


def _ticked_at_first(key: str, shown: Sequence[RunRecord]) -> list[int]:
    """Where the runs that were chosen stand now that the list is another one."""
    last_key, places = st.session_state.get("runs-ticked", ("", []))
    if key != last_key:
        chosen = st.session_state.get("runs-chosen", [])
        places = [place for place, each in enumerate(shown) if each.run_id in chosen]
        st.session_state["runs-ticked"] = (key, places)
    return list(places)


if st.session_state.get("runs-go"):
    actions.go_to_run(st.session_state.pop("runs-go"))
main()
