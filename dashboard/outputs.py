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
