"""The same rows and seed under sync, async and local: who is at the optimum first.

Every run has as many batches and a learning rate that Regatta derives for it. The time is that of
the steps, until the objective is first within a gap of the optimum; looks at the gap do not count.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regatta import models
from regatta.benchmarks._data import Optimum, generate, open_rows
from regatta.benchmarks._exact import say
from regatta.configuration import TrainingConfig
from regatta.parameter_server.batches import shard_offsets
from regatta.parameter_server.data_source import DataSource
from regatta.parameter_server.ticket_pool import open_pool
from regatta.parameter_server.worker_pool import Pool, PoolEvent
from regatta.solvers import choose
from regatta.solvers.base import Solver
from regatta.solvers.problem import Problem
from regatta.solvers.unsynchronised import AsynchronousSGD
from regatta.utils import limit_blas_threads

WAYS = ("sync", "async", "local")
WORKERS = (1, 2, 4)
GAPS = (1e-3, 1e-4)
BATCH = 1024
STEPS = 10_000
LOOKS = 400
SHARDS = 16
# A ratio of times nearer to one than this is what the machine does, not the workers.
NOISE = 0.1


@dataclass(frozen=True)
class Case:
    """A way to agree on the weights, and how many workers do."""

    way: str
    workers: int


@dataclass
class Course:
    """How one run went; what was not reached is None."""

    seconds: dict[float, float | None]
    updates: dict[float, int | None]
    gap: float
    total: float
    mean_staleness: float = 0.0
    most_stale: int = 0


def main(n_rows: int, turns: int) -> str:
    """Measure, and tell in Markdown."""
    limit_blas_threads()
    courses: dict[Case, list[Course]] = {}
    with tempfile.TemporaryDirectory(prefix="regatta-bench-") as name:
        folder = Path(name)
        say(f"Generating {n_rows:,} rows")
        generate(folder, n_rows)
        for turn in range(turns):
            say(f"Turn {turn + 1} of {turns}")
            for workers in WORKERS:  # the ways next to each other: whatever else is done meets all
                for way in WAYS:
                    case = Case(way, workers)
                    courses.setdefault(case, []).append(run(folder, case))
    return markdown(courses, n_rows, turns)


def run(folder: Path, case: Case, steps: int = STEPS) -> Course:
    """One run from zero."""
    rows, _ = open_rows(folder)
    batches = max(1, rows.n_rows // BATCH)
    config = TrainingConfig(
        model="linear",
        solver="sgd",
        batch_size=min(BATCH, rows.n_rows // 2),
        epochs=max(1, steps // batches),
        tol=0.0,
        consistency=case.way,  # type: ignore[arg-type]
    )
    with solving(folder, config, case.workers) as (_, solver):
        return follow(solver, Optimum(rows))


@contextlib.contextmanager
def solving(
    folder: Path,
    config: TrainingConfig,
    n_workers: int,
    on_event: Callable[[PoolEvent], None] = lambda event: None,
) -> Iterator[tuple[Pool, Solver]]:
    """A solver on the generated rows in a folder, with workers of its own."""
    rows, norm = open_rows(folder)
    offsets = shard_offsets(rows.n_rows, SHARDS)
    settings = choose.resolve(config, offsets, rows.n_features)
    source = DataSource(folder, "float32", rows.n_rows, 1024, rows.n_features, SHARDS)
    pool = open_pool(
        source, "linear", "float32", n_workers,
        logs=folder, steps=settings.steps, on_event=on_event,
    )  # fmt: skip
    try:
        objective = models.get("linear")
        problem = Problem(
            pool=pool,
            objective=objective,
            penalty=objective.penalty(0.0, 0.0, rows.n_rows),
            train_offsets=offsets,
            validation_offsets=shard_offsets(1024, SHARDS),
            n_features=rows.n_features,
            max_row_norm2=norm,
        )
        yield pool, choose.make(config, settings, problem)
    finally:
        pool.close()


def follow(solver: Any, optimum: Optimum) -> Course:
    """Take all steps and look at the gap on the way."""
    solver.measure = False
    seconds, gap = 0.0, optimum.gap(solver.parameters)
    course = Course(dict.fromkeys(GAPS), dict.fromkeys(GAPS), gap, 0.0)
    stretch = max(1, solver.total_steps // LOOKS)
    while not solver.finished:
        until, start = solver.step_count + stretch, time.perf_counter()
        while solver.step_count < until and not solver.finished:
            solver.step()
        seconds += time.perf_counter() - start
        gap = optimum.gap(solver.parameters)
        for aim in GAPS:
            if gap <= aim and course.seconds[aim] is None:
                course.seconds[aim], course.updates[aim] = seconds, solver.rounds
    course.gap, course.total = gap, seconds
    if isinstance(solver, AsynchronousSGD):
        counts = solver.staleness
        course.mean_staleness = sum(late * n for late, n in counts.items()) / sum(counts.values())
        course.most_stale = max(counts)
    return course


def markdown(courses: dict[Case, list[Course]], n_rows: int, turns: int) -> str:
    """The table, and what it says about more workers."""
    columns = (
        *("", "workers", "seconds to 1e-3", "updates", "seconds to 1e-4", "updates"),
        *("staleness: mean (most)", "gap at the end", "seconds in all"),
    )
    head = (
        f"{n_rows:,} rows of 30 features, batches of {BATCH:,}, the same seed; median of {turns} "
        "turns. Updates: of the weights, until the gap was reached; a local one is an average.\n\n"
        f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n"
    )
    lines = [_line(case, found) for case, found in sorted(courses.items(), key=_order)]
    return "\n".join([head + "\n".join(lines), "", *verdicts(courses)])


def verdicts(courses: dict[Case, list[Course]]) -> list[str]:
    """A sentence on each way: whether more workers are sooner at the smallest gap."""
    found = []
    aim = GAPS[-1]
    for way in WAYS:
        times = {
            case.workers: median([each.seconds[aim] for each in of_case])
            for case, of_case in courses.items()
            if case.way == way
        }
        fewest, *others = sorted(times)
        for workers in others:
            found.append(_verdict(way, fewest, workers, times[fewest], times[workers]))
    return found


def _verdict(way: str, few: int, many: int, before: float | None, after: float | None) -> str:
    start = f"- {way}: {many} workers"
    if before is None or after is None:
        who = f"{few}" if before is None else f"{many}"
        return f"{start}: no comparison, since {who} did not reach 1e-4."
    ratio = after / before
    if ratio > 1 + NOISE:
        return f"{start} lose: they take {ratio:.2f} times as long to 1e-4 as {few}."
    if ratio < 1 - NOISE:
        return f"{start} win: they take {ratio:.2f} of the time to 1e-4 that {few} takes."
    return f"{start} are as soon at 1e-4 as {few} ({ratio:.2f} of the time)."


def median(values: Sequence[float | None]) -> float | None:
    """The median; None where most did not get there."""
    there = [value for value in values if value is not None]
    return statistics.median(there) if 2 * len(there) > len(values) else None


def _order(item: tuple[Case, list[Course]]) -> tuple[int, int]:
    return WAYS.index(item[0].way), item[0].workers


def _line(case: Case, courses: list[Course]) -> str:
    cells = [case.way, str(case.workers)]
    for aim in GAPS:
        seconds = median([each.seconds[aim] for each in courses])
        updates = median([each.updates[aim] for each in courses])
        cells += ["never" if seconds is None else f"{seconds:.2f}"]
        cells += ["" if updates is None else f"{updates:,.0f}"]
    late = "" if case.way != "async" else f"{courses[-1].mean_staleness:.1f} "
    most = max(each.most_stale for each in courses)
    cells += [late + f"({most})" if late else ""]
    cells += [f"{statistics.median(each.gap for each in courses):.0e}"]
    cells += [f"{statistics.median(each.total for each in courses):.2f}"]
    return "| " + " | ".join(cells) + " |"
