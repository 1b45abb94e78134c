"""``regatta inspect``, ``predict``, ``export`` and ``datasets``: files, in and out."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from regatta.cli import output
from regatta.cli.arguments import EXPORT_FORMATS
from regatta.cli.train import reading_options
from regatta.ingest.dialect import seen_dialect
from regatta.runs import service
from regatta.runs.store import RunRecord, RunStore
from regatta.utils import UserError, counted, home

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", " ": "blanks"}
FORMAT_SYNONYMS = {"sklearn": "pipeline"}
DOCUMENTS = {"card": "Model card", "report": "Report"}
SHOWN_REJECTS = 20
SHOWN_NAMES = 20


def inspect(chosen: argparse.Namespace) -> int:
    """``regatta inspect FILE``."""
    path = existing_file(chosen.path)
    from regatta import data_pipeline
    from regatta.ingest.writing import check_output

    out = Path(chosen.write_clean) if chosen.write_clean else None
    rejects = Path(chosen.write_rejected) if chosen.write_rejected else None
    for each in filter(None, (out, rejects)):
        check_output(each, path)
    options = reading_options(chosen)
    report = data_pipeline.inspect_csv(path, options, target=chosen.target)
    if out is not None:
        report["clean"] = data_pipeline.write_clean(path, out, options)
    if rejects is not None:
        report["set_aside"] = data_pipeline.write_rejected(path, rejects, options)
    if chosen.json:
        output.print_json(report)
        return 0
    print(readable(report, path.name, output.width_of_lines()))
    if out is not None:
        print(f"\n{_cleaned(report['clean'])}")
    if rejects is not None:
        aside = report["set_aside"]
        print(f"\nSet aside, {counted(aside['rows'], 'row')} written: {aside['output']}")
    return 0


def _cleaned(clean: Mapping[str, Any]) -> str:
    count = clean["apostrophes"]
    cells = counted(count, "cell")
    guard = f" ({cells} that a spreadsheet would run got a leading apostrophe)" if count else ""
    return f"{counted(clean['rows'], 'row')} written: {clean['output']}{guard}"


def check_folder(out: Path) -> None:
    """Refuse a file whose folder is not there, before any work is done for it."""
    if not out.absolute().parent.is_dir():
        raise UserError(f"There is no folder {out.parent}.", "Make it first.")


def predict(chosen: argparse.Namespace) -> int:
    """``regatta predict RUN FILE -o OUT``."""
    path, out = existing_file(chosen.path), Path(chosen.output)
    from regatta.ingest.writing import check_output

    check_output(out, path)
    store = RunStore(home())
    model = model_of(service.find(chosen.run, store=store), store)
    from regatta import prediction
    from regatta.ingest.schema import sentences

    done = prediction.predict_file(
        model,
        path,
        out,
        on_bad_cells=chosen.on_bad_cells,
        on_new_levels=chosen.on_new_levels,
        options=reading_options(chosen),
    )
    if chosen.json:
        schema = [each.to_json() for each in done.schema]
        outlook = done.outlook
        beyond = {each.column: each.rows for each in outlook.beyond}
        output.print_json(
            {
                "rows": done.rows,
                "output": str(out.absolute()),
                "column": done.column,
                "schema": schema,
                "rows_beyond_training": outlook.rows_beyond,
                "beyond_training": beyond,
            }
        )
        return 0
    print(f"{counted(done.rows, 'row')} predicted: {out}")
    if done.column != prediction.COLUMN:
        print(f"They stand in {done.column!r}: the file has a column {prediction.COLUMN!r}.")
    notes = [*sentences(done.schema), *done.outlook.sentences()]
    for line in _notes("Other than in the training", notes):
        print(line)
    return 0


def export(chosen: argparse.Namespace) -> int:
    """``regatta export RUN --format FORMAT -o OUT``."""
    format = FORMAT_SYNONYMS.get(chosen.format, chosen.format)
    if format not in EXPORT_FORMATS:
        raise UserError(
            f"--format is {chosen.format!r}.", f"It must be one of {', '.join(EXPORT_FORMATS)}."
        )
    store = RunStore(home())
    run = service.find(chosen.run, store=store)
    model = model_of(run, store)
    if format in DOCUMENTS:
        return _write_document(chosen, run, store)
    from regatta.export import FORMATS, export_model

    out = _output(chosen, f"{run.run_id}{FORMATS[format].suffix}")
    done = export_model(model, format, out.absolute())
    if chosen.json:
        output.print_json(
            {
                "output": str(done.path),
                "format": done.format,
                "rows_compared": done.rows_compared,
                "largest_difference": done.largest_difference,
                "trusted_types": list(done.trusted_types),
            }
        )
        return 0
    rows = counted(done.rows_compared, "row")
    print(
        f"{out} predicts the same as the run's model: {rows} differ by "
        f"{done.largest_difference:.1g} of their size at most."
    )
    if format == "pipeline":
        print(f"Load it with: skops.io.load({str(out)!r}, trusted={list(done.trusted_types)})")
    elif format == "snippet":
        print(f"Run it with: python {out} NEW.csv OUT.csv")
    return 0


def _write_document(chosen: argparse.Namespace, run: RunRecord, store: RunStore) -> int:
    """The card or the report of a run."""
    from regatta.sharing import SUFFIXES, write_document

    out = _output(chosen, f"{run.run_id}{SUFFIXES[chosen.format]}")
    check_folder(out)
    write_document(chosen.format, store.directory(run.run_id), out.absolute())
    if chosen.json:
        output.print_json({"output": str(out.absolute()), "format": chosen.format})
    else:
        print(f"{DOCUMENTS[chosen.format]} written: {out}")
    return 0


def _output(chosen: argparse.Namespace, default: str) -> Path:
    out = Path(chosen.output or default)
    if out.is_dir():
        raise UserError(f"{out} is a folder.", "Name a file after -o.")
    return out


def list_datasets(chosen: argparse.Namespace) -> int:
    """``regatta datasets list``."""
    from regatta import data_pipeline

    found = data_pipeline.list_datasets()
    if chosen.json:
        output.print_json({"datasets": found})
        return 0
    if not found:
        print("No prepared copy is kept.")
        return 0
    rows = [["KEY", "LAYER", "FILE", "ROWS", "SIZE", "LAST USED"]]
    for each in found:
        rows.append(
            [
                each["key"][:12],
                each["layer"],
                output.shortened(each["name"], 40),
                f"{each['rows']:,}",
                output.size(each["bytes"]),
                time.strftime("%Y-%m-%d %H:%M", time.localtime(each["last_used"])),
            ]
        )
    print(output.table(rows, right=(3, 4)))
    return 0


def delete_datasets(chosen: argparse.Namespace) -> int:
    """``regatta datasets delete KEY … | --all``."""
    from regatta import data_pipeline

    if bool(chosen.keys) == bool(chosen.all):
        raise UserError("Name the copies to delete, or --all.", "`regatta datasets` lists them.")
    known = [str(each["key"]) for each in data_pipeline.list_datasets()]
    chosen_keys = known if chosen.all else [_full_key(word, known) for word in chosen.keys]
    freed = 0
    for key in chosen_keys:
        # With the columns of a file go the rows prepared from them, which may be named, too.
        if any(each["key"] == key for each in data_pipeline.list_datasets()):
            freed += data_pipeline.delete_dataset(key)
    left = {str(each["key"]) for each in data_pipeline.list_datasets()}
    gone = [key for key in known if key not in left]
    if chosen.json:
        output.print_json({"deleted": gone, "bytes": freed})
    else:
        print(f"{len(gone)} deleted, {output.size(freed)} set free.")
    return 0


def existing_file(text: str) -> Path:
    """The path of a file that is there."""
    path = Path(text).expanduser()
    if not path.exists():
        raise UserError(f"There is no file {text}.", "Check the path.")
    if path.is_dir():
        raise UserError(f"{text} is a folder, not a CSV file.", "Name a file in it.")
    return path.absolute()


def model_of(run: RunRecord, store: RunStore) -> Path:
    """The model that a run has made."""
    path = store.directory(run.run_id).model
    if path.exists():
        return path
    hint = "Wait until it is finished."
    if run.state.is_resumable:
        hint = f"`regatta runs resume {run.run_id}` takes it up again."
    elif run.state.is_terminal:
        hint = "Train again."
    raise UserError(f"Run {run.run_id} is {run.state} and has no model.", hint)


def readable(report: Mapping[str, Any], name: str, width: int) -> str:
    """The import report as text."""
    lines = [f"{output.shortened(name, 60)}: {_reading(report)}.", ""]
    rows = [["COLUMN", "KIND", "MISSING", "DISTINCT", "EVIDENCE"]]
    total = max(int(report.get("rows") or 0), 1)
    for column in report["columns"]:
        missing = int(column.get("missing") or 0)
        distinct = column.get("distinct")
        rows.append(
            [
                output.shortened(str(column["name"]), 32),
                _kind(column),
                f"{missing:,} ({missing / total:.1%})" if missing else "",
                "" if distinct is None else f"{distinct:,}",
                output.shortened(str(column.get("evidence") or ""), 200),
            ]
        )
    table = output.table(rows, right=(2, 3)).splitlines()
    lines += [output.shortened(line, width) for line in table]
    lines += _notes("Repaired", together(report.get("repairs") or []))
    lines += _notes("To know", report.get("warnings") or [])
    rejected = [output.reject(each) for each in report.get("rejected") or []]
    total = report.get("rejected_rows") or 0
    lines += _notes(f"Set aside ({counted(total, 'row')})", rejected)
    return "\n".join(lines)


def together(repairs: Sequence[str]) -> list[str]:
    """The repairs; one that was made to several columns is told once, with their names."""
    columns: dict[str, list[str]] = {}
    for repair in repairs:
        found = re.fullmatch(r"column ('.+?'|\".+?\"): (.+)", repair, re.DOTALL)
        columns.setdefault(found[2] if found else repair, []).extend([found[1]] if found else [])
    return [_of_columns(repair, names) for repair, names in columns.items()]


def _of_columns(repair: str, names: Sequence[str]) -> str:
    if not names:
        return repair
    more = f" and {len(names) - SHOWN_NAMES:,} more" if len(names) > SHOWN_NAMES else ""
    shown = ", ".join(names[:SHOWN_NAMES]) + more
    return f"{'column' if len(names) == 1 else 'columns'} {shown}: {repair}"


def _reading(report: Mapping[str, Any]) -> str:
    dialect = seen_dialect(report)
    delimiter = str(dialect.get("delimiter", ""))
    parts = [
        counted(report.get("rows", 0), "row"),
        counted(len(report["columns"]), "column"),
        *([f"separated by {DELIMITERS.get(delimiter, repr(delimiter))}"] if delimiter else []),
        str(dialect.get("encoding", "utf-8")),
    ]
    if dialect.get("decimal", ".") == ",":
        parts.append("decimal comma")
    if dialect.get("header") is False:
        parts.append("no header")
    return ", ".join(parts)


def _kind(column: Mapping[str, Any]) -> str:
    role = str(column.get("role") or "")
    left_out = role not in ("", "feature")
    return f"{column.get('kind')}{' (left out)' if left_out else ''}"


def _notes(title: str, notes: Sequence[Any]) -> list[str]:
    if not notes:
        return []
    lines = ["", f"{title}:"]
    lines += [f"  - {output.shortened(_sentence(note), 300)}" for note in notes[:SHOWN_REJECTS]]
    if len(notes) > SHOWN_REJECTS:
        lines.append(f"  - and {len(notes) - SHOWN_REJECTS:,} more")
    if any("eave it out" in _sentence(note) for note in notes):
        lines.append("(regatta train: --drop NAME leaves a column out.)")
    return lines


def _sentence(note: Any) -> str:
    if isinstance(note, Mapping):
        return str(note.get("message") or note.get("text") or dict(note))
    return str(note)


def _full_key(word: str, known: Sequence[str]) -> str:
    found = [key for key in dict.fromkeys(known) if key.startswith(word)] if word else []
    if len(found) != 1:
        problem = "no prepared copy" if not found else f"{len(found)} prepared copies"
        raise UserError(f"{word!r} means {problem}.", "`regatta datasets` lists them.")
    return found[0]
