"""The coefficients of a model as people read them.

In the columns' own units and for one standard deviation more; levels of a category under their
column and, where least squares tells how sure they are, against their reference level.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from regatta.fitted_model import FittedModel
from regatta.preprocessing import CategoryEncoding, Feature

# What least squares says of a coefficient, by the names that `solvers.inference` gives it.
SURE = ("standard_error", "low", "high", "p", "vif")


@dataclass(frozen=True)
class Effect:
    """One coefficient.

    Attributes
    ----------
    name, column : str
        The feature, and the column that it was made of.
    level, reference : str or None
        Of an indicator: its level, and the one that it is told against, if it is. The reference
        itself has the coefficient 0.
    coefficient : float
        Change of the prediction for one unit more, in the target's unit.
    scale : float
        One standard deviation of the feature over the training rows.
    standard_error, low, high, p, vif : float or None
        For one unit more; ``None`` where they are not valid or not known.
    """

    name: str
    column: str
    level: str | None
    reference: str | None
    coefficient: float
    scale: float
    standard_error: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    vif: float | None = None

    @property
    def standardised(self) -> float:
        """Change of the prediction for one standard deviation more."""
        return self.coefficient * self.scale

    @property
    def is_reference(self) -> bool:
        return self.reference is not None and self.level == self.reference

    @property
    def label(self) -> str:
        """Its name, with what it is told against."""
        if self.is_reference:
            return f"{self.name} (reference)"
        return f"{self.name} vs {self.reference}" if self.reference is not None else self.name

    def ends(self, *, standardised: bool) -> tuple[float, float] | None:
        """The interval around the coefficient, if there is one."""
        if self.low is None or self.high is None:
            return None
        by = self.scale if standardised else 1.0
        return self.low * by, self.high * by

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "standardised": self.standardised}


def effects_of(model: FittedModel, inference: Mapping[str, Any] | None = None) -> list[Effect]:
    """All coefficients, the largest change for one standard deviation first.

    Parameters
    ----------
    inference : mapping, optional
        ``inference`` of the run's result. Where it holds intervals, the coefficients are those
        that they belong to: levels are told against their reference level.
    """
    sure = {each["name"]: each for each in (inference or {}).get("coefficients", ())}
    references = set(((inference or {}).get("reference_levels") or {}).values())
    found = list(_effects(model, sure, references if sure else set()))
    return sorted(found, key=lambda each: -abs(each.standardised))


def grouped(effects: Sequence[Effect]) -> list[Effect]:
    """The same, the features of a column beside each other; columns by their largest one."""
    columns: dict[str, list[Effect]] = {}
    for each in effects:
        columns.setdefault(each.column, []).append(each)
    return [each for column in columns.values() for each in column]


def _effects(
    model: FittedModel, sure: Mapping[str, Mapping[str, Any]], references: set[str]
) -> Iterator[Effect]:
    coefficients = model.coefficients()
    for column in model.preprocessing.columns:
        reference = _reference(column.name, column.features, references)
        for feature in column.features:
            known = sure.get(feature.name, {})
            estimate = known.get("estimate")
            value = coefficients[feature.name] if estimate is None else float(estimate)
            if feature.name in references:
                value = 0.0
            yield Effect(
                feature.name,
                column.name,
                _level(feature, column.name) if isinstance(column, CategoryEncoding) else None,
                reference,
                value,
                feature.scale,
                **{name: known.get(name) for name in SURE},
            )


def _reference(column: str, features: Sequence[Feature], references: set[str]) -> str | None:
    for feature in features:
        if feature.name in references:
            return _level(feature, column)
    return None


def _level(feature: Feature, column: str) -> str:
    return feature.name.removeprefix(f"{column}=") if feature.level is None else feature.level
