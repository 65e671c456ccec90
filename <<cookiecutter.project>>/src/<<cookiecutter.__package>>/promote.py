"""Carry out the decision: write ``accepted`` and ``live`` into the ledger, or nothing."""

from __future__ import annotations

from . import compare, score
from .bundle import Bundle
from .errors import Misuse, Refused
from .files import read_json
from .ledger import Moved
from .project import Project

ATTEMPTS = 3


def run(project: Project) -> str:
    """Promote the candidate if the gate said so.

    When somebody else promoted since, the candidate is scored and judged again, against the new champion.

    Raises:
        Refused: judged again, the candidate is shown to be worse; or the race was lost three times.
        Misuse: the decision is about another candidate.
    """
    ledger = project.ledger
    if not ledger.writable:
        outcome = _decision(project)["decision"]["outcome"]
        return f"{outcome}: the ledger at origin is read-only from here; PUSH=1 writes it"
    for _ in range(ATTEMPTS):
        try:
            left = ledger.settle()
            if left or ledger.number != _decision(project)["ledger"]:
                raise Moved
            return _promote(project)
        except Moved:
            ledger.read()
            score.run(project)
            compare.run(project)
    raise Refused(f"promote: lost the race for the ledger {ATTEMPTS} times; nothing was changed; run it again")


def _decision(project: Project) -> dict:
    return read_json(project.build / "decision.json", made_by="compare")


def _promote(project: Project) -> str:
    decision = _decision(project)
    outcome, reason = decision["decision"]["outcome"], decision["decision"]["reason"]
    champion = project.ledger.champion()
    stays = f"champion/{champion.event:06d} stays" if champion else "there is no champion"
    if outcome not in ("bootstrap", "promote"):
        return f"{outcome}: nothing to promote, {stays}"
    candidate = Bundle(project.build / "candidate")
    if candidate.digest != decision["challenger"]["digest"]:
        raise Misuse("decision.json: is about another candidate; run `make score compare` first")
    project.ledger.accept(candidate, decision["ledger"], outcome, reason)
    project.ledger.live(project.ledger.events[-1])
    return f"{outcome}: champion/{project.ledger.number:06d} is model {candidate.key[:12]}"
