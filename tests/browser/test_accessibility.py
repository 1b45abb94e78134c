"""Every page as it is read, heard and driven without a mouse, in both themes, wide and narrow."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

from regatta.configuration import TrainingConfig
from regatta.runs import service
from regatta.runs.states import RunState
from regatta.runs.store import RunStore
from regatta.tests.browser.driving import PLOT, sideways, wait_until

playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'regatta[test]'")
expect = playwright.expect

pytestmark = pytest.mark.browser

GROUNDS = {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 21, 27)"}
CHART = ".js-plotly-plot"
# What each page must show before it is looked at: {a}, {b} are runs that have finished.
PAGES = {
    "/": "text=Drop a CSV here",
    "/?run={a}": f"{PLOT} .scatterlayer",
    "/?run={failed}": "text=It is a test.",
    "/data": "text=Drop a CSV here",
    "/data?file=sample-small": ".rg-columns tbody tr",
    "/new?file=sample-small": "text=Start training",
    "/workers?run={a}": "h1",
    "/runs": "[data-testid=stDataFrame] canvas",
    "/runs?compare={a}&compare={b}": f"{CHART} .main-svg",
    "/explain?run={a}": f"{CHART} .main-svg",
    "/predict?run={a}": "text=Predict on another file",
    "/logs?run={a}": "h1",
}


@pytest.fixture(scope="module")
def runs(page_server: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The ids of two runs that have finished and of one that failed."""
    path = tmp_path_factory.mktemp("rows") / "seen.csv"
    path.write_text("a,b,y\n" + "".join(f"{i},{i * i % 97},{2 * i + i % 3}\n" for i in range(3000)))
    store = RunStore(page_server.home)
    ids = {}
    for key, alpha in (("a", 0.1), ("b", 10.0)):
        config = TrainingConfig(
            path=str(path), target="y", name=f"Seen {key}", solver="sgd", alpha=alpha, workers=2,
            epochs=20, batch_size=256,
        )  # fmt: skip
        ids[key] = service.submit(config, store=store).run_id
    failed = store.create(TrainingConfig(path="/data/lost.csv", target="y", name="Failed"))
    store.update_state(failed.run_id, RunState.FAILED, message="It is a test.")
    wait_until(lambda: all(store.get(each).state.is_terminal for each in ids.values()), 90)
    return {**ids, "failed": failed.run_id}


@functools.cache
def axe() -> str:
    """The script of axe-core."""
    package = pytest.importorskip("axe_playwright_python", reason="pip install 'regatta[test]'")
    return (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


def violations(page: Any) -> list[str]:
    """Critical and serious ones: rule, element, why."""
    if not page.evaluate("() => Boolean(window.axe)"):
        page.evaluate(axe())
    found = page.evaluate("() => axe.run({ resultTypes: ['violations'] })")["violations"]
    return [
        f"{each['id']} ({each['impact']}): {node['html'][:160]}: {node['failureSummary']}"
        for each in found
        if each["impact"] in ("critical", "serious")
        for node in each["nodes"]
    ]


def put_into(tab: Any, theme: str) -> None:
    """Switch the theme, as a change of the system's does, and wait until the page has followed."""
    tab.page.emulate_media(color_scheme=theme)
    expect(tab.page.get_by_test_id("stApp")).to_have_css("background-color", GROUNDS[theme])
    # Charts look for the theme every 1.5 s.
    ink = {"light": "rgb(27, 36, 48)", "dark": "rgb(232, 236, 242)"}[theme]
    for text in tab.page.locator(f"{CHART} .xtitle").all():
        expect(text).to_have_css("fill", ink)


@pytest.mark.parametrize("path", PAGES)
def test_a_page_has_no_serious_fault_in_either_theme_or_width(
    tab: Any, runs: dict[str, str], path: str, tmp_path: Path
) -> None:
    page = tab.page
    tab.open(path.format(**runs))
    page.locator(PAGES[path]).first.wait_for(state="attached", timeout=60_000)
    tab.settle()
    pictures = {}
    for theme in GROUNDS:
        put_into(tab, theme)
        assert not violations(page), theme
        assert sideways(tab) == [], theme
        pictures[theme] = page.screenshot(path=tmp_path / f"{theme}.png")
    assert pictures["light"] != pictures["dark"]
    assert min(map(len, pictures.values())) > 8000  # an empty page has fewer bytes
    expect(page.get_by_text("This app has encountered an error")).to_have_count(0)
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_function("() => window.innerWidth === 390")
    tab.settle()
    wait_until(lambda: sideways(tab) == [], seconds=5)  # charts are drawn anew
