"""The events of the ledger: the meaning of each kind, and the state that follows from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from conveyor.core.frozen import Frozen, Names
from conveyor.model.bundle import Bundle

if TYPE_CHECKING:
    pass


SCHEMA = 1


class Champion(Frozen):
    """The model of an event, and the event's number."""

    event: int
    key: str
    digest: str
    commit: str


Kind = Literal["accepted", "live", "aborted", "kept", "approved", "rolled_back", "quarantined", "released", "pruned"]


class Event(Frozen):
    """One line of history.

    accepted      the gate accepted the model; it does not serve yet
    live          it serves: from now on it is the champion
    aborted       it was accepted and does not come to serve
    kept          the gate did not accept it; the verdict is recorded
    approved      a person accepts a model that could not be compared
    rolled_back   a person goes back to this model from the one in ``replaces``, which is quarantined
    quarantined   a person bans this model
    released      this model, as it served with the code of ``commit``, is the version ``tag``
    pruned        the bytes of old models, ``keys``, were deleted

    ``by`` is the person or the workflow's actor, ``holdout`` the digest of the rows that judged the model, ``target``
    the environment in which a model on its way must serve before it is live; None: nowhere.
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
    """Another run wrote an event after this decision: decide again, against the new champion."""


def champion_json(events: list[Event]) -> dict[str, Any]:
    """The content of champion.json: the champion, the one before it, and the model on its way."""
    live = [event.champion.model_dump() for event in events if event.type == "live"]
    waiting = pending_of(events)
    return {
        "schema": SCHEMA,
        "event": len(events),
        "champion": live[-1] if live else None,
        "previous": live[-2] if len(live) > 1 else None,
        "accepted": waiting.champion.model_dump() if waiting else None,
    }


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
    """The fields that a following event repeats."""
    return {name: getattr(event, name) for name in ("key", "digest", "commit", "data_sha256", "outcome", "reason")}


class History:
    """The state that follows from the events of a ledger; reads nothing else.

    Attributes:
        events: all of them, in order.
    """

    def __init__(self, events: list[Event]) -> None:
        self.events = events

    @property
    def number(self) -> int:
        """The number of the last event, 0 for a new ledger."""
        return len(self.events)

    def champion(self) -> Champion | None:
        """The model of the last ``live`` event."""
        return next((event.champion for event in reversed(self.events) if event.type == "live"), None)

    def pending(self) -> Event | None:
        """A model on its way: ``accepted`` or ``rolled_back``, and neither ``live`` nor ``aborted`` yet."""
        return pending_of(self.events)

    def to_serve(self) -> Event | None:
        """The event of the model that is to serve: the one on its way, else the champion's."""
        return self.pending() or next((event for event in reversed(self.events) if event.type == "live"), None)

    def at(self, time: str) -> Event | None:
        """The ``live`` event in force at a time in UTC, in the format of the events."""
        return next((event for event in reversed(self.events) if event.type == "live" and event.time <= time), None)

    def quarantine_of(self, key: str) -> Event | None:
        """The event that quarantined a model; None if there is none, or a later roll-back to the model lifted it."""
        found = waiting = None
        for event in self.events:
            if event.replaces == key or (event.type == "quarantined" and event.key == key):
                found, before = event, found
            elif event.type == "rolled_back" and event.key == key:
                found = None
            elif event.type == "aborted" and waiting and waiting.replaces == key:
                found = before  # the roll-back did not come to serve: it quarantines nothing
            waiting = event if event.type == "rolled_back" else None if event.type in ("live", "aborted") else waiting
        return found

    def decisions(self, holdout: str, besides: str) -> int:
        """How many other models were judged on these rows: each makes the next verdict a little less reliable."""
        return len({e.key for e in self.events if e.holdout == holdout and e.key != besides})

    def approval_of(self, bundle: Bundle) -> Event | None:
        """The ``approved`` event of exactly these bytes, unless there is a champion since."""
        for event in reversed(self.events):
            if event.type == "live":
                return None
            if event.type == "approved" and (event.key, event.digest) == (bundle.key, bundle.digest):
                return event
        return None

    def stored(self, key: str) -> Event | None:
        """The last event that stored the bytes of this model, unless they were deleted since."""
        for event in reversed(self.events):
            if event.type == "pruned" and key in event.keys:
                return None
            if event.key == key and event.type in ("accepted", "approved"):
                return event
        return None

    def why_quarantined(self, event: Event) -> str:
        what = "rolled back" if event.type == "rolled_back" else "put under quarantine"
        key = event.replaces if event.type == "rolled_back" else event.key
        return f"model {str(key)[:12]} was {what} by {event.by} in event {event.number}: {event.reason}"
