"""What a column holds and how it is written: all that a parsing process is told of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from regatta.ingest.values import PLAIN, NumberStyle

# Of a column of texts: its levels, and letters of the longest; levels of all columns together.
MAX_LEVELS_KEPT = 10_000
MAX_LEVELS_TOGETHER = 300_000
MAX_LEVEL_LENGTH = 1_000
# Of cells that do not fit, kept for the report.
MAX_BAD_EXAMPLES = 20
MAX_BAD_WORDS = 1_000


@dataclass(frozen=True)
class ColumnType:
    """What a column holds and how it is written.

    ``kind`` is number, boolean, category or date; ``missing`` are further words for "no value".
    """

    kind: str
    style: NumberStyle = PLAIN
    false: str = ""
    true: str = ""
    format: str = ""
    missing: tuple[str, ...] = ()
    evidence: str = ""
    leading_zeros: str = ""  # how many of the sampled cells have them

    @property
    def numeric(self) -> bool:
        """Whether it is stored as float64."""
        return self.kind != "category"

    def to_json(self) -> dict[str, Any]:
        value = asdict(self)
        style = value.pop("style")
        return {**value, **style, "missing": list(self.missing)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> ColumnType:
        rest = dict(value)
        marks = ("decimal", "thousands", "affix", "parentheses")
        style = NumberStyle(*(rest.pop(mark) for mark in marks))
        return cls(**{**rest, "style": style, "missing": tuple(value["missing"])})
