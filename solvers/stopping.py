"""Stopping rules. They see values in order and nothing else, so a resumed run decides alike."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

# Epochs that may pass without progress before a noisy objective counts as converged.
PLATEAU_EPOCHS = 5


@dataclass
class Plateau:
    """True once ``window`` values in a row fail to improve the best by the share ``tol``.

    With ``tol`` 0 it is never true.
    """

    tol: float
    window: int = PLATEAU_EPOCHS
    best: float | None = None
    waited: int = 0

    def reached(self, value: float) -> bool:
        """Whether ``value`` is the last of too many without progress."""
        if self.best is None or value < self.best - self.tol * abs(self.best):
            self.waited = 0
        else:
            self.waited += 1
        self.best = value if self.best is None else min(self.best, value)
        return self.tol > 0 and self.waited >= self.window

    def state(self) -> dict[str, Any]:
        """JSON values that `restore` takes back."""
        return asdict(self)

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        self.best = state["best"]
        self.waited = state["waited"]


@dataclass
class Patience:
    """Early stopping: true once ``epochs`` in a row bring no better validation loss.

    ``epochs`` of None: never true.
    """

    epochs: int | None
    best: float | None = None
    best_step: int = 0
    waited: int = 0

    def exhausted(self, step: int, validation_loss: float) -> bool:
        """Whether patience ends with this value."""
        if self.best is None or validation_loss < self.best:
            self.best, self.best_step, self.waited = validation_loss, step, 0
        else:
            self.waited += 1
        return self.is_exhausted

    @property
    def is_exhausted(self) -> bool:
        """Whether it has ended."""
        return self.epochs is not None and self.waited >= self.epochs

    def state(self) -> dict[str, Any]:
        """JSON values that `restore` takes back."""
        return asdict(self)

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        self.best, self.best_step, self.waited = (
            state["best"],
            state["best_step"],
            state["waited"],
        )
