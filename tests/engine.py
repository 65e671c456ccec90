"""What tests of images and deployments stand on: a real Docker engine and real registries, on this machine alone."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import docker
from docker import DockerClient
from docker.errors import DockerException
from filelock import FileLock

T = TypeVar("T")


class NoEngine(Exception):
    """No engine answers here and none can be started."""


@contextmanager
def running_engine(shared: Path) -> Iterator[DockerClient]:
    """A client of the engine that answers, else of one that is started here and ends with the last of its users.

    Args:
        shared: a directory that all workers of this run of the tests see, and no other run.

    Raises:
        NoEngine: with the reason.
    """
    lock, users, pid = FileLock(shared / "dockerd.lock"), shared / "dockerd.users", shared / "dockerd.pid"

    def count(change: int) -> int:
        now = int(users.read_text()) + change
        users.write_text(str(now))
        return now

    with lock:
        client = _answering()
        if client is None:
            client = _start(pid, shared / "dockerd.log")
            users.write_text("0")
        ours = users.exists()
        if ours:
            count(+1)
    try:
        yield client
    finally:
        client.close()
        with lock:
            if ours and count(-1) == 0:
                users.unlink()
                _end(pid)


def _answering() -> DockerClient | None:
    try:
        return docker.from_env()
    except DockerException:  # nothing listens, or it may not be asked: this user has no engine
        return None


def clear(client: DockerClient, name: str) -> None:
    """Remove what was deployed under a DEPLOY_NAME, whatever the environment is called."""
    label = "late_flights.environment"
    for container in client.containers.list(all=True, filters={"label": label}, ignore_removed=True):
        if container.labels[label].startswith(f"{name}-"):
            container.remove(force=True)
    for network in client.networks.list(filters={"label": label}):
        if network.attrs["Labels"][label].startswith(f"{name}-"):
            network.remove()
    for volume in client.volumes.list():
        if volume.name.startswith(f"{name}-") and volume.name.endswith("-rotation"):
            volume.remove()


def _start(pid: Path, log: Path) -> DockerClient:
    """An engine at the default socket."""
    binary = which("dockerd")
    if binary is None or os.geteuid() != 0:
        raise NoEngine("no Docker engine answers, and to start one takes dockerd and root")
    with log.open("w", encoding="utf-8") as out:
        # It is no child of this process: which worker of the tests ends it last is not known.
        # However nice the tests are, what serves in it goes first.
        words = ["nice", "-n", str(-os.nice(0)), binary, "--pidfile", pid]
        subprocess.run(["sh", "-c", 'setsid "$@" &', "sh", *words], stdout=out, stderr=out, check=True)
    try:
        return until(_answering, 30, "dockerd does not answer")
    except TimeoutError as error:
        if pid.exists():
            _end(pid)
        raise NoEngine(f"{error}; it said:\n{log.read_text(encoding='utf-8')[-2000:]}") from None


def _end(pid: Path) -> None:
    """dockerd removes its pid file as the last thing that it does."""
    os.kill(int(pid.read_text(encoding="utf-8")), signal.SIGTERM)
    until(lambda: not pid.exists(), 30, "dockerd did not end")


def which(server: str) -> str | None:
    """Where a server's program is; a user's PATH need not hold it."""
    return shutil.which(server, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def until(holds: Callable[[], T], seconds: float, otherwise: str) -> T:
    """Waits for so long until the condition is true, and returns what it returned.

    Raises:
        TimeoutError: with the text given.
    """
    deadline = time.monotonic() + seconds
    while not (value := holds()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{otherwise} within {seconds:g} s")
        time.sleep(0.1)
    return value


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Registry:
    """Debian's docker-registry on a loopback port of its own. It can be stopped, and starts again with what it held.

    Attributes:
        address: host and port, as an image's name begins.
    """

    def __init__(self, place: Path) -> None:
        port = place / "port"
        if not port.exists():
            port.write_text(str(free_port()))
        self.address = f"127.0.0.1:{port.read_text()}"
        self._config, self._log = place / "registry.yml", place / "registry.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._config.write_text(
            f"version: 0.1\n"
            f"storage: {{filesystem: {{rootdirectory: {place / 'registry'}}}, delete: {{enabled: true}}}}\n"
            f"http: {{addr: '{self.address}'}}\n"
        )

    def start(self) -> None:
        with self._log.open("a") as out:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", self._config], stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        try:
            until(self._answers, 20, "docker-registry does not answer")
        except TimeoutError as error:
            self.stop()
            raise TimeoutError(f"{error}; it said:\n{self._log.read_text()[-2000:]}") from None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/v2/", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(timeout=20)
            self._process = None


class SshHost:
    """Debian's sshd on a loopback port, in front of this machine's engine: what a deployment reaches as DOCKER_HOST.

    ssh looks for keys in the home directory that the system knows for the user, whatever HOME says. So `environment`
    puts an `ssh` before the real one that reads its configuration from here, and nothing of ~/.ssh is read or written.

    Attributes:
        url: as DOCKER_HOST says it.
    """

    def __init__(self, place: Path) -> None:
        self._place, self._log = place, place / "sshd.log"
        self._port = free_port()
        self.url = f"ssh://{getpass.getuser()}@127.0.0.1:{self._port}"
        for key in ("host", "other", "user"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place / key]
            subprocess.run(command, stdin=subprocess.DEVNULL, check=True)
        (place / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1:{self._port}\nHostKey {place}/host\nAuthorizedKeysFile {place}/user.pub\n"
            "AuthenticationMethods publickey\nPermitRootLogin prohibit-password\nStrictModes no\nPidFile none\n"
        )

    def environment(self, knows: str = "host") -> dict[str, str]:
        """Variables with which `ssh` has the user's key, and knows this host by its key.

        Args:
            knows: "other": it knows this host by another key, as if somebody stood in between; "nothing": it does not.
        """
        place = Path(tempfile.mkdtemp(dir=self._place))
        key = "" if knows == "nothing" else f"[127.0.0.1]:{self._port} {(self._place / f'{knows}.pub').read_text()}"
        (place / "known_hosts").write_text(key)
        (place / "config").write_text(
            f"IdentityFile {self._place}/user\nIdentitiesOnly yes\nUserKnownHostsFile {place}/known_hosts\n"
            "GlobalKnownHostsFile /dev/null\nStrictHostKeyChecking yes\nBatchMode yes\n"
        )
        (place / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {place}/config "$@"\n')
        (place / "ssh").chmod(0o755)
        return {"PATH": f"{place}:{os.environ['PATH']}"}

    def secrets(self, knows: str = "host") -> dict[str, str]:
        """The same as the workflow's secrets say it: the user's key, and the line by which the host is known."""
        known = f"[127.0.0.1]:{self._port} {(self._place / f'{knows}.pub').read_text()}"
        return {"DEPLOY_KEY": (self._place / "user").read_text(), "DEPLOY_KNOWN_HOSTS": known}

    @property
    def log(self) -> str:
        """What sshd said so far."""
        return self._log.read_text()

    def start(self) -> None:
        sshd = which("sshd")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # its service would make the directory, and root's sshd insists
        with self._log.open("a") as out:
            command = [sshd, "-D", "-e", "-f", self._place / "sshd_config"]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            until(lambda: "Server listening" in self._log.read_text(), 20, "sshd does not listen")
        except TimeoutError as error:
            self.stop()
            raise TimeoutError(f"{error}; it said:\n{self._log.read_text()[-2000:]}") from None

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)
