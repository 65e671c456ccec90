"""Replace the release on a Docker host without losing a request.

    edge         a proxy on a stable port; it stays, and reads from the rotation which release gets requests
    release      N containers of one image; the last ones stay, stopped, for a roll-back
    deployer     a container that lives as long as this process: it is the lock, and sends requests in the network

The order: new replicas start beside the old ones without requests; they become ready, give the golden answers, and
answer live and made rows as their model does; they join the rotation with a share of the requests; both releases are
watched; the new one gets all requests; the old one finishes its open requests, and stops. A refusal at any point before
that removes the new replicas, and the old ones have never stopped serving.

Containers, and the rotation in a volume of the edge, are the only state. ``recover`` finishes or undoes a deployment
that was stopped on its way.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from conveyor.core.errors import Misuse, Refused
from conveyor.core.project import Project
from conveyor.deploy import docker_engine, platforms, replicas
from conveyor.deploy import edge as edges
from conveyor.deploy.comparison import Comparison
from conveyor.deploy.edge import Rotation, read_rotation, write_rotation
from conveyor.deploy.host import Host, Release
from conveyor.deploy.image import label, settings_of
from conveyor.deploy.standing import commit, died, take_down
from conveyor.deploy.traffic import Traffic, judge, readable, told
from conveyor.ledger.journal import reached
from conveyor.model.bundle import Bundle

if TYPE_CHECKING:
    from docker.models.images import Image

__all__ = ["commit", "deployed", "died", "kept", "roll_out", "take_down"]
POINTS = (
    "deployer at work",
    "replicas created",
    "replicas ready",
    "answers compared",
    "joined",
    "watched",
    "switched",
    "one replica drained",
    "drained",
)
TICK = 1.0  # seconds between two checks during the watch
COMPARE_SECONDS = 5.0  # between two comparisons of answers during the watch
TOLD_SECONDS = 10.0  # between two lines of progress during the watch


def deployed(project: Project, environment: str) -> bool:
    """Whether the engine has an edge of this environment; False without an engine.

    Raises:
        Misuse: the release needs a token that is not given, or a named or known engine does not answer.
    """
    answered = False
    try:
        with docker_engine.connected() as client:
            answered = True
            host = Host(project, environment, client, print)
            if edges.find(host) is None:
                return False
            Rollout(host).keeps_closed()
            return True
    except Misuse:
        if answered or project.environment.docker_host:
            raise
        return False  # no engine here, and DOCKER_HOST is not set: nothing of this project can serve here


def kept(project: Project, environment: str, key: str, digest: str) -> str | None:
    """The image in which a model served here last, if one of its releases is still there."""
    with docker_engine.connected() as client:
        rollout = Rollout(Host(project, environment, client, print))
        served = [r for r in rollout.served() if (r.key, r.digest) == (key, digest)]
        wanted = settings_of(project)  # an image of other settings could log what is private now
        return next((r.image for r in served if r.label("settings") == wanted), None)


def roll_out(
    project: Project, environment: str, image: dict[str, Any], bundle: Bundle, say: Callable[[str], None]
) -> str:
    """Make an image serve, or leave everything as it was.

    Args:
        environment: "production" or another name; each has its own edge.
        image: build/image.json.
        bundle: of the model, from the ledger: its answers are the right ones.
        say: takes a line for each event.

    Raises:
        Refused: the image does not become ready, gives other answers, or fails while it is watched.
        Misuse: engine or image is not available, the port is taken, or another deployment runs.
    """
    with docker_engine.connected() as client:
        rollout = Rollout(Host(project, environment, client, say))
        fetched = rollout.fetch(image)
        edges.address(rollout.host, edges.find(rollout.host))
        with rollout.host.alone(fetched, bundle.golden):
            reached("deployer at work")
            edges.ensure(rollout.host)
            rollout.recover()
            return rollout.replace(image, fetched, bundle)


class Rollout:
    """The change of the release of one environment."""

    def __init__(self, host: Host) -> None:
        self.host, self.rule, self.project = host, host.rule, host.project
        self._told = False  # whether it was said that the log cannot be written

    # Looking

    @property
    def rotation(self) -> Rotation:
        return read_rotation(edges.find(self.host)) or Rotation()

    def turn(self, rotation: Rotation) -> None:
        write_rotation(edges.find(self.host), rotation)

    def served(self) -> list[Release]:
        """The releases that serve or have served, the newest first; a release that never served is not kept."""
        releases, main = self.host.releases(), self.rotation.main
        now = next((number for number, release in enumerate(releases) if release.address == main), len(releases))
        return releases[now:]

    # Before anything changes

    def fetch(self, image: dict[str, Any]) -> Image:
        """The image on the engine; pulled by its digest if it is missing.

        Raises:
            Misuse: it is not available, or is of another model or platform.
        """
        import docker.errors

        reference, client = image["reference"], self.host.client
        try:
            fetched = client.images.get(reference)
        except docker.errors.ImageNotFound:
            if "@" not in reference:
                raise Misuse(
                    f"deploy: the image {reference[:19]} is not on this engine; run `make image` for it, or build it"
                    " with REGISTRY and PUSH=1"
                ) from None
            self.host.say(f"pulling {reference}")
            try:
                auth = self.project.environment.registry_auth(reference)
                fetched = docker_engine.pull(client, reference, auth)
            except docker.errors.DockerException as error:
                mend = "check that the registry answers and has it, your right to read it, and the room on the host"
                raise Misuse(f"deploy: {reference} cannot be pulled: {docker_engine.told(error)}; {mend}") from None
        for name in ("key", "digest"):
            if fetched.labels.get(label(self.project, name)) != image[name]:
                raise Misuse(
                    f"deploy: {reference[-19:]} is not the image of model {image['key'][:12]}; run `make image`"
                )
        if fetched.labels.get(label(self.project, "settings")) != settings_of(self.project):
            raise Misuse(
                "deploy: the image was built with other values of data.private, gate.threshold, model or serve than"
                " params.yaml has; run `make image`"
            )
        platforms.check(fetched, client, reference)
        return fetched

    def keeps_closed(self) -> None:
        """Check that a deployment does not remove the token.

        Raises:
            Misuse: a release needs a token, whether it is well or not, and the next one would not.
        """
        if self.project.environment.predict_token:
            return
        # Not by the label `started`, which releases of older versions lack.
        if any(release.variable("PREDICT_TOKEN") for release in self.served()):
            raise Misuse(
                f"deploy: {self.host.environment} answers only who bears a token, and PREDICT_TOKEN is not set; set it"
                " (to open it, `make undeploy` comes first)"
            )

    def recover(self) -> None:
        """Finish or undo a deployment that was stopped."""
        rotation, releases = self.rotation, self.host.releases()
        places = [release.address for release in releases]
        if rotation.main and rotation.main not in places:  # the serving one was removed by hand
            rotation = Rotation(next((release.address for release in releases if release.complete), ""))
            self.turn(rotation)
        elif rotation.next:
            self.turn(Rotation(rotation.main))
        now = places.index(rotation.main) if rotation.main in places else len(releases)
        for release in releases[:now]:  # newer than the serving one: it never got all requests
            self.host.say(f"undone: release {release.name} of model {release.key[:12]}, whose deployment was stopped")
            replicas.remove(release)
        for release in releases[now + 1 :]:
            if release.running:
                self.host.say(f"finished: release {release.name} of model {release.key[:12]} gets no requests any more")
                replicas.drain(self.host, release)

    # The change

    def replace(self, image: dict[str, Any], fetched: Image, bundle: Bundle) -> str:
        """Start, check, try, watch, switch, drain; or remove the new release. Returns the result as a line."""
        golden, host = bundle.golden, self.host
        served = self.served()
        now = served[0] if served and served[0].running else None
        if now and now.complete and now.image == fetched.id and now.label("started") == replicas.started_with(host):
            try:
                self._settled(image, golden)
            except Refused as refused:
                raise Misuse(f"deploy: {refused}; look at the edge: docker logs {host.name}-edge") from None
            return f"unchanged: model {now.key[:12]} serves in release {now.name}, {len(now.containers)} replicas"
        self.keeps_closed()
        name = datetime.now(UTC).strftime("%Y%m%dt%H%M%S%f")[:-3]
        try:
            new = replicas.start(host, name, image, fetched, now)
            reached("replicas created")
            replicas.await_ready(host, new)
            replicas.check_golden(host, new, golden)
            reached("replicas ready")
            comparison = Comparison(host, new, now, bundle)
            try:
                host.say(comparison.before())
                reached("answers compared")
                replicas.to_serve(new)
                before = self._counts(new, now, golden)
                self._join(new, now)
                reached("joined")
                seen = self._watch(new, now, golden, before, comparison)
            except Refused:
                replicas.alive(host, new)  # if one has died, that is the reason
                raise
            reached("watched")
            for container in new.containers:
                container.update(restart_policy={"Name": "unless-stopped"})
            self.turn(Rotation(new.address))
            self._settled(image, golden)
        except Refused as refused:
            self._discard(name, now)
            stays = f"model {now.key[:12]} serves as before" if now else "nothing serves, as before"
            raise Refused(f"deploy: {refused}; rolled back: {stays}") from None
        except BaseException:  # an interrupt, too: a half-started release must not answer beside the serving one
            with suppress(Exception):  # if the engine has failed, the next deployment does it
                self._discard(name, now)
            raise
        reached("switched")
        for release in served:
            if release.running:
                replicas.drain(self.host, release)
        reached("drained")
        self._clean()
        return f"model {new.key[:12]} serves in release {new.name}, {len(new.containers)} replicas; {seen}"

    def _discard(self, name: str, now: Release | None) -> None:
        self.turn(Rotation(now.address if now else ""))
        for release in self.host.releases():
            if release.name == name:
                replicas.remove(release)

    def _join(self, new: Release, now: Release | None) -> None:
        if now is None:
            self.turn(Rotation(new.address))
            self.host.say("in the rotation, alone")
            return
        share = self.rule.canary
        self.turn(Rotation.trial(now, new, share))
        self.host.say(f"in the rotation, with {share:.0%} of the requests")

    def _counts(self, new: Release, now: Release | None, golden: dict[str, Any]) -> tuple[Traffic, Traffic, Traffic]:
        """The counters of the edge, the new and the old replicas; also checks the golden answers of the new ones.

        Raises:
            Refused: a replica died, or gives other answers.
        """
        replicas.alive(self.host, new)
        number = len(new.containers)
        urls = [f"http://{c.name}:8000/metrics" for c in (*new.containers, *(now.running if now else ()))]
        edge, *pages = replicas.check_golden(self.host, new, golden, edges.METRICS, *urls)
        own = [page["body"] for page in pages[:number]]
        if any(page["status"] != 200 for page in pages[:number]):
            replicas.alive(self.host, new)  # if it has died since the last check, that is the better reason
            raise Refused("a replica does not tell its metrics")
        if any("\nlog_failing 1" in page for page in own) and not self._told:
            self._told = True
            self.host.say("note: the new replicas cannot write the log of predictions; docker logs tells why")
        old = [page["body"] for page in pages[number:] if page["status"] == 200]  # old ones may have none
        return Traffic.of_edge(readable(edge, "the edge")), Traffic.of_replicas(own), Traffic.of_replicas(old)

    def _watch(
        self,
        new: Release,
        now: Release | None,
        golden: dict[str, Any],
        before: tuple[Traffic, Traffic, Traffic],
        comparison: Comparison,
    ) -> str:
        """Watch the new replicas and the answers to callers for a while; returns the result in words.

        Raises:
            Refused: a replica died, gives other answers than its model, or fails or is late beyond the budget.
        """
        rule, began, said, compared = self.rule, time.monotonic(), 0.0, time.monotonic()
        while True:
            counts = self._counts(new, now, golden)
            whole, own, old = (count.since(then) for count, then in zip(counts, before, strict=True))
            reason = judge(whole, own, old, rule.max_error_rate, rule.max_seconds)
            if reason:
                raise Refused(reason)
            passed = time.monotonic() - began
            last = passed >= rule.watch_seconds
            if last or time.monotonic() - compared >= COMPARE_SECONDS:
                comparison.meanwhile()
                compared = time.monotonic()
            if last:
                return f"{told(own, rule.max_error_rate)}; {comparison.told()}"
            if passed - said >= TOLD_SECONDS:
                said = passed
                self.host.say(
                    f"watched for {passed:.0f} of {rule.watch_seconds:g} s: {whole.requests:.0f} requests,"
                    f" {own.requests:.0f} of them to the new release, {own.errors:.0f} failed there"
                )
            time.sleep(TICK)

    def _settled(self, image: dict[str, Any], golden: dict[str, Any]) -> None:
        """Wait until the edge gives the golden answers of this model.

        Raises:
            Refused: it does not.
        """
        until = time.monotonic() + 10
        while True:
            # The edge's address for callers removes the mark of a probe, so a prediction there would be logged.
            *outside, inside = self.host.ask(*edges.ready_urls(self.host))
            wrong = replicas.wrong_golden(self.host, inside, golden, image["key"])
            away = next((answer for answer in outside if answer["status"] != 200), None)
            if not wrong and away is None:
                return
            if not wrong and away:
                wrong = f"does not answer at its port: {away['body'][:100]}"
            if time.monotonic() > until:
                raise Refused(f"the edge {wrong}")
            time.sleep(0.3)

    def _clean(self) -> None:
        """Delete all but the last releases, and their images if nothing else uses them."""
        import docker.errors

        client = self.host.client
        stopped = [release for release in self.host.releases() if not release.running]
        for release in stopped[self.rule.keep :]:
            replicas.remove(release)
            if not client.containers.list(all=True, filters={"ancestor": release.image}, ignore_removed=True):
                with suppress(docker.errors.APIError):  # another image is built on it, so it takes no space of its own
                    # Without its untagged layers: a build on this engine may go on from them at this moment.
                    client.images.remove(release.image, force=True, noprune=True)
