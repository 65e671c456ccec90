"""Risk: what a caller says came true is lost, joined to another prediction, taken of anybody, or breaks the service."""

import http.client
import json
import math
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import given_log
import jsonschema
import pandas as pd
import pytest
from conftest import environment
from edge import edge, recorder
from serving import JSON, serving, settings

from conveyor.core.errors import Misuse
from conveyor.core.params import load
from conveyor.core.project import Project
from conveyor.deploy.traffic import Traffic
from conveyor.serving import log_files, prediction_log
from conveyor.serving.feedback import Feedback
from conveyor.serving.prediction_log import FeedbackLog
from conveyor.serving.problem import Problem
from conveyor.watch import labels, log_lines, log_rows, loss, monitor

TOKEN = "a-secret-of-32-letters-and-digits"
NOW = pd.Timestamp("2026-11-30T12:00:00Z")
ID = "9b2f0d6c-4a4e-4f6e-8d0c-2f1f5f0a6f3e"


@pytest.fixture
def image(trained, bundle):
    return settings(trained, bundle, **{"serve.feedback": True, "serve.max_rows": 100, "serve.max_bytes": 100_000})


def say(server, *given, **headers):
    return server.ask("POST", "/feedback", {"labels": list(given)}, JSON | headers)


def lines(folder, kind):
    return [
        json.loads(line) for file in sorted(folder.glob(f"{kind}-*.jsonl")) for line in file.read_bytes().splitlines()
    ]


# In the server


def test_labels_are_kept_beside_the_predictions_and_find_them(trained, image, bundle, tmp_path):
    folder = tmp_path / "log"
    with serving(trained, image, bundle, PREDICTION_LOG=str(folder)) as server:
        ids = [server.predict(server.row(), server.row())[1]["id"] for _ in range(2)]
        assert say(server, {"id": ids[0], "label": True}, {"id": ids[1], "row": 2.0, "label": 0}) == (200, {"taken": 2})
        assert say(server, {"id": "of nobody", "label": "1"}) == (200, {"taken": 1}), "no id is looked up"
        assert server.metric("labels_total") == 3
        assert server.metric('requests_total{path="/feedback",status="200"}') == 2
        assert server.end() == (0, "")
    found = lines(folder, "feedback")
    assert all(
        abs(datetime.now(UTC) - datetime.fromisoformat(line.pop("time"))) < timedelta(minutes=1) for line in found
    )
    assert found == [
        {"id": ids[0], "row": 1, "label": True},
        {"id": ids[1], "row": 2, "label": 0},
        {"id": "of nobody", "row": 1, "label": "1"},
    ]
    files = [(file.name, file.read_bytes()) for file in folder.iterdir()]
    log = given_log.parsed(iter(files), (), False, pd.Timestamp.now("UTC"))
    joined = labels.joined(log.rows, pd.DataFrame({"id": [], "label": []}), ["0", "1"], log.labels)
    assert joined.rows[["id", "row", "y"]].to_numpy().tolist() == [[ids[0], 1, 1.0], [ids[1], 2, 0.0]]
    assert (joined.waiting, joined.unasked, log.damaged) == (2, 1, 0)


def test_without_the_setting_there_is_no_such_path(trained, bundle, tmp_path):
    with serving(trained, settings(trained, bundle), bundle, PREDICTION_LOG=str(tmp_path / "log")) as server:
        assert say(server, {"id": ID, "label": 1}) == (
            404,
            {"error": "post /feedback: not found", "row": None, "column": None},
        )
        assert "/feedback" not in server.ask("GET", "/openapi.json")[1]["paths"]
        assert server.metric('requests_total{path="other",status="404"}') == 1
    assert not lines(tmp_path / "log", "feedback")


WRONG = {
    "no id": ({"label": 1}, "id", "label 2: field 'id' is missing"),
    "no label": ({"id": ID}, "label", "label 2: field 'label' is missing"),
    "an empty id": ({"id": "", "label": 1}, "id", "label 2: field 'id' should be the id of an answer, .*"),
    "a long id": ({"id": "x" * 201, "label": 1}, "id", "label 2: field 'id' should be .* of 1 to 200 characters"),
    "a number for an id": ({"id": 7, "label": 1}, "id", "label 2: field 'id' should be the id of an answer, .*"),
    "row 0": ({"id": ID, "row": 0, "label": 1}, "row", "label 2: field 'row' should be the number of a row, .*"),
    "a true row": ({"id": ID, "row": True, "label": 1}, "row", "label 2: field 'row' should be .*"),
    "half a row": ({"id": ID, "row": 1.5, "label": 1}, "row", "label 2: field 'row' should be .*"),
    "a row beyond": ({"id": ID, "row": 2**40, "label": 1}, "row", "label 2: field 'row' should be .*"),
    "another class": ({"id": ID, "label": "2"}, "label", "label 2: field 'label' should be one of 0, 1"),
    "a number beside": ({"id": ID, "label": 0.5}, "label", "label 2: field 'label' should be one of 0, 1"),
    "null": ({"id": ID, "label": None}, "label", "label 2: field 'label' should be one of 0, 1"),
    "a list": ({"id": ID, "label": [1]}, "label", "label 2: field 'label' should be one of 0, 1"),
    "another field": ({"id": ID, "label": 1, "rows": 2}, "rows", "label 2: field 'rows' is unknown; leave it out"),
    "an empty field": ({"id": ID, "label": 1, "": 2}, "", "label 2: field '' is unknown; leave it out"),
    "no object": ("a1", None, "label 2: should be an object with id, row, label"),
}


def test_a_wrong_label_is_named_with_its_field_and_none_of_its_request_is_kept(trained, image, bundle, tmp_path):
    good = {"id": ID, "label": 1}
    with serving(trained, image, bundle, PREDICTION_LOG=str(tmp_path)) as server:
        for kind, (wrong, field, told) in WRONG.items():
            status, said = say(server, good, wrong)
            assert (status, said["row"], said["column"]) == (422, 2, field), kind
            assert re.fullmatch(told, said["error"]), (kind, said)
        for body, told in (
            (b"", "the body is no JSON in UTF-8"),
            (b'{"labels": [\xff]}', "the body is no JSON in UTF-8"),
            (b"[]", "the body should be .*"),
            (b'{"labels": {}}', "the body should be .*"),
            (b'{"labels": [], "more": 1}', "the body should be .*"),
            (b'{"labels": []}', "`labels` should hold 1 to 100 labels"),
            (json.dumps({"labels": [good] * 101}).encode(), "`labels` should hold 1 to 100 labels"),
            (b'{"labels": [' + b"{}," * 30_000 + b"{}]}", "`labels` should hold 1 to 100 labels"),
            (b'{"labels": [{' + b'"a":1,' * 10_000 + b'"b":1}]}', "label 1: should be an object with id, row, label"),
            (b'{"labels": ' + b"[" * 40_000 + b"]" * 40_000 + b"}", "`labels` should hold 1 to 100 labels"),
        ):
            status, said = server.ask("POST", "/feedback", body)
            assert status == 422 and re.fullmatch(told, said["error"]), (body[:40], said)
        assert say(server, good) == (200, {"taken": 1}) and server.ask("GET", "/readyz")[0] == 200
        assert server.metric("labels_total") == 1
        server.end()
    assert [line["id"] for line in lines(tmp_path, "feedback")] == [ID]


def test_what_closes_and_bounds_predict_closes_and_bounds_feedback(trained, bundle, tmp_path):
    limits = {"serve.feedback": True, "serve.max_bytes": 1000, "serve.max_seconds": 1.0, "serve.client_rate": 1.0}
    body = {"labels": [{"id": ID, "label": 1}]}
    here = {"PREDICTION_LOG": str(tmp_path), "PREDICT_TOKEN": TOKEN, "BEHIND_EDGE": "1"}
    with serving(trained, settings(trained, bundle, **limits), bundle, **here) as server:
        number = iter(range(1, 255))

        def ask(content, token=TOKEN, kind="application/json", method="POST"):
            headers = {"Content-Type": kind, "Authorization": f"Bearer {token}"}
            headers["X-Forwarded-For"] = f"192.0.2.{next(number)}"
            return server.ask(method, "/feedback", content, headers)[0]

        assert [ask(body), ask(body, token=TOKEN[:-1]), ask(body, token="")] == [200, 401, 401]
        assert [ask(b" " * 2000), ask(body, kind="text/plain"), ask(None, method="GET")] == [413, 415, 405]
        once = {"X-Forwarded-For": "198.51.100.1", "Authorization": f"Bearer {TOKEN}"}
        assert [say(server, *body["labels"], **once)[0] for _ in range(4)] == [200, 429, 429, 429]
        late = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        late.putrequest("POST", "/feedback")
        for name, text in {**JSON, "Authorization": f"Bearer {TOKEN}", "Content-Length": "50"}.items():
            late.putheader(name, text)
        late.endheaders(b"{")
        assert late.getresponse().status == 408
        assert server.metric("labels_total") == 2


def test_the_description_has_it_and_answers_are_as_described(trained, image, bundle, tmp_path):
    """Schemathesis makes right and wrong requests from the description, and checks each answer against it."""
    with serving(trained, image, bundle, PREDICT_TOKEN=TOKEN, PREDICTION_LOG=str(tmp_path / "log")) as server:
        described = server.ask("GET", "/openapi.json")[1]
        post = described["paths"]["/feedback"]["post"]
        assert post["security"] == [{"bearer": []}]
        assert sorted(post["responses"]) == sorted(described["paths"]["/predict"]["post"]["responses"])
        media = post["requestBody"]["content"]["application/json"]
        jsonschema.validate(media["example"], media["schema"])
        for wrong, _, _ in WRONG.values():
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate({"labels": [wrong]}, media["schema"])
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{server.port}/openapi.json"),
                *("--include-path", "/feedback", "--checks", "all", "--phases", "examples,coverage,fuzzing"),
                *("--max-examples", "60", "--header", f"Authorization: Bearer {TOKEN}", "--seed", "7", "--no-color"),
                *("--generation-database", "none", "--request-timeout", "20"),
            ],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-6000:]
        for status in (200, 422):
            assert server.metric(f'requests_total{{path="/feedback",status="{status}"}}') > 10
        assert not re.search(r'status="5', server.ask("GET", "/metrics")[1])


@pytest.mark.parametrize(
    ("classes", "right", "wrong"),
    [
        (["0", "1"], ["0", "1", 0, 1, 0.0, 1.0, True, False], ["true", "01", 2, -1, 0.5, math.nan, "", None, {}]),
        (["False", "True"], ["False", "True", True, False, 1, 0], ["true", "1", 2, None]),
        (["blue", "red"], ["blue", "red"], ["Blue", 0, 1, True, None]),
        (["1", "2.5", "3"], ["1", "2.5", 2.5, 3, True], [False, 2, "3.0", None]),
        ([], [0, -1.5, 10**300, 1e308], [math.nan, math.inf, 10**400, "1", True, None, [1]]),
    ],
)
def test_a_label_is_a_class_of_the_model_or_a_finite_number(tmp_path, classes, right, wrong):
    log = FeedbackLog(str(tmp_path), 1_000_000)
    taker = Feedback(log, classes, 100)

    def take(*given) -> int:
        return taker.take(json.dumps({"labels": [{"id": ID, "label": each} for each in given]}).encode())

    assert take(*right) == len(right)
    for each in wrong:
        with pytest.raises(Problem, match="^label 2: field 'label' should be "):
            take(right[0], each)
    log.close()
    assert [line["label"] for line in lines(tmp_path, "feedback")] == right


# In the log


def test_labels_that_the_log_cannot_take_are_refused_so_that_their_caller_keeps_them(tmp_path, monkeypatch):
    log = FeedbackLog(str(tmp_path), 1_000_000)
    taker, body = Feedback(log, ["0", "1"], 100), json.dumps({"labels": [{"id": ID, "label": 1}]}).encode()
    monkeypatch.setattr(prediction_log, "QUEUED_BYTES", len(body) - 1)
    with pytest.raises(Problem, match="send them again") as full:
        taker.take(body)
    monkeypatch.setattr(prediction_log, "QUEUED_BYTES", 8_000_000)
    log.failing = True
    with pytest.raises(Problem, match="send them again") as failing:
        taker.take(body)
    assert {(each.value.status, each.value.retry) for each in (full, failing)} == {(503, 5)}
    log.failing = False
    assert taker.take(body) == 1
    log.close()
    assert len(lines(tmp_path, "feedback")) == 1


def test_labels_count_for_the_space_and_go_after_the_predictions_that_they_may_belong_to(tmp_path):
    """The oldest go first, whatever their names begin with."""

    def name(kind: str, hour: int, minute: int = 0) -> str:
        return f"{kind}-20260101T{hour:02}{minute:02}00000000Z-gone-1.jsonl"

    for hour in range(4):
        (tmp_path / name("predictions", hour)).write_bytes(b"p" * 20_000)
        (tmp_path / name("feedback", hour, 30)).write_bytes(b"f" * 5_000)
    (tmp_path / name("predictions", 2, 45)).write_bytes(b"p" * 10_000)
    store = log_files.Folder(tmp_path, 100_000, "predictions")
    left = []
    for _ in range(3):
        assert store.write(b"x" * 9_999 + b"\n") == 10_000
        left.append(sorted(file.name for file in tmp_path.iterdir() if "gone" in file.name))
        assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 100_000
    assert name("predictions", 0) not in left[0] and name("feedback", 0, 30) in left[0]
    assert name("predictions", 1) not in left[2]
    order = [name("predictions", 0), name("predictions", 1), name("feedback", 0, 30), name("predictions", 2)]
    order += [name("feedback", 1, 30), name("predictions", 2, 45), name("predictions", 3), name("feedback", 2, 30)]
    assert sorted(order, key=log_files._order) == order


def test_labels_go_to_a_url_as_objects_of_their_own(tmp_path):
    log = FeedbackLog(f"file://{tmp_path}/log", 1_000_000)
    assert log.put([(ID, 3, 1.5)], 50)
    log.close()
    assert [(line["id"], line["row"], line["label"]) for line in lines(tmp_path / "log", "feedback")] == [(ID, 3, 1.5)]


# Settings


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"serve.log": None},
            "serve.feedback: labels are kept beside the predictions, and serve.log is null; name a place",
        ),
        (
            {"data.private": ["late"]},
            "serve.feedback: labels are late, which data.private keeps out of the log; use false",
        ),
        ({"serve.feedback": "yes"}, "serve.feedback: input should be a valid boolean, not 'yes'"),
        ({"serve.log_days": 0}, "serve.log_days: input should be greater than or equal to 1, not 0"),
        ({"serve.log_days": 1.5}, "serve.log_days: input should be a valid integer, not 1.5"),
    ],
)
def test_settings_that_contradict_each_other_are_one_line(trained, changes, told):
    with pytest.raises(Misuse, match=f"^params.yaml: {re.escape(told)}$"):
        load(trained.path / "params.yaml", {"serve.feedback": True} | changes)


def test_a_container_without_a_log_does_not_start_where_labels_are_to_be_kept(trained, image, bundle):
    done = trained.run(
        *(sys.executable, "-m", "conveyor.serving.app"),
        env={"BUNDLE": str(bundle), "SETTINGS": str(image), "PREDICTION_LOG": "", "PYTHONPATH": "src", "PORT": "0"},
        check=False,
    )
    told = "error: PREDICTION_LOG: is empty, and serve.feedback keeps labels there; name a folder or a URL\n"
    assert (done.returncode, done.stderr) == (2, told)


# At the edge


def test_the_edge_treats_labels_like_requests_for_predictions(trained, tmp_path):
    """A small body is held whole and sent again, a long one is refused; marks do not pass, and names come through."""
    caddyfile = (trained.path / "container" / "Caddyfile").read_text()
    with recorder() as replica, edge(caddyfile, [replica.port], tmp_path, EDGE_MAX_BYTES="20000") as front:
        found = {}
        for path in ("/predict", "/feedback"):
            replica.drops, before = 1, len(replica.seen)
            statuses = []
            for body in (b"{}", b" " * 30_000):
                link = http.client.HTTPConnection("127.0.0.1", front.port, timeout=30)
                link.request("POST", path, body, JSON | {"X-Again": "x", "X-Mirror": "k", "X-Request-Id": "order-17"})
                statuses.append(link.getresponse().status)
                link.close()
            seen = [headers for headers, _ in replica.seen[before:]]
            marks = [(each.get("x-again"), each.get("x-mirror"), each["x-request-id"]) for each in seen]
            found[path] = statuses, [(again or "", *more) for again, *more in marks]
    assert found["/predict"] == ([200, 413], [("", None, "order-17"), ("predict", None, "order-17")])
    assert found["/feedback"] == ([200, 413], [("", None, "order-17"), ("feedback", None, "order-17")])


def test_a_rollout_counts_refused_labels_for_the_release_that_refused_them():
    """The edge counts both kinds of requests, so that the replicas must: what none counted is the new release's."""
    counted = Traffic.of_replicas(['x 1\nrequests_total{path="/feedback",status="503"} 3.0\n'])
    assert (counted.requests, counted.errors) == (3.0, 3.0)


# In the monitor


def line(id: str = "a", row: int = 1, label: object = 1, time: str = "2026-11-29T10:00:00.000Z") -> bytes:
    return json.dumps({"id": id, "row": row, "time": time, "label": label}).encode() + b"\n"


def predicted(*ids: str) -> bytes:
    about = {"row": 1, "time": "2026-11-29T09:00:00Z", "model": "m", "features": {"flight": 332}, "prediction": 0.5}
    return b"".join(json.dumps({"id": id, **about}).encode() + b"\n" for id in ids)


def parsed(feedback: bytes, of: bytes = b"") -> log_rows.Read:
    return given_log.parsed(iter([("l/predictions-1.jsonl", of), ("l/feedback-1.jsonl", feedback)]), (), False, NOW)


@pytest.mark.parametrize(
    "content",
    [
        line()[:30],
        b"{}\n",
        b"[]\n",
        b"\xff\n",
        line(label=None),
        line(label=[1]),
        line(row="x"),
        line(row=2**70),
        line(row=-1),
        line(time="yesterday"),
        b"[" * 100_000 + b"\n",
    ],
    ids=range(11),
)
def test_what_is_no_label_is_counted_and_costs_no_other_one(content):
    found = parsed(line("b") + content)
    assert found.labels["id"].tolist() == ["b"] and (found.damaged, found.future, found.files) == (1, 0, 2)


def test_a_label_of_a_time_that_has_not_come_waits():
    found = parsed(line(time="2026-12-01T00:00:00Z") + line("b"))
    assert found.labels["id"].tolist() == ["b"] and (found.damaged, found.future) == (0, 1)


@pytest.fixture
def data(project):
    return load(project.path / "params.yaml").data


def test_labels_of_callers_are_joined_to_those_of_a_file_and_contradict_them_where_they_differ(data):
    log = parsed(
        line("a") + line("a") + line("b", label=False) + line("d", label=0) + line("e", label="x") + line("z"),
        predicted("a", "b", "c", "d", "e"),
    )
    file = pd.DataFrame({"id": ["b", "c", "d", "y"], "label": [1, 0, 0, 1]})
    found = labels.joined(log.rows, file, ["0", "1"], log.labels)
    assert found.rows[["id", "y"]].to_numpy().tolist() == [["a", 1.0], ["c", 0.0], ["d", 0.0]]
    assert (found.contradicting, found.waiting, found.unusable) == (1, 1, 1)
    assert (found.repeated, found.unknown, found.unasked) == (2, 1, 1)


def test_labels_of_callers_go_by_id_where_those_of_the_data_go_by_key(data):
    """Two predictions without a key have one name by it, and each the label of its own id."""
    log = given_log.parsed(
        iter([("predictions-1.jsonl", predicted("a", "b")), ("feedback-1.jsonl", line("a") + line("b", label=0))]),
        data.key,
        False,
        NOW,
    )
    key = {"scheduled": "2013-07-01T09:40:00Z", "carrier": "UA", "flight": 332, "origin": "EWR"}
    said = pd.DataFrame([{f"{log_lines.FEATURE}{name}": value for name, value in key.items()}]).assign(label=1)
    found = labels.joined(log.rows, said, ["0", "1"], log.labels)
    assert found.rows[["id", "y"]].to_numpy().tolist() == [["a", 1.0], ["b", 0.0]]
    assert (found.contradicting, found.unknown, found.unasked) == (0, 1, 0)


def test_numbers_that_are_none_are_counted_whatever_they_are(data):
    said = [1.5, "2", "x", True, 10**400, math.nan, math.inf]
    log = parsed(b"".join(line(str(n), label=each) for n, each in enumerate(said)), predicted(*"0123456"))
    found = labels.joined(log.rows, pd.DataFrame({"id": [], "label": []}), [], log.labels)
    assert found.rows["y"].tolist() == [1.5, 2.0] and found.unusable == 5


def test_the_monitor_counts_what_callers_said(bootstrapped, tmp_path, monkeypatch):
    monkeypatch.setenv("PREDICTION_LOG", f"file://{tmp_path}/log")
    project = Project(bootstrapped.path)
    from conveyor.ledger.ledger import ledger_of

    key, now = ledger_of(project).champion().key, pd.Timestamp.now("UTC")
    (tmp_path / "log").mkdir()
    about = {"row": 1, "model": key, "features": {}, "prediction": 0.5}
    times = [(now - pd.Timedelta(hours=n)).isoformat() for n in range(loss.ROWS + 5)]
    rows = [json.dumps({"id": f"p{n}", "time": at, **about}) for n, at in enumerate(times)]
    (tmp_path / "log" / "predictions-1.jsonl").write_text("\n".join(rows))
    said = [line(f"p{n}", label=n % 2, time=at) for n, at in enumerate(times)]
    (tmp_path / "log" / "feedback-1.jsonl").write_bytes(b"".join(said) + line("nobody", time=times[0]) + line()[:20])
    yesterday = (now - pd.Timedelta(days=1)).isoformat()
    (tmp_path / "log" / "refusals-1.jsonl").write_text(json.dumps({"time": yesterday, "status": 422, "count": 1234}))
    monitor.run(project, say=lambda text: None)
    text = (project.build / "monitor.md").read_text()
    assert "Requests without an answer: 1,234 with status 422; a median of" in text
    assert f"- predictions: {len(rows)}; with a label: {len(rows)}; without: 0" in text
    assert "- damaged or half-written lines of the log: 1" in text and "- labels without a prediction: 1" in text
    assert "promised, on the holdout" in text, "the loss is told"
