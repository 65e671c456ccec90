"""An A/A test of the gate on the team's own data: how often does it promote one of two equally good models?"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from conveyor.core.errors import Misuse, Refused
from conveyor.core.files import sha256, to_json, write_json
from conveyor.core.project import Project
from conveyor.data import columns, split, units
from conveyor.data.source import frame_of
from conveyor.gate import aa, guards
from conveyor.gate.intervals import units_of
from conveyor.gate.spread import FEWEST, Floats
from conveyor.model.builder import Builder

MOST_REFITS, MOST_SECONDS = 12, 600.0  # fewer refits, but two, where more would take longer


def asked(project: Project) -> str:
    """The digest of what a result belongs to: the data, the split and the rule."""
    settings = project.params
    about = [settings.data.model_dump(exclude={"path", "private"}), settings.split.model_dump()]
    return sha256(to_json([*about, settings.gate.model_dump(mode="json")]).encode())


def run(project: Project, say: Callable[[str], None] = print) -> str:
    """Write build/aa.json. No champion is needed, and the ledger is not read.

    Raises:
        Misuse: the holdout is too small, or the models do not differ.
        Refused: false promotions are more frequent than the rule allows, by more than chance.
    """
    frame, names, rule = frame_of(project), project.params.data, project.params.gate
    y = columns.labels(frame, names)
    trained = split.split(frame, names, project.params.split, project.params.gate.block).trained_on(frame)
    held_out, known = frame[~trained], y[~trained]
    groups, unit = units.units(held_out, names, rule.block)
    fewest = units_of(known, groups)
    if fewest < FEWEST:
        of = " of the rarest class" if names.task != "regression" else ""
        mend = "take a larger split.holdout" + (", or a shorter gate.block" if names.time and not names.group else "")
        raise Misuse(f"aa: the holdout has {fewest} units ({unit}){of}, and the gate needs {FEWEST}; {mend}")
    models = _refits(project, columns.features(frame, names), y, trained, say)
    if not aa.differences(models)[0]:
        raise Misuse("aa: all refits predict the same, so that there is nothing to decide; the recipe learns nothing")
    segments = guards.segment(held_out, rule.guards.segments) if rule.guards.segments else None
    judge = aa.by_gate(known, rule, names.task, groups, segments, unit)
    drawn, began = [], time.monotonic()
    for one in aa.decisions(models, groups, judge, project.params.model.seed):
        drawn.append(one)
        if len(drawn) in (5, 50, 100, 150):
            left = (time.monotonic() - began) / len(drawn) * (aa.DECISIONS - len(drawn))
            say(f"aa        decision {len(drawn)} of {aa.DECISIONS}, about {left:.0f} s left")
    found = aa.result(drawn, known, models, rule, groups, unit)
    about = {**project.header(), "asked": asked(project), "aa": found.model_dump(mode="json")}
    write_json(project.build / "aa.json", about)
    for line in told(found):
        say(line)
    if found.promoted.above:
        raise Refused(
            f"aa: {found.promoted.share:.1%} false promotions where {found.promoted.nominal:.1%} are nominal:"
            f" the gate is not right on these data; a larger unit (data.group, gate.block) may help"
        )
    return f"{found.promoted.share:.1%} false promotions, nominal are {found.promoted.nominal:.1%}: build/aa.json"


def _refits(project: Project, features: Any, y: Any, trained: Any, say: Callable[[str], None]) -> list[Floats]:
    """Predictions of the holdout by models of the same recipe, each with other training rows and another seed."""
    from conveyor.steps.train import predict, train  # not for the report, which only asks what a result belongs to

    builder, names, seed = Builder.of(project), project.params.data, project.params.model.seed
    rows, held_out, classes = features[trained], features[~trained], len(columns.classes(frame_of(project), names))
    models: list[Floats] = []
    wanted, began = MOST_REFITS, time.monotonic()
    while len(models) < wanted:
        part = aa.part(y[trained], np.random.default_rng([seed, len(models)]))
        fitted = train(builder, rows.iloc[part], y[trained][part], (seed + len(models)) % 2**32)
        models.append(predict(builder, fitted, held_out, names.task, classes))
        each = (time.monotonic() - began) / len(models)
        wanted = max(2, min(MOST_REFITS, int(MOST_SECONDS / each)))
        if len(models) in (1, wanted // 2) and len(models) < wanted:
            say(f"aa        refit {len(models)} of {wanted}, about {each * (wanted - len(models)):.0f} s left")
    return models


def told(found: aa.Result) -> list[str]:
    """The result in words, for a terminal."""

    def rate(measured: aa.Rate, what: str) -> str:
        return f"{what:<24} {measured.share:>6.1%} ± {measured.error:.1%}, nominal {measured.nominal:.1%}"

    ties = f", {found.ties:.1%} ties" if found.ties else ""
    gain = "cannot be told" if found.smallest_gain is None else f"{found.smallest_gain:+.4f} {found.metric}"
    return [
        f"{'predictions that differ':<24} {found.differ:>6.1%} by {found.apart:.4g} on average,"
        f" between two of {found.refits} refits",
        rate(found.promoted, "false promotions"),
        rate(found.blocked, "false blocks, at most"),
        rate(found.greater, "a gate `>=` promotes") + f"{ties}: the check that the test sees a wrong gate",
        f"{'smallest visible gain':<24} {gain} in {aa.POWER:.0%} of the tries, on {found.units:,} units ({found.unit})",
    ]
