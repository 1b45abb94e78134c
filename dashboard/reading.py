"""How a file was read, with the evidence; the controls that change it; a file that was refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import streamlit as st

from regatta.configuration import ReadingOptions
from regatta.dashboard import actions, choices, components, fields, words
from regatta.dashboard.choices import Choice, reading_options
from regatta.dashboard.jobs import Job, Status
from regatta.dashboard.sources import Source
from regatta.ingest.dialect import seen_dialect
from regatta.utils import UserError, fingerprint

Report = Mapping[str, Any]

MARKS = {
    ",": "comma",
    ";": "semicolon",
    "\t": "tab",
    "|": "bar",
    " ": "blanks",
    ".": "point",
    "'": "single '",
    '"': 'double "',
    "": "none",
}
ENCODINGS = {
    "utf-8": "UTF-8",
    "utf-8-sig": "UTF-8 with a byte order mark",
    "cp1252": "Windows-1252",
    "cp1251": "Windows-1251",
    "utf-16": "UTF-16",
}
# Told where they are none of the usual ones; the others always.
ALWAYS = ("encoding", "delimiter", "decimal", "header")
USUAL = {"quote": '"', "escape": "", "thousands": "", "comment": "", "skip_rows": 0}
MOST_LINES = 10
CLEAN = "The file as it was read: UTF-8, commas, double quotes, decimal points, ISO dates."
EVIDENCE = {
    "encoding": "all bytes read are valid",
    "decimal": "of the numbers in all columns",
    "thousands": "between groups of three digits",
    "quote": "around cells",
    "escape": "before quotes that are text",
    "skip_rows": "they are not as wide as the table",
}


def found_words(report: Report) -> dict[str, str]:
    """What was found in the file, in words, by the name of the option that overrides it."""
    dialect = seen_dialect(report)
    found: dict[str, str] = {}
    for name, value in dialect.items():
        if name == "encoding":
            found[name] = ENCODINGS.get(value, str(value))
        elif name == "header":
            found[name] = "yes" if value else "no"
        elif name == "skip_rows":
            found[name] = str(value)
        else:
            found[name] = MARKS.get(value, str(value))
    return found


def show_found(report: Report) -> None:
    """What was found, each line with its evidence."""
    dialect, found = seen_dialect(report), found_words(report)
    given = report.get("evidence") or {}
    lines = []
    for name, told in found.items():
        if name in ALWAYS or dialect[name] != USUAL.get(name):
            why = str(given.get(name) or EVIDENCE.get(name, ""))
            because = f"  \n:small[:gray[{words.plain(why)}]]" if why else ""
            lines.append(f"**{fields.label(name)}**: {words.plain(told)}{because}")
    st.markdown("\n\n".join(lines))


def in_force(reading: Mapping[str, Any]) -> str:
    """The options that are not left to Regatta, in one line; free of markup."""
    parts = []
    for name, value in reading.items():
        several = isinstance(value, list | tuple)
        told = ", ".join(map(str, value)) if several else fields.option_words(name, value)
        parts.append(f"{fields.label(name).lower()}: {told}")
    return words.plain("; ".join(parts))


def show_in_force(source: Source, choice: Choice, *, key: str) -> None:
    """That the file is not read as it was found, and the way back."""
    if not choice.reading:
        return
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        st.markdown(
            f":material/tune: **Read with your options**: {in_force(choice.reading)}",
            width="stretch",
        )
        st.button(
            "Reset to what was found",
            key=f"{key}-reset",
            icon=":material/restart_alt:",
            on_click=lambda: choices.save(source.key, replace(choice, reading={})),
        )


def show_controls(source: Source, choice: Choice, report: Report, *, key: str) -> None:
    """A field for every option of the reading, made from its declaration; one button for all.

    Other options make other widgets: Streamlit takes the value of one only once.
    """
    found = found_words(report)
    key = f"{key}-reading-{fingerprint(dict(choice.reading))[:8]}"
    current = reading_options(choice.reading)
    wrong = False
    chosen: dict[str, Any] = {}
    order = sorted(fields.READING, key=lambda name: fields.READING[name].metadata["advanced"])
    with st.form(key, border=False):
        for names in lines_of(order):
            for column, name in zip(st.columns(len(names)), names, strict=True):
                with column:
                    try:
                        chosen[name] = fields.reading_field(
                            name,
                            getattr(current, name),
                            key=f"{key}-{name}",
                            found=found.get(name, ""),
                        )
                    except fields.Invalid:
                        wrong = True
        sent = st.form_submit_button("Read it this way", icon=":material/refresh:", width="stretch")
    if not sent or wrong:
        return
    try:
        options = ReadingOptions(**chosen)
    except UserError as error:
        actions.tell(error)
        return
    choices.save(source.key, replace(choice, reading=options.in_force()))
    st.rerun()


def show_refusal(source: Source, choice: Choice, status: Status, retry: Callable[[], None]) -> None:
    """Why a file was not read, the rows that are at fault, and the ways out."""
    actions.tell_failure(status)
    key = f"refused-{source.key}"
    show_bad_rows(status.rejected)
    with st.container(horizontal=True):
        if "--on-bad-rows skip" in f"{status.message} {status.hint}":
            st.button(
                fields.SET_ASIDE,
                key=f"{key}-skip",
                type="primary",
                icon=":material/playlist_remove:",
                help="The other rows are read. Those set aside can be downloaded.",
                on_click=lambda: choices.save(
                    source.key, choice.with_reading("on_bad_rows", "skip")
                ),
            )
        st.button("Read it again", key=f"{key}-again", icon=":material/refresh:", on_click=retry)
    show_in_force(source, choice, key=key)
    with st.container(border=True):
        st.header("Read it another way")
        show_controls(source, choice, {}, key=key)


def show_rejected(report: Report, job: Job) -> None:
    """The rows that were set aside, and all of them to download."""
    rejected = report.get("rejected") or []
    if not rejected:
        return
    count = int(report.get("rejected_rows") or len(rejected))
    title = f"{count:,} row{'s' if count > 1 else ''} set aside"
    with st.expander(title, icon=":material/playlist_remove:"):
        show_bad_rows(rejected)
        if count > len(rejected):
            st.caption(f"The first {len(rejected)} of {count:,}.")
        if job.result_file():
            components.download(
                f"rejected-{job.job_id}", "Rows set aside (CSV)", "jobs", job.job_id, "result",
                name="rejected-rows.csv", help="Line, text and reason of each row.",
            )  # fmt: skip


def show_clean_copy(source: Source, choice: Choice) -> None:
    """A button that writes the file anew as it was read, and the file to download."""
    job = source.clean_copy(choice.reading)
    status = job.status()
    if status.is_running:
        components.wait_for(job, "Writing a clean copy", cancel=True)
        return
    if job.result_file():
        components.download(
            f"clean-{job.job_id}", "Clean copy (CSV)", "jobs", job.job_id, "result",
            name=str(status.result["file"]), help=CLEAN,
        )  # fmt: skip
        if count := int(status.result["apostrophes"]):
            cells = "cell that a spreadsheet" if count == 1 else "cells that a spreadsheet"
            st.caption(f"{count:,} {cells} would run got a leading apostrophe.")
        return
    if status.state == "failed":
        actions.tell_failure(status)

    def make() -> None:
        job.forget()
        source.start_clean_copy(choice.reading)

    st.button(
        "Make a clean copy",
        key=f"clean-{source.key}",
        icon=":material/cleaning_services:",
        width="stretch",
        help=CLEAN,
        on_click=make,
    )


def show_bad_rows(rejected: Sequence[Mapping[str, Any]]) -> None:
    """The first rows that cannot be read, with line and reason."""
    if not rejected:
        return
    lines = []
    for each in rejected:
        column = f", column {words.plain(each['column'])}," if each.get("column") else ""
        lines.append(f"- **Line {each['row']:,}**{column} {words.plain(str(each['reason']))}")
    with st.container(border=True, height="content" if len(lines) <= MOST_LINES else 300):
        st.markdown("\n".join(lines))


def lines_of(names: Sequence[str]) -> list[Sequence[str]]:
    """Fields beside each other: two, but one whose choices are phrases has the line to itself."""
    wide = [name for name in names if fields.has_phrases(name)]
    narrow = [name for name in names if name not in wide]
    pairs: list[Sequence[str]] = [narrow[at : at + 2] for at in range(0, len(narrow), 2)]
    return [*pairs, *([name] for name in wide)]
