"""The import report of a file, and the choice of target and columns made from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from regatta.dashboard import words

KIND_WORDS = {
    "number": "number",
    "boolean": "yes / no",
    "category": "category",
    "date": "date",
    "text": "text",
}
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", " ": "blanks"}

Report = Mapping[str, Any]


def summary(report: Report) -> str:
    """The dialect in one line."""
    dialect = report.get("dialect") or {}
    delimiter = str(dialect.get("delimiter", ","))
    missing = sum(int(each.get("missing") or 0) for each in report["columns"])
    parts = [
        f"{report.get('rows', 0):,} rows",
        f"{len(report['columns'])} columns",
        f"separated by {DELIMITERS.get(delimiter, repr(delimiter))}",
        str(dialect.get("encoding", "utf-8")),
    ]
    if dialect.get("decimal", ".") == ",":
        parts.append("decimal comma")
    if not dialect.get("header", True):
        parts.append("no header")
    if missing:
        parts.append(f"{missing:,} missing cells")
    return " · ".join(parts)


def target_columns(report: Report) -> list[str]:
    """The columns that can be predicted: numbers."""
    return [each["name"] for each in report["columns"] if each.get("kind") == "number"]


def choose_columns(
    report: Report, *, key: str, suggested: str = "", dropped: Sequence[str] = ()
) -> tuple[str | None, list[str]]:
    """Ask for the target and the columns to leave out."""
    targets = target_columns(report)
    if not targets:
        st.error(
            "No column of this file holds numbers, so there is nothing to predict. "
            "Regression needs a numeric target.",
            icon=":material/error:",
        )
        return None, []
    target = st.selectbox(
        "Column to predict",
        targets,
        index=targets.index(suggested) if suggested in targets else None,
        placeholder="Choose the target",
        key=f"{key}-target",
        help="The number the model learns to predict from the other columns.",
    )
    others = [each["name"] for each in report["columns"] if each["name"] != target]
    drop = st.multiselect(
        "Columns to leave out",
        others,
        default=[each for each in dropped if each in others],
        placeholder="None",
        key=f"{key}-drop",
        help="Leave out what would not be known when predicting: identifiers, results of the "
        "target, parts of it.",
    )
    return target, list(drop)


def show_warnings(report: Report) -> None:
    """Repairs and warnings of the import, each in its sentence."""
    notes = [("repaired", each) for each in report.get("repairs") or []]
    notes += [("warning", each) for each in report.get("warnings") or []]
    if not notes:
        st.caption(":material/check_circle: Read without a repair or a warning.")
        return
    title = f"{len(notes)} thing{'s' if len(notes) > 1 else ''} to know about this file"
    with st.expander(title, icon=":material/info:", expanded=len(notes) <= 5):
        for kind, note in notes[:100]:
            icon = ":material/build:" if kind == "repaired" else ":material/warning:"
            st.markdown(f"{icon} {words.plain(_sentence(note))}")


def show_columns(report: Report, preview: Mapping[str, Any]) -> None:
    """Name, type, missing cells and examples of every column."""
    import pandas as pd

    rows = max(int(report.get("rows") or 0), 1)
    columns, examples = report["columns"], _examples(preview)
    table = pd.DataFrame(
        {
            "column": [each["name"] for each in columns],
            "type": [_kind(each) for each in columns],
            "missing": [_share(int(each.get("missing") or 0), rows) for each in columns],
            "range": [_range(each) for each in columns],
            "examples": [examples.get(each["name"], "") for each in columns],
            "evidence": [each.get("evidence", "") for each in columns],
        }
    )
    column = st.column_config.TextColumn
    st.dataframe(
        table,
        hide_index=True,
        height=words.table_height(len(table), 12),
        column_config={
            "column": column("Column", width=165),
            "type": column("Type", width="small"),
            "missing": column("Missing", width=95),
            "range": column("Range", width=150),
            "examples": column("Examples", width=150),
            "evidence": column("Why this type", width="medium"),
        },
    )


def show_preview(preview: Mapping[str, Any]) -> None:
    """The first rows as they were read."""
    import pandas as pd

    table = pd.DataFrame(preview["rows"], columns=_unique(preview["columns"]))
    st.dataframe(table, hide_index=True, height=words.table_height(len(table), 12))


def _examples(preview: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for at, name in enumerate(preview["columns"]):
        cells: list[str] = []
        for row in preview["rows"]:
            text = (
                ""
                if row[at] is None
                else f"{row[at]:g}"
                if isinstance(row[at], float)
                else str(row[at])
            )
            if text and text not in cells:
                cells.append(text)
            if len(cells) == 4:
                break
        found[name] = ", ".join(cells)
    return found


def _kind(column: Mapping[str, Any]) -> str:
    kind = KIND_WORDS.get(column.get("kind", ""), str(column.get("kind")))
    return f"{kind} (left out)" if column.get("role") == "ignored" else kind


def _range(column: Mapping[str, Any]) -> str:
    if column.get("levels"):
        shown = ", ".join(map(str, column["levels"][:3]))
        count = int(column.get("distinct") or len(column["levels"]))
        return f"{count}: {shown}{', …' if count > 3 else ''}"
    if column.get("minimum") is not None and column.get("kind") == "number":
        return f"{column['minimum']:.6g} … {column['maximum']:.6g}"
    return ""


def _share(count: int, rows: int) -> str:
    if count == 0:
        return "–"
    return f"{count:,} ({100 * count / rows:.1f} %)"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _unique(names: Sequence[str]) -> list[str]:
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return unique


def _sentence(note: Any) -> str:
    if isinstance(note, Mapping):
        return str(note.get("message") or note.get("text") or note)
    return str(note)
