"""The model of model.py and params.yaml: it fits, answers, repeats itself, and can be stored."""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from skops.io import get_untrusted_types

from conveyor.api import Misuse
from conveyor.data import columns
from conveyor.model.builder import Builder
from conveyor.model.bundle import pack, unpack
from conveyor.model.runtime import predict
from conveyor.steps.train import train

from << cookiecutter.__package >> import model

ESTIMATORS = model.Params.model_fields["estimator"].annotation.__args__


@pytest.fixture(scope="module")
def rows(frame, params):
    """A thousand rows or fewer and their labels: enough to fit, quick to repeat."""
    few = frame.iloc[:: max(1, len(frame) // 1000)]  # over all of them: they may be sorted
    if params.data.task != "regression":  # and a class may be rare
        few = pd.concat([few, frame.groupby(params.data.target).head(5)], ignore_index=True)
    return columns.features(few, params.data), columns.labels(few, params.data)


@pytest.fixture(scope="module")
def answers(params, frame):
    """What a model says of rows."""
    return partial(predict, task=params.data.task, classes=len(columns.classes(frame, params.data)))


def builder(params: model.Params) -> Builder:
    return Builder(Path(model.__file__), model.build, params)


@pytest.fixture(params=ESTIMATORS)
def choice(request, params):
    """model.py with each of its estimators."""
    return builder(model.Params.model_validate({**params.model.params, "estimator": request.param}))


def test_every_estimator_answers_with_what_the_task_asks_for(rows, choice, answers, params):
    predicted = answers(train(choice, *rows, seed=1), rows[0])
    assert len(predicted) == len(rows[0]) and np.isfinite(predicted).all() and predicted.std() > 0
    if params.data.task != "regression":
        assert ((predicted >= 0) & (predicted <= 1)).all()


def test_the_same_seed_gives_the_same_model(rows, choice, answers):
    first, second = (answers(train(choice, *rows, seed=5), rows[0]) for _ in range(2))
    assert np.array_equal(first, second)


def test_a_stored_model_answers_as_before_and_holds_reviewed_types_only(rows, choice, answers, params):
    fitted = train(choice, *rows, seed=1)
    stored = unpack(pack(fitted), params.model.trusted_types)
    assert np.array_equal(answers(stored, rows[0]), answers(fitted, rows[0]))


def test_a_type_that_nobody_reviewed_is_refused_by_name(rows, choice):
    packed = pack(train(choice, *rows, seed=1))
    for name in get_untrusted_types(data=packed):
        others = tuple(set(get_untrusted_types(data=packed)) - {name})
        with pytest.raises(Misuse, match=f"holds {re.escape(name)}, which model.trusted_types"):
            unpack(packed, others)


def test_an_unseen_category_and_a_missing_number_are_scored(rows, choice, answers):
    fitted = train(choice, *rows, seed=1)
    strange = rows[0].head(2).assign(**{name: "never seen" for name in model.CATEGORIES[:1]})
    strange = strange.assign(**{name: np.nan for name in model.NUMBERS[:1]})
    assert np.isfinite(answers(fitted, strange)).all()


def test_an_unknown_option_of_an_estimator_is_named(rows):
    wrong = model.Params.model_validate({"estimator": ESTIMATORS[0], ESTIMATORS[0]: {"no_such_option": 3}})
    with pytest.raises(Misuse, match="unexpected keyword argument 'no_such_option'"):
        train(builder(wrong), *rows, seed=1)
