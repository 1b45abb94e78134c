"""The log of a run for the page: merged, filtered, from the end, in bounded pieces."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regatta.dashboard import log_view
from regatta.dashboard.log_view import Source, Wanted, follow, sources, tail
from regatta.runs.directory import RunDirectory
from regatta.utils import LOG_FORMAT

RUN_ID = "20260101-120000-abcd"
TRACEBACK = (
    'Traceback (most recent call last):\n  File "x.py", line 3, in <module>\n'
    "    fail()\n\nValueError: no\nsuch value"
)


def line(second: int, text: str, level: str = "INFO", name: str = "regatta.coordinator") -> str:
    clock = f"2026-01-01 {second // 3600:02}:{second // 60 % 60:02}:{second % 60:02},123"
    return f"{clock} {level:<7} {name}: {text}\n"


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    path = tmp_path / "runs" / RUN_ID
    path.mkdir(parents=True)
    return RunDirectory(path)


@pytest.fixture
def files(directory: RunDirectory, tmp_path: Path) -> list[Source]:
    """A run of two workers, the second of which has failed once."""
    directory.log.write_text(
        line(1, "Run begins.")
        + line(4, "Worker 1 (pid 7) died: ValueError: no", "WARNING")
        + line(5, f"The run failed.\n{TRACEBACK}", "ERROR")
    )
    directory.output.write_text(
        directory.log.read_text() + line(6, "Bye.") + "Segmentation fault\n"
    )
    (directory.path / "worker-0.log").write_text(
        line(2, "Worker 0 is ready.", name="regatta.worker")
    )
    (directory.path / "worker-1.log").write_text(
        line(2, "Worker 1 is ready.", name="regatta.worker")
        + "numpy: RuntimeWarning: overflow\n"
        + line(3, f"Worker 1 failed.\n{TRACEBACK}", "ERROR", "regatta.worker")
    )
    (tmp_path / "supervisor.log").write_text(
        line(0, f"Run {RUN_ID}: coordinator 5 started.", name="regatta.runs.supervisor")
        + line(1, "Run 20250101-000000-0000: coordinator 6 started.")
    )
    return sources(directory, tmp_path)


def texts(found: dict[str, Any] | None) -> list[str]:
    assert found is not None
    return [entry["text"].splitlines()[0] for entry in found["entries"]]


def test_all_files_are_one_log_in_the_order_of_time(files: list[Source]) -> None:
    found = tail(files, Wanted())
    assert texts(found) == [
        f"Run {RUN_ID}: coordinator 5 started.",  # and not what is about another run
        "Run begins.",  # once: what the coordinator printed too is left out
        "Worker 0 is ready.",
        "Worker 1 is ready.",
        "numpy: RuntimeWarning: overflow",
        "Worker 1 failed.",
        "Worker 1 (pid 7) died: ValueError: no",
        "The run failed.",
        "Segmentation fault",
    ]
    assert found["left"] == 0
    assert found["processes"] == [
        ["coordinator", "coordinator"], ["supervisor", "supervisor"],
        ["worker0", "worker 0"], ["worker1", "worker 1"],
    ]  # fmt: skip


def test_a_traceback_stays_with_its_line(files: list[Source]) -> None:
    found = tail(files, Wanted(level="ERROR"))
    assert texts(found) == ["Worker 1 failed.", "The run failed.", "Segmentation fault"]
    for entry in found["entries"][:2]:
        assert entry["text"].endswith(TRACEBACK) and entry["level"] == "ERROR"
        assert entry["time"].startswith("2026-01-01")


@pytest.mark.parametrize(
    ("wanted", "first_words"),
    [
        (Wanted(level="WARNING"), ["numpy:", "Worker", "Worker", "The", "Segmentation"]),
        (Wanted(process="worker0"), ["Worker"]),
        (Wanted(process="worker1"), ["Worker", "numpy:", "Worker", "Worker"]),
        (Wanted(process="supervisor"), ["Run"]),
        (Wanted(process="coordinator", level="INFO"), ["Run", "Worker", "The", "Segmentation"]),
        (Wanted(text="SUCH VALUE"), ["Worker", "The"]),
        (Wanted(text="such value", process="worker1"), ["Worker"]),
        (Wanted(text="<script>"), []),
    ],
)
def test_filters(files: list[Source], wanted: Wanted, first_words: list[str]) -> None:
    assert [text.split()[0] for text in texts(tail(files, wanted))] == first_words


def test_worker_1_is_not_worker_12(directory: RunDirectory, tmp_path: Path) -> None:
    directory.log.write_text(line(1, "Worker 12 died.") + line(2, "Worker 1 died."))
    assert texts(tail(sources(directory, tmp_path), Wanted(process="worker1"))) == [
        "Worker 1 died."
    ]


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_going_back_shows_everything_once(files: list[Source], limit: int) -> None:
    shown: list[str] = []
    cursor = ""
    while True:
        found = tail(files, Wanted(), cursor, limit=limit)
        shown[:0] = texts(found)
        cursor = found["cursor"]
        if not found["left"]:
            break
    assert shown == texts(tail(files, Wanted()))


def test_what_comes_is_followed(files: list[Source], directory: RunDirectory) -> None:
    cursor = tail(files, Wanted())["cursor"]
    assert follow(files, Wanted(), cursor) is None
    with directory.log.open("a") as log:
        log.write(line(9, "More.") + line(10, "Worse.", "ERROR") + "2026-01-01 00:00:11,000 INF")
    found = follow(files, Wanted(level="WARNING"), cursor)
    assert found is not None and texts(found) == ["Worse."]
    with directory.log.open("a") as log:
        log.write("O    x: Whole now.\n")
    again = follow(files, Wanted(), found["cursor"])
    assert texts(again) == ["Whole now."]
    assert texts(tail(files, Wanted(), found["cursor"])) == []  # nothing before: all was shown


def test_the_rest_of_a_traceback_goes_on_what_came_before(
    files: list[Source], directory: RunDirectory
) -> None:
    cursor = tail(files, Wanted())["cursor"]
    with directory.log.open("a") as log:
        log.write("the rest of it\n")
    found = follow(files, Wanted(), cursor)
    assert found is not None and found["entries"][0]["level"] == ""


def test_a_file_that_was_made_anew_is_read_anew(
    files: list[Source], directory: RunDirectory
) -> None:
    cursor = tail(files, Wanted())["cursor"]
    directory.log.write_text("")
    assert follow(files, Wanted(), cursor) == {"reset": True}


@pytest.mark.parametrize(
    "cursor", ["", "x", "run:-1:2", "run:1", "../etc:1:2", "run:9999999:9999999"]
)
def test_a_foreign_cursor_does_no_harm(files: list[Source], cursor: str) -> None:
    assert isinstance(tail(files, Wanted(), cursor)["entries"], list)
    follow(files, Wanted(), cursor)


def test_links_are_not_followed(directory: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret\n")
    directory.log.symlink_to(tmp_path / "secret")
    (directory.path / "worker-0.log").symlink_to(tmp_path / "secret")
    assert sources(directory, tmp_path) == []


def test_what_logging_writes_is_taken_apart(directory: RunDirectory, tmp_path: Path) -> None:
    """The format that `utils` has, and not only that of these tests."""
    handler = logging.FileHandler(directory.log)
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    for level in (logging.INFO, logging.WARNING, logging.CRITICAL):
        handler.emit(logging.LogRecord("regatta.x", level, "", 0, "Ünïcode: %s", ("y",), None))
    handler.close()
    found = tail(sources(directory, tmp_path), Wanted())
    assert [entry["level"] for entry in found["entries"]] == ["INFO", "WARNING", "CRITICAL"]
    assert {entry["text"] for entry in found["entries"]} == {"Ünïcode: y"}


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_view, "CHUNK_BYTES", 100)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(log_view.LEVELS),
            st.text(
                st.characters(exclude_characters="\r\n", exclude_categories=["Cs", "Cc"]),
                min_size=1,
            ),
            st.integers(0, 12),
        ),
        max_size=25,
    ),
    st.integers(1, 7),
    st.integers(10, 300),
)
def test_no_piece_is_lost_or_twice(
    tmp_path_factory: pytest.TempPathFactory,
    logged: list[tuple[str, str, int]],
    limit: int,
    chunk: int,
) -> None:
    """However long the entries are, and wherever the pieces that are read begin."""
    folder = tmp_path_factory.mktemp("log")
    path = folder / RUN_ID
    path.mkdir()
    directory = RunDirectory(path)
    written = [
        (level, f"{text}\n" + "".join(f"  more {number}\n" for number in range(more)))
        for level, text, more in logged
    ]
    directory.log.write_bytes(
        "".join(line(at, text[:-1], level) for at, (level, text) in enumerate(written)).encode()
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_view, "CHUNK_BYTES", chunk)
        found: list[tuple[str, str]] = []
        cursor = ""
        while True:
            part = tail(sources(directory, folder), Wanted(), cursor, limit=limit)
            assert len(part["entries"]) <= limit
            found[:0] = [(entry["level"], entry["text"]) for entry in part["entries"]]
            cursor = part["cursor"]
            if not part["left"]:
                break
    assert found == [(level, text.rstrip()) for level, text in written]


def test_a_huge_log_is_searched_a_piece_at_a_time(
    directory: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_view, "SEARCHED_BYTES", 2_000_000)
    rows = "".join(line(second % 80_000, f"Line {second}.") for second in range(100))
    with directory.log.open("w") as log:
        log.write(line(0, "The needle."))
        for _ in range(1600):
            log.write(rows)
    size = directory.log.stat().st_size
    assert size > 8_000_000
    files = sources(directory, tmp_path)
    begun = time.perf_counter()
    newest = tail(files, Wanted())
    assert len(newest["entries"]) == log_view.MAX_ENTRIES and size - newest["left"] < 1_000_000
    found = tail(files, Wanted(text="needle"))
    assert found["entries"] == [] and size - 3_000_000 < found["left"] < size - 1_900_000
    asked = 1
    while found["left"]:
        found = tail(files, Wanted(text="needle"), found["cursor"])
        asked += 1
    assert texts(found) == ["The needle."] and 3 < asked < 8
    assert time.perf_counter() - begun < 10


def test_a_line_without_an_end_does_not_stop_the_rest(
    directory: RunDirectory, tmp_path: Path
) -> None:
    """One of 5 MB, as when somebody prints a whole array."""
    directory.log.write_text(line(1, "Before.") + line(2, "x" * 5_000_000) + line(3, "After."))
    found = tail(sources(directory, tmp_path), Wanted())
    assert texts(found)[-1] == "After."
    assert max(len(entry["text"]) for entry in found["entries"]) <= log_view.MAX_ENTRY_BYTES + 2
    while found["left"]:
        found = tail(sources(directory, tmp_path), Wanted(), found["cursor"])
    assert texts(found)[0] == "Before."
