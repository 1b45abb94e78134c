"""A run while it goes on: the live view, its buttons, reloads and restarts."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from regatta.runs.states import RunState
from regatta.tests.browser.driving import PLOT, state_of, step_of, wait_for_ticks, wait_until

playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'regatta[test]'")
expect = playwright.expect

pytestmark = pytest.mark.browser

TICK = 700  # milliseconds between two questions of the live view


def test_steps_rise_and_the_loss_falls(live: Any) -> None:
    steps, losses = [], []
    for _ in range(3):
        wait_for_ticks(live, 1)
        steps.append(step_of(live))
        losses.append(float(live.page.evaluate(
            "() => { const node = document.querySelector('[data-testid=plot-loss]');"
            "return node.data[1].y.at(-1) ?? node.data[0].y.at(-1); }")))  # fmt: skip
    assert steps[0] < steps[1] < steps[2]
    first = live.page.evaluate(
        "() => document.querySelector('[data-testid=plot-loss]').data[0].y[0]"
    )
    assert losses[2] < first
    expect(live.page.locator(".rg-worker")).to_have_count(2)


def test_zoom_legend_and_node_survive_ticks(live: Any) -> None:
    page = live.page
    page.evaluate("() => { document.querySelector('[data-testid=plot-loss]').mark = 'mine'; }")
    page.locator(f"{PLOT} .legendtoggle").nth(2).click()
    hidden = f"() => document.querySelector('{PLOT}')._fullData[2].visible"
    page.wait_for_function(f"{hidden.replace('() => ', '() => (')}) === 'legendonly'")
    area = page.locator(f"{PLOT} .nsewdrag").first.bounding_box()
    x, y = area["x"], area["y"]
    page.mouse.move(x + area["width"] * 0.2, y + area["height"] * 0.2)
    page.mouse.down()
    page.mouse.move(x + area["width"] * 0.6, y + area["height"] * 0.8, steps=5)
    page.mouse.up()
    ranges = (
        f"() => {{ const layout = document.querySelector('{PLOT}')._fullLayout;"
        "return [layout.xaxis.autorange, ...layout.xaxis.range, ...layout.yaxis.range]; }"
    )
    page.wait_for_function(f"({ranges})()[0] !== true")
    zoomed = page.evaluate(ranges)
    wait_for_ticks(live, 5)
    assert page.evaluate(ranges) == pytest.approx(zoomed)
    assert page.evaluate(hidden) == "legendonly"
    assert page.evaluate(f"() => document.querySelector('{PLOT}').mark") == "mine"


def test_the_gap_to_the_optimum_is_a_choice_away(live: Any) -> None:
    page = live.page
    page.get_by_role("button", name="gap", exact=True).click()
    page.wait_for_function(
        f"() => document.querySelector('{PLOT}').data[0].name === 'gap to the optimum'"
    )
    gaps = page.evaluate(f"() => document.querySelector('{PLOT}').data[0].y")
    assert gaps and all(gap is None or gap > 0 for gap in gaps)
    page.get_by_role("button", name="loss", exact=True).click()
    page.wait_for_function(f"() => document.querySelector('{PLOT}').data.length > 3")


def test_a_tooltip_stays_while_the_pointer_rests(live: Any) -> None:
    page = live.page
    area = page.locator(f"{PLOT} .nsewdrag").first.bounding_box()
    page.mouse.move(area["x"] + area["width"] * 0.3, area["y"] + area["height"] * 0.5)
    page.mouse.move(area["x"] + area["width"] * 0.32, area["y"] + area["height"] * 0.5)
    label = page.locator(f"{PLOT} .hoverlayer .legend, {PLOT} .hoverlayer .hovertext").first
    expect(label).to_be_attached()
    wait_for_ticks(live, 3)
    expect(label).to_be_attached()


def test_pause_freezes_and_resume_goes_on(live: Any, long_run: Any) -> None:
    store, record = long_run
    page = live.page
    page.get_by_role("button", name="Pause").click()
    expect(state_of(live)).to_contain_text("paused", timeout=10_000)
    wait_until(lambda: store.get(record.run_id).state is RunState.PAUSED)
    page.wait_for_timeout(2 * TICK)
    frozen = step_of(live)
    assert frozen == store.get(record.run_id).step
    expect(page.get_by_test_id("tile-speed")).to_contain_text("paused")
    page.wait_for_timeout(3000)
    assert step_of(live) == frozen
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible(timeout=10_000)
    wait_for_ticks(live, 1)
    assert step_of(live) > frozen


def test_a_reload_comes_back_to_the_run(live: Any, long_run: Any) -> None:
    _, record = long_run
    before = step_of(live)
    live.page.reload()
    live.settle()
    expect(live.page.get_by_role("heading", name="Long one")).to_be_visible()
    live.page.get_by_test_id("progress-text").wait_for()
    wait_for_ticks(live, 1)
    assert step_of(live) >= before
    assert record.run_id in live.page.url


def test_the_home_page_finds_the_run_that_is_under_way(tab: Any, live: Any) -> None:
    tab.open("/")
    expect(tab.page.get_by_role("heading", name="Long one")).to_be_visible()


def test_a_telephone_shows_a_live_run(small_tab: Any, long_run: Any) -> None:
    _, record = long_run
    small_tab.open(f"/?run={record.run_id}")
    small_tab.page.locator(f"{PLOT} .scatterlayer").first.wait_for(state="attached")
    width = small_tab.page.evaluate(
        "() => document.querySelector('[data-testid=stMain]').scrollWidth"
    )
    assert width <= 390


def test_two_tabs_show_the_same_step_within_a_tick(live: Any, second_tab: Any) -> None:
    page, other = live.page, second_tab.page
    second_tab.open(page.url.removeprefix(live.server.url))
    wait_for_ticks(second_tab, 1)  # it draws
    # What one shows at a moment, the other has reached by its next question and its answer.
    for here, there in ((live, other), (second_tab, page)):
        shown = step_of(here)
        begun = time.monotonic()
        there.wait_for_function(
            "(step) => Number(document.querySelector('[data-testid=progress-text]')"
            ".dataset.step) >= step",
            arg=shown,
        )
        waited = time.monotonic() - begun
        print(f"step {shown} in the other tab after {waited:.2f} s")
        assert waited < 5 * TICK / 1000  # five times the promise: the machine may be busy


def test_an_open_dialog_survives_ticks(live: Any) -> None:
    page = live.page
    page.get_by_role("button", name="Cancel", exact=True).click()
    keep = page.get_by_role("dialog").get_by_role("button", name="Keep training")
    keep.wait_for()
    page.evaluate("() => { document.querySelector('[role=dialog]').mark = 'mine'; }")
    keep.focus()
    wait_for_ticks(live, 5)
    expect(keep).to_be_focused()
    assert page.evaluate("() => document.querySelector('[role=dialog]').mark") == "mine"
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_typed_text_survives_ticks(live: Any) -> None:
    """Also before it is sent, and the caret stays where it is."""
    page = live.page
    page.get_by_role("button", name="Tune").click()
    rate = page.get_by_role("textbox", name="Learning rate")
    rate.press_sequentially("0.0012")
    rate.press("ArrowLeft")
    wait_for_ticks(live, 5)
    expect(rate).to_have_value("0.0012")
    expect(rate).to_be_focused()
    rate.press_sequentially("3")
    expect(rate).to_have_value("0.00132")
    rate.fill("")
    page.keyboard.press("Escape")


def test_a_killed_worker_is_shown_and_replaced(live: Any, long_run: Any) -> None:
    store, record = long_run
    shares = live.page.locator(".rg-worker[data-rank='1'] .rg-shares")
    expect(shares).to_contain_text("pid")
    pid = int(re.search(r"pid (\d+)", shares.inner_text()).group(1))  # type: ignore[union-attr]
    os.kill(pid, signal.SIGKILL)
    expect(live.page.locator(".rg-events")).to_contain_text(
        re.compile(r"worker 1", re.IGNORECASE), timeout=20_000
    )
    expect(shares).not_to_contain_text(f"pid {pid} ", timeout=20_000)
    wait_for_ticks(live, 1)
    assert store.get(record.run_id).state is RunState.RUNNING


def test_a_killed_coordinator_is_followed_until_the_run_goes_on(live: Any, long_run: Any) -> None:
    """The supervisor resumes it from a checkpoint; the view takes the curve up from there."""
    store, record = long_run
    pid = store.directory(record.run_id).holder()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: store.directory(record.run_id).holder() not in {None, pid})
    wait_until(lambda: store.get(record.run_id).state is RunState.RUNNING)
    expect(live.page.get_by_role("button", name="Pause")).to_be_visible(timeout=20_000)
    wait_for_ticks(live, 2)
    steps = live.page.evaluate(f"() => document.querySelector('{PLOT}').data[0].x")
    assert steps == sorted(set(steps))  # no step twice, none out of order


def test_a_server_that_comes_again_shows_a_curve_without_a_gap(
    live: Any, long_run: Any, page_server: Any
) -> None:
    store, record = long_run
    holder = store.directory(record.run_id).holder()
    page_server.stop()
    expect(live.page.get_by_text("does not answer")).to_be_visible()
    before = step_of(live)
    page_server.start()
    expect(live.page.get_by_text("does not answer")).to_be_hidden()
    wait_for_ticks(live, 2)
    assert step_of(live) > before
    assert store.directory(record.run_id).holder() == holder  # the same process all along
    # Browser and frame say so themselves while the server is away; nothing else may be wrong.
    away = "ERR_|WebSocket|reaching server endpoint|server is not responding"
    live.errors[:] = [each for each in live.errors if not re.search(away, each)]


def test_cancel_asks_first_and_leaves_no_worker(live: Any, long_run: Any) -> None:
    store, record = long_run
    page = live.page
    coordinator = psutil.Process(store.directory(record.run_id).holder())
    workers = coordinator.children(recursive=True)
    assert workers
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Keep training").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert store.get(record.run_id).state is RunState.RUNNING
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Cancel the run").click()
    expect(state_of(live)).to_contain_text("stopped", timeout=20_000)
    _, alive = psutil.wait_procs(workers, timeout=5)
    assert not alive
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    ended = step_of(live)
    page.wait_for_timeout(3 * TICK)
    assert step_of(live) == ended


def test_the_runs_page_lists_opens_and_deletes(tab: Any, long_run: Any, tmp_path: Path) -> None:
    store, record = long_run
    assert store.get(record.run_id).state.is_terminal
    page = tab.page
    tab.open("/runs")
    table = page.get_by_test_id("stDataFrame").locator("canvas").first
    table.wait_for()
    count = len(store.list())
    at = [each.run_id for each in store.list()].index(record.run_id)
    page.wait_for_timeout(TICK)  # the grid is drawn on a canvas: nothing says when it is ready
    corner = table.bounding_box()
    page.mouse.click(corner["x"] + 120, corner["y"] + 36 + 33 * at + 16)
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete it").click()
    wait_until(lambda: len(store.list()) == count - 1)
