"""A finished run told to others: the model card (Markdown) and the report (one HTML file)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regatta.runs.directory import RunDirectory
    from regatta.sharing.facts import RunFacts

# Kinds of documents, and how their files' names end.
SUFFIXES = {"card": "-card.md", "report": "-report.html"}


def write_document(
    kind: str,
    directory: RunDirectory,
    out: Path,
    progress: Callable[[float, str], None] | None = None,
    *,
    facts: RunFacts | None = None,
) -> None:
    """Write the model card or the report of a finished run.

    Parameters
    ----------
    kind : {"card", "report"}
    facts : RunFacts, optional
        What is known of the run, where it was gathered already.

    Raises
    ------
    RegattaError
        If the run has no model, or its files cannot be read.
    """
    from regatta.sharing.card import model_card
    from regatta.sharing.facts import RunFacts
    from regatta.sharing.report import report
    from regatta.utils import atomic_path

    facts = facts or RunFacts.gather(directory, progress)
    text = model_card(facts) if kind == "card" else report(facts, directory)
    with atomic_path(out) as aside:
        aside.write_text(text, encoding="utf-8")
