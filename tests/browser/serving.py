"""A server of the page with a home of its own, and a browser: for tests, and for pictures."""

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
from dataclasses import dataclass, field
from pathlib import Path

import psutil

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
CHROMIUM_VARIABLE = "REGATTA_CHROMIUM"
# A script of the page has run, and none is running.
READY = "[data-testid=stApp][data-test-script-state=notRunning]"


def find_browser() -> str | None:
    """The browser: Debian's without its windows, which takes half the processor time, or with them,
    or what REGATTA_CHROMIUM names."""
    installed = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    found = os.environ.get(CHROMIUM_VARIABLE) or installed
    return found if found and Path(found).exists() else None


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
