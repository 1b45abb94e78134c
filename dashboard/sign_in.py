"""Who may use the page, where it asks people to sign in.

    secrets.toml [auth]          in Regatta's home: the provider, as Streamlit's `st.login` reads it
    REGATTA_ALLOWED_USERS        who of its people is let in: ann@example.org @example.com

Either both are there or neither: a provider without a list would let in everyone it knows. The
page asks at the start of its script; our routes look at the same signed cookie.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from regatta.utils import UserError, home

ALLOWED_VARIABLE = "REGATTA_ALLOWED_USERS"
NEEDED = ("redirect_uri", "cookie_secret", "client_id", "client_secret", "server_metadata_url")
SHORTEST_SECRET = 32
CALLBACK = "/oauth2callback"


def secrets_file() -> Path:
    """Where the provider and its secrets are written down."""
    return home() / "secrets.toml"


def allowed_users() -> frozenset[str]:
    """Addresses, and domains as ``@example.com``, in small letters."""
    words = os.environ.get(ALLOWED_VARIABLE, "").replace(",", " ").split()
    return frozenset(word.casefold() for word in words)


def is_on() -> bool:
    """Whether people must sign in."""
    return bool(allowed_users())


def check() -> None:
    """Raise a `UserError` unless sign-in is configured as a whole, or not at all."""
    file = secrets_file()
    section = _auth_section(file)
    if not is_on():
        if section:
            raise UserError(
                f"{file} names a provider to sign in with, but nobody is allowed in.",
                f"Set {ALLOWED_VARIABLE} to addresses and domains: ann@example.org @example.com.",
            )
        return
    for word in allowed_users():
        if word.count("@") != 1 or word.endswith("@") or "*" in word:
            raise UserError(
                f"{ALLOWED_VARIABLE} holds {word!r}.",
                "Give whole addresses (ann@example.org) or domains (@example.com).",
            )
    for name in NEEDED:
        if not section.get(name):
            raise UserError(
                f"{ALLOWED_VARIABLE} is set, but there is no {name} under [auth] in {file}.",
                "docs/security.md shows what it must hold.",
            )
    if len(section["cookie_secret"]) < SHORTEST_SECRET:
        raise UserError(
            f"cookie_secret in {file} has fewer than {SHORTEST_SECRET} characters.",
            'Make one: python -c "import secrets; print(secrets.token_hex(32))".',
        )
    _check_address(section["redirect_uri"])
    if file.stat().st_mode & 0o077:
        raise UserError(f"{file} can be read by others.", f"Run: chmod 600 {file}")
    if importlib.util.find_spec("authlib") is None:
        raise UserError("Signing in needs Authlib.", "Run: pip install 'regatta[sign-in]'")


def public_name() -> str | None:
    """The host under which people reach the page, where they sign in."""
    if not is_on():
        return None
    return urlsplit(str(_auth_section(secrets_file()).get("redirect_uri", ""))).hostname


def is_allowed(user: Mapping[str, Any]) -> bool:
    """Whether a person may use the page, by what the provider said of them."""
    address = str(user.get("email") or "").casefold()
    name, at, domain = address.rpartition("@")
    if not user.get("is_logged_in") or not (name and at) or user.get("email_verified") is False:
        return False
    return not allowed_users().isdisjoint({address, f"@{domain}"})


def is_signed_in(cookies: Mapping[str, str]) -> bool:
    """Whether a request comes from someone who may use the page: by the cookie of `st.login`."""
    if not is_on():
        return True
    # Streamlit has no public function for who sent a request that is not its own.
    from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME
    from streamlit.web.server.starlette.starlette_websocket import _get_signed_cookie_with_chunks

    text = _get_signed_cookie_with_chunks(dict(cookies), USER_COOKIE_NAME)
    try:
        user = json.loads(text or b"{}")
    except ValueError:
        return False
    return isinstance(user, dict) and is_allowed(user)


def ask() -> None:
    """Show the page to those who may see it; ask others to sign in, and stop the script there."""
    if not is_on():
        return
    import streamlit as st

    user = st.user.to_dict()
    if is_allowed(user):
        return
    if user.get("is_logged_in"):
        st.title("No entry")
        st.markdown("You are signed in, but this address is not among those that may use the page.")
        st.button("Sign out", on_click=st.logout, icon=":material/logout:")
    else:
        st.title("Regatta")
        st.button("Sign in", type="primary", on_click=st.login, icon=":material/login:")
    st.stop()


def _check_address(redirect: str) -> None:
    try:
        parts = urlsplit(redirect)
        host = parts.hostname
    except ValueError:
        host = None
    # Who listens on the way would have the cookie, and with it the page.
    private = host and (parts.scheme == "https" or host in {"localhost", "127.0.0.1", "::1"})
    if not private or parts.path != CALLBACK:
        raise UserError(
            f"redirect_uri in {secrets_file()} is {redirect!r}.",
            "It is the https address of the page as people see it, and "
            f"{CALLBACK}: https://regatta.example.org{CALLBACK}.",
        )


@functools.lru_cache(maxsize=8)
def _auth_section(file: Path) -> Mapping[str, Any]:
    """Read once: Streamlit, too, keeps what it read when the server started."""
    try:
        section = tomllib.loads(file.read_text(encoding="utf-8")).get("auth", {})
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        # The cause might quote a line of it.
        raise UserError(f"{file} cannot be read.", "It must be a TOML file.") from None
    return section if isinstance(section, dict) else {}
