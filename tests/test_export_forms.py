"""The ONNX graph and the Python script: each predicts what the model predicts, by itself."""

from __future__ import annotations

import ast
import importlib.util
import io
import math
import runpy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from regatta.export import default_name, export_model
from regatta.export.check_rows import read_csv_options, sample_columns, sample_frame
from regatta.export.python_snippet import snippet
from regatta.fitted_model import FittedModel
from regatta.preprocessing import ColumnEncoding, Feature, NumberEncoding
from regatta.tests.test_export import MIXED, a_model, boolean, category, column, date, number
from regatta.utils import RegattaError, UserError

WITHOUT_REGATTA = """
import runpy, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "regatta":
            raise ImportError("regatta is blocked")

sys.meta_path.insert(0, Blocked())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def isolated(script: Path, *arguments: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-I", "-c", WITHOUT_REGATTA, str(script), *map(str, arguments)],
        capture_output=True, text=True, timeout=120, cwd=script.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def predictor(model: FittedModel, tmp_path: Path, source: Path | None = None) -> Any:
    out = tmp_path / "predict.py"
    export_model(model, "snippet", out, source=source)
    return runpy.run_path(str(out))


def predict_text(script: Any, text: str, **options: Any) -> list[float]:
    frame = pd.read_csv(io.StringIO(text), **options)
    return [float(value) for value in script["predict"](frame)]


# -- the script -----------------------------------------------------------------------------------


def test_the_script_runs_as_it_stands_where_regatta_cannot_be_imported(tmp_path: Path) -> None:
    model = a_model(*MIXED, dialect={"delimiter": ";", "encoding": "utf-8"})
    out, table, found = tmp_path / "p.py", tmp_path / "rows.csv", tmp_path / "found.csv"
    export_model(model, "snippet", out)
    columns = sample_columns(model, rows=50, seed=4)
    sample_frame(model, columns).to_csv(table, sep=";", index=False)
    isolated(out, table, found)
    expected = model.predict(columns)
    assert pd.read_csv(found)["prediction"].tolist() == pytest.approx(expected.tolist(), rel=1e-9)
    assert isolated(out).startswith("for the row in EXAMPLE: ")


def test_missing_and_unknown_cells(tmp_path: Path) -> None:
    said = replace(category("c", "(missing)", "x", other=True), missing=("lost",))
    model = a_model(number("a", missing=("-200", "lost")), said)
    script = predictor(model, tmp_path)
    nan = math.nan
    expected = model.predict(
        {**column("a", 1.0, nan, nan, nan, 2.0), **column("c", "x", None, None, "new", None)}
    ).tolist()
    assert predict_text(script, "a,c\n1,x\n-200,lost\n,\n?,new\n2,?\n") == pytest.approx(expected)
    with pytest.raises(ValueError, match="many"):
        predict_text(script, "a,c\nmany,x\n")


@pytest.mark.parametrize("plainly", [True, False])
def test_levels_that_pandas_reads_as_numbers(tmp_path: Path, plainly: bool) -> None:
    model = a_model(number("a"), category("code", "(missing)", "007", "010", other=True))
    script = predictor(model, tmp_path)
    options = {} if plainly else script["READ_CSV"]
    found = predict_text(script, "a,code\n1,007\n1,010\n1,\n1,99\n", **options)
    codes = column("code", "007", "010", None, "99")
    assert found == pytest.approx(model.predict({**column("a", *[1.0] * 4), **codes}).tolist())


def test_none_as_a_level(tmp_path: Path) -> None:
    for levels in (("(missing)", "None", "x"), ("None", "x")):
        model = a_model(category("c", *levels))
        script = predictor(model, tmp_path)
        found = predict_text(script, "c,d\nNone,1\nx,1\n", **script["READ_CSV"])
        assert found == pytest.approx(model.predict(column("c", "None", "x")).tolist())


def test_booleans_dates_and_decimal_commas(tmp_path: Path) -> None:
    columns = boolean("b", "no", "yes"), date("t", "%Y%m%d"), number("n", decimal=",")
    script = predictor(model := a_model(*columns), tmp_path)
    text = "b;t;n\nYES;20200203;1,5\n;;\nno;19600101;-2\n"
    seconds = column("t", 1580688000.0, math.nan, -315619200.0)
    expected = model.predict(
        {**column("b", 1.0, math.nan, 0.0), **seconds, **column("n", 1.5, math.nan, -2.0)}
    ).tolist()
    assert predict_text(script, text, sep=";") == pytest.approx(expected, rel=1e-9)
    found = predict_text(script, text, **{"sep": ";", **script["READ_CSV"]})
    assert found == pytest.approx(expected, rel=1e-9)
    with pytest.raises(ValueError, match="neither 'no' nor 'yes'"):
        predict_text(script, "b;t;n\nmaybe;20200203;1\n", sep=";")


def test_names_as_they_stand_in_the_file(tmp_path: Path) -> None:
    source = tmp_path / "train.csv"
    source.write_text(" bmi ,y, sex\n1.5,1, male\n2.5,2, female \n,3,male\n")
    columns = (number("bmi"), category("sex", "female", "male"))
    model = a_model(*columns, dialect={"names": ["bmi", "y", "sex"]})
    script = predictor(model, tmp_path, source)
    sexes = column("sex", "male", "female", "male")
    expected = model.predict({**column("bmi", 1.5, 2.5, math.nan), **sexes})
    assert script["predict"](pd.read_csv(source)) == pytest.approx(expected)


HOSTILE = [
    '"""\nimport os',
    "'] = 1; raise SystemExit(3) #",
    "a\\",
    "{target}",
    "\N{RIGHT-TO-LEFT OVERRIDE}x",
    "%s",
]


def test_what_a_file_holds_never_becomes_code(tmp_path: Path) -> None:
    columns: list[ColumnEncoding] = [
        *(number(name, missing=(name,)) for name in HOSTILE),
        *(category(f"c{name}", *sorted(HOSTILE), other=True) for name in HOSTILE),
    ]
    model = replace(a_model(*columns, run_id=HOSTILE[0], model=HOSTILE[1]))
    preprocessing = replace(model.preprocessing, target=HOSTILE[0])
    model = replace(model, preprocessing=preprocessing)
    out = tmp_path / "p.py"
    export_model(model, "snippet", out)
    tree = ast.parse(out.read_text(encoding="utf-8"))
    plain = ast.parse(snippet(a_model(number("a"), category("c", "x", other=True))))
    kinds = [type(each).__name__ for each in tree.body]
    assert kinds == [type(each).__name__ for each in plain.body]  # nothing but data was added
    assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in out.read_text(encoding="utf-8")
    assert isolated(out).startswith("for the row in EXAMPLE")


# -- ONNX -----------------------------------------------------------------------------------------

onnx = pytest.importorskip("onnx", reason="pip install 'regatta[onnx]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'regatta[onnx]'")


def session(path: Path) -> Callable[..., list[float]]:
    """Predictions from the cells of each column, by onnxruntime and NumPy alone."""
    run = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def predict(**columns: list[Any]) -> list[float]:
        inputs = {
            name: np.array(cells, object if isinstance(cells[0], str) else float).reshape(-1, 1)
            for name, cells in columns.items()
        }
        (found,) = run.run(["prediction"], inputs)
        return [float(value) for value in found.ravel()]

    return predict


def test_the_graph_takes_the_cells_of_each_column(tmp_path: Path) -> None:
    columns = (
        number("a"), category("c", "(missing)", "x", "y", other=True), category("d", "u"),
        boolean("b", "no", "yes", impute=1.0), date("t", "ISO8601"),
    )  # fmt: skip
    model = a_model(*columns)
    done = export_model(model, "onnx", tmp_path / default_name(model, "onnx"))
    assert done.rows_compared >= 200 and done.largest_difference < 1e-12
    nan = math.nan
    found = session(done.path)(
        a=[1.0, nan, 3.0], c=["x", "", "never seen"], d=["u", "v", ""],
        b=["yes", "", "No"], t=[1.6e9, nan, -1e9],
    )  # fmt: skip
    expected = model.predict(
        {
            **column("a", 1.0, nan, 3.0),
            **column("c", "x", None, "never seen"),
            **column("d", "u", "v", None),
            **column("b", 1.0, nan, 0.0),
            **column("t", 1.6e9, nan, -1e9),
        }
    )
    assert found == pytest.approx(expected.tolist(), rel=1e-12)


def test_the_graph_in_float32_says_how_far_it_is_off(tmp_path: Path) -> None:
    done = export_model(a_model(*MIXED), "onnx-float32", tmp_path / "m.onnx")
    assert 1e-9 < done.largest_difference < 1e-4
    far = NumberEncoding("time", 1.6e9, (Feature("time", 1.6e9, 3.0),))
    with pytest.raises(RegattaError, match="float32") as caught:
        export_model(a_model(far), "onnx-float32", tmp_path / "far.onnx")
    assert "float64" in caught.value.hint
    assert not (tmp_path / "far.onnx").exists()
    assert export_model(a_model(far), "onnx", tmp_path / "far.onnx").largest_difference < 1e-9


def test_the_graph_carries_what_it_is(tmp_path: Path) -> None:
    names = ["/constant_0", "//x", "MatMul_3", "a b", "é"]
    done = export_model(a_model(*map(number, names)), "onnx", tmp_path / "m.onnx")
    proto = onnx.load(str(done.path))
    onnx.checker.check_model(proto, full_check=True)
    assert [each.name for each in proto.graph.input] == names
    assert {each.key: each.value for each in proto.metadata_props}["target"] == "y"
    assert "seconds since 1970" in proto.doc_string
    with pytest.raises(UserError, match="'prediction'"):
        export_model(a_model(number("prediction")), "onnx", tmp_path / "m.onnx")


def test_without_the_extra_one_sentence_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for missing in ("onnx", "onnxruntime"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, missing, None)
            with pytest.raises(UserError, match="not installed") as caught:
                export_model(a_model(number("a")), "onnx", tmp_path / "m.onnx")
            assert "regatta[onnx]" in caught.value.hint
    assert list(tmp_path.iterdir()) == []
    assert importlib.util.find_spec("onnx") is not None


def test_the_options_of_the_file_are_in_the_script() -> None:
    model = a_model(number("a", decimal=","), dialect={"delimiter": ";", "decimal": ","})
    assert "'sep': ';'" in snippet(model, read_csv=read_csv_options(model))
