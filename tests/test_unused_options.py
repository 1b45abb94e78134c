"""Options that have no effect are named, with the reason, and refused by no one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from regatta.cli import main
from regatta.configuration import STEP_OPTIONS, TrainingConfig
from regatta.solvers import choose, unused


def config(**settings: Any) -> TrainingConfig:
    return TrainingConfig(path="rows.csv", target="y", **settings)


@pytest.mark.parametrize(
    ("settings", "rows", "named", "why"),
    [
        ({"solver": "exact", "epochs": 3}, None, ["--epochs has"], "takes no steps"),
        ({"solver": "exact", "tol": 0.0, "patience": 2}, None, ["--tol and --patience"], "steps"),
        ({"model": "linear", "alpha": 3.0}, None, ["--alpha has"], "linear has no penalty"),
        ({"model": "linear", "l1_ratio": 0.1}, None, ["--l1-ratio"], "only elasticnet"),
        ({"model": "ridge", "l1_ratio": 0.1}, None, ["--l1-ratio"], "the model is ridge"),
        ({"batch_size": "full", "learning_rate": 0.1}, None, ["--learning-rate"], "all rows"),
        ({"learning_rate": 0.1, "schedule": "step"}, 900, ["--learning-rate and --schedule"], ""),
        ({"learning_rate": 0.1, "batch_size": 900}, 900, ["--learning-rate"], "all rows"),
        ({"batch_size": 9, "optimizer": "adam", "momentum": 0.5}, None, ["--momentum"], "adam"),
        ({"folds": 3, "rule": "1se"}, None, ["--folds and --rule have"], "--alpha auto"),
    ],
)
def test_what_has_no_effect_is_named(
    settings: dict[str, Any], rows: int | None, named: list[str], why: str
) -> None:
    (told,) = choose.without_effect(config(**settings), rows)
    assert why in told and all(each in told for each in named)


@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        ({}, None),
        ({"learning_rate": 0.1}, None),  # until the rows are known
        ({"learning_rate": 0.1}, 100_000),
        ({"learning_rate": 0.1, "batch_size": 64}, 900),
        ({"learning_rate": 0.1, "consistency": "local"}, 900),
        ({"batch_size": "full", "epochs": 9, "tol": 0.1, "patience": 3}, 900),
        ({"model": "elasticnet", "l1_ratio": 0.1, "alpha": 2.0}, None),
        ({"model": "lasso", "alpha": "auto", "folds": 3, "rule": "1se"}, None),
        ({"model": "mine:Loss", "solver": "sgd", "alpha": 2.0, "l1_ratio": 0.1}, None),
    ],
)
def test_what_counts_is_not_named(settings: dict[str, Any], rows: int | None) -> None:
    assert choose.without_effect(config(**settings), rows) == []


def test_the_length_of_a_step_is_set_by_options_of_the_steps() -> None:
    assert set(unused.STEP_LENGTH) < set(STEP_OPTIONS)


def test_the_command_warns_and_trains(
    regatta_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,y\n" + "".join(f"{i},{i % 7}\n" for i in range(60)))
    words = ["train", str(path), "--target", "y", "--workers", "0", "--json"]
    assert main([*words, "--solver", "exact", "--epochs", "3"]) == 0
    told = capsys.readouterr()
    assert "regatta: --epochs has no effect: the exact solver takes no steps.\n" in told.err
    assert "--epochs has no effect" in json.loads(told.out)["warnings"][-1]
    # That all rows of so few are taken at once is known when they are read.
    assert main([*words, "--learning-rate", "0.2"]) == 0
    assert "--learning-rate has no effect" in json.loads(capsys.readouterr().out)["warnings"][-1]
    words = ["path", *words[1:], "--model", "lasso", "--l1-ratio", "0.2"]
    assert main(words) == 0
    assert "--l1-ratio has no effect" in capsys.readouterr().err
