"""Scikit-learn on the rows of a run (a job of the page)."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regatta import baselines
from regatta.dashboard.jobs import Report
from regatta.explain import residuals
from regatta.runs.store import RunStore
from regatta.utils import UserError, home


def baseline(arguments: Mapping[str, Any], folder: Path, report: Report) -> dict[str, Any]:
    """Fit the baselines of a run and keep them with it; and of the runs ``beside`` it, how far
    their scores could be off."""
    store = RunStore(home())
    run_id = arguments["run_id"]
    found = baselines.of_run(store.directory(run_id), store.config(run_id), report)
    for other in arguments.get("beside", ()):
        with contextlib.suppress(UserError, OSError):  # it may be gone, or its rows
            residuals.of_run(store.directory(other), store.config(other))
    return {"baselines": len(found["baselines"])}
