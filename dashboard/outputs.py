"""What a finished run gives (jobs of the page): predictions for another CSV, the model in other
forms, its card and its report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regatta.dashboard.choices import reading_options
from regatta.dashboard.jobs import Report


def predict(arguments: Mapping[str, Any], folder: Path, report: Report) -> dict[str, Any]:
    """Write the rows of ``path`` with a last column ``prediction``."""
    from regatta import outlook, prediction
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
    return {
        "file": output.name,
        "rows": done.rows,
        "notes": sentences(done.schema),
        "outlook": outlook.summary(done.outlook, Path(arguments["model"]).parent),
    }


def export(arguments: Mapping[str, Any], folder: Path, report: Report) -> dict[str, Any]:
    """Write the model in every form that others read, each compared with the model.

    ``files`` of the result has an entry for each: ``format``, and ``file``, ``rows`` and
    ``difference``; or ``message`` and ``hint`` where it was refused.
    """
    from regatta import export as exporter
    from regatta.export.check_rows import CheckRows
    from regatta.fitted_model import FittedModel
    from regatta.utils import RegattaError

    path = Path(arguments["model"])
    model = FittedModel.load(path)
    rows = CheckRows(model, exporter.source_of(path))
    files: list[dict[str, Any]] = []
    for place, format in enumerate(exporter.FORMATS):
        report(place / len(exporter.FORMATS), f"Writing and comparing: {format}")
        output = folder / exporter.default_name(model, format)
        try:
            done = exporter.export_model(model, format, output, rows=rows)
        except RegattaError as error:
            files.append({"format": format, "message": error.message, "hint": error.hint})
            continue
        files.append(
            {
                "format": format,
                "file": output.name,
                "bytes": output.stat().st_size,
                "rows": done.rows_compared,
                "difference": done.largest_difference,
            }
        )
    return {"files": files}


def share(arguments: Mapping[str, Any], folder: Path, report: Report) -> dict[str, Any]:
    """Write the model card and the report of a run."""
    from regatta.runs.store import RunStore
    from regatta.sharing import SUFFIXES, write_document
    from regatta.sharing.facts import RunFacts
    from regatta.utils import home

    directory = RunStore(home()).directory(arguments["run_id"])
    facts = RunFacts.gather(directory, report)
    files = []
    for kind, suffix in SUFFIXES.items():
        output = folder / f"{directory.run_id}{suffix}"
        write_document(kind, directory, output, facts=facts)
        files.append({"format": kind, "file": output.name, "bytes": output.stat().st_size})
    return {"files": files}


def explain(arguments: Mapping[str, Any], folder: Path, report: Report) -> dict[str, Any]:
    """Find the errors of a run on its held-out rows, and keep them with it. With ``rows``: see to
    it that the file's columns are there to look up single rows in."""
    from regatta.explain import held_out, residuals
    from regatta.runs.store import RunStore
    from regatta.utils import home

    store = RunStore(home())
    directory, config = store.directory(arguments["run_id"]), store.config(arguments["run_id"])
    found = residuals.of_run(directory, config, report)
    if arguments.get("rows"):
        result = residuals.read_result(directory)
        held_out.find_table(config, result, progress=lambda done: report(done, "Reading the file"))
    return {"rows": found["rows"]}
