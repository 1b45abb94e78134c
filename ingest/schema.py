"""Whether a file is written and filled as the one that a model was trained on.

A model remembers of each column its kind, how its numbers and dates were written, and the texts
it has seen. What differs in another file is gathered here while that file is read: which column,
how many cells, their first lines. Harmless differences are told; the others are refused, unless
the caller chose otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from regatta.ingest.column_type import MAX_BAD_WORDS
from regatta.ingest.columns import describe_style, human_format
from regatta.ingest.dates import ISO
from regatta.ingest.values import NumberStyle
from regatta.preprocessing import CategoryEncoding, missing_column
from regatta.utils import DataError, UserError, counted

# Choices for cells that do not fit their column, and for texts that the training has not seen.
BAD_CELLS = ("refuse", "missing")
NEW_LEVELS = ("other", "refuse")

SHOWN_ROWS = 20
SHOWN_WORDS = 3
MISFIT, LEVELS, STYLE, ENCODING = "misfit", "new_levels", "style", "encoding"
REJECTED = "rejected"

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Deviation:
    """A difference of a file from the one of the training.

    ``kind`` is misfit, new_levels, style, encoding or rejected (rows that were set aside);
    ``rows`` are the lines of the first ``cells``.
    """

    kind: str
    column: str | None
    message: str
    cells: int = 0
    rows: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "rows": list(self.rows)}


@dataclass
class _Cells:
    """Cells of a column that are not as they should be."""

    what: str
    count: int = 0
    rows: list[int] = field(default_factory=list)
    words: Counter[str] = field(default_factory=Counter)

    def add(self, texts: Any, mask: BoolArray, lines: Callable[[], npt.NDArray[np.int64]]) -> None:
        self.count += int(mask.sum())
        for row in np.flatnonzero(mask).tolist():
            if len(self.words) >= MAX_BAD_WORDS:
                break
            self.words[texts[row].as_py().strip()] += 1
        room = SHOWN_ROWS - len(self.rows)
        if room > 0:
            self.rows += lines()[mask][:room].tolist()

    def sentence(self, column: str, total: int) -> str:
        shown = ", ".join(repr(word[:40]) for word, _ in self.words.most_common(SHOWN_WORDS))
        more = ", …" if len(self.words) > SHOWN_WORDS else ""
        rows = ", ".join(map(str, self.rows[:5])) + (", …" if self.count > 5 else "")
        return (
            f"{self.count:,} of {counted(total, 'cell')} of column {column!r} {self.what} "
            f"({shown}{more}): line {rows}."
        )


class SchemaCheck:
    """Gathers how a file differs from the one of the training, while it is read.

    Parameters
    ----------
    on_bad_cells : {"refuse", "missing"}
        What becomes of cells that are no number, date or word that their column knows.
    on_new_levels : {"other", "refuse"}
        What becomes of texts that the training has not seen. ``other``: they are predicted as
        the rare texts of the training are; without such, as none of the known texts.
    """

    def __init__(self, *, on_bad_cells: str = "refuse", on_new_levels: str = "other") -> None:
        for name, word, choices in (
            ("on_bad_cells", on_bad_cells, BAD_CELLS),
            ("on_new_levels", on_new_levels, NEW_LEVELS),
        ):
            if word not in choices:
                raise UserError(f"{name} is {word!r}.", f"It must be {' or '.join(choices)}.")
        self.rows = 0
        self._refused = {MISFIT: on_bad_cells == "refuse", LEVELS: on_new_levels == "refuse"}
        self._notes: list[Deviation] = []
        self._cells: dict[tuple[str, str], _Cells] = {}

    def note(self, kind: str, column: str | None, message: str, rows: tuple[int, ...] = ()) -> None:
        """Tell a difference of a whole column, of the file, or of some of its rows."""
        self._notes.append(Deviation(kind, column, message, rows=rows[:SHOWN_ROWS]))

    def mark(
        self,
        kind: str,
        column: str,
        what: str,
        texts: Any,
        mask: BoolArray,
        lines: Callable[[], npt.NDArray[np.int64]],
    ) -> None:
        """Count cells of some rows. ``lines`` gives the line of each of the rows."""
        self._cells.setdefault((kind, column), _Cells(what)).add(texts, mask, lines)

    @property
    def refuses(self) -> bool:
        """Whether something was found that is refused."""
        return any(self._refused[kind] for kind, _ in self._cells)

    @property
    def deviations(self) -> list[Deviation]:
        """What was found so far."""
        found = list(self._notes)
        for (kind, column), cells in self._cells.items():
            message = cells.sentence(column, self.rows)
            found.append(Deviation(kind, column, message, cells.count, tuple(cells.rows)))
        return found

    def settle(self) -> None:
        """Raise a `DataError` that names all that is refused, if anything is."""
        refused = [each for each in self.deviations if self._refused.get(each.kind)]
        if not refused:
            return
        first = min(refused, key=lambda each: each.rows)
        hints = []
        if any(each.kind == MISFIT for each in refused):
            hints.append("Mend these cells, or let --on-bad-cells missing leave them blank.")
        if any(each.kind == LEVELS for each in refused):
            hints.append("Mend these texts, or let --on-new-levels other take them.")
        raise DataError(
            " ".join(each.message for each in refused),
            " ".join(hints),
            row=first.rows[0],
            column=first.column,
        )


def sentences(deviations: Iterable[Deviation]) -> list[str]:
    """What to tell people: columns that differ in the same way in one sentence."""
    columns: dict[str, list[str]] = {}
    for each in deviations:
        start = f"Column {each.column!r} is "
        alike = each.kind == STYLE and each.message.startswith(start)
        rest = each.message.removeprefix(start) if alike else each.message
        columns.setdefault(rest, []).extend([str(each.column)] if alike else [])
    told = []
    for rest, names in columns.items():
        if len(names) > 1:
            more = f" and {len(names) - 4:,} more" if len(names) > 4 else ""
            told.append(f"Columns {', '.join(map(repr, names[:4]))}{more} are {rest}")
        else:
            told.append(f"Column {names[0]!r} is {rest}" if names else rest)
    return told


def missing_columns(names: Sequence[str], known: Sequence[str]) -> DataError:
    """The error for columns that a file does not have, with names that look like them."""
    one = missing_column(names[0], known)
    if len(names) == 1:
        return one
    shown = ", ".join(map(repr, names[:20])) + (", …" if len(names) > 20 else "")
    folded = {name.casefold(): name for name in known}
    cased = [f"{folded[n.casefold()]!r} for {n!r}" for n in names if n.casefold() in folded]
    hint = f"It has {', '.join(cased[:10])}." if cased else one.hint
    message = f"{len(names)} columns that the model needs are missing: {shown}."
    return DataError(message, hint, column=names[0])


def new_levels(column: CategoryEncoding, levels: npt.NDArray[Any]) -> BoolArray:
    """Which cells hold a text, or nothing, that the training has not seen."""
    unknown = {level for level in set(levels.tolist()) if not column.knows(level)}
    if not unknown:
        return np.zeros(len(levels), bool)
    return np.fromiter((level in unknown for level in levels), bool, len(levels))


def new_levels_in_words(column: CategoryEncoding) -> str:
    """What cells of `new_levels` are."""
    rare = column.other and not column.rare
    seen = "are new or were rare in the training" if rare else "were not seen in the training"
    return f"{seen} and count as {'(other)' if column.other else 'none of the known ones'}"


def style_in_words(style: NumberStyle) -> str:
    """``decimal comma``."""
    point = "" if style.decimal == "," else "decimal point, "
    return (point + describe_style(style)).removesuffix(", ")


def format_in_words(date_format: str) -> str:
    """``day.month.year``."""
    return "ISO 8601" if date_format == ISO else human_format(date_format)
