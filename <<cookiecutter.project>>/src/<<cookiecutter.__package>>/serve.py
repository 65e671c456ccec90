"""The server: answers over HTTP with the model of one bundle. It is run as a module; the Dockerfile says how.

    POST /predict    {"rows": [{column: value, ...}, ...]} -> {"id": ..., "model": key, "predictions": [...]}
    GET  /healthz    the process lives
    GET  /readyz     it answers as in training, and is not about to end
    GET  /metrics    for Prometheus
    GET  /info       which model this is

BUNDLE and SETTINGS name the bundle and the settings of the image; HOST, PORT, PREDICT_TOKEN and PREDICTION_LOG come
from where it runs. With --check it answers the golden rows of the bundle, says so, and ends.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import socket
import sys
import time
import traceback
import uuid
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import uvicorn
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field, create_model
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import forms
from .bundle import Bundle
from .errors import Misuse, Refused
from .observed import Observed
from .prediction_log import PredictionLog
from .settings import Environment, Settings
from .signature import BadRows, Signature, columns_of

PATHS = ("/predict", "/healthz", "/readyz", "/metrics", "/info", "/openapi.json")
KEEP_ALIVE = 120  # seconds that an idle connection stays: longer than a proxy keeps it, which would send into the close
LINGER = 0.5  # seconds between the word to end and the end of listening: a proxy sees /readyz, and sends elsewhere


class Problem(Exception):
    """A request that is not answered: the status, and what is wrong in words."""

    def __init__(self, status: int, error: str, row: int | None = None, column: str | None = None) -> None:
        self.status, self.error, self.row, self.column = status, error, row, column
        super().__init__(error)

    def response(self) -> Response:
        """The one shape of all errors."""
        headers = {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}
        if self.status in (408, 413):  # the rest of the body is not wanted
            headers["Connection"] = "close"
        content = {"error": self.error, "row": self.row, "column": self.column}
        return JSONResponse(content, self.status, headers)


class Service:
    """A bundle's model, ready to answer.

    Attributes:
        broken: why it must not answer, or None.
        draining: whether the process is about to end.

    Raises:
        Misuse: the bundle is not the one that the settings name, or damaged.
    """

    def __init__(self, bundle: Bundle, settings: Settings, token: str | None = None, log: str | None = None) -> None:
        if bundle.judged != settings.digest or bundle.key != settings.key:
            raise Misuse(
                f"{bundle.path}: has digest {bundle.judged[:12]}…, the settings say {settings.digest[:12]}…;"
                " build the image again"
            )
        self.settings, self.token = settings, token.encode() if token else None
        asked, profile = bundle.asked, bundle.profile
        self.task, self.classes = asked["task"], asked["classes"]
        self.form, self._answer = forms.load(bundle, settings.trusted_types, settings.tolerance)
        columns = columns_of(bundle)
        golden = bundle.golden["rows"]
        self.example = dict(golden[0]) if golden else {column.name: None for column in columns}
        for column in columns:
            if column.name in settings.private:  # what the log must not hold is shown to nobody
                self.example[column.name] = {"number": 0.0, "truth": False, "time": "2000-01-01T00:00:00Z"}.get(
                    column.kind, "text"
                )
        told = [replace(c, range=None, categories=None) if c.name in settings.private else c for c in columns]
        self.signature = Signature(told, settings.max_rows, self.example)
        self.about = {
            "key": settings.key,
            "digest": settings.digest,
            "commit": settings.commit,
            "form": self.form,
            **asked,
            "features": {column.name: column.kind for column in columns},
        }
        self.golden_rows, self.difference, self.broken = len(golden), float("nan"), None
        try:
            self.difference = forms.golden(bundle, self._answer, settings.tolerance)
        except Refused as refused:
            self.broken = str(refused)
        except Exception as error:
            # With libraries that the model does not fit it may raise whatever they raise: it must not serve.
            self.broken = f"{bundle.path.name}: the golden rows are not answered: {type(error).__name__}: {error}"
        self.draining = False
        self.log = PredictionLog(log, settings.key, settings.private, settings.log_bytes) if log else None
        self.observed = Observed(
            columns,
            self.classes if self.task == "multiclass" else [],
            profile["bounds"] if profile else np.linspace(0.1, 0.9, 9).round(1).tolist(),
            {name: self.about[name] for name in ("key", "digest", "commit", "form")},
            lambda: self.log.dropped if self.log else 0,
        )

    @property
    def not_ready(self) -> str | None:
        """Why /readyz says no, or None."""
        return "draining: the process is about to end" if self.draining else self.broken

    def answer(self, body: bytes, probe: bool = False) -> bytes:
        """The response to the body of a request for /predict. A probe is no traffic: it is neither logged nor observed.

        Raises:
            Problem: the body is not what the model takes, or the model cannot answer it.
        """
        if self.broken:
            raise Problem(503, self.broken)
        try:
            rows, columns = self.signature.read(body)
        except BadRows as bad:
            raise Problem(422, str(bad), bad.row, bad.column) from None
        try:
            predicted = self._answer(columns)
        except Exception as error:
            # What a model raises of values that it cannot take is up to its libraries. The log of the process has all.
            traceback.print_exception(error)
            reason = " ".join(str(error).split())[:200]
            raise Problem(422, f"the model cannot answer these rows: {type(error).__name__}: {reason}") from None
        if not np.isfinite(predicted).all():
            row = int(np.flatnonzero(~np.isfinite(predicted.reshape(len(rows), -1)).all(axis=1))[0]) + 1
            raise Problem(422, f"row {row}: the model gives no answer", row)
        id = str(uuid.uuid4())
        if not probe:
            self.observed.rows(columns, predicted)
        if self.log and not probe:
            self.log.put(id, rows, predicted, len(body))
        content = {"id": id, "model": self.settings.key, "predictions": predicted.tolist()}
        return to_json({**content, "classes": self.classes} if self.task == "multiclass" else content)


# HTTP


async def read_body(request: Request, max_bytes: int, max_seconds: float) -> bytes:
    """The body of a request, whether or not it says its length before.

    Raises:
        Problem: it is longer, or takes longer.
    """
    too_long = Problem(413, f"the body has more than {max_bytes} bytes; send fewer rows at once")
    length = request.headers.get("content-length", "0")
    if len(length) > 18 or int(length) > max_bytes:
        raise too_long
    body = b""
    try:
        async with asyncio.timeout(max_seconds):
            more = True
            while more:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise Problem(408, "the connection was closed before the body was whole")
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if len(body) > max_bytes:
                    raise too_long
    except TimeoutError:
        raise Problem(408, f"the body did not arrive within {max_seconds:g} seconds") from None
    return body


def allowed(request: Request, token: bytes | None) -> bool:
    """Whether the request bears the token, compared in a time that does not tell how much of it is right."""
    if token is None:
        return True
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return hmac.compare_digest(given.strip().encode("latin-1", "replace"), token) and scheme.lower() == "bearer"


class Told(BaseModel):
    """What an error says."""

    error: str
    row: int | None = Field(description="the number of the row that is wrong, the first is 1")
    column: str | None


class Status(BaseModel):
    """A probe's answer."""

    status: Literal["ok"]


class Info(BaseModel):
    """Which model answers."""

    key: str
    digest: str
    commit: str = Field(description="of the serving code")
    form: Literal["compiled", "arrays", "frame"]
    task: Literal["binary", "multiclass", "regression"]
    target: str
    classes: list[str]
    features: dict[str, str]


def application(service: Service) -> ASGIApp:
    """The server's routes. Handlers run on the event loop: an answer takes less time than a change of threads."""
    said = {
        "binary": (list[float], "of each row the probability of the second class"),
        "multiclass": (list[list[float]], "of each row the probability of each class, in the order of `classes`"),
        "regression": (list[float], "of each row the number"),
    }[service.task]
    fields: dict[str, Any] = {"id": (str, ...), "model": (str, Field(description="its key"))}
    fields["predictions"] = (said[0], Field(description=said[1]))
    if service.task == "multiclass":
        fields["classes"] = (list[str], ...)
    problem = {"model": Told}
    app = FastAPI(
        title="<< cookiecutter.project >>",
        version=service.settings.key[:12],
        docs_url=None,  # these pages would load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    media = {"schema": service.signature.schema(), "example": {"rows": [service.example]}}
    extra: dict[str, Any] = {"requestBody": {"required": True, "content": {"application/json": media}}}
    if service.token:
        extra["security"] = [{"bearer": []}]

    @app.post(
        "/predict",
        response_class=JSONResponse,
        response_model=None,
        responses={
            200: {"model": create_model("Predictions", **fields)},
            401: {**problem, "description": "The bearer token is missing or wrong"},
            408: {**problem, "description": "The body did not arrive in time"},
            413: {**problem, "description": "The body is too long"},
            415: {**problem, "description": "The body is not declared as JSON"},
            422: {**problem, "description": "A row is not what the model takes; it is named with its column"},
            503: {**problem, "description": "The model does not answer as it did in training"},
        },
        openapi_extra=extra,
    )
    async def predict(request: Request) -> Response:
        if not allowed(request, service.token):
            raise Problem(401, "the bearer token is missing or wrong")
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Problem(415, "send the body as application/json")
        body = await read_body(request, service.settings.max_bytes, service.settings.max_seconds)
        return Response(service.answer(body, probe="x-probe" in request.headers), media_type="application/json")

    @app.get("/healthz", response_model=Status)
    async def healthz() -> Any:
        return {"status": "ok"}

    @app.get("/readyz", response_model=Status, responses={503: problem})
    async def readyz() -> Any:
        if service.not_ready:
            raise Problem(503, service.not_ready)
        return {"status": "ok"}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return PlainTextResponse(service.observed.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/info", response_model=Info)
    async def info() -> Any:
        return service.about

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
            if service.token:
                app.openapi_schema["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
        return app.openapi_schema

    app.openapi = openapi

    @app.exception_handler(Problem)
    async def on_problem(request: Request, error: Problem) -> Response:
        return error.response()

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:
        made = Problem(error.status_code, f"{request.method} {request.url.path}: {error.detail}".lower()).response()
        made.headers.update(error.headers or {})
        return made

    return Door(app, service)


class Door:
    """Counts what comes and goes, and ends kept connections when the process is about to end."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        service, began, path = self._service, time.perf_counter(), scope["path"]

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                service.observed.requests.labels(path if path in PATHS else "other", message["status"]).inc()
                if service.draining:
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive, answer)
        if path == "/predict":
            service.observed.seconds.observe(time.perf_counter() - began)


class Server(uvicorn.Server):
    """Ends in order: first /readyz says no and connections are closed with their answer, then nothing is accepted.

    Uvicorn would close the port at once, and end as if the signal had killed it.
    """

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service, self._leave = service, float("inf")

    def handle_exit(self, sig: int, frame: Any) -> None:
        """The first signal begins the end, a second one ends at once."""
        if self._service.draining:
            self.should_exit = self.force_exit = True
        self._service.draining = True
        self._leave = min(self._leave, time.monotonic() + LINGER)

    async def on_tick(self, counter: int) -> bool:
        """Whether to leave; asked ten times a second."""
        return await super().on_tick(counter) or time.monotonic() >= self._leave


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)


def serve(service: Service, host: str, port: int) -> None:
    """Serve until a signal says to end; returns when the last answer is given and the log is written.

    Raises:
        Misuse: the port cannot be listened at.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise Misuse(f"HOST {host}, PORT {port}: cannot be listened at: {_reason(error)}; name others") from None
    # A thread that writes the log gives way to a request at once.
    sys.setswitchinterval(0.0005)
    config = uvicorn.Config(
        application(service),
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="error",
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=int(service.settings.max_seconds) + 5,
    )
    address = f"[{host}]" if ":" in host else host
    at = f"{address}:{listener.getsockname()[1]}"
    print(f"serving   model {service.settings.key[:12]} ({service.form}) at http://{at}", flush=True)
    try:
        Server(config, service).run(sockets=[listener])
    finally:
        if service.log:
            service.log.close()


def main(words: list[str]) -> int:
    """What the module does as a command; see its top. Returns the exit code."""
    check = words == ["--check"]
    try:
        if words and not check:
            raise Misuse(f"{' '.join(words)}: no such option; there is --check")
        environment = Environment.read()
        settings = Settings.read(environment.settings)
        log = settings.log if environment.log is None else environment.log
        service = Service(Bundle(environment.bundle), settings, environment.token, None if check else log or None)
        if not check:
            serve(service, environment.host, environment.port)
            return 0
        if service.broken:
            raise Refused(service.broken)
        print(
            f"check     model {settings.key[:12]} ({service.form}) answers {service.golden_rows} golden rows as in"
            f" training, within {service.difference:.2g}"
        )
        return 0
    except (Refused, Misuse) as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        return 1 if check else error.code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
