"""Figures as JSON, so that a run of one part keeps those of the other."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regatta.benchmarks._exact import Agreement, ExactResults, Size

if TYPE_CHECKING:
    from regatta.benchmarks.compare import Results

# What `regatta bench --only exact` leaves as it is.
OF_STEPS = ("n_rows", "turns", "steps", "rates", "epochs", "times", "stopped", "memory",
            "whole_runs")  # fmt: skip
KEYED = ("rates", "epochs", "times", "stopped")  # by contender and batch
KEYED_EXACT = ("seconds", "parts", "memory")  # by job and contender


def save(results: Results, path: Path) -> None:
    """Write everything that was measured."""
    steps: dict[str, Any] = {name: getattr(results, name) for name in OF_STEPS}
    for name in KEYED:
        steps[name] = [[*key, value] for key, value in steps[name].items()]
    steps["whole_runs"] = list(results.whole_runs.items())
    exact: dict[str, Any] | None = None
    if results.exact is not None:
        exact = {each.name: getattr(results.exact, each.name) for each in fields(results.exact)}
        for name in KEYED_EXACT:
            exact[name] = [[*key, value] for key, value in exact[name].items()]
        exact["size"] = asdict(results.exact.size)
        found = results.exact.agreement
        exact["agreement"] = None if found is None else asdict(found)
    together = {"machines": results.machines, "steps": steps, "exact": exact}
    path.write_text(json.dumps(together, indent=1) + "\n", encoding="utf-8")


def complete(results: Results, path: Path) -> None:
    """Take what was not measured from an earlier run, where there was one."""
    if not path.exists():
        return
    saved = json.loads(path.read_text(encoding="utf-8"))
    if not results.steps and saved["steps"]["steps"]:
        _take_steps(results, saved["steps"])
        results.machines["steps"] = saved["machines"]["steps"]
    if results.exact is None and saved["exact"] is not None:
        results.exact = _exact(saved["exact"])
        results.machines["exact"] = saved["machines"]["exact"]


def _take_steps(results: Results, saved: dict[str, Any]) -> None:
    for name in OF_STEPS:
        value = saved[name]
        if name in KEYED:
            value = {(contender, batch): each for contender, batch, each in value}
        elif name == "whole_runs":
            value = dict(value)
        setattr(results, name, value)


def _exact(saved: dict[str, Any]) -> ExactResults:
    values = dict(saved)
    for name in KEYED_EXACT:
        values[name] = {(job, contender): each for job, contender, each in saved[name]}
    agreement = saved["agreement"]
    values["size"] = Size(**saved["size"])
    values["agreement"] = None if agreement is None else Agreement(**agreement)
    return ExactResults(**values)
