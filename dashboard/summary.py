"""What a finished run gives, at a glance: notes, scores, what moves the prediction; and where the
rest is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from regatta.dashboard import actions, coefficients, fields, words
from regatta.runs.store import RunRecord
from regatta.utils import read_json

SHOWN_NOTES = 6


def show(record: RunRecord) -> None:
    """Everything about a finished run but its curves."""
    directory = actions.store().directory(record.run_id)
    try:
        result = read_json(directory.result)
    except (OSError, ValueError):
        st.caption("The result of this run cannot be read.")
        return
    show_notes(result)
    left, right = st.columns([2, 1], gap="medium")
    with left, st.container(border=True, height="stretch"):
        coefficients.show_effects(directory, result, record.target)
    with right, st.container(border=True, height="stretch"):
        show_scores(result)
        show_next_steps(record)


def show_notes(result: Mapping[str, Any]) -> None:
    """What is to be known about the file, the solution and the choice of alpha."""
    found = [*result.get("warnings", []), *result.get("solver_warnings", [])]
    if not found:
        return
    lines = [words.plain(fields.in_page_words(str(each))) for each in found]
    if len(lines) > SHOWN_NOTES:
        lines[SHOWN_NOTES:] = [f"{len(lines) - SHOWN_NOTES:,} more stand in the log."]
    text = lines[0] if len(lines) == 1 else "\n".join(f"- {each}" for each in lines)
    st.warning(text, icon=":material/info:")


def show_scores(result: Mapping[str, Any]) -> None:
    """R², RMSE and MAE on held-out and on training rows."""
    st.header("Scores", help=words.SCORES)
    scores = result.get("metrics") or {}
    held_out, train = scores.get("validation") or {}, scores.get("train") or {}
    rows = [
        (name, _score(held_out.get(key), key), _score(train.get(key), key))
        for name, key in (("R²", "r2"), ("RMSE", "rmse"), ("MAE", "mae"))
    ]
    lines = ["| | held out | training |", "|---|--:|--:|"]
    lines += [f"| {name} | **{first}** | {second} |" for name, first, second in rows]
    st.markdown("\n".join(lines))
    seconds = result.get("seconds") or {}
    # After a resume the total is that of the last attempt, the training that of all.
    total = max(seconds.get("total") or 0.0, seconds.get("train") or 0.0)
    parts = [
        f"{result.get('rows_train', 0):,} rows to train on",
        f"{result.get('features', 0):,} features",
        f"{words.duration(total)} in all",
    ]
    if seconds.get("train"):
        parts.append(f"{words.duration(seconds['train'])} of it training")
    st.caption(" · ".join(parts))


def show_next_steps(record: RunRecord) -> None:
    """The ways to what a model is for."""
    for label, page, icon in (
        ("Predict and export", "predict.py", ":material/output:"),
        ("Explain", "explain.py", ":material/insights:"),
    ):
        if st.button(label, icon=icon, width="stretch"):
            st.switch_page(actions.PAGES / page, query_params={"run": record.run_id})


def _score(value: float | None, key: str) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if key == "r2" else words.number(value, zeros=True)
