"""Rows beyond the holdout, for which a model in another form could answer differently.

Each is a row of the holdout with another value in one column: no value; an unseen text; the word that stands for a
missing text in a compiled encoder; or a number. The numbers are those that 32 bits cannot hold, those beside a value of
the holdout, those far outside, and those beside a point where the answer changes. The search for such points uses the
original alone and ends at two neighbouring 64-bit numbers with different answers. So it finds a threshold of any model.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from conveyor.model.rows import LARGEST, kind_of, kind_of_values
from conveyor.model.runtime import MISSING, UNSEEN, fits

if TYPE_CHECKING:
    import pandas as pd

Original = Callable[["pd.DataFrame"], NDArray[np.float64]]
Asked = tuple["pd.DataFrame", NDArray[np.float64]]  # rows, and the answers to them
ROWS, CELLS = 200, 20_000  # rows of the holdout that are asked again for each column; fewer if there are many columns
BATCH, BATCH_CELLS = 5000, 2_000_000  # rows, and values, in one call
NEAR = 4  # values of the holdout in each column whose neighbours are asked
SEARCHES = 400  # for points where the answer changes, in all columns together
PARTS = 8  # parts into which each step of a search divides the interval
STRANGE = (0.0, -0.0, 5e-324, -1e-310, 2.0**24 + 1, -(2.0**24) - 1, 2.0**31, 2.0**53, 1e20, LARGEST, -LARGEST)


@dataclass(frozen=True)
class Question:
    """Rows with other values in one column.

    Attributes:
        column: its name.
        what: missing, unseen, word or number.
        rows: the positions of the rows among the few rows of the holdout that are changed.
        values: their values in that column.
    """

    column: str
    what: str
    rows: NDArray[np.int64]
    values: pd.Series


@dataclass(frozen=True)
class Probes:
    """The original's answers.

    Attributes:
        missing: the columns whose value may be missing: the model still answers.
        closed: the columns in which the model answers only texts of training.
    """

    missing: tuple[str, ...]
    closed: tuple[str, ...]
    _desk: Desk
    _questions: list[Question]
    _said: list[NDArray[np.float64]]

    def asked(self) -> Iterator[Asked]:
        """All rows with an answer, in batches."""
        waiting = iter(self._said)
        for batch in self._desk.batches(self._questions):
            said = np.concatenate([next(waiting) for _ in batch])
            sound = np.isfinite(said).all(axis=tuple(range(1, said.ndim)))
            if sound.any():
                yield self._desk.frame(batch)[sound], said[sound]


def probed(original: Original, held_out: pd.DataFrame, predicted: NDArray[np.float64], tolerance: float) -> Probes:
    """Ask the original.

    Args:
        held_out: the features of the holdout (n x features).
        predicted: the original's answers to them.
        tolerance: a smaller change of the answer does not count.
    """
    few = held_out.head(max(20, min(ROWS, CELLS // held_out.shape[1]))).reset_index(drop=True)
    desk = Desk(original, few, predicted[: len(few)], tolerance)
    questions = [*_without(few)]
    said = desk.ask(questions)
    missing, closed = [], []
    for number, question in enumerate(questions):
        if not np.isfinite(said[number]).all():  # a model answers all rows of such a question, or none
            said[number] = np.full_like(said[number], np.nan)
            closed += [question.column] if question.what == "unseen" else []
        elif question.what == "missing":
            missing.append(question.column)
    numbers = [*_numbers(few), *changes(desk)]
    return Probes(tuple(missing), tuple(closed), desk, questions + numbers, said + desk.ask(numbers))


def _without(few: pd.DataFrame) -> Iterator[Question]:
    """Rows without a value, or with an unseen text, one column at a time."""
    import pandas as pd

    rows = np.arange(len(few))
    for name, dtype in few.dtypes.items():
        kind = kind_of_values(few[name])
        if kind == "number":
            yield Question(name, "missing", rows, pd.Series(np.full(len(few), np.nan)))
            continue
        none = few[name].astype(object if kind == "truth" else dtype)
        none[:] = None  # the missing value of the type
        yield Question(name, "missing", rows, none)
        if kind == "text":
            for what, text in (("unseen", UNSEEN), ("word", MISSING)):
                yield Question(name, what, rows, pd.Series(np.array([text] * len(few), dtype=object)).astype(dtype))


def _numbers(few: pd.DataFrame) -> Iterator[Question]:
    """Rows with extreme numbers, and with numbers beside those of the holdout."""
    for name, known in _known(few):
        distinct = np.unique(known[np.isfinite(known)])
        if not len(distinct):
            continue
        near = distinct[np.linspace(0, len(distinct) - 1, min(NEAR, len(distinct))).astype(int)]
        middle = near / 2 + distinct[np.minimum(np.searchsorted(distinct, near) + 1, len(distinct) - 1)] / 2
        span = distinct[-1] - distinct[0] + 1.0
        values = np.concatenate(
            [
                STRANGE,
                [distinct[0] - span, distinct[-1] + span],
                near + 0.25,
                *(_beside(place) for place in (near, middle)),
            ]
        )
        values, rows = np.clip(values, -LARGEST, LARGEST), np.arange(len(values)) % len(few)
        # A number that does not fit the column's type changes that type, so these are separate questions.
        fit = fits(values, str(few.dtypes[name])) if few.dtypes[name].kind in "iu" else np.ones(len(values), bool)
        for part in (fit, ~fit):
            if part.any():
                yield number(few, name, rows[part], values[part], keep=part is fit)


def _known(few: pd.DataFrame) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """The numeric columns, and their values."""
    for name, dtype in few.dtypes.items():
        if kind_of(str(dtype)) == "number":
            yield name, few[name].to_numpy(dtype=np.float64, na_value=np.nan)


def _beside(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each value, its two neighbours among the 64-bit numbers, and the value rounded to 32 bits."""
    with np.errstate(over="ignore"):
        single = values.astype(np.float32).astype(np.float64)
    return np.concatenate([values, np.nextafter(values, np.inf), np.nextafter(values, -np.inf), single])


def number(
    few: pd.DataFrame, name: str, rows: NDArray[np.int64], values: NDArray[np.float64], keep: bool = False
) -> Question:
    """Some of the rows with these numbers in a column. ``keep`` keeps its type; a narrow float type always stays."""
    import pandas as pd

    dtype = few.dtypes[name]
    kept = keep or (dtype.kind == "f" and dtype.itemsize < 8)
    return Question(name, "number", rows, pd.Series(values).astype(dtype if kept else np.float64))


class Desk:
    """Asks the original many questions at once.

    Args:
        few: the rows of the holdout that are changed.
        predicted: the original's answers to them.
        tolerance: a smaller difference does not count.
    """

    def __init__(self, original: Original, few: pd.DataFrame, predicted: NDArray[np.float64], tolerance: float) -> None:
        self._original, self.few, self.predicted, self.tolerance = original, few, predicted, tolerance
        self._rows = max(len(few), min(BATCH, BATCH_CELLS // few.shape[1]))
        # Another value may change the type of a whole column. If that changes the model's answers, questions with such
        # values are asked separately.
        wide = {name: float for name, dtype in few.dtypes.items() if dtype.kind in "iu"}
        wide |= {name: object for name, dtype in few.dtypes.items() if dtype.kind == "b"}
        self.mixes = not wide or bool((np.abs(self._answers(few.astype(wide)) - predicted) <= tolerance).all())

    def ask(self, questions: list[Question]) -> list[NDArray[np.float64]]:
        """The answers to the rows of each question; NaN for a row without one."""
        said = []
        for batch in self.batches(questions):
            said += self._said(batch)
        return said

    def batches(self, questions: list[Question]) -> Iterator[list[Question]]:
        """The questions in the same order, in batches."""
        batch: list[Question] = []
        for question in questions:
            single = not self.mixes and question.values.dtype != self.few[question.column].dtype
            if batch and (single or sum(len(other.rows) for other in batch) + len(question.rows) > self._rows):
                yield batch
                batch = []
            batch.append(question)
            if single:
                yield batch
                batch = []
        if batch:
            yield batch

    def frame(self, questions: list[Question]) -> pd.DataFrame:
        """All rows of some questions."""
        made = self.few.take(np.concatenate([question.rows for question in questions])).reset_index(drop=True)
        changed: dict[str, Any] = {}
        start = 0
        for question in questions:
            name, values, stop = question.column, question.values, start + len(question.rows)
            column = changed[name] if name in changed else made[name].copy()
            if column.dtype != values.dtype and column.dtype.kind != "f":
                column = column.astype(values.dtype)
            column.iloc[start:stop] = values.array
            changed[name], start = column, stop
        return made.assign(**changed)

    def _said(self, batch: list[Question]) -> list[NDArray[np.float64]]:
        said = self._answers(self.frame(batch)) if batch else self.predicted[:0]
        if np.isnan(said).all() and len(said) > 1:  # a single refused row gives NaN for the whole batch
            if len(batch) > 1:
                half = len(batch) // 2
                return self._said(batch[:half]) + self._said(batch[half:])
            [question] = batch
            if question.what == "number":
                half = len(question.rows) // 2
                parts = [
                    replace(question, rows=question.rows[part], values=question.values.iloc[part])
                    for part in (slice(half), slice(half, None))
                ]
                return [np.concatenate([self._said([part])[0] for part in parts])]
        return np.split(said, np.cumsum([len(question.rows) for question in batch])[:-1])

    def _answers(self, rows: pd.DataFrame) -> NDArray[np.float64]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about extreme numbers
                return self._original(rows)
        except Exception:
            # The model may raise any exception for such rows. Then no form is asked about them.
            return np.full((len(rows), *self.predicted.shape[1:]), np.nan)


# Points where the answer changes


def changes(desk: Desk) -> Iterator[Question]:
    """Rows with the two numbers between which the original's answer changes, and with the numbers beside them.

    If two values of a column give a row different answers, at least one such point is between them. The interval is
    divided into parts again and again; the search continues in the part where the answers differ most.
    """
    few = desk.few
    columns = [(name, known) for name, known in _known(few) if desk.mixes or few[name].dtype.kind == "f"]
    names, of_rows, low, high = [], [], [], []
    for name, known in columns:
        order = np.argsort(known, kind="stable")
        order = order[np.isfinite(known[order])]
        for rank in np.linspace(0, len(order) - 1, max(2, min(len(order), SEARCHES // len(columns)))).astype(int):
            if len(order) and (pair := sorted({known[order[rank]], known[order[rank - len(order) // 2]]}))[1:]:
                names.append(name)
                of_rows.append(order[rank])
                low.append(pair[0])
                high.append(pair[1])
    if not names:
        return
    places, rows = np.array(names), np.array(of_rows)
    ends = np.stack([_ranks(np.array(low)), _ranks(np.array(high))], axis=1)
    said = _ask_at(desk, places, rows, ends)
    active = np.arange(len(places))
    while len(active):
        jump = _jumps(said[active])[:, 0]
        gap = ends[active, 1] - ends[active, 0]
        found = active[(jump > desk.tolerance) & (gap == 1)]
        for name in dict.fromkeys(places[found]):
            of = found[places[found] == name]
            values = np.concatenate([_beside(_values(ends[of, side])) for side in (0, 1)]).clip(-LARGEST, LARGEST)
            yield number(few, name, np.tile(rows[of], len(values) // len(of)), values)
        active = active[(jump > desk.tolerance) & (gap > 1)]
        if not len(active):
            return
        gap = (ends[active, 1] - ends[active, 0])[:, None]
        part = np.arange(1, PARTS, dtype=np.uint64)
        inner = ends[active, :1] + gap // PARTS * part + gap % PARTS * part // PARTS
        points = np.concatenate([ends[active, :1], inner, ends[active, 1:]], axis=1)
        inside = _ask_at(desk, places[active], rows[active], inner)
        answers = np.concatenate([said[active, :1], inside, said[active, 1:]], axis=1)
        best, each = _jumps(answers).argmax(axis=1), np.arange(len(active))
        ends[active] = np.stack([points[each, best], points[each, best + 1]], axis=1)
        said[active] = np.stack([answers[each, best], answers[each, best + 1]], axis=1)


def _jumps(said: NDArray[np.float64]) -> NDArray[np.float64]:
    """The differences of neighbouring answers (n x points x classes); -1 if one is not a number."""
    jumps = np.abs(np.diff(said, axis=1)).max(axis=2)
    return np.where(np.isfinite(jumps), jumps, -1.0)


def _ask_at(desk: Desk, names: NDArray[Any], rows: NDArray[np.int64], ranks: NDArray[np.uint64]) -> NDArray[np.float64]:
    """The answers to rows (n) with each of some numbers (n x points) in the named column: n x points x classes."""
    questions, places = [], []
    for name in dict.fromkeys(names):
        of = np.flatnonzero(names == name)
        values = _values(ranks[of].ravel())
        questions.append(number(desk.few, name, np.repeat(rows[of], ranks.shape[1]), values))
        places.append(of)
    said = np.concatenate(desk.ask(questions))
    said = said.reshape(len(names), ranks.shape[1], -1)
    made = np.empty_like(said)
    made[np.concatenate(places)] = said
    return made


SIGN = np.uint64(2**63)  # the bit of the sign


def _ranks(values: NDArray[np.float64]) -> NDArray[np.uint64]:
    """The positions of 64-bit numbers in their order."""
    bits = values.view(np.uint64)
    return np.where(bits & SIGN, ~bits, bits | SIGN)


def _values(ranks: NDArray[np.uint64]) -> NDArray[np.float64]:
    """The numbers at these positions."""
    return np.where(ranks & SIGN, ranks ^ SIGN, ~ranks).astype(np.uint64).view(np.float64)
