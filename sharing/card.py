"""The model card: one page of Markdown on what a model is, from what, how good, and where valid."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from regatta.sharing import facts as told
from regatta.sharing.facts import RunFacts
from regatta.utils import counted

TOP_EFFECTS = 10
TOP_RANGES = 15
# Marks of Markdown, and what makes links or symbols of names; within words, as in "a_b" and
# "12:30", some are none.
SPECIAL = re.compile(
    r"([\\`*{}\[\]<>!|~$&@]|(?<![^\W_])_|_(?![^\W_])|:(?=[^\W\d]|/)|(?<=www)\.)", re.IGNORECASE
)
FIRST = re.compile(r"^(\d*)([#+=.)-])")


def model_card(facts: RunFacts) -> str:
    """The card of a finished run, in Markdown."""
    lines = [f"# Model card: {escaped(facts.title)}", "", escaped(told.in_a_sentence(facts)), ""]
    for title, body in _sections(facts):
        lines += [f"## {title}", "", *body, ""]
    return "\n".join(lines).rstrip() + "\n"


def escaped(text: str) -> str:
    """Text that Markdown reads as text: on one line, no markup, no links, no symbols by name."""
    flat = " ".join(str(text).split())
    return SPECIAL.sub(r"\\\1", flat)


def _sections(facts: RunFacts) -> Iterable[tuple[str, list[str]]]:
    warnings = told.warnings(facts)
    if warnings:
        yield "Warnings", _list(warnings)
    yield (
        "Scores",
        [
            *_table(("", "held-out rows", "training rows"), told.score_rows(facts), numbers=(1, 2)),
            "",
            escaped(told.about_scores(facts)),
        ],
    )
    yield "Valid within", _validity(facts)
    yield "What moves the prediction", _effects(facts)
    yield "Data", _pairs(told.data_rows(facts))
    yield "How the file was read", _reading(facts)
    yield "Model and settings", _pairs(told.model_rows(facts))
    yield (
        "Made with",
        [
            *_pairs(told.made_rows(facts)),
            "",
            told.about_command(facts),
            "",
            *_code(told.command(facts.config)),
        ],
    )


def _validity(facts: RunFacts) -> list[str]:
    rows = told.range_rows(facts)
    lines = [
        "The model is linear: beyond what the training rows held it draws straight lines on, and "
        "nothing says that these are right.",
        "",
    ]
    target = told.target_range(facts)
    if target:
        lines += [f"Target ({escaped(facts.model.target)}) in the training rows: {target}.", ""]
    lines += _table(("column", "kind", "in the training rows"), rows[:TOP_RANGES])
    if len(rows) > TOP_RANGES:
        more = counted(len(rows) - TOP_RANGES, "more column")
        lines += ["", f"{more}, with less effect: in the JSON export."]
    return lines


def _effects(facts: RunFacts) -> list[str]:
    effects = facts.effects()
    rows = told.effect_rows(effects, TOP_EFFECTS)
    if not rows:
        return ["Nothing: the model predicts the mean."]
    lines = [f"Change of {escaped(facts.model.target)}, the largest effects first.", ""]
    titles = ("feature", "one unit more", "one standard deviation more", "interval")
    if any(row[3] for row in rows):
        level = (facts.result.get("inference") or {}).get("level")
        titles = (*titles[:3], f"{level:.0%} interval (one unit)" if level else "interval")
        lines += _table(titles, rows, numbers=(1, 2, 3))
    else:
        lines += _table(titles[:3], [row[:3] for row in rows], numbers=(1, 2))
    if len(effects) > TOP_EFFECTS:
        lines += ["", f"These are {TOP_EFFECTS} of {len(effects):,}."]
    return lines


def _reading(facts: RunFacts) -> list[str]:
    lines = _pairs(told.reading_rows(facts))
    repairs = told.repairs(facts)
    return [*lines, "", "Repaired:", "", *_list(repairs)] if repairs else lines


def _pairs(rows: Sequence[tuple[str, str]]) -> list[str]:
    return [f"- **{escaped(name)}**: {escaped(value)}" for name, value in rows]


def _list(texts: Iterable[str]) -> list[str]:
    return ["- " + FIRST.sub(r"\1\\\2", escaped(each)) for each in texts]


def _table(
    titles: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()
) -> list[str]:
    rule = ["---:" if place in numbers else "---" for place in range(len(titles))]
    lines = [f"| {' | '.join(titles)} |", f"| {' | '.join(rule)} |"]
    return lines + [f"| {' | '.join(map(escaped, row))} |" for row in rows]


def _code(text: str) -> list[str]:
    longest = max((len(each) for each in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}sh", " ".join(text.splitlines()), fence]
