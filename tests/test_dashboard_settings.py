"""Where the page listens, what it is served with, and what it refuses."""

from __future__ import annotations

import ast
import socket
import tomllib
from pathlib import Path

import pytest

from regatta.dashboard import settings
from regatta.utils import RegattaError, UserError


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1"])
def test_this_machine_alone_is_allowed(host: str) -> None:
    settings.check_address(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "", None])
def test_another_address_needs_a_proxy(host: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(settings.PROXY_VARIABLE, raising=False)
    with pytest.raises(UserError, match="--behind-proxy"):
        settings.check_address(host)
    monkeypatch.setenv(settings.PROXY_VARIABLE, "1")
    settings.check_address(host)


def test_a_taken_port_is_named_with_the_option() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RegattaError, match=rf"{port}.*--port") as caught:
            settings.check_port("127.0.0.1", port)
    assert caught.value.exit_code == 1
    settings.check_port("127.0.0.1", port)


def test_a_port_out_of_range_is_a_mistake_of_the_user() -> None:
    with pytest.raises(UserError, match="65535"):
        settings.check_port("127.0.0.1", 70_000)


def test_the_options_are_those_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(settings.PROXY_VARIABLE, raising=False)
    options = settings.server_options(host="127.0.0.1", port=5123, open_browser=False)
    assert options["server.port"] == 5123 and options["server.headless"]
    assert options["client.showErrorDetails"] == "none"
    assert options["browser.gatherUsageStats"] is False
    assert options["server.fileWatcherType"] == "none"
    assert options["server.enableXsrfProtection"] and options["server.enableCORS"]
    assert options["theme.dark.primaryColor"] == "#4C82FF"
    assert options["server.allowedHosts"]


def test_every_option_is_one_that_streamlit_knows() -> None:
    from streamlit import config

    options = settings.server_options(host="127.0.0.1", port=5000, open_browser=True)
    assert set(options) <= set(config._config_options_template)


def test_the_file_listens_on_this_machine_alone() -> None:
    file = tomllib.loads(settings.CONFIG_FILE.read_text(encoding="utf-8"))
    assert settings.is_loopback(file["server"]["address"])


def test_the_replit_file_says_that_a_proxy_is_there(root: Path) -> None:
    command = tomllib.loads((root / ".replit").read_text(encoding="utf-8"))["run"][-1]
    assert "--behind-proxy" in command and "--port 5000" in command


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], (5000, "127.0.0.1", False, False, [])),
        (["--port", "81", "--open"], (81, "127.0.0.1", True, False, [])),
        (["--host", "0.0.0.0", "--behind-proxy"], (5000, "0.0.0.0", False, True, [])),
        (["--data-root", "a", "--data-root", "b"], (5000, "127.0.0.1", False, False, ["a", "b"])),
    ],
)
def test_the_command_line(arguments: list[str], expected: tuple[object, ...]) -> None:
    calls: list[tuple[object, ...]] = []
    assert settings.run_command_line(lambda *given: calls.append(given), arguments) == 0
    assert calls == [expected]


def test_an_error_on_the_command_line_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def serve(*_: object) -> None:
        raise RegattaError("Port 80 is taken.", "Choose another one with --port.")

    assert settings.run_command_line(serve, []) == 1
    assert capsys.readouterr().err == (
        "regatta: Port 80 is taken. Choose another one with --port.\n"
    )


def test_streamlit_is_imported_by_the_page_alone(root: Path) -> None:
    importers = set()
    for path in root.rglob("*.py"):
        place = path.relative_to(root)
        if place.parts[0] in {".venv", "build", "dist", "tests"}:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [each.name for each in node.names] if isinstance(node, ast.Import) else []
            if any(name.split(".")[0] == "streamlit" for name in names):
                importers.add(place.parts[0])
    assert importers == {"main.py", "dashboard"}


def test_nothing_runs_again_by_the_clock(root: Path) -> None:
    """A fragment that ticks while a click changes the page can leave the new one blank: what is
    waited for is asked of a route (`components.wait_for`, `components.watch`)."""
    for path in (root / "dashboard").rglob("*.py"):
        assert "run_every" not in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_nobody_is_asked_for_the_address_of_this_machine(host: str) -> None:
    options = settings.server_options(host=host, port=5000, open_browser=False)
    assert options["browser.serverAddress"] == "localhost"
    alone = settings.server_options(host="127.0.0.1", port=5000, open_browser=False)
    assert "browser.serverAddress" not in alone
