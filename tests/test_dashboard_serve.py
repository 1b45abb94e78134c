"""The ways to serve the page, as real processes: where each listens, and what it refuses."""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from regatta.dashboard.settings import PROXY_VARIABLE

Start = Callable[..., "subprocess.Popen[str]"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture
def start(regatta_home: Path, tmp_path: Path) -> Iterator[Start]:
    """Start a Python process in a folder whose `utils.py` and `models.py` must not matter."""
    for name in ("utils", "models", "metrics", "worker"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a stray file was imported')\n")
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: object, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(20)


def wait_for(port: int, process: subprocess.Popen[str]) -> float:
    """Seconds until the page answers."""
    begun = time.monotonic()
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2).close()
            return time.monotonic() - begun
        except (urllib.error.URLError, ConnectionError):
            assert process.poll() is None, process.stdout and process.stdout.read()
            assert time.monotonic() - begun < 25
            time.sleep(0.05)


def addresses(process: subprocess.Popen[str]) -> set[str]:
    connections = psutil.Process(process.pid).net_connections("inet")
    return {each.laddr.ip for each in connections if each.status == psutil.CONN_LISTEN}


@pytest.mark.parametrize("way", ["main.py", "streamlit", "regatta serve"])
def test_each_way_serves_page_and_routes_on_this_machine_alone(
    start: Start, root: Path, way: str
) -> None:
    port = free_port()
    arguments: dict[str, list[object]] = {
        "main.py": [root / "main.py", "--port", port],
        "streamlit": ["-m", "streamlit", "run", root / "main.py", "--server.port", port],
        "regatta serve": ["-P", "-m", "regatta", "serve", "--no-browser", "--port", port],
    }
    if way == "streamlit":
        arguments[way].insert(0, "-P")
    process = start(*arguments[way])
    print(f"{way}: ready after {wait_for(port, process):.1f} s")
    for path in ("/api/health", "/metrics"):
        assert urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5).status == 200
    assert addresses(process) == {"127.0.0.1"}
    check_what_stands_around_every_route(port)
    process.send_signal(signal.SIGTERM)
    process.wait(15)


def check_what_stands_around_every_route(port: int) -> None:
    """Headers on answers of Streamlit's and ours, foreign names refused, one route closed."""
    for path in ("/", "/data", "/_stcore/health", "/api/health", "/assets/none"):
        headers = ask(port, path)[1]
        assert headers["X-Content-Type-Options"] == "nosniff", path
        assert headers["X-Frame-Options"] == "DENY", path
        assert headers["Referrer-Policy"] == "same-origin", path
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin", path
        policy = dict(each.split(" ", 1) for each in headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["object-src"] == "'none'"
        assert "unsafe" not in policy["script-src"]
        assert ask(port, path, Host="evil.example")[0] == 403, path
    body = b"x" * 10
    status, _, answer = ask(port, "/_stcore/upload_file/session/file", "PUT", body)
    assert status == 403 and "page “Data”" in answer.decode()
    for origin in ("http://evil.example", "http://127.0.0.1:1", "null"):
        assert connect(port, origin) == 403, origin
    assert connect(port, f"http://127.0.0.1:{port}", Host="evil.example") == 403
    assert connect(port, f"http://127.0.0.1:{port}") == 101
    assert b"does not serve the agent API" in ask(port, "/_stcore/agent/interact", "POST", b"{}")[2]


def ask(
    port: int, path: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def connect(port: int, origin: str, **headers: str) -> int:
    """What the server answers to a page of ``origin`` that wants a web socket."""
    wanted = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
        "Sec-WebSocket-Version": "13",
    }
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as asking:
        asking.request("GET", "/_stcore/stream", headers={**wanted, "Origin": origin, **headers})
        return asking.getresponse().status


def test_streamlit_cannot_pass_the_refusal_by(start: Start, root: Path) -> None:
    process = start(
        "-P", "-m", "streamlit", "run", root / "main.py",
        "--server.address", "0.0.0.0", "--server.port", free_port(),
        **{PROXY_VARIABLE: ""},
    )  # fmt: skip
    output, _ = process.communicate(timeout=25)
    assert process.returncode != 0
    assert "every address" in output and "--behind-proxy" in output
    assert "Traceback" not in output


def test_a_taken_port_ends_with_a_sentence(start: Start, root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start(root / "main.py", "--port", port)
        output, _ = process.communicate(timeout=25)
    assert process.returncode == 1
    assert re.search(rf"Port {port} .*--port", output) and "Traceback" not in output
