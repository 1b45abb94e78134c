"""Which worker computes which shards of a round: the faster one more of them.

A round lasts as long as the worker that is last with its shards. Where one is slowed down (its
core is shared, or throttled), equal shares make all others wait for it.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

# Shards are shared out anew where rounds would last so much shorter: below, measuring errs.
WORTHWHILE = 0.85
# A worker so many times slower than the others is named.
SLOW = 1.5
# Seconds of computing that a speed is measured over.
MEASURED_SECONDS = 0.2
TRIAL_SECONDS = 5.0


def share_out(n_shards: int, parts: int, speeds: Mapping[int, float]) -> list[int]:
    """The rank that computes each shard, (n_shards,).

    Each shard of a round goes to whoever would be done with it first. Among equals it is who has
    less to do in all rounds, so that equally fast ones take turns.

    Parameters
    ----------
    n_shards : int
    parts : int
        Shards of a round: it is about shards ``k * parts`` up to ``(k + 1) * parts``.
    speeds : mapping of int to float
        Rows a second of each rank, or anything in proportion to them.
    """
    in_all = dict.fromkeys(speeds, 0)
    owners: list[int] = []
    for shard in range(n_shards):
        if shard % parts == 0:
            in_round = dict.fromkeys(speeds, 0)
        chosen = min(
            speeds,
            key=lambda rank: (
                (in_round[rank] + 1) / speeds[rank],
                (in_all[rank] + 1) / speeds[rank],
                rank,
            ),
        )
        in_round[chosen] += 1
        in_all[chosen] += 1
        owners.append(chosen)
    return owners


def duration(owners: Sequence[int], parts: int, speeds: Mapping[int, float]) -> float:
    """How long the rounds over all shards last together, in shards divided by the unit of
    ``speeds``."""
    total = 0.0
    for first in range(0, len(owners), parts):
        of_round = owners[first : first + parts]
        total += max(of_round.count(rank) / speeds[rank] for rank in set(of_round))
    return total


def better_shares(
    owners: Sequence[int], parts: int, speeds: Mapping[int, float]
) -> list[int] | None:
    """The rank for each shard, where another sharing-out than ``owners`` is worth while."""
    found = share_out(len(owners), parts, speeds)
    faster = duration(found, parts, speeds) <= WORTHWHILE * duration(owners, parts, speeds)
    return found if faster else None


def slow_ranks(speeds: Mapping[int, float]) -> dict[int, float]:
    """The workers that are much slower than the others are in the middle, and how many times."""
    found = {}
    for rank, speed in speeds.items():
        others = [each for other, each in speeds.items() if other != rank]
        times = statistics.median(others) / speed if others else 1.0
        if times >= SLOW:
            found[rank] = times
    return found


class Paces:
    """How fast each worker has been lately, from its counts of rows and of seconds computing."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, float]] = {}
        self._speeds: dict[int, float] = {}

    def measure(self, work: Mapping[int, tuple[int, float]]) -> bool:
        """Take in rows and seconds of each rank so far; whether their speeds are known anew.

        That is when each has computed for `MEASURED_SECONDS` more. One that has nothing to compute
        is taken to be as fast as the others every `TRIAL_SECONDS`: it may have recovered.
        """
        for rank in work.keys() - self._seen.keys():
            self._seen[rank] = work[rank]
        done = {rank: (rows - self._seen[rank][0], seconds - self._seen[rank][1])
                for rank, (rows, seconds) in work.items()}  # fmt: skip
        speeds = {
            rank: rows / seconds for rank, (rows, seconds) in done.items() if rows and seconds
        }
        if not speeds:
            return False
        enough = MEASURED_SECONDS if len(speeds) == len(work) else TRIAL_SECONDS
        if min(done[rank][1] for rank in speeds) < enough:
            return False
        self._seen, self._speeds = dict(work), speeds
        return True

    def speeds(self, ranks: Sequence[int]) -> dict[int, float]:
        """The speed of each rank; of one that is new, that of the middle."""
        usual = statistics.median(self._speeds.values()) if self._speeds else 1.0
        return {rank: self._speeds.get(rank, usual) for rank in ranks}

    def forget(self, rank: int) -> None:
        """Another process computes as this rank from now on."""
        self._seen.pop(rank, None)
        self._speeds.pop(rank, None)
