"""What a training run, and the reading of a file, can be told: name, type, default, bounds, help.

The command's options, the page's fields and ``docs/options.md`` are made from these
declarations. A value comes from, in this order: the flag (or the page's field), the environment
(``REGATTA_ALPHA``), the file ``config.toml`` in Regatta's home, the default.

Imports the standard library only.
"""

from __future__ import annotations

import codecs
import functools
import os
import re
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Mapping
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
Consistency = Literal["sync", "async", "local"]
Delimiter = Literal["auto", "comma", "semicolon", "tab", "bar", "blanks"]
Decimal = Literal["auto", "point", "comma", ".", ","]
Given = Literal["auto", "none"]
Header = Literal["auto", "yes", "no"]
OddCells = Literal["auto", "missing", "category", "refuse"]
BadRows = Literal["mend", "refuse", "skip"]

KINDS = ("number", "category", "boolean", "date", "ignore")
DATE_LETTERS = "YmdyHMSfIpbBz"  # of ``date:FORMAT``, as in ``strptime``


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
    form: str = "",
    fits: Callable[[str], bool] | None = None,
    metavar: str = "",
) -> Any:
    """A field of `TrainingConfig`. ``minimum``/``maximum`` are allowed values, ``above``/``below``
    are not. ``None`` as default means that Regatta chooses ("auto"). A ``custom`` one may also name
    a class of yours, ``package.module:Class``. A text that ``fits`` is allowed beside the words; in
    words that is ``form``. One with a tuple as default may be given several times."""
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
            "form": form,
            "fits": fits,
            "metavar": metavar,
        },
    )


def is_mark(text: str) -> bool:
    """One character that may separate or enclose cells."""
    return (
        len(text) == 1
        and text.isascii()
        and (text == "\t" or (text.isprintable() and not text.isalnum()))
    )


def is_thousands_mark(text: str) -> bool:
    """One character that may group digits."""
    return len(text) == 1 and text.isprintable() and not text.isalnum() and text not in "+-"


def is_comment_mark(text: str) -> bool:
    """What lines may begin with that are comments."""
    return 0 < len(text) <= 4 and all(is_mark(mark) and not mark.isspace() for mark in text)


def is_encoding(text: str) -> bool:
    """The name of a way to write text as bytes."""
    try:
        b"a".decode(text, "backslashreplace")  # some know no errors but their own
        codecs.getincrementaldecoder(text)()
    except (LookupError, ValueError):
        return False
    return True


def is_column_type(text: str) -> bool:
    """``PATTERN=KIND``, with one of `KINDS`, or ``date:`` and a format for ``strptime``."""
    pattern, _, kind = text.rpartition("=")
    if kind.startswith("date:"):
        return bool(pattern) and is_date_format(kind.removeprefix("date:"))
    return bool(pattern) and kind in KINDS


def is_date_format(text: str) -> bool:
    """A format for ``strptime`` with letters that are known, each once, of a whole date: a year, a
    month and a day."""
    letters = re.findall(r"%(.?)", text)
    known = all(letter and letter in DATE_LETTERS for letter in letters)
    parts = (("Y", "y"), ("m", "b", "B"), ("d",))
    whole = all(sum(map(letters.count, part)) == 1 for part in parts)
    once = len(set(letters)) == len(letters) and not {"H", "I"} <= set(letters)
    return known and whole and once


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """How a file is to be read. The defaults leave everything to what is found in it."""

    encoding: Literal["auto"] | str = option(
        "auto", "how the text is encoded", group="reading", form="the name of an encoding",
        fits=is_encoding, advanced=True)  # fmt: skip
    delimiter: Delimiter | str = option(
        "auto", "what separates the columns", group="reading", form="a character",
        fits=is_mark)  # fmt: skip
    quote: Given | str = option(
        "auto", "what encloses cells", group="reading", form="a character", fits=is_mark,
        advanced=True)  # fmt: skip
    escape: Given | str = option(
        "auto", "what stands before a quote that is text", group="reading", form="a character",
        fits=is_mark, advanced=True)  # fmt: skip
    decimal: Decimal = option("auto", "decimal mark of the numbers", group="reading")
    thousands: Given | str = option(
        "auto", "mark between groups of digits", group="reading", form="a character",
        fits=is_thousands_mark)  # fmt: skip
    header: Header = option("auto", "whether the first row holds names", group="reading")
    skip_rows: int | None = option(
        None, "lines before the table; auto: as found", group="reading", minimum=0)  # fmt: skip
    comment: Given | str = option(
        "auto", "what comment lines begin with", group="reading", form="a mark",
        fits=is_comment_mark, advanced=True)  # fmt: skip
    missing: tuple[str, ...] = option(
        (), "a further word for \"no value\"; may be given again", group="reading",
        metavar="WORD")  # fmt: skip
    column_types: tuple[str, ...] = option(
        (), "kind of the columns that match a pattern with * and ?; may be given again, and the "
        "last that matches counts",
        group="reading", fits=is_column_type,
        form="PATTERN=KIND, with a KIND of number, category, boolean, date, date:FORMAT or ignore",
        metavar="PATTERN=KIND")  # fmt: skip
    odd_cells: OddCells = option(
        "auto", "what becomes of cells that do not fit their column: they are missing, the column "
        "is one of categories, or it is refused", group="reading")  # fmt: skip
    on_bad_rows: BadRows = option(
        "mend", "what becomes of broken rows: those that fit after one small change, and after no "
        "other, are mended and named, and for others the file is refused; it is refused for any; "
        "or those that cannot be mended are set aside", group="reading")  # fmt: skip
    max_bad_rows: float = option(
        0.01, "share of the rows that may be set aside", group="reading", minimum=0, maximum=1,
        advanced=True)  # fmt: skip

    def __post_init__(self) -> None:
        for each in fields(self):
            check_value(each, getattr(self, each.name))
        _check_marks(self)

    @property
    def reading(self) -> ReadingOptions:
        """The options of the reading alone."""
        return ReadingOptions(
            **{each.name: getattr(self, each.name) for each in fields(ReadingOptions)}
        )

    def in_force(self) -> dict[str, Any]:
        """The options of the reading that are not at their defaults."""
        found = {}
        for each in fields(ReadingOptions):
            value = getattr(self, each.name)
            if value != each.default:
                found[each.name] = list(value) if is_repeatable(each) else value
        return found


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(ReadingOptions):
    """Everything that decides the outcome of a run. Validated when it is made."""

    path: str = option("", "CSV file to train on", group="data")
    target: str = option("", "column to predict", group="data")
    drop: tuple[str, ...] = option(
        (), "column to leave out; may be given again", group="data", metavar="COLUMN"
    )
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
    consistency: Consistency = option(
        "sync", "when workers agree on the weights: sync: at every batch; async: no one waits for "
        "another; local: each takes --sync-every steps alone, then weights are averaged",
        group="training", advanced=True)  # fmt: skip
    staleness: int | Literal["unbounded"] | None = option(
        None, "with async: no gradient is applied that is older than so many updates; auto: twice "
        "the shards", group="training", minimum=0, unit="updates", advanced=True)  # fmt: skip
    sync_every: int | None = option(
        None, "with local: steps that a worker takes between two averages; auto: 16",
        group="training", minimum=1, unit="steps", advanced=True)  # fmt: skip
    tol: float = option(
        1e-6, "stop when the training objective improves by less than this share an epoch; "
        "0: never", group="training", minimum=0, advanced=True)  # fmt: skip
    patience: int | None = option(
        None, "stop after this many epochs without a better validation loss; auto: never",
        group="training", minimum=1, unit="epochs", advanced=True)  # fmt: skip
    name: str = option("", "name of the run", group="run")

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` takes back."""
        many = {each.name: list(getattr(self, each.name)) for each in _repeatable()}
        return {**asdict(self), **many}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TrainingConfig:
        """The configuration that `to_json` wrote. Unknown names are a `UserError`."""
        _check_names(value)
        many = {each.name: tuple(value.get(each.name, ())) for each in _repeatable()}
        return cls(**{**value, **many})


# Options that only mean something where steps are taken: giving one asks for steps.
STEP_OPTIONS = (
    "epochs",
    "batch_size",
    "learning_rate",
    "schedule",
    "optimizer",
    "momentum",
    "consistency",
    "staleness",
    "sync_every",
    "tol",
    "patience",
)

FLAGS = {"column_types": "--column-type"}


def flag(name: str) -> str:
    """The command-line option of a field: ``batch_size`` → ``--batch-size``."""
    return FLAGS.get(name) or "--" + name.replace("_", "-")


def is_repeatable(each: Field[Any]) -> bool:
    """Whether an option may be given several times."""
    return each.default == ()


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
    if word == r"\t" and "tab" in choices(each):
        return "tab"
    kind = number_type(each)
    if kind is None:
        value: Any = text
        if is_repeatable(each):
            value = tuple(part.strip() for part in word.split(",")) if word else ()
        elif each.metadata["fits"] and len(text) > 1:  # of one alone a blank is no padding
            value = word
        check_value(each, value)
        return value
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
        words = value if isinstance(value, tuple) and is_repeatable(each) else (value,)
        if is_repeatable(each) != isinstance(value, tuple):
            raise _refusal(each, value)
        for word in words:
            if not (isinstance(word, str) and _fits(each, word)):
                raise _refusal(each, word)
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


def _fits(each: Field[Any], text: str) -> bool:
    """Whether a text is allowed that is none of the words of a field."""
    fits = each.metadata["fits"]
    return bool(fits(text)) if fits else not choices(each)


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
    if each.metadata["form"]:
        words.append(each.metadata["form"])
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
    values = {**(defaults or {}), **_values(TrainingConfig, given, config_file)}
    if values.get("solver", "auto") == "auto" and not values.keys().isdisjoint(STEP_OPTIONS):
        values["solver"] = "sgd"
    return TrainingConfig(**values)


def resolve_reading(given: Mapping[str, Any], *, config_file: Path | None = None) -> ReadingOptions:
    """The options of the reading, from where `resolve` takes them."""
    return ReadingOptions(**_values(ReadingOptions, given, config_file))


def _values(
    options: type[ReadingOptions], given: Mapping[str, Any], config_file: Path | None
) -> dict[str, Any]:
    """What flags, environment and file say of the fields of ``options``."""
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
    for each in fields(options):
        variable = "REGATTA_" + each.name.upper()
        if each.name in given:
            values[each.name] = given[each.name]
        elif variable in os.environ and each.metadata["group"] != "run" and each.name != "path":
            values[each.name] = parse_value(each, os.environ[variable])
        elif each.name in from_file:
            value = from_file[each.name]
            value = parse_value(each, value) if isinstance(value, str) else value
            values[each.name] = tuple(value) if isinstance(value, list) else value
    return values


def _check_names(values: Mapping[str, Any], where: str = "") -> None:
    known = {each.name for each in fields(TrainingConfig)}
    for name in sorted(set(values) - known):
        raise UserError(
            f"Unknown setting {name!r} {where}".rstrip() + ".",
            f"Known: {', '.join(sorted(known))}.",
        )


def _check_marks(options: ReadingOptions) -> None:
    """Refuse one character that is to mean two things."""
    marks: dict[str, str] = {}
    for name in ("delimiter", "quote", "escape", "comment"):
        mark = WORDS_FOR_MARKS.get(getattr(options, name), getattr(options, name))
        if mark in ("auto", "none"):
            continue
        if mark in marks:
            raise UserError(
                f"{flag(marks[mark])} and {flag(name)} are both {mark!r}.",
                "Quotes that are doubled need no --escape."
                if name == "escape"
                else "Each needs a mark of its own.",
            )
        marks[mark] = name
    decimal = {"point": ".", "comma": ","}.get(options.decimal, options.decimal)
    if options.thousands == decimal != "auto":
        raise UserError(
            f"--decimal and --thousands are both {decimal!r}.", "Each needs a mark of its own."
        )


# Words for marks, as `--delimiter` and `--thousands` take them.
WORDS_FOR_MARKS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|", "blanks": " "}


def _repeatable() -> Iterable[Field[Any]]:
    return (each for each in fields(TrainingConfig) if is_repeatable(each))


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

AS_FOUND = ReadingOptions()
