"""The decision for people: Markdown for a pull request, and one HTML page with pictures that needs no network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from pydantic import ValidationError

from . import compare, mermaid, pictures, since, words
from .errors import Misuse
from .files import read_json, to_json, write_text
from .metrics import Labels, chosen
from .pictures import Scores
from .project import Project
from .words import Json, escape, interval, number, plain, verdict
from .workflow import annotate, summarise

LINES = 20  # what Markdown shows of a list
SEGMENTS = 24  # of which the page has a picture; its table has them all

AXES = {
    "binary": ("predicted probability", "share that came true"),
    "multiclass": ("probability of the likeliest class", "share that was right"),
    "regression": ("predicted", "actual"),
}
CALIBRATED = (
    "Can its probabilities be taken at their word?",
    "Calibration. Each point is a group of rows of similar prediction; on the diagonal, what was predicted is what "
    "happened. The thin bars are 95 % Wilson intervals.",
)
CAPTIONS = {  # title and caption of the pictures of each task
    "binary": (
        (
            "Does it find the right rows?",
            "ROC curve. The more it bends to the upper left, the better the model tells the two classes apart; the "
            "grey diagonal is a guess.",
        ),
        CALIBRATED,
    ),
    "multiclass": (
        (
            "Which classes does it find?",
            "Recall. For each class the share of its rows that the model gives that class, with 95 % Wilson intervals; "
            f"of more than {pictures.CLASSES} classes, those with most rows.",
        ),
        CALIBRATED,
    ),
    "regression": (
        (
            "Do its numbers come true on average?",
            "Calibration. Each point is a group of rows of similar prediction; on the diagonal, what was predicted is "
            "what happened on average. The thin bars are 95 % intervals of that average.",
        ),
        (
            "How far off is it?",
            "Each point is the median error of such a group, each bar holds the middle 80 % of its errors. Above zero "
            "the model predicts too little; the shorter the bars, the closer it comes.",
        ),
    ),
}


def markdown(
    validation: Json, decision: Json | None = None, made: Json | None = None, before: Json | None = None
) -> str:
    """The report as Markdown; its first line is the verdict.

    Args:
        validation: build/validation.json.
        decision: build/decision.json, or None if it did not come to one.
        made: lineage of the candidate, or None; see since.read.
        before: lineage of the champion, or None.
    """
    outcome, reason = verdict(validation, decision)
    text = [f"**Verdict: {outcome}** — {escape(reason)}", ""]
    if decision and validation["passed"]:
        judged = decision["decision"]
        names = {guard["name"]: column_of(plain(guard["name"]))[1] for guard in judged["guards"]}
        text += _flags(decision) + _metrics(judged) + mermaid.gains(judged, names) + _guards(judged)
        for floor in judged["floors"]:
            text.append(f"- Floor: {escape(floor['metric'])} {number(floor['value'])}, {words.floor_line(floor)}")
        text.append(f"- Rows: {words.rows_used(decision)}")
    text += [f"- Data: {words.data_state(validation)}, {words.data_verdict(validation)}"]
    text += _listed(validation["failures"], "  - ")
    if decision and validation["passed"]:
        text += [f"- Cost: {escape(line)}; that decides nothing" for line in decision["warnings"]]
        text += _since(decision, made, before)
    footer = " · ".join(f"{escape(n)} {escape(v)}" for n, v in words.lineage(validation, decision, made).items())
    return "\n".join([*text, "", f"<sub>{footer}</sub>", ""])


def _listed(lines: list[Any], begin: str) -> list[str]:
    more = [f"{begin}and {len(lines) - LINES} more"] if len(lines) > LINES else []
    return [f"{begin}{escape(line)}" for line in lines[:LINES]] + more


def _flags(decision: Json) -> list[str]:
    """What else the change touches, as an alert of GitHub's, and whose rule decided."""
    text = []
    if decision["flags"]:
        text += ["> [!WARNING]", "> Look at this before you follow the verdict:", ">"]
        text += [*_listed(decision["flags"], "> - "), ""]
    whose = words.judged_by(decision)
    return [*text, escape(whose), ""] if whose else text


def _metrics(judged: Json) -> list[str]:
    """The table of the metrics; without a champion there is the challenger's own interval."""
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
    confidence = words.percent(judged["confidence"])
    favour = "" if alone else "Positive gains favour the challenger. "
    return [*text, "", f"{favour}Each bound holds with {confidence} confidence.", ""]


def _guards(judged: Json) -> list[str]:
    """One line where all hold, with the rest folded away; else the table."""
    if not judged["guards"]:
        return []
    guards = words.by_urgency(judged["guards"])
    line, first = words.guards_line(guards), guards[0]
    table = ["| guard | rows | champion | challenger | gain | interval | tolerated | |"]
    table += ["|---|--:|--:|--:|--:|:-:|---|---|"]
    for guard in guards[:LINES]:
        theirs, ours = words.values(guard)
        segment = guard["kind"] == "segment"
        cells = [
            escape(guard["name"], 80),
            f"{guard['rows']:,}",
            number(theirs),
            number(ours),
            number(guard["gain"], "+") if segment else "",
            interval(guard["gain_low"], guard["gain_high"], "+") if segment else "",
            words.tolerated(guard),
            "holds" if guard["holds"] else "**broken**",
        ]
        table.append(f"| {' | '.join(cells)} |")
    if len(guards) > LINES:
        table += ["", f"The page shows the other {len(guards) - LINES}."]
    if not first["holds"]:
        return [f"**Guards**: {line}", "", *table, ""]
    line += f"; closest: {escape(words.closest(first))}"
    folded = ["<details><summary>The guards in numbers</summary>", "", *table, "", "</details>"]
    return [f"**Guards**: {line}", "", *folded, ""]


def _since(decision: Json, made: Json | None, before: Json | None) -> list[str]:
    """What changed since the champion, as a table."""
    if not decision["champion"]:
        return []
    text = ["", "**What changed since the champion**", ""]
    if made is None or before is None:
        return [*text, f"{unknown(made)}."]
    found = since.changes(before, made)
    if found:
        text += ["| | champion | challenger |", "|---|---|---|"]
        for change in found[: 2 * LINES]:
            name, then, now = (escape(value, 80) for value in change[1:])
            text.append(f"| {change.part}: {name} | {then} | {now} |")
        text += ["", f"And {len(found) - 2 * LINES} more, on the page."] if len(found) > 2 * LINES else []
        text.append("")
    return [*text, *(f"{line}." for line in unchanged(found, decision))]


def unknown(made: Json | None) -> str:
    return f"It is not known: the lineage of the {'challenger' if made is None else 'champion'} is not there"


def unchanged(found: list[since.Change], decision: Json) -> list[str]:
    """What is the same in both models, and who says so."""
    same = [part for part in since.PARTS if part not in {change.part for change in found}]
    said = [f"The same: {', '.join(same)}"] if same else []
    # Where the base judges, the challenger was made by a job that runs the code of the pull request.
    doubt = "The challenger's side is what the job of the pull request says of it"
    return said + [doubt] * (decision["rule_of"] == "the base")


def unusable(y: Labels, predicted: Any, task: str = "binary") -> str | None:
    """Why there are no curves of these predictions."""
    if not len(y):
        return "there are no rows"
    if task == "binary" and len(np.unique(y)) < 2:
        return f"the {len(y):,} rows hold only one class"
    good = np.isfinite(predicted) if task == "regression" else (predicted >= 0) & (predicted <= 1)
    bad = len(y) - int(np.sum(good if good.ndim == 1 else good.all(axis=1)))
    what = "numbers" if task == "regression" else "probabilities"
    return f"{bad:,} of its {len(y):,} predictions are not {what}" if bad else None


def figures(task: str, y: Labels, models: Scores, names: list[str]) -> tuple[list[Json], dict[str, Any]]:
    """The pictures of the predictions with title and caption, and the groups of rows that they show.

    Args:
        task: of the gate.
        y, models: labels, and predictions by role.
        names: of the classes.
    """
    groups = {role: pictures.groups(*_calibrated(task, y, predicted)) for role, predicted in models.items()}
    axes = AXES[task]
    drawn = [pictures.calibration(groups, *axes, numbers=task == "regression")]
    if task == "binary":
        drawn = [pictures.ranking(y, models), *drawn]
    elif task == "multiclass":
        drawn = [pictures.recalls(y, models, names), *drawn]
    else:
        drawn.append(pictures.errors({role: pictures.spread(y, predicted) for role, predicted in models.items()}))
    return [
        {"title": title, "caption": caption, "svg": svg}
        for (title, caption), svg in zip(CAPTIONS[task], drawn, strict=True)
    ], groups


def _calibrated(task: str, y: Labels, predicted: Any) -> tuple[Labels, Any]:
    """What came true, and what was predicted of it; of several classes it is whether the likeliest one is right."""
    if task != "multiclass":
        return y, predicted
    return (chosen(predicted) == y).astype(np.int64), predicted.max(axis=1)


def column_of(name: str) -> tuple[str, str]:
    """Column and value of a segment, as guards.segment names them."""
    found = re.fullmatch(r"(.+?) (= .*|missing|up to \S+|above \S+|\S+ to \S+)", name, re.DOTALL)
    return (found[1], found[2].removeprefix("= ")) if found else ("", name)


def forest(judged: Json) -> str | None:
    """The picture of the segments, of many the most urgent ones; None where there are none."""
    urgent = [guard for guard in words.by_urgency(judged["guards"]) if guard["kind"] == "segment"][:SEGMENTS]
    shown = [(*column_of(plain(guard["name"])), guard) for guard in judged["guards"] if guard in urgent]
    over_all = next(m for m in judged["metrics"] if m["name"] == judged["metric"])
    return pictures.forest(shown, shown[0][2]["margin"], over_all) if shown else None


def class_names(judged: Json, made: Json | None) -> list[str]:
    """The classes as the challenger's lineage names them, else their numbers."""
    count, named = len(judged["class_counts"]), (made or {}).get("classes")
    if isinstance(named, list) and len(named) == count:
        return [plain(name) for name in named]
    return [f"class {place}" for place in range(count)]


def page(
    validation: Json,
    decision: Json | None = None,
    made: Json | None = None,
    scored: tuple[Labels, Scores] | str = "they were not read",
    title: str = "model",
    before: Json | None = None,
) -> str:
    """The report as an HTML page.

    Args:
        validation, decision, made, before: as for ``markdown``.
        scored: labels and predictions of the judged rows by role (champion if there is one, challenger), or in words
            why there are none.
        title: what the model is called.
    """
    outcome, reason = verdict(validation, decision)
    judged = decision["decision"] if decision and validation["passed"] else None
    shown: Json = {"notes": [], "figures": [], "groups": {}}
    if judged:
        shown |= _shown(judged, made, scored)
    if judged and decision["champion"] and made and before:
        shown["changes"] = since.changes(before, made)
        shown["unchanged"] = unchanged(shown["changes"], decision)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters |= {"plain": plain, "svg": Markup}
    tone, headline, sentence = words.MEANING[outcome]
    return environment.from_string(Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8")).render(
        title=title,
        outcome=outcome,
        reason=reason,
        when=(decision or validation)["created"].replace("T", " ").replace("Z", " UTC"),
        tone=tone,
        headline=headline,
        sentence=sentence,
        validation=validation,
        decision=decision,
        judged=judged,
        shown=shown,
        unknown=unknown(made),
        words=words,
        SEGMENTS=SEGMENTS,
        number=lambda *given: number(*given).replace("-", "−"),
        interval=lambda *given: interval(*given).replace("-", "−"),
        lineage=words.lineage(validation, decision, made),
    )


def _shown(judged: Json, made: Json | None, scored: tuple[Labels, Scores] | str) -> Json:
    """What the page shows of a verdict: metrics, guards and pictures."""
    # The metric that decides first; with it the eye gets the verdict.
    metrics = sorted(judged["metrics"], key=lambda m: m["name"] != judged["metric"])
    compared = [m for m in metrics if m["gain"] is not None]
    names = {m["name"]: plain(words.metric_name(m["name"])) for m in metrics}
    shown: Json = {
        "metrics": metrics,
        "names": names,
        "differences": compared and pictures.differences(compared, judged, names),
        "guards": words.by_urgency(judged["guards"]),
        "forest": forest(judged),
        "notes": [f"There are no curves: {scored}."] if isinstance(scored, str) else [],
    }
    if isinstance(scored, str):
        return shown
    reasons = {role: unusable(scored[0], predicted, judged["task"]) for role, predicted in scored[1].items()}
    shown["notes"] = [f"There are no curves of the {role}: {why}." for role, why in reasons.items() if why]
    usable = {role: predicted for role, predicted in scored[1].items() if not reasons[role]}
    if usable:
        shown["figures"], shown["groups"] = figures(judged["task"], scored[0], usable, class_names(judged, made))
    return shown


def judged_rows(project: Project, decision: Json) -> tuple[Labels, Scores]:
    """Labels and predictions of the rows that were judged, as compare wrote them down."""
    rows = compare.read_judged(project)
    roles = ("champion", "challenger") if decision["champion"] else ("challenger",)
    return rows["label"], {role: rows[role] for role in roles}


HEADER = {"commit": str, "dirty": bool, "created": str, "data_sha256": str}
VALIDATION = {**HEADER, "passed": bool, "failures": list, "expectations": list, "columns": list}
DECISION = {
    **HEADER,
    "challenger": dict,
    "decision": dict,
    "decisions_before": int,
    "flags": list,
    "holdout_rows": int,
    "left_out.altered": int,
    "left_out.champion_trained": int,
    "rule_of": str,
    "warnings": list,
}


def run(project: Project) -> str:
    """Write build/report.md and build/report.html; in a workflow the Markdown also goes to the job's summary.

    Raises:
        Misuse: there is no validation.json, or a file of the run is damaged.
    """
    validation = read_json(project.build / "validation.json", "validate", VALIDATION)
    path, decision, made, before = project.build / "decision.json", None, None, None
    if validation["passed"] and path.is_file():
        decision = read_json(path, "compare", DECISION)
        try:
            compare.Decision.model_validate_json(to_json(decision["decision"]))
        except ValidationError as error:
            key = ".".join(map(str, error.errors()[0]["loc"]))
            raise Misuse(f"{path}: damaged, its `decision.{key}`; delete it and run `make compare`") from None
        if decision["data_sha256"] != validation["data_sha256"]:
            decision = None  # about data that were there before
    if decision:
        made = since.read(project.build / "candidate", words.challenger_key(decision))
        before = since.read(project.build / "champion", decision["champion"]["key"]) if decision["champion"] else None
    scored = judged_rows(project, decision) if decision else "nothing was judged"
    text = markdown(validation, decision, made, before)
    write_text(project.build / "report.md", text)
    html = page(validation, decision, made, scored, __package__ or "model", before)
    write_text(project.build / "report.html", html)
    summarise(project.environment, text)
    outcome, reason = verdict(validation, decision)
    level = {"bad": "error", "warn": "warning"}.get(words.MEANING[outcome][0], "notice")
    annotate(project.environment, level, f"Verdict: {outcome}", plain(reason))
    where = (project.build / "report.html").relative_to(project.root).as_posix()
    return f"{outcome}: {where}"
