"""The pages "Workers" and "Logs" in each state of a run, without a browser."""

from __future__ import annotations

import pytest

from regatta.runs.states import RunState
from regatta.runs.store import RunStore
from regatta.tests.pages import labels, make_run, open_page, texts

PAGES = ("workers", "logs")
STARTING, RUNNING = RunState.STARTING, RunState.RUNNING


@pytest.mark.parametrize("name", PAGES)
def test_with_no_run_they_offer_the_way_to_one(store: RunStore, name: str) -> None:
    page = open_page(name)
    assert {"Run a demo", "Bring a CSV"} <= labels(page)
    assert page.title[0].value == name.capitalize()


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(
    "path",
    [
        (),
        (STARTING, RUNNING, RunState.PAUSED),
        (STARTING, RunState.FAILED),
    ],
)
def test_they_show_a_run_in_any_state(
    store: RunStore, name: str, path: tuple[RunState, ...]
) -> None:
    record = make_run(store, *path)
    with store.directory(record.run_id).lock():
        page = open_page(name, run=record.run_id)
    (box,) = page.selectbox
    assert box.value == record.run_id and "Training" in labels(page)
    assert not page.error and not page.warning


def test_the_newest_run_under_way_comes_first(store: RunStore) -> None:
    live = make_run(store, STARTING, RUNNING)
    make_run(store, STARTING, RUNNING, RunState.FINISHED)
    with store.directory(live.run_id).lock():
        assert open_page("workers").selectbox[0].value == live.run_id


def test_a_run_that_is_gone_says_so(store: RunStore) -> None:
    make_run(store)
    page = open_page("logs", run="20200101-000000-0000")
    assert "not here any more" in texts(page)
