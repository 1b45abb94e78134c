"""What a person says of a file, instead of what would be found in it."""

from __future__ import annotations

from regatta.configuration import ReadingOptions, flag
from regatta.utils import UserError


def refuse_not_yet(options: ReadingOptions) -> None:
    """Refuse the options that nothing heeds."""
    for name in options.in_force():
        raise UserError(f"{flag(name)} cannot be used yet.", "Leave it out.")
