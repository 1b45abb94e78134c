"""What was measured, as Markdown and as a picture."""

from __future__ import annotations

import importlib.metadata
import platform
import statistics
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from regatta.benchmarks._exact_report import aims_part, exact_part
from regatta.benchmarks._picture import picture
from regatta.benchmarks._saved import save
from regatta.benchmarks._tables import as_table, spread
from regatta.utils import available_cores

if TYPE_CHECKING:
    from regatta.benchmarks.compare import Results

NAMES = {
    "regatta-0": "Regatta, in process",
    "regatta-1": "Regatta, 1 worker",
    "regatta-2": "Regatta, 2 workers",
    "sklearn": "scikit-learn SGDRegressor",
    "torch": "PyTorch DDP on gloo, 2 processes",
}
PACKAGES = ("numpy", "scikit-learn", "torch", "pandas", "pyarrow", "polars")
PICTURE = Path("images") / "benchmarks.svg"

HEAD = """\
# Benchmarks

Written by `make bench` (`regatta bench`), in about eleven minutes on two cores. Contenders take
turns and sleep while another one is measured. Figures are medians with the smallest and the
largest; a ratio is taken within a turn, then its median. On a busy machine speeds vary by a third
from minute to minute, ratios much less. `--only exact` or `--only steps` measures that part alone
and keeps the other's figures, which lie in `benchmarks.json`. Memory is what all processes of a
contender hold, anonymous and shared, sampled up to fifty times a second; what several of them share
counts once (`Pss_Anon` + `Pss_Shmem`), mapped files do not count.

{machine}
"""
STEPS = """\
## Steps

The parameter server on {rows:,} generated rows of 30 correlated features, float32, standardised;
one thread a process; {turns} turns, in each of which every contender is measured once.
"""
RATES = """\
### Rows a second

Synchronous mini-batch SGD with the same update for all but `SGDRegressor`, which takes one row a
step and is measured over an epoch. PyTorch takes slices of tensors, without a DataLoader. Million
rows a second:
"""
TIMES = """\
### Time to a relative gap of 1e-4

Whole runs that end with (loss − optimum) / optimum below 1e-4, from zero weights: each contender
takes the fewest epochs (of 1, 2, 3, 5, 8, …) that do, and is timed to their end, as a user has it.
`SGDRegressor(penalty=None, average=True).fit` has its own defaults, and its time contains its
checks of the rows. Regatta's is its solver's: it derives the learning rate, then takes all steps
along a cosine schedule. PyTorch is given that rate and takes the same schedule. Not timed, for all:
loading rows, imports, and the start of processes. Seconds, and epochs:
"""
STOPPED = """\
The same runs, stopped where a look at the gap, a hundred times a run, finds it below 1e-4. Nobody
knows the optimum beforehand, so no user has this; it tells how much of a run is there to be sure.
`SGDRegressor` is given a hundredth of the rows at a time, by `partial_fit`. Looking is not timed.
Seconds:
"""
MEMORY = """\
### Memory

The most that is held while training at batch 8,192. PyTorch holds the rows as tensors, the others
read them from a mapped file.
"""
READING = """\
## Reading CSV

{megabytes:.0f} MB of numbers into columns, each reader in a process of its own with two
threads. Regatta leaves typed, checked columns on disk and reads the file once; the others leave a
table in memory.
"""
WHOLE = """\
### Whole runs

`regatta train --solver sgd` on that file, from the CSV to the written model, 40 epochs, 2 workers,
with metrics, checkpoints and evaluations. The second run finds the columns that the first one read.
"""


def write(results: Results, folder: Path) -> None:
    """``benchmarks.md`` in ``folder``, the picture, and the figures of both."""
    (folder / PICTURE).parent.mkdir(parents=True, exist_ok=True)
    (folder / PICTURE).write_text(picture(results, NAMES), encoding="utf-8")
    words = "How many times faster than its peers Regatta is, and rows a second"
    shown = f"![{words}, on logarithmic axes]({PICTURE.as_posix()})\n"
    (folder / "benchmarks.md").write_text(markdown(results, shown), encoding="utf-8")
    save(results, folder / "benchmarks.json")


def markdown(results: Results, shown: str = "") -> str:
    parts = [HEAD.format(machine=machines(results)), *aims_part(results), shown]
    if results.exact is not None:
        parts += exact_part(results.exact)
    if results.read_speed:
        parts += [READING.format(megabytes=results.csv_bytes / 1e6), reading_table(results)]
    if results.steps:
        parts += steps_part(results)
    return "\n".join(part for part in parts if part)


def steps_part(results: Results) -> list[str]:
    parts = [STEPS.format(rows=results.n_rows, turns=results.turns)]
    parts += [RATES, contender_table(results, "rates", 1e-6), rate_ratios(results)]
    for words, table in ((TIMES, "times"), (STOPPED, "stopped")):
        parts += [words, contender_table(results, table, 1.0), time_ratios(results, table)]
    parts += [MEMORY, memory_table(results)]
    if results.whole_runs:
        parts += [WHOLE, whole_table(results)]
    return parts


def contender_table(results: Results, table: str, unit: float) -> str:
    values = getattr(results, table)
    batches = sorted({batch for _, batch in values})

    def cell(key: tuple[str, int]) -> str:
        shown = spread(values.get(key), unit)
        return f"{shown}, {results.epochs.get(key, 0)}" if table == "times" and shown else shown

    rows = [
        [NAMES[name], *(cell((name, batch)) for batch in batches)]
        for name in NAMES
        if any(key[0] == name for key in values)
    ]
    return as_table(["", *(f"batch {batch:,}" for batch in batches)], rows)


def rate_ratios(results: Results) -> str:
    two, lines = "regatta-2", []
    for batch in (1024, 8192):
        best = fastest(results, batch)
        for peer in ("torch", "sklearn"):
            under = (peer, 1024 if peer == "sklearn" else batch)
            lines += ratio_line(results, (two, batch), under, batch)
            if best != two:
                lines += ratio_line(results, (best, batch), under, batch)
    lines += ratio_line(results, (two, 65_536), ("regatta-1", 65_536), 65_536)
    return "\n".join(lines) + "\n"


def fastest(results: Results, batch: int) -> str:
    medians = {
        name: statistics.median(values)
        for (name, size), values in results.rates.items()
        if size == batch and name.startswith("regatta")
    }
    return max(medians, key=lambda name: medians[name])


def ratio_line(
    results: Results, over: tuple[str, int], under: tuple[str, int], batch: int
) -> list[str]:
    ratio = results.ratio("rates", over, under)
    if ratio is None:
        return []
    return [f"- batch {batch:,}: {NAMES[over[0]]} is {ratio:.1f} times {NAMES[under[0]]}"]


def time_ratios(results: Results, table: str) -> str:
    lines = []
    for batch in (1024, 8192):
        for peer in ("torch", "sklearn"):
            ratio = results.whole_ratio(table, peer, batch)
            if ratio is not None:
                lines.append(
                    f"- batch {batch:,}: {NAMES[peer]} takes {ratio:.1f} times as long as "
                    f"{NAMES['regatta-2']}"
                )
    return "\n".join(lines) + "\n"


def memory_table(results: Results) -> str:
    rows = [[NAMES[name], f"{size / 1e6:.0f}"] for name, size in results.memory.items()]
    return as_table(["", "MB"], rows)


def reading_table(results: Results) -> str:
    rows = [
        [name, spread(values, 1e-6, 0), f"{results.read_memory[name] / 1e6:.0f}"]
        for name, values in results.read_speed.items()
    ]
    return as_table(["", "MB/s", "peak MB"], rows)


def whole_table(results: Results) -> str:
    rows = [
        [
            f"{batch:,}",
            f"{run['rows_per_second'] / 1e6:.1f}",
            *(f"{run['seconds'][part]:.1f}" for part in ("import", "train", "total")),
            f"{run['memory'] / 1e6:.0f}",
        ]
        for batch, run in results.whole_runs.items()
    ]
    head = ["batch", "million rows/s", "import s", "training s", "total s", "peak MB"]
    return as_table(head, rows)


def machines(results: Results) -> str:
    """On what the parts were measured: usually one machine."""
    found = results.machines
    if len(set(found.values())) < 2:
        return next(iter(found.values()), machine())
    return "\n\n".join(f"{name.capitalize()}: {where}" for name, where in sorted(found.items()))


def machine() -> str:
    """Processor, cores, memory and versions; no names of people or places."""
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text().splitlines()
        names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names else model
    cores = available_cores()
    memory = psutil.virtual_memory().total / 2**30
    versions = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return f"{model}, {cores} cores, {memory:.0f} GB; {platform.system()}; {', '.join(versions)}."
