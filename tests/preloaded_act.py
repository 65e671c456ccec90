"""Runs the product's commands of workflows under act as forks of a process that has imported the libraries.

A job of act calls `make`, which calls the Python of VENV. `face` dresses an environment whose `python -m package` sends
arguments, folder, environment and streams to that process, and ends as the fork ends; everything else it starts is the
interpreter itself. As in preloaded.py, what only a new interpreter shows is seen elsewhere: the first push of the
scenarios runs without it, and so do the generated project's own checks. The demo runs with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import preloaded

CALL = """#!{python} -IS
import json, os, signal, socket, sys
words = sys.argv[1:]
if words[:1] != ["-m"] or words[1] in ("pip", "pytest", "venv"):
    os.execv({python!r}, [{python!r}, *words])
with socket.socket(socket.AF_UNIX) as line:
    line.connect({address!r})
    given = json.dumps([words[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(line, [len(given).to_bytes(8, "big")], [0, 1, 2])
    line.sendall(given)
    told = line.recv(1)
    sys.exit(told[0] if told else 128 + signal.SIGKILL)
"""


@contextlib.contextmanager
def face(venv: Path, place: Path, born: dict[str, str]) -> Iterator[Path]:
    """An environment like ``venv``, in a new folder, whose commands are forks.

    Args:
        born: the environment in which the libraries are imported.
    """
    address, log = place / "line", place / "log"
    (place / "venv" / "bin").mkdir(parents=True)
    for entry in venv.iterdir():
        if entry.name != "bin":
            (place / "venv" / entry.name).symlink_to(entry)
    for program in (venv / "bin").iterdir():
        (place / "venv" / "bin" / program.name).symlink_to(program)
    call = place / "venv" / "bin" / "python"
    call.unlink()
    call.write_text(CALL.format(python=sys.executable, address=str(address)))
    call.chmod(0o755)
    with log.open("w") as out:
        server = subprocess.Popen(
            [sys.executable, __file__, address], env=born, stdout=subprocess.PIPE, stderr=out, stdin=subprocess.DEVNULL
        )
    try:
        if not server.stdout.readline():
            raise RuntimeError(f"no warm process: {log.read_text()[-2000:]}")
        yield place / "venv"
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()


def serve(address: str) -> None:
    """Import the libraries, then fork for each call. Runs in a process of its own."""
    for library in preloaded.LIBRARIES:
        import_module(library)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(address)
        door.listen(16)
        print("ready", flush=True)
        while True:
            line, _ = door.accept()
            if os.fork() == 0:
                door.close()
                os._exit(_command(line))
            line.close()


def _command(line: socket.socket) -> int:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, streams, _, _ = socket.recv_fds(line, 8, 3)
    given = b""
    while len(given) < int.from_bytes(size, "big"):
        given += line.recv(65536)
    words, cwd, env = json.loads(given)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    # Whoever called may be ended: then so is this.
    threading.Thread(target=lambda: line.recv(1) or os._exit(1), daemon=True).start()
    code = 0
    try:
        preloaded.become(words, cwd, env)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:  # as an interpreter ends: with a traceback, and 1
        traceback.print_exc()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    line.sendall(bytes([code & 255]))
    return code & 255


if __name__ == "__main__":
    serve(sys.argv[1])
