"""What is worth knowing about a parsed table before it is trained on: told, never acted on.

Works on the mapped columns a group of rows at a time, so that memory stays flat.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from regatta.ingest.table import ParsedColumn, ParsedTable

SENTINELS = (-200.0, -999.0, -9999.0, -99999.0, -99.0, -1e6, 999.0, 9999.0, 99999.0, 999999.0)
HASHES_AT_ONCE = 4_000_000
LEAK_CORRELATION = 0.9999


def examine(table: ParsedTable) -> ParsedTable:
    """The table with its count of duplicate rows and with warnings."""
    duplicates = count_duplicates(table)
    warnings = list(table.warnings)
    if duplicates:
        share = duplicates / table.rows
        warnings.append(
            f"{duplicates} of {table.rows} rows ({share:.1%}) are exact duplicates of another; "
            "duplicates stay on one side of the split."
        )
    for column in table.columns:
        if column.kind == "number":
            warnings += _number_warnings(table, column)
        elif column.kind == "category" and column.distinct == 1 and not column.missing:
            warnings.append(f"Column {column.name!r} is the same in all rows.")
    return replace(table, duplicates=duplicates, warnings=tuple(warnings))


def count_duplicates(table: ParsedTable) -> int:
    """Rows beyond the first of each content, by their hashes, a part of the hashes at once."""
    parts = np.uint64(table.rows // HASHES_AT_ONCE + 1)
    distinct = 0
    for part in range(int(parts)):
        chosen = []
        for group in table.groups:
            hashes = table.hashes(group)
            chosen.append(hashes[hashes % parts == part] if parts > 1 else hashes)
        # Sorting in place: np.unique would keep a second copy.
        together = np.concatenate(chosen)
        together.sort()
        distinct += int((together[1:] != together[:-1]).sum()) + 1 if len(together) else 0
    return table.rows - distinct


def _number_warnings(table: ParsedTable, column: ParsedColumn) -> list[str]:
    if column.minimum is None or column.maximum is None:
        return []
    name, low, high = column.name, column.minimum, column.maximum
    if low == high:
        return [f"Column {name!r} is {low:g} in all rows that have a value."]
    if (
        table.rows > 2
        and column.missing == 0
        and high - low == table.rows - 1
        and _counts(table, column)
    ):
        return [f"Column {name!r} counts the rows: an index. Leave it out."]
    suspects = [value for value in SENTINELS if value in (low, high)]
    if suspects:
        return _sentinel_warnings(table, column, suspects)
    return []


def _counts(table: ParsedTable, column: ParsedColumn) -> bool:
    """Whether each value is one more than the one before."""
    expected = None
    for group in table.groups:
        values = table.numbers(group, column)
        if not len(values):
            continue
        if expected is not None and values[0] != expected:
            return False
        if not (np.diff(values) == 1).all():
            return False
        expected = values[-1] + 1
    return True


def _sentinel_warnings(
    table: ParsedTable, column: ParsedColumn, suspects: list[float]
) -> list[str]:
    """Values such as 999 that stand far off all others."""
    low, high, count = np.inf, -np.inf, dict.fromkeys(SENTINELS, 0)
    for group in table.groups:
        values = table.numbers(group, column)
        rest = values[~np.isin(values, SENTINELS)]
        if len(rest):
            low = min(low, float(np.nanmin(rest))) if not np.isnan(rest).all() else low
            high = max(high, float(np.nanmax(rest))) if not np.isnan(rest).all() else high
        for value in SENTINELS:
            count[value] += int((values == value).sum())
    spread = max(high - low, abs(high), 1e-12)
    return [
        f"Column {column.name!r} holds {value:g} in {count[value]} cells, far from its other "
        f"values ({low:g} to {high:g}): it may stand for a missing value."
        for value in suspects
        if low <= high and (value > high + 2 * spread or value < low - 0.5 * spread)
    ]


def leaks(table: ParsedTable, target: ParsedColumn) -> list[str]:
    """Warnings of columns whose correlation with the target is all but one."""
    found = []
    for column in table.columns:
        if column.index == target.index or column.kind not in ("number", "boolean"):
            continue
        if abs(_correlation(table, column, target)) > LEAK_CORRELATION:
            found.append(
                f"Column {column.name!r} gives the target {target.name!r} away (correlation of "
                "all but 1): leave it out unless it is known beforehand."
            )
    return found


def _correlation(table: ParsedTable, a: ParsedColumn, b: ParsedColumn) -> float:
    """Of the rows that have both, by sums of centred products, a group at once."""
    shift = [each.minimum or 0.0 for each in (a, b)]
    sums = np.zeros(6)
    for group in table.groups:
        x = table.numbers(group, a) - shift[0]
        y = table.numbers(group, b) - shift[1]
        both = ~(np.isnan(x) | np.isnan(y))
        x, y = x[both], y[both]
        sums += [len(x), x.sum(), y.sum(), x @ x, y @ y, x @ y]
    n, sx, sy, xx, yy, xy = sums
    if n < 3:
        return 0.0
    spread = (xx - sx * sx / n) * (yy - sy * sy / n)
    return float((xy - sx * sy / n) / np.sqrt(spread)) if spread > 0 else 0.0
