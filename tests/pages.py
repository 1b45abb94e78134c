"""What tests of the page's scripts share: a page that has run once, and what it shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamlit.testing.v1 import AppTest

from regatta.configuration import TrainingConfig
from regatta.dashboard.actions import PAGES
from regatta.runs.states import RunState
from regatta.runs.store import RunRecord, RunStore


def open_page(name: str, **parameters: str | Sequence[str]) -> AppTest:
    """The page after its first run, with ``parameters`` in its address."""
    page = AppTest.from_file(str(PAGES / f"{name}.py"), default_timeout=60)
    for key, value in parameters.items():
        page.query_params[key] = value if isinstance(value, str) else list(value)
    page.run()
    assert not page.exception, page.exception
    return page


def texts(page: AppTest) -> str:
    """All words that are not in a control."""
    kinds = (
        page.title, page.header, page.markdown, page.caption, page.error, page.warning, page.info
    )  # fmt: skip
    return "\n".join(str(each.value) for kind in kinds for each in kind)


def labels(page: AppTest) -> set[str]:
    """The words on its buttons."""
    return {each.label for each in page.button}


def field(page: AppTest, label: str) -> Any:
    """The field of that label."""
    kinds = (page.selectbox, page.text_input, page.number_input, page.multiselect, page.checkbox)
    return next(each for kind in kinds for each in kind if each.label == label)


def make_run(store: RunStore, *path: RunState, **changes: Any) -> RunRecord:
    """A run that has gone through the states of ``path``, as far as the store knows."""
    config = TrainingConfig(path="rows.csv", target="y", name="A *bold* name")
    record = store.create(config, RunState.QUEUED)
    for state in path:
        record = store.update_state(record.run_id, state, **changes)
    return record
