"""What a finished run leaves: the model, and the object that ``regatta train --json`` prints."""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil

from regatta import __version__
from regatta.configuration import TrainingConfig
from regatta.data_pipeline import PreparedData
from regatta.explain import residuals
from regatta.explain.held_out import RunRows
from regatta.fitted_model import FittedModel
from regatta.ingest.split import Split
from regatta.ingest.table import ParsedTable
from regatta.runs.directory import RunDirectory
from regatta.runs.uncertainty import uncertainty
from regatta.solvers.choose import Settings
from regatta.solvers.training import Evaluation, Training, parameters_in_units
from regatta.utils import RegattaError, available_cores, write_json

MOST_REPAIRS = 200
# Features of held-out rows: up to here their errors are found within about 50 ms.
QUICK_CELLS = 1_000_000


@dataclass(frozen=True)
class Seconds:
    """How long a run took.

    Training leaves pauses and earlier attempts' lost work out. The total is all of the last
    attempt and the training that it went on from.
    """

    importing: float
    training: float
    total: float


def write_results(
    directory: RunDirectory,
    config: TrainingConfig,
    table: ParsedTable,
    prepared: PreparedData,
    settings: Settings,
    training: Training,
    *,
    n_workers: int,
    evaluation: Evaluation,
    seconds: Seconds,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Write ``model.json`` and ``result.json``; returns the latter's content.

    ``notes`` are warnings about what was asked for.
    """
    weights, intercept = parameters_in_units(prepared, training.solver.parameters)
    model = FittedModel(
        preprocessing=prepared.preprocessing,
        weights=weights,
        intercept=intercept,
        model=config.model,
        alpha=training.alpha,
        l1_ratio=config.l1_ratio,
        run_id=directory.run_id,
        created=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        dialect=table.dialect.to_json(),
        rows_train=prepared.rows_train,
        metrics=evaluation.scores,
        data=trained_on(prepared),
    )
    model.save(directory.model)
    spent = seconds.training
    result = {
        "run_id": directory.run_id,
        "state": "finished",
        "model": config.model,
        "solver": settings.solver,
        "alpha": training.alpha,
        "l1_ratio": config.l1_ratio,
        "workers": n_workers,
        "shards": prepared.shards,
        "rows": prepared.rows,
        "rows_train": prepared.rows_train,
        "rows_validation": prepared.rows_validation,
        "features": prepared.features,
        "batch_size": settings.batch_size,
        **training.report(),
        **training.gap_report(evaluation),
        "seconds": {"import": seconds.importing, "train": spent, "total": seconds.total},
        "rows_per_second": training.rows / spent if spent else 0.0,
        "metrics": evaluation.scores,
        "coefficients": model.coefficients(),
        "intercept": model.original_intercept,
        "weights_sha256": model.weights_sha256,
        "model_path": str(directory.model),
        "data": reading(table, prepared),
        "machine": machine(),
        "warnings": [*prepared.warnings, *notes],
    }
    optimum = training.optimum
    if optimum is not None:
        result["solver_warnings"] = list(training.warnings)
        result["inference"] = uncertainty(config.model, prepared, optimum)
        if optimum.path is not None:
            write_json(directory.path_file, optimum.path.to_json(prepared.feature_names))
    write_json(directory.result, result)
    if prepared.rows_validation * prepared.features <= QUICK_CELLS:
        find_errors(directory, table, prepared, model)
    return result


def find_errors(
    directory: RunDirectory, table: ParsedTable, prepared: PreparedData, model: FittedModel
) -> None:
    """Keep what the page tells of errors on held-out rows, while the rows are at hand.

    Where they are many, the page finds them when somebody looks; it says so, too, if they cannot
    be found.
    """
    target = table.column(model.target)
    counts = prepared.rows_train, prepared.rows_validation
    split = Split(prepared.seed, target, prepared.threshold, *counts)
    with contextlib.suppress(RegattaError):
        residuals.keep(directory, residuals.summarise(RunRows(table, split, model)))


def trained_on(prepared: PreparedData) -> dict[str, Any]:
    """What a model was trained on: see `FittedModel.data`."""
    dataset = prepared.dataset
    return {
        "name": dataset["name"],
        "content_hash": dataset["content_hash"],
        "rows": prepared.rows,
        "rows_validation": prepared.rows_validation,
        "seed": prepared.seed,
        "target": {
            "mean": prepared.target_mean,
            "scale": prepared.target_scale,
            "low": dataset["target_low"],
            "high": dataset["target_high"],
        },
    }


def reading(table: ParsedTable, prepared: PreparedData) -> dict[str, Any]:
    """What the file was and how it was read, for who looks at the run after the file has gone."""
    return {
        "name": table.name,
        "path": prepared.dataset["path"],
        "key": table.key,
        "content_hash": table.content_hash,
        "rows": table.rows,
        "columns": len(table.columns),
        "duplicate_rows": table.duplicates,
        "rejected_rows": table.rejected_rows,
        "dialect": table.dialect.report(),
        "assumed": table.assumed(),
        "evidence": dict(table.evidence),
        "options": table.options,
        "repairs": list(table.repairs[:MOST_REPAIRS]),
        "repairs_count": len(table.repairs),
    }


def machine() -> dict[str, Any]:
    """What the run was made with: versions, system, cores and memory (bytes)."""
    import scipy

    return {
        "regatta": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "system": platform.platform(terse=True),
        "processor": platform.machine(),
        "cores": available_cores(),
        "memory": psutil.virtual_memory().total,
    }
