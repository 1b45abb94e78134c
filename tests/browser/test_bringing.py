"""Ways to bring large files: a streamed upload, and the picker of an allowed folder."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from regatta.dashboard.settings import DATA_ROOT_VARIABLE, UPLOAD_LIMIT_VARIABLE
from regatta.tests.browser.driving import upload, wait_until

playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'regatta[test]'")
expect = playwright.expect

pytestmark = pytest.mark.browser

MEGABYTES = 250
PICKER = re.compile("File below")


@pytest.fixture
def data_root(page_server: Any) -> Path:
    """The folder that the server's pages may look into."""
    return Path(page_server.environment[DATA_ROOT_VARIABLE])


def test_the_picker_offers_files_with_their_sizes(tab: Any, data_root: Path) -> None:
    (data_root / "2024").mkdir(exist_ok=True)
    (data_root / "2024" / "races.csv").write_text("a,y\n" + "1,2\n3,4\n" * 100)
    page = tab.page
    tab.open("/data")
    box = page.get_by_role("combobox", name=PICKER)
    box.click()
    box.fill("races")
    page.get_by_role("option", name="2024/races.csv (804 bytes)").click()
    expect(page.get_by_role("heading", name="races.csv")).to_be_visible()
    expect(page.get_by_text("200 rows, 2 columns")).to_be_visible(timeout=30_000)
    assert re.search(r"file=folder-[0-9a-f]{16}", page.url)
    page.reload()
    expect(page.get_by_text("200 rows, 2 columns")).to_be_visible(timeout=30_000)


@pytest.mark.parametrize("way_out", ["../secret.csv", "/etc/passwd", "link.csv"])
def test_the_picker_refuses_ways_out(tab: Any, data_root: Path, way_out: str) -> None:
    (data_root.parent / "secret.csv").write_text("a,y\n1,2\n")
    link = data_root / "link.csv"
    if not link.is_symlink():
        link.symlink_to(data_root.parent / "secret.csv")
    page = tab.page
    tab.open("/data")
    box = page.get_by_role("combobox", name=PICKER)
    box.click()
    box.fill(way_out)
    box.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text(
        f"“{way_out}” is not a path below this folder"
    )
    assert "file=" not in page.url


@pytest.fixture
def own_server(page_server: Any, tmp_path: Path) -> Iterator[Any]:
    """A server that lets a large upload in."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    server = type(page_server)(home, environment={UPLOAD_LIMIT_VARIABLE: str(MEGABYTES + 1)})
    server.start()
    yield server
    server.stop()
    shutil.rmtree(home / "uploads", ignore_errors=True)


def test_an_upload_shows_its_progress_and_leaves_memory_alone(
    own_server: Any, tab: Any, tmp_path: Path
) -> None:
    path = tmp_path / "large.csv"
    with path.open("wb") as file:
        file.truncate(MEGABYTES * 1_000_000)  # no disk is used, nor time; it is no CSV either
    other = type(tab)(tab.context, own_server)
    try:
        other.open("/data")
        server = psutil.Process(own_server.process.pid)
        upload(other, write_small(tmp_path))  # what the first upload imports is not counted
        expect(other.page.get_by_role("heading", name="small.csv")).to_be_visible(timeout=60_000)
        other.open("/data")
        other.page.locator(".rg-upload").wait_for()
        other.page.evaluate(WATCH_PROGRESS)
        before = most = server.memory_info().rss
        begun = time.monotonic()
        upload(other, path)
        arrived = lambda: list((own_server.home / "uploads").glob("*/large.csv"))  # noqa: E731

        def look() -> bool:
            nonlocal most
            most = max(most, server.memory_info().rss)
            return bool(arrived())

        wait_until(look, seconds=200)
        print(f"{MEGABYTES} MB in {time.monotonic() - begun:.1f} s; "
              f"memory {before / 1e6:.0f} MB, at most {(most - before) / 1e6:+.1f} MB")  # fmt: skip
        assert arrived()[0].stat().st_size == MEGABYTES * 1_000_000
        assert most - before <= 20e6
        expect(other.page.get_by_role("heading", name="large.csv")).to_be_visible(timeout=60_000)
        shown = other.page.evaluate("() => window.progressShown")
        assert any(re.search(rf"Sending large\.csv: \d+ MB of {MEGABYTES} MB", each)
                   for each in shown)  # fmt: skip
    finally:
        other.close()


def write_small(folder: Path) -> Path:
    path = folder / "small.csv"
    path.write_text("a,y\n" + "1,2\n2,4\n" * 30)
    return path


WATCH_PROGRESS = """() => {
  window.progressShown = [];
  const zone = document.querySelector(".rg-upload");
  const note = () => {
    const text = zone.querySelector(".rg-words")?.textContent;
    if (text && text !== window.progressShown.at(-1)) window.progressShown.push(text);
  };
  new MutationObserver(note).observe(zone, { subtree: true, childList: true, characterData: true });
}"""
