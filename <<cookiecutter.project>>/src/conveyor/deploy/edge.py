"""The edge of an environment: a proxy at a stable port, and the rotation that it reads for each request.

The rotation is three files in a volume of the edge: the release that serves, the release that is tried beside it, and
the share of the requests for the trial. Each file is replaced as a whole, so a change holds from the next request on.
No connection is cut, and a release leaves the rotation before any of its replicas is stopped.
"""

from __future__ import annotations

import io
import ipaddress
import json
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from conveyor.core.errors import Misuse
from conveyor.core.files import sha256
from conveyor.deploy.docker_engine import run_inside
from conveyor.deploy.host import STOP_SECONDS, Host, Release, archive
from conveyor.deploy.image import label

if TYPE_CHECKING:
    from docker.models.containers import Container
    from docker.models.images import Image

PLACE = "/rotation"
EVERYTHING = "g"  # sorts after every hexadecimal digit
METRICS = "http://edge:2020/metrics"
# Bytes of the edge, and descriptors. A connected caller needs one descriptor, and less than 50 kB if its body is below
# 10 kB and incomplete. There must be many more descriptors than callers: the edge needs some to reach a replica.
MEMORY, DESCRIPTORS = 1_000_000_000, 16_384
PLAIN, SECURE = 8000, 8443  # the ports inside


@dataclass(frozen=True)
class Rotation:
    """Which release gets requests: names in the network, and the digits below which a request is in the trial."""

    main: str = ""
    next: str = ""
    share: str = ""

    @classmethod
    def trial(cls, old: Release, new: Release, share: float) -> Rotation:
        """Give the new release a share of the requests, in (0, 1).

        A request of the trial goes to any replica of both releases, so the trial has more requests than that share.
        """
        both = len(old.running) + len(new.containers) if old.joint else len(new.containers)
        part = round(65536 * share * both / len(new.containers))
        return cls(old.address, old.joint or new.address, EVERYTHING if part >= 65536 else f"{part:04x}")

    @property
    def order(self) -> tuple[str, ...]:
        """The order in which the files are written, so that no request finds an empty name."""
        return ("main", "next", "share") if self.share else ("main", "share", "next")


def read_rotation(edge: Container | None) -> Rotation | None:
    """The rotation of an edge, running or not; None: there is no edge, or it is of a version without a rotation."""
    import docker.errors

    if edge is None:
        return None
    try:
        stream, _ = edge.get_archive(PLACE)
    except docker.errors.NotFound:  # it is of a version that finds all replicas by one name
        return None
    found = {}
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
        for name in ("main", "next", "share"):
            if f"rotation/{name}" in tar.getnames() and (file := tar.extractfile(f"rotation/{name}")):
                found[name] = file.read().decode()
    return Rotation(**found)


def write_rotation(edge: Container, rotation: Rotation) -> None:
    """Change the rotation of a running edge, from its next request on.

    Raises:
        Misuse: the files cannot be replaced.
    """
    edge.put_archive(PLACE, archive({f".{name}": getattr(rotation, name).encode() for name in rotation.order}))
    moves = " && ".join(f"mv -f .{name} {name}" for name in rotation.order)
    done = run_inside(edge, ["sh", "-c", f"cd {PLACE} && {moves}"], user="0:0")
    if done.exit_code:
        raise Misuse(f"deploy: the edge's rotation cannot be written: {done.errors.decode(errors='replace')[:200]}")


def find(host: Host) -> Container | None:
    """The edge of an environment."""
    return next(iter(host.ours("edge")), None)


def address(host: Host, edge: Container | None) -> tuple[str, int, bool]:
    """The address of the edge on the host: address, port, and whether this or an earlier call gave the port.

    Raises:
        Misuse: callers would send their tokens over a network in the clear.
    """
    rule, given = host.rule, host.project.environment.deploy_port
    if not ipaddress.ip_address(rule.bind).is_loopback and rule.tls is None and not rule.behind_tls:
        raise Misuse(
            f"deploy: params.yaml: deploy.bind is {rule.bind}, where requests and tokens cross a network in the clear;"
            " set deploy.tls, or deploy.behind_tls: true where a proxy before the edge has TLS"
        )
    port = given or rule.port + (host.environment != "production")
    told = edge.labels.get(label(host.project, "port-given")) if edge else None
    if not given and told:  # an earlier call gave the port: it stays
        port = int(told)
    if rule.tls and rule.tls.name and port != 443 and host.environment == "production" and not given:
        raise Misuse("deploy: params.yaml: deploy.tls.name wants deploy.port: 443, where its certificate is asked for")
    return rule.bind, port, bool(given)


def ensure(host: Host) -> Container:
    """Make sure that the edge runs on its port with the configuration of this commit.

    Raises:
        Misuse: the port is taken, or the edge does not answer with this configuration.
    """
    edge = _of_before(host)
    image = _image(host)
    bind, port, given = address(host, edge)
    settings = _settings(host)
    wanted = {"image": image.id, "port": f"{bind}:{port}", "settings": sha256(json.dumps(settings).encode())}
    told = edge.labels if edge else {}
    if edge and all(told.get(label(host.project, name)) == value for name, value in wanted.items()):
        if edge.status != "running":
            edge.start()
        _connect(host, edge)
        return edge
    if edge:
        host.say("the edge is replaced, for its settings have changed: the port is away for a moment")
        edge.rename(f"{host.name}-edge-before")
        edge.stop(timeout=STOP_SECONDS)
    labels = host.labels("edge", **wanted, **({"port-given": str(port)} if given else {}))
    with _put_back(host, edge) as made:
        new = _create(host, image, labels, settings, (bind, port))
        made.append(new)
        _start(host, new, port)
        _await(host)
    if edge:
        edge.remove(force=True)
    host.say(f"the edge listens at {bind}:{port}")
    return new


@contextmanager
def _put_back(host: Host, before: Container | None) -> Iterator[list[Container]]:
    """Start the old edge again after any exception, an interrupt, too: the port must answer."""
    made: list[Container] = []
    try:
        yield made
    except BaseException:
        for new in made:
            new.remove(force=True)
        if before:
            before.rename(f"{host.name}-edge")
            before.start()
            host.say("the edge is the one before again")
        raise


def _of_before(host: Host) -> Container | None:
    """The edge to keep; if its replacement was stopped half-way, the new one is removed."""
    edges = {edge.name: edge for edge in host.ours("edge")}
    new, before = edges.get(f"{host.name}-edge"), edges.get(f"{host.name}-edge-before")
    if not before:
        return new
    if new:
        new.remove(force=True)
    before.rename(f"{host.name}-edge")
    before.start()
    before.reload()
    return before


def _settings(host: Host) -> dict[str, str]:
    """The environment variables of the Caddyfile."""
    rule = host.rule
    found = {"GOMEMLIMIT": str(MEMORY * 3 // 4), "EDGE_MAX_BYTES": str(host.project.params.serve.max_bytes)}
    if rule.tls:
        own = rule.tls.name is not None
        found |= {"EDGE_TLS": "own" if own else "files", "EDGE_AUTO_HTTPS": "disable_redirects" if own else "off"}
        found["EDGE_SITE"] = f"https://{rule.tls.name}:{SECURE}" if own else f":{SECURE}"
    if rule.behind_tls:
        found["EDGE_TRUSTED"] = "private_ranges"
    return found


def _create(
    host: Host, image: Image, labels: dict[str, str], settings: dict[str, str], at: tuple[str, int]
) -> Container:
    import docker.errors
    from docker.types import Mount, Ulimit

    tls, mounts = host.rule.tls, [Mount(PLACE, host.volume("rotation"))]
    if tls and tls.name:
        mounts.append(Mount("/data", host.volume("certificates")))
        settings = settings | {"XDG_DATA_HOME": "/data"}
    elif tls:
        files = {"/tls/certificate": tls.certificate, "/tls/key": tls.key}
        mounts += [Mount(inside, file, "bind", read_only=True) for inside, file in files.items()]
    rotation = read_rotation(find(host)) or Rotation(_serves(host))
    try:
        edge = host.client.containers.create(
            image.id,
            name=f"{host.name}-edge",
            labels=labels,
            environment=settings,
            ports={f"{SECURE if tls else PLAIN}/tcp": at},
            mounts=mounts,
            read_only=True,
            tmpfs={"/tmp": "size=16m,mode=1777"},
            cap_drop=["ALL"],
            cap_add=["NET_BIND_SERVICE"],  # the official binary has this file capability and does not start without it
            security_opt=["no-new-privileges"],
            mem_limit=MEMORY,
            memswap_limit=MEMORY,
            pids_limit=256,
            ulimits=[Ulimit(name="nofile", soft=DESCRIPTORS, hard=DESCRIPTORS)],
            dns_opt=["timeout:3", "attempts:2"],  # an unknown name delays all requests of the edge
            restart_policy={"Name": "unless-stopped"},
            log_config={"type": "json-file", "config": {"max-size": "10m", "max-file": "3"}},
        )
    except docker.errors.APIError as error:
        if tls and "bind source path" in str(error):
            raise Misuse(
                f"deploy: params.yaml: deploy.tls: the host has no file {tls.certificate} or {tls.key}"
            ) from None
        raise
    edge.put_archive(PLACE, archive({name: getattr(rotation, name).encode() for name in rotation.order}))
    return edge


def _serves(host: Host) -> str:
    """The address of the newest running release, for an edge without a rotation."""
    return next((release.address for release in host.releases() if release.complete), "")


def _start(host: Host, edge: Container, port: int) -> None:
    import docker.errors

    _connect(host, edge)
    try:
        edge.start()
    except docker.errors.APIError as error:
        if "port is already allocated" in str(error) or "address already in use" in str(error):
            raise Misuse(
                f"deploy: port {port} of the host is taken; free it, or set deploy.port in params.yaml or DEPLOY_PORT"
            ) from None
        if "cannot assign requested address" in str(error):
            where = f"deploy.bind = {host.rule.bind}"
            raise Misuse(f"deploy: params.yaml: {where} is no address of the host; mend it") from None
        raise


def _await(host: Host) -> None:
    """Wait until the edge answers.

    Raises:
        Misuse: the edge does not run, or does not reach the release that serves.
    """
    urls = [METRICS]
    if any(release.complete for release in host.releases()):  # without a serving release /readyz would never answer
        urls.append("http://edge:2020/readyz")
    if all(answer["status"] == 200 for answer in host.ask(*urls, wait=15)):
        return
    if host.rule.tls and not host.rule.tls.name:
        raise Misuse(
            "deploy: params.yaml: deploy.tls: the edge does not start with these files; they must be a certificate and"
            " its key in PEM, readable by user 10001 of the host"
        )
    raise Misuse("deploy: the edge with the Caddyfile of now does not answer for what serves; mend container/Caddyfile")


def _connect(host: Host, edge: Container) -> None:
    edge.reload()
    if host.network not in edge.attrs["NetworkSettings"]["Networks"]:
        host.client.networks.get(host.network).connect(edge, aliases=["edge"])


def _image(host: Host) -> Image:
    import docker.errors

    context = host.project.root / "container"
    host.project.needed("container/Caddyfile")
    try:
        return host.client.images.build(path=str(context), dockerfile="edge.Dockerfile", rm=True)[0]
    except (docker.errors.BuildError, docker.errors.APIError) as error:
        said = " ".join(str(error).split())[:200]
        raise Misuse(f"deploy: container/edge.Dockerfile: {said}; mend that and run it again") from None


def ready_urls(host: Host) -> list[str]:
    """The URLs of the edge inside the network: the callers' port, if it is plain, and the internal port."""
    plain: list[Any] = [] if host.rule.tls else [f"http://edge:{PLAIN}/readyz"]
    return [*plain, "http://edge:2020/predict"]
