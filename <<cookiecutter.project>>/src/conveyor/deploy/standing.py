"""What stands on a Docker host between two deployments: the code that serves, replicas that died; taking it down."""

from __future__ import annotations

from conveyor.core.errors import Misuse
from conveyor.core.project import Project
from conveyor.deploy import docker_engine
from conveyor.deploy import edge as edges
from conveyor.deploy.edge import Rotation, read_rotation
from conveyor.deploy.host import STOP_SECONDS, Host, Release
from conveyor.deploy.image import DIRTY


def commit(project: Project, environment: str) -> str | None:
    """The commit of the code that serves here; None if nothing serves."""
    with docker_engine.connected() as client:
        serving = _serving(Host(project, environment, client, print))
        told = serving[0].containers[0].labels.get("org.opencontainers.image.revision") if serving else None
        return told.removesuffix(DIRTY) if told else None


def _serving(host: Host) -> list[Release]:
    main = (read_rotation(edges.find(host)) or Rotation()).main
    return [release for release in host.releases() if release.address == main]


def take_down(project: Project, environment: str) -> str:
    """Remove edge, releases and networks of an environment; the volume with the log of predictions stays."""
    with docker_engine.connected() as client:
        host = Host(project, environment, client, print)
        if any(container.status == "running" for container in host.ours("deployer")):
            raise Misuse(f"undeploy: a deployment is at work in {environment}; wait until it has ended")
        containers = [c for role in ("edge", "replica", "deployer") for c in host.ours(role)]
        for container in containers:
            if container.status == "running":
                container.stop(timeout=STOP_SECONDS)
            container.remove(force=True)
        host.tidy()
        return (
            f"{len(containers)} containers of {host.name} are gone" if containers else f"nothing of {host.name} is here"
        )


def died(project: Project, environment: str) -> list[str]:
    """A line for each replica in the rotation that has died since its release began, or hangs."""
    with docker_engine.connected() as client:
        host = Host(project, environment, client, print)
        lines = []
        for container in (container for release in _serving(host) for container in release.containers):
            container.reload()
            state, again = container.attrs["State"], container.attrs["RestartCount"]
            if not state["Running"]:
                how = "at its memory limit" if state["OOMKilled"] else f"with exit code {state['ExitCode']}"
                lines.append(f"{container.name} has died {how}; it is gone since {state['FinishedAt'][:19]}Z")
            elif again:
                lines.append(f"{container.name} has died; it was started again {again} times")
            elif state.get("Health", {}).get("Status") == "unhealthy":
                lines.append(f"{container.name} runs and does not answer; `docker restart` it")
        return lines
