"""The decision for people: Markdown for a pull request, and one HTML page with pictures that needs no network."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from . import compare, pictures
from .errors import Misuse
from .files import read_json, write_text
from .metrics import METRICS
from .pictures import Labels, Scores
from .project import Project

Json = dict[str, Any]
LINES, LENGTH = 20, 300  # what a comment shows of failures, and of each text that comes from the data

# What each outcome means to somebody who has never seen the gate: a tone, a headline and a sentence.
MEANING = {
    "bootstrap": ("good", "A first champion", "There is nothing to beat yet, and this model keeps to every limit."),
    "promote": ("good", "The challenger wins", "It passed every test of the gate, so it may become the champion."),
    "keep": ("even", "The champion stays", "What was measured does not show that replacing it would help."),
    "block": ("bad", "The challenger is blocked", "It may not become the champion."),
    "incomparable": ("warn", "A person has to decide", "The two models cannot be compared on these rows."),
    "data refused": ("bad", "The data were refused", "They break the data contract, so no model was judged by them."),
    "none": ("warn", "No decision", "The run ended before any model was judged."),
}
# A metric that you add may go by its own name.
NAMES = {
    "roc_auc": ("ROC AUC", "how often a positive row gets a higher score than a negative one; a guess gets 0.5"),
    "log_loss": ("Log loss", "how surprised the model is by what happens; bold mistakes cost most"),
    "brier": ("Brier score", "mean squared distance of the predicted probability from what happens"),
    "accuracy": ("Accuracy", "share of rows on the right side of one half"),
}


def verdict(validation: Json, decision: Json | None) -> tuple[str, str]:
    """The outcome and its reason."""
    if not validation["passed"]:
        return "data refused", (validation["failures"] or ["no reason was given"])[0]
    if decision is None:
        return "none", "the data passed, but the run ended before a decision; its log says why"
    return decision["decision"]["outcome"], decision["decision"]["reason"]


def plain(value: Any) -> str:
    """One line of printable text of limited length, whatever a column or category is called."""
    text = " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
    return text if len(text) <= LENGTH else text[:LENGTH] + "…"


def escape(value: Any) -> str:
    """``plain`` text that Markdown shows as it is: no table cell, tag, code, emphasis, link or mention begins in it."""
    text = plain(value).replace("@", "@\u200b")  # with the invisible space nobody gets a notification
    special = r"[&<>|`*\\~$]|\](?=[(\[])|:(?=//)|(?<=www)\.|(?<![^\W_])_|_(?![^\W_])"
    return re.sub(special, lambda found: f"&#{ord(found[0])};", text)


def number(value: float | None, sign: str = "") -> str:
    return "–" if value is None else format(value, f"{sign}.4f")


def interval(low: float | None, high: float | None, sign: str = "") -> str:
    return "" if low is None or high is None else f"{number(low, sign)} to {number(high, sign)}"


def data_verdict(validation: Json) -> str:
    """How many expectations held, in words."""
    checked = validation["expectations"]
    held = f"{sum(e['passed'] for e in checked)} of {len(checked)} expectations hold" if checked else "none was checked"
    return held if validation["rows"] is None else f"{held} on {validation['rows']:,} rows"


def rows_used(decision: Json) -> str:
    judged, left_out = decision["decision"], decision["left_out"]
    reasons = {
        "champion_trained": "because the champion was trained on them",
        "altered": "because the base holds them out with other content",
    }
    why = [f"{left_out[name]:,} {reason}" for name, reason in reasons.items() if left_out[name]]
    counts = f" ({classes(judged)})" if judged["class_counts"] else ""
    return (
        f"{judged['rows']:,}{counts} of {decision['holdout_rows']:,} held out"
        + (f"; left out are {' and '.join(why)}" if why else "")
        + f"; {decision['decisions_before']} models were judged on these rows before"
    )


def classes(judged: Json) -> str:
    """How many rows of each class there are, in words."""
    counts = judged["class_counts"]
    return f"{counts[1]:,} of them positive" if judged["task"] == "binary" else f"of {len(counts)} classes"


def lineage(validation: Json, decision: Json | None, made: Json | None) -> dict[str, str]:
    """What the verdict was drawn from, by name; of the candidate's lineage only if it is the challenger's."""
    header = decision or validation
    found = {"commit": header["commit"][:12] + (" with uncommitted changes" if header["dirty"] else "")}
    found["data"] = header["data_sha256"][:12]
    if decision and validation["passed"]:
        found["challenger"] = decision["challenger"]["key"][:12]
        champion = decision["champion"]
        found["champion"] = f"{champion['key'][:12]} (event {champion['event']})" if champion else "none"
        if made and made.get("key", decision["challenger"]["key"]) == decision["challenger"]["key"]:
            found["MLflow run"] = made.get("mlflow_run")
            found |= made.get("versions", {})
            found["parameters"] = json.dumps(made.get("params"), ensure_ascii=False)
    return {name: str(value) for name, value in found.items() if value}


def markdown(validation: Json, decision: Json | None = None, made: Json | None = None) -> str:
    """The report as Markdown; its first line is the verdict.

    Args:
        validation: build/validation.json.
        decision: build/decision.json, or None if it did not come to one.
        made: lineage.json of the candidate, or None.
    """
    outcome, reason = verdict(validation, decision)
    text = [f"**Verdict: {outcome}** — {escape(reason)}", ""]
    if decision and validation["passed"]:
        judged = decision["decision"]
        text += ["| metric | champion | challenger | gain | interval of the gain |", "|---|--:|--:|--:|:-:|"]
        for m in judged["metrics"]:
            name = f"**{escape(m['name'])}** (decides)" if m["name"] == judged["metric"] else escape(m["name"])
            gain, bounds = number(m["gain"], "+"), interval(m["gain_low"], m["gain_high"], "+")
            text.append(f"| {name} | {number(m['champion'])} | {number(m['challenger'])} | {gain} | {bounds} |")
        text += ["", f"Positive gains favour the challenger; each bound holds with {certain(judged)}.", ""]
        for floor in judged["floors"]:
            text.append(f"- Floor: {escape(floor['metric'])} {number(floor['value'])}, {floor_line(floor)}")
        text.append(f"- Rows: {rows_used(decision)}")
    text += [f"- Data: {'passed' if validation['passed'] else 'refused'}, {data_verdict(validation)}"]
    text += [f"  - {escape(line)}" for line in validation["failures"][:LINES]]
    if len(validation["failures"]) > LINES:
        text += [f"  - and {len(validation['failures']) - LINES} more"]
    footer = " · ".join(f"{escape(n)} {escape(v)}" for n, v in lineage(validation, decision, made).items())
    return "\n".join([*text, "", f"<sub>{footer}</sub>", ""])


def certain(judged: Json) -> str:
    return f"{100 * judged['confidence']:.4g} %"


def floor_line(floor: Json) -> str:
    higher = floor["metric"] not in METRICS or METRICS[floor["metric"]].higher_is_better
    return f"{'holds' if floor['holds'] else 'does not hold'}: at {'least' if higher else 'most'} {floor['floor']:g}"


def unusable(y: Labels, predicted: Any) -> str | None:
    """Why there are no curves of these predictions."""
    if not len(y) or len(np.unique(y)) < 2:
        return f"the {len(y):,} rows hold only one class" if len(y) else "there are no rows"
    bad = len(y) - int(np.sum((predicted >= 0) & (predicted <= 1)))
    return f"{bad:,} of its {len(y):,} predictions are not probabilities" if bad else None


def page(
    validation: Json,
    decision: Json | None = None,
    made: Json | None = None,
    scored: tuple[Labels, Scores] | str = "they were not read",
    title: str = "model",
) -> str:
    """The report as an HTML page.

    Args:
        validation, decision, made: as for ``markdown``.
        scored: labels and predictions of the judged rows by role (champion if there is one, challenger), or in words
            why there are none.
        title: what the model is called.
    """
    outcome, reason = verdict(validation, decision)
    judged = decision["decision"] if decision and validation["passed"] else None
    names = {m["name"]: NAMES.get(m["name"], (m["name"], ""))[0] for m in judged["metrics"]} if judged else {}
    shown: Json = {"notes": [], "groups": {}}
    if judged:
        # The metric that decides first; with it the eye gets the verdict.
        metrics = sorted(judged["metrics"], key=lambda m: m["name"] != judged["metric"])
        compared = [m for m in metrics if m["gain"] is not None]
        shown |= {"metrics": metrics, "differences": compared and pictures.differences(compared, judged, names)}
        if isinstance(scored, str):
            shown["notes"].append(f"There are no curves: {scored}.")
        else:
            y, usable = scored[0], {}
            for role, predicted in scored[1].items():
                why = unusable(y, predicted)
                usable |= {} if why else {role: predicted}
                shown["notes"] += [f"There are no curves of the {role}: {why}."] if why else []
            if usable:
                shown["groups"] = {role: pictures.groups(y, predicted) for role, predicted in usable.items()}
                shown |= {"ranking": pictures.ranking(y, usable), "calibration": pictures.calibration(shown["groups"])}
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters |= {"plain": plain, "svg": Markup}
    tone, headline, sentence = MEANING[outcome]
    return environment.from_string(Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8")).render(
        title=title,
        outcome=outcome,
        reason=reason,
        when=(decision or validation)["created"].replace("T", " ").replace("Z", " UTC"),
        tone=tone,
        headline=headline,
        sentence=sentence,
        validation=validation,
        data_verdict=data_verdict(validation),
        decision=decision,
        rows_used=rows_used(decision) if judged else "",
        judged=judged,
        shown=shown,
        names=names,
        certain=certain,
        explained=NAMES,
        floor_line=floor_line,
        number=lambda *given: number(*given).replace("-", "−"),
        interval=lambda *given: interval(*given).replace("-", "−"),
        lineage=lineage(validation, decision, made),
    )


def judged_rows(project: Project, decision: Json) -> tuple[Labels, Scores]:
    """Labels and predictions of the rows that were judged, as compare wrote them down."""
    rows = compare.read_judged(project)
    roles = ("champion", "challenger") if decision["champion"] else ("challenger",)
    return rows["label"], {role: rows[role] for role in roles}


def run(project: Project) -> str:
    """Write build/report.md and build/report.html; in a workflow the Markdown also goes to the job's summary.

    Raises:
        Misuse: there is no validation.json, or a file of the run is damaged.
    """
    validation = read_json(project.build / "validation.json", made_by="validate")
    path, decision, made = project.build / "decision.json", None, None
    if validation["passed"] and path.is_file():
        decision = read_json(path, made_by="compare")
        if decision["data_sha256"] != validation["data_sha256"]:
            decision = None  # about data that were there before
    if decision and (project.build / "candidate" / "lineage.json").is_file():
        made = read_json(project.build / "candidate" / "lineage.json", made_by="train")
    scored = judged_rows(project, decision) if decision else "nothing was judged"
    text = markdown(validation, decision, made)
    write_text(project.build / "report.md", text)
    write_text(project.build / "report.html", page(validation, decision, made, scored, __package__ or "model"))
    if project.environment.summary:
        try:
            with open(project.environment.summary, "a", encoding="utf-8") as summary:
                summary.write(text)
        except OSError as error:
            raise Misuse(f"GITHUB_STEP_SUMMARY: cannot be written: {error.strerror}; unset it") from None
    where = (project.build / "report.html").relative_to(project.root).as_posix()
    return f"{verdict(validation, decision)[0]}: {where}"
