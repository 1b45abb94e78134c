"""Widgets made from the declarations of `TrainingConfig`: label, help, choices and bounds.

A number is a text field, so that "auto" and "full" can be typed, and what is wrong is told right
under it by `regatta.configuration.parse_value`, which the command uses too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import Field, fields
from typing import Any

import streamlit as st

from regatta.configuration import (
    ReadingOptions,
    TrainingConfig,
    allowed,
    check_value,
    choices,
    flag,
    is_repeatable,
    number_type,
    parse_value,
)
from regatta.utils import UserError, available_cores

DECLARED: Mapping[str, Field[Any]] = {each.name: each for each in fields(TrainingConfig)}
READING: Mapping[str, Field[Any]] = {each.name: each for each in fields(ReadingOptions)}

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
    "drop": "Columns to leave out",
    "target": "Column to predict",
    "delimiter": "Separator",
    "decimal": "Decimal mark",
    "thousands": "Thousands mark",
    "skip_rows": "Lines before the table",
    "header": "Names in the first row",
    "comment": "Comment lines begin with",
    "missing": "Words for “no value”",
    "column_types": "Kinds of columns",
    "odd_cells": "Cells that do not fit",
    "on_bad_rows": "Broken rows",
    "max_bad_rows": "Most rows set aside",
}
# What the words of an option mean, where they do not say it themselves.
MEANINGS = {
    ("odd_cells", "missing"): "take them as missing",
    ("odd_cells", "category"): "make the column one of categories",
    ("odd_cells", "refuse"): "refuse the column",
    ("on_bad_rows", "mend"): "mend where one way alone fits",
    ("on_bad_rows", "refuse"): "refuse the file",
    ("on_bad_rows", "skip"): "mend, or set aside",
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


# What is an option of the command, and a button here.
SET_ASIDE = "Set these rows aside"
BUTTONS = {
    "--on-bad-cells missing": "Take them as missing",
    "--on-new-levels other": "Take them as other",
    "--on-bad-rows skip": SET_ASIDE,
}

BEGINNING = "beginning"  # the run whose settings the fields show first, and these settings


class Invalid(Exception):
    """A field holds a value that is not allowed; it has been told beside the field."""


def begin_with(run_id: str, settings: Mapping[str, Any]) -> None:
    """What the fields show first: the settings of a run, or ("", {}) the defaults."""
    st.session_state[BEGINNING] = (run_id, settings)


def begun_with() -> str:
    """The run whose settings the fields showed first, or ""."""
    return str(st.session_state.get(BEGINNING, ("", {}))[0])


def field(name: str) -> Any:
    """A widget for the option ``name``; returns its value, or raises `Invalid`."""
    declared = DECLARED[name]
    if name == "workers":
        return _workers(declared)
    if number_type(declared) is None:
        words = choices(declared)
        return st.selectbox(
            label(name),
            words,
            index=_place(words, _first(name)),
            key=_key(name),
            help=help_text(name),
        )
    return _number(declared, _first(name), _key(name))


def reading_field(name: str, value: Any, *, key: str, found: str = "") -> Any:
    """A widget for an option of the reading. ``found`` is what "auto" came to in this file."""
    declared = READING[name]
    if is_repeatable(declared):
        return _several(declared, value, key)
    if number_type(declared) is not None:
        return _number(declared, value, key)
    # Of words that mean the same, such as "comma" and ",", the longer one is offered.
    words = [word for word in choices(declared) if len(word) > 1]
    open_to_others = declared.metadata["fits"] is not None
    if value not in words:
        words.append(value)
    chosen = st.selectbox(
        label(name),
        words,
        index=words.index(value),
        format_func=lambda word: option_words(name, word, found),
        accept_new_options=open_to_others,
        key=key,
        help=help_text(name),
    )
    return _checked(declared, chosen)


def option_words(name: str, word: Any, found: str = "") -> str:
    """How a value of an option is called."""
    if word == "auto" or word is None:
        return f"as found: {found}" if found else "as found"
    return MEANINGS.get((name, word), str(word))


def has_phrases(name: str) -> bool:
    """Whether the words of an option are told as phrases, which need room."""
    return any(option == name for option, _ in MEANINGS)


def _several(declared: Field[Any], value: Sequence[str], key: str) -> tuple[str, ...]:
    chosen = st.multiselect(
        label(declared.name),
        list(value),
        default=list(value),
        accept_new_options=True,
        placeholder=declared.metadata["metavar"].lower() or "None",
        key=key,
        help=help_text(declared.name),
    )
    return tuple(_checked(declared, tuple(chosen)))


def _checked(declared: Field[Any], value: Any) -> Any:
    try:
        check_value(declared, value)
    except UserError as error:
        _tell_beside(error)
    return value


def _tell_beside(error: UserError) -> None:
    # Not the option's name, as the command would say it: the field stands right above.
    st.markdown(f":red[:material/error: {error.hint}]")
    raise Invalid from None


def model_choice() -> str:
    """The four models with a sentence on each."""
    words = choices(DECLARED["model"])
    chosen = st.radio(
        "Model",
        words,
        index=_place(words, _first("model")),
        format_func=lambda word: MODELS.get(word, (word, ""))[0],
        captions=[MODELS.get(word, ("", ""))[1] for word in words],
        key=_key("model"),
        label_visibility="collapsed",
        horizontal=True,
    )
    return str(chosen)


def solver_choice() -> str:
    """The two ways to the optimum. People come to watch, so the steps are proposed."""
    chosen = st.radio(
        "Solver",
        list(SOLVERS),
        index=_place(list(SOLVERS), _first("solver")),
        format_func=lambda word: SOLVERS[word][0],
        captions=[caption for _, caption in SOLVERS.values()],
        key=_key("solver"),
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


def in_page_words(text: str) -> str:
    """A sentence that names options of the command, with the words of the page instead."""

    for option, button in BUTTONS.items():
        text = text.replace(option, f"“{button}”")
    labels = {flag(name): f"“{label(name)}”" for name in DECLARED}
    return re.sub(
        r"(?<![\w-])--[a-z][a-z0-9-]*", lambda found: labels.get(found[0], found[0]), text
    )


def _key(name: str) -> str:
    """Another beginning makes other widgets: Streamlit takes the value of one only once."""
    run_id = begun_with()
    return f"option-{name}-{run_id}" if run_id else f"option-{name}"


def _first(name: str) -> Any:
    settings = st.session_state.get(BEGINNING, ("", {}))[1]
    return settings.get(name, DECLARED[name].default)


def _place(words: Sequence[Any], word: Any) -> int:
    return words.index(word) if word in words else 0


def _number(declared: Field[Any], first: Any, key: str) -> Any:
    text = st.text_input(
        label(declared.name),
        value="auto" if first is None else f"{first:g}" if isinstance(first, float) else str(first),
        key=key,
        help=help_text(declared.name),
        autocomplete="off",
    )
    try:
        return parse_value(declared, text)
    except UserError as error:
        _tell_beside(error)


def _workers(declared: Field[Any]) -> int | None:
    count = available_cores()
    # A word for auto: a select box takes None for "nothing is chosen".
    numbers: list[int | str] = ["auto", *range(1, count + 1), 0]

    def words(number: int | str) -> str:
        if number == "auto":
            return f"auto: one a core ({count})"
        return "0: inside the process, for small data" if number == 0 else str(number)

    chosen = st.selectbox(
        label(declared.name),
        numbers,
        index=_place(numbers, _first(declared.name)),
        format_func=words,
        key=_key(declared.name),
        help=help_text(declared.name),
    )
    return None if chosen == "auto" else int(chosen)
