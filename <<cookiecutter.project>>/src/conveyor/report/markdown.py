"""The report as Markdown: for the comment on a pull request and the summary of a job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from conveyor.core.ci import Where
from conveyor.report import changed, evidence, mermaid, wording
from conveyor.report.headline import headline
from conveyor.report.wording import (
    NO_FLOOR,
    Json,
    column_of,
    escape,
    interval,
    number,
    plain,
    unchanged,
    unknown,
    verdict,
)

LINES = 20  # lines of a list in Markdown


def markdown(
    validation: Json,
    decision: Json | None = None,
    made: Json | None = None,
    before: Json | None = None,
    origin: Sequence[Where] = (),
) -> str:
    """The report as Markdown; its first line is the verdict.

    Args:
        validation: build/validation.json.
        decision: build/decision.json, or None if there was no decision.
        made: lineage of the candidate, or None; see changed.read.
        before: lineage of the champion, or None.
        origin: pull request, branch and commits, see ci.origin.
    """
    outcome, reason = verdict(validation, decision)
    said = headline(validation, decision)
    text = [f"**Verdict: {outcome}** — {escape(reason)}", "", f"**{said.title}.** {said.sentence}", ""]
    if decision and validation["passed"]:
        judged = decision["decision"]
        names = {guard["name"]: column_of(plain(guard["name"]))[1] for guard in judged["guards"]}
        text += _flags(decision) + _metrics(judged) + mermaid.gains(judged, names) + _guards(judged)
        text += [f"- Floor: none is set; {NO_FLOOR}"] if not judged["floors"] else []
        for floor in judged["floors"]:
            text.append(f"- Floor: {escape(floor['metric'])} {number(floor['value'])}, {wording.floor_line(floor)}")
        text.append(f"- Rows: {wording.rows_used(decision)}")
        units = evidence.units_line(judged)
        text += [f"- Units: {escape(units)}"] if units else []
        threshold = wording.threshold_line(judged["threshold"], judged["balance"], "the challenger")
        text += [f"- Threshold: {threshold}"] if threshold else []
        text += [f"- Look: {line}"] if (line := wording.look(decision)) else []
        unwatched = evidence.unwatched(decision)
        text += ["- What no guard looked at:", *_listed(unwatched, "  - ")] if unwatched else []
    text += [f"- Data: {wording.data_state(validation)}, {wording.data_verdict(validation)}"]
    text += _listed(validation["failures"], "  - ")
    if decision and validation["passed"]:
        text += [f"- Cost: {escape(line)}; that decides nothing" for line in decision["warnings"]]
        text += _since(decision, made, before)
    urls = {where.name: where.url for where in origin if where.url}
    lines = wording.lineage(validation, decision, made, origin).items()
    footer = " · ".join(f"{escape(n)} {_linked(v, urls.get(n))}" for n, v in lines)
    return "\n".join([*text, "", f"<sub>{footer}</sub>", ""])


def _linked(text: str, url: str | None) -> str:
    """Text, as a link if there is an address; a bracket in it would end the link."""
    shown = escape(text)
    return shown if url is None else f"[{shown.replace('[', '&#91;').replace(']', '&#93;')}]({url})"


def _listed(lines: list[Any], begin: str) -> list[str]:
    more = [f"{begin}and {len(lines) - LINES} more"] if len(lines) > LINES else []
    return [f"{begin}{escape(line)}" for line in lines[:LINES]] + more


def _flags(decision: Json) -> list[str]:
    """What else the change touches and what weakens the interval, as alerts of GitHub's, and whose rule decided."""
    text = []
    for said, lines in (
        ("Look at this before you follow the verdict:", decision["flags"]),
        ("Read the interval of the gain with care:", evidence.cautions(decision["decision"])),
    ):
        if lines:
            text += ["> [!WARNING]", f"> {said}", ">", *_listed(lines, "> - "), ""]
    whose = wording.judged_by(decision)
    return [*text, escape(whose), ""] if whose else text


def _metrics(judged: Json) -> list[str]:
    """The table of the metrics; without a champion it has the challenger's own interval."""
    alone = all(m["champion"] is None for m in judged["metrics"])
    if alone:
        text = ["| metric | challenger | interval |", "|---|--:|:-:|"]
    else:
        text = ["| metric | champion | challenger | gain | interval of the gain |", "|---|--:|--:|--:|:-:|"]
    for m in judged["metrics"]:
        name = f"**{escape(m['name'])}** (decides)" if m["name"] == judged["metric"] else escape(m["name"])
        cells = [name, number(m["challenger"]), interval(m["challenger_low"], m["challenger_high"])]
        if not alone:
            gain = number(m["gain"], "+"), interval(m["gain_low"], m["gain_high"], "+")
            cells = [name, number(m["champion"]), number(m["challenger"]), *gain]
        text.append(f"| {' | '.join(cells)} |")
    confidence = wording.percent(judged["confidence"])
    favour = "" if alone else "Positive gains favour the challenger. "
    return [*text, "", f"{favour}Each bound holds with {confidence} confidence.", ""]


def _guards(judged: Json) -> list[str]:
    """One line if all hold without a doubt, with the rest folded away; else the table."""
    if not judged["guards"]:
        return ["**Guards**: none was measured", ""]
    guards = wording.by_urgency(judged["guards"])
    line, first = wording.guards_line(guards), guards[0]
    table = ["| guard | rows | champion | challenger | gain | interval | tolerated | |"]
    table += ["|---|--:|--:|--:|--:|:-:|---|---|"]
    for guard in guards[:LINES]:
        theirs, ours = wording.values(guard)
        segment, state = guard["kind"] == "segment", wording.state(guard)
        cells = [
            escape(guard["name"], 80),
            f"{guard['rows']:,}",
            number(theirs),
            number(ours),
            number(guard["gain"], "+") if segment else "",
            interval(guard["gain_low"], guard["gain_high"], "+") if segment else "",
            wording.tolerated(guard),
            "holds" if state == "holds" else f"**{wording.RESULTS[state]}**",
        ]
        table.append(f"| {' | '.join(cells)} |")
    if len(guards) > LINES:
        table += ["", f"The page shows the other {len(guards) - LINES}."]
    if wording.state(first) in ("broken", "in doubt"):
        return [f"**Guards**: {line}", "", *table, ""]
    line += f"; closest: {escape(wording.closest(first))}"
    folded = ["<details><summary>The guards in numbers</summary>", "", *table, "", "</details>"]
    return [f"**Guards**: {line}", "", *folded, ""]


def _since(decision: Json, made: Json | None, before: Json | None) -> list[str]:
    """What changed since the champion, as a table."""
    if not decision["champion"]:
        return []
    text = ["", "**What changed since the champion**", ""]
    if made is None or before is None:
        return [*text, f"{unknown(made)}."]
    found = changed.changes(before, made)
    if found:
        text += ["| | champion | challenger |", "|---|---|---|"]
        for change in found[: 2 * LINES]:
            name, then, now = (escape(value, 80) for value in change[1:])
            text.append(f"| {change.part}: {name} | {then} | {now} |")
        text += ["", f"And {len(found) - 2 * LINES} more, on the page."] if len(found) > 2 * LINES else []
        text.append("")
    return [*text, *(f"{line}." for line in unchanged(found, decision))]
