"""The server: answers over HTTP with the model of one bundle. It is run as a module; the Dockerfile says how.

    POST /predict    {"rows": [{column: value, ...}, ...]} -> {"id": ..., "model": key, "predictions": [...]}
    GET  /healthz    the process lives
    GET  /readyz     it answers as in training, and is not about to end
    GET  /metrics    for Prometheus
    GET  /info       which model this is

BUNDLE and SETTINGS name the bundle and the settings of the image; HOST, PORT, PREDICT_TOKEN, PREDICTION_LOG,
BEHIND_EDGE and MIRROR_KEY come from where it runs. With --check it answers the golden rows of the bundle, says so, and
ends. A request passes wire.py (HTTP/1.1), door.py (the routes) and ``Service.answer``.
"""

from __future__ import annotations

import gc
import os
import resource
import socket
import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np
import uvicorn
from numpy.typing import NDArray
from pydantic_core import from_json, to_json

from . import bounds, forms
from .asked import ASKED, new_id
from .bundle import Bundle
from .door import Door
from .errors import Misuse, Refused
from .observed import Observed
from .prediction_log import PredictionLog
from .problem import Problem, trace_of
from .ready import Ready
from .refusals import Refusals
from .settings import Environment, Settings
from .signature import BadRows, Signature, columns_of
from .wire import Protocol

KEEP_ALIVE = 120  # seconds that an idle connection stays: longer than a proxy keeps it, which would send into the close
LINGER = 0.5  # seconds between the word to end and the end of listening: a proxy sees /readyz, and sends elsewhere
OPEN_FILES = 65_536  # that the process takes if it may
SPARE_FILES = 32  # descriptors that connections leave to the log, to children, and to whom is told to come again


class Service:
    """A bundle's model, ready to answer.

    Attributes:
        broken: why it must not answer, or None.
        draining: whether the process is about to end.

    Raises:
        Misuse: the bundle is not the one that the settings name, or damaged.
    """

    def __init__(self, bundle: Bundle, settings: Settings, log: str | None = None) -> None:
        if bundle.judged != settings.digest or bundle.key != settings.key:
            raise Misuse(
                f"{bundle.path}: has digest {bundle.judged[:12]}…, the settings say {settings.digest[:12]}…;"
                " build the image again"
            )
        self.settings = settings
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
            self.log,
        )
        self._bundle, self.ready = bundle, Ready(self._look)

    @property
    def not_ready(self) -> str | None:
        """Why /readyz says no, or None."""
        return "draining: the process is about to end" if self.draining else self.broken or self.ready.reason()

    def _look(self) -> str | None:
        """Why the model does not answer a golden row as it did, or None."""
        if not self.golden_rows:
            return None
        row, wanted = self._bundle.golden["rows"][0], self._bundle.golden["answers"][0]
        try:
            features = self._bundle.features
            said = self._answer(forms.Rows.of({name: [row.get(name)] for name in features}, features))
        except Exception as error:
            # What a model raises is up to its libraries; /readyz says that it does.
            return f"the model does not answer a golden row: {type(error).__name__}"
        if not np.isfinite(said).all() or forms.apart(said, np.asarray([wanted])) > self.settings.tolerance:
            return "the model answers a golden row otherwise than in training"
        return None

    def answer(self, body: bytes, probe: bool = False) -> bytes:
        """The response to the body of a request for /predict. A probe is no traffic: it is neither logged nor observed.

        Raises:
            Problem: the body is not what the model takes, or the model cannot answer it.
        """
        if self.broken:
            raise Problem(503, self.broken)
        rows, columns = self._read(body)
        try:
            predicted = self._answer(columns)
        except Exception as error:
            # What a model raises of values that it cannot take is up to its libraries.
            reason, kind = " ".join(str(error).split())[:200], type(error).__name__
            told = f"the model cannot answer these rows: {kind}"
            open_ = not self.settings.private
            logged = f"{told}: {reason}" if open_ else told
            raise Problem(422, f"{told}: {reason}", logged=logged, trace=trace_of(error, open_)) from None
        if not np.isfinite(predicted).all():
            row = int(np.flatnonzero(~np.isfinite(predicted.reshape(len(rows), -1)).all(axis=1))[0]) + 1
            raise Problem(422, f"row {row}: the model gives no answer", row)
        id = new_id()
        if not probe and ASKED.get().recorded:
            self._record(id, rows, columns, predicted, len(body))
        content = {"id": id, "model": self.settings.key, "predictions": predicted.tolist()}
        return to_json({**content, "classes": self.classes} if self.task == "multiclass" else content)

    def record_again(self, body: bytes, content: bytes) -> None:
        """Count and log what another process answered to a body."""
        said = from_json(content)
        rows, columns = self._read(body)
        self._record(said["id"], rows, columns, np.asarray(said["predictions"], dtype=np.float64), len(body))

    def _record(
        self, id: str, rows: list[dict[str, Any]], columns: forms.Rows, predicted: NDArray[np.float64], size: int
    ) -> None:
        self.observed.rows(columns, predicted)
        if self.log:
            self.log.put(id, rows, predicted, size, ASKED.get().request)

    def _read(self, body: bytes) -> tuple[list[dict[str, Any]], forms.Rows]:
        """The rows of a body; whatever is in it, this takes some megabytes more than the body.

        Raises:
            Problem: naming the first row and column that is wrong.
        """
        body = body.removeprefix(b"\xef\xbb\xbf")  # the mark that some editors put before UTF-8
        if body.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise Problem(422, "the body is UTF-16; send it as UTF-8")
        try:
            bounds.check(body, len(self.signature.columns), self.settings.max_rows)
            return self.signature.read(body)
        except bounds.Beyond as beyond:
            bad = self._beyond(beyond)
        except BadRows as found:
            bad = found
        text = str(bad)
        hidden = bad.column in self.settings.private
        raise Problem(422, text, bad.row, bad.column, logged=_without_value(text, bad.column) if hidden else text)

    def _beyond(self, beyond: bounds.Beyond) -> BadRows:
        """What is wrong in a body that holds too much: the column at its beginning that is, if there is one."""
        if beyond.beginning is not None:
            try:
                self.signature.read(beyond.beginning)
            except BadRows as bad:
                # What is missing there may come after it.
                if bad.column is not None and f"column {bad.column!r} is missing" not in str(bad):
                    return bad
        return BadRows(str(beyond), beyond.row)


def _without_value(text: str, column: str | None) -> str:
    """What is wrong with a column, without the value that is."""
    end = text.find(", not ", text.index(repr(column)) + len(repr(column))) if repr(column) in text else -1
    return text if end < 0 else text[:end]


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


def _room() -> int:
    """How many connections may be open at a time, by the descriptors that the process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < OPEN_FILES:
        soft = OPEN_FILES if hard == resource.RLIM_INFINITY else max(soft, min(hard, OPEN_FILES))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(soft - len(os.listdir("/dev/fd")) - SPARE_FILES, 1)


def serve(service: Service, environment: Environment) -> None:
    """Serve until a signal says to end; returns when the last answer is given and the log is written.

    Raises:
        Misuse: the port cannot be listened at.
    """
    host, port = environment.host, environment.port
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise Misuse(f"HOST {host}, PORT {port}: cannot be listened at: {_reason(error)}; name others") from None
    # A thread that writes the log gives way to a request at once.
    sys.setswitchinterval(0.0005)
    refusals = Refusals()
    config = uvicorn.Config(
        Door(service, environment, refusals, _room()),
        http=Protocol,
        ws="none",
        interface="asgi3",
        proxy_headers=False,
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
    # What is there now stays: to go through all of it for garbage would hold up a request for a long time.
    gc.collect()
    gc.freeze()
    try:
        Server(config, service).run(sockets=[listener])
    finally:
        if service.log:
            service.log.close()
        refusals.close()


def main(words: list[str]) -> int:
    """What the module does as a command; see its top. Returns the exit code."""
    check = words == ["--check"]
    try:
        if words and not check:
            raise Misuse(f"{' '.join(words)}: no such option; there is --check")
        environment = Environment.read()
        settings = Settings.read(environment.settings)
        log = settings.log if environment.log is None else environment.log
        service = Service(Bundle(environment.bundle), settings, None if check else log or None)
        if not check:
            serve(service, environment)
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
