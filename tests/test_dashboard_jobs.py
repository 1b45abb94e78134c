"""Jobs of the page: real processes, their status, their death."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from regatta.dashboard import inspection, jobs, samples
from regatta.ingest.importer import ImportProgress
from regatta.runs.directory import read_holder
from regatta.utils import UserError, write_json


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def finished(job: jobs.Job) -> bool:
    return job.status().state in {"done", "failed"}


def test_the_sample_is_made_once_and_not_by_the_page(regatta_home: Path) -> None:
    path = regatta_home / "samples" / "few.csv"
    job = jobs.start("sample", path=str(path), rows=1000)
    assert jobs.start("sample", path=str(path), rows=1000) == job
    wait_until(lambda: finished(job))
    assert job.status().state == "done", job.status()
    lines = path.read_text().splitlines()
    assert len(lines) == 1001
    assert lines[0].split(",")[-1] == samples.LARGE_TARGET
    assert len(lines[1].split(",")) == samples.LARGE_FEATURES + 1
    assert max(map(len, lines[1:])) < samples.LARGE_BYTES_A_ROW * 1.3


def test_a_killed_job_is_failed_and_can_be_started_again(regatta_home: Path) -> None:
    path = regatta_home / "samples" / "many.csv"
    job = jobs.start("sample", path=str(path), rows=50_000_000)
    wait_until(lambda: job.status().fraction > 0)
    pid = read_holder(job.folder / "lock")
    assert pid is not None and psutil.pid_exists(pid)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: finished(job))
    assert job.status().state == "failed" and job.status().message
    assert jobs.start("sample", path=str(path), rows=50_000_000).status().state == "failed"
    job.forget()
    assert job.status().state == "none"


def test_an_error_keeps_its_sentence_and_place(regatta_home: Path) -> None:
    job = jobs.start("predict", model=str(regatta_home / "no-model.json"), path="no.csv")
    wait_until(lambda: finished(job))
    status = job.status()
    assert status.state == "failed" and "model" in status.message.lower()


@pytest.mark.parametrize("job_id", ["", "..", "inspect-", "inspect-00", "../jobs", "x-" + "0" * 16])
def test_other_names_are_no_jobs(regatta_home: Path, job_id: str) -> None:
    with pytest.raises(UserError):
        jobs.find(job_id)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "", None, "missing.csv"])
def test_a_result_lies_in_the_folder_of_its_job(regatta_home: Path, name: str | None) -> None:
    (regatta_home / "jobs").mkdir()
    job = jobs.job_of("predict", path="x")
    job.folder.mkdir()
    (regatta_home / "jobs" / "secret").write_text("s")
    write_json(job.folder / "status.json", vars(jobs.Status("done", result={"file": name})))
    assert job.result_file() is None


def test_a_link_is_no_result(regatta_home: Path, tmp_path: Path) -> None:
    (regatta_home / "jobs").mkdir()
    job = jobs.job_of("predict", path="y")
    job.folder.mkdir()
    (job.folder / "out.csv").symlink_to(tmp_path / "elsewhere.csv")
    (tmp_path / "elsewhere.csv").write_text("a\n")
    write_json(job.folder / "status.json", vars(jobs.Status("done", result={"file": "out.csv"})))
    assert job.result_file() is None


def test_a_job_that_is_cancelled_ends_soon_and_can_be_started_again(regatta_home: Path) -> None:
    path = regatta_home / "samples" / "many.csv"
    job = jobs.start("sample", path=str(path), rows=50_000_000)
    wait_until(lambda: job.status().fraction > 0)
    job.cancel()
    wait_until(lambda: not job.status().is_running, seconds=10)
    assert job.status().state == "cancelled" and not path.exists()
    job.forget()
    assert job.status().state == "none" and not job.is_cancelled


def test_a_reading_tells_its_rows_their_speed_and_the_time_left() -> None:
    def told(done: int, rows: int, seconds: float) -> str:
        return inspection.progress_text(ImportProgress("read", done, 1000, rows, seconds))

    assert told(0, 0, 0.2) == "0 rows read"
    assert told(10, 5_000, 0.5) == "5,000 rows read · 10,000 rows/s"
    assert told(250, 120_000, 4.0) == "120,000 rows read · 30,000 rows/s · 12 s left"
    assert told(1000, 480_000, 16.0) == "480,000 rows read · 30,000 rows/s"


@pytest.mark.usefixtures("regatta_home")
def test_the_first_rows_show_what_the_file_says(tmp_path: Path) -> None:
    """Texts that are not kept, and numbers among words as they are written."""
    rows = "".join(
        f"note {n},{n if n % 12 else 'unclear'}{'' if n % 12 else n},{n / 4}\n"
        for n in range(12_000)
    )
    path = tmp_path / "rows.csv"
    path.write_text("note,amount,y\n" + rows)
    result = inspection.inspect({"path": str(path)}, tmp_path, lambda *_: None)
    assert result["preview"]["columns"] == ["note", "amount", "y"]
    assert result["preview"]["rows"][:3] == [
        ["note 0", "unclear0", 0.0],
        ["note 1", "1", 0.25],
        ["note 2", "2", 0.5],
    ]


def test_a_status_that_was_read_is_read_again_once_it_changes(regatta_home: Path) -> None:
    (regatta_home / "jobs").mkdir()
    job = jobs.job_of("predict", path="z")
    job.folder.mkdir()
    for number in range(3):
        write_json(job.folder / "status.json", vars(jobs.Status("done", result=number)))
        assert job.status().result == job.status().result == number


def test_a_clean_copy_is_made_as_the_file_was_read(regatta_home: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a;b\n" + "".join(f"{n},5;=x{n % 3}\n" for n in range(30)) + "1;2;3\n")
    options = {"on_bad_rows": "skip", "max_bad_rows": 0.5}
    job = jobs.start("clean", path=str(path), reading=options)
    wait_until(lambda: finished(job))
    assert job.status().result == {"file": "rows-clean.csv", "rows": 30, "apostrophes": 30}
    copy = job.result_file()
    assert copy is not None
    assert copy.read_text().splitlines()[:3] == ["a,b", '0.5,"\'=x0"', '1.5,"\'=x1"']


def test_what_was_made_of_a_file_goes_with_it(regatta_home: Path, tmp_path: Path) -> None:
    made = []
    for name in ("gone", "kept"):
        path = tmp_path / f"{name}.csv"
        path.write_text("a,b\n" + "".join(f"{n},{n % 3}\n" for n in range(30)))
        made += [jobs.start(kind, path=str(path)) for kind in ("clean", "inspect")]
    for job in made:
        wait_until(lambda job=job: finished(job))  # type: ignore[misc]
    jobs.forget_all_of(tmp_path / "gone.csv")
    assert [job.status().state for job in made] == ["none", "none", "done", "done"]
