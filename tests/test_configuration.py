"""Options: bounds, words, precedence, and the documentation made from them."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regatta.configuration import (
    AS_FOUND,
    DATE_LETTERS,
    ReadingOptions,
    TrainingConfig,
    allowed,
    choices,
    flag,
    number_type,
    parse_value,
    resolve,
    resolve_reading,
)
from regatta.ingest.dates import _DIRECTIVES
from regatta.utils import UserError

FIELDS = {each.name: each for each in fields(TrainingConfig)}


def test_every_option_has_a_help_and_a_group() -> None:
    for each in FIELDS.values():
        assert each.metadata["help"], each.name
        assert each.metadata["group"] in {"data", "reading", "model", "training", "run"}, each.name


def test_defaults_are_valid_and_survive_json() -> None:
    config = TrainingConfig(path="a.csv", target="y", drop=("id",))
    assert TrainingConfig.from_json(config.to_json()) == config


def test_a_configuration_of_before_the_options_of_the_reading_loads() -> None:
    names = {each.name for each in fields(ReadingOptions)}
    config = TrainingConfig(path="a.csv", target="y", drop=("id",))
    old = {name: value for name, value in config.to_json().items() if name not in names}
    assert TrainingConfig.from_json(old) == config
    assert config.reading == AS_FOUND


def test_options_of_the_reading_that_are_given_are_told_apart() -> None:
    config = TrainingConfig(path="a.csv", target="y", delimiter=";", missing=("-200", "gone"))
    assert TrainingConfig.from_json(config.to_json()) == config
    assert config.reading == ReadingOptions(delimiter=";", missing=("-200", "gone"))
    assert config.reading.in_force() == {"delimiter": ";", "missing": ["-200", "gone"]}
    assert AS_FOUND.in_force() == {}


@pytest.mark.parametrize(
    "given",
    [
        {"delimiter": ",", "quote": ","},
        {"delimiter": "comma", "escape": ","},
        {"quote": "'", "escape": "'"},
        {"quote": "#", "comment": "#"},
        {"decimal": "point", "thousands": "."},
        {"decimal": ",", "thousands": ","},
    ],
)
def test_one_mark_cannot_mean_two_things(given: dict[str, str]) -> None:
    with pytest.raises(UserError, match="are both") as caught:
        ReadingOptions(**given)  # type: ignore[arg-type]
    assert all(flag(name) in caught.value.message for name in given)


def test_the_letters_of_dates_are_those_that_are_read() -> None:
    assert {f"%{letter}" for letter in DATE_LETTERS} == set(_DIRECTIVES)


def test_the_reading_takes_its_options_from_the_same_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.toml"
    file.write_text('target = "y"\nmissing = ["gone", "lost"]\ndecimal = ","\nskip_rows = 2\n')
    monkeypatch.setenv("REGATTA_DECIMAL", "point")
    options = resolve_reading({"header": "no"}, config_file=file)
    assert options == ReadingOptions(
        missing=("gone", "lost"), decimal="point", skip_rows=2, header="no"
    )


def test_an_unknown_setting_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="colour"):
        TrainingConfig.from_json({"colour": "red"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("alpha", -1.0),
        ("alpha", float("nan")),
        ("alpha", float("inf")),
        ("alpha", True),
        ("epochs", 0),
        ("epochs", -1),
        ("epochs", 1.5),
        ("workers", -1),
        ("batch_size", "some"),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("momentum", 1.0),
        ("l1_ratio", 1.1),
        ("validation", 0.0),
        ("validation", 1.0),
        ("model", "forest"),
        ("precision", "float16"),
        ("shards", None),
        ("encoding", "hex"),
        ("encoding", "utf-99"),
        ("delimiter", ",,"),
        ("delimiter", "x"),
        ("delimiter", "§"),
        ("quote", "comma"),
        ("thousands", "0"),
        ("header", "maybe"),
        ("skip_rows", -1),
        ("missing", "gone"),
        ("column_types", ("a",)),
        ("column_types", ("a=text",)),
        ("column_types", ("=number",)),
        ("column_types", ("a=date:%Q",)),
        ("column_types", ("a=date:%d.%m. %H:%M",)),
        ("column_types", ("a=date:%Y-%m",)),
        ("column_types", ("a=date:%Y-%m-%d %y",)),
        ("column_types", ("a=date:%Y-%m-%d %I:%H",)),
        ("odd_cells", "drop"),
        ("max_bad_rows", 1.1),
    ],
)
def test_a_wrong_value_is_one_sentence_that_names_the_option(name: str, value: Any) -> None:
    with pytest.raises(UserError) as caught:
        TrainingConfig(**{name: value})
    assert flag(name) in caught.value.message
    assert allowed(FIELDS[name]) in caught.value.hint
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("batch_size", "full", "full"),
        ("batch_size", " 64 ", 64),
        ("batch_size", "auto", None),
        ("workers", "0", 0),
        ("alpha", "1e-3", 0.001),
        ("model", "lasso", "lasso"),
        ("drop", "a, b", ("a", "b")),
        ("target", "auto", "auto"),
        ("delimiter", "\t", "\t"),
        ("delimiter", r"\t", "tab"),
        ("delimiter", ";", ";"),
        ("thousands", " ", " "),
        ("thousands", "none", "none"),
        ("encoding", " latin-1 ", "latin-1"),
        ("skip_rows", "auto", None),
        ("comment", "//", "//"),
        ("column_types", "a*=number, b=date:%d.%m.%Y", ("a*=number", "b=date:%d.%m.%Y")),
    ],
)
def test_text_becomes_the_value_it_stands_for(name: str, text: str, value: Any) -> None:
    assert parse_value(FIELDS[name], text) == value


@given(name=st.sampled_from(sorted(FIELDS)), text=st.text(max_size=12))
def test_any_text_gives_a_valid_value_or_a_user_error(name: str, text: str) -> None:
    try:
        value = parse_value(FIELDS[name], text)
    except UserError as error:
        assert flag(name) in error.message
    else:
        TrainingConfig(**{name: value})


@given(
    name=st.sampled_from([name for name, each in FIELDS.items() if number_type(each)]),
    value=st.one_of(st.integers(-10, 10**6), st.floats(allow_nan=True, allow_infinity=True)),
)
def test_numbers_are_taken_exactly_within_their_bounds(name: str, value: float) -> None:
    each = FIELDS[name]
    rule = each.metadata
    fits = (
        value - value == 0
        and (isinstance(value, int) or number_type(each) is float)
        and (rule["minimum"] is None or value >= rule["minimum"])
        and (rule["maximum"] is None or value <= rule["maximum"])
        and (rule["above"] is None or value > rule["above"])
        and (rule["below"] is None or value < rule["below"])
    )
    if fits:
        assert getattr(TrainingConfig(**{name: value}), name) == value  # type: ignore[arg-type]
    else:
        with pytest.raises(UserError):
            TrainingConfig(**{name: value})  # type: ignore[arg-type]


def test_flag_beats_environment_beats_file_beats_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.toml"
    file.write_text('alpha = 2.0\nepochs = 7\nseed = 3\ndrop = ["id"]\n')
    monkeypatch.setenv("REGATTA_ALPHA", "5")
    monkeypatch.setenv("REGATTA_EPOCHS", "9")
    config = resolve({"alpha": 8.0}, config_file=file)
    assert (config.alpha, config.epochs, config.seed) == (8.0, 9, 3)
    assert config.drop == ("id",)
    assert config.momentum == FIELDS["momentum"].default


@pytest.mark.parametrize(
    ("name", "value"), [("batch_size", None), ("epochs", None), ("tol", FIELDS["tol"].default)]
)
def test_an_option_of_the_steps_asks_for_steps_though_it_is_at_its_default(
    name: str, value: Any
) -> None:
    assert resolve({}).solver == "auto"
    assert resolve({name: value}).solver == "sgd"
    assert resolve({name: value, "solver": "auto"}).solver == "sgd"
    assert resolve({name: value, "solver": "exact"}).solver == "exact"


def test_a_commands_own_default_gives_way_to_everything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.toml"
    own = {"model": "lasso"}
    assert resolve({}, config_file=file, defaults=own).model == "lasso"
    file.write_text('model = "ridge"')
    assert resolve({}, config_file=file, defaults=own).model == "ridge"
    monkeypatch.setenv("REGATTA_MODEL", "elasticnet")
    assert resolve({}, config_file=file, defaults=own).model == "elasticnet"
    assert resolve({"model": "linear"}, config_file=file, defaults=own).model == "linear"


def test_a_wrong_environment_value_names_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGATTA_ALPHA", "much")
    with pytest.raises(UserError, match="--alpha"):
        resolve({})


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("alpha = = 1")
    with pytest.raises(UserError, match=r"config\.toml"):
        resolve({}, config_file=file)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bath_size = 5", r"Unknown setting 'bath_size' in .*config\.toml"),
        ("name = 5", "--name is 5"),
        ("drop = [5]", "--drop"),
        ("drop = 5", "--drop"),
    ],
)
def test_a_wrong_setting_in_the_file_is_named(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)
    with pytest.raises(UserError, match=words):
        resolve({}, config_file=file)


def test_words_describe_what_is_allowed() -> None:
    assert choices(FIELDS["model"]) == ("linear", "ridge", "lasso", "elasticnet")
    assert allowed(FIELDS["batch_size"]) == "a whole number of at least 1, full or auto"
    assert allowed(FIELDS["validation"]) == "a number above 0 and at most 0.9"
