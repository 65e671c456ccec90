"""Reading and splitting: a row never changes side unnoticed."""

import numpy as np

from << cookiecutter.__package >> import data


def test_the_newest_rows_are_held_out(frame, params):
    trained = data.split(frame, params.data, params.split).trained_on(frame)
    times = frame[params.data.time]
    assert times[trained].max() < times[~trained].min()
    assert abs((~trained).mean() - params.split.holdout) < 0.02


def test_without_a_time_a_row_keeps_its_side_as_data_grow(frame, params):
    names = params.data.model_copy(update={"time": None})
    few, all_ = frame.iloc[::2].reset_index(drop=True), frame
    before = data.split(few, names, params.split).trained_on(few)
    after = data.split(all_, names, params.split).trained_on(all_)
    assert np.array_equal(before, after[::2])
    assert abs((~after).mean() - params.split.holdout) < 0.02


def test_a_row_keeps_its_side_when_a_key_column_turns_from_integers_to_floats(frame, params):
    numbered = frame.assign(number=np.arange(len(frame)))
    names = params.data.model_copy(update={"time": None, "key": ("number",)})
    rule = data.split(numbered, names, params.split)
    assert np.array_equal(rule.trained_on(numbered), rule.trained_on(numbered.astype({"number": float})))


def test_a_row_that_stands_on_both_sides_is_found(frame, params):
    copy = frame.copy()
    features = [c for c in copy.columns if c not in (params.data.time, *params.data.ignore)]
    copy.loc[len(copy) - 1, features] = copy.loc[0, features]
    trained = data.split(copy, params.data, params.split).trained_on(copy)
    assert list(data.shared_rows(copy, trained, params.data)) == [len(copy) - 1]


def test_no_model_sees_the_target_the_time_or_an_ignored_column(frame, params):
    seen = set(data.features(frame, params.data).columns)
    assert not seen & {params.data.target, params.data.time, *params.data.ignore} and len(seen) > 5
