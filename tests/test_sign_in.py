"""Who is let in where people sign in, and what is refused before anyone can be."""

from __future__ import annotations

from pathlib import Path

import pytest

from regatta.dashboard import settings, sign_in
from regatta.utils import UserError

SECTION = {
    "redirect_uri": "https://regatta.example.org/oauth2callback",
    "cookie_secret": "c" * 32,
    "client_id": "regatta",
    "client_secret": "s",
    "server_metadata_url": "https://id.example.org/.well-known/openid-configuration",
}


@pytest.fixture(autouse=True)
def people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(settings.PROXY_VARIABLE, raising=False)
    monkeypatch.setenv(sign_in.ALLOWED_VARIABLE, "ann@example.org, @Example.com")


def write_secrets(home: Path, **changes: str) -> None:
    lines = [f'{name} = "{value}"' for name, value in {**SECTION, **changes}.items() if value]
    (home / "secrets.toml").write_text("\n".join(["[auth]", *lines]))
    (home / "secrets.toml").chmod(0o600)


@pytest.mark.parametrize(
    ("user", "allowed"),
    [
        ({"email": "ann@example.org"}, True),
        ({"email": "Ann@Example.ORG", "email_verified": True}, True),
        ({"email": "bob@example.com"}, True),
        ({"email": "bob@example.org"}, False),
        ({"email": "bob@evil-example.com"}, False),
        ({"email": "bob@example.com.evil.org"}, False),
        ({"email": "@example.com"}, False),
        ({"email": "ann@example.org", "email_verified": False}, False),
        ({"email": "ann@example.org", "is_logged_in": False}, False),
        ({"email": None}, False),
        ({"name": "ann@example.org"}, False),
    ],
)
def test_only_people_on_the_list_are_allowed(user: dict[str, object], allowed: bool) -> None:
    assert sign_in.is_allowed({"is_logged_in": True, **user}) is allowed


def test_without_a_list_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(sign_in.ALLOWED_VARIABLE, " , ")
    assert not sign_in.is_on() and sign_in.is_signed_in({})


def test_with_sign_in_every_address_is_allowed_and_the_public_name_is_ours(
    regatta_home: Path,
) -> None:
    write_secrets(regatta_home)
    settings.check_address("0.0.0.0")
    options = settings.server_options(host="0.0.0.0", port=5000, open_browser=False)
    assert options["server.allowedHosts"][-1] == "regatta.example.org"
    assert options["secrets.files"] == [str(regatta_home / "secrets.toml")]
    assert settings.is_our_name("regatta.example.org") and settings.is_our_name("localhost")
    assert not settings.is_our_name("evil.example") and not settings.is_our_name(None)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        *(({name: ""}, f"no {name}") for name in sign_in.NEEDED),
        ({"cookie_secret": "short"}, "fewer than 32"),
        ({"redirect_uri": "http://regatta.example.org/oauth2callback"}, "redirect_uri"),
        ({"redirect_uri": "https://regatta.example.org/"}, "redirect_uri"),
        ({"redirect_uri": "https://[/oauth2callback"}, "redirect_uri"),
    ],
)
def test_half_a_configuration_is_refused_on_every_address(
    regatta_home: Path, changes: dict[str, str], said: str
) -> None:
    write_secrets(regatta_home, **changes)
    for host in ("0.0.0.0", "127.0.0.1"):
        with pytest.raises(UserError, match=said) as refused:
            settings.check_address(host)
        assert SECTION["cookie_secret"] not in str(refused.value)


def test_a_list_without_a_provider_is_refused(regatta_home: Path) -> None:
    with pytest.raises(UserError, match="no redirect_uri"):
        settings.check_address("127.0.0.1")


def test_a_provider_without_a_list_is_refused(
    regatta_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_secrets(regatta_home)
    monkeypatch.delenv(sign_in.ALLOWED_VARIABLE)
    with pytest.raises(UserError, match="nobody is allowed in"):
        settings.check_address("127.0.0.1")


def test_secrets_that_others_can_read_are_refused(regatta_home: Path) -> None:
    write_secrets(regatta_home)
    (regatta_home / "secrets.toml").chmod(0o644)
    with pytest.raises(UserError, match="can be read by others"):
        settings.check_address("0.0.0.0")


def test_broken_secrets_are_not_quoted(regatta_home: Path) -> None:
    (regatta_home / "secrets.toml").write_text("[auth]\ncookie_secret = hush-hush")
    with pytest.raises(UserError, match="cannot be read") as refused:
        settings.check_address("0.0.0.0")
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize("word", ["*", "*@example.com", "example.com", "ann@", "a@b@c"])
def test_a_list_that_would_mean_nobody_or_everybody_is_refused(
    regatta_home: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    write_secrets(regatta_home)
    monkeypatch.setenv(sign_in.ALLOWED_VARIABLE, word)
    with pytest.raises(UserError, match="holds"):
        settings.check_address("0.0.0.0")
