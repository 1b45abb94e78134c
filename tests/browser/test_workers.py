"""The page "Workers": live, while a worker is killed, and of a run that has ended."""

from __future__ import annotations

import itertools
import os
import re
import signal
from typing import Any

import pytest

from regatta.configuration import TrainingConfig
from regatta.runs.metrics_store import MetricsReader, MetricsWriter
from regatta.runs.states import RunState
from regatta.runs.store import RunRecord, RunStore
from regatta.tests.browser.driving import sideways

playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'regatta[test]'")
expect = playwright.expect

pytestmark = pytest.mark.browser

ROWS = "[data-testid=plot-rows]"
TIMELINE = "[data-testid=plot-timeline]"


@pytest.fixture
def crew(tab: Any, long_run: tuple[RunStore, RunRecord]) -> Any:
    """A tab on the workers of the long run."""
    _, record = long_run
    tab.open(f"/workers?run={record.run_id}")
    tab.page.locator(f"{ROWS} .scatterlayer .trace").first.wait_for(state="attached")
    return tab


@pytest.fixture(scope="module")
def finished(page_server: Any) -> RunRecord:
    """An asynchronous run of a minute, from figures that are made up."""
    store = RunStore(page_server.home)
    config = TrainingConfig(path="rows.csv", target="y", name="Made up", workers=2,
                            consistency="async")  # fmt: skip
    record = store.create(config, RunState.STARTING)
    store.update_state(record.run_id, RunState.RUNNING, workers=2, solver="sgd")
    writer = MetricsWriter(store.directory(record.run_id).metrics)
    for second, rank in itertools.product(range(61), range(2)):
        writer.add(
            "workers", seconds=float(second), rank=rank, pid=10 + rank, incarnation=rank,
            state="compute", rows=10_000 * second, compute=0.9 * second, wait=0.08 * second,
            communicate=0.02 * second, cpu_percent=95.0, memory_bytes=20 * 10**6, shards=8,
        )  # fmt: skip
    for second in range(61):
        writer.add("points", step=second, seconds=float(second), rows=20_000 * second, loss=1.0,
                   bytes_published=1000 * second, bytes_gathered=2000 * second)  # fmt: skip
        writer.add("machine", seconds=float(second), cpu_percent=90.0, net_sent=10 * second,
                   net_received=20 * second)  # fmt: skip
    for updates, gradients in ((0, 60), (1, 30), (2, 6), (3, 4)):
        writer.add("staleness", staleness=updates, gradients=gradients)
    writer.add("events", seconds=30.0, step=30, kind="worker_died", rank=1,
               message="Worker 1 <b>died</b>.")  # fmt: skip
    for name, value in (("workers", 1.0), ("rows_per_second", 12_000.0),
                        ("rows_per_cpu_second", 13_000.0)):  # fmt: skip
        writer.fact(f"reference_{name}", value)
    writer.close()
    return store.update_state(record.run_id, RunState.FINISHED)


def label(page: Any, plot: str) -> str:
    return str(page.locator(plot).get_attribute("aria-label"))


def wait_for_looks(page: Any, count: int) -> None:
    """Until so many more looks at the workers are drawn, into the same node."""
    seen = page.evaluate(f"() => document.querySelector('{ROWS}').data[0].x.at(-1)")
    page.wait_for_function(
        f"([seen, count]) => document.querySelector('{ROWS}').data[0].x"
        ".filter((second) => second > seen).length >= count",
        arg=[seen, count],
    )


def test_it_goes_on_and_keeps_what_was_done_to_it(crew: Any) -> None:
    """Node, hidden legend entry and zoom outlive the ticks; what is read aloud follows them."""
    page = crew.page
    expect(page.get_by_test_id("limits").locator(".rg-sentence")).to_contain_text(
        re.compile("^(Synchronisation|The coordinator|Nothing|Other programs|Communication|"
                   "Too many|One slow)"))  # fmt: skip
    expect(page.get_by_test_id("limits")).to_contain_text(re.compile(r"compute \d+ %"))
    wait_for_looks(page, 1)
    page.evaluate(f"() => {{ document.querySelector('{ROWS}').mark = 'mine'; }}")
    page.locator(f"{ROWS} .legendtoggle").nth(1).click()
    hidden = f"() => document.querySelector('{ROWS}')._fullData[1].visible"
    page.wait_for_function(f"{hidden} === 'legendonly'")
    before = label(page, TIMELINE)
    assert "worker 0: compute" in before and "communicate" in before
    wait_for_looks(page, 3)
    assert page.evaluate(hidden) == "legendonly"
    assert page.evaluate(f"() => document.querySelector('{ROWS}').mark") == "mine"
    patterns = page.evaluate(
        f"() => document.querySelector('{TIMELINE}').data.map((part) => part.marker.pattern?.shape)"
    )
    assert len(set(patterns)) == 3  # colour is not all that tells the parts apart


def test_a_killed_worker_is_counted(crew: Any, long_run: Any) -> None:
    store, record = long_run
    row = crew.page.locator("[data-testid=crew-table] tr[data-rank='1']")
    died, started = row.locator("td").nth(7), row.locator("td").nth(6)
    reader = MetricsReader(store.directory(record.run_id).metrics)
    expect(died).to_have_text("never")
    os.kill(reader.latest_workers()[1]["pid"], signal.SIGKILL)
    expect(died).to_have_text("once", timeout=20_000)
    expect(started).to_have_text("2 times", timeout=20_000)
    expect(crew.page.get_by_test_id("crew-events")).to_contain_text("Worker 1 (pid")


def test_a_hidden_tab_asks_for_nothing(crew: Any) -> None:
    page = crew.page
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate(
        "() => { Object.defineProperty(document, 'hidden', { value: true, configurable: true });"
        "document.dispatchEvent(new Event('visibilitychange')); }"
    )
    page.wait_for_timeout(1500)  # one may be on its way
    asked.clear()
    page.wait_for_timeout(2500)
    assert not [url for url in asked if "/workers?" in url]
    page.evaluate(
        "() => { Object.defineProperty(document, 'hidden', { value: false, configurable: true });"
        "document.dispatchEvent(new Event('visibilitychange')); }"
    )
    wait_for_looks(page, 1)


def test_a_run_that_has_ended_is_whole_and_asked_for_no_more(tab: Any, finished: Any) -> None:
    asked: list[str] = []
    tab.page.on("request", lambda request: asked.append(request.url))
    tab.open(f"/workers?run={finished.run_id}")
    page = tab.page
    page.locator("[data-testid=plot-staleness] .bars").first.wait_for(state="attached")
    assert "95 % have 2 or fewer" in label(page, "[data-testid=plot-staleness]")
    assert "83 % of the ideal" in label(page, "[data-testid=plot-scaling]")
    assert label(page, "[data-testid=plot-bytes]") == (
        "published 1.00 kB a second, gathered 2.00 kB a second now."
    )
    assert "the last 30 s. worker 0: compute 90 %, wait 8 %" in label(page, TIMELINE)
    expect(page.get_by_test_id("limits")).to_contain_text("busy with gradients (90 %")
    expect(page.get_by_test_id("crew-events")).to_contain_text("<b>died</b>")
    expect(page.locator("tr[data-rank='1']")).to_contain_text("2 times")
    asked.clear()
    page.wait_for_timeout(3000)
    assert len([url for url in asked if "/workers?" in url]) <= 1


def test_a_telephone_shows_it_all(small_tab: Any, finished: Any) -> None:
    small_tab.open(f"/workers?run={finished.run_id}")
    small_tab.page.locator(f"{TIMELINE} .bars").first.wait_for(state="attached")
    assert not sideways(small_tab)


def test_the_log_of_a_worker_is_a_click_away(tab: Any, finished: Any) -> None:
    tab.open(f"/workers?run={finished.run_id}")
    tab.page.get_by_role("link", name="log of worker 1").click()
    expect(tab.page.get_by_role("heading", name="Logs")).to_be_visible()
    expect(tab.page.get_by_label("Process")).to_have_value("worker1")


def test_a_run_that_waits_says_so(tab: Any, page_server: Any) -> None:
    store = RunStore(page_server.home)
    record = store.create(TrainingConfig(path="rows.csv", target="y", name="Waits"))
    tab.open(f"/workers?run={record.run_id}")
    expect(tab.page.get_by_test_id("limits")).to_contain_text("waits in the queue")
    expect(tab.page.get_by_text("Workers start when it is this run's turn.")).to_be_visible()
    store.delete(record.run_id)
