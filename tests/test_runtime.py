"""Risk: what is served is not what was judged: another form of the model answers otherwise, or needs other code."""

import json
import re
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import environment, estimators
from onnx import numpy_helper
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Binarizer, FunctionTransformer, KBinsDiscretizer, OneHotEncoder, StandardScaler
from sklearn.svm import SVR
from sklearn.tree import DecisionTreeClassifier

from conveyor.core import code
from conveyor.core import params as conveyor_params
from conveyor.core.errors import Misuse
from conveyor.core.files import to_json
from conveyor.data import columns as conveyor_columns
from conveyor.data.source import read
from conveyor.model import runtime, signature
from conveyor.model.bundle import Bundle, pack
from conveyor.model.compiled import choice, graphs, probes
from conveyor.model.compiled.convert import convert
from conveyor.model.rows import Rows, kind_of_values
from conveyor.steps.pipeline import STEPS as VERBS
from conveyor.steps.train import train

TOLERANCE = 1e-5
EXACT = 1e-12  # as far as two sums of equal 64-bit numbers are apart


@pytest.fixture(scope="module")
def chosen():
    """chosen(fitted, frame, task) -> the form that training would choose."""

    def chosen(fitted, frame, task, tolerance=TOLERANCE):
        said = runtime.predict(fitted, frame, task, len(asked(task)["classes"]))
        return choice.choose(fitted, frame, said, asked(task), tolerance)

    return chosen


def sample(rows: int = 600) -> pd.DataFrame:
    """Two texts, one with gaps, and two numbers, one with gaps and one whole."""
    draw = np.random.default_rng(5)
    frame = pd.DataFrame(
        {
            "shop": draw.choice(["north", "south", "ünder the bridge"], rows),
            "note": draw.choice(["a", "b", None], rows),
            "size": draw.normal(50, 20, rows).round(3),
            "count": draw.integers(0, 9, rows),
        }
    )
    frame.loc[::7, "size"] = np.nan
    return frame


def pipeline(estimator, numbers=None, frame=None):
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    numbers = numbers or make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    columns = [("texts", encoder, ["shop", "note"]), ("numbers", numbers, ["count", "size"])]
    return make_pipeline(ColumnTransformer(columns), estimator)


def types(frame: pd.DataFrame) -> dict[str, str]:
    return {name: str(dtype) for name, dtype in frame.dtypes.items()}


def kinds(frame: pd.DataFrame) -> dict[str, str]:
    return {name: kind_of_values(frame[name]) for name in frame}


def labels(frame: pd.DataFrame, task: str) -> np.ndarray:
    score = frame["size"].fillna(50) / 20 + (frame["shop"] == "north") + (frame["note"] == "a")
    score = score + np.random.default_rng(6).normal(size=len(frame))
    if task == "regression":
        return score.to_numpy()
    return np.digitize(score, [3.3] if task == "binary" else [2.5, 4.0])


def asked(task: str) -> dict:
    return {"task": task, "classes": {"binary": ["0", "1"], "multiclass": ["a", "b", "c"], "regression": []}[task]}


def test_boosting_of_numbers_is_compiled_too(chosen):
    frame = sample()
    numbers = SimpleImputer(strategy="median")
    fitted = pipeline(HistGradientBoostingRegressor(max_iter=30, random_state=1), numbers)
    taken = chosen(fitted.fit(frame, labels(frame, "regression")), frame, "regression")
    assert taken.form == "compiled" and taken.difference <= EXACT


ESTIMATORS = {
    "binary": LogisticRegression(),
    "multiclass": RandomForestClassifier(n_estimators=20, random_state=1, n_jobs=1),
    "regression": LinearRegression(),
}


@pytest.mark.parametrize("task", ESTIMATORS)
def test_each_form_of_a_model_of_each_task_answers_as_the_original_does(task, chosen):
    """Also where a text or a number is missing, and where a text was never seen."""
    frame = sample()
    fitted = pipeline(ESTIMATORS[task]).fit(frame, labels(frame, task))
    taken = chosen(fitted, frame, task)
    assert (taken.form, taken.why) == ("compiled", None) and taken.difference <= EXACT

    strange = frame.head(50).assign(shop="never seen", note=None, size=np.nan)
    strange["note"] = strange["note"].astype(frame["note"].dtype)
    classes, features = len(asked(task)["classes"]), types(frame)
    answers = {
        "compiled": runtime.compiled(taken.onnx, features, task),
        "arrays": runtime.arrays(fitted, features, task, classes),
        "frame": runtime.frame(fitted, features, task, classes),
    }
    assert list(answers) == list(runtime.FORMS)
    for rows in (frame, strange, frame.head(50).assign(note="nan")):
        original = runtime.predict(fitted, rows, task, classes)
        for form, answer in answers.items():
            assert answer(Rows.of_frame(rows)) == pytest.approx(original, abs=TOLERANCE), form


COLUMNS = {
    "sparse": ([("texts", OneHotEncoder(handle_unknown="ignore"), ["shop", "note"])], {"sparse_threshold": 1.0}),
    "sparse-beside-dense": (
        [("words", TfidfVectorizer(), "shop"), ("numbers", SimpleImputer(), ["count", "size"])],
        {"sparse_threshold": 0.0},
    ),
    "weights": (
        [("whole", SimpleImputer(), ["count"]), ("size", SimpleImputer(), ["size"])],
        {"transformer_weights": {"size": 9}},
    ),
    "dropped-and-the-rest": ([("no", "drop", ["shop", "note", "size"])], {"remainder": "passthrough"}),
    "by-place": ([("no", "passthrough", [3]), ("size", SimpleImputer(), slice(2, 3))], {}),
    "by-type": (
        [
            ("numbers", SimpleImputer(), make_column_selector(dtype_include="number")),
            ("times", StandardScaler(), make_column_selector(dtype_include="datetime")),
        ],
        {},
    ),
    "nested": (
        [("inner", make_pipeline(ColumnTransformer([("size", SimpleImputer(), ["size"])])), ["count", "size"])],
        {},
    ),
}


@pytest.mark.parametrize("columns", COLUMNS)
def test_arrays_go_through_whatever_stands_side_by_side_in_a_pipeline(columns):
    parts, options = COLUMNS[columns]
    frame = sample()
    fitted = make_pipeline(ColumnTransformer(parts, **options), LinearRegression())
    fitted.fit(frame, labels(frame, "regression"))
    answer = runtime.arrays(fitted, types(frame), "regression", 0)
    for rows in (frame, frame.head(1)):
        assert answer(Rows.of_frame(rows)) == pytest.approx(fitted.predict(rows), abs=1e-12)


def test_every_shipped_estimator_is_compiled(bake, chosen):
    project = bake()
    root = project.path
    params = conveyor_params.load(root / "params.yaml")
    frame = read(params.data, root).iloc[:4000]
    rows, y = conveyor_columns.features(frame, params.data), conveyor_columns.labels(frame, params.data)
    found = {}
    for name, built in estimators(project).items():
        fitted = train(built, rows, y, seed=1)
        found[name] = chosen(fitted, rows, "binary")
        assert found[name].missing == tuple(rows.columns)
    assert {name: taken.form for name, taken in found.items()} == {
        "logistic": "compiled",
        "forest": "compiled",
        "boosting": "compiled",
    }
    assert all(taken.why is None and taken.difference <= EXACT for taken in found.values())


# Numbers of 64 bits

TREES = {
    "boosting of two classes": (HistGradientBoostingClassifier(max_iter=8, random_state=1), "binary"),
    "boosting of three classes": (HistGradientBoostingClassifier(max_iter=6, random_state=1), "multiclass"),
    "boosting of numbers": (HistGradientBoostingRegressor(max_iter=8, random_state=1), "regression"),
    "boosting of counts": (HistGradientBoostingRegressor(max_iter=8, loss="poisson", random_state=1), "regression"),
    "older boosting of classes": (GradientBoostingClassifier(n_estimators=8, random_state=1), "multiclass"),
    "older boosting of numbers": (GradientBoostingRegressor(n_estimators=8, random_state=1), "regression"),
    "a forest of two classes": (RandomForestClassifier(n_estimators=8, random_state=1), "binary"),
    "a forest of three classes": (RandomForestClassifier(n_estimators=8, random_state=1), "multiclass"),
    "a forest of numbers": (RandomForestRegressor(n_estimators=8, random_state=1), "regression"),
    "a forest of random splits": (ExtraTreesRegressor(n_estimators=8, random_state=1), "regression"),
    "a tree": (DecisionTreeClassifier(random_state=1), "binary"),
}


def thresholds(estimator) -> set[tuple[int, float]]:
    """Each feature of the trees, and each number at which it sends a row the other way."""
    if hasattr(estimator, "_predictors"):
        nodes = np.concatenate([tree.nodes for trees in estimator._predictors for tree in trees])
        nodes = nodes[~nodes["is_leaf"].astype(bool)]
        return set(zip(nodes["feature_idx"].tolist(), nodes["num_threshold"].tolist(), strict=True))
    trees = [grown.tree_ for grown in np.ravel(getattr(estimator, "estimators_", [estimator]))]
    return {(f, t) for tree in trees for f, t in zip(tree.feature.tolist(), tree.threshold.tolist(), strict=True)}


@pytest.mark.parametrize("kind", TREES)
def test_a_compiled_model_decides_as_its_original_at_every_threshold_and_just_beside_it(chosen, kind):
    """A tree of a forest rounds what it is given to 32 bits, one of boosting does not."""
    estimator, task = TREES[kind]
    frame = sample().assign(at=np.random.default_rng(9).integers(1_700_000_000, 1_800_000_000, 600))
    if kind.startswith("older"):  # which takes no gaps
        frame = frame[frame["size"].notna()].reset_index(drop=True)
    columns = [("texts", OneHotEncoder(sparse_output=False), ["shop"]), ("numbers", "passthrough", ["size", "at"])]
    fitted = make_pipeline(ColumnTransformer(columns), estimator).fit(frame, np.abs(labels(frame, task)))
    taken = chosen(fitted, frame, task)
    assert (taken.form, taken.why) == ("compiled", None) and taken.difference <= EXACT

    texts = frame["shop"].nunique()
    found = sorted(t for t in thresholds(estimator) if t[0] >= texts and abs(t[1]) < 1e30)  # inf: only gaps go right
    draw = np.random.default_rng(4)
    columns, values = np.array(found)[draw.choice(len(found), min(len(found), 150), replace=False)].T
    single = values.astype(np.float32)
    around = [values, single, *(np.nextafter(single, np.float32(side)) for side in (-np.inf, np.inf))]
    near = np.concatenate([np.nextafter(x.astype(float), side) for x in around for side in (-np.inf, x, np.inf)])
    asked_for = frame.iloc[draw.choice(len(frame), len(near))].reset_index(drop=True).astype({"at": float})
    for number, name in enumerate(["size", "at"]):
        asked_for[name] = np.where(np.tile(columns, 12) == texts + number, near, asked_for[name])
    classes = len(asked(task)["classes"])
    said = runtime.compiled(taken.onnx, types(frame), task)(Rows.of_frame(asked_for))
    assert said == pytest.approx(runtime.predict(fitted, asked_for, task, classes), abs=EXACT)


def in_32_bits(fitted, kinds, task, classes) -> bytes:
    """As models were compiled before: an input for each column, and every number in 32 bits."""
    types = {name: FloatTensorType if kind == "number" else StringTensorType for name, kind in kinds.items()}
    options = None if task == "regression" else {"zipmap": False}
    inputs = [(name, of([None, 1])) for name, of in types.items()]
    return convert_sklearn(fitted, initial_types=inputs, options=options).SerializeToString()


def test_a_model_that_was_compiled_in_32_bits_is_still_served():
    frame = sample()
    fitted = pipeline(LogisticRegression()).fit(frame, labels(frame, "binary"))
    answer = runtime.compiled(in_32_bits(fitted, kinds(frame), "binary", 2), types(frame), "binary")
    assert answer(Rows.of_frame(frame)) == pytest.approx(fitted.predict_proba(frame)[:, 1], abs=TOLERANCE)


ROUNDED = {
    "seconds since 1970": (LinearRegression(), lambda draw: draw.integers(1_700_000_000, 1_700_600_000, 600)),
    "small differences": (LogisticRegression(), lambda draw: 1e9 + draw.normal(size=600)),
}


@pytest.mark.parametrize("values", ROUNDED)
def test_a_compiled_model_that_rounds_numbers_is_not_served(chosen, monkeypatch, values):
    estimator, draw = ROUNDED[values]
    frame = pd.DataFrame({"value": draw(np.random.default_rng(3))})
    order = frame["value"].rank(method="first")
    task = "binary" if hasattr(estimator, "predict_proba") else "regression"
    fitted = make_pipeline(StandardScaler(), estimator)
    fitted.fit(frame, order.gt(300).astype(int) if task == "binary" else order)
    assert chosen(fitted, frame, task).form == "compiled"
    monkeypatch.setattr(choice, "convert", in_32_bits)
    taken = chosen(fitted, frame, task)
    assert taken.form == "arrays" and taken.why.startswith("compiled: differs by"), taken


def test_thresholds_in_32_bits_are_seen_though_every_row_of_the_holdout_is_answered_rightly(chosen, monkeypatch):
    """No row of real data lies that close to a threshold: the choice looks for the place itself."""
    frame = sample().dropna().head(200)  # so few values that each threshold lies midway between two of them
    columns = ColumnTransformer([("numbers", StandardScaler(), ["size", "count"])])
    fitted = make_pipeline(columns, HistGradientBoostingClassifier(max_iter=20)).fit(frame, labels(frame, "binary"))
    done = graphs.doubled

    def rounded(model) -> None:
        done(model)
        [ensemble] = [node for node in model.graph.node if node.op_type == "TreeEnsemble"]
        [splits] = [a.t for a in ensemble.attribute if a.name == "nodes_splits"]
        single = numpy_helper.to_array(splits).astype(np.float32).astype(np.float64)
        splits.CopyFrom(numpy_helper.from_array(single))

    monkeypatch.setattr(graphs, "doubled", rounded)
    taken = chosen(fitted, frame, "binary")
    assert taken.form == "arrays" and re.match("compiled: differs by 0[.]", taken.why), taken
    answer = runtime.compiled(convert(fitted, kinds(frame), "binary", 2), types(frame), "binary")
    assert answer(Rows.of_frame(frame)) == pytest.approx(fitted.predict_proba(frame)[:, 1], abs=EXACT)


STEPS = {
    "a limit, at which skl2onnx goes the other way": (Binarizer(threshold=50.25), "arrays"),
    "bins, whose edges skl2onnx rounds": (
        KBinsDiscretizer(5, encode="ordinal", quantile_method="averaged_inverted_cdf"),
        "arrays",
    ),
    "a median": (SimpleImputer(strategy="median"), "compiled"),
    "a function": (FunctionTransformer(np.sign), "arrays"),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_changes_at_a_number_is_compiled_only_if_it_does_so_at_the_same_one(chosen, step):
    estimator, form = STEPS[step]
    frame = sample()[["size"]].dropna()
    fitted = make_pipeline(estimator, LinearRegression()).fit(frame, frame["size"] * 2.0)
    assert chosen(fitted, frame, "regression").form == form


def test_truth_values_are_compiled_and_large_answers_are(chosen):
    frame = sample()[["count"]].assign(even=lambda rows: rows["count"] % 2 == 0)
    fitted = make_pipeline(StandardScaler(), LinearRegression()).fit(frame, 1e5 * labels(sample(), "regression"))
    taken = chosen(fitted, frame, "regression")
    assert (taken.form, taken.missing) == ("compiled", ())
    answer = runtime.compiled(taken.onnx, types(frame), "regression")
    assert answer(Rows.of_frame(frame)) == pytest.approx(fitted.predict(frame), rel=1e-12)


@pytest.mark.parametrize("gaps", [False, True])
def test_truth_values_are_numbers_of_the_compiled_form_with_gaps_or_without(chosen, gaps):
    frame = sample()[["shop", "size"]].assign(even=lambda rows: rows.index % 2 == 0)
    if gaps:
        frame["even"] = frame["even"].astype(object).where(frame.index % 5 > 0, None)
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = ColumnTransformer([("texts", encoder, ["shop"]), ("numbers", numbers, ["size", "even"])])
    y = labels(sample(), "binary") ^ frame["even"].eq(True)
    fitted = make_pipeline(columns, LogisticRegression()).fit(frame, y)
    taken = chosen(fitted, frame, "binary")
    assert (taken.form, taken.why) == ("compiled", None)
    answer = runtime.compiled(taken.onnx, types(frame), "binary")
    assert answer(Rows.of_frame(frame)) == pytest.approx(fitted.predict_proba(frame)[:, 1], rel=1e-12)
    assert "even" not in taken.closed and ("even" in taken.missing or not gaps)


def logarithm(rows):
    if (rows["size"] <= 0).any():
        raise ValueError("no logarithm")
    return np.log(rows[["size"]])


def test_a_number_that_the_model_refuses_spoils_no_other_question(chosen):
    """Numbers are asked many at once; those beside a refused one are still answered."""
    frame = sample()[["size", "count"]].dropna()
    fitted = make_pipeline(FunctionTransformer(logarithm), LinearRegression())
    fitted.fit(frame[frame["size"] > 0], frame.loc[frame["size"] > 0, "count"])
    frame = frame[frame["size"] > 0]
    said = probes.probed(fitted.predict, frame, fitted.predict(frame), TOLERANCE)
    rows = pd.concat([rows for rows, _ in said.asked()])
    assert (rows["size"] > 0).all() and {5e-324, 2.0**53, 1e30} <= set(rows["size"]) and 1e30 in set(rows["count"])
    assert chosen(fitted, frame, "regression").form == "frame"


def test_a_compiled_model_that_differs_by_more_than_the_tolerance_is_not_served(chosen):
    frame = sample()
    fitted = pipeline(SVR()).fit(frame, labels(frame, "regression"))  # the runtime has it in 32 bits alone
    taken = chosen(fitted, frame, "regression", tolerance=1e-9)
    assert (taken.form, taken.onnx) == ("arrays", None)
    assert "compiled: differs by" in taken.why and "more than model.tolerance 1e-09" in taken.why
    assert chosen(fitted, frame, "regression", tolerance=0.1).form == "compiled"


def test_an_encoder_of_whole_numbers_is_not_compiled_for_it_would_cut_off_fractions(chosen):
    frame = sample()
    columns = ColumnTransformer([("count", OneHotEncoder(handle_unknown="ignore"), ["count"])])
    fitted = make_pipeline(columns, LinearRegression()).fit(frame, labels(frame, "regression"))
    taken = chosen(fitted, frame, "regression")
    assert taken.form == "arrays" and "compiled: differs by" in taken.why
    answer = runtime.arrays(fitted, types(frame), "regression", 0)
    odd = frame.head(4).assign(count=[5, 5.5, 99, 5.999])
    assert answer(Rows.of_frame(odd)) == pytest.approx(fitted.predict(odd), abs=1e-12)


def centered(rows):
    return rows - rows.mean(axis=0)


def test_a_model_whose_rows_depend_on_each_other_is_refused(chosen):
    frame = sample()[["count"]]
    fitted = make_pipeline(FunctionTransformer(centered), LinearRegression()).fit(frame, frame["count"] * 2.0)
    with pytest.raises(Misuse, match="^model.py: a row alone is answered otherwise than beside others, by"):
        chosen(fitted, frame, "regression")


def as_text(rows):
    return rows.astype(str)


def test_on_a_frame_the_answer_to_a_row_does_not_depend_on_the_gaps_of_others():
    frame = sample()[["count"]].assign(even=lambda rows: rows["count"] % 2 == 0)
    fitted = make_pipeline(FunctionTransformer(as_text), OneHotEncoder(handle_unknown="ignore"), LinearRegression())
    fitted.fit(frame, frame["count"] * 2.0)
    answer = runtime.frame(fitted, types(frame), "regression", 0)

    def told(count, even):
        return answer(Rows.of({"count": count, "even": even}, types(frame)))

    alone = told([5.0], [False])
    beside = told([None, 5.0, 5.5, 5.0], [True, False, False, None])
    assert alone == pytest.approx([10]) and beside[1] == alone and beside[[0, 2, 3]] != pytest.approx([10] * 3)
    assert told([1e20, 5.0], [False, False])[1] == alone, "beyond the type"


def test_a_model_to_which_the_type_of_a_column_is_not_all_the_same_is_asked_about_one_column_at_a_time(chosen):
    """A gap in one row makes floats of a column of whole numbers, also in rows that were to ask something else."""
    frame = sample()[["count", "size"]].assign(whole=lambda rows: rows["count"] + 1)
    columns = [
        ("texts", make_pipeline(FunctionTransformer(as_text), OneHotEncoder(handle_unknown="ignore")), ["count"])
    ]
    columns += [("size", SimpleImputer(), ["size", "whole"])]
    fitted = make_pipeline(ColumnTransformer(columns), LinearRegression()).fit(frame, labels(sample(), "regression"))
    taken = chosen(fitted, frame, "regression")
    assert (taken.form, taken.missing) == ("frame", ("count", "size", "whole")) and taken.difference <= 1e-8


def sorry(rows):
    if len(rows) == 1:
        raise RuntimeError("one\nis not enough")
    return rows


def test_a_model_that_answers_no_row_alone_is_refused_in_one_line(chosen):
    frame = sample()[["count"]]
    fitted = make_pipeline(FunctionTransformer(sorry), LinearRegression()).fit(frame, frame["count"] * 2.0)
    with pytest.raises(Misuse, match="^model.py: RuntimeError: one is not enough; a row alone must be"):
        chosen(fitted, frame, "regression")


def by_name(rows):
    return rows[["size"]].fillna(0).assign(large=rows["size"] > 50)


def test_a_model_that_wants_names_of_columns_is_served_by_a_frame(chosen):
    frame = sample()
    fitted = make_pipeline(FunctionTransformer(by_name), LogisticRegression()).fit(frame, labels(frame, "binary"))
    taken = chosen(fitted, frame, "binary")
    assert taken.form == "frame" and taken.difference <= EXACT
    assert "compiled: " in taken.why and "arrays: " in taken.why


def test_times_and_truth_values_are_served_as_they_were_trained(chosen):
    frame = sample().assign(
        at=pd.date_range("2024-01-01", periods=600, freq="h", tz="UTC"), open=[True, False, None] * 200
    )
    hour = FunctionTransformer(lambda rows: rows.assign(at=rows["at"].dt.hour))
    fitted = make_pipeline(
        hour,
        ColumnTransformer(
            [
                ("texts", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["shop", "open"]),
                ("numbers", SimpleImputer(), ["at", "size"]),
            ]
        ),
        LogisticRegression(max_iter=1000),
    ).fit(frame, labels(frame, "binary"))
    taken = chosen(fitted, frame, "binary")
    assert (taken.form, taken.difference) == ("frame", 0.0)
    assert "column 'at' is of kind time, which" in taken.why


def test_a_column_that_the_model_cannot_do_without_is_declared_so(chosen):
    frame = sample().dropna()
    numbers = StandardScaler()  # lets a gap through, which the regression refuses
    fitted = pipeline(LogisticRegression(), numbers).fit(frame, labels(frame, "binary"))
    taken = chosen(fitted, frame, "binary")
    assert taken.missing == ("shop", "note")
    profile = signature.profile(frame, frame, taken.missing, taken.closed, np.array([0.5]), "binary")
    assert {c["name"]: c["missing"] for c in profile["columns"]} == {
        "shop": True,
        "note": True,
        "size": False,
        "count": False,
    }
    assert profile["columns"][0]["categories"] == ["north", "south", "ünder the bridge"]
    assert profile["columns"][3]["range"] == [0.0, 8.0]


def test_a_text_that_the_model_refuses_is_told_with_its_row_and_column(chosen):
    frame = sample()
    texts = [("shop", OneHotEncoder(), ["shop"]), ("note", OneHotEncoder(handle_unknown="ignore"), ["note"])]
    fitted = make_pipeline(ColumnTransformer(texts), LinearRegression()).fit(frame, labels(frame, "regression"))
    taken = chosen(fitted, frame, "regression")
    assert (taken.closed, taken.missing) == (("shop",), ("note", "size", "count"))
    told = signature.profile(frame, frame, taken.missing, taken.closed, np.array([0.5]), "regression")["columns"]
    columns = signature.columns_of(SimpleNamespace(profile={"columns": told}))
    asked = signature.Signature(columns, max_rows=9)
    assert asked.schema()["properties"]["rows"]["items"]["properties"]["shop"]["enum"] == [
        "north",
        "south",
        "ünder the bridge",
    ]
    rows = [{"shop": shop, "note": "never seen", "size": 1.0, "count": 1.0} for shop in ("north", "west")]
    assert asked.read(json.dumps({"rows": rows[:1]}).encode())[1].others["shop"] == ["north"]
    with pytest.raises(
        signature.BadRows, match="^row 2: column 'shop' should be one of the 3 texts of training, not 'west'$"
    ):
        asked.read(json.dumps({"rows": rows}).encode())


def test_a_column_of_names_keeps_none_of_them():
    frame = pd.DataFrame({"name": [f"person {number}" for number in range(signature.CATEGORIES + 1)]})
    [column] = signature.profile(frame, frame, (), (), np.array([0.5]), "binary")["columns"]
    assert column["categories"] is None


# In the repository


@pytest.fixture
def candidate(bootstrapped):
    return Bundle(bootstrapped.path / "build" / "candidate")


def test_the_bundle_holds_the_compiled_model_and_says_how_it_is_served(bootstrapped, candidate):
    served = candidate.lineage["served"]
    assert (served["form"], served["why"], served["tolerance"]) == ("compiled", None, TOLERANCE)
    assert served["difference"] < EXACT
    record = json.loads((bootstrapped.path / "build" / "steps" / "train.json").read_text())
    assert record["message"].endswith("held out, served as compiled")
    before = candidate.digest
    (candidate.path / "model.onnx").write_bytes(b"another one")
    assert type(candidate)(candidate.path).digest != before


def test_a_bundle_that_is_older_than_forms_is_served_by_arrays_or_a_frame_whichever_is_right(bootstrapped, candidate):
    for name in ("model.onnx", "profile.json"):
        (candidate.path / name).unlink()
    lineage = {name: value for name, value in candidate.lineage.items() if name != "served"}
    (candidate.path / "lineage.json").write_text(to_json(lineage))
    trusted = conveyor_params.load(bootstrapped.path / "params.yaml").model.trusted_types

    def load():
        bundle = Bundle(candidate.path)
        form, answer = runtime.load(bundle, trusted, TOLERANCE)
        return form, runtime.golden(bundle, answer, TOLERANCE)

    assert load() == ("arrays", 0.0)

    # A slice from name to name says nothing of an array.
    frame = pd.read_csv(bootstrapped.path / "data" / "flights.csv.gz")
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    columns = ColumnTransformer([("numbers", numbers, slice("distance", "visib"))])
    fitted = make_pipeline(columns, LogisticRegression()).fit(frame.drop(columns=["late"]), frame["late"])
    (candidate.path / "model.skops").write_bytes(pack(fitted))
    rows = frame.drop(columns=["late"]).head(20)
    said = {"rows": json.loads(rows.to_json(orient="records")), "answers": runtime.predict(fitted, rows).tolist()}
    (candidate.path / "golden.json").write_text(json.dumps(said))
    lineage["features"] = {name: str(dtype) for name, dtype in rows.dtypes.items()}
    (candidate.path / "lineage.json").write_text(json.dumps(lineage))
    assert load() == ("frame", 0.0)


def serve_as(bundle, form: str) -> None:
    """Say of a bundle that another form was chosen."""
    lineage = {**bundle.lineage, "served": {**bundle.lineage["served"], "form": form}}
    (bundle.path / "lineage.json").write_text(to_json(lineage))


# What is imported, and what a fingerprint covers

HEAVY = ("pandas", "scipy", "sklearn", "skops", "yaml", "mlflow", "typer", "pyarrow", "skl2onnx", "onnx", "matplotlib")
LOAD = """
import json, sys
class Absent:
    def find_spec(name, *_):
        if name in sys.argv[3:]:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent)
from pathlib import Path
from conveyor.model import runtime
from conveyor.model.bundle import Bundle
from conveyor.serving import app, prediction_log, settings
form, answer = runtime.load(Bundle(Path("build/candidate")), tuple(json.loads(sys.argv[1])), 1e-5)
runtime.golden(Bundle(Path("build/candidate")), answer, 1e-5)
prediction_log.Remote("memory://log").write(b"")
print(form, *(name for name in json.loads(sys.argv[2]) if sys.modules.get(name)))
"""


@pytest.mark.parametrize(
    "form, needed, absent",
    [
        ("compiled", set(), []),
        ("arrays", {"scipy", "sklearn", "skops"}, ["pandas"]),  # scikit-learn takes it along where it is installed
        ("frame", {"scipy", "sklearn", "skops", "pandas", "pyarrow"}, []),
    ],
)
def test_a_server_imports_nothing_that_its_form_does_not_need(bootstrapped, candidate, form, needed, absent):
    serve_as(candidate, form)
    trusted = conveyor_params.load(bootstrapped.path / "params.yaml").model.trusted_types
    words = [sys.executable, "-c", LOAD, json.dumps(trusted), json.dumps(HEAVY), *absent]
    told, *imported = bootstrapped.run(*words, env={"PYTHONPATH": "src"}).stdout.split()
    assert (told, set(imported)) == (form, needed)


def test_a_compiled_model_at_work_leaves_no_database_of_telemetry_in_the_home_directory(bootstrapped, tmp_path):
    """The runtime keeps one, and reports home, unless it is told before it is imported."""
    code = "from conveyor.model import runtime; from conveyor.model.bundle import Bundle\n"
    code += "from pathlib import Path; print(runtime.load(Bundle(Path('build/candidate')), (), 1e-5)[0])"
    env = environment(PYTHONPATH="src", HOME=str(tmp_path))
    del env["ORT_DISABLE_TELEMETRY"]
    done = subprocess.run([sys.executable, "-c", code], cwd=bootstrapped.path, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "compiled\n"), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_step_is_run_again_when_code_that_it_names_or_imports_changes(tmp_path, monkeypatch):
    """What a module imports late belongs to the step that names it: none may be lost on the way."""
    copy = shutil.copytree(code.SOURCE / "conveyor", tmp_path / "conveyor")
    monkeypatch.setattr(code, "SOURCE", tmp_path)
    steps = {step.name: step.code for step in VERBS}

    def touched(*modules: str) -> set[str]:
        before, found = code.code_sha256(*modules), set()
        for module in copy.rglob("*.py"):
            content = module.read_bytes()
            module.write_bytes(content + b"\n# changed\n")
            if code.code_sha256(*modules) != before:
                found.add(str(module.relative_to(copy).with_suffix("")))
            module.write_bytes(content)
        return found

    shared = {"model/bundle", "model/runtime", "model/scoring", "data/source"}
    assert {"steps/train", "model/signature", "model/builder", "gate/metrics"} | shared <= touched(*steps["train"])
    assert {"steps/score", "core/params"} | shared <= touched(*steps["score"])
    assert {"steps/compare", "gate/decide", "gate/guards", "gate/metrics"} | shared <= touched(*steps["compare"])
    assert {"core/params"} | shared <= touched("conveyor.model.scoring")  # lineage: scoring_code
    # Neither the server nor the log of predictions makes a model another one.
    assert not [name for name in touched(*steps["train"]) if name.startswith("serving/")]


@pytest.mark.parametrize("names", [("mean radius", "Mass (kg)"), ("a b", "a_b"), ("a_b", "a b"), ("größe", "1st")])
def test_a_column_of_any_name_is_compiled(names):
    frame = pd.DataFrame(np.random.default_rng(8).normal(size=(200, 2)), columns=names)
    frame.insert(1, "the text", np.where(frame[names[0]] > 0, "x y", "z"))
    columns = ColumnTransformer([("t", OneHotEncoder(), ["the text"]), ("n", StandardScaler(), [names[1], names[0]])])
    fitted = make_pipeline(columns, LinearRegression()).fit(frame, frame[names[0]] - 2 * frame[names[1]])
    said = runtime.predict(fitted, frame, "regression", 0)
    assert choice.choose(fitted, frame, said, asked("regression"), TOLERANCE).form == "compiled"


def test_the_search_for_the_served_form_grows_with_the_columns_and_not_with_their_square():
    """Asked in whole frames, each column would cost all columns: 64 times as much for eight times as many."""
    draw, took = np.random.default_rng(6), []
    for count in (50, 400):
        frame = pd.DataFrame(draw.normal(size=(400, count)), columns=[f"c{n}" for n in range(count)])
        y = (frame["c0"] + draw.normal(size=400) > 0).astype(int)
        fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, y)
        said = runtime.predict(fitted, frame, "binary", 2)
        began = time.process_time()
        assert choice.choose(fitted, frame, said, asked("binary"), TOLERANCE).form == "compiled"
        took.append(time.process_time() - began)
    assert took[1] / took[0] < 24, took
