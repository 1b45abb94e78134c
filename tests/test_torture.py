"""The corpora of odd CSV files: none is read wrong in silence, most are read right.

`pytest tests/test_torture.py -s` prints what came of each corpus; `docs/csv.md` keeps the table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from regatta.data_pipeline import import_csv
from regatta.tests.torture import (
    BROKEN,
    REFUSED,
    REPAIRED,
    RIGHT,
    WRONG,
    Expected,
    Outcome,
    cases,
    difference,
    read,
)
from regatta.utils import HOME_VARIABLE

RIGHT_SHARE, DIALECT_SHARE = 0.85, 0.95

# Files whose answer itself is at fault, and how.
FAULTY_ANSWERS = {
    "pollock_survey/O18_air.csv": r"the answer has a cell 0.\ where the file has 0.0",
    "pollock_survey/workforce-management-information-dft_201706.csv": (
        "the answer lacks a comma that a name in the file has"
    ),
}
# Files that are read otherwise than the answer has it, and what the report says of that.
TOLD = {
    # A title stands above the header; the answer has it as the first part of a name.
    "pollock_survey/Sustainability_-_Water_consumption_P_56.csv": "1 line before the table skipped"
}


@pytest.fixture(scope="module")
def outcomes(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Outcome]]:
    folder = data_dir / "torture"
    if not (folder / "manifest.csv").is_file():
        pytest.skip(f"no corpora in {folder}: set REGATTA_TEST_DATA to the folder above it")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(HOME_VARIABLE, str(tmp_path_factory.mktemp("home")))
        found = [read(case) for case in cases(folder)]
        print("\n" + figures(found))
        yield found


def figures(outcomes: list[Outcome]) -> str:
    """What came of each corpus, as a table."""
    kinds = (RIGHT, REPAIRED, REFUSED, WRONG)
    lines = ["| corpus | files | " + " | ".join(kinds) + " | dialects right |", "|---" * 7 + "|"]
    by_corpus: dict[str, list[Outcome]] = {}
    for each in outcomes:
        by_corpus.setdefault(each.case.corpus, []).append(each)
    groups = {**by_corpus, "all": outcomes}
    groups["with an expected answer"] = [each for each in outcomes if each.case.expected]
    for name, group in groups.items():
        counts = Counter(each.kind for each in group)
        annotated = [each for each in group if each.case.dialect]
        right = sum(not each.dialect_fault for each in annotated)
        told = f"{right} of {len(annotated)}" if annotated else ""
        cells = [name, len(group), *(counts[kind] for kind in kinds), told]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def test_every_file_ends_in_a_table_or_a_sentence(outcomes: list[Outcome]) -> None:
    assert len(outcomes) >= 200
    assert [(each.case.name, each.said) for each in outcomes if each.kind == BROKEN] == []


def test_nothing_is_read_wrong_in_silence(outcomes: list[Outcome]) -> None:
    wrong = {each.case.name: each for each in outcomes if each.kind == WRONG}
    for name, sentence in TOLD.items():
        if name in wrong:
            assert sentence in wrong.pop(name).repairs
    silent = {name: each.said for name, each in wrong.items() if name not in FAULTY_ANSWERS}
    assert silent == {}


def test_most_files_are_read_right(outcomes: list[Outcome]) -> None:
    answered = [each for each in outcomes if each.case.expected]
    right = sum(each.kind in (RIGHT, REPAIRED) for each in answered)
    refused = [f"{each.case.name}: {each.said}" for each in answered if each.kind == REFUSED]
    print("\nrefused though there is an answer:", *refused, sep="\n  ")
    assert right >= RIGHT_SHARE * len(answered)


def test_most_dialects_are_found(outcomes: list[Outcome]) -> None:
    annotated = [each for each in outcomes if each.case.dialect]
    faults = [f"{each.case.name}: {each.dialect_fault}" for each in annotated if each.dialect_fault]
    print("\nother dialect than annotated:", *faults, sep="\n  ")
    assert len(faults) <= (1 - DIALECT_SHARE) * len(annotated)


def test_the_comparison_sees_each_difference(regatta_home: Path, tmp_path: Path) -> None:
    """Every cell and name counts: with any of them changed, a table is no longer the expected."""
    path = tmp_path / "file.csv"
    path.write_text("n,text,day,flag\n1.5,x y,2020-01-02,yes\n,,2020-01-03,no\n3,z,,yes\n")
    table = import_csv(path)
    expected = Expected(
        ["n", "text", "day", "flag"],
        [
            ["1.5", "x y", "2020-01-02", "yes"],
            ["", "", "2020-01-03", "no"],
            ["3", "z", "NA", "yes"],
        ],
    )
    assert difference(table, expected) == ""
    for column in range(4):
        names = [*expected.names]
        names[column] += "x"
        assert difference(table, replace(expected, names=names))
        for row in range(3):
            rows = [[*cells] for cells in expected.rows]
            rows[row][column] = {0: "7", 1: "w", 2: "2020-01-09", 3: ""}[column]
            assert difference(table, replace(expected, rows=rows))
    assert difference(table, replace(expected, rows=expected.rows[:2]))
    wider = [[*cells, "1"] for cells in expected.rows]
    assert difference(table, Expected([*expected.names, "more"], wider))
