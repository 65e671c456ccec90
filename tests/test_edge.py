"""Risk: a caller gets another caller's answer, or none, because of what others send. Caddy itself, and real servers."""

import json
import re
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from conftest import ROOT, bootstrap
from edge import Edge, edge, recorder
from engine import until
from serving import JSON, Server, serving, settings

sys.path.insert(0, str(ROOT / "bench"))
import hostile  # noqa: E402
from load import Load, fault  # noqa: E402
from questions import questions  # noqa: E402

CALLERS = 16
VARIANT = ROOT / "tests" / "standins" / "replica" / "variant.py"
UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
MARKS = {"X-Probe": "golden", "X-Mirror": "key", "X-Again": "predict"}


@pytest.fixture(scope="module")
def trained(bake, shared):
    """A project with a champion, which these tests share and do not change."""
    return bootstrap(bake(), shared)


@pytest.fixture(scope="module")
def caddyfile(trained):
    return (trained.path / "container" / "Caddyfile").read_text()


@pytest.fixture(scope="module")
def bundle(trained):
    return trained.path / "build" / "candidate"


@pytest.fixture(scope="module")
def asked(bundle):
    """Requests, each with an answer of its own."""
    return questions([bundle])


@dataclass
class Stage:
    """The edge, in front of two servers."""

    edge: Edge
    replicas: list[Server]

    def ask(self, method: str, path: str, body: object, headers: dict[str, str] = JSON) -> tuple[int, object]:
        at_the_edge = Server(self.edge.process, self.edge.port, self.replicas[0].golden)
        try:
            return at_the_edge.ask(method, path, body, headers)
        finally:
            at_the_edge.connection.close()


@pytest.fixture
def staged(trained, bundle, caddyfile, tmp_path):
    """staged(*program) -> the edge in front of two servers, the product's own or another program."""
    image = settings(trained, bundle)
    with ExitStack() as stack:

        def staged(*program: object) -> Stage:
            replicas = [stack.enter_context(serving(trained, image, bundle, *program)) for _ in range(2)]
            return Stage(stack.enter_context(edge(caddyfile, [each.port for each in replicas], tmp_path)), replicas)

        yield staged


@pytest.fixture
def recorded(caddyfile, tmp_path):
    """The edge in front of what records all that it is sent."""
    with recorder() as replica, edge(caddyfile, [replica.port], tmp_path) as front:
        yield front, replica


def wait_for(load: Load, number: int) -> None:
    """Until so many requests of the phase were sent."""
    until(lambda: load.total(load.phase)["sent"] >= number, 240, f"fewer than {number} requests were sent")


def none_lost_or_wrong(load: Load) -> None:
    total = load.total()
    assert (total["lost"], total["wrong"]) == (0, 0), load.losses[:5]


def test_nobody_gets_the_answer_of_another_whatever_a_hostile_caller_sends(staged, asked):
    stage = staged()
    with Load(stage.edge.port, asked, callers=CALLERS) as load:
        with hostile.hostile(stage.edge.port, 12.0) as came:
            wait_for(load, 10_000)
        load.phase = "after it"
        wait_for(load, 1_000)
    none_lost_or_wrong(load)
    assert all(came.values()), "every shape was sent"
    assert not {status for counts in came.values() for status in counts if status.startswith("2")}, came
    assert set(came["many_over_the_buffer"]) <= {"413", "502", "reset"} and set(came["upgrade_h2c"]) == {"422"}
    assert all(each.process.poll() is None for each in stage.replicas) and stage.edge.process.poll() is None


def test_an_answer_that_is_swapped_empty_or_of_another_request_is_seen(asked):
    """The detector itself: what it takes for right and for wrong."""
    (key,) = asked[0].answers
    said = [json.dumps({"model": key, "predictions": question.answers[key]}).encode() for question in asked]
    for number, question in enumerate(asked):
        assert fault(question, "mine", {"x-request-id": "mine"}, said[number]) is None
        for other in (number - 1, number - 7):
            assert "predictions are not" in fault(question, "mine", {}, said[other])
    first = asked[0]
    assert "another request id" in fault(first, "mine", {"x-request-id": "yours"}, said[0])
    for content in (b"", b"null", b"[]", b"{}", said[0][:-1], b'{"model": "%s"}' % key.encode()):
        assert "no answer" in fault(first, "mine", {}, content), content
    for predictions in ([], None, "0.1", [None], ["0.1"], [float("nan")], [[0.1], []], [first.answers[key]], [True]):
        content = json.dumps({"model": key, "predictions": predictions}).encode()
        assert "predictions are not" in fault(first, "mine", {}, content), content
    assert "no model" in fault(first, "mine", {}, json.dumps({"model": "b" * 64, "predictions": [0.1]}).encode())


def test_a_replica_that_is_killed_loses_nobody_an_answer(staged, asked):
    stage = staged()
    with Load(stage.edge.port, asked, callers=CALLERS) as load:
        wait_for(load, 500)
        stage.replicas[0].process.send_signal(signal.SIGKILL)
        load.phase = "with one left"
        wait_for(load, 2_000)
    none_lost_or_wrong(load)


def test_a_request_that_kills_its_replica_kills_no_second_one_and_is_told_so(staged, asked):
    stage = staged(VARIANT, "poison", "arsenic")
    poison = {"rows": [stage.replicas[0].row(dest="arsenic")]}
    with Load(stage.edge.port, asked, rate=40.0) as load:
        wait_for(load, 40)
        status, said = stage.ask("POST", "/predict", poison)
        load.phase = "after it"
        wait_for(load, 80)
    assert 500 <= status < 600, said
    assert [each.process.poll() for each in stage.replicas].count(None) == 1
    none_lost_or_wrong(load)


@pytest.mark.parametrize(("length", "chunked"), [(10_000, False), (50, True)], ids=["long", "of no stated length"])
def test_a_body_that_the_edge_does_not_hold_is_sent_once(recorded, length, chunked):
    front, replica = recorded
    replica.drops, body = 1, b" " * length
    request = hostile.head(hostile.CHUNKED) + hostile.chunk(body) + b"0\r\n\r\n" if chunked else hostile.whole(body)
    assert hostile.ask(front.port, request) == "502"
    assert [sent for _, sent in replica.seen] == [body]


def test_a_body_that_the_edge_holds_is_sent_again_and_marked_then(recorded):
    front, replica = recorded
    replica.drops, body = 2, b'{"rows": []}'
    assert hostile.ask(front.port, hostile.whole(body, "X-Again: predict")) == "200"
    assert [sent for _, sent in replica.seen] == [body] * 3
    assert [headers.get("x-again") == "predict" for headers, _ in replica.seen] == [False, True, True]
    assert len({headers["x-request-id"] for headers, _ in replica.seen}) == 1


@pytest.mark.parametrize("sent", [b"", b'{"rows": [', b" " * 150_000], ids=len)
@pytest.mark.parametrize("end", ["closed", "waiting"])
def test_a_body_that_ends_early_is_never_answered_as_if_it_were_whole(recorded, sent, end):
    front, replica = recorded
    with hostile.socket.create_connection(("127.0.0.1", front.port)) as link:
        link.sendall(hostile.head(f"Content-Length: {len(sent) + 40}") + sent)
        if end == "waiting":
            link.shutdown(hostile.socket.SHUT_WR)
            assert hostile.answer(link) in ("499", "502")
    time.sleep(0.2)
    assert not replica.seen, "a whole request reached the replica"


def test_marks_that_only_the_inside_may_set_and_offers_of_other_protocols_do_not_pass_the_edge(recorded):
    front, replica = recorded
    for body in (b'{"rows": []}', b" " * 100_000):
        twice = [f"{name.lower()}: {text}" for name, text in MARKS.items()]
        marks = [f"{name}: {text}" for name, text in MARKS.items()] + twice
        assert hostile.ask(front.port, hostile.whole(body, *marks, "Connection: X-Again, X-Probe")) == "200"
        offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")
        assert hostile.ask(front.port, hostile.whole(body, *offer)) == "200"
    assert [len(body) for _, body in replica.seen] == [12, 12, 100_000, 100_000]
    for headers, _ in replica.seen:
        assert not {name.lower(): text for name, text in MARKS.items()}.items() & headers.items()
        assert not {"upgrade", "http2-settings"} & headers.keys()


def test_the_name_of_a_request_comes_through_and_is_made_where_it_has_none(recorded):
    front, replica = recorded
    for given in (["X-Request-Id: order-17"], [], ["X-Request-Id:"]):
        for body in (b"{}", b" " * 100_000):
            assert hostile.ask(front.port, hostile.whole(body, *given)) == "200"
    names = [headers["x-request-id"] for headers, _ in replica.seen]
    assert names[:2] == ["order-17"] * 2
    assert all(re.fullmatch(UUID, name) for name in names[2:4]) and len(set(names[2:])) >= 3, names


@pytest.mark.parametrize("number", [1, 30], ids=["small", "long"])
def test_an_offer_of_another_protocol_is_answered_in_this_one(staged, asked, number):
    stage = staged()
    (key,) = asked[0].answers
    many = asked[:number] * (20 if number > 1 else 1)
    rows = [row for question in many for row in json.loads(question.body)["rows"]]
    right = [answer for question in many for answer in question.answers[key]]
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAoAAAAAIAAAAA"}
    status, said = stage.ask("POST", "/predict", {"rows": rows}, JSON | offer)
    assert status == 200 and said["predictions"] == pytest.approx(right, abs=1e-5)


@pytest.mark.parametrize(("number", "sent"), [(100, 9_900), (400, 9_900), (100, 1_900_000)])
def test_bodies_that_do_not_end_cost_the_edge_a_bounded_memory(staged, number, sent):
    stage = staged()
    before = stage.edge.peak
    assert stage.ask("GET", "/readyz", None)[0] == 200
    came = list(hostile.unfinished(stage.edge.port, number, 1.0, sent))
    assert came.count("open") > 0.9 * number, came
    assert stage.edge.peak - before < number * 50_000 + 30 * 2**20
    assert stage.ask("GET", "/readyz", None)[0] == 200


def test_a_body_that_does_not_end_is_given_up(caddyfile, tmp_path):
    """In the time that the Caddyfile names, which is a short one here."""
    short = re.sub(r"read_body \d+s", "read_body 1s", caddyfile)
    assert short != caddyfile
    with recorder() as replica, edge(short, [replica.port], tmp_path) as front:
        for length, sent in ((50, 0), (50, 5), (9_999, 9_000), (10_000, 5), (2_000_000, 5)):
            with hostile.socket.create_connection(("127.0.0.1", front.port)) as link:
                link.sendall(hostile.head(f"Content-Length: {length}") + b" " * sent)
                assert hostile.answer(link, 8.0) in ("499", "408", "502", "504"), (length, sent)
                assert hostile.answer(link, 8.0) in ("closed", "reset"), "the connection ends, too"
    assert not replica.seen
