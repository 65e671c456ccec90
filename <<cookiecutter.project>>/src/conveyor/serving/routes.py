"""The routes of the server, in plain ASGI: a framework would take as long as the model.

openapi.py describes the answers, and a test compares both.
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json, to_json
from starlette.types import Receive, Scope, Send

from conveyor.serving.clients import Clients, name_of
from conveyor.serving.context import ASKED, Asked, new_id
from conveyor.serving.isolated import Apart
from conveyor.serving.openapi import Info, described
from conveyor.serving.problem import Problem, trace_of
from conveyor.serving.recent import Kept
from conveyor.serving.refusals import Refusals
from conveyor.serving.service import Service
from conveyor.serving.settings import Environment

JSON, TEXT = b"application/json", b"text/plain; version=0.0.4; charset=utf-8"
OK = to_json({"status": "ok"})
ID = re.compile(rb"[A-Za-z0-9._~:/+=@-]{1,128}")
PROBES = ("/healthz", "/readyz", "/metrics")  # for the host of the server; the limits of clients do not apply
Content = tuple[bytes, bytes]  # a media type and a text


@dataclass(slots=True)
class Exchange:
    """A request and its state."""

    scope: Scope
    given: dict[bytes, bytes]
    path: str
    began: float
    request: bytes
    client: str
    probe: bool = False
    mirrored: bool = False
    body: bytes | None = None  # once it is whole
    ended: bool = False  # whether it ended the process that should answer it
    status: int = 200


class Door:
    """The server as an ASGI application.

    Args:
        service: answers.
        environment: tokens, and whether an edge is in front.
        refusals: the log of requests without an answer.
        connections: that may be open at a time.

    Attributes:
        max_seconds: for a body to arrive.
    """

    def __init__(self, service: Service, environment: Environment, refusals: Refusals, connections: int) -> None:
        limits = service.settings
        self._service, self._refusals = service, refusals
        self._connections, self._full = connections, False
        self._tokens = [token.encode() for token in environment.tokens]
        self._behind_edge = environment.behind_edge
        self._key = environment.mirror_key.encode() if environment.mirror_key else None
        self._kept = Kept() if self._key else None
        self._clients = Clients(limits.client_rate, limits.client_open, limits.max_bytes)
        self._apart = Apart(limits.max_seconds)
        self._max_bytes, self.max_seconds = limits.max_bytes, limits.max_seconds
        self._counted: dict[tuple[str, int], Callable[[], None]] = {}
        info = Info.model_validate(service.about).model_dump_json().encode()
        description = to_json(described(service, bool(self._tokens)))
        self._pages: dict[str, Callable[[], Content]] = {
            "/healthz": lambda: (JSON, OK),
            "/readyz": self._readyz,
            "/metrics": lambda: (TEXT, service.observed.text()),
            "/info": lambda: (JSON, info),
            "/openapi.json": lambda: (JSON, description),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange = self._exchange(scope)
        problem = None
        try:
            kind, content = await self._answer(exchange, receive)
        except Problem as found:
            problem = found
        except Exception as error:
            # Our bug, or one of a wrapped service: the caller gets an ordinary error, the log gets the place.
            problem = self._failed(error)
        headers = [(b"x-request-id", exchange.request)]
        if problem:
            exchange.status, kind, content = problem.status, JSON, problem.body()
            headers += problem.headers
        headers += [(b"content-type", kind), (b"content-length", b"%d" % len(content))]
        if self._service.draining and not (problem and problem.close):
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": exchange.status, "headers": headers})
        await send({"type": "http.response.body", "body": content})
        self._record(exchange, content, problem)

    def _exchange(self, scope: Scope) -> Exchange:
        given = dict(scope["headers"])
        request = given.get(b"x-request-id", b"")
        if not ID.fullmatch(request):
            request = new_id().encode()
        client = scope["client"][0] if scope["client"] else ""
        if self._behind_edge and (forwarded := given.get(b"x-forwarded-for")):
            client = forwarded.rpartition(b",")[2].strip().decode("latin-1")[:64]
        made = Exchange(scope, given, scope["path"], time.perf_counter(), request, client)
        made.probe = b"x-probe" in given
        made.mirrored = self._key is not None and hmac.compare_digest(given.get(b"x-mirror", b""), self._key)
        return made

    # Which route

    async def _answer(self, exchange: Exchange, receive: Receive) -> Content:
        path, method = exchange.path, exchange.scope["method"]
        # The edge removes this mark from callers' requests, so behind an edge it is of the deployment.
        known = exchange.mirrored or path in PROBES or (exchange.probe and self._behind_edge)
        if known or not self._clients.limited:
            return await self._routed(exchange, path, method, receive)
        client = name_of(exchange.client)
        self._clients.enter(client)
        try:
            return await self._routed(exchange, path, method, receive)
        finally:
            self._clients.leave(client)

    async def _routed(self, exchange: Exchange, path: str, method: str, receive: Receive) -> Content:
        if path == "/predict":
            if method == "POST":
                return JSON, await self._predict(exchange, receive)
            raise Wrong(method, path, "POST")
        if path == "/feedback" and (feedback := self._service.feedback):
            if method == "POST":
                # A repeated request needs no care: labels that are said twice count once.
                taken = feedback.take(await self._asked(exchange, receive))
                self._service.observed.labels.inc(taken)
                return JSON, to_json({"taken": taken})
            raise Wrong(method, path, "POST")
        if page := self._pages.get(path):
            if method == "GET" or (method == "HEAD" and path in PROBES):
                return page()
            raise Wrong(method, path, "GET, HEAD" if path in PROBES else "GET")
        if path == "/mirror" and method == "GET" and exchange.mirrored and self._kept:
            return JSON, self._kept.json()
        raise Problem(404, f"{method} {path[:200]}: not found".lower())

    def _readyz(self) -> Content:
        if reason := self._service.not_ready:
            raise Problem(503, reason)
        return JSON, OK

    # POST /predict, POST /feedback

    async def _asked(self, exchange: Exchange, receive: Receive) -> bytes:
        """The body of a request that may be made."""
        given = exchange.given
        if self._tokens and not self._allowed(given.get(b"authorization", b"")):
            raise Problem(401, "the bearer token is missing or wrong")
        kind = given.get(b"content-type", b"")
        if kind != JSON and kind.partition(b";")[0].strip().lower() != JSON:
            raise Problem(415, "send the body as application/json")
        exchange.body = body = await self._body(given, receive)
        exchange.began = time.perf_counter()  # the time in which the caller sends the body does not count
        return body

    async def _predict(self, exchange: Exchange, receive: Receive) -> bytes:
        body, given = await self._asked(exchange, receive), exchange.given
        service, probe = self._service, exchange.probe and not exchange.mirrored
        again = given.get(b"x-again") == b"predict"
        ASKED.set(Asked(exchange.request.decode(), not exchange.mirrored and not again))
        if not again:
            return service.answer(body, probe)
        try:
            said = from_json(await self._apart.answer(lambda: self._in_child(body, probe)))
        except Problem as problem:
            exchange.ended = problem.status == 500
            raise
        if "answer" not in said:
            raise Problem(**said)
        content: bytes = said["answer"].encode()
        if not exchange.mirrored and not probe:
            ASKED.set(Asked(exchange.request.decode()))
            service.record_again(body, content)
        return content

    def _in_child(self, body: bytes, probe: bool) -> bytes:
        try:
            return to_json({"answer": self._service.answer(body, probe).decode()})
        except Problem as problem:
            return to_json(vars(problem))
        except Exception as error:
            # The same in a child: the parent could not tell a bug from a request that ended the child.
            return to_json(vars(self._failed(error)))

    def _failed(self, error: Exception) -> Problem:
        """The answer to an unforeseen exception."""
        trace = trace_of(error, text=not self._service.settings.private)
        return Problem(500, "the server failed at this request", trace=trace)

    def _allowed(self, authorization: bytes) -> bool:
        """Whether the token is right; the time of the comparison does not depend on the token."""
        scheme, _, given = authorization.partition(b" ")
        found = [hmac.compare_digest(given.strip(), token) for token in self._tokens]
        return any(found) and scheme.lower() == b"bearer"

    async def _body(self, given: dict[bytes, bytes], receive: Receive) -> bytes:
        """The body of a request, with or without a Content-Length.

        Raises:
            Problem: it is longer than max_bytes, takes longer than max_seconds, or there is no room for it.
        """
        length = given.get(b"content-length", b"0")
        if len(length) > 18 or int(length) > self._max_bytes:
            raise self._too_long()
        message = await receive()
        if message["type"] == "http.request" and not message["more_body"] and len(message["body"]) <= self._max_bytes:
            body: bytes = message["body"]
            return body
        parts, size = [], 0
        try:
            while message["type"] == "http.request":
                self._clients.hold(len(message["body"]))
                parts.append(message["body"])
                size += len(message["body"])
                if size > self._max_bytes:
                    raise self._too_long()
                if not message["more_body"]:
                    return b"".join(parts)
                message = await receive()
        finally:
            self._clients.release(size)
        if message.get("late"):
            raise Problem(408, f"the body did not arrive within {self.max_seconds:g} seconds")
        raise Problem(408, "the connection was closed before the body was whole")

    def _too_long(self) -> Problem:
        return Problem(413, f"the body has more than {self._max_bytes} bytes; send fewer rows at once")

    # Called by the protocol

    def full(self, connections: int) -> bool:
        """Whether so many connections leave no descriptor for another one."""
        full = connections > self._connections
        if full and not self._full:
            told = f"{self._connections} connections are open: no descriptor is left for another one"
            self._refusals.say("error", error=f"{told}; raise the limit of open files")
        self._full = full
        return full

    def refused(self, problem: Problem, client: str, quiet: bool) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """Headers and content of the answer to an invalid request.

        Args:
            quiet: whether the log leaves it out.
        """
        request, content = new_id(), problem.body()
        self._service.observed.requests.labels("other", problem.status).inc()
        if not quiet:
            what = {"request": request, "client": client, "path": None, "status": problem.status}
            self._refusals.say("warning", **what, error=problem.logged, row=None, column=None, seconds=None)
        headers = [(b"x-request-id", request.encode()), *problem.headers, (b"content-type", JSON)]
        return [*headers, (b"content-length", b"%d" % len(content))], content

    # Counting and logging

    def _record(self, exchange: Exchange, content: bytes, problem: Problem | None) -> None:
        seconds = time.perf_counter() - exchange.began
        path, status, service = exchange.path, exchange.status, self._service
        predict = path == "/predict"
        traffic = not (exchange.probe or exchange.mirrored)
        if traffic:
            known = predict or path in self._pages or (path == "/feedback" and service.feedback)
            label = path if known else "other"
            if (label, status) not in self._counted:
                self._counted[label, status] = service.observed.requests.labels(label, status).inc
            self._counted[label, status]()
            if predict:
                service.observed.seconds.observe(seconds)
            if predict and problem and service.refused:
                service.refused.count(status)
        if predict and traffic and exchange.body is not None and not exchange.ended:
            service.ready.answered(status == 500)
            if self._kept:
                self._kept.add(exchange.request.decode(), time.time(), exchange.body, status, content, seconds)
        if problem:
            self._refuse(exchange, problem, seconds)

    def _refuse(self, exchange: Exchange, problem: Problem, seconds: float) -> None:
        what: dict[str, Any] = {"request": exchange.request.decode(), "client": exchange.client}
        what |= {"path": exchange.path[:200], "status": problem.status, "error": problem.logged}
        what |= {"row": problem.row, "column": problem.column, "seconds": round(seconds, 6)}
        if problem.trace:
            what["trace"] = problem.trace
        self._refusals.say("error" if problem.status >= 500 else "warning", **what)


class Wrong(Problem):
    """A known path with another method."""

    def __init__(self, method: str, path: str, allowed: str) -> None:
        super().__init__(405, f"{method} {path}: method not allowed".lower())
        self._allowed = allowed.encode()

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [(b"allow", self._allowed), *super().headers]
