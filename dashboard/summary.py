"""What a finished run gives: scores, coefficients, downloads; and predictions for another file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from regatta.dashboard import actions, components, fields, jobs, predicting, words
from regatta.runs.directory import RunDirectory
from regatta.runs.store import RunRecord
from regatta.utils import RegattaError, read_json

SHOWN_COEFFICIENTS = 15
SHOWN_NOTES = 6


def show(record: RunRecord) -> None:
    """Everything about a finished run but its curves."""
    directory = actions.store().directory(record.run_id)
    try:
        result = read_json(directory.result)
    except (OSError, ValueError):
        st.caption("The result of this run cannot be read.")
        return
    show_notes(result)
    left, right = st.columns([2, 1], gap="medium")
    with left, st.container(border=True, height="stretch"):
        show_coefficients(directory, result, record.target)
    with right, st.container(border=True, height="stretch"):
        show_scores(result)
        show_downloads(directory, record)
    show_path(directory)
    predicting.show(directory, record)


def show_notes(result: Mapping[str, Any]) -> None:
    """What is to be known about the file, the solution and the choice of alpha."""
    found = [*result.get("warnings", []), *result.get("solver_warnings", [])]
    if not found:
        return
    lines = [words.plain(fields.in_page_words(str(each))) for each in found]
    if len(lines) > SHOWN_NOTES:
        lines[SHOWN_NOTES:] = [f"{len(lines) - SHOWN_NOTES:,} more stand in the log."]
    text = lines[0] if len(lines) == 1 else "\n".join(f"- {each}" for each in lines)
    st.warning(text, icon=":material/info:")


def show_path(directory: RunDirectory) -> None:
    """How alpha was chosen, where it was."""
    if not directory.path_file.exists():
        return
    from regatta.figures import regularisation_path

    found = read_json(directory.path_file)
    with st.container(border=True):
        st.subheader("How alpha was chosen")
        chosen = "the best" if found["rule"] == "min" else "the strongest within a standard error"
        st.caption(
            f"{len(found['alphas'])} values of alpha, cross-validated on {len(found['errors'])} "
            f"folds of the training rows. Chosen: {words.number(found['alpha'])}, {chosen}. "
            "Held-out rows took no part."
        )
        components.figure(
            f"path-{directory.run_id}",
            regularisation_path(found),
            label=f"Cross-validation error and coefficients against alpha; best at "
            f"{found['alpha_min']:.4g}, within one standard error at {found['alpha_1se']:.4g}",
            height=560,
        )


def show_scores(result: Mapping[str, Any]) -> None:
    """R², RMSE and MAE on held-out and on training rows."""
    st.subheader("Scores")
    scores = result.get("metrics") or {}
    held_out, train = scores.get("validation") or {}, scores.get("train") or {}
    rows = [
        (name, _score(held_out.get(key), key), _score(train.get(key), key))
        for name, key in (("R²", "r2"), ("RMSE", "rmse"), ("MAE", "mae"))
    ]
    lines = ["| | held out | training |", "|---|--:|--:|"]
    lines += [f"| {name} | **{first}** | {second} |" for name, first, second in rows]
    st.markdown("\n".join(lines))
    seconds = result.get("seconds") or {}
    # After a resume the total is that of the last attempt, the training that of all.
    total = max(seconds.get("total") or 0.0, seconds.get("train") or 0.0)
    parts = [
        f"{result.get('rows_train', 0):,} rows to train on",
        f"{result.get('features', 0):,} features",
        f"{words.duration(total)} in all",
    ]
    if seconds.get("train"):
        parts.append(f"{words.duration(seconds['train'])} of it training")
    st.caption(" · ".join(parts))


def show_coefficients(directory: RunDirectory, result: Mapping[str, Any], target: str) -> None:
    """What moves the prediction most, and the coefficients in the columns' own units."""
    st.subheader("What moves the prediction")
    coefficients: dict[str, float] = result.get("coefficients") or {}
    if not coefficients:
        st.caption("The model has no coefficients: it predicts the mean.")
        return
    effects = _effects(directory, coefficients)
    chart, table = st.tabs(["Chart", "Table"])
    with chart:
        unit = f"in the unit of {words.plain(target)}"
        st.caption(f"Change of the prediction for one standard deviation more of a feature, {unit}")
        _show_effects(directory.run_id, effects)
    with table:
        _show_table(coefficients, effects, float(result.get("intercept") or 0.0))
        _show_inference(result.get("inference") or {})


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


def _score(value: float | None, key: str) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if key == "r2" else words.number(value, zeros=True)


def _effects(directory: RunDirectory, coefficients: Mapping[str, float]) -> dict[str, float]:
    """What one standard deviation of each feature adds: comparable across units."""
    from regatta.fitted_model import FittedModel

    try:
        model = FittedModel.load(directory.model)
    except RegattaError:
        return dict(coefficients)
    return dict(zip(model.feature_names, model.weights.tolist(), strict=True))


def _show_effects(run_id: str, effects: Mapping[str, float]) -> None:
    largest = sorted(effects.items(), key=lambda each: -abs(each[1]))[:SHOWN_COEFFICIENTS]
    largest = [each for each in largest if each[1] != 0.0] or largest[:1]
    largest.reverse()  # the largest on top
    values = [value for _, value in largest]
    # Places and not names on the axis: two names may be the same once they are shortened.
    places = list(range(len(largest)))
    rest = len(effects) - len(largest)
    components.chart(
        f"coefficients-{run_id}",
        [
            {
                "type": "bar",
                "orientation": "h",
                "x": values,
                "y": places,
                "customdata": [_as_plotly_text(name) for name, _ in largest],
                "marker": {
                    "color": ["@training" if each >= 0 else "@validation" for each in values],
                    "pattern": {"shape": ["" if each >= 0 else "/" for each in values], "size": 5},
                },
                "hovertemplate": "%{customdata}: %{x:.5g}<extra></extra>",
            }
        ],
        {
            "yaxis": {
                "showgrid": False,
                "zeroline": False,
                "tickmode": "array",
                "tickvals": places,
                "ticktext": [_as_plotly_text(_shortened(name)) for name, _ in largest],
            },
            "hovermode": "closest",
            "showlegend": False,
            "bargap": 0.3,
            "margin": {"l": 8, "r": 12, "t": 4, "b": 24},
        },
        label="Largest effects: "
        + ", ".join(f"{name} {value:.4g}" for name, value in largest[:-6:-1]),
        height=50 + 22 * max(len(values), 3),
    )
    if rest > 0:
        zeros = sum(value == 0.0 for value in effects.values())
        shown = f"The {len(largest)} largest of {len(effects):,}" if zeros < rest else "All others"
        told = "; all of them stand in the table" if zeros < rest else " are zero"
        exact = f"; {zeros:,} are zero" if 0 < zeros < rest else ""
        st.caption(f"{shown}{told}{exact}.")


def _show_table(
    coefficients: Mapping[str, float], effects: Mapping[str, float], intercept: float
) -> None:
    import pandas as pd

    table = pd.DataFrame(
        {
            "feature": list(coefficients),
            "coefficient": list(coefficients.values()),
            "effect": [effects.get(name) for name in coefficients],
        }
    )
    table = table.sort_values("effect", key=lambda column: -column.abs())
    st.dataframe(
        table,
        hide_index=True,
        height=words.table_height(len(table), 10),
        column_config={
            "feature": st.column_config.TextColumn("Feature"),
            "coefficient": st.column_config.NumberColumn(
                "Coefficient", format="%.6g",
                help="Change of the prediction for one unit more, in original units.",
            ),
            "effect": st.column_config.NumberColumn(
                "Per standard deviation", format="%.5g",
                help="Change of the prediction for one standard deviation more.",
            ),
        },
    )  # fmt: skip
    st.caption(f"Intercept: {intercept:.6g}")


def _show_inference(inference: Mapping[str, Any]) -> None:
    """Standard errors and intervals of least squares, or why there are none."""
    if not inference:
        return
    if "why_not" in inference:
        st.caption(str(inference["why_not"]))
        return
    import pandas as pd

    st.markdown(f"**How sure they are** ({inference['level']:.0%} intervals)")
    columns = {
        "name": "Feature",
        "estimate": "Coefficient",
        "low": "from",
        "high": "to",
        "standard_error": "Standard error",
        "p": "p",
        "vif": "VIF",
    }
    table = pd.DataFrame(inference["coefficients"])[list(columns)].rename(columns=columns)
    numbers = [name for name in table.columns if name != "Feature"]
    st.dataframe(
        table,
        hide_index=True,
        height=words.table_height(len(table), 10),
        column_config={
            name: st.column_config.NumberColumn(name, format="%.4g") for name in numbers
        },
    )
    notes = [
        f"Adjusted R² {inference['adjusted_r2']:.4f}, F {words.number(inference['f'])}, "
        f"AIC {words.number(inference['aic'])}."
    ]
    if inference["reference_levels"]:
        levels = ", ".join(inference["reference_levels"].values())
        notes.append(f"Levels are told against: {levels}.")
    st.caption(words.plain(" ".join([*notes, *inference["warnings"]])))


def _as_plotly_text(name: str) -> str:
    """Plotly reads tags in text; a name from a file is no markup."""
    return name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _shortened(name: str) -> str:
    return name if len(name) <= 32 else name[:31] + "…"
