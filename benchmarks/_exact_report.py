"""The exact solver's part of the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regatta.benchmarks._aims import aims
from regatta.benchmarks._exact import LARGER, ONE, PEER, TWO, ExactResults, Key
from regatta.benchmarks._tables import as_table, spread

if TYPE_CHECKING:
    from regatta.benchmarks.compare import Results

AIMS = """\
## Aims

A ratio is how many times longer the peer takes, or how many times more memory it holds, unless the
line says otherwise.
"""
MISSED = "Missed, and where the time or the memory goes:\n"
MEMORY = """\
## Exact, in memory

100 alphas, five folds: every fit of cross-validation, the path on all rows, and the model at the
best alpha. {rows:,} × 30 and {wide_rows:,} × {wide_features:,}, float64. Regatta's rows lie in a
file in the page cache, mapped by its workers; scikit-learn's in an array of its own, which counts
as its memory, and mapped files do not. All have two threads: Regatta's two workers have one each,
`LassoCV` and `RidgeCV` fit two at once (`RidgeCV` by joblib's threads, it has no `n_jobs`).
Not timed: loading the rows, imports, and the start of Regatta's workers ({start}).
"""
CSV = """\
## Exact, from a CSV file

{megabytes:.0f} MB: {rows:,} rows of 30 features and a target, in a new process and with nothing
kept from before; the start of Python and its imports are not timed. Regatta imports the file into
typed columns, marks the rows of training and of each fold, starts its workers, makes the rows of
those columns a page at a time in one pass over them, in float64, and solves. Its peers read with
{reader}, the fastest here, and fit at once: they neither check the cells nor hash the rows, and
nothing is left for the next fit.
"""
NARROW = (
    ("lasso", TWO, "Regatta, lasso path"),
    ("lasso", PEER, "LassoCV(cv=5, n_jobs=2)"),
    ("ridge", TWO, "Regatta, ridge path"),
    ("ridge", PEER, "RidgeCV(cv=5)"),
    ("ridge_leaving_one_out", PEER, "RidgeCV(), leaving one row out, 10 of the alphas"),
    ("wide", TWO, "Regatta, lasso path, many features"),
    ("wide", PEER, "LassoCV(cv=5, n_jobs=2), many features"),
    ("statistics", TWO, "Regatta, the pass alone, 2 workers"),
    ("statistics", ONE, "Regatta, the pass alone, 1 worker"),
)
FROM_CSV = (
    ("csv lasso", TWO, "Regatta, lasso path"),
    ("csv lasso", ONE, "Regatta, lasso path, 1 process"),
    ("csv lasso", PEER, "{reader} + LassoCV"),
    ("csv ridge", TWO, "Regatta, ridge"),
    ("csv ridge", PEER, "{reader} + Ridge"),
    ("csv scan", PEER, "{reader}, sums of the columns"),
    ("larger csv", TWO, f"Regatta, lasso path, a file {LARGER} times larger"),
)


def aims_part(results: Results) -> list[str]:
    """The table of aims, and what limits those that were missed."""
    found = aims(results)
    if not found:
        return []
    rows = [
        [each.job, each.peer, each.bound, each.shown(each.measured),
         "" if each.aim is None else "reached" if each.reached else "**missed**"]
        for each in found
    ]  # fmt: skip
    missed: dict[str, list[str]] = {}
    for each in found:
        if not each.reached:
            missed.setdefault(each.limit, []).append(each.job)
    table = as_table(["job", "beside", "aim", "measured", ""], rows)
    if not missed:
        return [AIMS, table]
    told = [f"- {'; '.join(jobs)}: {limit}" for limit, jobs in missed.items()]
    return [AIMS, table, MISSED, *told, "\n"]


def exact_part(results: ExactResults) -> list[str]:
    """Tables of seconds and memory."""
    size = results.size
    start = ", ".join(
        f"{seconds:.2f} s for {name.split('-')[1]}"
        for name, seconds in results.start_seconds.items()
    )
    parts = [
        MEMORY.format(rows=size.rows, wide_rows=size.wide_rows, wide_features=size.wide_features,
                      start=start or "not measured"),
        job_table(results, NARROW),
        difference(results),
        CSV.format(megabytes=results.csv_bytes / 1e6, rows=size.rows, reader=results.reader),
        job_table(results, FROM_CSV),
    ]  # fmt: skip
    if results.failures:
        parts.append("Not measured: " + " ".join(results.failures))
    return parts


def job_table(results: ExactResults, jobs: tuple[tuple[str, str, str], ...]) -> str:
    rows = []
    for job, contender, label in jobs:
        key = (job, contender)
        if key in results.seconds:
            rows.append(
                [
                    label.format(reader=results.reader),
                    spread(results.seconds[key], 1.0),
                    str(len(results.seconds[key])),
                    f"{results.memory[key] / 1e6:.0f}" if results.memory[key] else "",
                    parts_of(results, key),
                ]
            )
    return as_table(["", "seconds", "times", "peak MB", "of which"], rows)


def parts_of(results: ExactResults, key: Key) -> str:
    names = list(results.parts[key][0]) if results.parts.get(key) else []
    if len(names) < 2:
        return ""
    return ", ".join(f"{name} {results.part(key, name):.2g}" for name in names)


def difference(results: ExactResults) -> str:
    found = results.agreement
    if found is None:
        return ""
    alphas = "the same alpha" if found.same_alpha else f"alpha {found.alpha_of_peer:.6g} there"
    return (
        f"With the same folds, `LassoCV(tol=1e-10)` chooses {alphas} ({found.alpha:.6g}); no "
        f"coefficient differs by more than {found.difference:.0e} of the largest.\n"
    )
