"""The ledger as text for people, and as JSON for programs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from conveyor.core.errors import Misuse, one_line
from conveyor.core.files import to_json
from conveyor.ledger.events import Event
from conveyor.ledger.ledger import Ledger

HEADER = "event   time, UTC             what        model         commit        by whom: why\n"


def events(ledger: Ledger, as_json: bool) -> str:
    """All events, the oldest first."""
    if as_json:
        return to_json([event.model_dump(by_alias=True, mode="json") for event in ledger.events])
    if not ledger.events:
        return "no events yet; `make pipeline` bootstraps the first champion\n"
    champion = ledger.champion()
    marks = {champion.event: "  <- champion"} if champion else {}
    return HEADER + "".join(f"{line(event)}{marks.get(event.number, '')}\n" for event in ledger.events)


def line(event: Event) -> str:
    reason = " ".join(event.reason.split())  # a person's reason may have line breaks
    clock = f" (the writer's clock said {event.clock})" if event.clock else ""
    return one_line(
        f"{event.number:06d}  {event.time}  {event.type:<11} {event.key[:12]}  {event.commit[:12]}  {event.by}:"
        f" {reason}{clock}"
    )


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
    told = line(event) if event else "nothing was live then"
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
