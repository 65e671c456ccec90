"""Read a ledger and check it: its events must follow from each other, and its tags must agree with them."""

from __future__ import annotations

from pydantic import ValidationError

from conveyor.core.errors import Misuse
from conveyor.ledger.events import SCHEMA, Champion, Event, History, champion_json, pending_of
from conveyor.ledger.store import Store


def events_of(store: Store) -> list[Event]:
    """All events of the ledger; sets ``store.head`` to their commit.

    Raises:
        Misuse: the ledger is damaged; the line names the file. Damage is never "no champion".
    """
    store.head = store.read_head()
    if store.head is None:
        if witnesses := store.witnesses():
            if not store.remote and store.read_head():
                return events_of(store)  # a writer came between the two readings
            raise Misuse(
                f"ledger: {store.where} has the tag {witnesses[-1]} but no branch `ledger`; restore the branch"
            )
        return []
    names = store.git("ls-tree", "-r", "--full-tree", "--name-only", store.head).split("\n")
    events: list[Event] = []
    for number in range(1, 1 + sum(name.startswith("events/") for name in names)):
        events.append(_event(store, number, names, events))
    if not events:
        raise Misuse(f"ledger: the branch `ledger` of {store.where} holds no events: not ours, rename it")
    stored = store.json("champion.json") if "champion.json" in names else None
    if stored != champion_json(events):
        raise Misuse("ledger: champion.json does not follow from the events; restore the branch `ledger`")
    commits = store.git("rev-list", "--reverse", store.head).split()
    if len(commits) != len(events):
        raise Misuse(
            f"ledger: {len(commits)} commits for {len(events)} events, so one was written over; restore the branch"
            " `ledger`"
        )
    witness = History(events).champion()
    expected = f"champion/{witness.event:06d}" if witness else None
    witnesses = store.witnesses()
    last = witnesses[-1] if witnesses else None
    if last != expected:
        if not store.remote and store.read_head() != store.head:
            return events_of(store)  # a writer came between the two readings
        if store.remote or not store.unfinished(store.head):
            raise Misuse(
                f"ledger: the last champion by events is {expected}, by tags {last}; restore the branch `ledger` or the"
                " tag (all of a ledger: `git push origin ledger 'refs/tags/champion/*' 'refs/models/*'`)"
            )
    if witness and not _witnessed(store, commits, witness):
        raise Misuse(f"ledger: the tag {expected} is not at the commit of its event; restore the tag")
    return events


def _witnessed(store: Store, commits: list[str], champion: Champion) -> bool:
    """Whether the tag of the champion is at the commit of its event."""
    ref = f"refs/tags/champion/{champion.event:06d}"
    at = store.refs.get(ref) if store.remote else store.git("for-each-ref", "--format=%(objectname)", ref)
    return at == commits[champion.event - 1]


def _event(store: Store, number: int, names: list[str], before: list[Event]) -> Event:
    path = f"events/{number:06d}.json"
    if path not in names:
        raise Misuse(f"ledger: {path} is missing; restore the branch `ledger`")
    value = store.json(path)
    if isinstance(value.get("schema"), int) and value["schema"] > SCHEMA:
        raise Misuse(f"ledger: {path} has schema {value['schema']}, this code knows {SCHEMA}; update the code")
    try:
        event = Event.model_validate(value)
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        raise Misuse(f"ledger: {path} is damaged (key {key}); restore the branch `ledger`") from None
    if event.number != number:
        raise Misuse(f"ledger: {path} says it is event {event.number}; restore the branch `ledger`")
    waits = pending_of(before)
    if event.type in ("live", "aborted") and (waits is None or waits.key != event.key):
        raise Misuse(f"ledger: {path} does not follow from the events before it; restore the branch `ledger`")
    return event
