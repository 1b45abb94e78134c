"""Signing in with a provider, from the first request to the last: a real page and browser."""

from __future__ import annotations

import json
import secrets
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from regatta.dashboard import sign_in

from .conftest import Tab, chromium
from .serving import PageServer, end_processes_of

CLIENT_SECRET = "client-" + secrets.token_hex(16)
COOKIE_SECRET = "cookie-" + secrets.token_hex(32)


class Provider(ThreadingHTTPServer):
    """An OpenID Connect provider at which everyone is signed in already, as ``email``."""

    def __init__(self) -> None:
        jwk = pytest.importorskip("joserfc.jwk", reason="pip install 'regatta[test]'")
        super().__init__(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.key = jwk.RSAKey.generate_key(2048, parameters={"kid": "1"})
        self.email = ""
        self.nonces: dict[str, str] = {}

    def token(self, nonce: str) -> str:
        from joserfc import jwt

        now = int(time.time())
        claims = {
            "iss": self.url, "aud": "regatta", "sub": self.email, "email": self.email,
            "email_verified": True, "iat": now, "exp": now + 300, "nonce": nonce,
        }  # fmt: skip
        return jwt.encode({"alg": "RS256", "kid": "1"}, claims, self.key)


class Answer(BaseHTTPRequestHandler):
    """What the provider answers."""

    server: Provider

    def do_GET(self) -> None:
        provider, parts = self.server, urlsplit(self.path)
        if parts.path == "/authorize":
            asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
            code = secrets.token_hex(8)
            provider.nonces[code] = asked["nonce"]
            answer = urlencode({"code": code, "state": asked["state"]})
            self.send_response(302)
            self.send_header("Location", f"{asked['redirect_uri']}?{answer}")
            self.end_headers()
        elif parts.path == "/keys":
            self.tell({"keys": [provider.key.as_dict(private=False)]})
        else:
            self.tell({
                "issuer": provider.url,
                "authorization_endpoint": f"{provider.url}/authorize",
                "token_endpoint": f"{provider.url}/token",
                "jwks_uri": f"{provider.url}/keys",
                "id_token_signing_alg_values_supported": ["RS256"],
            })  # fmt: skip

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        token = self.server.token(self.server.nonces.pop(form["code"][0]))
        self.tell({"access_token": "access", "token_type": "Bearer", "id_token": token})

    def tell(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def provider() -> Iterator[Provider]:
    server = Provider()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def guarded_server(provider: Provider, tmp_path: Path) -> Iterator[PageServer]:
    """A page on every address, for ann@example.org alone."""
    chromium()
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    users = {sign_in.ALLOWED_VARIABLE: "ann@example.org"}
    server = PageServer(home, host="0.0.0.0", environment=users)
    file = home / "secrets.toml"
    file.write_text(
        f"""[auth]
        redirect_uri = "http://localhost:{server.port}/oauth2callback"
        cookie_secret = "{COOKIE_SECRET}"
        client_id = "regatta"
        client_secret = "{CLIENT_SECRET}"
        server_metadata_url = "{provider.url}/.well-known/openid-configuration"
        """
    )
    file.chmod(0o600)
    server.start()
    yield server
    server.stop()
    end_processes_of(home)


def listens_on(port: int, address: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == 0


@pytest.mark.browser
def test_who_is_on_the_list_is_let_in_and_nobody_else(
    profile: Any, provider: Provider, guarded_server: PageServer
) -> None:
    assert listens_on(guarded_server.port, "127.0.0.9"), "on every address"
    metrics = f"http://localhost:{guarded_server.port}/metrics"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(metrics, timeout=5)
    assert refused.value.code == 401

    for email, allowed in [("Ann@example.org", True), ("ann@example.net", False)]:
        provider.email = email
        tab = Tab(profile, guarded_server)
        tab.page.goto(metrics.removesuffix("metrics") + "runs")
        tab.page.get_by_role("button", name="Sign in").click()
        if allowed:
            tab.page.get_by_text("Drop a CSV here").wait_for()
        else:
            tab.page.get_by_role("heading", name="No entry").wait_for()
        tab.settle()
        assert bool(tab.page.get_by_role("link", name="Runs").count()) is allowed
        assert tab.context.request.get(metrics).status == (200 if allowed else 401), email
        tab.close()
        assert not tab.errors, tab.errors
    log = guarded_server.log.read_text()
    assert CLIENT_SECRET not in log and COOKIE_SECRET not in log
