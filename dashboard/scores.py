"""The scores of compared runs, with how far each could be off, and of scikit-learn beside them.

A score on held-out rows would be another one on other rows, on other folds, or from another seed.
Each of these spreads is shown where it is known: the first once the rows were predicted (by "Add
scikit-learn baselines", or by the page "Explain"), the second where alpha was chosen by
cross-validation, the third where runs differ in nothing but their seed.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from regatta.dashboard import actions, comparison, components, jobs, words
from regatta.dashboard.comparison import ROWS, Course, caption, config_differences, seconds_text
from regatta.runs.states import RunState

R2, ERROR = "Validation R²", "± on other rows"
RMSE, FOLDS = "RMSE, in units of the target", "RMSE in cross-validation"
SEEDS, TIME, SETTINGS = "R² with other seeds", "Trained in", "Settings"
MEAN = "Mean"
NARROW = "\N{NO-BREAK SPACE}"  # a number stays with its sign
# Two lines nearer to each other than this share would cover each other's names.
SAME_LINE = 0.02
# A line this many times above all curves tells of nothing near them.
FAR = 1.3


@dataclass(frozen=True)
class Score:
    """A row of the table; texts that are empty are not known."""

    name: str
    r2: float | None
    rmse: float | None
    error: float | None = None
    seconds: float | None = None
    folds: str = ""
    seeds: str = ""
    settings: str = ""


def scores(courses: Sequence[Course]) -> list[Score]:
    """A row for each run, then for each baseline."""
    found = [
        Score(
            caption(each, courses),
            each.score("validation_r2"),
            each.score("validation_rmse"),
            each.held_out_error,
            each.seconds,
            _folds_text(each),
            _seeds_text(each),
        )
        for each in courses
    ]
    several = sum(each.baselines is not None for each in courses) > 1
    for place, course in enumerate(courses):
        # The mean has no strength that could be another one.
        known = any(_has_mean_of(each, course) for each in courses[:place])
        found += [_baseline(each, course, several) for each in _baselines(course)
                  if not (known and each["name"] == MEAN)]  # fmt: skip
    return found


def table(courses: Sequence[Course]) -> tuple[list[str], list[str], list[list[str]]]:
    """Names of the columns that have something to tell, names of the rows, and the cells. The best
    R² is bold, where all are of the same rows."""
    rows = scores(courses)
    best = None if config_differences(courses, ROWS) else max
    columns = {
        R2: comparison.with_best([each.r2 for each in rows], lambda value: f"{value:.4f}", best),
        ERROR: ["" if each.error is None else f"±{NARROW}{each.error:.4f}" for each in rows],
        FOLDS: [each.folds for each in rows],
        SEEDS: [each.seeds for each in rows],
        RMSE: [words.number(each.rmse, zeros=True) for each in rows],
        TIME: [seconds_text(each.seconds) for each in rows],
        SETTINGS: [each.settings for each in rows],
    }
    told = {name: cells for name, cells in columns.items() if any(cells)}
    cells = [[each or "–" for each in row] for row in zip(*told.values(), strict=True)]
    return list(told), [each.name for each in rows], cells


def _has_mean_of(one: Course, other: Course) -> bool:
    return one.baselines is not None and not config_differences([one, other], ROWS)


def _baselines(course: Course) -> Sequence[Mapping[str, Any]]:
    return list((course.baselines or {}).get("baselines", ()))


def _baseline(found: Mapping[str, Any], course: Course, several: bool) -> Score:
    of = f", as {course.letter}" if several and found["name"] != MEAN else ""
    return Score(
        f"scikit-learn {found['name']}{of}",
        found["scores"]["r2"],
        found["scores"]["rmse"],
        found["spread"]["r2"],
        found["seconds"],
        settings=words.plain(found["settings"]),
    )


def _folds_text(course: Course) -> str:
    known = course.cross_validated
    if known is None:
        return ""
    rmse, error = words.number(known.rmse), words.number(known.error, 2)
    return f"{rmse} ± {error}, {known.folds} folds"


def _seeds_text(course: Course) -> str:
    if len(course.seeds) < 2:
        return ""
    mean, deviation = statistics.fmean(course.seeds), statistics.stdev(course.seeds)
    return f"{mean:.4f} ± {deviation:.4f}, {len(course.seeds)} seeds"


def reference_lines(courses: Sequence[Course], end: float, highest: float) -> list[dict[str, Any]]:
    """A dotted line at the validation loss of each baseline; one for those that lie together, and
    none far above the ``highest`` loss that is drawn, which would leave the curves no room."""
    if config_differences(courses, ROWS):
        return []  # the rows of one run say nothing of the loss on another's
    lines: list[tuple[float, list[str]]] = []
    of_all = {each["name"]: each for course in courses for each in _baselines(course)}
    losses = {name: 0.5 * each["scores"]["rmse"] ** 2 for name, each in of_all.items()}
    for name, loss in sorted(losses.items(), key=lambda pair: pair[1]):
        if lines and loss <= (1 + SAME_LINE) * lines[-1][0]:
            lines[-1][1].append(name)
        else:
            lines.append((loss, [name]))
    return [_line(loss, names, end) for loss, names in lines if 0 < loss <= FAR * highest]


def _line(loss: float, names: Sequence[str], end: float) -> dict[str, Any]:
    name = f"scikit-learn: {', '.join(names)}"
    return {
        "type": "scatter",
        "mode": "lines+text",
        "x": [0, end],
        "y": [loss, loss],
        "name": name,
        "text": ["", name],
        "textposition": "top left",
        "textfont": {"size": 11, "color": "@quiet"},
        "line": {"color": "@quiet", "width": 1.2, "dash": "dashdot"},
        "showlegend": False,
        "hovertemplate": f"{name}<br>%{{y:.5g}}<extra></extra>",
    }


# What the page shows


def show(courses: Sequence[Course]) -> None:
    """The table, and what must be known to read it."""
    import pandas as pd

    columns, names, cells = table(courses)
    st.header("Scores", help=words.SCORES)
    st.table(pd.DataFrame(cells, index=names, columns=columns))
    st.caption(" ".join(_explained(columns)))
    for course in courses:
        if course.baselines is not None:
            from regatta import baselines

            st.caption(f"Beside {course.letter}: {' '.join(baselines.remarks(course.baselines))}")


def _explained(columns: Sequence[str]) -> list[str]:
    told = ["All scores are of held-out rows, at the end of the training."]
    if ERROR in columns:
        told.append("± on other rows: the standard error of R², were other rows held out.")
    if FOLDS in columns:
        told.append("Cross-validation: mean over the folds, and its standard error.")
    if SEEDS in columns:
        told.append("Other seeds: mean and standard deviation over runs that differ in their seed "
                    "alone, and with it in the rows held out.")  # fmt: skip
    return told


def offer_baselines(courses: Sequence[Course]) -> None:
    """A click that lets scikit-learn fit the rows of the first run that has no baselines yet; the
    progress of the work; or why it could not be done."""
    wanted = next_for_baselines(courses)
    if wanted is None:
        return
    run = {
        "run_id": wanted.record.run_id,
        "model": wanted.of_result("weights_sha256"),
        "beside": [each.record.run_id for each in courses if each.ended and each is not wanted],
    }
    job = jobs.job_of("baseline", **run)
    status = job.status()
    if status.is_running:
        components.wait_for(job, "scikit-learn fits the same rows", cancel=True)
        return
    if status.state == "failed":
        actions.tell_failure(status)
    if st.button(
        f"Add scikit-learn baselines{_for_which(wanted, courses)}",
        icon=":material/add_chart:",
        help="Fits plain Ridge, Lasso and SGDRegressor, and the mean, to the same training rows "
        "and features, as strongly regularised as the run, and scores them on the same held-out "
        "rows.",
    ):
        job.forget()
        jobs.start("baseline", **run)
        st.rerun()


def next_for_baselines(courses: Sequence[Course]) -> Course | None:
    """The first finished run of whose problem no run has baselines."""
    done = [each for each in courses if each.baselines is not None]
    for course in courses:
        has_some = any(_is_of_problem(course, each) for each in done)
        if course.record.state is RunState.FINISHED and not has_some:
            return course
    return None


def _is_of_problem(one: Course, other: Course) -> bool:
    return not config_differences([one, other], comparison.PROBLEM)


def _for_which(wanted: Course, courses: Sequence[Course]) -> str:
    alike = all(_is_of_problem(wanted, each) for each in courses)
    return "" if alike else f" for {wanted.letter}"
