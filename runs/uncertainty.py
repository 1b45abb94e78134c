"""How sure the coefficients of a finished run are: standard errors, or why there are none."""

from __future__ import annotations

from typing import Any

from regatta.data_pipeline import PreparedData
from regatta.preprocessing import CategoryEncoding
from regatta.solvers.inference import Units, infer, why_not
from regatta.solvers.optimum import Optimum


def uncertainty(model: str, prepared: PreparedData, optimum: Optimum) -> dict[str, Any]:
    """Inference in the columns' and the target's own units, or ``{"why_not": sentence}``.

    All indicators of a category add up to the intercept, so one level of each is left out, as in
    a textbook, and the others are told against it: ``reference_levels`` names them.
    """
    kept, reference = _without_reference_levels(prepared)
    statistics = optimum.statistics.keeping(kept)
    reason = why_not(model, statistics)
    if reason:
        return {"why_not": reason}
    encoded = prepared.preprocessing
    units = Units.of(
        encoded.means[kept], encoded.scales[kept], y_mean=prepared.target_mean, y_scale=1.0
    )
    names = [encoded.feature_names[j] for j in kept]
    return {**infer(statistics, units=units).to_json(names), "reference_levels": reference}


def _without_reference_levels(prepared: PreparedData) -> tuple[list[int], dict[str, str]]:
    """Indices of the features that stay, and the level left out of each category."""
    kept: list[int] = []
    reference: dict[str, str] = {}
    start = 0
    for column in prepared.preprocessing.columns:
        stop = start + len(column.features)
        if isinstance(column, CategoryEncoding):
            reference[column.name] = column.features[0].name
            start += 1
        kept.extend(range(start, stop))
        start = stop
    return kept, reference
