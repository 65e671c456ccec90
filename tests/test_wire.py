"""Risk: what is no plain request, or comes slowly, or without end, holds the server up, or is answered as another."""

import json
import os
import re
import resource
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from serving import JSON, serving, settings, statuses, talk

GET = b"GET /healthz HTTP/1.1\r\n"
HOST = b"Host: x\r\n"
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def image(trained, bundle):
    return settings(trained, bundle, **{"serve.max_seconds": 2.0})


@pytest.fixture(scope="module")
def server(trained, image, bundle):
    with serving(trained, image, bundle) as server:
        yield server


def body_of(server, **changes) -> bytes:
    return json.dumps({"rows": [server.row(**changes)]}).encode()


def post(body: bytes, more: bytes = b"") -> bytes:
    return HEAD + more + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunked(*parts: bytes, trailers: bytes = b"") -> bytes:
    sent = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + sent + b"0\r\n" + trailers + b"\r\n"


def predictions(said: bytes) -> list[list[float]]:
    return [json.loads(found) for found in re.findall(rb'"predictions":(\[[^]]*\])', said)]


# Heads


@pytest.mark.parametrize(
    "sent, status",
    [
        (GET + b"\r\n", 400),
        (GET + HOST + b"Host: y\r\n\r\n", 400),
        (GET + HOST + HOST + b"\r\n", 400),
        (b"GET /healthz HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"GET /healthz HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"GET /healthz\r\n\r\n", 505),
        (b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (GET + HOST + b" folded: x\r\n\r\n", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (GET + HOST + b"A: " + b"b" * 33_000 + b"\r\n\r\n", 431),
        (GET + HOST + b"A: b\r\n" * 100 + b"\r\n", 431),
        (post(b"{}", b"Content-Length: 2\r\n"), 400),
        (post(b"{}", b"Transfer-Encoding: chunked\r\n"), 400),
        (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: gzip\r\n\r\n{}", 400),
        (HEAD.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 400),
        (HEAD + b"Content-Length: +2\r\n\r\n{}", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", 400),
    ],
)
def test_a_request_that_means_nothing_or_two_things_is_refused(server, sent, status):
    said = talk(server, sent)
    assert statuses(said) == [status] and b"connection: close" in said and b"x-request-id: " in said
    assert list(json.loads(said.partition(b"\r\n\r\n")[2])) == ["error", "row", "column"]


@pytest.mark.parametrize(
    "sent",
    [
        GET + HOST + b"A: b\r\n" * 98 + b"Connection: close\r\n\r\n",
        GET + HOST + b"A: " + b"b" * 30_000 + b"\r\nConnection: close\r\n\r\n",
        b"GET /healthz?" + b"a" * 8000 + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /healthz HTTP/1.0\r\n\r\n",
        b"GET http://x/healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    ],
)
def test_what_is_within_the_bounds_is_answered(server, sent):
    assert statuses(talk(server, sent)) == [200]


@pytest.mark.parametrize("part", [b"A: " + b"b" * 1000 + b"\r\n", b"A: b\r\n", b"b" * 1000])
@pytest.mark.parametrize("head", [GET + HOST, chunked(b"{}")[:-2], HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;"])
def test_headers_and_trailers_without_end_cost_nothing(server, part, head):
    """60 MB of them once held the server up for 11 seconds."""
    folder = Path("/proc") / str(server.process.pid)

    def cpu() -> float:
        times = (folder / "stat").read_text().rpartition(")")[2].split()
        return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")

    (folder / "clear_refs").write_text("5")
    before, resident = cpu(), int(re.search(r"VmRSS:\s+(\d+)", (folder / "status").read_text())[1])
    block = part * (1_000_000 // len(part))
    said = talk(server, head + (b"A: " if part[:1] == b"b" and b";" not in head else b""), *[block] * 60)
    assert statuses(said) in ([400], [431], [422], []) and cpu() - before < 1
    highest = int(re.search(r"VmHWM:\s+(\d+)", (folder / "status").read_text())[1])
    assert highest - resident < 10_000, "kB"
    assert server.predict(server.row())[0] == 200


def test_trailers_are_no_headers(server):
    body = body_of(server)
    said = talk(server, chunked(body, trailers=b"Connection: close\r\nX-Request-Id: of-the-trailer\r\n"), seconds=1)
    assert statuses(said) == [200] and b"of-the-trailer" not in said


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [b"\r\n"] * 30,
        [GET],
        [GET + HOST] + [b"a: b\r\n"] * 30,
        [GET + HOST + b"\r\n", GET] + [b"a: b\r\n"] * 30,
        [GET + HOST + b"\r\n"] + [b"\r\n"] * 40,
    ],
)
def test_headers_have_ten_seconds(server, parts):
    began = time.monotonic()
    said = talk(server, *parts, pause=0.5)
    assert statuses(said)[-1] == 408 and b"connection: close" in said
    assert 9 < time.monotonic() - began < 25


def test_a_body_has_its_time_though_it_never_rests(server):
    began = time.monotonic()
    said = talk(server, HEAD + b"Content-Length: 1000\r\n\r\n", *[b" "] * 20, pause=0.2)
    assert statuses(said) == [408] and time.monotonic() - began < 8


def test_the_rest_of_a_body_that_was_refused_is_not_waited_for(server):
    began = time.monotonic()
    said = talk(server, HEAD.replace(b"application/json", b"text/plain") + b"Content-Length: 1000\r\n\r\n", seconds=30)
    assert statuses(said) == [415] and time.monotonic() - began < 15


def test_who_sends_too_much_still_reads_why(server):
    body = b" " * 20_000_000
    assert server.ask("POST", "/predict", body)[0] == 413
    server.connection.close()
    assert server.predict(server.row())[0] == 200


# Bodies that other protocols were offered with


@pytest.mark.parametrize(
    "offer",
    [
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        b"Connection: keep-alive, Upgrade\r\nUpgrade: TLS/1.0\r\n",
    ],
)
@pytest.mark.parametrize("cut", [0, 40, 150, 300])
def test_an_offer_to_speak_otherwise_is_passed_over(server, offer, cut):
    body = body_of(server, distance=321)
    plain = predictions(talk(server, post(body, b"Connection: close\r\n")))
    sent = post(body, offer)
    said = talk(server, sent[:cut], sent[cut:], post(body, b"Connection: close\r\n"), pause=0.05, seconds=5)
    assert statuses(said) == [200, 200] and predictions(said) == plain * 2
    said = talk(server, chunked(body[:9], body[9:]).replace(HEAD, HEAD + offer), seconds=1)
    assert statuses(said) == [200] and predictions(said) == plain


def test_a_client_that_waits_to_be_asked_for_its_body_is_asked(server):
    body = body_of(server)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert statuses(connection.recv(65536)) == [200]
    said = talk(server, HEAD + b"Expect: 100-continue\r\nContent-Length: 3000000\r\n\r\n")
    assert statuses(said) == [413]


# More than one request


def test_requests_that_are_sent_at_once_are_answered_in_order(server):
    bodies = [body_of(server, distance=100.0 + number) for number in range(50)]
    wanted = [predictions(talk(server, post(body, b"Connection: close\r\n")))[0] for body in bodies]
    sent = b"".join(post(body, b"X-Request-Id: n%d\r\n" % number) for number, body in enumerate(bodies))
    for size in (len(sent), 5000, 333):
        said = talk(server, *[sent[at : at + size] for at in range(0, len(sent), size)], seconds=2)
        assert predictions(said) == wanted
        assert re.findall(rb"x-request-id: n(\d+)", said) == [b"%d" % number for number in range(50)]


def test_an_error_waits_for_the_answers_before_it(server):
    """It would be taken for the answer to a request that was sent before."""
    body = body_of(server)
    said = talk(server, post(body) * 3 + b"NO HTTP\r\n\r\n")
    assert statuses(said) == [200, 200, 200, 400]
    said = talk(server, post(body) * 2 + HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")
    assert statuses(said) == [200, 200, 400]
    assert set(statuses(talk(server, (GET + HOST + b"\r\n") * 5000))) <= {200, 400}


def test_probes_are_asked_by_head_too(server):
    for path in (b"/healthz", b"/readyz", b"/metrics"):
        said = talk(server, b"HEAD %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path)
        head, _, content = said.partition(b"\r\n\r\n")
        assert statuses(said) == [200] and content == b"" and int(re.search(rb"content-length: (\d+)", head)[1]) > 10
    assert statuses(talk(server, b"HEAD /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")) == [405]


# Descriptors


def test_no_descriptor_for_another_connection_is_told_once_and_ends_with_the_reason(trained, image, bundle):
    few = partial(resource.setrlimit, resource.RLIMIT_NOFILE, (80, 80))
    with ExitStack() as stack, serving(trained, image, bundle, before=few) as server:
        assert server.predict(server.row())[0] == 200
        for _ in range(150):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10))
        assert server.predict(server.row())[0] == 200  # who is connected is answered
        said = talk(server, GET + HOST + b"\r\n")
        assert statuses(said) in ([503], [])
        before = cpu_seconds(server.process.pid)
        time.sleep(1)
        assert cpu_seconds(server.process.pid) - before < 0.3, "it spins"
        stack.close()
        end = time.monotonic() + 15
        while statuses(talk(server, GET + HOST + b"Connection: close\r\n\r\n")) != [200]:
            assert time.monotonic() < end
            time.sleep(0.2)
        code, complaint = server.end()
        told = [line for line in complaint.splitlines() if "no descriptor is left" in line]
        assert code == 0 and len(told) == 1, complaint


def cpu_seconds(pid: int) -> float:
    times = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")


def test_descriptors_that_others_took_are_waited_for(trained, image, bundle):
    with serving(trained, image, bundle) as server:
        assert server.predict(server.row())[0] == 200
        files = len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))
        before = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (files, before[1]))
        with ExitStack() as stack:
            for _ in range(5):
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10))
            time.sleep(1)
            assert server.predict(server.row())[0] == 200
            spent = cpu_seconds(server.process.pid)
            time.sleep(1)
            assert cpu_seconds(server.process.pid) - spent < 0.3, "it spins"
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, before)
        time.sleep(1.5)
        assert statuses(talk(server, GET + HOST + b"Connection: close\r\n\r\n")) == [200]


def test_many_slow_bodies_leave_room_for_others(trained, bundle):
    small = settings(trained, bundle, **{"serve.max_bytes": 1_000_000, "serve.max_seconds": 4.0})
    with serving(trained, small, bundle) as server:
        assert server.predict(server.row())[0] == 200
        head = HEAD + b"Content-Length: 900000\r\n\r\n" + b" " * 800_000
        with ThreadPoolExecutor(40) as pool:
            sent = [pool.submit(talk, server, head) for _ in range(40)]
            time.sleep(1)
            assert server.predict(server.row())[0] == 200
            said = [statuses(each.result()) for each in sent]
        assert said.count([503]) >= 20 and said.count([408]) >= 10 and said.count([503]) + said.count([408]) == 40
        status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="utf-8")
        assert int(re.search(r"VmHWM:\s+(\d+)", status)[1]) < 300_000, "kB"
        assert server.ask("POST", "/predict", post(b"")[:0] + b" " * 900_000, JSON)[0] == 422
