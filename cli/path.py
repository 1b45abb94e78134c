"""``regatta path``: the whole regularisation path with its cross-validation."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from regatta.cli import output
from regatta.cli.files import check_folder
from regatta.cli.train import configuration, warn_of_unused, work_quietly
from regatta.runs import service
from regatta.runs.store import RunStore
from regatta.utils import UserError, home, read_json

TABLE_ROWS = 20
MODELS = ("lasso", "ridge", "elasticnet")


def path(chosen: argparse.Namespace) -> int:
    """``regatta path FILE --target NAME``: a run with ``--alpha auto``, and its path."""
    config = configuration(chosen, defaults={"model": "lasso"})
    config = replace(config, alpha="auto", solver="exact")
    if config.model not in MODELS:
        raise UserError(
            f"There is no regularisation path for {config.model}.", f"Models: {', '.join(MODELS)}."
        )
    if chosen.plot:
        check_folder(Path(chosen.plot))
    warn_of_unused(config)
    store = RunStore(home())
    result = work_quietly(service.check_config(config), store)
    found = read_json(store.directory(result["run_id"]).path_file)
    if chosen.plot:
        plot(found, Path(chosen.plot), config.path)
    if chosen.json:
        output.print_json({"run_id": result["run_id"], **found})
    else:
        print(table(found))
        for note in found["warnings"]:
            print(f"\nNote     {note}")
        print(
            f"\nChosen   alpha {found['alpha']:.6g} (--rule {found['rule']}); held-out R² "
            f"{output.number(result['metrics']['validation']['r2'])}\n"
            f"Run      {result['run_id']}"
        )
    return 0


def table(found: Mapping[str, Any]) -> str:
    """Every fifth alpha, the best one and the one within a standard error."""
    from regatta.figures import thinned

    marks = {found["index_min"]: "best", found["index_1se"]: "one standard error"}
    if found["index_min"] == found["index_1se"]:
        marks = {found["index_min"]: "best, and within one standard error"}
    rows = [["alpha", "mean squared error", "± standard error", "nonzero", ""]]
    for i in thinned(found["alphas"], TABLE_ROWS, list(marks)):
        rows.append(
            [
                f"{found['alphas'][i]:.5g}",
                f"{found['mean_error'][i]:.6g}",
                f"{found['standard_error'][i]:.3g}",
                f"{found['n_nonzero'][i]:,}",
                marks.get(i, ""),
            ]
        )
    return output.table(rows, right=(0, 1, 2, 3))


def plot(found: Mapping[str, Any], target: Path, file: str) -> None:
    """Write the figure as a page of its own."""
    from regatta.figures import regularisation_path, write_html

    title = f"{found['model']} on {Path(file).name}"
    write_html(regularisation_path(found), target, title)
    output.say_aside(f"the plot is in {target}")
