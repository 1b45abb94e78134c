"""What a model has learned, looked at and clicked through."""

from __future__ import annotations

import re
import time
from typing import Any

import numpy as np
import pytest

from regatta.configuration import TrainingConfig
from regatta.runs import service
from regatta.runs.store import RunStore

playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'regatta[test]'")
expect = playwright.expect

pytestmark = pytest.mark.browser

CHART = ".rg-chart"
SEED = 0  # with it the row that is far off is held out


@pytest.fixture(scope="module")
def explained(page_server: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A finished run on a bent relation, with one row that is far off: the 1,234th."""
    path = tmp_path_factory.mktemp("rows") / "bent.csv"
    generator = np.random.default_rng(0)
    x, z = generator.uniform(0, 10, 2_000), generator.normal(size=2_000)
    y = x**2 + 3 * z + generator.normal(size=2_000)
    y[1_233] = 5_000
    np.savetxt(path, np.column_stack([x, z, y]), delimiter=",", fmt="%.4f", header="x,z,y",
               comments="")  # fmt: skip
    store = RunStore(page_server.home)
    config = TrainingConfig(path=str(path), target="y", name="Bent", model="linear", workers=0,
                            seed=SEED)  # fmt: skip
    run_id = service.submit(config, store=store).run_id
    deadline = time.monotonic() + 60
    while not store.get(run_id).state.is_terminal:
        assert time.monotonic() < deadline, "the run did not end"
        time.sleep(0.05)
    return run_id


def charts(tab: Any) -> list[str]:
    """The text alternatives of the charts that are drawn."""
    tab.page.locator(f"{CHART} .main-svg").first.wait_for(state="attached")
    found: list[str] = tab.page.locator(CHART).evaluate_all(
        "nodes => nodes.map((node) => node.getAttribute('aria-label'))"
    )
    return found


def test_a_click_on_a_far_point_takes_its_row_apart(tab: Any, explained: str) -> None:
    page = tab.page
    tab.open(f"/explain?run={explained}")
    expect(page.get_by_text("which the model has not seen").first).to_be_visible()
    told = charts(tab)
    assert len(told) == 3 and all("held-out rows" in each for each in told)
    assert "the model is too" in told[1]  # the bend is told in words
    points = page.locator(CHART).nth(1).locator(".scatterlayer .trace").first.locator(".point")
    far = page.evaluate(
        """() => {
            const trace = document.querySelectorAll('.rg-chart')[1].data[0];
            return trace.customdata.indexOf(1234);
        }"""
    )
    assert far >= 0
    box = points.nth(far).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page).to_have_url(re.compile(r"row=1234"))
    expect(page).to_have_url(re.compile(r"view=row"))
    expect(page.get_by_role("heading", name="Row 1,234 of bent.csv")).to_be_visible()
    (waterfall,) = charts(tab)
    assert waterfall.startswith("From the mean prediction") and "actual value is 5,000" in waterfall
    page.reload()  # the address is enough
    tab.settle()
    expect(page.get_by_role("heading", name="Row 1,234 of bent.csv")).to_be_visible()


def test_a_value_that_is_typed_changes_the_prediction(tab: Any, explained: str) -> None:
    page = tab.page
    tab.open(f"/explain?run={explained}&view=try&row=1234")
    expect(page.get_by_text("Begins with row 1,234")).to_be_visible()
    before = charts(tab)
    value = page.get_by_role("spinbutton", name="x").or_(page.get_by_label("x", exact=True)).first
    value.fill("50")
    value.press("Enter")
    expect(page.get_by_text("x: 50 lies outside")).to_be_visible()
    page.wait_for_function(
        "(before) => document.querySelector('.rg-chart').getAttribute('aria-label') !== before",
        arg=before[0],
    )
    assert "x = 50" in charts(tab)[0]


@pytest.mark.parametrize("view", ["errors", "coefficients", "row", "try"])
def test_no_view_is_wider_than_a_telephone(small_tab: Any, explained: str, view: str) -> None:
    small_tab.open(f"/explain?run={explained}&view={view}")
    charts(small_tab)
    wide = small_tab.page.evaluate(
        """() => ["html", "body", "[data-testid=stMain]"]
        .map((name) => document.querySelector(name))
        .filter((node) => node.scrollWidth > window.innerWidth).length"""
    )
    assert wide == 0
