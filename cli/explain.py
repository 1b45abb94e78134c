"""``regatta explain RUN``: errors on held-out rows, coefficients, and one row taken apart."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regatta.cli import output
from regatta.cli.files import model_of
from regatta.runs import service
from regatta.runs.store import RunStore
from regatta.utils import home

if TYPE_CHECKING:
    from regatta.explain.contributions import Explanation
    from regatta.explain.effects import Effect
    from regatta.explain.held_out import Row

SHOWN = 10
LONGEST_NAME = 40


def explain(chosen: argparse.Namespace) -> int:
    """``regatta explain RUN [--row N]``."""
    store = RunStore(home())
    run = service.find(chosen.run, store=store)
    model_file = model_of(run, store)
    from regatta.explain import contributions, held_out, residuals
    from regatta.explain.effects import effects_of
    from regatta.fitted_model import FittedModel

    directory, config = store.directory(run.run_id), store.config(run.run_id)
    model, result = FittedModel.load(model_file), residuals.read_result(directory)
    if chosen.row is not None:
        table = held_out.find_table(config, result)
        row = held_out.open_rows(table, config, result, model).row(chosen.row)
        explained = contributions.explain(model, row.columns)
        if chosen.json:
            output.print_json({"run_id": run.run_id, **row_as_json(row, explained)})
        else:
            print("\n".join(about_row(row, explained, model.target, Path(config.path).name)))
        return 0
    found = residuals.of_run(directory, config)
    effects = effects_of(model, result.get("inference"))
    if chosen.json:
        coefficients = [each.to_json() for each in effects]
        output.print_json({"run_id": run.run_id, **found, "coefficients": coefficients})
    else:
        print("\n".join(about_run(found, effects)))
    return 0


def row_as_json(row: Row, explained: Explanation) -> dict[str, Any]:
    """One row: where it is, what it was used for, and its prediction taken apart."""
    return {
        "row": row.number,
        "line": row.line,
        "part": row.part,
        "actual": row.actual,
        **explained.to_json(),
    }


def about_run(found: Mapping[str, Any], effects: Sequence[Effect]) -> Iterator[str]:
    """Scores, the largest coefficients, the rows with the largest errors."""
    from regatta.explain import charts

    rows = found["rows"]
    yield f"On {rows:,} held-out {'row' if rows == 1 else 'rows'}, which the model has not seen:"
    yield f"  {charts.scores_in_words(found)}"
    yield f"  {charts.sizes_in_words(found)}"
    yield f"  {charts.medians_in_words(found)}"
    yield ""
    yield _effects_table(effects)
    yield ""
    lines = [["ROW", "LINE", "ACTUAL", "PREDICTED", "RESIDUAL", "DEVIATIONS"]]
    for each in found["outliers"][:SHOWN]:
        times = each["deviations"]
        lines.append(
            [
                f"{each['row']:,}",
                "–" if each["line"] is None else f"{each['line']:,}",
                *(output.number(each[name], 5) for name in ("actual", "predicted", "residual")),
                "–" if times is None else f"{times:+.1f}",
            ]
        )
    yield output.table(lines, right=range(6))
    yield "\n`--row N` takes the prediction of a row apart."


def _effects_table(effects: Sequence[Effect]) -> str:
    lines = [["COLUMN", "FOR ONE UNIT", "FROM", "TO", "FOR ONE DEVIATION"]]
    for each in effects[:SHOWN]:
        lines.append(
            [
                output.shortened(each.label, LONGEST_NAME),
                *(output.number(value, 5) for value in (each.coefficient, each.low, each.high)),
                output.number(each.standardised, 5),
            ]
        )
    if len(effects) > SHOWN:
        lines.append([f"{len(effects) - SHOWN:,} more: --json", "", "", "", ""])
    return output.table(lines, right=range(1, 5))


def about_row(row: Row, explained: Explanation, target: str, name: str) -> Iterator[str]:
    """The waterfall as a table."""
    line = "" if row.line is None else f" (line {row.line:,})"
    yield f"Row {row.number:,}{line} of {output.shortened(name, 60)}: {row.part}."
    lines = [
        ["", "", output.shortened(target.upper(), 20)],
        ["mean prediction", "", output.number(explained.base, 6)],
    ]
    shown, rest, count = explained.shown(2 * SHOWN)
    for each in shown:
        value = output.shortened(each.value, LONGEST_NAME)
        lines.append([output.shortened(each.column, LONGEST_NAME), value, f"{each.amount:+,.6g}"])
    if rest is not None:
        lines.append([f"{count:,} other columns", "", f"{rest:+,.6g}"])
    lines.append(["prediction", "", output.number(explained.prediction, 6)])
    if row.actual is not None:
        lines.append(["actual", "", output.number(row.actual, 6)])
        lines.append(["residual", "", output.number(row.actual - explained.prediction, 6)])
    yield output.table(lines, right=(2,))
