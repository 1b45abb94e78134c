"""The comparison of runs on the page "Runs": choice, sentences, chart, table.

The runs stand in the address (``/runs?compare=ID&compare=ID``), which alone decides what is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

import streamlit as st

from regatta.dashboard import actions, comparison, components, live, scores, ways, words
from regatta.dashboard.comparison import GAP_WORDS, GAPS, MOST_RUNS, Course
from regatta.dashboard.verdicts import verdicts
from regatta.runs.store import RunRecord

PARAMETER = "compare"
WATCH_SECONDS = 2.0
GAP, LOSS = "Gap to the optimum", "Validation loss"
AXES = {"Seconds": "seconds", "Epochs": "epoch", "Steps": "step"}
AXIS_TITLES = {"seconds": "seconds in training", "epoch": "epochs", "step": "steps"}
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "x", "cross")
# Beyond so many points markers would be a band.
FEW_POINTS = 40


def wanted() -> list[str]:
    """The runs that the address names."""
    return list(dict.fromkeys(st.query_params.get_all(PARAMETER)))


def show() -> None:
    """Everything: the choice on top, then what comes of it."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.title("Compare runs", width="stretch")
        if st.button("All runs", icon=":material/arrow_back:"):
            del st.query_params[PARAMETER]
            st.rerun()
    records = {each.run_id: each for each in actions.store().list()}
    run_ids = choose(records)
    if len(run_ids) < 2:
        show_too_few([records[each] for each in run_ids], len(records))
        return
    under_way = any(not records[each].state.is_terminal for each in run_ids)
    scores.offer_baselines(comparison.read(actions.store(), run_ids))
    show_comparison(run_ids, under_way)


def choose(records: dict[str, RunRecord]) -> list[str]:
    """Ask which runs, beginning with those of the address; what is chosen goes there at once."""
    named = wanted()
    there = [each for each in named if each in records][:MOST_RUNS]
    gone = sum(each not in records for each in named if each)
    if gone:
        what = "One of these runs is" if gone == 1 else f"{gone} of these runs are"
        st.warning(f"{what} not here any more.", icon=":material/info:")

    def changed() -> None:
        st.query_params[PARAMETER] = st.session_state["compare-runs"] or [""]

    st.session_state["compare-runs"] = there
    st.multiselect(
        "Runs",
        list(records),
        format_func=lambda run_id: label(records[run_id]),
        max_selections=MOST_RUNS,
        placeholder="Choose two runs or more",
        key="compare-runs",
        on_change=changed,
        help=f"Finished ones or ones under way, up to {MOST_RUNS}. The address of this page names "
        "them: keep it, or hand it on.",
    )
    return there


def label(record: RunRecord) -> str:
    """A run where one is chosen. No two are called the same."""
    parts = [record.title, words.MODEL_NAMES.get(record.model, record.model)]
    return f"{' · '.join(parts)} · {comparison.tail(record)}"


def show_too_few(records: Sequence[RunRecord], count: int) -> None:
    """Less than two are chosen: the next step."""
    with st.container(border=True):
        st.header("Choose another run" if records else "Choose two runs")
        st.markdown(
            "Two or more, above: their curves are drawn over each other, and what differs is told."
        )
        with st.container(horizontal=True):
            if records:
                ways.offer(records[0], primary=True)
            if count < 2 and st.button("New run", icon=":material/add_circle:"):
                actions.go_to_new_run(like=records[0].run_id if records else "")


@st.fragment
def show_comparison(run_ids: Sequence[str], under_way: bool) -> None:
    """Sentences, chart and table of the runs as they are now."""
    tag = live.version_of_runs(actions.store(), run_ids)
    courses = comparison.read(actions.store(), run_ids)
    if under_way and all(each.ended for each in courses):
        st.rerun()  # and watch no more
    sentences = verdicts(courses)
    with st.container(border=True):
        st.header("What this shows" + (", so far" if under_way else ""))
        st.markdown("\n".join(f"- {sentence}" for sentence in sentences))
        st.caption(
            "Times are those of one run each, in training, as the recorded evaluations tell: what "
            "else the machine did meanwhile is in them."
        )
    with st.container(border=True):
        show_chart(courses, sentences)
    scores.show(courses)
    st.header("What differs, and what came of it")
    show_table(courses)
    if under_way:
        query = urlencode([("run", each) for each in run_ids])
        components.watch("compared", f"/api/changes?{query}", tag, seconds=WATCH_SECONDS)


def show_chart(courses: Sequence[Course], sentences: Sequence[str]) -> None:
    """The curves over each other."""
    known = any(each.gap is not None for each in courses)
    with st.container(horizontal=True, horizontal_alignment="distribute"):
        shown = GAP
        if known:
            shown = st.segmented_control(
                "Curve", [GAP, LOSS], default=GAP, required=True, key="compare-curve",
                label_visibility="collapsed",
            )  # fmt: skip
        else:
            st.markdown(f"**{LOSS}**")
        over = st.segmented_control(
            "Over", list(AXES), default="Seconds", required=True, key="compare-axis",
            label_visibility="collapsed",
        )  # fmt: skip
    by_gap = known and shown == GAP
    axis = AXES[over or "Seconds"]
    traces = curves(courses, axis, by_gap=by_gap)
    if not any(each["x"] for each in traces):
        st.caption("No curve yet: the first points come when the training starts.")
        return
    title = "gap, share of the optimum" if by_gap else "½ · mean squared error, held out"
    components.chart(
        "comparison",
        traces,
        {
            "uirevision": f"{by_gap}-{axis}",
            "hovermode": "closest",
            "xaxis": {"title": {"text": AXIS_TITLES[axis]}, "rangemode": "tozero"},
            "yaxis": {"type": "log", "exponentformat": "power", "title": {"text": title}},
        },
        label=f"{shown if known else LOSS} over {AXIS_TITLES[axis]}. {' '.join(sentences)}",
        height=420,
    )
    if len({each.way for each in courses} & {"exact"}):
        st.caption("The exact solver has no curve: its optimum comes from one pass over the rows.")


def curves(courses: Sequence[Course], axis: str, *, by_gap: bool) -> list[dict[str, Any]]:
    """A trace a run; a dotted line at each gap that times are told to, or at each baseline."""
    traces = [_curve(each, place, courses, axis, by_gap) for place, each in enumerate(courses)]
    ends = [each["x"][-1] for each in traces if each["x"]]
    if ends and by_gap:
        traces += [_line_at(aim, max(ends)) for aim in GAPS]
    elif ends:
        highest = max(max(each["y"]) for each in traces if each["y"])
        traces += scores.reference_lines(courses, max(ends), highest)
    return traces


def _curve(
    course: Course, place: int, courses: Sequence[Course], axis: str, by_gap: bool
) -> dict[str, Any]:
    losses = [each["validation_loss"] for each in course.evaluations]
    values = course.gaps if by_gap else losses
    rows = [
        {"x": row[axis], "y": value}
        for row, value in zip(course.evaluations, values, strict=True)
        if value  # a log axis has no room for zero
    ]
    rows = live.thin(rows, "y")
    mode = "lines+markers" if len(rows) < FEW_POINTS else "lines"
    name = comparison.caption(course, courses)
    what = "gap %{y:.3g}" if by_gap else "%{y:.5g}"
    return {
        "type": "scatter",
        "mode": mode,
        "name": name,
        "x": [each["x"] for each in rows],
        "y": [each["y"] for each in rows],
        "line": {"color": f"@series-{place}", "dash": DASHES[place], "width": 2.2},
        "marker": {"symbol": SYMBOLS[place], "size": 6},
        "hovertemplate": f"{name}<br>{what} after %{{x:.4~g}} {AXIS_TITLES[axis]}<extra></extra>",
    }


def _line_at(aim: float, end: float) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines+text",
        "x": [0, end],
        "y": [aim, aim],
        "text": ["", f"gap {GAP_WORDS[aim]}"],
        "textposition": "top left",
        "textfont": {"size": 11, "color": "@quiet"},
        "line": {"color": "@quiet", "width": 1.2, "dash": "dot"},
        "showlegend": False,
        "hoverinfo": "skip",
    }


def show_table(courses: Sequence[Course]) -> None:
    """A column a run; only the settings that differ."""
    import pandas as pd

    lines = comparison.table(courses)
    heads = [comparison.caption(each, courses) for each in courses]
    table = pd.DataFrame(
        [cells for _, cells in lines], index=[name for name, _ in lines], columns=heads
    )
    st.table(table)
    st.caption(
        "Gap: by how much the training objective is above that of the exact optimum, as a share of "
        "it. Staleness: updates that the weights saw between a gradient's beginning and its end. "
        "A step is one batch. Bold: the best of its row, where the rows are the same."
    )
