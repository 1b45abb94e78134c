"""A parsed file: typed columns on disk, mapped into memory, and the report on them."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from regatta.ingest import cache
from regatta.ingest.column_type import ColumnType
from regatta.ingest.dialect import Dialect
from regatta.ingest.overrides import with_options
from regatta.ingest.parsing import Layout
from regatta.ingest.source import Patch
from regatta.preprocessing import missing_column
from regatta.utils import read_json, write_json

VALUES_NAME = "values.bin"
TABLE_NAME = "table.json"
FORMAT = 9
# Of a file of values that is mapped, before it is let go of.
RESIDENT_BYTES = 64 << 20


@dataclass(frozen=True)
class Finding:
    """What is worth knowing about some columns, in a sentence with its evidence.

    ``needs`` is how many of the columns must be used for it to matter.
    """

    kind: str
    columns: tuple[str, ...]
    message: str
    needs: int = 1

    def matters_without(self, left_out: Collection[str]) -> bool:
        """Whether it is still worth knowing once some columns are left out."""
        kept = [name for name in self.columns if name not in left_out]
        return not self.columns or len(kept) >= self.needs

    def to_json(self) -> dict[str, Any]:
        return {**self.__dict__, "columns": list(self.columns)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Finding:
        return cls(**{**value, "columns": tuple(value["columns"])})


@dataclass(frozen=True)
class ParsedColumn:
    """A column of a parsed file.

    ``kind`` is number, boolean, category, date or text; ``role`` feature or ignored, with a
    ``reason``. ``refused`` is why it may not be a feature or a target as it is.
    """

    name: str
    index: int
    kind: str
    type: ColumnType
    role: str
    missing: int
    distinct: int | None
    evidence: str
    reason: str = ""
    refused: str = ""
    refused_line: int | None = None
    minimum: float | None = None
    maximum: float | None = None
    levels: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    odd: tuple[tuple[int, str], ...] = ()

    def report(self) -> dict[str, Any]:
        """What `regatta inspect` tells of the column."""
        value: dict[str, Any] = {
            "name": self.name,
            "kind": self.kind,
            "missing": self.missing,
            "distinct": self.distinct,
            "role": self.role,
            "evidence": self.evidence,
        }
        if self.reason:
            value["reason"] = self.reason
        if self.minimum is not None:
            value |= {"minimum": self.minimum, "maximum": self.maximum}
        if self.levels:
            value["levels"] = list(self.levels[:20])
        if self.kind == "date":
            value["format"] = self.type.format
        if self.odd:
            value["odd_cells"] = [{"row": line, "text": text} for line, text in self.odd]
        return value

    def to_json(self) -> dict[str, Any]:
        return {
            **self.__dict__,
            "type": self.type.to_json(),
            "levels": list(self.levels),
            "counts": list(self.counts),
            "odd": [list(each) for each in self.odd],
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> ParsedColumn:
        return cls(
            **{
                **value,
                "type": ColumnType.from_json(value["type"]),
                "levels": tuple(value["levels"]),
                "counts": tuple(value["counts"]),
                "odd": tuple((line, text) for line, text in value["odd"]),
            }
        )


@dataclass(frozen=True)
class GroupLines:
    """The lines of a group's rows: the first one's, and where from on how many lie between."""

    first: int
    gaps: tuple[tuple[int, int], ...] = ()

    def of(self, row: int) -> int:
        """The line of a row of the group, counted from 0."""
        skipped = [count for start, count in self.gaps if start <= row]
        return self.first + row + (skipped[-1] if skipped else 0)


class _Mapped:
    """A file in memory that is the system's: what was looked at is let go of now and then, and so
    never counts as memory of this process for long. Arrays that are held go on being valid."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        self._bytes = np.frombuffer(self._map, np.uint8)
        self._looked_at = 0

    def part(self, start: int, length: int) -> npt.NDArray[np.uint8]:
        self._looked_at += length
        if self._looked_at > RESIDENT_BYTES:
            self._map.madvise(mmap.MADV_DONTNEED)
            self._looked_at = length
        return self._bytes[start : start + length]


@dataclass(frozen=True)
class ParsedTable:
    """Layer 1: all columns of a file, typed, in groups of rows (a chunk of the file each).

    ``warnings`` are sentences; those that are about the values come from ``findings``. ``patches``
    are the mended rows: who reads the file again gives them to its `Source`. ``options`` are those
    of `ReadingOptions` that were given, ``rejected`` the first rows that were set aside.
    """

    directory: Path
    key: str
    path: str
    name: str
    content_hash: str
    rows: int
    dialect: Dialect
    columns: tuple[ParsedColumn, ...]
    group_rows: tuple[int, ...]
    duplicates: int
    evidence: dict[str, str] = field(default_factory=dict)
    repairs: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    patches: tuple[Patch, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    rejected: tuple[dict[str, Any], ...] = ()
    rejected_rows: int = 0
    group_lines: tuple[GroupLines | None, ...] = ()  # empty in tables of before they were kept

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    def column(self, name: str) -> ParsedColumn:
        """The column of that name, without regard to surrounding blanks, or a `DataError`."""
        column = self._by_name.get(name) or self._by_name.get(name.strip())
        if column is not None:
            return column
        raise with_options(missing_column(name.strip(), self.names), self.options)

    @cached_property
    def _by_name(self) -> dict[str, ParsedColumn]:
        return {column.name: column for column in self.columns}

    @cached_property
    def layout(self) -> Layout:
        return Layout.of([column.type for column in self.columns])

    @cached_property
    def _offsets(self) -> list[int]:
        ends = np.cumsum([0, *self.group_rows]) * self.layout.row_bytes
        return [int(each) for each in ends]

    @cached_property
    def _places(self) -> dict[int, int]:
        """Bytes a row before each column within a group; codes lie after all numbers."""
        numbers = {index: 8 * (1 + place) for place, index in enumerate(self.layout.numeric)}
        start = 8 * (1 + len(self.layout.numeric))
        return numbers | {index: start + 4 * place for place, index in enumerate(self.layout.texts)}

    @cached_property
    def _values(self) -> _Mapped:
        return _Mapped(self.directory / VALUES_NAME)

    @property
    def groups(self) -> range:
        return range(len(self.group_rows))

    def hashes(self, group: int) -> npt.NDArray[np.uint64]:
        """The content hash of each row of a group."""
        return self._slice(group, 0, 8).view(np.uint64)

    def numbers(self, group: int, column: ParsedColumn) -> npt.NDArray[np.float64]:
        """A group's cells of a number, boolean or date column; NaN is missing."""
        return self._slice(group, self._places[column.index], 8).view(np.float64)

    def measured(self, group: int) -> npt.NDArray[np.float64]:
        """A group's cells of all number, boolean and date columns, in the order of
        ``layout.numeric``: (columns, rows)."""
        count = len(self.layout.numeric)
        return (
            self._slice(group, 8, 8 * count).view(np.float64).reshape(count, self.group_rows[group])
        )

    def codes(self, group: int, column: ParsedColumn) -> npt.NDArray[np.int32]:
        """A group's cells of a column of texts, as positions in its levels; -1 is missing."""
        return self._slice(group, self._places[column.index], 4).view(np.int32)

    def texts(self, group: int, column: ParsedColumn) -> npt.NDArray[np.object_]:
        """A group's cells of a category; ``None`` is missing."""
        levels = np.array([*column.levels, None], dtype=object)
        return levels[self.codes(group, column)]

    def values(self, column: ParsedColumn) -> npt.NDArray[np.float64]:
        """All cells of a number, boolean or date column (in memory)."""
        parts = [self.numbers(group, column) for group in self.groups]
        return np.concatenate(parts) if parts else np.empty(0)

    def _slice(self, group: int, place: int, width: int) -> npt.NDArray[np.uint8]:
        rows = self.group_rows[group]
        start = self._offsets[group] + place * rows
        return self._values.part(start, width * rows)

    def line(self, group: int, row: int) -> int | None:
        """The line of the file that a row of a group begins in; ``None``: not known."""
        lines = self.group_lines[group] if self.group_lines else None
        return None if lines is None else lines.of(row)

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Keep the files while the block runs."""
        with cache.hold(self.directory):
            yield

    def assumed(self) -> list[str]:
        """The parts of the dialect that the file does not show: one column has no separator, a
        table without numbers no marks in them."""
        unseen = [] if len(self.columns) > 1 else ["delimiter"]
        if not any(column.kind == "number" for column in self.columns):
            unseen += ["decimal", "thousands"]
        return [each for each in unseen if each not in self.options]

    def report(self) -> dict[str, Any]:
        """The object that ``regatta inspect --json`` prints."""
        return {
            "path": self.path,
            "dialect": self.dialect.report(),
            "assumed": self.assumed(),
            "evidence": self.evidence,
            "rows": self.rows,
            "columns": [column.report() for column in self.columns],
            "duplicate_rows": self.duplicates,
            "repairs": list(self.repairs),
            "warnings": list(self.warnings),
            "findings": [each.to_json() for each in self.findings],
            "options": self.options,
            "rejected": list(self.rejected),
            "rejected_rows": self.rejected_rows,
        }

    def save(self) -> None:
        """Write ``table.json``."""
        value = {
            **{key: getattr(self, key) for key in _PLAIN},
            "format": FORMAT,
            "dialect": self.dialect.to_json(),
            "columns": [column.to_json() for column in self.columns],
            "findings": [each.to_json() for each in self.findings],
            "patches": [[each.offset, each.length, each.text.decode()] for each in self.patches],
            "group_lines": [each and [each.first, each.gaps] for each in self.group_lines],
        }
        write_json(self.directory / TABLE_NAME, value, durable=False)


_PLAIN = ("key", "path", "name", "content_hash", "rows", "group_rows", "duplicates", "evidence",
          "repairs", "warnings", "options", "rejected", "rejected_rows")  # fmt: skip


def load_table(directory: Path) -> ParsedTable:
    """The table that lies in an entry of the cache."""
    value = read_json(directory / TABLE_NAME)
    plain = {key: value[key] for key in _PLAIN}
    for key in ("group_rows", "repairs", "warnings", "rejected"):
        plain[key] = tuple(plain[key])
    return ParsedTable(
        directory=directory,
        dialect=Dialect.from_json(value["dialect"]),
        columns=tuple(ParsedColumn.from_json(each) for each in value["columns"]),
        findings=tuple(Finding.from_json(each) for each in value["findings"]),
        group_lines=tuple(map(_group_lines, value.get("group_lines", ()))),
        patches=tuple(Patch(at, length, text.encode()) for at, length, text in value["patches"]),
        **plain,
    )


def _group_lines(value: Any) -> GroupLines | None:
    if value is None:
        return None
    first, gaps = value
    return GroupLines(first, tuple((row, count) for row, count in gaps))
