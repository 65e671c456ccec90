"""HTTP/1.1 on the wire: uvicorn's protocol with limits before a body, and after it.

A request that is refused here reaches no route. The first exceeded limit is answered, and the connection is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import unquote

import httptools
from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from conveyor.serving.problem import Problem
from conveyor.serving.routes import Door

TARGET = 8 * 1024  # bytes of a path with its query
FIELDS, FIELD_BYTES = 100, 32 * 1024  # of headers
HEAD_SECONDS = 10.0  # for the headers of a request; of the first one from the beginning of the connection
BESIDE_BODY = 64 * 1024  # bytes of a chunked body that hold nothing of it: trailers, extensions
WAITING = 100  # requests of a connection before the first one is answered
LINGER = 1.0  # seconds in which further input is dropped, so that the answer is not lost
OFFER = frozenset({b"upgrade", b"http2-settings", b"connection"})  # the headers that offer another protocol


def _response(status: int, headers: list[tuple[bytes, bytes]], content: bytes) -> bytes:
    lines = [STATUS_LINE[status]]
    for name, value in headers:
        lines += (name, b": ", value, b"\r\n")
    return b"".join([*lines, b"\r\n", content])


class Cycle(RequestResponseCycle):
    """A request and its response, which leaves in one write.

    Attributes:
        late: whether the body did not arrive in time.
        hang_up: ends the connection.
    """

    late = False
    hang_up: Callable[[], None]
    _start: Message

    # Any: uvicorn's types of messages have no "late".
    async def receive(self) -> Any:
        """Like uvicorn's; a late body ends like a broken connection, with the mark "late"."""
        message = await super().receive()
        return {"type": "http.disconnect", "late": True} if self.late else message

    async def send(self, message: Any) -> None:
        """Take the start of the response, then its only body."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if message["type"] == "http.response.start":
            self._start, self.response_started, self.waiting_for_100_continue = message, True, False
            return
        headers = [*self.default_headers, *self._start["headers"]]
        if (b"connection", b"close") in headers:
            self.keep_alive = False
        elif not self.keep_alive:
            headers.append((b"connection", b"close"))
        content = b"" if self.scope["method"] == "HEAD" else message["body"]
        self.transport.write(_response(self._start["status"], headers, content))
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.hang_up()
        self.on_response()


class Protocol(HttpToolsProtocol):
    """A connection."""

    app: Door
    cycle: Cycle

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._problem: Problem | None = None  # why the parser was stopped
        self._last: bytes | None = None  # the last response, sent after all earlier ones
        self._timer: asyncio.TimerHandle | None = None
        self._refused = False
        self._in_head, self._in_body = True, False
        self._began, self._fed, self._size = False, 0, 0
        self._beside, self._brought = 0, False

    # Time

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast(asyncio.Transport, transport))  # of a server, it reads and writes
        self._arm(HEAD_SECONDS)
        if self.app.full(len(self.connections)):
            self._refuse(Problem(503, "too many connections are open", retry=1, close=True), quiet=True)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def eof_received(self) -> None:
        if self._refused:
            self.transport.close()

    def _arm(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(seconds, self._late)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        if self._refused or (self._in_body and self.cycle.response_complete):  # nothing more is sent
            self.transport.close()
        elif self._in_body:
            self.cycle.late = True
            self.cycle.message_event.set()
        else:
            self._refuse(Problem(408, f"the headers did not arrive within {HEAD_SECONDS:g} seconds"))

    # Bytes

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._unset_keepalive_if_required()
        self._began = self._brought = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._read_plain(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError as error:
            self._refuse(self._problem or Problem(400, f"the request is no HTTP: {error}".lower()))
            return
        if self._in_head and not self._began:
            self._fed += len(data)  # possibly of a header that does not end
            if self._fed > FIELD_BYTES + TARGET:
                self._refuse(Problem(431, f"the headers have more than {FIELD_BYTES} bytes"))
                return
        elif self._in_body:
            self._beside = 0 if self._brought else self._beside + len(data)
            if self._beside > BESIDE_BODY:
                self._refuse(Problem(400, f"more than {BESIDE_BODY} bytes of the request are neither head nor body"))
                return
        if self._in_body:
            self._arm(self.app.max_seconds)
        elif self._in_head or self.cycle is None or self.cycle.response_complete:
            self._arm(HEAD_SECONDS)

    def _read_plain(self, rest: bytes) -> None:
        """Read a request that offers another protocol without that offer: the parser would drop its body."""
        kept = [(name, value) for name, value in self.headers if name not in OFFER]
        keep = b"keep-alive" if self.parser.should_keep_alive() else b"close"
        version = self.parser.get_http_version().encode()
        lines = [self.parser.get_method() + b" " + self.url + b" HTTP/" + version]
        lines += [name + b": " + value for name, value in [*kept, (b"connection", keep)]]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.data_received(b"\r\n".join(lines) + b"\r\n\r\n" + rest)

    # What the parser finds

    def _stop(self, problem: Problem) -> None:
        self._problem = problem
        raise problem

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._began, self._fed, self._size, self._beside = True, True, 0, 0, 0
        if len(self.pipeline) >= WAITING:
            self._stop(Problem(400, f"more than {WAITING} requests wait for an answer"))

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > TARGET:
            self._stop(Problem(414, f"the path has more than {TARGET} bytes"))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body:  # a trailer
            return
        super().on_header(name, value)
        if len(self.headers) > FIELDS:
            self._stop(Problem(431, f"there are more than {FIELDS} headers"))
        self._size += len(name) + len(value) + 4
        if self._size > FIELD_BYTES:
            self._stop(Problem(431, f"the headers have more than {FIELD_BYTES} bytes"))

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                self._stop(Problem(400, "this is no proxy"))
            return  # it is read again without the offer
        version = self.parser.get_http_version()
        if version not in ("1.1", "1.0"):
            self._stop(Problem(505, "the request is neither HTTP/1.1 nor HTTP/1.0"))
        names = [name for name, _ in self.headers]
        hosts = names.count(b"host")
        if hosts > 1 or (not hosts and version == "1.1"):
            self._stop(Problem(400, "a request has one Host header"))
        if b"transfer-encoding" in names:
            coding = dict(self.headers)[b"transfer-encoding"].strip().lower()
            if coding != b"chunked" or version == "1.0":
                self._stop(Problem(400, "the only transfer-encoding is chunked, in HTTP/1.1"))
        self._in_head, self._in_body = False, True
        self._disarm()
        self._begin(version)

    def _begin(self, version: str) -> None:
        """Start the request; if an earlier one has no answer yet, it waits for that."""
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        self.scope["path"] = unquote(path) if "%" in path else path
        self.scope["raw_path"], self.scope["query_string"] = url.path, url.query or b""
        self.scope["method"], self.scope["http_version"] = self.parser.get_method().decode("ascii"), version
        before = self.cycle
        self.cycle = Cycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        self.cycle.hang_up = self._hang_up
        door: Any = self.app  # uvicorn's type of an application includes websockets
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, door)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, door))

    def on_body(self, body: bytes) -> None:
        self._brought = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._in_body:
            return
        self._in_body = False
        self._disarm()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        others = bool(self.pipeline)
        super().on_response_complete()
        if self._last is not None and not others:
            self._write_last(self._last)
        elif self._in_body and self.cycle.response_complete:
            self._arm(HEAD_SECONDS)

    # The end of a connection

    def _refuse(self, problem: Problem, quiet: bool = False) -> None:
        """Answer with the fault after all earlier requests are answered, and close the connection."""
        self._refused = True
        self._disarm()
        self._unset_keepalive_if_required()
        headers, content = self.app.refused(problem, self.client[0] if self.client else "", quiet)
        last = _response(problem.status, headers, content)
        if self._in_body and self.pipeline:  # the newest request waits in the pipeline and is not started any more
            self.pipeline.popleft()
            self._last = last
        elif self._in_body:  # the request has started and waits for the rest of its body
            answered = self.cycle.response_started
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._write_last(b"" if answered else last)
        elif self.cycle is not None and not self.cycle.response_complete:
            self._last = last
        else:
            self._write_last(last)

    def _write_last(self, last: bytes) -> None:
        self._last = None
        if not self.transport.is_closing():
            self.transport.write(last)
            self._linger()

    def _hang_up(self) -> None:
        if self._in_body and not self.pipeline and not self.transport.is_closing():
            self._linger()
        else:
            self.transport.close()

    def _linger(self) -> None:
        """Send nothing more, and read on for a moment: closing at once could lose the last response."""
        self._refused = True
        self._disarm()
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        self.transport.write_eof()
        self._arm(LINGER)
