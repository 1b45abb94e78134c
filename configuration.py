"""What a training run can be told, declared once: name, type, default, bounds, unit and help.

The command's options, the page's fields and ``docs/options.md`` are made from these
declarations. A value comes from, in this order: the flag (or the page's field), the environment
(``REGATTA_ALPHA``), the file ``config.toml`` in Regatta's home, the default.

Imports the standard library only.
"""

from __future__ import annotations

import functools
import os
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from regatta.utils import UserError

Solver = Literal["auto", "exact", "sgd"]
Model = Literal["linear", "ridge", "lasso", "elasticnet"]
Optimizer = Literal["sgd", "momentum", "adam"]
Schedule = Literal["constant", "inverse-scaling", "cosine", "step"]
Precision = Literal["auto", "float32", "float64"]
Rule = Literal["min", "1se"]


def option(
    default: Any,
    help: str,
    *,
    group: str,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
    unit: str = "",
    advanced: bool = False,
    custom: bool = False,
) -> Any:
    """A field of `TrainingConfig`. ``minimum``/``maximum`` are allowed values, ``above``/``below``
    are not. ``None`` as default means that Regatta chooses ("auto"). A ``custom`` one may also name
    a class of yours, ``package.module:Class``."""
    return field(
        default=default,
        metadata={
            "help": help,
            "group": group,
            "minimum": minimum,
            "maximum": maximum,
            "above": above,
            "below": below,
            "unit": unit,
            "advanced": advanced,
            "custom": custom,
        },
    )


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Everything that decides the outcome of a run. Validated when it is made."""

    path: str = option("", "CSV file to train on", group="data")
    target: str = option("", "column to predict", group="data")
    drop: tuple[str, ...] = option((), "column to leave out; may be given again", group="data")
    validation: float = option(
        0.2, "share of rows held out for validation", group="data", above=0, maximum=0.9
    )
    precision: Precision = option(
        "auto", "number format of the prepared rows; auto: float64 for the exact solver, float32 "
        "for steps", group="data", advanced=True)  # fmt: skip
    seed: int = option(0, "seed of the split, the shuffle and the order of batches", group="data",
                       minimum=0, maximum=2**32 - 1)  # fmt: skip
    model: Model | str = option("ridge", "model to fit", group="model", custom=True)
    alpha: float | Literal["auto"] = option(
        1.0, "strength of the penalty, as in scikit-learn; 'auto': chosen by cross-validation",
        group="model", minimum=0)  # fmt: skip
    l1_ratio: float = option(
        0.5, "share of L1 in elastic net's penalty", group="model", minimum=0, maximum=1
    )
    folds: int = option(
        5, "folds of the cross-validation that chooses alpha; groups of shards", group="model",
        minimum=2, advanced=True)  # fmt: skip
    rule: Rule = option(
        "min", "which alpha cross-validation chooses: the best, or the largest within one standard "
        "error of it", group="model", advanced=True)  # fmt: skip
    solver: Solver = option(
        "auto", "exact: one pass over the rows; sgd: steps along gradients; auto: exact unless an "
        "option of the steps is set", group="training", advanced=True)  # fmt: skip
    workers: int | None = option(
        None, "worker processes; 0 trains inside the process; auto: one a core", group="training",
        minimum=0)  # fmt: skip
    shards: int = option(
        16, "parts that the rows are cut into; never depends on the workers", group="training",
        minimum=1, maximum=4096, advanced=True)  # fmt: skip
    epochs: int | None = option(
        None, "passes over the training rows, at most; auto: from the number of steps in a pass",
        group="training", minimum=1)  # fmt: skip
    batch_size: int | Literal["full"] | None = option(
        None, "rows a step, or 'full'; auto: 1024, or full where the rows are few",
        group="training", minimum=1, unit="rows")  # fmt: skip
    learning_rate: float | None = option(
        None, "step size at the start; auto: the largest that is safe on these data",
        group="training", above=0)  # fmt: skip
    schedule: Schedule = option(
        "cosine", "how the learning rate falls", group="training", advanced=True
    )
    optimizer: Optimizer = option("momentum", "update rule", group="training", advanced=True)
    momentum: float = option(
        0.9, "share of the last step that is kept", group="training", minimum=0, below=1,
        advanced=True)  # fmt: skip
    tol: float = option(
        1e-6, "stop when the training objective improves by less than this share an epoch; "
        "0: never", group="training", minimum=0, advanced=True)  # fmt: skip
    patience: int | None = option(
        None, "stop after this many epochs without a better validation loss; auto: never",
        group="training", minimum=1, unit="epochs", advanced=True)  # fmt: skip
    name: str = option("", "name of the run", group="run")

    def __post_init__(self) -> None:
        for each in fields(self):
            check_value(each, getattr(self, each.name))

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` takes back."""
        return {**asdict(self), "drop": list(self.drop)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TrainingConfig:
        """The configuration that `to_json` wrote. Unknown names are a `UserError`."""
        _check_names(value)
        return cls(**{**value, "drop": tuple(value.get("drop", ()))})


# Options that only mean something where steps are taken: giving one asks for steps.
STEP_OPTIONS = (
    "epochs",
    "batch_size",
    "learning_rate",
    "schedule",
    "optimizer",
    "momentum",
    "tol",
    "patience",
)


def flag(name: str) -> str:
    """The command-line option of a field: ``batch_size`` → ``--batch-size``."""
    return "--" + name.replace("_", "-")


def choices(each: Field[Any]) -> tuple[str, ...]:
    """The words that a field accepts (none if it takes a number or free text)."""
    found: list[str] = []
    for part in _alternatives(each):
        if typing.get_origin(part) is Literal:
            found.extend(typing.get_args(part))
    return tuple(found)


def number_type(each: Field[Any]) -> type[int] | type[float] | None:
    """``int`` or ``float`` where a field takes numbers, else ``None``."""
    for part in _alternatives(each):
        if part is int:
            return int
        if part is float:
            return float
    return None


def parse_value(each: Field[Any], text: str) -> Any:
    """The value that ``text`` (a flag, a variable) stands for, or a `UserError`."""
    word = text.strip()
    if each.default is None and word.lower() == "auto":
        return None
    if word in choices(each) or (each.metadata["custom"] and ":" in word):
        return word
    kind = number_type(each)
    if kind is None:
        if choices(each):
            raise _refusal(each, word)
        return tuple(part.strip() for part in word.split(",")) if each.name == "drop" else text
    try:
        value = kind(word)
    except ValueError:
        raise _refusal(each, word) from None
    check_value(each, value)
    return value


def check_value(each: Field[Any], value: Any) -> None:
    """Raise a `UserError` that names the option unless ``value`` is allowed."""
    if (value is None and each.default is None) or value in choices(each):
        return
    if each.metadata["custom"] and ":" in str(value):
        return
    kind = number_type(each)
    if kind is None:
        words = value if isinstance(value, tuple) and each.name == "drop" else (value,)
        if choices(each) or not all(isinstance(word, str) for word in words):
            raise _refusal(each, value)
        return
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if not numeric or (kind is int and not isinstance(value, int)) or value - value != 0:
        raise _refusal(each, value)
    rule = each.metadata
    outside = (
        (rule["minimum"] is not None and value < rule["minimum"])
        or (rule["maximum"] is not None and value > rule["maximum"])
        or (rule["above"] is not None and value <= rule["above"])
        or (rule["below"] is not None and value >= rule["below"])
    )
    if outside:
        raise _refusal(each, value)


def allowed(each: Field[Any]) -> str:
    """What a field accepts, in words: "a whole number of at least 1, or auto"."""
    words = list(choices(each))
    kind, rule = number_type(each), each.metadata
    if kind is not None:
        bounds = [
            f"{text} {rule[key]:.10g}"
            for key, text in (
                ("minimum", "of at least"),
                ("above", "above"),
                ("maximum", "at most"),
                ("below", "below"),
            )
            if rule[key] is not None
        ]
        number = "a whole number" if kind is int else "a number"
        words.insert(0, f"{number} {' and '.join(bounds)}" if bounds else number)
    if each.default is None:
        words.append("auto")
    if each.metadata["custom"]:
        words.append("package.module:Class")
    if not words:
        return "text"
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def resolve(
    given: Mapping[str, Any],
    *,
    config_file: Path | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> TrainingConfig:
    """The configuration from flags (``given``), environment, file and defaults, in that order.

    ``defaults`` are a command's own, where they are not those of `TrainingConfig`. Where the solver
    is left to Regatta, an option of the steps asks for steps, whatever its value.
    """
    from_file: dict[str, Any] = {}
    if config_file is not None and config_file.exists():
        try:
            from_file = tomllib.loads(config_file.read_text(encoding="utf-8"))
        except tomllib.TOMLDecodeError as error:
            raise UserError(
                f"{config_file} is not valid TOML: {error}.", "Mend or remove it."
            ) from None
        _check_names(from_file, f"in {config_file}")
    values: dict[str, Any] = {}
    for each in fields(TrainingConfig):
        variable = "REGATTA_" + each.name.upper()
        if each.name in given:
            values[each.name] = given[each.name]
        elif variable in os.environ and each.metadata["group"] != "run" and each.name != "path":
            values[each.name] = parse_value(each, os.environ[variable])
        elif each.name in from_file:
            value = from_file[each.name]
            values[each.name] = parse_value(each, value) if isinstance(value, str) else value
    if isinstance(values.get("drop"), list):
        values["drop"] = tuple(values["drop"])
    values = {**(defaults or {}), **values}
    if values.get("solver", "auto") == "auto" and not values.keys().isdisjoint(STEP_OPTIONS):
        values["solver"] = "sgd"
    return TrainingConfig(**values)


def _check_names(values: Mapping[str, Any], where: str = "") -> None:
    known = {each.name for each in fields(TrainingConfig)}
    for name in sorted(set(values) - known):
        raise UserError(
            f"Unknown setting {name!r} {where}".rstrip() + ".",
            f"Known: {', '.join(sorted(known))}.",
        )


def _refusal(each: Field[Any], value: Any) -> UserError:
    return UserError(f"{flag(each.name)} is {value!r}.", f"It must be {allowed(each)}.")


@functools.cache
def _type_hints() -> dict[str, Any]:
    return typing.get_type_hints(TrainingConfig)


def _alternatives(each: Field[Any]) -> tuple[Any, ...]:
    annotation = _type_hints()[each.name]
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return typing.get_args(annotation)
    return (annotation,)


assert all(each.default is not MISSING for each in fields(TrainingConfig))
