"""Errors, atomic files, clocks, logging and the places where things are kept.

Imports the standard library only (platformdirs lazily): workers, the command and
the page all start from here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

IDLE_SECONDS = 0.05
HOME_VARIABLE = "REGATTA_HOME"

# One BLAS thread a process: workers are the parallelism, and the weights of a run are
# byte-identical only while every process sums in the same order (docs/decisions/0004).
BLAS_THREAD_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


class RegattaError(Exception):
    """Something went wrong that a sentence can explain.

    Parameters
    ----------
    message : str
        What happened, and where.
    hint : str
        What to do about it.
    row : int, optional
        1-based line of the file the error is in.
    column : str, optional
        Name of the column the error is in.
    rejected : sequence of {"row", "column", "reason"}
        The first rows of the file that cannot be read, where there are several.
    """

    exit_code = 1

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        row: int | None = None,
        column: str | None = None,
        rejected: Sequence[dict[str, Any]] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.row = row
        self.column = column
        self.rejected = list(rejected)

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()

    def __reduce__(self) -> tuple[Any, ...]:
        parts = (self.message, self.hint, self.row, self.column, self.rejected)
        return _rebuild_error, (type(self), *parts)

    def to_json(self) -> dict[str, Any]:
        """The ``error`` object that ``--json`` prints."""
        value = {
            "message": self.message,
            "hint": self.hint,
            "row": self.row,
            "column": self.column,
        }
        return value | ({"rejected": self.rejected} if self.rejected else {})


class UserError(RegattaError):
    """A user's mistake: a wrong option, a file that cannot be read as it is. Exit code 2."""

    exit_code = 2


class DataError(UserError):
    """A file, row, column or cell that cannot be used."""


class DivergenceError(RegattaError):
    """The loss became non-finite or grew a millionfold."""


def _rebuild_error(
    kind: type[RegattaError],
    message: str,
    hint: str,
    row: int | None,
    column: str | None,
    rejected: Sequence[dict[str, Any]],
) -> RegattaError:
    return kind(message, hint, row=row, column=column, rejected=rejected)


def home() -> Path:
    """The folder that holds runs, prepared data and uploads: ``REGATTA_HOME`` or the user's data
    folder. Made, readable by its owner alone, if it is not there."""
    configured = os.environ.get(HOME_VARIABLE)
    if configured:
        path = Path(configured).expanduser().resolve()
    else:
        import platformdirs

        path = Path(platformdirs.user_data_dir("regatta", appauthor=False))
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except (FileExistsError, NotADirectoryError):
        raise UserError(
            f"Regatta's home {path} cannot be a folder: it, or what it would lie in, is a file.",
            f"Set {HOME_VARIABLE} to a folder, or to where one can be made.",
        ) from None
    return path


def number_from(variable: str, default: float, *, least: float = 0.0) -> float:
    """The number in an environment variable, or a `UserError` that names it."""
    text = os.environ.get(variable, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value < float("inf"):
        raise UserError(f"{variable} is {text!r}.", f"It must be a number of at least {least:g}.")
    return value


def available_cores() -> int:
    """Cores that this process may use: fewer than the machine has, where it is confined."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def limit_blas_threads() -> None:
    """Ask for one BLAS thread. Has an effect only before NumPy is imported."""
    for name in BLAS_THREAD_VARIABLES:
        os.environ[name] = "1"


def fsync_directory(path: Path) -> None:
    """Make a rename in ``path`` survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_path(target: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a path to write to; when the block ends well it takes the place of ``target``.

    The file is written aside, synced, renamed, and the directory synced, so that a reader or a
    crash sees the old content or the new one, never a part. With ``durable=False`` it is not
    synced: whole for readers, but a power cut may lose it.
    """
    aside = target.parent / f".{target.name}.{secrets.token_hex(6)}"
    # Readable as any file of the user's: what is private lies in a private folder.
    os.close(os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield aside
        if durable:
            with aside.open("rb") as written:
                os.fsync(written.fileno())
        os.replace(aside, target)
        if durable:
            fsync_directory(target.parent)
    finally:
        aside.unlink(missing_ok=True)


def write_json(target: Path, value: Any, *, durable: bool = True) -> None:
    """Write ``value`` to ``target`` atomically, as UTF-8 JSON that holds no NaN."""
    with atomic_path(target, durable=durable) as aside:
        aside.write_text(
            json.dumps(finite(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
            encoding="utf-8",
        )


def read_json(path: Path) -> Any:
    """The JSON value in ``path``."""
    return json.loads(path.read_text(encoding="utf-8"))


def finite(value: Any) -> Any:
    """``value`` with every NaN and infinity replaced by ``None``: JSON has neither."""
    if isinstance(value, float):
        return value if value - value == 0.0 else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def counted(count: int, what: str, many: str = "") -> str:
    """``1 row``, ``2,000 rows``."""
    return f"{count:,} {what if count == 1 else many or what + 's'}"


def fingerprint(value: Any) -> str:
    """A short stable name for a JSON value: 32 hexadecimal digits of its SHA-256."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Stopwatch:
    """Seconds since it was made, on a clock that no one can set."""

    def __init__(self) -> None:
        self.start = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.start


def while_idling(
    work: Callable[[], T], idle: Callable[[], None], *, seconds: float = IDLE_SECONDS
) -> T:
    """What ``work`` returns; it is done in a thread, and ``idle`` is called every so many seconds.

    What ``idle`` raises is raised at once. The thread cannot be stopped and works on for nothing:
    see `end_process`.
    """
    answer: Future[T] = Future()

    def answered() -> None:
        try:
            answer.set_result(work())
        except BaseException as error:
            answer.set_exception(error)

    thread = threading.Thread(target=answered, name="regatta-work", daemon=True)
    thread.start()
    try:
        while not wait([answer], seconds).done:
            idle()
    except BaseException:
        _abandoned.append(thread)
        raise
    return answer.result()


def end_process(code: int) -> None:
    """End the process now if it has work that no one waits for any more, else do nothing.

    Python would wait for the threads that such work started itself.
    """
    if any(thread.is_alive() for thread in _abandoned):
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


_abandoned: list[threading.Thread] = []

LOG_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class _FileHandler(logging.FileHandler):
    """Loses lines on a full disk, and says nothing of it: others do."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)


@contextlib.contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Regatta's log goes to the file ``path`` too while the block lasts."""
    handler = _FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    logger = logging.getLogger("regatta")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


def configure_logging(level: int = logging.INFO, *, file: Path | None = None) -> None:
    """Send Regatta's log to stderr, and to ``file`` where one is given."""
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if file is not None:
        handlers.append(logging.FileHandler(file, encoding="utf-8"))
    formatter = logging.Formatter(LOG_FORMAT)
    root = logging.getLogger("regatta")
    root.handlers.clear()
    root.setLevel(level)
    root.propagate = False
    for handler in handlers:
        handler.setFormatter(formatter)
        root.addHandler(handler)
