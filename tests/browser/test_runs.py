"""The page "Runs": the order of the queue, the filter and its address."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from regatta.configuration import TrainingConfig
from regatta.runs import service
from regatta.runs.states import RunState
from regatta.runs.store import RunStore

playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'regatta[test]'")
expect = playwright.expect

pytestmark = pytest.mark.browser


@pytest.fixture
def three(page_server: Any, tmp_path: Path) -> Iterator[list[str]]:
    """The ids of a run that goes on until it is stopped, and of two that wait for it."""
    path = tmp_path / "queue.csv"
    path.write_text("a,b,y\n" + "".join(f"{i},{i * i % 97},{2 * i}\n" for i in range(5000)))
    store = RunStore(page_server.home)
    endless = TrainingConfig(path=str(path), target="y", name="Goes first", solver="sgd", tol=0.0,
                             epochs=10_000_000, workers=0)  # fmt: skip
    short = [TrainingConfig(path=str(path), target="y", name=name, workers=0)
             for name in ("Comes second", "Comes third")]  # fmt: skip
    run_ids = [service.submit(each, store=store).run_id for each in (endless, *short)]
    wait_for(lambda: store.get(run_ids[0]).state is RunState.RUNNING)
    yield run_ids
    for run_id in run_ids:
        if not store.get(run_id).state.is_terminal:
            store.send_command(run_id, "stop")
    wait_for(lambda: all(store.get(each).state.is_terminal for each in run_ids))


def wait_for(condition: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)


def test_three_queued_runs_start_in_the_order_that_a_click_gave_them(
    tab: Any, small_tab: Any, three: list[str]
) -> None:
    page, store = tab.page, RunStore(tab.server.home)
    tab.open("/runs")
    waiting = page.get_by_role("listitem").filter(has_text="Comes")
    expect(waiting).to_have_text([re.compile("second"), re.compile("third")])
    expect(page.get_by_text("2 runs wait; the first starts next.")).to_be_visible()
    page.get_by_role("button", name="First").nth(1).click()
    expect(waiting).to_have_text([re.compile("third"), re.compile("second")])
    page.get_by_role("button", name="Down").nth(0).click()
    expect(waiting).to_have_text([re.compile("second"), re.compile("third")])
    page.get_by_role("button", name="Up").nth(1).click()
    expect(waiting).to_have_text([re.compile("third"), re.compile("second")])
    page.reload()
    tab.settle()
    expect(waiting).to_have_text([re.compile("third"), re.compile("second")])

    small_tab.open("/runs")
    expect(small_tab.page.get_by_text("2 runs wait; the first starts next.")).to_be_visible()
    width = "() => document.querySelector('[data-testid=stMain]').scrollWidth"
    assert small_tab.page.evaluate(width) <= 390

    endless, second, third = three
    store.send_command(endless, "stop")
    wait_for(lambda: all(store.get(each).state is RunState.FINISHED for each in (second, third)))
    started = {run_id: store.get(run_id).started or 0.0 for run_id in three}
    assert started[endless] < started[third] < started[second]
    expect(page.get_by_text("runs wait; the first starts next.")).to_have_count(0)


def test_the_filter_stands_in_the_address(tab: Any, page_server: Any) -> None:
    store = RunStore(page_server.home)
    for name in ("Seek me", "Seek him"):
        record = store.create(TrainingConfig(path="/data/lost.csv", target="y", name=name))
        store.update_state(record.run_id, RunState.FAILED, message="It is a test.")
    page, total = tab.page, len(store.list())
    tab.open("/runs")
    box = page.get_by_placeholder("Name, data, target or model")
    box.press_sequentially("seek ME")  # it is taken while one types
    expect(page.get_by_text(f"1 of {total} runs.")).to_be_visible()
    expect(page).to_have_url(re.compile(r"/runs\?filter=seek(\+|%20)ME$"))
    box.fill("seek")
    expect(page.get_by_text(f"2 of {total} runs.")).to_be_visible()
    page.get_by_role("radio", name="Finished").click()
    expect(page.get_by_text("No run is like that")).to_be_visible()
    expect(page).to_have_url(re.compile(r"show=Finished"))
    page.get_by_role("radio", name="Broken off").click()
    page.reload()
    tab.settle()
    expect(page.get_by_text(f"2 of {total} runs.")).to_be_visible()
    expect(box).to_have_value("seek")
