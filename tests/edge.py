"""The edge of a generated repository on this machine, without an engine: its Caddyfile, run by Caddy.

Only what a container gives is put in by hand: where it listens, and who its replicas are.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from engine import free_port

CADDY = Path(sys.executable).with_name("caddy")


@dataclass
class Edge:
    """A process that listens at ``port`` for callers, and at ``inside`` for a deployment."""

    process: subprocess.Popen
    port: int
    inside: int

    @property
    def peak(self) -> int:
        """The most bytes of memory that it ever held."""
        return 1024 * int(
            re.search(
                r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8"), re.M
            )[1]
        )


def adapted(text: str, replicas: list[str], port: int, inside: int, files: Path) -> str:
    """A Caddyfile with replicas at addresses, and with ports and a folder of this machine.

    Raises:
        AssertionError: it is not written as it was when this was.
    """
    nested = r"\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}"
    text, found = re.subn(rf"\bdynamic \w+ {nested}", f"to {' '.join(replicas)}", text)
    assert found, "no `dynamic` block"
    for pattern, new, wanted in (
        (r"^(?:\{\$EDGE_SITE::8000\}|:8000) \{$", f":{port} {{", 1),
        (r"^:2020 \{$", f":{inside} {{", 1),
        (r"/rotation/", f"{files}/", None),
    ):
        text, found = re.subn(pattern, new, text, flags=re.M)
        assert wanted is None or found == wanted, f"{pattern} stands there {found} times"
    return text


@contextmanager
def edge(caddyfile: str, replicas: list[int], folder: Path, **variables: str) -> Iterator[Edge]:
    """An edge in front of replicas at ports of this machine; it ends with the block."""
    port, inside = free_port(), free_port()
    (folder / "share").write_text("0")
    config = folder / "Caddyfile"
    config.write_text(adapted(caddyfile, [f"127.0.0.1:{each}" for each in replicas], port, inside, folder))
    with (
        open(folder / "edge.txt", "w", encoding="utf-8") as said,
        subprocess.Popen(
            [CADDY, "run", "--config", config, "--adapter", "caddyfile"],
            env={"HOME": str(folder), "XDG_DATA_HOME": str(folder), **variables},
            stdout=said,
            stderr=said,
        ) as process,
    ):
        try:
            end = time.monotonic() + 20
            while not listens(port):
                assert process.poll() is None and time.monotonic() < end, (folder / "edge.txt").read_text()[-2000:]
                time.sleep(0.05)
            yield Edge(process, port, inside)
        finally:
            process.kill()


def listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class Recorder:
    """A replica that says 200 to everything, and remembers what it was sent.

    Attributes:
        seen: the headers of each request that came whole, by their names in small letters, and its body.
        drops: so many of the next requests get no answer, and their connection is closed.
    """

    port: int
    seen: list[tuple[dict[str, str], bytes]]
    drops: int = 0


@contextmanager
def recorder() -> Iterator[Recorder]:
    """It ends with the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            headers = {name.lower(): text for name, text in self.headers.items()}
            length = int(headers.get("content-length", -1))
            body = self._chunks() if length < 0 else self.rfile.read(length)
            if len(body) < length:
                self.close_connection = True
                return
            found.seen.append((headers, body))
            if found.drops > 0:
                found.drops -= 1
                self.close_connection = True
                return
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _chunks(self) -> bytes:
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size + 2)[:-2]
            self.rfile.readline()
            return body

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Recorder(server.server_port, [])
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield found
        finally:
            server.shutdown()
