"""A fitted model written down as an ONNX graph, from the cells of a table to the prediction.

    inputs, one a column, (rows, 1)
      numbers   float64, NaN where missing ─┐ Where(IsNaN)
      booleans  text ── LabelEncoder ── Gather of 0, 1 or the impute
      category  text ── LabelEncoder ── Gather of a row of indicators
      date      float64, seconds since 1970 ── days, Sin and Cos of their angle
                                            └─▶ x - mean ─▶ MatMul ─▶ + intercept

The graph is built node by node: converters from scikit-learn take neither texts with a level for
the rest nor dates. Imports `onnx`, which is in the extra of that name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from regatta.export.sklearn_pipeline import spellings
from regatta.fitted_model import FittedModel
from regatta.preprocessing import (
    DATE_PERIODS,
    MISSING_LEVEL,
    SECONDS_A_DAY,
    BooleanEncoding,
    CategoryEncoding,
    DateEncoding,
    Feature,
    NumberEncoding,
)
from regatta.utils import UserError

# Old enough for every runtime that is in use, new enough for all that is needed.
OPSET, ML_OPSET, IR_VERSION = 17, 2, 8
OUTPUT = "prediction"
ML_DOMAIN = "ai.onnx.ml"


def needs_onnx() -> UserError:
    """What to say where the extra is not installed."""
    return UserError(
        "ONNX needs the packages onnx and onnxruntime, which are not installed.",
        "`pip install 'regatta[onnx]'` installs them.",
    )


def build_graph(model: FittedModel, *, precision: str = "float64") -> Any:
    """The model as an ``onnx.ModelProto``.

    Parameters
    ----------
    precision : {"float64", "float32"}
        Of the inputs of numbers, the arithmetic and the output. Dates are float64 in any case: in
        float32, seconds since 1970 are only known to about two minutes.

    Raises
    ------
    UserError
        If the package `onnx` is not installed.
    """
    try:
        import onnx
    except ImportError:
        raise needs_onnx() from None
    graph = _Graph(onnx, model, precision)
    proto = onnx.helper.make_model(
        graph.build(),
        opset_imports=[
            onnx.helper.make_opsetid("", OPSET),
            onnx.helper.make_opsetid(ML_DOMAIN, ML_OPSET),
        ],
        ir_version=IR_VERSION,
        producer_name="regatta",
        producer_version=model.regatta_version,
        doc_string=f"Predicts {model.target!r}. Inputs, one a column, of shape (rows, 1): numbers "
        f"as {precision} with NaN where missing; dates as float64, seconds since 1970-01-01 UTC, "
        "NaN where missing; texts without blanks around them, '' where missing.",
    )
    kinds = {column.name: column.kind for column in model.preprocessing.columns}
    onnx.helper.set_model_props(
        proto,
        {"target": model.target, "run_id": model.run_id, "columns": json.dumps(kinds)},
    )
    onnx.checker.check_model(proto)
    return proto


def run_graph(
    data: bytes, model: FittedModel, columns: Mapping[str, npt.NDArray[Any]], precision: str
) -> npt.NDArray[np.float64]:
    """What onnxruntime predicts, from columns as `FittedModel.predict` takes them: (rows,)."""
    try:
        import onnxruntime
    except ImportError:
        raise needs_onnx() from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    (found,) = session.run([OUTPUT], graph_inputs(model, columns, precision))
    return np.asarray(found, dtype=np.float64).ravel()


def graph_inputs(
    model: FittedModel, columns: Mapping[str, npt.NDArray[Any]], precision: str
) -> dict[str, npt.NDArray[Any]]:
    """The inputs of the graph, from columns as `FittedModel.predict` takes them."""
    inputs: dict[str, npt.NDArray[Any]] = {}
    for column in model.preprocessing.columns:
        values = np.asarray(columns[column.name])
        if isinstance(column, CategoryEncoding):
            words = ["" if each is None or each != each else str(each) for each in values]
            values = np.array(words, dtype=object)
        elif isinstance(column, BooleanEncoding):
            said = {0.0: column.false, 1.0: column.true}
            values = np.array([said.get(each, "") for each in values.tolist()], dtype=object)
        elif isinstance(column, NumberEncoding):
            values = values.astype(precision)
        inputs[column.name] = values.reshape(-1, 1)
    return inputs


class _Graph:
    """One graph in the making. Names of its own begin with ``_prefix``, which no column's does."""

    def __init__(self, onnx: Any, model: FittedModel, precision: str) -> None:
        self._onnx = onnx
        self._model = model
        self._type = np.dtype(precision)
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._inputs: list[Any] = []
        # Of the features in their own units: onnxruntime fuses a division by one number into the
        # product that follows, and keeps the number in float32.
        coefficients = (model.weights / model.preprocessing.scales).tolist()
        self._weights = dict(zip(model.preprocessing.features, coefficients, strict=True))
        self._prefix = "/"
        while any(each.name.startswith(self._prefix) for each in model.preprocessing.columns):
            self._prefix += "/"

    def build(self) -> Any:
        """The graph: blocks of centred features side by side, times the coefficients."""
        blocks, features = [], list[Feature]()
        for block, of_block in self._blocks():
            blocks.append(self._centred(block, of_block))
            features += of_block
        matrix = self._add("Concat", *blocks, axis=1) if len(blocks) > 1 else blocks[0]
        weights = self._constant([[self._weights[each]] for each in features], self._type)
        product = self._add("MatMul", matrix, weights)
        intercept = self._constant([self._model.intercept], self._type)
        self._add("Add", product, intercept, name=self._output)
        helper = self._onnx.helper
        kind = helper.np_dtype_to_tensor_dtype(self._type)
        output = helper.make_tensor_value_info(OUTPUT, kind, ["rows", 1])
        return helper.make_graph(self._nodes, "regatta", self._inputs, [output], self._constants)

    @property
    def _output(self) -> str:
        if any(each.name == OUTPUT for each in self._model.preprocessing.columns):
            raise UserError(
                f"A column is called {OUTPUT!r}, as the output of the graph is.",
                "Give it another name in the file, and train again.",
            )
        return OUTPUT

    def _blocks(self) -> list[tuple[str, list[Feature]]]:
        """The raw features: all numbers in one block, every other column in one of its own."""
        columns = self._model.preprocessing.columns
        numbers = [each for each in columns if isinstance(each, NumberEncoding)]
        blocks = [(self._numbers(numbers), [f for each in numbers for f in each.features])]
        for column in columns:
            match column:
                case BooleanEncoding():
                    blocks.append((self._boolean(column), list(column.features)))
                case CategoryEncoding():
                    blocks.append((self._category(column), list(column.features)))
                case DateEncoding():
                    blocks.append((self._date(column), list(column.features)))
        return blocks if numbers else blocks[1:]

    def _numbers(self, columns: Sequence[NumberEncoding]) -> str:
        if not columns:
            return ""
        names = [self._input(each.name, self._type) for each in columns]
        values = self._add("Concat", *names, axis=1) if len(names) > 1 else names[0]
        return self._imputed(values, [each.impute for each in columns], self._type)

    def _boolean(self, column: BooleanEncoding) -> str:
        words = dict.fromkeys(spellings(column.false), 0)
        words |= dict.fromkeys(spellings(column.true), 1)
        return self._looked_up(column.name, words, [[0.0], [1.0], [column.impute]])

    def _category(self, column: CategoryEncoding) -> str:
        """A row of indicators for each level, and the last for all that is no level."""
        count, width = len(column.levels), len(column.features)
        table = np.zeros((count + 1, width))
        table[:count, :count] = np.eye(count)
        if column.other:
            table[count, count] = 1.0
        words = {level: place for place, level in enumerate(column.levels)}
        missing = words.get(MISSING_LEVEL, count)
        for word in ("", *column.missing):
            words.setdefault(word, missing)
        return self._looked_up(column.name, words, table.tolist())

    def _looked_up(
        self, name: str, words: Mapping[str, int], table: Sequence[Sequence[float]]
    ) -> str:
        """The row of a table for each word; the last row for every other word."""
        place = self._add(
            "LabelEncoder",
            self._input(name, np.dtype(object)),
            domain=ML_DOMAIN,
            keys_strings=list(words),
            values_int64s=list(words.values()),
            default_int64=len(table) - 1,
        )
        flat = self._add("Reshape", place, self._constant([-1], np.dtype(np.int64)))
        return self._add("Gather", self._constant(table, self._type), flat, axis=0)

    def _date(self, column: DateEncoding) -> str:
        double = np.dtype(np.float64)
        seconds = self._imputed(self._input(column.name, double), [column.impute], double)
        days = self._add("Div", seconds, self._constant([SECONDS_A_DAY], double))
        parts = [self._date_part(days, str(each.part)) for each in column.features]
        return self._add("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]

    def _date_part(self, days: str, part: str) -> str:
        if part == "trend":
            return days
        double = np.dtype(np.float64)
        period, wave = part.split("_")
        # The whole turns are taken off first: a sine loses digits far from zero.
        rest = self._add("Mod", days, self._constant([DATE_PERIODS[period]], double), fmod=1)
        turn = self._constant([2 * math.pi / DATE_PERIODS[period]], double)
        return self._add("Sin" if wave == "sin" else "Cos", self._add("Mul", rest, turn))

    def _imputed(self, values: str, imputes: Sequence[float], dtype: Any) -> str:
        missing = self._add("IsNaN", values)
        return self._add("Where", missing, self._constant([imputes], dtype), values)

    def _centred(self, block: str, features: Sequence[Feature]) -> str:
        is_date = features[0].part is not None
        dtype = np.dtype(np.float64) if is_date else self._type
        means = self._constant([[each.mean for each in features]], dtype)
        found = self._add("Sub", block, means)
        if dtype == self._type:
            return found
        return self._add("Cast", found, to=self._onnx.helper.np_dtype_to_tensor_dtype(self._type))

    def _input(self, name: str, dtype: Any) -> str:
        helper = self._onnx.helper
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self._inputs.append(helper.make_tensor_value_info(name, kind, ["rows", 1]))
        return name

    def _constant(self, values: Any, dtype: Any) -> str:
        name = f"{self._prefix}constant_{len(self._constants)}"
        array = np.asarray(values, dtype=dtype)
        self._constants.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def _add(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        output = name or f"{self._prefix}{operator}_{len(self._nodes)}"
        make = self._onnx.helper.make_node
        self._nodes.append(make(operator, list(inputs), [output], name=output, **attributes))
        return output
