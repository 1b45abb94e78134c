"""The learning rate: a safe one from the data, and how it falls.

For least squares with mini-batches of B rows the noise and the curvature of a batch are bounded
together by its *expected smoothness* L + max‖x_i‖²/B, where L is the largest eigenvalue of XᵀX/n;
the inverse of that is a step that converges. Momentum repeats each step 1/(1−β) times, which the
curvature tolerates and the noise does not: hence L + max‖x_i‖²/(B(1−β)).

A gradient that is τ updates late pushes on for τ steps after it should have turned. Steps with a
memory m = 1/(1−β) then diverge above about 1/(τ m L), from 1.0 to 2 times that for τ of 1 to 31 and
β of 0 to 0.99 (roots of the recursion of a quadratic); L (1 + 2 τ m) stays at half of it or less.
What counts is the mean delay, which is that of the tickets that are out.

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
# Up to this size the matrix itself is made, a column a product; it costs no more than iterating.
DENSE_SIZE = 32
EIGENVALUE_TOLERANCE = 1e-3


def largest_eigenvalue(
    product: Callable[[NDArray[np.float64]], NDArray[np.float64]], size: int, bound: float
) -> float:
    """The largest eigenvalue of a positive semi-definite matrix, from products with vectors.

    Parameters
    ----------
    product : callable
        Vector (size,) to matrix times vector (size,).
    size : int
    bound : float
        An upper bound, for instance the trace: the answer where the iteration does not converge.
    """
    if size <= DENSE_SIZE:
        return float(np.linalg.eigvalsh([product(row) for row in np.eye(size)])[-1])
    from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

    matrix = LinearOperator((size, size), matvec=product, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(size)
    try:
        found = eigsh(
            matrix, k=1, which="LA", v0=start, tol=EIGENVALUE_TOLERANCE, return_eigenvectors=False
        )
    except ArpackError:  # no convergence, or a matrix of zeros
        return bound
    return min(bound, (1.0 + EIGENVALUE_TOLERANCE) * float(found[0]))


def safe_rate(
    eigenvalue: float,
    max_row_norm2: float,
    batch_size: float,
    memory: float,
    l2: float,
    delay: float = 0.0,
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
    delay : float
        Updates between the parameters of a gradient and its own, in the mean.
    """
    steepness = (eigenvalue + l2) * (1.0 + 2.0 * delay * memory)
    return 1.0 / (steepness + max_row_norm2 * memory / batch_size)


def schedule(name: str, total_steps: int, steps_per_epoch: int) -> Callable[[int], float]:
    """The share of the first learning rate that step 0, 1, … is taken with.

    constant 1; inverse-scaling (1 + epochs so far)^(−1/2); cosine from 1 to 0 over the run; step:
    halved at each tenth of the run.
    """

    def constant(step: int) -> float:
        return 1.0

    def cosine(step: int) -> float:
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / total_steps)))

    def inverse_scaling(step: int) -> float:
        return 1.0 / math.sqrt(1.0 + step / steps_per_epoch)

    def halving(step: int) -> float:
        return float(0.5 ** (10 * step // total_steps))

    factors: dict[str, Callable[[int], float]] = {
        "constant": constant,
        "inverse-scaling": inverse_scaling,
        "cosine": cosine,
        "step": halving,
    }
    return factors[name]
