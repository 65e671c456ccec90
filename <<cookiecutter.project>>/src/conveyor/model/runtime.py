"""How a model answers: in the first of these forms whose answers equal the original's within model.tolerance.

    compiled    ONNX, made in training, see compiled/convert.py; in the bundle as model.onnx
    arrays      the stored pipeline on one array of objects (n x features), without a data frame
    frame       the stored pipeline on a data frame, as in training

Training chooses the form, see choice.py. This module needs only NumPy; each form imports its own library.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from conveyor.core.errors import Misuse, Refused
from conveyor.model.bundle import Bundle
from conveyor.model.rows import Rows, kind_of

if TYPE_CHECKING:
    import pandas as pd

Answer = Callable[[Rows], NDArray[np.float64]]
FORMS = ("compiled", "arrays", "frame")
UNSEEN = "\x00never seen"
MISSING = "nan"  # stands for a missing text in a compiled encoder
TOLD = {None: MISSING, MISSING: UNSEEN}  # so a text that equals this word is passed on as an unseen one
RETOLD = frozenset(TOLD)


def predict(model: Any, rows: Any, task: str = "binary", classes: int = 2) -> NDArray[np.float64]:
    """The predictions of a fitted pipeline.

    Returns:
        binary: the probability of the positive class (n,); multiclass: of each class (n x classes), zero for a class
        that was missing in training; regression: the number (n,).

    Raises:
        Misuse: the model returns an array of another shape.
    """
    if task == "regression":
        said = np.asarray(model.predict(rows), dtype=np.float64)
        if said.shape != (rows.shape[0],):
            raise Misuse(f"predict gives an array {said.shape}, not {(rows.shape[0],)}: a number for each row")
        return said
    given = np.asarray(model.predict_proba(rows), dtype=np.float64)
    known = np.asarray(model.classes_, dtype=np.int64)
    if given.shape != (rows.shape[0], len(known)) or (task == "binary" and len(known) != 2):
        wanted = (rows.shape[0], 2 if task == "binary" else len(known))
        raise Misuse(f"predict_proba gives an array {given.shape}, not {wanted}: each class in each row")
    if task == "binary":
        return given[:, 1]
    every = np.zeros((rows.shape[0], classes))
    every[:, known] = given
    return every


# The forms


def compiled(content: bytes, features: dict[str, str], task: str) -> Answer:
    """A model in ONNX, on one thread: more requests at a time need more processes.

    It has one input for all columns of a kind, or one for each column. Its numbers have 64 bits, or 32 in older models.
    """
    # By default it sends telemetry and keeps a database in the home directory; this must be set before the import.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # the caller reports its exceptions
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    joined = session.get_modelmeta().custom_metadata_map
    every = tuple(name for name, dtype in features.items() if kind_of(dtype) == "number")
    inputs = []
    for wanted in session.get_inputs():
        columns = tuple(json.loads(joined[wanted.name])) if wanted.name in joined else (wanted.name,)
        numbers = set(columns) <= set(every)
        bits = np.float32 if wanted.type == "tensor(float)" else np.float64
        inputs.append((wanted.name, columns, numbers, wanted.type == "tensor(string)", bits))
    outputs, run = [session.get_outputs()[-1].name], session.run

    def answer(rows: Rows) -> NDArray[np.float64]:
        feed = {}
        for name, columns, numbers, text, bits in inputs:
            if numbers:
                whole = rows.numbers if columns == rows.names else rows.numbers[:, list(map(rows.names.index, columns))]
                feed[name] = whole.astype(bits, copy=False)
                continue
            cells = np.empty((len(columns), len(rows)), dtype=object if text else bits)
            for place, column in enumerate(columns):
                values = rows.others[column]
                if text and not RETOLD.isdisjoint(values):
                    values = [TOLD.get(value, value) for value in values]
                cells[place] = values
            feed[name] = cells.T
        said: NDArray[np.float64] = run(outputs, feed)[0].astype(np.float64, copy=False)
        return said[:, 1] if task == "binary" else said.ravel() if task == "regression" else said

    return answer


def arrays(model: Any, features: dict[str, str], task: str, classes: int) -> Answer:
    """A fitted pipeline on an array: columns are found by position, and the steps are called one by one.

    A transformer that was fitted to a data frame would look for names, or warn that there are none, at every request.
    For a single row a ColumnTransformer's own overhead takes as long as its transformers.
    """
    from sklearn.pipeline import Pipeline

    model = copy.deepcopy(model)
    names = list(getattr(model, "feature_names_in_", features))  # in the order of the training rows
    _by_place(model)
    *before, (_, last) = model.steps if type(model) is Pipeline else [("", model)]
    steps = [_transform(step) for _, step in before]
    # A missing value is None in a column of objects, as in training, and NaN in any other column.
    gaps = [None if features[name] == "object" else np.nan for name in names]

    def answer(rows: Rows) -> NDArray[np.float64]:
        cells: Any = np.empty((len(rows), len(names)), dtype=object)
        for place, (name, gap) in enumerate(zip(names, gaps, strict=True)):
            if name in rows.others:
                cells[:, place] = [gap if value is None else value for value in rows.others[name]]
            else:
                cells[:, place] = rows.number(name)
        for step in steps:
            cells = step(cells)
        return predict(last, cells, task, classes)

    return answer


def _by_place(estimator: Any) -> None:
    """Remove the column names from an estimator that was fitted to a data frame; its columns are then positions."""
    names = list(vars(estimator).pop("feature_names_in_", []))

    def place(columns: Any) -> Any:
        if isinstance(columns, str):
            return names.index(columns)
        return [names.index(c) if isinstance(c, str) else c for c in columns] if isinstance(columns, list) else columns

    if hasattr(estimator, "transformers_"):
        estimator.transformers_ = [(name, inner, place(columns)) for name, inner, columns in estimator.transformers_]
    for _, inner, *_ in [*getattr(estimator, "steps", []), *getattr(estimator, "transformers_", [])]:
        if hasattr(inner, "__dict__"):
            _by_place(inner)


def _transform(estimator: Any) -> Callable[[Any], Any]:
    """A fitted transformer as a function of arrays: a pipeline step by step, dense columns part by part."""
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline

    if type(estimator) is Pipeline:
        steps = [_transform(step) for _, step in estimator.steps]
        return lambda cells: reduce(lambda made, step: step(made), steps, cells)
    if type(estimator) is ColumnTransformer and not estimator.sparse_output_ and not estimator.transformer_weights:
        used = [part for part in estimator.transformers_ if np.size(part[2]) and part[1] != "drop"]
        parts = [(_transform(inner), columns) for _, inner, columns in used]
        return lambda cells: np.hstack([_dense(part(cells[:, columns])) for part, columns in parts])
    return (lambda cells: cells) if isinstance(estimator, str) else estimator.transform


def _dense(cells: Any) -> Any:
    return cells.toarray() if hasattr(cells, "toarray") else cells


def frame(model: Any, features: dict[str, str], task: str, classes: int) -> Answer:
    """A fitted pipeline on a data frame with the columns and types of the training rows."""
    import pandas as pd

    def series(values: Any, dtype: str, fit: bool) -> pd.Series:
        if kind_of(dtype) == "time":
            times = pd.to_datetime(pd.Series(values, dtype=object), format="ISO8601", utc=True)
            return (times if "," in dtype else times.dt.tz_localize(None)).astype(dtype)
        if not fit:  # the types that pandas gives to truth values and whole numbers with a missing one
            return pd.Series(values, dtype=object if dtype == "bool" else np.float64)
        return pd.Series(values, dtype=np.float64).astype(dtype) if dtype in exact else pd.Series(values, dtype=dtype)

    # One unfitting value changes the type of its whole column: rows are grouped by the columns in which they fit.
    exact = {dtype for dtype in features.values() if dtype == "bool" or dtype.startswith(("int", "uint"))}
    strict = [name for name, dtype in features.items() if dtype in exact]

    def answer(rows: Rows) -> NDArray[np.float64]:
        columns = {name: _column(rows, name) for name in features}
        fit = np.array([fits(columns[name], features[name]) for name in strict]).reshape(len(strict), len(rows)).T
        kinds, of = np.unique(fit, axis=0, return_inverse=True) if strict else (fit[:1], np.zeros(len(rows), int))
        said = np.empty((len(rows), classes) if task == "multiclass" else len(rows))
        for number, kind in enumerate(kinds):
            places = np.flatnonzero(of.ravel() == number)
            keeps = dict(zip(strict, kind, strict=True))
            asked = {n: series(columns[n][places], dtype, keeps.get(n, True)) for n, dtype in features.items()}
            said[places] = predict(model, pd.DataFrame(asked), task, classes)
        return said

    return answer


def _column(rows: Rows, name: str) -> NDArray[Any]:
    if name not in rows.others:
        return rows.number(name)
    cells = np.empty(len(rows), dtype=object)
    cells[:] = rows.others[name]
    return cells


def fits(values: NDArray[Any], dtype: str) -> NDArray[np.bool_]:
    """Which of these values fit a column of truth values or whole numbers without changing its type."""
    if dtype == "bool":
        return np.array([value is not None for value in values])
    limits = np.iinfo(dtype)
    found: NDArray[np.bool_] = (values % 1 == 0) & (limits.min <= values) & (values < limits.max)
    return found


def apart(said: NDArray[np.float64], should: NDArray[np.float64], largest: float = np.inf) -> float:
    """The largest difference between two arrays of answers; infinite if one is not a number.

    Args:
        largest: for an answer above it, the difference counts proportionally less.
    """
    if said.shape != should.shape:
        raise Misuse(f"answers have the shape {said.shape}, not {should.shape}")
    difference = np.abs(said - should) / np.maximum(1.0, np.abs(should) / largest)
    return float(difference.max()) if np.isfinite(difference).all() else float("inf")


# A stored model at work


def load(bundle: Bundle, trusted_types: tuple[str, ...], tolerance: float) -> tuple[str, Answer]:
    """The form of a bundle's model and the function that answers.

    An old bundle records no form: then it is arrays if that gives the golden answers, else a frame.

    Raises:
        Misuse: the bundle is damaged, or holds a type that is not on the list.
    """
    asked, features = bundle.asked, bundle.features
    task, classes = asked["task"], len(asked["classes"])
    recorded = bundle.form
    if recorded == "compiled":
        return recorded, compiled(bundle.file("model.onnx"), features, task)
    model = bundle.load_model(trusted_types)
    if recorded == "frame":
        return recorded, frame(model, features, task, classes)
    answer = arrays(model, features, task, classes)
    if recorded is None:
        try:
            golden(bundle, answer, tolerance)
        except Exception:
            # On arrays the model raised, or answered otherwise: use a data frame.
            return "frame", frame(model, features, task, classes)
    return "arrays", answer


def golden(bundle: Bundle, answer: Answer, tolerance: float) -> float:
    """The largest difference between the answers and the golden ones of the bundle.

    Raises:
        Refused: it is above ``tolerance``.
    """
    kept = bundle.golden
    rows = Rows.of({name: [row.get(name) for row in kept["rows"]] for name in bundle.features}, bundle.features)
    difference = apart(answer(rows), np.asarray(kept["answers"], dtype=np.float64))
    if difference > tolerance:
        raise Refused(
            f"{bundle.path.name}: the golden rows are answered with a difference of {difference:.2g}, more than"
            f" {tolerance:g}; serve it with the libraries of its lock"
        )
    return difference
