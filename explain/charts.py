"""Charts of a finished model as plain Plotly: traces, layout, and what they show in words.

Numbers come from the modules beside this one. Nothing here imports Plotly: the page draws these in
the browser, and ``go.Figure(chart.traces, chart.layout)`` makes a figure for a file. One meaning a
colour: what the model says is blue, what to hold it against orange or grey; a dash, a marker or a
pattern stands beside each.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from regatta.explain.contributions import Explanation
from regatta.explain.effects import Effect
from regatta.utils import counted

BLUE, ORANGE, GREY = "#155AFA", "#DC7C00", "#8A93A3"
# From few rows to many, on light and on dark ground.
SHADES = [[0.0, "rgba(21,90,250,0.10)"], [0.35, "rgba(21,90,250,0.45)"], [1.0, BLUE]]
LONGEST_NAME = 26
ROW_PIXELS = 24
MOST_EFFECTS = 20
MOST_CONTRIBUTIONS = 12
NORMAL_POINTS = 81
# Medians of residuals this large, in usual errors, are told of as a pattern.
PATTERN = 0.5
# Of n normal errors the median is this / √n off, in usual errors, in one of some thousand bins.
CHANCE = 6.5

Trace = dict[str, Any]


@dataclass(frozen=True)
class Chart:
    """Traces and layout of Plotly, ``text`` for who does not see them, ``height`` in pixels.

    ``note`` says what the chart leaves out, if anything.
    """

    traces: list[Trace]
    layout: dict[str, Any]
    text: str
    height: int = 320
    note: str = ""


def predicted_against_actual(found: Mapping[str, Any]) -> Chart:
    """Held-out rows by what the model says and what is true; density above 5,000 of them."""
    name = plain(shortened(found["target"]))
    points, grid = found["points"], found["density"]
    traces: list[Trace] = []
    if points:
        traces.append(_points(points, points["predicted"], points["actual"]))
        both = [*points["predicted"], *points["actual"]]
        ends = [min(both), max(both)] if both else [0.0, 1.0]
    else:
        traces += [_heat(grid, "predicted", "actual"), _outliers(found, "actual")]
        ends = grid["x"]
    traces.append(_line(ends, ends, "perfect prediction"))
    return Chart(
        traces,
        _layout(f"predicted {name}", f"actual {name}", _within(grid)),
        f"Predicted against actual {found['target']} on {_rows(found)}. {scores_in_words(found)}",
        note=_left_out(grid) + _sampled(found),
    )


def residuals_against_fitted(found: Mapping[str, Any]) -> Chart:
    """Actual minus predicted over predicted, with the median in bins of as many rows each."""
    points, grid, bins = found["points"], found["residual_density"], found["medians"]
    if points:
        residuals = [a - p for a, p in zip(points["actual"], points["predicted"], strict=True)]
        traces = [_points(points, points["predicted"], residuals)]
        values = points["predicted"]
        ends = [min(values), max(values)] if values else [0.0, 1.0]
    else:
        traces = [_heat(grid, "predicted", "residual"), _outliers(found, "residual")]
        ends = grid["x"]
    traces.append(_line(ends, [0.0, 0.0], "no error"))
    traces.append(
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": "median, and the middle half",
            "x": [each["x"] for each in bins],
            "y": [each["median"] for each in bins],
            "error_y": {
                "type": "data",
                "symmetric": False,
                "array": [each["high"] - each["median"] for each in bins],
                "arrayminus": [each["median"] - each["low"] for each in bins],
                "thickness": 1.2,
                "width": 3,
                "color": ORANGE,
            },
            "line": {"color": ORANGE, "width": 2},
            "marker": {"size": 6, "symbol": "diamond", "color": ORANGE},
            "hovertemplate": "median residual %{y:.5g}<br>at about %{x:.5g}<extra></extra>",
        }
    )
    return Chart(
        traces,
        _layout(f"predicted {plain(shortened(found['target']))}", "residual", _within(grid)),
        f"Residuals against predictions on {_rows(found)}. {medians_in_words(found)}",
        note=_left_out(grid) + _sampled(found),
    )


def residual_histogram(found: Mapping[str, Any]) -> Chart:
    """How often residuals of each size are, beside the normal curve of the same deviation."""
    bars, scores = found["histogram"], found["scores"]
    width, counts = bars["width"], bars["counts"]
    middles = [bars["start"] + width * (place + 0.5) for place in range(len(counts))]
    traces: list[Trace] = [
        {
            "type": "bar",
            "name": "held-out rows",
            "x": middles,
            "y": counts,
            "width": width,
            "marker": {"color": BLUE, "opacity": 0.75, "line": {"width": 0}},
            "hovertemplate": "about %{x:.4g}: %{y:,} rows<extra></extra>",
        }
    ]
    curve = _normal_curve(bars, scores, found["drawn"])
    if curve:
        traces.append(curve)
    beyond = bars["below"] + bars["above"]
    note = f"Beyond the bars: {counted(beyond, 'row')}." if beyond else ""
    inside = _share_within(bars, scores)
    return Chart(
        traces,
        {**_layout("residual", "rows"), "bargap": 0.03},
        f"Histogram of the residuals of {_rows(found)}: mean {number(scores['mean'])}, standard "
        f"deviation {number(scores['deviation'])}{inside}. {note}".strip(),
        height=300,
        note=note + _sampled(found),
    )


def forest(effects: Sequence[Effect], *, standardised: bool, most: int = MOST_EFFECTS) -> Chart:
    """The largest coefficients, with their intervals where they are valid."""
    shown = [each for each in effects if each.coefficient != 0.0 and not each.is_reference][:most]
    shown = shown or [each for each in effects if not each.is_reference][:1]
    shown = list(reversed(shown))  # the largest on top
    values = [each.standardised if standardised else each.coefficient for each in shown]
    ends = [each.ends(standardised=standardised) for each in shown]
    sure = [pair is not None and pair[0] * pair[1] > 0 for pair in ends]
    known = any(pair is not None for pair in ends)
    pairs = [pair or (value, value) for pair, value in zip(ends, values, strict=True)]
    hover = [
        f"{plain(each.label)}: {number(value)}" + (_between(pair) if pair else "")
        for each, value, pair in zip(shown, values, ends, strict=True)
    ]
    places = list(range(len(shown)))
    trace: Trace = {
        "type": "scatter",
        "mode": "markers",
        "name": "coefficient",
        "x": values,
        "y": places,
        "text": hover,
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [pair[1] - value for pair, value in zip(pairs, values, strict=True)],
            "arrayminus": [value - pair[0] for pair, value in zip(pairs, values, strict=True)],
            "thickness": 1.6,
            "width": 4,
            "color": BLUE,
            "visible": known,
        },
        "marker": {
            "size": 9,
            "color": BLUE,
            # Hollow where zero lies within the interval.
            "symbol": ["circle" if each or not known else "circle-open" for each in sure],
            "line": {"width": 1.6, "color": BLUE},
        },
        "hovertemplate": "%{text}<extra></extra>",
    }
    stems = [_stem(value, place) for value, place in zip(values, places, strict=True)]
    axis = "one standard deviation more" if standardised else "one unit more"
    return Chart(
        [*([] if known else stems), trace],
        {
            "xaxis": {"title": {"text": f"change for {axis}"}, "zeroline": True, "nticks": 7},
            "yaxis": _names([each.label for each in shown]),
            "hovermode": "closest",
            "showlegend": False,
            "margin": {"l": 8, "r": 16, "t": 4, "b": 36},
        },
        f"Coefficients, change of the prediction for {axis}, the largest first: "
        + "; ".join(
            f"{each.label} {number(value)}{_between(pair) if pair else ''}"
            for each, value, pair in reversed(list(zip(shown, values, ends, strict=True)))
        ),
        height=70 + ROW_PIXELS * max(len(shown), 3),
    )


def waterfall(
    explained: Explanation, *, actual: float | None = None, most: int = MOST_CONTRIBUTIONS
) -> Chart:
    """From the mean prediction to the one of a row, column by column, the rest in one step."""
    shown, rest, count = explained.shown(most)
    steps = [(each.label, each.amount) for each in shown]
    if rest is not None:
        steps.append((f"{count:,} other columns", rest))
    names = ["mean prediction", *(name for name, _ in steps), "prediction"]
    places = list(range(len(names) - 1, -1, -1))  # from top to bottom
    starts, at = [], explained.base
    for _, amount in steps:
        starts.append(at)
        at += amount
    amounts = [amount for _, amount in steps]
    traces: list[Trace] = [
        {
            "type": "bar",
            "orientation": "h",
            "base": starts,
            "x": amounts,
            "y": places[1:-1],
            "width": 0.62,
            "marker": {
                "color": [BLUE if each >= 0 else ORANGE for each in amounts],
                "pattern": {"shape": ["" if each >= 0 else "/" for each in amounts], "size": 5},
                "line": {"width": 0},
            },
            "text": [signed(each) for each in amounts],
            "showlegend": False,
            "textposition": "outside",
            "cliponaxis": False,
            "customdata": [plain(name) for name, _ in steps],
            "hovertemplate": "%{customdata}: %{x:+.6g}<extra></extra>",
        },
        *_ends_of(explained, places),
    ]
    if actual is not None:
        traces.append(_actual_line(actual, len(names)))
    return Chart(
        traces,
        {
            "xaxis": {
                "title": {"text": "prediction"},
                "zeroline": False,
                "nticks": 7,
                "range": _with_room([*starts, at, *([] if actual is None else [actual])]),
            },
            "yaxis": _names(names, places),
            "hovermode": "closest",
            "showlegend": actual is not None,
            "margin": {"l": 8, "r": 48, "t": 4, "b": 36},
        },
        contributions_in_words(explained, steps, actual),
        height=90 + ROW_PIXELS * len(names),
    )


# -- in words -------------------------------------------------------------------------------------


def scores_in_words(found: Mapping[str, Any]) -> str:
    """R² and the sizes of the errors, in a sentence each."""
    scores = found["scores"]
    parts = [f"Root mean squared error {number(scores['rmse'])}, mean absolute error "
             f"{number(scores['mae'])}."]  # fmt: skip
    if scores["r2"] is not None:
        parts.insert(0, f"R² {scores['r2']:.4f}.")
    return " ".join(parts)


def sizes_in_words(found: Mapping[str, Any]) -> str:
    """How far off the usual and the worse predictions are."""
    half, most = found["sizes"]["half"], found["sizes"]["nine_tenths"]
    if half is None:
        return ""
    if found["rows"] == 1:
        return f"The only held-out prediction is off by {number(half)}."
    return (
        f"Half of the predictions are off by at most {number(half)}, nine in ten by at most "
        f"{number(most)}."
    )


def medians_in_words(found: Mapping[str, Any]) -> str:
    """Whether the model is off in one direction somewhere along its predictions.

    Held against the size of the usual error, which far outliers do not change.
    """
    bins, usual = found["medians"], found["sizes"]["half"]
    if len(bins) < 2 or not usual:
        return "There are too few different predictions to tell a pattern."
    furthest = max(bins, key=lambda each: abs(each["median"]))
    times = abs(furthest["median"]) / usual
    where = f"around a prediction of {number(furthest['x'])}"
    if times < max(PATTERN, CHANCE / math.sqrt(furthest["rows"])):
        return (
            "The median residual stays near zero along the predictions: at most "
            f"{number(abs(furthest['median']))} off, {where}."
        )
    direction = "too low" if furthest["median"] > 0 else "too high"
    return (
        f"The median residual is {number(furthest['median'])} {where}, {times:.1f} times the "
        f"usual error: the model is {direction} there."
    )


def contributions_in_words(
    explained: Explanation, steps: Sequence[tuple[str, float]], actual: float | None
) -> str:
    """The waterfall, read aloud."""
    told = ", ".join(f"{name} {signed(amount)}" for name, amount in steps)
    text = (
        f"From the mean prediction {number(explained.base)} to the prediction "
        f"{number(explained.prediction)}: {told}."
    )
    return text if actual is None else f"{text} The actual value is {number(actual)}."


def number(value: float | None) -> str:
    """Five digits, thousands separated."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1e5 else f"{value:,.5g}"


def signed(value: float) -> str:
    """Four digits and a sign."""
    return f"{value:+,.0f}" if abs(value) >= 1e4 else f"{value:+,.4g}"


def plain(text: str) -> str:
    """A name from a file, so that Plotly shows it and does not read it as markup or template."""
    return html.escape(str(text), quote=False).replace("%", "&#37;")


def shortened(name: str) -> str:
    """A name that fits beside a chart."""
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


# -- parts ----------------------------------------------------------------------------------------


def _points(points: Mapping[str, Any], x: Sequence[float], y: Sequence[float]) -> Trace:
    many = len(x) > 800
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "held-out rows",
        "x": list(x),
        "y": list(y),
        "customdata": points["row"],
        "marker": {"size": 4 if many else 6, "color": BLUE, "opacity": 0.35 if many else 0.6},
        "hovertemplate": "row %{customdata}<br>%{x:.5g}, %{y:.5g}<extra></extra>",
    }


def _heat(grid: Mapping[str, Any], x: str, y: str) -> Trace:
    """Cells by the logarithm of their rows, or one crowded cell would pale all others."""
    counts = grid["counts"]
    size = len(counts)
    (x0, x1), (y0, y1) = grid["x"], grid["y"]
    most = max(max(row) for row in counts) or 1
    return {
        "type": "heatmap",
        "name": "held-out rows",
        "x0": x0 + (x1 - x0) / (2 * size),
        "dx": (x1 - x0) / size,
        "y0": y0 + (y1 - y0) / (2 * size),
        "dy": (y1 - y0) / size,
        "z": [[math.log10(count) if count else None for count in row] for row in counts],
        "customdata": counts,
        "zmin": 0.0,
        "zmax": max(math.log10(most), 1e-9),
        "colorscale": SHADES,
        "hoverongaps": False,
        "colorbar": _colour_bar(most),
        "hovertemplate": f"{x} about %{{x:.4g}}<br>{y} about %{{y:.4g}}<br>%{{customdata:,}} rows"
        "<extra></extra>",
    }


def _colour_bar(most: int) -> dict[str, Any]:
    powers = list(range(int(math.log10(most)) + 1))
    return {
        "title": {"text": "rows", "side": "right"},
        "thickness": 8,
        "outlinewidth": 0,
        "len": 0.9,
        "tickvals": powers,
        "ticktext": [f"{10**power:,}" for power in powers],
        "tickfont": {"size": 10},
    }


def _outliers(found: Mapping[str, Any], y: str) -> Trace:
    """The largest errors as points over a density: they can be chosen."""
    outliers = found["outliers"]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "largest residuals",
        "x": [each["predicted"] for each in outliers],
        "y": [each[y] for each in outliers],
        "customdata": [each["row"] for each in outliers],
        "marker": {"size": 7, "color": BLUE, "symbol": "circle-open", "line": {"width": 1.5}},
        "hovertemplate": "row %{customdata}<br>%{x:.5g}, %{y:.5g}<extra></extra>",
    }


def _line(x: Sequence[float], y: Sequence[float], name: str) -> Trace:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": list(x),
        "y": list(y),
        "line": {"color": GREY, "dash": "dash", "width": 1.5},
        "hoverinfo": "skip",
    }


def _layout(x: str, y: str, ranges: Mapping[str, Any] | None = None) -> dict[str, Any]:
    ranges = ranges or {}
    return {
        "xaxis": {"title": {"text": x}, "zeroline": False, "nticks": 7, **ranges.get("x", {})},
        "yaxis": {"title": {"text": y}, "zeroline": False, **ranges.get("y", {})},
        "hovermode": "closest",
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "margin": {"l": 12, "r": 12, "t": 8, "b": 36},
    }


def _within(grid: Mapping[str, Any] | None) -> dict[str, Any]:
    """Axes that end where a density does, with room for a whole marker: far outliers would press
    it into a corner."""
    if not grid:
        return {}
    room = {axis: 0.025 * (grid[axis][1] - grid[axis][0]) for axis in "xy"}
    return {
        axis: {"range": [grid[axis][0] - room[axis], grid[axis][1] + room[axis]]} for axis in "xy"
    }


def _left_out(grid: Mapping[str, Any] | None) -> str:
    count = grid["outside"] if grid else 0
    return (
        f"{count:,} {'row lies' if count == 1 else 'rows lie'} outside the chart." if count else ""
    )


def _sampled(found: Mapping[str, Any]) -> str:
    if found["drawn"] == found["rows"]:
        return ""
    return f" Drawn from {found['drawn']:,} rows taken at random; scores are of all."


def _rows(found: Mapping[str, Any]) -> str:
    count = found["rows"]
    return f"{count:,} held-out {'row' if count == 1 else 'rows'}"


def _normal_curve(bars: Mapping[str, Any], scores: Mapping[str, Any], rows: int) -> Trace | None:
    mean, deviation = scores["mean"], scores["deviation"]
    span = bars["width"] * len(bars["counts"])
    if not deviation or deviation < span / 1000:
        return None
    x = [bars["start"] + span * step / (NORMAL_POINTS - 1) for step in range(NORMAL_POINTS)]
    height = rows * bars["width"] / (deviation * math.sqrt(2 * math.pi))
    y = [height * math.exp(-0.5 * ((each - mean) / deviation) ** 2) for each in x]
    return _line(x, y, "normal curve") | {"line": {"color": ORANGE, "dash": "dash", "width": 1.8}}


def _share_within(bars: Mapping[str, Any], scores: Mapping[str, Any]) -> str:
    """How many bars' rows lie within one deviation of the mean, to the width of a bar."""
    mean, deviation = scores["mean"], scores["deviation"]
    total = sum(bars["counts"]) + bars["below"] + bars["above"]
    if not deviation or not total:
        return ""
    middles = (bars["start"] + bars["width"] * (i + 0.5) for i in range(len(bars["counts"])))
    inside = sum(
        count
        for middle, count in zip(middles, bars["counts"], strict=True)
        if abs(middle - mean) <= deviation
    )
    return f"; about {inside / total:.0%} lie within one standard deviation (68% if normal)"


def _between(pair: tuple[float, float]) -> str:
    return f" ({number(pair[0])} to {number(pair[1])})"


def _stem(value: float, place: int) -> Trace:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [0.0, value],
        "y": [place, place],
        "line": {"color": BLUE, "width": 2},
        "hoverinfo": "skip",
    }


def _names(names: Sequence[str], places: Sequence[int] | None = None) -> dict[str, Any]:
    """Places and not names on the axis: two names may be the same once they are shortened."""
    at = list(places if places is not None else range(len(names)))
    return {
        "showgrid": False,
        "zeroline": False,
        "tickmode": "array",
        "tickvals": at,
        "ticktext": [plain(shortened(name)) for name in names],
        "range": [min(at, default=0) - 0.6, max(at, default=0) + 0.6],
    }


def _with_room(values: Sequence[float]) -> list[float]:
    """A range around values that leaves room for the numbers beside the outer bars."""
    low, high = min(values), max(values)
    room = 0.16 * (high - low) or abs(high) or 1.0
    return [low - room, high + room]


def _ends_of(explained: Explanation, places: Sequence[int]) -> list[Trace]:
    return [
        {
            "type": "scatter",
            "mode": "markers+text",
            "name": name,
            "x": [value],
            "y": [place],
            "text": [number(value)],
            "textposition": "middle right",
            "cliponaxis": False,
            "marker": {"size": 11, "symbol": symbol, "color": colour},
            "showlegend": False,
            "hovertemplate": f"{name} %{{x:.6g}}<extra></extra>",
        }
        for name, value, place, symbol, colour in (
            ("mean prediction", explained.base, places[0], "diamond", GREY),
            ("prediction", explained.prediction, places[-1], "circle", BLUE),
        )
    ]


def _actual_line(actual: float, rows: int) -> Trace:
    line = _line([actual, actual], [-0.5, rows - 0.5], f"actual {number(actual)}")
    return line | {"line": {"color": GREY, "dash": "dot", "width": 2}}
