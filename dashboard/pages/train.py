"""Page "Train": one run, live; with no run, the way to one."""

from __future__ import annotations

import re

import streamlit as st

from regatta.dashboard import (
    actions,
    components,
    jobs,
    reading,
    samples,
    summary,
    tuning,
    ways,
    words,
)
from regatta.runs.metrics_store import MetricsReader
from regatta.runs.states import RunState
from regatta.runs.store import RunRecord
from regatta.runs.tuning import KINDS
from regatta.utils import RegattaError, UserError, available_cores

SHOWN_CHANGES = 4  # in the line under a run's name
FAILURES = (RunState.FAILED, RunState.DIVERGED)


def main() -> None:
    demo = st.query_params.get("demo")
    if demo == "large":
        make_large_demo()
        return
    record = current_run()
    if record is None:
        show_welcome()
        return
    st.session_state["run"] = record.run_id
    if st.query_params.get("run") != record.run_id:
        st.query_params["run"] = record.run_id
    show_run(record)


def current_run() -> RunRecord | None:
    """The run in the address, else the one looked at last or another, if it is under way."""
    store = actions.store()
    wanted = st.query_params.get("run")
    if wanted:
        try:
            return store.get(wanted)
        except UserError:
            st.query_params.clear()
            st.session_state.pop("run", None)
            st.warning("That run is not here any more.", icon=":material/info:")
            return None
    with_id = st.session_state.get("run")
    if with_id:
        try:
            record = store.get(with_id)
        except UserError:
            st.session_state.pop("run", None)
        else:
            if not record.state.is_terminal:
                return record
    live = [each for each in store.list() if each.state.is_live]
    return live[0] if live else None


def show_welcome() -> None:
    """What this is, and one click to something that moves."""
    st.title("Regression on your CSV, with every core, live")
    st.markdown(
        "Regatta reads a CSV file, trains linear, ridge, lasso or elastic-net regression on worker "
        "processes of this machine, shows everything while it happens, and gives you the model."
    )
    uploaded = components.upload_zone(
        "welcome-upload",
        title="Drop a CSV here, or click to choose one",
        hint="With gaps, words and dates as they come. It stays on this machine.",
    )
    if uploaded:
        actions.go_to_data(file=str(uploaded["id"]))
    st.markdown("No file at hand?")
    left, right = st.columns(2, gap="medium")
    small, large = samples.small(), samples.large()
    with left, st.container(border=True, height="stretch"):
        st.header("Run the demo")
        st.markdown(small.description)
        if st.button(
            "Run the demo", type="primary", icon=":material/play_arrow:", width="stretch",
            disabled=not small.exists,
        ):  # fmt: skip
            start_demo(small)
    with right, st.container(border=True, height="stretch"):
        st.header("Run the large demo")
        st.markdown(large.description)
        if st.button("Run the large demo", icon=":material/play_arrow:", width="stretch"):
            st.query_params["demo"] = "large"
            st.rerun()
    show_recent()


def show_recent() -> None:
    """The last runs, one click each."""
    records = actions.store().list()[:5]
    if not records:
        return
    st.header("Recent runs")
    with st.container(border=True, gap="xsmall", key="recent-runs"):
        for record in records:
            show_recent_run(record)


def show_recent_run(record: RunRecord) -> None:
    """One run in a line that opens it."""
    symbol, colour = words.STATE_WORDS[record.state]
    score = "" if record.validation_r2 is None else f" · R² {record.validation_r2:.4f}"
    line = f"**{words.plain(record.title)}** · :{colour}[{record.state}]{score}"
    label = f"{line} · {words.ago(record.created)}"
    if st.button(label, key=f"open-{record.run_id}", icon=symbol, type="tertiary"):
        actions.go_to_run(record.run_id)


def start_demo(sample: samples.Sample) -> None:
    """Queue the run on a sample."""
    try:
        actions.launch_sample(sample)
    except RegattaError as error:
        actions.tell(error)


def make_large_demo() -> None:
    """Make the large sample if it is not there, then train on it. A refresh comes back here."""
    sample = samples.large()
    if sample.exists:
        st.query_params.clear()
        start_demo(sample)
        return
    st.title("Making the large demo")
    st.markdown(sample.description)
    job = jobs.start("sample", path=str(sample.path), rows=samples.LARGE_ROWS)
    status = job.status()
    if status.state == "failed":
        actions.tell_failure(status)
        job.forget()
    elif status.state == "done":  # made once, and deleted since
        job.forget()
        st.rerun()
    else:
        components.wait_for(job, "Making the rows")
    if st.button("Back", icon=":material/arrow_back:"):
        st.query_params.clear()
        st.rerun()


def show_run(record: RunRecord) -> None:
    """Head, buttons, what to know about its end, and the live view. Of a run that failed, why comes
    before what can be done."""
    failed = record.state in FAILURES
    show_head(record, buttons=not failed)
    show_end(record)
    if failed:
        with st.container(horizontal=True):
            show_buttons(record)
    if record.state is RunState.FINISHED:
        summary.show(record)
        st.header("How the training went")
    components.live_view(record)


def show_head(record: RunRecord, *, buttons: bool) -> None:
    """Name and state on the left, what can be done on the right."""
    symbol, colour = words.STATE_WORDS[record.state]
    with st.container(gap="xxsmall"):
        with st.container(horizontal=True, vertical_alignment="center"):
            title = words.plain(record.title)
            st.markdown(f"# {title} :{colour}-badge[{symbol} {record.state}]", width="stretch")
            if buttons:
                with st.container(horizontal=True, width="content"):  # one stays beside the other
                    show_buttons(record)
        told = actions.told(record)
        st.caption(f":material/hourglass_top: {told}" if told else describe(record))
        if changes := what_changed(record):
            st.caption(f":material/tune: Changed on the way: {changes}")
        if how := how_read(record):
            st.caption(f":material/tune: Read with your options: {how}")


def describe(record: RunRecord) -> str:
    """Model, target and data in one line."""
    parts = [words.MODEL_NAMES.get(record.model, record.model)]
    if record.workers is not None:
        parts.append("in one process" if record.workers == 0 else f"{record.workers} workers")
    if record.solver == "exact":
        parts.append("exact")
    parts += [f"predicts {words.plain(record.target)}", words.plain(record.dataset)]
    return " · ".join([*parts, record.run_id])


def what_changed(record: RunRecord) -> str:
    """What was set anew while a run went on; the first and the last of many."""
    if not record.tuned:
        return ""
    events = MetricsReader(actions.store().directory(record.run_id).metrics).read("events")
    told = [str(each["message"]).rstrip(".") for each in events if each["kind"] in KINDS.values()]
    if len(told) > SHOWN_CHANGES:
        left_out = len(told) - SHOWN_CHANGES
        told[2:-2] = [f"… {left_out:,} more …"]
    return words.plain("; ".join(told))


def how_read(record: RunRecord) -> str:
    """The reading options of a run that are not left to Regatta."""
    try:
        return reading.in_force(actions.store().config(record.run_id).in_force())
    except (RegattaError, OSError, ValueError, TypeError):
        return ""  # whatever is wrong with it is told elsewhere


def show_buttons(record: RunRecord) -> None:
    """Pause, resume, cancel: those that make sense now."""
    state = record.state
    if state is RunState.RUNNING and st.button("Pause", icon=":material/pause:"):
        actions.command(record, "pause", "Pausing after this step …")
    anew = needs_another(record)
    if anew:
        offer_another(record, primary=True)
    if state.is_resumable or state is RunState.PAUSED:
        offer_resume(record, primary=not anew)
    tuning.offer(record)
    show_crew_buttons(record)
    if not state.is_terminal and st.button("Cancel", icon=":material/stop:"):
        confirm_cancel(record)
    ways.offer(record)
    if state.is_terminal and not anew:
        offer_another(record, primary=False)


def needs_another(record: RunRecord) -> bool:
    """Whether it would fail again: what failed before its first step mostly does."""
    early = record.state is RunState.FAILED and not record.step
    return early or record.state is RunState.DIVERGED


def way_on(record: RunRecord) -> str:
    """What the first button of a run that failed does."""
    if needs_another(record):
        return "**Train again** opens its settings, so that you can change what was wrong."
    return "Once that is mended, **Resume** takes it up from its last checkpoint."


def offer_resume(record: RunRecord, *, primary: bool) -> None:
    """Let it go on."""
    if st.button(
        "Resume", icon=":material/play_arrow:", type="primary" if primary else "secondary"
    ):
        actions.command(record, "resume", "Taking it up again …")
        if not record.state.is_live:
            st.rerun()


def offer_another(record: RunRecord, *, primary: bool) -> None:
    """A new run like it; of one that diverged, with the learning rate that it suggests."""
    if st.button(
        "Train again",
        icon=":material/replay:",
        type="primary" if primary else "secondary",
        help="A new run that starts from these settings.",
    ):
        suggested = re.search(r"--learning-rate\s+([0-9.eE+-]*[0-9])", record.hint or "")
        rate = suggested.group(1) if suggested else ""
        actions.go_to_new_run(like=record.run_id, rate=rate)


def show_crew_buttons(record: RunRecord) -> None:
    """One worker fewer, one more, where a run takes steps on workers."""
    has = record.workers
    if record.state not in (RunState.RUNNING, RunState.PAUSED) or not has:
        return
    if record.solver == "exact":
        return
    cores = available_cores()
    if st.button("\N{MINUS SIGN}", help="One worker fewer", disabled=has == 1):
        actions.scale(record, has - 1)
    more = "One worker more" if has < cores else f"There are {cores} cores, each with a worker"
    if st.button("+", help=more, disabled=has >= cores):
        actions.scale(record, has + 1)


@st.dialog("Cancel this run?")
def confirm_cancel(record: RunRecord) -> None:
    """Ask before a run is stopped."""
    st.markdown("It saves a checkpoint and ends within seconds; you can resume it later.")
    with st.container(horizontal=True):
        if st.button("Cancel the run", type="primary", icon=":material/stop:"):
            actions.command(record, "stop", "Saving a checkpoint and stopping …")
            st.rerun()
        if st.button("Keep training"):
            st.rerun()


def show_end(record: RunRecord) -> None:
    """Why a run ended before its time, and what to do."""
    hints = {
        RunState.STOPPED: "It was stopped and kept its last checkpoint. Resume takes it up there.",
        RunState.INTERRUPTED: "Its process ended without a word: killed, or the machine went down. "
        "Resume takes it up from the last checkpoint.",
    }
    text = actions.told_here(record.message, record.hint)
    if record.state in FAILURES:
        told = text or "The run failed; its log says why."
        st.error(f"{told}  \n{way_on(record)}", icon=":material/error:")
    elif record.state is RunState.INTERRUPTED:
        st.warning(text or hints[record.state], icon=":material/power_off:")
    elif record.state is RunState.PAUSED and record.message:
        st.warning(text, icon=":material/hard_drive:")
    elif record.state is RunState.STOPPED:
        st.info(hints[record.state], icon=":material/info:")


main()
