"""Reading a CSV for the page: the import report and the first rows (a job of the page).

The parsed columns are kept by the import: a run on the same file starts without reading it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regatta.dashboard.jobs import Report

PREVIEW_ROWS = 50
PREVIEW_COLUMNS = 300
MAX_CELL = 200
MAX_LEVELS = 8


def inspect(arguments: Mapping[str, Any], folder: Path, report: Report) -> dict[str, Any]:
    """``{"report": …, "preview": {"columns": […], "rows": [[…]]}}`` of the file at ``path``."""
    from regatta import data_pipeline
    from regatta.ingest.importer import ImportProgress

    def tell(progress: ImportProgress) -> None:
        speed = f", {progress.rows_per_second / 1e6:.1f} million a second" if progress.rows else ""
        report(progress.fraction, f"{progress.rows:,} rows read{speed}")

    table = data_pipeline.import_csv(Path(arguments["path"]), progress=tell)
    found = table.report()
    for column in found["columns"]:
        column["levels"] = [_shown(level) for level in (column.get("levels") or [])[:MAX_LEVELS]]
    names = [str(column["name"]) for column in found["columns"]]
    rows = data_pipeline.preview(table, rows=PREVIEW_ROWS)
    shown = names[:PREVIEW_COLUMNS]
    cells = [[_shown(row.get(name)) for name in shown] for row in rows]
    return {"report": found, "preview": {"columns": shown, "rows": cells}}


def about_target(arguments: Mapping[str, Any], folder: Path, report: Report) -> list[Any]:
    """What is worth knowing of a file once ``target`` is chosen; the columns are read already."""
    from regatta import data_pipeline

    table = data_pipeline.import_csv(Path(arguments["path"]))
    report(0.5, "Comparing the columns with the target")
    found = data_pipeline.about_target(table, arguments["target"])
    return [each.to_json() for each in found]


def _shown(cell: Any) -> Any:
    if cell is None or isinstance(cell, bool | int | float):
        return cell
    text = str(cell)
    return text if len(text) <= MAX_CELL else text[:MAX_CELL] + "…"
