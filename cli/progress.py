"""A progress bar on a terminal's stderr, redrawn in place; nothing at all elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Any, Protocol

_STAGES = {"import": "Reading", "prepare": "Preparing", "train": "Training"}
_BAR_WIDTHS = (6, 24)  # at least, at most
_LEAST_IMPORTANT = ("R²", "epoch", "loss")
_REDRAW_SECONDS = 0.1
_line_is_drawn = False


class Progress(Protocol):
    """How far a run is; `regatta.coordinator.TrainingProgress` is one."""

    @property
    def stage(self) -> str: ...
    @property
    def fraction(self) -> float: ...
    @property
    def epoch(self) -> float: ...
    @property
    def epochs(self) -> int: ...
    @property
    def loss(self) -> float | None: ...
    @property
    def validation_r2(self) -> float | None: ...
    @property
    def rows_per_second(self) -> float | None: ...
    @property
    def eta_seconds(self) -> float | None: ...
    @property
    def message(self) -> str: ...


class ProgressBar:
    """Draws what it is told. Use it as a context; the line is gone at the end."""

    def __init__(self, stream: Any = None) -> None:
        self._stream = stream or sys.stderr
        self._shown = bool(self._stream.isatty())
        self._stage = ""
        self._next = 0.0

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        clear_line(self._stream)

    def __call__(self, progress: Progress) -> None:
        """Draw ``progress``, ten times a second at most."""
        now = time.monotonic()
        if not self._shown or (now < self._next and progress.stage == self._stage):
            return
        self._stage, self._next = progress.stage, now + _REDRAW_SECONDS
        # A line as wide as the terminal would wrap on some and leave its rest behind.
        width = shutil.get_terminal_size().columns - 1
        draw_line(render(progress, width, unicode=_speaks_unicode(self._stream)), self._stream)


def render(progress: Progress, width: int, *, unicode: bool = True) -> str:
    """One line of at most ``width`` characters: stage, bar, and what is known of epoch, loss,
    score, speed and time left. In a narrow terminal the bar gives way first, then the facts."""
    fraction = min(max(progress.fraction, 0.0), 1.0)
    stage, share = f"{_STAGES.get(progress.stage, progress.stage):9}", f"{fraction:4.0%}"
    facts = _facts(progress, unicode)
    least, most = _BAR_WIDTHS

    def room() -> int:
        return width - len("  ".join([stage, "", share, *facts]))

    for word in _LEAST_IMPORTANT:
        if room() < least:
            facts = [fact for fact in facts if not fact.startswith(word)]
    bar_width = min(max(room(), least), most)
    full, empty = ("█", "░") if unicode else ("#", ".")
    done = int(fraction * bar_width)
    bar = full * done + empty * (bar_width - done)
    return "  ".join([stage, bar, share, *facts])[:width].rstrip()


def _facts(progress: Progress, unicode: bool) -> list[str]:
    from regatta.cli import output

    if progress.stage != "train":
        return [output.shortened(progress.message, 60)] if progress.message else []
    facts = []
    if progress.epochs:
        facts.append(f"epoch {progress.epoch:,.0f}/{progress.epochs:,}")
    if progress.loss is not None:
        facts.append(f"loss {output.number(progress.loss)}")
    if progress.validation_r2 is not None and unicode:
        facts.append(f"R² {progress.validation_r2:.3f}")
    if progress.rows_per_second is not None:
        facts.append(f"{output.rate(progress.rows_per_second)} rows/s")
    if progress.eta_seconds is not None:
        facts.append(f"ETA {clock(progress.eta_seconds)}")
    return facts


def clock(seconds: float) -> str:
    """Time left as a clock shows it: 0:07, 12:30, 1:02:03."""
    minutes, rest = divmod(max(round(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def draw_line(text: str, stream: Any = None) -> None:
    """Put ``text`` where the last drawn line is."""
    global _line_is_drawn
    stream = stream or sys.stderr
    stream.write(f"\r{text}\x1b[K")
    stream.flush()
    _line_is_drawn = True


def clear_line(stream: Any = None) -> None:
    """Take the drawn line away, if there is one, so that other text can be printed."""
    global _line_is_drawn
    if _line_is_drawn:
        stream = stream or sys.stderr
        stream.write("\r\x1b[K")
        stream.flush()
        _line_is_drawn = False


def _speaks_unicode(stream: Any) -> bool:
    return "utf" in (getattr(stream, "encoding", None) or "").lower()
