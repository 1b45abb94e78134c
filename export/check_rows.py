"""Rows on which an exported model is compared with the model that it came from.

    made-up rows   numbers around the mean, every level and an unknown one, missing cells
    real rows      some of the file that the model was trained on, where that is still there

Both exist twice: as columns that `FittedModel.predict` takes, and as the frame that pandas reads
from a file that is written like the one of the training, with the options that the export carries
and no others.
"""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from regatta.fitted_model import FittedModel, FloatArray
from regatta.ingest.values import is_missing
from regatta.preprocessing import (
    MISSING_LEVEL,
    SECONDS_A_DAY,
    BooleanEncoding,
    CategoryEncoding,
    ColumnEncoding,
    DateEncoding,
    NumberEncoding,
)
from regatta.utils import RegattaError

if TYPE_CHECKING:
    import pandas as pd

    from regatta.export.sklearn_pipeline import Reading

MADE_UP_ROWS = 200
REAL_ROWS = 1_000
SOURCE_CELLS = 1_000_000

USE_JSON = (
    "Nothing was written. The formats json and onnx do not depend on how pandas reads the file."
)

Columns = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class CheckRows:
    """The rows for one model.

    Parameters
    ----------
    source : path, optional
        The file the model was trained on, or one like it.
    """

    model: FittedModel
    source: Path | None = None

    @cached_property
    def read_csv(self) -> dict[str, Any]:
        """Options with which ``pandas.read_csv`` reads files like that of the training."""
        return read_csv_options(self.model, self.reading)

    @cached_property
    def reading(self) -> Reading:
        """How the training file looks to pandas: names as they stand in it, cells with blanks."""
        return reading_of(self.model, self.source, read_csv_options(self.model))

    @cached_property
    def made_up(self) -> Columns:
        return sample_columns(self.model)

    @cached_property
    def real(self) -> tuple[Columns, npt.NDArray[np.intp], int] | None:
        """Columns of the file's first rows, which of them are compared, and how many were read;
        ``None`` where the file cannot be read any more."""
        from regatta import data_pipeline

        if self.source is None or not self.source.is_file():
            return None
        try:
            batches = data_pipeline.read_for_prediction(self.source, self.model.preprocessing)
            batch = next(iter(batches))
        except (RegattaError, OSError, StopIteration):
            return None
        count = len(batch.rows)
        chosen = np.unique(np.linspace(0, count - 1, min(count, REAL_ROWS)).astype(np.intp))
        return batch.columns, chosen, count

    def columns(self) -> Iterator[tuple[Columns, FloatArray]]:
        """Rows as columns, each with what the model predicts."""
        yield self.made_up, self.model.predict(self.made_up)
        if self.real is not None:
            columns, chosen, _ = self.real
            some = {each.name: columns[each.name][chosen] for each in self._encodings}
            yield some, self.model.predict(some)

    def frames(self) -> Iterator[tuple[pd.DataFrame, FloatArray]]:
        """Rows as ``pandas.read_csv`` gives them to whoever uses the export, each with what the
        model predicts.

        Raises
        ------
        RegattaError
            If pandas cannot read the file that Regatta reads.
        """
        frame = sample_frame(self.model, self.made_up, self.reading.names, self.read_csv)
        yield frame, self.model.predict(self.made_up)
        if self.real is None or self.source is None:
            return
        columns, chosen, count = self.real
        try:
            read = read_as_user(self.source, self.read_csv, rows=count)
        except (ValueError, OSError) as error:  # a ParserError is a ValueError
            raise RegattaError(
                f"pandas cannot read {self.source.name!r} with the options of the export.", USE_JSON
            ) from error
        chosen = chosen[chosen < len(read)]
        some = {each.name: columns[each.name][chosen] for each in self._encodings}
        yield read.iloc[chosen], self.model.predict(some)

    @property
    def _encodings(self) -> tuple[ColumnEncoding, ...]:
        return self.model.preprocessing.columns


def read_csv_options(model: FittedModel, reading: Reading | None = None) -> dict[str, Any]:
    """Options with which ``pandas.read_csv`` reads files like the one the model was trained on;
    ``{}`` for a plain one that holds numbers alone.

    An exported pipeline carries them: ``pandas.read_csv(path, **pipeline.read_csv_)``. Dates and
    texts are read as they stand: pandas would take marks for thousands out of "27.03.2023" and
    "1.234", and zeros from "007".
    """
    from regatta.export.sklearn_pipeline import Reading

    reading = reading or Reading()
    dialect = model.dialect
    options: dict[str, Any] = _missing_options(model, reading)
    if dialect.get("runs"):
        options["sep"] = r"\s+"
    elif dialect.get("delimiter", ",") != ",":
        options["sep"] = dialect["delimiter"]
    plain = {"quote": '"', "escape": "", "decimal": ".", "thousands": "", "encoding": "utf-8"}
    called = {"quote": "quotechar", "escape": "escapechar"}
    for key, usual in plain.items():
        value = dialect.get(key, usual)
        if value and value != usual:
            options[called.get(key, key)] = value
    if any(map(_needs_settings, model.preprocessing.columns)):
        options |= {"decimal": ",", "thousands": "."}
    elif options.get("thousands") == options.get("decimal", "."):
        options.pop("thousands", None)  # other columns' mark; pandas has one for all of them
    comment, before = dialect.get("comment", ""), dialect.get("skip_rows", 0)
    if len(comment) == 1:
        options["comment"] = comment
    elif before:
        options["skiprows"] = before
    if dialect.get("padded"):
        options["skipinitialspace"] = True
    # The names may stand in a comment: then the first line of the table is a row.
    named = dialect.get("header", True) and dialect.get("first_line", before + 2) > before + 1
    if not named:
        options |= {"header": None, "names": list(dialect.get("names", ()))}
    texts = [each for each in model.preprocessing.columns if _is_text(each, options)]
    if texts:
        options["dtype"] = {reading.name(each.name): "str" for each in texts}
    return options


def _is_text(column: ColumnEncoding, options: Mapping[str, Any]) -> bool:
    """Whether pandas must leave the cells of a column as they are: dates, words, and numbers that
    are written otherwise than most where it takes out a mark for thousands."""
    if not isinstance(column, NumberEncoding):
        return True
    thousands = options.get("thousands")
    if _needs_settings(column):
        return False
    if not thousands:
        return column.parentheses and column.thousands == "."
    alike = column.decimal == options.get("decimal", ".") and column.thousands in ("", thousands)
    return column.style.framed or not alike


def _missing_options(model: FittedModel, reading: Reading) -> dict[str, Any]:
    """Keep pandas from reading a level such as "None" as a missing value where the column has
    missing values besides; tell it of words for no value where it must read the numbers itself."""
    from regatta.export.sklearn_pipeline import PANDAS_MISSING, lost_levels

    columns = model.preprocessing.columns
    levels = {
        level
        for column in columns
        if MISSING_LEVEL in getattr(column, "levels", ())
        for level in lost_levels(column)
    }
    words = {
        reading.name(column.name): [*reading.words(column)]
        for column in columns
        if isinstance(column, NumberEncoding) and _needs_settings(column) and reading.words(column)
    }
    if not levels:
        return {"na_values": words} if words else {}
    usual = sorted(PANDAS_MISSING - levels)
    if not words:
        return {"keep_default_na": False, "na_values": usual}
    names = [reading.name(column.name) for column in columns]
    return {
        "keep_default_na": False,
        "na_values": {name: [*usual, *words.get(name, ())] for name in names},
    }


def reading_of(model: FittedModel, source: Path | None, options: Mapping[str, Any]) -> Reading:
    """How the training file looks to pandas: names as they stand in it, columns with blanks."""
    from regatta.export.sklearn_pipeline import Reading

    options = {key: value for key, value in options.items() if key != "na_values"}
    frame = source_frame(source, {**options, "dtype": str, "keep_default_na": False})
    known = list(model.dialect.get("names", ()))
    if frame is None or len(frame.columns) != len(known):
        return Reading()
    names = {
        name: str(column)
        for name, column in zip(known, frame.columns, strict=True)
        if str(column) != name
    }
    cells = {
        column: frame[names.get(column.name, column.name)] for column in model.preprocessing.columns
    }
    padded = {
        column.name
        for column, texts in cells.items()
        if column.kind in ("category", "boolean") and bool((texts != texts.str.strip()).any())
    }
    missing = {
        column.name: frozenset(filter(is_missing, texts.unique()))
        for column, texts in cells.items()
        if column.kind == "number"
    }
    return Reading(names, frozenset(padded), missing)


def source_frame(
    source: Path | None, options: Mapping[str, Any], rows: int | None = None
) -> pd.DataFrame | None:
    """The first rows of the training file as pandas reads it; ``None`` if it does not."""
    if source is None or not source.is_file():
        return None
    try:
        return read_as_user(source, options, rows)
    except (ValueError, OSError):
        return None


def read_as_user(
    source: Path | io.StringIO, options: Mapping[str, Any], rows: int | None = None
) -> pd.DataFrame:
    """``pandas.read_csv(source, **options)``, as whoever uses an export is told to read; of a long
    file the first rows alone."""
    import pandas as pd

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pd.errors.DtypeWarning)
        if isinstance(source, Path):
            width = len(pd.read_csv(source, nrows=1, **options).columns)
            rows = rows or max(MADE_UP_ROWS, SOURCE_CELLS // width)
        frame: pd.DataFrame = pd.read_csv(source, nrows=rows, **options)
        return frame


def sample_columns(
    model: FittedModel, rows: int = MADE_UP_ROWS, seed: int = 0
) -> dict[str, npt.NDArray[Any]]:
    """Made-up rows as `FittedModel.predict` takes them: numbers around the mean of the training
    rows, every level and an unknown one, and missing cells."""
    rng = np.random.default_rng(seed)
    made = {
        column.name: _sample_values(column, rows, rng) for column in model.preprocessing.columns
    }
    for column in model.preprocessing.columns:
        if _tells_missing(column):
            empty = None if made[column.name].dtype == object else np.nan
            made[column.name][rng.random(rows) < 0.1] = empty
    return made


def _tells_missing(column: ColumnEncoding) -> bool:
    """Not where a level such as "None" is all that pandas reads as missing."""
    from regatta.export.sklearn_pipeline import lost_levels

    return MISSING_LEVEL in getattr(column, "levels", ()) or not lost_levels(column)


def _sample_values(column: ColumnEncoding, rows: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    match column:
        case CategoryEncoding():
            words = [level for level in column.levels if level != MISSING_LEVEL]
            values = np.empty(rows, dtype=object)
            values[:] = rng.choice([*words, "a word that is no level"], rows)
            return values
        case BooleanEncoding():
            return rng.integers(0, 2, rows).astype(np.float64)
        case DateEncoding():
            first_day = np.round(column.impute / SECONDS_A_DAY)
            days: FloatArray = SECONDS_A_DAY * (first_day + rng.integers(0, 730, rows))
            return days
    feature = column.features[0]
    numbers: FloatArray = feature.mean + feature.scale * rng.normal(size=rows)
    return numbers


def sample_frame(
    model: FittedModel,
    columns: Mapping[str, npt.NDArray[Any]],
    names: Mapping[str, str] = MappingProxyType({}),
    options: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """The made-up rows as ``pandas.read_csv`` gives them from a file that is written like the one
    the model was trained on; ``names`` are those that differ from the model's, ``options`` those
    of `read_csv_options`."""
    from regatta.export.sklearn_pipeline import Reading

    options = read_csv_options(model, Reading(names)) if options is None else options
    cells = {
        names.get(column.name, column.name): [
            _cell(column, value) for value in columns[column.name].tolist()
        ]
        for column in model.preprocessing.columns
    }
    rows = len(next(iter(cells.values()), []))
    header = options.get("names") or list(cells)  # without a line of names, every column counts
    listed = [cells.get(name, [""] * rows) for name in header]
    return _written_and_read(header, zip(*listed, strict=True), options)


def _written_and_read(
    header: list[str], rows: Iterable[Iterable[str]], options: Mapping[str, Any]
) -> pd.DataFrame:
    """Rows written as ``options`` say that files are, and read by pandas with them."""
    text = io.StringIO()
    text.write("-\n" * options.get("skiprows", 0))
    writer = csv.writer(
        text,
        delimiter=" " if options.get("sep") == r"\s+" else options.get("sep", ","),
        quotechar=options.get("quotechar", '"'),
        escapechar=options.get("escapechar"),
        quoting=csv.QUOTE_ALL,  # blanks, marks of comments and empty cells stay what they are
    )
    if "names" not in options:
        writer.writerow(header)
    writer.writerows(rows)
    text.seek(0)
    return read_as_user(text, options)


def _needs_settings(column: ColumnEncoding) -> bool:
    if not isinstance(column, NumberEncoding):
        return False
    return column.thousands == "." and not column.style.framed


def _cell(column: ColumnEncoding, value: Any) -> str:
    """A cell as the training file would hold it."""
    import datetime as dt

    if value is None or value != value:
        return column.missing[0] if isinstance(column, NumberEncoding) and column.missing else ""
    match column:
        case BooleanEncoding():
            return column.true if value else column.false
        case DateEncoding():
            moment = dt.datetime.fromtimestamp(value, dt.UTC).replace(tzinfo=None)
            iso = column.format == "ISO8601"
            return moment.isoformat() if iso else moment.strftime(column.format)
        case NumberEncoding():
            marks = {",": column.thousands, ".": column.decimal}
            within = column.parentheses and value < 0
            plain = format(abs(value) if within else value, ",")
            number = column.affix + "".join(marks.get(mark, mark) for mark in plain)
            return f"({number})" if within else number
    return str(value)
