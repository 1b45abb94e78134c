"""The page "Predict and export": its views in each state, and the jobs that fill them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io

from regatta.configuration import TrainingConfig
from regatta.coordinator import run_training
from regatta.dashboard import exporting, jobs, outputs, uploads
from regatta.dashboard.jobs import Job, Status
from regatta.export import FORMATS
from regatta.runs.directory import RunDirectory
from regatta.runs.states import RunState
from regatta.runs.store import RunStore
from regatta.tests.pages import open_page, texts
from regatta.utils import write_json

PAGE = Path(uploads.__file__).resolve().parent / "pages" / "predict.py"
UPLOAD = "c" * 16
MARKUP = "<b>[x](http://e.vil)</b>"
OUTLOOK = {
    "target": MARKUP,
    "rows": 40,
    "low": -3.0,
    "high": 12_345.0,
    "mean": 6.5,
    "training": {"low": 0.0, "high": 10.0, "mean": 5.0, "scale": 2.0},
    "header": ["size", MARKUP, "prediction"],
    "columns": 5,
    "preview": [[1.25, "3", "red", "9"], [2.5, "4", "", "8"]],
    "bars": {"start": 0.0, "width": 5.0, "predictions": [0.5, 0.25], "actual": [0.6, 0.4],
             "outside": 0.25},
    "rows_beyond": 3,
    "beyond": [
        {"column": f"{MARKUP}|", "kind": "number", "low": 0.0, "high": 1.0, "rows": 3,
         "seen_low": -1.0, "seen_high": 5.0},
        {"column": "day", "kind": "date", "low": 0.0, "high": 86_400.0, "rows": 1,
         "seen_low": 864_000.0, "seen_high": 864_000.0},
    ],
    "new_texts": [{"column": "colour|", "rows": 2, "texts": ["*violet*", MARKUP], "more": True}],
}  # fmt: skip


@pytest.fixture
def finished(store: RunStore) -> RunDirectory:
    """A run that has finished, as far as the page knows."""
    record = store.create(TrainingConfig(path="rows.csv", target="y"), RunState.QUEUED)
    for state in (RunState.STARTING, RunState.RUNNING, RunState.FINISHED):
        store.update_state(record.run_id, state)
    return store.directory(record.run_id)


def done(job: tuple[str, dict[str, Any]], result: Any, **files: str) -> Job:
    """A job that has ended with that result."""
    made = jobs.job_of(job[0], **job[1])
    jobs._jobs_folder()
    made.folder.mkdir()
    for name, text in files.items():
        (made.folder / name).write_text(text, encoding="utf-8")
    write_json(made.folder / "status.json", vars(Status("done", 1.0, result=result)))
    return made


# -- views ----------------------------------------------------------------------------------------


def test_each_form_says_how_it_was_checked_or_why_it_is_not_there(
    finished: RunDirectory,
) -> None:
    made = {"file": "m", "bytes": 2_500, "rows": 1_200}
    refused = {"message": "ONNX needs _packages_.", "hint": "`pip install 'regatta[onnx]'`"}
    result = {
        "files": [
            {"format": "pipeline", **made, "difference": 0.0},
            {"format": "snippet", **made, "file": "p.py", "difference": 3.2e-16},
            {"format": "json", **made, "difference": 1e-12},
            {"format": "onnx", **refused},
            {"format": "onnx-float32", **refused},
        ]
    }
    done(exporting.export_job(finished), result, **{"p.py": "print('mine')\n"})
    page = open_page("predict", run=finished.run_id, view="export")
    shown = texts(page)
    assert "Checked on 1,200 rows: no difference." in shown
    assert "differs by at most 3e-16." in shown and "differs by at most 1e-12." in shown
    assert shown.count("ONNX needs \\_packages\\_") == 2 and "regatta\\[onnx\\]" in shown
    assert [each.value for each in page.code][-1].strip() == "print('mine')"
    assert f"regatta export {finished.run_id}" in page.code[0].value


def test_a_long_script_is_for_download_alone(finished: RunDirectory) -> None:
    files = [
        {"format": each, "file": "p.py", "bytes": 9, "rows": 1, "difference": 0.0}
        for each in FORMATS
    ]
    lines = "x = 1\n" * exporting.SHOWN_LETTERS
    done(exporting.export_job(finished), {"files": files}, **{"p.py": lines})
    page = open_page("predict", run=finished.run_id, view="export")
    assert len(page.code) == 1 and "download it above" in texts(page)


def test_the_card_is_shown_beside_its_download(finished: RunDirectory) -> None:
    files = [
        {"format": "card", "file": "c.md", "bytes": 10},
        {"format": "report", "file": "r.html", "bytes": 10},
    ]
    done(exporting.share_job(finished), {"files": files}, **{"c.md": "# Model card: mine"})
    shown = texts(open_page("predict", run=finished.run_id, view="share"))
    assert "# Model card: mine" in shown and "no network" in shown


def test_a_failed_job_is_a_sentence_with_a_way_out(finished: RunDirectory) -> None:
    job = done(exporting.share_job(finished), None)
    failed = Status("failed", message="No *room*.", hint="Free some space.")
    write_json(job.folder / "status.json", vars(failed))
    page = open_page("predict", run=finished.run_id, view="share")
    assert "No \\*room\\*" in page.error[0].value
    assert "Try again" in {each.label for each in page.button}


def test_the_address_holds_view_file_and_choices(finished: RunDirectory) -> None:
    folder = uploads.uploads_folder() / UPLOAD
    folder.mkdir()
    (folder / "new.csv").write_text("a\n1\n")
    chosen = {"on_bad_cells": "missing", "on_new_levels": "other", "on_bad_rows": "skip",
              "max_bad_rows": 0.5}  # fmt: skip
    arguments = {"model": str(finished.model), "path": str(folder / "new.csv"), **chosen}
    result = {"file": "o.csv", "rows": 40, "notes": ["_One_ note."], "outlook": OUTLOOK}
    done(("predict", arguments), result)
    parameters = {"file": UPLOAD, "on_bad_cells": "missing", "on_bad_rows": "skip",
                  "max_bad_rows": "0.5"}  # fmt: skip
    page = open_page("predict", run=finished.run_id, **parameters)
    shown = texts(page)
    assert "40 rows predicted" in shown and "\\_One\\_ note" in shown
    kept = {key: page.query_params[key] for key in parameters}
    assert kept in (parameters, {key: [value] for key, value in parameters.items()})
    assert "on_new_levels" not in page.query_params
    again = next(each for each in page.selectbox if each.label == "Cells that do not fit")
    assert again.value == "missing"
    # and what the predictions look like
    assert "3 of 40 rows" in shown and "7\\.5%" in shown
    assert "| 3 | 0 … 1 | \\-1 … 5 |" in shown and "1970\\-01\\-11" in shown
    assert "| colour\\| | 2 | \\*violet\\*, " in shown
    assert "25\\.0% lie beyond the chart" in shown
    assert list(page.dataframe[0].value.columns) == [
        "prediction", "size", MARKUP, "prediction (3)"
    ]  # fmt: skip
    assert "<b>" not in shown and "](http" not in shown and "2 more columns" in shown


def test_a_file_that_is_gone_and_a_choice_that_is_none_are_forgotten(
    finished: RunDirectory,
) -> None:
    page = open_page(
        "predict", run=finished.run_id, file="d" * 16, on_bad_cells="explode", view="nonsense"
    )
    assert page.error and "file" not in page.query_params
    assert "on_bad_cells" not in page.query_params
    assert next(iter(page.selectbox)).value == finished.run_id


def test_a_missing_column_has_a_next_step(finished: RunDirectory) -> None:
    folder = uploads.uploads_folder() / UPLOAD
    folder.mkdir()
    (folder / "new.csv").write_text("a\n")
    taken = {"on_bad_cells": "refuse", "on_new_levels": "other", "on_bad_rows": "refuse"}
    arguments = {"model": str(finished.model), "path": str(folder / "new.csv"), **taken}
    missing = Status("failed", message="There is no column 'c'.", hint="Columns: 'a'.", column="c")
    too_large = Status("failed", message="The numbers are too large.", row=3)
    for status, told in ((missing, "rename or add what is missing"), (too_large, "Mend the file")):
        job = done(("predict", arguments), None)
        write_json(job.folder / "status.json", vars(status))
        assert told in texts(open_page("predict", run=finished.run_id, file=UPLOAD))


def test_no_rows_and_nothing_beyond(finished: RunDirectory) -> None:
    folder = uploads.uploads_folder() / UPLOAD
    folder.mkdir()
    (folder / "new.csv").write_text("a\n")
    taken = {"on_bad_cells": "refuse", "on_new_levels": "other", "on_bad_rows": "refuse"}
    arguments = {"model": str(finished.model), "path": str(folder / "new.csv"), **taken}
    within = {**OUTLOOK, "rows_beyond": 0, "beyond": []}
    for outlook, said in ((within, "All rows lie within"), ({**OUTLOOK, "rows": 0}, "no rows")):
        result = {"file": "o.csv", "rows": outlook["rows"], "notes": [], "outlook": outlook}
        job = done(("predict", arguments), result)
        assert said in texts(open_page("predict", run=finished.run_id, file=UPLOAD))
        job.forget()


# -- jobs -----------------------------------------------------------------------------------------


@pytest.fixture
def trained(store: RunStore, tmp_path: Path) -> RunDirectory:
    path = tmp_path / "rows.csv"
    generator = np.random.default_rng(0)
    lines = [f"{x:.4f},{'uv'[i % 2]},{3 * x + i % 2:.4f}" for i, x in
             enumerate(generator.normal(size=300))]  # fmt: skip
    path.write_text("a,c,y\n" + "\n".join(lines) + "\n")
    run_id = store.create(TrainingConfig(path=str(path), target="y", workers=0)).run_id
    run_training(run_id, store)
    return store.directory(run_id)


def test_the_jobs_write_every_file_and_hand_it_out_by_name(
    trained: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    name, arguments = exporting.export_job(trained)
    job = done((name, arguments), None)
    result = outputs.export(arguments, job.folder, lambda _, said: told.append(said))
    assert [each["format"] for each in result["files"]] == list(FORMATS)
    assert all(each["rows"] >= 400 for each in result["files"])
    write_json(job.folder / "status.json", vars(Status("done", 1.0, result=result)))
    path = job.result_file(result["files"][0]["file"])
    assert path is not None
    skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))
    for name in ("status.json", "spec.json", "../x", "", "no such file"):
        assert job.result_file(name) is None
    assert len(told) == len(FORMATS)

    monkeypatch.setitem(sys.modules, "onnx", None)
    files = {each["format"]: each for each in outputs.export(arguments, tmp_path, print)["files"]}
    assert "regatta[onnx]" in files["onnx"]["hint"] and "file" in files["json"]


def test_the_share_job_writes_card_and_report(trained: RunDirectory, tmp_path: Path) -> None:
    made = outputs.share({"run_id": trained.run_id}, tmp_path, lambda *_: None)["files"]
    assert [each["format"] for each in made] == ["card", "report"]
    assert (tmp_path / made[0]["file"]).read_text().startswith("# Model card: y of rows.csv")
    assert "Predicted against actual" in (tmp_path / made[1]["file"]).read_text()


def test_the_predict_job_tells_of_the_training_target(
    trained: RunDirectory, tmp_path: Path
) -> None:
    path = tmp_path / "new.csv"
    path.write_text("a,c\n0,u\n1,v\n99,u\n")
    arguments = {"model": str(trained.model), "path": str(path)}
    outlook = outputs.predict(arguments, tmp_path, lambda *_: None)["outlook"]
    assert (outlook["rows"], outlook["rows_beyond"], outlook["target"]) == (3, 1, "y")
    assert sum(outlook["bars"]["actual"]) == pytest.approx(1)
    assert outlook["training"]["low"] < outlook["training"]["mean"]
    json.dumps(outlook, allow_nan=False)
