"""Risk: what explains the loss of one task breaks for another, or tells a column that is private."""

from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from conveyor.core.params import load
from conveyor.watch import explained, log_rows, loss, wording
from conveyor.watch.labels import Joined

NOW = pd.Timestamp("2026-11-30T12:00:00Z")
NONE = pd.DataFrame({"time": pd.Series(dtype="datetime64[us, UTC]"), "status": [], "count": []})  # refusals
COLUMNS = {"age": ("number", "int64"), "town": ("text", "object"), "name": ("text", "object")}


class Git:
    """One that has no commit."""

    def __call__(self, *_: str) -> str:
        raise explained.GitError("bad object")


@pytest.fixture
def asked(project):
    """asked(task, labelled) -> what ``explain`` finds for a model of this task, of whose rows a share has a label."""
    params = load(project.path / "params.yaml")
    guards = params.gate.guards.model_copy(update={"segments": ("town", "flight", "name")})
    data = params.data.model_copy(update={"time": "seen", "target": "y", "private": ("name",)})
    params = params.model_copy(update={"data": data, "gate": params.gate.model_copy(update={"guards": guards})})
    made = SimpleNamespace(params=params, git=Git(), root=project.path)
    profile = {"columns": [{"name": name, "kind": kind, "missing": True} for name, (kind, _) in COLUMNS.items()]}
    draw = np.random.default_rng(1)

    def rows(count: int, first: str) -> pd.DataFrame:
        frame = pd.DataFrame({"age": draw.integers(20, 60, count), "town": draw.choice(["Rome", "Oslo"], count)})
        times = pd.Timestamp(first, tz="UTC") + pd.to_timedelta(np.arange(count) * (27 / count), "D")
        return frame.assign(name="Ada Lovelace", flight=draw.integers(1, 4, count), seen=times)

    def said(task: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        if task == "regression":
            return draw.normal(size=count), draw.normal(size=count)
        if task == "binary":
            return draw.random(count), draw.integers(0, 2, count).astype(float)
        return draw.dirichlet([1, 2, 3], count), draw.integers(0, 3, count).astype(float)

    def explain(task: str, labelled: float = 1.0) -> explained.Explained:
        classes = {"binary": ["0", "1"], "multiclass": ["a", "b", "c"], "regression": []}[task]
        features = {name: dtype for name, (_, dtype) in COLUMNS.items()}
        about = {"task": task, "target": "y", "classes": classes}
        bundle = SimpleNamespace(
            asked=about, features=features, profile=profile, unused=("flight", "seen"), key="k" * 64
        )
        wanted = explained.wanted(made, bundle)
        assert wanted == {"age": "number", "town": "text", "flight": "text"}
        frame = rows(3000, "2026-06-01")
        held = np.arange(3000) >= 2000
        predicted, y = said(task, 1000)
        then = loss.Then(frame, held, predicted, y if task == "regression" else y.astype(np.int64))
        live = rows(2000, "2026-11-02")
        predicted, y = said(task, 2000)
        log = pd.DataFrame({"id": [f"{n}" for n in range(2000)], "row": 1, "time": live["seen"], "model": "m"})
        log["prediction"] = list(predicted) if predicted.ndim == 2 else predicted
        features = live[["age", "town"]].assign(age=live["age"].astype(float), flight=live["flight"].map(str))
        read = log_rows.Read(log, features, pd.DataFrame(columns=["id", "row", "label"]), NONE, 1, 0, 0, 0)
        known = draw.random(2000) < labelled
        found = Joined(log[known].assign(y=y[known]), 0, 0, 0, 0, 0, 0)
        return explained.explain(made, SimpleNamespace(key="m", commit="c" * 40), bundle, read, found, then, NOW)

    return explain


@pytest.mark.parametrize(
    ("task", "scores"),
    [
        ("binary", ["prediction"]),
        ("regression", ["prediction"]),
        ("multiclass", ["probability of a", "probability of b", "probability of c"]),
    ],
)
def test_each_task_is_explained_without_a_private_column(asked, task, scores):
    found = asked(task)
    assert [column.name for column in found.scores] == scores
    assert sorted(column.name for column in found.columns) == ["age", "town"] and found.private == 1
    assert not any(column.moved for column in (*found.scores, *found.columns))
    assert {each.column for each in found.segments} == {"town", "flight"}
    assert {each.value for each in found.segments if each.column == "flight"} == {"= 1", "= 2", "= 3"}
    assert "Ada" not in str(asdict(found)) and found.few is found.few_why is None
    text = wording.moved(found) + wording.segments(found)
    assert "**0 of " in text and "Ada" not in text and "| flight = 1 |" in text


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_few_labels_are_told_of_classes_and_of_numbers_it_is_said_why_not(asked, task):
    found = asked(task, labelled=0.1)
    assert (found.few is None) == (task == "regression")
    assert (found.few_why == explained.NO_LOSS) == (task == "regression")
    lines = wording.few(found)
    assert lines and ("a model of numbers" in lines[0] or "have a label" in lines[0])


def test_a_contract_that_cannot_be_run_is_told_and_the_rest_is_there(asked, project):
    suite = project.path / "expectations" / "data.json"
    suite.write_text("{")
    found = asked("binary")
    assert "not JSON" in found.contract.why and found.columns
    assert "- The contract of training was not checked: " in wording.moved(found)
    suite.write_text(
        '{"name": "data", "expectations": [{"type": "expect_column_to_exist", "kwargs": {"column": "name"}}]}'
    )
    assert asked("binary").contract.why == "no expectation is about a column that is logged"
