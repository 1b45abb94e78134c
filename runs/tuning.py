"""Settings that a run may be given anew while it goes on: learning rate and batch size.

A `Tuning` is what somebody asks for, on its way as the text of a command; a `Change` is what came
of it between two steps, as events and results tell it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from regatta.utils import UserError

COMMAND = "set"
KINDS = {"learning_rate": "rate_changed", "batch_size": "batch_changed"}
LABELS = {"learning_rate": "Learning rate", "batch_size": "Batch size"}


@dataclass(frozen=True)
class Tuning:
    """What is to be changed; None: as it is. ``at_step``: once so many steps are taken, else now.

    Raises
    ------
    UserError
        A value that no run could have, or nothing to change.
    """

    learning_rate: float | None = None
    batch_size: int | None = None
    at_step: int | None = None

    def __post_init__(self) -> None:
        rate, rows, step = self.learning_rate, self.batch_size, self.at_step
        if rate is None and rows is None:
            raise UserError(
                "Nothing was asked to be changed.", "Give --learning-rate, --batch-size or both."
            )
        if rate is not None and not (rate > 0 and math.isfinite(rate)):
            raise UserError(f"A learning rate is a number above 0, and {rate:g} is none.")
        if rows is not None and rows < 1:
            raise UserError(f"A batch has 1 row or more, and not {rows:,}.")
        if step is not None and step < 0:
            raise UserError(f"A run has no step {step:,}.")

    def check_rows(self, rows_train: int | None) -> None:
        """Refuse a batch of more rows than there are, where that is known."""
        rows = self.batch_size
        if rows is not None and rows_train is not None and rows > rows_train:
            raise UserError(
                f"A batch of {rows:,} rows is too large: the run trains on {rows_train:,} rows."
            )

    def is_in_force(self, learning_rate: float | None, batch_size: int | None) -> bool:
        """Whether these are what is asked for; a schedule rounds the rate."""
        rate, rows = self.learning_rate, self.batch_size
        return (rate is None or math.isclose(rate, learning_rate or 0.0)) and (
            rows in (None, batch_size)
        )

    def to_command(self) -> str:
        """The command that `from_command` takes back to the same bits."""
        given = (f"{name}={value!r}" for name, value in asdict(self).items() if value is not None)
        return " ".join((COMMAND, *given))

    @classmethod
    def from_command(cls, command: str) -> Tuning:
        """What a command says; a ``ValueError``, or a `UserError`, unless `to_command` wrote it."""
        word, *given = command.split(" ")
        values = dict(part.split("=") for part in given)
        known = {each.name for each in fields(cls)}
        if word != COMMAND or not values.keys() <= known:
            raise ValueError(command)
        rate = values.pop("learning_rate", None)
        whole = {name: int(text) for name, text in values.items()}
        return cls(None if rate is None else float(rate), **whole)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def learning_rate_of(text: str) -> float:
    """The learning rate that somebody typed."""
    try:
        rate = float(text)
    except ValueError:
        raise UserError(f"A learning rate is a number above 0, and {text!r} is none.") from None
    Tuning(learning_rate=rate)
    return rate


def batch_size_of(text: str) -> int:
    """The batch size that somebody typed; thousands may be apart, as the page writes them."""
    try:
        rows = int(text.replace(",", ""))
    except ValueError:
        raise UserError(f"A batch size is a whole number of rows, and {text!r} is none.") from None
    Tuning(batch_size=rows)
    return rows


@dataclass(frozen=True)
class Change:
    """A setting that was changed when ``step`` steps had been taken.

    ``derived`` marks a learning rate that nobody asked for: the safe one of a new batch size.
    """

    name: str
    before: float
    after: float
    step: int
    derived: bool = False

    @property
    def kind(self) -> str:
        """The kind of its event."""
        return KINDS[self.name]

    @property
    def text(self) -> str:
        """From what to what."""
        form = "{:,}" if self.name == "batch_size" else "{:.4g}"
        before, after = form.format(self.before), form.format(self.after)
        unit = " rows a step" if self.name == "batch_size" else ""
        return f"{LABELS[self.name]} {before} → {after}{unit}"

    @property
    def message(self) -> str:
        """The sentence of its event."""
        why = ", which is safe with batches of this size" if self.derived else ""
        return f"{self.text} after step {self.step:,}{why}."

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Change:
        return cls(**value)
