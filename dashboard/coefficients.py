"""A finished run's coefficients: what moves the prediction, by how much, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from regatta.dashboard import components, words
from regatta.runs.directory import RunDirectory
from regatta.utils import RegattaError, read_json

SHOWN_COEFFICIENTS = 15


def show_effects(directory: RunDirectory, result: Mapping[str, Any], target: str) -> None:
    """What moves the prediction most."""
    st.subheader("What moves the prediction")
    coefficients: dict[str, float] = result.get("coefficients") or {}
    if not coefficients:
        st.caption("The model has no coefficients: it predicts the mean.")
        return
    unit = f"in the unit of {words.plain(target)}"
    st.caption(f"Change of the prediction for one standard deviation more of a feature, {unit}")
    _draw_effects(directory.run_id, effects_of(directory, coefficients))


def show_table(directory: RunDirectory, result: Mapping[str, Any]) -> None:
    """The coefficients in the columns' own units, and how sure they are."""
    st.subheader("Coefficients")
    coefficients: dict[str, float] = result.get("coefficients") or {}
    effects = effects_of(directory, coefficients)
    _show_table(coefficients, effects, float(result.get("intercept") or 0.0))
    _show_inference(result.get("inference") or {})


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


def effects_of(directory: RunDirectory, coefficients: Mapping[str, float]) -> dict[str, float]:
    """What one standard deviation of each feature adds: comparable across units."""
    from regatta.fitted_model import FittedModel

    try:
        model = FittedModel.load(directory.model)
    except RegattaError:
        return dict(coefficients)
    return dict(zip(model.feature_names, model.weights.tolist(), strict=True))


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
