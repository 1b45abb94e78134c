"""Numbers and tables as Markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence


def as_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def spread(values: Sequence[float] | None, unit: float, digits: int | None = None) -> str:
    """``median (smallest–largest)`` in a unit."""
    if not values:
        return ""

    def shown(value: float) -> str:
        value *= unit
        places = max(0, 2 - math.floor(math.log10(value))) if digits is None else digits
        return f"{value:.{min(places, 3)}f}"

    return f"{shown(statistics.median(values))} ({shown(min(values))}–{shown(max(values))})"
