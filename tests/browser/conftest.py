"""The page in a real browser, for the tests."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import pytest

from regatta.configuration import TrainingConfig
from regatta.dashboard.settings import DATA_ROOT_VARIABLE, UPLOAD_LIMIT_VARIABLE
from regatta.runs import service
from regatta.runs.states import RunState
from regatta.runs.store import RunRecord, RunStore
from regatta.tests.browser.driving import PLOT, wait_until
from regatta.tests.browser.serving import (
    CHROMIUM_VARIABLE,
    FLAGS,
    READY,
    PageServer,
    end_processes_of,
    find_browser,
)
from regatta.utils import HOME_VARIABLE

UPLOAD_LIMIT_MB = 20
PATIENCE = 30_000  # milliseconds that a click or a page may take where the cores are busy


def chromium() -> str:
    """The browser; skips where there is none."""
    found = find_browser()
    if not found:
        pytest.skip("no chromium: install it (Debian: apt-get install chromium), "
                    f"or name one in {CHROMIUM_VARIABLE}")  # fmt: skip
    return found


@pytest.fixture(scope="session")
def page_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    """One server for all browser tests; everything it left running is ended with it."""
    chromium()
    home = tmp_path_factory.mktemp("browser") / "home"
    home.mkdir(mode=0o700)
    data = home.parent / "data"  # what the picker of the page "Data" may look into
    data.mkdir()
    limits = {DATA_ROOT_VARIABLE: str(data), UPLOAD_LIMIT_VARIABLE: str(UPLOAD_LIMIT_MB)}
    server = PageServer(home, environment=limits)
    server.start()
    yield server
    server.stop()
    end_processes_of(home)


@pytest.fixture(scope="session")
def browser_instance() -> Iterator[object]:
    """Chromium, started once."""
    executable = chromium()
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is missing: pip install 'regatta[test]'"
    )
    playwright.expect.set_options(timeout=PATIENCE)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


def give_way(server: PageServer) -> None:
    """Let the supervisor of a server's home, and all that it starts, take the processor when page
    and browser leave it: a run keeps every core busy."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            of_home = process.environ().get(HOME_VARIABLE) == str(server.home)
            if of_home and process.pid not in (os.getpid(), server.process and server.process.pid):
                process.nice(19)


def new_profile(browser: Any, **options: object) -> Any:
    """Cookies, storage and cache of a browser's own."""
    settings = {"viewport": {"width": 1366, "height": 768}, "accept_downloads": True}
    return browser.new_context(**{**settings, **options})


class Tab:
    """A browser tab on the page, which notes what the console complains about."""

    def __init__(self, context: Any, server: PageServer) -> None:
        self.context = context
        self.page = context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.server = server
        self.errors: list[str] = []
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _note(self, message: object) -> None:
        text, kind = message.text, message.type  # type: ignore[attr-defined]
        place = (message.location or {}).get("url", "")  # type: ignore[attr-defined]
        if kind == "error":
            self.errors.append(f"{text} {place}")

    def open(self, path: str = "/") -> None:
        """Go to a page of ours and wait until its script has run."""
        self.page.goto(self.server.url + path)
        self.settle()

    def settle(self) -> None:
        self.page.wait_for_selector(READY)

    def close(self) -> None:
        """Close it; its profile keeps nothing but the cache."""
        if self.page.url.startswith("http"):
            self.page.evaluate("localStorage.clear()")
        self.page.close()
        self.context.clear_cookies()


@pytest.fixture(scope="session")
def profile(browser_instance: object) -> Iterator[object]:
    """One for all tabs, one after another: the page's scripts are loaded and compiled once."""
    opened = new_profile(browser_instance)
    yield opened
    opened.close()


@pytest.fixture
def tab(profile: object, page_server: PageServer) -> Iterator[Tab]:
    """A fresh tab. Fails the test if the console has shown an error."""
    opened = Tab(profile, page_server)
    yield opened
    opened.close()
    assert not opened.errors, opened.errors


@pytest.fixture
def second_tab(browser_instance: object, page_server: PageServer) -> Iterator[Tab]:
    """Another tab, with cookies of its own."""
    context = new_profile(browser_instance)
    opened = Tab(context, page_server)
    yield opened
    context.close()
    assert not opened.errors, opened.errors


@pytest.fixture
def small_tab(browser_instance: object, page_server: PageServer) -> Iterator[Tab]:
    """A fresh tab as wide as a telephone."""
    context = new_profile(browser_instance, viewport={"width": 390, "height": 844})
    opened = Tab(context, page_server)
    yield opened
    context.close()
    assert not opened.errors, opened.errors


@pytest.fixture(scope="module")
def long_run(
    page_server: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunStore, RunRecord]]:
    """A run that goes on until it is stopped. It sleeps while no test needs it."""
    path = tmp_path_factory.mktemp("rows") / "long.csv"
    generator = np.random.default_rng(0)
    X = generator.normal(size=(40_000, 8))
    y = X @ np.arange(1, 9) + generator.normal(size=len(X))
    names = ",".join([*(f"x{number}" for number in range(1, 9)), "y"])
    np.savetxt(path, np.column_stack([X, y]), delimiter=",", fmt="%.3f", header=names, comments="")
    store = RunStore(page_server.home)
    config = TrainingConfig(
        path=str(path), target="y", name="Long one", epochs=100_000, tol=0.0, batch_size=64,
        workers=2, learning_rate=1e-4, schedule="constant",
    )  # fmt: skip
    record = service.submit(config, store=store)
    wait_until(lambda: store.get(record.run_id).state is RunState.RUNNING)
    give_way(page_server)
    yield store, record
    if store.directory(record.run_id).exists() and not store.get(record.run_id).state.is_terminal:
        service.command(record.run_id, "stop", store=store)
        wait_until(lambda: store.get(record.run_id).state.is_terminal)


@pytest.fixture
def live(tab: Any, long_run: tuple[RunStore, RunRecord]) -> Any:
    """A tab on the long run, which is running."""
    store, record = long_run
    if store.get(record.run_id).state is not RunState.RUNNING:
        service.resume(record.run_id, store=store)
        wait_until(lambda: store.get(record.run_id).state is RunState.RUNNING)
    tab.open(f"/?run={record.run_id}")
    tab.page.locator(f"{PLOT} .scatterlayer .trace").first.wait_for(state="attached")
    return tab
