"""The import report of a file, and the choice of target and columns made from it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from regatta.dashboard import columns, components, fields, reading, words
from regatta.dashboard.choices import Choice
from regatta.dashboard.sources import Source
from regatta.ingest.dialect import seen_dialect

MOST_NAMES = 4
SEPARATED = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", " ": "blank"}
# More columns than this are left out by the table of columns alone: each is a chip otherwise.
MOST_CHIPS = 60
# Of more columns than this only those that are left out are listed: with thousands the browser
# would stand still for seconds at every change.
MOST_OFFERED = 500

Report = Mapping[str, Any]


def summary(report: Report, *, with_options: bool = False) -> str:
    """The file in a sentence: how large, how it was read, how much there is to look at."""
    dialect = seen_dialect(report)
    delimiter, encoding = dialect.get("delimiter"), str(dialect.get("encoding", "utf-8"))
    # A file of one column has no separator.
    how = [f"{SEPARATED.get(delimiter, repr(delimiter))}-separated"] if delimiter else []
    if not encoding.startswith("utf-8"):
        how.append(f"{reading.ENCODINGS.get(encoding, encoding)} text")
    marks = []
    if dialect.get("decimal", ".") == ",":
        marks.append("decimal comma")
    if not dialect.get("header", True):
        marks.append("no header")
    parts = [
        f"{counted(report.get('rows', 0), 'row')}, {counted(len(report['columns']), 'column')}"
    ]
    as_what = [f"as {' '.join(how)}"] if how else []
    with_what = [f"with {' and '.join(marks)}"] if marks else []
    if how or marks:
        parts.append(" ".join(["read", *as_what, *with_what]))
    if with_options:
        parts.append("with your options")
    rejected = int(report.get("rejected_rows") or len(report.get("rejected") or []))
    if rejected:
        parts.append(f"{counted(rejected, 'row')} set aside")
    warnings = len(report.get("warnings") or [])
    parts.append(things(warnings) if warnings else "nothing to look at")
    return "; ".join(parts)


def things(count: int) -> str:
    """``2 things to look at``."""
    return f"{counted(count, 'thing')} to look at"


def counted(count: int, what: str) -> str:
    """``1 row``, ``2,000 rows``."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def missing_cells(report: Report, name: str | None) -> int:
    """Cells of a column that hold nothing: as a target, its rows cannot be learned from."""
    return sum(int(each.get("missing") or 0) for each in report["columns"] if each["name"] == name)


def target_columns(report: Report) -> list[str]:
    """The columns that can be predicted: numbers."""
    return [each["name"] for each in report["columns"] if each.get("kind") == "number"]


def choose_columns(report: Report, choice: Choice, *, key: str) -> tuple[str | None, list[str]]:
    """Ask for the target and the columns to leave out, beginning with what was chosen before."""
    targets = target_columns(report)
    if not targets:
        st.error(
            "No column of this file holds numbers, so there is nothing to predict. "
            "Regression needs a numeric target.",
            icon=":material/error:",
        )
        return None, []
    named = _labels(report)
    # Set beforehand and not as defaults: a button may have set them, too.
    _begin_with(f"{key}-target", choice.target, lambda name: name in targets)
    target = st.selectbox(
        "Column to predict",
        targets,
        format_func=named,
        index=None,
        placeholder="Choose the target",
        key=f"{key}-target",
        help="The number the model learns to predict from the other columns.",
    )
    others = [each["name"] for each in report["columns"] if each["name"] != target]
    there = set(others)
    st.session_state.setdefault(f"{key}-drop", list(choice.drop))
    drop = [name for name in st.session_state[f"{key}-drop"] if name in there]
    st.session_state[f"{key}-drop"] = drop
    if len(drop) > MOST_CHIPS:
        st.caption(f"{len(drop):,} columns are left out, as the table of columns shows.")
        return target, drop
    if len(others) > MOST_OFFERED and not drop:
        st.caption("All columns are used. Leave some out in the table of columns, by a pattern.")
        return target, drop
    drop = st.multiselect(
        "Columns to leave out",
        others if len(others) <= MOST_OFFERED else list(drop),
        format_func=named,
        placeholder="None",
        key=f"{key}-drop",
        help="Leave out what would not be known when predicting: identifiers, results of the "
        "target, parts of it.",
    )
    return target, list(drop)


def _begin_with(key: str, value: Any, allowed: Callable[[Any], bool]) -> None:
    if not allowed(st.session_state.setdefault(key, value)):
        st.session_state[key] = None


def leave_out(key: str, names: Sequence[str]) -> None:
    """Leave columns out, from the callback of a button. ``key`` is that of `choose_columns`."""
    target = st.session_state.get(f"{key}-target")
    left_out = [*st.session_state.get(f"{key}-drop", []), *names]
    st.session_state[f"{key}-drop"] = [name for name in dict.fromkeys(left_out) if name != target]


def use(key: str, names: Sequence[str]) -> None:
    """Use columns again, from the callback of a button."""
    used = set(names)
    left_out = st.session_state.get(f"{key}-drop", [])
    st.session_state[f"{key}-drop"] = [name for name in left_out if name not in used]


def show_about_target(
    source: Source, choice: Choice, target: str | None, drop: Sequence[str], key: str
) -> None:
    """Whether the target is skewed, and which of the columns in use give it away.

    ``key`` is that of `choose_columns`: a button leaves a column out there.
    """
    if target is None:
        return
    job = source.start_target_check(target, choice.reading)
    status = job.status()
    if status.is_running:
        components.wait_for(job, "Looking for columns that give it away")
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
                    st.button(
                        f"Leave out {words.plain(name)}",
                        key=f"{key}-leave-out-{name}",
                        icon=":material/remove:",
                        on_click=leave_out,
                        args=(key, [name]),
                    )


def repaired(report: Report) -> list[str]:
    """What was repaired, beyond what the list of what was found tells."""
    return _together(report.get("repairs") or [])


def show_warnings(report: Report) -> None:
    """What is to be looked at, and what was repaired, each in its sentence."""
    warnings = [_sentence(each) for each in report.get("warnings") or []]
    repairs = repaired(report)
    titles = [things(len(warnings))] if warnings else []
    titles += [counted(len(repairs), "repair")] if repairs else []
    if not titles:
        return
    with st.expander(", ".join(titles), icon=f":material/{'warning' if warnings else 'build'}:"):
        _show_notes(warnings)
        if warnings and repairs:
            st.markdown("**Repaired**")
        _show_notes(repairs)


def _show_notes(notes: Sequence[str]) -> None:
    if not notes:
        return
    lines = [f"- {words.plain(fields.in_page_words(note))}" for note in notes[:100]]
    if len(notes) > 100:
        lines.append(f"- {len(notes) - 100:,} more")
    st.markdown("\n".join(lines))


def show_preview(preview: Mapping[str, Any]) -> None:
    """The first rows as they were read."""
    import pandas as pd

    table = pd.DataFrame(preview["rows"], columns=_unique(preview["columns"]))
    st.dataframe(table, hide_index=True, height=words.table_height(len(table), 7))


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
        return " … ".join(columns.day(each) for each in ends)
    return ""


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
