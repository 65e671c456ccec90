"""Requests that differ, and the answer of each model to each of them, known before it is asked.

An answer that reaches the wrong caller is then a wrong answer: no two requests have the same one.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from conveyor.model import runtime
from conveyor.model.bundle import Bundle
from conveyor.model.rows import Rows

TOLERANCE = 1e-5  # as model.tolerance in params.yaml
LONGEST = 4  # rows of a request
TRIES = 20  # for each request that is wanted


@dataclass(frozen=True)
class Question:
    """A body for /predict, and the right predictions, by the key of the model that gives them."""

    body: bytes
    answers: dict[str, list]


def questions(bundles: list[Path], number: int = 300, trusted: tuple[str, ...] = ()) -> list[Question]:
    """Rows that mix the values of the golden rows, column by column, answered by the bundles in this process.

    Args:
        bundles: of models that take the same columns.
        number: of requests; their answers differ by more than twice the tolerance, whichever model gives them.
        trusted: the reviewed types, for a model that is not compiled.

    Raises:
        ValueError: the models do not tell so many requests apart.
    """
    found = [Bundle(path) for path in bundles]
    answer = {each.key: runtime.load(each, trusted, TOLERANCE)[1] for each in found}
    golden, features, dice = found[0].golden["rows"], found[0].features, random.Random(0)
    made: list[Question] = []
    for _ in range(TRIES * number):
        length = 1 if dice.random() < 0.7 else dice.randint(2, LONGEST)
        rows = [{name: dice.choice(golden)[name] for name in golden[0]} for _ in range(length)]
        columns = Rows.of({name: [row[name] for row in rows] for name in features}, features)
        answers = {key: np.asarray(of(columns), dtype=np.float64).tolist() for key, of in answer.items()}
        if not any(same(answers[key], other.answers[key]) for other in made for key in answers):
            made.append(Question(json.dumps({"rows": rows}).encode(), answers))
        if len(made) == number:
            return made
    raise ValueError(f"of {number} requests the models tell only {len(made)} apart; ask for fewer")


def same(some: list, others: list, tolerance: float = 2 * TOLERANCE) -> bool:
    """Whether predictions are as many and equal within a tolerance; what is no list of numbers equals nothing."""
    try:
        one, two = np.asarray(some), np.asarray(others)
    except ValueError:  # lists of different lengths in one list
        return False
    numbers = one.dtype.kind in "fi" and two.dtype.kind in "fi" and one.size > 0
    return numbers and one.shape == two.shape and bool((np.abs(one - two) <= tolerance).all())
