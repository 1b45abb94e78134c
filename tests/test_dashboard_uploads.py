"""Uploads: names that stay inside, caps, nothing half left."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regatta.dashboard import settings, uploads
from regatta.utils import UserError


def finished(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns. In a thread of its own: this one may have a loop that runs, since
    Playwright leaves one behind."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@given(st.text(max_size=400))
def test_a_clean_name_is_one_plain_file_name(name: str) -> None:
    clean = uploads.clean_name(name)
    assert clean and Path(clean).name == clean
    assert not clean.startswith(".") and clean.isprintable()
    assert "/" not in clean and "\\" not in clean
    assert len(clean.encode()) <= uploads.MAX_NAME_BYTES


@pytest.mark.parametrize(
    ("given_name", "expected"),
    [
        ("rows.csv", "rows.csv"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\windows.csv", "windows.csv"),
        (".hidden.csv", "hidden.csv"),
        ("", "upload.csv"),
        ("...", "upload.csv"),
        ("a\x00b\n.csv", "ab.csv"),
        ("été 2026.csv", "été 2026.csv"),
        ("x" * 500 + ".csv", "x" * 116 + ".csv"),
    ],
)
def test_names(given_name: str, expected: str) -> None:
    assert uploads.clean_name(given_name) == expected


def test_what_is_stored_is_found_listed_and_deleted(regatta_home: Path) -> None:
    stored = finished(uploads.store("rows.csv", chunks(b"a,b\n", b"1,2\n")))
    assert stored.path.read_bytes() == b"a,b\n1,2\n"
    assert stored.path.parent.parent == regatta_home / "uploads"
    assert stored.path.stat().st_mode & 0o077 == 0
    assert uploads.find_upload(stored.upload_id) == stored
    assert uploads.list_uploads() == [stored]
    uploads.delete_upload(stored.upload_id)
    assert uploads.list_uploads() == []
    with pytest.raises(UserError):
        uploads.find_upload(stored.upload_id)


@pytest.mark.parametrize("upload_id", ["", "..", "../runs", "0" * 15, "G" * 16, "0" * 16])
def test_other_ids_are_refused(regatta_home: Path, upload_id: str) -> None:
    with pytest.raises(UserError):
        uploads.find_upload(upload_id)


def test_a_link_is_no_upload(regatta_home: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n")
    folder = uploads.uploads_folder() / ("a" * 16)
    folder.mkdir()
    (folder / "rows.csv").symlink_to(secret)
    with pytest.raises(UserError):
        uploads.find_upload("a" * 16)


def test_a_file_over_the_cap_leaves_nothing(
    regatta_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(settings.UPLOAD_LIMIT_VARIABLE, "0.001")
    with pytest.raises(uploads.UploadTooLarge):
        finished(uploads.store("rows.csv", chunks(*[b"x" * 600] * 2)))
    assert list(uploads.uploads_folder().iterdir()) == []


def test_memory_does_not_grow_with_the_file(regatta_home: Path) -> None:
    async def many() -> AsyncIterator[bytes]:
        for _ in range(48):
            yield bytes(1_000_000)

    tracemalloc.start()
    try:
        stored = finished(uploads.store("rows.csv", many()))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert stored.size == 48_000_000 and most < 12_000_000


def test_an_upload_that_breaks_off_leaves_nothing(regatta_home: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"a,b\n"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        finished(uploads.store("rows.csv", broken()))
    assert list(uploads.uploads_folder().iterdir()) == []


def test_an_empty_file_is_refused(regatta_home: Path) -> None:
    with pytest.raises(UserError, match="empty"):
        finished(uploads.store("rows.csv", chunks()))


def test_the_number_of_uploads_is_capped(
    regatta_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MAX_UPLOADS", 1)
    uploads.check_room(10)
    finished(uploads.store("rows.csv", chunks(b"a\n1\n")))
    with pytest.raises(uploads.TooManyUploads):
        uploads.check_room(10)
