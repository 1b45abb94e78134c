"""The documentation's site, opened from a disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from regatta.tests.test_docs import build

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("site"))


@pytest.fixture
def narrow(browser_instance: Any) -> Iterator[Any]:
    """A tab as wide as a telephone. Fails the test if anything was asked of a network."""
    context = browser_instance.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert asked
    assert not [each for each in asked if not each.startswith(("file:", "data:", "blob:"))]
    assert not errors


def test_no_page_is_wider_than_a_telephone(site: Path, narrow: Any) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 30
    for path in pages:
        narrow.goto(path.as_uri())
        assert narrow.evaluate("document.documentElement.scrollWidth") <= 390, path


def test_search_finds_a_page_without_a_server(site: Path, narrow: Any) -> None:
    narrow.goto((site / "index.html").as_uri())
    narrow.locator("label[for=__search]").first.click()
    narrow.get_by_role("textbox", name="Search").press_sequentially("staleness")
    found = narrow.locator(".md-search-result__link[href*='consistency.html']")
    found.first.wait_for(timeout=15_000)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pictures_go_with_the_theme(site: Path, browser_instance: Any, theme: str) -> None:
    context = browser_instance.new_context(color_scheme=theme)
    page = context.new_page()
    page.goto((site / "index.html").as_uri())
    shown = page.locator("article img:visible")
    assert [Path(each.get_attribute("src")).name for each in shown.all()] == [
        f"train-{theme}.png#only-{theme}"
    ]
    context.close()
