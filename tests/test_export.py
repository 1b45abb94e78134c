"""Exports predict what the model predicts, without Regatta, or are not written at all."""

from __future__ import annotations

import io
import json
import math
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io

from regatta import data_pipeline, export
from regatta.export import (
    check_rows,
    default_name,
    export_model,
    onnx_graph,
    python_snippet,
    sklearn_pipeline,
)
from regatta.export.check_rows import read_csv_options, sample_columns, sample_frame
from regatta.fitted_model import FittedModel
from regatta.prediction import predict_file
from regatta.preprocessing import (
    DATE_PARTS,
    DATE_PERIODS,
    BooleanEncoding,
    CategoryEncoding,
    ColumnEncoding,
    DateEncoding,
    Feature,
    NumberEncoding,
    Preprocessing,
)
from regatta.utils import RegattaError, UserError

LOAD_WITHOUT_REGATTA = """
import json, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "regatta":
            raise ImportError("regatta is blocked")

sys.meta_path.insert(0, Blocked())
import pandas, skops.io
asked = skops.io.get_untrusted_types(file=sys.argv[1])
pipeline = skops.io.load(sys.argv[1], trusted=asked)
frame = pandas.read_csv(sys.argv[2], **pipeline.read_csv_)
assert not any(name.split(".")[0] == "regatta" for name in sys.modules)
print(json.dumps(pipeline.predict(frame).tolist()))
"""


def number(name: str, impute: float = 1.5, **how: Any) -> NumberEncoding:
    return NumberEncoding(name, impute, (Feature(name, 2.0, 3.0),), **how)


def category(name: str, *levels: str, other: bool = False) -> CategoryEncoding:
    features = [Feature(f"{name}={level}", 0.3, 0.4, level) for level in levels]
    if other:
        features.append(Feature(f"{name}=(other)", 0.1, 0.3))
    return CategoryEncoding(name, levels, other, tuple(features))


def boolean(name: str, false: str, true: str, impute: float = 0.0) -> BooleanEncoding:
    return BooleanEncoding(name, impute, (Feature(name, 0.4, 0.5),), false, true)


def date(name: str, style: str, parts: tuple[str, ...] = DATE_PARTS) -> DateEncoding:
    features = [
        Feature(f"{name}:{part}", *((18000.0, 200.0) if part == "trend" else (0.1, 0.7)), part=part)
        for part in parts
    ]
    return DateEncoding(name, 1_600_000_000.0, tuple(features), style)


def a_model(*columns: ColumnEncoding, model: str = "ridge", **how: Any) -> FittedModel:
    preprocessing = Preprocessing(columns, "y")
    weights = np.random.default_rng(1).normal(size=len(preprocessing.features))
    options: dict[str, Any] = {"alpha": 1.0, "rows_train": 100, "run_id": "a-run", **how}
    return FittedModel(
        preprocessing=preprocessing, weights=weights, intercept=3.0, model=model, **options
    )


MIXED = (
    number("a"),
    number("b b", missing=("?", "NA")),
    number("comma", decimal=","),
    number("grouped", thousands=","),
    number("price", thousands=" ", decimal=",", affix="€", missing=("n. a.",)),
    category("colour", "(missing)", "green", "red", other=True),
    category("size", "L", "M"),
    boolean("smoker", "no", "yes"),
    boolean("flag", "false", "true", impute=1.0),
    date("day", "%Y-%m-%d", DATE_PARTS[:5]),
    date("at", "%d/%m/%Y %H:%M"),
    date("iso", "ISO8601"),
)


def pipeline_of(model: FittedModel, tmp_path: Path, source: Path | None = None) -> Any:
    out = tmp_path / "model.skops"
    done = export_model(model, "sklearn", out, source=source)
    return skops.io.load(out, trusted=list(done.trusted_types))


def predict_text(pipeline: Any, text: str, **options: Any) -> list[float]:
    frame = pd.read_csv(io.StringIO(text), **options)
    return [float(value) for value in pipeline.predict(frame)]


def column(name: str, *values: Any) -> dict[str, np.ndarray[Any, Any]]:
    words = any(isinstance(value, str) or value is None for value in values)
    return {name: np.array(values, dtype=object if words else np.float64)}


@pytest.mark.parametrize("format", ["sklearn", "json", "onnx", "snippet"])
def test_every_kind_of_column_exports(tmp_path: Path, format: str) -> None:
    model = a_model(*MIXED)
    done = export_model(model, format, tmp_path / default_name(model, format))
    assert done.rows_compared >= 200
    assert done.largest_difference < 1e-9
    assert [each.name for each in tmp_path.iterdir()] == [done.path.name]


def test_the_pipeline_predicts_the_same_where_regatta_cannot_be_imported(tmp_path: Path) -> None:
    model = a_model(*MIXED, dialect={"delimiter": ";", "encoding": "utf-8"})
    out, table = tmp_path / "model.skops", tmp_path / "rows.csv"
    export_model(model, "sklearn", out)
    columns = sample_columns(model, rows=50, seed=4)
    frame = sample_frame(model, columns)
    frame.to_csv(table, sep=";", index=False)
    done = subprocess.run(
        [sys.executable, "-P", "-c", LOAD_WITHOUT_REGATTA, str(out), str(table)],
        capture_output=True, text=True, timeout=120, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == pytest.approx(model.predict(columns).tolist(), rel=1e-9)


def test_plain_columns_ask_the_reader_to_trust_nothing_but_a_type(tmp_path: Path) -> None:
    model = a_model(number("a"), number("q", missing=("?",)), category("c", "x", "y", other=True))
    done = export_model(model, "sklearn", tmp_path / "m.skops")
    assert done.trusted_types == ("numpy.dtype",)


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("linear", "LinearRegression"),
        ("ridge", "Ridge"),
        ("lasso", "Lasso"),
        ("elasticnet", "ElasticNet"),
        ("some other linear model", "LinearRegression"),
    ],
)
def test_the_estimator_is_the_one_of_that_name(tmp_path: Path, model: str, kind: str) -> None:
    fitted = a_model(number("a"), number("b"), model=model, alpha=0.25, l1_ratio=0.75)
    estimator = pipeline_of(fitted, tmp_path)["model"]
    assert type(estimator).__name__ == kind
    assert estimator.coef_.tolist() == fitted.weights.tolist()
    assert estimator.get_params().get("alpha", 0.25) == 0.25
    assert estimator.get_params().get("l1_ratio", 0.75) == 0.75


def test_missing_and_unknown_cells(tmp_path: Path) -> None:
    model = a_model(number("a", missing=("?",)), category("c", "(missing)", "x", other=True))
    found = predict_text(pipeline_of(model, tmp_path), "a,c\n1,x\n?,\n,never seen\n2,?\n")
    nan = math.nan
    expected = model.predict(
        {**column("a", 1.0, nan, nan, 2.0), **column("c", "x", None, "never seen", None)}
    )
    assert found == pytest.approx(expected.tolist())


def test_a_number_and_a_word_that_say_no_value(tmp_path: Path) -> None:
    said = replace(category("c", "(missing)", "x", other=True), missing=("lost",))
    model = a_model(number("a", missing=("-200", "lost")), said)
    found = predict_text(pipeline_of(model, tmp_path), "a,c\n1,x\n-200,lost\n,\n")
    nan = math.nan
    expected = model.predict({**column("a", 1.0, nan, nan), **column("c", "x", None, None)})
    assert found == pytest.approx(expected.tolist())
    found = predict_text(pipeline_of(model, tmp_path), "a,c\nlost,x\n-200,x\n")
    assert found[0] == pytest.approx(found[1])


def test_without_other_an_unknown_word_sets_no_indicator(tmp_path: Path) -> None:
    model = a_model(category("c", "x", "y"))
    found = predict_text(pipeline_of(model, tmp_path), "c,d\nx,1\nz,1\n,1\n")
    assert found == pytest.approx(model.predict(column("c", "x", "z", None)).tolist())


def test_only_rare_levels(tmp_path: Path) -> None:
    model = a_model(number("a"), category("c", other=True))
    found = predict_text(pipeline_of(model, tmp_path), "a,c\n1,x\n1,y\n")
    expected = model.predict({**column("a", 1.0, 1.0), **column("c", "x", "y")})
    assert found == pytest.approx(expected.tolist())


def test_a_level_called_other_or_none_is_a_level(tmp_path: Path) -> None:
    model = a_model(category("c", "(other)", "None", "x", other=True))
    found = predict_text(pipeline_of(model, tmp_path), "c\nNone\n(other)\nx\nrare\n")
    expected = model.predict(column("c", "None", "(other)", "x", "rare"))
    assert found == pytest.approx(expected.tolist())


def test_none_as_a_level_beside_missing_cells(tmp_path: Path) -> None:
    pipeline = pipeline_of(model := a_model(category("c", "(missing)", "None", "x")), tmp_path)
    found = predict_text(pipeline, "c,d\nNone,1\n,1\nNA,1\nx,1\n", **pipeline.read_csv_)
    expected = model.predict(column("c", "None", None, None, "x"))
    assert found == pytest.approx(expected.tolist())


def test_names_that_scikit_learn_would_not_take_for_a_step(tmp_path: Path) -> None:
    names = ["a__b", "remainder", "transformers", "numbers", "c__", "c--"]
    columns = [category(name, "x", "y__z") for name in names] + [number("n", missing=("__",))]
    export_model(a_model(*columns), "sklearn", tmp_path / "m.skops")


def test_levels_that_pandas_reads_as_numbers(tmp_path: Path) -> None:
    model = a_model(number("a"), category("code", "(missing)", "007", "010", other=True))
    found = predict_text(pipeline_of(model, tmp_path), "a,code\n1,007\n1,010\n1,\n1,99\n")
    expected = model.predict(
        {**column("a", *[1.0] * 4), **column("code", "007", "010", None, "99")}
    )
    assert found == pytest.approx(expected.tolist())


@pytest.mark.parametrize(
    ("words", "cells"),
    [(("false", "true"), "True,False,TRUE"), (("no", "yes"), "yes,no,Yes"), (("f", "t"), "t,f,T")],
)
@pytest.mark.parametrize("missing", ["", ",\n", ",?\n"])
def test_booleans_however_pandas_reads_them(
    tmp_path: Path, words: tuple[str, str], cells: str, missing: str
) -> None:
    model = a_model(number("a"), boolean("b", *words))
    rows = "".join(f"1,{cell}\n" for cell in cells.split(","))
    found = predict_text(
        pipeline_of(model, tmp_path), f"a,b\n{rows}" + ("1" + missing) * bool(missing)
    )
    values = [1.0, 0.0, 1.0, *([math.nan] if missing else [])]
    expected = model.predict({**column("a", *[1.0] * len(values)), **column("b", *values)})
    assert found == pytest.approx(expected.tolist())


def test_decimal_commas_read_as_text_or_as_numbers(tmp_path: Path) -> None:
    model = a_model(number("a", decimal=","), number("b"))
    pipeline, text = pipeline_of(model, tmp_path), "a;b\n1,5;2\n;3\n-2,25;4\n"
    expected = model.predict({**column("a", 1.5, math.nan, -2.25), **column("b", 2.0, 3.0, 4.0)})
    assert predict_text(pipeline, text, sep=";") == pytest.approx(expected.tolist())
    assert predict_text(pipeline, text, sep=";", decimal=",") == pytest.approx(expected.tolist())


def test_currencies_and_thousands(tmp_path: Path) -> None:
    model = a_model(number("a", thousands=".", decimal=",", affix="€"), number("b", thousands=","))
    text = 'a;b\n"€1.234,5";"1,000"\n-€2;-3\n;\n'
    expected = model.predict(
        {**column("a", 1234.5, -2.0, math.nan), **column("b", 1000.0, -3.0, math.nan)}
    )
    found = predict_text(pipeline_of(model, tmp_path), text, sep=";", skip_blank_lines=False)
    assert found == pytest.approx(expected.tolist())


def test_numbers_in_parentheses(tmp_path: Path) -> None:
    model = a_model(number("a", thousands=",", affix="$", parentheses=True), number("b"))
    text = 'a,b\n"($1,234.50)",2\n$5,3\n$(7),4\n'
    expected = model.predict({**column("a", -1234.5, 5.0, -7.0), **column("b", 2.0, 3.0, 4.0)})
    found = predict_text(pipeline_of(model, tmp_path), text)
    assert found == pytest.approx(expected.tolist())


def test_full_stops_between_thousands_need_the_settings(tmp_path: Path) -> None:
    dialect = {"delimiter": ";", "decimal": ",", "thousands": "."}
    model = a_model(number("a", decimal=",", thousands="."), dialect=dialect)
    pipeline = pipeline_of(model, tmp_path)
    expected = model.predict(column("a", 1234.5, 2.0))
    text = "a;b\n1.234,5;1\n2;1\n"
    assert predict_text(pipeline, text, **pipeline.read_csv_) == pytest.approx(expected.tolist())
    with pytest.raises(ValueError, match=r"1\.234,5"):
        predict_text(pipeline, text, sep=";")


GERMAN = [
    "Datum;Kosten;Umsatz",
    *(f"{1 + n % 28:02}.{1 + n % 12:02}.2025;{n % 7 + 1}.{n * 37 % 1000:03},50;{n}.100,10"
      for n in range(60)),
]  # fmt: skip
# Beside them: words, codes with zeros and points, missing cells, a word for no value, numbers
# with a decimal point, whole numbers, a currency, parentheses around negative numbers.
GERMAN_MIXED = [
    GERMAN[0] + ";Ort;Kennung;Aktiv;Menge;Breite;Zahl;Preis;Saldo",
    *(
        line + f";{('Köln', 'Bonn', '')[n % 3]};{('007', '07', '1.234.5', '')[n // 3 % 4]}"
        f";{('ja', 'nein')[n // 2 % 2]};{('k.A.', '', '2.000,5', '17,25', '3.100')[n % 5]}"
        f";{48 + n / 1000:.3f};{n * 13};€{n % 8 + 1}.{n * 31 % 1000:03},00"
        f";{(f'(1.{n:03},5)', f'{n}.250')[n % 2]}"
        for n, line in enumerate(GERMAN[1:])
    ),
]


@pytest.mark.parametrize("lines", [GERMAN, GERMAN_MIXED], ids=["numbers", "mixed"])
@pytest.mark.parametrize("source_is_there", [True, False])
def test_german_files_as_pandas_reads_them(
    tmp_path: Path, regatta_home: Path, lines: list[str], source_is_there: bool
) -> None:
    table, gone = tmp_path / "rows.csv", tmp_path / "gone.csv"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    imported = data_pipeline.import_csv(table)
    prepared = data_pipeline.prepare(imported, target="Umsatz")
    kinds = {each.name: each.kind for each in prepared.preprocessing.columns}
    assert (kinds["Datum"], kinds["Kosten"]) == ("date", "number")
    weights = np.random.default_rng(0).normal(size=len(prepared.preprocessing.features))
    model = FittedModel(
        preprocessing=prepared.preprocessing, weights=weights, intercept=5.0, model="ridge",
        alpha=1.0, dialect=imported.dialect.to_json(), rows_train=prepared.rows_train,
    )  # fmt: skip
    out, script = tmp_path / "model.skops", tmp_path / "predict.py"
    for format, path in (("pipeline", out), ("snippet", script)):
        done = export_model(model, format, path, source=table if source_is_there else gone)
        assert done.rows_compared == (260 if source_is_there else 200)
    predict_file(model, table, tmp_path / "out.csv")
    expected = pd.read_csv(tmp_path / "out.csv")["prediction"].tolist()
    run = subprocess.run(
        [sys.executable, "-P", "-c", LOAD_WITHOUT_REGATTA, str(out), str(table)],
        capture_output=True, text=True, timeout=120, cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == pytest.approx(expected, rel=1e-9)
    predict = runpy.run_path(str(script))
    found = predict["predict"](pd.read_csv(table, **predict["READ_CSV"]))
    assert found.tolist() == pytest.approx(expected, rel=1e-9)


def test_dates_and_texts_are_read_as_they_stand(tmp_path: Path) -> None:
    source = tmp_path / "train.csv"
    source.write_text(" day ;code;code;on;a;y\n01.02.2023;1.5;007;ja;1.000,5;1\n")
    model = a_model(
        date("day", "%d.%m.%Y"), category("code", "1.5"), category("code_2", "007"),
        boolean("on", "nein", "ja"), number("a", thousands=".", decimal=","),
        dialect={
            "delimiter": ";", "decimal": ",", "thousands": ".",
            "names": ["day", "code", "code_2", "on", "a", "y"],
        },
    )  # fmt: skip
    pipeline = pipeline_of(model, tmp_path, source)
    assert pipeline.read_csv_["dtype"] == dict.fromkeys([" day ", "code", "code.1", "on"], "str")
    frame = pd.read_csv(source, **pipeline.read_csv_)
    assert frame.iloc[0].tolist() == ["01.02.2023", "1.5", "007", "ja", 1000.5, 1]
    without = frame.drop(columns="y").to_csv(sep=";", decimal=",", index=False)
    found = predict_text(pipeline, without, **pipeline.read_csv_)  # a file without the target
    assert found == pytest.approx(pipeline.predict(frame).tolist())


def test_a_file_that_pandas_cannot_read_is_told_in_one_sentence(tmp_path: Path) -> None:
    source = tmp_path / "train.csv"
    source.write_text("a,town,y\n1,Köln,2\n3,Bonn,4\n", encoding="utf-8")
    model = a_model(
        number("a"), category("town", "Bonn", "x"),
        dialect={"encoding": "ascii", "names": ["a", "town", "y"]},
    )  # fmt: skip
    for format in ("pipeline", "snippet"):
        with pytest.raises(RegattaError) as caught:
            export_model(model, format, tmp_path / "out", source=source)
        assert caught.value.message == (
            "pandas cannot read 'train.csv' with the options of the export."
        )
        assert "json and onnx" in caught.value.hint
    assert [each.name for each in tmp_path.iterdir()] == ["train.csv"]
    export_model(model, "json", tmp_path / "out", source=source)


@pytest.mark.filterwarnings("ignore:Parsing integer or float values")
def test_a_pipeline_that_takes_no_row_is_told_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "train.csv"
    source.write_text("day\n01.02.2023\n02.02.2023\n")
    model = a_model(date("day", "%d.%m.%Y"), dialect={"names": ["day"]})
    damaged = {"thousands": ".", "dtype": {}}
    monkeypatch.setattr(check_rows, "read_csv_options", lambda *_: damaged)
    with pytest.raises(RegattaError, match="cannot read the cells of its own columns") as caught:
        export_model(model, "pipeline", tmp_path / "out.skops", source=source)
    assert "%d" not in str(caught.value)
    monkeypatch.setattr(check_rows, "sample_frame", lambda *_: pd.DataFrame({"day": ["?"] * 200}))
    monkeypatch.setattr(check_rows, "sample_columns", lambda *_: {"day": np.full(200, np.nan)})
    with pytest.raises(RegattaError, match=r"cannot use 'train.csv' as pandas reads it") as caught:
        export_model(model, "pipeline", tmp_path / "out.skops", source=source)
    assert "json and onnx" in caught.value.hint
    assert not (tmp_path / "out.skops").exists()


def test_an_unknown_word_among_numbers_is_an_error_not_a_number(tmp_path: Path) -> None:
    pipeline = pipeline_of(a_model(number("a"), number("b", missing=("?",))), tmp_path)
    for text in ("a,b\nmany,1\n", "a,b\n1,many\n"):
        with pytest.raises(ValueError, match="many"):
            predict_text(pipeline, text)


def test_dates_with_a_zone_and_before_1970(tmp_path: Path) -> None:
    model = a_model(date("t", "ISO8601"))
    text = "t\n2020-02-03T04:05:06+02:00\n1960-01-01T00:00:00Z\n"
    seconds = column("t", 1580695506.0, -315619200.0)
    found = predict_text(pipeline_of(model, tmp_path), text)
    assert found == pytest.approx(model.predict(seconds).tolist(), rel=1e-9)


def test_names_and_words_with_blanks_as_they_stand_in_the_file(tmp_path: Path) -> None:
    source = tmp_path / "train.csv"
    source.write_text(" bmi ,y, sex\n1.5,1, male\n2.5,2, female \n,3,male\n")
    columns = (number("bmi"), category("sex", "female", "male"))
    model = a_model(*columns, dialect={"names": ["bmi", "y", "sex"]})
    pipeline = pipeline_of(model, tmp_path, source)
    assert list(pipeline["columns"].feature_names_in_) == [" bmi ", " sex"]
    sexes = column("sex", "male", "female", "male")
    expected = model.predict({**column("bmi", 1.5, 2.5, math.nan), **sexes})
    assert pipeline.predict(pd.read_csv(source)) == pytest.approx(expected)


def test_names_that_regatta_and_pandas_repair_differently(tmp_path: Path) -> None:
    source = tmp_path / "train.csv"
    source.write_text("a,a,,y\n1,2,3,4\n5,6,7,8\n")
    columns = (number("a"), number("a_2"), number("column_2"))
    model = a_model(*columns, dialect={"names": ["a", "a_2", "column_2", "y"]})
    pipeline = pipeline_of(model, tmp_path, source)
    expected = model.predict(
        {**column("a", 1.0, 5.0), **column("a_2", 2.0, 6.0), **column("column_2", 3.0, 7.0)}
    )
    assert pipeline.predict(pd.read_csv(source)) == pytest.approx(expected)


def test_the_file_is_found_through_the_run(tmp_path: Path) -> None:
    source, run = tmp_path / "train.csv", tmp_path / "run"
    run.mkdir()
    source.write_text("a ,y\n1,1\n")
    a_model(number("a"), dialect={"names": ["a", "y"]}).save(run / "model.json")
    (run / "config.json").write_text(json.dumps({"path": str(source)}))
    export_model(run / "model.json", "sklearn", tmp_path / "m.skops")
    pipeline = skops.io.load(tmp_path / "m.skops", trusted=["numpy.dtype"])
    assert list(pipeline["columns"].feature_names_in_) == ["a "]
    source.unlink()
    export_model(run / "model.json", "sklearn", tmp_path / "m.skops")
    pipeline = skops.io.load(tmp_path / "m.skops", trusted=["numpy.dtype"])
    assert list(pipeline["columns"].feature_names_in_) == ["a"]


def test_json_is_enough_to_score_by_hand(tmp_path: Path) -> None:
    export_model(a_model(*MIXED), "json", tmp_path / "m.json")
    document = json.loads((tmp_path / "m.json").read_text())
    model = a_model(*MIXED)
    columns = sample_columns(model, rows=30, seed=2)
    for row, expected in enumerate(model.predict(columns)):
        total = document["intercept"]
        for each in document["columns"]:
            cell = columns[each["name"]][row]
            missing = cell is None or cell != cell
            for feature in each["features"]:
                if each["kind"] == "category":
                    word = "(missing)" if missing else cell
                    rest = word not in each["levels"]
                    value = float(feature["level"] is None if rest else feature["level"] == word)
                elif each["kind"] == "date":
                    days = (each["impute"] if missing else cell) / 86400
                    period, _, wave = feature["part"].rpartition("_")
                    turn = 2 * math.pi * days / DATE_PERIODS.get(period, 1.0)
                    value = {"sin": math.sin(turn), "cos": math.cos(turn)}.get(wave, days)
                else:
                    value = each["impute"] if missing else cell
                total += feature["weight"] * (value - feature["mean"]) / feature["scale"]
        assert total == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("format", ["sklearn", "json", "onnx", "snippet"])
def test_a_file_that_predicts_something_else_is_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    scaler = sklearn_pipeline._scaler
    monkeypatch.setattr(
        sklearn_pipeline, "_scaler", lambda features, rows: scaler(features[::-1], rows)
    )
    monkeypatch.setattr(
        export,
        "_feature_values",
        lambda column, cell, periods: iter([1.0] * len(column["features"])),
    )
    monkeypatch.setattr(onnx_graph, "SECONDS_A_DAY", 86_401.0)
    monkeypatch.setattr(python_snippet, "PREDICT_NUMBERS", "")
    columns = (
        number("a"),
        NumberEncoding("b", 0.0, (Feature("b", -7.0, 0.5),)),
        date("d", "%Y-%m-%d"),
    )
    out = tmp_path / "m"
    out.write_text("what was there before")
    with pytest.raises(RegattaError, match="predicts"):
        export_model(a_model(*columns), format, out)
    assert out.read_text() == "what was there before"
    assert len(list(tmp_path.iterdir())) == 1


def test_wrong_format_and_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pickle"):
        export_model(a_model(number("a")), "pickle", tmp_path / "m")
    with pytest.raises(UserError, match="folder"):
        export_model(a_model(number("a")), "json", tmp_path / "none" / "m")


@pytest.mark.parametrize(
    ("dialect", "options"),
    [
        ({}, {}),
        ({"delimiter": ",", "quote": '"', "encoding": "utf-8", "header": True}, {}),
        ({"delimiter": ";", "decimal": ","}, {"sep": ";", "decimal": ","}),
        ({"delimiter": " ", "runs": True}, {"sep": r"\s+"}),
        (
            {"header": False, "names": ["column_0", "column_1"]},
            {"header": None, "names": ["column_0", "column_1"]},
        ),
        ({"encoding": "cp1252"}, {"encoding": "cp1252"}),
        ({"comment": "#", "skip_rows": 4}, {"comment": "#"}),
        ({"comment": "//", "skip_rows": 4, "first_line": 6}, {"skiprows": 4}),
        (
            {"comment": "#", "skip_rows": 1, "first_line": 2, "names": ["a", "b"]},
            {"comment": "#", "header": None, "names": ["a", "b"]},
        ),
        ({"skip_rows": 2}, {"skiprows": 2}),
        ({"quote": "'", "escape": "\\"}, {"quotechar": "'", "escapechar": "\\"}),
        ({"padded": True}, {"skipinitialspace": True}),
    ],
)
def test_how_pandas_reads_such_a_file(dialect: dict[str, Any], options: dict[str, Any]) -> None:
    assert read_csv_options(a_model(number("a"), dialect=dialect)) == options
