"""Chaos: runs that train while, at random moments, what they are made of is killed and stopped.

    python -P -m regatta.tests.chaos --seconds 60 --seed 1

submits runs of several kinds to a home of its own, keeps as many under way as there may be at once,
and does something bad every so many seconds: kinds, moments and victims come from the seed. Then it
lets all runs come to their end, and `chaos_check` proves from the log and the files that nothing
was lost. Every process is a real one, every fault a real signal; the log says of each whether it
was seen to happen.

So that runs last some seconds on a machine of any speed and leave its cores alone, their processes
import a `sitecustomize` that lets each part of a gradient, or of moments, take some milliseconds
more. The arithmetic is Regatta's own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from regatta.configuration import TrainingConfig
from regatta.coordinator import LOG_UPDATES, run_training
from regatta.runs import service
from regatta.runs.metrics_store import MetricsReader
from regatta.runs.states import RunState
from regatta.runs.store import RunRecord, RunStore
from regatta.tests import chaos_check
from regatta.tests.conftest import is_supervisor, named_segments, processes_of
from regatta.tests.crew import workers_of
from regatta.utils import HOME_VARIABLE, RegattaError

# Each part of a gradient takes 15 milliseconds more, each block of moments 50.
PACE = """
import importlib.util, sys, time

def slow(Kernel):
    run, add_moments = Kernel.run, Kernel._add_moments
    def paced_run(self, op, *arguments):
        if op == 1:  # a gradient
            time.sleep(0.015)
        return run(self, op, *arguments)
    def paced_moments(self, *arguments):
        if self._moment_block is None:  # the exact solver's, and not those that steps begin with
            time.sleep(0.05)
        return add_moments(self, *arguments)
    Kernel.run, Kernel._add_moments = paced_run, paced_moments

class Pace:
    def find_spec(self, name, path=None, target=None):
        if name != "regatta.parameter_server.kernel":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module
        def exec_module(module):
            load(module)
            slow(module.Kernel)
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Pace())
"""
STEPS: dict[str, Any] = {"solver": "sgd", "shards": 8, "tol": 0.0, "workers": 2}
KINDS: dict[str, dict[str, Any]] = {
    "sync": {**STEPS, "batch_size": 1024, "epochs": 42},
    "async": {**STEPS, "batch_size": 1024, "epochs": 42, "consistency": "async", "staleness": 4},
    "local": {**STEPS, "batch_size": 1024, "epochs": 42, "consistency": "local", "sync_every": 2},
    "exact": {"solver": "exact", "shards": 8, "workers": 2},
}
# A deck of faults: how often each is in it.
FAULTS = {
    "worker-kill": 6,
    "worker-stop": 1,  # and never continued
    "worker-stop-cont": 2,
    "coordinator-kill": 3,
    "coordinator-stop": 1,  # and never continued
    "spare-kill": 1,
    "supervisor-kill": 1,
    "pause": 2,
    "stop": 2,
    "scale": 3,
    "full-disk": 1,
}
LOOK_SECONDS = 0.1
SEEN_SECONDS = 10.0  # within which a fault must be seen to have happened
CALM_SECONDS = 120.0  # within which all must end once nothing bad happens any more
DISK = "size=160m"
INSIDE = "REGATTA_CHAOS_DISK"


@dataclass
class Watched:
    """A run as the harness sees it while it lasts."""

    run_id: str
    kind: str
    reader: MetricsReader
    last_event: int = -1
    last_step: int = -1
    pids: set[int] = field(default_factory=set)
    state: RunState = RunState.QUEUED
    ended_at: float | None = None  # time.monotonic; once looked after: never again
    is_done: bool = False


class Chaos:
    """A home, runs in it, and what happens to them.

    Parameters
    ----------
    home : Path
        Empty. Where it is a file system of its own, disks are filled too.
    log : Path
        Lines of JSON: everything that was done and seen.
    seed : int
    at_once : int
        Runs under way at a time.
    faults : sequence of str
        The kinds to choose from.
    has_own_disk : bool
    """

    def __init__(
        self, home: Path, log: Path, seed: int, at_once: int, faults: Sequence[str], disk: bool
    ) -> None:
        self.home = home
        # Each of its own, so that what happens does not depend on how fast the machine is.
        self.random, self._kinds, self._order = (random.Random(f"{seed} {k}") for k in range(3))
        self._deck: list[str] = []
        self.at_once = at_once
        self.faults = [name for name in faults if disk or name != "full-disk"]
        self.runs: dict[str, Watched] = {}
        self._log = log.open("a", encoding="utf-8", buffering=1)
        self._environment()
        self.store = RunStore(home)
        self.tables = [self._table(number) for number in range(2)]
        self.segments = named_segments()

    def _environment(self) -> None:
        """For this process and all that it starts."""
        pace = self.home / "pace"
        pace.mkdir()
        (pace / "sitecustomize.py").write_text(PACE)
        os.environ.update({
            HOME_VARIABLE: str(self.home),
            LOG_UPDATES: "1",
            "PYTHONPATH": os.pathsep.join(
                filter(None, [str(pace), os.environ.get("PYTHONPATH")])
            ),
            "REGATTA_MAX_RUNS": str(self.at_once),
            "REGATTA_RESUME_DELAY": "0",
            "REGATTA_HANG_SECONDS": str(chaos_check.LEASES["coordinator-stop"]),
        })  # fmt: skip

    def _table(self, number: int) -> Path:
        rng = np.random.default_rng(number)
        columns = 4 + 2 * number
        X = rng.standard_normal((8000, columns))
        y = X @ rng.standard_normal(columns) + 4 + 0.5 * rng.standard_normal(len(X))
        path = self.home / f"rows-{number}.csv"
        names = ",".join([*(f"x{k}" for k in range(columns)), "y"])
        rows = np.column_stack([X, y])
        np.savetxt(path, rows, fmt="%.6g", delimiter=",", header=names, comments="")
        return path

    def log(self, what: str, **values: Any) -> None:
        line = {"time": time.time(), "what": what, **values}
        self._log.write(json.dumps(line) + "\n")

    # Runs

    def config(self, kind: str, **changes: Any) -> TrainingConfig:
        how, _, number = kind.partition("-")
        path = str(self.tables[int(number)])
        return TrainingConfig(path=path, target="y", **{**KINDS[how], **changes})

    def solo(self) -> None:
        """Train one run of each kind, here and undisturbed; of any number of workers."""
        for kind in (f"{how}-{number}" for how in KINDS for number in range(2)):
            run_id = self.store.create(self.config(kind, workers=0)).run_id
            result = run_training(run_id, self.store)
            kept = ("weights_sha256", "steps", "optimum_gap")
            self.log("solo", kind=kind, result={k: result[k] for k in kept if k in result})

    def submit(self) -> None:
        kind = f"{self._kinds.choice(list(KINDS))}-{self._kinds.randrange(2)}"
        run = service.submit(self.config(kind), store=self.store)
        reader = MetricsReader(self.store.directory(run.run_id).metrics)
        self.runs[run.run_id] = Watched(run.run_id, kind, reader)
        self.log("submitted", run=run.run_id, kind=kind)

    def under_way(self) -> list[Watched]:
        return [run for run in self.runs.values() if not run.is_done]

    def look(self) -> None:
        """Write down what is new about every run."""
        for run in self.under_way():
            record = self._state_of(run)
            self._figures_of(run)
            ended = record.state.is_terminal and record.state is not RunState.INTERRUPTED
            if ended and not waits_for_a_person(record):
                self._look_what_is_left(run)

    def _state_of(self, run: Watched) -> RunRecord:
        record, directory = self.store.get(run.run_id), self.store.directory(run.run_id)
        if record.state.is_live and not directory.is_locked():
            record = self.store.get(run.run_id)  # it may have ended between the two
            if record.state.is_live and not directory.is_locked():
                self.log("lie", run=run.run_id, state=record.state)
        if record.state.is_live and (pid := directory.holder()):
            run.pids.add(pid)
        if record.state is not run.state:
            run.state = record.state
            self.log("state", run=run.run_id, state=record.state, message=record.message)
        return record

    def _figures_of(self, run: Watched) -> None:
        for event in run.reader.read("events", run.last_event):
            run.last_event = event["id"]
            if event["kind"] == "started":
                run.last_step = event["step"] or -1
                self.log("attempt", run=run.run_id, step=event["step"], seconds=event["seconds"])
            kept = {key: event[key] for key in ("kind", "step", "seconds", "rank", "message")}
            self.log("event", run=run.run_id, **kept)
        points = run.reader.read("points", run.last_step)
        if points:
            run.last_step = points[-1]["step"]
            pairs = [(each["step"], each["seconds"]) for each in points]
            self.log("points", run=run.run_id, points=pairs)

    def _look_what_is_left(self, run: Watched) -> None:
        now = time.monotonic()
        run.ended_at = run.ended_at or now
        folder = self.store.directory(run.run_id).path
        left = [f"process {pid} ({name})" for pid, name in processes_in(run.pids)]
        left += [f"file {path.name}" for path in (*folder.rglob(".*"), *folder.glob("room"))]
        after = now - run.ended_at
        if not left or after > chaos_check.CLEAN_SECONDS:
            run.is_done = True
            self.log("left", run=run.run_id, left=left, after=round(after, 2))

    # What happens

    def disturb(self) -> None:
        """The next fault of the deck, to a run that chance chooses; none where no run trains."""
        if not self._deck:
            self._deck = [name for name in self.faults for _ in range(FAULTS[name])]
            self._order.shuffle(self._deck)
        kind = self._deck[-1]
        if kind in ("supervisor-kill", "spare-kill"):
            self._deck.pop()
            self._kill_supervisor() if kind == "supervisor-kill" else self._kill_spare()
            return
        run = self._victim(kind)
        if run is None:
            return
        known = self._known(run)
        action = getattr(self, "_" + kind.replace("-", "_"))
        at = time.time()
        try:
            found = action(run)
        except (RegattaError, psutil.Error) as error:  # the run ended at this moment
            found = {"fired": False, "why": str(error)}
        if found["fired"]:
            self._deck.pop()
        self.log("fault", **{**known, "kind": kind, "time": at, **found})

    def _victim(self, kind: str) -> Watched | None:
        states = {RunState.RUNNING}
        if kind == "coordinator-kill":
            states |= {RunState.STARTING, RunState.PAUSED}
        runs = [run for run in self.under_way() if run.state in states]
        if kind == "scale":
            runs = [run for run in runs if not run.kind.startswith("exact")]
        return self.random.choice(runs) if runs else None

    def _known(self, run: Watched) -> dict[str, Any]:
        """What its files say just before the fault."""
        self.look()
        names = sorted(self.store.directory(run.run_id).checkpoints.glob("[0-9]*.checkpoint"))
        newest = int(names[-1].name.partition(".")[0]) if names else None
        return {"run": run.run_id, "run_kind": run.kind, "step": run.last_step,
                "checkpoint": newest}  # fmt: skip

    def _worker_of(self, run: Watched) -> int:
        pid = self.store.directory(run.run_id).holder()
        workers = workers_of(pid) if pid else []
        if not workers:
            raise psutil.NoSuchProcess(0, msg="it has no worker now")
        return self.random.choice(workers)

    def _worker_kill(self, run: Watched) -> dict[str, Any]:
        return self._kill(self._worker_of(run))

    def _worker_stop(self, run: Watched) -> dict[str, Any]:
        return self._stop_process(self._worker_of(run))

    def _worker_stop_cont(self, run: Watched) -> dict[str, Any]:
        pid = self._worker_of(run)
        found = self._stop_process(pid)
        self._meanwhile(self.random.uniform(0.2, 2.0))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        return found

    def _coordinator_kill(self, run: Watched) -> dict[str, Any]:
        pid = self.store.directory(run.run_id).holder()
        if pid is None or pid == service.supervisor_pid(self.store):
            return {"fired": False, "why": "nobody works on it"}
        return self._kill(pid)

    def _coordinator_stop(self, run: Watched) -> dict[str, Any]:
        pid = self.store.directory(run.run_id).holder()
        if pid is None or pid == service.supervisor_pid(self.store):
            return {"fired": False, "why": "nobody works on it"}
        return self._stop_process(pid)

    def _pause(self, run: Watched) -> dict[str, Any]:
        service.command(run.run_id, "pause", store=self.store)
        fired = self._sees(run, RunState.PAUSED)
        self._meanwhile(self.random.uniform(0.1, 1.5))
        if self.store.get(run.run_id).state is not RunState.PAUSED:
            return {"fired": False, "why": "it is not paused"}
        back = time.time()
        service.resume(run.run_id, store=self.store)
        return {"fired": fired, "back": back}

    def _stop(self, run: Watched) -> dict[str, Any]:
        service.command(run.run_id, "stop", store=self.store)
        fired = self._sees(run, RunState.STOPPED)
        self._meanwhile(self.random.uniform(0.0, 1.0))
        back = time.time()
        if fired:
            service.resume(run.run_id, store=self.store)
        return {"fired": fired, "back": back}

    def _scale(self, run: Watched) -> dict[str, Any]:
        had = self.store.get(run.run_id).workers
        # With more workers so short a local run takes too few steps to come near the optimum.
        most = 2 if run.kind.startswith("local") else 4
        wanted = self.random.choice([n for n in range(1, most + 1) if n != had])
        service.scale(run.run_id, wanted, store=self.store)
        fired = self._wait(lambda: self.store.get(run.run_id).workers == wanted, run)
        return {"fired": fired, "workers": wanted}

    def _full_disk(self, run: Watched) -> dict[str, Any]:
        ballast = self.home / "ballast"
        try:
            fill(ballast)
            fired = self._wait(lambda: "disk is full" in self.store.get(run.run_id).message, run)
        finally:
            ballast.unlink()
        began = time.time()
        back = self._sees(run, RunState.RUNNING)
        return {"fired": fired, **({"recovered": time.time() - began} if back else {})}

    def _kill_supervisor(self) -> None:
        at, pid = time.time(), service.supervisor_pid(self.store)
        fired = pid is not None and self._kill(pid)["fired"]
        self._meanwhile(self.random.uniform(0.0, 1.0))
        back = time.time()
        service.ensure_supervisor(self.store)
        self.log("fault", kind="supervisor-kill", time=at, pid=pid, fired=fired,
                 recovered=time.time() - back)  # fmt: skip

    def _kill_spare(self) -> None:
        at, pid, spares = time.time(), service.supervisor_pid(self.store), []
        with contextlib.suppress(psutil.Error):  # there is none at this moment
            children = psutil.Process(pid).children()
            spares = [each.pid for each in children
                      if "--wait" in each.cmdline() and self._waits(each.pid)]  # fmt: skip
        fired = bool(spares) and self._kill(spares[0])["fired"]
        self.log("fault", kind="spare-kill", time=at, pid=spares[:1], fired=fired)

    def _waits(self, pid: int) -> bool:
        """Whether a spare has no run yet."""
        holders = [self.store.directory(run.run_id).holder() for run in self.under_way()]
        return pid not in holders

    def _kill(self, pid: int) -> dict[str, Any]:
        process = psutil.Process(pid)
        os.kill(pid, signal.SIGKILL)
        return {"pid": pid, "fired": wait_until(lambda: is_gone(process), SEEN_SECONDS)}

    def _stop_process(self, pid: int) -> dict[str, Any]:
        process = psutil.Process(pid)
        os.kill(pid, signal.SIGSTOP)
        stopped = psutil.STATUS_STOPPED
        return {"pid": pid, "fired": wait_until(lambda: process.status() == stopped, SEEN_SECONDS)}

    def _sees(self, run: Watched, state: RunState) -> bool:
        return self._wait(lambda: self.store.get(run.run_id).state is state, run)

    def _wait(self, condition: Callable[[], bool], run: Watched) -> bool:
        """Until it is seen, or the run has come to its end without."""

        def is_over() -> bool:
            self.look()
            return condition() or run.is_done

        return wait_until(is_over, SEEN_SECONDS, LOOK_SECONDS) and condition()

    def _meanwhile(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.look()
            time.sleep(min(left, LOOK_SECONDS))

    # From beginning to end

    def rage(self, seconds: float, most: int, every: float) -> None:
        """Keep runs under way, and disturb them ``every`` so many seconds, more or less."""
        deadline = time.monotonic() + seconds
        next_fault = time.monotonic() + self._delay(every)
        while time.monotonic() < deadline:
            while len(self.under_way()) < self.at_once and len(self.runs) < most:
                self.submit()
            if not self.under_way():
                return
            if time.monotonic() >= next_fault:
                self.disturb()
                next_fault = max(next_fault + self._delay(every), time.monotonic())
            self._take_up()
            self._meanwhile(LOOK_SECONDS)

    def _delay(self, every: float) -> float:
        return every * self.random.uniform(0.5, 1.5)

    def calm(self, seconds: float) -> None:
        """Let every run come to its end."""
        deadline = time.monotonic() + seconds
        while self.under_way() and time.monotonic() < deadline:
            self._take_up()
            self._meanwhile(LOOK_SECONDS)

    def _take_up(self) -> None:
        """As a person would: resume what is not resumed by itself."""
        service.nudge(self.store)
        for run in self.under_way():
            record = self.store.get(run.run_id)
            if waits_for_a_person(record):
                self.log("taken up", run=run.run_id, message=record.message)
                service.resume(run.run_id, store=self.store)

    def end(self) -> list[str]:
        """Let the supervisor go; what is left of all."""
        for process in processes_of(self.home):
            if is_supervisor(process):
                process.terminate()
        wait_until(lambda: not processes_of(self.home), 5.0, LOOK_SECONDS)
        left = [f"process {process.pid}" for process in processes_of(self.home)]
        left += sorted(named_segments() - self.segments)
        self.log("end", left=left)
        self._log.close()
        return left


def waits_for_a_person(record: RunRecord) -> bool:
    """Whether a run can go on, and will not by itself."""
    if record.state is RunState.FAILED:
        return "is full" in record.message  # of a disk, while it started
    spent = "is not again" in record.message  # its three automatic resumes
    return record.state is RunState.STOPPED or (record.state is RunState.INTERRUPTED and spent)


def processes_in(sessions: set[int]) -> Iterator[tuple[int, str]]:
    """Processes, with their names, of some coordinators and their workers: each coordinator leads a
    session of its own."""
    for pid in psutil.pids():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getsid(pid) in sessions and not is_gone(psutil.Process(pid)):
                yield pid, psutil.Process(pid).name()


def is_gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(condition: Callable[[], bool], seconds: float, pause: float = 0.01) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(pause)
    return condition()


def fill(path: Path) -> None:
    """Leave no room on the disk."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            with contextlib.suppress(OSError):
                while file.tell() < 1 << 30:
                    file.write(bytes(size))


def with_a_disk_of_its_own(arguments: Sequence[str]) -> int | None:
    """Do it again where this process may mount a small disk; its exit code, None if it may not."""
    command = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"]).returncode:
        return None
    again = [*command, sys.executable, "-P", "-m", "regatta.tests.chaos", *arguments]
    return subprocess.run(again, env={**os.environ, INSIDE: "1"}).returncode


def run(options: argparse.Namespace, folder: Path, disk: bool) -> dict[str, Any]:
    """A chaos run in ``folder``; its figures."""
    home, log = folder / "home", folder / "log.jsonl"
    home.mkdir(mode=0o700)
    if disk:
        subprocess.run(["mount", "-t", "tmpfs", "-o", DISK, "tmpfs", str(home)], check=True)
    chaos = Chaos(home, log, options.seed, options.at_once, options.faults, disk)
    try:
        chaos.solo()
        chaos.rage(options.seconds, options.runs, options.fault_every)
        chaos.calm(CALM_SECONDS)
    finally:
        left = chaos.end()
        if disk and options.keep:  # it goes with this process
            shutil.copytree(home, folder / "kept")
    lines = chaos_check.read_lines(log)
    figures = chaos_check.summary(chaos_check.histories(lines, home / "runs"), lines)
    if left:
        figures["violations"]["all"] = [f"G2: left: {', '.join(left)}"]
    return {"seed": options.seed, "seconds": options.seconds, "fault_every": options.fault_every,
            "full_disks": disk, **figures}  # fmt: skip


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train while things break, and prove what holds.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=200, help="at most")
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--fault-every", type=float, default=10.0, help="seconds")
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--report", type=Path, help="write the figures here, as JSON")
    parser.add_argument("--keep", type=Path, help="an empty folder for home and log, to look at")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """1 if an invariant was violated."""
    options = parse(arguments)
    disk = bool(os.environ.pop(INSIDE, ""))
    if not disk and "full-disk" in options.faults:
        code = with_a_disk_of_its_own(arguments)
        if code is not None:
            return code
        print("No disk can be mounted here: none is filled.", file=sys.stderr)
    folder = options.keep or Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.mkdir(exist_ok=True)
    figures = run(options, folder, disk)
    text = json.dumps(figures, indent=2)
    print(text)
    if options.report:
        options.report.write_text(text + "\n")
    if figures["violations"] or options.keep:
        print(f"The log is {folder / 'log.jsonl'}.", file=sys.stderr)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if figures["violations"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
