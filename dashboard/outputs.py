"""What a finished run gives: predictions for another CSV, an exported model (jobs of the page)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regatta.dashboard.choices import reading_options
from regatta.dashboard.jobs import Report


def predict(arguments: Mapping[str, Any], folder: Path, report: Report) -> dict[str, Any]:
    """Write the rows of ``path`` with a last column ``prediction``."""
    from regatta import prediction
    from regatta.ingest.schema import sentences

    source = Path(arguments["path"])
    stem = source.name.split(".")[0] or "rows"
    output = folder / f"{stem}-predictions.csv"
    done = prediction.predict_file(
        Path(arguments["model"]),
        source,
        output,
        progress=lambda done: report(0.0, f"{done:,} rows predicted"),
        on_bad_cells=arguments.get("on_bad_cells", "refuse"),
        on_new_levels=arguments.get("on_new_levels", "other"),
        options=reading_options(
            {name: arguments[name] for name in ("on_bad_rows", "max_bad_rows") if name in arguments}
        ),
    )
    return {"file": output.name, "rows": done.rows, "notes": sentences(done.schema)}


def export(arguments: Mapping[str, Any], folder: Path, report: Report) -> dict[str, Any]:
    """Write the model as a scikit-learn pipeline in skops' format, which runs no code on load."""
    from regatta import export as exporter

    output = folder / f"{arguments['run_id']}-pipeline.skops"
    exporter.export_model(Path(arguments["model"]), "sklearn", output)
    return {"file": output.name}


def explain(arguments: Mapping[str, Any], folder: Path, report: Report) -> dict[str, Any]:
    """Find the errors of a run on its held-out rows, and keep them with it. With ``rows``: see to
    it that the file's columns are there to look up single rows in."""
    from regatta import held_out, residuals
    from regatta.runs.store import RunStore
    from regatta.utils import home

    store = RunStore(home())
    directory, config = store.directory(arguments["run_id"]), store.config(arguments["run_id"])
    found = residuals.of_run(directory, config, report)
    if arguments.get("rows"):
        result = residuals.read_result(directory)
        held_out.find_table(config, result, progress=lambda done: report(done, "Reading the file"))
    return {"rows": found["rows"]}
