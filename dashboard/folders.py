"""Files that the page may read where they lie, for those too large to upload.

    REGATTA_DATA_ROOT            folders that whoever starts the page has named; none by default
    home()/picked/<key>.json     which file below one of them was picked, under a key of ours

What comes from the browser is a path relative to such a folder. It is never trusted: no part of it
may be ``..`` or hidden, and where it leads, links followed, must be a regular file below the folder
whose name is that of a CSV. That is looked at anew each time the file is used.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from regatta.dashboard import settings, sign_in
from regatta.utils import UserError, fingerprint, home, read_json, write_json

KEY_PATTERN = re.compile(r"folder-[0-9a-f]{16}")
CSV_NAME = re.compile(r".+\.(csv|tsv|tab|txt|data|dat)(\.(gz|zip|bz2|xz))?", re.IGNORECASE)
MAX_LISTED = 2000
MAX_SEEN = 20_000  # entries of a tree that are looked at, so that a huge one holds no page up
MAX_PICKED = 200


@dataclass(frozen=True)
class Listing:
    """CSV files below a folder: paths relative to it, with their sizes in bytes."""

    files: dict[str, int]
    is_whole: bool


def roots() -> list[Path]:
    """The folders that may be looked into now, links in their own paths resolved."""
    return [] if _is_cut_off() else [Path(each).resolve() for each in _named()]


def check() -> None:
    """Raise a `UserError` if folders were named that may not, or cannot, be looked into."""
    for each in _named():
        if not Path(each).is_dir():
            raise UserError(
                f"The data folder {each} is not there.",
                f"Name another one with --data-root ({settings.DATA_ROOT_VARIABLE}).",
            )
    if _named() and _is_cut_off():
        raise UserError(
            "Files of this machine would be open to whoever comes through the proxy.",
            f"Let people sign in here ({sign_in.ALLOWED_VARIABLE}; see docs/security.md), or leave "
            f"out --data-root ({settings.DATA_ROOT_VARIABLE}).",
        )


def list_files(root: Path) -> Listing:
    """What can be picked below ``root``. Links and hidden names are left out."""
    files: dict[str, int] = {}
    for seen, entry in enumerate(_entries(root)):
        if seen >= MAX_SEEN or len(files) >= MAX_LISTED:
            return Listing(_sorted(files), is_whole=False)
        with contextlib.suppress(OSError):
            if CSV_NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                files[os.path.relpath(entry.path, root)] = entry.stat().st_size
    return Listing(_sorted(files), is_whole=True)


def resolve(root: Path, relative: str) -> Path:
    """The file at ``relative`` below ``root``, or a `UserError`."""
    outside = UserError(
        f"“{relative}” is not a path below this folder.",
        "Give a path without “..” that begins in the folder: year/data.csv.",
    )
    parts = PurePosixPath(relative.replace("\\", "/")).parts
    if not parts or any(part == ".." or part.startswith(("/", "~")) for part in parts):
        raise outside
    missing = UserError(f"There is no CSV file “{relative}” in this folder.", "Choose another one.")
    if any(part.startswith(".") for part in parts) or not CSV_NAME.fullmatch(parts[-1]):
        raise missing
    try:
        found = root.joinpath(*parts).resolve(strict=True)
        inside = found.is_relative_to(root)
        is_file = found.is_file()
    except (OSError, ValueError, RuntimeError):
        raise missing from None
    if not inside:  # a link leads out; what is there is nobody's business
        raise outside
    hidden = any(part.startswith(".") for part in found.relative_to(root).parts)
    if hidden or not is_file or not CSV_NAME.fullmatch(found.name):
        raise missing
    return found


def pick(root: Path, relative: str) -> str:
    """Remember a file below ``root`` and return its key."""
    path = resolve(root, relative.strip())
    key = f"folder-{fingerprint(str(path))[:16]}"
    _folder().mkdir(mode=0o700, exist_ok=True)
    write_json(_folder() / f"{key}.json", {"path": str(path)}, durable=False)
    for old in _records()[MAX_PICKED:]:
        forget(old.stem)
    return key


def find(key: str) -> Path:
    """The file that was picked under ``key``, if it may still be read; else a `UserError`."""
    gone = UserError("That file is not here any more.", "Choose another one on “Data”.")
    if not KEY_PATTERN.fullmatch(key):
        raise gone
    try:
        path = Path(str(read_json(_folder() / f"{key}.json")["path"]))
    except (OSError, ValueError, KeyError, TypeError):
        raise gone from None
    for root in roots():
        if path.is_relative_to(root):
            with contextlib.suppress(UserError):
                return resolve(root, str(path.relative_to(root)))
    raise gone


def list_picked() -> list[tuple[str, Path]]:
    """Keys and paths of picked files that are still there, the last one first."""
    found = []
    for record in _records():
        with contextlib.suppress(UserError):
            found.append((record.stem, find(record.stem)))
    return found


def forget(key: str) -> None:
    """Take a file off the list; the file itself stays."""
    if KEY_PATTERN.fullmatch(key):
        with contextlib.suppress(OSError):
            (_folder() / f"{key}.json").unlink()


def _named() -> list[str]:
    text = os.environ.get(settings.DATA_ROOT_VARIABLE, "")
    return [each for each in text.split(os.pathsep) if each.strip()]


def _is_cut_off() -> bool:
    # The page cannot know whom a proxy lets in; without a proxy or a sign-in of its own it is
    # reached from this machine alone.
    return settings.behind_proxy() and not sign_in.is_on()


def _folder() -> Path:
    return home() / "picked"


def _records() -> Sequence[Path]:
    found = []
    for path in _folder().glob("folder-*.json"):
        with contextlib.suppress(OSError):
            found.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(found, reverse=True)]


def _entries(root: Path) -> Iterator[os.DirEntry[str]]:
    """What lies below ``root``, level by level, but for links and hidden names."""
    waiting = deque([str(root)])
    while waiting:
        try:
            with os.scandir(waiting.popleft()) as entries:
                for entry in entries:
                    if entry.name.startswith(".") or entry.is_symlink():
                        continue
                    yield entry
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError:
            continue  # not ours to read, or gone meanwhile


def _sorted(files: dict[str, int]) -> dict[str, int]:
    return dict(sorted(files.items(), key=lambda each: each[0].casefold()))
