"""Has a delivery something to deploy? If only prose or tests changed, nothing that serves did, and it ends here."""

from __future__ import annotations

from typing import Any

from conveyor.core.ci import annotate, outputs
from conveyor.core.errors import Misuse
from conveyor.core.project import Project
from conveyor.deploy import serves
from conveyor.github.api import GitHub
from conveyor.ledger.ledger import ledger_of
from conveyor.ledger.permission import TARGET

LOOKED_AT = 10  # of the last deployments
WAYS = ("accepted", "rolled_back")  # how a model comes to be live
WAS_DEPLOYED = ("success", "inactive")  # GitHub calls one inactive when the next one of its environment succeeds


def run(project: Project) -> str:
    """Tell a workflow, as the output ``due``, whether anything that serves has changed since the last deployment.

    GitHub keeps a deployment for each job of the environment production, with its commit and its result. What is not
    known counts as changed.

    Raises:
        Misuse: the ledger cannot be read.
    """
    reason = _reason(project)
    outputs(project.environment, due="true" if reason else "false")
    if reason:
        return f"there is something to deploy: {reason}"
    said = "model, code in the image, lock and settings are those of the last successful deployment"
    annotate(project.environment, "notice", "Nothing to deploy", said)
    return f"nothing to deploy: {said}"


def _reason(project: Project) -> str | None:
    """Why there is something to deploy; None if there is nothing."""
    ledger = ledger_of(project)
    waiting, live = ledger.pending(), ledger.lived[-1] if ledger.lived else None
    if waiting or live is None:
        return f"model {waiting.key[:12]} waits" if waiting else "no model is live"
    try:
        last = last_deployed(GitHub(project.environment))
    except Misuse as error:
        return f"what was deployed last is not known: {error}"
    if last is None:
        return "no deployment is known"
    commit = str(last["sha"])
    way = next(event for event in reversed(ledger.events[: live.number - 1]) if event.type in WAYS)
    if way.type == "rolled_back":  # its job is a deployment, too, of whatever image it found
        return f"champion/{live.number:06d} came back by a roll-back, which may serve in an image of then"
    if not project.git.succeeds("merge-base", "--is-ancestor", commit, project.commit):
        return f"commit {commit[:12]}, which was deployed last, is not in the history of this one"
    if not project.git.succeeds("merge-base", "--is-ancestor", live.commit, commit):
        return f"model {live.key[:12]} is newer than what was deployed last"
    found = serves.changed(project, ledger.bundle(live.champion), commit)
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return f"{', '.join(found[:3])}{more} changed since {commit[:12]} was deployed" if found else None


def last_deployed(github: GitHub) -> dict[str, Any] | None:
    """The last job that deployed to production and succeeded; None if there is none among the last ones.

    Raises:
        Misuse: GitHub does not answer, or says no.
    """
    found: list[dict[str, Any]] = github("GET", f"deployments?environment={TARGET}&per_page={LOOKED_AT}") or []
    for one in found:  # the newest first
        statuses = github("GET", f"deployments/{one['id']}/statuses?per_page=1") or []
        if statuses and statuses[0]["state"] in WAS_DEPLOYED:
            return one
    return None
