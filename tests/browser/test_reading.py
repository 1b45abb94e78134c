"""How a file is read, as a person changes it: separator, kinds of columns, cancel, refused rows."""

from __future__ import annotations

import gzip
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from regatta.ingest.demo import generate_demo
from regatta.runs.store import RunStore
from regatta.tests.browser.driving import choose

playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'regatta[test]'")
expect = playwright.expect

pytestmark = pytest.mark.browser

READING = 30_000  # milliseconds that a small file takes on a busy machine, and more


def bring(tab: Any, path: Path) -> None:
    """Upload a file and wait until it is read."""
    tab.open("/data")
    tab.page.locator("[data-testid=upload-input]").first.set_input_files(str(path))
    expect(tab.page.get_by_role("heading", name=path.name)).to_be_visible(timeout=READING)


def read_with(tab: Any, label: str, option: str) -> None:
    """Choose an option in the form below what was found."""
    tab.settle()
    tab.page.get_by_text("Read it another way").click()
    send = tab.page.get_by_role("button", name="Read it this way")
    send.hover()  # the form is open
    choose(tab, label, option)
    send.click()


def choose_target(tab: Any, name: str) -> None:
    choose(tab, "Column to predict", name)


def chosen(tab: Any) -> dict[str, Any]:
    """What is kept of the choice for the file that is shown."""
    key = re.search(r"file=([0-9a-f]{16})", tab.page.url)
    assert key
    path = tab.server.home / "choices" / f"{key[1]}.json"
    value: dict[str, Any] = json.loads(path.read_text())
    return value


@pytest.fixture
def sensors(tmp_path: Path) -> Path:
    """Numbers of which some are codes, and a target."""
    path = tmp_path / "sensors.csv"
    names = ["code_a", "code_b", *(f"sensor_{at}" for at in range(8)), "y"]
    rows = [
        [n % 3, n % 4, *(round(n * at % 7 + 0.1 * at, 2) for at in range(8)), n % 11 + n % 3]
        for n in range(200)
    ]
    path.write_text("\n".join([",".join(names), *(",".join(map(str, row)) for row in rows)]))
    return path


def test_another_separator_is_another_table_and_the_way_back_is_open(
    tab: Any, tmp_path: Path
) -> None:
    path = tmp_path / "marks.csv"
    path.write_text("a;b|c;d\n" + "".join(f"{n};{n % 5}|{n % 3};{n}\n" for n in range(60)))
    bring(tab, path)
    found = tab.page.get_by_text(re.compile(r"60 rows, \d columns; read as \w+-separated"))
    expect(found).to_be_visible(timeout=READING)
    first = found.inner_text()
    other = "bar" if "semicolon" in first else "semicolon"
    read_with(tab, "Separator", other)
    expect(tab.page.get_by_text(f"read as {other}-separated")).to_be_visible(timeout=READING)
    said = tab.page.locator("p", has_text="Read with your options")
    expect(said).to_contain_text(f"separator: {other}")
    tab.page.reload()
    tab.settle()
    expect(said).to_contain_text(f"separator: {other}")  # it is remembered
    tab.page.get_by_role("button", name="Reset to what was found").click()
    expect(tab.page.get_by_text(first)).to_be_visible(timeout=READING)
    expect(tab.page.get_by_text("Read with your options")).to_have_count(0)


def test_kinds_of_one_column_and_of_many_are_carried_into_the_run(tab: Any, sensors: Path) -> None:
    """The target and the columns left out stay as they were chosen."""
    page = tab.page
    bring(tab, sensors)
    choose_target(tab, "y")
    page.get_by_label("Use sensor_7").uncheck()
    expect(page.locator("tr[data-column=sensor_7]")).to_have_class("rg-out")
    page.get_by_label("Kind of sensor_0").select_option("category")
    expect(page.get_by_text("kinds of columns: sensor_0=category")).to_be_visible(timeout=READING)
    expect(page.get_by_label("Kind of sensor_0")).to_have_value("category", timeout=READING)

    find = page.get_by_role("textbox", name="Find columns")
    find.fill("code_*")
    find.press("Enter")
    expect(page.get_by_text("2 of 11 columns")).to_be_visible()
    expect(page.locator(".rg-columns tbody tr")).to_have_count(2)
    choose(tab, "Read all of them as", "category")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_label("Kind of code_b")).to_have_value("category", timeout=READING)
    kept = chosen(tab)
    assert kept["target"] == "y" and kept["drop"] == ["sensor_7"]
    assert kept["reading"] == {"column_types": ["sensor_0=category", "code_*=category"]}

    page.get_by_role("button", name="Choose the model").click()
    expect(page.get_by_role("heading", name="New run")).to_be_visible()
    expect(page.get_by_text("code_*=category").first).to_be_visible(timeout=READING)
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_role("heading", level=1).first).to_contain_text("finished", timeout=60_000)
    expect(page.get_by_text("Read with your options: kinds of columns")).to_be_visible()
    record = RunStore(tab.server.home).list()[0]
    config = RunStore(tab.server.home).config(record.run_id)
    assert config.column_types == ("sensor_0=category", "code_*=category")
    assert config.drop == ("sensor_7",)


def test_a_column_is_read_as_it_was_found_again(tab: Any, sensors: Path) -> None:
    """In between, the page stays where it is."""
    page = tab.page
    bring(tab, sensors)
    why = page.locator("tr[data-column=code_a] .rg-why")
    kind = page.get_by_label("Kind of code_a")
    kind.scroll_into_view_if_needed()
    place = kind.bounding_box()["y"]
    kind.select_option("category")
    expect(why).to_contain_text("different texts", timeout=READING)
    assert chosen(tab)["reading"] == {"column_types": ["code_a=category"]}
    assert abs(kind.bounding_box()["y"] - place) < 120
    kind.select_option("")
    expect(why).to_contain_text("cells are numbers", timeout=READING)
    assert chosen(tab)["reading"] == {}
    expect(page.get_by_text("Read with your options")).to_have_count(0)


def test_an_import_is_cancelled_and_taken_up_again(tab: Any, tmp_path: Path) -> None:
    folder = tab.server.home / "uploads" / ("c" * 16)
    folder.mkdir(parents=True)
    plain = generate_demo(tmp_path / "rows.csv", rows=500_000, features=30)
    with plain.open("rb") as file:
        names, rows = gzip.compress(file.readline()), gzip.compress(file.read(), 1)
    # Packed, it is unpacked by one core alone, and there are many rows: time for a click.
    (folder / "large.csv.gz").write_bytes(names + 8 * rows)
    page = tab.page
    tab.open(f"/data?file={'c' * 16}")
    how_far = re.compile(r"[\d,]+ rows read · [\d,]+ rows/s · .+ left")
    expect(page.get_by_text(how_far)).to_be_visible(timeout=READING)
    begun = time.monotonic()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("Reading was cancelled")).to_be_visible(timeout=READING)
    print(f"cancelled within {time.monotonic() - begun:.1f} s")
    page.get_by_role("button", name="Read it again").click()
    expect(page.get_by_text("4,000,000 rows, 31 columns")).to_be_visible(timeout=120_000)


def test_rows_are_mended_only_where_that_is_wanted(tab: Any, tmp_path: Path) -> None:
    path = tmp_path / "mended.csv"
    rows = [f"2024-03-{1 + n % 28:02},KL-{100 + n},{n % 7}.5" for n in range(60)]
    rows[20] = rows[20].replace(",", ",,", 1)
    path.write_text("\n".join(["day,code,y", *rows]))
    bring(tab, path)
    tab.page.locator("summary", has_text="1 repair").click(timeout=READING)
    expect(tab.page.get_by_text("1 row mended (a blank cell too many left out)")).to_be_visible()
    read_with(tab, "Broken rows", "refuse the file")
    refused = "Line 22 has 4 fields where 3 are expected"
    expect(tab.page.get_by_role("alert")).to_contain_text(refused, timeout=READING)
    assert chosen(tab)["reading"] == {"on_bad_rows": "refuse"}
    read_with(tab, "Broken rows", "mend where one way alone fits")
    expect(tab.page.get_by_text("60 rows, 3 columns")).to_be_visible(timeout=READING)
    assert chosen(tab)["reading"] == {}


def test_rows_of_a_refused_file_are_set_aside_and_downloaded(tab: Any, tmp_path: Path) -> None:
    path = tmp_path / "broken.csv"
    rows = [f"{n},{n % 5},{n % 7}" for n in range(500)]
    rows[100] = rows[300] = "1,2"
    path.write_text("\n".join(["a,b,y", *rows]))
    page = tab.page
    bring(tab, path)
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("Line 102 has 2 fields where 3 are expected", timeout=READING)
    expect(page.get_by_text("Line 302 has 2 fields")).to_be_visible()
    page.get_by_role("button", name="Set these rows aside").click()
    expect(page.get_by_text("498 rows, 3 columns")).to_be_visible(timeout=READING)
    page.locator("summary", has_text="2 rows set aside").click()
    with page.expect_download() as downloaded:
        page.get_by_role("link", name="Rows set aside (CSV)").click()
    downloaded.value.save_as(tmp_path / "rejected.csv")
    lines = (tmp_path / "rejected.csv").read_text().splitlines()
    assert lines[0] == "line,reason,text"
    assert [line.split(",")[0] for line in lines[1:]] == ["102", "302"]


def test_a_clean_copy_is_made_and_downloaded(tab: Any, tmp_path: Path) -> None:
    path = tmp_path / "commas.csv"
    path.write_text("a;b\n" + "".join(f"{n},25;{n % 3}\n" for n in range(50)))
    bring(tab, path)
    tab.page.get_by_role("button", name="Make a clean copy").click(timeout=READING)
    with tab.page.expect_download() as downloaded:
        tab.page.get_by_role("link", name="Clean copy (CSV)").click(timeout=READING)
    assert downloaded.value.suggested_filename == "commas-clean.csv"
    downloaded.value.save_as(tmp_path / "clean.csv")
    assert (tmp_path / "clean.csv").read_text().startswith("a,b\n0.25,0\n1.25,1\n")


def test_a_table_of_the_page_exports_no_formula(tab: Any, tmp_path: Path) -> None:
    """What is exported of a file goes through Regatta, which defuses it."""
    path = tmp_path / "formulas.csv"
    path.write_text("t,y\n" + "".join(f"=1+{n % 3},{n}\n" for n in range(50)))
    bring(tab, path)
    tab.page.get_by_test_id("stDataFrame").hover(timeout=READING)
    expect(tab.page.get_by_role("button", name="Fullscreen")).to_be_visible()
    expect(tab.page.get_by_role("button", name="Download as CSV")).to_have_count(0)


def test_a_telephone_shows_the_target_first_and_the_table_of_columns(
    small_tab: Any, sensors: Path
) -> None:
    bring(small_tab, sensors)
    table = small_tab.page.get_by_label("Kind of code_a")
    expect(table).to_be_visible(timeout=READING)
    target = small_tab.page.get_by_role("combobox", name="Column to predict")
    assert target.bounding_box()["y"] < table.bounding_box()["y"]
    for selector in ("html", "[data-testid=stMain]", ".rg-columns"):
        width = small_tab.page.locator(selector).evaluate("node => node.scrollWidth")
        assert width <= 390, selector
