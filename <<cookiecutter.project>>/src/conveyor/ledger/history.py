"""The ledger as text for people, and as JSON for programs."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from conveyor.core.errors import Misuse, one_line
from conveyor.core.files import to_json
from conveyor.core.git import GitError
from conveyor.ledger.events import Event
from conveyor.ledger.ledger import Ledger

HEADER = "event   time, UTC             what        model         commit        by whom: why\n"
JUDGED = ("accepted", "kept", "blocked")  # the key is that of a challenger
OF_NO_MODEL = ("pruned", "migrated")  # the key is that of the event before


def events(ledger: Ledger, as_json: bool) -> str:
    """All events, the oldest first."""
    if as_json:
        return to_json([event.model_dump(by_alias=True, mode="json") for event in ledger.events])
    if not ledger.events:
        return "no events yet; `make pipeline` bootstraps the first champion\n"
    champion = ledger.champion()
    marks = {champion.event: "  <- champion"} if champion else {}
    names = subjects(ledger, ledger.events)
    return HEADER + "".join(f"{line(ledger, event, names)}{marks.get(event.number, '')}\n" for event in ledger.events)


def subjects(ledger: Ledger, shown: Sequence[Event]) -> dict[str, str]:
    """The first line of the message of each event's commit, by commit; without those that are not in this clone."""
    asked = "".join(f"{commit}\n" for commit in dict.fromkeys(event.commit for event in shown))
    words = ("log", "--no-walk=unsorted", "--ignore-missing", "--stdin", "--format=%H %s")
    try:
        told = ledger.project.git(*words, stdin=asked.encode()) if asked else ""
    except GitError:
        return {}
    return {commit: name for commit, _, name in (each.partition(" ") for each in told.split("\n"))}


def line(ledger: Ledger, event: Event, names: dict[str, str]) -> str:
    """An event in one line: whose key it is, why it was written, and what the change is called.

    Args:
        names: see ``subjects``.
    """
    reason = " ".join(event.reason.split())  # a person's reason may have line breaks
    facts = [*_about(ledger, event), f'"{names[event.commit]}"' if names.get(event.commit) else "", event.run or ""]
    facts.append(f"the writer's clock said {event.clock}" if event.clock else "")
    told = "; ".join(fact for fact in facts if fact)
    key = f"{'-':<12}" if event.type in OF_NO_MODEL else event.key[:12]
    return one_line(
        f"{event.number:06d}  {event.time}  {event.type:<11} {key}  {event.commit[:12]}  {event.by}:"
        f" {reason}{f' ({told})' if told else ''}"
    )


def _about(ledger: Ledger, event: Event) -> list[str]:
    """Which other model or place an event is about."""
    before = bisect_left(ledger.lived, event.number, key=lambda each: each.number)
    if event.type in JUDGED and before:
        return [f"compared with champion {ledger.lived[before - 1].key[:12]}"]
    if event.replaces:
        return [f"in place of {event.replaces[:12]}"]
    return []


def live_at(ledger: Ledger, at: str, as_json: bool) -> str:
    """The model that was live at a time in UTC; a day means its end.

    Raises:
        Misuse: the text is no time.
    """
    try:
        moment = datetime.fromisoformat(at.strip())
        if len(at.strip()) <= 10:
            moment += timedelta(days=1, seconds=-1)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Misuse(f"history: {at!r} is no time; write 2026-11-24 or 2026-11-24T08:00") from None
    then = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    event, unsure = _at(ledger, then)
    if as_json:
        return to_json({"at": then, "live": event.model_dump(by_alias=True, mode="json") if event else None})
    told = line(ledger, event, subjects(ledger, [event])) if event else "nothing was live then"
    return f"{told}\n{unsure}\n" if unsure else f"{told}\n"


def _at(ledger: Ledger, then: str) -> tuple[Event | None, str]:
    """The ``live`` event in force at a time, and what is not sure about it, for the clocks of writers can be wrong."""
    began = next((n for n, event in enumerate(ledger.lived) if event.time > then), len(ledger.lived))
    found = ledger.lived[began - 1] if began else None
    after = ledger.lived[began : began + 1]
    late = next((event for event in (*([found] if found else []), *after) if event.clock), None)
    if late is None:
        return found, ""
    return found, (
        f"not sure: event {late.number} is of {late.time}, after the event before it, and its writer's clock said"
        f" {late.clock}"
    )
