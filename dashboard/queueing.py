"""The queue on the page "Runs": what waits, in order, and buttons that change the order."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from regatta.dashboard import actions, words
from regatta.runs import service
from regatta.runs.store import RunRecord
from regatta.utils import RegattaError

# What a click does, its label, its symbol, and what it says when one lingers on it.
MOVES = {
    "first": ("First", ":material/vertical_align_top:", "Starts before all others that wait."),
    "up": ("Up", ":material/arrow_upward:", "One place earlier."),
    "down": ("Down", ":material/arrow_downward:", "One place later."),
    "last": ("Last", ":material/vertical_align_bottom:", "Starts after all others that wait."),
}
SHOWN = 4
REFUSAL = "queue-refusal"


def show(queue: Sequence[RunRecord]) -> None:
    """The runs that wait, where there are several: alone, none has another place to go."""
    if len(queue) < 2:
        return
    with st.container(border=True, gap="xsmall"):
        st.markdown(f"**Queue**: {len(queue):,} runs wait; the first starts next.")
        for place, record in enumerate(queue[:SHOWN], 1):
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                text = f"{place}. **{words.plain(record.title)}** · {words.plain(record.dataset)}"
                st.markdown(text, width="stretch")
                show_moves(queue, record, ("up", "down", "first"), "queue")
        if len(queue) > SHOWN:
            rest = len(queue) - SHOWN
            st.caption(f"and {rest:,} more: click one in the table to move it.")
        tell_refusal()


def show_moves(
    queue: Sequence[RunRecord], record: RunRecord, moves: Sequence[str], key: str
) -> None:
    """Buttons that move a waiting run; one that would do nothing is off."""
    place = [each.run_id for each in queue].index(record.run_id)
    with st.container(horizontal=True, width="content", gap="medium"):
        for where in moves:
            label, icon, help = MOVES[where]
            at_end = place == (0 if where in ("first", "up") else len(queue) - 1)
            st.button(
                label, key=f"{key}-{where}-{record.run_id}", icon=icon, help=help, type="tertiary",
                disabled=at_end, on_click=_move, args=(record.run_id, where),
            )  # fmt: skip


def tell_refusal() -> None:
    """Why the last move could not be made, once."""
    refusal = st.session_state.pop(REFUSAL, "")
    if refusal:
        st.warning(words.plain(refusal), icon=":material/info:")


def _move(run_id: str, where: str) -> None:
    """A run may have started since it was drawn."""
    try:
        service.move(run_id, where, store=actions.store())
    except RegattaError as error:
        st.session_state[REFUSAL] = error.message
