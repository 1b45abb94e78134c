"""Entries of the cache are built aside, by any number of processes at once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from regatta.ingest import cache

BUILD_OFTEN = """
from regatta.ingest import cache
for _ in range(400):
    with cache.building("parsed") as folder:
        (folder / "values.bin").write_bytes(b"")
        assert (folder / cache.LOCK_NAME).exists()
"""


def test_a_folder_that_is_being_made_is_not_swept(regatta_home: Path) -> None:
    builders = [
        subprocess.Popen([sys.executable, "-P", "-c", BUILD_OFTEN], stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for builder in builders:
        _, errors = builder.communicate(timeout=100)
        assert builder.returncode == 0, errors.decode()
    assert not list(cache.datasets_folder("building").iterdir())


def test_what_a_dead_process_left_is_swept(regatta_home: Path) -> None:
    parent = cache.datasets_folder("building")
    left, begun, old = parent / "parsed-1", parent / ".parsed-2", parent / ".parsed-3"
    for each in (left, begun, old):
        each.mkdir()
    (left / cache.LOCK_NAME).touch()
    past = time.time() - 2 * cache.GRACE_SECONDS
    os.utime(old, (past, past))
    with cache.building("parsed"):
        assert not left.exists() and begun.exists() and not old.exists()
