"""A server as it runs in the container: its own process at a port of the loopback address, and a client for it."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conftest import BakedProject, environment

from conveyor.core.params import load
from conveyor.model.bundle import Bundle
from conveyor.serving.settings import Settings

JSON = {"Content-Type": "application/json"}


def settings(project: BakedProject, bundle: Path, **changes: Any) -> Path:
    """settings.json for a bundle, beside it, as an image holds it."""
    found = Bundle(bundle)
    params = load(project.path / "params.yaml", changes)
    made = Settings.of(params, found.key, found.digest, "0" * 40)
    place = project.path / "build" / f"settings-{made.digest[:12]}.json"
    place.write_text(made.to_json())
    return place


@dataclass
class Server:
    """A process that serves at ``port``."""

    process: subprocess.Popen
    port: int
    golden: dict[str, Any]
    connection: http.client.HTTPConnection = field(init=False)

    def __post_init__(self) -> None:
        self.connection = self.connect()

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] = JSON) -> tuple[int, Any]:
        """Status and content; a body that is no bytes is sent as JSON."""
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        self.connection.request(method, path, content, headers)
        response = self.connection.getresponse()
        text = response.read()
        kind = response.headers["content-type"]
        return response.status, json.loads(text) if kind == "application/json" else text.decode()

    def predict(self, *rows: dict[str, Any], **headers: str) -> tuple[int, Any]:
        return self.ask("POST", "/predict", {"rows": list(rows)}, JSON | headers)

    def row(self, **changes: Any) -> dict[str, Any]:
        """A row that the model takes, with some values changed."""
        return self.golden["rows"][0] | changes

    def metric(self, line: str) -> float:
        """The value of the metric with this name and these labels, 0 if there is none."""
        found = [
            text.split()[-1] for text in self.ask("GET", "/metrics")[1].splitlines() if text.startswith(f"{line} ")
        ]
        return float(found[0]) if found else 0.0

    def end(self, with_signal: int = signal.SIGTERM) -> tuple[int, str]:
        """Ask it to end: its exit code, and what it said on standard error."""
        self.process.send_signal(with_signal)
        _, complaint = self.process.communicate(timeout=30)
        return self.process.returncode, complaint


def talk(server: Server, *parts: bytes, pause: float = 0.0, seconds: float = 20.0) -> bytes:
    """What is said to bytes as they are sent, until the connection is closed or nothing comes for so many seconds."""
    said = bytearray()
    with socket.create_connection(("127.0.0.1", server.port), timeout=seconds) as connection:

        def read() -> None:
            with suppress(OSError):  # closed, or kept open for longer than we wait
                while more := connection.recv(65536):
                    said.extend(more)

        reader = threading.Thread(target=read)
        reader.start()
        with suppress(OSError):  # closed while we were sending
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
        reader.join()
    return bytes(said)


def statuses(said: bytes) -> list[int]:
    """Those of all responses in what was said."""
    return [int(number) for number in re.findall(rb"HTTP/1\.1 (\d+) [A-Z]", said)]


@contextmanager
def serving(
    project: BakedProject,
    settings: Path,
    bundle: Path,
    *words: str | Path,
    before: Callable[[], Any] | None = None,
    **variables: str,
) -> Iterator[Server]:
    """A server for a bundle; it is ended with the block.

    Args:
        words: what Python runs instead of the module.
        before: what the process does before it becomes the server.
    """
    known = {"BUNDLE": str(bundle), "SETTINGS": str(settings), "HOST": "127.0.0.1", "PORT": "0", "PYTHONPATH": "src"}
    process = subprocess.Popen(
        [sys.executable, *(words or ("-m", "conveyor.serving.app"))],
        cwd=project.path,
        env=environment(**known | {"PREDICTION_LOG": ""} | variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=before,
    )
    try:
        said = process.stdout.readline()
        assert "http://127.0.0.1:" in said, process.communicate(timeout=30)
        server = Server(process, int(said.rsplit(":", 1)[1]), json.loads((bundle / "golden.json").read_text()))
        with closing(server.connection):
            yield server
    finally:
        process.kill()
        with process:  # closes its pipes
            pass
