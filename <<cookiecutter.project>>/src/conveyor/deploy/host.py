"""One environment of this project on one engine: its names, its containers, the lock, and requests in its network."""

from __future__ import annotations

import io
import json
import re
import socket
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from conveyor.core.errors import Misuse
from conveyor.core.project import Project
from conveyor.deploy.docker_engine import run_inside
from conveyor.deploy.image import label

if TYPE_CHECKING:
    from collections.abc import Callable

    import docker
    from docker.models.containers import Container
    from docker.models.images import Image

LOCK_SECONDS = 5  # a killed deployer's container is gone before that
STOP_SECONDS = 30  # for a container to finish its open requests
# CPU shares while all cores are busy; the edge has 1024.
SERVING, STARTING, ASKING = 512, 256, 128
OF_BEFORE = "replicas"  # the common name in the network of releases from before each release had its own

# Requests each address, again for WAIT seconds until all answer 200, and prints the answers as JSON. It runs in the
# deployer, which has Python and none of our code.
PROBE = """
import json, os, sys, time, urllib.request, urllib.error
until = time.monotonic() + float(os.environ["WAIT"])
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
def ask(url):
    headers = {"Content-Type": "application/json", "X-Probe": "golden"}
    token, body = os.environ.get("TOKEN"), None
    if token:
        headers["Authorization"] = "Bearer " + token
    if url.endswith("/predict"):
        body = open("/tmp/golden.json", "rb").read()
    began = time.monotonic()
    def whole(answer):
        content = b""
        while part := answer.read1(65536):
            content += part
            if len(content) > 10_000_000 or time.monotonic() - began > 10:
                raise OSError("an answer that does not end")
        return content.decode(errors="replace")
    try:
        with opener.open(urllib.request.Request(url, body, headers), timeout=5) as answer:
            return {"status": answer.status, "body": whole(answer)}
    except urllib.error.HTTPError as error:
        return {"status": error.code, "body": whole(error)}
    except (OSError, ValueError) as error:
        return {"status": 0, "body": str(error)}
while True:
    answers = [ask(url) for url in sys.argv[1:]]
    if all(answer["status"] == 200 for answer in answers) or time.monotonic() > until:
        break
    time.sleep(0.2)
print(json.dumps(answers))
"""


@dataclass(frozen=True)
class Release:
    """The replicas that were started together, and what they run. Their labels begin with the package's name."""

    package: str
    name: str
    key: str
    digest: str
    image: str
    containers: tuple[Container, ...]

    @property
    def running(self) -> list[Container]:
        return [c for c in self.containers if c.status == "running"]

    @property
    def complete(self) -> bool:
        """Whether all of its replicas run."""
        return len(self.running) == len(self.containers)

    @property
    def address(self) -> str:
        """Its name in the network, for the addresses of all of its replicas."""
        return OF_BEFORE if OF_BEFORE in self._names else address_of(self.name)

    @property
    def joint(self) -> str | None:
        """The common name of its replicas and those of the next release; None if it has none."""
        return joint_of(self.name) if joint_of(self.name) in self._names else None

    @property
    def _names(self) -> set[str]:
        networks = self.containers[0].attrs["NetworkSettings"]["Networks"].values()
        return {name for network in networks for name in network.get("Aliases") or ()}

    def label(self, name: str) -> str | None:
        value: str | None = self.containers[0].labels.get(f"{self.package}.{name}")
        return value

    def variable(self, name: str) -> str | None:
        """An environment variable of its replicas."""
        given = dict(line.partition("=")[::2] for line in self.containers[0].attrs["Config"]["Env"] or ())
        return given.get(name)


def address_of(release: str) -> str:
    """The name in the network of a release."""
    return f"release-{release}"


def joint_of(release: str) -> str:
    """The common name in the network of a release and the next one.

    It exists as long as one replica of either runs. For a name that does not exist the engine asks other machines, and
    meanwhile the edge answers no request.
    """
    return f"joint-{release}"


def log_of(project: Project) -> str | None:
    """Where predictions are logged: a folder of the containers, or a URL; None: nowhere."""
    given = project.environment.prediction_log
    return project.params.serve.log if given is None else given


class Host:
    """One environment of this project on one engine.

    Args:
        say: takes a line for each event.
    """

    def __init__(
        self, project: Project, environment: str, client: docker.DockerClient, say: Callable[[str], None]
    ) -> None:
        self.project = project
        self.rule = project.params.deploy
        self.environment = environment
        self.client = client
        self.say: Callable[[str], None] = lambda text: say(f"deploy    {text}")
        self.name = f"{project.environment.deploy_name or project.name}-{environment}"
        self.log = log_of(project)
        # The containers behind the edge cannot reach the outside, unless the log of predictions is there.
        self.internal = not (self.log and "://" in self.log)
        self.network = self.name if self.internal else f"{self.name}-open"
        self.deployer: Container | None = None

    # What is there

    def releases(self) -> list[Release]:
        """All releases on the engine, the newest first."""
        found: dict[str, list[Container]] = {}
        for container in self.ours("replica"):
            found.setdefault(container.labels[label(self.project, "release")], []).append(container)
        return [
            Release(
                self.project.package,
                name,
                containers[0].labels[label(self.project, "key")],
                containers[0].labels[label(self.project, "digest")],
                containers[0].attrs["Image"],
                tuple(sorted(containers, key=lambda c: c.name)),
            )
            for name, containers in sorted(found.items(), reverse=True)
        ]

    def ours(self, role: str) -> list[Container]:
        labels = [f"{name}={value}" for name, value in self.labels(role).items()]
        found: list[Container] = self.client.containers.list(all=True, filters={"label": labels}, ignore_removed=True)
        return found

    def labels(self, role: str, **more: str) -> dict[str, str]:
        labels = {"environment": self.name, "role": role, **more}
        return {label(self.project, name): value for name, value in labels.items()}

    def volume(self, what: str) -> str:
        return f"{self.name}-{what}"

    # The lock

    @contextmanager
    def alone(self, image: Image, golden: dict[str, Any]) -> Iterator[None]:
        """Hold the lock of the environment.

        The lock is a container that reads its standard input, which this process keeps open: it ends with the process,
        however that ends. Requests inside the network are sent from it.

        Raises:
            Misuse: another deployment holds the lock.
        """
        self._ensure_network()
        api = self.client.api
        made = self._create_lock(image, f"{self.name}-deployer")
        connection = api.attach_socket(made, params={"stdin": 1, "stream": 1})
        try:
            api.start(made)
            self.deployer = self.client.containers.get(made)
            self.put("/tmp", {"golden.json": json.dumps({"rows": golden["rows"]}).encode()})
            yield
        finally:
            self.deployer = None
            connection.close()
            with suppress(Exception):  # the container or the engine is gone; the end of its input ends it anyway
                api.remove_container(made, force=True)
            with suppress(Exception):  # an earlier error is the one to report
                self.tidy()

    def tidy(self) -> None:
        """Remove the networks and the rotation of this environment once it has no containers."""
        if any(self.ours(role) for role in ("edge", "replica", "deployer")):
            return
        for network in self.client.networks.list(
            filters={"label": [f"{label(self.project, 'environment')}={self.name}"]}
        ):
            network.remove()
        for volume in self.client.volumes.list(filters={"name": self.volume("rotation")}):
            volume.remove()

    def _create_lock(self, image: Image, name: str) -> str:
        import docker.errors

        api = self.client.api
        until = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                made: str = api.create_container(
                    image.id,
                    ["python", "-I", "-c", "import sys; sys.stdin.read()"],
                    name=name,
                    stdin_open=True,
                    labels=self.labels("deployer", by=f"{self.project.environment.actor or socket.gethostname()}"),
                    healthcheck={"test": ["NONE"]},
                    host_config=api.create_host_config(
                        auto_remove=True,
                        network_mode=self.network,
                        cap_drop=["ALL"],
                        security_opt=["no-new-privileges"],
                        mem_limit="1g",
                        cpu_shares=ASKING,
                        pids_limit=256,
                    ),
                )["Id"]
                return made
            except docker.errors.APIError as error:
                if error.status_code != 409:
                    raise
                if time.monotonic() < until:
                    time.sleep(0.2)
                    continue
                with suppress(docker.errors.NotFound):
                    other = self.client.containers.get(name)
                    if other.status == "created":  # its deployer was killed between two calls: it is free
                        other.remove(force=True)
                        continue
                    who, since = other.labels.get(label(self.project, "by")), other.attrs["Created"][:19]
                    raise Misuse(
                        f"deploy: another deployment is at work in {self.environment}, by {who} since {since}Z; wait"
                        " until it has ended"
                    ) from None

    def _ensure_network(self) -> None:
        if not self.client.networks.list(names=[f"^{re.escape(self.network)}$"]):
            self.client.networks.create(
                self.network, driver="bridge", internal=self.internal, check_duplicate=True, labels=self.labels("net")
            )

    # Asking from inside

    def ask(self, *urls: str, wait: float = 0.0) -> list[dict[str, Any]]:
        """The answer of each address: status (0: none) and body."""
        answers: list[dict[str, Any]] = json.loads(self.run(["python", "-I", "-c", PROBE, *urls], WAIT=str(wait)))
        return answers

    def run(self, command: list[str], **variables: str) -> bytes:
        """The output of a command in the deployer; TOKEN holds the clients' token.

        Raises:
            Misuse: the command fails.
        """
        token = (self.project.environment.predict_token or "").partition(",")[0]
        done = run_inside(self._inside(), command, environment={"TOKEN": token, **variables})
        if done.exit_code:
            said = done.errors.decode(errors="replace").strip().splitlines()
            raise Misuse(f"deploy: nothing can be asked inside the network: {said[-1] if said else 'no answer'}")
        return done.output

    def _inside(self) -> Container:
        if self.deployer is None:
            raise RuntimeError("the network is asked from the deployer, which is there while `alone` lasts")
        return self.deployer

    def put(self, folder: str, files: dict[str, bytes]) -> None:
        """Write files into the deployer."""
        self._inside().put_archive(folder, archive(files))


def archive(files: dict[str, bytes]) -> bytes:
    """The files as a tar, readable by everybody."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o444
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()
