"""The queue at scale: many runs submitted in one go, and supervisors that are killed meanwhile.

A run that does nothing is a command that sets its state. Each run notes that it starts.
"""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from regatta.configuration import TrainingConfig
from regatta.runs import service
from regatta.runs.states import RunState
from regatta.runs.store import RunRecord, RunStore
from regatta.utils import HOME_VARIABLE

ROOT = Path(__file__).resolve().parent.parent
KILLS = 5
AT_ONCE = 3
ANSWER_SECONDS = 2.0

# In the shell, since a thousand interpreters take minutes to start. It works in the home. A run
# that does nothing replaces the record as a whole; the list of runs learns of it from there.
STUB = """
echo "start $1" >> notes
if [ -e "real-$1" ]; then exec "$PYTHON" -P -m regatta.runs.coordinate "$1"; fi
sed 's/"state": "starting"/"state": "finished"/' "runs/$1/run.json" > "runs/$1/.aside"
mv "runs/$1/.aside" "runs/$1/run.json"
"""
SUPERVISOR = """
import sys
from regatta.runs import supervisor
stub = sys.argv[1]
sys.exit(supervisor.main(command=lambda run_id: ["/bin/sh", stub, run_id]))
"""


class Queue:
    """A home with many runs, and a supervisor that is killed again and again."""

    def __init__(self, home: Path) -> None:
        self.store = RunStore(home)
        self.home = home
        rows = "".join(f"{n},{n * n % 7},{3 * n + n % 5}\n" for n in range(40))
        (home / "rows.csv").write_text(f"a,b,y\n{rows}")
        (home / "stub.sh").write_text(STUB)
        (home / "regatta.runs.supervisor.py").write_text(SUPERVISOR)
        self.runs: list[RunRecord] = []

    def submit(self, *, nothing: int = 0, real: int) -> None:
        """Queue runs that do nothing and, spread among them, runs that train."""
        config = TrainingConfig(path=str(self.home / "rows.csv"), target="y", workers=0)
        count = nothing + real
        for number in range(count):
            run = service.submit(config, store=self.store, supervise=False)
            self.runs.append(run)
            if number * real // count != (number + 1) * real // count:
                (self.home / f"real-{run.run_id}").touch()

    def trained(self) -> list[RunRecord]:
        """The runs that wrote a model."""
        return [run for run in self.runs if self.store.directory(run.run_id).model.is_file()]

    def ensure_supervisor(self) -> None:
        script, stub = self.home / "regatta.runs.supervisor.py", self.home / "stub.sh"
        command = [sys.executable, "-P", str(script), str(stub), "--detach"]
        service.ensure_supervisor(self.store, command=command)

    def kill_supervisor(self) -> bool:
        pid = service.supervisor_pid(self.store)
        if pid is None:
            return False
        os.kill(pid, signal.SIGKILL)
        while service.supervisor_pid(self.store) is not None:
            time.sleep(0.001)
        return True

    def started(self) -> list[str]:
        """The ids of the runs that started, in order."""
        path = self.home / "notes"
        return [line.split()[1] for line in path.read_text().splitlines()] if path.exists() else []

    def work_off(self, seconds: float, look: Callable[[], object]) -> int:
        """See to it that all end, killing the supervisor each time a further share has begun.

        Calls ``look`` all the while. Returns how often the supervisor was killed.
        """
        kills, deadline = 0, time.monotonic() + seconds
        while self.has_work():
            assert time.monotonic() < deadline, f"{len(self.started())} had begun"
            self.ensure_supervisor()
            look()
            begun = len(self.started())
            if kills < KILLS and begun > len(self.runs) * (kills + 1) // (KILLS + 2):
                time.sleep(0.003 * kills)  # the moment wanders over what it does for a run
                kills += self.kill_supervisor()
            time.sleep(0.02)
        return kills

    def has_work(self) -> bool:
        store = self.store
        return bool(store.next_queued() or store.live() or store.to_resume())

    def check_each_ran_once(self) -> None:
        started = self.started()
        assert sorted(started) == sorted(run.run_id for run in self.runs), "none lost, none twice"
        records = {run.run_id: run for run in self.store.list()}
        assert set(records) == set(started)
        assert {run.state for run in records.values()} == {RunState.FINISHED}
        order = sorted(self.runs, key=lambda run: records[run.run_id].started or 0.0)
        assert order == self.runs, "first come, first served"


@pytest.fixture
def queue(regatta_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    """A queue in a home in memory, where there is such: the disk is not what is tested."""
    memory = Path("/dev/shm")
    home = Path(tempfile.mkdtemp(prefix="queue-", dir=memory if memory.is_dir() else None))
    monkeypatch.setenv(HOME_VARIABLE, str(home))
    monkeypatch.setenv("REGATTA_MAX_RUNS", str(AT_ONCE))
    monkeypatch.setenv("REGATTA_RESUME_DELAY", "0")
    monkeypatch.setenv("PYTHON", sys.executable)
    made = Queue(home)
    yield made
    made.kill_supervisor()
    shutil.rmtree(home)


class Answers:
    """How long the list of runs takes to answer, as the command and as the page."""

    def __init__(self, every: float) -> None:
        self.command: list[float] = []
        self.page: list[float] = []
        self._every, self._next = every, 0.0

    def look(self) -> None:
        if time.monotonic() < self._next:
            return
        begun = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-P", "-m", "regatta", "runs", "list", "-n", "0"],
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        self.command.append(time.monotonic() - begun)
        begun = time.monotonic()
        main = sys.modules["__main__"]
        page = AppTest.from_file(str(ROOT / "dashboard" / "pages" / "runs.py"), default_timeout=60)
        page.run()
        sys.modules["__main__"] = main  # the page put itself there
        assert not page.exception and len(page.dataframe) == 1
        self.page.append(time.monotonic() - begun)
        self._next = time.monotonic() + self._every

    def tell(self, what: str) -> None:
        for name, seconds in (("regatta runs list", self.command), ("page", self.page)):
            print(
                f"{what}: {name} {statistics.median(seconds):.2f} s, at most {max(seconds):.2f} s "
                f"({len(seconds)} times)"
            )


def test_a_thousand_runs_outlive_five_supervisors_and_each_runs_once(queue: Queue) -> None:
    begun = time.monotonic()
    queue.submit(nothing=1000, real=20)
    submitted = time.monotonic()
    assert queue.work_off(250, lambda: None) == KILLS
    print(f"submitted in {submitted - begun:.1f} s, done in {time.monotonic() - submitted:.1f} s")
    queue.check_each_ran_once()
    assert len(queue.trained()) == 20


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_thousand_trainings_outlive_five_supervisors_and_the_list_answers_meanwhile(
    queue: Queue,
) -> None:
    begun = time.monotonic()
    queue.submit(real=1000)
    answers = Answers(every=10.0)
    assert queue.work_off(7000, answers.look) == KILLS
    print(f"done in {time.monotonic() - begun:.0f} s")
    answers.tell("1,000 runs")
    queue.check_each_ran_once()
    assert len(queue.trained()) == 1000
    assert max(answers.command + answers.page) < ANSWER_SECONDS
