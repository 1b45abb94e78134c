"""Options that were set and have no effect on a run, each with the reason: told, not refused, since
scripts and files of settings name options for runs of every kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields

from regatta.configuration import STEP_OPTIONS, TrainingConfig, flag

DEFAULTS = {each.name: each.default for each in fields(TrainingConfig)}
# What decides the length of a step, which a step over all rows derives by itself.
STEP_LENGTH = ("learning_rate", "schedule", "optimizer", "momentum")


def without_effect(config: TrainingConfig, solver: str) -> list[str]:
    """A sentence for each reason why options have none; ``solver`` is exact, fista or sgd."""
    return [
        f"{_listed(names)} {'have' if len(names) > 1 else 'has'} no effect: {why}."
        for among, why in _reasons(config, solver)
        if (names := [name for name in among if getattr(config, name) != DEFAULTS[name]])
    ]


def _reasons(config: TrainingConfig, solver: str) -> Iterator[tuple[Sequence[str], str]]:
    """Options that count for nothing, and why."""
    if solver == "exact":
        yield STEP_OPTIONS, "the exact solver takes no steps"
    elif solver == "fista":
        why = "each step takes all rows, and its length is derived from them"
        yield STEP_LENGTH, f"{why}; a smaller --batch-size takes steps that it counts for"
    elif config.optimizer != "momentum":
        yield ("momentum",), f"the optimizer {config.optimizer} has none"
    if config.model == "linear":
        yield ("alpha",), "the model linear has no penalty"
    if config.model in ("linear", "ridge", "lasso"):
        yield ("l1_ratio",), f"only elasticnet mixes two penalties, and the model is {config.model}"
    if config.alpha != "auto":
        yield ("folds", "rule"), "alpha is chosen with --alpha auto alone"


def _listed(names: Sequence[str]) -> str:
    """``--epochs, --tol and --patience``."""
    flags = [flag(name) for name in names]
    return flags[0] if len(flags) == 1 else f"{', '.join(flags[:-1])} and {flags[-1]}"
