"""Builds the compiled part, ``ingest/_cells.so``. Everything else stands in ``pyproject.toml``.

The C compiler is the one that ``CC`` names, or the machine's ``cc`` if it works. Where there is
none, that of Zig is installed for the build: it comes as a package, with all that it needs.
Without any, Regatta works all the same, and takes longer to read files.
"""

from __future__ import annotations

import functools
import os
import shlex
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
TRIAL = "#include <stdlib.h>\nvoid *trial(void) { return calloc(1, 1); }\n"


def runs(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=120).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@functools.cache
def compiler() -> list[str] | None:
    """The command of a C compiler that works; ``None``: Zig's has to be installed."""
    named = os.environ.get("CC")
    # Zig's takes this machine's processor for granted, unless it is told otherwise.
    zig = [sys.executable, "-m", "ziglang", "cc", "-mcpu=baseline"]
    commands = [shlex.split(named)] if named else [["cc"], zig]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "trial.c")
        source.write_text(TRIAL)
        for command in commands:
            if runs([*command, *OPTIONS, "-o", str(Path(folder, "trial.so")), str(source)]):
                return command
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
        command = compiler()
        if command is None:
            self.warn("no C compiler works here: files will be read more slowly")
            return
        unfinished = target.with_suffix(".unfinished")
        words = [*command, *OPTIONS, "-o", str(unfinished), *extension.sources]
        if subprocess.run(words).returncode:
            self.warn(f"{shlex.join(words)} failed: files will be read more slowly")
            return
        unfinished.replace(target)  # a running Regatta keeps the one that it has


class Wheel(bdist_wheel):
    """Wheels that fit every Python of one platform."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


setup(
    setup_requires=[] if compiler() else [ZIG],
    ext_modules=[Extension("regatta.ingest._cells", ["ingest/cells.c"], optional=True)],
    cmdclass={"build_py": Modules, "build_ext": Libraries, "bdist_wheel": Wheel},
)
