"""The verb `monitor`: what is live, and whether its loss has risen since it was promoted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from math import isfinite

import pandas as pd

from conveyor.core import params
from conveyor.core.ci import annotate
from conveyor.core.errors import Misuse
from conveyor.core.project import Project
from conveyor.data import units
from conveyor.deploy import monitor as deployment
from conveyor.github.api import GitHub
from conveyor.github.issue import close, tell
from conveyor.ledger.events import Champion
from conveyor.ledger.ledger import ledger_of
from conveyor.report.wording import escape
from conveyor.watch import explained, labels, log_rows, loss, page, predictions, wording
from conveyor.watch.alarm import State, Watch, Window, watch
from conveyor.watch.explained import Explained
from conveyor.watch.log_lines import Asked
from conveyor.watch.webhook import send

TITLE = "The live loss has risen"
AGAIN = timedelta(days=14)  # an alarm that comes back so soon is the same one
HOW = (
    "Find out what has changed: the data, their source, or the world. Then train on newer rows, or go back to an"
    " earlier champion by the workflow `rollback`. This issue closes when the loss of a champion is calm."
)
# docs/watch.md of the template has the streams and the other rules.
MEASURED = (
    "Measured by the template on simulated years: at most 0.8 % of those without a change had an alarm. With a rise of"
    " 0.10 nats half of the alarms came within 10 days where rows are independent, and within 69 where days differ."
)
DAMAGED = "damaged or half-written lines of the log"
OTHERS = "files beside the log, which are not read"
REFUSED = "requests for predictions without an answer"
FUTURE = "lines of the log with a time that has not come"
SAYS = {
    "calm": "has not shown to be higher than on its holdout",
    "alarm": "has risen",
    "insufficient": "is not known well enough yet to tell",
}


@dataclass(frozen=True)
class Told:
    """The live loss in words.

    Attributes:
        state: that of the alarm; None: the loss is not known.
        line: in one line.
        text: as Markdown.
        explained: what may explain it.
        counts: what was read.
        measured: None: the loss is not known.
    """

    state: State | None
    line: str
    text: str
    explained: Explained
    counts: tuple[str, ...] = ()
    measured: page.Measured | None = None


def run(project: Project, issue: bool = False, say: Callable[[str], None] = print) -> str:
    """Write build/monitor.md, monitor.html, monitor.json and, in a workflow, the job's summary and annotations.

    The live loss is told where there is a log of predictions and a label for some of them; else why it is not.

    Args:
        issue: whether an issue on GitHub is to be open while there is an alarm.

    Raises:
        Misuse: the ledger is damaged or cannot be read, log or labels are named and cannot be read, or GitHub says no.
    """
    said, live = looked(project, say)
    if live is None:
        return said
    if live.state == "alarm":
        annotate(project.environment, "error", TITLE, live.line)
    told = f"; {_kept(project, live)}" if issue and live.state in ("alarm", "calm") else ""
    return f"{said}; {live.line}{told}"


def looked(project: Project, say: Callable[[str], None] = print) -> tuple[str, Told | None]:
    """Write the files of `run`, and return what is live in one line and its loss; None: nothing is live.

    Raises:
        Misuse: as `run`, but for GitHub.
    """
    seen = deployment.look(project)
    try:
        live = look(project, say)
    except Misuse as error:  # what is live is told all the same
        page.write(project, seen, None, f"its live loss is not known: {error}")
        deployment.run(project, _section(f"Not known: {escape(str(error))}"), seen)
        raise
    if live:
        page.write(project, seen, live.state, live.line, live.measured, live.counts, live.explained)
    else:
        page.write(project, seen)
    return deployment.run(project, _sections(live) if live else "", seen), live


def _section(text: str, title: str = "Live loss") -> str:
    return f"\n## {title}\n\n{text}\n"


def _sections(live: Told) -> str:
    text = _section(live.text) + _section(wording.moved(live.explained), "What moved")
    return text if live.explained.why else text + _section(wording.segments(live.explained), "Segments")


def _kept(project: Project, live: Told) -> str:
    """The one issue: open while there is an alarm. While too little is known, it stays as it is."""
    if live.state == "alarm":
        run_of = f"\nSeen by {project.environment.run_url}.\n" if project.environment.run_url else ""
        body = f"{live.text}\n\n{HOW}\n\n{MEASURED}\n{run_of}"
        return called(project, TITLE, live.line, lambda: tell(GitHub(project.environment), TITLE, body, AGAIN))
    over = f"It is over: {live.line}."
    return called(project, TITLE, over, lambda: closed(project, TITLE, over) or "no issue is open")


def closed(project: Project, title: str, why: str) -> str:
    """Close the issues of a title; empty if none is open."""
    return "its issue is closed" if close(GitHub(project.environment), title, why) else ""


def called(project: Project, title: str, text: str, keep: Callable[[], str]) -> str:
    """Keep an issue, and where MONITOR_WEBHOOK is set tell a chat whenever it opens or closes.

    Raises:
        Misuse: GitHub or the webhook says no. The chat is told of what GitHub does not take.
    """
    url = project.environment.webhook
    try:
        said = keep()
    except Misuse as error:
        if url:
            send(url, title, f"{text} Its issue could not be written: {error}", project.environment.run_url)
        raise
    if url and said.startswith(("opened", "its issue is closed")):
        send(url, title, text, project.environment.run_url)
        return f"{said}; the webhook is told"
    return said


def look(project: Project, say: Callable[[str], None]) -> Told | None:
    """The live loss and what may explain it; None: nothing is live.

    Raises:
        Misuse: log or labels are named and cannot be read.
    """
    try:
        champion = ledger_of(project).champion()
    except Misuse:
        return None  # the state of the ledger is told by itself
    if champion is None:
        return None
    try:
        return _told(project, champion, say)
    except predictions.NoLog as why:
        return _unknown(str(why), Explained(str(why)))


def _unknown(why: str, about: Explained, counts: tuple[str, ...] = ()) -> Told:
    text = _text([f"Not known: {escape(why)}.", *([""] if counts else [])], counts, about)
    return Told(None, f"its live loss is not known: {why}", text, about, counts)


def _told(project: Project, champion: Champion, say: Callable[[str], None]) -> Told:
    """Raises NoLog: there is no log, or nothing in it."""
    data, rule = project.params.data, project.params.monitor
    bundle = ledger_of(project).bundle(champion)
    asked, now = bundle.asked, pd.Timestamp.now("UTC")
    given = labels.read(project) if rule.labels else None
    by = data.key if given is None else labels.key_columns(given)
    log = predictions.read(project, Asked(by, asked["task"] == "multiclass", explained.wanted(project, bundle)), now)
    log = log_rows.sound(log, champion.key, asked["task"], len(asked["classes"]))
    if not len(log.rows):
        refused = int(log.refusals["count"].sum())
        found = ((log.damaged, DAMAGED), (log.future, FUTURE), (log.others, OTHERS), (refused, REFUSED))
        besides = [f"{what}: {count:,}" for count, what in found if count]
        raise predictions.NoLog("; ".join(["the log holds no prediction", *besides]))
    said = labels.read(project) if given is None else given
    joined = labels.joined(log.rows, said, asked["classes"], log.labels)
    block = loss.block_of(project.params.gate)
    live = loss.live(joined, log.rows, champion.key, asked["task"], block)
    then: loss.Then | loss.Untold
    try:
        say("monitor   scores the holdout of the champion, to compare (some seconds)")
        then = loss.then(project, champion, bundle)
    except loss.Untold as untold:
        then = untold
    about = explained.explain(project, champion, bundle, log, joined, then, now)
    counts = _counts(log, joined, told_apart=rule.labels is not None)
    if not len(live.loss):
        why = f"{len(log.rows):,} predictions, and fewer than {loss.ROWS} of this model have a label"
        return _unknown(why, about, counts)
    if isinstance(then, loss.Untold):
        return _unknown(str(then), about, counts)
    promise = loss.promised(project, then)
    seen = watch(
        promise.loss,
        live.loss,
        live.number,
        year=loss.a_year(block),
        budget=rule.false_alarms,
        tolerance=rule.tolerance,
    )
    name = loss.metric_of(asked["task"])
    line = f"its {name} {SAYS[seen.state]} ({_window(seen.recent[-1])}; promised {_window(seen.promised)})"
    text = _text([*_table(seen, name, block, rule.false_alarms), ""], counts, about)
    return Told(seen.state, line, text, about, counts, page.Measured(name, block, rule.false_alarms, live, seen))


def _text(lines: list[str], counts: tuple[str, ...], about: Explained) -> str:
    return "\n".join([*lines, *(f"- {line}" for line in (*wording.few(about), *counts))])


def _table(seen: Watch, name: str, block: params.Block, budget: float) -> list[str]:
    text = [f"**The {name} {SAYS[seen.state]}**", ""]
    text += ["| | blocks | mean | 95 % bounds |", "|---|--:|--:|---|"]
    for what, window in (
        ("promised, on the holdout", seen.promised),
        *((f"last {w.days} days", w) for w in seen.recent),
    ):
        text.append(f"| {what} | {window.blocks} | {window.mean:.4g} | {wording.bounds(window)} |")
    shown = f"{seen.evidence:.2f}" if isfinite(seen.evidence) else "none"
    evidence = f"Evidence {shown} of {seen.threshold:.2f}, as decimal logarithms"
    promise = f"at most {budget:.0%} of the years without a change have an alarm"
    text += ["", f"- The unit is {units.named(block)}. {evidence}: {promise}"]
    if seen.visible is not None and seen.state != "alarm":
        text.append(
            f"- A lasting rise of {seen.visible:.3g} since it is live would show by now in about half of the cases"
        )
    return text


def _counts(log: log_rows.Read, found: labels.Joined, told_apart: bool) -> tuple[str, ...]:
    """What was read, and what of it counts for nothing.

    Args:
        told_apart: whether labels are in a place of their own; most rows of the data were never asked for.
    """
    told = [f"predictions: {len(log.rows):,}; with a label: {len(found.rows):,}; without: {found.waiting:,}"]
    for count, what in (
        (log.repeated, "lines of the log that repeat an id"),
        (log.damaged, DAMAGED),
        (log.future, FUTURE),
        (log.others, OTHERS),
        (found.repeated, "labels that were given before"),
        (found.contradicting, "predictions with labels that contradict each other"),
        (found.unasked + (found.unknown if told_apart else 0), "labels without a prediction"),
        (found.unusable, "labels without a key, or that are no class of the model, or no number"),
    ):
        told += [f"{what}: {count:,}"] if count else []
    return tuple(told)


def _window(window: Window) -> str:
    days = f" in {window.days} days" if window.days else ""
    return f"{window.mean:.4g}{days}"
