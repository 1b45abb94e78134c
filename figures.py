"""Plotly figures of finished results, for the page and for files.

One meaning a colour: training blue, validation orange, what is chosen green; a dash, marker or
label stands beside each.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from regatta.utils import atomic_path

BLUE, ORANGE, GREEN, GREY = "#155AFA", "#DC7C00", "#47A48B", "#8A93A3"
CATEGORICAL = ("#155AFA", "#DC7C00", "#47A48B", "#BB0E8D", "#6B6627", "#8C85ED")
DASHES = ("solid", "dash", "dot", "dashdot")
# Paths in colour; the others are grey, or nobody could tell them apart.
COLOURED_PATHS = 12


def regularisation_path(path: Mapping[str, Any]) -> go.Figure:
    """Cross-validation error and coefficients against alpha.

    Parameters
    ----------
    path : mapping
        `solvers.path.PathResult.to_json`: coefficients of standardised features.
    """
    figure = make_subplots(
        rows=2,
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.06,
        row_heights=[0.42, 0.58],
    )
    _add_errors(figure, path)
    _add_coefficients(figure, path)
    _mark(figure, path["alpha_min"], "best", "solid", "left")
    if path["alpha_1se"] != path["alpha_min"]:
        _mark(figure, path["alpha_1se"], "one standard error", "dash", "right")
    figure.update_xaxes(type="log", autorange="reversed")
    figure.update_xaxes(title_text="alpha (weaker penalty to the right)", row=2, col=1)
    figure.update_layout(
        margin={"l": 60, "r": 20, "t": 30, "b": 50},
        # The largest are drawn last, over the others, and named first.
        legend={"orientation": "h", "x": 0, "y": -0.16, "yanchor": "top", "traceorder": "reversed"},
        hovermode="closest",
    )
    return figure


def _mark(figure: go.Figure, alpha: float, label: str, dash: str, anchor: str) -> None:
    """A line through both charts, with its name at the top."""
    line = {"color": GREEN, "dash": dash, "width": 1.5}
    figure.add_shape(type="line", x0=alpha, x1=alpha, y0=0, y1=1, yref="paper", line=line)
    figure.add_annotation(
        x=math.log10(alpha),  # where an axis is logarithmic, annotations count in exponents
        y=1.0,
        yref="paper",
        text=label,
        showarrow=False,
        xanchor=anchor,
        yanchor="bottom",
        font={"color": GREEN},
    )


def write_html(figure: go.Figure, target: Path, title: str) -> None:
    """Write a figure as a page of its own that needs no network."""
    figure.update_layout(title=title, template="plotly_white", height=640)
    with atomic_path(target) as aside:
        figure.write_html(aside, include_plotlyjs=True)


def _add_errors(figure: go.Figure, path: Mapping[str, Any]) -> None:
    mean, error = path["mean_error"], path["standard_error"]
    figure.add_trace(
        go.Scatter(
            x=path["alphas"],
            y=mean,
            error_y={"type": "data", "array": error, "thickness": 1, "width": 2},
            name="cross-validation error",
            mode="lines+markers",
            line={"color": ORANGE, "dash": "dash", "width": 1.5},
            marker={"size": 4},
            hovertemplate="alpha %{x:.4g}<br>mean squared error %{y:.5g}<extra></extra>",
        ),
        row=1,
        col=1,
    )
    figure.update_yaxes(title_text="mean squared error", row=1, col=1)


def _add_coefficients(figure: go.Figure, path: Mapping[str, Any]) -> None:
    curves: Mapping[str, Sequence[float]] = path["coefficients"]
    largest = sorted(curves, key=lambda name: -max(map(abs, curves[name]), default=0.0))
    shown = set(largest[:COLOURED_PATHS])
    for name in reversed(largest):
        place = largest.index(name) if name in shown else -1
        figure.add_trace(
            go.Scatter(
                x=path["alphas"],
                y=curves[name],
                name=_plain(name),
                mode="lines",
                showlegend=place >= 0,
                line={
                    "color": CATEGORICAL[place % len(CATEGORICAL)] if place >= 0 else GREY,
                    "dash": DASHES[place // len(CATEGORICAL)] if place >= 0 else "solid",
                    "width": 1.8 if place >= 0 else 0.6,
                },
                hovertemplate=f"{_plain(name)}<br>alpha %{{x:.4g}}<br>%{{y:.5g}}<extra></extra>",
            ),
            row=2,
            col=1,
        )
    figure.update_yaxes(title_text="coefficient, one deviation more", row=2, col=1)


def _plain(name: str) -> str:
    """A name from a file, so that Plotly shows it and does not read it as markup or template."""
    return html.escape(name, quote=False).replace("%", "&#37;")


def thinned(alphas: Sequence[float], rows: int, always: Sequence[int]) -> list[int]:
    """About ``rows`` evenly spaced positions of a path, and those of ``always``."""
    step = max(1, len(alphas) // rows)
    return sorted({*range(0, len(alphas), step), len(alphas) - 1, *always})
