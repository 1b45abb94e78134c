"""From a CSV file to coefficients, once, in this process and those that it starts.

    regatta  lasso PATH 2      import, prepare, one pass, 100 alphas on five folds; 2 processes
    polars   ridge PATH 2      read, to arrays, Ridge; or pandas, pyarrow
    polars   scan  PATH 2      read, and add up the columns: the least that a reader can do

Prints JSON: seconds, without the start of Python and its imports, and coefficients in the units of
the file. Regatta keeps everything under REGATTA_HOME, which should be empty.

Usage: python -P -m regatta.benchmarks._csv_jobs WHO WHAT PATH PROCESSES
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TARGET = "y"
FOLDS = 5
# The one row that has to be held out: the peers learn from all of them, too.
NO_VALIDATION = 1e-9


def regatta(what: str, path: Path, processes: int) -> dict[str, Any]:
    """What a run does from the file to the optimum, without metrics and reports."""
    from regatta.utils import limit_blas_threads

    limit_blas_threads()
    if what == "lasso":
        import sklearn.linear_model  # noqa: F401
    from regatta import data_pipeline
    from regatta.configuration import TrainingConfig
    from regatta.parameter_server.worker_pool import open_pool
    from regatta.solvers import choose
    from regatta.solvers.optimum import find_optimum, fold_count
    from regatta.solvers.statistics import gather
    from regatta.solvers.training import source_of
    from regatta.utils import home

    alpha: Any = "auto" if what == "lasso" else 1.0
    config = TrainingConfig(model=what, alpha=alpha, folds=FOLDS)
    laps = Laps()
    table = data_pipeline.import_csv(path, processes=processes)
    laps.end("import")
    prepared = data_pipeline.prepare(
        table,
        target=TARGET,
        validation=NO_VALIDATION,
        precision=choose.precision(config),
        on_disk=False,
        processes=processes,
    )
    laps.end("prepare")
    pool = open_pool(
        source_of(prepared, config),
        what,
        "float64",
        processes,
        logs=home(),
        with_statistics=True,
    )
    laps.end("start workers")
    folds = gather(pool, prepared.train_offsets, fold_count(config, prepared.shards))
    laps.end("pass")
    optimum = find_optimum(folds, config, prepared.target_scale)
    laps.end("solve")
    pool.close()
    weights = optimum.parameters[:-1] * prepared.target_scale / prepared.preprocessing.scales
    return {**laps.told(), "rows": prepared.rows, "coefficients": weights.tolist()}


def with_pandas(path: Path) -> tuple[Any, Any]:
    import pandas as pd

    table = pd.read_csv(path)
    y = table.pop(TARGET).to_numpy()
    return table.to_numpy(), y


def with_pyarrow(path: Path) -> tuple[Any, Any]:
    import numpy as np
    import pyarrow.csv

    table = pyarrow.csv.read_csv(path)
    y = table.column(TARGET).to_numpy()
    names = [name for name in table.column_names if name != TARGET]
    X = np.empty((len(y), len(names)), order="F")
    for j, name in enumerate(names):
        X[:, j] = table.column(name).to_numpy()
    return X, y


def with_polars(path: Path) -> tuple[Any, Any]:
    import polars as pl

    table = pl.read_csv(path)
    return table.drop(TARGET).to_numpy(), table[TARGET].to_numpy()


READERS: dict[str, Callable[[Path], tuple[Any, Any]]] = {
    "pandas": with_pandas,
    "pyarrow": with_pyarrow,
    "polars": with_polars,
}


def peer(reader: str, what: str, path: Path) -> dict[str, Any]:
    """Read with ``reader``, fit with scikit-learn: LassoCV of two jobs, or Ridge."""
    import importlib

    import numpy as np
    from sklearn.linear_model import LassoCV, Ridge

    from regatta.benchmarks._exact_contenders import two_fits_at_once

    importlib.import_module({"pyarrow": "pyarrow.csv"}.get(reader, reader))
    laps = Laps()
    X, y = READERS[reader](path)
    laps.end("read")
    if what == "lasso":
        with two_fits_at_once():
            model = LassoCV(cv=FOLDS, n_jobs=2).fit(X, y)
    else:
        model = Ridge(alpha=1.0).fit(X, y)
    laps.end("fit")
    return {**laps.told(), "rows": len(y), "coefficients": np.asarray(model.coef_).tolist()}


def scan(reader: str, path: Path) -> dict[str, Any]:
    """The sums of the columns; polars as a stream, the others from the table that they read."""
    import importlib

    importlib.import_module({"pyarrow": "pyarrow.csv"}.get(reader, reader))
    laps = Laps()
    if reader == "polars":
        import polars as pl

        sums = pl.scan_csv(path).sum().collect(engine="streaming").row(0)
    else:
        X, y = READERS[reader](path)
        sums = (*X.sum(axis=0), y.sum())
    laps.end("scan")
    return {**laps.told(), "sums": [float(each) for each in sums]}


class Laps:
    """Seconds of each part, and of all."""

    def __init__(self) -> None:
        self._parts: dict[str, float] = {}
        self._start = self._last = time.perf_counter()

    def end(self, part: str) -> None:
        """``part`` went from the end of the last one to now."""
        now = time.perf_counter()
        self._parts[part], self._last = now - self._last, now

    def told(self) -> dict[str, Any]:
        return {"seconds": time.perf_counter() - self._start, "parts": self._parts}


def main() -> int:
    who, what, path, processes = sys.argv[1:]
    # Two threads for whoever has threads, on any number of cores.
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "POLARS_MAX_THREADS"):
        os.environ[name] = processes
    if who == "regatta":
        answer = regatta(what, Path(path), int(processes))
    elif what == "scan":
        answer = scan(who, Path(path))
    else:
        answer = peer(who, what, Path(path))
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
