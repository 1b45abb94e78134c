"""A model that leaves: every export predicts the same, and a report needs nothing but a browser."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io

from regatta.configuration import TrainingConfig
from regatta.export import score
from regatta.export.onnx_graph import run_graph
from regatta.fitted_model import FittedModel
from regatta.runs import service
from regatta.runs.store import RunStore

playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'regatta[test]'")
expect = playwright.expect

pytestmark = pytest.mark.browser

MARKUP = "<img src=x onerror=alert(1)>"
ROWS = 400


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Numbers with gaps, texts, dates; the name of a column and a text are markup."""
    path = tmp_path_factory.mktemp("predict") / "houses.csv"
    generator = np.random.default_rng(3)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["size", MARKUP, "built", "price"])
        for i in range(ROWS):
            # The smallest and the largest come several times, on either side of the split.
            size = float(np.clip(generator.normal(50, 10), 35, 65))
            town = ("Bath", "York", MARKUP)[i % 3]
            price = 3 * size + 20 * (i % 3) + generator.normal()
            size_cell = "" if i % 19 == 0 else f"{size:.3f}"
            writer.writerow([size_cell, town, f"202{i % 4}-{i % 12 + 1:02d}-11", f"{price:.3f}"])
    return path


@pytest.fixture(scope="module")
def run_id(page_server: Any, rows: Path) -> str:
    store = RunStore(page_server.home)
    config = TrainingConfig(path=str(rows), target="price", name="To take along", model="ridge",
                            alpha="auto", folds=3, workers=1)  # fmt: skip
    made = service.submit(config, store=store).run_id
    deadline = time.monotonic() + 120
    while not store.get(made).state.is_terminal:
        assert time.monotonic() < deadline, "the run did not end"
        time.sleep(0.05)
    return made


def download(tab: Any, name: str, folder: Path) -> Path:
    """Click a link and keep what it gives."""
    with tab.page.expect_download() as given:
        tab.page.get_by_role("link", name=name).click()
    path = folder / str(given.value.suggested_filename)
    given.value.save_as(path)
    return path


def test_an_exported_model_predicts_the_same(
    tab: Any, run_id: str, rows: Path, tmp_path: Path
) -> None:
    page = tab.page
    tab.open(f"/predict?run={run_id}")
    page.locator("[data-testid=upload-input]").first.set_input_files(str(rows))
    expect(page.get_by_text(f"{ROWS} rows predicted")).to_be_visible(timeout=90_000)
    expect(page.get_by_text("All rows lie within")).to_be_visible()
    expect(
        page.get_by_role("group", name=re.compile("Histogram of the predictions"))
    ).to_be_visible()
    with download(tab, "Predictions (CSV)", tmp_path).open(newline="") as file:
        expected = np.array([float(row["prediction"]) for row in csv.DictReader(file)])
    assert len(expected) == ROWS
    assert re.search(r"[?&]file=[0-9a-f]{16}", page.url)

    page.get_by_role("radio", name="Export").or_(page.get_by_role("button", name="Export")).click()
    expect(page.get_by_text(re.compile("Checked on 600 rows")).first).to_be_visible(timeout=120_000)
    assert "view=export" in page.url
    frame = pd.read_csv(rows)
    pipeline = download(tab, "scikit-learn pipeline", tmp_path)
    loaded = skops.io.load(pipeline, trusted=skops.io.get_untrusted_types(file=pipeline))
    np.testing.assert_allclose(loaded.predict(frame), expected, rtol=1e-9)

    script, found = download(tab, "Python script", tmp_path), tmp_path / "found.csv"
    command = [sys.executable, "-I", str(script), str(rows), str(found)]
    subprocess.run(command, check=True, timeout=120)
    np.testing.assert_allclose(pd.read_csv(found)["prediction"], expected, rtol=1e-9)
    expect(page.get_by_text("def predict(table)").first).to_be_attached()

    document = json.loads(download(tab, "JSON", tmp_path).read_text())
    seconds = pd.to_datetime(frame["built"]).astype("datetime64[s]").astype("int64")
    cells = frame.assign(built=seconds.astype(float)).to_dict("records")
    by_hand = [
        score(
            document,
            {str(name): None if value != value else value for name, value in row.items()},
        )
        for row in cells
    ]
    np.testing.assert_allclose(by_hand, expected, rtol=1e-9)

    graph = download(tab, "ONNX, float64", tmp_path).read_bytes()
    model = FittedModel.load(RunStore(tab.server.home).directory(run_id).model)
    columns = {"size": frame["size"].to_numpy(), MARKUP: frame[MARKUP].to_numpy(dtype=object),
               "built": seconds.to_numpy(dtype=float)}  # fmt: skip
    np.testing.assert_allclose(run_graph(graph, model, columns, "float64"), expected, rtol=1e-9)
    page.reload()
    tab.settle()
    expect(page.get_by_role("link", name="ONNX, float32")).to_be_visible()


def test_a_report_needs_nothing_but_a_browser(
    small_tab: Any, browser_instance: Any, run_id: str, tmp_path: Path
) -> None:
    tab, page = small_tab, small_tab.page
    tab.open(f"/predict?run={run_id}&view=share")
    heading = page.get_by_role("heading", name="Model card: To take along")
    expect(heading).to_be_visible(timeout=120_000)
    main = page.get_by_test_id("stMain")
    assert main.evaluate("(node) => node.scrollWidth <= window.innerWidth")
    assert page.locator("img[src=x]").count() == 0
    report = download(tab, "Report (HTML)", tmp_path)

    grounds = set()
    for scheme, width in (("light", 1366), ("dark", 390)):
        context = browser_instance.new_context(
            offline=True, color_scheme=scheme, viewport={"width": width, "height": 800}
        )
        told = context.new_page()
        asked: list[str] = []
        errors: list[str] = []
        told.on("request", lambda request, asked=asked: asked.append(request.url))
        told.on("console", lambda message, errors=errors: errors.append(message.text))
        told.on("pageerror", lambda error, errors=errors: errors.append(str(error)))
        told.goto(report.as_uri())
        told.locator("#chart-0 .main-svg").first.wait_for(state="visible")
        charts = told.locator(".chart").count()
        assert charts >= 5
        assert told.locator(".chart.js-plotly-plot").count() == charts
        assert asked == [report.as_uri()] and errors == []
        assert told.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        grounds.add(told.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert told.locator("img").count() == 0
        context.close()
    assert len(grounds) == 2

    context = browser_instance.new_context(offline=True, java_script_enabled=False)
    told = context.new_page()
    told.goto(report.as_uri())
    expect(told.get_by_text("Predicted against actual price on")).to_be_visible()
    expect(told.locator(".chart").first).to_be_hidden()
    told.locator("summary").first.click()
    assert told.get_by_text(MARKUP).count() > 0
    context.close()
