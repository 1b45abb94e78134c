"""Page "Explain": what a trained model has learned, and how far it can be trusted."""

from __future__ import annotations

import streamlit as st

from regatta.dashboard import actions, coefficients, run_pages
from regatta.utils import read_json


def main() -> None:
    """The coefficients, how sure they are, and how alpha was chosen."""
    record = run_pages.finished_run("Explain", "What a trained model has learned is shown here.")
    if record is None:
        return
    directory = actions.store().directory(record.run_id)
    try:
        result = read_json(directory.result)
    except (OSError, ValueError):
        st.error("The result of this run cannot be read.", icon=":material/error:")
        return
    left, right = st.columns(2, gap="medium")
    with left, st.container(border=True, height="stretch"):
        coefficients.show_effects(directory, result, record.target)
    with right, st.container(border=True, height="stretch"):
        coefficients.show_table(directory, result)
    coefficients.show_path(directory)


main()
