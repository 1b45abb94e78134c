"""Regatta beside scikit-learn, PyTorch and readers of CSV: speed, memory, agreement.

    regatta bench            about eleven minutes; writes docs/benchmarks.md and its picture
    regatta bench --quick    a minute, prints only
    regatta bench --only exact        or steps: the exact solver, or the parameter server; the other
                                      part of the page stays as it was measured before
    regatta bench --only consistency  sync, async and local beside each other; prints only
    regatta bench --only faults       how soon each is made up for, what that costs; prints only
    regatta bench --only import       a CSV file of 5 GB beside the fastest reader; prints only

Contenders are processes that sleep while another one is measured. They take turns, so that what
else the machine does meets all of them; a ratio is taken within a turn, and its median reported.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from regatta.benchmarks import _consistency, _exact, _faults, _import, _report, _saved
from regatta.benchmarks._data import Recipe, generate, write_csv
from regatta.benchmarks._exact import ExactResults, say
from regatta.benchmarks._processes import ContenderProcess, run_measured

BATCHES = (1024, 8192, 65_536)
# What is run at which batch: DistributedDataParallel and the gap are measured at the first two.
COMPARED = BATCHES[:2]
TOLERANCE = 1e-4
# Epochs that are tried, in turn, until a run ends within the tolerance.
TRIED_EPOCHS = (1, 2, 3, 5, 8, 12, 18, 27)
# Epochs of a measurement, by contender and batch, at 2 million rows: about half a second each.
EPOCHS = {"regatta": 10, "sklearn": 1, "torch": 1}

TRAIN = (
    "import json, os, subprocess, sys\n"
    "done = subprocess.run([sys.executable, '-P', '-m', 'regatta', 'train', *sys.argv[1:],"
    " '--target', 'y', '--json'], stdout=subprocess.PIPE, check=True)\n"
    "print(done.stdout.decode())\n"
)


@dataclass
class Results:
    """Everything that was measured; lists hold one value a turn.

    ``times`` are whole runs of ``epochs``, the fewest that end within a gap of `TOLERANCE`;
    ``stopped`` is when that gap was first reached on the way. ``machines`` says what each part,
    exact or steps, was measured on.
    """

    n_rows: int
    turns: int
    steps: bool = True
    rates: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    epochs: dict[tuple[str, int], int] = field(default_factory=dict)
    times: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    stopped: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    read_speed: dict[str, list[float]] = field(default_factory=dict)
    read_memory: dict[str, int] = field(default_factory=dict)
    csv_bytes: int = 0
    whole_runs: dict[int, dict[str, Any]] = field(default_factory=dict)
    exact: ExactResults | None = None
    machines: dict[str, str] = field(default_factory=dict)

    def ratio(self, table: str, over: tuple[str, int], under: tuple[str, int]) -> float | None:
        """Median over turns of a ratio within a turn; ``None`` where one was not measured."""
        values: dict[tuple[str, int], list[float]] = getattr(self, table)
        if over not in values or under not in values:
            return None
        pairs = zip(values[over], values[under], strict=True)
        return statistics.median(a / b for a, b in pairs)

    def whole_ratio(self, table: str, peer: str, batch: int) -> float | None:
        """`ratio` of a peer over two workers, where both did it in every turn."""
        over, under = (peer, BATCHES[0] if peer == "sklearn" else batch), ("regatta-2", batch)
        values = getattr(self, table)
        if any(len(values.get(key, ())) != self.turns for key in (over, under)):
            return None
        return self.ratio(table, over, under)


def make_parser() -> argparse.ArgumentParser:
    """What may be typed after ``regatta bench``."""
    parser = argparse.ArgumentParser(prog="regatta bench", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rows and turns; prints only")
    parser.add_argument("--rows", type=int, help="rows of the generated data")
    parser.add_argument("--turns", type=int, help="measurements of each contender")
    parser.add_argument(
        "--only",
        choices=("steps", "exact", "consistency", "faults", "import"),
        help="leave the other parts out",
    )
    parser.add_argument("--output", type=Path, help="folder for benchmarks.md (default: docs)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = make_parser().parse_args(arguments)
    if chosen.only == "consistency":
        n_rows = chosen.rows or (100_000 if chosen.quick else 500_000)
        print(_consistency.main(n_rows, chosen.turns or (1 if chosen.quick else 5)))
        return 0
    if chosen.only == "faults":
        n_rows = chosen.rows or (100_000 if chosen.quick else 500_000)
        print(_faults.main(n_rows, chosen.turns or (2 if chosen.quick else 20)))
        return 0
    if chosen.only == "import":
        n_rows = chosen.rows or (50_000 if chosen.quick else 2_000_000)
        print(_import.main(n_rows, chosen.turns or (1 if chosen.quick else 5)))
        return 0
    results = planned(chosen)
    with tempfile.TemporaryDirectory(prefix="regatta-bench-") as name:
        measure(results, Path(name))
    if chosen.quick and chosen.output is None:
        print(_report.markdown(results))
        return 0
    folder = chosen.output or Path(__file__).resolve().parent.parent / "docs"
    _saved.complete(results, folder / "benchmarks.json")
    _report.write(results, folder)
    print(f"Written: {folder / 'benchmarks.md'}", file=sys.stderr)
    return 0


def planned(chosen: argparse.Namespace) -> Results:
    """Nothing measured yet, but how much will be."""
    size = _exact.QUICK if chosen.quick else _exact.FULL
    if chosen.rows:
        size = replace(size, rows=chosen.rows)
    if chosen.turns:
        names = ("turns", "lasso_turns", "wide_turns", "csv_turns")
        size = replace(size, **dict.fromkeys(names, chosen.turns))
    n_rows = chosen.rows or (200_000 if chosen.quick else 2_000_000)
    turns = chosen.turns or (2 if chosen.quick else 5)
    results = Results(n_rows, turns, steps=chosen.only != "exact")
    if chosen.only != "steps":
        results.exact = ExactResults(size)
    parts = ("exact", "steps") if chosen.only is None else (chosen.only,)
    results.machines = dict.fromkeys(parts, _report.machine())
    return results


def measure(results: Results, folder: Path) -> None:
    """Fill ``results``."""
    if results.steps:
        say(f"Generating {results.n_rows:,} rows")
        generate(folder, results.n_rows)
        measure_training(results, folder)
    path = folder / "rows.csv"
    rows = results.n_rows if results.exact is None else results.exact.size.rows
    say(f"Writing a CSV file of {rows:,} rows")
    write_csv(Recipe(), rows, path)
    results.csv_bytes = path.stat().st_size
    measure_reading(results, path)
    if results.steps:
        measure_whole_runs(results, path, folder / "home")
        shutil.rmtree(folder / "home")
    if results.exact is not None:
        _exact.measure(results.exact, folder, path)


def measure_training(results: Results, folder: Path) -> None:
    names = ["regatta-0", "regatta-1", "regatta-2", "sklearn"]
    if importlib.util.find_spec("torch"):
        names.append("torch")
    else:
        say("PyTorch is not installed: left out (make bench installs it)")
    with contextlib.ExitStack() as stack:
        contenders = [stack.enter_context(ContenderProcess(name, folder)) for name in names]
        rate = {batch: contenders[0].ask(do="safe_rate", batch=batch)["rate"] for batch in COMPARED}
        for contender in contenders:
            contender.ask(do="run_pass", batch=8192, epochs=1)  # first touch of memory
        for turn in range(results.turns):
            say(f"Training: turn {turn + 1} of {results.turns}")
            for batch in BATCHES:
                for contender in contenders:
                    measure_rate(results, contender, batch)
            for batch in COMPARED:
                for contender in contenders:
                    measure_time(results, contender, batch, rate[batch])
        for contender in contenders:
            peak = contender.peak_bytes(do="run_pass", batch=8192, epochs=epochs_of(contender.name))
            results.memory[contender.name] = peak


def epochs_of(name: str) -> int:
    return EPOCHS[name.split("-")[0]]


def measure_rate(results: Results, contender: ContenderProcess, batch: int) -> None:
    if contender.name == "sklearn" and batch != BATCHES[0]:
        return  # it takes one row a step
    done = contender.ask(do="run_pass", batch=batch, epochs=epochs_of(contender.name))
    speed = done["rows"] / done["seconds"]
    results.rates.setdefault((contender.name, batch), []).append(speed)


def measure_time(results: Results, contender: ContenderProcess, batch: int, rate: float) -> None:
    key = (contender.name, batch)
    if contender.name == "sklearn" and batch != BATCHES[0]:
        return
    order = {"do": "converge", "batch": batch, "rate": rate, "tolerance": TOLERANCE}
    if key not in results.epochs:
        results.epochs[key] = fewest_epochs(contender, order)
    done = contender.ask(**order, epochs=results.epochs[key])
    if done["gap"] > TOLERANCE:
        say(f"{contender.name} ended at a gap of {done['gap']:.1e} with batch {batch}")
        return
    results.times.setdefault(key, []).append(done["seconds"])
    if done["until"] is not None:
        results.stopped.setdefault(key, []).append(done["until"])


def fewest_epochs(contender: ContenderProcess, order: dict[str, Any]) -> int:
    """Of `TRIED_EPOCHS`, those after which a run ends within the tolerance."""
    for epochs in TRIED_EPOCHS[:-1]:
        if contender.ask(**order, epochs=epochs)["gap"] <= TOLERANCE:
            return epochs
    return TRIED_EPOCHS[-1]


def measure_reading(results: Results, path: Path) -> None:
    """CSV to columns."""
    found = _import.measure(path, "numbers", _import.readers(), min(results.turns, 3))
    for name, seconds in found.seconds.items():
        results.read_speed[name] = [found.size / each for each in seconds]
    results.read_memory.update(found.memory)


def measure_whole_runs(results: Results, path: Path, home: Path) -> None:
    """``regatta train`` from the file to the model, first with an empty home."""
    for batch in COMPARED:
        say(f"regatta train, batch {batch:,}")
        words = [str(path), "--solver", "sgd", "--batch-size", str(batch), "--epochs", "40"]
        result, peak = run_measured("-c", TRAIN, *words, "--tol", "0", "--workers", "2", home=home)
        results.whole_runs[batch] = {
            "rows_per_second": result["rows_per_second"],
            "seconds": result["seconds"],
            "memory": peak,
        }


if __name__ == "__main__":
    sys.exit(main())
