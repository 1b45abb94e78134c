"""One worker process: waits for work, computes on its shards, answers.

    coordinator ── version, op, ranges, parameters ──▶ worker      (shared block)
    coordinator ◀── slots of its shards, then `done` ── worker     (shared block)
                 ◀═ pipe: ready, failed, wake-up bytes ═▶

It imports NumPy and little else, maps the prepared rows, and after its first round allocates
nothing. It dies with its coordinator: by the parent-death signal, or by the end of its pipe.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from time import localtime, perf_counter, strftime, time

from regatta import models
from regatta.parameter_server.kernel import Kernel
from regatta.parameter_server.protocol import (
    ANSWERED,
    ASLEEP,
    BATCH_SIZE,
    BATCHES,
    COMMUNICATE_SECONDS,
    COMPUTE_SECONDS,
    COORDINATOR_ASLEEP,
    COUNT,
    DONE,
    FAILED,
    FINISHED,
    FIRST,
    FIRST_BATCH,
    HEARTBEAT,
    INCARNATION,
    L1,
    L2,
    MARK,
    MILESTONES,
    MILESTONES_KEPT,
    OP,
    ORDER,
    RATE,
    READY,
    ROWS,
    SHIFT,
    SPINNING_IS_SAFE,
    START,
    STATE,
    STOP,
    STRIDE,
    TICKET,
    VERSION,
    WAIT_SECONDS,
    Board,
    Op,
    WorkerSetup,
    WorkerState,
)
from regatta.parameter_server.shared_memory import SharedMemory
from regatta.parameter_server.step_kernel import StepKernel

# How long a worker looks for the next round before it sleeps: several times a round of the usual
# batches, short enough that an idle worker costs nothing that anyone would notice.
SPIN_SECONDS = 1e-3 if SPINNING_IS_SAFE else 0.0
# A wake-up byte that got lost would cost this long, and the heart beats this often in sleep.
SLEEP_SECONDS = 0.1

PR_SET_PDEATHSIG = 1
NO_SHARDS = int(Op.MOMENTS)  # the first of the orders that are about no shards


def run_worker(setup: WorkerSetup, memory: SharedMemory, pipe: Connection, parent: int) -> None:
    """Entry point of the process. Returns when told to exit or when the coordinator is gone."""
    _die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the coordinator's to handle
    log = os.open(setup.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    faulthandler.enable(2)
    try:
        worker = Worker(setup, memory, pipe)
        pipe.send_bytes(READY)
        _note("INFO", f"Worker {setup.rank} is ready: pid {os.getpid()}.")
        gc.collect()
        gc.freeze()
        gc.disable()
        worker.serve()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        _note("WARNING", "The coordinator is gone; so am I.")
    except BaseException:
        text = traceback.format_exc()
        _note("ERROR", f"Worker {setup.rank} failed.\n{text.rstrip()}")
        pipe.send_bytes(FAILED + text.encode())
        sys.exit(1)


def _note(level: str, text: str) -> None:
    """A line of this worker's log, as `utils.LOG_FORMAT` has it, without what `logging` costs."""
    now = time()
    stamp = f"{strftime('%Y-%m-%d %H:%M:%S', localtime(now))},{int(1000 * (now % 1)):03}"
    print(f"{stamp} {level:<7} regatta.worker: {text}", file=sys.stderr, flush=True)


class _Abandoned(Exception):
    """The coordinator gave up the round that is being computed: its run was stopped."""


class Worker:
    """The loop of a worker: spin, sleep, compute, answer."""

    def __init__(self, setup: WorkerSetup, memory: SharedMemory, pipe: Connection) -> None:
        self.rank = setup.rank
        self._pipe = pipe
        self._board = Board(memory, setup.layout)
        self._counts = self._board.counts[setup.rank]
        self._times = self._board.times[setup.rank]
        self._seen = setup.version
        source, objective = setup.source, models.get(setup.model)
        self._kernel = Kernel(
            source.open("train"), source.open("validation"), objective, setup.arithmetic
        )
        self._slots = list(self._board.slots)
        self._buffers = list(self._board.parameters)
        self._ticket = setup.ticket
        self._steps: StepKernel | None = None
        if setup.steps is not None:
            n_features = setup.source.n_features
            self._steps = StepKernel(self._kernel, setup.steps, n_features, self._beat_alone)
        self._counts[INCARNATION] = setup.incarnation
        self._counts[DONE] = setup.version
        self._counts[STATE] = WorkerState.WAIT

    def serve(self) -> None:
        """Answer rounds until one says exit."""
        control, counts, times = self._board.control, self._counts, self._times
        mark = times[MARK] = perf_counter()
        while True:
            version = self._next_version()
            woken = perf_counter()
            order = ORDER[version & 1]
            op, first, count = control[order + OP], control[order + FIRST], control[order + COUNT]
            if control[VERSION] != version:
                continue  # what was read may be of two rounds; this worker had no shard in it
            self._seen = version
            if op >= NO_SHARDS:
                if not self._stay(op, count):
                    counts[STATE] = WorkerState.LEFT
                    return
                mark = times[MARK]
                continue
            shards = self._mine(first, count)
            if shards:
                counts[STATE] = WorkerState.COMPUTE
                self._kernel.set_parameters(self._buffers[version & 1])
                read = perf_counter()
                try:
                    self._compute(op, shards, version & 1)
                except _Abandoned:
                    continue
                computed = perf_counter()
                counts[STATE] = WorkerState.WAIT
                counts[DONE] = version
                if control[COORDINATOR_ASLEEP]:
                    self._pipe.send_bytes(FINISHED)
                told = perf_counter()
                times[COMPUTE_SECONDS] += computed - read
                times[COMMUNICATE_SECONDS] += (read - woken) + (told - computed)
                times[WAIT_SECONDS] += woken - mark
                mark = times[MARK] = told

    def _stay(self, op: int, count: int) -> bool:
        """Obey an order that is about no shards of one's own; False: to leave."""
        if op == Op.TICKETS:
            self._serve_tickets(self._take_steps)
        elif op == Op.MOMENTS:
            self._serve_tickets(self._sum_moments)
        elif op == Op.GATHER:
            self._counts[DONE] = self._seen
            if self._board.control[COORDINATOR_ASLEEP]:
                self._pipe.send_bytes(FINISHED)
        return op < Op.GATHER or (op == Op.GATHER and self.rank < count)

    def _serve_tickets(self, compute: Callable[[], None]) -> None:
        """Compute the tickets that this worker is given, until there is another round."""
        counts, times, control = self._counts, self._times, self._board.control
        mark = perf_counter()
        times[WAIT_SECONDS] += mark - times[MARK]
        times[MARK] = mark
        while self._await_ticket():
            woken = perf_counter()
            counts[STATE] = WorkerState.COMPUTE
            try:
                compute()
            except _Abandoned:
                return
            computed = perf_counter()
            counts[STATE] = WorkerState.WAIT
            counts[ANSWERED] = self._ticket
            if control[COORDINATOR_ASLEEP]:
                self._pipe.send_bytes(FINISHED)
            told = perf_counter()
            times[COMPUTE_SECONDS] += computed - woken
            times[COMMUNICATE_SECONDS] += told - computed
            times[WAIT_SECONDS] += woken - mark
            mark = times[MARK] = told

    def _take_steps(self) -> None:
        """The batches of a ticket."""
        order, numbers = self._board.orders[self.rank], self._board.order_numbers[self.rank]
        start, answer = self._board.inputs[self.rank], self._board.answers[self.rank]
        penalty = models.Penalty(numbers[L1], numbers[L2])
        first, stride, batches = order[FIRST_BATCH], order[STRIDE], order[BATCHES]
        assert self._steps is not None
        self._counts[ROWS] += self._steps.run(
            first,
            stride,
            batches,
            start,
            answer,
            numbers[RATE],
            penalty,
            order[BATCH_SIZE],
            order[SHIFT],
        )

    def _sum_moments(self) -> None:
        """The moments of a ticket's rows."""
        order, matrix = self._board.orders[self.rank], self._board.matrices[self.rank]
        self._kernel.moments(order[START], order[STOP], matrix, self._beat_alone, self._count_rows)

    def _await_ticket(self) -> bool:
        """Whether a ticket came; False: another round did."""
        control, order, counts = self._board.control, self._board.orders[self.rank], self._counts
        seen, ticket, give_way = self._seen, self._ticket, _yield
        while True:
            deadline = perf_counter() + SPIN_SECONDS
            while True:
                if control[VERSION] != seen:
                    return False
                if order[TICKET] != ticket:
                    counts[HEARTBEAT] += 1
                    self._ticket = order[TICKET]
                    return True
                if perf_counter() >= deadline:
                    break
                give_way()
            self._sleep_until(self._has_round_or_ticket)

    def _beat_alone(self) -> None:
        """Beat within a ticket, which other rounds wait for; only the end of the run does not."""
        self._counts[HEARTBEAT] += 1
        control = self._board.control
        version = control[VERSION]
        if version != self._seen and control[ORDER[version & 1] + OP] == Op.EXIT:
            raise _Abandoned

    def _mine(self, first: int, count: int) -> list[int]:
        owners, rank = self._board.owners, self.rank
        return [shard for shard in range(first, first + count) if owners[shard] == rank]

    def _compute(self, op: int, shards: list[int], buffer: int) -> None:
        ranges, kernel, counts = self._board.range_words, self._kernel, self._counts
        base = buffer * self._board.layout.n_shards
        for shard in shards:
            word = 2 * (base + shard)
            start, stop = ranges[word], ranges[word + 1]
            kernel.run(op, start, stop, self._slots[shard], self._beat)
            if op == Op.GRADIENT:
                counts[ROWS] += stop - start

    def _beat(self) -> None:
        self._counts[HEARTBEAT] += 1
        # No other round is published while this one is waited for.
        if self._board.control[VERSION] != self._seen:
            raise _Abandoned

    def _count_rows(self, rows: int) -> None:
        counts, ring = self._counts, self._board.milestones[self.rank]
        counts[ROWS] += rows
        at = 2 * (counts[MILESTONES] % MILESTONES_KEPT)
        ring[at], ring[at + 1] = perf_counter(), counts[ROWS]
        counts[MILESTONES] += 1

    def _next_version(self) -> int:
        """The version of a round that this worker has not seen; waits for one."""
        control, counts, seen, give_way = self._board.control, self._counts, self._seen, _yield
        while True:
            deadline = perf_counter() + SPIN_SECONDS
            while True:
                version: int = control[VERSION]
                if version != seen:
                    counts[HEARTBEAT] += 1
                    return version
                if perf_counter() >= deadline:
                    break
                give_way()
            self._sleep_until(self._has_round)

    def _has_round(self) -> bool:
        return self._board.control[VERSION] != self._seen

    def _has_round_or_ticket(self) -> bool:
        return self._has_round() or self._board.orders[self.rank][TICKET] != self._ticket

    def _sleep_until(self, called: Callable[[], bool]) -> None:
        counts = self._counts
        counts[ASLEEP] = 1
        counts[STATE] = WorkerState.ASLEEP
        while not called():
            counts[HEARTBEAT] += 1
            if self._pipe.poll(SLEEP_SECONDS):
                self._pipe.recv_bytes()
        counts[ASLEEP] = 0
        counts[STATE] = WorkerState.WAIT


def _die_with(parent: int) -> None:
    """Ask the kernel to kill this process when its coordinator dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the kernel knew
            os._exit(1)


_yield = getattr(os, "sched_yield", lambda: None)
