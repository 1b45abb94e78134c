"""Page "Predict and export": a trained model put to use, here and elsewhere."""

from __future__ import annotations

import streamlit as st

from regatta.dashboard import actions, components, jobs, predicting, run_pages
from regatta.runs.directory import RunDirectory
from regatta.runs.store import RunRecord


def main() -> None:
    """Another file's predictions on the left, what can be taken along on the right."""
    record = run_pages.finished_run(
        "Predict and export",
        "A trained model predicts other files here, and goes with you to scikit-learn.",
    )
    if record is None:
        return
    directory = actions.store().directory(record.run_id)
    left, right = st.columns([2, 1], gap="medium")
    with left:
        predicting.show(directory, record)
    with right, st.container(border=True, height="stretch"):
        show_downloads(directory, record)


def show_downloads(directory: RunDirectory, record: RunRecord) -> None:
    """The model as JSON and as a scikit-learn pipeline."""
    st.subheader("Take it along")
    components.download(
        f"model-{record.run_id}",
        "Model (JSON)",
        "runs",
        record.run_id,
        "model",
        name=f"{record.run_id}-model.json",
        help="Everything needed to score by hand.",
    )
    job = jobs.start("export", run_id=record.run_id, model=str(directory.model))
    status = job.status()
    if status.is_running:
        actions.wait_for(job, "Writing the scikit-learn pipeline")
    elif status.state == "done":
        components.download(
            f"pipeline-{record.run_id}",
            "scikit-learn pipeline (skops)",
            "jobs",
            job.job_id,
            "result",
            name=str(status.result["file"]),
            help="A plain Pipeline that needs no Regatta; loading it executes no code.",
        )
    else:
        actions.tell_failure(status)
        job.forget()


main()
