"""A hostile caller beside a load: every shape of request that does harm to a careless proxy or server, again and again.

    .venv/bin/python bench/hostile.py <port> <seconds> [shapes a second] [shape ...]

It asks at the loopback address only, at a rate, for a time; what came back of each shape is its last line, as JSON.
Each function under "Shapes" is one, and takes the port.
"""

from __future__ import annotations

import json
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import cycle, islice, product
from pathlib import Path
from string import ascii_letters, digits

JSON = "Content-Type: application/json"
CHUNKED = "Transfer-Encoding: chunked"
EDGE = 4 * 2**20  # bytes that some version of the edge held of a body
LIMIT = 2_000_000  # bytes that a body may have
HELD = 3.0  # seconds that a request stays open which never becomes whole
AT_ONCE = 32  # shapes
Shape = Callable[[int], Iterator[str]]


def head(*headers: str, method: str = "POST") -> bytes:
    lines = (f"{method} /predict HTTP/1.1", "Host: localhost", JSON, *headers, "", "")
    return "\r\n".join(lines).encode("latin-1")


def whole(body: bytes, *headers: str) -> bytes:
    """A request with a body of a stated length."""
    return head(f"Content-Length: {len(body)}", *headers) + body


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(body), body)


def rows(bytes_wanted: int) -> bytes:
    """A body of JSON with so many bytes at least."""
    return b'{"rows": [' + b'{"a": 1},' * (bytes_wanted // 9 + 1) + b"{}]}"


def answer(link: socket.socket, seconds: float = 5.0) -> str:
    """The status of the next answer; or that the connection was closed or reset, or that nothing came for so long."""
    link.settimeout(seconds)
    try:
        said = link.recv(65536)
    except TimeoutError:
        return "silent"
    except OSError:
        return "reset"
    return said.split()[1].decode("latin-1") if said.startswith(b"HTTP/") else "closed" if not said else "no HTTP"


def ask(port: int, *parts: bytes, pause: float = 0.0, seconds: float = 5.0) -> str:
    """Send, and say what came back."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as link:
        try:
            for part in parts:
                link.sendall(part)
                time.sleep(pause)
        except OSError:  # it does not want the rest, and may have said so
            pass
        return answer(link, seconds)


# Shapes


def over_the_buffer(port: int) -> Iterator[str]:
    yield ask(port, whole(rows(EDGE)))


def over_the_limit(port: int) -> Iterator[str]:
    yield ask(port, whole(b" " * (LIMIT + 1)))


def many_over_the_buffer(port: int) -> Iterator[str]:
    """Nineteen at once."""
    with ThreadPoolExecutor(19) as pool:
        yield from pool.map(lambda _: ask(port, whole(rows(EDGE))), range(19))


def chunked_over_the_buffer(port: int) -> Iterator[str]:
    yield ask(port, head(CHUNKED), *[chunk(rows(2**18))] * 17, b"0\r\n\r\n")


def chunked_whole(port: int) -> Iterator[str]:
    yield ask(port, head(CHUNKED), chunk(b'{"rows": '), chunk(b"[]}"), b"0\r\n\r\n")


def chunk_of_no_size(port: int) -> Iterator[str]:
    yield ask(port, head(CHUNKED) + chunk(b'{"rows": [') + b"zz\r\n{}]}\r\n0\r\n\r\n")


def chunk_of_no_end(port: int) -> Iterator[str]:
    yield ask(port, head(CHUNKED) + b'5\r\n{"rows": []}0\r\n\r\n')


def chunk_of_endless_size(port: int) -> Iterator[str]:
    yield ask(port, head(CHUNKED) + b"ffffffffffffffff\r\n{}")


def chunks_that_stop(port: int) -> Iterator[str]:
    with socket.create_connection(("127.0.0.1", port)) as link:
        link.sendall(head(CHUNKED) + chunk(b'{"rows": ['))
        link.shutdown(socket.SHUT_WR)
        yield answer(link)


def aborted(port: int) -> Iterator[str]:
    """Closed when a part of the body has been sent."""
    for sent in (b"", b'{"rows": [', rows(300_000)):
        with socket.create_connection(("127.0.0.1", port)) as link:
            link.sendall(head(f"Content-Length: {len(sent) + 500}") + sent)
        yield "left"


def aborted_and_waiting(port: int) -> Iterator[str]:
    """No more is sent, but the answer is awaited."""
    with socket.create_connection(("127.0.0.1", port)) as link:
        link.sendall(head("Content-Length: 500") + b'{"rows": []}')
        link.shutdown(socket.SHUT_WR)
        yield answer(link)


def reset(port: int) -> Iterator[str]:
    for sent in (b'{"rows": [', rows(300_000)):
        with socket.create_connection(("127.0.0.1", port)) as link:
            link.sendall(head(f"Content-Length: {len(sent) + 500}") + sent)
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        yield "left"


def left_before_the_answer(port: int) -> Iterator[str]:
    with socket.create_connection(("127.0.0.1", port)) as link:
        link.sendall(whole(rows(50_000)))
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    yield "left"


def slow(port: int) -> Iterator[str]:
    body = b'{"rows": []}'
    yield ask(port, head(f"Content-Length: {len(body)}"), *(bytes([byte]) for byte in body), pause=0.15)


def unfinished(port: int, number: int = 100, seconds: float = HELD, sent: int = 50_000) -> Iterator[str]:
    """Bodies that lack their last byte, all open at a time."""
    links = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(number)]
    try:
        for link in links:
            with suppress(OSError):
                link.sendall(head(f"Content-Length: {sent + 1}") + b" " * sent)
        time.sleep(seconds)
        for link in links:
            link.setblocking(False)
            try:
                yield "answered" if link.recv(100) else "closed"
            except BlockingIOError:
                yield "open"
            except OSError:
                yield "reset"
    finally:
        for link in links:
            link.close()


def unfinished_head(port: int) -> Iterator[str]:
    yield ask(port, b"POST /predict HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", b"a", seconds=HELD)


def many_headers(port: int) -> Iterator[str]:
    yield ask(port, whole(b'{"rows": []}', *(f"X-Header-{number}: {number}" for number in range(3000))))


def long_headers(port: int) -> Iterator[str]:
    yield ask(port, b"GET /info HTTP/1.1\r\nHost: localhost\r\n", *[b"X-Long: " + b"a" * 8000 + b"\r\n"] * 300, b"\r\n")


def upgrade_h2c(port: int) -> Iterator[str]:
    offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")
    yield ask(port, whole(b'{"rows": []}', *offer))
    yield ask(port, whole(rows(200_000), *offer))


def http2_without_a_word(port: int) -> Iterator[str]:
    yield ask(port, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")


def websocket(port: int) -> Iterator[str]:
    offer = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
    yield ask(port, head(*offer, "Sec-WebSocket-Version: 13", method="GET"))


def pipelined(port: int) -> Iterator[str]:
    """Twenty requests in one write; the last wants the connection closed."""
    body = b'{"rows": []}'
    with socket.create_connection(("127.0.0.1", port)) as link:
        link.sendall(whole(body) * 19 + whole(body, "Connection: close"))
        link.settimeout(5)
        said = b""
        with suppress(OSError):
            while part := link.recv(65536):
                said += part
    for each in said.split(b"HTTP/1.1 ")[1:]:
        yield each[:3].decode("latin-1")


def length_and_chunks(port: int) -> Iterator[str]:
    inner = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
    yield ask(port, head("Content-Length: 4", CHUNKED) + b"0\r\n\r\n" + inner)
    yield ask(port, head(CHUNKED, f"Content-Length: {len(inner)}") + chunk(b"{}") + b"0\r\n\r\n")


def hidden_chunks(port: int) -> Iterator[str]:
    for way in ("Transfer-Encoding : chunked", "Transfer-Encoding: xchunked", "Transfer-Encoding: chunked, identity"):
        yield ask(port, head("Content-Length: 12", way) + b'{"rows": []}', seconds=2)


def two_lengths(port: int) -> Iterator[str]:
    yield ask(port, head("Content-Length: 12", "Content-Length: 5") + b'{"rows": []}')
    yield ask(port, head("Content-Length: 12", "Content-Length: 12") + b'{"rows": []}')


def folded(port: int) -> Iterator[str]:
    yield ask(port, head("Content-Length:\r\n 12") + b'{"rows": []}')
    yield ask(port, head("X-One: a\r\n\tContent-Length: 3", "Content-Length: 12") + b'{"rows": []}')


def bare_newlines(port: int) -> Iterator[str]:
    yield ask(port, head("Content-Length: 12").replace(b"\r\n", b"\n") + b'{"rows": []}')
    yield ask(port, head("X-One: a\nContent-Length: 3", "Content-Length: 12") + b'{"rows": []}')


def marked(port: int) -> Iterator[str]:
    """With what only the edge and a deployment may say."""
    yield ask(port, whole(b'{"rows": []}', "X-Again: predict", "X-Probe: golden", "X-Mirror: 1"))


def unknown_keys(port: int) -> Iterator[str]:
    """235 000 columns that no model knows, in one row of 1.9 MB."""
    names = islice(product(ascii_letters + digits, repeat=3), 235_000)
    row = ",".join(f'"{"".join(name)}":1' for name in names)
    yield ask(port, whole(f'{{"rows": [{{{row}}}]}}'.encode()), seconds=30)


def nested(port: int) -> Iterator[str]:
    yield ask(port, whole(b'{"rows": ' + b"[" * 90_000), seconds=30)
    yield ask(port, whole(b'{"rows": ' + b'[{"a":' * 300_000), seconds=30)


SHAPES: dict[str, Shape] = {
    shape.__name__: shape
    for shape in (
        *(over_the_buffer, over_the_limit, many_over_the_buffer, chunked_over_the_buffer, chunked_whole),
        *(chunk_of_no_size, chunk_of_no_end, chunk_of_endless_size, chunks_that_stop),
        *(aborted, aborted_and_waiting, reset, left_before_the_answer, slow, unfinished, unfinished_head),
        *(many_headers, long_headers, upgrade_h2c, http2_without_a_word, websocket, pipelined),
        *(length_and_chunks, hidden_chunks, two_lengths, folded, bare_newlines, marked, unknown_keys, nested),
    )
}


# The caller


def attack(port: int, seconds: float, rate: float, names: list[str], stop: threading.Event) -> dict[str, Counter]:
    """Shapes in turn, so many a second, for so long or until it is stopped; what came back of each."""
    found = {name: Counter() for name in names}
    lock, room = threading.Lock(), threading.Semaphore(AT_ONCE)

    def one(name: str) -> None:
        came = Counter()
        try:
            came.update(SHAPES[name](port))
        except OSError as error:
            came[type(error).__name__] += 1
        finally:
            room.release()
        with lock:
            found[name] += came

    end = time.monotonic() + seconds
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for name in cycle(names):
            if stop.wait(1 / rate) or time.monotonic() > end:
                return found
            room.acquire()
            pool.submit(one, name)
    raise AssertionError("names is empty")


@contextmanager
def hostile(port: int, rate: float = 8.0, *names: str, seconds: float = 3600.0) -> Iterator[dict[str, dict[str, int]]]:
    """A hostile caller in a process of its own, to the end of the block; then what came back of each shape is there."""
    words = [sys.executable, str(Path(__file__)), str(port), str(seconds), str(rate), *names]
    found: dict[str, dict[str, int]] = {}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()  # it has begun, and can be told to end
        try:
            yield found
        finally:
            process.terminate()
            found.update(json.loads(process.communicate()[0]))


def main(words: list[str]) -> None:
    port, seconds, *rest = words
    rate, *names = rest or ["8"]
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    print("attacks", flush=True)
    print(json.dumps(attack(int(port), float(seconds), float(rate), names or list(SHAPES), stop)))


if __name__ == "__main__":
    main(sys.argv[1:])
