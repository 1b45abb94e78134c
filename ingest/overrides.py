"""What a person says of a file, instead of what would be found in it."""

from __future__ import annotations

import codecs
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from regatta.configuration import WORDS_FOR_MARKS, ReadingOptions, flag
from regatta.ingest.source import Source
from regatta.utils import DataError

BY_YOU = "given by you"
# How rows are cut into cells; and what the cells of a column say.
CUTTING = ("encoding", "delimiter", "quote", "escape", "header", "skip_rows", "comment")
WRITING = ("decimal", "thousands", "missing", "column_types")


@dataclass(frozen=True)
class GivenDialect:
    """What is said of the dialect; ``None`` is left to be found."""

    delimiter: str | None = None
    runs: bool | None = None
    quote: str | None = None
    escape: str | None = None
    comment: str | None = None
    header: bool | None = None
    skip_rows: int | None = None

    @classmethod
    def of(cls, options: ReadingOptions) -> GivenDialect:
        delimiter = _mark(options.delimiter)
        quote, escape = _mark(options.quote), _mark(options.escape)
        return cls(
            delimiter=delimiter,
            runs=None if delimiter is None else options.delimiter == "blanks",
            quote=quote,
            escape="" if quote == "" else escape,
            comment=_mark(options.comment),
            header={"yes": True, "no": False}.get(options.header),
            skip_rows=options.skip_rows,
        )


NOTHING = GivenDialect()


def _mark(word: str) -> str | None:
    """The mark that an option stands for; ``None`` where it is to be found."""
    if word in ("auto", "none"):
        return None if word == "auto" else ""
    return WORDS_FOR_MARKS.get(word, word)


def evidence(options: ReadingOptions) -> dict[str, str]:
    """What is told of the parts of the dialect that were given."""
    parts = ("encoding", "quote", "escape", "decimal", "thousands", "skip_rows", "comment")
    given = options.in_force()
    return {part: BY_YOU for part in parts if part in given}


def with_options(
    error: DataError, given: Mapping[str, Any], column: str | None = None
) -> DataError:
    """The error with a hint at options that may have led to it: those that say how rows are cut,
    and with the name of a column how its cells are written."""
    flags = [
        f"{flag(name)} {_quoted(str(value))}"
        for name in (*CUTTING, *(WRITING if column is not None else ()))
        for value in _values(given.get(name))
        if name != "column_types" or _matches(column or "", value.rpartition("=")[0])
        if flag(name) not in str(error)
    ]
    if flags:
        them = "it" if len(flags) == 1 else "them"
        told = f"The file was read with {' '.join(flags)}: leave {them} out if that is not so."
        error.hint = f"{told} {error.hint}".strip()
    return error


def _quoted(word: str) -> str:
    return f"'{word}'" if word in ",:." else shlex.quote(word)


def _values(given: Any) -> Sequence[Any]:
    if given is None:
        return ()
    return given if isinstance(given, list | tuple) else (given,)


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)


# -- encoding -------------------------------------------------------------------------------------


def given_encoding(options: ReadingOptions) -> str | None:
    """The encoding that was given, under the name that it goes by here."""
    if options.encoding == "auto":
        return None
    name = codecs.lookup(options.encoding).name
    return name if name.startswith("utf-8") else options.encoding.lower()


def check_encoding(source: Source, options: ReadingOptions) -> None:
    """Refuse a file whose byte order mark says that it is encoded otherwise than was given."""
    given = given_encoding(options)
    if given is not None and _family(given) != _family(source.encoding):
        raise DataError(
            f"{source.path.name!r} begins with the mark of {_family(source.encoding).upper()}, "
            f"--encoding is {options.encoding}.",
            "Leave --encoding out.",
        )


def _family(encoding: str) -> str:
    name = codecs.lookup(encoding).name
    return name.removesuffix("-sig").removesuffix("-le").removesuffix("-be")


# -- columns --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ColumnRule:
    """What is said of a column.

    ``kind``, ``format`` (of dates) and ``decimal`` are blank, and ``thousands`` is ``None``, where
    they are left to be found. ``missing`` are further words for "no value".
    """

    kind: str = ""
    format: str = ""
    decimal: str = ""
    thousands: str | None = None
    missing: tuple[str, ...] = ()
    odd_cells: str = "auto"


AS_IT_IS = ColumnRule()


def column_rules(names: Sequence[str], options: ReadingOptions) -> list[ColumnRule]:
    """What is said of each column.

    Raises
    ------
    DataError
        If the pattern of a ``--column-type`` matches none of them.
    """
    kinds = dict.fromkeys(names, "")
    for each in options.column_types:
        pattern, _, kind = each.rpartition("=")
        matching = [name for name in names if _matches(name, pattern)]
        if not matching:
            shown = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
            raise DataError(f"--column-type {each!r} matches no column.", f"There are: {shown}.")
        kinds.update(dict.fromkeys(matching, kind))
    words = [kinds[name].partition(":") for name in names]
    decimal = {"auto": "", "point": ".", "comma": ","}.get(options.decimal, options.decimal)
    thousands = _mark(options.thousands)
    missing = tuple(dict.fromkeys(word.strip() for word in options.missing))
    return [
        ColumnRule(kind, date_format, decimal, thousands, missing, options.odd_cells)
        for kind, _, date_format in words
    ]
