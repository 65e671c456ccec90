"""The state that follows from the events of a ledger, one after another: a query takes the same time in a ledger of any
length."""

from __future__ import annotations

from typing import Any

from conveyor.gate.looks import History, Seen, Sight
from conveyor.ledger.events import SCHEMA, Champion, Event, Unsound
from conveyor.model.bundle import Bundle

TESTED = ("promote", "keep", "block")  # outcomes of a comparison with the champion


class State:
    """What holds after some events; reads nothing else.

    Attributes:
        events: all of them, in order.
        lived: the ``live`` ones.
        looks: the verdicts that tested something, see gate/looks.py.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew, without an event."""
        self.events: list[Event] = []
        self.lived: list[Event] = []
        self._waiting: Event | None = None
        self._quarantined: dict[str, Event] = {}
        self._before: dict[str, Event | None] = {}  # quarantines as they were before the roll-back on its way
        self._stored: dict[str, Event] = {}
        self.looks: list[Seen] = []
        self._sketches: dict[str, dict[str, Any]] = {}  # rows and sketch by digest: the first event with them has both
        self._noted: set[tuple[str, str | None]] = set()  # models and rows that the present champion was compared on
        self._approved: dict[tuple[str, str], Event] = {}
        self._confirmed: Event | None = None
        self._released: dict[str, Event] = {}
        self._by_id: dict[str, Event] = {}
        self._anchors: dict[str, str] = {}

    def add(self, event: Event) -> None:
        """Take the next event.

        Raises:
            Unsound: it does not follow from the events before it.
        """
        if event.number != self.number + 1:
            raise Unsound(f"says it is event {event.number}")
        waits = self._waiting
        if event.type in ("live", "aborted") and (waits is None or _model(waits) != _model(event)):
            raise Unsound("does not follow from the events before it")
        if event.type == "confirmed" and not (self.lived and _model(self.lived[-1]) == _model(event)):
            raise Unsound("confirms a model that is not champion")
        if event.schema_ == SCHEMA:
            self._in_order(event)
        elif self.events and self.events[-1].schema_ > event.schema_:
            raise Unsound(f"has schema {event.schema_} after schema {self.events[-1].schema_}")
        self._carry(event)
        self.events.append(event)

    def _in_order(self, event: Event) -> None:
        """The rules that events of schema 1 did not have."""
        last = self.events[-1] if self.events else None
        if last and event.time < last.time:
            raise Unsound(f"is of {event.time}, before event {last.number}")
        if event.id is None or event.id in self._by_id:
            raise Unsound(f"has the id of event {self._by_id[event.id].number}" if event.id else "has no id")
        if (event.type == "migrated") != bool(last and last.schema_ < SCHEMA):
            raise Unsound("does not follow from the layout before it")
        self._by_id[event.id] = event

    def _carry(self, event: Event) -> None:
        match event.type:
            case "accepted" | "approved":
                self._stored[event.key] = event
                self._anchors[event.key] = event.anchor or event.key
                if event.type == "approved":
                    self._approved[event.key, event.digest] = event
            case "rolled_back":
                self._undo()  # one that is overtaken changes no quarantine
                # A roll-back to a model lifts its quarantine.
                touched = (event.key, event.replaces or "")
                self._before = {key: self._quarantined.get(key) for key in touched}
                self._quarantined.pop(event.key, None)
                if event.replaces:
                    self._quarantined[event.replaces] = event
            case "quarantined":
                if self._waiting and event.key == self._waiting.key:
                    self._undo()  # it ends the roll-back to this model
                self._quarantined[event.key] = event
                self._before.pop(event.key, None)
            case "live":
                self.lived.append(event)
                self._approved.clear()
                self._noted.clear()
                self._confirmed = None
            case "confirmed":
                self._confirmed = event
            case "aborted":
                self._undo()
            case "kept" | "blocked":
                self._noted.add((event.key, event.holdout))
            case "pruned":
                for key in event.keys:
                    self._stored.pop(key, None)
            case "released" if event.tag:
                self._released.setdefault(event.tag, event)
        if event.holdout and event.sketch:
            self._sketches.setdefault(event.holdout, {"rows": event.rows, "sketch": event.sketch})
        if event.type in ("accepted", "kept", "blocked"):
            self._look(event)
        self._waiting = self._waits(event)

    def _look(self, event: Event) -> None:
        """Count a verdict that compared two models; an event from before ``rows`` counts, too."""
        champion = self.champion()
        if champion and event.outcome in TESTED and event.rows != 0:
            sight = {name: getattr(event, name) for name in Sight.model_fields} | self.sketched(event.holdout)
            promoted = event.type == "accepted"
            self.looks.append(Seen(key=event.key, against=champion.key, promoted=promoted, **sight))

    def sketched(self, holdout: str | None) -> dict[str, Any]:
        """The number and the sketch of the rows of this digest, if an event has them."""
        return self._sketches.get(holdout or "", {})

    def anchor(self) -> str | None:
        """The key of the best champion so far: the champion's own, unless it came as not worse than that one."""
        champion = self.champion()
        return self._anchors.get(champion.key, champion.key) if champion else None

    def history(self) -> History:
        """The verdicts that make the next test stricter, or ease it."""
        return History(looks=tuple(self.looks))

    def _undo(self) -> None:
        """The roll-back on its way does not come to serve: the quarantines are as they were before it."""
        if self._waiting and self._waiting.type == "rolled_back":
            for key, before in self._before.items():
                if before:
                    self._quarantined[key] = before
                else:
                    self._quarantined.pop(key, None)

    def copy(self) -> State:
        """The same state, which goes on by itself."""
        other = State()
        for name, value in vars(self).items():
            if name in vars(other):
                setattr(other, name, value.copy() if isinstance(value, dict | list | set) else value)
        return other

    def _waits(self, event: Event) -> Event | None:
        """The model on its way after one more event."""
        if event.type in ("accepted", "rolled_back"):
            return event
        ended = event.type in ("live", "aborted")
        banned = event.type == "quarantined" and self._waiting and event.key == self._waiting.key
        return None if ended or banned else self._waiting

    @property
    def number(self) -> int:
        """The number of the last event, 0 for a new ledger."""
        return len(self.events)

    def champion(self) -> Champion | None:
        """The model of the last ``live`` event."""
        return self.lived[-1].champion if self.lived else None

    def pending(self) -> Event | None:
        """A model on its way: ``accepted`` or ``rolled_back``, and neither ``live`` nor ``aborted`` yet."""
        return self._waiting

    def to_serve(self) -> Event | None:
        """The event of the model that is to serve: the one on its way, else the champion's."""
        return self._waiting or (self.lived[-1] if self.lived else None)

    def confirmation(self) -> Event | None:
        """The ``confirmed`` event of the champion, since it is that."""
        return self._confirmed

    def by_id(self, identity: str) -> Event | None:
        """The event of an id; None: it was not written."""
        return self._by_id.get(identity)

    def quarantine_of(self, key: str) -> Event | None:
        """The event that quarantined a model; None if there is none, or a later roll-back to the model lifted it."""
        return self._quarantined.get(key)

    def is_judged(self, key: str, holdout: str | None) -> bool:
        """Whether a verdict on this model, these rows and the present champion is on record."""
        return (key, holdout) in self._noted

    def approval_of(self, bundle: Bundle) -> Event | None:
        """The ``approved`` event of exactly these bytes, unless there is a champion since."""
        return self._approved.get((bundle.key, bundle.digest))

    def stored(self, key: str) -> Event | None:
        """The last event that stored the bytes of this model, unless they were deleted since."""
        return self._stored.get(key)

    def all_stored(self) -> list[Event]:
        """The events of all models whose bytes are to be there."""
        return list(self._stored.values())

    def released_as(self, tag: str) -> Event | None:
        """The ``released`` event of a version."""
        return self._released.get(tag)

    def why_quarantined(self, event: Event) -> str:
        what = "rolled back" if event.type == "rolled_back" else "put under quarantine"
        key = event.replaces if event.type == "rolled_back" else event.key
        return f"model {str(key)[:12]} was {what} by {event.by} in event {event.number}: {event.reason}"

    def summary(self, event: Event | None = None) -> dict[str, Any]:
        """The content of champion.json: the champion, and the events of the one before it and of a model on its way.

        Args:
            event: one more event that comes after these.
        """
        last = [event] if event else self.events[-1:]
        lived = [*self.lived[-2:], *(each for each in last if event and each.type == "live")]
        waiting = self._waits(event) if event else self._waiting
        return {
            "schema": SCHEMA,
            "event": self.number + bool(event),
            "champion": lived[-1].champion.model_dump() if lived else None,
            "previous": lived[-2].number if len(lived) > 1 else None,
            "accepted": waiting.number if waiting else None,
        }


def _model(event: Event) -> tuple[str, str]:
    return event.key, event.digest
