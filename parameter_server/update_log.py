"""The updates of a run whose workers do not wait for each other, in order, and what must hold.

A line an answer: the version that it was applied to, the version that it was computed at, first
batch, stride and number of batches, rank and incarnation of the worker. A resumed run goes on at
its checkpoint's version; what was written after that is cut off, as its work was.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from pathlib import Path

from regatta.parameter_server.consistency import Update

LINES_AT_ONCE = 1000


@dataclass(frozen=True)
class Applied:
    """An answer that was applied."""

    version: int
    computed_at: int
    first: int
    stride: int
    count: int
    rank: int
    incarnation: int

    @property
    def batches(self) -> range:
        return range(self.first, self.first + self.stride * self.count, self.stride)


class UpdateLog:
    """Writes updates to ``path``, from ``version`` on."""

    def __init__(self, path: Path, version: int = 0) -> None:
        kept = [each for each in read_updates(path) if each.version < version]
        self._file = path.open("w", encoding="ascii")
        self._lines = [_line(each) for each in kept]
        self.flush()

    def add(self, update: Update) -> None:
        """Take one down."""
        for ticket in update.tickets:
            task = ticket.task
            self._lines.append(
                f"{update.version} {ticket.version} {task.first} {task.stride} {task.count} "
                f"{ticket.rank} {ticket.incarnation}\n"
            )
        if len(self._lines) >= LINES_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Write what was taken down."""
        self._file.write("".join(self._lines))
        self._lines.clear()
        self._file.flush()

    def close(self) -> None:
        """Write what is left and close."""
        self.flush()
        self._file.close()


def read_updates(path: Path) -> list[Applied]:
    """The whole lines of a log; none where there is no file."""
    if not path.exists():
        return []
    text = path.read_text(encoding="ascii")
    whole = text[: text.rfind("\n") + 1].splitlines()
    return [Applied(*map(int, line.split())) for line in whole]


def check_updates(updates: list[Applied], total: int, bound: int | None) -> None:
    """Raise a `ValueError` unless each batch was applied at most once, versions follow each other
    and none is staler than the bound."""
    seen: set[int] = set()
    last = -1
    for each in updates:
        if not last <= each.version <= last + 1:
            raise ValueError(f"version {each.version} after {last}")
        last = each.version
        late = each.version - each.computed_at
        if late < 0 or (bound is not None and late > bound):
            raise ValueError(f"{each} is {late} updates late, and the bound is {bound}")
        if not seen.isdisjoint(each.batches) or each.batches[-1] >= total:
            raise ValueError(f"{each}: a batch was applied twice, or there is no such batch")
        seen.update(each.batches)


def _line(each: Applied) -> str:
    return " ".join(map(str, astuple(each))) + "\n"
