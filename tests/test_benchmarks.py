"""The benchmarks measure what they say (the gap, rows, memory), and their report is whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from regatta.benchmarks import _report
from regatta.benchmarks._data import Optimum, generate
from regatta.benchmarks._processes import ContenderProcess, memory_of_tree
from regatta.benchmarks.compare import Results


def test_the_gap_is_the_loss_over_the_optimum_less_one(tmp_path: Path) -> None:
    rows = generate(tmp_path, 5000)
    optimum = Optimum(rows)
    X = np.column_stack([rows.X.astype(np.float64), np.ones(len(rows.X))])
    best, *_ = np.linalg.lstsq(X, rows.y.astype(np.float64), rcond=None)
    assert optimum.parameters == pytest.approx(best, abs=1e-9)
    assert optimum.gap(best) == pytest.approx(0.0, abs=1e-12)
    other = best + np.random.default_rng(0).normal(size=len(best))
    loss, least = (0.5 * np.mean((X @ w - rows.y) ** 2) for w in (other, best))
    assert optimum.gap(other) == pytest.approx((loss - least) / least)


def test_contenders_count_their_rows_and_reach_the_optimum(tmp_path: Path) -> None:
    generate(tmp_path, 20_000)
    for name in ("regatta-0", "regatta-1", "sklearn"):
        with ContenderProcess(name, tmp_path) as contender:
            done = contender.ask(do="pass", batch=1024, epochs=3)
            assert done["rows"] == 60_000
            assert done["seconds"] > 0
            reached = contender.ask(
                do="converge", batch=1024, epochs=40, rate=0.2, tolerance=1e-2
            )  # fmt: skip
            assert reached["gap"] < 1e-2
            assert reached["seconds"] is not None
            assert contender.peak_bytes(do="pass", batch=1024, epochs=1) > 10e6


def test_memory_counts_what_a_child_holds() -> None:
    code = (
        "import sys; held = bytearray(80_000_000); print(len(held), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert 80e6 < memory_of_tree(child.pid) < 120e6
        child.communicate()


def test_the_report_has_every_part(tmp_path: Path) -> None:
    results = Results(1000, 2)
    for position, name in enumerate(_report.NAMES, start=1):
        for batch in (1024, 8192, 65_536):
            results.rates[name, batch] = [position * 1e6, position * 3e6]
            results.times[name, batch] = [position * 0.1, position * 0.3]
        results.memory[name] = 50_000_000
    results.read_speed, results.read_memory = {"Regatta": [3e8, 3e8]}, {"Regatta": 80_000_000}
    results.whole_runs[1024] = {
        "rows_per_second": 1e7, "seconds": {"import": 1.0, "train": 2.0, "total": 3.5},
        "memory": 60_000_000,
    }  # fmt: skip
    assert results.ratio("rates", ("torch", 1024), ("regatta-0", 1024)) == 5.0
    assert results.ratio("rates", ("torch", 7), ("regatta-0", 1024)) is None
    _report.write(results, tmp_path)
    text = (tmp_path / "benchmarks.md").read_text()
    for name in _report.NAMES.values():
        assert name in text
    assert "5.00 (5.00–5.00)" not in text
    assert "10.0 (5.00–15.0)" in text
    assert "Regatta, 2 workers is 1.5 times Regatta, 1 worker" in text
    assert (tmp_path / "images" / "benchmarks.svg").read_text().startswith("<svg")
