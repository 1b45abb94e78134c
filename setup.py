"""Builds the compiled part, ``ingest/_cells.so``. Everything else stands in ``pyproject.toml``.

The C compiler is the one that ``CC`` names, or the machine's ``cc``. Where neither works, Zig's
is fetched for the build: it comes as a package, with all that it needs. Without any, Regatta works
all the same, and takes longer to read files.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ZIG = "ziglang==0.17.1"
OPTIONS = ["-std=c11", "-O2", "-fPIC", "-shared"]


def succeeds(command: list[str], **environment: str) -> bool:
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=300, env=os.environ | environment
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def builds(command: list[str], source: Path, target: Path, **environment: str) -> bool:
    """Whether a compiler makes a library that can be loaded here."""
    words = [*command, *OPTIONS, "-o", str(target), str(source)]
    if not succeeds(words, **environment):
        return False
    try:
        ctypes.CDLL(str(target))
    except OSError:
        return False
    return True


def built(source: Path, folder: Path) -> Path | None:
    """The library, by the first compiler that works; ``None`` if none does."""
    target = folder / "built.so"
    for named in (os.environ.get("CC"), "cc"):
        if named and builds(named.split(), source, target):
            return target
    modules = str(folder / "zig")
    fetched = [sys.executable, "-m", "pip", "install", "--quiet", "--target", modules, ZIG]
    # Zig takes this machine's processor for granted, unless it is told otherwise.
    zig = [sys.executable, "-m", "ziglang", "cc", "-mcpu=baseline"]
    # Without PYTHONPATH: where a package is built, pip hides itself by it.
    if succeeds(fetched, PYTHONPATH="") and builds(zig, source, target, PYTHONPATH=modules):
        return target
    return None


class Modules(build_py):
    """The root is the package, and this file is not of it."""

    def find_package_modules(self, package: str, folder: str) -> list[tuple[str, str, str]]:
        found: list[tuple[str, str, str]] = super().find_package_modules(package, folder)
        return [each for each in found if each[:2] != ("regatta", "setup")]


class Libraries(build_ext):
    """Plain shared libraries, no modules of Python's: so none of its headers is needed."""

    def get_ext_filename(self, name: str) -> str:
        return os.path.join(*name.split(".")) + ".so"

    def build_extension(self, extension: Extension) -> None:
        target = Path(self.get_ext_fullpath(extension.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        source = Path(extension.sources[0])
        for old in (target, source.with_name(target.name)):  # a running Regatta keeps what it has
            old.unlink(missing_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            library = built(source, Path(folder))
            if library is None:
                self.warn("no C compiler works here: files will be read at half the speed")
            else:
                shutil.copy(library, target)


class Wheel(bdist_wheel):
    """Wheels that fit every Python of one platform."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


setup(
    ext_modules=[Extension("regatta.ingest._cells", ["ingest/cells.c"], optional=True)],
    cmdclass={"build_py": Modules, "build_ext": Libraries, "bdist_wheel": Wheel},
)
