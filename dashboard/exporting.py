"""What leaves with a model: its forms for other programs, its card, the report of its run.

Each is made by a job, once, and offered when it was read again and found to predict the same.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from regatta import __version__
from regatta.dashboard import actions, components, jobs, words
from regatta.dashboard.jobs import Job, Status
from regatta.runs.directory import RunDirectory

# More letters than this make the page slow: the script is for download alone.
SHOWN_LETTERS = 60_000
SCRIPT_PIXELS = 420


@dataclass(frozen=True)
class Form:
    """One form of a model: what it is called, what it is for, how it is used."""

    title: str
    purpose: str
    help: str


FORMS: Mapping[str, Form] = {
    "pipeline": Form(
        "scikit-learn pipeline",
        "Takes a DataFrame as pandas reads it. Needs scikit-learn and skops, no Regatta.",
        "skops.io.load(FILE, trusted=skops.io.get_untrusted_types(file=FILE)): loading runs no "
        "code. pipeline.read_csv_ holds the options for pandas.read_csv.",
    ),
    "snippet": Form(
        "Python script",
        "All numbers in it, and the few lines that use them. Needs NumPy and pandas alone.",
        "python FILE NEW.csv OUT.csv writes the predictions; predict(DataFrame) returns them.",
    ),
    "json": Form(
        "JSON",
        "Every number with the formula, to score by hand in any language.",
        "The entry “formula” says in words how a prediction is made from it.",
    ),
    "onnx": Form(
        "ONNX, float64",
        "For onnxruntime in Python, C++, Java, JavaScript … One input a column.",
        "Numbers as float64 with NaN where missing, dates as seconds since 1970 (UTC), texts as "
        "they are and “” where missing.",
    ),
    "onnx-float32": Form(
        "ONNX, float32",
        "For runtimes without float64, as in browsers and on GPUs. It rounds more.",
        "As the other one, with numbers as float32. It is refused where rounding would move a "
        "prediction by more than one part in ten thousand.",
    ),
}
ABOUT_DIFFERENCE = (
    "The file was read again and compared with the model, on made-up rows (every text, unknown "
    "ones, missing cells) and on rows of the training's file where that is still there. The "
    "difference is relative to the size of the predictions; 1e-16 is the last digit of float64."
)


def export_job(directory: RunDirectory) -> tuple[str, dict[str, Any]]:
    """The job that writes all forms. With the extra installed or another Regatta it is another."""
    has_onnx = all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime"))
    arguments = {"run_id": directory.run_id, "model": str(directory.model)}
    return "export", {**arguments, "onnx": has_onnx, "version": __version__}


def share_job(directory: RunDirectory) -> tuple[str, dict[str, Any]]:
    """The job that writes the card and the report."""
    return "share", {"run_id": directory.run_id, "version": __version__}


# -- for other programs ---------------------------------------------------------------------------


def show_exports(directory: RunDirectory) -> None:
    """Every form with its check, and the script to copy."""
    name, arguments = export_job(directory)
    job = jobs.start(name, **arguments)
    status = _finished(job, "Writing the model and comparing what was written")
    if status is None:
        return
    found = {each["format"]: each for each in status.result["files"]}
    places = [place for _ in range(2) for place in st.columns(3, gap="medium")]
    for place, form in zip(places, FORMS, strict=False):
        with place, st.container(border=True, height="stretch"):
            show_form(job, form, found[form])
    with places[-1], st.container(border=True, height="stretch"):
        st.markdown("**In the terminal**")
        st.caption("The same, with the same check. “regatta export --help” names every format.")
        st.code(f"regatta export {directory.run_id} \\\n  --format pipeline", language="sh")
    show_script(job, found["snippet"])


def show_form(job: Job, form: str, made: Mapping[str, Any]) -> None:
    """One form: what it is for, how it was checked, its button; or why there is none."""
    about = FORMS[form]
    st.markdown(f"**{about.title}**", help=about.help)
    st.caption(about.purpose)
    if "file" not in made:
        st.markdown(f":material/block: {actions.told_here(made['message'], made['hint'])}")
        return
    st.markdown(f":material/check: {checked(made)}", help=ABOUT_DIFFERENCE)
    components.download(
        f"{form}-{job.job_id}",
        f"{about.title} ({words.size(made['bytes'])})",
        "jobs",
        job.job_id,
        "result",
        made["file"],
        name=made["file"],
    )


def checked(made: Mapping[str, Any]) -> str:
    """``Checked on 1,200 rows: differs by at most 3e-16.``"""
    rows = f"Checked on {made['rows']:,} rows"
    if not made["difference"]:
        return f"{rows}: no difference."
    size = f"{made['difference']:.0e}".replace("e-0", "e-")
    return f"{rows}: differs by at most {size}."


def show_script(job: Job, made: Mapping[str, Any]) -> None:
    """The script, with a button that copies it."""
    path = job.result_file(made["file"]) if "file" in made else None
    if path is None:
        return
    text = path.read_text(encoding="utf-8")
    with st.container(border=True):
        st.header("The script")
        if len(text) > SHOWN_LETTERS:
            st.caption(f"It has {len(text.splitlines()):,} lines: download it above.")
            return
        st.caption("Runs as it stands. The button in its corner copies it.")
        st.code(text, language="python", height=SCRIPT_PIXELS)


# -- for people -----------------------------------------------------------------------------------


def show_documents(directory: RunDirectory) -> None:
    """The model card, and the report to send to others."""
    name, arguments = share_job(directory)
    job = jobs.start(name, **arguments)
    status = _finished(job, "Writing the card and the report", cancel=True)
    if status is None:
        return
    made = {each["format"]: each for each in status.result["files"]}
    left, right = st.columns(2, gap="medium")
    with left, st.container(border=True, height="stretch"):
        st.header(
            "Report",
            help="Of the file's content it holds names, texts of categories, ranges of columns, "
            "words that warnings quote, and the target of held-out rows. It follows the reader's "
            "light or dark theme, can be printed, and can be read without JavaScript.",
        )
        st.caption(
            "The whole run in one HTML file to send to others: scores, errors, coefficients, "
            "curves, data, settings. It needs no network and no Regatta."
        )
        _document(job, made["report"], "Report (HTML)")
    with right, st.container(border=True, height="stretch"):
        st.header("Model card")
        st.caption(
            "One page to keep beside the model, shown below: what it is, from which data, how good "
            "on rows it has not seen, and where it is valid."
        )
        _document(job, made["card"], "Model card (Markdown)")
    path = job.result_file(made["card"]["file"])
    with st.container(border=True):
        st.markdown("" if path is None else path.read_text(encoding="utf-8"))


def _document(job: Job, made: Mapping[str, Any], label: str) -> None:
    components.download(
        f"{made['format']}-{job.job_id}",
        f"{label}, {words.size(made['bytes'])}",
        "jobs",
        job.job_id,
        "result",
        made["file"],
        name=made["file"],
    )


def _finished(job: Job, text: str, *, cancel: bool = False) -> Status | None:
    """Where a job stands once it is done. Until then, or if it failed, that is shown."""
    status = job.status()
    if status.is_running:
        components.wait_for(job, text, cancel=cancel)
        return None
    if status.state == "done":
        return status
    actions.tell_failure(status)
    if st.button("Try again", icon=":material/refresh:"):
        job.forget()
        st.rerun()
    return None
