"""What holds over the whole tree: nothing is unpickled, no markup from data, private folders."""

from __future__ import annotations

import ast
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from regatta.dashboard import jobs, sources
from regatta.runs.store import RunStore
from regatta.utils import available_cores

UNSAFE = """
import marshal, pickle, shelve
import joblib, torch, numpy as np, pandas as pd
#
from cloudpickle import loads
from joblib import load
from numpy import load as read
joblib.load("f")
np.load("f", allow_pickle=True)
pd.read_pickle("f")
torch.load("f")
"""
# Unpickles whatever a colleague in the same run sends it: see docs/security.md.
OWN_PIPES = {"ingest/child.py"}


def lint(root: Path, *arguments: str, text: str | None = None) -> str:
    """What ruff says of unpickling with the project's own settings, a line for each offence."""
    pytest.importorskip("ruff", reason="pip install 'regatta[test]'")
    command = [sys.executable, "-m", "ruff", "check", "--output-format=concise", *arguments]
    done = subprocess.run(command, cwd=root, input=text, capture_output=True, text=True)
    rules = (" TID251 ", " S301 ", " S302 ")
    return "\n".join(
        line for line in done.stdout.splitlines() if any(map(line.__contains__, rules))
    )


def test_the_lint_rule_knows_every_way_to_unpickle(root: Path) -> None:
    said = lint(root, "--stdin-filename=x.py", "-", text=UNSAFE)
    banned = [int(line.split(":")[1]) for line in said.splitlines() if " TID251 " in line]
    assert banned == [2, 2, 2, *range(5, 12)], said


def test_nothing_in_the_tree_unpickles(root: Path) -> None:
    assert lint(root, ".") == ""
    excused = [path for path in own_sources(root) if "TID251" in path.read_text(encoding="utf-8")]
    assert excused == []


def test_python_objects_come_over_pipes_from_colleagues_alone(root: Path) -> None:
    found = set()
    for path in own_sources(root):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in {"recv", "allow_pickle"}:
                found.add(str(path.relative_to(root)))
    assert found == OWN_PIPES


def test_the_page_sets_no_markup_from_data(root: Path) -> None:
    for path in [root / "main.py", *(root / "dashboard").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        text = text.replace('st.html(STATIC / "page.css")', "")  # a style sheet of ours
        assert "unsafe_allow" not in text and "st.html(" not in text, path
    for path in (root / "dashboard" / "static").glob("*.js"):
        if path.name.startswith("plotly-"):
            continue
        text = path.read_text(encoding="utf-8")
        for word in ("outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
            assert word not in text, (path.name, word)
        # Markup that is written down in the script, nothing put into it.
        for piece in text.split("innerHTML")[1:]:
            assert "${" not in piece.split(";")[0], path.name


def test_the_page_offers_no_more_workers_than_cores() -> None:
    def page() -> None:
        import dataclasses

        from regatta.configuration import TrainingConfig
        from regatta.dashboard import fields

        (declared,) = [
            each for each in dataclasses.fields(TrainingConfig) if each.name == "workers"
        ]
        fields._workers(declared)

    main = sys.modules["__main__"]
    shown = AppTest.from_function(page).run()
    sys.modules["__main__"] = main
    assert not shown.exception
    numbers = [word.split(":")[0] for word in shown.selectbox[0].options]
    assert numbers == ["auto", *map(str, range(1, available_cores() + 1)), "0"]


def own_sources(root: Path) -> Iterator[Path]:
    for path in root.rglob("*.py"):
        place = path.relative_to(root).parts
        if place[0] not in {"tests", "benchmarks", "build", "dist"} and place[0][0] != ".":
            yield path


def test_what_a_run_and_the_page_leave_is_private(
    regatta: Callable[..., subprocess.CompletedProcess[str]], regatta_home: Path, tmp_path: Path
) -> None:
    """Also where the user's files are for everyone by default."""
    csv = tmp_path / "rows.csv"
    csv.write_text("a,b\n" + "".join(f"{n},{3 * n + n % 5}\n" for n in range(60)))
    regatta_home.rmdir()
    umask = os.umask(0)
    try:
        done = regatta("train", csv, "--target", "b", "--workers", 0, "--solver", "sgd",
                       "--epochs", 2)  # fmt: skip
        assert done.returncode == 0, done.stderr
        detached = regatta("train", csv, "--target", "b", "--workers", 0, "--detach")
        assert detached.returncode == 0, detached.stderr
        job = jobs.start("inspect", path=str(csv), size=1, mtime_ns=1)
    finally:
        os.umask(umask)
    sources.list_sources()
    deadline = time.monotonic() + 60
    while job.status().is_running or not all(
        run.state.is_terminal for run in RunStore(regatta_home).list()
    ):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    folders = [regatta_home, *(path for path in regatta_home.rglob("*") if path.is_dir())]
    names = {path.name for path in folders}
    assert {"runs", "parsed", "prepared", "jobs", "uploads"} <= names
    assert {str(each) for each in folders if stat.S_IMODE(each.stat().st_mode) != 0o700} == set()
    # Those that lie in the home itself, which may have been there before, with a mode of its own.
    files = [path for path in regatta_home.iterdir() if path.is_file()]
    assert {path.name for path in files} >= {"regatta.db", "supervisor.log", "supervisor.lock"}
    assert {each.name for each in files if stat.S_IMODE(each.stat().st_mode) != 0o600} == set()
