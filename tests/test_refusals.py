"""Risk: nobody can find a request again, what is logged tells private values or floods, or a dead model looks ready."""

import json
import re
import time
from pathlib import Path

import pytest
from serving import JSON, serving, settings, statuses, talk

from conveyor.serving import readiness

DEADLY = str(Path(__file__).parent / "standins" / "replica" / "deadly.py")
UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


@pytest.fixture(scope="module")
def image(trained, bundle):
    return settings(trained, bundle, **{"data.private": ["dest", "distance"]})


def asked(server, method, path, body=None, **headers) -> tuple[int, str]:
    """The status, and the id of the request that is sent back."""
    server.connection.request(method, path, body, JSON | headers)
    response = server.connection.getresponse()
    response.read()
    return response.status, response.headers["x-request-id"]


def told(complaint: str) -> list[dict]:
    return [json.loads(line) for line in complaint.splitlines()]


def test_a_request_has_one_id_in_the_answer_and_both_logs(trained, image, bundle, tmp_path):
    with serving(trained, image, bundle, PREDICTION_LOG=str(tmp_path / "log")) as server:
        right, wrong = (json.dumps({"rows": [row]}) for row in (server.row(), server.row(carrier=7)))
        mine = "A-z.0_9~:/+=@" + "x" * 115
        assert asked(server, "POST", "/predict", right, **{"X-Request-Id": mine}) == (200, mine)
        status, made = asked(server, "POST", "/predict", right)
        assert status == 200 and re.fullmatch(UUID, made)
        for bad in ("", " ", "x" * 129, "a b", "a,b", "ü", 'a"b', "a;b"):
            status, other = asked(server, "POST", "/predict", right, **{"X-Request-Id": bad})
            assert status == 200 and re.fullmatch(UUID, other) and other != made
        for method, path, content, status in [
            ("POST", "/predict", wrong, 422),
            ("GET", "/nowhere", None, 404),
            ("PUT", "/predict", None, 405),
            ("GET", "/healthz", None, 200),
            ("GET", "/openapi.json", None, 200),
        ]:
            assert asked(server, method, path, content, **{"X-Request-Id": "mine"}) == (status, "mine")
        code, complaint = server.end()
    files = (tmp_path / "log").glob("predictions-*")
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert [line["request"] for line in lines[:2]] == [mine, made]
    assert len({line["id"] for line in lines}) == len(lines) == 10
    found = told(complaint)
    assert code == 0 and [line["status"] for line in found] == [422, 404, 405], "and nothing of what was answered"
    first = found[0]
    assert list(first) == [
        *("time", "level", "request", "client", "path", "status", "error", "row", "column", "seconds")
    ]
    assert (first["level"], first["request"], first["client"]) == ("warning", "mine", "127.0.0.1")
    assert (first["error"], first["row"]) == ("row 1: column 'carrier' should be text, not 7", 1) or first[
        "error"
    ].startswith("row 1: column 'carrier' should be text")


def test_a_private_value_is_in_no_log_and_no_answer_shows_more_than_was_sent(trained, image, bundle):
    secret = "a-very-private-value"
    with serving(trained, image, bundle, DEADLY) as server:
        server.predict(server.row(distance=secret))
        server.predict(server.row(distance=f", not {secret}"))
        server.predict(server.row(distance=secret), **{"X-Again": "predict"})
        server.ask("POST", "/predict", json.dumps({"rows": [server.row(dest=[secret])]}).encode())
        server.ask("POST", "/predict", f'{{"rows": [{{"distance": "{secret}"'.encode())
        server.predict(server.row(dest="BUG", carrier=secret))
        server.predict(server.row(dest="BUG", carrier=secret), **{"X-Again": "predict"})
        server.predict(server.row(carrier=[secret]))
        code, complaint = server.end()
    found = told(complaint)
    assert code == 0 and secret not in complaint
    assert found[0]["error"] == found[1]["error"] and found[0]["column"] == "distance"
    assert re.fullmatch("row 1: column 'distance' should be a number( or null)?", found[0]["error"])
    assert "deadly.py" in found[-2]["trace"] and found[-2]["trace"].endswith("RuntimeError")


def test_refusals_are_told_at_a_bounded_rate_and_counted(trained, image, bundle):
    with serving(trained, image, bundle) as server:
        began = time.monotonic()
        for _ in range(300):
            assert server.ask("GET", "/nowhere")[0] == 404
        seconds = time.monotonic() - began
        code, complaint = server.end()
    found = told(complaint)
    lines = [line for line in found if "left_out" not in line]
    assert code == 0 and 20 <= len(lines) <= 20 * (seconds + 2)
    assert len(lines) + sum(line["left_out"] for line in found if "left_out" in line) == 300


def test_a_log_that_nobody_reads_holds_up_no_answer(trained, image, bundle):
    """The pipe that the test does not read takes 64 kB."""
    with serving(trained, image, bundle) as server:
        end = time.monotonic() + 9
        while time.monotonic() < end:
            for _ in range(25):
                assert server.ask("GET", "/nowhere/" + "x" * 3000)[0] == 404
            time.sleep(0.4)
            began = time.monotonic()
            assert server.predict(server.row())[0] == 200 and time.monotonic() - began < 1


def test_what_the_wire_refuses_is_told_too(trained, image, bundle):
    with serving(trained, image, bundle) as server:
        said = talk(server, b"GET /healthz HTTP/1.1\r\n\r\n")
        assert statuses(said) == [400]
        request = re.search(rb"x-request-id: (\S+)", said)[1].decode()
        before = server.metric('requests_total{path="other",status="400"}')
        code, complaint = server.end()
    [line] = told(complaint)
    assert before == 1 and (line["request"], line["error"]) == (request, "a request has one Host header")


# Whether the model still answers


def test_readyz_notices_a_model_that_answers_otherwise(trained, bundle):
    image = settings(trained, bundle)
    with serving(trained, image, bundle, DEADLY) as server:
        assert server.ask("GET", "/readyz")[0] == 200
        server.predict(server.row(dest="SICK"))
        end = time.monotonic() + 10
        while (found := server.ask("GET", "/readyz"))[0] == 200:
            assert time.monotonic() < end, "it is looked at every five seconds"
            time.sleep(0.2)
        assert found[1]["error"] == "the model answers a golden row otherwise than in training"
        assert server.ask("GET", "/healthz")[0] == 200


def test_readyz_notices_that_all_requests_fail(trained, bundle):
    image = settings(trained, bundle)
    with serving(trained, image, bundle, DEADLY) as server:
        for number in range(20):
            assert server.ask("GET", "/readyz")[0] == 200, number
            assert server.predict(server.row(dest="BUG"))[0] == 500
            assert server.predict(server.row(dest="BUG"), **{"X-Probe": "x"})[0] == 500
        status, said = server.ask("GET", "/readyz")
        assert (status, said["error"]) == (503, "the last 20 requests failed")
        assert server.predict(server.row())[0] == 200
        assert server.ask("GET", "/readyz")[0] == 200


@pytest.mark.parametrize(
    "said, reason",
    [("nan", "the model answers a golden row otherwise.*"), ("raises", "the model does not answer.*ZeroDivisionError")],
)
def test_a_golden_row_is_asked_once_in_a_while(said, reason):
    looked = []

    def look():
        looked.append(1)
        return None if len(looked) == 1 else reason

    found = readiness.Ready(look)
    assert [found.reason() for _ in range(100)] == [None] * 100 and len(looked) == 1
    found._looked -= readiness.EVERY
    assert found.reason() == found.reason() == reason and len(looked) == 2
