"""Waits for a job, and lists that follow what they show: they ask routes and disturb nobody."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from regatta.configuration import TrainingConfig
from regatta.dashboard import jobs
from regatta.runs.directory import take_lock
from regatta.runs.states import RunState
from regatta.runs.store import RunStore
from regatta.tests.browser.driving import wait_until
from regatta.utils import write_json

playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'regatta[test]'")
expect = playwright.expect

pytestmark = pytest.mark.browser

KEY = "d" * 16
TIMES = 5


@pytest.fixture
def path(page_server: Any) -> Path:
    """A small file among the data of the page."""
    folder = page_server.home / "uploads" / KEY
    folder.mkdir(parents=True, exist_ok=True)
    path = Path(folder, "waited.csv")
    path.write_text("a,b,y\n" + "".join(f"{n},{n * n % 7},{3 * n}\n" for n in range(60)))
    return path


@contextmanager
def under_way(home: Path, kind: str, path: Path, **arguments: Any) -> Iterator[Path]:
    """The folder of a job about a file, as if a process were at work on it."""
    status = path.stat()
    file = {"path": str(path), "size": status.st_size, "mtime_ns": status.st_mtime_ns}
    folder = home / "jobs" / jobs.job_of(kind, **file, **arguments).job_id
    folder.mkdir(parents=True)
    write_json(folder / "spec.json", {"kind": kind, "arguments": {**file, **arguments}})
    tell(folder, "running", 0.25, "a quarter of it")
    lock = take_lock(folder / "lock", patience=0)
    assert lock is not None
    try:
        yield folder
    finally:
        os.close(lock)


def tell(folder: Path, state: str, fraction: float, message: str) -> None:
    status = jobs.Status(state, fraction=fraction, message=message)
    write_json(folder / "status.json", vars(status))


def test_a_wait_tells_how_far_the_work_is_and_hears_a_click(tab: Any, path: Path) -> None:
    page = tab.page
    with under_way(tab.server.home, "inspect", path) as folder:
        tab.open(f"/data?file={KEY}")
        bar = page.get_by_role("progressbar")
        expect(bar).to_have_accessible_name("a quarter of it")
        page.evaluate("document.querySelector('.rg-job').dataset.before = 'yes'")
        tell(folder, "running", 0.5, "half of it")
        expect(page.get_by_text("half of it")).to_be_visible()
        expect(bar).to_have_attribute("aria-valuenow", "50")
        page.get_by_role("button", name="Cancel").click()
        expect(page.get_by_text("Cancelling …")).to_be_visible()
        wait_until(lambda: (folder / jobs.CANCEL_NAME).exists())
        assert page.evaluate("document.querySelector('.rg-job').dataset.before") == "yes"
        tell(folder, "cancelled", 0.5, "It was cancelled.")
        page.get_by_role("button", name="Read it again").click()
    expect(page.get_by_text("60 rows, 3 columns")).to_be_visible(timeout=60_000)


def test_no_wait_takes_the_place_of_the_page_that_was_asked_for(tab: Any, path: Path) -> None:
    """A report of a component that comes together with a click can: the new page stayed blank."""
    page = tab.page
    ended = lambda route: route.fulfill(json={"state": "done"})  # noqa: E731
    with under_way(tab.server.home, "target", path, target="y"):
        for _ in range(TIMES):
            tab.open(f"/new?file={KEY}&target=y")
            expect(page.get_by_text("a quarter of it")).to_be_visible()
            page.route("**/api/jobs/target-*", ended)  # as if it ended now, again and again
            page.get_by_role("link", name="Data").click()
            expect(page.get_by_text("Drop a CSV here")).to_be_visible()
            page.unroute("**/api/jobs/target-*", ended)


def test_no_wait_takes_the_place_of_a_click_that_is_on_its_way(tab: Any, path: Path) -> None:
    """Until the server answers, nothing on the page tells that something was clicked."""
    page = tab.page
    held: list[tuple[Any, Any]] | None = None  # what is under way, both ways, while it is

    def pass_on(to: Any, message: Any) -> None:
        if held is None:
            to.send(message)
        else:
            held.append((to, message))

    def between(socket: Any) -> None:
        server = socket.connect_to_server()
        socket.on_message(lambda message: pass_on(server, message))
        server.on_message(lambda message: pass_on(socket, message))

    page.route_web_socket(re.compile("_stcore/stream"), between)
    ended = lambda route: route.fulfill(json={"state": "done"})  # noqa: E731
    with under_way(tab.server.home, "target", path, target="y"):
        for _ in range(2):
            tab.open(f"/new?file={KEY}&target=y")
            expect(page.get_by_text("a quarter of it")).to_be_visible()
            button = page.get_by_role("button", name="Start training")
            held = []
            button.click()
            page.route("**/api/jobs/target-*", ended)  # it ends while the click is on its way
            page.wait_for_timeout(1_000)
            on_their_way, held = held, None
            for to, message in on_their_way:
                to.send(message)
            expect(button).to_be_hidden()  # the page of the run is shown
            page.unroute("**/api/jobs/target-*", ended)


def test_the_list_of_runs_follows_them_and_is_left_alone_otherwise(tab: Any) -> None:
    store, page = RunStore(tab.server.home), tab.page
    config = TrainingConfig(path="/data/lost.csv", target="y", name="Comes and goes")
    asked: list[str] = []
    page.on("request", lambda got: asked.append(got.url) if "/api/changes" in got.url else None)
    page.on("websocket", lambda socket: socket.on("framesent", lambda _: asked.append("script")))
    store.create(TrainingConfig(path="/data/lost.csv", target="y", name="Other"), RunState.FAILED)
    store.create(config, RunState.FAILED)
    tab.open("/runs?filter=comes+and+goes")
    expect(page.get_by_text(re.compile(r"1 of \d+ runs"))).to_be_visible()
    store.create(config, RunState.FAILED)
    expect(page.get_by_text(re.compile(r"2 of \d+ runs"))).to_be_visible()
    asked.clear()
    page.wait_for_timeout(7_000)
    assert len(asked) >= 2
    assert asked.count("script") <= 1  # ages are told in minutes: one may have passed
