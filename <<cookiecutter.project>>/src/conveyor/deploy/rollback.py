"""Actions of a person afterwards: go back, ban a model, delete old bytes. Nothing is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from conveyor.core.errors import Refused
from conveyor.core.project import Project
from conveyor.deploy import deployment, image
from conveyor.ledger.events import Event, Moved
from conveyor.ledger.ledger import ledger_of
from conveyor.ledger.mirror import followed
from conveyor.ledger.permission import ATTEMPTS, TARGET, explained, writable

T = TypeVar("T")


@followed
def rollback(project: Project, to: int | None, because: str) -> str:
    """Make an earlier champion champion again, from its own bytes; the present one is quarantined.

    It does not wait: a model on its way is overtaken, and its run gets an error. If production is on this engine, the
    earlier champion is deployed before it is live; if that fails, the present release keeps serving.

    Raises:
        Misuse: there is no such champion, the ledger cannot be written from here, or production cannot be deployed to.
        Refused: the champion has changed meanwhile, or the earlier one is not fit to serve any more.
    """
    writable(project, "rollback")
    ledger = ledger_of(project)
    explained(because, "rollback")
    serves = deployment.deployed(project)
    waiting = ledger.pending()
    if waiting and waiting.type == "rolled_back":
        # The last roll-back was stopped half-way: finish it.
        if waiting.target:
            return _deployed(project, waiting)
        ledger.settle()
        if to is None:
            return (
                f"champion/{ledger.lived[-1].number:06d} is model {waiting.key[:12]} again: the roll-back of event"
                f" {waiting.number} was stopped half-way and is finished now"
            )
    if done := ledger.rolled_back_as(to, because):
        return (
            f"champion/{ledger.lived[-1].number:06d} is model {done.key[:12]} again since {done.time}: event"
            f" {done.number} is this roll-back already, by the same person for the same reason; TO=... names another"
        )
    left = ledger.champion()
    if left and (done := _by_this_run(project, because)):
        raise Refused(
            f"rollback: event {done.number} is the roll-back of this run already, and champion/{left.event:06d} is"
            " newer; start the workflow anew to take that one back"
        )

    def go_back() -> Event:
        champion = ledger.champion()
        if champion and champion != left:
            raise Refused(
                f"rollback: champion/{champion.event:06d} is new since you asked; `make history` shows it, ask again"
            )
        return ledger.roll_back(to, because, TARGET if serves else None)

    written = retried(project, "rollback", go_back)
    if serves:
        return _deployed(project, written)
    try:
        ledger.live(written)
    except Moved:
        last = ledger.events[-1]
        raise Refused(
            f"rollback: event {written.number} was overtaken by event {last.number} ({last.type});"
            " `make history` shows it"
        ) from None
    gone = str(written.replaces)[:12]
    return f"champion/{ledger.lived[-1].number:06d} is model {written.key[:12]} again; {gone} is quarantined"


def _by_this_run(project: Project, because: str) -> Event | None:
    """The roll-back that an earlier attempt of this run of a workflow brought to serve."""
    ledger, run = ledger_of(project), project.environment.run_url
    asked = [event for event in ledger.events if run and (event.run, event.reason) == (run, because)]
    served = [(event.key, event.number) for event in ledger.lived]
    found = (event for event in asked if event.type == "rolled_back")
    return next((e for e in found if any(key == e.key and number > e.number for key, number in served)), None)


def _deployed(project: Project, event: Event) -> str:
    """Deploy the model of a roll-back: in the image in which it served, or in a new one."""
    served = deployment.kept(project, event)
    if served:
        image.note(project, event, served)
    else:
        image.run(project)
    return deployment.carry_out(project, TARGET, event, image.read(project), print)


@followed
def quarantine(project: Project, event: int, because: str) -> str:
    """Ban the model of an event: it is not accepted again, whatever the gate decides.

    Raises:
        Misuse: there is no such event, or its model is champion.
    """
    writable(project, "quarantine")
    explained(because, "quarantine")
    written = retried(project, "quarantine", lambda: ledger_of(project).put_under_quarantine(event, because))
    return f"model {written.key[:12]} is quarantined"


@followed
def prune(project: Project, keep: int) -> str:
    """Delete the bytes of all but the last champions; the events stay."""
    writable(project, "prune")
    gone = retried(project, "prune", lambda: ledger_of(project).prune(keep))
    return f"deleted the bytes of {len(gone)} models" if gone else "nothing to delete"


def retried(project: Project, verb: str, write: Callable[[], T]) -> T:
    """Write an event; if another run was faster, again against the new ledger.

    Raises:
        Refused: another run was faster each time.
    """
    for _ in range(ATTEMPTS):
        try:
            return write()
        except Moved:
            ledger_of(project).read()
    raise Refused(f"{verb}: lost the race for the ledger {ATTEMPTS} times; nothing was changed; run it again")
