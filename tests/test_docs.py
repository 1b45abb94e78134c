"""The documentation: the site is built strictly, holds what it should, and its examples run."""

from __future__ import annotations

import argparse
import inspect
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regatta import estimators
from regatta.cli import train as training
from regatta.cli.arguments import make_parser

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).with_suffix("") for path in DOCS.rglob("*.md"))
# The blocks of these are run; what they need lies in the folder that `examples` makes.
EXAMPLES = {"README": ROOT / "README.md", "quick start": DOCS / "quick-start.md"}
PYTHON = {
    **EXAMPLES,
    "estimators": DOCS / "estimators.md",
    "data": DOCS / "api" / "data.md",
    "models": DOCS / "api" / "models.md",
    "exports": DOCS / "api" / "export.md",
}
# What the pages take for given before their first line of Python.
GIVEN = """
import numpy as np
rng = np.random.default_rng(0)
X, X_new = rng.normal(size=(60, 3)), rng.normal(size=(5, 3))
y = X @ [1.0, -2.0, 0.5] + 0.1 * rng.normal(size=60)
batches = [(X[:30], y[:30]), (X[30:], y[30:])]
"""
FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("site"))


def build(folder: Path) -> Path:
    """The site, built as `make docs` does it. Any warning is an error."""
    pytest.importorskip("mkdocs", reason="mkdocs is missing: pip install 'regatta[docs]'")
    command = [sys.executable, "-P", "-m", "mkdocs", "build", "--strict", "--quiet"]
    done = subprocess.run(
        [*command, "--config-file", str(ROOT / "mkdocs.yml"), "--site-dir", str(folder)],
        cwd=folder.parent, capture_output=True, text=True, timeout=120,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return folder


class Page(HTMLParser):
    """A page's links, anchors and text, and the addresses that a browser fetches with it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.fetched: list[str] = []
        self.words: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, given: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in given}
        self.anchors.add(attributes.get("id", ""))
        if tag == "a":
            self.links.append(attributes.get("href", ""))
        if tag in FETCHED:
            self.fetched.append(attributes.get(FETCHED[tag], ""))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)


def test_every_page_is_in_the_menu(site: Path) -> None:
    linked = {link.split("#")[0] for link in Page(site / "index.html").links}
    for page in PAGES:
        name = page.with_name("index") if page.name == "README" else page
        assert f"{name.as_posix()}.html" in linked, page


def test_every_decision_is_in_their_list(site: Path) -> None:
    linked = set(Page(site / "decisions" / "index.html").links)
    names = [path.stem for path in DOCS.glob("decisions/0*.md")]
    assert len(names) > 10
    assert not [name for name in names if f"{name}.html" not in linked]


def test_what_is_made_from_the_code_is_current() -> None:
    command = [sys.executable, "-P", str(DOCS / "generate_reference.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def parsers(name: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, list[str]]]:
    """Each command with its options."""
    yield name, [flag for each in parser._actions for flag in each.option_strings]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, inner in action.choices.items():
                yield from parsers(f"{name} {word}", inner)


def test_every_command_and_option_stands_in_the_reference(site: Path) -> None:
    page = Page(site / "commands.html")
    sections = re.split(r"\n#{2,3} ", (DOCS / "commands.md").read_text(encoding="utf-8"))
    by_name = {section.split("\n")[0]: section for section in sections}
    for name, flags in parsers("regatta", make_parser()):
        assert name.replace(" ", "-") in page.anchors, name
        for flag in set(flags) - {"-h", "--help"}:
            assert f"`{flag}`" in by_name[name] or f"`{flag} " in by_name[name], (name, flag)


def test_every_estimator_and_what_it_offers_stands_in_the_reference(site: Path) -> None:
    page = Page(site / "api" / "estimators.html")
    for name in estimators.__all__:
        members = [f"regatta.estimators.{name}"]
        members += [f"{members[0]}.{each}" for each in ("fit", "predict", "score")]
        assert set(members) <= page.anchors, name
        for parameter in inspect.signature(getattr(estimators, name)).parameters:
            assert parameter in page.text, (name, parameter)


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 30
    for path in pages:
        page = Page(path)
        assert page.fetched
        assert not [each for each in page.fetched if re.match(r"(\w+:)?//", each)], path
        assert 'class="mermaid"' not in path.read_text(encoding="utf-8")  # it would fetch a script
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert not re.search(r"@import|url\([\"']?(https?:)?//", text), sheet


def test_only_documentation_is_published(site: Path) -> None:
    assert not [path for path in site.rglob("*") if path.suffix in (".py", ".json", ".pyc")
                and "search" not in path.parts]  # fmt: skip


def test_every_picture_is_there_in_both_themes_and_shown() -> None:
    pictures = {path.name for path in (DOCS / "images").glob("*.png")}
    assert len(pictures) > 15
    for name in pictures:
        other = {"light": "dark", "dark": "light"}[Path(name).stem.rpartition("-")[2]]
        assert re.sub(r"(light|dark)(?=\.png$)", other, name) in pictures
    text = "".join(path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md"))
    assert not [name for name in pictures if "-light" in name and name not in text]


# -- examples ---------------------------------------------------------------------------------


def blocks(page: Path, *languages: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```(?:{'|'.join(languages)})\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """The lines of a page that call `regatta`, without that word."""
    lines = "".join(blocks(page, "sh", "console")).splitlines()
    found = [shlex.split(line.removeprefix("$ "), comments=True) for line in lines]
    return [words[1:] for words in found if words and Path(words[0]).name == "regatta"]


def test_every_command_of_the_pages_can_be_typed() -> None:
    pages = [ROOT / "README.md", *DOCS.rglob("*.md")]
    found = [words for page in pages for words in commands(page)]
    assert len(found) > 15
    for words in found:
        chosen = make_parser().parse_args(words)
        if words[0] == "train":
            training.configuration(chosen)


@pytest.fixture
def examples(tmp_path: Path, regatta_home: Path) -> Path:
    """A folder with the files that the examples name."""
    (tmp_path / "data").symlink_to(ROOT / "data")
    rng = np.random.default_rng(1)
    area, rooms = rng.uniform(40, 200, 300), rng.integers(1, 8, 300)
    price = 3000 * area + 9000 * rooms + rng.normal(0, 20_000, 300)
    rows = np.column_stack([np.arange(300), area, rooms, price])
    for name, columns in (("houses.csv", 4), ("new.csv", 3)):
        head = ",".join(("id", "area", "rooms", "price")[:columns])
        np.savetxt(tmp_path / name, rows[:, :columns], "%.6g", ",", header=head, comments="")
    return tmp_path


def with_slow(names: Iterable[str], *slow: str) -> list[Any]:
    """Names of pages for a test that is slow for some of them."""
    slowly = [pytest.mark.slow]
    return [pytest.param(name, marks=slowly if name in slow else []) for name in sorted(names)]


@pytest.mark.parametrize("name", with_slow(EXAMPLES, "README"))
def test_the_commands_and_the_python_of_a_page_run_in_their_order(
    name: str, examples: Path, regatta: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    for words in commands(EXAMPLES[name]):
        done = regatta(*words, cwd=examples)
        assert done.returncode == 0, (words, done.stderr)
    run_python(EXAMPLES[name], examples)


def test_the_figures_of_the_quick_start_are_those_of_its_command(
    examples: Path, regatta: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    page = EXAMPLES["quick start"]
    (shown,) = (block for block in blocks(page, "text") if "held out" in block)
    words = next(each for each in commands(page) if each[0] == "train")
    told = regatta(*words, cwd=examples).stdout.splitlines()
    for line in shown.splitlines():
        assert line == "…" or line in told


@pytest.mark.parametrize("name", with_slow(PYTHON.keys() - EXAMPLES.keys(), "estimators"))
def test_the_python_of_a_page_runs(name: str, examples: Path) -> None:
    run_python(PYTHON[name], examples)


def run_python(page: Path, folder: Path) -> None:
    """Each block is a script of its own: worker processes import it again."""
    code = blocks(page, "python")
    assert code
    script = folder / "example.py"
    for block in code:
        script.write_text(f"{GIVEN}\n{block}", encoding="utf-8")
        command = [sys.executable, "-P", str(script)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, (block, done.stderr)
