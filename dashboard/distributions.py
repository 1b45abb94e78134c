"""How the values of each column are spread: small histograms and commonest values for the page.

Computed once a table, by the job that reads it, from the mapped columns. Of a large table evenly
spaced rows are taken; counts of texts and extremes are those of all rows, which the import has
counted already.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from regatta.ingest.table import ParsedColumn, ParsedTable

BARS = 24
SHOWN_LEVELS = 10
MAX_ROWS = 100_000
# Of many columns fewer rows are taken, so that the time is the same; some tens of MB in memory.
MAX_CELLS = 6_000_000
LEAST_ROWS = 1_000

FloatArray = npt.NDArray[np.float64]


def distributions(table: ParsedTable) -> tuple[list[dict[str, Any]], int]:
    """What each column's cell of the page's table is drawn from, and of how many rows.

    A column of numbers or dates has ``low``, ``high``, ``median``, ``distinct`` if all rows were
    looked at, and ``bars`` with the rest of what `_bars` gives. A column
    of texts has ``levels``, the commonest with their counts, and ``rest``, the count of all others.
    """
    sample = evenly_spaced(table)
    values = dict(zip(table.layout.numeric, sample, strict=True))
    rows = sample.shape[1]
    complete = rows == table.rows
    found = [
        _of_numbers(column, values[column.index], complete)
        if column.type.numeric
        else _of_texts(column)
        for column in table.columns
    ]
    return found, rows


def evenly_spaced(table: ParsedTable) -> FloatArray:
    """Evenly spaced rows of all columns that are stored as numbers: (columns, rows)."""
    width = len(table.layout.numeric)
    most = max(LEAST_ROWS, min(MAX_ROWS, MAX_CELLS // max(width, 1)))
    step = max(1, -(-table.rows // most))
    parts = []
    seen = 0
    for group, count in enumerate(table.group_rows):
        first = -seen % step
        if first < count:
            parts.append(table.measured(group)[:, first::step].copy())
        seen += count
    return np.concatenate(parts, axis=1) if parts else np.empty((width, 0))


def _of_numbers(column: ParsedColumn, values: FloatArray, complete: bool) -> dict[str, Any]:
    values = np.sort(values)
    values = values[: np.searchsorted(values, np.nan)]  # those that are missing are sorted last
    if not len(values) or column.minimum is None or column.maximum is None:
        return {}
    if column.type.kind == "boolean":
        true = int(values.sum())
        false = len(values) - true
        levels = [[column.type.false, false], [column.type.true, true]]
        return {"levels": levels, "rest": 0, "distinct": (true > 0) + (false > 0)}
    low, high = column.minimum, column.maximum
    found: dict[str, Any] = {
        "low": low,
        "high": high,
        "median": float(values[len(values) // 2] / 2 + values[(len(values) - 1) // 2] / 2),
        **_bars(values, low, high),
    }
    if column.distinct is not None:
        found["distinct"] = column.distinct
    elif complete:
        found["distinct"] = int((values[1:] != values[:-1]).sum()) + 1
    return found


def _bars(values: FloatArray, low: float, high: float) -> dict[str, Any]:
    """How many of the sorted values lie in each part of the way ``from`` … ``to``, and how many
    ``below`` and ``above`` it; ``width`` is how many whole numbers a bar counts, 0 if they are not.

    It is the way from ``low`` to ``high``, unless these lie so far from nearly all values that one
    bar would hold them all: a few 999 among numbers from 0 to 1.
    """
    start, stop = _way(values, low, high)
    whole = abs(start) < 2**52 > abs(stop) and bool((np.rint(values) == values).all())
    if whole or start == stop:  # equally many whole numbers a bar, or some would stand out
        width = int(stop - start) // BARS + 1
        edges = np.arange(start + width, stop + 1, width)
    else:  # halved first: the way between two ends of float64 is longer than float64 reaches
        width = 0
        edges = 2 * np.linspace(start / 2, stop / 2, BARS + 1)[1:-1]
    first, last = np.searchsorted(values, start), np.searchsorted(values, stop, side="right")
    ends = [first, *np.searchsorted(values[first:last], edges) + first, last]
    return {
        "from": start,
        "to": stop,
        "bars": [int(count) for count in np.diff(ends)],
        "below": int(first),
        "above": len(values) - int(last),
        "width": width,
    }


def _way(values: FloatArray, low: float, high: float) -> tuple[float, float]:
    few = len(values) // 200
    start, stop = float(values[few]), float(values[-few - 1])
    with np.errstate(over="ignore"):
        reach = 2 * (np.float64(stop) - start)
        if few and reach > 0:
            low = low if low >= start - reach else start
            high = high if high <= stop + reach else stop
    return low, high


def _of_texts(column: ParsedColumn) -> dict[str, Any]:
    if not column.levels or column.distinct is None:
        return {}
    counts = np.array(column.counts)
    order = np.argsort(-counts, kind="stable")[:SHOWN_LEVELS].tolist()
    levels = [[column.levels[place], int(counts[place])] for place in order]
    rest = int(counts.sum()) - sum(count for _, count in levels)
    return {"levels": levels, "rest": rest, "distinct": column.distinct}
