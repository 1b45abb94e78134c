"""The import report of a file, and the choice of target and columns made from it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from regatta.dashboard import actions, fields, words
from regatta.dashboard.sources import Source

KIND_WORDS = {
    "number": "number",
    "boolean": "yes / no",
    "category": "category",
    "date": "date",
    "text": "text",
}
MOST_NAMES = 4
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


def missing_cells(report: Report, name: str | None) -> int:
    """Cells of a column that hold nothing: as a target, its rows cannot be learned from."""
    return sum(int(each.get("missing") or 0) for each in report["columns"] if each["name"] == name)


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
    named = _labels(report)
    target = st.selectbox(
        "Column to predict",
        targets,
        format_func=named,
        index=targets.index(suggested) if suggested in targets else None,
        placeholder="Choose the target",
        key=f"{key}-target",
        help="The number the model learns to predict from the other columns.",
    )
    others = [each["name"] for each in report["columns"] if each["name"] != target]
    drop = st.multiselect(
        "Columns to leave out",
        others,
        default=[each for each in dropped if each in others] or None,
        format_func=named,
        placeholder="None",
        key=f"{key}-drop",
        help="Leave out what would not be known when predicting: identifiers, results of the "
        "target, parts of it.",
    )
    return target, list(drop)


def show_about_target(source: Source, target: str | None, drop: Sequence[str], key: str) -> None:
    """Whether the target is skewed, and which of the columns in use give it away.

    ``key`` is that of `choose_columns`: a button leaves a column out there.
    """
    if target is None:
        return
    job = source.start_target_check(target)
    status = job.status()
    if status.is_running:
        actions.wait_for(job, "Looking for columns that give it away")
    if status.state != "done":
        return
    for finding in status.result:
        used = [name for name in finding["columns"] if name not in drop]
        if len(used) < finding["needs"]:
            continue
        st.markdown(f":material/warning: {words.plain(fields.in_page_words(finding['message']))}")
        if finding["kind"] == "leak":
            with st.container(horizontal=True):
                for name in used:
                    _leave_out_button(name, drop, key)


def _leave_out_button(name: str, drop: Sequence[str], key: str) -> None:
    def leave_out() -> None:
        st.session_state[f"{key}-drop"] = [*drop, name]

    st.button(
        f"Leave out {words.plain(name)}",
        key=f"{key}-leave-out-{name}",
        icon=":material/remove:",
        on_click=leave_out,
    )


def show_warnings(report: Report) -> None:
    """Repairs and warnings of the import, each in its sentence."""
    notes = [("repaired", each) for each in _together(report.get("repairs") or [])]
    notes += [("warning", _sentence(each)) for each in report.get("warnings") or []]
    if not notes:
        st.caption(":material/check_circle: Read without a repair or a warning.")
        return
    title = f"{len(notes)} thing{'s' if len(notes) > 1 else ''} to know about this file"
    with st.expander(title, icon=":material/info:", expanded=len(notes) <= 5):
        for kind, note in notes[:100]:
            icon = ":material/build:" if kind == "repaired" else ":material/warning:"
            st.markdown(f"{icon} {words.plain(fields.in_page_words(note))}")


def show_columns(report: Report, preview: Mapping[str, Any]) -> None:
    """Name, type, missing cells and values of every column."""
    import pandas as pd

    rows = max(int(report.get("rows") or 0), 1)
    columns, examples = report["columns"], _examples(preview)
    table = pd.DataFrame(
        {
            "column": [each["name"] for each in columns],
            "type": [_kind(each) for each in columns],
            "missing": [_share(int(each.get("missing") or 0), rows) for each in columns],
            "values": [_range(each) or examples.get(each["name"], "") for each in columns],
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
            "values": column("Values", width=190),
            "evidence": column("Why this type", width=230),
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
    if column.get("minimum") is None:
        return ""
    ends = column["minimum"], column["maximum"]
    if column.get("kind") == "number":
        return f"{ends[0]:.6g} … {ends[1]:.6g}"
    if column.get("kind") == "date":
        return " … ".join(_day(each) for each in ends)
    return ""


def _day(seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%d", time.gmtime(seconds))
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.6g}"


def _labels(report: Report) -> Callable[[str], str]:
    """How columns are called where one is chosen: where the file names none, with their values."""
    if (report.get("dialect") or {}).get("header", True):
        return str
    values = {each["name"]: _range(each) for each in report["columns"]}
    return lambda name: f"{name}  ({values[name]})" if values.get(name) else name


def _together(repairs: Sequence[Any]) -> list[str]:
    """The repairs as sentences; one that was made to many columns is told once."""
    columns: dict[str, list[str]] = {}
    told = []
    for repair in map(_sentence, repairs):
        found = re.fullmatch(r"column '(.+?)': (.+)", repair)
        text = found[2] if found else repair
        if text not in columns:
            columns[text] = []
            told.append(text)
        if found:
            columns[text].append(found[1])
    return [_repair(text, columns[text]) for text in told]


def _repair(text: str, columns: Sequence[str]) -> str:
    """One repair as a sentence, with the columns it was made to."""
    sentence = text[:1].upper() + text[1:]
    if columns:
        names = ", ".join(f"“{name}”" for name in columns[:MOST_NAMES])
        more = f" and {len(columns) - MOST_NAMES} more" if len(columns) > MOST_NAMES else ""
        sentence += f" in {names}{more}"
    return sentence if sentence.endswith((".", "…")) else sentence + "."


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
