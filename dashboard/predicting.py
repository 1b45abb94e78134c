"""A CSV in, the same CSV with a column of predictions out; what becomes of what does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from regatta.dashboard import actions, components, fields, jobs, reading, uploads, words
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
# Choices that errors name.
WAYS_OUT = {
    "--on-bad-cells missing": ("on_bad_cells", "missing"),
    "--on-new-levels other": ("on_new_levels", "other"),
    "--on-bad-rows skip": ("on_bad_rows", "skip"),
}


def show(directory: RunDirectory, record: RunRecord) -> None:
    """A place to drop a file, and its predictions."""
    with st.container(border=True):
        st.subheader("Predict on another file")
        uploaded = components.upload_zone(
            f"predict-{record.run_id}",
            title="Drop a CSV with the same columns",
            hint="You get it back with a last column “prediction”. "
            f"“{record.target}” may be missing.",
        )
        key = f"predicting-{record.run_id}"
        if uploaded:
            st.session_state[key] = uploaded["id"]
        chosen = ask(key)
        if not st.session_state.get(key):
            return
        try:
            upload = uploads.find_upload(st.session_state[key])
        except UserError as error:
            actions.tell(error)
            return
        job = jobs.start("predict", model=str(directory.model), path=str(upload.path), **chosen)
        show_job(job, key)


def ask(key: str) -> dict[str, Any]:
    """What is to become of what does not fit, by the options of the command."""
    chosen: dict[str, Any] = {}
    with st.expander("What does not fit", icon=":material/tune:"):
        for column, (name, (label, meanings)) in zip(st.columns(3), CHOICES.items(), strict=True):
            with column:
                chosen[name] = st.selectbox(
                    label, list(meanings), format_func=meanings.__getitem__, key=f"{key}-{name}"
                )
        if chosen["on_bad_rows"] == "skip":
            name, default = "max_bad_rows", fields.READING["max_bad_rows"].default
            try:
                chosen[name] = fields.reading_field(name, default, key=f"{key}-{name}")
            except fields.Invalid:
                chosen[name] = default
    return chosen


def show_job(job: Job, key: str) -> None:
    """How far the predictions are, or they themselves, or why there are none."""
    status = job.status()
    if status.is_running:
        actions.wait_for(job, "Predicting", cancel=True)
    elif status.state == "done":
        st.markdown(f":material/check: {status.result['rows']:,} rows predicted.")
        for note in status.result["notes"]:
            st.markdown(f":material/warning: {words.plain(note)}")
        components.download(
            f"predictions-{job.job_id}", "Predictions (CSV)", "jobs", job.job_id, "result",
            name=str(status.result["file"]),
        )  # fmt: skip
    else:
        actions.tell_failure(status)
        reading.show_bad_rows(status.rejected)
        if not show_ways_out(status, key) and not status.rejected:
            job.forget()
            st.session_state.pop(key)


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
