"""Reading a CSV for the page: the import report and the first rows (a job of the page).

The report comes from the import itself, whose parsed columns are kept: a run on the same file
starts without reading it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regatta.dashboard.jobs import Report

PREVIEW_ROWS = 50
MAX_CELL = 200


def inspect(arguments: Mapping[str, Any], folder: Path, report: Report) -> dict[str, Any]:
    """``{"report": …, "preview": {"columns": […], "rows": [[…]]}}`` of the file at ``path``."""
    from regatta import data_pipeline

    path = Path(arguments["path"])
    found = data_pipeline.inspect_csv(path)
    report(0.9, "Taking the first rows")
    rows = data_pipeline.preview(path, rows=PREVIEW_ROWS)
    names = [str(column["name"]) for column in found["columns"]]
    cells = [[_shown(row.get(name)) for name in names] for row in rows]
    return {"report": found, "preview": {"columns": names, "rows": cells}}


def _shown(cell: Any) -> Any:
    if cell is None or isinstance(cell, bool | int | float):
        return cell
    text = str(cell)
    return text if len(text) <= MAX_CELL else text[:MAX_CELL] + "…"
