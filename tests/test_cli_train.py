"""`regatta train` and `regatta runs` with real processes, from the command line alone."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from regatta.cli import main
from regatta.cli.train import check_columns
from regatta.configuration import TrainingConfig
from regatta.data_pipeline import import_csv, list_datasets, prepare
from regatta.runs import service
from regatta.runs.directory import RunDirectory
from regatta.runs.states import RunState
from regatta.runs.store import RunStore
from regatta.utils import DataError, read_json

DEADLINE = 40.0
Command = Callable[..., "subprocess.CompletedProcess[str]"]

RESULT_KEYS = {
    "run_id", "state", "model", "solver", "alpha", "workers", "shards", "rows", "rows_train",
    "features", "epochs", "seconds", "rows_per_second", "metrics", "coefficients", "intercept",
    "weights_sha256", "model_path",
}  # fmt: skip

# A run of some seconds: long enough to be met in the middle, stopped and resumed.
LONG = [
    "--target", "y", "--solver", "sgd", "--workers", "1", "--batch-size", "64", "--tol", "0",
    "--epochs", "4000", "--seed", "5",
]  # fmt: skip
# Later words win: a run that is still at work whatever a test does meanwhile, and is then stopped.
ENDLESS = [*LONG, "--epochs", "1000000"]


@pytest.fixture(scope="module")
def csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4,000 rows of three features with known coefficients 2, -3 and 0, and intercept 5."""
    path, rng = tmp_path_factory.mktemp("data") / "known.csv", random.Random(3)
    lines = ["a,b,c,y"]
    for _ in range(4000):
        a, b, c = (rng.gauss(0, 1) for _ in range(3))
        lines.append(f"{a:.6g},{b:.6g},{c:.6g},{2 * a - 3 * b + 5 + rng.gauss(0, 0.1):.6g}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def undisturbed(csv: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the weights of the long run are if nothing happens to it."""
    home = tmp_path_factory.mktemp("undisturbed")
    command = [sys.executable, "-P", "-m", "regatta", "train", str(csv), *LONG, "--json"]
    environment = {**os.environ, "REGATTA_HOME": str(home)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    return str(json.loads(done.stdout)["weights_sha256"])


def start(*words: object, **settings: Any) -> subprocess.Popen[str]:
    """Start the command and do not wait for it."""
    command = [sys.executable, "-P", "-m", "regatta", *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **settings}
    return subprocess.Popen(command, **pipes)


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {DEADLINE:.0f} s: {what}"
        time.sleep(0.02)
    return found


def training(store: RunStore) -> RunDirectory | None:
    """The directory of the newest run once it is in the middle of its training."""
    for run in store.list()[:1]:
        directory = store.directory(run.run_id)
        if run.state is RunState.RUNNING and steps_recorded(directory.metrics) > 100:
            return directory
    return None


def steps_recorded(metrics: Path) -> int:
    with contextlib.closing(sqlite3.connect(f"file:{metrics}?mode=ro", uri=True)) as database:
        return int(database.execute("SELECT max(step) FROM points").fetchone()[0] or 0)


# Results


def test_the_result_is_one_json_object_with_all_that_was_promised(
    regatta: Command, csv: Path, regatta_home: Path
) -> None:
    done = regatta("train", csv, "--target", "y", "--alpha", "0", "--workers", "2", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert set(result) >= RESULT_KEYS
    assert result["state"] == "finished"
    assert set(result["seconds"]) == {"import", "train", "total"}
    for part in ("train", "validation"):
        assert set(result["metrics"][part]) == {"r2", "rmse", "mae"}
        assert result["metrics"][part]["r2"] > 0.99
    found = result["coefficients"]
    assert found == pytest.approx({"a": 2, "b": -3, "c": 0}, abs=0.02)
    assert result["intercept"] == pytest.approx(5, abs=0.02)
    model = Path(result["model_path"])
    assert model.is_file() and regatta_home in model.parents
    assert read_json(model.with_name("result.json")) == result


def test_the_summary_tells_scores_speed_and_what_to_do_next(regatta: Command, csv: Path) -> None:
    done = regatta("train", csv, "--target", "y", "--workers", "0", "--name", "first")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "no bar, no log where there is no terminal"
    for word in ("R²", "RMSE", "held out", "rows/s", "model.json", "regatta predict",
                 "regatta export", "one std. deviation more"):  # fmt: skip
        assert word in done.stdout
    listed = regatta("runs")
    assert "first" in listed.stdout and "finished" in listed.stdout
    assert "0.99" in listed.stdout
    shown = regatta("runs", "show", "first").stdout
    assert str(csv) in shown and "RMSE" in shown


def test_a_terminal_sees_a_bar(csv: Path, regatta_home: Path) -> None:
    ours, theirs = pty.openpty()
    run = start("train", csv, *LONG, stderr=theirs)
    os.close(theirs)
    seen = b""
    while True:
        try:
            seen += os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
    out, _ = run.communicate(timeout=DEADLINE)
    os.close(ours)
    text = seen.decode()
    assert run.returncode == 0, text
    for word in ("Reading", "Training", "█", "epoch", "loss", "rows/s", "ETA"):
        assert word in text
    assert "█" not in out and "R²" in out, "the result alone is on stdout"


def test_it_works_in_a_folder_with_files_of_the_same_names(
    csv: Path, tmp_path: Path, regatta: Command
) -> None:
    for name in ("utils", "models", "metrics", "worker", "configuration"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')\n")
    (tmp_path / "known.csv").write_bytes(csv.read_bytes())
    done = regatta("train", "known.csv", "--target", "y", "--workers", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    background = regatta("train", "known.csv", "--target", "y", "--detach", cwd=tmp_path)
    run_id = background.stdout.strip()
    store = RunStore(Path(os.environ["REGATTA_HOME"]))
    until(lambda: store.get(run_id).state.is_terminal, "the run ended")
    assert store.get(run_id).state is RunState.FINISHED


def test_more_workers_than_shards_or_cores_are_warned_of(regatta: Command, csv: Path) -> None:
    words = ["train", csv, "--target", "y", "--epochs", "1", "--json", "--shards", "2"]
    done = regatta(*words, "--workers", "3")
    assert done.returncode == 0
    assert "3 workers for 2 shards" in done.stderr
    assert json.loads(done.stdout)["workers"] == 2


# Mistakes


MISTAKES = {
    "no such file": (None, "y", "no file"),
    "a folder": ("a folder", "y", "folder"),
    "empty": (b"", "y", "empty"),
    "header only": (b"a,b,y\n", "y", "no rows"),
    "no such column": (b"a,y\n" + b"1,2\n3,5\n" * 30, "nope", "nope"),
    "text target": (b"a,y\n" + b"".join(b"%d,w%d\n" % (i, i) for i in range(60)), "y", "y"),
    "missing target": (b"a,y\n" + b"".join(b"%d,\n" % i for i in range(60)), "y", "y"),
    "no target": (b"a,y\n1,2\n", "", "target"),
}


@pytest.mark.parametrize("case", MISTAKES)
@pytest.mark.parametrize("as_json", [True, False], ids=["json", "text"])
def test_a_mistake_is_one_sentence_and_leaves_nothing(
    case: str,
    as_json: bool,
    regatta_home: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content, target, word = MISTAKES[case]
    path = tmp_path / "bad.csv"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "a folder":
        path.mkdir()
    words = ["train", str(path), *(["--target", target] if target else [])]
    code = main([*words, *(["--json"] if as_json else [])])
    caught = capsys.readouterr()
    assert code == 2
    assert "Traceback" not in caught.err
    if as_json:
        message = json.loads(caught.out)["error"]["message"]
    else:
        assert caught.out == ""
        message = caught.err.splitlines()[0]
        assert message.startswith("regatta: ")
        assert len(caught.err.splitlines()) <= 2
    assert word in message
    store = RunStore(regatta_home)
    assert store.list() == [] and os.listdir(store.root) == []
    for layer in ("parsed", "prepared", "building"):
        folder = regatta_home / "datasets" / layer
        assert not folder.exists() or os.listdir(folder) == []
    assert service.supervisor_pid(store) is None


def test_a_mistake_keeps_what_earlier_runs_made(
    regatta: Command, csv: Path, regatta_home: Path
) -> None:
    assert regatta("train", csv, "--target", "y", "--workers", "0").returncode == 0
    before = sorted((regatta_home / "datasets").rglob("*.bin"))
    assert regatta("train", csv, "--target", "nope").returncode == 2
    assert before and sorted((regatta_home / "datasets").rglob("*.bin")) == before
    assert len(RunStore(regatta_home).list()) == 1


def test_an_error_in_a_file_names_its_row_and_column(regatta: Command, tmp_path: Path) -> None:
    path = tmp_path / "infinite.csv"
    rows = [b"%d,%s,%d\n" % (i, b"inf" if i == 40 else b"1.5", i % 5) for i in range(60)]
    path.write_bytes(b"a,b,y\n" + b"".join(rows))
    error = json.loads(regatta("train", path, "--target", "y", "--json").stdout)["error"]
    assert (error["row"], error["column"]) == (42, "b")


def test_a_mistake_of_a_queued_run_is_told_at_once_if_it_can_be(
    regatta: Command, regatta_home: Path
) -> None:
    done = regatta("train", "none.csv", "--target", "y", "--detach", "--json")
    assert done.returncode == 2
    assert "none.csv" in json.loads(done.stdout)["error"]["message"]
    assert RunStore(regatta_home).list() == []
    assert service.supervisor_pid() is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--target", "nope"], "nope"),
        (["--target", "word"], "holds text, not numbers"),
        (["--target", "y", "--drop", "nope"], "nope"),
        (["--target", "y", "--model", "linear", "--alpha", "auto"], "no alpha to choose"),
    ],
    ids=["no target", "text", "no column", "settings"],
)
def test_a_queued_run_that_its_file_cannot_give_is_refused_as_one_in_the_foreground_is(
    regatta: Command, regatta_home: Path, tmp_path: Path, options: list[str], words: str
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(["word,x,y", *(f"{'ab'[i % 2]},{i % 7},{i}" for i in range(60))]))
    told = []
    for way in ([], ["--detach"]):
        done = regatta("train", path, *options, *way, "--json")
        assert done.returncode == 2, done.stderr
        told.append(json.loads(done.stdout)["error"])
    assert told[0] == told[1] and words in told[0]["message"]
    assert RunStore(regatta_home).list() == [] and service.supervisor_pid() is None
    assert list_datasets() == []


def test_a_file_that_was_read_before_is_looked_into_whatever_its_size(
    regatta: Command, regatta_home: Path, csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regatta.cli.train.SOON_BYTES", 0)
    config = TrainingConfig(path=str(csv), target="nope")
    check_columns(config)  # it is not known
    import_csv(csv)
    with pytest.raises(DataError, match="nope"):
        check_columns(config)


def test_a_queued_run_whose_large_file_has_no_such_target_fails_with_the_same_sentence(
    store: RunStore, csv: Path
) -> None:
    with pytest.raises(DataError) as caught:
        prepare(import_csv(csv), target="nope")
    run_id = service.submit(TrainingConfig(path=str(csv), target="nope"), store=store).run_id
    until(lambda: store.get(run_id).state.is_terminal, "the run ended")
    record = store.get(run_id)
    assert record.state is RunState.FAILED
    assert (record.message, record.hint) == (caught.value.message, caught.value.hint)


# Signals, kills and resuming


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_and_resume_gives_the_same_weights(
    number: signal.Signals, code: int, csv: Path, store: RunStore, regatta: Command,
    undisturbed: str,
) -> None:  # fmt: skip
    run = start("train", csv, *LONG, "--json")
    until(lambda: training(store), "it trains")
    run.send_signal(number)
    out, err = run.communicate(timeout=DEADLINE)
    assert run.returncode == code, err
    stopped = json.loads(out)
    assert stopped["state"] == "stopped" and stopped["step"] > 100
    record = store.get(stopped["run_id"])
    assert record.state is RunState.STOPPED
    done = regatta("runs", "resume", "last", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["weights_sha256"] == undisturbed


def test_a_second_signal_is_not_waited_for(csv: Path, store: RunStore) -> None:
    """The first one is obeyed by a coordinator that can; this one stands still in between."""
    run = start("train", csv, *ENDLESS, "--json")
    until(lambda: training(store), "it trains")
    workers = psutil.Process(run.pid).children()
    run.send_signal(signal.SIGSTOP)
    run.send_signal(signal.SIGTERM)
    run.send_signal(signal.SIGINT)
    run.send_signal(signal.SIGCONT)
    _, err = run.communicate(timeout=DEADLINE)
    assert run.returncode in (130, 143), err
    assert not psutil.wait_procs(workers, timeout=DEADLINE)[1]
    record = store.list()[0]
    assert record.state in (RunState.STOPPED, RunState.INTERRUPTED) and record.state.is_resumable


def test_ctrl_c_says_how_to_resume(csv: Path, store: RunStore) -> None:
    run = start("train", csv, *ENDLESS)
    until(lambda: training(store), "it trains")
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=DEADLINE)
    assert run.returncode == 130
    assert out == ""
    assert f"`regatta runs resume {store.list()[0].run_id}`" in err
    assert "Traceback" not in err


def test_a_killed_run_is_interrupted_and_resumes_to_the_same_weights(
    csv: Path, store: RunStore, regatta: Command, undisturbed: str
) -> None:
    run = start("train", csv, *LONG, "--json")
    directory = until(lambda: training(store), "it trains")
    assert directory.holder() == run.pid
    run.kill()
    run.communicate()
    began = time.monotonic()
    listed = json.loads(regatta("runs", "--json").stdout)["runs"]
    assert [each["state"] for each in listed] == ["interrupted"]
    print(f"seen as interrupted after {time.monotonic() - began:.2f} s")
    assert service.supervisor_pid(store) is None, "nobody resumes a foreground run by itself"
    done = regatta("runs", "resume", "last", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["weights_sha256"] == undisturbed


def test_a_second_coordinator_leaves_within_a_second_and_changes_nothing(
    csv: Path, store: RunStore
) -> None:
    run = start("train", csv, *ENDLESS)
    directory = until(lambda: training(store), "it trains")
    config = directory.config.read_bytes()
    began = time.monotonic()
    second = subprocess.run(
        [sys.executable, "-P", "-m", "regatta.runs.coordinate", directory.run_id],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    seconds = time.monotonic() - began
    assert run.poll() is None, "the first was at work meanwhile"
    assert second.returncode == 1
    assert f"process {run.pid}" in second.stderr and "Traceback" not in second.stderr
    assert directory.config.read_bytes() == config
    assert store.get(directory.run_id).state is RunState.RUNNING
    print(f"the second coordinator left after {seconds:.2f} s")
    assert seconds < 5
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=DEADLINE)


def test_a_queued_run_is_paused_resumed_stopped_and_finished_from_the_command_line(
    csv: Path, store: RunStore, regatta: Command, undisturbed: str
) -> None:
    queued = regatta("train", csv, *LONG, "--detach", "--name", "far", "--json")
    assert queued.returncode == 0, queued.stderr
    run_id = json.loads(queued.stdout)["run_id"]
    until(lambda: training(store), "it trains")
    paused = json.loads(regatta("runs", "pause", "far", "--json").stdout)
    assert (paused["run_id"], paused["state"]) == (run_id, "paused")
    assert regatta("runs", "delete", "far").returncode == 2, "a live run is not deleted"
    assert "is running" in regatta("runs", "resume", "far").stdout
    stopped = json.loads(regatta("runs", "stop", run_id[:-2], "--json").stdout)
    assert stopped["state"] == "stopped"
    assert regatta("predict", "far", csv, "-o", "out.csv").returncode == 2, "it has no model"
    again = regatta("runs", "resume", "far", "--detach", "--json")
    assert json.loads(again.stdout)["state"] in ("queued", "starting", "running")
    until(lambda: store.get(run_id).state is RunState.FINISHED, "it finished")
    shown = json.loads(regatta("runs", "show", "far", "--json").stdout)
    assert shown["result"]["weights_sha256"] == undisturbed
    assert regatta("runs", "resume", "far").returncode == 2, "nothing is left to do"
    assert regatta("runs", "delete", "far", "--json").returncode == 0
    assert regatta("runs", "show", "far").returncode == 2
    assert store.list() == []


def test_resuming_a_run_at_work_follows_it_to_its_end(
    csv: Path, store: RunStore, regatta: Command, undisturbed: str
) -> None:
    first = start("train", csv, *LONG, "--json")
    until(lambda: training(store), "it trains")
    second = regatta("runs", "resume", "last", "--json")
    out, _ = first.communicate(timeout=DEADLINE)
    assert second.returncode == 0, second.stderr
    assert f"process {first.pid}" in second.stderr
    assert json.loads(second.stdout) == json.loads(out)
    assert json.loads(out)["weights_sha256"] == undisturbed
