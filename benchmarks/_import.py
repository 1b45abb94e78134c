"""How fast a CSV file is imported, beside readers that merely parse it.

Each reader and Regatta read the same file in processes of their own, in turn, with two threads or
processes; Regatta with an empty home, so that it parses, checks every cell, hashes every row and
writes typed columns. A ratio is taken within a turn. There are files of numbers alone and files of
trips with dates and names, of each a small and a large one; readers that were slow with the small
one are not asked to read the large one.
"""

from __future__ import annotations

import importlib.util
import shutil
import statistics
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from regatta.benchmarks._data import Recipe, write_csv, write_trips
from regatta.benchmarks._exact import say
from regatta.benchmarks._processes import SAMPLE_SHARE, run_measured

REGATTA = "Regatta"
READERS = {
    "polars": "import os\nos.environ['POLARS_MAX_THREADS'] = '2'\n"
    "import polars\nread = polars.read_csv\n",
    "pyarrow": "import pyarrow\npyarrow.set_cpu_count(2)\n"
    "from pyarrow.csv import read_csv as read\n",
    "pandas": "from pandas import read_csv as read\n",
    "duckdb": "import duckdb\nbase = duckdb.connect(config={'threads': 2})\n"
    "base.execute('SET enable_progress_bar = false')\n"
    "read = lambda path: base.read_csv(path).to_arrow_table()\n",
    REGATTA: "import functools\nfrom regatta.data_pipeline import import_csv\n"
    "read = functools.partial(import_csv, processes=2)\n",
}
MANY_CORES = 64
WITH_ALL = (
    "from regatta.ingest import importer\n"
    f"importer.available_cores = lambda: {MANY_CORES}\n"
    "from regatta.data_pipeline import import_csv as read\n"
)
MEASURE = (
    "import json, sys, time\nstart = time.perf_counter()\ntable = read(sys.argv[1])\n"
    "seconds = time.perf_counter() - start\nstart = time.perf_counter()\n"
    "again = read(sys.argv[1]) if sys.argv[2] == 'again' else None\n"
    "print(json.dumps({'seconds': seconds, 'again': time.perf_counter() - start}))\n"
)
# Trips for each row of numbers: files of about the same size.
TRIPS_A_ROW, LARGER_TRIPS_A_ROW = 3, 20
TIMES_LARGER = 8
SLOW = 2.0  # times as long as the fastest


@dataclass
class Readings:
    """What was measured of one file; lists hold one value a turn."""

    size: int
    rows: str  # what they hold
    seconds: dict[str, list[float]] = field(default_factory=dict)
    again: list[float] = field(default_factory=list)
    memory: dict[str, int] = field(default_factory=dict)
    most_memory: int = 0  # of Regatta with as many processes as for many cores

    @property
    def fast(self) -> list[str]:
        """The readers that took little time, the fastest first; Regatta left out."""
        times = {name: statistics.median(each) for name, each in self.seconds.items()}
        peers = sorted(set(times) - {REGATTA}, key=times.__getitem__)
        return [name for name in peers if times[name] <= SLOW * times[peers[0]]]

    def ratio(self, name: str) -> float:
        """The speed of ``name`` over that of the fastest reader: the median over turns."""
        pairs = zip(self.seconds[self.fast[0]], self.seconds[name], strict=True)
        return statistics.median(peer / own for peer, own in pairs)


def main(n_rows: int, turns: int) -> str:
    """Measure, and tell in Markdown."""
    names = readers()
    with tempfile.TemporaryDirectory(prefix="regatta-bench-") as folder:
        path, larger = Path(folder) / "rows.csv", Path(folder) / "larger.csv"
        say(f"Generating {n_rows:,} rows")
        write_csv(Recipe(), n_rows, path)
        numbers = measure(path, "numbers", names, turns)
        repeat(path, larger)
        more_numbers = measure(larger, "numbers", [*numbers.fast, REGATTA], turns)
        write_trips(TRIPS_A_ROW * n_rows, path)
        trips = measure(path, "trips", names, turns)
        write_trips(LARGER_TRIPS_A_ROW * n_rows, larger)
        more_trips = measure(larger, "trips", [*trips.fast, REGATTA], turns)
    return "\n".join(markdown(each) for each in (numbers, more_numbers, trips, more_trips))


def repeat(path: Path, larger: Path) -> None:
    """Write the rows of a file several times, under its header."""
    with larger.open("wb") as out:
        for turn in range(TIMES_LARGER):
            with path.open("rb") as file:
                if turn:
                    file.readline()
                shutil.copyfileobj(file, out, 1 << 24)


def readers() -> list[str]:
    """Those that are installed, and Regatta."""
    return [name for name in READERS if name == REGATTA or importlib.util.find_spec(name)]


def measure(path: Path, rows: str, names: list[str], turns: int) -> Readings:
    """Every reader once a turn."""
    found = Readings(path.stat().st_size, rows)
    for turn in range(turns):
        say(f"{found.size / 1e9:.1f} GB of {rows}: turn {turn + 1} of {turns}")
        for name in names:
            done, peak = once(READERS[name], path, again=name == REGATTA)
            found.seconds.setdefault(name, []).append(done["seconds"])
            found.memory[name] = max(peak, found.memory.get(name, 0))
            if name == REGATTA:
                found.again.append(done["again"])
    # Its processes share memory, which takes long to look at: a run for that alone.
    _, found.memory[REGATTA] = once(READERS[REGATTA], path, timed=False)
    _, found.most_memory = once(WITH_ALL, path, timed=False)
    return found


def once(
    reader: str, path: Path, *, again: bool = False, timed: bool = True
) -> tuple[dict[str, float], int]:
    """The seconds that a reader takes, those of a second time, and its memory."""
    home = path.with_name("emptied home")
    words = str(path), "again" if again else ""
    try:
        share = SAMPLE_SHARE if timed else 1.0
        return run_measured("-c", reader + MEASURE, *words, home=home, share=share)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def markdown(found: Readings) -> str:
    """A table of one file."""
    lines = [
        f"{found.size / 1e9:.2f} GB of {found.rows}: seconds in each turn; speed as a share of "
        "the fastest reader's, the median of the turns; and the most memory of all its processes "
        "together, without files that are mapped, in MB:",
        "",
        "| | seconds | share | memory |",
        "|---|---|---|---|",
    ]
    for name, seconds in sorted(found.seconds.items(), key=lambda each: min(each[1])):
        times = ", ".join(f"{each:.2f}" for each in seconds)
        lines.append(
            f"| {name} | {times} | {found.ratio(name):.0%} | {found.memory[name] / 1e6:,.0f} |"
        )
    lines += [
        "",
        f"A second import of the same file: {max(found.again):.2f} s at most. With as many "
        f"processes as on {MANY_CORES} cores: {found.most_memory / 1e6:,.0f} MB.",
        "",
    ]
    return "\n".join(lines)
