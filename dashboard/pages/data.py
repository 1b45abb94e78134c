"""Page "Data": bring a CSV, see how it was read, choose what to predict."""

from __future__ import annotations

import streamlit as st

from regatta.configuration import TrainingConfig
from regatta.dashboard import actions, components, jobs, report, samples, sources, uploads, words
from regatta.utils import RegattaError, UserError


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
        hint="Comma, semicolon, tab or bar; plain or .gz. It stays on this machine.",
    )
    if uploaded:
        st.query_params["file"] = uploaded["id"]
        st.rerun()
    here = [each for each in sources.list_sources() if each.kind == sources.KIND_UPLOAD]
    if here:
        st.subheader("Already here")
        for source in here[:20]:
            show_stored(source)
    st.subheader("Samples")
    for column, sample in zip(st.columns(2), samples.all_samples(), strict=False):
        with column, st.container(border=True):
            show_sample(sample)


def show_stored(source: sources.Source) -> None:
    """A file that was uploaded before."""
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{words.plain(source.name)}**  \n{words.size(source.size)}", width="stretch")
        if st.button("Open", key=f"open-{source.key}", icon=":material/table_view:"):
            st.query_params["file"] = source.key
            st.rerun()
        if st.button("Delete", key=f"delete-{source.key}", icon=":material/delete:"):
            confirm_delete(source)


@st.dialog("Delete this file?")
def confirm_delete(source: sources.Source) -> None:
    """Ask before a file goes."""
    st.markdown(f"**{words.plain(source.name)}** is removed from this machine. Runs on it stay.")
    with st.container(horizontal=True):
        if st.button("Delete it", type="primary"):
            actions.attempt(lambda: uploads.delete_upload(source.key))
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
        actions.wait_for(job, "Making the rows")
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
    job = source.start_inspection()
    status = job.status()
    if status.is_running:
        st.caption(f"{words.size(source.size)} · reading and finding the types")
        actions.wait_for(job, "Reading the file")
        return
    if status.state == "failed":
        st.caption(words.size(source.size))
        actions.tell_failure(status)
        if st.button("Read it again", icon=":material/refresh:"):
            job.forget()
            st.rerun()
        return
    show_report(source, status.result["report"], status.result["preview"])


def show_report(
    source: sources.Source, found: report.Report, preview: dict[str, list[object]]
) -> None:
    """The report on the left, the choice on the right."""
    st.caption(f"{words.size(source.size)} · {report.summary(found)}")
    left, right = st.columns([7, 4], gap="medium")
    with right, st.container(border=True):
        st.subheader("What to predict")
        key = f"data-{source.key}"
        target, drop = report.choose_columns(found, key=key, suggested=source.suggested_target)
        report.show_about_target(source, target, drop, key)
        if st.button(
            "Choose the model",
            type="primary",
            icon=":material/arrow_forward:",
            width="stretch",
            disabled=target is None,
        ):
            actions.go_to_new_run(file=source.key, target=target or "", drop=drop)
        if st.button(
            "Train ridge at once",
            icon=":material/bolt:",
            width="stretch",
            disabled=target is None,
            help="Ridge regression with the default settings, by the parameter server.",
        ):
            train_at_once(source, target or "", drop)
    with left:
        report.show_warnings(found)
        columns, rows = st.tabs(["Columns", "First rows"])
        with columns:
            report.show_columns(found, preview)
        with rows:
            report.show_preview(preview)


def train_at_once(source: sources.Source, target: str, drop: list[str]) -> None:
    """Queue a run with the defaults."""
    try:
        actions.launch(
            TrainingConfig(
                path=str(source.path),
                target=target,
                drop=tuple(drop),
                name=source.name,
                solver="sgd",
            )
        )
    except RegattaError as error:
        actions.tell(error)


main()
