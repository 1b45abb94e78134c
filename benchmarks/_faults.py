"""How soon a fault is noticed and made up for, and what being ready for it costs.

Workers are killed, and stopped, while they train; a coordinator is killed under its supervisor.
Real signals to real processes. Being ready is what is done at every round, at every look around
and at every checkpoint, each timed on its own.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from regatta.benchmarks._consistency import solving
from regatta.benchmarks._data import generate
from regatta.benchmarks._exact import say
from regatta.configuration import TrainingConfig
from regatta.coordinator import CHECKPOINT_SECONDS, CHECKPOINT_SHARE, TICK_SECONDS
from regatta.parameter_server.checkpoints import Checkpoint, CheckpointFolder
from regatta.parameter_server.protocol import HEARTBEAT
from regatta.parameter_server.worker_pool import PoolEvent
from regatta.runs.metrics_store import MetricsReader
from regatta.runs.service import submit, supervisor_pid
from regatta.runs.store import RunStore
from regatta.utils import HOME_VARIABLE, limit_blas_threads

BATCH = 8192
WORKERS = 2
Times = dict[str, list[float]]  # seconds, by what they are of


def main(n_rows: int, turns: int) -> str:
    """Measure, and tell in Markdown."""
    limit_blas_threads()
    with tempfile.TemporaryDirectory(prefix="regatta-bench-") as name:
        folder = Path(name)
        say(f"Generating {n_rows:,} rows")
        generate(folder, n_rows)
        tables = {}
        for way, number in (("SIGKILL", turns), ("SIGSTOP", max(1, turns // 4))):
            say(f"{way} of a worker, {number} times")
            tables[f"worker, {way}"] = worker_faults(folder, getattr(signal, way), number)
        say(f"SIGKILL of a coordinator, {turns // 2} times")
        tables["coordinator, SIGKILL"] = coordinator_faults(folder, max(1, turns // 2))
        say("What being ready costs")
        return markdown(tables, n_rows) + "\n" + cost(folder)


def config(epochs: int = 10**6) -> TrainingConfig:
    return TrainingConfig(model="linear", solver="sgd", batch_size=BATCH, epochs=epochs, tol=0.0)


def worker_faults(folder: Path, number: signal.Signals, turns: int) -> Times:
    """Signals to a worker while steps are taken; a crew of its own for each."""
    found: Times = {"noticed": [], "longest step meanwhile": [], "replaced": []}
    for turn in range(turns):
        happened: dict[str, float] = {}

        def note(event: PoolEvent, happened: dict[str, float] = happened) -> None:
            happened[event.kind] = time.perf_counter()

        with solving(folder, config(), WORKERS, note) as (pool, solver):
            ended = begun = time.perf_counter()
            while ended - begun < 0.5:
                solver.step()
                ended = time.perf_counter()
            os.kill(pool.samples()[turn % WORKERS].pid, number)
            killed = last = time.perf_counter()
            happened.clear()
            longest, looked = 0.0, killed
            while "worker_started" not in happened:
                solver.step()
                now = time.perf_counter()
                longest, last = max(longest, now - last), now
                if now - looked > TICK_SECONDS:
                    pool.watch()
                    looked = last = time.perf_counter()
            found["noticed"].append(happened["worker_died"] - killed)
            found["longest step meanwhile"].append(longest)
            found["replaced"].append(happened["worker_started"] - killed)
    return found


def coordinator_faults(folder: Path, turns: int) -> Times:
    """Coordinators killed while they train; the supervisor resumes their run."""
    found: Times = {"its workers gone": [], "noticed": [], "training again": [], "as far": []}
    home = folder / "home"
    home.mkdir(mode=0o700, exist_ok=True)
    os.environ[HOME_VARIABLE] = str(home)
    store, path = RunStore(home), folder / "rows.csv"
    text = "\n".join(f"{i % 97},{i % 89},{i % 97 + 2 * (i % 89)}" for i in range(20_000))
    path.write_text("a,b,y\n" + text + "\n", encoding="utf-8")
    settings = {"path": str(path), "target": "y", "workers": WORKERS, "batch_size": 256}
    try:
        for _ in range(turns):
            run = submit(TrainingConfig.from_json({**config().to_json(), **settings}))
            kill_coordinator(store, run.run_id, found)
    finally:
        pid = supervisor_pid(store)
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
            until(lambda: supervisor_pid(store) is None)
    return found


def kill_coordinator(store: RunStore, run_id: str, found: Times) -> None:
    """Once the run trains; then see how it goes on, and stop it."""
    reader = MetricsReader(store.directory(run_id).metrics)

    until(lambda: step_of(reader) > 1000)
    time.sleep(random.uniform(0.5, 3.0))  # it may have been soon after a checkpoint
    pid = store.directory(run_id).holder()
    assert pid is not None
    workers = psutil.Process(pid).children()
    step, killed = step_of(reader), time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    until(lambda: not any(map(alive, workers)))
    found["its workers gone"].append(time.perf_counter() - killed)
    until(lambda: store.get(run_id).attempts == 1)
    found["noticed"].append(time.perf_counter() - killed)
    until(lambda: len(starts_of(reader)) == 2)
    begun = starts_of(reader)[-1]
    for what, than in (("training again", begun), ("as far", step)):
        found[what].append(reached(reader, than) - killed)
    store.send_command(run_id, "stop")
    until(lambda: store.get(run_id).state.is_terminal)


def starts_of(reader: MetricsReader) -> list[int]:
    """The steps at which the attempts of a run began."""
    return [event["step"] for event in reader.read("events") if event["kind"] == "started"]


def reached(reader: MetricsReader, step: int) -> float:
    """Wait until a run has got beyond ``step``; when (``time.perf_counter``) it did: figures are
    written some times a second, and each says when it was taken."""
    until(lambda: step_of(reader) > step)
    points = reader.read("points", step)
    return time.perf_counter() - float(points[-1]["seconds"] - points[0]["seconds"])


def alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def step_of(reader: MetricsReader) -> int:
    point = reader.latest("points")
    return int(point["step"]) if point else 0


def until(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not come true")
        time.sleep(0.002)


def cost(folder: Path) -> str:
    """Seconds of being ready in a second of training, from their parts."""
    with solving(folder, config(), WORKERS) as (pool, solver):
        step = timed(solver.step, 2000)
        look = timed(pool.watch, 200)
        state, arrays = solver.state(), solver.arrays()
        checkpoints = CheckpointFolder(folder / "checkpoints", "benchmark")
        numbers = itertools.count()

        def checkpoint() -> Checkpoint:
            return Checkpoint("benchmark", next(numbers), state, arrays)

        save = timed(lambda: checkpoints.save(checkpoint()), 50)
        note = timed(lambda: checkpoints.note(checkpoint()), 50)
        counts = pool._board.counts[0]  # type: ignore[attr-defined]

        def beat() -> None:
            counts[HEARTBEAT] += 1

        # A beat at each block of a worker's rows and at each order, a check of the order's number.
        beats = 4 * timed(beat, 20_000)
    pause = max(TICK_SECONDS, min(CHECKPOINT_SECONDS, note / CHECKPOINT_SHARE))
    shares = {
        f"heartbeats and checks of the order ({1e6 * beats:.1f} µs of a step of "
        f"{1e6 * step:.0f} µs)": beats / step,
        f"looks at the workers ({1e3 * look:.2f} ms, {1 / TICK_SECONDS:.0f} a second)": look
        / TICK_SECONDS,
        f"checkpoints saved ({1e3 * save:.1f} ms, one in {CHECKPOINT_SECONDS:.0f} s)": save
        / CHECKPOINT_SECONDS,
        f"checkpoints noted ({1e3 * note:.1f} ms, one in {pause:.1f} s)": note / pause,
    }
    lines = [f"- {what}: {share:.2%}" for what, share in shares.items()]
    return "\n".join(
        [f"Being ready takes {sum(shares.values()):.2%} of the time of training at a batch of "
         f"{BATCH:,}:\n", *lines]
    )  # fmt: skip


def timed(work: Callable[[], Any], times: int) -> float:
    """Median seconds of a call, over batches of calls."""
    each = []
    for _ in range(10):
        begun = time.perf_counter()
        for _ in range(max(1, times // 10)):
            work()
        each.append((time.perf_counter() - begun) / max(1, times // 10))
    return statistics.median(each)


def markdown(tables: dict[str, Times], n_rows: int) -> str:
    lines = [
        f"{n_rows:,} rows of 30 features, batches of {BATCH:,}, {WORKERS} workers. Seconds after "
        "the signal: median and most.\n",
        "| fault | times | what | median | most |",
        "|---|---|---|---|---|",
    ]
    for fault, times in tables.items():
        for what, values in times.items():
            cells = [fault, str(len(values)), what, f"{statistics.median(values):.3f}",
                     f"{max(values):.3f}"]  # fmt: skip
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
