"""The events of the ledger: what each kind means, and what follows from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from conveyor.core.frozen import Frozen, Names

if TYPE_CHECKING:
    pass


class Champion(Frozen):
    """A model that an event speaks of, and the number of that event."""

    event: int
    key: str
    digest: str
    commit: str


Kind = Literal["accepted", "live", "aborted", "kept", "approved", "rolled_back", "quarantined", "released", "pruned"]


class Event(Frozen):
    """One line of history.

    accepted      the gate let the model through; it does not serve yet
    live          it serves: from now on it is the champion
    aborted       it was accepted and does not come to serve
    kept          the gate did not let it through: a verdict for the record
    approved      a person lets through a model that could not be compared
    rolled_back   a person goes back to this model from the one it ``replaces``, which is quarantined
    quarantined   a person wants this model never again
    released      this model, as it served with the code of ``commit``, is the version ``tag``
    pruned        the bytes of old models, ``keys``, were deleted

    ``by`` is who did it, ``holdout`` the digest of the rows it was judged on, ``target`` where a model on its way is to
    be deployed before it is live; None: nowhere.
    """

    schema_: Literal[1] = Field(alias="schema")
    number: int = Field(ge=1)
    type: Kind
    key: str = Field(pattern="^[0-9a-f]{64}$")
    digest: str = Field(pattern="^[0-9a-f]{64}$")
    commit: str = Field(pattern="^([0-9a-f]{40}|[0-9a-f]{64})$")
    data_sha256: str
    time: str
    run: str | None
    by: str
    outcome: str
    reason: str
    holdout: str | None = None
    target: str | None = None
    replaces: str | None = None
    tag: str | None = None
    keys: Names = ()

    @property
    def champion(self) -> Champion:
        return Champion(event=self.number, key=self.key, digest=self.digest, commit=self.commit)


class Moved(Exception):
    """Somebody else wrote an event since this decision was made: decide again, against the new champion."""


def pending_of(events: list[Event]) -> Event | None:
    waiting = None
    for event in events:
        if event.type in ("accepted", "rolled_back"):
            waiting = event
        elif event.type in ("live", "aborted") or (
            event.type == "quarantined" and waiting and event.key == waiting.key
        ):
            waiting = None
    return waiting


def repeated(event: Event) -> dict[str, Any]:
    """What a following event repeats of one."""
    return {name: getattr(event, name) for name in ("key", "digest", "commit", "data_sha256", "outcome", "reason")}
