"""The state of production for the summary of a scheduled run: what is live, what is on its way, which replica died."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from conveyor.core.ci import annotate, summarise
from conveyor.core.errors import Misuse
from conveyor.core.files import write_text
from conveyor.core.project import Project, now
from conveyor.deploy import deployment
from conveyor.ledger import fsck
from conveyor.ledger.damage import Damage
from conveyor.ledger.events import Event
from conveyor.ledger.state import State
from conveyor.report.wording import escape

LAST = 5  # events in the summary
FUTURE = "which is in the future: the clock of its writer, or of this machine, is wrong"


@dataclass(frozen=True)
class Look:
    """What is known of production at a time.

    Attributes:
        ledger: its state.
        damages: of the ledger.
        today: when it was looked at, UTC.
        died: a line for each replica that has died.
    """

    ledger: State
    damages: Sequence[Damage]
    today: str
    died: Sequence[str]


def look(project: Project) -> Look:
    """The present state of production.

    Raises:
        Misuse: the ledger or a named engine cannot be read.
    """
    ledger, damages = fsck.damages(project, whole=False)
    return Look(ledger, damages, now(), deployment.died(project))


def days_since(time: str, today: str) -> int:
    """Whole days between two times in UTC, as events write them; negative if the first is the later one."""
    then, until = (datetime.strptime(t, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC) for t in (time, today))
    return (until - then).days


def markdown(ledger: State, today: str, died: Sequence[str] = (), damages: Sequence[Damage] = ()) -> str:
    """The state of the ledger; its first line says what is live.

    Args:
        died: a line for each replica that has died.
        damages: those of the ledger.
    """
    damaged = ["", "**Damaged** ledger:", "", *(f"- {escape(damage.line)}" for damage in damages)] if damages else []
    if any(damage.stops for damage in damages):  # what is live is not known
        return "\n".join(["**The ledger is damaged** — what is live cannot be said", *damaged, ""])
    live = ledger.lived[-1] if ledger.lived else None
    if live is None:
        text = ["**Nothing is live** — no model has become champion yet"]
    else:
        age = days_since(live.time, today)
        days = "since today" if not age else f"for {age} day{'' if age == 1 else 's'}"
        if age < 0:
            days = f"from {live.time}, {FUTURE}"
        text = [f"**Live: model {live.key[:12]}** — champion/{live.number:06d}, {days}", ""]
        text += [f"- Became champion: {live.time}, by {escape(live.by)}: {escape(live.reason)}"]
        text += [f"- Code: `{live.commit[:12]}`, data: `{live.data_sha256[:12]}`"]
        if confirmed := ledger.confirmation():
            text += [f"- Confirmed by later rows: {_told(confirmed)}"]
        judged = len({event.key for event in ledger.events[live.number :] if event.type in ("kept", "blocked")})
        text += [f"- Judged since, and not better: {judged} model{'' if judged == 1 else 's'}"]
    waiting = ledger.pending()
    if waiting:
        text += ["", f"**On its way**: model {waiting.key[:12]}, {_told(waiting)}; the next `deliver` finishes it"]
    if died:
        text += ["", "**Died**:", "", *(f"- {escape(line)}" for line in died)]
    text += damaged
    if ledger.events:
        text += ["", "| event | when | what | model | by | why |", "|--:|---|---|---|---|---|"]
        for event in reversed(ledger.events[-LAST:]):
            cells = (event.number, event.time, event.type, event.key[:12], escape(event.by), escape(event.reason, 120))
            text.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join([*text, ""])


def _told(event: Event) -> str:
    return f"event {event.number} ({event.type}) of {event.time}"


def run(project: Project, more: str = "", seen: Look | None = None) -> str:
    """Write build/monitor.md and, in a workflow, the job's summary; warns of a champion older than the limit.

    Args:
        more: what else the summary says, as Markdown.
        seen: the state of production; None: it is looked at now.

    Raises:
        Misuse: the ledger is damaged, or cannot be read.
    """
    seen = seen or look(project)
    ledger, damages, today, died = seen.ledger, seen.damages, seen.today, seen.died
    text = markdown(ledger, today, died, damages) + more
    write_text(project.build / "monitor.md", text)
    summarise(project.environment, text)
    for line in died:
        annotate(project.environment, "warning", "A replica has died", line)
    if damages:
        count = f"{len(damages)} damage{'' if len(damages) == 1 else 's'}"
        raise Misuse(f"monitor: {count} in the ledger: {damages[0].line}")
    champion = ledger.champion()
    if champion is None:
        annotate(project.environment, "notice", "Nothing is live", "no model has become champion yet")
        return "; ".join(["nothing is live", *died])
    age, limit = days_since(ledger.events[champion.event - 1].time, today), project.params.monitor.max_age_days
    if age > limit:
        annotate(
            project.environment,
            "warning",
            "The champion is old",
            f"model {champion.key[:12]} is live for {age} days, more than monitor.max_age_days {limit}",
        )
    since = ledger.lived[-1].time
    days = f"for {age} days" if age >= 0 else f"from {since}, {FUTURE}"
    return "; ".join([f"model {champion.key[:12]} is live {days}: build/monitor.md", *died])
