"""Scores where they mean nothing, and GPUs that do not tell everything."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from regatta.metrics import MachineSampler, Scores


def scores_of(residual: np.ndarray) -> Scores:
    """As a worker sums them over float32 rows."""
    residual = residual.astype(np.float32)
    squared, absolute = float(residual @ residual), float(np.abs(residual).sum())
    return Scores(len(residual), squared / 2, float(residual.sum()), squared, absolute)


@pytest.mark.parametrize("rows", [1, 2, 1000])
def test_r2_of_equal_targets_is_none_whatever_the_rounding(rows):
    for value in np.random.default_rng(0).standard_normal(50):
        at_zero = scores_of(np.full(rows, value))
        found = scores_of(np.full(rows, value + 1)).in_units(1.0, at_zero.residual_variation)
        assert found["r2"] is None


def test_r2_of_targets_that_hardly_differ_is_a_number():
    target = 2.0 + 0.02 * np.random.default_rng(0).standard_normal(1000)
    variation = scores_of(target).residual_variation
    assert variation == pytest.approx(((target - target.mean()) ** 2).sum(), rel=1e-2)


class NotSupported(Exception):
    """What NVML raises for a figure that a GPU does not have."""


def refuse(handle: object) -> None:
    raise NotSupported


@pytest.mark.parametrize(
    ("rates", "expected"),
    [(lambda handle: SimpleNamespace(gpu=40), (40.0, 123)), (refuse, (None, 123))],
    ids=["everything", "no utilisation"],
)
def test_a_gpu_that_does_not_tell_everything(rates, expected, monkeypatch):
    library = SimpleNamespace(
        NVMLError=NotSupported,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetUtilizationRates=rates,
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(used=123),
    )
    monkeypatch.setitem(sys.modules, "pynvml", library)
    sample = MachineSampler().sample()
    assert (sample["gpu_percent"], sample["gpu_memory"]) == expected
