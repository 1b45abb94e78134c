"""What is worth knowing about a parsed table before it is trained on: told, never acted on.

Works on the mapped columns a group of rows at a time, so that memory stays flat; what a column is
suspected of by its extremes or its first values is checked on its rows before it is told.
`regatta.ingest.leaks` looks at a table with its target in mind.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from regatta.ingest.duplicates import count_duplicates
from regatta.ingest.near_misses import near_miss
from regatta.ingest.overrides import BY_YOU
from regatta.ingest.table import Finding, ParsedColumn, ParsedTable

SENTINELS = (-200.0, -999.0, -9999.0, -99999.0, -99.0, -1e6, 999.0, 9999.0, 99999.0, 999999.0)
# More findings of a kind are told in one sentence.
MANY = 8
# Whole numbers with at most so many different values may be codes.
FEW_LEVELS = 50
# Values of a column from which it is told whether a full count is worth while.
FIRST_VALUES = 2_000
MAX_PERMUTED_ROWS = 50_000_000


def examine(table: ParsedTable) -> ParsedTable:
    """The table with its count of duplicate rows, with findings and with what they say."""
    with ThreadPoolExecutor(1) as aside:  # each waits for memory, and most of it holds no lock
        duplicates = aside.submit(count_duplicates, table)
        table = replace(table, columns=tuple(_described(table)))
        found = [
            *_together(_constants(table), "are each the same in all rows that have a value."),
            *_together(_indices(table), "each count the rows: indices. Leave them out."),
            *_duplicate_columns(table),
            *_together(_sentinels(table), "each hold a value such as 999, far from their others."),
        ]
        table = replace(table, duplicates=duplicates.result())
    found = [*_duplicate_rows(table), *found]
    said = (*table.warnings, *(each.message for each in found))
    return replace(table, findings=tuple(found), warnings=said)


def _duplicate_rows(table: ParsedTable) -> Iterable[Finding]:
    if table.duplicates:
        share = table.duplicates / table.rows
        yield Finding(
            "duplicate_rows",
            (),
            f"{table.duplicates} of {table.rows} rows ({share:.1%}) "
            f"{'is an exact duplicate' if table.duplicates == 1 else 'are exact duplicates'} of "
            "another; duplicates stay on one side of the split.",
        )


def _together(findings: Iterable[Finding], summary: str) -> list[Finding]:
    """The findings of a kind, or one for all of them where there are many."""
    found = list(findings)
    if len(found) <= MANY:
        return found
    names = tuple(dict.fromkeys(name for each in found for name in each.columns))
    return [Finding(found[0].kind, names, f"{listed(names)} {summary}")]


def listed(names: Sequence[str]) -> str:
    """``Columns 'a', 'b' and 7 more``."""
    shown = ", ".join(map(repr, names[:MANY]))
    more = len(names) - MANY
    return f"Columns {shown} and {more:,} more" if more > 0 else f"Columns {shown}"


# -- whole numbers --------------------------------------------------------------------------------


def _described(table: ParsedTable) -> Iterable[ParsedColumn]:
    """The columns; of those that hold whole numbers, or almost nothing but numbers or dates, the
    evidence says so."""
    for column in table.columns:
        if column.levels and BY_YOU not in column.evidence:
            yield _with_near_miss(table, column)
            continue
        whole = column.kind == "number" and not column.refused and _is_whole(table, column)
        if not whole:
            yield column
            continue
        distinct = _few_levels(table, column)
        said = "all whole"
        if distinct is not None:
            said += f", {distinct} different" + (": amounts, or codes?" if distinct > 2 else "")
        yield replace(column, distinct=distinct, evidence=f"{column.evidence}, {said}")


def _with_near_miss(table: ParsedTable, column: ParsedColumn) -> ParsedColumn:
    """A column of texts; where most cells are numbers or dates the evidence says which is not."""
    miss = near_miss(Counter(dict(zip(column.levels, column.counts, strict=True))))
    if miss is None:
        return column
    line = _first_line(table, column, column.levels.index(miss.example))
    return replace(column, evidence=f"{column.evidence}; {miss.sentence(line)}")


def _first_line(table: ParsedTable, column: ParsedColumn, code: int) -> int | None:
    """The line of the first cell that holds a level."""
    for group in table.groups:
        rows = np.flatnonzero(table.codes(group, column) == code)
        if len(rows):
            return table.line(group, int(rows[0]))
    return None


def _is_whole(table: ParsedTable, column: ParsedColumn) -> bool:
    low, high = column.minimum, column.maximum
    if low is None or high is None or not (low.is_integer() and high.is_integer()):
        return False
    for group in table.groups:
        values = table.numbers(group, column)
        # The first values tell most columns of fractions; NaN is whole enough.
        for part in (values[:64], values[64:]):
            if not ((np.rint(part) == part) | np.isnan(part) if column.missing else
                    np.rint(part) == part).all():  # fmt: skip
                return False
    return True


def _few_levels(table: ParsedTable, column: ParsedColumn) -> int | None:
    """How many different whole numbers a column holds, if they are few."""
    assert column.minimum is not None
    assert column.maximum is not None
    levels: set[float] = set()
    for group in table.groups:
        values = table.numbers(group, column)
        if not levels:
            levels = _levels(values[:FIRST_VALUES])
        if len(levels) > FEW_LEVELS:
            return None
        known = np.zeros(len(values), bool)
        for level in levels:
            known |= values == level
        if not known.all():
            levels |= _levels(values[~known])
    return len(levels) if 0 < len(levels) <= FEW_LEVELS else None


def _levels(values: Any) -> set[float]:
    return set(np.unique(values[~np.isnan(values)]).tolist())


# -- constants and indices ------------------------------------------------------------------------


def _constants(table: ParsedTable) -> Iterable[Finding]:
    for column in table.columns:
        name = column.name
        if column.kind == "number" and column.minimum is not None:
            if column.minimum == column.maximum:
                rows = table.rows - column.missing
                message = f"is {column.minimum:g} in {_all(rows)}"
                if column.missing:
                    message += f" that {'has' if rows == 1 else 'have'} a value"
                message += "."
                yield Finding("constant", (name,), f"Column {name!r} {message}")
        elif column.kind == "category" and column.distinct == 1 and not column.missing:
            message = f"Column {name!r} is {column.levels[0][:40]!r} in {_all(table.rows)}."
            yield Finding("constant", (name,), message)


def _indices(table: ParsedTable) -> Iterable[Finding]:
    """Columns of numbers that count the rows, in order or not."""
    for column in table.columns:
        low, high = column.minimum, column.maximum
        if column.kind != "number" or column.missing or low is None or high is None:
            continue
        if table.rows <= 2 or high - low != table.rows - 1 or not low.is_integer():
            continue
        if _counts(table, column):
            said = "counts the rows"
        elif _is_permutation(table, column, low):
            said = "holds each whole number once"
        else:
            continue
        # Years count the rows of a table of years, and are more than an index.
        advice = "an index. Leave it out" if low in (0, 1) else "an index, unless it is a time"
        said += f" ({low:.0f} to {high:.0f}): {advice}."
        yield Finding("index", (column.name,), f"Column {column.name!r} {said}")


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


def _is_permutation(table: ParsedTable, column: ParsedColumn, low: float) -> bool:
    """Whether the values are those of an index in another order."""
    # A few rows of small whole numbers may well differ by chance.
    if not 100 <= table.rows <= MAX_PERMUTED_ROWS:
        return False
    seen = np.zeros(table.rows, bool)
    for group in table.groups:
        values = table.numbers(group, column) - low
        places = values.astype(np.intp)
        if not (places == values).all() or seen[places].any():
            return False
        seen[places] = True
    return bool(seen.all())


# -- columns that repeat others -------------------------------------------------------------------


def _duplicate_columns(table: ParsedTable) -> list[Finding]:
    """Columns that hold the same cells. Constant ones are told as such."""
    alike = _sets_alike([c for c in table.columns if _comparable(c)], _outline)
    for group in table.groups:
        if not alike:
            break
        digest = _digest_of(table, group)
        alike = [each for members in alike for each in _sets_alike(members, digest)]
    found = []
    for members in alike:
        names = tuple(each.name for each in members)
        rest = "one of them is enough" if len(names) > 2 else "leave one of them out"
        said = f"{listed(names)} hold the same cells in {_all(table.rows)}: {rest}."
        found.append(Finding("duplicate_columns", names, said, needs=2))
    return found if len(found) <= MANY else [_many_duplicates(found)]


def _many_duplicates(found: Sequence[Finding]) -> Finding:
    names = tuple(name for each in found for name in each.columns)
    spare = len(names) - len(found)
    first = found[0].columns
    said = f"{spare:,} columns repeat others, such as {first[1]!r}, which repeats {first[0]!r}."
    return Finding("duplicate_columns", names, said, needs=2)


def _comparable(column: ParsedColumn) -> bool:
    if column.type.kind == "category":
        return len(column.levels) > 1
    return column.minimum is not None and column.minimum != column.maximum


def _outline(column: ParsedColumn) -> Hashable:
    """What equal columns have in common, as far as the report on them tells."""
    texts = (column.levels, column.counts)
    return column.kind, column.missing, column.minimum, column.maximum, texts


def _digest_of(table: ParsedTable, group: int) -> Callable[[ParsedColumn], Hashable]:
    """A function from a column to a digest of its cells in a group of rows."""

    def digest(column: ParsedColumn) -> bytes:
        read = table.codes if column.type.kind == "category" else table.numbers
        return hashlib.blake2b(read(group, column).data, digest_size=16).digest()

    return digest


def _sets_alike(
    columns: Sequence[ParsedColumn], key: Callable[[ParsedColumn], Hashable]
) -> list[list[ParsedColumn]]:
    """The columns whose keys are equal, where there are two or more."""
    sets = defaultdict(list)
    for column in columns:
        sets[key(column)].append(column)
    return [each for each in sets.values() if len(each) > 1]


# -- values that stand for none -------------------------------------------------------------------


def _sentinels(table: ParsedTable) -> Iterable[Finding]:
    """Values such as 999 that stand far off all others."""
    for column in table.columns:
        low, high = column.minimum, column.maximum
        if column.kind != "number" or low is None or high is None or low == high:
            continue
        if low in SENTINELS or high in SENTINELS:
            suspects = [value for value in SENTINELS if low <= value <= high]
            yield from _sentinels_of(table, column, suspects)


def _sentinels_of(
    table: ParsedTable, column: ParsedColumn, suspects: Sequence[float]
) -> Iterable[Finding]:
    low, high, count = np.inf, -np.inf, dict.fromkeys(suspects, 0)
    for group in table.groups:
        values = table.numbers(group, column)
        hits = np.zeros(len(values), bool)
        for value in suspects:
            hit = values == value
            count[value] += int(hit.sum())
            hits |= hit
        rest = values[~hits]
        low = float(np.fmin.reduce(rest, initial=low))
        high = float(np.fmax.reduce(rest, initial=high))
    if low > high:
        return
    spread = max(high - low, abs(high), 1e-12)
    for value, cells in count.items():
        if cells and (value > high + 0.5 * spread or value < low - 0.5 * spread):
            yield Finding(
                "sentinel",
                (column.name,),
                f"Column {column.name!r} holds {value:g} in {_cells(cells)}, far from its other "
                f"values ({low:g} to {high:g}): it may stand for a missing value.",
            )


def _cells(count: int) -> str:
    return "1 cell" if count == 1 else f"{count} cells"


def _all(rows: int) -> str:
    return "the only row" if rows == 1 else f"all {rows} rows"
