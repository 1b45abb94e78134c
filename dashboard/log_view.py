"""The log of a run, as the page "Logs" shows it: ``GET /api/runs/<id>/log``.

    run.log          what the coordinator logged
    coordinator.log  what it printed outside its log, where a supervisor started it
    worker-<k>.log   what a worker noted and printed: why it failed, where it crashed
    supervisor.log   of the home: its lines about this run

Files are read from their ends, in chunks, and never whole: a request looks at `SEARCHED_BYTES` at
most, says how far it came, and the next one goes on from there. Lines that follow a logged one
without a time of their own, such as a traceback, belong to it.

A cursor says for each file where what the browser has begins and ends:
``run:4096:9000,worker0:0:0``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from heapq import merge
from pathlib import Path
from time import localtime, strftime
from typing import Any, BinaryIO

from regatta.runs.directory import RunDirectory

CHUNK_BYTES = 256 * 1024
# At most so much of a file is looked at for one answer, and of one where little is wanted.
SEARCHED_BYTES = 32_000_000
OUTPUT_BYTES = 2_000_000
FOLLOWED_BYTES = 1_000_000
MAX_ENTRIES = 300
MAX_ENTRY_BYTES = 64 * 1024  # of an entry that is longer, the end is shown

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_HEADER = re.compile(
    rb"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) (DEBUG|INFO|WARNING|ERROR|CRITICAL) +[\w.]+: ",
    re.MULTILINE,
)
_CRASH = re.compile(
    r"Traceback \(most recent|^Fatal Python|^Segmentation fault|^Killed|^[\w.]*(Error|Exception)\b",
    re.MULTILINE,
)
_WARNED = re.compile(r"Warning\b")
_CURSOR = re.compile(r"(run|output|supervisor|worker\d+):(\d{1,15}):(\d{1,15})", re.ASCII)


@dataclass(frozen=True)
class Source:
    """A file of the log.

    Parameters
    ----------
    name : str
        In cursors and filters: run, output, supervisor, worker0 …
    path : Path
    process : str
        Whose log it is, in words.
    raw : bool
        Whether lines without a time may stand alone: what a process printed.
    about : str
        Only entries that hold this text.
    printed_only : bool
        Only such lines: the others are in another file.
    """

    name: str
    path: Path
    process: str
    raw: bool = False
    about: str = ""
    printed_only: bool = False

    def size(self) -> int:
        """Bytes in the file; 0 where there is none."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0


@dataclass(frozen=True)
class Entry:
    """A logged message with the lines that belong to it; ``at`` is its first byte, ``order`` what
    entries of several files are put in order by. Without a level it goes on what came before."""

    source: str
    process: str
    at: int
    time: str
    level: str
    text: str
    order: str = ""


@dataclass(frozen=True)
class Wanted:
    """Which entries are asked for: from a ``level`` on, of a process, with a text in them (in any
    case)."""

    level: str = ""
    process: str = ""
    text: str = ""

    def fits(self, entry: Entry) -> bool:
        """Whether an entry is asked for."""
        return (
            (not self.level or _rank(entry.level) >= _rank(self.level))
            and (not self.process or self._is_about(entry))
            and self.text.casefold() in entry.text.casefold()
        )

    def may_fit(self, source: Source, data: bytes) -> bool:
        """False only where no entry in there can fit: cheaper than to take it apart."""
        if source.about.encode() not in data:
            return False
        if self.level and not source.raw:
            levels = LEVELS[_rank(self.level) :]
            if not any(f" {level} ".encode() in data for level in levels):
                return False
        return not self.text.isascii() or self.text.lower().encode() in data.lower()

    def _is_about(self, entry: Entry) -> bool:
        if self.process == "coordinator":
            return entry.source in ("run", "output")
        if entry.source == self.process:
            return True
        number = self.process.removeprefix("worker")
        return number.isdecimal() and bool(
            re.search(rf"\b[Ww]orker {number}\b(?!\.\d)", entry.text)
        )


@dataclass
class Part:
    """Entries of one file, in order, and the bytes from ``start`` to ``end`` that they are of."""

    source: Source
    entries: list[Entry]
    start: int
    end: int


def sources(directory: RunDirectory, home: Path) -> list[Source]:
    """The files of a run's log that are there."""
    workers = sorted(
        (path for path in directory.path.glob("worker-*.log") if path.stem[7:].isdecimal()),
        key=lambda path: int(path.stem[7:]),
    )
    found = [
        Source("run", directory.log, "coordinator"),
        Source("output", directory.output, "coordinator", raw=True, printed_only=True),
        Source("supervisor", home / "supervisor.log", "supervisor", about=directory.run_id),
        *(
            Source(f"worker{path.stem[7:]}", path, f"worker {path.stem[7:]}", raw=True)
            for path in workers
        ),
    ]
    # Nothing but these files themselves: a link may lead anywhere.
    return [each for each in found if each.path.is_file() and not each.path.is_symlink()]


def tail(
    files: Sequence[Source], wanted: Wanted, cursor: str = "", *, limit: int = MAX_ENTRIES
) -> dict[str, Any]:
    """The newest entries that are wanted, before a cursor if there is one."""
    known = _parse(cursor)
    parts = []
    for each in files:
        begin, end = known.get(each.name, (each.size(), None))
        part = _back(each, wanted, begin, limit)
        parts.append((part, part.end if end is None else end))
    merged = list(merge(*(part.entries for part, _ in parts), key=lambda entry: entry.order))
    kept = merged[-limit:]
    positions, left = [], 0
    for part, end in parts:
        mine = [entry.at for entry in kept if entry.source == part.source.name]
        start = part.start
        if len(mine) < len(part.entries):  # the next request begins before what is shown
            start = min(mine, default=part.end)
        positions.append(f"{part.source.name}:{start}:{end}")
        left += start
    return {
        "entries": [asdict(entry) for entry in kept],
        "cursor": ",".join(positions),
        "left": left,
        **_about(files),
    }


def follow(files: Sequence[Source], wanted: Wanted, cursor: str) -> dict[str, Any] | None:
    """What has come since a cursor; ``None`` if nothing has. Where that is too much, or a file is
    not what it was, ``reset`` says to ask for the newest entries again."""
    known = _parse(cursor)
    entries, positions, news = [], [], False
    for each in files:
        start, end = known.get(each.name, (0, 0))
        size = each.size()
        if size < end or size - end > FOLLOWED_BYTES:
            return {"reset": True}
        data = _read(each.path, end, size)
        whole = data[: data.rfind(b"\n") + 1]
        news = news or bool(whole)
        entries += [entry for entry in _entries(each, whole, end) if wanted.fits(entry)]
        positions.append(f"{each.name}:{start}:{end + len(whole)}")
    if not news:
        return None
    entries.sort(key=lambda entry: entry.order)
    return {
        "entries": [asdict(entry) for entry in entries[-MAX_ENTRIES:]],
        "cursor": ",".join(positions),
        **_about(files),
    }


def find_source(files: Sequence[Source], name: str) -> Source | None:
    """The file of that name, for a download."""
    by_name = {each.name: each for each in files}
    return by_name.get("run" if name in ("", "coordinator") else name)


def _back(source: Source, wanted: Wanted, before: int, limit: int) -> Part:
    """Entries before a byte, read backwards: ``limit`` of them, or as far as a request may look."""
    budget = OUTPUT_BYTES if source.printed_only else SEARCHED_BYTES
    found: list[Entry] = []
    with source.path.open("rb") as file:
        end = position = read_to = _last_line_end(file, min(before, source.size()))
        carried = b""  # from `read_to` to `position`: its entry began before
        while read_to > 0 and len(found) < limit and end - read_to < budget:
            start = max(0, read_to - CHUNK_BYTES)
            file.seek(start)
            data, read_to = file.read(read_to - start) + carried, start
            cut = _first_entry(data, start)
            if cut is None:
                carried = data
                continue
            if wanted.may_fit(source, data):
                entries = _entries(source, data[cut:], start + cut)
                found[:0] = [entry for entry in entries if wanted.fits(entry)]
            position = read_to = start + cut
            carried = b""
    return Part(source, _in_order(found), position, end)


def _first_entry(data: bytes, start: int) -> int | None:
    """Where the first whole entry of a chunk begins; ``None`` where more has to be read first."""
    if start == 0:
        return 0
    begin = data.find(b"\n", 0, -1) + 1  # the first line may have begun before
    header = _HEADER.search(data, begin) if begin else None
    if header is not None:
        return header.start()
    return begin if len(data) > (4 if begin else 16) * MAX_ENTRY_BYTES else None


def _in_order(entries: Sequence[Entry]) -> list[Entry]:
    """As they stand in their file, though the clock may have been put back meanwhile."""
    latest, found = "", []
    for entry in entries:
        latest = max(latest, entry.order)
        found.append(replace(entry, order=latest))
    return found


def _entries(source: Source, data: bytes, offset: int) -> Iterator[Entry]:
    """The entries in whole lines of a file, from byte ``offset`` of it on."""
    headers = list(_HEADER.finditer(data))
    first = headers[0].start() if headers else len(data)
    if first:
        yield from _printed(source, data[:first], offset, "")
    ends = [*(header.start() for header in headers), len(data)][1:]
    for header, end in zip(headers, ends, strict=True):
        time, level = header[1].decode(), header[2].decode()
        body = data[header.end() : end]
        if source.raw and _rank(level) < _rank("ERROR"):  # what follows was printed by itself
            line, _, rest = body.partition(b"\n")
            printed_at = offset + end - len(rest)
        else:
            line, rest, printed_at = body, b"", 0
        if not source.printed_only:
            yield from _if_about(source, _entry(source, offset + header.start(), time, level, line))
        if rest.strip():
            yield from _printed(source, rest, printed_at, time)


def _printed(source: Source, data: bytes, at: int, time: str) -> Iterator[Entry]:
    """Lines without a time: in a file of what was printed an entry, else the end of one."""
    entry = _entry(source, at, time, "", data)
    if source.raw:
        crashed, warned = _CRASH.search(entry.text), _WARNED.search(entry.text)
        level = "ERROR" if crashed else "WARNING" if warned else "INFO"
        entry = _entry(source, at, time, level, data)
    if entry.text.strip():
        yield from _if_about(source, entry)


def _if_about(source: Source, entry: Entry) -> Iterator[Entry]:
    if source.about in entry.text:
        yield entry


def _entry(source: Source, at: int, time: str, level: str, data: bytes) -> Entry:
    order = time or _last_change(source.path)
    if len(data) > MAX_ENTRY_BYTES:
        data = "… ".encode() + data[-MAX_ENTRY_BYTES:]
    text = data.decode("utf-8", errors="replace").rstrip()
    return Entry(source.name, source.process, at, time, level, text, order)


def _last_change(path: Path) -> str:
    moment = path.stat().st_mtime
    return f"{strftime('%Y-%m-%d %H:%M:%S', localtime(moment))},{int(1000 * (moment % 1)):03}"


def _last_line_end(file: BinaryIO, end: int) -> int:
    """Where the last whole line before ``end`` ends."""
    position = end
    while position > 0:
        start = max(0, position - 4096)
        file.seek(start)
        at = file.read(position - start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
        position = start
    return 0


def _read(path: Path, start: int, end: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(end - start)


def _about(files: Sequence[Source]) -> dict[str, Any]:
    """Size of the log, and name and words of each process that has one."""
    processes = {"coordinator" if each.name in ("run", "output") else each.name: each.process
                 for each in files}  # fmt: skip
    return {
        "size": sum(each.size() for each in files),
        "processes": [[name, words] for name, words in processes.items()],
    }


def _rank(level: str) -> int:
    return LEVELS.index(level) if level in LEVELS else len(LEVELS)


def _parse(cursor: str) -> dict[str, tuple[int, int]]:
    return {
        match[1]: (int(match[2]), int(match[3]))
        for match in map(_CURSOR.fullmatch, cursor.split(","))
        if match
    }
