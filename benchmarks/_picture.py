"""The benchmarks as one picture: bars on logarithmic axes."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from regatta.benchmarks._aims import aims

if TYPE_CHECKING:
    from regatta.benchmarks.compare import Results

COLOURS = {"regatta": "#155AFA", "sklearn": "#DC7C00", "torch": "#47A48B"}
GREY, DARK = "#5B6675", "#17202A"
WIDTH, LABELS, BARS, STEP = 860, 390, 340, 24


@dataclass(frozen=True)
class Bar:
    """A bar, or a heading where there is no value. ``aim`` is marked by a line."""

    label: str
    value: float | None = None
    colour: str = ""
    shown: str = ""
    aim: float | None = None


def picture(results: Results, names: dict[str, str]) -> str:
    """Times as fast as the peers, and rows a second; whatever of the two was measured."""
    panels = [
        ("Times as fast as the peer; the line is the aim. Logarithmic axis", speed_bars(results)),
        ("Rows a second of mini-batch SGD. Logarithmic axis", rate_bars(results, names)),
    ]
    top, lines = 0, []
    for title, bars in panels:
        if bars:
            lines += panel(title, bars, top)
            top += STEP * len(bars) + 56
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" '
            'font-family="sans-serif" font-size="13">',
            f'<rect width="{WIDTH}" height="{top}" fill="#ffffff"/>',
            *lines,
            "</svg>",
            "",
        ]
    )


def speed_bars(results: Results) -> list[Bar]:
    return [
        Bar(each.job, each.measured, COLOURS["regatta"], each.shown(each.measured), each.aim)
        for each in aims(results)
        if each.is_speed
    ]


def rate_bars(results: Results, names: dict[str, str]) -> list[Bar]:
    bars = []
    for batch in sorted({batch for _, batch in results.rates}):
        bars.append(Bar(f"batch {batch:,}"))
        for name, label in names.items():
            if (name, batch) in results.rates:
                value = statistics.median(results.rates[name, batch])
                colour = COLOURS[name.split("-")[0]]
                bars.append(Bar(label, value, colour, f"{value / 1e6:.3g} M rows/s"))
    return bars


def panel(title: str, bars: list[Bar], top: int) -> list[str]:
    """The lines of one group of bars on an axis of its own."""
    values = [each for bar in bars for each in (bar.value, bar.aim) if each]
    low = 10 ** math.floor(math.log10(min(values)) - 1e-9)
    scale = BARS / math.log(max(values) / low)
    lines = [f'<text x="12" y="{top + 20}" fill="{GREY}">{escape(title)}</text>']
    for position, bar in enumerate(bars):
        y = top + STEP * position + 48
        if bar.value is None:
            lines.append(f'<text x="12" y="{y}" font-weight="bold">{escape(bar.label)}</text>')
            continue
        width = max(1.0, scale * math.log(bar.value / low))
        lines.append(f'<text x="{LABELS}" y="{y}" text-anchor="end">{escape(bar.label)}</text>')
        lines.append(
            f'<rect x="{LABELS + 8}" y="{y - 13}" width="{width:.0f}" height="17" '
            f'fill="{bar.colour}"/>'
        )
        end = width
        if bar.aim is not None:
            x = LABELS + 8 + scale * math.log(bar.aim / low)
            lines.append(
                f'<path d="M{x:.0f} {y - 16}v23" stroke="{DARK}" stroke-width="2" fill="none"/>'
            )
            end = max(width, x - LABELS - 8)
        lines.append(f'<text x="{LABELS + 16 + end:.0f}" y="{y}">{escape(bar.shown)}</text>')
    return lines
