"""Contenders for what is solved exactly, on rows in memory; orders as in `_contenders`.

    {"do": "statistics"}                  → {"seconds": 0.1}
    {"do": "fit", "model": "lasso"}       → {"seconds": 0.2, "parts": {…}, "alpha": …, …}

Regatta's rows lie in a file that the page cache holds and its workers map; scikit-learn's lie in
an array of its own. Neither loading them nor starting workers and importing libraries is timed.

Usage: python -P -m regatta.benchmarks._exact_contenders NAME FOLDER
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from regatta.benchmarks._processes import serve
from regatta.utils import limit_blas_threads

FOLDS = 5
SHARDS = 16


class Regatta:
    """The pool and the solver, as the coordinator uses them."""

    def __init__(self, folder: Path, workers: int) -> None:
        limit_blas_threads()
        import sklearn.linear_model  # noqa: F401

        from regatta.benchmarks._data import VALIDATION_ROWS, open_prepared
        from regatta.parameter_server.batches import shard_offsets
        from regatta.parameter_server.data_source import DataSource
        from regatta.parameter_server.worker_pool import open_pool

        rows = open_prepared(folder)
        n_rows, n_features = len(rows), rows.shape[1] - 2
        source = DataSource(folder, "float64", n_rows, VALIDATION_ROWS, n_features, SHARDS)
        self.offsets = shard_offsets(n_rows, SHARDS)
        start = time.perf_counter()
        self.pool = open_pool(
            source, "linear", "float64", workers, logs=folder, with_statistics=True
        )
        self._start_seconds = time.perf_counter() - start
        for model in ("lasso", "ridge"):  # first touch of memory, first calls of libraries
            self.fit(model)

    def start_seconds(self) -> dict[str, Any]:
        """How long the workers took to start."""
        return {"seconds": self._start_seconds}

    def statistics(self) -> dict[str, Any]:
        """One pass over the rows, for the sums of five folds."""
        from regatta.solvers.statistics import gather

        start = time.perf_counter()
        gather(self.pool, self.offsets, FOLDS)
        return {"seconds": time.perf_counter() - start}

    def fit(self, model: str) -> dict[str, Any]:
        """100 alphas on five folds, the path on all rows, and the best of it."""
        from regatta.configuration import TrainingConfig
        from regatta.solvers.optimum import find_optimum
        from regatta.solvers.statistics import gather

        config = TrainingConfig(model=model, alpha="auto", folds=FOLDS)
        start = time.perf_counter()
        folds = gather(self.pool, self.offsets, FOLDS)
        passed = time.perf_counter()
        optimum = find_optimum(folds, config, 1.0)
        ended = time.perf_counter()
        assert optimum.path is not None
        return {
            "seconds": ended - start,
            "parts": {"pass": passed - start, "solve": ended - passed},
            "alpha": optimum.alpha,
            "alphas": optimum.path.alphas.tolist(),
            "coefficients": optimum.parameters[:-1].tolist(),
        }

    def close(self) -> None:
        self.pool.close()


class Sklearn:
    """LassoCV and RidgeCV with two threads: two fits at once, or one of two BLAS threads."""

    def __init__(self, folder: Path) -> None:
        import numpy as np
        from sklearn.linear_model import LassoCV

        from regatta.benchmarks._data import open_prepared

        rows = open_prepared(folder)
        self.X, self.y = np.ascontiguousarray(rows[:, :-2]), np.array(rows[:, -1])
        LassoCV(cv=FOLDS, n_jobs=2).fit(self.X[:500], self.y[:500])  # first calls of libraries

    def lasso(self) -> dict[str, Any]:
        """With defaults: 100 alphas, five contiguous folds."""
        from sklearn.linear_model import LassoCV

        with two_fits_at_once():
            return self._timed(LassoCV(cv=FOLDS, n_jobs=2))

    def precise_lasso(self, tol: float) -> dict[str, Any]:
        """On the folds that Regatta takes: every fifth shard."""
        from sklearn.linear_model import LassoCV

        with two_fits_at_once():
            return self._timed(LassoCV(cv=self._folds(), tol=tol, max_iter=100_000, n_jobs=2))

    def ridge(self, alphas: Sequence[float]) -> dict[str, Any]:
        """Five folds; it searches a grid, a fit for each alpha and fold."""
        import joblib  # type: ignore[import-untyped]
        from sklearn.linear_model import RidgeCV

        with two_fits_at_once(), joblib.parallel_config("threading", n_jobs=2):
            return self._timed(RidgeCV(alphas=alphas, cv=FOLDS))

    def ridge_leaving_one_out(self, alphas: Sequence[float]) -> dict[str, Any]:
        """What RidgeCV does when it is given no folds: one decomposition, no fits."""
        from sklearn.linear_model import RidgeCV

        return self._timed(RidgeCV(alphas=alphas))

    def _timed(self, model: Any) -> dict[str, Any]:
        start = time.perf_counter()
        model.fit(self.X, self.y)
        seconds = time.perf_counter() - start
        return {
            "seconds": seconds,
            "alpha": float(model.alpha_),
            "coefficients": model.coef_.tolist(),
        }

    def _folds(self) -> list[tuple[Any, Any]]:
        import numpy as np

        from regatta.parameter_server.batches import shard_offsets

        offsets = shard_offsets(len(self.y), SHARDS)
        lengths = np.diff(offsets)
        fold_of = np.repeat(np.arange(SHARDS) % FOLDS, lengths)
        return [(np.flatnonzero(fold_of != k), np.flatnonzero(fold_of == k)) for k in range(FOLDS)]

    def close(self) -> None:
        pass


@contextlib.contextmanager
def two_fits_at_once() -> Iterator[None]:
    """One BLAS thread for each of two fits: with more they take turns on the cores."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        yield


def main() -> int:
    name, folder = sys.argv[1:]
    contender: Regatta | Sklearn
    if name == "sklearn":
        contender = Sklearn(Path(folder))
    else:
        contender = Regatta(Path(folder), int(name.removeprefix("regatta-")))
    try:
        serve(contender)
    finally:
        contender.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
