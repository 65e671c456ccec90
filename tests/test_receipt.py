"""Risk: a verdict is changed after the fact, together with the numbers it follows from, and nobody can tell."""

import base64
import inspect
import json
import time
import zlib
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from ledgers import Place

from conveyor.core.errors import Misuse, Refused
from conveyor.core.files import to_json
from conveyor.core.params import Gate, load
from conveyor.core.project import Project
from conveyor.gate.decide import decide
from conveyor.gate.looks import Sight
from conveyor.gate.receipt import Array, Damaged, Receipt, receipt
from conveyor.steps import verify

RULE = {"metric": "roc_auc", "promote_when": "superior", "margin": 0.001, "confidence": 0.95, "floors": {"brier": 0.4}}
ABOUT = {"version": "0.1.0", "key": "a" * 64, "digest": "b" * 64, "champion_digest": "c" * 64, "holdout": "d" * 64}


def asked(rows: int = 2000, **rule):
    """What `compare` asks the gate about two models of which the challenger is better."""
    draw = np.random.default_rng(7)
    signal = draw.normal(0, 1.5, rows)
    y = (draw.random(rows) < 1 / (1 + np.exp(-signal))).astype(np.int64)
    theirs, ours = (1 / (1 + np.exp(-signal - draw.normal(0, noise, rows))) for noise in (1.5, 0.3))
    segments = pd.DataFrame({"origin": [f"= {n}" for n in draw.integers(0, 4, rows)], "far": ["up to 9"] * rows})
    return {
        "y": y,
        "champion": theirs,
        "challenger": ours,
        "rule": Gate(**{**RULE, **rule}),
        "champion_error": None,
        "task": "binary",
        "groups": np.arange(rows) // 50,
        "segments": segments,
        "unit": "day",
    }


def text_of(given) -> tuple[str, str]:
    """The digest and the text of a receipt."""
    return verify.stored(receipt(given, decide(**given), **ABOUT))


DIGEST, TEXT = text_of(asked())


@pytest.fixture(scope="module")
def recorded(bake, tmp_path_factory):
    """A repository whose ledger records the receipt in its first event, and another one in the third."""
    place = Place(bake(), tmp_path_factory.mktemp("bundles"))
    ledger = place.open()
    ledger.live(ledger.accept(place.bundle("one"), ledger.number, "promote", "it is better", receipt=DIGEST))
    ledger.note(place.bundle("two"), ledger.number, "keep", "it is not", Sight(holdout="e" * 64), receipt="f" * 64)
    return place.project.path


@pytest.fixture
def verified(recorded, tmp_path):
    """verified(text) -> the line of the verb about that receipt."""

    def verified(text: str, root=recorded, event=None) -> str:
        path = tmp_path / "receipt.json"
        path.write_text(text)
        return verify.run(path, root, event)

    return verified


def test_a_receipt_as_it_was_written_is_verified(verified):
    line = f"promote follows from 2,000 rows; version 0.1.0, receipt {DIGEST[:12]}; event 1 records it"
    assert verified(TEXT) == verified(TEXT, event=1) == line


def array(name, change):
    """An edit of an array."""

    def edit(made):
        values = Array.model_validate_json(json.dumps(made[name])).values().copy()
        made[name] = Array.of(np.asarray(change(values))).model_dump(mode="json")

    return edit


def put(dotted, value):
    """An edit that puts a value, or what a function makes of the old one, at a dotted place."""

    def edit(made):
        *places, last = (int(part) if part.isdigit() else part for part in dotted.split("."))
        for part in places:
            made = made[part]
        made[last] = value(made[last]) if callable(value) else value

    return edit


def at(place, change):
    """A change of one number of an array."""

    def changed(values):
        values[place] = change(values[place])
        return values

    return changed


def exchange(one, other):
    def edit(made):
        made[one], made[other] = made[other], made[one]

    return edit


def code(change):
    def edit(made):
        array("codes", change)(made["segments"][0])

    return edit


def repacked(level, more=b""):
    def edit(made):
        values = Array.model_validate_json(json.dumps(made["labels"])).values()
        made["labels"]["data"] = base64.b64encode(zlib.compress(values.tobytes(), level) + more).decode()

    return edit


EDITS = {
    "a label": array("labels", at(3, lambda v: 1 - v)),
    "the last label": array("labels", at(-1, lambda v: 1 - v)),
    "all labels": array("labels", lambda v: 1 - v),
    "labels in another order": array("labels", lambda v: v[::-1]),
    "labels of one class": array("labels", lambda v: v * 0),
    "a label less": array("labels", lambda v: v[:-1]),
    "a label more": array("labels", lambda v: np.append(v, 1)),
    "labels as floats": array("labels", lambda v: v.astype(float)),
    "labels in two columns": array("labels", lambda v: v.reshape(-1, 2)),
    "labels packed otherwise": repacked(1),
    "bytes after the labels": repacked(6, b"more"),
    "no labels": put("labels.data", ""),
    "labels of another shape": put("labels.shape", [1999]),
    "labels of a negative shape": put("labels.shape", [-2000]),
    "labels of an endless shape": put("labels.shape", [10**30]),
    "a prediction by a trifle": array("challenger", at(3, lambda v: v + 1e-9)),
    "a prediction": array("challenger", at(3, lambda v: 1 - v)),
    "predictions that know the labels": array("challenger", lambda v: 0.9 * v + 0.05),
    "rounded predictions": array("challenger", lambda v: v.round(2)),
    "a missing prediction": array("challenger", at(3, lambda v: np.nan)),
    "predictions in another order": array("challenger", lambda v: v[::-1]),
    "a prediction less": array("challenger", lambda v: v[:-1]),
    "a prediction of the champion": array("champion", at(3, lambda v: 1 - v)),
    "a champion that guesses": array("champion", lambda v: v * 0 + 0.5),
    "a champion that cannot score": array("champion", lambda v: v * np.nan),
    "no champion": put("champion", None),
    "challenger and champion exchanged": exchange("champion", "challenger"),
    "rows alone": put("groups", None),
    "each row its own unit": array("groups", lambda v: np.arange(len(v))),
    "two units in one": array("groups", lambda v: np.where(v == 1, 0, v)),
    "longer units": array("groups", lambda v: v // 2),
    "a shape beyond memory": put("labels", {"type": "<i8", "shape": [10**30, 0], "data": "eJwDAAAAAAE="}),
    "a look without a level": put("look", {"place": 1, "again": 0, "level": 0.0, "before": 0, "share": None}),
    "a row in another unit": array("groups", at(49, lambda v: v + 1)),
    "a unit less": array("groups", lambda v: v[:-1]),
    "the name of the unit": put("unit", "week"),
    "no segments": put("segments", None),
    "a segment less": put("segments", lambda v: v[:1]),
    "a row in another segment": code(at(3, lambda v: (v + 1) % 4)),
    "a row in a segment without a name": code(at(3, lambda v: 99)),
    "the name of a segment": put("segments.0.values.0", "= other"),
    "the column of a segment": put("segments.0.column", "dest"),
    "segments of fewer rows": code(lambda v: v[:-1]),
    "the metric": put("rule.metric", "log_loss"),
    "a metric of another task": put("rule.metric", "rmse"),
    "the margin": put("rule.margin", 0.0),
    "a margin by a trifle": put("rule.margin", 0.0010000001),
    "the confidence": put("rule.confidence", 0.9),
    "what is asked": put("rule.promote_when", "non_inferior"),
    "a floor": put("rule.floors", {"brier": 0.3}),
    "no floor": put("rule.floors", {}),
    "the threshold": put("rule.threshold", 0.4),
    "the block": put("rule.block", "week"),
    "the margin of the segments": put("rule.guards.segment_margin", 0.03),
    "no calibration": put("rule.guards.calibration_margin", None),
    "the fewest rows of a segment": put("rule.guards.min_rows", 5000),
    "the confidence of the guards": put("rule.guards.confidence", 0.98),
    "an error of the champion": put("champion_error", "it is broken"),
    "the task": put("task", "regression"),
    "the outcome": put("decision.outcome", "keep"),
    "the reason": put("decision.reason", lambda v: v.replace("better", "best")),
    "the gain": put("decision.metrics.0.gain", lambda v: v + 0.01),
    "the gain by a trifle": put("decision.metrics.0.gain", lambda v: v * (1 + 1e-12)),
    "a bound": put("decision.metrics.0.gain_low", 0.05),
    "a value of the champion": put("decision.metrics.0.champion", 0.5),
    "the number of rows": put("decision.rows", 2001),
    "the classes": put("decision.class_counts", [1000, 1000]),
    "a guard": put("decision.guards.0.holds", False),
    "the number of units": put("decision.units.count", 41),
    "no guard": put("decision.guards", []),
    "the floor that held": put("decision.floors.0.value", 0.1),
    "the model": put("key", "9" * 64),
    "the digest of the model": put("digest", "9" * 64),
    "the digest of the champion": put("champion_digest", None),
    "the holdout": put("holdout", "9" * 64),
    "the version": put("version", "0.2.0"),
    "the schema": put("schema", 2),
    "an unknown key": lambda made: made.update(more=1),
    "a key less": lambda made: made.pop("unit"),
    "a number that is none": put("rule.margin", "0.001"),
}


def forged(edit) -> list[str]:
    """The receipt with an edit; with its digest made to fit; and with the verdict made to fit, too."""
    made = json.loads(TEXT)
    edit(made)
    texts = [to_json(made)]
    made.pop("sha256", None)
    texts.append(to_json({**made, "sha256": verify.sha256(to_json(made).encode())}))
    try:
        changed = Receipt.model_validate_json(to_json(made))
        texts.append(verify.stored(changed.model_copy(update={"decision": changed.again()}))[1])
    except (Damaged, ValueError, KeyError):
        pass  # nothing follows from it
    return [text for text in texts if text != TEXT]


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_is_refused_whatever_else_was_made_to_fit(verified, name):
    texts = forged(EDITS[name])
    assert texts
    for text in texts:
        for event in (None, 1):
            with pytest.raises(Refused, match="^verify: "):
                verified(text, event=event)


def test_fifty_edits_are_planted_and_forty_of_them_only_the_event_can_tell(verified, tmp_path):
    assert len(EDITS) >= 50
    told = 0
    for edit in EDITS.values():
        try:
            line = verified(forged(edit)[-1], root=tmp_path)
        except Refused:
            continue
        assert "NOT compared with the ledger, which cannot be read: params.yaml: missing" in line
        told += 1
    assert told >= 40


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        TEXT[:-2],
        TEXT.replace("\n", "\r\n"),
        TEXT + "\n",
        TEXT.replace("{\n", '{\n  "unit": "week",\n', 1),
        "[" * 100_000,
        TEXT.replace(DIGEST, DIGEST[::-1]),
    ],
    ids=["empty", "a list", "cut off", "other line ends", "a line more", "a key twice", "deep", "another digest"],
)
def test_a_file_that_no_compare_wrote_is_refused(verified, text):
    with pytest.raises(Refused, match="^verify: the (file|receipt|digest) "):
        verified(text)


def test_the_event_that_is_named_must_record_it(verified, tmp_path):
    for event in (2, 3):
        with pytest.raises(Refused, match=f"^verify: event {event} does not record this receipt"):
            verified(TEXT, event=event)
    with pytest.raises(Misuse, match="there is no event 4;"):
        verified(TEXT, event=4)
    with pytest.raises(Misuse, match="^verify: event 1 cannot be read: params.yaml: missing"):
        verified(TEXT, root=tmp_path, event=1)
    with pytest.raises(Misuse, match="cannot be read: No such file"):
        verify.run(tmp_path / "none.json", tmp_path)


@pytest.mark.parametrize("task", ["multiclass", "regression", "without a champion", "rows alone"])
def test_each_kind_of_verdict_comes_back_from_its_receipt(task):
    given = asked()
    draw = np.random.default_rng(7)
    if task == "multiclass":
        models = [draw.dirichlet([noise] * 3, 2000) for noise in (0.5, 2.0)]
        given |= {"task": task, "y": draw.integers(0, 3, 2000), "champion": models[0], "challenger": models[1]}
        given["rule"] = Gate(**{**RULE, "metric": "log_loss"})
    elif task == "regression":
        y = draw.normal(1e6, 1, 2000)
        given |= {"task": task, "y": y, "champion": y + 0.5, "challenger": y + draw.normal(0, 0.3, 2000)}
        given["rule"] = Gate(**{**RULE, "metric": "mae", "floors": {"r2": 0.1}})
    elif task == "without a champion":
        given |= {"champion": None, "segments": None}
    else:
        given |= {"groups": None, "unit": "row"}
    digest, text = text_of(given)
    read, made = verify.read(text.encode())
    again = verify.derived(made)
    assert read == digest and made.again() == again
    whole = decide(**given)
    assert (again.outcome, again.reason, again.guards) == (whole.outcome, whole.reason, whole.guards)
    back = made.given()
    for name in ("y", "champion", "challenger", "groups"):
        same = back[name] is given[name] is None or np.array_equal(back[name], given[name], equal_nan=True)
        assert same, name


def test_a_receipt_holds_every_argument_of_the_decision():
    """A new one must be added to it, or no verdict could be derived again."""
    _, made = verify.read(TEXT.encode())
    assert made.given().keys() == inspect.signature(decide).parameters.keys()


def test_a_metric_of_the_team_needs_its_repository(verified):
    made = json.loads(TEXT)
    made.pop("sha256")
    made["rule"] |= {"own_metrics": {"profit": "flights.profit:PROFIT"}, "metric": "profit"}
    text = verify.stored(Receipt.model_validate_json(to_json(made)))[1]
    with pytest.raises(Misuse, match="profit is a metric of the team; run this in the repository of the receipt"):
        verified(text)


@pytest.mark.parametrize("metric", ["roc_auc", "log_loss"])
@pytest.mark.parametrize("alone", [False, True], ids=["days", "rows"])
def test_a_verdict_on_ten_thousand_rows_is_derived_again_within_a_second(metric, alone):
    """With a metric that has a closed form."""
    given = asked(10_000, metric=metric)
    _, text = text_of(given | {"groups": None} if alone else given)
    content, took = text.encode(), []
    for _ in range(3):
        began = time.perf_counter()
        verify.derived(verify.read(content)[1])
        took.append(time.perf_counter() - began)
    assert min(took) < 1 and len(content) < 400_000


def test_the_pipeline_writes_it_its_event_has_its_digest_and_it_holds_no_feature(bootstrapped):
    path = bootstrapped.path / "build" / "receipt.json"
    digest = json.loads((bootstrapped.path / "build" / "decision.json").read_text())["receipt"]
    made = json.loads(path.read_text())
    assert made["sha256"] == digest
    events = json.loads(bootstrapped.cli("history", "--json").stdout)
    assert events[0]["type"] == "accepted" and events[0]["receipt"] == digest
    done = bootstrapped.make("-s", "verify")
    assert f"bootstrap follows from 4,043 rows; version 0.1.0, receipt {digest[:12]}; event 1 records it" in done.stdout
    assert [segment["column"] for segment in made["segments"]] == ["origin", "carrier"]
    assert '"distance"' not in path.read_text() and '"temp"' not in path.read_text()

    path.write_text(path.read_text().replace('"outcome": "bootstrap"', '"outcome": "promote"'))
    done = bootstrapped.make("-s", "verify", check=False)
    assert "error: verify: the digest in the receipt is of another content: it was changed" in done.stderr
    # A workflow keeps no receipt, unless it is asked to, but knows the digest.
    bootstrapped.set_param("gate.margin", 0.002)
    bootstrapped.cli("score")
    bootstrapped.cli("compare", GITHUB_RUN_ID="1", GITHUB_REPOSITORY="acme/late-flights")
    decision = json.loads((bootstrapped.path / "build" / "decision.json").read_text())
    assert not path.exists() and len(decision["receipt"]) == 64 and decision["receipt"] != digest


@pytest.mark.parametrize(
    ("run", "kept", "private", "written"),
    [
        (None, False, None, True),
        ("https://x/runs/1", False, True, False),
        ("https://x/runs/1", True, True, True),
        ("https://x/runs/1", True, False, False),
        ("https://x/runs/1", True, None, False),
    ],
    ids=["a laptop", "off", "on and private", "on and public", "on and unknown"],
)
def test_a_workflow_keeps_it_in_a_private_repository_that_says_so(
    project, tmp_path, capsys, run, kept, private, written
):
    opened, event = Project(project.path), tmp_path / "event.json"
    event.write_text(json.dumps({} if private is None else {"repository": {"private": private}}))
    opened.environment = SimpleNamespace(run_url=run, event=str(event))
    opened.params = opened.params.model_copy(update={"gate": opened.params.gate.model_copy(update={"receipt": kept})})
    opened.build.mkdir()
    path = opened.build / "receipt.json"
    path.write_text("of an earlier verdict")
    given = asked()
    digest = verify.write(opened, given, decide(**given), **{k: v for k, v in ABOUT.items() if k != "version"})
    assert digest == DIGEST and path.exists() == written
    assert not written or path.read_text() == TEXT
    assert ("::warning title=No receipt::" in capsys.readouterr().out) == bool(run and kept and not written)


def test_private_columns_and_a_kept_receipt_exclude_each_other(project):
    project.set_param("gate.receipt", True)
    assert load(project.path / "params.yaml").gate.receipt
    project.set_param("data.private", ["tailnum"])
    with pytest.raises(Misuse, match="gate.receipt: an artifact would hold labels and segments, and data.private"):
        load(project.path / "params.yaml")
