"""Page "Explain": what a trained model has learned, and how far it can be trusted."""

from __future__ import annotations

from dataclasses import replace

from regatta.dashboard import actions, coefficients, explaining, run_pages, trying
from regatta.dashboard.explaining import Subject
from regatta.explain.residuals import kept_summary, read_result
from regatta.utils import RegattaError

VIEWS = {
    "errors": "Errors",
    "coefficients": "Coefficients",
    "row": "One row",
    "try": "Try a row",
}


def main() -> None:
    """The run on top, and the view of it that the address names."""
    record = run_pages.finished_run("Explain", "What a trained model has learned is shown here.")
    if record is None:
        return
    directory = actions.store().directory(record.run_id)
    try:
        result, model = read_result(directory), explaining.load_model(directory)
    except RegattaError as error:
        actions.tell(error)
        return
    view = run_pages.choose_view(VIEWS, key="explain-view")
    subject = Subject(directory, actions.store().config(record.run_id), result, model)
    if view == "coefficients":
        coefficients.show(directory, result, model)
    elif view == "try":
        trying.show(replace(subject, found=kept_summary(directory)))
    else:
        found = explaining.errors_of(directory)
        if found is not None:
            show = explaining.show_row if view == "row" else explaining.show_errors
            show(replace(subject, found=found))


main()
