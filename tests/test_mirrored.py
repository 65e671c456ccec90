"""Risk: what a deployment asks of two releases is not what callers asked, is counted as theirs, or is told to all."""

import json

import pytest
from conftest import bootstrap
from serving import JSON, serving, settings

KEY = "the-key-of-this-deployment"
TOKEN = "the-token"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
MIRROR = {"X-Mirror": KEY}


@pytest.fixture(scope="module")
def trained(bake, shared):
    return bootstrap(bake(), shared)


@pytest.fixture
def server(trained, tmp_path):
    bundle = trained.path / "build" / "candidate"
    known = {"MIRROR_KEY": KEY, "PREDICT_TOKEN": TOKEN, "PREDICTION_LOG": str(tmp_path / "log")}
    with serving(trained, settings(trained, bundle), bundle, **known) as server:
        yield server


def kept(server) -> list[dict]:
    status, said = server.ask("GET", "/mirror", headers=MIRROR)
    assert status == 200
    return said["requests"]


def test_what_callers_were_answered_is_kept_as_it_was_sent(server):
    bodies = [json.dumps({"rows": [server.row(distance=distance)]}) for distance in (100.0, "x", 300.0)]
    answers = []
    for number, body in enumerate(bodies):
        answers.append(server.ask("POST", "/predict", body.encode(), JSON | BEARER | {"X-Request-Id": f"n{number}"}))
    found = kept(server)
    assert [each["id"] for each in found] == ["n0", "n1", "n2"]
    assert [each["body"] for each in found] == bodies and [each["status"] for each in found] == [200, 422, 200]
    assert [(each["status"], json.loads(each["answer"])) for each in found] == answers
    assert all(0 < each["seconds"] < 5 and each["at"] > 1.7e9 for each in found)


def test_what_is_no_traffic_or_no_row_is_not_kept(server):
    assert server.predict(server.row())[0] == 401
    assert server.predict(server.row(), **BEARER | {"X-Probe": "golden"})[0] == 200
    assert server.predict(server.row(), **BEARER | MIRROR)[0] == 200
    assert server.ask("POST", "/predict", b"rows", BEARER | {"Content-Type": "text/plain"})[0] == 415
    assert server.ask("POST", "/predict", b"\xff\xfe\xfd", BEARER | JSON)[0] == 422
    assert server.ask("POST", "/predict", b" " * 70_000, BEARER | JSON)[0] == 422
    assert kept(server) == []


def test_it_keeps_two_hundred_of_four_megabytes_at_most(server):
    for number in range(210):
        server.predict(server.row(), **BEARER | {"X-Request-Id": f"n{number}"})
    assert [each["id"] for each in kept(server)] == [f"n{number}" for number in range(10, 210)]
    for number in range(80):
        server.predict(server.row(dest="x" * 63_000), **BEARER | {"X-Request-Id": f"long{number}"})
    found = kept(server)
    assert found[-1]["id"] == "long79" and 60 <= len(found) <= 66
    assert sum(len(each["body"]) + len(each["answer"]) for each in found) <= 4 * 1024 * 1024


def test_a_mirrored_request_is_answered_as_a_caller_is_and_leaves_no_trace(server, tmp_path):
    plain = server.predict(server.row(), **BEARER)[1]
    before = server.ask("GET", "/metrics", headers={"X-Probe": "x"})[1]
    status, said = server.predict(server.row(), **BEARER | MIRROR)
    assert status == 200 and said["predictions"] == plain["predictions"]
    assert server.predict(server.row(distance="x"), **BEARER | MIRROR)[0] == 422
    assert server.predict(server.row(), **MIRROR)[0] == 401, "the token is still wanted"
    after = server.ask("GET", "/metrics", headers={"X-Probe": "x"})[1]

    def counted(text):
        return [line for line in text.splitlines() if not line.startswith(("#", "process_"))]

    assert counted(before) == counted(after)
    assert len(kept(server)) == 1 and server.end()[0] == 0
    written = "".join(file.read_text() for file in (tmp_path / "log").iterdir())
    assert len(written.splitlines()) == 1 and plain["id"] in written


@pytest.mark.parametrize("headers", [{}, {"X-Mirror": ""}, {"X-Mirror": KEY[:-1]}, {"X-Mirror": "ü"}])
def test_without_the_key_there_is_no_such_path(server, headers):
    unknown = server.ask("GET", "/mirrox", headers={})
    status, said = server.ask("GET", "/mirror", headers=headers)
    assert status == 404 and said["error"] == unknown[1]["error"].replace("mirrox", "mirror")
    before = server.metric("rows_total")
    assert server.predict(server.row(), **BEARER | headers)[0] == 200
    assert server.metric("rows_total") == before + 1, "a wrong key is a caller's"


def test_a_server_without_a_key_keeps_nothing(trained):
    bundle = trained.path / "build" / "candidate"
    with serving(trained, settings(trained, bundle), bundle) as server:
        server.predict(server.row())
        for headers in ({}, {"X-Mirror": ""}, MIRROR):
            assert server.ask("GET", "/mirror", headers=headers)[0] == 404
        before = server.metric("rows_total")
        server.predict(server.row(), **MIRROR)
        assert server.metric("rows_total") == before + 1
