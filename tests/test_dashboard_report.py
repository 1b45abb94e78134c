"""The import report in words."""

from __future__ import annotations

from typing import Any

import pytest

from regatta.dashboard.report import summary

COLUMN = {"name": "a"}


@pytest.mark.parametrize(
    ("dialect", "columns", "said"),
    [
        ({"delimiter": ";", "decimal": ",", "header": False}, 2,
         "3 rows, 2 columns; read as semicolon-separated with decimal comma and no header; "),
        ({"delimiter": ",", "encoding": "utf-8"}, 1, "3 rows, 1 column; nothing"),
        ({"encoding": "utf-8", "header": False}, 1, "3 rows, 1 column; read with no header; "),
        ({"encoding": "cp1252"}, 1, "3 rows, 1 column; read as "),
    ],
)  # fmt: skip
def test_a_file_in_a_sentence(dialect: dict[str, Any], columns: int, said: str) -> None:
    assumed = [] if columns > 1 else ["delimiter"]
    report = {"rows": 3, "columns": [COLUMN] * columns, "dialect": dialect, "assumed": assumed}
    assert summary(report).startswith(said)
