"""Takes the pictures of the page in ``docs/images``: ``make screenshots``.

It serves the page from a home of its own, uploads California housing as a person would, trains
ridge and lasso on it, loads the downloaded model in plain scikit-learn, and photographs the large
demo in mid-training, light and dark. What it saw it prints: the README tells these numbers.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from PIL import Image
from playwright.sync_api import ViewportSize, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
DATA = Path(os.environ.get("REGATTA_TEST_DATA", ROOT.parent / "shared" / "data"))
HOUSING = DATA / "regression" / "california_housing.csv"
TARGET = "median_house_value"
VIEWPORT: ViewportSize = {"width": 1366, "height": 768}
FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
READY = "[data-testid=stApp][data-test-script-state=notRunning]"
EVALUATIONS = 7  # points of the validation curve before the live pictures are taken

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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "REGATTA_HOME": str(home)}
    with (home / "page.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-P", str(ROOT / "main.py"), "--port", str(port)],
            env=environment, cwd=home, stdout=log, stderr=log,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(url, timeout=2).close()
                break
            time.sleep(0.1)
        yield url
    finally:
        server.terminate()
        server.wait(15)
        end_what_is_left(home)


def end_what_is_left(home: Path) -> None:
    """End the supervisor and the runs of a home that is given up."""
    left = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get("REGATTA_HOME") == str(home):
                process.terminate()
                left.append(process)
    for process in psutil.wait_procs(left, timeout=10)[1]:
        process.kill()


def settle(page: Any) -> None:
    page.wait_for_selector(READY)
    page.wait_for_timeout(700)  # charts are drawn after the script has run


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


def wait_for_state(page: Any, state: str) -> None:
    heading = page.get_by_role("heading", level=2).filter(has_text=state)
    heading.wait_for(timeout=180_000)
    settle(page)


def upload_and_train(page: Any, url: str) -> None:
    """From the first visit to a trained ridge model."""
    page.goto(url)
    settle(page)
    page.locator("[data-testid=upload-input]").first.set_input_files(str(HOUSING))
    begun = time.monotonic()
    page.get_by_text("20,640 rows").wait_for(timeout=60_000)
    choose(page, "Column to predict", TARGET)
    page.mouse.move(5, 760)
    picture(page, "data-light")
    page.get_by_role("button", name="Choose the model").click()
    page.get_by_role("heading", name="New run").wait_for()
    page.get_by_role("textbox", name="Epochs").wait_for()
    settle(page)
    picture(page, "new-run-light")
    page.get_by_role("button", name="Start training").click()
    wait_for_state(page, "finished")
    print(f"{time.monotonic() - begun:.0f} s from the upload to the trained model")
    page.get_by_role("link", name="scikit-learn pipeline").wait_for(timeout=60_000)
    settle(page)
    picture(page, "result-light")
    print(page.get_by_role("table").first.inner_text().replace("\t", "  "))


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


def choose_alpha(page: Any) -> None:
    """Lasso on the same file, alpha by cross-validation."""
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
    heading = page.get_by_role("heading", name="How alpha was chosen")
    heading.evaluate("node => node.scrollIntoView({block: 'start'})")
    page.mouse.wheel(0, -40)
    settle(page)
    picture(page, "path-light")


def watch(browser: Any, page: Any, url: str) -> None:
    """The large demo in mid-training, in both themes."""
    page.goto(f"{url}/?home")
    settle(page)
    page.get_by_role("button", name="Run the large demo").click()
    counted = (
        "count => { const plot = document.querySelector('[data-testid=plot-loss]');"
        " const line = plot?.data?.find(each => each.name === 'validation');"
        " return line && line.x.length >= count; }"
    )
    page.wait_for_function(counted, arg=EVALUATIONS, timeout=240_000)
    picture(page, "train-light")
    dark = browser.new_context(viewport=VIEWPORT, color_scheme="dark").new_page()
    dark.goto(page.url)
    dark.wait_for_function(counted, arg=EVALUATIONS, timeout=60_000)
    settle(dark)
    picture(dark, "train-dark")
    dark.close()


def main() -> None:
    chromium = os.environ.get("REGATTA_CHROMIUM") or shutil.which("chromium")
    if not chromium or not HOUSING.is_file():
        sys.exit(f"This needs chromium (or REGATTA_CHROMIUM) and {HOUSING}.")
    IMAGES.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        url = stack.enter_context(served(home))
        driver = stack.enter_context(sync_playwright())
        browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_context(viewport=VIEWPORT, accept_downloads=True).new_page()
        upload_and_train(page, url)
        load_in_plain_scikit_learn(page, home)
        choose_alpha(page)
        watch(browser, page, url)
        browser.close()


if __name__ == "__main__":
    main()
