"""Risk: a release that answers otherwise than its model is let through, or what is found of it tells a row's values."""

import json
import socket
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import bootstrap
from serving import settings

from conveyor.deploy import shadow
from conveyor.model.bundle import Bundle

MIRROR, TOKEN = "the key of the kept requests", "a-token"


class Replica:
    """A server that answers as it is told to, and keeps what `keep` is given.

    Attributes:
        answer: takes a body, and gives a status and what is said.
        asked: the headers of each request for predictions.
    """

    def __init__(self, answer):
        self.answer, self.asked, self.kept, self.seconds = answer, [], [], 0.0

    def keep(self, id, body, status, said, at):
        self.kept.append(
            {"id": id, "at": at, "body": body.decode(), "status": status, "answer": said.decode(), "seconds": 0.01}
        )

    @contextmanager
    def serve(self):
        replica = self

        class Handler(BaseHTTPRequestHandler):
            def say(self, status, content):
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_GET(self):
                known = self.path == "/mirror" and self.headers["X-Mirror"] == MIRROR
                content = json.dumps({"requests": replica.kept}).encode() if known else b"{}"
                self.say(200 if known else 404, content)

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                replica.asked.append(dict(self.headers))
                time.sleep(replica.seconds)
                self.say(*replica.answer(body))

            def log_message(self, *_):
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            self.base = f"127.0.0.1:{server.server_port}"
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()


@pytest.fixture(scope="module")
def model(bake, shared):
    """The shadow's module, the champion's bundle, and a checker that knows what its model answers."""
    project = bootstrap(bake(), shared)
    place = project.path / "build" / "candidate"
    bundle = Bundle(place)
    known = shadow.Settings.read(settings(project, place))
    return shadow, bundle, shadow.Checker(bundle, known)


@pytest.fixture
def right(model):
    """What a good replica says."""
    checker = model[2]

    def answer(body):
        said = checker.answer(body)
        return said.status, said.body or b'{"error": "no"}'

    return answer


def body_of(bundle, number=0, **changes):
    return json.dumps({"rows": [bundle.golden["rows"][number] | changes]}).encode()


def look(model, new, *old, made=20, **more):
    shadow, bundle, checker = model
    with ExitStack() as stack:
        for replica in (new, *old):
            stack.enter_context(replica.serve())
        spec = {"new": [new.base], "mirror": MIRROR, "old": [o.base for o in old], "old_mirror": MIRROR, "same": False}
        spec |= {"since": 0.0, "most": 100, "made": made, "seconds": 30.0, "late": 5.0}
        return shadow.compare(spec | more, checker, bundle, TOKEN)


def test_a_release_that_answers_as_its_model_does_is_right(model, right):
    new, old = Replica(right), Replica(right)
    for number in range(5):
        body = body_of(model[1], number)
        old.keep(f"old-{number}", body, *right(body), at=100.0 + number)
        new.keep(f"new-{number}", body, *right(body), at=200.0 + number)
    found = look(model, new, old)
    assert [found[kind]["asked"] for kind in ("given", "mirrored", "made")] == [5, 5, 20]
    assert not any(found[kind]["wrong"] for kind in ("given", "mirrored", "made"))
    assert found["since"] == 204.0 and found["timed"] == 25 and found["late"] == 0
    assert found["before"] == found["now"] and len(found["now"]) == 3
    assert all(headers["X-Mirror"] == MIRROR for headers in new.asked)
    assert all(headers["Authorization"] == f"Bearer {TOKEN}" for headers in new.asked)
    assert not old.asked, "a replica that serves is asked for nothing but what it keeps"


def test_made_rows_find_a_release_that_is_right_on_the_golden_rows_alone(model, right):
    golden = {json.dumps(row, sort_keys=True) for row in model[1].golden["rows"]}

    def answer(body):
        status, said = right(body)
        rows = json.loads(body)["rows"]
        if status == 200 and not all(json.dumps(row, sort_keys=True) in golden for row in rows):
            given = json.loads(said)
            said = json.dumps({**given, "predictions": [p + 0.1 for p in given["predictions"]]}).encode()
        return status, said

    found = look(model, Replica(answer))
    assert found["made"]["why"] == "other predictions" and len(found["made"]["wrong"]) == 20


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ((200, b""), "an answer that holds no predictions"),
        ((200, b"[]"), "an answer that holds no predictions"),
        ((200, b"{"), "an answer that holds no predictions"),
        ((200, b'{"model": "x", "predictions": [0.5]}'), "an answer of model x"),
        ((200, {"predictions": []}), "another number of predictions than rows"),
        ((200, {"predictions": [[0.5]]}), "another number of predictions than rows"),
        ((200, {"predictions": ["nan"]}), "other predictions"),
        ((200, {"predictions": ["text"]}), "an answer that holds no predictions"),
        ((200, {"predictions": [10**400]}), "an answer that holds no predictions"),
        ((200, {"chosen": None}), "classes that are not those of the threshold"),
        ((200, {"chosen": ["1", "0"]}), "classes that are not those of the threshold"),
        ((200, {"chosen": ["late"]}), "classes that are not those of the threshold"),
        ((500, b"{}"), "status 500 where the model gives 200"),
        ((422, b"{}"), "status 422 where the model gives 200"),
    ],
)
def test_empty_malformed_and_refused_answers_are_wrong(model, right, said, why):
    status, content = said
    if isinstance(content, dict):
        rightly = {} if "predictions" in content else json.loads(right(body_of(model[1]))[1])
        content = json.dumps({"model": model[1].key} | rightly | content).encode()
    old = Replica(right)
    body = body_of(model[1])
    old.keep("a-request", body, *right(body), at=1.0)
    found = look(model, Replica(lambda _: (status, content)), old, made=0)
    assert found["mirrored"] == {"asked": 1, "wrong": ["a-request"], "why": why}


def test_a_replica_that_is_gone_is_wrong(model, right):
    shadow, bundle, checker = model
    spec = {"new": ["127.0.0.1:1"], "mirror": MIRROR, "old": [], "old_mirror": "", "same": False, "since": 0.0}
    found = shadow.compare(spec | {"most": 9, "made": 2, "seconds": 9.0, "late": 5.0}, checker, bundle, "")
    assert found["made"]["why"] == "status 0 where the model gives 200" and len(found["made"]["wrong"]) == 2


def test_what_callers_were_given_is_compared_though_the_release_answers_the_deployment_rightly(model, right):
    """An image may tell who asks: what counts is what callers got."""
    new, body = Replica(right), body_of(model[1])
    status, said = right(body)
    for number in range(3):
        new.keep(f"request-{number}", body, 200, said.replace(b"0.", b"0.9"), at=1.0 + number)
    new.keep("request-failed", body, 500, b"", at=9.0)
    found = look(model, new)
    assert found["given"]["wrong"] == ["request-0", "request-1", "request-2", "request-failed"]


@pytest.mark.parametrize("status", [401, 413, 429, 503])
def test_a_refusal_of_rows_that_the_model_takes_is_wrong_and_of_others_it_is_right(model, right, status):
    new = Replica(right)
    new.keep("refused", body_of(model[1]), status, b"{}", at=1.0)
    new.keep("refused by the model", b'{"rows": [{}]}', 422, b"{}", at=2.0)
    assert look(model, new, made=0)["given"]["wrong"] == ["refused"]


@pytest.mark.parametrize("said", [b"", b"{", b"[]", b'{"predictions": "x"}', b'{"predictions": [1%s]}' % (b"0" * 400)])
def test_whatever_the_one_before_says_is_no_fault_of_the_new_one(model, right, said):
    new, old, body = Replica(right), Replica(right), body_of(model[1])
    old.keep("a", body, 200, said, at=1.0)
    found = look(model, new, old, made=0, same=True)
    assert (found["mirrored"]["asked"], found["mirrored"]["wrong"], found["old_wrong"]) == (1, [], 1)


def test_other_classes_of_the_one_before_are_no_other_answer(model, right):
    """It may have had another threshold, or be of before there were classes."""
    new, old, body = Replica(right), Replica(right), body_of(model[1])
    status, said = right(body)
    without = {name: value for name, value in json.loads(said).items() if name != "chosen"}
    old.keep("none", body, status, json.dumps(without).encode(), at=1.0)
    old.keep("others", body, status, json.dumps({**without, "chosen": ["?"]}).encode(), at=2.0)
    found = look(model, new, old, made=0, same=True)
    assert (found["mirrored"]["asked"], found["mirrored"]["wrong"], found["old_wrong"]) == (2, [], 0)


def test_an_answer_that_does_not_end_is_wrong_and_holds_nobody_up(model, right, monkeypatch):
    shadow = model[0]
    monkeypatch.setattr(shadow, "ANSWER_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip():
            with suppress(OSError):
                link, _ = server.accept()
                with link:
                    link.recv(100_000)
                    link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                    while True:
                        link.sendall(b"x")
                        time.sleep(0.05)

        thread = threading.Thread(target=drip)
        thread.start()
        began = time.monotonic()
        answer, _ = shadow.ask(f"127.0.0.1:{server.getsockname()[1]}", "/predict", {}, b"{}")
        assert answer.status == 0 and time.monotonic() - began < 3
        thread.join()


def test_what_was_looked_at_before_is_not_looked_at_again(model, right):
    new, body = Replica(right), body_of(model[1])
    for number in range(9):
        new.keep(f"request-{number}", body, *right(body), at=float(number))
    assert look(model, new, made=0, since=5.0)["given"]["asked"] == 3
    assert look(model, new, made=0, most=2, since=-1.0)["since"] == 8.0


def test_late_answers_are_counted(model, right):
    new = Replica(right)
    new.seconds = 0.05
    found = look(model, new, made=5, late=0.02)
    assert (found["late"], found["timed"]) == (5, 5)


def test_the_one_before_that_gave_other_answers_than_the_same_model_is_told_and_refuses_nobody(model, right):
    new, old, body = Replica(right), Replica(right), body_of(model[1])
    old.keep("a", body, 200, right(body)[1].replace(b"0.", b"0.9"), at=1.0)
    assert look(model, new, old, made=0, same=True)["old_wrong"] == 1
    found = look(model, new, old, made=0)
    assert found["old_wrong"] == 0 and not found["mirrored"]["wrong"], "another model may answer otherwise"


def test_rows_that_are_made_are_what_the_model_takes_and_cover_what_training_saw(model):
    shadow, bundle, checker = model
    bodies = list(shadow.made(bundle, 100))
    assert bodies == list(shadow.made(bundle, 100)), "the same each time"
    rows = [row for body in bodies for row in json.loads(body)["rows"]]
    assert {checker.answer(body).status for body in bodies} == {200}
    golden = [json.dumps(row, sort_keys=True) for row in bundle.golden["rows"]]
    assert not any(json.dumps(row, sort_keys=True) in golden for row in rows)
    for column in shadow.columns_of(bundle):
        values = {row[column.name] for row in rows}
        assert len(values) >= 3, column.name
        assert (None in values) == column.missing, column.name
        if column.kind == "number":
            assert min(v for v in values if v is not None) < column.range[0], column.name


def test_what_is_printed_holds_no_value_of_a_row(model, right):
    shadow, bundle, _ = model
    new, old = Replica(lambda _: (200, b"{}")), Replica(right)
    secret = "a name that nobody may read"
    column = next(column.name for column in shadow.columns_of(bundle) if column.kind == "text" and not column.closed)
    body = body_of(bundle, **{column: secret})
    old.keep("the id", body, *right(body), at=1.0)
    text = json.dumps(look(model, new, old, made=3))
    assert secret not in text and '"the id"' in text
    assert not any(json.dumps(value) in text for value in bundle.golden["rows"][0].values() if isinstance(value, str))
