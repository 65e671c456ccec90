"""The report as one HTML page with pictures, which needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from conveyor.core.ci import Where
from conveyor.gate.metrics import Labels
from conveyor.report import aa as aa_section
from conveyor.report import changed, evidence, pictures, wording
from conveyor.report.headline import headline
from conveyor.report.pictures import Scores
from conveyor.report.sections import templates
from conveyor.report.wording import Json, column_of, interval, number, plain, unchanged, unknown, verdict

SEGMENTS = 24  # segments in the picture; the table has all

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


def unusable(y: Labels, predicted: Any, task: str = "binary") -> str | None:
    """Why these predictions have no curves."""
    if not len(y):
        return "there are no rows"
    if task == "binary" and len(np.unique(y)) < 2:
        return f"the {len(y):,} rows hold only one class"
    good = np.isfinite(predicted) if task == "regression" else (predicted >= 0) & (predicted <= 1)
    bad = len(y) - int(np.sum(good if good.ndim == 1 else good.all(axis=1)))
    what = "numbers" if task == "regression" else "probabilities"
    return f"{bad:,} of its {len(y):,} predictions are not {what}" if bad else None


def figures(task: str, y: Labels, models: Scores, names: list[str]) -> tuple[list[Json], dict[str, Any]]:
    """The pictures of the predictions with title and caption, and the groups of rows in them.

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
    """Outcome and prediction for the calibration; for several classes, whether the likeliest one is right."""
    if task != "multiclass":
        return y, predicted
    return (predicted.argmax(axis=1) == y).astype(np.int64), predicted.max(axis=1)


def forest(judged: Json) -> str | None:
    """The picture of the segments, the most urgent ones if there are many; None if there are none."""
    urgent = [guard for guard in wording.by_urgency(judged["guards"]) if guard["kind"] == "segment"][:SEGMENTS]
    shown = [(*column_of(plain(guard["name"])), guard) for guard in judged["guards"] if guard in urgent]
    over_all = next(m for m in judged["metrics"] if m["name"] == judged["metric"])
    return pictures.forest(shown, shown[0][2]["margin"], over_all) if shown else None


def class_names(judged: Json, made: Json | None) -> list[str]:
    """The classes as in the challenger's lineage, else their numbers."""
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
    aa: Json | None = None,
    origin: Sequence[Where] = (),
) -> str:
    """The report as an HTML page.

    Args:
        validation, decision, made, before, origin: as for ``markdown``.
        scored: labels and predictions of the judged rows by role (champion if there is one, challenger), or the reason
            why there are none.
        title: the name of the model.
        aa: the result of the A/A test, if there is one of these data and this rule.
    """
    outcome, reason = verdict(validation, decision)
    judged = decision["decision"] if decision and validation["passed"] else None
    shown: Json = {"notes": [], "figures": [], "groups": {}}
    if judged:
        shown |= _shown(judged, made, scored)
    if decision and judged and decision["champion"] and made and before:
        shown["changes"] = changed.changes(before, made)
        shown["unchanged"] = unchanged(shown["changes"], decision)
    said = headline(validation, decision)
    return (
        templates()
        .get_template("page.html.j2")
        .render(
            title=title,
            outcome=outcome,
            reason=reason,
            when=(decision or validation)["created"].replace("T", " ").replace("Z", " UTC"),
            said=said,
            validation=validation,
            decision=decision,
            judged=judged,
            shown=shown,
            aa=aa and aa_section.section(aa, plain(wording.metric_name(aa["metric"]))),
            unknown=unknown(made),
            words=wording,
            evidence=evidence,
            TONES={**pictures.TONES, "holds": "good", "beyond": "warn", "cannot tell": "warn"},
            SEGMENTS=SEGMENTS,
            number=lambda *given: number(*given).replace("-", "−"),
            interval=lambda *given: interval(*given).replace("-", "−"),
            lineage=wording.lineage(validation, decision, made, origin),
            urls={where.name: where.url for where in origin if where.url},
        )
    )


def _shown(judged: Json, made: Json | None, scored: tuple[Labels, Scores] | str) -> Json:
    """The parts of the page for a verdict: metrics, guards and pictures."""
    # The deciding metric first, so that it is seen with the verdict.
    metrics = sorted(judged["metrics"], key=lambda m: m["name"] != judged["metric"])
    compared = [m for m in metrics if m["gain"] is not None]
    names = {m["name"]: plain(wording.metric_name(m["name"])) for m in metrics}
    shown: Json = {
        "metrics": metrics,
        "names": names,
        "differences": compared and pictures.differences(compared, judged, names),
        "guards": wording.by_urgency(judged["guards"]),
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
