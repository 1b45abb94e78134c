"""What predictions of another file look like, drawn from what their job has gathered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from regatta.dashboard import components, words

SHOWN_BEYOND = 8
HELP = "How the predictions are spread beside the target's own values in the file of the training. "
HELP += "A new file of the same kind gives a similar picture, somewhat narrower."


def show_histogram(outlook: Mapping[str, Any], key: str) -> None:
    bars = outlook["bars"]
    middles = [
        bars["start"] + bars["width"] * (place + 0.5) for place in range(len(bars["predictions"]))
    ]
    percent = [100 * each for each in bars["predictions"]]
    traces: list[dict[str, Any]] = [
        {
            "type": "bar",
            "name": "predictions",
            "x": middles,
            "y": percent,
            "width": bars["width"],
            "marker": {"color": "@training", "opacity": 0.75, "line": {"width": 0}},
            "hovertemplate": "about %{x:.4g}: %{y:.1f} % of the predictions<extra></extra>",
        }
    ]
    if bars["actual"] is not None:
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": "target in the training's file",
                "x": middles,
                "y": [100 * each for each in bars["actual"]],
                "line": {"color": "@validation", "dash": "dash", "width": 2, "shape": "hvh"},
                "hovertemplate": "about %{x:.4g}: %{y:.1f} % of the targets<extra></extra>",
            }
        )
    target = words.number(outlook["low"]), words.number(outlook["high"])
    said = f"Predictions from {target[0]} to {target[1]}, mean {words.number(outlook['mean'])}."
    training = outlook["training"]
    if training.get("low") is not None:
        ends = words.number(training["low"]), words.number(training["high"])
        said += f" In the training rows the target went from {ends[0]} to {ends[1]}, mean "
        said += f"{words.number(training['mean'])}."
    st.header("How they are spread", help=HELP)
    components.chart(
        f"outlook-{key}",
        traces,
        {
            "xaxis": {"title": {"text": _as_plotly_text(outlook["target"])}, "zeroline": False},
            "yaxis": {"title": {"text": "share of rows (%)"}, "rangemode": "tozero"},
            "bargap": 0.04,
            "hovermode": "closest",
            "margin": {"l": 12, "r": 12, "t": 8, "b": 36},
        },
        label=f"Histogram of the predictions. {said}",
        height=230,
    )
    beyond = f" {bars['outside']:.1%} lie beyond the chart." if bars["outside"] > 0.0005 else ""
    st.caption(words.plain(said + beyond))


def show_beyond(outlook: Mapping[str, Any]) -> None:
    """How many rows the model has to draw straight lines on for."""
    rows, count = outlook["rows"], outlook["rows_beyond"]
    st.header(
        "Beyond the training",
        help="Rows with a value that the training rows do not reach to, or a text that they have "
        "not. There a linear model draws straight lines on, and nothing says that they are right.",
    )
    if not count:
        st.markdown(":material/check: All rows lie within what the training rows held.")
        return
    share = f"{count:,} of {rows:,} rows ({count / rows:.1%})"
    st.markdown(f":material/warning: {words.plain(share)} reach beyond the training rows.")
    show_ranges(outlook["beyond"])
    show_new_texts(outlook.get("new_texts", []))  # of an older version: none


def show_ranges(beyond: Sequence[Mapping[str, Any]]) -> None:
    """The columns with values that the training rows do not reach to."""
    shown = beyond[:SHOWN_BEYOND]
    if not shown:
        return
    lines = ["| Column | Rows | In the training | Here |", "|---|--:|--:|--:|"]
    for each in shown:
        ends = [_end(each, value) for value in (each["low"], each["high"])]
        here = [_end(each, value) for value in (each["seen_low"], each["seen_high"])]
        cells = [_cell(each["column"]), f"{each['rows']:,}", " … ".join(ends)]
        lines.append(f"| {' | '.join([*cells, ' … '.join(dict.fromkeys(here))])} |")
    st.markdown("\n".join(lines))
    if len(beyond) > len(shown):
        st.caption(f"And {len(beyond) - len(shown):,} more columns.")


def show_new_texts(found: Sequence[Mapping[str, Any]]) -> None:
    """The columns with texts that the training rows have not."""
    shown = found[:SHOWN_BEYOND]
    if not shown:
        return
    lines = ["| Column | Rows | Texts that are new |", "|---|--:|---|"]
    for each in shown:
        texts = ", ".join(_cell(text) for text in each["texts"]) + (" …" if each["more"] else "")
        lines.append(f"| {_cell(each['column'])} | {each['rows']:,} | {texts} |")
    st.markdown("\n".join(lines))
    if len(found) > len(shown):
        st.caption(f"And {len(found) - len(shown):,} more columns.")


def show_preview(outlook: Mapping[str, Any]) -> None:
    """The first rows, the prediction before their cells."""
    import pandas as pd

    st.header("The first rows")
    header = ["prediction", *outlook["header"]]
    names = [
        name if header.index(name) == at else f"{name} ({at})" for at, name in enumerate(header)
    ]
    table = pd.DataFrame(outlook["preview"], columns=names)
    st.dataframe(
        table,
        hide_index=True,
        height=words.table_height(len(table), 8),
        column_config={
            "prediction": st.column_config.NumberColumn("prediction", format="%.6g", pinned=True)
        },
    )
    left = outlook["columns"] - len(outlook["header"])
    if left > 0:
        st.caption(f"{left:,} more columns are in the file.")


def _end(beyond: Mapping[str, Any], value: float) -> str:
    from regatta.explain.held_out import date_in_words

    if beyond["kind"] == "date":
        return words.plain(date_in_words(value, "%Y-%m-%d"))
    return words.plain(words.number(value))


def _cell(text: str) -> str:
    """A name within a table of Markdown."""
    return words.plain(" ".join(text.split()))


def _as_plotly_text(name: str) -> str:
    from regatta.explain import charts

    return charts.plain(charts.shortened(name))
