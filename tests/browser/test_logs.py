"""The page "Logs": filters, following, going back, and that text is only ever text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from regatta.configuration import TrainingConfig
from regatta.runs.directory import RunDirectory
from regatta.runs.states import RunState
from regatta.runs.store import RunStore
from regatta.tests.browser.driving import sideways

playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'regatta[test]'")
expect = playwright.expect

pytestmark = pytest.mark.browser

EVIL = "<img src=x onerror=\"document.title='broken'\"> **bold**"
TRACEBACK = 'Traceback (most recent call last):\n  File "x.py", line 3\nValueError: no'


@dataclass
class Logged:
    """A run whose log is written by the test."""

    directory: RunDirectory
    lines: int = 0

    def write(self, text: str, level: str = "INFO", count: int = 1) -> None:
        with self.directory.log.open("a") as log:
            for number in range(count):
                self.lines += 1
                minutes, seconds = divmod(self.lines, 60)
                when = f"2026-01-01 {10 + minutes // 60}:{minutes % 60:02}:{seconds:02},000"
                log.write(f"{when} {level:<7} regatta.coordinator: {text.format(number)}\n")


@pytest.fixture(scope="module")
def logged(page_server: Any) -> Iterator[Logged]:
    """It is under way as long as its lock is held."""
    store = RunStore(page_server.home)
    record = store.create(TrainingConfig(path="rows.csv", target="y", name="Logged"))
    directory = store.directory(record.run_id)
    run = Logged(directory)
    with directory.lock():
        for state in (RunState.STARTING, RunState.RUNNING):
            store.update_state(record.run_id, state)
        run.write("Line {}.", count=900)
        run.write(EVIL)
        run.write("Worker 1 (pid 7) died: SIGKILL", "WARNING")
        run.write(f"It failed.\n{TRACEBACK}", "ERROR")
        (directory.path / "worker-1.log").write_text(
            "2026-01-01 10:00:00,500 INFO    regatta.worker: Worker 1 is ready.\n"
            "numpy: something was printed\n"
        )
        yield run
        store.update_state(record.run_id, RunState.STOPPED)
    store.delete(record.run_id)


@pytest.fixture
def logs(tab: Any, logged: Logged) -> Callable[..., Any]:
    """Open the log with filters in the address."""

    def open_(query: str = "") -> Any:
        tab.open(f"/logs?run={logged.directory.run_id}{query}")
        expect(tab.page.get_by_test_id("log-note")).to_contain_text("log of")
        return tab.page

    return open_


def entries(page: Any) -> Any:
    return page.locator(".rg-entry")


def at_end(page: Any) -> bool:
    return bool(page.evaluate(
        "() => { const log = document.querySelector('[data-testid=log-entries]');"
        "return log.scrollTop + log.clientHeight >= log.scrollHeight - 12; }"))  # fmt: skip


def test_filters_stand_in_the_address(logs: Any) -> None:
    page = logs()
    expect(entries(page).last).to_contain_text("It failed.")
    page.get_by_label("Level").select_option("WARNING")
    expect(entries(page)).to_have_count(2)
    expect(page).to_have_url(re.compile("level=WARNING"))
    page.get_by_label("Process").select_option("worker1")
    expect(entries(page)).to_have_count(1)
    expect(entries(page)).to_contain_text("SIGKILL")
    page.get_by_label("Level").select_option("")
    expect(entries(page)).to_have_count(3)  # and what the worker itself has printed
    page.get_by_label("Process").select_option("")
    page.get_by_label("Text in the line").fill("lINE 89")
    expect(entries(page)).to_have_count(11)
    expect(page).to_have_url(re.compile(r"text=lINE\+89"))
    assert "level" not in page.url
    page.reload()
    expect(entries(page)).to_have_count(11)
    expect(page.get_by_label("Text in the line")).to_have_value("lINE 89")


def test_a_traceback_stays_together_and_text_is_text(logs: Any) -> None:
    page = logs()
    failed = entries(page).last.locator(".rg-text")
    assert failed.inner_text() == f"It failed.\n{TRACEBACK}"
    assert page.get_by_text(EVIL).count() == 1
    assert page.title() != "broken" and page.locator(".rg-entry img").count() == 0


def test_it_is_followed_until_one_scrolls_up(logs: Any, logged: Logged) -> None:
    page = logs()
    follow = page.get_by_role("button", name="Follow")
    assert at_end(page)
    logged.write("Then came this.")
    expect(entries(page).last).to_contain_text("Then came this.")
    assert at_end(page)
    page.get_by_test_id("log-entries").hover()
    page.mouse.wheel(0, -2000)
    expect(follow).to_have_attribute("aria-pressed", "false")
    expect(page.get_by_test_id("log-note")).to_contain_text("following is paused")
    place = page.evaluate("() => document.querySelector('[data-testid=log-entries]').scrollTop")
    logged.write("This came meanwhile.")
    page.wait_for_timeout(2500)
    assert page.get_by_text("This came meanwhile.").count() == 0
    assert place == page.evaluate(
        "() => document.querySelector('[data-testid=log-entries]').scrollTop"
    )
    follow.click()
    expect(entries(page).last).to_contain_text("This came meanwhile.")
    assert at_end(page)
    page.get_by_label("Level").select_option("ERROR")  # a filter holds for what comes, too
    expect(page.get_by_text("This came meanwhile.")).to_have_count(0)
    logged.write("Fine again.")
    logged.write("Bad again.", "ERROR")
    expect(entries(page).last).to_contain_text("Bad again.")
    assert page.get_by_text("Fine again.").count() == 0


def test_the_keyboard_scrolls_filters_and_goes_back(logs: Any) -> None:
    """Earlier lines come above those that are shown, which stay where they are."""
    page = logs()
    shown = entries(page).count()
    assert 200 < shown < 500
    page.get_by_test_id("log-entries").focus()
    page.keyboard.press("Home")
    expect(page.get_by_role("button", name="Follow")).to_have_attribute("aria-pressed", "false")
    first = entries(page).first.inner_text()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Show earlier lines")).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_function(
        "(shown) => document.querySelectorAll('.rg-entry').length > shown", arg=shown
    )
    assert first.split("\n")[-1] in page.locator(".rg-entries").inner_text()
    for _ in range(5):
        button = page.get_by_role("button", name="Show earlier lines")
        if not button.is_visible():
            break
        before = entries(page).count()
        button.click()
        page.wait_for_function(
            "(shown) => document.querySelectorAll('.rg-entry').length > shown", arg=before
        )
    expect(entries(page).filter(has_text="Line 0.")).to_have_count(1)
    numbers = page.locator(".rg-text", has_text=re.compile(r"^Line \d")).all_inner_texts()
    assert numbers == [f"Line {number}." for number in range(900)]


def test_the_whole_log_is_downloaded(logs: Any, logged: Logged) -> None:
    page = logs("&level=ERROR")
    with page.expect_download() as downloaded:
        page.get_by_role("link", name="Download").click()
    with open(downloaded.value.path()) as file:
        assert file.read() == logged.directory.log.read_text()


def test_a_telephone_wraps_long_lines(small_tab: Any, logged: Logged) -> None:
    logged.write("x" * 500)
    small_tab.open(f"/logs?run={logged.directory.run_id}")
    expect(small_tab.page.locator(".rg-entry").last).to_contain_text("xxx")
    assert not sideways(small_tab)
    box = small_tab.page.locator(".rg-entry").last.bounding_box()
    assert box["width"] <= 390 and box["height"] > 60


def test_all_lines_are_a_click_from_the_training(tab: Any, logged: Logged) -> None:
    tab.open(f"/?run={logged.directory.run_id}")
    tab.page.get_by_role("link", name="All lines").click()
    expect(tab.page.get_by_role("heading", name="Logs")).to_be_visible()
    expect(tab.page.locator(".rg-entry").first).to_be_visible()
