"""Takes the pictures of the page in ``docs/images``: ``make screenshots``.

It serves the page from a home of its own, uploads California housing as a person would, trains
ridge and lasso on it, loads the downloaded model in plain scikit-learn, sets the run beside its
twins, and watches the large demo. Each page is photographed light and dark, as
``<page>-light.png`` and ``<page>-dark.png``. What it saw it prints: the README tells these numbers.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image
from playwright.sync_api import ViewportSize, sync_playwright

from regatta.tests.browser.serving import (
    CHROMIUM_VARIABLE,
    FLAGS,
    READY,
    PageServer,
    end_processes_of,
    find_browser,
)

Theme = Literal["light", "dark"]

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
DATA = Path(os.environ.get("REGATTA_TEST_DATA", ROOT.parent / "shared" / "data"))
HOUSING = DATA / "regression" / "california_housing.csv"
TARGET = "median_house_value"
VIEWPORT: ViewportSize = {"width": 1366, "height": 768}
TELEPHONE: ViewportSize = {"width": 390, "height": 844}
THEMES: tuple[Theme, ...] = ("light", "dark")
AS_ON_A_SCREEN = "--font-render-hinting=none"  # letters where the layout wants them
PATIENCE = 180_000  # milliseconds: the machine may have other things to do
SKELETON = "[data-testid=stSkeleton]"  # stands where something is still to come
EVALUATIONS = 7  # points of the validation curve before the live pictures are taken
HAS_POINTS = """count => {
  const plot = document.querySelector('[data-testid=plot-loss]');
  const line = plot?.data?.find(each => each.name === 'validation');
  return line && line.x.length >= count;
}"""

PLAIN = """
import sys, pandas, skops.io
name, rows = sys.argv[1:]
pipeline = skops.io.load(name, trusted=skops.io.get_untrusted_types(file=name))
assert "regatta" not in sys.modules
print(*pipeline.predict(pandas.read_csv(rows, **pipeline.read_csv_)).tolist())
"""


@contextlib.contextmanager
def served(home: Path) -> Iterator[str]:
    """The page on a free port; everything that it started ends with it."""
    server = PageServer(home)
    try:
        server.start()
        yield server.url
    finally:
        server.stop()
        end_processes_of(home)


def settle(page: Any) -> None:
    page.wait_for_selector(READY)
    page.wait_for_function(f"() => !document.querySelector('{SKELETON}')")
    page.wait_for_timeout(700)  # charts are drawn after the script has run


@dataclass(frozen=True)
class Tabs:
    """One tab a theme, on one server. A person's way goes through the light one."""

    url: str
    browser: Any
    by_theme: dict[Theme, Any]

    @property
    def page(self) -> Any:
        return self.by_theme["light"]

    def photograph(
        self, name: str, ready: Callable[[Any], None] = settle, address: str = ""
    ) -> float:
        """The page that the light tab shows, or that at ``address``, in both themes. Returns the
        seconds that this took.

        ``ready`` waits in each tab until all that is to be seen is there.
        """
        begun = time.monotonic()
        address = f"{self.url}/{address}" if address else self.page.url
        for theme, page in self.by_theme.items():
            if page.url != address:
                page.goto(address)
                settle(page)
            ready(page)
            page.mouse.move(5, VIEWPORT["height"] - 5)  # no help text hangs over anything
            picture(page, f"{name}-{theme}")
        return time.monotonic() - begun

    def photograph_narrow(self, name: str, ready: Callable[[Any], None]) -> None:
        """What the light tab shows, on a telephone."""
        for theme in THEMES:
            context = self.browser.new_context(viewport=TELEPHONE, color_scheme=theme)
            context.set_default_timeout(PATIENCE)
            page = context.new_page()
            page.goto(self.page.url)
            settle(page)
            ready(page)
            picture(page, f"{name}-narrow-{theme}")
            context.close()


@contextlib.contextmanager
def opened(url: str, chromium: str) -> Iterator[Tabs]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=[*FLAGS, AS_ON_A_SCREEN])
        pages = {}
        for theme in THEMES:
            context = browser.new_context(
                viewport=VIEWPORT, color_scheme=theme, accept_downloads=True
            )
            context.set_default_timeout(PATIENCE)
            pages[theme] = context.new_page()
        yield Tabs(url, browser, pages)
        browser.close()


def picture(page: Any, name: str) -> None:
    """Photograph the window, in at most 256 colours."""
    path = IMAGES / f"{name}.png"
    page.screenshot(path=path)
    with Image.open(path) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


def choose(page: Any, label: str, option: str) -> None:
    box = page.get_by_role("combobox", name=label)
    box.click()
    box.fill(option)
    page.get_by_role("option", name=option, exact=True).click()
    settle(page)


def shows(heading: str) -> Callable[[Any], None]:
    """Wait for a heading."""

    def ready(page: Any) -> None:
        page.get_by_role("heading", name=heading).first.wait_for()
        settle(page)

    return ready


def wait_for_state(page: Any, state: str) -> None:
    heading = page.get_by_role("heading", level=1).filter(has_text=state)
    heading.wait_for()
    settle(page)


def run_of(page: Any) -> str:
    """The run that a page is about."""
    found = re.search(r"run=([\w-]+)", page.url)
    assert found, page.url
    return found[1]


def upload_and_train(tabs: Tabs) -> str:
    """From the first visit to a trained ridge model. Returns its run."""
    page = tabs.page
    page.goto(tabs.url)
    settle(page)
    tabs.photograph("welcome")
    page.locator("[data-testid=upload-input]").first.set_input_files(str(HOUSING))
    begun = time.monotonic()
    page.get_by_text("20,640 rows").wait_for()
    choose(page, "Column to predict", TARGET)
    pictures = tabs.photograph("data", shows("First rows"))
    page.get_by_role("button", name="Choose the model").click()
    page.get_by_role("heading", name="New run").wait_for()
    page.get_by_role("textbox", name="Epochs").wait_for()
    settle(page)
    pictures += tabs.photograph("new-run", shows("This run"))
    page.get_by_role("button", name="Start training").click()
    wait_for_state(page, "finished")
    seconds = time.monotonic() - begun - pictures
    print(f"{seconds:.0f} s from the upload to the trained model")
    return run_of(page)


def explain(tabs: Tabs, run: str) -> None:
    """How far a model is off on rows that it has not seen."""
    tabs.photograph("explain", shows("Predicted against actual"), f"explain?run={run}")
    tiles = tabs.page.locator("[data-testid=stMetric]").all_inner_texts()
    print("; ".join(" ".join(each.split()) for each in tiles))


def predict_and_export(tabs: Tabs, run: str, folder: Path) -> None:
    """Predictions for the file that the model was trained on, and the model in other forms."""
    page = tabs.page
    page.goto(f"{tabs.url}/predict?run={run}")
    settle(page)
    page.locator("[data-testid=upload-input]").first.set_input_files(str(HOUSING))
    page.get_by_text("20,640 rows predicted").wait_for()
    settle(page)  # the file stands in the address now
    tabs.photograph("predict", shows("Predict on another file"))

    def written(page: Any) -> None:
        page.get_by_role("link", name="scikit-learn pipeline").wait_for()
        settle(page)

    tabs.photograph("export", written, f"predict?run={run}&view=export")
    load_in_plain_scikit_learn(page, folder)


def load_in_plain_scikit_learn(page: Any, folder: Path) -> None:
    """Download the pipeline; an isolated Python loads it and predicts without Regatta."""
    with page.expect_download() as downloaded:
        page.get_by_role("link", name="scikit-learn pipeline").click()
    model, rows = folder / "model.skops", folder / "rows.csv"
    downloaded.value.save_as(model)
    rows.write_text("".join(HOUSING.read_text().splitlines(keepends=True)[:4]))
    command = [sys.executable, "-I", "-c", PLAIN, str(model), str(rows)]
    said = subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder).stdout
    print(f"plain scikit-learn predicts for the first rows: {said.strip()}")


def choose_alpha(tabs: Tabs, run: str) -> None:
    """Lasso on the same file, alpha by cross-validation."""
    page = tabs.page
    page.goto(f"{tabs.url}/?run={run}")
    settle(page)
    page.get_by_role("button", name="Train again").click()
    page.get_by_role("heading", name="New run").wait_for()
    settle(page)
    page.get_by_text("Lasso", exact=True).click()
    settle(page)
    page.get_by_role("textbox", name=re.compile("alpha")).fill("auto")
    page.keyboard.press("Enter")
    settle(page)
    page.get_by_role("button", name="Start training").click()
    wait_for_state(page, "finished")

    def scrolled(page: Any) -> None:
        heading = page.get_by_role("heading", name="How alpha was chosen")
        heading.evaluate("node => node.scrollIntoView({block: 'start'})")
        settle(page)

    tabs.photograph("path", scrolled, f"explain?run={run_of(page)}&view=coefficients")


def compare(tabs: Tabs, run: str) -> None:
    """The run beside its twins, and the list of all of them."""
    page = tabs.page
    page.goto(f"{tabs.url}/?run={run}")
    settle(page)
    page.get_by_role("button", name="Compare the ways").click()
    finished = shows("What this shows")
    page.get_by_role("heading", name="What this shows", exact=True).wait_for()
    tabs.photograph("compare", finished)
    tabs.photograph("runs", shows("Runs"), "runs")


def watch(tabs: Tabs) -> None:
    """The large demo in mid-training, and what its workers do."""
    page = tabs.page
    page.goto(f"{tabs.url}/?home")
    settle(page)
    page.get_by_role("button", name="Run the large demo").click()
    page.wait_for_function(HAS_POINTS, arg=EVALUATIONS, timeout=600_000)

    def drawn(page: Any) -> None:
        page.wait_for_function(HAS_POINTS, arg=EVALUATIONS)
        settle(page)

    tabs.photograph("train", drawn)
    tabs.photograph_narrow("train", drawn)
    run = run_of(page)
    tabs.photograph("workers", shows("What limits this run"), f"workers?run={run}")
    tabs.photograph("logs", shows("Logs"), f"logs?run={run}")


def main() -> None:
    chromium = find_browser()
    if not chromium or not HOUSING.is_file():
        sys.exit(f"This needs chromium (or {CHROMIUM_VARIABLE}) and {HOUSING}.")
    IMAGES.mkdir(exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started ends, too
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        home = Path(folder, "home")
        home.mkdir(mode=0o700)
        tabs = stack.enter_context(opened(stack.enter_context(served(home)), chromium))
        run = upload_and_train(tabs)
        explain(tabs, run)
        predict_and_export(tabs, run, home)
        choose_alpha(tabs, run)
        compare(tabs, run)
        watch(tabs)


if __name__ == "__main__":
    main()
