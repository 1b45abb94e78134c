"""The model card and the report: complete, true, and no text of a file becomes markup in them."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
import shlex
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regatta.cli.arguments import make_parser
from regatta.configuration import TrainingConfig
from regatta.coordinator import run_training
from regatta.explain.held_out import Batch
from regatta.explain.residuals import Errors
from regatta.runs.directory import RunDirectory
from regatta.runs.store import RunStore
from regatta.sharing import write_document
from regatta.sharing.card import escaped, model_card
from regatta.sharing.facts import RunFacts, command, figure, valid_values
from regatta.sharing.report import report
from regatta.utils import HOME_VARIABLE, read_json

SCRIPT = "</script><script>document.title='mine'</script>"
IMAGE = "\"><img src=x onerror='alert(1)'>"
MARKDOWN = "[x](http://e.vil) `c` *b* | $m$ :red[x] www.e.vil"
TARGET = "y</title><b>"
TAG_WORDS = (
    "html head meta title style body main header h1 h2 h3 p dl div dt dd small nav a section ul li "
    "table thead tbody tr th td figure figcaption details summary pre code footer script"
)
TAGS = frozenset(TAG_WORDS.split())
NAME = f"<i>{MARKDOWN}</i>{SCRIPT}"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run on a file whose names and words are markup, with alpha chosen along a path."""
    folder = tmp_path_factory.mktemp("sharing")
    home = folder / "home"
    home.mkdir(mode=0o700)
    generator = np.random.default_rng(0)
    path = folder / "rows.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([SCRIPT, IMAGE, MARKDOWN, "when", TARGET])
        for i in range(600):
            x = generator.normal(size=2)
            word = (SCRIPT, IMAGE, MARKDOWN)[i % 3]
            y = 3 * x[0] + (i % 3) + generator.normal()
            day = f"2021-{i % 12 + 1:02d}-{i % 28 + 1:02d}"
            writer.writerow([f"{x[0]:.4f}", word, f"{x[1]:.4f}", day, f"{y:.4f}"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(HOME_VARIABLE, str(home))
        store = RunStore(home)
        config = TrainingConfig(path=str(path), target=TARGET, model="lasso", alpha="auto",
                                folds=3, workers=0, name=NAME)  # fmt: skip
        run_id = store.create(config).run_id
        run_training(run_id, store)
        directory = store.directory(run_id)
        RunFacts.gather(directory)  # keeps the errors beside the model
    return directory


@pytest.fixture(scope="module")
def facts(directory: RunDirectory) -> RunFacts:
    return RunFacts.gather(directory)


class Seen(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.words.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""


def test_a_report_holds_no_markup_of_a_file(facts: RunFacts, directory: RunDirectory) -> None:
    page = report(facts, directory)
    seen = Seen(page)
    names = {tag for tag, _ in seen.tags}
    assert names <= TAGS
    for tag, attributes in seen.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "src"]
        if tag == "a":
            assert re.fullmatch(r"#[a-z]+", attributes["href"] or "")
    assert len(seen.scripts) == 3
    drawn = json.loads(seen.scripts[0])
    words = "".join(seen.words)
    assert NAME in words and SCRIPT in words and IMAGE in words
    assert {"Coefficients", "Regularisation path", "Predicted against actual"} <= set(seen.words)
    assert len(drawn) >= 4 and all(each["traces"] for each in drawn)
    policy = next(each["content"] for tag, each in seen.tags if "http-equiv" in each)
    assert policy is not None and policy.startswith("default-src 'none'; script-src 'sha256-")
    for script in seen.scripts[1:]:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_a_report_can_be_read_without_scripts(facts: RunFacts, directory: RunDirectory) -> None:
    seen = Seen(report(facts, directory))
    figures = sum(tag == "figure" for tag, _ in seen.tags)
    assert figures == sum(tag == "figcaption" for tag, _ in seen.tags) > 3
    words = " ".join(seen.words)
    for said in (
        "held-out rows. R²",
        "least error at alpha",
        "Median residual",
        "Largest errors",
        "SHA-256",
        "2021-01-01 to 2021-12-28",
        "regatta train",
    ):
        assert said in words, said


def test_a_card_is_one_page_that_says_what_counts(facts: RunFacts) -> None:
    card = model_card(facts)
    result = facts.result
    for said in (
        f"{result['rows_validation']:,} rows it was not trained on",
        result["data"]["content_hash"],
        result["weights_sha256"],
        f"{result['metrics']['validation']['r2']:.4f} ± ",
        "least error in cross-validation, 3 folds",
        "2021-01-01 to 2021-12-28",
        f"Python {result['machine']['python']}",
        "in the training rows",
    ):
        assert said in card, said
    assert len(card.splitlines()) < 120
    tables = [line for line in card.splitlines() if line.startswith("|")]
    widths = [len(re.findall(r"(?<!\\)\|", line)) for line in tables]
    assert set(widths) <= {4, 5}
    bare = re.sub(r"```+sh\n.*?\n```+", "", card, flags=re.DOTALL)
    assert not re.search(r"(?<!\\)[<\[`$*](?!\*)(?<!\*\*)(?![A-Z])", bare.replace("**", ""))
    assert "http\\://e.vil" in card and "www\\.e.vil" in card and "\\:red\\[x\\]" in card


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a_b 12:30 c.csv", "a_b 12:30 c.csv"),
        ("_a_ *b* ~c~", "\\_a\\_ \\*b\\* \\~c\\~"),
        ("two\nlines\t|", "two lines \\|"),
        (":material/check: a@b.c", "\\:material/check: a\\@b.c"),
        ("\\ &amp; ![x]", "\\\\ \\&amp; \\!\\[x\\]"),
    ],
)
def test_text_in_markdown(given: str, expected: str) -> None:
    assert escaped(given) == expected


def test_the_command_makes_the_same_run_again(facts: RunFacts) -> None:
    odd = TrainingConfig(
        path="/somewhere/-rows of mine.csv", target="y'\"", drop=("a b", "-c"), missing=("-200",),
        model="elasticnet", alpha=0.25, header="no", skip_rows=0, tol=1e-5, name="$(x) `y`",
    )  # fmt: skip
    for config in (odd, facts.config):
        words = shlex.split(command(config))
        assert words[:2] == ["regatta", "train"] and "/" not in words[2].removeprefix("./")
        given = vars(make_parser().parse_args(words[1:]))
        for name, value in config.to_json().items():
            if name in given and name != "path":
                assert str(given[name]) == str(value) or float(given[name]) == value
            elif name != "path":
                assert getattr(TrainingConfig(path="x", target="y"), name) in (
                    value, tuple(value) if isinstance(value, list) else value
                )  # fmt: skip


def test_the_spread_of_scores_is_that_of_other_samples() -> None:
    generator = np.random.default_rng(4)

    def errors(seed: int, rows: int = 2_000) -> Errors:
        generator = np.random.default_rng(seed)
        predicted = generator.normal(0, 2, rows)
        found = Errors(rows)
        actual = predicted + generator.laplace(size=rows)
        found.add(Batch(np.arange(rows), actual, predicted))
        return found

    samples = [errors(int(seed)).scores() for seed in generator.integers(1 << 30, size=400)]
    spread = errors(1).spread()
    for key in ("rmse", "mae"):
        seen = float(np.std([each[key] for each in samples]))  # type: ignore[arg-type]
        assert spread[key] == pytest.approx(seen, rel=0.2)
    assert spread["r2"] is not None and 0 < spread["r2"] < 0.05
    assert Errors(1).spread() == {"r2": None, "rmse": None, "mae": None}


def test_without_its_rows_a_report_says_why(directory: RunDirectory, tmp_path: Path) -> None:
    other = tmp_path / directory.run_id
    shutil.copytree(directory.path, other)
    (other / "residuals.json").unlink()
    config = read_json(other / "config.json")
    (other / "config.json").write_text(json.dumps({**config, "path": "/nowhere/gone.csv"}))
    result = read_json(other / "result.json")
    result["data"]["key"] = "0" * 64
    (other / "result.json").write_text(json.dumps(result))
    out = tmp_path / "report.html"
    write_document("report", RunDirectory(other), out)
    page = out.read_text(encoding="utf-8")
    assert "gone.csv is gone" in page and "Coefficients" in page
    assert "/nowhere" not in page
    write_document("card", RunDirectory(other), out)
    assert " ± " not in out.read_text(encoding="utf-8")


def test_a_run_of_an_older_version_has_a_card(directory: RunDirectory, tmp_path: Path) -> None:
    """Its result knows neither file nor machine, its model no ranges."""
    other = tmp_path / directory.run_id
    shutil.copytree(directory.path, other)
    for name in ("result", "model"):
        value: dict[str, Any] = read_json(other / f"{name}.json")
        for key in ("data", "machine"):
            value.pop(key, None)
        for column in value.get("preprocessing", {}).get("columns", []):
            for feature in column["features"]:
                feature.pop("low"), feature.pop("high")
        (other / f"{name}.json").write_text(json.dumps(value))
    facts = RunFacts.gather(RunDirectory(other))
    assert "not recorded" in model_card(facts)
    assert "comma" in model_card(facts)  # its model knows the dialect
    assert report(facts, RunDirectory(other)).startswith("<!DOCTYPE html>")


def test_numbers_as_people_read_them(facts: RunFacts) -> None:
    assert [figure(each) for each in (1234567.8, 0.000123456, -3.0, None, float("nan"))] == [
        "1,234,568", "0.00012346", "-3", "–", "–"
    ]  # fmt: skip
    by_kind = {each.kind: valid_values(each) for each in facts.model.preprocessing.columns}
    assert " to " in by_kind["number"] and SCRIPT in by_kind["category"]
