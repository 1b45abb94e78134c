"""Page "Predict and export": a trained model put to use, here and elsewhere."""

from __future__ import annotations

import streamlit as st

from regatta.dashboard import actions, exporting, predicting, run_pages

VIEWS = {
    "predict": "Predict",
    "export": "Export",
    "share": "Card and report",
}
VIEW = "view"


def main() -> None:
    """The run on top, and the view that the address names."""
    record = run_pages.finished_run(
        "Predict and export",
        "A trained model predicts other files here, and goes with you to scikit-learn, ONNX or a "
        "script.",
    )
    if record is None:
        return
    directory = actions.store().directory(record.run_id)
    view = choose_view()
    if view == "export":
        exporting.show_exports(directory)
    elif view == "share":
        exporting.show_documents(directory)
    else:
        predicting.show(directory, record)


def choose_view() -> str:
    """Ask what to do with the model; the address keeps it."""
    wanted = st.query_params.get(VIEW, "")
    first = wanted if wanted in VIEWS else next(iter(VIEWS))

    def changed() -> None:
        st.query_params[VIEW] = st.session_state["predict-view"] or first

    st.session_state["predict-view"] = first
    st.segmented_control(
        "View",
        list(VIEWS),
        format_func=VIEWS.__getitem__,
        key="predict-view",
        on_change=changed,
        label_visibility="collapsed",
    )
    return first


main()
