"""The loss of a finished run, as a chart for its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from regatta.explain.charts import BLUE, GREY, ORANGE, Chart
from regatta.runs.metrics_store import MetricsReader
from regatta.sharing.facts import figure
from regatta.utils import counted

STRETCHES = 700
TABLED = 15

Row = Mapping[str, Any]


def loss_curve(
    reader: MetricsReader, *, exact: bool
) -> tuple[Chart | None, list[tuple[str, str, str, str]]]:
    """The chart, if anything was recorded, and rows of its table: step, losses, R²."""
    points = [each for each in _all(reader, "points") if each["loss"] is not None]
    evaluations = _all(reader, "evaluations")
    if len(points) < 2 and len(evaluations) < 2:
        return None, []  # the exact solver has a loss at its end alone
    optimum = reader.facts().get("optimal_loss")
    unit = "rows taken in" if exact else "steps"
    traces = [_trace(_thinned(points), "loss", "training", BLUE, "solid")]
    drawn = [each for each in evaluations if each["validation_loss"] is not None]
    if drawn:
        trace = _trace(drawn, "validation_loss", "validation", ORANGE, "dash")
        traces.append(
            {**trace, "mode": "lines+markers", "marker": {"size": 5, "symbol": "diamond"}}
        )
    steps = [each["step"] for each in (*points, *evaluations)]
    if optimum is not None and optimum > 0:
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": "exact optimum",
                "x": [min(steps), max(steps)],
                "y": [optimum, optimum],
                "line": {"color": GREY, "dash": "dot", "width": 1.5},
                "hoverinfo": "skip",
            }
        )
    layout = {
        "xaxis": {"title": {"text": unit}, "zeroline": False},
        "yaxis": {"title": {"text": "loss"}, "type": "log", "exponentformat": "power"},
        "hovermode": "x unified",
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "margin": {"l": 12, "r": 12, "t": 8, "b": 36},
    }
    return Chart(traces, layout, _in_words(points, evaluations, optimum, unit), 320), _table(
        evaluations
    )


def _all(reader: MetricsReader, table: str) -> list[dict[str, Any]]:
    """All rows of a table, a hundred thousand at a time."""
    rows: list[dict[str, Any]] = []
    since = -1
    while part := reader.read(table, since):
        rows += part
        since = part[-1]["step"]
    return rows


def _thinned(rows: Sequence[Row]) -> list[Row]:
    """Of each stretch of steps the lowest and the highest loss, so that no spike is lost."""
    if len(rows) <= 2 * STRETCHES:
        return list(rows)
    kept = {0, len(rows) - 1}
    for stretch in range(STRETCHES):
        places = range(stretch * len(rows) // STRETCHES, (stretch + 1) * len(rows) // STRETCHES)
        kept |= {
            min(places, key=lambda place: rows[place]["loss"]),
            max(places, key=lambda place: rows[place]["loss"]),
        }
    return [rows[place] for place in sorted(kept)]


def _trace(rows: Sequence[Row], key: str, name: str, colour: str, dash: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines" if len(rows) > 1 else "markers",
        "name": name,
        "x": [each["step"] for each in rows],
        "y": [each[key] for each in rows],
        "line": {"color": colour, "dash": dash, "width": 1.8},
        "hovertemplate": "%{y:.5g}",
    }


def _in_words(
    points: Sequence[Row], evaluations: Sequence[Row], optimum: float | None, unit: str
) -> str:
    parts = ["Half the mean squared error, in the target's unit squared, on a logarithmic scale."]
    if points:
        first, last = points[0], points[-1]
        parts.append(
            f"Training loss over {last['step']:,} {unit}: from {figure(first['loss'])} to "
            f"{figure(last['loss'])}, {counted(len(points), 'point')}."
        )
    if evaluations and evaluations[-1]["validation_loss"] is not None:
        parts.append(f"Validation loss at the end {figure(evaluations[-1]['validation_loss'])}.")
    if optimum is not None:
        parts.append(f"The exact optimum has {figure(optimum)}.")
    return " ".join(parts)


def _table(evaluations: Sequence[Row]) -> list[tuple[str, str, str, str]]:
    step = max(1, -(-len(evaluations) // TABLED))
    places = sorted({*range(0, len(evaluations), step), len(evaluations) - 1} - {-1})
    return [
        (
            f"{each['step']:,}",
            figure(each["train_loss"]),
            figure(each["validation_loss"]),
            "–" if each["validation_r2"] is None else f"{each['validation_r2']:.4f}",
        )
        for each in (evaluations[place] for place in places)
    ]
