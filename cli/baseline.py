"""``regatta baseline RUN``: plain scikit-learn on the rows of a run."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from regatta.cli import output
from regatta.runs import service
from regatta.runs.store import RunStore
from regatta.utils import home


def baseline(chosen: argparse.Namespace) -> int:
    """``regatta baseline RUN``."""
    from regatta import baselines
    from regatta.explain import residuals

    store = RunStore(home())
    run_id = service.find(chosen.run, store=store).run_id
    directory = store.directory(run_id)
    found = baselines.of_run(directory, store.config(run_id), again=chosen.again)
    if chosen.json:
        output.print_json({"run_id": run_id, **found})
        return 0
    result = residuals.read_result(directory)
    rows = [["MODEL", "SETTINGS", "HELD-OUT R²", "±", "RMSE", "FIT"]]
    rows.append(_row(found["run"], "this run", f"{result['model']}, {result['solver']}",
                     result["seconds"]["train"]))  # fmt: skip
    rows += [_row(each, each["name"], each["settings"], each["seconds"])
             for each in found["baselines"]]  # fmt: skip
    print(output.table(rows, right=(2, 3, 4, 5)))
    print("\n±: the standard error of R², were other rows held out.")
    for each in baselines.remarks(found):
        print(each)
    return 0


def _row(of: Mapping[str, Any], name: str, settings: str, seconds: float) -> list[str]:
    scores, spread = of["scores"], of["spread"]
    return [
        name,
        settings,
        *("–" if value is None else f"{value:.4f}" for value in (scores["r2"], spread["r2"])),
        output.number(scores["rmse"]),
        output.duration(seconds),
    ]
