"""Why a column of texts is not one of numbers or dates, where most of its cells are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from regatta.ingest.columns import best_style, usual_format
from regatta.ingest.dates import parse_date
from regatta.ingest.schema import format_in_words, style_in_words
from regatta.ingest.values import is_infinite, is_missing

# With fewer numbers or dates among its cells a column is one of texts, and no more to be told.
LEAST_SHARE = 0.4
FEW = 50


@dataclass(frozen=True)
class NearMiss:
    """So many cells are ``what``; the others, such as ``example``, are not."""

    what: str
    cells: int
    others: int
    example: str

    def sentence(self, line: int | None) -> str:
        where = "" if line is None else f" in line {line}"
        are = f"{self.cells:,} {'is' if self.cells == 1 else 'are'}"
        not_ = f"{self.others:,} {'is' if self.others == 1 else 'are'} not"
        return f"{are} {self.what}, {not_}, such as {self.example[:40]!r}{where}"


def near_miss(counts: Counter[str]) -> NearMiss | None:
    """What many cells of a column of texts are, given how often each comes up, in the order of the
    file; ``None`` if nothing, or if all are."""
    present = Counter({text: n for text, n in counts.items() if not is_missing(text)})
    return _near_numbers(present) or _near_dates(present)


def _near_numbers(counts: Counter[str]) -> NearMiss | None:
    style, share = best_style(counts)
    if share < LEAST_SHARE:
        return None
    found = _split(counts, lambda text: style.matches(text) or is_infinite(text))
    marked = any(style.decimal in text for text in counts if style.matches(text))
    written = style_in_words(style) if marked else ""
    return found and NearMiss(f"numbers ({written})" if written else "numbers", *found)


def _near_dates(counts: Counter[str]) -> NearMiss | None:
    few = [text for text in list(counts)[:FEW] if len(text) >= 6 and any(map(str.isdigit, text))]
    if len(few) < LEAST_SHARE * min(len(counts), FEW):
        return None
    style = usual_format(Counter({text: counts[text] for text in few}))
    found = _split(counts, lambda text: parse_date(text, style) == parse_date(text, style))
    return found and NearMiss(f"dates ({format_in_words(style)})", *found)


def _split(counts: Counter[str], fits: Callable[[str], bool]) -> tuple[int, int, str] | None:
    """Cells that fit, others, and the first text of these; ``None`` if there are too few of the
    one or none of the other."""
    odd = [text for text in counts if not fits(text)]
    total = sum(counts.values())
    others = sum(counts[text] for text in odd)
    enough = total - others >= LEAST_SHARE * total
    return (total - others, others, odd[0]) if odd and enough else None
