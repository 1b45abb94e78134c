"""Steps along gradients over arrays in memory: for more features than the statistics can hold.

    X, y ──centre, scale, shuffle──▶ temporary files ──▶ pool ──▶ FISTA or mini-batches ──▶ w, b

The objective is that of the arrays as they are. Columns are scaled for the steps' sake alone, so
the penalty is scaled the other way, feature by feature.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regatta import models
from regatta.configuration import TrainingConfig
from regatta.models import Penalty
from regatta.parameter_server.batches import shard_offsets
from regatta.parameter_server.data_source import DataSource
from regatta.parameter_server.worker_pool import open_pool
from regatta.solvers import choose
from regatta.solvers.base import Solver
from regatta.solvers.problem import Problem
from regatta.utils import (
    BLAS_THREAD_VARIABLES,
    DivergenceError,
    RegattaError,
    available_cores,
    limit_blas_threads,
)

Vector = NDArray[np.float64]
Array = NDArray[np.floating]

BLOCK_BYTES = 4 * 1024 * 1024
# Standard deviations below this share of the largest value are the rounding of a constant.
CONSTANT = 1e-13
# Fewer cells are worked on in this process: starting others would take longer.
SMALL_CELLS = 1_000_000
GUARD = "A script that uses workers needs `if __name__ == '__main__':` around what it does."


@dataclass(frozen=True)
class Steps:
    """Where the steps led.

    ``solver`` is fista (all rows a step) or sgd (mini-batches), ``epochs`` counts passes.
    """

    weights: Vector
    intercept: float
    solver: str
    epochs: int
    converged: bool


@dataclass(frozen=True)
class Rows:
    """The rows to learn from: (n_rows, d), (n_rows,), and how often each row counts, or None."""

    X: Array
    y: Array
    sample_weight: Vector | None
    fit_intercept: bool

    def blocks(self, order: NDArray[np.integer] | None = None) -> Iterator[tuple[Array, Vector]]:
        """Rows (x, y) and their weights (mean one), a few at a time; in ``order``."""
        n_rows, d = self.X.shape
        weight = self.sample_weight
        unit = 1.0 if weight is None else n_rows / float(weight.sum())
        size = max(1, BLOCK_BYTES // (8 * (d + 1)))
        for start in range(0, n_rows, size):
            rows = slice(start, start + size) if order is None else order[start : start + size]
            block = np.column_stack([self.X[rows], self.y[rows]]).astype(np.float64, copy=False)
            yield block, np.ones(len(block)) if weight is None else weight[rows] * unit


@dataclass(frozen=True)
class Scaling:
    """``centre`` and ``scale`` of (x_1 … x_d, y); an infinite scale drops a constant feature."""

    centre: Vector
    scale: Vector

    @classmethod
    def of(cls, rows: Rows, l2: float) -> Scaling:
        """Of the rows, such that with ``l2`` every feature is as steep as every other."""
        n_rows = len(rows.X)
        first = next(rows.blocks())[0][0]
        centre = first.copy() if rows.fit_intercept else np.zeros_like(first)
        if rows.fit_intercept:
            centre += sum(w @ (block - first) for block, w in rows.blocks()) / n_rows
        variance = sum(w @ (block - centre) ** 2 for block, w in rows.blocks()) / n_rows
        still = variance <= (CONSTANT * (np.abs(first) + np.abs(centre))) ** 2
        scale = np.sqrt(variance + l2)
        scale[still] = np.inf
        scale[-1] = 1.0 if still[-1] else np.sqrt(variance[-1])
        return cls(centre, scale)


@dataclass(frozen=True)
class ScaledPenalty(Penalty):
    """A penalty on weights that were scaled: another strength for each feature.

    ``l1`` and ``l2`` are the largest of ``l1_each`` and ``l2_each`` (d,).
    """

    l1_each: Vector
    l2_each: Vector

    @classmethod
    def of(cls, penalty: Penalty, scaling: Scaling) -> ScaledPenalty:
        feature, target = scaling.scale[:-1], scaling.scale[-1]
        l1, l2 = penalty.l1 / (target * feature), penalty.l2 / feature**2
        return cls(float(l1.max()), float(l2.max()), l1, l2)

    def value(self, parameters: Vector) -> float:
        w = parameters[:-1]
        return float(0.5 * self.l2_each @ w**2 + self.l1_each @ np.abs(w))

    def add_smooth_gradient(self, parameters: Vector, gradient: Vector) -> None:
        gradient[:-1] += self.l2_each * parameters[:-1]

    def prox(self, parameters: Vector, step: float | Vector) -> None:
        w = parameters[:-1]
        threshold = step * self.l1_each
        np.subtract(w, np.clip(w, -threshold, threshold), out=w)


def descend(rows: Rows, penalty: Penalty, config: TrainingConfig, n_workers: int) -> Steps:
    """Minimise 1/(2n) Σ(y − x·w − b)² + l1 ‖w‖₁ + l2/2 ‖w‖².

    Parameters
    ----------
    rows : Rows
    penalty : Penalty
    config : TrainingConfig
        Its ``solver`` is sgd; epochs, batch size, learning rate, ``tol`` and so on are heeded.
    n_workers : int
        Worker processes, or 0 for none.

    Raises
    ------
    DivergenceError
        The loss is not finite.
    """
    scaling = Scaling.of(rows, penalty.l2)
    with tempfile.TemporaryDirectory(prefix="regatta-") as name:
        directory = Path(name)
        norm = _write(rows, scaling, directory, config.seed)
        n_rows, d = rows.X.shape
        shards = min(config.shards, n_rows)
        offsets = shard_offsets(n_rows, shards)
        settings = choose.resolve(config, offsets, d)
        source = DataSource(directory, "float64", n_rows, 0, d, shards)
        arithmetic = settings.arithmetic or "float64"
        pool = open_pool(source, "linear", arithmetic, min(n_workers, shards), logs=directory)
        try:
            problem = Problem(
                pool=pool,
                objective=models.get("linear"),
                penalty=ScaledPenalty.of(penalty, scaling),
                train_offsets=offsets,
                validation_offsets=(0,) * len(offsets),
                n_features=d,
                max_row_norm2=norm,
            )
            solver = choose.make(config, settings, problem)
            _run(solver)
        finally:
            pool.close()
    return _in_units(solver, scaling)


def _write(rows: Rows, scaling: Scaling, directory: Path, seed: int) -> float:
    """Write the rows as a pool reads them, shuffled; the largest squared norm."""
    order = np.random.default_rng(seed).permutation(len(rows.X))
    largest = 0.0
    with (directory / "train.bin").open("wb") as file:
        for block, weight in rows.blocks(order):
            block = (block - scaling.centre) / scaling.scale
            one = np.full(len(block), float(rows.fit_intercept))
            together = np.insert(block, block.shape[1] - 1, one, axis=1)
            together *= np.sqrt(weight)[:, None]
            largest = max(largest, float((together[:, :-2] ** 2).sum(axis=1).max()))
            together.tofile(file)
    return largest


def _run(solver: Solver) -> None:
    while not solver.finished:
        solver.step()
        if not np.isfinite(solver.problem.loss):
            raise DivergenceError(
                f"The steps diverged at step {solver.step_count:,}: the loss is not finite.",
                "Use solver='exact', or look for values that are far from all others.",
            )


def _in_units(solver: Solver, scaling: Scaling) -> Steps:
    target = scaling.scale[-1]
    weights = target * solver.parameters[:-1] / scaling.scale[:-1]
    shift = float(scaling.centre[-1] - scaling.centre[:-1] @ weights)
    intercept = float(target * solver.parameters[-1]) + shift
    return Steps(weights, intercept, solver.name, solver.epoch, solver.converged)


# --- processes ----------------------------------------------------------------------------------


def count_workers(n_workers: int | None, cells: int) -> int:
    """Worker processes for a fit by steps."""
    process = multiprocessing.current_process()
    if n_workers is None:
        # A process of somebody's pool has its share of the cores already.
        alone = multiprocessing.parent_process() is None or _is_starting(process)
        small = cells < SMALL_CELLS or not alone
        n_workers = 0 if small else available_cores()
    if n_workers and _is_starting(process):
        raise RuntimeError(f"Workers cannot be started while a process starts. {GUARD}")
    return n_workers


def _is_starting(process: Any) -> bool:
    """Whether this is a child that imports the script of its parent again."""
    return bool(getattr(process, "_inheriting", False))


@contextlib.contextmanager
def crew(n_workers: int) -> Iterator[None]:
    """While workers are started and work: one BLAS thread each, and a word if they cannot."""
    before = {name: os.environ.get(name) for name in BLAS_THREAD_VARIABLES}
    if n_workers:
        limit_blas_threads()
    try:
        yield
    except DivergenceError:
        raise
    except RegattaError as error:
        if not n_workers:
            raise
        raise RegattaError(error.message, f"{error.hint} {GUARD}".strip()) from error
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
