"""What limits a run: one cause, in a sentence, from how its workers spent their time.

    compute ── of it with a core of its own        gradients: nothing limits, where this is all
            └─ of it without one                   the disk, other programs, too many workers
    wait    ── for a slow worker                   one slow worker
            └─ for the coordinator and each other  synchronisation: too small batches
    communicate                                    parameters and answers on their way

Each cause is charged with the share of the workers' time that is lost to it; the largest limits the
run, if it is more than `LOST`. All functions here are pure: figures in, words out. Where the
figures come from: `regatta.runs.diagnosis`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from regatta.parameter_server.balance import slow_ranks
from regatta.parameter_server.batches import MIN_PART_ROWS

# A cause that takes less of the workers' time than this is not worth a sentence.
LOST = 0.2
# Below so many seconds of a worker's time, times say nothing.
MEASURED_SECONDS = 0.3
# A worker that itself waits more than this does not hold the others up.
IDLE = 0.5
# Machine CPU (percent of all cores) from which on a core is hard to get.
FULL = 85.0
# Bytes read from disk in a second of computing that are more than now and then a page.
DISK_BYTES = 2e6
# Rows in a second of CPU, compared with fewer workers, below which memory is short of bandwidth.
SHARED_PACE = 0.75


@dataclass(frozen=True)
class WorkerTimes:
    """How a worker spent a stretch of time: seconds, training rows, seconds of CPU (``None`` where
    unknown), bytes that it read from disk."""

    rank: int
    compute: float
    wait: float
    communicate: float
    rows: int
    cpu: float | None = None
    disk_bytes: int = 0
    shards: int = 0

    @property
    def total(self) -> float:
        return self.compute + self.wait + self.communicate

    @property
    def stalled(self) -> float:
        """Seconds of computing without a core."""
        return 0.0 if self.cpu is None else max(0.0, self.compute - self.cpu)


@dataclass(frozen=True)
class Pace:
    """How fast a crew is: ``rows_per_second`` of all together, and rows that one worker computes in
    a second of its CPU."""

    workers: int
    rows_per_second: float
    rows_per_cpu_second: float


@dataclass(frozen=True)
class Window:
    """A stretch of a run: what `find` judges.

    Parameters
    ----------
    workers : sequence of WorkerTimes
    cores : int
        That the run may use.
    machine_cpu : float or None
        Percent of all cores of the machine, in the mean.
    rows, steps : int
        Taken within it.
    exact : bool
        One pass instead of steps.
    waits : bool
        Whether workers wait for each other at every batch.
    reference : Pace, optional
        Of the same training with fewer workers.
    loading_seconds, training_seconds : float
        Of a run that has ended: reading and preparing its rows, and training.
    batch_size : int, optional
        Rows a step that are set. Those taken differ: a pass is cut into batches of equal size.
    ended : bool
        Whether nothing more will be measured.
    """

    workers: Sequence[WorkerTimes]
    cores: int
    machine_cpu: float | None = None
    rows: int = 0
    steps: int = 0
    exact: bool = False
    waits: bool = True
    reference: Pace | None = None
    loading_seconds: float = 0.0
    training_seconds: float = 0.0
    batch_size: int | None = None
    ended: bool = False

    def share(self, part: Callable[[WorkerTimes], float]) -> float:
        """A part of the workers' time, 0 to 1."""
        total = sum(each.total for each in self.workers)
        return sum(map(part, self.workers)) / total if total else 0.0

    @property
    def batch(self) -> float:
        """Rows a step."""
        return self.rows / self.steps if self.steps else 0.0

    @property
    def batch_in_words(self) -> str:
        """A batch: with the rows that are set, where batches of that size explain those taken."""
        size = self.batch_size
        if size is not None and size / 2 < self.batch < 1.1 * size:
            return f"a batch of {size:,} rows"
        return f"a batch of {self.batch:,.0f} rows on average"

    @property
    def pace(self) -> Pace | None:
        """How fast the workers were; ``None`` where that is not known."""
        cpu = sum(min(each.compute, each.cpu) for each in self.workers if each.cpu is not None)
        rows = sum(each.rows for each in self.workers)
        seconds = max((each.total for each in self.workers), default=0.0)
        if not (rows and cpu > MEASURED_SECONDS and seconds):
            return None
        return Pace(len(self.workers), rows / seconds, rows / cpu)


@dataclass(frozen=True)
class Bottleneck:
    """What limits a run.

    ``cause`` is loader, slow_worker, communication, memory_bandwidth, too_many_workers,
    small_batches, coordinator, other_programs, cpu_limit, nothing or unknown. ``lost`` is the share
    of the workers' time that it takes; ``evidence`` are the figures that say so.
    """

    cause: str
    sentence: str
    advice: str = ""
    lost: float = 0.0
    evidence: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As routes and commands give it."""
        return {
            "cause": self.cause,
            "sentence": self.sentence,
            "advice": self.advice,
            "lost": self.lost,
            "evidence": self.evidence,
        }


def times_of(rows: Sequence[Mapping[str, Any]]) -> list[WorkerTimes]:
    """How each worker spent the time that ``rows`` of the table `workers` tell of.

    Workers that were let go are left out, and so are pauses. Counts that fall, since a worker was
    replaced or its run resumed, begin again there.
    """
    by_rank: dict[int, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_rank.setdefault(row["rank"], []).append(row)
    return [
        _times(rank, mine) for rank, mine in sorted(by_rank.items()) if mine[-1]["state"] != "gone"
    ]


@dataclass(frozen=True)
class Stretch:
    """Between two looks at a worker, ``start`` and ``end`` in seconds of training: what its counts
    grew by, and its CPU at the end (percent of a core)."""

    start: float
    end: float
    grown: Mapping[str, float]
    cpu_percent: float | None


def stretches(rows: Sequence[Mapping[str, Any]]) -> Iterator[Stretch]:
    """What lies between the rows of one worker; pauses are left out."""
    names = ("compute", "wait", "communicate", "rows", "disk_bytes")
    for before, after in pairwise(rows):
        seconds = after["seconds"] - before["seconds"]
        if seconds <= 0 or before["compute"] is None or after["compute"] is None:
            continue
        grown = {name: max(0.0, (after.get(name) or 0) - (before.get(name) or 0)) for name in names}
        busy = grown["compute"] + grown["communicate"]
        grown["wait"] = min(grown["wait"], max(0.0, seconds - busy))  # the rest was a pause
        yield Stretch(before["seconds"], after["seconds"], grown, after["cpu_percent"])


def _times(rank: int, rows: Sequence[Mapping[str, Any]]) -> WorkerTimes:
    sums = dict.fromkeys(("compute", "wait", "communicate", "rows", "disk_bytes"), 0.0)
    cpu: float | None = 0.0
    for each in stretches(rows):
        for name, value in each.grown.items():
            sums[name] += value
        spent = each.grown["compute"] + each.grown["wait"] + each.grown["communicate"]
        percent = each.cpu_percent
        cpu = None if cpu is None or percent is None else cpu + percent / 100 * spent
    return WorkerTimes(
        rank,
        sums["compute"],
        sums["wait"],
        sums["communicate"],
        int(sums["rows"]),
        cpu,
        int(sums["disk_bytes"]),
        rows[-1].get("shards") or 0,
    )


def find(window: Window) -> Bottleneck:
    """What limited a run in this stretch of time."""
    measured = max((each.total for each in window.workers), default=0.0)
    if measured < MEASURED_SECONDS:
        return _too_short(window)
    found = max(_causes(window), key=lambda each: each.lost, default=None)
    if found is None or found.lost < LOST:
        found = _nothing(window)
    return Bottleneck(
        found.cause,
        found.sentence,
        found.advice,
        found.lost,
        {**_evidence(window), **found.evidence},
    )


def unknown(sentence: str) -> Bottleneck:
    """Nothing is known yet, or nothing can be; ``sentence`` says why."""
    return Bottleneck("unknown", sentence)


def _causes(window: Window) -> Iterator[Bottleneck]:
    """Every cause that there are signs of, charged with what it costs."""
    training = 1.0
    if window.loading_seconds > 0 and window.training_seconds > 0:
        training = window.training_seconds / (window.loading_seconds + window.training_seconds)
        if training < 0.5:
            yield _loading(window, 1.0 - training)
    for rule in (_crowded, _slow, _stalled, _communication, _memory, _waiting):
        found = rule(window)
        if found is not None:
            yield Bottleneck(
                found.cause, found.sentence, found.advice, training * found.lost, found.evidence
            )


def _loading(window: Window, share: float) -> Bottleneck:
    loading, training = window.loading_seconds, window.training_seconds
    return Bottleneck(
        "loader",
        f"The loader: reading and preparing the file took {_seconds(loading)}, training on it "
        f"{_seconds(training)}.",
        "A second run on the same file starts from the prepared rows.",
        share,
        {"loading_seconds": loading, "training_seconds": training},
    )


def _crowded(window: Window) -> Bottleneck | None:
    """More workers than cores: they compute in turns, and wait for who has no core."""
    workers = len(window.workers)
    if workers <= window.cores:
        return None
    lost = window.share(lambda each: each.stalled + each.wait)
    return Bottleneck(
        "too_many_workers",
        f"Too many workers: {workers} share {_count(window.cores, 'core')}, so "
        f"{_percent(lost)} of their time they wait for a core or for one another.",
        f"Take {window.cores} workers: as many as there are cores.",
        lost,
    )


def _slow_ranks(window: Window) -> dict[int, float]:
    """The workers that hold the others up, and how many times slower each computes."""
    if len(window.workers) < 2 or window.exact:  # of a pass the slow one takes less by itself
        return {}
    speeds = {
        each.rank: each.rows / each.compute
        for each in window.workers
        if each.rows and each.compute > 0.1
    }
    idle = {each.rank for each in window.workers if each.wait > IDLE * each.total}
    return {rank: times for rank, times in slow_ranks(speeds).items() if rank not in idle}


def _slow(window: Window) -> Bottleneck | None:
    """One worker that computes much slower than the others in the middle."""
    slow = _slow_ranks(window)
    if not slow or len(window.workers) > window.cores:
        return None
    rank, times = max(slow.items(), key=lambda item: item[1])
    mine = next(each for each in window.workers if each.rank == rank)
    others = [each for each in window.workers if each.rank != rank]
    waiting = sum(each.wait for each in others) / sum(each.total for each in others)
    lost = sum(1.0 - 1.0 / each for each in slow.values()) / len(window.workers)
    lost = max(lost, waiting * len(others) / len(window.workers))
    has = f"it has {_count(mine.shards, 'shard')}, and " if mine.shards else ""
    return Bottleneck(
        "slow_worker",
        f"One slow worker: worker {rank} computes {times:.1f} times slower than the others; "
        f"{has}they wait {_percent(waiting)} of their time.",
        "Look what else runs on its core. Slow workers get fewer shards by themselves"
        + ("." if not window.waits else "; with consistency async nobody waits for them."),
        lost,
        {"rank": rank, "times_slower": times, "others_wait": waiting},
    )


def _stalled(window: Window) -> Bottleneck | None:
    """Workers that compute without a core: what they wait for instead."""
    if len(window.workers) > window.cores:
        return None
    slow = _slow_ranks(window)
    lost = window.share(lambda each: 0.0 if each.rank in slow else each.stalled)
    compute = sum(each.compute for each in window.workers)
    disk = sum(each.disk_bytes for each in window.workers)
    core = 1.0 - lost / max(window.share(lambda each: each.compute), 1e-9)
    if compute and disk > DISK_BYTES * compute:
        return Bottleneck(
            "loader",
            f"The loader: rows come from the disk at {disk / compute / 1e6:,.0f} MB a second of "
            f"computing, and for {_percent(lost)} of their time workers wait for them.",
            "More memory would keep the rows cached; float32 rows are half as many bytes.",
            lost,
            {"disk_bytes": disk},
        )
    if window.machine_cpu is not None and window.machine_cpu >= FULL:
        return Bottleneck(
            "other_programs",
            f"Other programs: a worker that computes has {_percent(core)} of a core, and the "
            f"machine's CPU is {window.machine_cpu:.0f} % busy.",
            "End what else runs, or train with fewer workers.",
            lost,
            {"core_share": core},
        )
    return Bottleneck(
        "cpu_limit",
        f"The CPU that workers get: one that computes has {_percent(core)} of a core, though the "
        "machine is not busy.",
        "A container or a group of processes may have a limit on its CPU.",
        lost,
        {"core_share": core},
    )


def _communication(window: Window) -> Bottleneck | None:
    lost = window.share(lambda each: each.communicate)
    return Bottleneck(
        "communication",
        f"Communication: for {_percent(lost)} of their time workers read parameters and hand in "
        "gradients.",
        "Larger batches, or consistency local, exchange them less often.",
        lost,
    )


def _memory(window: Window) -> Bottleneck | None:
    """Workers that compute all the time, each slower than when there were fewer."""
    pace, reference = window.pace, window.reference
    if pace is None or reference is None or reference.workers >= len(window.workers):
        return None
    if len(window.workers) > window.cores:
        return None
    ratio = pace.rows_per_cpu_second / reference.rows_per_cpu_second
    if ratio > SHARED_PACE:
        return None
    lost = window.share(lambda each: each.compute - each.stalled) * (1.0 - ratio)
    before = _count(reference.workers, "worker")
    return Bottleneck(
        "memory_bandwidth",
        f"Memory bandwidth: in a second of CPU a worker computes {_percent(ratio)} of the rows "
        f"that it computed with {before}, since all read rows through the same memory.",
        f"{len(window.workers)} workers may be no faster than fewer; float32 rows are half as "
        "many bytes.",
        lost,
        {"pace_ratio": ratio, "reference_workers": reference.workers},
    )


def _waiting(window: Window) -> Bottleneck | None:
    """Workers that wait for rounds: for each other and for the coordinator."""
    workers = len(window.workers)
    waits = window.share(lambda each: each.wait)
    if _slow_ranks(window):  # the others wait for it
        total = max(each.total for each in window.workers)
        waits = min(waits, min(each.wait for each in window.workers) / total)
    shared = (
        f"for {_percent(waits)} of their time" if workers > 1 else f"{_percent(waits)} of the time"
    )
    if window.exact:
        return Bottleneck(
            "coordinator",
            f"The coordinator: {shared} workers wait while it adds up and solves, on one core.",
            "More workers would not make it faster; fewer features or folds would.",
            waits,
        )
    batch = window.batch
    if window.waits and workers > 1 and 0 < batch < 4 * MIN_PART_ROWS * workers:
        return Bottleneck(
            "small_batches",
            f"Synchronisation: {window.batch_in_words} is too little for {workers} workers, "
            f"and they wait {_percent(waits)} of their time.",
            "Take larger batches or fewer workers, or workers that do not wait (consistency "
            "async or local).",
            waits,
            {"rows_per_step": batch},
        )
    who = f"{workers} workers wait" if workers > 1 else "the worker waits"
    return Bottleneck(
        "coordinator",
        f"The coordinator: {shared} {who} until it has taken its step and given out the next.",
        "Larger batches need fewer steps for the same rows.",
        waits,
        {"rows_per_step": batch},
    )


def _nothing(window: Window) -> Bottleneck:
    workers, busy = len(window.workers), window.share(lambda each: each.compute)
    if workers < window.cores:
        return Bottleneck(
            "nothing",
            f"Nothing: {_count(workers, 'worker')} {'are' if workers > 1 else 'is'} busy with "
            f"gradients ({_percent(busy)} of the time), on {workers} of {window.cores} cores.",
            "Another worker would use another core.",
        )
    return Bottleneck(
        "nothing",
        f"Nothing: all {window.cores} cores are busy with gradients ({_percent(busy)} of the "
        "workers' time)." if window.cores > 1 else
        f"Nothing: the core is busy with gradients ({_percent(busy)} of the time).",
    )  # fmt: skip


def _too_short(window: Window) -> Bottleneck:
    loading, training = window.loading_seconds, window.training_seconds
    if loading > training > 0:
        found = _loading(window, loading / (loading + training))
        return Bottleneck(found.cause, found.sentence, found.advice, found.lost,
                          {**_evidence(window), **found.evidence})  # fmt: skip
    if training > 0:
        return unknown(f"Nothing that could be measured: training took {_seconds(training)}.")
    if window.ended:
        return unknown("It was not measured: the run ended too soon.")
    return unknown("It is measured as soon as workers have computed for a moment.")


def _evidence(window: Window) -> dict[str, Any]:
    """The figures that every judgement rests on; shares of the workers' time, 0 to 1."""
    return {
        "workers": len(window.workers),
        "cores": window.cores,
        "compute_share": window.share(lambda each: each.compute),
        "wait_share": window.share(lambda each: each.wait),
        "communicate_share": window.share(lambda each: each.communicate),
        "without_core_share": window.share(lambda each: each.stalled),
        "machine_cpu_percent": window.machine_cpu,
        "rows_per_step": window.batch or None,
        "seconds": max((each.total for each in window.workers), default=0.0),
    }


class Announcer:
    """Says what limits a run when that has changed, and has stayed so for a while."""

    HELD_SECONDS = 10.0

    def __init__(self) -> None:
        self._told = "nothing"
        self._candidate = ""
        self._since = 0.0

    def update(self, found: Bottleneck, seconds: float) -> str | None:
        """Take in what limits the run ``seconds`` into the training; what to tell, if anything."""
        if found.cause in ("unknown", self._told):
            self._candidate = ""
            return None
        if found.cause != self._candidate:
            self._candidate, self._since = found.cause, seconds
        if seconds - self._since < self.HELD_SECONDS:
            return None
        self._told, self._candidate = found.cause, ""
        # The pool tells of a slow worker itself, once the shards are given out anew.
        return None if found.cause == "slow_worker" else f"What limits this run: {found.sentence}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _seconds(value: float) -> str:
    return f"{value * 1000:,.0f} ms" if value < 1 else f"{value:,.1f} s"
