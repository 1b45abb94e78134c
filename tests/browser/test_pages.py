"""The pages as a person sees them: first visit, own data, refusals, narrow screens."""

from __future__ import annotations

import re
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from regatta.configuration import TrainingConfig
from regatta.runs.states import RunState
from regatta.runs.store import RunStore
from regatta.tests.browser.driving import choose, sideways, state_of, upload

playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'regatta[test]'")
expect = playwright.expect

pytestmark = pytest.mark.browser


def test_the_page_is_ready_soon(page_server: Any) -> None:
    print(f"ready after {page_server.seconds_to_ready:.1f} s")
    assert page_server.seconds_to_ready < 25  # five times the promise


def test_every_empty_page_offers_the_next_step(tab: Any) -> None:
    tab.open("/")
    expect(tab.page.get_by_text("Drop a CSV here")).to_be_visible()
    for name in ("Run the demo", "Run the large demo"):
        expect(tab.page.get_by_role("button", name=name, exact=True)).to_be_visible()
    if not RunStore(tab.server.home).list():
        tab.open("/runs")
        expect(tab.page.get_by_role("button", name="Run a demo")).to_be_visible()
    tab.open("/data")
    expect(tab.page.get_by_text("Drop a CSV here")).to_be_visible()


def test_a_page_that_is_loaded_by_its_own_path_asks_for_nothing_in_vain(tab: Any) -> None:
    """And knows that its path is that of a page: the next one stands beside it, not below."""
    failed: list[str] = []
    tab.page.on("response", lambda got: failed.append(got.url) if got.status >= 400 else None)
    for path in ("/data", "/new", "/workers", "/runs", "/explain", "/predict", "/logs"):
        tab.open(path)
        tab.page.reload()
        tab.settle()
        # A page about one run says in its address which.
        assert tab.page.url.partition("?")[0] == tab.server.url + path
    tab.page.get_by_role("link", name="Data").click()
    expect(tab.page).to_have_url(re.compile(r":\d+/data(\?.*)?$"))
    assert failed == []


def test_a_telephone_lists_recent_runs_from_the_left(small_tab: Any, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,y\n1,2\n")
    store = RunStore(small_tab.server.home)
    name = "A run whose name is too long for one line of a telephone"
    record = store.create(TrainingConfig(path=str(path), target="y", name=name))
    store.update_state(record.run_id, RunState.STOPPED)
    small_tab.open("/")
    words = small_tab.page.get_by_role("button", name=name).locator("p")
    starts = words.evaluate(
        """node => {
          const range = document.createRange();
          range.selectNodeContents(node);
          const lines = new Map();
          for (const { bottom, left } of range.getClientRects()) {
            const line = Math.round(bottom / 8);
            lines.set(line, Math.min(left, lines.get(line) ?? Infinity));
          }
          return [...lines.values()].map((left) => left - node.getBoundingClientRect().left);
        }"""
    )
    store.delete(record.run_id)
    assert len(starts) > 1 and max(map(abs, starts)) < 2


def test_one_click_trains_the_demo(tab: Any) -> None:
    page = tab.page
    tab.open("/")
    begun = time.monotonic()
    page.get_by_role("button", name="Run the demo", exact=True).click()
    page.locator("[data-testid=plot-loss] .scatterlayer .trace").first.wait_for(
        state="attached", timeout=30_000
    )
    print(f"first loss point {time.monotonic() - begun:.1f} s after the click")
    assert time.monotonic() - begun < 25  # five times the promise
    expect(state_of(tab)).to_contain_text("finished", timeout=60_000)
    expect(page.get_by_role("heading", name="Scores")).to_be_visible()
    tab.settle()
    page.wait_for_timeout(1000)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(3000)
    assert not [url for url in asked if "/live" in url]  # a finished run is asked for no more


def test_a_csv_of_ones_own_becomes_a_model(tab: Any, data_dir: Path, tmp_path: Path) -> None:
    """Gaps and a text column: upload, choose, train, download, predict."""
    path = data_dir / "regression" / "california_housing.csv"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    page = tab.page
    tab.open("/?home")
    upload(tab, path)
    expect(page.get_by_role("heading", name="california_housing.csv")).to_be_visible()
    expect(page.get_by_text("20,640 rows, 10 columns")).to_be_visible(timeout=30_000)
    choose(tab, "Column to predict", "median_house_value")
    page.get_by_role("button", name="Choose the model").click()
    expect(page.get_by_role("heading", name="New run")).to_be_visible()
    expect(page.get_by_text("9 columns to learn from")).to_be_visible()
    page.get_by_role("button", name="Start training").click()
    expect(state_of(tab)).to_contain_text("finished", timeout=60_000)

    expect(page.get_by_role("heading", name="What moves the prediction")).to_be_visible()
    score = page.get_by_test_id("tile-r2").locator(".rg-value")
    expect(score).to_have_text(re.compile(r"^0\.6\d+$"))
    page.get_by_role("button", name="Explain").click()
    expect(page.get_by_role("heading", name="Predicted against actual")).to_be_visible()
    page.get_by_role("button", name="Training").click()
    page.get_by_role("button", name="Predict and export").click()
    few = tmp_path / "few.csv"
    few.write_text("".join(path.open().readlines()[:11]))
    upload(tab, few)
    expect(page.get_by_text("10 rows predicted")).to_be_visible(timeout=60_000)
    with page.expect_download() as predictions:
        page.get_by_role("link", name="Predictions (CSV)").click()
    predictions.value.save_as(tmp_path / "out.csv")
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[0].endswith(",prediction") and len(lines) == 11


def test_a_bad_csv_gets_a_sentence(tab: Any, tmp_path: Path) -> None:
    path = tmp_path / "short.csv"
    path.write_text("a,b,y\n1,2,3\n" * 1 + "1,2,3\n" * 20 + "1,2\n" + "1,2,3\n" * 5)
    tab.open("/data")
    upload(tab, path)
    alert = tab.page.get_by_role("alert")
    expect(alert).to_be_visible(timeout=30_000)
    expect(alert).to_contain_text(re.compile(r"row 23|line 23", re.IGNORECASE))
    expect(tab.page.get_by_text("Traceback")).to_have_count(0)


def test_an_oversize_file_is_refused_in_words(tab: Any, tmp_path: Path) -> None:
    path = tmp_path / "large.csv"
    path.write_bytes(b"1,2,3\n" * 3_600_000)
    tab.open("/data")
    upload(tab, path)
    expect(tab.page.get_by_text("an upload may have")).to_be_visible()
    request = urllib.request.Request(
        f"{tab.server.url}/api/upload?name=large.csv",
        data=path.read_bytes(),
        headers={"X-Regatta-Request": "upload"},
    )
    with pytest.raises((urllib.error.HTTPError, ConnectionError)) as caught:
        urllib.request.urlopen(request, timeout=20)
    assert getattr(caught.value, "code", 413) == 413


def test_a_wrong_value_is_told_beside_its_field(tab: Any, tmp_path: Path) -> None:
    path = tmp_path / "tiny.csv"
    path.write_text("a,y\n" + "".join(f"{n},{2 * n}\n" for n in range(50)))
    page = tab.page
    tab.open("/data")
    upload(tab, path)
    choose(tab, "Column to predict", "y")
    page.get_by_role("button", name="Choose the model").click()
    alpha = page.get_by_role("textbox", name="Penalty strength (alpha)")
    alpha.fill("-1")
    alpha.press("Enter")
    expect(page.get_by_text("a number of at least 0")).to_be_visible()
    expect(page.get_by_role("button", name="Start training")).to_be_disabled()
    alpha.fill("0.5")
    alpha.press("Enter")
    expect(page.get_by_role("button", name="Start training")).to_be_enabled()


def test_a_double_click_makes_one_run(tab: Any, tmp_path: Path) -> None:
    path = tmp_path / "twice.csv"
    path.write_text("a,y\n" + "".join(f"{n},{2 * n}\n" for n in range(500)))
    page = tab.page
    tab.open("/data")
    upload(tab, path)
    choose(tab, "Column to predict", "y")
    page.get_by_role("button", name="Choose the model").click()
    start = page.get_by_role("button", name="Start training")
    expect(start).to_be_enabled()
    start.dblclick()
    expect(state_of(tab)).to_contain_text("finished", timeout=60_000)
    runs = [each for each in RunStore(tab.server.home).list() if each.dataset == "twice.csv"]
    assert len(runs) == 1


@pytest.mark.parametrize("path", ["/", "/data", "/new", "/runs"])
def test_a_telephone_needs_no_sideways_scrolling(small_tab: Any, path: str) -> None:
    small_tab.open(path)
    small_tab.page.get_by_role("heading").first.wait_for()
    assert sideways(small_tab) == []
