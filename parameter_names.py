"""Sentences that name options of the command, told with the parameters of the estimators.

``--decimal comma`` becomes ``reading={'decimal': 'comma'}``, ``--workers`` becomes ``n_workers``.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import fields

from regatta.configuration import ReadingOptions, TrainingConfig, choices, flag
from regatta.utils import RegattaError

OPTIONS = {flag(each.name): each for each in fields(TrainingConfig)}
READING = {each.name for each in fields(ReadingOptions)}
RENAMED = {"workers": "n_workers"}
# An option, and the word after it, which may be its value.
OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z0-9-]*)( \w+)?")
# What predictions of the command may do, and those of an estimator may not.
OF_THE_COMMAND_ALONE = re.compile(r", or let --on-(?:bad-cells|new-levels) [^.]*")


@contextlib.contextmanager
def errors_in_parameters() -> Iterator[None]:
    """Errors of the block name parameters, not options of the command."""
    try:
        yield
    except RegattaError as error:
        error.message, error.hint = in_parameters(error.message), in_parameters(error.hint)
        error.args = (error.message,)
        raise


def in_parameters(text: str) -> str:
    """The sentence with parameters instead of options."""
    return OPTION.sub(_parameter, OF_THE_COMMAND_ALONE.sub("", text))


def _parameter(found: re.Match[str]) -> str:
    option, after = found[1], found[2] or ""
    declared = OPTIONS.get(option)
    if declared is None:
        return found[0]
    name, value = declared.name, after.strip()
    chosen = value in choices(declared)
    if name in READING:
        return f"reading={{{name!r}: {value!r}}}" if chosen else f"reading[{name!r}]{after}"
    name = RENAMED.get(name, name)
    return f"{name}={value!r}" if chosen else f"{name}{after}"
