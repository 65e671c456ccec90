"""Remotes that fail: a git that loses answers, a server without atomic pushes, a proxy that cuts connections."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def git_that(folder: Path, script: str) -> dict[str, str]:
    """Variables with which `git` is a shell script around the real one, which it calls as ``real``."""
    folder.mkdir(exist_ok=True)
    (folder / "git").write_text(f'#!/bin/bash\nreal() {{ \'{shutil.which("git")}\' "$@"; }}\n{script}\nreal "$@"\n')
    (folder / "git").chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def losing(share: float) -> str:
    """A script that loses this share of the pushes: half before they are sent, half of them after they were taken."""
    return f"""case " $* " in *" push "*)
        n=$((RANDOM % 1000))
        [ $n -ge {int(1000 * share)} ] || {{ [ $((n % 2)) = 0 ] || real "$@"; echo "fatal: hung up" >&2; exit 128; }};;
    esac"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def served(folder: Path, bare: Path) -> Iterator[int]:
    """git's own server in front of a repository on loopback, which also takes pushes; the port."""
    port = free_port()
    words = ["git", "daemon", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}", f"--base-path={folder}"]
    words += ["--export-all", "--enable=receive-pack", str(bare)]
    process = subprocess.Popen(words, start_new_session=True)
    try:
        for _ in range(100):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            threading.Event().wait(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


class Proxy(threading.Thread):
    """Passes connections on to a port, and cuts a share of them after some bytes of either direction."""

    def __init__(self, port: int, share: float, seed: int) -> None:
        super().__init__(daemon=True)
        self.target, self.share, self.chance = port, share, random.Random(seed)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.cut = 0

    def run(self) -> None:
        while True:
            try:
                caller, _ = self.listener.accept()
            except OSError:
                return
            most = int(10 ** self.chance.uniform(1.5, 5)) if self.chance.random() < self.share else None
            threading.Thread(target=self.pass_on, args=(caller, most), daemon=True).start()

    def pass_on(self, caller: socket.socket, most: int | None) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            return caller.close()
        passed = [0]

        def copy(source: socket.socket, target: socket.socket) -> None:
            with suppress(OSError):
                while content := source.recv(4096):
                    passed[0] += len(content)
                    if most is not None and passed[0] > most:
                        self.cut += 1
                        break
                    target.sendall(content)
                else:
                    return target.shutdown(socket.SHUT_WR)
            for end in (caller, server):  # a close alone would not wake the other direction
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

        back = threading.Thread(target=copy, args=(server, caller), daemon=True)
        back.start()
        copy(caller, server)
        back.join(60)

    def close(self) -> None:
        self.listener.close()
