"""The table of columns: kind, gaps, spread and evidence of each; what is used, and as what.

Only a page of the columns goes to the browser: a file may have ten thousand.
"""

from __future__ import annotations

import fnmatch
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from regatta.configuration import KINDS
from regatta.dashboard import components, words
from regatta.dashboard.choices import Choice, exactly

KIND_WORDS = {
    "number": "number",
    "boolean": "yes / no",
    "category": "category",
    "date": "date",
    "text": "text",
}
# Kinds that a column may be told to be. Another button leaves columns out.
OVERRIDES = tuple(kind for kind in KINDS if kind != "ignore")
AS_FOUND = ""
PAGE_COLUMNS = 50
FEW_COLUMNS = 4  # need no search
SHOWN_LEVELS = 3
SHOWN_ODD = 2
NAMED_COLUMNS = 6

Report = Mapping[str, Any]
Column = Mapping[str, Any]


@dataclass(frozen=True)
class Changes:
    """What the table tells of a click on it."""

    leave_out: Callable[[Sequence[str]], None]
    use: Callable[[Sequence[str]], None]
    read_as: Callable[[str, str], None]  # pattern of names, kind or AS_FOUND


def ask_for_pattern(report: Report, *, key: str) -> str:
    """Which columns are looked for: part of a name, or a pattern."""
    if len(report["columns"]) <= FEW_COLUMNS:
        return ""
    text = st.text_input(
        "Find columns",
        placeholder="Find columns: part of a name, or a pattern such as sensor_*",
        key=f"{key}-find",
        label_visibility="collapsed",
        autocomplete="off",
    )
    return text.strip()


def show(report: Report, choice: Choice, changes: Changes, pattern: str, *, key: str) -> None:
    """The columns, fifty at a time, those that a search or pattern finds."""
    columns: Sequence[Column] = report["columns"]
    found = matching(columns, pattern)
    with st.container():  # what comes and goes in it does not touch the table
        if pattern:
            show_bulk(pattern, found, len(columns), changes, key=key)
    shown_key = f"{key}-shown-{pattern}"
    shown = st.session_state.get(shown_key, PAGE_COLUMNS)
    if found:
        _show_page(report, found[:shown], choice, changes, key=key)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(_footnote(report, len(found), min(shown, len(found))), width="stretch")
        if len(found) > shown:
            more = min(PAGE_COLUMNS, len(found) - shown)
            if st.button(f"Show {more} more", key=f"{key}-more"):
                st.session_state[shown_key] = shown + PAGE_COLUMNS
                st.rerun()


def as_pattern(text: str) -> str:
    """What is typed as a shell pattern: plain text may stand anywhere in a name."""
    return text if any(mark in text for mark in "*?[") else f"*{text}*"


def matching(columns: Sequence[Column], text: str) -> list[Column]:
    """The columns whose names match what was typed; all if nothing was."""
    if not text:
        return list(columns)
    pattern = as_pattern(text)
    return [each for each in columns if fnmatch.fnmatchcase(str(each["name"]), pattern)]


def show_bulk(
    text: str, found: Sequence[Column], total: int, changes: Changes, *, key: str
) -> None:
    """Which columns match, and what can be done to all of them."""
    names = [str(each["name"]) for each in found]
    if not names:
        st.caption(f"None of the {total:,} columns matches {words.plain(as_pattern(text))}.")
        return

    def chosen() -> str:
        return str(st.session_state[f"{key}-bulk-kind"])

    shown = ", ".join(words.plain(name) for name in names[:NAMED_COLUMNS])
    more = f" and {len(names) - NAMED_COLUMNS:,} more" if len(names) > NAMED_COLUMNS else ""
    count = "One" if len(names) == 1 else f"{len(names):,}"
    with st.container(border=True):
        st.markdown(
            f"**{count} of {total:,} columns** match **{words.plain(as_pattern(text))}**: "
            f"{shown}{more}"
        )
        with st.container(horizontal=True, vertical_alignment="bottom"):
            st.selectbox(
                "Read all of them as",
                [*OVERRIDES, AS_FOUND],
                format_func=lambda kind: KIND_WORDS.get(kind, "what was found"),
                key=f"{key}-bulk-kind",
                width=180,
            )
            for label, icon, action in (
                ("Apply", "done_all", lambda: changes.read_as(as_pattern(text), chosen())),
                ("Leave out", "remove", lambda: changes.leave_out(names)),
                ("Use", "add", lambda: changes.use(names)),
            ):
                st.button(
                    label, key=f"{key}-bulk-{icon}", icon=f":material/{icon}:", on_click=action
                )


def _show_page(
    report: Report, page: Sequence[Column], choice: Choice, changes: Changes, *, key: str
) -> None:
    rows = max(int(report.get("rows") or 0), 1)
    components.columns_table(
        f"{key}-table",
        [describe(each, rows, choice) for each in page],
        on_change=lambda change: _follow(change, changes),
    )


def _follow(change: Mapping[str, Any], changes: Changes) -> None:
    name = str(change["name"])
    if "kind" in change:
        changes.read_as(exactly(name), str(change["kind"]))
    elif change.get("used"):
        changes.use([name])
    else:
        changes.leave_out([name])


def _footnote(report: Report, found: int, shown: int) -> str:
    parts = []
    if shown < found:
        parts.append(f"The first {shown:,} of {found:,} columns.")
    looked_at = report.get("rows_looked_at")
    if looked_at is not None and looked_at < report["rows"]:
        parts.append(f"Medians and bars of {looked_at:,} evenly spaced rows.")
    return " ".join(parts)


# -- one column -----------------------------------------------------------------------------------


def describe(column: Column, rows: int, choice: Choice) -> dict[str, Any]:
    """A row of the table, in words and numbers of bars."""
    name = str(column["name"])
    missing = int(column.get("missing") or 0)
    ignored = column.get("role") == "ignored"
    forced = choice.kind_of(name)
    bars, values = spread(column)
    reason = str(column.get("reason") or "")
    told = [reason, str(column.get("evidence") or ""), odd_cells(column)]
    return {
        "name": name,
        "target": name == choice.target,
        "used": not ignored and name not in choice.drop,
        "unusable": f"Left out: {reason or 'nothing can be learned from it'}." if ignored else "",
        "kinds": kinds(column, forced),
        "chosen": forced,
        "forced": bool(forced),
        "missing": f"{missing:,}" if missing else "–",
        "share": share(missing, rows),
        "distinct": _distinct(column),
        "bars": bars,
        "drawn": f"{name}: {', '.join(values)}",
        "values": values,
        "ends": "bars" in (column.get("spread") or {}),
        "evidence": "; ".join(filter(None, told)),
    }


def odd_cells(column: Column) -> str:
    """The first cells that do not fit the kind of their column."""
    odd = column.get("odd_cells") or []
    shown = ", ".join(f"{each['text']!r} in line {each['row']:,}" for each in odd[:SHOWN_ODD])
    return f"not {shown}{', …' if len(odd) > SHOWN_ODD else ''}" if odd else ""


def kinds(column: Column, forced: str) -> list[list[str]]:
    """What a column may be read as, [value, words], the way it was found first."""
    kind = str(column.get("kind"))
    found = "as found" if forced else KIND_WORDS.get(kind, kind)
    others = [each for each in OVERRIDES if forced or each != kind]
    if forced and forced not in others:  # a date with its format
        others.append(forced)
    return [[AS_FOUND, found], *([each, KIND_WORDS.get(each, each)] for each in others)]


def share(count: int, rows: int) -> str:
    """A share of the rows, never rounded to nothing."""
    if not count:
        return ""
    return "< 0.1 %" if count < 0.001 * rows else f"{100 * count / rows:.1f} %"


def spread(column: Column) -> tuple[list[list[Any]], list[str]]:
    """Bars as [count, words, whether it stands for all others], and the words below them."""
    its = column.get("spread") or {}
    if "bars" in its:
        return _number_bars(column, its), _number_words(column, its)
    levels = its.get("levels") or []
    if not levels or column.get("kind") == "text":
        return [], ["too many different texts" if column.get("kind") == "text" else ""]
    total = sum(count for _, count in levels) + its["rest"]
    bars: list[list[Any]] = [[count, f"{text}: {count:,} rows", False] for text, count in levels]
    if its["rest"]:
        others = int(its["distinct"]) - len(levels)
        bars.append([its["rest"], f"{others:,} others: {its['rest']:,} rows", True])
    told = []
    for text, count in levels[:SHOWN_LEVELS]:
        percent = 100 * count / max(total, 1)
        told.append(f"{text} {percent:.0f} %" if percent >= 1 else f"{text} < 1 %")
    return bars, [", ".join(told)]


def _number_bars(column: Column, its: Mapping[str, Any]) -> list[list[Any]]:
    counts, start, stop = its["bars"], its["from"], its["to"]
    text = _value_text(column)
    width = its["width"]
    if width == 1:
        told = [text(start + at) for at in range(len(counts))]
    elif width:
        told = [
            f"{text(start + at * width)} to {text(min(start + (at + 1) * width - 1, stop))}"
            for at in range(len(counts))
        ]
    else:
        edges = [start + (stop - start) * at / len(counts) for at in range(len(counts) + 1)]
        told = [f"{text(low)} to {text(high)}" for low, high in itertools.pairwise(edges)]
    bars: list[list[Any]] = [
        [n, f"{words_of_it}: {n:,} rows", False]
        for n, words_of_it in zip(counts, told, strict=True)
    ]
    if its["below"]:
        bars.insert(0, [its["below"], f"below {text(start)}: {its['below']:,} rows", True])
    if its["above"]:
        bars.append([its["above"], f"above {text(stop)}: {its['above']:,} rows", True])
    return bars


def _number_words(column: Column, its: Mapping[str, Any]) -> list[str]:
    text = _value_text(column)
    if its["low"] == its["high"]:
        return [f"always {text(its['low'])}"]
    ends = [text(its["low"]), text(its["high"])]
    if column.get("kind") == "date" or its.get("median") is None:
        return ends
    return [ends[0], f"median {text(its['median'])}", ends[1]]


def _value_text(column: Column) -> Callable[[float], str]:
    if column.get("kind") == "date":
        return day
    return lambda value: words.number(value, 5)


def day(seconds: float) -> str:
    """The day of a time since the epoch."""
    try:
        return time.strftime("%Y-%m-%d", time.gmtime(seconds))
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.6g}"


def _distinct(column: Column) -> str:
    its = column.get("spread") or {}
    distinct = its.get("distinct", column.get("distinct"))
    return "many" if distinct is None else f"{int(distinct):,}"
