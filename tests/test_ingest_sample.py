"""How a file is read: in chunks of what size, by how many processes."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from regatta.ingest.chunks import CHUNK_BYTES
from regatta.ingest.column_type import ColumnType
from regatta.ingest.sample import CHILDREN_BYTES, MAX_PROCESSES, Plan, Sample

NUMBER, TEXT = ColumnType("number"), ColumnType("category")
LETTERS = random.Random(3)


def plan(columns: Sequence[tuple[ColumnType, Sequence[str]]]) -> Plan:
    """The plan for a file of some columns, each given by its cells."""
    cells = [column for _, column in columns]
    length = sum(len(cell) for column in cells for cell in column)
    sample = Sample(cells, len(cells) + length / max(1, len(cells[0])))
    return sample.plan([each for each, _ in columns], CHUNK_BYTES)


def numbers(count: int, digits: int = 8) -> list[tuple[ColumnType, Sequence[str]]]:
    return [(NUMBER, ["1" * digits] * 100)] * count


def different(count: int, letters: int = 8) -> list[tuple[ColumnType, Sequence[str]]]:
    cells = [[LETTERS.randbytes(letters // 2).hex() for _ in range(100)] for _ in range(count)]
    return [(TEXT, each) for each in cells]


def same(count: int) -> list[tuple[ColumnType, Sequence[str]]]:
    return [(TEXT, ["spring"] * 100)] * count


def test_a_file_of_numbers_is_read_by_more_processes_than_most_machines_have_cores() -> None:
    found = plan(numbers(30))
    assert found.chunk_bytes == CHUNK_BYTES
    assert 12 <= found.processes <= MAX_PROCESSES


def test_texts_that_all_differ_take_memory_and_those_that_come_again_none() -> None:
    assert plan(different(20)).processes < plan(same(20)).processes
    assert plan(numbers(30) + same(2)).processes >= 12


def test_rows_of_few_letters_are_read_in_smaller_chunks() -> None:
    short = plan(numbers(2, digits=1))
    assert CHUNK_BYTES // 8 < short.chunk_bytes < CHUNK_BYTES // 2
    assert short.processes >= 5


def test_a_wide_file_of_numbers_is_read_in_larger_chunks() -> None:
    assert plan(numbers(5_000)).chunk_bytes == 2 * CHUNK_BYTES
    assert plan(numbers(1_000)).chunk_bytes == CHUNK_BYTES


def test_a_wide_file_of_texts_is_not() -> None:
    """One chunk holds few of its rows as it is: with fewer, each column would cost too much."""
    found = plan(different(5_000))
    assert found.chunk_bytes == CHUNK_BYTES
    assert 1 <= found.processes <= 4


@pytest.mark.parametrize("columns", [numbers(30), different(20), numbers(1, 1), different(10_000)])
def test_at_least_one_process_and_no_more_than_there_is_memory_for(
    columns: list[tuple[ColumnType, Sequence[str]]],
) -> None:
    found = plan(columns)
    held = 4 * found.chunk_bytes // (len(columns) * (1 + len(columns[0][1][0])))
    rows = held * (8 + 8 * len(columns))  # values alone, of chunks that wait
    assert found.processes == 1 or found.processes * rows < CHILDREN_BYTES


def test_a_file_without_a_sample_has_a_plan_too() -> None:
    sample = Sample([(), ()], 2.0)
    assert sample.plan([NUMBER, TEXT], CHUNK_BYTES).processes >= 1
    assert sample.plan([NUMBER, TEXT], 100).chunk_bytes == 100
