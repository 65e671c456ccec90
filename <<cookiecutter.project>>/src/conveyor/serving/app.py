"""The server: answers over HTTP with the model of one bundle. The Dockerfile runs it as a module.

    POST /predict    {"rows": [{column: value, ...}, ...]} -> {"id": ..., "model": key, "predictions": [...],
                     "chosen": [class, ...]}; a regression has no classes
    POST /feedback   {"labels": [{"id": of an answer, "row": 1, "label": the true value}, ...]} -> {"taken": number},
                     if serve.feedback is true
    GET  /healthz    the process lives
    GET  /readyz     it answers as in training, and is not about to end
    GET  /metrics    for Prometheus
    GET  /info       which model this is

BUNDLE and SETTINGS name the bundle and the settings of the image; HOST, PORT, PREDICT_TOKEN, PREDICTION_LOG,
BEHIND_EDGE and MIRROR_KEY come from the environment. With --check it answers the golden rows of the bundle, prints the
result, and ends. A request passes protocol.py (HTTP/1.1), routes.py and ``Service.answer``.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
import time
from typing import Any

import uvicorn

from conveyor.core.errors import Misuse, Refused
from conveyor.model.bundle import Bundle
from conveyor.serving.protocol import Protocol
from conveyor.serving.refusals import Refusals
from conveyor.serving.routes import Door
from conveyor.serving.service import Service
from conveyor.serving.settings import Environment, Settings

KEEP_ALIVE = 120  # seconds of an idle connection, longer than in a proxy: it would else send into the close
LINGER = 0.5  # seconds between the signal and the end of listening: a proxy sees /readyz, and sends elsewhere
OPEN_FILES = 65_536  # that the process asks for, if it may
SPARE_FILES = 32  # descriptors beside those of connections: for the log, children, and refused connections


class Server(uvicorn.Server):
    """Ends in order: first /readyz says no and each answer closes its connection, then the port closes.

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
        """Whether to end; called ten times a second."""
        return await super().on_tick(counter) or time.monotonic() >= self._leave


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)


def _room() -> int:
    """How many connections may be open at a time, by the process's limit of descriptors."""
    import resource  # Windows has none, and every module can be imported there

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < OPEN_FILES:
        soft = OPEN_FILES if hard == resource.RLIM_INFINITY else max(soft, min(hard, OPEN_FILES))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(soft - len(os.listdir("/dev/fd")) - SPARE_FILES, 1)


def serve(service: Service, environment: Environment) -> None:
    """Serve until a signal; returns after the last answer is given and the log is written.

    Raises:
        Misuse: the server cannot listen at the port.
    """
    host, port = environment.host, environment.port
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise Misuse(f"HOST {host}, PORT {port}: cannot be listened at: {_reason(error)}; name others") from None
    # The log's thread gives way to a request at once.
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
    # All present objects stay: a garbage collection of them would delay a request.
    gc.collect()
    gc.freeze()
    try:
        Server(config, service).run(sockets=[listener])
    finally:
        for log in service.logs:
            log.close()
        refusals.close()


def main(words: list[str]) -> int:
    """The module as a command, see its docstring. Returns the exit code."""
    check = words == ["--check"]
    try:
        if words and not check:
            raise Misuse(f"{' '.join(words)}: no such option; there is --check")
        environment = Environment.read()
        settings = Settings.read(environment.settings)
        log = settings.log if environment.log is None else environment.log
        if settings.feedback and not log:
            raise Misuse("PREDICTION_LOG: is empty, and serve.feedback keeps labels there; name a folder or a URL")
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
