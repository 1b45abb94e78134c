"""What plain scikit-learn makes of the rows of a run: Ridge, Lasso, SGDRegressor and the mean;
LinearRegression in the place of the first two where the run has no penalty.

    training rows of the run, its features ──▶ fit (timed) ──▶ coefficients ─┐
    held-out rows of the run ────────────────────────────────────────────────┴──▶ R², RMSE, spread

Each is as strongly regularised as the run. With features and target standardised, a run minimises
½ mean(residual²) + l1 ‖w‖₁ + l2/2 ‖w‖² (`regatta.models`); λ = l1 + l2 is its strength. A baseline
has λ before its own norm, in the form that its class takes:

    Ridge(alpha)                    ‖y − Xw‖² + alpha ‖w‖²               alpha = λ n
    Lasso(alpha)                    ½ mean(…²) + alpha ‖w‖₁              alpha = λ s
    ElasticNet(alpha, l1_ratio)     where the run has both norms         as in the run
    SGDRegressor(alpha, l1_ratio)   ½ mean(…²) on y / s, the run's norm  alpha = λ, l1_ratio = l1/λ

with n rows and a target of deviation s. So the class that the run's model is named after has the
run's own ``alpha``, and minimises the same. All else is as scikit-learn has it, but for what would
make it look worse than it is: Lasso is given its Gram matrix (``precompute``), and SGDRegressor a
first step that the longest row allows, 1/max ‖x‖², where its own of 0.01 would let it diverge.

The rows are held in memory, as scikit-learn needs them: `MOST_BYTES` of them at most, and a quarter
of what is free. Of more, a seeded sample is taken, and that is said. Measured: 740 MB at the peak.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from regatta import models
from regatta.configuration import TrainingConfig
from regatta.explain import held_out, residuals
from regatta.explain.held_out import RunRows
from regatta.explain.residuals import Errors
from regatta.fitted_model import FittedModel
from regatta.ingest import hashing
from regatta.ingest.scatter import Block, Plan, blocks_of, chosen_rows, raw_features
from regatta.models import Penalty
from regatta.preprocessing import standardise
from regatta.runs.directory import RunDirectory
from regatta.utils import UserError, read_json, write_json

FORMAT = 1
# Of training rows in memory. Fitting takes as much again, for a copy that is centred or turned.
MOST_BYTES = 256_000_000
# Ridge makes a square matrix of the features, and Lasso passes over each again and again.
MOST_FEATURES = 4_000
FIRST_STEP = 0.01  # SGDRegressor's own

FloatArray = npt.NDArray[np.float64]
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Plain:
    """A regressor of scikit-learn before it is fitted.

    ``scaled`` says that it is fitted to the target divided by its deviation, which its step size
    and tolerance are made for. ``settings`` are those that matter, as they would be typed.
    """

    name: str
    regressor: Any
    settings: str = ""
    scaled: bool = False


@dataclass(frozen=True)
class TrainingRows:
    """Standardised features (n, d) and target (n,) in its own units, of all training rows of a run
    (``total``) or of a sample."""

    X: FloatArray
    y: FloatArray
    total: int

    @property
    def deviation(self) -> float:
        """Standard deviation of the target; 1 where it is the same in all rows."""
        return float(self.y.std()) or 1.0


def planned(
    model: str, alpha: float, l1_ratio: float, rows: TrainingRows, *, seed: int = 0
) -> list[Plain]:
    """The baselines of a run with that model, ``alpha`` (as it was chosen) and ``l1_ratio``. On a
    sample of its rows they are as strongly regularised."""
    from sklearn.dummy import DummyRegressor
    from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, Ridge

    n, width = rows.X.shape
    penalty = models.get(model).penalty(alpha, l1_ratio, rows.total)
    scaled = Penalty(penalty.l1 / rows.deviation, penalty.l2)
    strength = scaled.l1 + scaled.l2
    gram = {"precompute": n > width}
    found = [Plain("Mean", DummyRegressor())]
    if strength:
        ridge, lasso = Ridge(), Lasso(**gram)
        found.append(_with("Ridge", ridge, alpha=strength * n))
        found.append(_with("Lasso", lasso, alpha=strength * rows.deviation))
    else:  # Ridge's way needs a penalty where features depend on each other, as indicators do
        found.append(Plain("LinearRegression", LinearRegression()))
    if scaled.l1 and scaled.l2:
        both = penalty.l1 + penalty.l2
        net = ElasticNet(**gram)
        found.append(_with("ElasticNet", net, alpha=both, l1_ratio=penalty.l1 / both))
    return [*found, _steps(scaled, rows, seed)]


def _steps(scaled: Penalty, rows: TrainingRows, seed: int) -> Plain:
    """SGDRegressor, on the target divided by its deviation."""
    from sklearn.linear_model import SGDRegressor

    strength, norm = scaled.l1 + scaled.l2, _norm(scaled)
    values: dict[str, float] = {"alpha": strength} if norm else {}
    if norm == "elasticnet":
        values["l1_ratio"] = scaled.l1 / strength
    longest = float(np.einsum("ij,ij->i", rows.X, rows.X).max())
    values["eta0"] = min(FIRST_STEP, 1.0 / longest) if longest else FIRST_STEP
    regressor = SGDRegressor(penalty=norm, learning_rate="adaptive", random_state=seed)
    plain = _with("SGDRegressor", regressor, **values)
    return replace(plain, settings=f"penalty={norm!r}, {plain.settings}", scaled=True)


def _with(name: str, regressor: Any, **values: float) -> Plain:
    settings = ", ".join(f"{key}={value:.4g}" for key, value in values.items())
    return Plain(name, regressor.set_params(**values), settings)


def _norm(penalty: Penalty) -> str | None:
    if penalty.l1 and penalty.l2:
        return "elasticnet"
    return "l1" if penalty.l1 else "l2" if penalty.l2 else None


# -- rows -----------------------------------------------------------------------------------------


def training_rows(rows: RunRows, most_bytes: int, progress: Progress | None = None) -> TrainingRows:
    """The training rows of a run with its own features, a seeded sample where they are too many.

    Raises
    ------
    UserError
        It has more features than `MOST_FEATURES`.
    """
    encoded, total = rows.model.preprocessing, rows.split.rows_train
    width = len(encoded.features)
    if width > MOST_FEATURES:
        raise UserError(
            f"This run has {width:,} features, and scikit-learn would need "
            f"{8 * width**2 / 1e9:.1f} GB for a matrix of them alone.",
            f"Baselines are made for at most {MOST_FEATURES:,} features.",
        )
    limit = _limit(most_bytes // (8 * width), total)
    plan = Plan(rows.table.directory, rows.split, encoded, "float64")
    parts_X, parts_y, done = [], [], 0
    for block in blocks_of(rows.table, width):
        chosen = _sampled(block, chosen_rows(plan, block, "train"), limit)
        features = raw_features(plan, block, chosen)
        standardise(features, plan.means, plan.scales)
        parts_X.append(features.T.copy())
        target = rows.table.numbers(block.group, rows.split.target)
        parts_y.append(np.asarray(target[block.start : block.stop][chosen], np.float64))
        done += block.stop - block.start
        if progress is not None:
            progress(done / rows.table.rows, f"{done:,} of {rows.table.rows:,} rows read")
    return TrainingRows(_together(parts_X), np.concatenate(parts_y), total)


def _together(parts: list[FloatArray]) -> FloatArray:
    """The parts below each other, each given up once it is copied."""
    whole = np.empty((sum(map(len, parts)), parts[0].shape[1]))
    start = 0
    while parts:
        part = parts.pop(0)
        whole[start : start + len(part)] = part
        start += len(part)
    return whole


def _limit(most_rows: int, total: int) -> np.uint64 | None:
    """Rows whose hash is below are taken; None where all are."""
    return None if total <= most_rows else np.uint64(int(most_rows / total * 2.0**64))


def _sampled(
    block: Block, chosen: npt.NDArray[np.intp], limit: np.uint64 | None
) -> npt.NDArray[np.intp]:
    if limit is None:
        return chosen
    places = (block.first_row + block.start + chosen).astype(np.uint64)
    return chosen[hashing.finish(places, 0) < limit]


# -- fits and scores ------------------------------------------------------------------------------


def fitted(plain: Plain, rows: TrainingRows, model: FittedModel) -> tuple[FittedModel, float, str]:
    """The model that a baseline comes to, the seconds of its fit, and what it warned of."""
    from sklearn.exceptions import ConvergenceWarning

    mean, scale = float(rows.y.mean()), rows.deviation
    y = (rows.y - mean) / scale if plain.scaled else rows.y
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        started = time.perf_counter()
        plain.regressor.fit(rows.X, y)
        seconds = time.perf_counter() - started
    weights = getattr(plain.regressor, "coef_", np.zeros(rows.X.shape[1]))
    intercept = float(np.ravel(getattr(plain.regressor, "intercept_", mean))[0])
    if plain.scaled:
        weights, intercept = weights * scale, intercept * scale + mean
    unfinished = any(issubclass(each.category, ConvergenceWarning) for each in caught)
    note = "It had not converged when its rounds were over." if unfinished else ""
    return replace(model, weights=weights, intercept=intercept), seconds, note


def score(rows: RunRows, model: FittedModel) -> dict[str, Any]:
    """Scores of a model on the held-out rows of a run, and the standard errors of them."""
    errors = Errors(rows.split.rows_validation, most_kept=0)
    for batch in RunRows(rows.table, rows.split, model).held_out():
        errors.add(batch)
    return {"scores": errors.scores(), "spread": errors.spread()}


def compare(
    rows: RunRows,
    config: TrainingConfig,
    result: Mapping[str, Any],
    progress: Progress | None = None,
    *,
    most_bytes: int | None = None,
) -> dict[str, Any]:
    """Fit the baselines of a run and score them, as JSON.

    Parameters
    ----------
    result : mapping
        The run's ``result.json``.
    progress : callable, optional
        Told the share that is done, and a sentence; what it raises ends the work.
    most_bytes : int, optional
        Of training rows in memory; by default `MOST_BYTES`, or what is free allows.
    """
    from sklearn import __version__ as version
    from threadpoolctl import threadpool_limits

    tell = progress or (lambda share, text: None)
    threads = max(1, int(result.get("workers") or 1))
    if most_bytes is None:
        most_bytes = min(MOST_BYTES, psutil.virtual_memory().available // 4)
    data = training_rows(rows, most_bytes, lambda done, text: tell(0.3 * done, text))
    plans = planned(config.model, result["alpha"], config.l1_ratio, data, seed=config.seed)
    found = []
    for place, plain in enumerate(plans):
        tell(0.3 + 0.7 * place / len(plans), f"scikit-learn fits {plain.name}")
        with threadpool_limits(limits=threads):
            model, seconds, note = fitted(plain, data, rows.model)
        found.append({"name": plain.name, "settings": plain.settings, "seconds": seconds,
                      "note": note, **score(rows, model)})  # fmt: skip
    return {
        "format": FORMAT,
        "weights_sha256": rows.model.weights_sha256,
        "version": version,
        "threads": threads,
        "rows_train": data.total,
        "rows_used": len(data.y),
        "rows_validation": rows.split.rows_validation,
        "features": data.X.shape[1],
        "alpha_chosen": config.alpha == "auto",
        "run": score(rows, rows.model),
        "baselines": found,
    }


# -- of a run -------------------------------------------------------------------------------------


def of_run(
    directory: RunDirectory,
    config: TrainingConfig,
    progress: Progress | None = None,
    *,
    again: bool = False,
) -> dict[str, Any]:
    """The baselines of a finished run: as they were kept beside its model, or made and kept.

    Parameters
    ----------
    again : bool
        Whether they are to be made even if they are there: times are of the day.

    Raises
    ------
    UserError
        The run has not finished, its rows are not to be had any more, or it is too wide.
    """
    known = None if again else kept(directory)
    if known is not None:
        return known
    if not directory.model.is_file():
        raise UserError(
            f"Run {directory.run_id} has no model yet.", "Baselines are made for finished runs."
        )
    model, result = FittedModel.load(directory.model), residuals.read_result(directory)
    table = held_out.find_table(config, result)
    with table.hold():
        found = compare(held_out.open_rows(table, config, result, model), config, result, progress)
    write_json(path_of(directory), found, durable=False)  # they can be made again
    return found


def kept(directory: RunDirectory) -> dict[str, Any] | None:
    """What `of_run` has kept for the run's present model, if it has."""
    try:
        found, result = read_json(path_of(directory)), residuals.read_result(directory)
    except (OSError, ValueError, UserError):
        return None
    same = found.get("weights_sha256") == result.get("weights_sha256")
    return dict(found) if same and found.get("format") == FORMAT else None


def path_of(directory: RunDirectory) -> Path:
    """Where a run's baselines are kept."""
    return directory.path / "baselines.json"


def remarks(found: Mapping[str, Any]) -> Sequence[str]:
    """What must be known to read the figures, in sentences."""
    used, total, threads = found["rows_used"], found["rows_train"], found["threads"]
    told = [
        f"scikit-learn {found['version']}, {threads} thread{'s' if threads > 1 else ''}, on the "
        f"same {found['features']:,} features; the time is that of the fit alone."
    ]
    if found["alpha_chosen"]:
        told.append("The run chose its alpha by cross-validation in its time; here it is given.")
    if used < total:
        told.append(
            f"It saw {used:,} of the {total:,} training rows, drawn at random: all of them would "
            f"take {8 * total * found['features'] / 1e9:.1f} GB of memory."
        )
    told += [f"{each['name']}: {each['note']}" for each in found["baselines"] if each["note"]]
    return told
