"""The commands around training: runs, datasets, inspect, predict, export, serve, bench, doctor."""

from __future__ import annotations

import csv as csv_module
import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from regatta.cli import doctor, main, tools
from regatta.configuration import TrainingConfig
from regatta.runs import service
from regatta.runs.states import RunState
from regatta.runs.store import RunRecord, RunStore, waiting
from regatta.utils import UserError

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(regatta_home: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    """The command in this process: exit code, stdout, stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        return (code, *capsys.readouterr())

    return run


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    lines = [f"{i},{'ab'[i % 2]},{2 * i + 3 * (i % 2)}" for i in range(200)]
    path.write_text("\n".join(["x,letter,y", *lines]) + "\n")
    return path


@pytest.fixture
def trained(call: Call, csv: Path) -> dict[str, Any]:
    code, out, err = call("train", csv, "--target", "y", "--workers", "0", "--json")
    assert code == 0, err
    result: dict[str, Any] = json.loads(out)
    return result


def fake_runs(store: RunStore, *names: str) -> Iterator[RunRecord]:
    for name in names:
        yield store.create(TrainingConfig(path="d.csv", target="y", name=name), detached=True)


# Finding and listing runs


def test_a_run_is_found_by_id_start_name_and_last(store: RunStore) -> None:
    first, second, _ = fake_runs(store, "one", "two", "twins")
    last = next(fake_runs(store, "twins"))
    store.update(last.run_id, message="x")
    assert service.find(first.run_id, store=store).run_id == first.run_id
    assert service.find("two", store=store).run_id == second.run_id
    assert service.find("last", store=store).run_id == store.list()[0].run_id
    unique = first.run_id
    if not any(run.run_id.startswith(unique[:-1]) for run in store.list()[:-1]):
        assert service.find(unique[:-1], store=store).run_id == unique
    for word, reason in (("twins", "means 2 runs"), ("2", "means 4 runs"), ("three", "no run")):
        with pytest.raises(UserError, match=reason):
            service.find(word, store=store)
    for word in ("", "../x", "*", "%"):
        with pytest.raises(UserError):
            service.find(word, store=store)


def test_the_list_is_short_unless_all_are_asked_for(call: Call, store: RunStore) -> None:
    for run in list(fake_runs(store, *map(str, range(5)))):
        store.send_command(run.run_id, "stop")
    code, out, _ = call("runs", "list", "-n", "2")
    assert code == 0
    assert out.count("stopped") == 2 and "3 older ones" in out
    assert call("runs", "list", "-n", "0")[1].count("stopped") == 5
    for words in (("runs", "--json"), ("runs", "list", "--json"), ("runs", "--json", "list")):
        assert len(json.loads(call(*words)[1])["runs"]) == 5


def test_no_run_yet(call: Call) -> None:
    code, out, _ = call("runs")
    assert code == 0 and "regatta train" in out
    assert json.loads(call("runs", "--json")[1]) == {"runs": []}
    code, _, err = call("runs", "show", "last")
    assert code == 2 and "no run yet" in err


def test_a_failed_run_shows_why_and_the_end_of_its_log(call: Call, store: RunStore) -> None:
    (run,) = fake_runs(store, "lost")
    directory = store.directory(run.run_id)
    directory.log.write_text("".join(f"line {i}\n" for i in range(30)) + "\x1b[31mred\n")
    store.update_state(run.run_id, RunState.FAILED, message="Worker 1 died.", hint="Buy memory.")
    _, out, _ = call("runs", "show", "lost")
    assert "Worker 1 died." in out and "Buy memory." in out
    assert "line 29" in out and "line 5\n" not in out
    assert "\x1b" not in out, "a log cannot command the terminal"


def test_a_waiting_run_is_moved_and_the_list_tells_its_place(
    call: Call, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "nudge", lambda store: None)
    one, two, three = (run.run_id for run in fake_runs(store, "one", "two", "three"))
    assert call("runs", "move", "three", "first")[:2] == (
        0, f"Run {three} is number 1 of 3 that wait.\n"
    )  # fmt: skip
    lines = call("runs", "list")[1].splitlines()
    for run_id, place in ((three, "1/3"), (one, "2/3"), (two, "3/3")):
        (line,) = [each for each in lines if run_id in each]
        assert f"queued {place} " in line
    assert json.loads(call("runs", "move", "one", "last", "--json")[1])["state"] == "queued"
    assert [run.run_id for run in waiting(store.list())] == [three, two, one]
    store.send_command(one, "stop")
    code, _, err = call("runs", "move", "one", "first")
    assert code == 2 and "is stopped and has no place in the queue" in err
    code, _, err = call("runs", "move", "two", "middle")
    assert code == 2 and "'middle'" in err


def test_several_runs_are_deleted_together(call: Call, store: RunStore) -> None:
    runs = [store.create(TrainingConfig(path="d.csv", target="y", name=n)) for n in "ab"]
    code, out, _ = call("runs", "delete", "a", "b")
    assert code == 0
    assert all(run.run_id in out for run in runs)
    assert store.list() == []


def test_a_queued_run_is_stopped_without_a_supervisor(call: Call, store: RunStore) -> None:
    next(fake_runs(store, "waiting"))
    code, out, _ = call("runs", "stop", "waiting")
    assert code == 0 and "is stopped" in out
    code, _, err = call("runs", "pause", "waiting")
    assert code == 2 and "nothing to pause" in err
    assert service.supervisor_pid(store) is None


# Files


def test_inspect_tells_columns_and_dialect(call: Call, csv: Path) -> None:
    code, out, err = call("inspect", csv)
    assert code == 0, err
    assert "200 rows, 3 columns, separated by comma" in out
    assert "letter" in out and "category" in out
    report = json.loads(call("inspect", csv, "--json")[1])
    assert report["rows"] == 200
    assert [column["name"] for column in report["columns"]] == ["x", "letter", "y"]
    code, out, _ = call("inspect", csv.with_name("none.csv"), "--json")
    assert code == 2 and "none.csv" in json.loads(out)["error"]["message"]


def test_predict_adds_a_last_column(call: Call, csv: Path, trained: dict[str, Any]) -> None:
    out = csv.with_name("out.csv")
    code, text, err = call("predict", "last", csv, "-o", out)
    assert code == 0, err
    assert "200 rows" in text
    with out.open(newline="") as file:
        rows = list(csv_module.DictReader(file))
    assert list(rows[0]) == ["x", "letter", "y", "prediction"]
    errors = [float(row["prediction"]) - float(row["y"]) for row in rows]
    assert max(map(abs, errors)) < 10  # of 400
    answer = json.loads(call("predict", trained["run_id"], csv, "-o", out, "--json")[1])
    assert answer == {
        "rows": 200, "output": str(out), "column": "prediction", "schema": [],
        "rows_beyond_training": 0, "beyond_training": {},
    }  # fmt: skip
    _, text, _ = call("predict", "last", out, "-o", csv.with_name("again.csv"))
    assert "They stand in 'prediction_2': the file has a column 'prediction'." in text


def test_predict_tells_how_a_file_differs_from_the_training(
    call: Call, csv: Path, trained: dict[str, Any]
) -> None:
    new, out = csv.with_name("new.csv"), csv.with_name("out.csv")
    new.write_text("x;letter\n1,5;a\n2,5;c\n")
    code, text, err = call("predict", "last", new, "-o", out)
    assert code == 0, err
    assert "decimal comma" in text
    assert "1 of 2 cells of column 'letter' were not seen in the training" in text
    schema = json.loads(call("predict", "last", new, "-o", out, "--json")[1])["schema"]
    assert [(each["kind"], each["column"], each["cells"], each["rows"]) for each in schema] == [
        ("style", "x", 0, []),
        ("new_levels", "letter", 1, [3]),
    ]
    out.unlink()
    code, text, _ = call("predict", "last", new, "-o", out, "--on-new-levels", "refuse", "--json")
    error = json.loads(text)["error"]
    assert code == 2 and (error["row"], error["column"]) == (3, "letter")
    assert not out.exists()
    new.write_text("x,letter\n1,a\nabout 3,b\n")
    code, _, err = call("predict", "last", new, "-o", out)
    assert code == 2 and "'about 3'" in err and "--on-bad-cells missing" in err
    new.write_text("x,letter\n1.5,a\n")
    code, _, err = call("predict", "last", new, "-o", out, "--decimal", "comma")
    assert code == 2 and "read with --decimal comma: leave it out" in err
    code, _, err = call("predict", "last", new, "-o", out, "--delimiter", "tab")
    assert code == 2 and "read with --delimiter tab: leave it out" in err
    assert call("predict", "last", new, "-o", out, "--on-bad-cells", "missing")[0] == 0
    assert call("predict", "last", new, "-o", out, "--on-bad-cells", "zero")[0] == 2


def test_predict_never_writes_over_its_input(
    call: Call, csv: Path, trained: dict[str, Any]
) -> None:
    content = csv.read_bytes()
    code, _, err = call("predict", "last", csv, "-o", csv)
    assert code == 2 and "is the file to read from" in err
    code, _, err = call("predict", "last", csv, "-o", csv.parent / "no" / "out.csv")
    assert code == 2 and "no folder" in err
    assert csv.read_bytes() == content


@pytest.mark.parametrize("form", ["sklearn", "json", "onnx", "snippet"])
def test_export_writes_a_file_and_says_how_it_compares(
    call: Call, csv: Path, trained: dict[str, Any], form: str
) -> None:
    out = csv.with_name("model.out")
    code, text, err = call("export", "last", "--format", form, "-o", out)
    assert code == 0, err
    assert out.stat().st_size > 100 and str(out) in text
    answer = json.loads(call("export", "last", "--format", form, "-o", out, "--json")[1])
    assert answer["largest_difference"] < 1e-9
    code, _, err = call("export", "last", "--format", "pickle", "-o", out)
    assert code == 2 and "--format is 'pickle'" in err


def test_export_writes_the_card_and_the_report(
    call: Call, csv: Path, trained: dict[str, Any]
) -> None:
    for form, begin in (("card", "# Model card: "), ("report", "<!DOCTYPE html>")):
        out = csv.with_name(f"model.{form}")
        code, text, err = call("export", "last", "--format", form, "-o", out)
        assert code == 0 and str(out) in text, err
        assert out.read_text(encoding="utf-8").startswith(begin)
        assert str(csv.parent) not in out.read_text(encoding="utf-8")  # nobody's folders in it
        answer = json.loads(call("export", "last", "--format", form, "-o", out, "--json")[1])
        assert answer == {"output": str(out), "format": form}
        assert call("export", "last", "--format", form, "-o", csv.parent / "no" / "x")[0] == 2


def test_datasets_are_listed_and_deleted(
    call: Call, csv: Path, trained: dict[str, Any], regatta_home: Path
) -> None:
    code, out, _ = call("datasets")
    assert code == 0
    assert out.count("rows.csv") == 2 and "parsed" in out and "prepared" in out
    found = json.loads(call("datasets", "list", "--json")[1])["datasets"]
    prepared = next(each["key"] for each in found if each["layer"] == "prepared")
    assert call("datasets", "delete")[0] == 2
    assert call("datasets", "delete", "zzz")[0] == 2
    answer = json.loads(call("datasets", "delete", prepared[:12], "--json")[1])
    assert answer["deleted"] == [prepared] and answer["bytes"] > 0
    code, out, _ = call("datasets", "delete", "--all")
    assert code == 0 and "1 deleted" in out
    assert json.loads(call("datasets", "--json")[1]) == {"datasets": []}
    assert "No prepared copy" in call("datasets")[1]
    assert csv.exists()


# serve, bench, doctor


def test_a_taken_port_is_told_with_the_option(regatta: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = regatta("serve", "--port", port, "--no-browser")
    assert done.returncode == 1
    assert str(port) in done.stderr and "--port" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_open_address_is_refused(call: Call) -> None:
    code, _, err = call("serve", "--host", "0.0.0.0", "--port", "0", "--no-browser")
    assert code == 2 and "--host" in err


def test_benchmarks_are_found_by_name(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "benchmarks" / "tiny.py"
    script.parent.mkdir()
    script.write_text("import sys; sys.exit(len(sys.argv))")
    monkeypatch.setattr(tools, "__file__", str(tmp_path / "cli" / "tools.py"))
    assert call("bench", "tiny", "--rows", "5")[0] == 3
    assert call("bench")[0] == 1
    code, _, err = call("bench", "huge")
    assert code == 2 and "Known: tiny" in err
    script.unlink()
    code, _, err = call("bench")
    assert code == 2 and "make bench" in err


def test_the_doctor_finds_nothing_that_fails_here(call: Call) -> None:
    code, out, _ = call("doctor", "--json")
    report = json.loads(out)
    failed = [each for each in report["checks"] if each["level"] == "fail"]
    assert not failed and code == 0 and report["ok"]
    names = {each["name"] for each in report["checks"]}
    assert {"Python", "packages", "cores", "memory", "disk", "SQLite", "port", "runs"} <= names
    text = call("doctor")[1]
    assert all(line.split()[0] in ("ok", "warn") for line in text.splitlines() if line[0] != " ")


def test_the_doctor_names_what_is_wrong(
    call: Call, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, _ = fake_runs(store, "dead", "waiting")
    with store.directory(dead.run_id).lock():
        store.update_state(dead.run_id, RunState.STARTING)
    (store.root / "strange").mkdir()
    store.home.chmod(0o755)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        _, out, _ = call("doctor", "--json", "--port", taken.getsockname()[1])
    warned = {each["name"] for each in json.loads(out)["checks"] if each["level"] == "warn"}
    assert {"home", "port", "interrupted", "supervisor", "damaged"} <= warned

    def broken() -> Iterator[doctor.Finding]:
        raise OSError("no such device")

    monkeypatch.setattr(doctor, "check_memory", broken)
    code, out, _ = call("doctor")
    assert code == 1 and "no such device" in out


@pytest.mark.parametrize("words", [["--help"], ["runs"], ["doctor", "--json"]], ids=" ".join)
def test_a_reader_that_has_gone_is_no_failure(words: list[str], regatta: Any) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        done = regatta(*words, capture_output=False, stdout=closed, stderr=subprocess.PIPE)
    assert done.stderr == ""
    assert done.returncode == 0
