"""Deploy the model of the ledger: `accepted` comes before, `live` once it serves, `aborted` if it does not."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol

from conveyor.core.errors import Misuse, Refused
from conveyor.core.project import Project
from conveyor.deploy import cluster, image, rollout
from conveyor.ledger.events import Event, Moved
from conveyor.ledger.ledger import ledger_of
from conveyor.ledger.mirror import followed
from conveyor.ledger.permission import TARGET, writable
from conveyor.model.bundle import Bundle


@followed
def run(project: Project, environment: str = TARGET, say: Callable[[str], None] = print) -> str:
    """Deploy build/image.json, which must be the image of the model that is to serve.

    First a stopped deployment is finished or undone. A model on its way becomes champion when it serves in production,
    and is aborted if it is refused. Deploying a champion again writes nothing into the ledger.

    Raises:
        Refused: the image is not fit to serve, or the model is quarantined, or image or model is overtaken by a newer
            one; the old release keeps serving.
        Misuse: the image is of another model, or engine, registry or ledger cannot be used.
    """
    named(environment)
    made, event = image.read(project), ledger_of(project).to_serve()
    if event is None:
        raise Misuse("deploy: there is no champion yet; run `make pipeline` first")
    if (made["key"], made["digest"]) != (event.key, event.digest):
        if project.push:  # in a delivery: its image was made before the event
            raise Refused(
                f"deploy: overtaken: event {event.number} ({event.type}) wants model {event.key[:12]}, and this image"
                f" holds {made['key'][:12]}; the delivery of that event deploys it, nothing was changed"
            )
        raise Misuse(
            f"deploy: build/image.json is of model {made['key'][:12]}, and event {event.number} wants"
            f" {event.key[:12]}; run `make image` first"
        )
    serving = host_of(project).commit(project, environment) if project.push else None
    if serving and ledger_of(project).is_newer(serving):
        raise Refused(
            f"deploy: overtaken: the code that serves in {environment} comes from commit {serving[:12]}, which is newer"
            f" than {project.commit[:12]} and holds its change; nothing was changed"
        )
    return carry_out(project, environment, event, made, say)


class Target(Protocol):
    """The common functions of the modules that deploy; see rollout.py and cluster.py."""

    def roll_out(
        self, project: Project, environment: str, image: dict[str, Any], bundle: Bundle, say: Callable[[str], None]
    ) -> str: ...

    def take_down(self, project: Project, environment: str) -> str: ...

    def deployed(self, project: Project, environment: str) -> bool: ...

    def kept(self, project: Project, environment: str, key: str, digest: str) -> str | None: ...

    def commit(self, project: Project, environment: str) -> str | None: ...

    def died(self, project: Project, environment: str) -> list[str]: ...


def host_of(project: Project) -> Target:
    """The module that deploys, by deploy.target of params.yaml: to a Docker host or to a cluster."""
    return cluster if project.params.deploy.target == "kubernetes" else rollout


def undeploy(project: Project, environment: str) -> str:
    """Take an environment down; the ledger stays as it is.

    Raises:
        Misuse: the engine cannot be reached.
    """
    return host_of(project).take_down(project, named(environment))


def named(environment: str) -> str:
    """A checked name of an environment.

    Raises:
        Misuse: it is no such name.
    """
    if not re.fullmatch("[a-z][a-z0-9-]{0,30}", environment):
        raise Misuse(f"deploy: {environment[:40]!r} is no name of an environment; use lower case, as in TO=staging")
    return environment


def carry_out(
    project: Project, environment: str, event: Event, made: dict[str, Any], say: Callable[[str], None]
) -> str:
    """Deploy the image of an event; see ``run``."""
    ledger, waiting = ledger_of(project), ledger_of(project).pending()
    if waiting:
        writable(project, "deploy")
    quarantine = ledger.quarantine_of(event.key)
    if quarantine:
        raise Refused(f"deploy: {ledger.why_quarantined(quarantine)}; nothing was changed")
    bundle = ledger.bundle(event.champion)
    try:
        told = host_of(project).roll_out(project, environment, made, bundle, say)
    except Refused as refused:
        reason = str(refused)
        if waiting:
            _end(project, waiting, lambda: ledger.abort(waiting, reason))
        raise
    if waiting and environment == TARGET:
        _end(project, waiting, lambda: ledger.live(waiting))
        told += f"; champion/{ledger.lived[-1].number:06d}"
    return told


def _end(project: Project, waiting: Event, write: Callable[[], None]) -> None:
    try:
        write()
    except Moved:
        ledger_of(project).read()
        last = ledger_of(project).events[-1]
        raise Refused(
            f"deploy: event {waiting.number} was overtaken by event {last.number} ({last.type}) meanwhile; the next"
            " `make image deploy` brings what is to serve now"
        ) from None


def deployed(project: Project) -> bool:
    """Whether production is on this engine: then a roll-back deploys there, too.

    Raises:
        Misuse: it needs a token that is not given, or the engine cannot be used.
    """
    return host_of(project).deployed(project, TARGET)


def kept(project: Project, event: Event) -> str | None:
    """The image in which the model of an event served in production, if it is still there."""
    return host_of(project).kept(project, TARGET, event.key, event.digest)


def died(project: Project) -> list[str]:
    """A line for each replica of production that has died since its release began; empty if nothing is deployed.

    Raises:
        Misuse: a named engine or cluster cannot be reached.
    """
    try:
        return host_of(project).died(project, TARGET)
    except Misuse:
        if project.environment.docker_host:
            raise
        return []  # no engine here, and DOCKER_HOST is not set
