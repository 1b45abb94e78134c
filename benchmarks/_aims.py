"""What was aimed at, what was reached, and what the limit is where it was not."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regatta.benchmarks._exact import LARGER, ONE, PEER, TWO, ExactResults, Key

if TYPE_CHECKING:
    from regatta.benchmarks.compare import Results


@dataclass(frozen=True)
class Aim:
    """One figure that was to be reached, or (no ``aim``) stands beside one that was.

    ``at_most`` says whether less is better, ``is_speed`` whether it is how many times faster than
    a peer Regatta is; ``limit`` is what to say when it was missed.
    """

    job: str
    peer: str
    measured: float
    aim: float | None
    limit: str
    at_most: bool = False
    unit: str = " ×"
    is_speed: bool = False

    @property
    def reached(self) -> bool:
        if self.aim is None:
            return True
        return self.measured <= self.aim if self.at_most else self.measured >= self.aim

    def shown(self, value: float) -> str:
        return f"{value:.3g}{self.unit}"

    @property
    def bound(self) -> str:
        """The aim in words."""
        if self.aim is None:
            return "none"
        return f"{self.shown(self.aim)} or {'less' if self.at_most else 'more'}"


def aims(results: Results) -> list[Aim]:
    """Those that were measured."""
    found: list[Aim | None] = []
    if results.exact is not None:
        exact = results.exact
        found += [*in_memory(exact), *from_csv(exact), agreement(exact), *scaling(exact)]
    if results.steps:
        found += steps(results)
    return [each for each in found if each is not None]


def in_memory(results: ExactResults) -> list[Aim | None]:
    size = results.size
    narrow, wide = f"{size.rows:,} × 30", f"{size.wide_rows:,} × {size.wide_features:,}"
    lasso, ridge = "LassoCV(cv=5, n_jobs=2)", "RidgeCV(cv=5), the same 100 alphas"
    return [
        speed(results, "lasso", f"{narrow} in memory → lasso path", lasso, 50.0),
        speed(results, "ridge", f"{narrow} in memory → ridge path", ridge, 200.0),
        speed(results, "wide", f"{wide} in memory → lasso path", lasso, 10.0),
    ]


def from_csv(results: ExactResults) -> list[Aim | None]:
    reader, text = results.reader, f"{results.csv_bytes / 1e6:.0f} MB of CSV"
    return [
        speed(results, "csv lasso", f"{text} → lasso path", f"{reader} + LassoCV", 5.0),
        memory(results, "csv lasso", f"the same, memory: {reader} + LassoCV holds", 8.0),
        scan(results),
        speed(results, "csv ridge", f"{text} → ridge", f"{reader} + Ridge", 1.4),
        memory(results, "csv ridge", f"the same, memory: {reader} + Ridge holds", 5.0),
    ]


def scan(results: ExactResults) -> Aim | None:
    """Regatta's time over that of the reader, here: more is worse."""
    key = ("csv lasso", TWO)
    ratio = results.ratio(key, ("csv scan", PEER))
    if ratio is None:
        return None
    job = f"its time over that of {results.reader} adding up the columns"
    return Aim(job, f"{results.reader}, a scan", ratio, 1.5, limit(results, key), at_most=True)


def agreement(results: ExactResults) -> Aim | None:
    found = results.agreement
    if found is None:
        return None
    alpha = "the same alpha" if found.same_alpha else "another alpha"
    why = f"alpha {found.alpha!r} was chosen, and {found.alpha_of_peer!r} by LassoCV."
    # Coefficients at different alphas say nothing.
    difference = found.difference if found.same_alpha else 1.0
    return Aim(f"largest difference of a coefficient, {alpha}", "LassoCV(tol=1e-10)", difference,
               1e-8, why, at_most=True, unit="")  # fmt: skip


def scaling(results: ExactResults) -> list[Aim | None]:
    usual, larger = ("csv lasso", TWO), ("larger csv", TWO)
    times = f"a CSV {LARGER} times larger"
    held = f"{megabytes(results, larger)} after {megabytes(results, usual)}."
    both = f"{limit(results, usual)} The larger file: {limit(results, larger)}"
    found = [
        ("two workers against one: statistics", "1 worker", 1.8, False, speed_of_passes(results),
         results.ratio(("statistics", ONE), ("statistics", TWO))),
        ("two workers against one: CSV → lasso path", "1 worker", 1.6, False,
         f"{limit(results, usual)} With one: {limit(results, ('csv lasso', ONE))}",
         results.ratio(("csv lasso", ONE), usual)),
        (f"{times}: time", "the file itself", 1.1 * LARGER, True, both,
         ratio_of_medians(results, larger, usual)),
        (f"{times}: peak memory", "the file itself", 1.1, True, held,
         results.memory_ratio(larger, usual)),
    ]  # fmt: skip
    return [
        Aim(job, peer, ratio, aim, why, at_most)
        for job, peer, aim, at_most, why, ratio in found
        if ratio is not None
    ]


def steps(results: Results) -> list[Aim | None]:
    """Whole runs with the better of the two batches, as a user would choose it; beside them, what
    SGDRegressor takes where someone who knows the optimum stops it within its epoch."""
    fits = [
        (ratio, batch)
        for batch in (1024, 8192)
        if (ratio := results.whole_ratio("times", "sklearn", batch)) is not None
    ]
    if not fits:
        return []
    ratio, batch = max(fits)
    job = f"SGD to a gap of 1e-4, {results.n_rows:,} × 30"
    ours, theirs = (results.epochs.get(key, 0) for key in (("regatta-2", batch), ("sklearn", 1024)))
    found: list[Aim | None] = [
        Aim(f"{job}, batch {batch:,}, epochs: {ours}",
            f"SGDRegressor(average=True, max_iter={theirs}).fit", ratio, 15.0,
            slow_steps(results, batch), is_speed=True)
    ]  # fmt: skip
    stopped = results.whole_ratio("stopped", "sklearn", batch)
    if stopped is not None:
        peer = "SGDRegressor(average=True).partial_fit on slices"
        found.append(Aim("the same, both stopped where the optimum tells", peer, stopped, None, ""))
    return found


def slow_steps(results: Results, batch: int) -> str:
    ours, theirs = (
        statistics.median(results.times[key]) for key in (("regatta-2", batch), ("sklearn", 1024))
    )
    return (
        f"{ours:.2g} s beside {theirs:.2g} s. A step of two workers waits for both of them; the "
        "tables below have the other batch sizes, one worker and one process."
    )


def speed(results: ExactResults, job: str, text: str, peer: str, aim: float) -> Aim | None:
    ratio = results.ratio((job, PEER), (job, TWO))
    if ratio is None:
        return None
    return Aim(text, peer, ratio, aim, limit(results, (job, TWO)), is_speed=True)


def memory(results: ExactResults, job: str, text: str, aim: float) -> Aim | None:
    ratio = results.memory_ratio((job, PEER), (job, TWO))
    if ratio is None:
        return None
    held = f"{megabytes(results, (job, TWO))} beside {megabytes(results, (job, PEER))}."
    return Aim(text, "the whole process tree", ratio, aim, held)


# --- limits, from what was measured ---------------------------------------------------------------


def ratio_of_medians(results: ExactResults, over: Key, under: Key) -> float | None:
    """Where the two were not measured in the same turns."""
    if over not in results.seconds or under not in results.seconds:
        return None
    return statistics.median(results.seconds[over]) / statistics.median(results.seconds[under])


def limit(results: ExactResults, key: Key) -> str:
    """``0.31 s, most of it pass: …`` And what reading a file takes beside a reader."""
    if not results.parts.get(key):
        return ""
    parts = {name: results.part(key, name) or 0.0 for name in results.parts[key][0]}
    most = max(parts, key=lambda name: parts[name])
    shares = ", ".join(f"{name} {seconds:.2g} s" for name, seconds in parts.items())
    whole = statistics.median(results.seconds[key])
    said = [f"{whole:.2g} s, most of it {most} ({shares})."]
    imports, reading = results.part(key, "import"), results.part((key[0], PEER), "read")
    if imports and reading:
        said.append(
            f"{results.reader} reads the file in {reading:.2g} s; the import, "
            f"{results.csv_bytes / imports / 1e6:.0f} MB/s, also checks every cell, hashes every "
            "row and writes typed columns."
        )
    return " ".join(said)


def speed_of_passes(results: ExactResults) -> str:
    """What a pass reads and computes a second, with one worker and with two."""
    rows, width, said = results.size.rows, 32, []
    for name, words in ((ONE, "one worker"), (TWO, "two workers")):
        if ("statistics", name) not in results.seconds:
            continue
        seconds = statistics.median(results.seconds["statistics", name])
        said.append(
            f"{words}: {8 * rows * width / seconds / 1e9:.1f} GB/s read and "
            f"{2 * rows * width**2 / seconds / 1e9:.0f} GFLOP/s"
        )
    return "; ".join(said) + "."


def megabytes(results: ExactResults, key: Key) -> str:
    return f"{results.memory.get(key, 0) / 1e6:.0f} MB"
