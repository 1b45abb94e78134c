"""Every page as it is read, heard and driven without a mouse, in both themes, wide and narrow."""

from __future__ import annotations

import contextlib
import functools
import re
from pathlib import Path
from typing import Any

import pytest

from regatta.configuration import TrainingConfig
from regatta.runs import service
from regatta.runs.states import RunState
from regatta.runs.store import RunStore
from regatta.tests.browser.driving import PLOT, sideways, wait_for_ticks, wait_until

playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'regatta[test]'")
expect = playwright.expect

pytestmark = pytest.mark.browser

GROUNDS = {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 21, 27)"}
CHART = ".js-plotly-plot"
OUTLINE = ("heading-order", "page-has-heading-one")
# What each page must show before it is looked at: {a}, {b} are runs that have finished.
PAGES = {
    "/": "text=Drop a CSV here",
    "/?run={a}": f"{PLOT} .scatterlayer",
    "/?run={failed}": "text=It is a test.",
    "/data": "text=Drop a CSV here",
    "/data?file=sample-small": ".rg-columns tbody tr",
    "/new?file=sample-small": "text=Start training",
    "/workers?run={a}": "[data-testid=crew-table] td",
    "/runs": "[data-testid=stDataFrame] canvas",
    "/runs?compare={a}&compare={b}": f"{CHART} .main-svg",
    "/explain?run={a}": f"{CHART} .main-svg",
    "/predict?run={a}": "text=Predict on another file",
    "/logs?run={a}": "[data-testid=log-entries] > *",
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
    """Critical and serious ones, and those of the outline: rule, element, why."""
    if not page.evaluate("() => Boolean(window.axe)"):
        page.evaluate(axe())
    found = page.evaluate("() => axe.run({ resultTypes: ['violations'] })")["violations"]
    return [
        f"{each['id']} ({each['impact']}): {node['html'][:160]}: {node['failureSummary']}"
        for each in found
        if each["impact"] in ("critical", "serious") or each["id"] in OUTLINE
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


# What has the focus, and whether that is to be seen: an outline, a shadow, or, around a field, a
# border in the colour of the theme.
FOCUS = """() => {
  const node = document.activeElement;
  const around = [node];
  while (around.length < 6 && around.at(-1).parentElement) around.push(around.at(-1).parentElement);
  const shown = around.some((each, level) => {
    const style = getComputedStyle(each);
    return (level < 3 && style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1)
      || (level < 3 && style.boxShadow !== "none")
      || (parseFloat(style.borderTopWidth) >= 1 && style.borderTopColor === "rgb(21, 90, 250)");
  });
  const name = node.getAttribute("aria-label") || node.innerText || "";
  return { tag: node.tagName, name: name.split("\\n").at(-1).trim(), shown };
}"""


def shows_focus_soon(tab: Any) -> bool:
    """Whether it does once the scripts of the page have heard of it."""
    with contextlib.suppress(playwright.TimeoutError):
        tab.page.wait_for_function(f"() => ({FOCUS})().shown", timeout=5_000)
        return True
    return False


def tab_to(tab: Any, name: str, most: int = 160) -> list[str]:
    """Press the tabulator until what is called ``name`` has the focus. Returns what was passed and
    did not show that it had it."""
    hidden = []
    for _ in range(most):
        tab.page.keyboard.press("Tab")
        focus = tab.page.evaluate(FOCUS)
        # The page as a whole is reached to scroll it, and shows nothing; nor does its frame.
        is_part = focus["tag"] not in ("MAIN", "BODY", "HTML")
        if is_part and not focus["shown"] and not shows_focus_soon(tab):
            hidden.append(f"{focus['tag']} {focus['name']}")
        if focus["name"] == name:
            return hidden
    raise AssertionError(f"{name} was not reached: {hidden}")


def test_a_live_view_is_read_and_driven_without_mouse_or_motion(
    tab: Any, long_run: tuple[RunStore, Any]
) -> None:
    """Charts say what they show, and go on saying it; their buttons are reached and pressed."""
    store, record = long_run
    if store.get(record.run_id).state is not RunState.RUNNING:
        service.resume(record.run_id, store=store)
        wait_until(lambda: store.get(record.run_id).state is RunState.RUNNING)
    page = tab.page
    page.emulate_media(reduced_motion="reduce")
    tab.open(f"/?run={record.run_id}")
    page.locator(f"{PLOT} .scatterlayer .trace").first.wait_for(state="attached")
    assert violations(page) == []
    for plot in page.locator(".rg-plot").all():
        expect(plot).to_have_attribute("role", re.compile("group|img"))
        expect(plot).to_have_attribute("aria-label", re.compile(r"\w+ .*\w"))
    said = page.locator(PLOT).get_attribute("aria-label")
    assert re.search(r"step [\d,]+.*[Tt]raining [\d.]+.*validation [\d.]+", said)
    wait_for_ticks(tab, 2)
    expect(page.locator(PLOT)).not_to_have_attribute("aria-label", said)

    assert tab_to(tab, "seconds", most=90) == []
    page.keyboard.press("Space")
    page.wait_for_function(
        f"() => document.querySelector('{PLOT}').layout.xaxis.title.text.includes('seconds')"
    )
    expect(page.get_by_role("button", name="seconds")).to_have_attribute("aria-pressed", "true")
    wait_for_ticks(tab, 1)
    assert page.evaluate(FOCUS)["name"] == "seconds"  # the next tick does not take the focus away

    moving = page.evaluate(
        """() => [...document.querySelectorAll("*")].filter((node) => {
          const style = getComputedStyle(node);
          const longest = (text) => Math.max(...text.split(",").map(parseFloat));
          return longest(style.transitionDuration) > 0.001
            || (style.animationName !== "none" && longest(style.animationDuration) > 0.001);
        }).map((node) => node.className || node.tagName)"""
    )
    assert moving == []


def test_a_run_is_started_and_cancelled_with_the_keyboard_alone(
    tab: Any, page_server: Any, long_run: tuple[RunStore, Any]
) -> None:
    """From the fields of a new run to its end: no mouse, and the focus is seen."""
    store, other = long_run
    service.command(other.run_id, "stop", store=store)  # it makes room
    wait_until(lambda: store.get(other.run_id).state.is_terminal)
    known = {each.run_id for each in store.list()}
    page, press = tab.page, tab.page.keyboard.press
    page.emulate_media(reduced_motion="reduce")  # a border changes its colour at once
    tab.open(f"/new?like={other.run_id}&file=sample-small")
    expect(page.get_by_role("button", name="Start training")).to_be_enabled(timeout=60_000)
    tab.settle()
    unseen = tab_to(tab, "Start training")
    press("Enter")
    expect(page.get_by_role("button", name="Cancel", exact=True)).to_be_visible(timeout=60_000)
    (mine,) = {each.run_id for each in store.list()} - known
    wait_until(lambda: store.get(mine).state is RunState.RUNNING)
    wait_for_ticks(tab, 1)
    unseen += tab_to(tab, "Cancel")
    press("Enter")
    page.get_by_role("dialog").wait_for()
    unseen += tab_to(tab, "Cancel the run", most=6)
    press("Enter")
    wait_until(lambda: store.get(mine).state is RunState.STOPPED)
    expect(page.get_by_role("button", name="Resume")).to_be_visible(timeout=20_000)
    assert not unseen, unseen


def test_curves_are_told_apart_without_colour(tab: Any, runs: dict[str, str]) -> None:
    """Each line of a chart has a dash, a width or markers of its own; states a sign and a word."""
    page = tab.page
    tab.open(f"/?run={runs['a']}")
    page.locator(f"{PLOT} .scatterlayer .trace").first.wait_for(state="attached", timeout=60_000)
    looks = page.evaluate(
        """() => [...document.querySelectorAll(".rg-plot")].filter((node) => node.data?.length > 1)
        .map((node) => node.data.filter((trace) => trace.x.length).map((trace) => [
          trace.mode, trace.line?.dash, trace.line?.width, trace.marker?.symbol,
        ].join()))"""
    )
    assert looks
    for chart in looks:
        assert len(set(chart)) == len(chart), chart
    for state in page.locator(".rg-worker .rg-state").all_inner_texts():
        assert re.fullmatch(r"\S+ \w+", state), state
