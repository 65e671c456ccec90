"""A Docker host of its own: an engine in a network of its own, where nothing else is disturbed and it may be restarted.

It takes root, dockerd and unshare.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

INSIDE = "A_HOST_OF_ITS_OWN"  # set for what runs inside


class Host:
    """The engine of this network, with its data in a folder.

    Attributes:
        address: what DOCKER_HOST is there.
    """

    def __init__(self, place: Path) -> None:
        self.place, self.address = place, f"unix://{place / 'docker.sock'}"
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        words = ["--host", self.address, "--data-root", self.place / "data", "--exec-root", self.place / "exec"]
        with open(self.place / "dockerd.log", "a", encoding="utf-8") as log:
            binary = shutil.which("dockerd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
            if binary is None:
                raise SystemExit("error: dockerd is not installed; install Docker")
            # However nice this process is, what serves in the engine goes first.
            command = ["nice", "-n", str(-os.nice(0)), binary, *map(str, words)]
            self._process = subprocess.Popen(
                [*command, "--pidfile", str(self.place / "dockerd.pid")], stdout=log, stderr=log
            )
        import docker

        for _ in range(100):
            with contextlib.suppress(docker.errors.DockerException):
                docker.DockerClient(self.address).close()
                return
            time.sleep(0.2)
        raise SystemExit(f"error: dockerd does not answer; it said: {(self.place / 'dockerd.log').read_text()[-500:]}")

    def stop(self) -> None:
        if self._process:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(60)
            self._process = None

    def take(self, *images: str) -> None:
        """Copy images from the engine that was there before."""
        with subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE) as saved:
            subprocess.run(
                ["docker", "--host", self.address, "load", "--quiet"],
                stdin=saved.stdout,
                stdout=subprocess.DEVNULL,
                check=True,
            )
        if saved.returncode:
            raise SystemExit(f"error: {', '.join(images)} cannot be taken from the engine of this machine")


@contextlib.contextmanager
def host() -> Iterator[Host]:
    """A host that ends with the block; its containers and its data go with it."""
    place = Path(tempfile.mkdtemp(prefix="docker-host-"))
    made = Host(place)
    try:
        made.start()
        yield made
    finally:
        with contextlib.suppress(Exception):  # whatever state it is in: it goes
            import docker

            client = docker.DockerClient(made.address)
            for container in client.containers.list(all=True):
                container.remove(force=True)
            client.close()
        made.stop()
        for _ in range(50):  # what it had mounted goes a moment after it
            shutil.rmtree(place, ignore_errors=True)
            if not place.exists():
                break
            time.sleep(0.1)


def inside() -> None:
    """Go on in a network of its own: this process is run again there."""
    if INSIDE in os.environ:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return
    os.environ[INSIDE] = "1"
    os.execvp("unshare", ["unshare", "--net", "--", sys.executable, *sys.argv])
