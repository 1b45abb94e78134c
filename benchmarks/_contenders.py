"""One contender a process: reads orders as lines of JSON, answers each with one.

    {"do": "run_pass", "batch": 1024, "epochs": 5}        → {"rows": 5000000, "seconds": 0.1}
    {"do": "converge", "batch": 1024, "epochs": 3,        → {"seconds": 0.2, "gap": 3e-6,
     "rate": 0.5, "tolerance": 1e-4}                         "until": 0.15}

``seconds`` is a whole run of so many epochs, ``gap`` how far it ended from the optimum, and
``until`` when it was first within the tolerance, if ever.

Every contender runs with one thread a process and sleeps while another is measured.
Usage: python -P -m regatta.benchmarks._contenders NAME FOLDER [RANK STORE]
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402

from regatta.benchmarks._data import Optimum, open_rows  # noqa: E402
from regatta.benchmarks._processes import serve  # noqa: E402

# Looks at the gap while a run converges; the time they take does not count.
LOOKS = 100


class Contender(Protocol):
    """What is measured."""

    def run_pass(self, batch: int, epochs: int) -> dict[str, Any]:
        """Whole epochs of mini-batches."""

    def converge(self, batch: int, epochs: int, rate: float, tolerance: float) -> dict[str, Any]:
        """Train from zero for ``epochs``; tell the gap, and when it first was ``tolerance``."""

    def close(self) -> None:
        """End every process."""


def cosine(step: int, total: int) -> float:
    """The schedule of everyone's learning rate, from 1 to 0."""
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / total)))


def stretches(total: int) -> Iterator[int]:
    """``total`` steps in about `LOOKS` stretches."""
    length = max(1, total // LOOKS)
    for start in range(0, total, length):
        yield min(length, total - start)


def watched(
    total: int,
    take: Callable[[int], None],
    parameters: Callable[[], Any],
    optimum: Optimum,
    tolerance: float,
    begun: float = 0.0,
) -> dict[str, Any]:
    """Take all steps; only they are timed, in addition to the seconds ``begun`` before them."""
    seconds, until, gap = begun, None, math.inf
    for length in stretches(total):
        start = time.perf_counter()
        take(length)
        seconds += time.perf_counter() - start
        gap = optimum.gap(parameters())
        if until is None and gap <= tolerance:
            until = seconds
    return {"seconds": seconds, "gap": gap, "until": until}


class Regatta:
    """The parameter server with its own solver, as the coordinator drives it."""

    def __init__(self, folder: Path, workers: int) -> None:
        from regatta import models
        from regatta.parameter_server.batches import shard_offsets
        from regatta.parameter_server.data_source import DataSource
        from regatta.parameter_server.worker_pool import open_pool
        from regatta.solvers.problem import Problem

        rows, norm = open_rows(folder)
        source = DataSource(folder, "float32", rows.n_rows, 1024, rows.n_features, 16)
        objective = models.get("linear")
        self.workers = workers
        self.optimum = Optimum(rows)
        self.offsets = shard_offsets(rows.n_rows, 16)
        self.pool = open_pool(source, "linear", "float32", workers, logs=folder)
        self.problem = Problem(
            pool=self.pool,
            objective=objective,
            penalty=objective.penalty(0.0, 0.0, rows.n_rows),
            train_offsets=self.offsets,
            validation_offsets=shard_offsets(1024, 16),
            n_features=rows.n_features,
            max_row_norm2=norm,
        )

    def _solver(self, batch: int, epochs: int, rate: float) -> Any:
        from regatta.parameter_server.batches import BatchPlan
        from regatta.solvers.sgd import MiniBatchSGD

        solver = MiniBatchSGD(
            self.problem,
            BatchPlan(self.offsets, batch, seed=0),
            epochs=epochs,
            rate=rate,
            schedule="cosine",
            optimizer="sgd",
            momentum=0.0,
            tol=0.0,
        )
        solver.measure = False
        return solver

    def run_pass(self, batch: int, epochs: int) -> dict[str, Any]:
        solver = self._solver(batch, epochs, 0.01)
        rows, start = 0, time.perf_counter()
        while not solver.finished:
            solver.step()
            rows += self.problem.rows
        return {"rows": rows, "seconds": time.perf_counter() - start}

    def converge(self, batch: int, epochs: int, rate: float, tolerance: float) -> dict[str, Any]:
        """The rate is derived anew, as a run does, and the time counts."""
        start = time.perf_counter()
        solver = self._solver(batch, epochs, self.safe_rate(batch)["rate"])
        begun = time.perf_counter() - start

        def take(steps: int) -> None:
            for _ in range(steps):
                solver.step()

        return watched(
            solver.total_steps, take, lambda: solver.parameters, self.optimum, tolerance, begun
        )

    def safe_rate(self, batch: int) -> dict[str, Any]:
        """The learning rate that Regatta derives, which everyone then uses."""
        from regatta.parameter_server.learning_rate import safe_rate

        largest, norm = self.problem.largest_eigenvalue(), self.problem.max_row_norm2
        return {"rate": safe_rate(largest, norm, batch, memory=1.0, l2=0.0)}

    def close(self) -> None:
        self.pool.close()


class Sklearn:
    """``SGDRegressor``: one row a step, whatever the batch; averaged weights to converge.

    A run is its ``fit``, whose unit is an epoch. ``until`` is not what a user would do: slices of
    the rows to ``partial_fit``, and a look at the optimum that one does not have in between.
    """

    def __init__(self, folder: Path) -> None:
        rows, _ = open_rows(folder)
        self.X, self.y = rows.X, rows.y
        self.optimum = Optimum(rows)

    def run_pass(self, batch: int, epochs: int) -> dict[str, Any]:
        from sklearn.linear_model import SGDRegressor

        model = SGDRegressor(penalty=None, max_iter=epochs, tol=None)
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(self.X, self.y)
        return {"rows": epochs * len(self.X), "seconds": time.perf_counter() - start}

    def converge(self, batch: int, epochs: int, rate: float, tolerance: float) -> dict[str, Any]:
        from sklearn.linear_model import SGDRegressor

        model = SGDRegressor(penalty=None, average=True, max_iter=epochs, tol=None)
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(self.X, self.y)
        seconds = time.perf_counter() - start
        gap = self.optimum.gap(np.append(model.coef_, model.intercept_))
        return {"seconds": seconds, "gap": gap, "until": self._until(epochs, tolerance)}

    def _until(self, epochs: int, tolerance: float) -> float | None:
        from sklearn.linear_model import SGDRegressor

        model, seconds = SGDRegressor(penalty=None, average=True), 0.0
        ends = np.linspace(0, len(self.X), LOOKS + 1).astype(int).tolist()
        for begin, end in list(pairwise(ends)) * epochs:
            X, y = self.X[begin:end], self.y[begin:end]
            start = time.perf_counter()
            model.partial_fit(X, y)
            seconds += time.perf_counter() - start
            if self.optimum.gap(np.append(model.coef_, model.intercept_)) <= tolerance:
                return seconds
        return None

    def close(self) -> None:
        pass


class Torch:
    """``DistributedDataParallel`` on gloo: tensor slices, no DataLoader, plain SGD."""

    def __init__(self, folder: Path, rank: int, store: Path, size: int = 2) -> None:
        import torch
        import torch.distributed as dist

        torch.set_num_threads(1)
        self.torch, self.dist, self.rank, self.size = torch, dist, rank, size
        self.second = None if rank else second_rank(folder, store)
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
        rows, _ = open_rows(folder)
        mine = slice(rank * (rows.n_rows // size), (rank + 1) * (rows.n_rows // size))
        self.X = torch.from_numpy(np.array(rows.X[mine]))
        self.y = torch.from_numpy(np.array(rows.y[mine]))[:, None]
        self.optimum = Optimum(rows) if rank == 0 else None

    def _model(self, rate: float) -> tuple[Any, Any]:
        torch = self.torch
        model = torch.nn.Linear(self.X.shape[1], 1)
        with torch.no_grad():
            model.weight.zero_()
            model.bias.zero_()
        model = torch.nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)
        return model, torch.optim.SGD(model.parameters(), lr=rate)

    def _steps(self, model: Any, optimizer: Any, part: int, first: int, count: int) -> None:
        """Steps ``first``, … over slices of ``part`` rows, in order and around."""
        slices = len(self.X) // part
        for step in range(first, first + count):
            start = step % slices * part
            X, y = self.X[start : start + part], self.y[start : start + part]
            optimizer.zero_grad()
            loss = 0.5 * (model(X) - y).square().mean()
            loss.backward()
            optimizer.step()

    def run_pass(self, batch: int, epochs: int) -> dict[str, Any]:
        self._tell_second({"do": "run_pass", "batch": batch, "epochs": epochs})
        part = batch // self.size
        steps = epochs * (len(self.X) // part)
        model, optimizer = self._model(0.01)
        self._steps(model, optimizer, part, 0, 3)
        self.dist.barrier()
        start = time.perf_counter()
        self._steps(model, optimizer, part, 0, steps)
        self.dist.barrier()
        return {"rows": steps * batch, "seconds": time.perf_counter() - start}

    def converge(self, batch: int, epochs: int, rate: float, tolerance: float) -> dict[str, Any]:
        order = {"batch": batch, "epochs": epochs, "rate": rate, "tolerance": tolerance}
        self._tell_second({"do": "converge", **order})
        part = batch // self.size
        total = epochs * (len(self.X) // part)
        model, optimizer = self._model(rate)
        done = 0

        def take(steps: int) -> None:
            nonlocal done
            for _ in range(steps):
                optimizer.param_groups[0]["lr"] = rate * cosine(done, total)
                self._steps(model, optimizer, part, done, 1)
                done += 1

        def parameters() -> Any:
            linear = model.module
            return np.append(linear.weight.detach().numpy(), linear.bias.detach().numpy())

        self.dist.barrier()
        if self.optimum is None:
            for length in stretches(total):
                take(length)
            return {}
        return watched(total, take, parameters, self.optimum, tolerance)

    def _tell_second(self, order: dict[str, Any]) -> None:
        if self.second is not None and self.second.stdin is not None:
            self.second.stdin.write(json.dumps(order) + "\n")
            self.second.stdin.flush()

    def close(self) -> None:
        if self.second is not None and self.second.stdin is not None:
            self.second.stdin.close()
        self.dist.destroy_process_group()
        if self.second is not None:
            self.second.wait()


def second_rank(folder: Path, store: Path) -> subprocess.Popen[str]:
    """The other process of `Torch`; its answers are not read."""
    module = ["-P", "-m", "regatta.benchmarks._contenders"]
    return subprocess.Popen(
        [sys.executable, *module, "torch", str(folder), "1", str(store)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


def make(name: str, folder: Path, rest: list[str]) -> Contender:
    """The contender called ``name``: regatta-<workers>, sklearn or torch."""
    if name.startswith("regatta-"):
        return Regatta(folder, int(name.removeprefix("regatta-")))
    if name == "sklearn":
        return Sklearn(folder)
    rank = int(rest[0]) if rest else 0
    store = Path(rest[1]) if rest else folder / f"gloo-{os.getpid()}"
    return Torch(folder, rank, store)


def main() -> int:
    name, folder, *rest = sys.argv[1:]
    contender = make(name, Path(folder), rest)
    try:
        serve(contender)
    finally:
        contender.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
