"""What an installation puts where, and that it works beside files of any name."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

NOT_PACKAGES = {"tests", "docs", "build", "dist", "data", "benchmarks"}


@pytest.fixture(scope="session")
def project(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text())


@pytest.fixture(scope="session")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built from a copy of the tree with the build tools that are installed here."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    copy_tree(root, source)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(out), "."]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("regatta-*.whl")
    return built


def copy_tree(root: Path, target: Path) -> None:
    for folder in [root, *packages_in(root), root / "data"]:
        inside = target / folder.relative_to(root)
        inside.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if path.is_file() and not path.name.startswith(".") and path.suffix != ".so":
                shutil.copy(path, inside)
    for name in ("dashboard/static", "dashboard/pages", ".streamlit"):
        shutil.copytree(root / name, target / name, dirs_exist_ok=True)


def packages_in(root: Path) -> list[Path]:
    """Folders of the root that are Python packages."""
    found = {path.parent for path in root.glob("*/**/__init__.py")}
    return sorted(
        path
        for path in found
        if path.relative_to(root).parts[0] not in NOT_PACKAGES
        and not path.relative_to(root).parts[0].startswith(".")
    )


def test_every_package_of_the_tree_is_declared(root: Path, project: dict[str, Any]) -> None:
    expected = {"regatta"} | {
        ".".join(("regatta", *path.relative_to(root).parts)) for path in packages_in(root)
    }
    assert set(project["tool"]["setuptools"]["packages"]) == expected


def test_every_dependency_has_its_line_and_its_locked_version(
    root: Path, project: dict[str, Any]
) -> None:
    listed = [*project["project"]["dependencies"]]
    for extra in project["project"]["optional-dependencies"].values():
        listed += extra
    names = {re.split(r"[<>=!~\[; ]", each)[0] for each in listed}
    locked = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (root / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    described = (root / "docs" / "dependencies.md").read_text()
    assert {name for name in names if name.lower() not in locked} == set()
    assert {name for name in names if f"`{name}`" not in described} == set()


def test_locked_versions_name_no_place(root: Path) -> None:
    for line in (root / "constraints.txt").read_text().splitlines():
        assert line.startswith("#") or re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][A-Za-z0-9.]*", line)


def test_the_entry_modules_import_the_standard_library_only(root: Path) -> None:
    """Every spawned process imports them again."""
    code = (
        "import sys; import regatta, regatta.cli, regatta.utils; "
        "print([m for m in ('numpy', 'pandas', 'sklearn', 'streamlit') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_the_wheel_holds_one_package_and_all_of_it(root: Path, wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names}
    assert top == {"regatta", next(name for name in top if name.endswith(".dist-info"))}
    expected = {
        str(Path("regatta") / path.relative_to(root))
        for folder in [root, *packages_in(root)]
        for path in folder.glob("*.py")
    } - {"regatta/setup.py"}
    expected.add("regatta/ingest/_cells.so")
    expected |= {f"regatta/data/{path.name}" for path in (root / "data").glob("*.csv")}
    expected |= {
        f"regatta/dashboard/{kind}/{path.name}"
        for kind, pattern in (("static", "*"), ("pages", "*.py"))
        for path in (root / "dashboard" / kind).glob(pattern)
        if path.is_file()
    }
    expected |= {"regatta/py.typed", "regatta/.streamlit/config.toml"}
    assert expected <= set(names), sorted(expected - set(names))
    assert not [name for name in names if "/tests/" in name or "conftest" in name]
    assert "regatta/setup.py" not in names


@pytest.mark.slow
def test_a_machine_without_a_compiler_builds_the_same(root: Path, tmp_path: Path) -> None:
    """Zig's is installed for the build: a hundred megabytes."""
    copy_tree(root, tmp_path / "source")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", "..", "."]
    folder = str(Path(sys.executable).parent)
    environment = {k: v for k, v in os.environ.items() if k != "CC"} | {"PATH": folder}
    assert shutil.which("cc", path=folder) is None
    subprocess.run(command, cwd=tmp_path / "source", env=environment, check=True, timeout=280)
    (built,) = tmp_path.glob("regatta-*.whl")
    zipfile.ZipFile(built).extract("regatta/ingest/_cells.so", tmp_path)
    library = ctypes.CDLL(str(tmp_path / "regatta/ingest/_cells.so"))
    assert library.cells_read and library.cells_cut


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean environment with the wheel; its dependencies are those of this environment."""
    place = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(place, with_pip=False, symlinks=True)
    install = [sys.executable, "-m", "pip", "--python", str(place / "bin" / "python"), "install"]
    done = subprocess.run(
        [*install, "--quiet", "--no-deps", str(wheel)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return place


def site_packages(environment: Path) -> Path:
    (found,) = environment.glob("lib/python*/site-packages")
    return found


def test_installing_adds_one_name(installed: Path) -> None:
    names = {path.name for path in site_packages(installed).iterdir()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"regatta"}
    assert len(names) == 2, names


def test_the_command_works_beside_a_stray_module(
    installed: Path, regatta_home: Path, tmp_path: Path
) -> None:
    """A folder with a ``utils.py`` and a ``models.py`` of its own changes nothing."""
    for name in ("utils", "models", "worker", "main", "metrics", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a stray module was imported')\n")
    rows = "".join(f"{i},{i % 7},{2 * i + i % 7}\n" for i in range(200))
    (tmp_path / "rows.csv").write_text(f"a,b,y\n{rows}")
    # The dependencies of this environment, found after the installed package.
    here = next(path for path in sys.path if path.endswith("site-packages"))
    (site_packages(installed) / "dependencies.pth").write_text(f"{here}\n")
    command = installed / "bin" / "regatta"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(command), *words], cwd=tmp_path, env=environment, capture_output=True, text=True,
            timeout=120,
        )  # fmt: skip

    assert run("--help").returncode == 0
    done = run("train", "rows.csv", "--target", "y", "--workers", "1", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["state"] == "finished"
    assert result["metrics"]["validation"]["r2"] > 0.99


def test_every_test_that_the_reliability_table_names_exists(root: Path) -> None:
    named = set(re.findall(r"`(test_\w+)`", (root / "docs" / "reliability.md").read_text()))
    text = "".join(path.read_text() for path in (root / "tests").rglob("test_*.py"))
    missing = [name for name in named if f"def {name}(" not in text]
    assert len(named) > 30 and not missing
