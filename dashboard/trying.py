"""Try a row: controls made from the model's columns, and what is predicted for what they say."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from typing import Any

import streamlit as st

from regatta.dashboard import actions, explaining, words
from regatta.dashboard.explaining import Subject
from regatta.explain import charts, contributions
from regatta.explain.held_out import date_in_words
from regatta.ingest.dates import has_time
from regatta.preprocessing import (
    MISSING_LEVEL,
    OTHER_LEVEL,
    BooleanEncoding,
    CategoryEncoding,
    ColumnEncoding,
    DateEncoding,
    NumberEncoding,
    range_of,
)
from regatta.utils import UserError

# Columns with a control at first: those that move the prediction most.
FIRST_CONTROLS = 10
# More than that many, and they are asked for by name.
MOST_CONTROLS = 40
OTHER = "(another text)"
EPOCH = dt.datetime(1970, 1, 1)
EARLIEST, LATEST = dt.date(1, 1, 1), dt.date(9999, 12, 31)


@st.fragment
def show(subject: Subject) -> None:
    """Controls on the left, the prediction and its contributions on the right."""
    start, number = starting_row(subject)
    left, right = st.columns([2, 3], gap="medium")
    with left, st.container(border=True, height="stretch"):
        show_start(subject, number)
        values = ask(subject, start, f"try-{subject.run_id}-{number or 'typical'}")
    with right, st.container(border=True, height="stretch"):
        show_outcome(subject, values)


def starting_row(subject: Subject) -> tuple[dict[str, Any], int | None]:
    """The values to begin with: of the address's row, or typical ones."""
    typical = contributions.typical_row(subject.model)
    text = st.query_params.get(explaining.ROW, "")
    if not text.isdecimal() or subject.found is None:
        return typical, None
    try:
        rows = explaining.open_rows(subject)
        row = rows.row(int(text))
    except (UserError, OSError):
        return typical, None
    return {name: _plain(cells[0]) for name, cells in row.columns.items()}, row.number


def show_start(subject: Subject, number: int | None) -> None:
    """What the values are to begin with, and the way back to typical ones."""
    st.header("Values")
    if number is None:
        st.caption("Begins with a typical row: medians, and the commonest words.")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"Begins with row {number:,} of the file.", width="stretch")
        if st.button("Typical row", icon=":material/restart_alt:"):
            st.query_params.pop(explaining.ROW, None)
            st.rerun()


def ask(subject: Subject, start: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A control a column, those that matter most on top; the values that they say."""
    ordered = by_importance(subject)
    values = dict(start)
    for column in ordered[:FIRST_CONTROLS]:
        values[column.name] = control(column, start[column.name], key)
    rest = ordered[FIRST_CONTROLS:]
    if not rest:
        return values
    with st.expander(f"{len(rest):,} more columns", icon=":material/tune:"):
        if len(rest) > MOST_CONTROLS:
            names = {each.name: each for each in rest}
            chosen = st.multiselect(
                "Columns to change",
                list(names),
                placeholder="Choose columns by name",
                key=f"{key}-more",
                help="The others stay as they are to begin with.",
            )
            rest = [names[name] for name in chosen]
        for column in rest:
            values[column.name] = control(column, start[column.name], key)
    return values


def by_importance(subject: Subject) -> list[ColumnEncoding]:
    """The columns, those first whose features change the prediction most for a deviation more."""
    sizes, start = {}, 0
    for column in subject.model.preprocessing.columns:
        stop = start + len(column.features)
        sizes[column.name] = float(abs(subject.model.weights[start:stop]).max())
        start = stop
    return sorted(subject.model.preprocessing.columns, key=lambda each: -sizes[each.name])


def control(column: ColumnEncoding, start: Any, key: str) -> Any:
    """The control of one column; what it says, as `contributions.as_columns` takes it."""
    key = f"{key}-{column.name}"
    if isinstance(column, CategoryEncoding):
        return _level(column, start, key)
    if isinstance(column, BooleanEncoding):
        return _word(column, start, key)
    if isinstance(column, DateEncoding):
        return _date(column, start, key)
    assert isinstance(column, NumberEncoding)
    return _number(column, start, key)


def _number(column: NumberEncoding, start: float | None, key: str) -> float | None:
    """Set in the state and not as a default: then it can be emptied, which means missing."""
    st.session_state.setdefault(key, start)
    span = range_of(column)
    told = f"Median {charts.number(column.impute)}"
    if span is not None:
        told = f"Training rows: {charts.number(span[0])} to {charts.number(span[1])}. {told}"
    value = st.number_input(
        words.plain(column.name),
        value=None,
        step=_step(span),
        format="%.10g",
        placeholder=f"missing: counts as {charts.number(column.impute)}",
        key=key,
        help=f"{told}. Emptied, it is missing.",
    )
    return None if value is None else float(value)


def _step(span: tuple[float, float] | None) -> float:
    """About a fiftieth of the range, as a power of ten."""
    width = span[1] - span[0] if span else 0.0
    return float(10.0 ** math.floor(math.log10(width / 20))) if width > 0 else 1.0


def _word(column: BooleanEncoding, start: float | None, key: str) -> float | None:
    values = {column.false: 0.0, column.true: 1.0, MISSING_LEVEL: None}
    first = MISSING_LEVEL if start is None else (column.true if start else column.false)
    st.session_state.setdefault(key, first)
    return values[st.selectbox(words.plain(column.name), list(values), key=key)]


def _level(column: CategoryEncoding, start: str | None, key: str) -> str | None:
    """Known levels, "another text", and "missing", whatever the file's texts are called."""
    known = [each for each in (*column.levels, *column.rare) if each != MISSING_LEVEL]
    first = MISSING_LEVEL if start is None else start
    if first not in (*known, OTHER_LEVEL, MISSING_LEVEL):
        known.append(first)  # of a row that was held out
    st.session_state.setdefault(key, first)
    counted = "as (other)" if column.other else "as none of the known ones"
    chosen: str = st.selectbox(
        words.plain(column.name),
        [*known, OTHER_LEVEL, MISSING_LEVEL],
        format_func=lambda each: OTHER if each == OTHER_LEVEL else each,
        key=key,
        help=f"{len(known):,} texts are known from the training; another one counts {counted}.",
    )
    return None if chosen == MISSING_LEVEL else chosen


def _date(column: DateEncoding, start: float | None, key: str) -> float | None:
    span = range_of(column)
    told = "Emptied, it is missing."
    if span is not None:
        first, last = (date_in_words(each, column.format) for each in span)
        told = f"Training rows: {first} to {last}. {told}"
    begin = None if start is None else EPOCH + dt.timedelta(seconds=round(start))
    name = words.plain(column.name)
    if has_time(column.format):
        st.session_state.setdefault(key, begin)
        moment = st.datetime_input(
            name, value=None, min_value=dt.datetime(1, 1, 1), max_value=dt.datetime(9999, 12, 31),
            key=key, help=told,
        )  # fmt: skip
        return None if moment is None else (moment - EPOCH).total_seconds()
    st.session_state.setdefault(key, None if begin is None else begin.date())
    day = st.date_input(name, value=None, min_value=EARLIEST, max_value=LATEST, key=key, help=told)
    return None if day is None else (dt.datetime.combine(day, dt.time()) - EPOCH).total_seconds()


def show_outcome(subject: Subject, values: Mapping[str, Any]) -> None:
    """The prediction for some values, what is doubtful about it, and where it comes from."""
    st.header("Prediction")
    try:
        columns = contributions.as_columns(subject.model, values)
        explained = contributions.explain(subject.model, columns)
    except UserError as error:
        actions.tell(error)
        return
    explaining.show_prediction(subject, explained)
    doubts = list(contributions.beyond_training(subject.model, values))
    if doubts:
        lines = "\n".join(f"- {words.plain(each)}" for each in doubts[:6])
        more = f"\n- {len(doubts) - 6:,} more" if len(doubts) > 6 else ""
        st.warning(
            "This lies outside of what the model was trained on, so its prediction is a guess:\n"
            f"{lines}{more}",
            icon=":material/warning:",
        )
    explaining.draw(subject, "tried", charts.waterfall(explained))
    explaining.show_contributions(explained, f"tried-contributions-{subject.run_id}")


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    number = float(value)
    return None if number != number else number
