"""Objectives, penalties and update rules: pure arithmetic."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from regatta import models
from regatta.models import Objective, Penalty
from regatta.parameter_server import learning_rate, optimizers
from regatta.utils import UserError

finite = st.floats(-1e3, 1e3, allow_nan=False, width=64)
vectors = arrays(np.float64, st.integers(2, 12), elements=finite)
positive = st.floats(0, 100, allow_nan=False)


class Huber(Objective):
    """A model from outside: quadratic near zero, linear beyond. See docs/extending.md."""

    name = "huber"
    threshold = 1.35

    def loss(self, residual, derivative):
        inside = np.clip(residual, -self.threshold, self.threshold)
        total = float((inside * (residual - 0.5 * inside)).sum())
        np.copyto(derivative, inside)
        return total

    def penalty(self, alpha, l1_ratio, n_rows):
        return Penalty(0.0, alpha / n_rows)


@pytest.mark.parametrize("objective", [models.get("ridge"), Huber()], ids=["squares", "huber"])
@given(residual=arrays(np.float64, 7, elements=st.floats(-5, 5)))
def test_derivatives_agree_with_finite_differences(objective, residual):
    derivative, scratch, step = np.empty(7), np.empty(7), 1e-6
    objective.loss(residual.copy(), derivative)
    for i in range(7):
        ahead, behind = residual.copy(), residual.copy()
        ahead[i] += step
        behind[i] -= step
        slope = (objective.loss(ahead, scratch) - objective.loss(behind, scratch)) / (2 * step)
        assert slope == pytest.approx(derivative[i], abs=1e-4)


@given(vectors, positive, positive)
def test_smooth_gradient_of_the_penalty(parameters, l1, l2):
    penalty, gradient = Penalty(l1, l2), np.zeros_like(parameters)
    penalty.add_smooth_gradient(parameters, gradient)
    np.testing.assert_allclose(gradient[:-1], l2 * parameters[:-1])
    assert gradient[-1] == 0  # the intercept is never penalised


@given(vectors, positive, st.floats(1e-3, 10))
def test_the_prox_solves_its_problem(parameters, l1, step):
    """p minimises ½(p − v)² + step·l1·|p|: zero, or v − p = step·l1·sign(p)."""
    v = parameters.copy()
    Penalty(l1, 0.0).prox(parameters, step)
    p, threshold = parameters[:-1], step * l1
    assert parameters[-1] == v[-1]
    for before, after in zip(v[:-1], p, strict=True):
        if after == 0:
            assert abs(before) <= threshold * (1 + 1e-12)
        else:
            assert before - after == pytest.approx(threshold * np.sign(after), rel=1e-6, abs=1e-9)


@given(vectors)
def test_prox_with_a_step_for_each_weight(parameters):
    steps = np.linspace(0.1, 2.0, len(parameters) - 1)
    expected = parameters.copy()
    for i, step in enumerate(steps):
        one = np.array([parameters[i], 0.0])
        Penalty(3.0, 0.0).prox(one, float(step))
        expected[i] = one[0]
    Penalty(3.0, 0.0).prox(parameters, steps)
    np.testing.assert_array_equal(parameters, expected)


def test_scaling_of_alpha():
    assert models.get("linear").penalty(5.0, 0.3, 100) == Penalty(0.0, 0.0)
    assert models.get("ridge").penalty(5.0, 0.3, 100) == Penalty(0.0, 0.05)
    assert models.get("lasso").penalty(5.0, 0.3, 100) == Penalty(5.0, 0.0)
    assert models.get("elasticnet").penalty(5.0, 0.3, 100) == Penalty(1.5, 3.5)


def test_models_are_found_by_name_or_place():
    assert set(models.registered()) == {"linear", "ridge", "lasso", "elasticnet"}
    assert isinstance(models.get("regatta.models:Lasso"), models.Lasso)
    with pytest.raises(UserError, match="nope"):
        models.get("nope")


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam"])
def test_an_update_rule_goes_on_from_its_state(name):
    rng, penalty = np.random.default_rng(1), Penalty(0.01, 0.1)
    gradients = rng.standard_normal((20, 5))
    whole, first = optimizers.make(name, 5, 0.9), optimizers.make(name, 5, 0.9)
    p, q = np.zeros(5), np.zeros(5)
    for g in gradients:
        whole.update(p, g.copy(), 0.1, penalty)
    for g in gradients[:10]:
        first.update(q, g.copy(), 0.1, penalty)
    second = optimizers.make(name, 5, 0.9)
    second.restore({key: value.copy() for key, value in first.state().items()})
    for g in gradients[10:]:
        second.update(q, g.copy(), 0.1, penalty)
    assert p.tobytes() == q.tobytes()


@pytest.mark.parametrize("size", [1, 4, 60])
@given(seed=st.integers(0, 2**32 - 1), rank=st.integers(0, 5))
def test_the_largest_eigenvalue(size, seed, rank):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((rank, size)) * (rng.random(size) < 0.3)
    H = X.T @ X
    found = learning_rate.largest_eigenvalue(lambda v: H @ v, size, float(np.trace(H)))
    largest = float(np.linalg.eigvalsh(H)[-1])
    assert largest * (1 - 1e-9) - 1e-12 <= found <= largest * 1.003 + 1e-9


@pytest.mark.parametrize("name", ["constant", "inverse-scaling", "cosine", "step"])
def test_schedules_begin_at_one_and_never_rise(name):
    factor = learning_rate.schedule(name, 1000, 50)
    values = [factor(step) for step in range(1000)]
    assert values[0] == 1.0
    assert all(b <= a for a, b in itertools.pairwise(values))
    assert all(v > 0 for v in values)
