"""Retrain by evidence: are newer rows worth a new champion? They are proposed, or delivered, only where that is shown.

The workflow `collect` runs this verb. The look at a champion is due when 14, 28, 56, ... blocks of rows have come after
its data. Then these rows are added, and no newer ones; the pipeline trains a challenger on them, and both models are
compared on the rows of its holdout that are newer than the champion's data. What is proposed is what was compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conveyor.adopt import collect
from conveyor.core import ci
from conveyor.core.errors import Misuse, Refused
from conveyor.core.files import read_json, write_json, write_text
from conveyor.core.project import Project, now
from conveyor.data import source, tables, units
from conveyor.gate.metrics import METRICS, at
from conveyor.github.api import GitHub
from conveyor.github.issue import comment
from conveyor.github.propose import PROPOSAL
from conveyor.ledger.events import Champion
from conveyor.ledger.ledger import ledger_of
from conveyor.report.wording import LONG, escape
from conveyor.steps.pipeline import BY_NAME, show
from conveyor.watch import evidence, later
from conveyor.watch.loss import block_of
from conveyor.watch.monitor import TITLE

BUILD = "build/retrain"
UNPROVEN = f"{BUILD}/proposal.json"  # what becomes the proposal once it is shown to win
DAYS = 30  # in which at most monitor.retrain_most models come to be live


@dataclass(frozen=True)
class Regret:
    """What newer rows are worth.

    Attributes:
        wins: whether a challenger that has learnt them is shown to be better, and the gate would promote it.
        line: in one line.
    """

    wins: bool
    line: str


class NotDue(Misuse):
    """There is no look to be made now; the text says why."""


def run(project: Project, issue: bool = False, say: Callable[[str], None] = print) -> str:
    """Collect, and where ``monitor.retrain`` is set propose only what is shown to win.

    Args:
        issue: whether the open issue about an alarm is to be told of an attempt that has not won.

    Raises:
        Refused, Misuse: see ``collect.run``; or a step of the pipeline fails.
    """
    rule, champion = project.params.monitor, ledger_of(project).champion()
    if rule.retrain is None or champion is None or project.params.data.source is None:
        return collect.run(project, say)
    proposal = project.root / PROPOSAL
    proposal.unlink(missing_ok=True)
    try:
        look, last = _due(project, champion, say)
    except NotDue as why:
        ci.outputs(project.environment, collected="false")
        return f"no look at newer rows: {why}"
    found = _regret(project, champion, look, last)
    text = f"## Retrained on newer rows\n\n{escape(found.line, LONG)}.\n"
    write_text(project.root / BUILD / "retrain.md", text)
    ci.summarise(project.environment, text)
    if found.wins:
        told = read_json(project.root / UNPROVEN, "retrain")
        told |= {"body": f"{told['body']}\n{text}", "merge": rule.retrain == "deliver"}
        write_json(proposal, told)
        return f"{found.line}; `make propose` makes a pull request of the rows"
    ci.outputs(project.environment, collected="false")  # the last line of an output counts
    said = ""
    if issue:
        told_in = comment(GitHub(project.environment), TITLE, f"{escape(found.line, LONG)}.")
        said = f"; said in {told_in}" if told_in else ""
    undo = f"`git checkout -- {project.params.data.path} params.yaml` takes them out"
    return f"{found.line}; nothing is proposed, and the rows are in the working tree: {undo}{said}"


def _due(project: Project, champion: Champion, say: Callable[[str], None]) -> tuple[evidence.Look, int]:
    """Add the rows of the look that is due; returns it, and the last block of the champion's data.

    Raises:
        NotDue: none is due.
    """
    ledger, rule = ledger_of(project), project.params.monitor
    if ledger.pending():
        raise NotDue("a model is on its way; when it is live, rows after its data count")
    since = (pd.Timestamp(now()) - timedelta(days=DAYS)).strftime("%Y-%m-%dT%H:%M:%SZ")
    lived = sum(event.time >= since for event in ledger.lived)
    if lived >= rule.retrain_most:
        raise NotDue(f"{lived} models came to be live in {DAYS} days, and monitor.retrain_most is {rule.retrain_most}")
    try:
        last = later.last_block(project, champion, ledger.bundle(champion))
    except Misuse as why:
        raise NotDue(str(why)) from None
    known, today = later.numbered(source.frame_of(project), project.params), later.today(project.params)
    block = block_of(project.params.gate)
    if resumed := _stopped(project, known, last):
        return resumed, last
    waits: list[str] = []
    looks: list[evidence.Look] = []

    def chosen(new: pd.DataFrame) -> NDArray[np.bool_]:
        number = later.numbered(new, project.params)
        blocks = later.complete(np.concatenate([known, number]), last, today)
        due = evidence.looks(blocks)
        if not due:
            came, first = units.named(block, blocks), units.named(block, evidence.FIRST)
            waits.append(f"{came} came after the champion's data, and the first look is at {first}")
        elif int(known[known <= today].max()) - last >= due[-1].blocks:
            more = units.named(block, 2 * due[-1].blocks)
            waits.append(f"the rows of look {due[-1].number} are in the data already; the next look is at {more}")
        else:
            looks.append(due[-1])
            return number <= last + due[-1].blocks
        return np.zeros(len(new), dtype=bool)

    said = collect.run(project, say, chosen, UNPROVEN)
    if not looks:
        raise NotDue(waits[0] if waits else said)
    say(f"collect   {said}")
    return looks[0], last


def _stopped(project: Project, known: NDArray[np.int64], last: int) -> evidence.Look | None:
    """The look of an earlier run whose rows are in the working tree, and nowhere else."""
    try:
        told = read_json(project.root / UNPROVEN, "retrain", {"commit": str})
    except Misuse:
        return None
    past = known[known <= later.today(project.params)]
    have = int(past.max()) - last
    # Its last blocks may have no row.
    look = next((each for each in evidence.looks(2 * max(have, evidence.FIRST)) if each.blocks >= have > 0), None)
    changed = not project.git.succeeds("diff", "--quiet", "HEAD", "--", "params.yaml")
    return look if changed and told["commit"] == project.commit else None


def _regret(project: Project, champion: Champion, look: evidence.Look, last: int) -> Regret:
    """Train on the rows that were added, and compare.

    Raises:
        Refused, Misuse: the data break the contract, or a step fails.
    """
    newer = Project(project.root, build=BUILD)
    after = units.named(block_of(newer.params.gate), look.blocks)
    name = f"look {look.number} at champion/{champion.event:06d}, of {after} after its data"
    outcome = ""
    for step in ("validate", "train", "score", "compare"):
        try:
            show(BY_NAME[step], newer)
        except Refused as refused:
            if step != "compare":
                raise
            outcome = str(refused)
    judged = read_json(newer.build / "decision.json", "retrain")["decision"]
    verdict = f"the gate says {judged['outcome']}: {judged['reason'] if not outcome else outcome.partition(': ')[2]}"
    try:
        found = measured(newer, champion, last, look)
    except (Misuse, ValueError) as why:
        return Regret(False, f"{name}: the challenger cannot be compared: {why}; {verdict}")
    if found.low is None or found.high is None:
        return Regret(
            False,
            f"{name}: the challenger's holdout has rows of only {found.blocks} of them, too few to tell: make"
            f" split.holdout larger; {verdict}",
        )
    rule = newer.params.gate
    shown = found.low > rule.margin
    says = f"is {'' if shown else 'not '}shown to be better by more than {rule.margin:g}"
    figures = f"{rule.metric} {found.gain:+.4f} ({found.low:+.4f} to {found.high:+.4f}) on {found.rows:,} rows"
    line = f"{name}: a challenger that has learnt newer rows {says}: {figures}, level {look.level:.2g}; {verdict}"
    return Regret(shown and judged["outcome"] == "promote", line)


def measured(newer: Project, champion: Champion, last: int, look: evidence.Look) -> evidence.Shown:
    """The gain of the challenger of ``newer`` over the champion on rows of its holdout after the block ``last``.

    Raises:
        Misuse: the champion cannot score these rows.
        ValueError: the metric cannot be computed.
    """
    scores, about = tables.read(newer.build / "scores.parquet", ("row", "challenger", "champion"), made_by="score")
    if about.get("champion_error"):
        raise Misuse(str(about["champion_error"]))
    frame = source.frame_of(newer)
    number = later.numbered(frame, newer.params) - last
    after = (number[scores["row"]] > 0) & (number[scores["row"]] <= look.blocks)
    rows = scores["row"][after]
    if not len(rows):
        raise Misuse("no row of its holdout came after the champion's data")
    y = later.labels_of(newer, ledger_of(newer).bundle(champion))[rows]
    metric = at(METRICS[newer.params.gate.metric], newer.params.gate.threshold)
    return evidence.shown(metric, y, scores["challenger"][after], scores["champion"][after], number[rows], look.level)
