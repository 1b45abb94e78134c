"""What may be typed: options made from the declarations, and mistakes told alike."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from regatta.cli import main
from regatta.cli.arguments import make_parser
from regatta.cli.train import configuration
from regatta.configuration import TrainingConfig, allowed, choices, flag, number_type

OPTIONS = [each for each in fields(TrainingConfig) if each.name != "path"]


def told(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    """Exit code and ``error`` object of a command that is refused."""
    code = main([*words, "--json"])
    caught = capsys.readouterr()
    assert "Traceback" not in caught.err
    error = json.loads(caught.out)["error"]
    assert set(error) == {"message", "hint", "row", "column"}
    return code, error


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REGATTA_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.parametrize("each", OPTIONS, ids=lambda each: each.name)
def test_each_declared_option_is_offered_with_its_help(
    each: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["train", "--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert flag(each.name) in text
    assert each.metadata["help"].replace("%", "%%") in text
    for word in choices(each):
        assert word in text


@pytest.mark.parametrize(
    "each", [o for o in OPTIONS if choices(o) or number_type(o)], ids=lambda each: each.name
)
def test_a_wrong_value_names_the_option_and_what_is_allowed(
    each: Any, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    code, error = told(capsys, "train", "x.csv", "--target", "y", flag(each.name), "wrong!")
    assert code == 2
    assert flag(each.name) in error["message"] and "wrong!" in error["message"]
    assert allowed(each) in error["hint"]
    assert not (home / "runs").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--alpha", "-1"), ("--alpha", "nan"), ("--alpha", "inf"), ("--epochs", "-1"),
        ("--epochs", "0"), ("--epochs", "1.5"), ("--l1-ratio", "1.01"), ("--validation", "0"),
        ("--validation", "1"), ("--batch-size", "0"), ("--learning-rate", "0"),
        ("--momentum", "1"), ("--workers", "-1"), ("--shards", "0"), ("--seed", "-1"),
        ("--model", "Ridge"), ("--solver", "magic"), ("--precision", "float16"),
    ],
)  # fmt: skip
def test_values_beyond_the_bounds_are_refused(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, error = told(capsys, "train", "x.csv", "--target", "y", option, value)
    assert code == 2
    assert option in error["message"]


@pytest.mark.parametrize(
    "words",
    [
        ["train"], ["frobnicate"], ["train", "x.csv", "--no-such-option"],
        ["train", "x.csv", "--alph", "1"], ["predict", "last"], ["runs", "explode"],
        ["serve", "--port", "many"], ["train", "x.csv", "--alpha"], ["runs", "show"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_mistakes_in_the_command_line_obey_json_too(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, error = told(capsys, *words)
    assert code == 2
    assert error["message"].endswith(".") and "--help" in error["hint"]


def test_mistakes_without_json_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "x.csv", "--target", "y", "--alpha", "-1"]) == 2
    caught = capsys.readouterr()
    assert caught.out == ""
    assert caught.err.startswith("regatta: --alpha is -1")
    assert len(caught.err.splitlines()) == 2


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "serve" in capsys.readouterr().out


def test_options_become_the_configuration() -> None:
    words = "train data.csv --target y --model elasticnet --alpha 0.5 --l1-ratio 0.1 --workers auto"
    words += " --batch-size full --epochs 7 --schedule constant --precision float64 --name trial"
    config = configuration(make_parser().parse_args(words.split()))
    assert config == TrainingConfig(
        path="data.csv", target="y", model="elasticnet", alpha=0.5, l1_ratio=0.1, workers=None,
        batch_size="full", epochs=7, schedule="constant", precision="float64", name="trial",
        solver="sgd",
    )  # fmt: skip


def test_names_of_columns_are_taken_as_they_are() -> None:
    words = ["train", "d.csv", "--target", " price, net ", "--drop", "a,b", "--drop", "c"]
    config = configuration(make_parser().parse_args(words))
    assert config.drop == ("a,b", "c")
    assert config.target == " price, net "


def test_flag_goes_before_environment_before_file_before_default(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.mkdir()
    (home / "config.toml").write_text("alpha = 2.0\nepochs = 3\nseed = 4\n")
    monkeypatch.setenv("REGATTA_ALPHA", "5")
    monkeypatch.setenv("REGATTA_EPOCHS", "6")
    words = ["train", "d.csv", "--target", "y", "--alpha", "7"]
    config = configuration(make_parser().parse_args(words))
    assert (config.alpha, config.epochs, config.seed, config.shards) == (7, 6, 4, 16)


def test_the_entry_module_imports_little() -> None:
    """Every worker imports it again: no NumPy, no argparse, nothing of Regatta's own."""
    code = "import regatta.cli, regatta.__main__, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert "regatta.cli" in loaded
    assert not loaded & {"numpy", "argparse", "sqlite3", "regatta.utils", "platformdirs"}


def test_help_needs_no_numpy() -> None:
    code = (
        "import sys; from regatta.cli import main\n"
        "try: main(['train', '--help'])\n"
        "except SystemExit: print('numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False"
