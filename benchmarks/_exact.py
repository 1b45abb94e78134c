"""Measures the exact solver beside its peers: in memory, from a CSV file, and how it scales.

A job is measured in turns, Regatta and its peer one after the other; slow peers in fewer turns
than Regatta, and a ratio is then taken within the turns that both have.
"""

from __future__ import annotations

import importlib.util
import shutil
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regatta.benchmarks._csv_jobs import READERS
from regatta.benchmarks._data import Recipe, write_csv, write_prepared
from regatta.benchmarks._processes import ContenderProcess, run_measured

MODULE = "_exact_contenders"
TWO, ONE, PEER = "regatta-2", "regatta-1", "sklearn"
LARGER = 4
TIGHT = 1e-10
# Room for the larger file, its columns and its rows, relative to the file.
DISK_SHARE = 5


@dataclass(frozen=True)
class Size:
    """How much is measured, and how often."""

    rows: int
    wide_rows: int
    wide_features: int
    turns: int
    lasso_turns: int
    wide_turns: int
    csv_turns: int


FULL = Size(2_000_000, 100_000, 1000, turns=5, lasso_turns=3, wide_turns=2, csv_turns=3)
QUICK = Size(20_000, 4000, 100, turns=2, lasso_turns=1, wide_turns=1, csv_turns=1)

Key = tuple[str, str]  # job, contender


@dataclass(frozen=True)
class Agreement:
    """Coefficients in memory beside those of LassoCV with the same folds and a tight tolerance.

    ``difference`` is the largest of any coefficient, relative to the largest coefficient.
    """

    difference: float
    alpha: float
    alpha_of_peer: float

    @property
    def same_alpha(self) -> bool:
        """The grids are computed differently, so to rounding."""
        return abs(self.alpha - self.alpha_of_peer) <= 1e-9 * self.alpha


@dataclass
class ExactResults:
    """Everything that was measured, by job and contender; lists hold one value a turn."""

    size: Size
    reader: str = ""
    csv_bytes: int = 0
    seconds: dict[Key, list[float]] = field(default_factory=dict)
    parts: dict[Key, list[dict[str, float]]] = field(default_factory=dict)
    memory: dict[Key, int] = field(default_factory=dict)
    start_seconds: dict[str, float] = field(default_factory=dict)
    agreement: Agreement | None = None
    failures: list[str] = field(default_factory=list)

    def add(self, job: str, contender: str, answer: dict[str, Any], peak: int = 0) -> None:
        """One measurement."""
        key = (job, contender)
        self.seconds.setdefault(key, []).append(answer["seconds"])
        if "parts" in answer:
            self.parts.setdefault(key, []).append(answer["parts"])
        self.memory[key] = max(peak, self.memory.get(key, 0))

    def ratio(self, over: Key, under: Key) -> float | None:
        """Median over the turns that both have of the ratio within a turn."""
        if over not in self.seconds or under not in self.seconds:
            return None
        pairs = zip(self.seconds[over], self.seconds[under], strict=False)
        return statistics.median(a / b for a, b in pairs)

    def memory_ratio(self, over: Key, under: Key) -> float | None:
        """Of peak memory."""
        if not self.memory.get(over) or not self.memory.get(under):
            return None
        return self.memory[over] / self.memory[under]

    def part(self, key: Key, name: str) -> float | None:
        """Median seconds of a part of a job."""
        found = [parts[name] for parts in self.parts.get(key, []) if name in parts]
        return statistics.median(found) if found else None

    @contextmanager
    def surviving(self, what: str) -> Iterator[None]:
        """A contender that dies (of want of memory, say) costs its own figures only."""
        try:
            yield
        except RuntimeError as error:
            self.failures.append(f"{what}: {error}")
            say(f"{what} was not measured: {error}")


def measure(results: ExactResults, folder: Path, csv: Path) -> None:
    """Fill ``results``; ``csv`` is the file of ``results.size.rows`` rows of `Recipe`."""
    results.reader = fastest_reader(csv, folder)
    results.csv_bytes = csv.stat().st_size
    size = results.size
    narrow, wide = folder / "narrow", folder / "wide"
    say(f"Generating {size.rows:,} prepared rows")
    write_prepared(narrow, Recipe(), size.rows)
    with results.surviving("In memory"):
        measure_narrow(results, narrow)
    shutil.rmtree(narrow)
    write_prepared(wide, Recipe(size.wide_features, seed=2), size.wide_rows)
    with results.surviving("Many features"):
        measure_wide(results, wide)
    shutil.rmtree(wide)
    for turn in range(size.csv_turns):
        say(f"CSV to coefficients: turn {turn + 1} of {size.csv_turns}")
        with results.surviving("CSV to coefficients"):
            measure_csv(results, csv, folder)
    with results.surviving("A larger file"):
        measure_larger(results, folder)


def measure_narrow(results: ExactResults, folder: Path) -> None:
    with (
        ContenderProcess(ONE, folder, MODULE) as one,
        ContenderProcess(TWO, folder, MODULE) as two,
        ContenderProcess(PEER, folder, MODULE) as peer,
    ):
        for each in (one, two):
            results.start_seconds[each.name] = each.ask(do="start_seconds")["seconds"]
        for turn in range(results.size.turns):
            say(f"In memory: turn {turn + 1} of {results.size.turns}")
            for each in (one, two):
                results.add("statistics", each.name, each.ask(do="statistics"))
            fit(results, "lasso", two, do="fit", model="lasso")
            if turn < results.size.lasso_turns:
                fit(results, "lasso", peer, do="lasso")
            ridge = fit(results, "ridge", two, do="fit", model="ridge")
            if turn == 0:
                say("RidgeCV: some minutes")
                fit(results, "ridge", peer, do="ridge", alphas=ridge["alphas"])
                order = "ridge_leaving_one_out"
                fit(results, order, peer, do=order, alphas=ridge["alphas"][::10])
        ours = two.ask(do="fit", model="lasso")
        results.agreement = agreement(ours, peer.ask(do="precise_lasso", tol=TIGHT))


def fit(
    results: ExactResults, job: str, contender: ContenderProcess, **order: Any
) -> dict[str, Any]:
    answer, peak = contender.ask_measured(**order)
    results.add(job, contender.name, answer, peak)
    return answer


def agreement(ours: dict[str, Any], theirs: dict[str, Any]) -> Agreement:
    pairs = zip(ours["coefficients"], theirs["coefficients"], strict=True)
    apart = max(abs(a - b) for a, b in pairs)
    largest = max(abs(b) for b in theirs["coefficients"])
    return Agreement(apart / largest, ours["alpha"], theirs["alpha"])


def measure_wide(results: ExactResults, folder: Path) -> None:
    with (
        ContenderProcess(TWO, folder, MODULE) as two,
        ContenderProcess(PEER, folder, MODULE) as peer,
    ):
        for turn in range(results.size.wide_turns):
            say(f"Many features: turn {turn + 1} of {results.size.wide_turns}")
            fit(results, "wide", two, do="fit", model="lasso")
            fit(results, "wide", peer, do="lasso")


def measure_csv(results: ExactResults, csv: Path, folder: Path) -> None:
    """A turn of everything that begins with the file."""
    for what in ("lasso", "ridge"):
        regatta(results, f"csv {what}", what, csv, folder)
        run(results, f"csv {what}", PEER, [results.reader, what, str(csv)], folder)
    run(results, "csv scan", PEER, [results.reader, "scan", str(csv)], folder)
    regatta(results, "csv lasso", "lasso", csv, folder, processes=1)


def measure_larger(results: ExactResults, folder: Path) -> None:
    needed = LARGER * DISK_SHARE * results.csv_bytes
    if shutil.disk_usage(folder).free < needed:
        raise RuntimeError(f"it needs {needed / 1e9:.0f} GB of disk.")
    csv = folder / "larger.csv"
    say(f"Generating a file of {LARGER * results.size.rows:,} rows")
    write_csv(Recipe(), LARGER * results.size.rows, csv)
    regatta(results, "larger csv", "lasso", csv, folder)
    csv.unlink()


def regatta(
    results: ExactResults, job: str, what: str, csv: Path, folder: Path, processes: int = 2
) -> None:
    words = ["regatta", what, str(csv)]
    run(results, job, f"regatta-{processes}", words, folder, processes)


def run(
    results: ExactResults,
    job: str,
    contender: str,
    words: Sequence[str],
    folder: Path,
    processes: int = 2,
) -> None:
    """One job of `_csv_jobs` in a process of its own, with an empty home."""
    answer, peak = done_by(words, folder, processes)
    results.add(job, contender, answer, peak)


def done_by(words: Sequence[str], folder: Path, processes: int = 2) -> tuple[dict[str, Any], int]:
    home = folder / "emptied home"
    module = ["-m", "regatta.benchmarks._csv_jobs"]
    try:
        return run_measured(*module, *words, str(processes), home=home)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def fastest_reader(csv: Path, folder: Path) -> str:
    """Of those that scikit-learn can be put behind the one that adds up the columns soonest."""
    names = [name for name in READERS if importlib.util.find_spec(name)]
    seconds = {name: done_by([name, "scan", str(csv)], folder)[0]["seconds"] for name in names}
    return min(names, key=seconds.__getitem__)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
