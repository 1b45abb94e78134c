"""Page "Data": bring a CSV, see how it was read, choose what to predict."""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import streamlit as st

from regatta.configuration import TrainingConfig
from regatta.dashboard import (
    actions,
    choices,
    columns,
    components,
    folders,
    jobs,
    reading,
    report,
    samples,
    sources,
    uploads,
    words,
)
from regatta.dashboard.choices import Choice, reading_values
from regatta.utils import RegattaError, UserError

SHOWN_AT_ONCE = 20  # files that are here; older ones lie in a box below


def main() -> None:
    key = st.query_params.get("file")
    if not key:
        show_choice()
        return
    try:
        source = sources.find(key)
    except UserError as error:
        actions.tell(error)
        show_choice()
        return
    show_source(source)


def show_choice() -> None:
    """Ways to bring data: a file of one's own, one that is here, a sample."""
    st.title("Data")
    uploaded = components.upload_zone(
        "upload",
        title="Drop a CSV here, or click to choose one",
        hint="Comma, semicolon, tab or bar; plain, .gz or .zip. It stays on this machine.",
    )
    if uploaded:
        st.query_params["file"] = uploaded["id"]
        st.rerun()
    show_folders()
    here = [each for each in sources.list_sources() if each.kind != sources.KIND_SAMPLE]
    if here:
        st.header("Already here")
        for source in here[:SHOWN_AT_ONCE]:
            show_stored(source)
        older = here[SHOWN_AT_ONCE:]
        if older:
            files = "file" if len(older) == 1 else "files"
            with st.expander(f"{len(older):,} {files} used longer ago"):
                for source in older:
                    show_stored(source)
    st.header("Samples")
    for column, sample in zip(st.columns(2), samples.all_samples(), strict=False):
        with column, st.container(border=True):
            show_sample(sample)


def show_folders() -> None:
    """Files in folders that may be read: for what is too large to upload."""
    allowed = folders.roots()
    if not allowed:
        return
    st.header("In a folder of this machine")
    with st.container(border=True):
        root = allowed[0]
        if len(allowed) > 1:
            root = st.selectbox("Folder", allowed, key="data-root")
        listing = folders.list_files(root)
        count = f"{len(listing.files):,} CSV file{'' if len(listing.files) == 1 else 's'}"
        found = count if listing.is_whole else f"The first {count}"
        relative = st.selectbox(
            f"File below {words.plain(str(root))}",
            list(listing.files),
            index=None,
            format_func=lambda each: _with_size(each, listing.files),
            placeholder=f"{found}: choose one, or type its path",
            accept_new_options=True,
            help="It is read where it lies: nothing is copied, however large it is.",
            key=f"in-{root}",
        )
        if relative:
            actions.attempt(lambda: open_in_folder(root, relative))


def _with_size(relative: str, files: Mapping[str, int]) -> str:
    return f"{relative}  ({words.size(files[relative])})" if relative in files else relative


def open_in_folder(root: Path, relative: str) -> None:
    """Show a file below an allowed folder."""
    st.query_params["file"] = folders.pick(root, relative)
    st.rerun()


def show_stored(source: sources.Source) -> None:
    """A file that was brought before."""
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        at = "" if source.kind == sources.KIND_UPLOAD else f" · {words.plain(str(source.path))}"
        about = f"**{words.plain(source.name)}**  \n{words.size(source.size)}{at}"
        st.markdown(about, width="stretch")
        if st.button("Open", key=f"open-{source.key}", icon=":material/table_view:"):
            st.query_params["file"] = source.key
            st.rerun()
        if source.kind == sources.KIND_FOLDER:
            if st.button(
                "Off the list", key=f"forget-{source.key}", icon=":material/close:",
                help="The file stays where it is.",
            ):  # fmt: skip
                forget(source)
        elif st.button("Delete", key=f"delete-{source.key}", icon=":material/delete:"):
            confirm_delete(source)


def forget(source: sources.Source) -> None:
    """Take a file of a folder off the list."""
    folders.forget(source.key)
    choices.forget(source.key)
    jobs.forget_all_of(source.path)
    st.rerun()


@st.dialog("Delete this file?")
def confirm_delete(source: sources.Source) -> None:
    """Ask before a file goes."""
    st.markdown(f"**{words.plain(source.name)}** is removed from this machine. Runs on it stay.")
    with st.container(horizontal=True):
        if st.button("Delete it", type="primary"):
            actions.attempt(lambda: uploads.delete_upload(source.key))
            choices.forget(source.key)
            jobs.forget_all_of(source.path)
            st.rerun()
        if st.button("Keep it"):
            st.rerun()


def show_sample(sample: samples.Sample) -> None:
    """A sample: use it, or make it first."""
    st.markdown(f"**{sample.title}**  \n{sample.description}")
    if sample.exists:
        if st.button("Use this sample", key=f"use-{sample.key}", icon=":material/table_view:"):
            st.query_params["file"] = sample.key
            st.rerun()
        return
    job = jobs.job_of("sample", path=str(sample.path), rows=samples.LARGE_ROWS)
    status = job.status()
    if status.is_running:
        components.wait_for(job, "Making the rows")
    elif st.button("Make it", key=f"make-{sample.key}", icon=":material/construction:"):
        job.forget()
        jobs.start("sample", path=str(sample.path), rows=samples.LARGE_ROWS)
        st.rerun()
    if status.state == "failed":
        actions.tell_failure(status)


def show_source(source: sources.Source) -> None:
    """One file: how it was read, and what to do with it."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.title(words.plain(source.name), width="stretch")
        if st.button("Other data", icon=":material/arrow_back:"):
            st.query_params.clear()
            st.rerun()
    choice = choices.load(source.key)
    if not choice.target:
        choice = replace(choice, target=source.suggested_target)
    before = st.session_state.get(f"shown-{source.key}")
    job = begin_reading(source, choice)
    status = job.status()
    if status.is_running:
        earlier = source.inspection(before or {})
        if before is not None and earlier.status().state == "done":
            # What was read before stays in its place until the other reading is there.
            show_report(source, choice, earlier.status().result, earlier, waiting_for=job)
        else:
            st.caption(f"{words.size(source.size)} · reading and finding the types")
            components.wait_for(job, "Reading the file", cancel=True)
    elif status.state == "done":
        st.session_state[f"shown-{source.key}"] = dict(choice.reading)
        show_report(source, choice, status.result, job)
    elif status.state == "cancelled":
        show_cancelled(source, choice, job, before)
    else:
        st.caption(words.size(source.size))
        reading.show_refusal(source, choice, status, job.forget)


def begin_reading(source: sources.Source, choice: Choice) -> jobs.Job:
    """Read the file as chosen. A reading with other options that is under way is cancelled: no one
    waits for it any more; and begun anew where it is asked for again."""
    job = source.inspection(choice.reading)
    begun = st.session_state.get(f"begun-{source.key}", job)
    if begun != job:
        begun.cancel()
        if job.status().state == "cancelled":
            job.forget()
    st.session_state[f"begun-{source.key}"] = job
    return source.start_inspection(choice.reading)


def show_cancelled(
    source: sources.Source, choice: Choice, job: jobs.Job, before: sources.Reading | None
) -> None:
    """The reading was cancelled: take it up again, or go back."""
    st.info("Reading was cancelled.", icon=":material/info:")
    with st.container(horizontal=True):
        st.button("Read it again", icon=":material/refresh:", on_click=job.forget)
        if before is not None and before != choice.reading:
            st.button(
                "Back to how it was read before",
                icon=":material/undo:",
                on_click=lambda: choices.save(source.key, replace(choice, reading=before)),
            )
    reading.show_in_force(source, choice, key=f"cancelled-{source.key}")


def show_report(
    source: sources.Source,
    choice: Choice,
    result: Mapping[str, Any],
    job: jobs.Job,
    waiting_for: jobs.Job | None = None,
) -> None:
    """What the file holds on the left; what to do with it, and how it was read, on the right.

    Two rows, so that on a narrow screen, where all stands in one column, the target comes before
    the long table. ``job`` has read the file; another one may be reading it with other options.
    """
    key, found = f"data-{source.key}", result["report"]
    st.markdown(f"{words.plain(report.summary(found, with_options=bool(choice.reading)))}.")
    left, right = st.columns([7, 4], gap="medium")
    with right, st.container(border=True, height="stretch"):
        choice = show_next_step(source, choice, found, key, ready=waiting_for is None)
    with left:
        with st.container():
            report.show_warnings(found)
            reading.show_rejected(found, job)
        with st.container(border=True, height="stretch"):
            st.header("First rows")
            report.show_preview(result["preview"])
    left, right = st.columns([7, 4], gap="medium")
    with right, st.container(border=True):
        st.header("How it was read")
        with st.container():  # what comes and goes in it does not touch what stands below
            reading.show_in_force(source, choice, key=key)
        reading.show_found(found)
        with st.expander("Read it another way", icon=":material/tune:"):
            reading.show_controls(source, choice, found, key=key)
        show_waiting(waiting_for)
        reading.show_clean_copy(source, choice)
    with left, st.container(border=True):
        st.header("Columns")
        with st.container(horizontal=True, vertical_alignment="center"):
            pattern = columns.ask_for_pattern(found, key=key)
            show_waiting(waiting_for, brief=True)
        columns.show(found, choice, column_changes(source, found, key), pattern, key=key)


def show_waiting(job: jobs.Job | None, *, brief: bool = False) -> None:
    """How far the other reading is, where a click may have asked for it and where nothing that is
    looked at moves away."""
    if job is not None:
        components.wait_for(job, "Reading it anew", cancel=True, brief=brief)


def show_next_step(
    source: sources.Source, choice: Choice, found: report.Report, key: str, *, ready: bool
) -> Choice:
    """Target and columns, and the ways on. Returns the choice with them, which is kept."""
    st.header("What to predict")
    target, drop = report.choose_columns(found, choice, key=key)
    choice = choice.with_columns(target, drop, [each["name"] for each in found["columns"]])
    choices.save(source.key, choice)
    if st.button(
        "Choose the model",
        type="primary",
        icon=":material/arrow_forward:",
        width="stretch",
        disabled=target is None,
    ):
        actions.go_to_new_run(file=source.key)
    if st.button(
        "Train ridge at once",
        icon=":material/bolt:",
        width="stretch",
        disabled=target is None,
        help="Ridge regression with the default settings, by the parameter server.",
    ):
        train_at_once(source, choice, target or "", drop)
    if ready:  # below the buttons: what comes later must not move them
        report.show_about_target(source, choice, target, drop, key)
    return choice


def column_changes(source: sources.Source, found: report.Report, key: str) -> columns.Changes:
    """What a click in the table of columns does."""
    names = [str(each["name"]) for each in found["columns"]]

    def read_as(pattern: str, kind: str) -> None:
        choice = choices.load(source.key)
        if kind == columns.AS_FOUND:
            changed = choice.as_found(fnmatch.filter(names, pattern), names)
        else:
            changed = choice.read_as(pattern, kind)
        choices.save(source.key, changed)

    return columns.Changes(
        leave_out=functools.partial(report.leave_out, key),
        use=functools.partial(report.use, key),
        read_as=read_as,
    )


def train_at_once(source: sources.Source, choice: Choice, target: str, drop: list[str]) -> None:
    """Queue a run with the defaults."""
    try:
        actions.launch(
            TrainingConfig(
                path=str(source.path),
                target=target,
                drop=tuple(drop),
                name=source.name,
                solver="sgd",
                **reading_values(choice.reading),
            )
        )
    except RegattaError as error:
        actions.tell(error)


main()
