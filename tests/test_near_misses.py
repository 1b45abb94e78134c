"""A column of texts that is almost one of numbers or dates says which cell is at odds, and where it
is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from regatta.configuration import ReadingOptions
from regatta.data_pipeline import import_csv
from regatta.ingest.near_misses import near_miss

pytestmark = pytest.mark.usefixtures("regatta_home")
Write = Callable[..., Path]


def evidence(path: Path) -> str:
    return import_csv(path).column("a").evidence


@pytest.mark.parametrize(
    ("usual", "odd", "told"),
    [
        ("{:02}.03.2024", "2024-04-{:02}", "dates (day.month.year), 40 are not"),
        ("{:02}.03.2024", "31.02.20{:02}", "dates (day.month.year), 40 are not"),
        ("{}.25", '"{},75"', "numbers (decimal point), 40 are not"),
        ('"{},25"', "{}.75", "numbers (decimal comma), 40 are not"),
        ("{}", "{}a", "numbers, 40 are not"),
    ],
)
def test_the_first_cell_at_odds_is_told_with_its_line(
    write: Write, usual: str, odd: str, told: str
) -> None:
    cells = [(odd if 30 <= i < 70 else usual).format(i % 28 + 1) for i in range(100)]
    said = evidence(write("a,y\n" + "".join(f"{cell},{i}\n" for i, cell in enumerate(cells))))
    assert "; 60 are " + told in said
    assert said.endswith(f"such as {cells[30].strip(chr(34))!r} in line 32")


def test_where_the_texts_are_too_many_to_be_kept_the_first_rows_tell(write: Write) -> None:
    cells = [f'"{i},5"' if i % 3 == 1 else f"{i}.5" for i in range(12_000)]
    said = evidence(write("a,y\n" + "".join(f"{cell},{i}\n" for i, cell in enumerate(cells))))
    assert "too many different texts in 12,000 cells; in the first" in said
    assert said.endswith("are not, such as '1,5' in line 3")


def test_texts_are_texts() -> None:
    assert near_miss(Counter(["Bath", "York", "AB-1234", "12 High Street"])) is None
    assert near_miss(Counter({"1": 5, "2": 5})) is None  # all are numbers
    assert near_miss(Counter()) is None


def test_a_kind_that_is_given_needs_no_reason(write: Write) -> None:
    path = write("a,y\n" + "".join(f"{i % 5 if i % 3 else 'x'},{i}\n" for i in range(60)))
    assert "are numbers" in evidence(path)
    given = import_csv(path, ReadingOptions(column_types=("a=category",)))
    assert "are numbers" not in given.column("a").evidence
