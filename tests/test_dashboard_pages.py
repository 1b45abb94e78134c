"""The pages' states, without a browser: what each offers, what it says when things went wrong."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from regatta.configuration import TrainingConfig
from regatta.dashboard import (
    choices,
    columns,
    fields,
    jobs,
    reading,
    report,
    samples,
    settings,
    sources,
    uploads,
    words,
)
from regatta.runs import diagnosis
from regatta.runs.directory import RunDirectory
from regatta.runs.metrics_store import MetricsReader, MetricsWriter
from regatta.runs.states import RunState
from regatta.runs.store import RunRecord, RunStore
from regatta.tests.pages import field, labels, make_run, open_page, texts
from regatta.utils import UserError, write_json

PAGES = Path(uploads.__file__).resolve().parent / "pages"
REPORT = {
    "dialect": {"encoding": "utf-8", "delimiter": ";", "decimal": ",", "header": True},
    "rows": 100,
    "columns": [
        {"name": "size", "kind": "number", "missing": 3, "minimum": 1, "maximum": 9},
        {"name": "<b>colour</b>", "kind": "category", "missing": 0, "levels": ["red", "blue"]},
        {"name": "price", "kind": "number", "missing": 0, "minimum": 1, "maximum": 5},
    ],
    "repairs": ["Decimal comma in 2 columns."],
    "warnings": ["Column _size_: 3 cells are missing."],
    "evidence": {"delimiter": "';' on all 100 rows"},
}
TRAIN_AT_ONCE = "Train ridge at once"
PREVIEW = {"columns": ["size", "<b>colour</b>", "price"], "rows": [[1.0, "red", 2.0]]}


@pytest.fixture
def source(regatta_home: Path) -> sources.Source:
    """An upload that has been inspected."""
    folder = uploads.uploads_folder() / ("a" * 16)
    folder.mkdir()
    (folder / "rows.csv").write_text("size;colour;price\n")
    found = sources.find("a" * 16)
    job = found.inspection()
    (regatta_home / "jobs").mkdir(exist_ok=True)
    job.folder.mkdir()
    result = {"report": REPORT, "preview": PREVIEW}
    write_json(job.folder / "status.json", vars(jobs.Status("done", 1.0, result=result)))
    return found


def test_a_first_visit_explains_itself(store: RunStore) -> None:
    page = open_page("train")
    assert labels(page) == {"Run the demo", "Run the large demo"}
    assert "CSV" in texts(page)


def test_a_run_that_failed_before_its_first_step_is_rather_made_anew(store: RunStore) -> None:
    """A coordinator that fails there writes step 0."""
    early = make_run(store, STARTING, RunState.FAILED, step=0, message="There is no column 'y'.")
    late = make_run(store, STARTING, RUNNING, RunState.FAILED, step=5, message="Out of memory.")
    for record, wanted in ((early, "Train again"), (late, "Resume")):
        page = open_page("train", run=record.run_id)
        assert page.button[0].label == wanted
        assert f"**{wanted}**" in page.error[0].value
        primary = [each.label for each in page.button if each.proto.type == "primary"]
        assert primary == [wanted]
    limits = diagnosis.limits_of(early, store.directory(early.run_id))
    assert limits.sentence == (
        "Nothing was computed: the run failed before its workers had anything to do."
    )
    ended = diagnosis.limits_of(late, store.directory(late.run_id))
    assert ended.sentence == "It was not measured: the run ended too soon."


@pytest.mark.parametrize("state", [RunState.FAILED, RunState.DIVERGED])
def test_why_a_run_failed_stands_above_what_can_be_done(store: RunStore, state: RunState) -> None:
    record = make_run(store, STARTING, state, message="There is no column 'z'.")
    blocks = [each.type for each in open_page("train", run=record.run_id) if hasattr(each, "type")]
    assert "button" in blocks and blocks.index("error") < blocks.index("button")


def test_every_other_page_offers_a_next_step(store: RunStore) -> None:
    for name in ("workers", "runs", "explain", "predict", "logs"):
        assert {"Run a demo", "Bring a CSV"} <= labels(open_page(name))
    assert "Use this sample" in labels(open_page("data"))
    assert "Start training" in labels(open_page("new_run"))


def test_files_of_a_named_folder_can_be_opened(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not open_page("data").selectbox  # nothing of the machine is shown unasked
    folder = tmp_path / "shelf"
    folder.mkdir()
    (folder / "races.csv").write_text("x,y\n1,2\n" * 3)
    monkeypatch.setenv(settings.DATA_ROOT_VARIABLE, str(folder))
    page = open_page("data")
    (picker,) = page.selectbox
    assert picker.options == ["races.csv  (24 bytes)"]
    picker.select_index(0).run()
    assert not page.exception
    key = "".join(page.query_params["file"])
    source = sources.find(key)
    assert source.path == folder / "races.csv"
    deadline = time.monotonic() + 30
    while source.inspection().status().is_running:  # its process would outlive the test
        assert time.monotonic() < deadline
        time.sleep(0.05)
    page = open_page("data")
    assert f"24 bytes · {folder / 'races.csv'}" in texts(page).replace("\\", "")
    next(each for each in page.button if each.label == "Off the list").click().run()
    assert "Off the list" not in labels(page)
    assert (folder / "races.csv").is_file()


STARTING, RUNNING = RunState.STARTING, RunState.RUNNING


@pytest.mark.parametrize(
    ("path", "offered"),
    [
        ((), {"Cancel"}),
        ((STARTING,), {"Cancel"}),
        ((STARTING, RUNNING), {"Pause", "Cancel"}),
        ((STARTING, RUNNING, RunState.PAUSED), {"Resume", "Cancel"}),
        ((STARTING, RUNNING, RunState.STOPPED), {"Resume", "Train again"}),
        ((STARTING, RUNNING, RunState.FAILED), {"Resume", "Train again"}),
        ((STARTING, RUNNING, RunState.DIVERGED), {"Train again"}),
        ((STARTING, RUNNING, RunState.FINISHED), {"Train again"}),
    ],
)
def test_a_run_offers_what_its_state_allows(
    store: RunStore, path: tuple[RunState, ...], offered: set[str]
) -> None:
    record = make_run(store, *path)
    directory: RunDirectory = store.directory(record.run_id)
    if record.state.is_live:
        with directory.lock():  # or it counts as interrupted
            assert labels(open_page("train", run=record.run_id)) == offered
    else:
        assert labels(open_page("train", run=record.run_id)) == offered


@pytest.mark.parametrize(
    ("has", "cores", "button", "gets"),
    [(2, 4, "+", 3), (2, 4, "\N{MINUS SIGN}", 1), (1, 4, "+", 2)],
)
def test_workers_are_added_and_let_go(
    store: RunStore, monkeypatch: pytest.MonkeyPatch, has: int, cores: int, button: str, gets: int
) -> None:
    monkeypatch.setattr("regatta.utils.available_cores", lambda: cores)
    record = make_run(store, STARTING, RUNNING, workers=has, solver="sgd")
    with store.directory(record.run_id).lock():
        page = open_page("train", run=record.run_id)
        (pressed,) = [each for each in page.button if each.label == button]
        page = pressed.click().run()
        assert not page.exception
        assert store.take_commands(record.run_id) == [f"scale {gets}"]
        assert "Another worker starts" in texts(page) or "One leaves" in texts(page)


def test_workers_cannot_be_added_beyond_the_cores_nor_the_last_let_go(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regatta.utils.available_cores", lambda: 1)
    record = make_run(store, STARTING, RUNNING, workers=1, solver="sgd")
    with store.directory(record.run_id).lock():
        page = open_page("train", run=record.run_id)
        crew = [each for each in page.button if each.label in "+\N{MINUS SIGN}"]
        assert len(crew) == 2 and all(each.disabled for each in crew)


def tuned_page(record: RunRecord, rate: str, rows: str) -> AppTest:
    """The page after "Apply" with these words in the fields of "Tune"."""
    page = open_page("train", run=record.run_id)
    page.text_input(key=f"tune-rate-{record.run_id}").input(rate)
    page.text_input(key=f"tune-rows-{record.run_id}").input(rows)
    page = page.button(key=f"tune-apply-{record.run_id}").click().run()
    assert not page.exception
    return page


TUNABLE = {"solver": "sgd", "batch_size": 64, "learning_rate": 0.0123, "rows_train": 800}


def test_learning_rate_and_batch_size_can_be_changed(store: RunStore) -> None:
    record = make_run(store, STARTING, RUNNING, **TUNABLE)
    with store.directory(record.run_id).lock():
        page = open_page("train", run=record.run_id)
        assert "learning rate **0.0123**, **64 rows** a step" in texts(page)
        page = tuned_page(record, " 1e-3 ", "1,28")
        assert store.take_commands(record.run_id) == ["set learning_rate=0.001 batch_size=128"]
        assert "Changing after this step" in texts(page)
        assert {page.text_input(key=f"tune-{name}-{record.run_id}").value
                for name in ("rate", "rows")} == {""}  # fmt: skip


@pytest.mark.parametrize(
    ("rate", "rows", "told"),
    [
        ("0", "", "A learning rate is a number above 0, and 0 is none"),
        ("nan", "", "and nan is none"),
        ("", "0", "A batch has 1 row or more"),
        ("", "2.5", "A batch size is a whole number of rows"),
        ("0.1", "801", "A batch of 801 rows is too large: the run trains on 800 rows"),
        ("", "", "Type a value to change"),
    ],
)
def test_what_a_run_cannot_be_changed_to_is_told_beside_the_field(
    store: RunStore, rate: str, rows: str, told: str
) -> None:
    record = make_run(store, STARTING, RUNNING, **TUNABLE)
    with store.directory(record.run_id).lock():
        page = tuned_page(record, rate, rows)
        assert told in unescaped(page)
        assert store.take_commands(record.run_id) == []
        assert page.text_input(key=f"tune-rate-{record.run_id}").value == rate


@pytest.mark.parametrize(("count", "told"), [(2, "Rate 1; Rate 2"), (9, "more")])
def test_what_was_changed_stands_under_the_name(store: RunStore, count: int, told: str) -> None:
    record = make_run(store, STARTING, RUNNING, RunState.STOPPED, tuned=count, **TUNABLE)
    writer = MetricsWriter(store.directory(record.run_id).metrics)
    for number in range(1, count + 1):
        writer.add("events", step=number, kind="rate_changed", message=f"Rate {number}.")
    writer.close()
    shown = unescaped(open_page("train", run=record.run_id))
    assert "Changed on the way: Rate 1" in shown and told in shown and f"Rate {count}" in shown


@pytest.mark.parametrize("changes", [{"solver": "exact"}, {"solver": "fista"}])
def test_runs_without_mini_batches_offer_nothing_to_tune(
    store: RunStore, changes: dict[str, Any]
) -> None:
    record = make_run(store, STARTING, RUNNING, **changes)
    with store.directory(record.run_id).lock():
        assert not open_page("train", run=record.run_id).text_input


def test_a_killed_run_says_so_and_can_be_resumed(store: RunStore) -> None:
    record = make_run(store, STARTING, RUNNING)
    page = open_page("train", run=record.run_id)
    assert {"Resume", "Train again"} == labels(page)
    assert page.warning


def test_a_failure_is_told_with_what_to_do(store: RunStore) -> None:
    record = make_run(store, STARTING, RunState.FAILED, message="Worker 1 died.", hint="Use fewer.")
    page = open_page("train", run=record.run_id)
    assert "Worker 1 died" in page.error[0].value and "Use fewer" in page.error[0].value


def test_a_run_that_is_gone_leads_home(store: RunStore) -> None:
    page = open_page("train", run="20200101-000000-0000")
    assert page.warning and "Run the demo" in labels(page)


@pytest.mark.parametrize("run_id", ["../../etc", "x", ""])
def test_a_made_up_id_leads_home(store: RunStore, run_id: str) -> None:
    assert "Run the demo" in labels(open_page("train", run=run_id))


def test_names_are_text_and_not_markup(store: RunStore) -> None:
    record = make_run(store, STARTING, RUNNING, RunState.STOPPED)
    assert r"A \*bold\* name" in texts(open_page("train", run=record.run_id))
    assert words.plain("<b>[x](y)</b>") == r"\<b\>\[x\]\(y\)\</b\>"


def test_a_report_is_a_sentence_and_its_evidence(source: sources.Source) -> None:
    page = open_page("data", file=source.key)
    shown = texts(page)
    sentence = (
        "100 rows, 3 columns; read as semicolon-separated with decimal comma; 1 thing to look at."
    )
    assert sentence in unescaped(page)
    assert "**Separator**: semicolon" in shown and "on all 100 rows" in shown
    assert "Decimal comma in 2 columns" in shown and "3 cells are missing" in shown
    assert page.selectbox(key=f"data-{source.key}-target").options == ["size", "price"]
    assert page.selectbox(key=f"data-{source.key}-target").value is None
    ways_on = [each for each in page.button if each.label in {"Choose the model", TRAIN_AT_ONCE}]
    assert len(ways_on) == 2 and all(each.disabled for each in ways_on)


def test_a_target_enables_the_way_on(source: sources.Source) -> None:
    page = open_page("data", file=source.key)
    page.selectbox(key=f"data-{source.key}-target").select("price").run()
    assert not any(each.disabled for each in page.button)
    assert page.multiselect(key=f"data-{source.key}-drop").options == ["size", "<b>colour</b>"]


def test_what_gives_the_target_away_is_told_and_left_out_by_a_click(
    source: sources.Source,
) -> None:
    leak = {"kind": "leak", "columns": ["size"], "message": "Column 'size' gives it away.",
            "needs": 1}  # fmt: skip
    job = jobs.job_of("target", **source._inspect_arguments(), target="price")
    job.folder.mkdir()
    write_json(job.folder / "status.json", vars(jobs.Status("done", 1.0, result=[leak])))
    for name, place in (("data", "data"), ("new_run", "new")):
        page = open_page(name, file=source.key)
        assert "gives it away" not in texts(page)
        page.selectbox(key=f"{place}-{source.key}-target").select("price").run()
        assert "gives it away" in texts(page)
        next(each for each in page.button if each.label == "Leave out size").click().run()
        assert page.multiselect(key=f"{place}-{source.key}-drop").value == ["size"]
        assert "gives it away" not in texts(page)
        choices.forget(source.key)


def test_choices_that_are_phrases_have_a_line_to_themselves() -> None:
    lines = reading.lines_of(["decimal", "odd_cells", "header", "missing", "on_bad_rows"])
    assert lines == [["decimal", "header"], ["missing"], ["odd_cells"], ["on_bad_rows"]]


def test_a_file_that_cannot_be_read_is_a_sentence(source: sources.Source) -> None:
    job = source.inspection()
    failed = jobs.Status("failed", message="Row 7 has 2 cells.", hint="Mend it.", row=7)
    write_json(job.folder / "status.json", vars(failed))
    page = open_page("data", file=source.key)
    assert "Row 7 has 2 cells" in page.error[0].value
    assert "Read it again" in labels(page)


@pytest.mark.parametrize("key", ["../x", "b" * 16, "sample-none"])
def test_a_file_that_is_not_there_is_a_sentence(store: RunStore, key: str) -> None:
    page = open_page("data", file=key)
    assert page.error and "Use this sample" in labels(page)


def test_the_fields_are_those_of_the_configuration(source: sources.Source) -> None:
    page = open_page("new_run", file=source.key, target="price")
    shown = {each.label for each in [*page.text_input, *page.selectbox]}
    assert {"Workers", "Epochs", "Batch size", "Learning rate", "Momentum", "Schedule"} <= shown
    start = next(each for each in page.button if each.label == "Start training")
    assert not start.disabled
    assert "regatta train" in page.code[0].value and "--target price" in page.code[0].value


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("alpha", "-1", "at least 0"),
        ("epochs", "many", "a whole number"),
        ("epochs", "2.5", "a whole number"),
        ("batch_size", "0", "at least 1"),
        ("validation", "0", "above 0"),
        ("momentum", "1", "below 1"),
        ("learning_rate", "nan", "above 0"),
    ],
)
def test_a_wrong_value_is_told_beside_its_field(
    source: sources.Source, name: str, value: str, told: str
) -> None:
    page = open_page("new_run", file=source.key, target="price")
    page.text_input(key=f"option-{name}").input(value).run()
    assert not page.exception
    assert told in texts(page)
    assert next(each for each in page.button if each.label == "Start training").disabled


@pytest.mark.parametrize("value", ["auto", "full", "64"])
def test_words_and_numbers_are_taken(source: sources.Source, value: str) -> None:
    page = open_page("new_run", file=source.key, target="price")
    page.text_input(key="option-batch_size").input(value).run()
    assert not next(each for each in page.button if each.label == "Start training").disabled
    assert (f"--batch-size {value}" in page.code[0].value) == (value != "auto")


def test_nothing_is_started_without_a_column_to_learn_from(
    source: sources.Source,
) -> None:
    columns: Any = REPORT["columns"]
    alone = [each for each in columns if each["name"] == "price"]
    status = jobs.Status("done", 1.0, result={"report": REPORT | {"columns": alone}})
    write_json(source.inspection().folder / "status.json", vars(status))
    page = open_page("new_run", file=source.key, target="price")
    assert next(each for each in page.button if each.label == "Start training").disabled
    assert "No column is left to learn from" in texts(page)


def test_the_exact_solver_has_no_steps_to_set(source: sources.Source) -> None:
    page = open_page("new_run", file=source.key, target="price")
    assert "--solver sgd" in page.code[0].value  # people come to the page to watch
    page.radio(key="option-solver").set_value("exact").run()
    assert "--solver exact" in page.code[0].value
    assert not {"Epochs", "Momentum"} & {each.label for each in page.text_input}


def test_settings_without_effect_are_told(source: sources.Source) -> None:
    """So few rows are taken all at once, whose step needs no learning rate."""
    page = open_page("new_run", file=source.key, target="price")
    assert "no effect" not in texts(page)
    field(page, "Learning rate").set_value("0.1").run()
    assert "“Learning rate” has no effect: each step takes all rows" in unescaped(page)
    field(page, "Batch size").set_value("8").run()
    assert "no effect" not in texts(page)


def test_settings_of_another_run_are_taken_over(source: sources.Source, store: RunStore) -> None:
    config = TrainingConfig(
        path=str(source.path), target="price", drop=("size",), model="lasso", alpha=0.25, epochs=7,
        batch_size="full", patience=3,
    )  # fmt: skip
    like = store.create(config, RunState.QUEUED).run_id
    page = open_page("new_run", like=like)
    command = page.code[0].value
    for words_of_it in ("--model lasso", "--alpha 0.25", "--epochs 7", "--batch-size full",
                        "--patience 3", "--drop size", "--target price"):  # fmt: skip
        assert words_of_it in command


def test_a_run_on_a_file_that_is_not_among_the_data_is_done_again_where_the_file_lies(
    source: sources.Source, store: RunStore, tmp_path: Path
) -> None:
    path = tmp_path / "elsewhere.csv"
    path.write_text("a,b\n" + "1,2\n2,4\n" * 30)
    run_id = store.create(TrainingConfig(path=str(path), target="b"), RunState.QUEUED).run_id
    own = sources.find(f"run-{run_id}")
    assert own.path == path and own not in sources.list_sources()
    page = open_page("new_run", like=run_id)
    assert field(page, "Data").value == own.key and not page.info
    assert open_page("data", file=own.key).title[0].value == r"elsewhere\.csv"
    path.unlink()
    page = open_page("new_run", like=run_id)
    assert "elsewhere" in page.info[0].value and field(page, "Data").value != own.key
    for gone in (f"run-{run_id}", "run-..", "run-"):
        with pytest.raises(UserError):
            sources.find(gone)


def test_the_runs_are_listed_newest_first(store: RunStore) -> None:
    first = make_run(store, STARTING, RUNNING, RunState.FINISHED, validation_r2=0.5)
    second = make_run(store)
    page = open_page("runs")
    table = page.dataframe[0].value
    assert len(table) == 2 and table["r2"].iloc[1] == 0.5
    assert [first.run_id, second.run_id] == [each.run_id for each in reversed(store.list())]


def test_the_sample_that_comes_with_regatta_is_there(store: RunStore) -> None:
    sample = samples.small()
    assert sample.exists
    assert sample.target in sample.path.read_text(encoding="utf-8").splitlines()[0].split(",")


def test_files_of_one_name_and_size_are_told_apart(tmp_path: Path) -> None:
    """A widget knows its options by their words: alike, the first would be taken for all."""
    for key in ("a", "b", "c"):
        (tmp_path / key).mkdir()
        (tmp_path / key / "rows.csv").write_text("x,y\n1,2\n" * (2 if key == "c" else 1))
    known = [
        sources.Source(key, sources.KIND_UPLOAD, "rows.csv", tmp_path / key / "rows.csv")
        for key in ("a", "b", "c")
    ]
    found = sources.labels(known)
    assert len(set(found.values())) == 3
    assert found["a"].startswith("rows.csv") and found["b"].startswith(found["a"])


@pytest.mark.parametrize(
    ("settings", "words_shown"),
    [
        ({"model": "lasso", "alpha": "auto"}, ["How alpha was chosen", "took no part"]),
        ({"model": "linear"}, ["Lines are 95% intervals", "adjusted R²"]),
        ({"model": "ridge"}, ["No standard errors for ridge"]),
    ],
    ids=["path", "inference", "why not"],
)
def test_a_solved_run_shows_path_and_uncertainty(
    store: RunStore, tmp_path: Path, settings: dict[str, Any], words_shown: list[str]
) -> None:
    from regatta.coordinator import run_training

    path = tmp_path / "rows.csv"
    rows = [f"{i % 7},{i * i % 11},{i % 7 - 0.3 * (i * i % 11) + i % 3}" for i in range(80)]
    path.write_text("\n".join(["a,b,y", *rows]))
    config = TrainingConfig(path=str(path), target="y", workers=0, **settings)
    run_id = store.create(config).run_id
    run_training(run_id, store)
    page = open_page("explain", run=run_id, view="coefficients")
    shown = texts(page) + "\n".join(each.value for each in page.header)
    for each in words_shown:
        assert each in shown
    assert {"Explain", "Predict and export"} <= labels(open_page("train", run=run_id))


def test_what_does_not_fit_is_named_and_becomes_what_a_click_says(
    store: RunStore, tmp_path: Path
) -> None:
    from regatta.coordinator import run_training

    path = tmp_path / "rows.csv"
    path.write_text("a,c,y\n" + "".join(f"{i % 7},{'uv'[i % 2]},{i % 5}\n" for i in range(80)))
    config = TrainingConfig(path=str(path), target="y", workers=0, solver="exact")
    run_id = store.create(config).run_id
    run_training(run_id, store)
    folder = uploads.uploads_folder() / ("b" * 16)
    folder.mkdir()
    (folder / "new.csv").write_text("a,c\n1,u\nmany,w\n5\n")
    page = AppTest.from_file(str(PAGES / "predict.py"), default_timeout=30)
    page.query_params["run"] = run_id
    page.session_state[f"predicting-{run_id}"] = "b" * 16
    page.run()

    def predicted(**choices: Any) -> jobs.Status:
        model = str(store.directory(run_id).model)
        new = str(folder / "new.csv")
        taken = {"on_bad_cells": "refuse", "on_new_levels": "other", "on_bad_rows": "refuse"}
        job = jobs.job_of("predict", model=model, path=new, **{**taken, **choices})
        deadline = time.monotonic() + 60
        while job.status().is_running and time.monotonic() < deadline:
            time.sleep(0.05)
        page.run()
        return job.status()

    def click(label: str) -> None:
        assert f"“{label}”" in page.error[0].value
        next(each for each in page.button if each.label == label).click().run()

    refused = predicted()
    assert refused.state == "failed" and refused.rejected[0]["row"] == 4
    assert "Line 4 has 1 field" in page.error[0].value
    click("Set these rows aside")
    skip = {"on_bad_rows": "skip", "max_bad_rows": 0.01}
    assert predicted(**skip).state == "failed"
    assert "“Most rows set aside” allows 0" in page.error[0].value
    most = next(each for each in page.text_input if each.label == "Most rows set aside")
    most.set_value("0.5").run()
    skip["max_bad_rows"] = 0.5
    assert predicted(**skip).state == "failed"
    assert "'many'" in page.error[0].value and "line 3" in page.error[0].value
    click("Take them as missing")
    missing = {**skip, "on_bad_cells": "missing"}
    assert predicted(**missing).state == "done"
    shown = texts(page)
    assert "2 rows predicted" in shown and "1 of 3 rows set aside" in shown
    assert "'many'" in shown and "'w'" in shown
    levels = next(each for each in page.selectbox if "has not seen" in each.label)
    levels.select("refuse").run()
    assert predicted(**missing, on_new_levels="refuse").state == "failed"
    assert "'w'" in page.error[0].value
    click("Take them as other")
    assert predicted(**missing).state == "done"
    assert "2 rows predicted" in texts(page)


@pytest.mark.parametrize("name", ["explain", "predict"])
@pytest.mark.parametrize("remembered", [False, True], ids=["address", "looked at last"])
@pytest.mark.parametrize(
    ("path", "told", "way_on"),
    [
        ((), "queued", "Watch it train"),
        ((STARTING, RUNNING, RunState.STOPPED), "Resume takes it up", "Go to the run"),
        ((STARTING, RunState.FAILED), "There is no column 'z'", "See what to do"),
    ],
    ids=["queued", "stopped", "failed"],
)
def test_a_run_without_a_model_says_so_and_shows_no_other_run(
    store: RunStore, name: str, remembered: bool, path: tuple[RunState, ...], told: str, way_on: str
) -> None:
    done = make_run(store, STARTING, RUNNING, RunState.FINISHED)
    changes = {"message": "There is no column 'z'."} if RunState.FAILED in path else {}
    other = make_run(store, *path, **changes)
    page = AppTest.from_file(str(PAGES / f"{name}.py"), default_timeout=60)
    if remembered:
        page.session_state["run"] = other.run_id
    else:
        page.query_params["run"] = other.run_id
    page.run()
    assert not page.exception and not page.metric
    assert told in unescaped(page) and "No model yet" in texts(page)
    assert labels(page) == {"Training", way_on}
    assert page.selectbox[0].value == other.run_id
    page.selectbox[0].select_index(1).run()
    assert page.selectbox[0].value == done.run_id and "No model yet" not in texts(page)


def test_a_page_about_one_run_finds_it_and_says_where_it_is_gone(store: RunStore) -> None:
    first = make_run(store, STARTING, RUNNING, RunState.FINISHED)
    make_run(store, STARTING, RUNNING, RunState.FINISHED)
    page = open_page("explain", run=first.run_id)
    assert page.selectbox[0].value == first.run_id
    assert "not here any more" in open_page("explain", run="20260101-000000-aaaa").warning[0].value


def test_what_is_to_be_known_about_a_run_stands_above_its_model(
    store: RunStore, tmp_path: Path
) -> None:
    """A line without noise: the smallest alpha is the best, so a smaller one may be better."""
    from regatta.coordinator import run_training

    path = tmp_path / "rows.csv"
    path.write_text(
        "\n".join(
            ["a,b,y", *(f"{i % 7},{i * i % 11},{i % 7 - 2 * (i * i % 11)}" for i in range(80))]
        )
    )
    config = TrainingConfig(path=str(path), target="y", model="ridge", alpha="auto", workers=0)
    run_id = store.create(config).run_id
    run_training(run_id, store)
    page = open_page("train", run=run_id)
    assert any("smallest that was tried" in each.value for each in page.warning)
    events = MetricsReader(store.directory(run_id).metrics).read("events")
    assert any("smallest that was tried" in each["message"] for each in events)


def test_settings_taken_over_outlast_a_look_at_the_exact_solver(
    source: sources.Source, store: RunStore
) -> None:
    config = TrainingConfig(path=str(source.path), target="price", epochs=7)
    page = open_page("new_run", like=store.create(config, RunState.QUEUED).run_id)
    solver = next(each for each in page.radio if each.label == "Solver")
    solver.set_value("exact").run()
    next(each for each in page.radio if each.label == "Solver").set_value("sgd").run()
    assert "--epochs 7" in page.code[0].value
    assert not next(each for each in page.button if each.label == "Start training").disabled
    shown = {each.label: each.value for each in page.selectbox}
    assert shown["Workers"] == "auto"


def test_options_of_the_command_become_the_words_of_the_page() -> None:
    told = fields.in_page_words("Try --learning-rate 0.01, or leave --drop and a--b alone.")
    assert told == "Try “Learning rate” 0.01, or leave “Columns to leave out” and a--b alone."
    assert fields.in_page_words("An --unknown option stays.") == "An --unknown option stays."


def test_a_repair_of_many_columns_is_told_once() -> None:
    repairs = [f"column 'c{at}': decimal comma" for at in range(6)]
    assert report._together(["columns separated by semicolon", *repairs]) == [
        "Columns separated by semicolon.",
        "Decimal comma in “c0”, “c1”, “c2”, “c3” and 2 more.",
    ]


def test_columns_without_names_are_told_by_their_values() -> None:
    columns = [{"name": "column_0", "kind": "number", "minimum": 9.0, "maximum": 46.6}]
    named = report._labels({"dialect": {"header": False}, "columns": columns})
    assert named("column_0") == "column_0  (9 … 46.6)"
    assert report._labels({"dialect": {"header": True}, "columns": columns})("size") == "size"


def test_a_column_of_dates_shows_its_first_and_last_day() -> None:
    column = {"name": "day", "kind": "date", "minimum": 1420070400.0, "maximum": 1451520000.0}
    assert report._range(column) == "2015-01-01 … 2015-12-31"


def test_digits_at_the_end_of_a_number_stay_in_a_column() -> None:
    assert [words.number(13.0), words.number(13.0, zeros=True)] == ["13", "13.00"]


def test_what_was_chosen_for_a_file_is_found_again(source: sources.Source) -> None:
    page = open_page("data", file=source.key)
    page.selectbox(key=f"data-{source.key}-target").select("price").run()
    page.multiselect(key=f"data-{source.key}-drop").select("size").run()
    assert choices.load(source.key) == choices.Choice("price", ("size",))
    for name, place in (("data", "data"), ("new_run", "new")):
        page = open_page(name, file=source.key)
        assert page.selectbox(key=f"{place}-{source.key}-target").value == "price"
        assert page.multiselect(key=f"{place}-{source.key}-drop").value == ["size"]


def test_options_of_the_reading_make_another_table_and_are_part_of_the_run(
    source: sources.Source,
) -> None:
    """Changed in the form, shown, carried to the run's configuration, and taken back."""
    page = open_page("data", file=source.key)
    page.selectbox(key=f"data-{source.key}-target").select("price").run()
    field(page, "Separator").set_value("tab")
    field(page, "Lines before the table").set_value("0")
    reading = {"delimiter": "tab", "skip_rows": 0}
    inspected(source, reading)
    next(each for each in page.button if each.label == "Read it this way").click().run()
    assert not page.exception
    assert choices.load(source.key) == choices.Choice("price", (), reading)
    assert "separator: tab; lines before the table: 0" in unescaped(page)
    assert page.selectbox(key=f"data-{source.key}-target").value == "price"
    command = open_page("new_run", file=source.key)
    assert "--delimiter tab --skip-rows 0" in command.code[0].value
    assert "separator: tab" in unescaped(command)
    next(each for each in page.button if each.label == "Reset to what was found").click().run()
    assert choices.load(source.key) == choices.Choice("price")
    assert "separator: tab" not in unescaped(page)
    assert field(page, "Separator").value == "auto"


def test_a_reading_that_cannot_be_is_told_beside_its_field(source: sources.Source) -> None:
    page = open_page("data", file=source.key)
    for label, value, told in (
        ("Lines before the table", "-1", "at least 0"),
        ("Most rows set aside", "2", "at most 1"),
    ):
        field(page, label).set_value(value)
        next(each for each in page.button if each.label == "Read it this way").click().run()
        assert told in texts(page), label
        assert not choices.load(source.key).reading


def test_two_marks_that_are_the_same_are_refused_in_words(source: sources.Source) -> None:
    reading = {"thousands": ",", "missing": ["gone"]}
    choices.save(source.key, choices.Choice(reading=reading))
    inspected(source, reading)
    page = open_page("data", file=source.key)
    assert field(page, "Thousands mark").value == ","
    assert field(page, "Words for “no value”").value == ["gone"]
    field(page, "Decimal mark").set_value("comma")
    next(each for each in page.button if each.label == "Read it this way").click().run()
    assert "“Decimal mark” and “Thousands mark” are both" in page.error[0].value.replace("\\", "")
    assert choices.load(source.key).reading == reading


def test_options_that_are_not_allowed_any_more_are_forgotten(source: sources.Source) -> None:
    choices.save(source.key, choices.Choice("price", reading={"delimiter": "too long"}))
    assert choices.load(source.key) == choices.Choice()


def test_columns_are_found_by_a_pattern_and_changed_together(source: sources.Source) -> None:
    many = [{"name": f"s{at}", "kind": "number", "missing": 0, "spread": {}} for at in range(20)]
    inspected(source, {}, {**REPORT, "columns": many})
    page = open_page("data", file=source.key)
    page.text_input(key=f"data-{source.key}-find").input("s1*").run()
    assert "**11 of 20 columns** match **s1" in texts(page)
    page.selectbox(key=f"data-{source.key}-bulk-kind").select("category")
    reading = {"column_types": ["s1*=category"]}
    inspected(source, reading, {**REPORT, "columns": many})
    next(each for each in page.button if each.label == "Apply").click().run()
    assert not page.exception
    assert choices.load(source.key).reading == reading
    next(each for each in page.button if each.label == "Leave out").click().run()
    assert len(page.multiselect(key=f"data-{source.key}-drop").value) == 11
    page.text_input(key=f"data-{source.key}-find").input("nothing").run()
    assert "None of the 20 columns matches" in texts(page)


def test_a_pattern_is_taken_back_for_one_column_and_kept_for_the_others() -> None:
    names = ["s1", "s2", "s[3]", "t"]
    choice = choices.Choice().read_as("s*", "category").read_as("t", "date:%Y-%m")
    assert [choice.kind_of(name) for name in names] == ["category"] * 3 + ["date:%Y-%m"]
    freed = choice.as_found(["s1"], names)
    assert [freed.kind_of(name) for name in names] == ["", "category", "category", "date:%Y-%m"]
    assert freed.as_found(names, names).reading == {}


def test_a_refused_file_shows_its_rows_and_the_ways_out(source: sources.Source) -> None:
    rejected = [{"row": 7, "column": None, "reason": "2 cells instead of 3"}]
    failed = jobs.Status("failed", message="Row 7 has 2 cells.", row=7, rejected=rejected,
                         hint="Mend it, or use --on-bad-rows skip.")  # fmt: skip
    write_json(source.inspection().folder / "status.json", vars(failed))
    page = open_page("data", file=source.key)
    assert "Row 7 has 2 cells" in page.error[0].value
    assert "**Line 7** 2 cells instead of 3" in texts(page)
    assert field(page, "Separator").value == "auto"
    inspected(source, {"on_bad_rows": "skip"}, {**REPORT, "rejected": rejected})
    next(each for each in page.button if each.label == fields.SET_ASIDE).click().run()
    assert not page.exception and "1 row set aside" in texts(page)


def test_while_a_file_is_read_anew_the_report_before_stays(source: sources.Source) -> None:
    """And a reading that no one waits for any more is cancelled."""
    page = open_page("data", file=source.key)
    for word in ("tab", "bar"):
        folder = source.inspection({"delimiter": word}).folder
        folder.mkdir()
        write_json(folder / "spec.json", {})  # as if its process were about to start
        write_json(folder / "status.json", vars(jobs.Status("running", 0.5, "half of it")))
    choices.save(source.key, choices.Choice("price", reading={"delimiter": "tab"}))
    page.run()
    assert "100 rows, 3 columns" in texts(page)
    full, brief = sorted(waits(page), key=lambda wait: bool(wait["brief"]))
    assert full["can_cancel"] and full["status"]["message"] == "half of it" and brief["brief"]
    choices.save(source.key, choices.Choice("price", reading={"delimiter": "bar"}))
    page.run()
    assert source.inspection({"delimiter": "tab"}).is_cancelled
    assert not source.inspection({"delimiter": "bar"}).is_cancelled


def test_a_reading_that_was_cancelled_can_be_taken_up_again(source: sources.Source) -> None:
    cancelled = jobs.Status("cancelled", message="The import was cancelled.")
    write_json(source.inspection().folder / "status.json", vars(cancelled))
    page = open_page("data", file=source.key)
    assert page.info and {"Read it again"} <= labels(page)


def test_a_run_tells_how_its_file_is_read(store: RunStore) -> None:
    config = TrainingConfig(path="rows.csv", target="y", column_types=("s*=category",))
    run_id = store.create(config, RunState.QUEUED).run_id
    assert "kinds of columns: s*=category" in unescaped(open_page("train", run=run_id))
    plain = store.create(TrainingConfig(path="rows.csv", target="y"), RunState.QUEUED).run_id
    assert "Read with your options" not in texts(open_page("train", run=plain))


def unescaped(page: AppTest) -> str:
    return texts(page).replace("\\", "")


def waits(page: AppTest) -> list[dict[str, Any]]:
    """What the components are given that wait for a job."""
    given = [json.loads(each.proto.json) for each in page.get("bidi_component")]
    return [each for each in given if "job_id" in each]


def test_the_browser_is_not_given_thousands_of_columns_to_leave_out(
    source: sources.Source,
) -> None:
    """It would stand still for seconds at each change: the table of columns leaves them out."""
    many = [{"name": f"c{i}", "kind": "number", "missing": 0} for i in range(2_000)]
    inspected(source, {}, {**REPORT, "columns": many})
    page = open_page("data", file=source.key)
    assert "Columns to leave out" not in {each.label for each in page.multiselect}
    assert "in the table of columns" in texts(page)
    page.session_state[f"data-{source.key}-drop"] = ["c3"]
    page.run()
    box = next(each for each in page.multiselect if each.label == "Columns to leave out")
    assert box.options == ["c3"] and box.value == ["c3"]


def inspected(source: sources.Source, reading: dict[str, Any], report: Any = REPORT) -> None:
    """Write what the job that reads the file in this way would write."""
    folder = source.inspection(reading).folder
    folder.mkdir(exist_ok=True)
    result = {"report": report, "preview": PREVIEW}
    write_json(folder / "status.json", vars(jobs.Status("done", 1.0, result=result)))


def test_a_column_of_the_table_tells_its_gaps_and_spread() -> None:
    spread = {"low": 0.0, "high": 999.0, "median": 2.0, "from": 0.0, "to": 4.0,
              "bars": [1, 2, 3, 2, 1], "width": 1, "below": 0, "above": 1,
              "distinct": 6}  # fmt: skip
    column = {"name": "a", "kind": "number", "missing": 1, "spread": spread, "evidence": "why"}
    row = columns.describe(column, 10_000, choices.Choice("y", ("a",), {}))
    assert (row["missing"], row["share"], row["distinct"]) == ("1", "< 0.1 %", "6")
    assert row["values"] == ["0", "median 2", "999"] and row["used"] is False
    assert row["bars"][2] == [3, "2: 3 rows", False] and row["bars"][-1][1] == "above 4: 1 rows"
    odd = [{"row": line, "text": "?!"} for line in (75, 1076, 1077)]
    row = columns.describe({**column, "odd_cells": odd}, 10_000, choices.Choice())
    assert row["evidence"] == "why; not '?!' in line 75, '?!' in line 1,076, …"
    levels = {"levels": [["x", 6], ["y", 2]], "rest": 2, "distinct": 4}
    bars, told = columns.spread({"kind": "category", "spread": levels})
    assert told == ["x 60 %, y 20 %"] and bars[-1] == [2, "2 others: 2 rows", True]
