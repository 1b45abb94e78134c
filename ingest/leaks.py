"""What is worth knowing about a target: that it is skewed, or that other columns give it away.

    evenly spaced rows ──▶ suspects: one column, or a sum of two ──▶ checked on all rows ──▶ told

What holds for all rows holds for some of them, so the search costs little, whatever the file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from regatta.ingest.table import Finding, ParsedColumn, ParsedTable

SAMPLE_ROWS = 2_000
SAMPLE_CELLS = 1_000_000
# So many columns are looked at together.
BLOCK_COLUMNS = 500
LEAST_ROWS = 20
FEWEST_ROWS = 5  # for one column
# A column is told from this correlation on, a sum of two from this share of the variance.
LEAK_CORRELATION = 0.9999
SUM_SHARE = 1 - 1e-6
# In the sample, somewhat less makes a suspect.
SUSPECT_CORRELATION = 0.999
MAX_SUMMED_COLUMNS = 200
MAX_SUMS_TOLD = 3
SEVERE_SKEW = 2.0
LEAST_LEVELS = 10
# Relative to the spread of the target: what counts as equal.
SAME = 1e-6

FloatArray = npt.NDArray[np.float64]


def about_target(
    table: ParsedTable, target: ParsedColumn, left_out: Collection[str] = ()
) -> list[Finding]:
    """Findings on a target: severe skew, and the columns that give it away, alone or summed."""
    columns = [
        each
        for each in table.columns
        if each.index != target.index
        and each.kind in ("number", "boolean")
        and not each.refused
        and each.name not in left_out
        and each.minimum != each.maximum
    ]
    found = _skew(table, target)
    alone = _alone(table, columns, target)
    rest = [each for each in columns if each.name not in {f.columns[0] for f in alone}]
    return [*found, *alone, *_sums(table, rest, target)]


# -- skew -----------------------------------------------------------------------------------------


def _skew(table: ParsedTable, target: ParsedColumn) -> list[Finding]:
    """Whether a few far values weigh most in squared errors."""
    count, mean = 0, 0.0
    for values in _present(table, target):
        count += len(values)
        mean += float((values - mean).sum()) / count if count else 0.0
    if count < LEAST_ROWS or target.minimum is None or target.maximum is None:
        return []
    second = third = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for values in _present(table, target):
            away = (values - mean) / (target.maximum - target.minimum or 1.0)
            squares = away * away
            second += float(squares.sum())
            third += float(squares @ away)
    if not second > 0:
        return []
    skewness = third / count / (second / count) ** 1.5
    if not abs(skewness) > SEVERE_SKEW or _levels_in_sample(table, target) < LEAST_LEVELS:
        return []
    said = (
        f"The target {target.name!r} is skewed: skewness {skewness:.1f}, mean {mean:,.6g}, values "
        f"from {target.minimum:,.6g} to {target.maximum:,.6g}. "
    )
    if skewness > 0 and target.minimum > 0:
        said += "Its logarithm may be easier to predict."
    elif skewness > 0 and target.minimum == 0:
        said += "The logarithm of 1 + it may be easier to predict."
    else:
        said += "A few rows far from the others weigh most in its errors."
    return [Finding("skew", (target.name,), said)]


def _present(table: ParsedTable, column: ParsedColumn) -> Iterator[FloatArray]:
    for group in table.groups:
        values = table.numbers(group, column)
        yield values[~np.isnan(values)] if column.missing else values


def _levels_in_sample(table: ParsedTable, column: ParsedColumn) -> int:
    values = _sample(table, [column])[0]
    return len(np.unique(values[~np.isnan(values)]))


def _sample(table: ParsedTable, columns: Sequence[ParsedColumn]) -> FloatArray:
    """Evenly spaced rows of some columns: (n_columns, n_rows)."""
    rows = max(LEAST_ROWS, min(SAMPLE_ROWS, SAMPLE_CELLS // len(columns)))
    step = -(-table.rows // rows)
    parts = []
    seen = 0
    for group, count in zip(table.groups, table.group_rows, strict=True):
        start = -seen % step
        seen += count
        part = np.empty((len(columns), len(range(start, count, step))))
        for place, column in enumerate(columns):
            part[place] = table.numbers(group, column)[start::step]
        parts.append(part)
    return np.concatenate(parts, axis=1)


# -- one column -----------------------------------------------------------------------------------


def _alone(
    table: ParsedTable, columns: Sequence[ParsedColumn], target: ParsedColumn
) -> list[Finding]:
    """Columns that are all but the target in other units."""
    found = []
    for start in range(0, len(columns), BLOCK_COLUMNS):
        block = columns[start : start + BLOCK_COLUMNS]
        close = np.abs(correlations(_sample(table, [*block, target]))) > SUSPECT_CORRELATION
        for place in np.flatnonzero(close).tolist():
            found += _checked(table, (block[place],), target)
    return found


def correlations(sample: FloatArray) -> FloatArray:
    """Of columns, (n_columns + 1, n_rows), with the last: over the rows that have both.

    0 where they are too few to tell.
    """
    sample = sample[:, ~np.isnan(sample[-1])]
    present = ~np.isnan(sample[:-1])
    with np.errstate(all="ignore"):
        count = present.sum(axis=1)
        x = np.where(present, sample[:-1], 0.0)
        y = np.where(present, sample[-1], 0.0)
        x -= present * (x.sum(axis=1) / count)[:, None]
        y -= present * (y.sum(axis=1) / count)[:, None]
        spread = np.sqrt((x * x).sum(axis=1)) * np.sqrt((y * y).sum(axis=1))
        found = (x * y).sum(axis=1) / spread
    return np.where((count >= FEWEST_ROWS) & np.isfinite(found), found, 0.0)


# -- two columns ----------------------------------------------------------------------------------


def _sums(
    table: ParsedTable, columns: Sequence[ParsedColumn], target: ParsedColumn
) -> list[Finding]:
    """Pairs of columns of which a weighted sum is the target."""
    if len(columns) > MAX_SUMMED_COLUMNS:
        strength = np.concatenate(
            [
                np.abs(correlations(_sample(table, [*columns[at : at + BLOCK_COLUMNS], target])))
                for at in range(0, len(columns), BLOCK_COLUMNS)
            ]
        )
        strongest = np.argsort(-strength, kind="stable")[:MAX_SUMMED_COLUMNS]
        columns = [columns[place] for place in sorted(strongest.tolist())]
    if len(columns) < 2:
        return []
    share = shares_of_pairs(_sample(table, [*columns, target]))
    first, second = np.nonzero(np.triu(share, 1) > SUM_SHARE)
    order = np.argsort(-share[first, second], kind="stable")[: 3 * MAX_SUMS_TOLD]
    found: list[Finding] = []
    for place in order.tolist():
        pair = (columns[int(first[place])], columns[int(second[place])])
        found += _checked(table, pair, target)
    return found[:MAX_SUMS_TOLD]


def shares_of_pairs(sample: FloatArray) -> FloatArray:
    """The share of the target's variance that each pair of columns explains, by least squares.

    Parameters
    ----------
    sample : (n_columns + 1, n_rows) array
        The last row is the target. Of each pair, the rows that have both columns count.

    Returns
    -------
    (n_columns, n_columns) array
        R², 0 for pairs that say too little.
    """
    sample = sample[:, ~np.isnan(sample[-1])]
    with np.errstate(all="ignore"):
        sample = sample - np.nanmean(sample, axis=1, keepdims=True)
        sample /= np.nanstd(sample, axis=1, keepdims=True)
        present = np.isfinite(sample[:-1]).astype(np.float64)
        x = np.where(present > 0, sample[:-1], 0.0)
        y = sample[-1]
        n = present @ present.T
        sums, cross = x @ present.T, x @ x.T  # sums[i, j]: of column i over the rows of both
        of_y, with_y = (present * y) @ present.T, (x * y) @ present.T
        # Centred over the rows of each pair.
        cii = (x * x) @ present.T - sums**2 / n
        cij = cross - sums * sums.T / n
        ciy = with_y - sums * of_y / n
        cyy = (present * y * y) @ present.T - of_y**2 / n
        determinant = cii * cii.T - cij**2
        explained = (ciy**2 * cii.T - 2 * ciy * ciy.T * cij + ciy.T**2 * cii) / determinant
        share = explained / cyy
        usable = (n >= LEAST_ROWS) & (determinant > 1e-6 * cii * cii.T) & (cyy > 0)
    return np.where(usable & np.isfinite(share), share, 0.0)


# -- checked on all rows --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Fit:
    """Least squares of the target on a few columns, over all rows that have them."""

    weights: FloatArray
    intercept: float
    share: float
    rows: int


def _checked(
    table: ParsedTable, columns: Sequence[ParsedColumn], target: ParsedColumn
) -> list[Finding]:
    """The finding that columns give the target away, if all rows say so."""
    fit = _fit(table, columns, target)
    least = LEAK_CORRELATION**2 if len(columns) == 1 else SUM_SHARE
    if fit is None or fit.share < least:
        return []
    equal = _equal_rows(table, columns, target, fit)
    names = tuple(each.name for each in columns)
    if equal >= 0.5 * fit.rows:
        formula = _formula(names, fit)
        evidence = f"{target.name!r} = {formula} in {equal:,} of {fit.rows:,} rows"
    else:
        evidence = f"correlation of {np.sqrt(fit.share):.6f} over {fit.rows:,} rows"
    if len(names) == 1:
        said = f"Column {names[0]!r} gives the target {target.name!r} away ({evidence}): "
        said += "leave it out unless it is known beforehand."
        return [Finding("leak", names, said)]
    said = f"Columns {names[0]!r} and {names[1]!r} together give the target {target.name!r} away "
    said += f"({evidence}): leave one of them out unless both are known beforehand."
    return [Finding("leak", names, said, needs=2)]


def _rows_with_all(
    table: ParsedTable, columns: Sequence[ParsedColumn], target: ParsedColumn
) -> Iterator[FloatArray]:
    """Of each group the rows that have the columns and the target: (n_columns + 1, n)."""
    for group in table.groups:
        values = np.stack([table.numbers(group, each) for each in (*columns, target)])
        yield values[:, ~np.isnan(values).any(axis=0)]


def _fit(table: ParsedTable, columns: Sequence[ParsedColumn], target: ParsedColumn) -> _Fit | None:
    n, width = 0, len(columns) + 1
    shift = np.zeros((width, 1))
    for values in _rows_with_all(table, columns, target):
        if values.shape[1]:
            shift = values.mean(axis=1, keepdims=True)
            break
    sums, products = np.zeros(width), np.zeros((width, width))
    with np.errstate(over="ignore", invalid="ignore"):
        for values in _rows_with_all(table, columns, target):
            values = values - shift
            n += values.shape[1]
            sums += values.sum(axis=1)
            products += values @ values.T
        if n < 3:
            return None
        centred = products - np.outer(sums, sums) / n
    if not np.isfinite(centred).all() or not (np.diagonal(centred) > 0).all():
        return None
    scale = np.sqrt(np.diagonal(centred))
    scaled = centred / np.outer(scale, scale)
    weights = np.linalg.lstsq(scaled[:-1, :-1], scaled[:-1, -1])[0]
    share = float(weights @ scaled[:-1, -1])
    weights = weights * scale[-1] / scale[:-1]
    means = shift[:, 0] + sums / n
    return _Fit(weights, float(means[-1] - weights @ means[:-1]), share, n)


def _equal_rows(
    table: ParsedTable, columns: Sequence[ParsedColumn], target: ParsedColumn, fit: _Fit
) -> int:
    """The rows in which the fit gives the target to the last digits that count."""
    assert target.minimum is not None
    assert target.maximum is not None
    room = SAME * (target.maximum - target.minimum)
    equal = 0
    for values in _rows_with_all(table, columns, target):
        residual = fit.weights @ values[:-1] + fit.intercept - values[-1]
        equal += int((np.abs(residual) <= room).sum())
    return equal


def _formula(names: Sequence[str], fit: _Fit) -> str:
    """``2 × 'a' - 'b' + 1``."""
    size = float(np.abs(fit.weights).max())
    terms = [(_rounded(float(w), size), repr(name)) for w, name in zip(fit.weights, names,
                                                                     strict=True)]  # fmt: skip
    text = ""
    for weight, name in terms:
        sign = "-" if weight < 0 else "+"
        factor = "" if abs(weight) == 1 else f"{abs(weight):.6g} × "
        text += f" {sign} {factor}{name}" if text else f"{'-' if weight < 0 else ''}{factor}{name}"
    intercept = _rounded(fit.intercept, max(abs(fit.intercept), 1.0))
    return text + (f" {'-' if intercept < 0 else '+'} {abs(intercept):.6g}" if intercept else "")


def _rounded(value: float, size: float) -> float:
    """A value that is all but a whole number, as that."""
    return float(round(value)) if abs(value - round(value)) <= SAME * size else value
