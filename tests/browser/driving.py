"""What several browser tests do with a page: wait, follow a run, look for what is too wide."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from playwright.sync_api import TimeoutError as TooLate

PLOT = "[data-testid=plot-loss]"


def wait_until(condition: Callable[[], bool], seconds: float = 40.0) -> None:
    """Until ``condition`` holds; a test fails where it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def step_of(tab: Any) -> int:
    """The step that the live view shows, once it shows one."""
    return int(
        tab.page.locator("[data-testid=progress-text][data-step]").get_attribute("data-step")
    )


def state_of(tab: Any) -> Any:
    """The heading of the run, which ends with its state."""
    return tab.page.get_by_role("heading", level=1).first


def wait_for_ticks(tab: Any, count: int) -> None:
    """Until the live view has drawn ``count`` times more."""
    for _ in range(count):
        before = step_of(tab)
        tab.page.wait_for_function(
            "(before) => Number(document.querySelector('[data-testid=progress-text]')"
            ".dataset.step) > before",
            arg=before,
        )


def choose(tab: Any, label: str, option: str) -> None:
    """Choose an option of a select box by typing it."""
    tab.settle()
    box = tab.page.get_by_role("combobox", name=label)
    offered = tab.page.get_by_role("option", name=option, exact=True)
    # Its list closes when the page is scrolled: by a driver that brings an option into view, or
    # where something above it becomes higher. Who uses the page opens it again.
    for patience in (3_000, 3_000, 30_000):
        box.evaluate("node => node.scrollIntoView({block: 'center'})")
        box.click()
        box.fill(option)
        try:
            offered.click(timeout=patience)
            break
        except TooLate:
            if patience == 30_000:
                raise
    tab.settle()


def upload(tab: Any, path: Any) -> None:
    """Give the page's first drop zone a file."""
    tab.page.locator("[data-testid=upload-input]").first.set_input_files(str(path))


def sideways(tab: Any) -> list[str]:
    """What is wider than the screen, unless it scrolls within itself."""
    return list(
        tab.page.evaluate(
            """() => ["html", "body", "[data-testid=stMain]"]
            .map((name) => document.querySelector(name))
            .filter((node) => node.scrollWidth > window.innerWidth)
            .map((node) => `${node.tagName} ${node.scrollWidth}`)"""
        )
    )
