"""Carry out the decision: write ``accepted`` and ``live`` into the ledger, or only the verdict."""

from __future__ import annotations

from typing import Any

from conveyor.core import frozen
from conveyor.core.errors import Misuse, Refused
from conveyor.core.files import read_json
from conveyor.core.project import Project
from conveyor.gate.looks import Sight
from conveyor.ledger.events import Moved
from conveyor.ledger.ledger import ledger_of
from conveyor.ledger.mirror import followed
from conveyor.ledger.permission import ATTEMPTS, TARGET, explained, writable
from conveyor.model.bundle import Bundle
from conveyor.steps import compare, score


@followed
def run(project: Project) -> str:
    """Promote the candidate if the gate said so, or a person did; nothing is deployed.

    If another run wrote an event since the decision, the candidate is scored and judged against the new champion.

    Raises:
        Refused: the candidate is blocked, which is recorded; or the race was lost three times.
        Misuse: the decision is about another candidate.
    """
    return _carry_out(project)


@followed
def accept(project: Project) -> str:
    """The same, but the candidate is only on its way: `make deploy` makes it serve, and then writes ``live``.

    Raises:
        Refused: this run is of an older commit than the champion's; or see ``run``.
        Misuse: see ``run``.
    """
    return _carry_out(project, TARGET)


def _carry_out(project: Project, target: str | None = None) -> str:
    ledger = ledger_of(project)
    if not ledger.writable:
        outcome = decision(project)["decision"]["outcome"]
        return f"{outcome}: the ledger at origin is read-only from here; PUSH=1 writes it"
    for _ in range(ATTEMPTS):
        try:
            left = ledger.settle()
            if left or ledger.number != decision(project)["ledger"]:
                raise Moved
            return _promote(project, target)
        except Moved:
            judge_again(project)
    raise Refused(f"promote: lost the race for the ledger {ATTEMPTS} times; nothing was changed; run it again")


def judge_again(project: Project) -> None:
    """Read the ledger again, and decide against its champion."""
    ledger_of(project).read()
    candidate = project.build / "candidate"
    # Another run may have trained from the same inputs and been judged first: then its bytes are the model.
    ledger_of(project).restore(Bundle(candidate).key, candidate)
    score.run(project)
    compare.judge_now(project)


def decision(project: Project) -> dict[str, Any]:
    keys = {
        "ledger": int,
        "sight": dict,
        "challenger.digest": str,
        "decision.outcome": str,
        "decision.reason": str,
    }
    return read_json(project.build / "decision.json", "compare", keys)


def judged(project: Project) -> Bundle:
    """The candidate of the decision.

    Raises:
        Misuse: the candidate is another one.
    """
    candidate = Bundle(project.build / "candidate")
    if candidate.digest != decision(project)["challenger"]["digest"]:
        raise Misuse("decision.json: is about another candidate; run `make score compare` first")
    return candidate


def _promote(project: Project, target: str | None) -> str:
    ledger, made = ledger_of(project), decision(project)
    outcome, reason = made["decision"]["outcome"], made["decision"]["reason"]
    champion = ledger.champion()
    stays = f"champion/{champion.event:06d} stays" if champion else "there is no champion"
    if outcome not in ("bootstrap", "promote", "keep", "block", "incomparable"):
        return f"{outcome}: nothing to promote, {stays}"
    candidate = judged(project)
    if target:  # a champion that stays is deployed, too: with the code of this commit
        ledger.in_time()
    sight = frozen.checked(Sight, made["sight"], "decision.json: sight.")
    if outcome == "block":
        if champion and candidate.key != champion.key:
            ledger.note(candidate, made["ledger"], outcome, reason, sight, receipt=made.get("receipt"))
        raise Refused(f"block: {reason}")
    quarantine = ledger.quarantine_of(candidate.key)
    approved = ledger.approval_of(candidate) if outcome == "incomparable" else None
    if quarantine:
        return f"quarantined: {ledger.why_quarantined(quarantine)}; {stays}"
    if approved:
        reason = f"approved by {approved.by}: {approved.reason}"
    elif outcome in ("keep", "incomparable"):
        if champion and candidate.key != champion.key:
            ledger.note(candidate, made["ledger"], outcome, reason, sight, receipt=made.get("receipt"))
        hint = '; `make approve BECAUSE="..."` lets it through' if outcome == "incomparable" else ""
        return f"{outcome}: nothing to promote, {stays}{hint}"
    more = {name: made.get(name) for name in ("anchor", "receipt")}
    accepted = ledger.accept(candidate, made["ledger"], outcome, reason, sight, target, **more)
    if target:
        return f"{outcome}: event {accepted.number} accepts model {candidate.key[:12]} for {target}"
    ledger.live(accepted)
    return f"{outcome}: champion/{ledger.lived[-1].number:06d} is model {candidate.key[:12]}"


@followed
def approve(project: Project, because: str) -> str:
    """Let an incomparable candidate through, and record the person and the reason.

    In a local ledger it then becomes champion. With a ledger at origin, `deliver` finds the approval there, makes the
    model serve, and then makes it champion.

    Raises:
        Misuse: no reason is given, the gate came to a verdict, or the ledger cannot be written from here.
    """
    writable(project, "approve")
    explained(because, "approve")
    for _ in range(ATTEMPTS):
        made = decision(project)
        outcome = made["decision"]["outcome"]
        if outcome != "incomparable":
            raise Misuse(f"approve: the gate came to a verdict, {outcome}; only an incomparable one waits for a person")
        try:
            if ledger_of(project).settle():
                raise Moved
            candidate = judged(project)
            approved = ledger_of(project).approve(candidate, made["ledger"], because)
            break
        except Moved:
            judge_again(project)
    else:
        raise Refused(f"approve: lost the race for the ledger {ATTEMPTS} times; nothing was changed; run it again")
    if ledger_of(project).store.remote:
        return f"event {approved.number} approves model {candidate.key[:12]}; the next `deliver` accepts it"
    return _carry_out(project)
