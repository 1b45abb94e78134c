"""The views of the page "Explain": errors on held-out rows, coefficients, one row taken apart.

    residuals.json ◀── job "explain" (a process of its own, once a run)
          │
          ▼
    errors ── a click on a point ──▶ one row ── "Change this row" ──▶ try a row

The address holds the run, the view and the row.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from regatta.configuration import TrainingConfig
from regatta.dashboard import actions, components, jobs, run_pages, words
from regatta.explain import charts, contributions, held_out, residuals
from regatta.explain.charts import Chart
from regatta.explain.held_out import HELD_OUT, NO_TARGET, Row, RunRows
from regatta.fitted_model import FittedModel
from regatta.ingest.split import Split
from regatta.runs.directory import RunDirectory
from regatta.utils import RegattaError, UserError

TILE_PIXELS = 174  # two of them fit beside each other on a telephone
ROW = "row"
HELP = {
    "held out": "Rows that were set aside before the training. The model has not seen them, so its "
    "errors here are what to expect on new rows.",
    "r2": "Share of the target's variance that the predictions explain. 1 is perfect, 0 is no "
    "better than always predicting the mean, below 0 is worse than that.",
    "rmse": "Root mean squared error: the typical size of an error, large ones counting more.",
    "mae": "Mean absolute error: the average size of an error.",
    "bias": "Mean residual: above zero the model predicts too little on average, below zero too "
    "much.",
    "residual": "Residual: actual minus predicted value. Above zero, the prediction was too low.",
    "predicted": "Every held-out row by what was predicted and what is true. On the dashed line "
    "the prediction is right; the further above it, the more it is too low.",
    "fitted": "Without a pattern the medians lie near zero everywhere. A bend means that the "
    "relation is not a straight line; a widening, that large predictions are less certain.",
    "histogram": "The dashed curve is how errors of this size would spread if they were normal. "
    "Bars far from the middle are rows that the model does not understand.",
    "outliers": "The held-out rows with the largest residuals. Look at them in the file: errors of "
    "typing, or a kind of row that the columns do not describe.",
    "contribution": "What a column adds to the prediction or takes from it, compared with a row "
    "where everything is at its mean over the training rows.",
    "deviations": "The residual as a multiple of the residuals' standard deviation. Beyond 3 is "
    "rare where errors are normal.",
}  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """The run that the page is about, and what is known of it.

    ``found`` is what `residuals.summarise` tells.
    """

    directory: RunDirectory
    config: TrainingConfig
    result: Mapping[str, Any]
    model: FittedModel
    found: Mapping[str, Any] | None = None

    @property
    def run_id(self) -> str:
        return self.directory.run_id

    @property
    def unit(self) -> str:
        """The target's name, free of markup."""
        return words.plain(self.model.target)


def load_model(directory: RunDirectory) -> FittedModel:
    """A run's model, read anew only where its file has changed."""
    path = directory.model
    try:
        changed = path.stat().st_mtime_ns
    except OSError:
        changed = 0
    return _loaded_model(path, changed)


@functools.lru_cache(maxsize=4)
def _loaded_model(path: Path, _: int) -> FittedModel:
    return FittedModel.load(path)


# -- errors on held-out rows ----------------------------------------------------------------------


def errors_of(directory: RunDirectory) -> Mapping[str, Any] | None:
    """What is known of the run's errors. Where nothing is yet, a job finds it: ``None`` after its
    progress, or the sentence why it cannot, has been shown."""
    found = residuals.kept_summary(directory)
    if found is not None:
        return found
    _work(jobs.start("explain", run_id=directory.run_id), "Predicting the held-out rows")
    return None


def _work(job: jobs.Job, text: str) -> None:
    """Show how far a job is, or why it failed with a way to try again."""
    status = job.status()
    if status.is_running:
        components.wait_for(job, text, cancel=True)
        return
    if status.state == "done":  # and what it made has been removed since
        job.forget()
        st.rerun()
    actions.tell_failure(status)
    if st.button("Try again", icon=":material/refresh:"):
        job.forget()
        st.rerun()


def show_errors(subject: Subject) -> None:
    """How far off the model is on rows that it has not seen."""
    found = subject.found
    if found is None:
        return
    show_scores(subject, found)
    left, right = st.columns(2, gap="medium")
    with left, st.container(border=True, height="stretch"):
        st.header("Predicted against actual", help=HELP["predicted"])
        draw(subject, "actual", charts.predicted_against_actual(found), clickable=True)
        st.caption("On the dashed line a prediction is right; above it, it was too low.")
    with right, st.container(border=True, height="stretch"):
        st.header("Residuals against predictions", help=HELP["fitted"])
        draw(subject, "fitted", charts.residuals_against_fitted(found), clickable=True)
        st.caption(words.plain(charts.medians_in_words(found)))
    left, right = st.columns(2, gap="medium")
    with left, st.container(border=True, height="stretch"):
        st.header("How large the residuals are", help=HELP["histogram"])
        draw(subject, "histogram", charts.residual_histogram(found))
    with right, st.container(border=True, height="stretch"):
        show_outliers(subject, found)


def show_scores(subject: Subject, found: Mapping[str, Any]) -> None:
    """The scores, and what they mean, in a line each."""
    scores, rows = found["scores"], found["rows"]
    tiles = [
        ("Held-out rows", f"{rows:,}", HELP["held out"]),
        ("R²", "–" if scores["r2"] is None else f"{scores['r2']:.4f}", HELP["r2"]),
        ("RMSE", words.number(scores["rmse"]), HELP["rmse"]),
        ("MAE", words.number(scores["mae"]), HELP["mae"]),
        ("Mean residual", words.number(scores["mean"]), HELP["bias"]),
    ]
    show_tiles(tiles)
    which = "one held-out row" if rows == 1 else f"{rows:,} held-out rows"
    told = [
        f"All of this is about the {which}, which the model has not seen; "
        f"{found['rows_train']:,} others trained it. Errors are in the unit of {subject.unit}.",
        words.plain(charts.sizes_in_words(found)),
    ]
    if scores["r2"] is None:
        told.append("There is no R²: the target is the same in all held-out rows.")
    st.caption(" ".join(told))


def show_tiles(tiles: Sequence[tuple[str, str, str | None]]) -> None:
    """Label, value and help of some numbers beside each other."""
    with st.container(horizontal=True, gap="small"):
        for label, value, text in tiles:
            st.metric(label, value, help=text, border=True, width="stretch")


def show_outliers(subject: Subject, found: Mapping[str, Any]) -> None:
    """The largest residuals, as a table in which a row can be chosen, and as a download."""
    import pandas as pd

    outliers = found["outliers"]
    st.header("Largest residuals", help=HELP["outliers"])
    table = pd.DataFrame(outliers, columns=["row", "line", *OUTLIER_COLUMNS])
    table = table.drop(columns=[name for name in table if table[name].isna().all()])

    def chosen() -> None:
        rows = st.session_state[key].selection.rows
        if rows:
            go_to_row(int(outliers[rows[0]]["row"]))

    key = f"outliers-{subject.run_id}"
    st.dataframe(
        table,
        key=key,
        hide_index=True,
        height=words.table_height(len(table), 6),
        on_select=chosen,
        selection_mode="single-row",
        column_config={
            "row": st.column_config.NumberColumn(
                "Row", format="%d", help="Of the data in the file, counted from 1."
            ),
            "line": st.column_config.NumberColumn(
                "Line", format="%d", help="Of the file, as an editor counts them."
            ),
            **OUTLIER_COLUMNS,
        },
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("Tick a row, or click a point of a chart, to see why.", width="stretch")
        with st.container(width=190):
            components.download(
                f"outliers-file-{subject.run_id}", "Download (CSV)", "runs", subject.run_id,
                "outliers", name=f"{subject.run_id}-largest-residuals.csv",
            )  # fmt: skip


OUTLIER_COLUMNS = {
    "actual": st.column_config.NumberColumn("Actual", format="%.6g"),
    "predicted": st.column_config.NumberColumn("Predicted", format="%.6g"),
    "residual": st.column_config.NumberColumn("Residual", format="%.5g", help=HELP["residual"]),
    "deviations": st.column_config.NumberColumn(
        "Deviations", format="%+.1f", help=HELP["deviations"]
    ),
}


def draw(subject: Subject, name: str, chart: Chart, *, clickable: bool = False) -> None:
    """A chart of `regatta.explain.charts`, with what it leaves out told below."""
    components.chart(
        f"{name}-{subject.run_id}",
        chart.traces,
        chart.layout,
        label=chart.text,
        height=chart.height,
        on_click=go_to_row if clickable else None,
    )
    if chart.note.strip():
        st.caption(chart.note.strip())


def go_to_row(number: int) -> None:
    """Look at a row: from a callback."""
    st.query_params[ROW] = str(number)
    st.query_params[run_pages.VIEW] = "row"


# -- one row --------------------------------------------------------------------------------------


def show_row(subject: Subject) -> None:
    """A row of the file: what was predicted, and what each column had to do with it."""
    if subject.found is None:
        return
    rows = find_rows(subject)
    if rows is None:
        return
    number = choose_row(subject, rows)
    try:
        row = rows.row(number)
        before, after = rows.neighbours(number)
    except UserError as error:
        actions.tell(error)
        return
    with st.container(border=True):
        show_head(row, before, after, rows.table.name)
        show_explanation(subject, row)


def find_rows(subject: Subject) -> RunRows | None:
    """The rows of the file, or the way to have them; ``None`` after that was shown."""
    try:
        return open_rows(subject)
    except (RegattaError, OSError):
        job = jobs.job_of("explain", run_id=subject.run_id, rows=True)
    if job.status().state == "none":
        st.info(
            "Regatta's copy of the file was removed to make room. To look up single rows, it has "
            "to be read again.",
            icon=":material/info:",
        )
        if st.button("Read it again", type="primary", icon=":material/refresh:"):
            jobs.start("explain", run_id=subject.run_id, rows=True)
            st.rerun()
        return None
    _work(job, "Reading the file")
    return None


def open_rows(subject: Subject) -> RunRows:
    """The rows of the file from Regatta's copy alone. Raises where there is none."""
    assert subject.found is not None
    table = held_out.find_table(subject.config, _known(subject), read=False)
    return _opened(table.directory, load_model(subject.directory), subject.config.seed,
                   int(subject.found["threshold"]), int(subject.found["rows_train"]),
                   int(subject.found["rows"]))  # fmt: skip


def _known(subject: Subject) -> dict[str, Any]:
    assert subject.found is not None
    data = dict(subject.result.get("data") or {})
    return {**subject.result, "data": {**data, "key": subject.found["table"]}}


@functools.lru_cache(maxsize=4)
def _opened(
    directory: Path, model: FittedModel, seed: int, threshold: int, train: int, held: int
) -> RunRows:
    from regatta.ingest.table import load_table

    table = load_table(directory)
    split = Split(seed, table.column(model.target), threshold, train, held)
    return RunRows(table, split, model)


def choose_row(subject: Subject, rows: RunRows) -> int:
    """Ask which row, beginning with that of the address, or the one with the largest residual."""
    assert subject.found is not None
    outliers = subject.found["outliers"]
    first = outliers[0]["row"] if outliers else 1
    key = f"row-{subject.run_id}"
    st.session_state[key] = _row_of_address(rows.table.rows) or first

    def typed() -> None:
        st.query_params[ROW] = str(int(st.session_state[key]))

    def chosen() -> None:
        if st.session_state[f"{key}-outlier"] is not None:
            st.query_params[ROW] = str(st.session_state[f"{key}-outlier"])

    at = int(st.session_state[key])
    by_row = {each["row"]: each for each in outliers}
    st.session_state[f"{key}-outlier"] = at if at in by_row else None
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.number_input(
            "Row of the file", 1, rows.table.rows, key=key, on_change=typed, width=200,
            help="Rows of data, counted from 1 below the header.",
        )  # fmt: skip
        st.selectbox(
            "Or one with a large residual",
            list(by_row),
            format_func=lambda row: f"Row {row:,}: {by_row[row]['residual']:+.5g}",
            placeholder="Choose one",
            index=None,
            key=f"{key}-outlier",
            on_change=chosen,
            width=260,
        )
    return at


def _row_of_address(most: int) -> int | None:
    text = st.query_params.get(ROW, "")
    return int(text) if text.isdecimal() and len(text) < 16 and 1 <= int(text) <= most else None


def show_head(row: Row, before: int | None, after: int | None, name: str) -> None:
    """Which row it is, what it was used for, and the way to the held-out rows around it."""
    parts = {
        HELD_OUT: ":material/visibility_off: held out: the model has not seen it",
        NO_TARGET: ":material/help: without a target: it took no part",
    }
    used = parts.get(row.part, ":material/school: trained on: its error says little about new rows")
    where = "" if row.line is None else f", line {row.line:,}"
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.container(width="stretch", gap="xxsmall"):
            st.header(f"Row {row.number:,} of {words.plain(name)}")
            st.caption(f"{used}{where}")
        with st.container(horizontal=True, width="content"):
            for label, icon, number in (
                ("Held-out row before", ":material/chevron_left:", before),
                ("Next held-out row", ":material/chevron_right:", after),
            ):
                st.button(
                    "Before" if number == before and icon.endswith("left:") else "Next",
                    icon=icon,
                    help=label,
                    disabled=number is None,
                    on_click=go_to_row,
                    args=(number or 1,),
                )


def show_explanation(subject: Subject, row: Row) -> None:
    """Prediction, actual value and waterfall of a row of the file."""
    try:
        explained = contributions.explain(subject.model, row.columns)
    except UserError as error:
        actions.tell(error)
        return
    deviation = (subject.found or {}).get("scores", {}).get("deviation")
    show_prediction(subject, explained, actual=row.actual, deviation=deviation)
    draw(subject, "waterfall", charts.waterfall(explained, actual=row.actual))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(
            "From the mean prediction to this row's: each bar is what one column adds (blue) or "
            "takes away (hatched orange).",
            width="stretch",
        )
        st.button(
            "Change this row",
            icon=":material/tune:",
            help="What would be predicted if some of its values were others?",
            on_click=_try_row,
            args=(row.number,),
        )
    show_contributions(explained, f"contributions-{subject.run_id}")


def _try_row(number: int) -> None:
    st.query_params[ROW] = str(number)
    st.query_params[run_pages.VIEW] = "try"


def show_prediction(
    subject: Subject,
    explained: contributions.Explanation,
    *,
    actual: float | None = None,
    deviation: float | None = None,
) -> None:
    """What is predicted, beside the mean and the truth where it is known."""
    tiles = [
        (f"Predicted {subject.unit}", charts.number(explained.prediction), None),
        (
            "Mean prediction",
            charts.number(explained.base),
            "What is predicted where every column is at its mean over the training rows.",
        ),
    ]
    if actual is not None:
        residual = actual - explained.prediction
        tiles[1:1] = [
            ("Actual", charts.number(actual), None),
            ("Residual", charts.number(residual), HELP["residual"]),
        ]
        if deviation:
            times = f"{residual / deviation:+.1f}"
            tiles.insert(3, ("In deviations", times, HELP["deviations"]))
    show_tiles(tiles)


def show_contributions(explained: contributions.Explanation, key: str) -> None:
    """All contributions as a table."""
    import pandas as pd

    with st.expander(f"All {len(explained.contributions):,} columns as a table"):
        table = pd.DataFrame([vars(each) for each in explained.contributions])
        st.dataframe(
            table,
            key=key,
            hide_index=True,
            height=words.table_height(len(table), 10),
            column_config={
                "column": "Column",
                "value": "Value",
                "amount": st.column_config.NumberColumn(
                    "Contribution", format="%+.6g", help=HELP["contribution"]
                ),
            },
        )
