"""The learning rate: a safe one from the data, and how it falls.

For least squares with mini-batches of B rows the noise and the curvature of a batch are bounded
together by its *expected smoothness* L + max‖x_i‖²/B, where L is the largest eigenvalue of XᵀX/n;
the inverse of that is a step that converges. Momentum repeats each step 1/(1−β) times, which the
curvature tolerates and the noise does not: hence L + max‖x_i‖²/(B(1−β)).

Source: Gower et al., SGD: General Analysis and Improved Rates (2019), equation 12 and section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

# Adam divides each gradient by its own size, so its step does not depend on the data's scale: the
# features are standardised and the target too, and weights are of the order of one.
ADAM_RATE = 0.01
POWER_ITERATIONS = 60
POWER_TOLERANCE = 1e-3
# Power iteration comes from below; what it has left to gain is a few times its last change.
EIGENVALUE_MARGIN = 1.02


def largest_eigenvalue(
    product: Callable[[NDArray[np.float64]], NDArray[np.float64]], size: int
) -> float:
    """The largest eigenvalue of a positive semi-definite matrix, from products with vectors.

    Parameters
    ----------
    product : callable
        Vector (size,) to matrix times vector (size,).
    size : int
    """
    vector = np.random.default_rng(0).standard_normal(size)
    vector /= np.linalg.norm(vector)
    value = 0.0
    for _ in range(POWER_ITERATIONS):
        image = product(vector)
        norm = float(np.linalg.norm(image))
        if norm == 0.0 or not math.isfinite(norm):
            break
        vector = image / norm
        if abs(norm - value) <= POWER_TOLERANCE * norm:
            value = norm
            break
        value = norm
    return value * EIGENVALUE_MARGIN


def safe_rate(
    eigenvalue: float, max_row_norm2: float, batch_size: float, memory: float, l2: float
) -> float:
    """A learning rate that converges with batches of ``batch_size`` rows.

    Parameters
    ----------
    eigenvalue : float
        Largest eigenvalue of XᵀX/n, times the curvature of the loss.
    max_row_norm2 : float
        Largest squared norm of a row.
    memory : float
        `Optimizer.memory`.
    l2 : float
        The penalty's.
    """
    return 1.0 / (eigenvalue + max_row_norm2 * memory / batch_size + l2)


def schedule(name: str, total_steps: int, steps_per_epoch: int) -> Callable[[int], float]:
    """The share of the first learning rate that step 0, 1, … is taken with.

    constant 1; inverse-scaling (1 + epochs so far)^(−1/2); cosine from 1 to 0 over the run; step:
    halved at each tenth of the run.
    """

    def cosine(step: int) -> float:
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / total_steps)))

    def inverse_scaling(step: int) -> float:
        return (1.0 + step / steps_per_epoch) ** -0.5

    def halving(step: int) -> float:
        return float(0.5 ** (10 * step // total_steps))

    return {
        "constant": lambda step: 1.0,
        "inverse-scaling": inverse_scaling,
        "cosine": cosine,
        "step": halving,
    }[name]
