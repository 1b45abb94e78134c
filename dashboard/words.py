"""Numbers, times and states as people read them."""

from __future__ import annotations

import time

from regatta.runs.states import RunState

STATE_WORDS: dict[RunState, tuple[str, str]] = {  # symbol, colour of the badge
    RunState.QUEUED: (":material/hourglass_empty:", "gray"),
    RunState.STARTING: (":material/downloading:", "blue"),
    RunState.RUNNING: (":material/play_arrow:", "blue"),
    RunState.PAUSED: (":material/pause:", "orange"),
    RunState.FINISHED: (":material/check:", "green"),
    RunState.STOPPED: (":material/stop:", "gray"),
    RunState.FAILED: (":material/error:", "red"),
    RunState.DIVERGED: (":material/trending_up:", "red"),
    RunState.INTERRUPTED: (":material/power_off:", "orange"),
}
MODEL_NAMES = {"linear": "Linear", "ridge": "Ridge", "lasso": "Lasso", "elasticnet": "Elastic net"}
# What scores are, for who has not met them.
SCORES = (
    "R²: share of the target's variance that is explained; 1 is perfect, 0 no better than the "
    "mean. RMSE: root of the mean squared error, MAE: mean absolute error, both in the target's "
    "unit; RMSE weighs large errors more. Held out: on rows that took no part in the training."
)


def size(count: float) -> str:
    """Bytes with a unit: 1.2 MB."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= limit:
            return f"{count / limit:.1f} {unit}"
    return f"{count:.0f} bytes"


def duration(seconds: float | None) -> str:
    """75 → "1:15 min"."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d} h" if hours else f"{minutes}:{rest:02d} min"


def ago(moment: float | None) -> str:
    """How long ago a time since the epoch was."""
    if moment is None:
        return "–"
    seconds = max(time.time() - moment, 0)
    if seconds < 60:
        return "just now"
    for limit, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= limit:
            count = int(seconds // limit)
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def number(value: float | None, digits: int = 4, *, zeros: bool = False) -> str:
    """A number with so many significant digits and thousands separated; ``zeros`` keeps those at
    the end, as in a column of numbers."""
    if value is None or value != value:
        return "–"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:#.{digits}g}" if zeros else f"{value:.{digits}g}"


def table_height(rows: int, most: int) -> int:
    """Pixels of a table that shows so many rows, ``most`` at a time, with no empty one."""
    return 36 + 33 * min(max(rows, 1), most) + (0 if rows <= most else 16)


def plain(text: str) -> str:
    """Text from a file or a user that Markdown must not read as markup."""
    for mark in "\\`*_{}[]()<>#+-.!|~$:":
        text = text.replace(mark, "\\" + mark)
    return text
