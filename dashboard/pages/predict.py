"""Page "Predict and export": a trained model put to use, here and elsewhere."""

from __future__ import annotations

from regatta.dashboard import actions, exporting, predicting, run_pages

VIEWS = {
    "predict": "Predict",
    "export": "Export",
    "share": "Card and report",
}


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
    view = run_pages.choose_view(VIEWS, key="predict-view")
    if view == "export":
        exporting.show_exports(directory)
    elif view == "share":
        exporting.show_documents(directory)
    else:
        predicting.show(directory, record)


main()
