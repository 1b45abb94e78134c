"""Files that people gave the page: ``home()/uploads/<id>/<name>``.

The id is made here; the name is the sender's, cleaned. What is inside is not trusted: it is read
by the CSV import alone, never run or unpickled.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import unicodedata
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from regatta.dashboard import settings
from regatta.utils import UserError, home

MAX_UPLOADS = 200
MAX_NAME = 120
MAX_NAME_BYTES = 240
ID_PATTERN = re.compile(r"[0-9a-f]{16}")
WRITE_SIZE = 1 << 20


class UploadTooLarge(UserError):
    """The file is over the size cap."""


class TooManyUploads(UserError):
    """The count cap is reached."""


@dataclass(frozen=True)
class Upload:
    """A stored file."""

    upload_id: str
    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    @property
    def created(self) -> float:
        return self.path.stat().st_mtime


def uploads_folder() -> Path:
    """Where uploads are kept; made if it is not there."""
    folder = home() / "uploads"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def clean_name(name: str) -> str:
    """A file name that stays inside its folder: no separators, control characters or dots first."""
    text = unicodedata.normalize("NFC", name).replace("\\", "/").rsplit("/", 1)[-1]
    text = "".join(each for each in text if each.isprintable() and each not in '<>:"|?*')
    text = text.strip().lstrip(".")
    stem, dot, suffix = text.rpartition(".")
    if dot and len(suffix) < 12:
        text = f"{stem[: MAX_NAME - len(suffix) - 1]}.{suffix}"
    text = text[:MAX_NAME]
    while len(text.encode()) > MAX_NAME_BYTES:
        text = text[1:]  # from the front: the suffix says what it is
    return text or "upload.csv"


def list_uploads() -> list[Upload]:
    """Every whole upload, newest first."""
    found = []
    for folder in uploads_folder().iterdir():
        with contextlib.suppress(UserError, OSError):
            found.append(find_upload(folder.name))
    return sorted(found, key=lambda each: each.created, reverse=True)


def find_upload(upload_id: str) -> Upload:
    """The upload of that id, or a `UserError`."""
    if ID_PATTERN.fullmatch(upload_id):
        folder = uploads_folder() / upload_id
        if folder.is_dir() and not folder.is_symlink():
            for path in sorted(folder.iterdir()):
                if path.is_file() and not path.is_symlink() and not path.name.startswith("."):
                    return Upload(upload_id, path)
    raise UserError("That upload is not here any more.", "Upload the file again.")


def delete_upload(upload_id: str) -> None:
    """Remove a file that was uploaded."""
    shutil.rmtree(find_upload(upload_id).path.parent, ignore_errors=True)


def check_room(expected: int | None) -> None:
    """Raise a `UserError` if another file of ``expected`` bytes may not be stored."""
    limit = settings.upload_limit()
    if expected is not None and expected > limit:
        raise too_large()
    if sum(1 for _ in uploads_folder().iterdir()) >= MAX_UPLOADS:
        raise TooManyUploads(
            f"There are {MAX_UPLOADS} uploads already.", "Delete some on the page “Data”."
        )
    free = shutil.disk_usage(uploads_folder()).free
    if expected is not None and expected > free:
        raise UploadTooLarge(
            f"The disk has room for {free / 1e6:,.0f} MB, the file needs {expected / 1e6:,.0f} MB.",
            "Make room, or use a smaller file.",
        )


def too_large() -> UploadTooLarge:
    """The refusal of a file over the cap."""
    return UploadTooLarge(
        f"The file is larger than the {settings.upload_limit() / 1e6:,.0f} MB an upload may have.",
        "Let the page read it where it lies (regatta serve --data-root FOLDER), train on it from "
        "a terminal (regatta train FILE --target COLUMN), or raise "
        f"{settings.UPLOAD_LIMIT_VARIABLE}.",
    )


async def store(name: str, chunks: AsyncIterator[bytes]) -> Upload:
    """Write ``chunks`` to disk as they come and return the upload; memory does not grow."""
    limit = settings.upload_limit()
    upload_id = secrets.token_hex(8)
    folder = uploads_folder() / upload_id
    folder.mkdir(mode=0o700)
    aside, final = folder / ".part", folder / clean_name(name)
    size = 0
    try:
        with aside.open("xb") as file:
            os.fchmod(file.fileno(), 0o600)
            pending = bytearray()
            async for chunk in chunks:
                size += len(chunk)
                if size > limit:
                    raise too_large()
                pending += chunk
                if len(pending) >= WRITE_SIZE:
                    await run_in_threadpool(file.write, bytes(pending))
                    pending.clear()
            file.write(pending)
        if size == 0:
            raise UserError("The file is empty.", "Choose a CSV file with a header and rows.")
        os.replace(aside, final)
    except BaseException:  # also when the sender goes away in the middle
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return Upload(upload_id, final)
