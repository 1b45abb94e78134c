"""Exports and predictions on real files: every row of each, with weights drawn at random."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io

from regatta import data_pipeline
from regatta.export import export_model, scoring_document
from regatta.export.check_rows import CheckRows
from regatta.fitted_model import FittedModel
from regatta.prediction import predict_file

# Files that pandas reads as they are, without being told how.
PLAIN = {
    "california_housing.csv",
    "bike_sharing_hour.csv",
    "diamonds.csv",
    "insurance.csv",
    "life_expectancy.csv",
    "nycflights_sample.csv",
    "consumo_cerveja.csv",
    "appliances_energy_testing.csv",
    "penguins.csv",
    "tecator_meats.csv",
    "power_plant.csv",
}
OTHER = {
    "auto_mpg.data",
    "winequality_all_commented.csv",
    "abalone.data",
    "student_mat.csv",
    "protein_casp.txt",
    "beijing_air_quality.csv.gz",
    "nki_breast_cancer.csv",
}
SLOW = {
    "beijing_air_quality.csv.gz",
    "nki_breast_cancer.csv",
    "nycflights_sample.csv",
    "diamonds.csv",
    "bike_sharing_hour.csv",
    "protein_casp.txt",
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
        for name in sorted(PLAIN | OTHER)
    ],
)
def test_the_pipeline_predicts_what_regatta_predicts(
    data_dir: Path, regatta_home: Path, tmp_path: Path, name: str
) -> None:
    cases = {case["file"]: case for case in json.loads((data_dir / "reference.json").read_text())}
    path = data_dir / "regression" / name
    model = with_random_weights(path, cases[name])
    done = export_model(model, "sklearn", tmp_path / "m.skops", source=path)
    pipeline = skops.io.load(tmp_path / "m.skops", trusted=list(done.trusted_types))
    predict_file(model, path, tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        expected = np.array([float(row[-1]) for row in list(csv.reader(file))[1:]])
    for options in [pipeline.read_csv_, *([{}] if name in PLAIN else [])]:
        frame = pd.read_csv(path, low_memory=False, **options)
        found = pipeline.predict(frame)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    rows = CheckRows(model, path)
    for form in ("json", "onnx", "snippet"):
        done = export_model(model, form, tmp_path / f"m.{form}", rows=rows)
        assert done.largest_difference < 1e-9
        assert done.rows_compared > 200  # rows of the file among them
    assert len(scoring_document(model)["columns"]) == len(model.preprocessing.columns)


def with_random_weights(path: Path, case: dict[str, Any]) -> FittedModel:
    table = data_pipeline.import_csv(path)
    prepared = data_pipeline.prepare(table, target=case["target"], drop=case["drop"])
    weights = np.random.default_rng(0).normal(size=len(prepared.preprocessing.features))
    return FittedModel(
        preprocessing=prepared.preprocessing,
        weights=weights,
        intercept=5.0,
        model="ridge",
        alpha=1.0,
        dialect=table.dialect.to_json(),
        rows_train=prepared.rows_train,
    )
