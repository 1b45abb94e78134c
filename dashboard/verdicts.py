"""What a comparison of runs shows, in sentences: who was at the optimum first, and why.

One run each is little evidence: times nearer to each other than `NOISE`, or than the looks at the
gap lie apart, are told as none. Two runs are set against each other where they differ in one thing:
the way their workers agree, or how many there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from regatta.dashboard import fields as options
from regatta.dashboard import words
from regatta.dashboard.comparison import (
    GAP_WORDS,
    GAPS,
    PROBLEM,
    ROWS,
    WAY,
    WAYS,
    Course,
    Reach,
    caption,
    config_differences,
    gap_text,
    optima_differ,
    seconds_text,
)
from regatta.utils import available_cores

# A ratio of times nearer to one than this is what the machine does besides.
NOISE = 0.1
# Of each worker's time, waiting that is worth a word.
MUCH_WAITING = 0.3
MOSTLY = 0.5
TIMES = ("compute", "wait", "communicate")


def verdicts(courses: Sequence[Course]) -> list[str]:
    """Sentences, the most telling first; free text of the user is escaped for Markdown."""
    if len(courses) < 2:
        return []
    differing = config_differences(courses, PROBLEM)
    if differing:
        return [_not_one_problem(differing), *_scores(courses), *_within_problems(courses)]
    if optima_differ(courses):
        return ["The optima of these runs differ: the file has changed between them, so their "
                "times say nothing of each other."]  # fmt: skip
    if all(each.optimum is None for each in courses):
        return ["The optimum is not known, so how near a run is to it cannot be told.",
                *_scores(courses)]  # fmt: skip
    return _about_times(courses)


def _within_problems(courses: Sequence[Course]) -> list[str]:
    """Of those among them that are of one problem, what their times show."""
    told: list[str] = []
    seen: set[str] = set()
    for course in courses:
        same = [each for each in courses if not config_differences([course, each], PROBLEM)]
        if len(same) > 1 and course.letter not in seen:
            told += [f"{_listed([each.letter for each in same])} do not differ in these:"]
            told += verdicts(same)
        seen |= {each.letter for each in same}
    return told


def _about_times(courses: Sequence[Course]) -> list[str]:
    aim = _aim(courses)
    if aim is None:
        return [_nobody(courses)]
    there = [each for each in courses if each.reach(aim)]
    told = [_first(there, aim)] if len(there) > 2 else []
    pairs = _pairs(there)
    told += [pair.sentence(aim) for pair in pairs]
    if not pairs and len(there) == 2:
        told.append(_pair_of_two(there[0], there[1], aim))
    told += [_not_there(each, aim) for each in courses if each not in there]
    scaled = [each.letter for each in courses if each.scaled]
    if scaled:
        told.append(f"The number of workers of {_listed(scaled)} was changed meanwhile.")
    changed = [each.letter for each in courses if each.changes]
    if changed:
        told.append(f"Settings of {_listed(changed)} were changed on the way.")
    return told


def _aim(courses: Sequence[Course]) -> float | None:
    """The smallest gap that two have reached, or else one."""
    for enough in (2, 1):
        for aim in sorted(GAPS):
            if sum(each.reach(aim) is not None for each in courses) >= enough:
                return aim
    return None


@dataclass(frozen=True)
class Pair:
    """Two runs that differ in one thing; ``other`` is told of, against ``base``."""

    base: Course
    other: Course
    by_workers: bool

    def sentence(self, aim: float) -> str:
        """Who was sooner at a gap of ``aim``, and why where that is known."""
        before, after = _reached(self.base, aim), _reached(self.other, aim)
        subject, against, gap = self._subject(), self._against(), GAP_WORDS[aim]
        if alike(before, after):
            be = "were" if self.is_many else "was"
            return (
                f"{subject} {be} as soon at a gap of {gap} as {against}: after "
                f"{seconds_text(after.seconds)} and {seconds_text(before.seconds)}, which is no "
                "difference that one run each can show."
            )
        if after.seconds < before.seconds:
            win = "win: they " if self.is_many else ""
            share = ratio_text(before.seconds / after.seconds)
            text = f"{win}reached a gap of {gap} {share} times sooner than {against}"
        else:
            lose = "lose: they " if self.is_many else ""
            share = ratio_text(after.seconds / before.seconds)
            text = f"{lose}took {share} times as long to a gap of {gap} as {against}"
        times = f"after {seconds_text(after.seconds)} and not {seconds_text(before.seconds)}"
        return f"{subject} {text}, {times}.{_why(self, before, after)}"

    @property
    def is_many(self) -> bool:
        """Whether it is told of several workers, and not of a way."""
        return self.by_workers and (self.other.workers or 0) > 1

    def _subject(self) -> str:
        name = WAYS[self.other.way]
        if not self.by_workers:
            crew = _crew(self.other)
            return f"With {crew}, {name} ({self.other.letter})"
        return f"{name[:1].upper()}{name[1:]}: {_crew(self.other)} ({self.other.letter})"

    def _against(self) -> str:
        if not self.by_workers:
            return f"{WAYS[self.base.way]} ({self.base.letter})"
        return f"{self.base.workers:,} ({self.base.letter})"


def _pairs(courses: Sequence[Course]) -> list[Pair]:
    """Each way against sync with as many workers; then more workers against the fewest."""
    found = []
    for base in (each for each in courses if each.way == "sync" and not each.is_disturbed):
        for other in courses:
            if other.way in ("async", "local") and _differ_in(base, other, WAY):
                found.append(Pair(base, other, by_workers=False))
    told: set[str] = set()
    by_crew = sorted((each for each in courses if each.workers), key=lambda each: each.workers or 0)
    for few in by_crew:
        for many in by_crew:
            more = (many.workers or 0) > (few.workers or 0)
            if more and many.letter not in told and _differ_in(few, many, ("workers",)):
                told.add(many.letter)
                found.append(Pair(few, many, by_workers=True))
    return found


def _differ_in(one: Course, other: Course, names: Sequence[str]) -> bool:
    """Whether two runs differ in nothing but ``names``, and do so by their settings alone."""
    differing = set(config_differences([one, other]))
    disturbed = one.is_disturbed or other.is_disturbed
    return bool(differing) and differing <= set(names) and not disturbed


def alike(one: Reach, other: Reach) -> bool:
    """Whether two times cannot be told apart: by what the machine does besides, or because the
    later one may have been there before it was looked at."""
    first, last = sorted((one, other), key=lambda each: each.seconds)
    return last.seconds <= (1 + NOISE) * first.seconds or last.after <= first.seconds


def _why(pair: Pair, before: Reach, after: Reach) -> str:
    """What made the difference: more or fewer steps to the gap, or more or fewer a second."""
    sooner = after.seconds < before.seconds
    steps = after.step / before.step
    pace = before.pace / after.pace if after.pace else 1.0  # of the times of a step
    if sooner:
        steps, pace = 1 / steps, 1 / pace
    if max(steps, pace) <= 1 + NOISE:
        return ""
    who = "They" if pair.is_many else "It"
    if steps > pace:
        few = "fewer" if sooner else "more"
        return f" {who} took {few} steps: {after.step:,} and not {before.step:,}{_why_steps(pair)}"
    if sooner:
        return f" {who} took more steps a second: {_paces(before, after)}"
    return f" {who} took fewer steps a second: {_paces(before, after)}{_why_slow(pair, after)}"


def _why_steps(pair: Pair) -> str:
    """What the number of steps to a gap hangs on, where no batch waits for another."""
    rates = [each.of_result("learning_rate") for each in (pair.base, pair.other)]
    late = pair.other.mean_staleness
    if pair.other.way == "async" and all(rates) and abs(rates[1] / rates[0] - 1) > NOISE:
        lateness = f" ({late:.1f} updates late in the mean)" if late else ""
        return (
            f", at a learning rate of {words.number(rates[1], 2)} and not "
            f"{words.number(rates[0], 2)}, which is safe for late gradients{lateness}."
        )
    return "."


def _why_slow(pair: Pair, after: Reach) -> str:
    """Why more workers took fewer steps: what a step holds, who waits, and how many cores."""
    if not pair.by_workers:
        return ""
    told = ""
    compute, busy = _computing(pair.base), _busiest(pair.other)
    # Where a worker computes most of the time, it is slow, and handing over is not to blame.
    if compute is not None and busy is not None and busy < MOSTLY:
        batch = pair.other.of_result("batch_size")
        what = f"{batch:,} rows" if batch else "the rows of a step"
        told += (
            f" {what[:1].upper()}{what[1:]} are {1000 * compute:.2g} ms of computing, and a step "
            f"took {1000 / after.pace:.2g} ms: too few to share."
        )
    waited = _waiting(pair.other)
    if waited is not None and waited > MUCH_WAITING:
        whom = {"sync": "since every step waits for all of them", "local": "since every average "
                "waits for all of them"}.get(pair.other.way, "for their next batch")  # fmt: skip
        told += f" They waited {100 * waited:.0f} % of the time, {whom}."
    cores = available_cores()
    if (pair.other.workers or 0) > cores:
        told += f" Here {cores} core{'s have' if cores > 1 else ' has'} to do for all of them."
    return told


def _paces(before: Reach, after: Reach) -> str:
    return f"{words.number(after.pace, 3)} and not {words.number(before.pace, 3)}."


def _computing(course: Course) -> float | None:
    """Seconds that one step keeps a worker computing, were it alone."""
    seconds = sum(each["compute"] or 0.0 for each in course.times)
    return seconds / course.step if course.step and seconds else None


def _busiest(course: Course) -> float | None:
    """The share of its time that the worker computed that did so most."""
    times = [sum(each[name] or 0.0 for name in TIMES) for each in course.times]
    return max(
        (each["compute"] / time for each, time in zip(course.times, times, strict=True) if time),
        default=None,
    )


def _waiting(course: Course) -> float | None:
    """The share of the workers' time that they waited."""
    parts = [[each[name] or 0.0 for name in TIMES] for each in course.times]
    total = sum(map(sum, parts))
    return sum(part[1] for part in parts) / total if total else None


def _first(courses: Sequence[Course], aim: float) -> str:
    first, second = sorted(courses, key=lambda each: _reached(each, aim).seconds)[:2]
    one, two = _reached(first, aim), _reached(second, aim)
    told = f"First at a gap of {GAP_WORDS[aim]}: {_named(first)}, after {seconds_text(one.seconds)}"
    if alike(one, two):
        return f"{told}; {_named(second)} was as soon ({seconds_text(two.seconds)})."
    return f"{told}; next {_named(second)}, after {seconds_text(two.seconds)}."


def _pair_of_two(one: Course, other: Course, aim: float) -> str:
    """Two runs of one problem that differ in several things, or in something else."""
    first, last = sorted((one, other), key=lambda each: _reached(each, aim).seconds)
    early, late = _reached(first, aim), _reached(last, aim)
    differing = [options.label(name).lower() for name in config_differences([one, other])]
    but = f" They differ in {_listed(differing)}." if differing else " Their settings are the same."
    gap = GAP_WORDS[aim]
    if alike(early, late):
        return (
            f"{first.letter} and {last.letter} were as soon at a gap of {gap}: after "
            f"{seconds_text(early.seconds)} and {seconds_text(late.seconds)}.{but}"
        )
    share = ratio_text(late.seconds / early.seconds)
    return (
        f"{_named(first)} reached a gap of {gap} {share} times sooner than {_named(last)}, after "
        f"{seconds_text(early.seconds)} and not {seconds_text(late.seconds)}.{but}"
    )


def _not_there(course: Course, aim: float) -> str:
    gap = GAP_WORDS[aim]
    if course.gap is None:
        return f"{_named(course)} has no figures yet."
    if course.ended:
        return f"{_named(course)} did not reach a gap of {gap}: it ended at {gap_text(course.gap)}."
    return f"{_named(course)} is not at a gap of {gap} yet: it is at {gap_text(course.gap)}."


def _nobody(courses: Sequence[Course]) -> str:
    gap = GAP_WORDS[max(GAPS)]
    so_far = "" if all(each.ended for each in courses) else " yet"
    known = [each for each in courses if each.gap is not None]
    if not known:
        return f"None of these runs has figures{so_far}."
    nearest = min(known, key=lambda each: each.gap or 0.0)
    return (
        f"None of these runs has been within a gap of {gap}{so_far}: "
        f"nearest is {_named(nearest)}, at {gap_text(nearest.gap)}."
    )


def _not_one_problem(differing: Sequence[str]) -> str:
    names = ["the data" if each == "path" else options.label(each).lower() for each in differing]
    what = _listed(names)
    return f"These runs differ in {what}, so their times to the optimum say nothing of each other."


def _scores(courses: Sequence[Course]) -> list[str]:
    """Who predicts best, where all were scored on the same rows."""
    known = [(each.score("validation_r2"), each) for each in courses]
    scores = sorted(
        ((score, each) for score, each in known if score is not None), key=lambda pair: -pair[0]
    )
    if len(scores) < 2:
        return []
    if config_differences(courses, ROWS):
        return ["Nor do their scores: the rows held out are not the same."]
    (best, first), (worst, last) = scores[0], scores[-1]
    if f"{best:.4f}" == f"{worst:.4f}":
        return [f"On the same held-out rows all of them have an R² of {best:.4f}."]
    called = caption(first, courses), caption(last, courses)
    return [
        f"On the same held-out rows {called[0]} predicts best: R² {best:.4f}; "
        f"lowest is {called[1]}: {worst:.4f}."
    ]


def ratio_text(value: float) -> str:
    """1.4; above ten without decimals."""
    return f"{value:.1f}" if value < 9.95 else f"{value:,.0f}"


def _reached(course: Course, aim: float) -> Reach:
    found = course.reach(aim)
    assert found is not None
    return found


def _named(course: Course) -> str:
    return f"{course.letter} ({WAYS[course.way]}, {_crew(course)})"


def _crew(course: Course) -> str:
    count = course.workers
    if count is None:
        return "its workers"
    return {0: "no worker process", 1: "1 worker"}.get(count, f"{count:,} workers")


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
