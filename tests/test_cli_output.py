"""Figures, tables, errors and the progress bar as a person sees them."""

from __future__ import annotations

import errno
import io
import json
import logging
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regatta.cli import main, output, progress
from regatta.utils import RegattaError, UserError


@dataclass
class Far:
    stage: str = "train"
    fraction: float = 0.5
    epoch: float = 31.0
    epochs: int = 50
    loss: float | None = 4.2e9
    validation_r2: float | None = 0.6412
    rows_per_second: float | None = 12.3e6
    eta_seconds: float | None = 72.0
    message: str = ""


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"), (float("nan"), "–"), (0, "0"), (0.64012, "0.6401"), (-0.5, "-0.5"),
        (999.9, "999.9"), (1091, "1,091"), (68912.4, "68,910"), (-73560.2, "-73,560"),
        (0.00001234, "1.234e-05"), (3.2e13, "3.200e+13"),
    ],
)  # fmt: skip
def test_numbers(value: float | None, text: str) -> None:
    assert output.number(value) == text


@given(st.floats(-1e300, 1e300))
def test_a_number_shown_is_the_number_to_four_digits(value: float) -> None:
    shown = float(output.number(value).replace(",", ""))
    assert abs(shown - value) <= 0.6e-3 * abs(value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"), (0.042, "0.042 s"), (3.21, "3.2 s"), (9.97, "10 s"), (59.6, "1 min 00 s"),
        (3599.7, "1 h 00 min"), (7260, "2 h 01 min"),
    ],
)  # fmt: skip
def test_durations(seconds: float | None, text: str) -> None:
    assert output.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (7, "7"), (999.4, "999"), (999.9, "1k"), (12345, "12.3k"), (31e6, "31M")],
)
def test_rates(value: float | None, text: str) -> None:
    assert output.rate(value) == text


def test_sizes() -> None:
    assert [output.size(n) for n in (0, 999, 1000, 1.25e6, 999.9e6, 5e13)] == [
        "0 B", "999 B", "1 kB", "1.25 MB", "1 GB", "50 TB",
    ]  # fmt: skip


def test_tables_are_aligned() -> None:
    text = output.table([["a", "number"], ["long name", "1"]], right=(1,))
    assert text == "a          number\nlong name       1"


@given(st.text(), st.integers(2, 50))
def test_shortened_text_fits_and_cannot_command_a_terminal(text: str, width: int) -> None:
    short = output.shortened(text, width)
    assert len(short) <= width
    assert short.isprintable()


def test_errors_name_row_and_column_once(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_error(UserError("Bad cell.", "Mend it.", row=42, column="b"), as_json=False)
    output.show_error(UserError("Bad cell in row 1,042.", row=1042), as_json=False)
    assert capsys.readouterr().err.splitlines() == [
        "regatta: Bad cell (line 42, column 'b').",
        "  Mend it.",
        "regatta: Bad cell in row 1,042.",
    ]


def test_errors_in_json_are_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_error(RegattaError("Gone.", "Try.", row=3), as_json=True)
    caught = capsys.readouterr()
    assert json.loads(caught.out) == {
        "error": {"message": "Gone.", "hint": "Try.", "row": 3, "column": None}
    }
    assert caught.err == ""


def test_json_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"a": float("nan"), "b": [float("inf"), 1.5]})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5]}


def test_the_system_s_own_errors_name_their_file() -> None:
    full = output.unexpected(OSError(errno.ENOSPC, "No space left on device", "/x/y"))
    assert (full.message, full.hint) == (
        "/x/y: No space left on device.",
        "Make room and try again.",
    )
    assert full.exit_code == 1


def test_tracebacks_are_for_debugging(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        raise ZeroDivisionError("oops")
    except ZeroDivisionError as error:
        wrapped = output.unexpected(error)
    monkeypatch.delenv("REGATTA_DEBUG", raising=False)
    output.show_error(wrapped, as_json=False)
    plain = capsys.readouterr().err
    assert "Traceback" not in plain and "ZeroDivisionError: oops" in plain
    assert "REGATTA_DEBUG=1" in plain
    monkeypatch.setenv("REGATTA_DEBUG", "1")
    output.show_error(wrapped, as_json=False)
    assert "Traceback" in capsys.readouterr().err


def test_the_bar_shows_stage_epoch_loss_score_speed_and_time_left() -> None:
    line = progress.render(Far(), 120)
    assert line == (
        "Training   ████████████░░░░░░░░░░░░   50%  epoch 31/50  loss 4,200,000,000  R² 0.641  "
        "12.3M rows/s  ETA 1:12"
    )
    assert progress.render(Far(), 120, unicode=False).isascii()
    reading = progress.render(Far(stage="import", fraction=2.0, message="row 5"), 80)
    assert reading.startswith("Reading") and "100%  row 5" in reading and "loss" not in reading


@given(st.integers(10, 200), st.floats(0, 1), st.floats(0, 1e12))
def test_the_bar_fits_and_speed_and_time_left_stay_longest(
    width: int, fraction: float, loss: float
) -> None:
    line = progress.render(Far(fraction=fraction, loss=loss), width)
    assert len(line) <= width
    if width >= 50:
        assert "12.3M rows/s  ETA 1:12" in line


@pytest.mark.parametrize(("seconds", "text"), [(7, "0:07"), (750, "12:30"), (3723, "1:02:03")])
def test_time_left(seconds: float, text: str) -> None:
    assert progress.clock(seconds) == text


def test_the_bar_is_drawn_on_a_terminal_and_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    terminal = Terminal()
    with progress.ProgressBar(terminal) as bar:
        bar(Far(stage="import"))
        bar(Far())
    drawn = terminal.getvalue()
    assert drawn.count("\r") == 3 and "Reading" in drawn and "Training" in drawn
    assert drawn.endswith("\r\x1b[K")
    longest = max(drawn.replace("\x1b[K", "").split("\r"), key=len)
    assert len(longest) == 39, "a longer line would wrap and leave its rest behind"


def test_no_bar_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    with progress.ProgressBar(stream) as bar:
        bar(Far())
    assert stream.getvalue() == ""


def test_log_lines_and_errors_come_past_the_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("REGATTA_DEBUG", raising=False)
    output.configure_log()
    logger = logging.getLogger("regatta.anything")
    progress.draw_line("bar")
    logger.warning("Worker 1 died.")
    logger.info("not shown")
    logger.error("told by the command itself")
    text = capsys.readouterr().err
    assert text.startswith("\rbar\x1b[K\r\x1b[K")
    assert "Worker 1 died." in text
    assert "not shown" not in text and "told by" not in text


def test_an_impatient_interrupt_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before there is any command, while modules are imported."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("regatta.utils.limit_blas_threads", interrupt)
    assert main(["runs"]) == 130
    assert capsys.readouterr().err == "regatta: Interrupted.\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["serve", "--port", "70000"], "'70000' is not a whole number from 0 to 65535"),
        (["doctor", "--port", "-1"], "'-1' is not a whole number from 0 to 65535"),
        (["explain", "last", "--row", "0"], "'0' is not a whole number of at least 1"),
        (["runs", "scale", "last", "0"], "'0' is not a whole number of at least 1"),
        (["runs", "list", "-n", "-1"], "'-1' is not a whole number of at least 0"),
        (["train", "x.csv", "--target", "y", "--seed", "-1"], "at least 0 and at most 4294967295"),
    ],
)
def test_a_number_that_is_refused_is_told_both_bounds(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert told in capsys.readouterr().err


def test_a_home_that_is_a_file_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "home"
    path.write_text("")
    for home in (path, path / "below"):
        monkeypatch.setenv("REGATTA_HOME", str(home))
        assert main(["runs"]) == 2
        told = capsys.readouterr().err
        assert f"Regatta's home {home} cannot be a folder" in told and "Set REGATTA_HOME" in told
