"""Write ``docs/options.md`` and ``docs/commands.md`` from the code: run ``make docs``.

    configuration.py ──▶ options.md      the parsers of cli/ and benchmarks/ ──▶ commands.md

With ``--check`` nothing is written; the exit code is 1 if a file is not current.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, TypeGuard

from regatta.benchmarks import compare
from regatta.cli.arguments import make_parser
from regatta.configuration import TrainingConfig, allowed, flag

FOLDER = Path(__file__).resolve().parent
OPTIONS_HEAD = """\
# Options of a run

Made from `configuration.py` by `make docs`. Each option is a flag of `regatta train` and a field
of the page; those of the reading are flags of `regatta inspect` and `regatta predict`, too. A value
comes from the first of these that gives one: the flag (or field), the environment (`REGATTA_` and
the name, as in `REGATTA_BATCH_SIZE`), `config.toml` in Regatta's home (the name with underscores,
as in `batch_size = 1024`), the default. `--column-type` is `column_types` in both of these.
"""
TITLES = {
    "data": "Data",
    "reading": "Reading of the file",
    "model": "Model",
    "training": "Training",
    "run": "Run",
}
IN_THE_TABLE = [each for each in fields(TrainingConfig) if each.name != "path"]
COMMANDS_HEAD = """\
# Commands

Made from the parsers of the commands by `make docs`; `regatta COMMAND --help` tells the same. What
is asked for goes to standard output, progress and warnings to standard error. The exit code is 0
after a success, 1 after a failure, 2 after a mistake in what was typed or in the file, 130 and 143
after Ctrl-C and SIGTERM. `--json` prints one object, also for an error.

RUN is the id of a run, the start of one, a name, or `last`.
"""


def default(each: Field[Any]) -> str:
    if each.default is None:
        return "auto"
    if each.default in ("", ()):
        return ""
    return f"`{each.default:g}`" if isinstance(each.default, float) else f"`{each.default}`"


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in [head, *cells]]
    return [lines[0], "|---" * len(head) + "|", *lines[1:], ""]


# -- options --------------------------------------------------------------------------------------


def row(each: Field[Any]) -> list[str]:
    unit = f" ({each.metadata['unit']})" if each.metadata["unit"] else ""
    return [f"`{flag(each.name)}`", each.metadata["help"], allowed(each) + unit, default(each)]


def options() -> str:
    lines = [OPTIONS_HEAD]
    for group, title in TITLES.items():
        rows = [row(each) for each in IN_THE_TABLE if each.metadata["group"] == group]
        lines += [f"## {title}", "", *table(["option", "meaning", "value", "default"], rows)]
    return "\n".join(lines)


# -- commands -------------------------------------------------------------------------------------


def commands() -> str:
    lines = [COMMANDS_HEAD]
    for name, parser in walk("regatta", make_parser()):
        level = "#" * max(2, len(name.split()))
        lines += [f"{level} {name}", "", *described(name, parser)]
    return "\n".join(lines).rstrip() + "\n"


def walk(
    name: str, parser: argparse.ArgumentParser
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """A parser and those of its commands, each with its whole name."""
    if name == "regatta bench":
        parser = compare.make_parser()  # all that follows `bench` is its own
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, inner in action.choices.items():
                yield from walk(f"{name} {word}", inner)


def described(name: str, parser: argparse.ArgumentParser) -> list[str]:
    actions = [each for each in parser._actions if each.dest != "help"]
    lines = [parser.description or "", "", "```text", usage(name, actions), "```", ""]
    for inner in filter(is_command, actions):
        rows = [[link(f"{name} {each.dest}"), each.help or ""] for each in inner._get_subactions()]
        lines += table(["command", "what it does"], rows)
    own = [each for each in actions if not is_command(each) and not group_of(each)]
    if own:
        rows = [[spelled(each), helped(each)] for each in own]
        lines += table(["argument or option", "meaning"], rows)
    for group, title in TITLES.items():
        flags = [f"`{each.option_strings[0]}`" for each in actions if group_of(each) == group]
        if flags:
            anchor = title.lower().replace(" ", "-")
            lines += [f"[{title}](options.md#{anchor}): {', '.join(flags)}.", ""]
    return lines


def group_of(action: argparse.Action) -> str:
    """The group of an option that `TrainingConfig` declares; nothing for a command's own."""
    if action.default is not argparse.SUPPRESS:
        return ""
    groups = (each.metadata["group"] for each in IN_THE_TABLE if each.name == action.dest)
    return next(groups, "")


def link(name: str) -> str:
    return f"[`{name}`](#{name.replace(' ', '-')})"


def is_command(action: argparse.Action) -> TypeGuard[argparse._SubParsersAction[Any]]:
    return isinstance(action, argparse._SubParsersAction)


def usage(name: str, actions: list[argparse.Action]) -> str:
    """How a command is typed: what must be given, and that there are options."""
    words = [positional(each) for each in actions if not each.option_strings]
    for each in actions:
        if each.option_strings and is_required(each):
            words += [each.option_strings[0], str(each.metavar)]
    optional = any(each.option_strings and not is_required(each) for each in actions)
    return " ".join([name, *words, *(["[options]"] if optional else [])])


def is_required(action: argparse.Action) -> bool:
    # Fields of a run are checked by `TrainingConfig`, which knows where else a value may stand.
    return action.required or (action.help or "").endswith("(required)")


def positional(action: argparse.Action) -> str:
    word = str(action.metavar or action.dest)
    if action.nargs in ("+", "*"):
        word = f"{word} …"
    return f"[{word}]" if action.nargs == "*" or is_command(action) else word


def spelled(action: argparse.Action) -> str:
    """An argument or option with what it takes: `` `-n`, `--limit N` ``."""
    if not action.option_strings:
        return f"`{positional(action)}`"
    taken = "|".join(action.choices) if action.choices else action.metavar or action.dest.upper()
    words = list(action.option_strings)
    words[-1] += "" if action.nargs == 0 else f" {taken}"
    return ", ".join(f"`{each}`" for each in words)


def helped(action: argparse.Action) -> str:
    if action.dest == "version":
        return "print the version"
    return (action.help or "").replace("%%", "%")


MADE = {"options.md": options, "commands.md": commands}


def main() -> int:
    stale = []
    for name, make in MADE.items():
        target, text = FOLDER / name, make()
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            stale.append(name)
            if "--check" not in sys.argv[1:]:
                target.write_text(text, encoding="utf-8")
    if stale and "--check" in sys.argv[1:]:
        print(f"{' and '.join(stale)} not current: run `make docs`.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
