"""Reading a CSV for the page: the import report and the first rows (a job of the page).

The parsed columns are kept by the import: a run on the same file starts without reading it again.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regatta.dashboard import words
from regatta.dashboard.choices import reading_options
from regatta.dashboard.jobs import CANCEL_NAME, Report

if TYPE_CHECKING:
    from regatta.ingest.importer import ImportProgress
    from regatta.ingest.table import ParsedTable

PREVIEW_ROWS = 50
PREVIEW_COLUMNS = 300
MAX_CELL = 200
MAX_LEVELS = 8


def inspect(arguments: Mapping[str, Any], folder: Path, report: Report) -> dict[str, Any]:
    """``{"report": …, "preview": {"columns": […], "rows": [[…]]}}`` of the file at ``path``; and
    ``file``, the rows that were set aside, if there are any."""
    from regatta import data_pipeline
    from regatta.dashboard.distributions import distributions

    def tell(progress: ImportProgress) -> None:
        report(progress.fraction, progress_text(progress))

    table = data_pipeline.import_csv(
        Path(arguments["path"]),
        progress=tell,
        cancelled=lambda: (folder / CANCEL_NAME).exists(),
        options=reading_options(arguments.get("reading", {})),
    )
    found = table.report()
    for column in found["columns"]:
        column["levels"] = [_shown(level) for level in (column.get("levels") or [])[:MAX_LEVELS]]
    names = [str(column["name"]) for column in found["columns"]]
    report(1.0, "Looking at the values of each column")
    spread, looked_at = distributions(table)
    for column, its_spread in zip(found["columns"], spread, strict=True):
        if "levels" in its_spread:
            its_spread["levels"] = [[_shown(text), n] for text, n in its_spread["levels"]]
        column["spread"] = its_spread
    found["rows_looked_at"] = looked_at
    rows = data_pipeline.preview(table, rows=PREVIEW_ROWS)
    shown = names[:PREVIEW_COLUMNS]
    cells = [_shown_column([row[name] for row in rows]) for name in shown]
    preview = {"columns": shown, "rows": [list(row) for row in zip(*cells, strict=True)]}
    result = {"report": found, "preview": preview}
    return {**result, **_rejected_rows(table, folder)}


def progress_text(progress: ImportProgress) -> str:
    """How many rows, how fast, and how long it will take; in seconds that can be relied on."""
    parts = [f"{progress.rows:,} rows read"]
    if progress.rows:
        parts.append(f"{words.number(progress.rows_per_second, 3)} rows/s")
    if progress.seconds > 1 and 0.02 < progress.fraction < 1:
        left = progress.seconds * (1 / progress.fraction - 1)
        parts.append(f"{words.duration(left)} left")
    return " · ".join(parts)


def _rejected_rows(table: ParsedTable, folder: Path) -> dict[str, str]:
    """Copied to where the page's downloads come from: the table may be removed to make room."""
    if not table.rejected_rows:
        return {}
    from regatta.ingest.rejecting import REJECTED_NAME

    shutil.copyfile(table.directory / REJECTED_NAME, folder / REJECTED_NAME)
    return {"file": REJECTED_NAME}


def about_target(arguments: Mapping[str, Any], folder: Path, report: Report) -> list[Any]:
    """What is worth knowing of a file once ``target`` is chosen; the columns are read already."""
    from regatta import data_pipeline

    options = reading_options(arguments.get("reading", {}))
    table = data_pipeline.import_csv(Path(arguments["path"]), options=options)
    report(0.5, "Comparing the columns with the target")
    found = data_pipeline.about_target(table, arguments["target"])
    return [each.to_json() for each in found]


def clean_copy(arguments: Mapping[str, Any], folder: Path, report: Report) -> dict[str, Any]:
    """``{"file", "rows", "apostrophes"}``: the file as it was read, as a canonical CSV."""
    from regatta import data_pipeline

    path = Path(arguments["path"])
    out = folder / f"{path.name.split('.')[0] or 'rows'}-clean.csv"
    done = data_pipeline.write_clean(
        path,
        out,
        reading_options(arguments.get("reading", {})),
        progress=lambda rows, of: report(rows / of, f"{rows:,} of {of:,} rows written"),
    )
    return {"file": out.name, "rows": done["rows"], "apostrophes": done["apostrophes"]}


def _shown_column(cells: list[Any]) -> list[Any]:
    """Cells as they are shown; numbers among words as texts."""
    if any(isinstance(cell, str) for cell in cells):
        cells = [f"{cell:.15g}" if isinstance(cell, float) else cell for cell in cells]
    return [_shown(cell) for cell in cells]


def _shown(cell: Any) -> Any:
    if cell is None or isinstance(cell, bool | int | float):
        return cell
    text = str(cell)
    return text if len(text) <= MAX_CELL else text[:MAX_CELL] + "…"
