"""Where the page listens, and the settings it is served with.

``.streamlit/config.toml`` holds the settings, once: Streamlit finds it by itself under
``streamlit run main.py``; `server_options` hands the same values over in every other case.
"""

from __future__ import annotations

import argparse
import errno
import ipaddress
import os
import socket
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from regatta.dashboard import sign_in
from regatta.utils import RegattaError, UserError, limit_blas_threads

DEFAULT_PORT = 5000
DEFAULT_HOST = "127.0.0.1"
EVERY_ADDRESS = ("0.0.0.0", "::")
PROXY_VARIABLE = "REGATTA_BEHIND_PROXY"
UPLOAD_LIMIT_VARIABLE = "REGATTA_MAX_UPLOAD_MB"
DEFAULT_UPLOAD_LIMIT_MB = 8192
DATA_ROOT_VARIABLE = "REGATTA_DATA_ROOT"  # folders, separated as in PATH

CONFIG_FILE = Path(__file__).resolve().parent.parent / ".streamlit" / "config.toml"


def behind_proxy() -> bool:
    """Whether the user said that a proxy signs people in before they reach the page."""
    return os.environ.get(PROXY_VARIABLE, "").lower() in {"1", "true", "yes"}


def declare_proxy() -> None:
    """Remember, for this process, that such a proxy is there."""
    os.environ[PROXY_VARIABLE] = "1"


def declare_data_roots(folders: Sequence[str]) -> None:
    """Remember, for this process, whose files the page may read where they lie."""
    os.environ[DATA_ROOT_VARIABLE] = os.pathsep.join(os.path.abspath(each) for each in folders)


def tell_streamlit() -> None:
    """What only this process knows, for a Streamlit that has read its settings by itself."""
    from streamlit import config

    for name, value in _own_options(config.get_option("server.allowedHosts")).items():
        config.set_option(name, value)


def is_our_name(host: str | None) -> bool:
    """Whether ``host``, as a request names it, is one that the page answers to."""
    return (
        behind_proxy() or is_loopback(host) or (host is not None and host == sign_in.public_name())
    )


def is_loopback(host: str | None) -> bool:
    """Whether only this machine can reach ``host``."""
    if host is None:
        return False
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_address(host: str | None) -> None:
    """Raise a `UserError` unless only this machine can reach the page, or someone guards it: a
    proxy, or the page itself, which asks people to sign in."""
    sign_in.check()
    if is_loopback(host) or behind_proxy() or sign_in.is_on():
        return
    named = "every address" if host in {None, "", "0.0.0.0", "::"} else str(host)
    raise UserError(
        f"The page would listen on {named}: whoever reaches it could read and delete your runs.",
        f"Use --host {DEFAULT_HOST}, let people sign in ({sign_in.ALLOWED_VARIABLE}; see "
        f"docs/security.md), or say --behind-proxy ({PROXY_VARIABLE}=1) where a proxy does that.",
    )


def check_port(host: str, port: int) -> None:
    """Raise a `RegattaError` that names the port and the option unless ``port`` is free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OverflowError:
            raise UserError(f"--port is {port}.", "It must be from 1 to 65535.") from None
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise RegattaError(
                    f"Port {port} is taken by another program.",
                    f"Choose another one: regatta serve --port {port + 1}.",
                ) from None
            raise RegattaError(
                f"Port {port} of {host} cannot be used: {error.strerror}.",
                "Choose another one with --port.",
            ) from None


def upload_limit() -> int:
    """The largest upload in bytes."""
    try:
        return int(float(os.environ[UPLOAD_LIMIT_VARIABLE]) * 1_000_000)
    except (KeyError, ValueError):
        return DEFAULT_UPLOAD_LIMIT_MB * 1_000_000


def server_options(*, host: str, port: int, open_browser: bool) -> dict[str, Any]:
    """Streamlit's options, by dotted name: those of the file, and where to listen."""
    options = _flatten(tomllib.loads(CONFIG_FILE.read_text(encoding="utf-8")))
    options.update(
        {
            "server.address": host,
            "server.port": port,
            "server.headless": not open_browser,
        }
    )
    if host in EVERY_ADDRESS:
        # Else Streamlit asks a server on the internet by what address this machine is known there.
        options["browser.serverAddress"] = sign_in.public_name() or "localhost"
    return options | _own_options(options["server.allowedHosts"])


def _own_options(hosts: Sequence[str]) -> dict[str, Any]:
    # Behind a proxy the page is reached by names that cannot be known here.
    public = sign_in.public_name()
    names = [] if behind_proxy() else [*hosts, *([public] if public else [])]
    return {"server.allowedHosts": names, "secrets.files": [str(sign_in.secrets_file())]}


def run_command_line(serve: Callable[..., None], arguments: Sequence[str] | None = None) -> int:
    """``python main.py``: the options of ``regatta serve``. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="main.py", description="Serve Regatta's page.")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="default: %(default)s")
    parser.add_argument("--host", default=DEFAULT_HOST, help="default: %(default)s")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    parser.add_argument(
        "--behind-proxy", action="store_true", help="a proxy signs people in: any --host is allowed"
    )
    parser.add_argument(
        "--data-root", action="append", default=[], metavar="DIR",
        help="a folder whose CSV files the page may read where they lie; repeatable",
    )  # fmt: skip
    chosen = parser.parse_args(arguments)
    limit_blas_threads()
    try:
        serve(chosen.port, chosen.host, chosen.open, chosen.behind_proxy, chosen.data_root)
    except RegattaError as error:
        print(f"regatta: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat
