"""The probation of a new champion: rows that came after its proposal judge it against the champion before it.

The holdout that let it pass has judged many models. So a champion is confirmed only where later rows show that it is no
worse than the one before; time alone confirms nothing. Where they show that it is worse, an issue says so, and with
``monitor.rollback`` the workflow `rollback` is started.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from conveyor.core.ci import annotate, summarise
from conveyor.core.errors import Misuse, one_line
from conveyor.core.files import write_text
from conveyor.core.project import Project
from conveyor.data import units
from conveyor.deploy.rollback import retried
from conveyor.gate.metrics import METRICS, at
from conveyor.github.api import GitHub, undo
from conveyor.github.issue import tell
from conveyor.ledger.events import Champion, Event
from conveyor.ledger.ledger import ledger_of
from conveyor.report.wording import escape
from conveyor.watch import evidence, later
from conveyor.watch.loss import block_of
from conveyor.watch.monitor import called, closed

TITLE = "The champion is worse than the one before"
State = Literal["confirmed", "harmed", "undecided", "waits", "none"]


@dataclass(frozen=True)
class Probation:
    """What later rows show of a champion.

    Attributes:
        state: "waits": the first look is not due yet, or cannot be made. "none": there is nothing to compare with.
        line: in one line.
        champion: of which it is.
        before: the ``live`` event of the champion that it is compared with.
        found: what the deciding look has measured, else the last one.
        look: that look.
    """

    state: State
    line: str
    champion: Champion | None = None
    before: Event | None = None
    found: evidence.Shown | None = None
    look: evidence.Look | None = None


def run(project: Project, issue: bool = False) -> str:
    """Write ``confirmed`` where it is shown; where harm is shown, say so, and go back if ``monitor.rollback`` is set.

    Args:
        issue: whether an issue on GitHub is to be open while the champion is shown to be worse.

    Raises:
        Misuse: the ledger is damaged or cannot be read or written, or GitHub says no.
    """
    found, told = judged(project), ""
    ledger = ledger_of(project)
    if found.state == "confirmed" and found.champion and ledger.confirmation() is None:
        if ledger.writable:
            champion = found.champion
            event = retried(project, "probation", lambda: ledger.confirm(champion, one_line(found.line)))
            told = f"; event {event.number} says so"
        else:
            told = "; PUSH=1 writes it into the ledger"
    text = f"## Probation\n\n{escape(found.line)}{escape(told)}.\n"
    write_text(project.build / "probation.md", text)
    summarise(project.environment, text)
    said = ""
    if found.state == "harmed":
        annotate(project.environment, "error", TITLE, found.line)
        body = _issue(project, found)
        if issue:
            said = called(project, TITLE, found.line, lambda: tell(GitHub(project.environment), TITLE, body))
        told += f"; {_undone(project, found)}"
    elif issue and found.state in ("confirmed", "none"):
        over = f"It is over: {found.line}."
        said = called(project, TITLE, over, lambda: closed(project, TITLE, over))
    return f"{found.line}{told}{f'; {said}' if said else ''}"


def _undone(project: Project, found: Probation) -> str:
    """Start the ordinary roll-back, where that is wanted."""
    assert found.before is not None
    if not project.params.monitor.rollback:
        return f"`make rollback TO={found.before.number}` goes back"
    if not project.environment.run_url:
        return "the workflow `monitor` starts the roll-back (monitor.rollback)"
    return undo(project.environment, found.before.number, found.line)


def _issue(project: Project, found: Probation) -> str:
    assert found.before is not None
    how = (
        "The workflow `rollback` was asked to go back (`monitor.rollback`)."
        if project.params.monitor.rollback
        else f"Start the workflow `rollback` with `to` {found.before.number}, or merge a better model."
    )
    run_of = f"\n\nSeen by {project.environment.run_url}." if project.environment.run_url else ""
    return f"{escape(found.line)}.\n\n{how} This issue closes when another champion is live.{run_of}\n"


def judged(project: Project) -> Probation:
    """What the rows after the champion's data show. The ledger is only read.

    Raises:
        Misuse: the ledger cannot be read.
    """
    ledger = ledger_of(project)
    champion = ledger.champion()
    if champion is None:
        return Probation("none", "nothing is live, so nothing is on probation")
    name = f"champion/{champion.event:06d}"
    way = next(e for e in reversed(ledger.events[: champion.event - 1]) if e.type in ("accepted", "rolled_back"))
    if way.type == "rolled_back":
        return Probation("none", f"{name} came back by a roll-back, which needs no probation", champion)
    if known := ledger.confirmation():
        return Probation("confirmed", f"{name} is confirmed since {known.time}: {known.reason}", champion)
    before = next(
        (e for e in reversed(ledger.lived) if e.key != champion.key and not ledger.quarantine_of(e.key)), None
    )
    if before is None or ledger.stored(before.key) is None:
        return Probation("none", f"{name} has no champion before it to be compared with", champion)
    if ledger.pending():
        return Probation("waits", f"{name} is not judged while another model is on its way", champion, before)
    try:
        return _looked(project, champion, before, name)
    except (Misuse, ValueError) as why:
        return Probation("waits", f"{name} cannot be judged by later rows: {why}", champion, before)


def _looked(project: Project, champion: Champion, before: Event, name: str) -> Probation:
    """The first look that decides, else the last one.

    Raises:
        Misuse, ValueError: the rows that came later are not known, or a model cannot be measured on them.
    """
    ledger, rule = ledger_of(project), project.params.gate
    bundle, block = ledger.bundle(champion), block_of(rule)
    unit = block if isinstance(block, str) else f"block of {block} hours"
    came = later.later(project, later.last_block(project, champion, bundle))
    due = evidence.looks_of_probation(came.blocks, units.hours(block))
    if not due:
        first = evidence.looks_of_probation(10**6, units.hours(block))
        wants = f"at {first[0].blocks}" if first else "never, for blocks are too long"
        waits = f"{name} is on probation: {came.blocks} {unit}s came after its data; first look {wants}"
        return Probation("waits", waits, champion, before)
    rows = came.rows[came.number <= due[-1].blocks]
    number = came.number[came.number <= due[-1].blocks]
    y = later.labels_of(project, bundle)[rows]
    older = ledger.bundle(before.champion, "before")
    later.labels_of(project, older)  # it must know the same classes
    ours, theirs = (later.predicted(project, each, rows) for each in (bundle, older))
    metric = at(METRICS[rule.metric], rule.threshold)
    for look in due:
        seen = number <= look.blocks
        found = evidence.shown(metric, y[seen], ours[seen], theirs[seen], number[seen], look.level)
        state = evidence.judged(found, rule.margin)
        if state != "undecided":
            break
    bounds = "too few" if found.low is None or found.high is None else f"{found.low:+.4f} to {found.high:+.4f}"
    figures = (
        f"{rule.metric} {found.gain:+.4f} ({bounds}) against champion/{before.number:06d} on {found.rows:,} rows of the"
        f" {look.blocks} {unit}s after its data"
    )
    says = {
        "confirmed": f"is shown to be no worse by more than {rule.margin:g}",
        "harmed": f"is shown to be worse by more than {rule.margin:g}",
        "undecided": "is neither shown to be worse nor no worse",
    }[state]
    over = len(evidence.looks_of_probation(10**6, units.hours(block))) == len(due)
    end = "; that was the last look, it stays undecided" if state == "undecided" and over else ""
    return Probation(state, f"{name} {says}: {figures}{end}", champion, before, found, look)
