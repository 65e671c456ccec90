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
from conveyor.report.wording import LONG, escape
from conveyor.watch import evidence, later
from conveyor.watch.loss import block_of
from conveyor.watch.monitor import called, closed

FOREVER = 10**6  # blocks
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
    text = f"## Probation\n\n{escape(found.line, LONG)}{escape(told, LONG)}.\n"
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
    return f"{escape(found.line, LONG)}.\n\n{how} This issue closes when another champion is live.{run_of}\n"


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
        return Probation("confirmed", f"{name} was confirmed at {known.time}: {known.reason}", champion)
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
    came = later.later(project, later.last_block(project, champion, bundle))
    due, all_looks = (evidence.looks_of_probation(count, units.hours(block)) for count in (came.blocks, FOREVER))
    if not due:
        first = f"the first look is at {all_looks[0].blocks}" if all_looks else "no look is made at blocks so long"
        waits = f"{name} is on probation: {units.named(block, came.blocks)} came after its data; {first}"
        return Probation("waits", waits, champion, before)
    rows = came.rows[came.number <= due[-1].blocks]
    number = came.number[came.number <= due[-1].blocks]
    over = "; that was the last look, it stays undecided" if len(due) == len(all_looks) else ""
    if not len(rows):
        nothing = f"{name} is not judged: no row is of the {units.named(block, due[-1].blocks)} after its data{over}"
        return Probation("undecided", nothing, champion, before, None, due[-1])
    y = later.labels_of(project, bundle)[rows]
    older = ledger.bundle(before.champion, "before")
    later.labels_of(project, older)  # it must know the same classes
    ours, theirs = (later.predicted(project, each, rows) for each in (bundle, older))
    metric = at(METRICS[rule.metric], rule.threshold)
    found: evidence.Shown | None = None
    state: evidence.Judged = "undecided"
    look = due[0]
    for look in due:
        seen = number <= look.blocks
        try:
            found = evidence.shown(metric, y[seen], ours[seen], theirs[seen], number[seen], look.level)
        except ValueError:
            continue  # such as rows of one class only; a later look has more
        state = evidence.judged(found, rule.margin)
        if state != "undecided":
            break
    says = {
        "confirmed": f"is confirmed: it is at most {rule.margin:g} worse than",
        "harmed": f"is harmful: it is more than {rule.margin:g} worse than",
        "undecided": f"is undecided: later rows do not tell whether it is more than {rule.margin:g} worse than",
    }[state]
    against = f"{name} {says} champion/{before.number:06d}"
    if found is None:
        return Probation(
            "undecided", f"{against}: {rule.metric} cannot be measured{over}", champion, before, None, look
        )
    bounds = "too few" if found.low is None or found.high is None else f"{found.low:+.4f} to {found.high:+.4f}"
    figures = f"{rule.metric} {found.gain:+.4f} ({bounds}) on {found.rows:,} rows"
    text = f"{against}: {figures} of the {units.named(block, look.blocks)} after its data"
    return Probation(state, f"{text}{over if state == 'undecided' else ''}", champion, before, found, look)
