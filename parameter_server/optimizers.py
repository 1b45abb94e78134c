"""Update rules: what the parameter server does with a gradient.

A new one is a subclass of `Optimizer`, decorated with `register`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from regatta.models import Penalty
from regatta.utils import UserError

Vector = NDArray[np.float64]


class Optimizer(ABC):
    """Moves the parameters (n_features + 1,) against a gradient, then applies the L1 prox.

    Attributes
    ----------
    memory : float
        How many times a gradient's step is felt in all, once its echoes have died down; the safe
        learning rate divides the noise's share by it.
    """

    name: ClassVar[str]

    def __init__(self, size: int, momentum: float) -> None:
        self.memory = 1.0

    @abstractmethod
    def update(self, parameters: Vector, gradient: Vector, rate: float, penalty: Penalty) -> None:
        """One step, in place. ``gradient`` may be overwritten."""

    def state(self) -> dict[str, Vector]:
        """The arrays that a checkpoint must hold; `restore` takes them back."""
        return {}

    def restore(self, state: dict[str, Vector]) -> None:
        """Take the arrays of `state` back."""
        for name, value in self.state().items():
            np.copyto(value, state[name])


_REGISTRY: dict[str, type[Optimizer]] = {}
AnyOptimizer = TypeVar("AnyOptimizer", bound=type[Optimizer])


def register(optimizer: AnyOptimizer) -> AnyOptimizer:
    """Class decorator: make an update rule known by its name."""
    _REGISTRY[optimizer.name] = optimizer
    return optimizer


def make(name: str, size: int, momentum: float) -> Optimizer:
    """The update rule called ``name`` for ``size`` parameters."""
    if name not in _REGISTRY:
        raise UserError(f"There is no optimizer {name!r}.", f"Known: {', '.join(_REGISTRY)}.")
    return _REGISTRY[name](size, momentum)


@register
class SGD(Optimizer):
    """p ← prox(p − ηg)."""

    name = "sgd"

    def update(self, parameters: Vector, gradient: Vector, rate: float, penalty: Penalty) -> None:
        gradient *= rate
        parameters -= gradient
        penalty.prox(parameters, rate)


@register
class Momentum(Optimizer):
    """p ← prox(p − ηg + β(p − p_before)): the heavy ball.

    Written with the difference of iterates, its fixed points with a prox are the minima of the
    objective; with a velocity of gradients they are not (Ochs et al., iPiano, 2014).
    """

    name = "momentum"

    def __init__(self, size: int, momentum: float) -> None:
        super().__init__(size, momentum)
        self._momentum = momentum
        self.memory = 1.0 / (1.0 - momentum)
        self._move = np.zeros(size)
        self._before = np.zeros(size)

    def update(self, parameters: Vector, gradient: Vector, rate: float, penalty: Penalty) -> None:
        move = self._move
        move *= self._momentum
        gradient *= rate
        move -= gradient
        if penalty.l1:
            np.copyto(self._before, parameters)
            parameters += move
            penalty.prox(parameters, rate)
            np.subtract(parameters, self._before, out=move)
        else:
            parameters += move

    def state(self) -> dict[str, Vector]:
        return {"move": self._move}


@register
class Adam(Optimizer):
    """Adam (Kingma & Ba, 2015); the proximal step of a weight uses that weight's own step."""

    name = "adam"
    beta1, beta2, epsilon = 0.9, 0.999, 1e-8

    def __init__(self, size: int, momentum: float) -> None:
        super().__init__(size, momentum)
        self._mean = np.zeros(size)
        self._square = np.zeros(size)
        self._count = np.zeros(1)
        self._step = np.zeros(size)

    def update(self, parameters: Vector, gradient: Vector, rate: float, penalty: Penalty) -> None:
        self._count += 1
        t = float(self._count[0])
        self._mean += (1 - self.beta1) * (gradient - self._mean)
        self._square += (1 - self.beta2) * (gradient * gradient - self._square)
        np.sqrt(self._square / (1 - self.beta2**t), out=self._step)
        self._step += self.epsilon
        np.divide(rate, self._step, out=self._step)
        parameters -= self._step * self._mean / (1 - self.beta1**t)
        penalty.prox(parameters, self._step[:-1])

    def state(self) -> dict[str, Vector]:
        return {"mean": self._mean, "square": self._square, "count": self._count}
