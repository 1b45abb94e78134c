"""The page "Explain" and its command: every view of a run, without a browser."""

from __future__ import annotations

import csv
import io
import json
import random
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient
from streamlit.testing.v1 import AppTest

from regatta import cli
from regatta.configuration import TrainingConfig
from regatta.coordinator import run_training
from regatta.dashboard import jobs, routes, uploads
from regatta.explain import contributions, residuals
from regatta.fitted_model import FittedModel
from regatta.prediction import predict_file
from regatta.runs import result as run_result
from regatta.runs.store import RunStore
from regatta.tests.pages import texts

PAGE = Path(uploads.__file__).resolve().parent / "pages" / "explain.py"
HEAD = ["size", "town", "built", "garden", "price"]


@pytest.fixture
def houses(regatta_home: Path, tmp_path: Path) -> str:
    """A finished run on 300 rows with gaps, words, a text column and a date."""
    path = tmp_path / "houses.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEAD)
        generator = random.Random(0)
        for i in range(300):
            size, town = generator.randrange(100), generator.choice(("Bath", "York", ""))
            price = 3 * size + (40 if town == "Bath" else 0) + generator.gauss(0, 5)
            day = f"2020-{generator.randrange(12) + 1:02d}-{generator.randrange(28) + 1:02d}"
            garden = generator.choice(("yes", "no"))
            writer.writerow(["" if i % 19 == 0 else size, town, day, garden, f"{price:.3f}"])
    return train(path, "price", model="linear")


def train(path: Path, target: str, **settings: Any) -> str:
    store = RunStore(path.parent / "home")
    config = TrainingConfig(path=str(path), target=target, workers=0, name="Houses", **settings)
    run_id = store.create(config).run_id
    run_training(run_id, store)
    return run_id


def open_view(run_id: str, view: str = "", **parameters: str) -> AppTest:
    page = AppTest.from_file(str(PAGE), default_timeout=60)
    for key, value in {"run": run_id, **({"view": view} if view else {}), **parameters}.items():
        page.query_params[key] = value
    page.run()
    assert not page.exception, page.exception
    return page


def metrics(page: AppTest) -> dict[str, str]:
    return {each.label: each.value for each in page.metric}


def field(widgets: Any, label: str) -> Any:
    (found,) = [each for each in widgets if each.label == label]
    return found


def address(page: AppTest, name: str) -> str:
    value = page.query_params[name]
    return str(value if isinstance(value, str) else value[0])


def test_errors_are_told_on_held_out_rows(houses: str, regatta_home: Path) -> None:
    """Found while the run ended: no job is started."""
    found = residuals.kept_summary(RunStore(regatta_home).directory(houses))
    assert found is not None
    page = open_view(houses)
    assert not (regatta_home / "jobs").exists()
    shown = texts(page)
    assert f"about the {found['rows']} held-out rows, which the model has not seen" in shown
    assert "Half of the predictions are off by at most" in shown
    told = metrics(page)
    assert told["Held-out rows"] == f"{found['rows']}"
    assert told["R²"] == f"{found['scores']['r2']:.4f}"
    assert set(told) >= {"RMSE", "MAE", "Mean residual"}
    table = page.dataframe[0].value
    assert table["row"].tolist() == [each["row"] for each in found["outliers"]]
    for each in ("Predicted against actual", "Residuals against predictions",
                 "How large the residuals are", "Largest residuals"):  # fmt: skip
        assert each in shown


def test_the_address_says_which_view_and_which_row(houses: str) -> None:
    page = open_view(houses, "row", row="8")
    shown = texts(page)
    assert "Row 8 of houses" in shown and "line 9" in shown
    assert page.number_input[0].value == 8
    told = metrics(page)
    page.number_input[0].set_value(9).run()
    assert address(page, "row") == "9" and "Row 9 of houses" in texts(page)
    assert metrics(page) != told
    ahead = field(page.button, "Next")
    ahead.click().run()
    assert "held out: the model has not seen it" in texts(page)
    number = int(address(page, "row"))
    assert number > 9
    field(page.button, "Change this row").click().run()
    assert address(page, "view") == "try"
    assert f"Begins with row {number} of the file" in texts(page)
    # A row that is not there, or no number at all: the one with the largest residual instead.
    for row in ("0", "99999", "many", "1" * 30):
        assert open_view(houses, "row", row=row).number_input[0].value


def test_a_row_is_predicted_as_its_file_is(houses: str, regatta_home: Path, tmp_path: Path) -> None:
    store = RunStore(regatta_home)
    out = tmp_path / "out.csv"
    predict_file(store.directory(houses).model, Path(store.config(houses).path), out)
    with out.open(newline="") as file:
        predictions = [float(each["prediction"]) for each in csv.DictReader(file)]
    for row in (1, 20, 77):
        told = metrics(open_view(houses, "row", row=str(row)))
        assert float(told["Predicted price"].replace(",", "")) == pytest.approx(
            predictions[row - 1], rel=1e-4
        )


def test_a_row_to_try_has_a_control_for_each_column(houses: str, regatta_home: Path) -> None:
    page = open_view(houses, "try")
    size = field(page.number_input, "size")
    model = FittedModel.load(RunStore(regatta_home).directory(houses).model)
    assert size.value == contributions.typical_row(model)["size"]
    assert "Training rows: 0 to 99" in size.help
    assert "(missing)" in field(page.selectbox, "town").options
    assert field(page.date_input, "built").value.year == 2020
    before = metrics(page)["Predicted price"]
    size.set_value(50.0).run()
    assert metrics(page)["Predicted price"] != before
    assert not page.warning
    field(page.number_input, "size").set_value(1000.0).run()
    assert "size: 1000 lies outside 0 … 99" in page.warning[0].value.replace("\\", "")
    town = field(page.selectbox, "town")
    town.select("(another text)").run()
    assert "was not seen in the training" in page.warning[0].value
    field(page.number_input, "size").set_value(1e308).run()
    assert "too large to predict from" in page.error[0].value


def test_coefficients_come_with_intervals_and_references(houses: str) -> None:
    page = open_view(houses, "coefficients")
    table = page.dataframe[0].value
    names = table["name"].tolist()
    assert "town=Bath vs (missing)" in names and "town=(missing) (reference)" in names
    size = table[table["name"] == "size"].iloc[0]
    assert size["low"] < 3.0 < size["high"] and size["coefficient"] == pytest.approx(3.0, abs=0.1)
    assert "Levels are told against a reference" in texts(page)


def test_many_held_out_rows_are_looked_at_by_a_job(
    houses: str, regatta_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = RunStore(regatta_home).directory(houses)
    kept = residuals.kept_summary(directory)
    residuals.path_of(directory).unlink()
    page = open_view(houses)
    wait_for_job(page, houses)
    assert residuals.kept_summary(directory) == kept
    assert metrics(page)["Held-out rows"] == str(kept["rows"] if kept else "")
    # One row, when Regatta's copy of the file is gone: it is read again, if one wants.
    shutil.rmtree(regatta_home / "datasets" / "parsed")
    page = open_view(houses, "row")
    assert "has to be read again" in page.info[0].value.replace("\\", "")
    field(page.button, "Read it again").click().run()
    wait_for_job(page, houses, rows=True)
    assert "Row " in texts(page)


def test_a_file_that_is_gone_is_told_in_a_sentence(houses: str, regatta_home: Path) -> None:
    store = RunStore(regatta_home)
    residuals.path_of(store.directory(houses)).unlink()
    shutil.rmtree(regatta_home / "datasets")
    Path(store.config(houses).path).unlink()
    page = open_view(houses)
    wait_for_job(page, houses)
    assert "houses.csv is gone" in page.error[0].value.replace("\\", "")
    assert "Try again" in {each.label for each in page.button}
    assert "Values" in texts(open_view(houses, "try"))  # the model knows its columns itself


def wait_for_job(page: AppTest, run_id: str, **arguments: Any) -> None:
    job = jobs.job_of("explain", run_id=run_id, **arguments)
    deadline = time.monotonic() + 60
    while job.status().is_running:
        assert time.monotonic() < deadline, "the job did not end"
        time.sleep(0.05)
    page.run()
    assert not page.exception


def test_the_largest_residuals_can_be_downloaded(houses: str, regatta_home: Path) -> None:
    directory = RunStore(regatta_home).directory(houses)
    client = TestClient(Starlette(routes=routes.ROUTES), base_url="http://127.0.0.1")
    answer = client.get(f"/api/runs/{houses}/outliers")
    assert answer.status_code == 200 and "attachment" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    found = residuals.kept_summary(directory)
    assert found is not None
    assert [int(each["row"]) for each in rows] == [each["row"] for each in found["outliers"]]
    assert float(rows[0]["residual"]) == found["outliers"][0]["residual"]
    residuals.path_of(directory).unlink()
    assert client.get(f"/api/runs/{houses}/outliers").status_code == 404


@pytest.mark.parametrize("view", ["errors", "coefficients", "row", "try"])
@pytest.mark.parametrize(
    ("rows", "settings"),
    [
        ([(i, i % 5, 7) for i in range(40)], {"model": "ridge"}),
        ([(i, i % 5, i * i % 7) for i in range(40)], {"model": "lasso", "alpha": 1e6}),
        ([(1, 5, 2), (2, 3, 3), (3, 8, 4), (4, 1, 6)], {"model": "linear"}),
    ],
    ids=["constant target", "all coefficients zero", "four rows"],
)
def test_odd_models_have_every_view(
    regatta_home: Path,
    tmp_path: Path,
    rows: list[tuple[int, ...]],
    settings: dict[str, Any],
    view: str,
) -> None:
    path = tmp_path / "odd.csv"
    path.write_text("a,<b>b</b> $x$,y\n" + "".join(f"{a},{b},{c}\n" for a, b, c in rows))
    page = open_view(train(path, "y", **settings), view)
    assert not page.error and texts(page)


def test_without_room_in_time_the_end_of_a_run_leaves_it_to_the_page(
    regatta_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_result, "QUICK_CELLS", 5)
    path = tmp_path / "rows.csv"
    path.write_text("a,y\n" + "".join(f"{i},{i % 7}\n" for i in range(60)))
    directory = RunStore(regatta_home).directory(train(path, "y"))
    assert residuals.kept_summary(directory) is None


def test_the_command_tells_the_same(
    houses: str, regatta_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: str) -> str:
        assert cli.main(["explain", "last", *words]) == 0
        return capsys.readouterr().out

    found = residuals.kept_summary(RunStore(regatta_home).directory(houses))
    assert found is not None
    told = json.loads(run("--json"))
    assert told["scores"] == found["scores"] and told["outliers"] == found["outliers"]
    assert {each["name"] for each in told["coefficients"]} >= {"size", "town=Bath", "garden"}
    text = run()
    assert f"On {found['rows']} held-out rows" in text and "town=Bath vs (missing)" in text
    row = json.loads(run("--row", "8", "--json"))
    assert row["line"] == 9
    total = row["base"] + sum(each["amount"] for each in row["contributions"])
    assert total == pytest.approx(row["prediction"], rel=1e-12)
    text = run("--row", "8")
    assert text.startswith("Row 8 (line 9) of houses.csv: ") and "mean prediction" in text
    assert cli.main(["explain", "last", "--row", "301"]) == 2
    assert "There is no row 301" in capsys.readouterr().err
