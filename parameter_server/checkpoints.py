"""Checkpoints: everything that a run needs to go on to the same bytes.

A file is a line of JSON (what it is of, names and shapes of the arrays, SHA-256 of the rest), a
newline, and the arrays' raw bytes. It is written aside, synced and renamed; the newest three are
kept, and a newer one that was not synced: it outlives its process and no more. One that is torn,
altered, or of another run's data is skipped with a warning and the one before it is used. Nothing
is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regatta.utils import atomic_path

FORMAT = "regatta-checkpoint"
VERSION = 3
KEPT = 3
SUFFIX = ".checkpoint"

_log = logging.getLogger("regatta.checkpoints")


@dataclass(frozen=True)
class Checkpoint:
    """A state of a run.

    Attributes
    ----------
    identity : str
        Fingerprint of the data and the settings; only a run with the same one may go on from it.
    step : int
    state : dict
        JSON values: counters, stopping rules, times.
    arrays : dict of arrays
        Parameters and the optimizer's memory.
    """

    identity: str
    step: int
    state: dict[str, Any]
    arrays: dict[str, NDArray[np.float64]]


class InvalidCheckpoint(Exception):
    """The file is not a whole checkpoint of this run; the text says why."""


class ForeignCheckpoint(InvalidCheckpoint):
    """The file is whole, but of other data, other settings or another version of Regatta."""


class CheckpointFolder:
    """The checkpoints of one run.

    Attributes
    ----------
    foreign : str
        Why `newest` skipped a whole checkpoint, where it did.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self._path = path
        self.foreign = ""
        self._identity = identity
        self._noted: Path | None = None

    def note(self, checkpoint: Checkpoint) -> Path:
        """Write one that outlives this process, though no power cut: no disk is waited for.

        It takes the place of the one noted before; those that were saved stay.
        """
        self._path.mkdir(exist_ok=True, mode=0o700)
        target = self._target(checkpoint)
        if target.exists():
            return target  # saved, or noted, already
        with atomic_path(target, durable=False) as aside:
            aside.write_bytes(encode(checkpoint))
        self._forget_noted()
        self._noted = target
        return target

    def _forget_noted(self) -> None:
        if self._noted is not None:
            self._noted.unlink(missing_ok=True)
            self._noted = None

    def _target(self, checkpoint: Checkpoint) -> Path:
        return self._path / f"{checkpoint.step:012d}{SUFFIX}"

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write one durably, then remove all but the newest three up to it.

        Those of later steps, which `newest` skipped, would stand in the way of what follows.
        """
        self._path.mkdir(exist_ok=True, mode=0o700)
        target = self._target(checkpoint)
        with atomic_path(target) as aside:
            aside.write_bytes(encode(checkpoint))
        if self._noted != target:
            self._forget_noted()
        self._noted = None
        files = self._newest_first()
        place = files.index(target)
        for useless in (*files[:place], *files[place + KEPT :]):
            useless.unlink(missing_ok=True)
        return target

    def newest(self) -> Checkpoint | None:
        """The newest valid checkpoint, or ``None``.

        Removes what a process left that was killed while it wrote.
        """
        for torn in self._path.glob(f".*{SUFFIX}.*"):
            torn.unlink(missing_ok=True)
        for path in self._newest_first():
            try:
                checkpoint = decode(path.read_bytes())
                if checkpoint.identity != self._identity:
                    raise ForeignCheckpoint("it is of other data or other settings")
                return checkpoint
            except (InvalidCheckpoint, OSError) as error:
                if isinstance(error, ForeignCheckpoint):
                    self.foreign = str(error)
                _log.warning("Checkpoint %s is skipped: %s.", path.name, error)
        return None

    def _newest_first(self) -> list[Path]:
        return sorted(self._path.glob(f"*{SUFFIX}"), reverse=True)


def encode(checkpoint: Checkpoint) -> bytes:
    """The bytes of a checkpoint file."""
    body = b"".join(
        np.ascontiguousarray(array, dtype=np.float64).tobytes()
        for array in checkpoint.arrays.values()
    )
    header = {
        "format": FORMAT,
        "version": VERSION,
        "identity": checkpoint.identity,
        "step": checkpoint.step,
        "state": checkpoint.state,
        "arrays": [[name, list(array.shape)] for name, array in checkpoint.arrays.items()],
        "body_sha256": hashlib.sha256(body).hexdigest(),
    }
    line = json.dumps(header, sort_keys=True).encode()
    return hashlib.sha256(line).hexdigest().encode() + b" " + line + b"\n" + body


def decode(data: bytes) -> Checkpoint:
    """The checkpoint in ``data``; raises `InvalidCheckpoint`."""
    line, newline, body = data.partition(b"\n")
    digest, _, text = line.partition(b" ")
    if not newline or hashlib.sha256(text).hexdigest().encode() != digest:
        raise InvalidCheckpoint("its header is damaged")
    header = json.loads(text)
    if header.get("format") != FORMAT or header.get("version") != VERSION:
        raise ForeignCheckpoint(f"it has version {header.get('version')}, not {VERSION}")
    if hashlib.sha256(body).hexdigest() != header["body_sha256"]:
        raise InvalidCheckpoint("its body is damaged")
    arrays, offset = {}, 0
    for name, shape in header["arrays"]:
        count = int(np.prod(shape, dtype=np.int64))
        arrays[name] = np.frombuffer(body, np.float64, count, offset).reshape(shape).copy()
        offset += 8 * count
    return Checkpoint(header["identity"], header["step"], header["state"], arrays)
