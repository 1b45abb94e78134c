"""What live pages cost the server and the training: memory over many ticks and tabs, and speed."""

from __future__ import annotations

import json
import statistics
import time
import urllib.request
from typing import Any

import psutil
import pytest

from regatta.runs.store import RunRecord, RunStore
from regatta.tests.browser.driving import PLOT, step_of

playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'regatta[test]'")

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]

TICKS = 500
TABS = 20
WARM_UP = 15  # tabs after which the server has what it keeps once for all: measured
FLAT = 8e6  # bytes: an allocator keeps some room; a leak of a megabyte a tab or 20 kB a tick shows
MOST_SLOWING = 0.05
ROUNDS = 8
SECONDS = 4.0
PERIOD = 0.7  # between two questions of a tab


def memory(page_server: Any) -> int:
    """Resident bytes of the page's server."""
    return int(psutil.Process(page_server.process.pid).memory_info().rss)


def ask(page_server: Any, run_id: str, since: str) -> str:
    """One question of a live view. Returns the cursor for the next."""
    url = f"{page_server.url}/api/runs/{run_id}/live?since={since}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(json.loads(answer.read())["cursor"])


def test_memory_is_flat_over_many_ticks(
    live: Any, page_server: Any, long_run: tuple[RunStore, RunRecord]
) -> None:
    """Ticks as a page asks for them, but sooner after each other; a real one looks on meanwhile."""
    _, record = long_run
    before, since = 0, ""
    for tick in range(TICKS + 100):
        if tick == 100:  # what is kept once for all is there by then
            before = memory(page_server)
        since = ask(page_server, record.run_id, since)
        time.sleep(0.02)
    grown = memory(page_server) - before
    print(f"server: {before / 1e6:.0f} MB, {grown / 1e6:+.1f} MB after {TICKS} ticks")
    assert grown < FLAT
    assert step_of(live) > 0


def test_tabs_that_come_and_go_leave_nothing(
    tab: Any, page_server: Any, long_run: tuple[RunStore, RunRecord]
) -> None:
    _, record = long_run

    def visit() -> None:
        other = type(tab)(tab.context, page_server)
        other.open(f"/?run={record.run_id}")
        other.page.locator(f"{PLOT} .scatterlayer .trace").first.wait_for(state="attached")
        other.close()

    for _ in range(WARM_UP):
        visit()
    before = settled(page_server)
    for _ in range(TABS):
        visit()
    grown = settled(page_server) - before
    print(f"server: {before / 1e6:.0f} MB, {grown / 1e6:+.1f} MB after {TABS} tabs")
    assert grown < FLAT


def settled(page_server: Any) -> int:
    """The least memory within a time in which sessions without a tab are given up (a minute)."""
    least = memory(page_server)
    for _ in range(75):
        time.sleep(1)
        least = min(least, memory(page_server))
    return least


def test_three_live_tabs_hardly_slow_the_training(
    page_server: Any, long_run: tuple[RunStore, RunRecord]
) -> None:
    """What three tabs ask of the server is processor time that the training does not get.

    Asked as often as three tabs ask, without a browser, whose own work would be measured otherwise.
    The steps a second with and without them are printed; on a machine with other work they scatter
    by more than is looked for, so the share of the cores is what must hold.
    """
    store, record = long_run
    server = psutil.Process(page_server.process.pid)

    def steps_a_second(tabs: int) -> tuple[float, float]:
        """And the share of all cores that the server took."""
        begun, first, used = time.monotonic(), steps(store, record), processor_time(server)
        cursors = [""] * tabs
        while time.monotonic() - begun < SECONDS:
            cursors = [ask(page_server, record.run_id, since) for since in cursors]
            time.sleep(PERIOD)
        seconds = time.monotonic() - begun
        share = (processor_time(server) - used) / seconds / (psutil.cpu_count() or 1)
        return (steps(store, record) - first) / seconds, share

    alone: list[float] = []
    watched: list[float] = []
    shares: list[float] = []
    for turn in range(ROUNDS):
        for tabs in (0, 3) if turn % 2 else (3, 0):
            speed, share = steps_a_second(tabs)
            (watched if tabs else alone).append(speed)
            shares += [share] if tabs else []
    change = statistics.median(watched) / statistics.median(alone) - 1
    share = statistics.median(shares)
    print(f"{statistics.median(alone):.0f} steps/s, with three tabs {change:+.1%}; "
          f"they take {share:.1%} of the cores")  # fmt: skip
    assert share < MOST_SLOWING


def steps(store: RunStore, record: RunRecord) -> int:
    return store.get(record.run_id).step or 0


def processor_time(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
