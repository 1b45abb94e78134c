"""``regatta serve`` and ``regatta bench``."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from regatta.utils import UserError

DEFAULT_BENCHMARK = "compare"


def serve(chosen: argparse.Namespace) -> int:
    """``regatta serve``: the page, until a signal comes."""
    from regatta.main import serve as serve_page

    serve_page(
        port=chosen.port,
        host=chosen.host,
        open_browser=not chosen.no_browser and can_open_browser(),
        behind_proxy=chosen.behind_proxy,
        data_roots=chosen.data_root,
    )
    return 0


def can_open_browser() -> bool:
    """Whether there is a screen. Without one, a text browser would take the terminal."""
    if sys.platform == "darwin":
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def bench(chosen: argparse.Namespace) -> int:
    """``regatta bench [NAME] [options]``: run a script of ``benchmarks/``."""
    scripts = benchmarks()
    words = [word for word in chosen.words if word != "--"]
    first = words.pop(0) if words and not words[0].startswith("-") else ""
    name = first or (DEFAULT_BENCHMARK if DEFAULT_BENCHMARK in scripts else next(iter(scripts)))
    if name not in scripts:
        raise UserError(f"There is no benchmark {name!r}.", f"Known: {', '.join(scripts)}.")
    return subprocess.run([sys.executable, "-P", str(scripts[name]), *words]).returncode


def benchmarks() -> dict[str, Path]:
    """The benchmarks by name. They are not installed: a `UserError` outside a source checkout."""
    folder = Path(__file__).resolve().parent.parent / "benchmarks"
    found = {
        path.stem: path for path in sorted(folder.glob("*.py")) if not path.stem.startswith("_")
    }
    if not found:
        raise UserError(
            "The benchmarks are not part of an installed Regatta.",
            "Run `make bench` in a checkout of its source.",
        )
    return found
