"""How a model answers: in the first of these forms that says what the original says, within model.tolerance.

    compiled    ONNX, made by skl2onnx when the model is trained and kept in the bundle as model.onnx
    arrays      the stored pipeline on one array of objects (n x features), without a data frame
    frame       the stored pipeline on a data frame, as it was trained

Training finds out which, on all holdout rows, on some of them with the values of each column missing or unseen, and on
a few of them alone.
This module needs NumPy alone; each form brings in its own library.
"""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .bundle import Bundle
from .errors import Misuse, Refused, at_fault

if TYPE_CHECKING:
    import pandas as pd

Rows = dict[str, list[Any]]  # the values of each column; None: missing
Answer = Callable[[Rows], NDArray[np.float64]]
FORMS = ("compiled", "arrays", "frame")
PROBES = 200  # holdout rows that are asked again without a value, column by column
ALONE = 5  # holdout rows that are asked one by one
UNSEEN = "\x00never seen"
MISSING = "nan"  # a compiled encoder knows a missing text by this word
TOLD = {None: MISSING, MISSING: UNSEEN}  # so a text that is this word is told it as one that nobody has seen


def predict(model: Any, rows: Any, task: str = "binary", classes: int = 2) -> NDArray[np.float64]:
    """What a fitted pipeline says of each row.

    Returns:
        binary: the probability of the positive class (n,); multiclass: of each class (n x classes), zero for one that
        was not there to learn; regression: the number (n,).

    Raises:
        Misuse: the model gives an array of another shape.
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


def kind_of(dtype: str) -> str:
    """What the values of a column are: number, truth, time or text."""
    if dtype.startswith("bool"):
        return "truth"
    if dtype.startswith("datetime64"):
        return "time"
    return "number" if dtype.lower().startswith(("int", "uint", "float")) else "text"


def rows_of(frame: pd.DataFrame) -> Rows:
    """The values of a data frame as a request brings them: numbers as floats, times as ISO 8601, None for a gap."""
    found = {}
    for name, values in frame.items():
        cells = values.astype(object).tolist()
        if kind_of(str(values.dtype)) == "number":
            cells = values.to_numpy(dtype=np.float64, na_value=np.nan).tolist()
        elif kind_of(str(values.dtype)) == "time":
            cells = [cell.isoformat() for cell in cells]
        found[name] = [None if gap else cell for gap, cell in zip(values.isna().tolist(), cells, strict=True)]
    return found


# The forms


def convert(fitted: Any, features: dict[str, str], task: str, classes: int) -> bytes:
    """A fitted pipeline as ONNX: an input (n x 1) for each column, texts as strings and numbers as 32-bit floats.

    Raises:
        Misuse: a column is of a kind, or the model of a shape, that has no such input or answer.
        Exception: skl2onnx knows no way to convert it.
    """
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    types = {"number": FloatTensorType, "text": StringTensorType}
    for name, dtype in features.items():
        if kind_of(dtype) not in types:
            raise Misuse(f"column {name!r} is of type {dtype}, which is neither a number nor text")
    if task != "regression" and len(fitted.classes_) != classes:
        raise Misuse("a class was not there to learn")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # hints of the converter at its own source
        made = convert_sklearn(
            fitted,
            name="model",
            initial_types=[(name, types[kind_of(dtype)]([None, 1])) for name, dtype in features.items()],
            options=None if task == "regression" else {"zipmap": False},
            custom_conversion_functions=dict.fromkeys(
                (HistGradientBoostingClassifier, HistGradientBoostingRegressor), _convert_boosting
            ),
        )
    return made.SerializeToString()


class _WholeNumbers:
    """A container of ONNX nodes whose attributes hold whole numbers where skl2onnx writes truth values."""

    def __init__(self, container: Any) -> None:
        self._container = container

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def add_node(self, *what: Any, **attributes: Any) -> None:
        for name, values in attributes.items():
            if isinstance(values, list):
                attributes[name] = [int(value) if isinstance(value, bool | np.bool_) else value for value in values]
        self._container.add_node(*what, **attributes)


def _convert_boosting(scope: Any, operator: Any, container: Any) -> None:
    """skl2onnx's own converter: its truth values for the side of a missing number are what protobuf refuses."""
    from skl2onnx.operator_converters import random_forest

    kind = "classifier" if hasattr(operator.raw_operator, "classes_") else "regressor_converter"
    getattr(random_forest, f"convert_sklearn_random_forest_{kind}")(scope, operator, _WholeNumbers(container))


def compiled(content: bytes, features: dict[str, str], task: str) -> Answer:
    """What ``convert`` made, at work on one thread: requests are served side by side by processes."""
    # Unless told otherwise before it is imported, it reports home and keeps a database in the home directory.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what it raises is told by whoever asked
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    inputs = [(wanted.name, kind_of(features[wanted.name]) == "text") for wanted in session.get_inputs()]
    outputs = [session.get_outputs()[-1].name]

    def answer(rows: Rows) -> NDArray[np.float64]:
        feed = {}
        for name, text in inputs:
            values = rows[name]
            if text:
                cells = np.array([TOLD.get(value, value) for value in values], dtype=object)
            else:
                cells = np.array(values, dtype=np.float32)  # None becomes NaN
            feed[name] = cells.reshape(-1, 1)
        said = session.run(outputs, feed)[0].astype(np.float64)
        return said[:, 1] if task == "binary" else said.ravel() if task == "regression" else said

    return answer


def arrays(model: Any, features: dict[str, str], task: str, classes: int) -> Answer:
    """A fitted pipeline on an array: its columns are named by their place, and its steps are called one by one.

    A transformer that was fitted to a data frame would look for names, or warn that there are none, at every request;
    and of a single row a ColumnTransformer's own bookkeeping takes as long as its transformers.
    """
    from sklearn.pipeline import Pipeline

    model = copy.deepcopy(model)
    names = list(getattr(model, "feature_names_in_", features))  # in the order of the training rows
    _by_place(model)
    *before, (_, last) = model.steps if type(model) is Pipeline else [("", model)]
    steps = [_transform(step) for _, step in before]
    # A column of objects has None for a gap, as it had in training; any other one NaN.
    gaps = [None if features[name] == "object" else np.nan for name in names]

    def answer(rows: Rows) -> NDArray[np.float64]:
        cells: Any = np.empty((len(rows[names[0]]), len(names)), dtype=object)
        for place, (name, gap) in enumerate(zip(names, gaps, strict=True)):
            cells[:, place] = [gap if value is None else value for value in rows[name]]
        for step in steps:
            cells = step(cells)
        return predict(last, cells, task, classes)

    return answer


def _by_place(estimator: Any) -> None:
    """What was fitted to a data frame forgets the names of its columns, and finds them by their place instead."""
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
    """What a fitted transformer does to an array: a pipeline step by step, dense columns part by part."""
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
    """A fitted pipeline on a data frame with the columns and the types of its training rows."""
    import pandas as pd

    def series(values: list[Any], dtype: str, fit: bool) -> pd.Series:
        if kind_of(dtype) == "time":
            times = pd.to_datetime(pd.Series(values, dtype=object), format="ISO8601", utc=True)
            return (times if "," in dtype else times.dt.tz_localize(None)).astype(dtype)
        if not fit:  # as pandas reads truth values, and whole numbers, with a gap
            return pd.Series(values, dtype=object if dtype == "bool" else np.float64)
        return pd.Series(values, dtype=np.float64).astype(dtype) if dtype in exact else pd.Series(values, dtype=dtype)

    # One value that does not fit makes all of its column another type: rows are asked beside their like alone.
    exact = {dtype for dtype in features.values() if dtype == "bool" or dtype.startswith(("int", "uint"))}

    def answer(rows: Rows) -> NDArray[np.float64]:
        fits = {name: [_fits(v, dtype) for v in rows[name]] for name, dtype in features.items() if dtype in exact}
        kinds: dict[tuple[bool, ...], list[int]] = {}
        for place in range(len(next(iter(rows.values())))):
            kinds.setdefault(tuple(column[place] for column in fits.values()), []).append(place)
        said = {}
        for kind, places in kinds.items():
            fit = dict(zip(fits, kind, strict=True))
            asked = {n: series([rows[n][p] for p in places], dtype, fit.get(n, True)) for n, dtype in features.items()}
            said |= dict(zip(places, predict(model, pd.DataFrame(asked), task, classes), strict=True))
        return np.array([said[place] for place in range(len(said))])

    return answer


def _fits(value: Any, dtype: str) -> bool:
    """Whether a column of truth values or whole numbers stays one with this value."""
    if value is None or dtype == "bool":
        return value is not None
    limits = np.iinfo(dtype)
    return value % 1 == 0 and limits.min <= value < limits.max


# Which form


@dataclass(frozen=True)
class Chosen:
    """The form in which a model is served.

    Attributes:
        form: compiled, arrays or frame.
        difference: the largest absolute difference to the original on all rows that were asked.
        why: why no faster form was taken, or None.
        onnx: the compiled model, or None.
        missing: the columns that the model answers without.
        closed: the columns of which it answers no text but those that it has seen.
    """

    form: str
    difference: float
    why: str | None
    onnx: bytes | None
    missing: tuple[str, ...]
    closed: tuple[str, ...]


def choose(
    fitted: Any,
    held_out: pd.DataFrame,
    predicted: NDArray[np.float64],
    asked: dict[str, Any],
    tolerance: float,
) -> Chosen:
    """The first form that answers as the original does.

    Args:
        fitted: the pipeline as it was loaded from its stored bytes.
        held_out: the features of the holdout (n x features).
        predicted: what the original says of them, as ``predict`` gives it.
        asked: task, target and classes.
        tolerance: the largest absolute difference that is allowed.

    Raises:
        Misuse: not even a data frame brings the answers back, or a row is answered otherwise beside others than alone.
    """
    features = {name: str(dtype) for name, dtype in held_out.dtypes.items()}
    task, classes = asked["task"], len(asked["classes"])
    questions, missing, closed = [(rows_of(held_out), predicted)], [], []
    for place in range(min(ALONE, len(held_out))):
        row = held_out.iloc[[place]]
        try:
            said = predict(fitted, row, task, classes)
        except Exception as error:
            # It answered all rows at once; of one alone the user's own code raises what it likes.
            raise at_fault(error, Path(__file__).with_name("model.py"), "a row alone must be answered, too") from error
        difference = apart(said, predicted[[place]])
        if difference > tolerance:
            told = f"model.py: a row alone is answered otherwise than beside others, by {difference:.2g}"
            raise Misuse(f"{told}; let its answer depend on nothing but the row")
        questions.append((rows_of(row), said))
    for name, what, rows in probes(held_out):
        try:
            said = predict(fitted, rows, task, classes)
            sound = bool(np.isfinite(said).all())
        except Exception:
            # A model need not answer this, and what it raises instead is up to it: then no form is asked either.
            sound = False
        if sound:
            questions.append((rows_of(rows), said))
            missing += [name] if what == "missing" else []
        elif what == "unseen":
            closed.append(name)
    content, reasons = None, []
    for form in FORMS:
        try:
            if form == "compiled":
                content = convert(fitted, features, task, classes)
                answer = compiled(content, features, task)
            else:
                answer = {"arrays": arrays, "frame": frame}[form](fitted, features, task, classes)
            difference = max(apart(answer(rows), said) for rows, said in questions)
        except Exception as error:
            # A converter or a model that does not take this form raises what it likes: the next form is tried.
            reasons.append(f"{form}: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
            continue
        if difference <= tolerance:
            onnx = content if form == "compiled" else None
            return Chosen(form, difference, "; ".join(reasons) or None, onnx, tuple(missing), tuple(closed))
        reasons.append(f"{form}: differs by {difference:.2g}, more than model.tolerance {tolerance:g}")
    raise Misuse(f"model.py: the stored model does not answer as it did in training ({reasons[-1]}); mend it")


def probes(held_out: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Some rows again, with other values in one column after the other: its name, what they are, and the rows.

    They are missing; of a text also unseen, and the word that a compiled encoder knows a gap by; of whole numbers also
    fractions, which a compiled encoder would cut off.
    """
    few = held_out.head(PROBES)
    for name, dtype in few.dtypes.items():
        kind = kind_of(str(dtype))
        if kind == "number":
            yield name, "missing", few.assign(**{name: np.full(len(few), np.nan)})
            if (few[name].dropna() % 1 == 0).all():
                yield name, "fraction", few.assign(**{name: few[name] + 0.25})
            continue
        none = few[name].astype(object if kind == "truth" else dtype)
        none[:] = None  # what the type has for a gap
        yield name, "missing", few.assign(**{name: none})
        if kind == "text":
            for what, text in (("unseen", UNSEEN), ("word", MISSING)):
                yield name, what, few.assign(**{name: np.array([text] * len(few), dtype=object)}).astype({name: dtype})


def apart(said: NDArray[np.float64], should: NDArray[np.float64]) -> float:
    """The largest absolute difference of two arrays of answers; infinite where one is no number."""
    if said.shape != should.shape:
        raise Misuse(f"answers have the shape {said.shape}, not {should.shape}")
    difference = np.abs(said - should)
    return float(difference.max()) if np.isfinite(difference).all() else float("inf")


# A stored model at work


def load(bundle: Bundle, trusted_types: tuple[str, ...], tolerance: float) -> tuple[str, Answer]:
    """The form of a bundle's model and the function that answers.

    A bundle that records no form is older than forms: arrays, else a frame, whichever reproduces the golden rows.

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
            # Whatever an array made the model raise, or answer: it is older than this form, and knows frames.
            return "frame", frame(model, features, task, classes)
    return "arrays", answer


def golden(bundle: Bundle, answer: Answer, tolerance: float) -> float:
    """The largest difference of the answers to those that the bundle keeps of its training.

    Raises:
        Refused: it is above ``tolerance``.
    """
    kept = bundle.golden
    rows = {name: [row.get(name) for row in kept["rows"]] for name in bundle.features}
    difference = apart(answer(rows), np.asarray(kept["answers"], dtype=np.float64))
    if difference > tolerance:
        raise Refused(
            f"{bundle.path.name}: the golden rows are answered with a difference of {difference:.2g}, more than"
            f" {tolerance:g}; serve it with the libraries of its lock"
        )
    return difference
