"""Widgets made from the declarations of `TrainingConfig`: label, help, choices and bounds.

A number is a text field, so that "auto" and "full" can be typed, and what is wrong is told right
under it by `regatta.configuration.parse_value`, which the command uses too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import Field, fields
from typing import Any

import streamlit as st

from regatta.configuration import TrainingConfig, allowed, choices, number_type, parse_value
from regatta.utils import UserError

DECLARED: Mapping[str, Field[Any]] = {each.name: each for each in fields(TrainingConfig)}

LABELS = {
    "alpha": "Penalty strength (alpha)",
    "l1_ratio": "Share of L1",
    "workers": "Workers",
    "epochs": "Epochs",
    "batch_size": "Batch size",
    "learning_rate": "Learning rate",
    "tol": "Tolerance (tol)",
    "validation": "Share held out for validation",
    "folds": "Folds",
    "rule": "Rule for alpha",
}
MODELS = {
    "linear": ("Linear", "Least squares, no penalty."),
    "ridge": ("Ridge", "Safe first choice."),
    "lasso": ("Lasso", "Drops useless columns."),
    "elasticnet": ("Elastic net", "Ridge and lasso mixed."),
}


SOLVERS = {
    "sgd": ("Parameter server", "Steps along gradients: watch it live."),
    "exact": ("Exact", "The optimum from one pass over the rows."),
}


class Invalid(Exception):
    """A field holds a value that is not allowed; it has been told beside the field."""


def field(name: str, *, key: str | None = None) -> Any:
    """A widget for the option ``name``; returns its value, or raises `Invalid`."""
    declared = DECLARED[name]
    key = key or f"option-{name}"
    if name == "workers":
        return _workers(declared, key)
    if number_type(declared) is None:
        words = choices(declared)
        return st.selectbox(
            label(name), words, index=words.index(declared.default), key=key, help=help_text(name)
        )
    return _number(declared, key)


def model_choice(key: str = "option-model") -> str:
    """The four models with a sentence on each."""
    words = choices(DECLARED["model"])
    chosen = st.radio(
        "Model",
        words,
        index=words.index(DECLARED["model"].default),
        format_func=lambda word: MODELS.get(word, (word, ""))[0],
        captions=[MODELS.get(word, ("", ""))[1] for word in words],
        key=key,
        label_visibility="collapsed",
        horizontal=True,
    )
    return str(chosen)


def solver_choice(key: str = "option-solver") -> str:
    """The two ways to the optimum. People come to watch, so the steps are proposed."""
    chosen = st.radio(
        "Solver",
        list(SOLVERS),
        format_func=lambda word: SOLVERS[word][0],
        captions=[caption for _, caption in SOLVERS.values()],
        key=key,
        label_visibility="collapsed",
        horizontal=True,
    )
    return str(chosen)


def label(name: str) -> str:
    """The words beside a field."""
    return LABELS.get(name, name.replace("_", " ").capitalize())


def help_text(name: str) -> str:
    """What a field means and what it accepts."""
    declared = DECLARED[name]
    text = str(declared.metadata["help"])
    sentence = text[:1].upper() + text[1:] + "."
    if number_type(declared) is None:
        return sentence
    return f"{sentence} Accepts {allowed(declared)}."


def cores() -> int:
    """The processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _number(declared: Field[Any], key: str) -> Any:
    default = "auto" if declared.default is None else f"{declared.default:g}"
    text = st.text_input(
        label(declared.name),
        value=default,
        key=key,
        help=help_text(declared.name),
        autocomplete="off",
    )
    try:
        return parse_value(declared, text)
    except UserError as error:
        # Not the option's name, as the command would say it: the field stands right above.
        st.markdown(f":red[:material/error: {error.hint}]")
        raise Invalid from None


def _workers(declared: Field[Any], key: str) -> int | None:
    count = cores()
    numbers: list[int | None] = [None, *range(1, count + 1), 0]

    def words(number: int | None) -> str:
        if number is None:
            return f"auto: one a core ({count})"
        return "0: inside the process, for small data" if number == 0 else str(number)

    chosen: int | None = st.selectbox(
        label(declared.name), numbers, format_func=words, key=key, help=help_text(declared.name)
    )
    return chosen


def as_widget_value(name: str, value: Any) -> Any:
    """A setting as the widget of `field` holds it, to start from the settings of another run."""
    declared = DECLARED[name]
    if name == "workers":
        return value if value is None or value <= cores() else None
    if number_type(declared) is None:
        return value
    if value is None:
        return "auto"
    return f"{value:g}" if isinstance(value, float) else str(value)
