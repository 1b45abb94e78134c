"""A finished run's coefficients: what moves the prediction, by how much, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from regatta.dashboard import components, words
from regatta.explain import charts
from regatta.explain.effects import Effect, effects_of, grouped
from regatta.fitted_model import FittedModel
from regatta.runs.directory import RunDirectory
from regatta.utils import RegattaError, read_json

SHOWN_COEFFICIENTS = 15
STANDARDISED, ORIGINAL = "one standard deviation", "one unit"
HELP = {
    "forest": "How much the prediction changes when one column grows and all others stay. The "
    "line through a point is its 95% interval, where one is valid.",
    "standardised": "A standard deviation is the usual spread of a column over the training rows: "
    "so columns of different units can be compared. One unit is what the file counts in.",
}
FORMATS = {"p": "%.2g", "vif": "%.3g", "standard_error": "%.3g"}
WIDTHS = {"p": 84}  # 1.3e-131
COLUMNS = {
    "name": ("Feature", "Levels of a category stand under their column."),
    "coefficient": ("Per unit", "Change of the prediction for one unit more."),
    "low": ("from", "Lower end of the 95% interval, per unit."),
    "high": ("to", "Upper end of the 95% interval, per unit."),
    "standardised": (
        "Per deviation", "Change of the prediction for one standard deviation more."
    ),
    "standard_error": ("Std. error", "Standard error: how far the one per unit may be off."),
    "p": ("p", "How often chance alone would make a coefficient this large, were the true one 0."),
    "vif": ("VIF", "Variance inflation: how much less sure it is because other columns say the "
    "same. Above 10 is much."),
}  # fmt: skip


def show_effects(directory: RunDirectory, result: Mapping[str, Any], target: str) -> None:
    """What moves the prediction most."""
    st.header("What moves the prediction")
    coefficients: dict[str, float] = result.get("coefficients") or {}
    if not coefficients:
        st.caption("The model has no coefficients: it predicts the mean.")
        return
    unit = f"in the unit of {words.plain(target)}"
    st.caption(f"Change of the prediction for one standard deviation more of a feature, {unit}")
    _draw_effects(directory.run_id, _standardised(directory, coefficients))


def show(directory: RunDirectory, result: Mapping[str, Any], model: FittedModel) -> None:
    """All coefficients as a chart and as a table, how sure they are, and how alpha was chosen."""
    inference = result.get("inference") or {}
    effects = effects_of(model, inference)
    left, right = st.columns(2, gap="medium")
    with left, st.container(border=True, height="stretch"):
        _show_forest(directory.run_id, effects, words.plain(model.target))
    with right, st.container(border=True, height="stretch"):
        _show_table(effects)
        _show_notes(effects, inference, model)
    show_path(directory)


def show_path(directory: RunDirectory) -> None:
    """How alpha was chosen, where it was."""
    if not directory.path_file.exists():
        return
    from regatta.figures import regularisation_path

    found = read_json(directory.path_file)
    with st.container(border=True):
        st.header("How alpha was chosen")
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


def _draw_effects(run_id: str, effects: Mapping[str, float]) -> None:
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
        told = "; all of them stand on the page Explain" if zeros < rest else " are zero"
        exact = f"; {zeros:,} are zero" if 0 < zeros < rest else ""
        st.caption(f"{shown}{told}{exact}.")


def _standardised(directory: RunDirectory, coefficients: Mapping[str, float]) -> dict[str, float]:
    """What one standard deviation of each feature adds: comparable across units."""
    try:
        model = FittedModel.load(directory.model)
    except RegattaError:
        return dict(coefficients)
    return dict(zip(model.feature_names, model.weights.tolist(), strict=True))


def _show_forest(run_id: str, effects: Sequence[Effect], unit: str) -> None:
    st.header("What moves the prediction", help=HELP["forest"])
    key = f"units-{run_id}"
    st.session_state.setdefault(key, STANDARDISED)
    chosen = st.segmented_control(
        "A change of", [STANDARDISED, ORIGINAL], key=key, help=HELP["standardised"]
    )
    drawn = charts.forest(effects, standardised=chosen != ORIGINAL)
    components.chart(
        f"forest-{run_id}", drawn.traces, drawn.layout, label=drawn.text, height=drawn.height
    )
    shown = sum(each.coefficient != 0.0 and not each.is_reference for each in effects)
    told = [f"Change of the prediction in the unit of {unit}."]
    if shown > charts.MOST_EFFECTS:
        told.append(f"The {charts.MOST_EFFECTS} largest of {shown:,}; the table has all.")
    if any(each.low is not None for each in effects):
        told.append("Lines are 95% intervals; a hollow point's holds zero.")
    if not shown:
        told = ["All coefficients are zero: the model predicts the mean."]
    st.caption(" ".join(told))


def _show_table(effects: Sequence[Effect]) -> None:
    import pandas as pd

    st.header("Coefficients")
    rows = [each.to_json() | {"name": each.label} for each in grouped(effects)]
    columns = [name for name in COLUMNS if any(each[name] is not None for each in rows)]
    table = pd.DataFrame(rows, columns=columns)
    st.dataframe(
        table,
        hide_index=True,
        height=words.table_height(len(table), 14),
        placeholder="",
        column_config={
            name: st.column_config.TextColumn(label, help=text, pinned=True)
            if name == "name"
            else st.column_config.NumberColumn(
                label, format=FORMATS.get(name, "%.5g"), help=text, width=WIDTHS.get(name)
            )
            for name, (label, text) in COLUMNS.items()
        },
    )


def _show_notes(
    effects: Sequence[Effect], inference: Mapping[str, Any], model: FittedModel
) -> None:
    """The intercept, what is zero, and what the intervals hold for, or why there are none."""
    intercepts = [
        each["estimate"]
        for each in inference.get("coefficients", ())
        if each["name"] == "(intercept)"
    ]
    intercept = intercepts[0] if intercepts else model.original_intercept
    notes = [f"Intercept: {words.number(intercept, 6)}, the prediction where all of them are zero."]
    zeros = sum(each.coefficient == 0.0 and not each.is_reference for each in effects)
    if zeros:
        notes.append(f"{zeros:,} of {len(effects):,} coefficients are exactly zero.")
    if "why_not" in inference:
        notes.append(str(inference["why_not"]))
    elif inference:
        notes += _about_intervals(inference)
    else:
        notes.append("No standard errors: they come with the exact solver and a linear model.")
    st.caption(words.plain(" ".join(notes)))


def _about_intervals(inference: Mapping[str, Any]) -> list[str]:
    notes = [
        f"Intervals hold the true coefficient in {inference['level']:.0%} of samples, where the "
        "relation is linear and errors are independent and of one variance.",
        f"On the training rows: adjusted R² {words.number(inference['adjusted_r2'])}, "
        f"F {words.number(inference['f'])}, AIC {words.number(inference['aic'])}.",
    ]
    if inference["reference_levels"]:
        levels = ", ".join(inference["reference_levels"].values())
        notes.append(
            f"Levels are told against a reference ({levels}); an exported model spreads them "
            "over all levels and predicts the same."
        )
    return [*notes, *inference["warnings"]]


def _as_plotly_text(name: str) -> str:
    """Plotly reads tags in text; a name from a file is no markup."""
    return name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _shortened(name: str) -> str:
    return name if len(name) <= 32 else name[:31] + "…"
