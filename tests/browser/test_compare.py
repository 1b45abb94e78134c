"""Runs beside each other, from one click to the reloaded address."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from regatta.configuration import TrainingConfig
from regatta.runs import service
from regatta.runs.store import RunStore

playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'regatta[test]'")
expect = playwright.expect

pytestmark = pytest.mark.browser

CHART = ".rg-chart"
NAMES = [
    "A · sync, 2 workers", "B · async, 2 workers", "C · local, 2 workers", "D · sync, 1 worker"
]  # fmt: skip


@pytest.fixture(scope="module")
def synchronous(page_server: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A finished run of mini-batches, two workers."""
    path = tmp_path_factory.mktemp("rows") / "ways.csv"
    generator = np.random.default_rng(0)
    X = generator.normal(size=(12_000, 4))  # more training rows than a full batch takes
    y = X @ np.arange(1, 5) + generator.normal(size=len(X))
    np.savetxt(path, np.column_stack([X, y]), delimiter=",", fmt="%.3f", header="a,b,c,d,y",
               comments="")  # fmt: skip
    store = RunStore(page_server.home)
    config = TrainingConfig(path=str(path), target="y", name="Ways", solver="sgd", epochs=300,
                            tol=0.0, workers=2)  # fmt: skip
    run_id = service.submit(config, store=store).run_id
    deadline = time.monotonic() + 90
    while not store.get(run_id).state.is_terminal:
        assert time.monotonic() < deadline, "the run did not end"
        time.sleep(0.05)
    return run_id


def names_in_chart(tab: Any) -> list[str]:
    names: list[str] = tab.page.evaluate(
        f"() => document.querySelector('{CHART}').data.map((each) => each.name)"
        ".filter((name) => name)"
    )
    return names


def test_one_click_sets_the_ways_beside_each_other(
    tab: Any, small_tab: Any, synchronous: str
) -> None:
    page = tab.page
    tab.open(f"/?run={synchronous}")
    page.get_by_role("button", name="Compare the ways").click()
    expect(page.get_by_role("heading", name="Compare runs")).to_be_visible()
    expect(page).to_have_url(re.compile(rf"/runs\?compare={synchronous}(&compare=[\w-]+){{3}}$"))
    # The queued runs train, and their curves come by themselves, until nothing is under way.
    page.locator(f"{CHART} .scatterlayer").first.wait_for(state="attached")
    page.evaluate(f"() => {{ document.querySelector('{CHART}').mark = 'mine'; }}")
    expect(page.get_by_role("heading", name="What this shows", exact=True)).to_be_visible(
        timeout=120_000
    )
    assert names_in_chart(tab) == NAMES
    assert page.evaluate(f"() => document.querySelector('{CHART}').mark") == "mine"
    sentences = page.get_by_role("listitem")
    # Who wins is the machine's affair; that each pair is told of is not.
    for subject in ("With 2 workers, asynchronous (B)", "With 2 workers, local (C)",
                    "Synchronous: 2 workers (A)"):  # fmt: skip
        expect(sentences.filter(has_text=subject)).to_have_count(1)
    table = page.get_by_role("table").last
    for row in ("Consistency sync async local sync", "Workers 2 2 2 1"):
        expect(table.get_by_role("row", name=row)).to_be_visible()
    expect(table.get_by_role("row", name="Time to a gap of 1e-4")).to_contain_text(
        re.compile(r"\d m?s")
    )
    expect(table.get_by_role("row", name="Momentum")).to_have_count(0)

    page.get_by_role("radio", name="Steps").click()
    page.wait_for_function(
        f"() => document.querySelector('{CHART}').layout.xaxis.title.text === 'steps'"
    )
    page.reload()
    tab.settle()
    page.locator(f"{CHART} .scatterlayer").first.wait_for(state="attached")
    assert names_in_chart(tab) == NAMES

    small_tab.open(page.url.removeprefix(tab.server.url))
    small_tab.page.get_by_role("table").last.wait_for()
    width = small_tab.page.evaluate(
        "() => document.querySelector('[data-testid=stMain]').scrollWidth"
    )
    assert width <= 390


def test_one_click_sets_scikit_learn_beside_a_run(tab: Any, synchronous: str) -> None:
    page, store = tab.page, RunStore(tab.server.home)
    config = replace(store.config(synchronous), solver="exact", name="Solved")
    solved = service.submit(config, store=store).run_id
    deadline = time.monotonic() + 90
    while not store.get(solved).state.is_terminal:
        assert time.monotonic() < deadline, "the run did not end"
        time.sleep(0.05)
    tab.open(f"/runs?compare={synchronous}&compare={solved}")
    page.get_by_role("button", name="Add scikit-learn baselines").click()
    scores = page.get_by_role("table").first
    ridge = scores.get_by_role("row", name="scikit-learn Ridge")
    expect(ridge).to_have_count(1, timeout=90_000)
    expect(ridge).to_contain_text("alpha=1")
    for name in ("Mean", "Lasso", "SGDRegressor"):
        expect(scores.get_by_role("row", name=f"scikit-learn {name}")).to_have_count(1)
    # Ridge is the same problem as the solved run's: the same R², to all digits that are shown.
    r2 = store.get(solved).validation_r2
    for row in (ridge, scores.get_by_role("row", name="B · exact")):
        expect(row).to_contain_text(f"{r2:.4f}")
        expect(row).to_contain_text("±")
    expect(page.get_by_role("button", name="Add scikit-learn baselines")).to_have_count(0)
    page.get_by_role("radio", name="Validation loss").click()
    page.wait_for_function(
        f"() => document.querySelector('{CHART}').data.some("
        "(each) => (each.name || '').startsWith('scikit-learn: '))"
    )
    page.reload()  # it is kept with the run
    tab.settle()
    expect(ridge).to_have_count(1)
