"""Write ``docs/options.md`` from the declarations in ``configuration.py``: run ``make docs``.

With ``--check`` nothing is written; the exit code is 1 if the file is not current.
"""

from __future__ import annotations

import sys
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from regatta.configuration import TrainingConfig, allowed, flag

TARGET = Path(__file__).with_name("options.md")
HEAD = """\
# Options of a run

Made from `configuration.py` by `make docs`. Each option is a flag of `regatta train` and a field
of the page; those of the reading are flags of `regatta inspect` and `regatta predict`, too. A value
comes from the first of these that gives one: the flag (or field), the environment (`REGATTA_` and
the name, as in `REGATTA_BATCH_SIZE`), `config.toml` in Regatta's home (the name with underscores,
as in `batch_size = 1024`), the default.
"""
TITLES = {
    "data": "Data",
    "reading": "Reading of the file",
    "model": "Model",
    "training": "Training",
    "run": "Run",
}
IN_THE_TABLE = [each for each in fields(TrainingConfig) if each.name != "path"]


def default(each: Field[Any]) -> str:
    if each.default is None:
        return "auto"
    if each.default in ("", ()):
        return ""
    return f"`{each.default:g}`" if isinstance(each.default, float) else f"`{each.default}`"


def row(each: Field[Any]) -> str:
    unit = f" ({each.metadata['unit']})" if each.metadata["unit"] else ""
    cells = [f"`{flag(each.name)}`", each.metadata["help"], allowed(each) + unit, default(each)]
    cells = [cell.replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(cells)} |"


def section(group: str) -> str:
    rows = [row(each) for each in IN_THE_TABLE if each.metadata["group"] == group]
    head = ["| option | meaning | value | default |", "|---|---|---|---|"]
    return "\n".join([f"## {TITLES[group]}", "", *head, *rows, ""])


def document() -> str:
    return "\n".join([HEAD, *(section(group) for group in TITLES)])


def main() -> int:
    if "--check" in sys.argv[1:]:
        if TARGET.exists() and TARGET.read_text(encoding="utf-8") == document():
            return 0
        print(f"{TARGET.name} is not current: run `make docs`.", file=sys.stderr)
        return 1
    TARGET.write_text(document(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
