"""The form in which a model is served: the first one whose answers equal the original's on all tested rows.

The test takes all holdout rows, a few of them alone, and some of them with changed values, one column at a time: no
value, an unseen text, and numbers, see probes.py.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from conveyor.core.errors import Misuse, at_fault
from conveyor.model import runtime
from conveyor.model.compiled.convert import convert
from conveyor.model.compiled.probes import Asked, Original, probed
from conveyor.model.rows import Rows, kind_of_values

if TYPE_CHECKING:
    import pandas as pd

ALONE = 5  # holdout rows that are also asked alone


@dataclass(frozen=True)
class Chosen:
    """The form in which a model is served.

    Attributes:
        form: compiled, arrays or frame.
        difference: the largest difference to the original on all tested rows, see ``runtime.apart``.
        why: why no faster form was chosen, or None.
        onnx: the compiled model, or None.
        missing: the columns whose value may be missing: the model still answers.
        closed: the columns in which the model answers only texts of training.
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
        fitted: the pipeline, loaded from its stored bytes.
        held_out: the features of the holdout (n x features).
        predicted: the original's answers to them, from ``runtime.predict``.
        asked: task, target and classes.
        tolerance: the largest allowed difference, see ``runtime.apart``.

    Raises:
        Misuse: even a data frame does not give the answers of training, or a row's answer depends on other rows.
    """
    features = {name: str(dtype) for name, dtype in held_out.dtypes.items()}
    kinds = {name: kind_of_values(held_out[name]) for name in features}
    task, classes = asked["task"], len(asked["classes"])

    def original(rows: pd.DataFrame) -> NDArray[np.float64]:
        return runtime.predict(fitted, rows, task, classes)

    places = range(min(ALONE, len(held_out)))
    alone = [_alone(original, held_out.iloc[[place]], predicted[[place]], tolerance) for place in places]
    found = probed(original, held_out, predicted, tolerance)
    largest = max(1.0, float(np.abs(predicted).max()))

    def questions() -> Iterator[Asked]:
        yield held_out, predicted
        yield from alone
        yield from found.asked()

    content, reasons = None, []
    for form in runtime.FORMS:
        try:
            if form == "compiled":
                content = convert(fitted, kinds, task, classes)
                answer = runtime.compiled(content, features, task)
            else:
                answer = {"arrays": runtime.arrays, "frame": runtime.frame}[form](fitted, features, task, classes)
            difference = 0.0
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about extreme numbers
                for rows, said in questions():
                    difference = max(difference, runtime.apart(answer(Rows.of_frame(rows)), said, largest))
                    if difference > tolerance:
                        break
        except Exception as error:
            # A converter or a model may raise any exception for this form: the next form is tried.
            reasons.append(f"{form}: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
            continue
        if difference <= tolerance:
            onnx = content if form == "compiled" else None
            return Chosen(form, difference, "; ".join(reasons) or None, onnx, found.missing, found.closed)
        reasons.append(f"{form}: differs by {difference:.2g}, more than model.tolerance {tolerance:g}")
    raise Misuse(f"model.py: the stored model does not answer as it did in training ({reasons[-1]}); mend it")


def _alone(original: Original, row: pd.DataFrame, beside: NDArray[np.float64], tolerance: float) -> Asked:
    """A row alone, and the answer to it.

    Args:
        beside: the answer to the same row among others.

    Raises:
        Misuse: the answers differ, or there is none.
    """
    try:
        said = original(row)
    except Exception as error:
        # All rows at once had answers; for a single row the user's code may raise any exception.
        raise at_fault(error, Path(__file__).with_name("model.py"), "a row alone must be answered, too") from error
    difference = runtime.apart(said, beside)
    if difference > tolerance:
        told = f"model.py: a row alone is answered otherwise than beside others, by {difference:.2g}"
        raise Misuse(f"{told}; let its answer depend on nothing but the row")
    return row, said
