"""The page of `monitor`: a list of sections, each made by a small function of what is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from math import inf, isfinite

from markupsafe import Markup

from conveyor.core import params
from conveyor.core.files import to_json, write_text
from conveyor.core.project import Project
from conveyor.data import units
from conveyor.deploy.monitor import FUTURE, LAST, Look, days_since
from conveyor.report import sections, timeline
from conveyor.report.sections import Fact, Head, Section
from conveyor.report.wording import counted, metric_name
from conveyor.watch import page_explained
from conveyor.watch.alarm import State, Watch
from conveyor.watch.explained import Explained
from conveyor.watch.lives import lives, sure, words
from conveyor.watch.loss import Blocks
from conveyor.watch.wording import NO_BOUNDS, bounds

RUN, WEEK = 7, 7 * 24  # blocks of a running mean; hours
NEWEST = 100  # blocks in the table
NO_LOSS = "its live loss is not known"
HEADLINES = {  # tone and headline of each state of the alarm
    "calm": ("good", "The live loss is not shown to be higher than promised"),
    "alarm": ("bad", "The live loss has risen"),
    "insufficient": ("even", "Too little is known yet to tell"),
    None: ("warn", "The live loss is not known"),
}


@dataclass(frozen=True)
class Measured:
    """The live loss of the champion.

    Attributes:
        name: of the loss.
        block: the length of a block of time.
        budget: how many of the years without a change may have an alarm.
        live: the loss of each block.
        seen: what the alarm makes of it.
    """

    name: str
    block: params.Block
    budget: float
    live: Blocks
    seen: Watch

    def begins(self, number: int | None) -> datetime | None:
        """When a block begins."""
        return None if number is None else units.begins(int(number), self.block)

    @property
    def unit(self) -> str:
        return self.block if isinstance(self.block, str) else "hour" if self.block == 1 else f"{self.block} hours"

    @property
    def run(self) -> int:
        """How many blocks the running mean is of: a week of them, or RUN."""
        return max(RUN, WEEK // units.hours(self.block))


@dataclass(frozen=True)
class Given:
    """What the page shows.

    Attributes:
        title: the name of the project.
        look: the state of production.
        state: of the alarm; None: the loss is not known.
        line: the same in one line; empty: nothing is live.
        measured: None: the loss is not known.
        counts: what was read of log and labels.
        explained: what may explain the loss.
    """

    title: str
    look: Look
    state: State | None = None
    line: str = ""
    measured: Measured | None = None
    counts: tuple[str, ...] = ()
    explained: Explained | None = None

    @property
    def stopped(self) -> bool:
        """Whether the ledger is so damaged that nobody can say what is live."""
        return any(damage.stops for damage in self.look.damages)


def write(
    project: Project,
    look: Look,
    state: State | None = None,
    line: str = "",
    measured: Measured | None = None,
    counts: tuple[str, ...] = (),
    explained: Explained | None = None,
) -> None:
    """Write build/monitor.html, and build/monitor.json for `site`; see ``Given``."""
    given = Given(project.name, look, state, line, measured, counts, explained)
    write_text(project.build / "monitor.html", page(given))
    write_text(project.build / "monitor.json", to_json(record(given)))


def record(given: Given) -> dict[str, object]:
    """What `site` shows of it: the state of the alarm, and when the change began and was seen."""
    live, found = given.look.ledger.champion(), given.measured
    evidence = found.seen.evidence if found else -inf
    times = {"started": found.begins(found.seen.started), "alarmed": found.begins(found.seen.alarmed)} if found else {}
    return {
        "schema": 1,
        "created": given.look.today,
        "event": live.event if live and not given.stopped else None,
        "key": live.key if live and not given.stopped else None,
        "state": given.state,
        "line": given.line,
        "evidence": evidence if isfinite(evidence) else None,
        **{name: time and time.strftime("%Y-%m-%dT%H:%M:%SZ") for name, time in times.items()},
    }


def page(given: Given) -> str:
    """The page as HTML."""
    made = [make(given) for make in SECTIONS]
    return sections.document(head(given), [section for section in made if section])


def head(given: Given) -> Head:
    """What the page says first."""
    look, live = given.look, given.look.ledger.lived[-1:]
    tone, headline = HEADLINES[given.state]
    badge: str = given.state or "not known"
    sentence = f"Model {live[0].key[:12]}: {given.line}." if live else ""
    if given.stopped:
        tone, badge, headline = "bad", "damaged", "The ledger is damaged"
        sentence = "What is live cannot be said."
    elif not live:
        tone, badge, headline = "even", "nothing is live", "Nothing is live"
        sentence = "No model has become champion yet."
    facts: list[Fact] = []
    if live and not given.stopped:
        age = days_since(live[0].time, look.today)
        days = f"live for {counted(age, 'day')}" if age >= 0 else f"live from {words(live[0].time)}, {FUTURE}"
        facts.append(Fact("Live", live[0].key[:12], f"champion/{live[0].number:06d}, {days}"))
    if given.measured:
        facts += _facts(given.measured)
    return Head(
        title=f"{given.title}: {badge}",
        eyebrow=f"{given.title} · monitor · {words(look.today)} UTC",
        tone=tone,
        badge=badge,
        headline=headline,
        sentence=sentence,
        made=f"Made by make monitor at {words(look.today)} UTC.",
        facts=tuple(facts),
    )


def _facts(found: Measured) -> list[Fact]:
    seen = found.seen
    told = [Fact("Promised", f"{seen.promised.mean:.4g}", f"on the holdout; 95 % bounds: {bounds(seen.promised)}")]
    for window in seen.recent[:1]:
        told.append(
            Fact(
                f"Last {window.days} days",
                f"{window.mean:.4g}",
                f"{counted(window.blocks, 'block')}; {bounds(window)}",
            )
        )
    tone = "bad" if seen.state == "alarm" else ""
    at = f"there is an alarm from {seen.threshold:.2f} on; decimal logarithms"
    return [*told, Fact("Evidence of a rise", f"{seen.evidence:.2f}" if isfinite(seen.evidence) else "none", at, tone)]


def damaged(given: Given) -> Section | None:
    """The damages of the ledger."""
    lines = [damage.line for damage in given.look.damages]
    return Section("damages", "What is damaged", sections.items(lines)) if lines else None


def unknown(given: Given) -> Section | None:
    """Why the loss is not known."""
    if given.measured or not given.line:
        return None
    why = given.line.partition(": ")[2] or given.line
    how = "docs/monitoring.md says what the log of predictions and the labels need."
    return Section("unknown", "Why is it not known?", sections.joined(sections.items([why]), sections.note(how)))


def over_time(given: Given) -> Section | None:
    """The loss of each block, beside what was promised."""
    found = given.measured
    if not found or not len(found.live.loss):
        return None
    times = [units.begins(int(number), found.block) for number in found.live.number]
    seen, name = found.seen, metric_name(found.name)
    loss = timeline.Loss(
        name,
        times,
        found.live.loss,
        seen.promised.mean,
        seen.promised.low,
        seen.promised.high,
        found.run,
        found.begins(seen.started),
        found.begins(seen.alarmed),
    )
    periods = [life.period(given.look.today) for life in lives(given.look.ledger.lived)]
    first, last = times[0], times[-1]
    label = (
        f"{name} of {counted(len(times), 'block')} from {first:%Y-%m-%d} to {last:%Y-%m-%d}, between"
        f" {found.live.loss.min():.4g} and {found.live.loss.max():.4g}; promised {seen.promised.mean:.4g}"
        f" ({bounds(seen.promised)})"
    )
    label += f"; alarm at {loss.alarmed:%Y-%m-%d %H:%M}" if loss.alarmed else "; no alarm"
    each = timeline.thinned(found.live.loss)[0]
    caption = [
        f"A point is the mean loss of one block ({found.unit})"
        + (f"; here of {each} blocks, because there are so many" if each > 1 else "")
        + f". The blue line is the mean of the last {found.run} blocks.",
        "The green dashed line is what the holdout promised"
        + (
            ", the green band its 95 % bounds."
            if seen.promised.low is not None
            else f"; it has no bounds: {NO_BOUNDS}."
        ),
    ]
    if loss.alarmed and loss.started:
        caption.append(
            f"The solid red line is the block of the alarm ({loss.alarmed:%Y-%m-%d %H:%M}), the dashed one the block at"
            f" which the change most likely began ({loss.started:%Y-%m-%d %H:%M})."
        )
    caption.append("Shaded and plain stretches are champions, by event and key; the loss is that of the present one.")
    drawn = timeline.losses(loss, periods, label)
    newest = list(zip(times, found.live.loss, found.live.rows, strict=True))[: -NEWEST - 1 : -1]
    numbers = sections.table(
        ["Block", "#Rows", f"#{name}"],
        [(f"{time:%Y-%m-%d %H:%M}", f"{rows:,}", f"{loss:.4g}") for time, loss, rows in newest],
    )
    title = f"The newest {NEWEST} blocks in numbers" if len(times) > NEWEST else "The blocks in numbers"
    folded = Markup("<details><summary>{}</summary>\n{}\n</details>").format(title, numbers)
    body = sections.joined(sections.figure(f"{name} over time", *drawn, " ".join(caption)), folded)
    return Section("loss", "How is the loss of the live model?", body)


def windows(given: Given) -> Section | None:
    """The mean loss of the last days beside the promise, and what the alarm rests on."""
    found = given.measured
    if not found:
        return None
    seen = found.seen
    named = [("Promised, on the holdout", seen.promised), *((f"Last {w.days} days", w) for w in seen.recent)]
    rows = [(name, f"{w.blocks:,}", f"{w.mean:.4g}", bounds(w)) for name, w in named]
    told = [f"At most {found.budget:.0%} of the years without a change have an alarm"]
    if seen.visible is not None and seen.state != "alarm":
        rise = f"A lasting rise of {seen.visible:.3g} since it is live would show by now"
        told.append(f"{rise} in about half of the cases")
    body = sections.joined(sections.table(["", "#Blocks", "#Mean", "#95 % bounds"], rows), sections.items(told))
    return Section("windows", "Last days and promise", body)


def counts(given: Given) -> Section | None:
    """What was read."""
    return Section("read", "What was read", sections.items(given.counts)) if given.counts else None


def died(given: Given) -> Section | None:
    """Replicas that have died."""
    return Section("died", "Replicas that died", sections.items(list(given.look.died))) if given.look.died else None


def champions(given: Given) -> Section | None:
    """The last champions, and the model on its way."""
    state = given.look.ledger
    if given.stopped or not (state.lived or state.pending()):
        return None
    rows = []
    for life in lives(state.lived)[: -LAST - 1 : -1]:
        start, end = life.times()
        by = sections.joined(life.event.by, sections.small(life.event.reason))
        when = sections.lines(sections.kept(start), sections.kept(f"to {end}"), sure(life.event))
        rows.append((sections.joined(f"#{life.event.number}", sections.small(life.event.key[:12])), when, by))
    parts = [sections.table(["Event", "Live, UTC", "…By and why"], rows)] if rows else []
    if waiting := state.pending():
        told = f"On its way: model {waiting.key[:12]}, event {waiting.number} ({waiting.type}); `deliver` finishes it."
        parts.append(sections.note(told))
    return Section("champions", "Which model was live when?", sections.joined(*parts))


def moved(given: Given) -> Section | None:
    """What moved since training."""
    return page_explained.moved(given.explained) if given.explained else None


def segments(given: Given) -> Section | None:
    """The loss of segments."""
    return page_explained.segments(given.explained) if given.explained else None


def few(given: Given) -> Section | None:
    """The loss where few rows have a label."""
    return page_explained.few(given.explained) if given.explained else None


# The page in this order; a function that has nothing to say returns None.
SECTIONS: tuple[Callable[[Given], Section | None], ...] = (
    damaged,
    unknown,
    over_time,
    windows,
    few,
    moved,
    segments,
    counts,
    died,
    champions,
)
