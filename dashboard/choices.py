"""What was chosen for a file on the page: target, columns to leave out, how it is read.

``home()/choices/<key of the file>.json``: a reload, another tab, the way to "New run" and a restart
of the page find it again.
"""

from __future__ import annotations

import contextlib
import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from regatta.configuration import ReadingOptions
from regatta.utils import UserError, home, read_json, write_json


@dataclass(frozen=True)
class Choice:
    """``reading`` holds the reading options that are not left to Regatta, by their names."""

    target: str = ""
    drop: tuple[str, ...] = ()
    reading: Mapping[str, Any] = field(default_factory=dict)

    def with_columns(
        self, target: str | None, drop: Sequence[str], columns: Sequence[str]
    ) -> Choice:
        """The choice after target and columns were chosen among ``columns``.

        A name that the file does not have as it is read now is kept: read in another way, the
        file may have it again.
        """
        there = set(columns)
        if target is None and self.target not in there:
            target = self.target
        gone = tuple(name for name in self.drop if name not in there)
        return replace(self, target=target or "", drop=(*drop, *gone))

    def with_reading(self, name: str, value: Any) -> Choice:
        """The choice with one reading option, or without it where it is left to Regatta."""
        reading = {key: each for key, each in self.reading.items() if key != name}
        return replace(self, reading=reading if not value else {**reading, name: value})

    @property
    def column_types(self) -> list[str]:
        """``PATTERN=KIND``; the last that matches a column counts."""
        return list(self.reading.get("column_types", ()))

    def kind_of(self, name: str) -> str:
        """The kind that the column ``name`` is to be read as, "" if that is left to Regatta."""
        for each in reversed(self.column_types):
            pattern, _, kind = each.rpartition("=")
            if fnmatch.fnmatchcase(name, pattern):
                return kind
        return ""

    def read_as(self, pattern: str, kind: str) -> Choice:
        """The choice with all columns that match ``pattern`` read as ``kind``."""
        rest = [each for each in self.column_types if each.rpartition("=")[0] != pattern]
        return self.with_reading("column_types", [*rest, f"{pattern}={kind}"])

    def as_found(self, names: Sequence[str], columns: Sequence[str]) -> Choice:
        """The choice with the columns ``names``, of all ``columns``, read as they are found.

        A pattern that matches others too is replaced by the names of these.
        """
        freed, kept = set(names), list[str]()
        for each in self.column_types:
            pattern, _, kind = each.rpartition("=")
            matched = fnmatch.filter(columns, pattern)
            if freed.isdisjoint(matched):
                kept.append(each)
            else:
                kept += [f"{exactly(name)}={kind}" for name in matched if name not in freed]
        return self.with_reading("column_types", kept)


def exactly(name: str) -> str:
    """The pattern that matches one name alone."""
    return "".join(f"[{mark}]" if mark in "*?[" else mark for mark in name)


def load(key: str) -> Choice:
    """What was chosen for the file ``key``; nothing if that cannot be read."""
    try:
        value = read_json(_path(key))
        reading_options(value["reading"])  # options of another version may not be allowed any more
        return Choice(str(value["target"]), tuple(value["drop"]), dict(value["reading"]))
    except (OSError, ValueError, TypeError, KeyError, UserError):
        return Choice()


def reading_values(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the reading from a JSON object, which has no tuples."""
    return {name: tuple(each) if isinstance(each, list) else each for name, each in chosen.items()}


def reading_options(chosen: Mapping[str, Any]) -> ReadingOptions:
    """All options of the reading, from those that are not left to Regatta."""
    return ReadingOptions(**reading_values(chosen))


def save(key: str, choice: Choice) -> None:
    """Remember it."""
    if choice != load(key):
        write_json(_path(key), asdict(choice), durable=False)


def forget(key: str) -> None:
    """Remove it: the file is gone."""
    with contextlib.suppress(OSError):
        _path(key).unlink()


def _path(key: str) -> Path:
    folder = home() / "choices"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"{key}.json"
