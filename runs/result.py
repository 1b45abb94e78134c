"""What a finished run leaves: the model, and the object that ``regatta train --json`` prints."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regatta.configuration import TrainingConfig
from regatta.data_pipeline import PreparedData
from regatta.fitted_model import FittedModel
from regatta.ingest.table import ParsedTable
from regatta.solvers.base import Solver
from regatta.solvers.choose import Settings


@dataclass(frozen=True)
class Outcome:
    """What is known when the last step is done. Seconds of training exclude pauses."""

    run_id: str
    rows_processed: int
    base_rate: float | None
    n_workers: int
    import_seconds: float
    train_seconds: float
    total_seconds: float
    scores: dict[str, dict[str, float | None]]


def fitted_model(
    run_id: str,
    config: TrainingConfig,
    table: ParsedTable,
    prepared: PreparedData,
    parameters: NDArray[np.float64],
    scores: dict[str, dict[str, float | None]],
) -> FittedModel:
    """The model of ``parameters`` (n_features + 1,), which are in units of the target's
    deviation."""
    scale = prepared.target_scale
    return FittedModel(
        preprocessing=prepared.preprocessing,
        weights=parameters[:-1] * scale,
        intercept=float(parameters[-1] * scale + prepared.target_mean),
        model=config.model,
        alpha=config.alpha,
        l1_ratio=config.l1_ratio,
        run_id=run_id,
        created=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        dialect=table.dialect.to_json(),
        rows_train=prepared.rows_train,
        metrics=scores,
    )


def result_object(
    outcome: Outcome,
    config: TrainingConfig,
    prepared: PreparedData,
    settings: Settings,
    solver: Solver,
    model: FittedModel,
) -> dict[str, Any]:
    """The result of a finished run, without the place of its model."""
    seconds = outcome.train_seconds
    return {
        "run_id": outcome.run_id,
        "state": "finished",
        "model": config.model,
        "solver": settings.solver,
        "alpha": config.alpha,
        "l1_ratio": config.l1_ratio,
        "workers": outcome.n_workers,
        "shards": prepared.shards,
        "rows": prepared.rows,
        "rows_train": prepared.rows_train,
        "rows_validation": prepared.rows_validation,
        "features": prepared.features,
        "epochs": solver.epoch,
        "steps": solver.step_count,
        "batch_size": settings.batch_size,
        "learning_rate": outcome.base_rate,
        "converged": solver.converged,
        "validation_used_to_stop": config.patience is not None,
        "seconds": {
            "import": outcome.import_seconds,
            "train": seconds,
            "total": outcome.total_seconds,
        },
        "rows_per_second": outcome.rows_processed / seconds if seconds else 0.0,
        "metrics": outcome.scores,
        "coefficients": model.coefficients(),
        "intercept": model.original_intercept,
        "weights_sha256": model.weights_sha256,
        "warnings": prepared.warnings,
    }
