"""A CSV in, the same CSV with a column of predictions out; what becomes of what does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from regatta.configuration import parse_value
from regatta.dashboard import (
    actions,
    components,
    fields,
    jobs,
    outlook_view,
    reading,
    report,
    uploads,
    words,
)
from regatta.dashboard.jobs import Job, Status
from regatta.runs.directory import RunDirectory
from regatta.runs.store import RunRecord
from regatta.utils import UserError

# The option of the command, what it is called here, and what its words mean; the first is the
# default.
CHOICES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "on_bad_cells": (
        "Cells that do not fit",
        {"refuse": "refuse the file", "missing": "take them as missing"},
    ),
    "on_new_levels": (
        "Texts that the training has not seen",
        {"other": "take them as (other)", "refuse": "refuse the file"},
    ),
    "on_bad_rows": (
        "Broken rows",
        {"refuse": "refuse the file", "skip": "set them aside"},
    ),
}
# The file's id in the address.
FILE = "file"
# Choices that errors name.
WAYS_OUT = {
    "--on-bad-cells missing": ("on_bad_cells", "missing"),
    "--on-new-levels other": ("on_new_levels", "other"),
    "--on-bad-rows skip": ("on_bad_rows", "skip"),
}


def show(directory: RunDirectory, record: RunRecord) -> None:
    """A place to drop a file, and its predictions."""
    key = f"predicting-{record.run_id}"
    with st.container(border=True):
        st.header("Predict on another file")
        uploaded = components.upload_zone(
            f"predict-{record.run_id}",
            title="Drop a CSV with the same columns",
            hint="You get it back with a last column “prediction”. "
            f"“{record.target}” may be missing.",
        )
        if uploaded:
            st.session_state[key] = uploaded["id"]
        upload = _upload(key)
        chosen = ask(key)
        job = None
        if upload is not None:
            job = jobs.start("predict", model=str(directory.model), path=str(upload.path), **chosen)
            show_job(job, key, upload.name)
    status = job.status() if job is not None else None
    if job is not None and status is not None and status.state == "done":
        show_result(job, status)


def _upload(key: str) -> uploads.Upload | None:
    """The file to predict: the one just dropped, or that of the address, which then keeps it."""
    wanted = st.session_state.get(key) or st.query_params.get(FILE, "")
    if not wanted:
        return None
    try:
        upload = uploads.find_upload(wanted)
    except UserError as error:
        actions.tell(error)
        st.session_state.pop(key, None)
        st.query_params.pop(FILE, None)
        return None
    st.session_state[key] = wanted
    if st.query_params.get(FILE) != wanted:
        st.query_params[FILE] = wanted
    return upload


def _begin_with_address(key: str) -> None:
    """Take choices from the address, where there are some and nothing was chosen yet."""
    for name, (_, meanings) in CHOICES.items():
        wanted = st.query_params.get(name, "")
        if wanted in meanings:
            st.session_state.setdefault(f"{key}-{name}", wanted)


def _most_of_address(default: Any) -> Any:
    """The largest share of broken rows that the address names, if it does."""
    try:
        return parse_value(fields.READING["max_bad_rows"], st.query_params["max_bad_rows"])
    except (KeyError, UserError):
        return default


def _keep_in_address(chosen: Mapping[str, Any]) -> None:
    """Write what is not the default into the address."""
    defaults: dict[str, Any] = {
        name: next(iter(meanings)) for name, (_, meanings) in CHOICES.items()
    }
    defaults["max_bad_rows"] = fields.READING["max_bad_rows"].default
    for name, default in defaults.items():
        value = chosen.get(name, default)
        if value == default:
            st.query_params.pop(name, None)
        elif st.query_params.get(name) != str(value):
            st.query_params[name] = str(value)


def ask(key: str) -> dict[str, Any]:
    """What is to become of what does not fit, by the options of the command."""
    chosen: dict[str, Any] = {}
    _begin_with_address(key)
    with st.expander("What does not fit", icon=":material/tune:"):
        for column, (name, (label, meanings)) in zip(st.columns(3), CHOICES.items(), strict=True):
            with column:
                chosen[name] = st.selectbox(
                    label, list(meanings), format_func=meanings.__getitem__, key=f"{key}-{name}"
                )
        if chosen["on_bad_rows"] == "skip":
            name, default = "max_bad_rows", fields.READING["max_bad_rows"].default
            # What it begins with is asked for once, or the field would begin anew at every change.
            begin = st.session_state.setdefault(f"{key}-{name}-begin", _most_of_address(default))
            try:
                chosen[name] = fields.reading_field(name, begin, key=f"{key}-{name}")
            except fields.Invalid:
                chosen[name] = default
    _keep_in_address(chosen)
    return chosen


def show_job(job: Job, key: str, name: str) -> None:
    """How far the predictions are, that they are there, or why there are none."""
    status = job.status()
    if status.is_running:
        components.wait_for(job, "Predicting", cancel=True)
    elif status.state == "done":
        rows = report.counted(status.result["rows"], "row")
        left, right = st.columns([3, 2], gap="medium", vertical_alignment="center")
        left.markdown(f":material/check: **{rows} predicted** in {words.plain(name)}.")
        for note in status.result["notes"]:
            left.markdown(f":material/warning: {words.plain(note)}")
        with right:
            components.download(
                f"predictions-{job.job_id}", "Predictions (CSV)", "jobs", job.job_id, "result",
                name=str(status.result["file"]),
            )  # fmt: skip
    else:
        actions.tell_failure(status)
        reading.show_bad_rows(status.rejected)
        if not show_ways_out(status, key) and not status.rejected:
            st.markdown(way_on(status))
            job.forget()
            st.session_state.pop(key)
            st.query_params.pop(FILE, None)


def way_on(status: Status) -> str:
    """What to do about a file that cannot be predicted."""
    if status.column and status.row is None:  # a column is missing, or is all wrong
        return (
            "The file needs the columns that the model was trained on: rename or add what is "
            "missing and drop it here again, or train a model without that column."
        )
    return "Mend the file and drop it here again, or drop another one."


def show_result(job: Job, status: Status) -> None:
    """What the predictions look like."""
    outlook = status.result.get("outlook")
    if not outlook:  # of an older version
        return
    if not outlook["rows"]:
        st.caption("The file has no rows.")
        return
    left, right = st.columns([3, 2], gap="medium")
    with left, st.container(border=True, height="stretch"):
        outlook_view.show_histogram(outlook, job.job_id)
    with right, st.container(border=True, height="stretch"):
        outlook_view.show_beyond(outlook)
    with st.container(border=True):
        outlook_view.show_preview(outlook)


def show_ways_out(status: Status, key: str) -> bool:
    """A button for each choice that the error names; whether there is one."""

    def choose(name: str, word: str) -> None:
        st.session_state[f"{key}-{name}"] = word

    found = [
        (option, name, word)
        for option, (name, word) in WAYS_OUT.items()
        if option in f"{status.message} {status.hint}"
    ]
    with st.container(horizontal=True):
        for option, name, word in found:
            st.button(
                fields.BUTTONS[option], key=f"{key}-{word}", on_click=choose, args=(name, word)
            )
    return bool(found)
