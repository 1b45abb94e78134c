"""A server of the page with a home of its own, and a real browser that looks at it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
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
from regatta.utils import HOME_VARIABLE

ROOT = Path(__file__).resolve().parents[2]
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
UPLOAD_LIMIT_MB = 20
PATIENCE = 30_000  # milliseconds that a click or a page may take where the cores are busy
READY = "[data-testid=stApp][data-test-script-state=notRunning]"


def chromium() -> str:
    """The browser: Debian's without its windows, which takes half the processor time, or with them,
    or what REGATTA_CHROMIUM names. Skips where there is none."""
    installed = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    found = os.environ.get("REGATTA_CHROMIUM") or installed
    if not found or not Path(found).exists():
        pytest.skip("no chromium: install it (Debian: apt-get install chromium), "
                    "or name one in REGATTA_CHROMIUM")  # fmt: skip
    return found


@dataclass
class PageServer:
    """``python main.py`` on a port of its own."""

    home: Path
    port: int = 0
    host: str = "127.0.0.1"
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    seconds_to_ready: float = 0.0
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.home.parent / "server.log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        environment = {
            **os.environ,
            HOME_VARIABLE: str(self.home),
            UPLOAD_LIMIT_VARIABLE: str(UPLOAD_LIMIT_MB),
            **self.environment,
        }
        begun = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", str(ROOT / "main.py"), "--port", str(self.port),
                 "--host", self.host],
                env=environment,
                stdout=log,
                stderr=log,
                cwd=self.home,
            )  # fmt: skip
        while not self.answers():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() - begun < 25, "the server did not become ready"
            time.sleep(0.05)
        self.seconds_to_ready = time.monotonic() - begun

    def answers(self) -> bool:
        with contextlib.suppress(OSError):  # also a late answer, where the machine is busy
            return bool(urllib.request.urlopen(self.url, timeout=2).status == 200)
        return False

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(15)
            self.process = None


@pytest.fixture(scope="session")
def page_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    """One server for all browser tests; everything it left running is ended with it."""
    chromium()
    home = tmp_path_factory.mktemp("browser") / "home"
    home.mkdir(mode=0o700)
    data = home.parent / "data"  # what the picker of the page "Data" may look into
    data.mkdir()
    server = PageServer(home, environment={DATA_ROOT_VARIABLE: str(data)})
    server.start()
    yield server
    server.stop()
    end_processes_of(home)


def end_processes_of(home: Path) -> None:
    """End the supervisor and the runs of a home that is given up."""
    left = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(HOME_VARIABLE) == str(home):
                process.terminate()
                left.append(process)
    _, alive = psutil.wait_procs(left, timeout=10)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()


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
