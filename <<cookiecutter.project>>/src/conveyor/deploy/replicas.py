"""The replicas of a release: start, check, drain and remove them."""

from __future__ import annotations

import json
import secrets
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from conveyor.core.errors import Refused
from conveyor.core.files import sha256
from conveyor.deploy.host import SERVING, STARTING, STOP_SECONDS, Host, Release, address_of, joint_of
from conveyor.ledger.journal import reached

if TYPE_CHECKING:
    from docker.models.images import Image

LOOK_SECONDS = 2.0  # between two checks that a starting replica is alive
FULL = 0.95  # of the memory limit: a watched release that uses more will soon be killed


def started_with(host: Host) -> str:
    """The settings of a replica, as a label: other settings make another release."""
    token = host.project.environment.predict_token
    return json.dumps([host.rule.replicas, host.rule.memory, host.log, sha256((token or "").encode())])


def start(host: Host, name: str, image: dict[str, Any], fetched: Image, now: Release | None) -> Release:
    """Start the replicas of a new release beside the one that serves; they get no requests yet."""
    given = host.project.environment
    names = [address_of(name), joint_of(name), *([now.joint] if now and now.joint else [])]
    variables = {
        "PREDICT_TOKEN": given.predict_token,
        "PREDICTION_LOG": given.prediction_log,
        "MIRROR_KEY": secrets.token_urlsafe(32),
        "BEHIND_EDGE": "1",
    }
    volumes = {host.volume("predictions"): {"bind": host.log, "mode": "rw"}} if host.log and host.internal else {}
    host.say(f"{host.rule.replicas} replicas of model {image['key'][:12]} start, release {name}")
    containers = []
    for number in range(1, host.rule.replicas + 1):
        container = host.client.containers.create(
            fetched.id,
            name=f"{host.name}-{name}-{number}",
            labels=host.labels(
                "replica", release=name, key=image["key"], digest=image["digest"], started=started_with(host)
            ),
            environment={name: value for name, value in variables.items() if value is not None},
            network=host.network,
            networking_config={host.network: host.client.api.create_endpoint_config(aliases=names)},
            volumes=volumes,
            read_only=True,
            tmpfs={"/tmp": "size=64m,mode=1777"},
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            mem_limit=host.rule.memory,
            memswap_limit=host.rule.memory,
            cpu_shares=STARTING,
            pids_limit=256,
            log_config={"type": "json-file", "config": {"max-size": "10m", "max-file": "3"}},
        )
        container.start()
        containers.append(container)
    return Release(host.project.package, name, image["key"], image["digest"], fetched.id, tuple(containers))


def to_serve(release: Release) -> None:
    """Give its replicas their CPU shares for serving; during the start they have fewer than the serving ones."""
    for container in release.containers:
        container.update(cpu_shares=SERVING)


def await_ready(host: Host, release: Release) -> None:
    """Wait until all replicas are ready.

    Raises:
        Refused: a replica is not ready within deploy.ready_seconds, or has died.
    """
    until = time.monotonic() + host.rule.ready_seconds
    while True:
        alive(host, release)
        left = max(0.0, until - time.monotonic())
        urls = (f"http://{c.name}:8000/readyz" for c in release.containers)
        answers = host.ask(*urls, wait=min(LOOK_SECONDS, left))
        if all(answer["status"] == 200 for answer in answers):
            host.say("ready")
            return
        if time.monotonic() > until:
            number = next(n for n, answer in enumerate(answers, 1) if answer["status"] != 200)
            raise Refused(f"replica {number} is not ready within {host.rule.ready_seconds:g} s")


def alive(host: Host, release: Release) -> None:
    """Check that all replicas live.

    Raises:
        Refused: a replica has died (with its last output), or uses nearly all of its memory.
    """
    limit = f"memory limit, deploy.memory = {host.rule.memory}"
    for number, container in enumerate(release.containers, 1):
        container.reload()
        state = container.attrs["State"]
        if state["OOMKilled"]:
            raise Refused(f"replica {number} was killed at its {limit}")
        if state["ExitCode"] == 137:
            raise Refused(f"replica {number} was killed, by somebody or for lack of memory; its {limit}")
        if not state["Running"]:
            said = container.logs(tail=1).decode(errors="replace").strip()
            raise Refused(f"replica {number} has ended with {state['ExitCode']}; it said last: {said[:200] or '-'}")
        memory = container.stats(stream=False, one_shot=True).get("memory_stats", {})
        told = memory.get("stats", {})
        used = memory.get("usage", 0) - told.get("inactive_file", told.get("total_inactive_file", 0))
        if used > FULL * memory.get("limit", float("inf")):
            raise Refused(f"replica {number} uses {used / 1e6:.0f} MB, which is nearly its {limit}")


def check_golden(host: Host, release: Release, golden: dict[str, Any], *others: str) -> list[dict[str, Any]]:
    """Ask each replica for the golden answers, and other addresses together with them; returns the others' answers.

    Raises:
        Refused: a replica gives other answers.
    """
    own = [f"http://{c.name}:8000/predict" for c in release.containers]
    answers = host.ask(*own, *others)
    for number, answer in enumerate(answers[: len(own)], 1):
        wrong = wrong_golden(host, answer, golden, release.key)
        if wrong:
            raise Refused(f"replica {number} {wrong}")
    return answers[len(own) :]


def wrong_golden(host: Host, answer: dict[str, Any], golden: dict[str, Any], key: str) -> str | None:
    """What is wrong with an answer to the golden rows, in words; None: nothing."""
    if answer["status"] != 200:
        return f"answers the golden rows with {answer['status'] or 'nothing'}: {answer['body'][:150]}"
    try:
        given = json.loads(answer["body"])
        model, said = given["model"], np.asarray(given["predictions"], dtype=np.float64)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return f"answers the golden rows with {answer['body'][:100]}"
    if model != key:
        return f"says that it is model {str(model)[:12]}, not {key[:12]}"
    wanted = np.asarray(golden["answers"], dtype=np.float64)
    tolerance = host.project.params.model.tolerance
    if said.shape != wanted.shape or not (np.abs(said - wanted) <= tolerance).all():
        return f"gives other answers to the golden rows than the model that was judged (by more than {tolerance:g})"
    return None


def drain(host: Host, release: Release) -> None:
    """Stop a release that gets no requests any more; it finishes its open ones."""
    for number, container in enumerate(release.running):
        container.stop(timeout=STOP_SECONDS)
        if not number:
            reached("one replica drained")
    host.say(f"release {release.name} of model {release.key[:12]} is drained")


def remove(release: Release) -> None:
    """Stop and delete a release."""
    for container in release.running:
        container.stop(timeout=STOP_SECONDS)
    for container in release.containers:
        container.remove(force=True, v=False)
