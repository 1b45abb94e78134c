"""The model artifact: what a run leaves behind, and all that is needed to predict with it.

    model.json ──load──▶ FittedModel ──predict(columns)──▶ features @ weights + intercept

Weights are those of the standardised features and give the target in its own units;
`FittedModel.coefficients` turns them into the units of the columns. No training is imported here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from regatta import __version__
from regatta.preprocessing import Preprocessing
from regatta.utils import RegattaError, read_json, write_json

FORMAT = "regatta-model"
VERSION = 1

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedModel:
    """A fitted linear model with the preprocessing it was fitted on.

    Parameters
    ----------
    weights : ndarray (n_features,), float64
        Of the standardised features, in the target's own units.
    intercept : float
        The prediction where every standardised feature is 0.
    data : mapping
        What it was trained on: the file's ``name`` and ``content_hash`` (BLAKE3 of its bytes),
        its ``rows``, how many were held out, and mean, deviation and range of the target over the
        training rows (in ``target``). Empty where that is not known.
    """

    preprocessing: Preprocessing
    weights: FloatArray
    intercept: float
    model: str
    alpha: float = 0.0
    l1_ratio: float = 0.5
    run_id: str = ""
    created: str = ""
    dialect: Mapping[str, Any] = field(default_factory=dict)
    rows_train: int = 0
    metrics: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    regatta_version: str = __version__

    def __post_init__(self) -> None:
        weights = np.ascontiguousarray(self.weights, dtype=np.float64)
        expected = (len(self.preprocessing.features),)
        if weights.shape != expected:
            raise RegattaError(f"The model has {weights.shape} weights for {expected} features.")
        if not (np.isfinite(weights).all() and np.isfinite(self.intercept)):
            raise RegattaError("The model has weights that are not finite.")
        object.__setattr__(self, "weights", weights)

    @property
    def target(self) -> str:
        return self.preprocessing.target

    @property
    def feature_names(self) -> list[str]:
        return self.preprocessing.feature_names

    @property
    def weights_sha256(self) -> str:
        """Name of the result: SHA-256 of the float64 bytes of weights and intercept."""
        return weights_sha256(self.weights, self.intercept)

    def predict(self, columns: Mapping[str, npt.NDArray[Any]]) -> FloatArray:
        """Predictions (n_rows,) in the target's units, from columns as `Preprocessing.transform`
        takes them."""
        return self.preprocessing.transform(columns) @ self.weights + self.intercept

    def coefficients(self) -> dict[str, float]:
        """What one unit of each feature adds to the prediction, in the units of the columns."""
        original = self.weights / self.preprocessing.scales
        return dict(zip(self.feature_names, original.tolist(), strict=True))

    @property
    def original_intercept(self) -> float:
        """The prediction where every feature is 0 in its own units."""
        shift = self.preprocessing.means * self.weights / self.preprocessing.scales
        return float(self.intercept - shift.sum())

    def to_json(self) -> dict[str, Any]:
        """The content of ``model.json``."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "run_id": self.run_id,
            "created": self.created,
            "model": self.model,
            "alpha": self.alpha,
            "l1_ratio": self.l1_ratio,
            "preprocessing": self.preprocessing.to_json(),
            "weights": self.weights.tolist(),
            "intercept": self.intercept,
            "dialect": dict(self.dialect),
            "rows_train": self.rows_train,
            "metrics": dict(self.metrics),
            "data": dict(self.data),
            "regatta_version": self.regatta_version,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> FittedModel:
        """What `to_json` wrote. Raises `RegattaError` if it is no model of this version."""
        if value.get("format") != FORMAT:
            raise RegattaError("This is not a model of Regatta.")
        if value.get("version") != VERSION:
            raise RegattaError(
                f"The model has version {value.get('version')!r}, known is {VERSION}.",
                "Use the Regatta that wrote it, or train it again.",
            )
        rest = {key: value[key] for key in value.keys() - {"format", "version", "preprocessing"}}
        return cls(preprocessing=Preprocessing.from_json(value["preprocessing"]), **rest)

    def save(self, path: Path) -> None:
        """Write ``model.json`` whole or not at all."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> FittedModel:
        """Read a ``model.json``. Raises `RegattaError` if it is missing or damaged."""
        try:
            return cls.from_json(read_json(path))
        except FileNotFoundError:
            raise RegattaError(f"There is no model in {path}.", "Has the run finished?") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RegattaError(f"The model in {path} is damaged: {error}.") from error


def weights_sha256(weights: npt.ArrayLike, intercept: float) -> str:
    """SHA-256 over the float64 bytes of ``weights`` followed by ``intercept``, little-endian."""
    values = np.append(np.asarray(weights, dtype="<f8"), intercept).astype("<f8")
    return hashlib.sha256(values.tobytes()).hexdigest()
