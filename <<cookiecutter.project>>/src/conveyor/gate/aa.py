"""An A/A test of the gate: decisions between two models of which neither is better, so that every promotion is false.

Two fits of one recipe predict the same rows. For each unit of the gate (a day, a group, or a row) a coin says which of
both is called the champion. Exchanging the two names gives an equally likely pair, so neither is better, whatever the
data. Rows of one unit stay together; a correlation between units is not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conveyor.core import params
from conveyor.core.frozen import Frozen
from conveyor.core.tasks import Task
from conveyor.gate import guards
from conveyor.gate.decide import decide
from conveyor.gate.decision import Outcome
from conveyor.gate.metrics import METRICS, Labels, at
from conveyor.gate.resampling import Groups
from conveyor.gate.spread import Floats, Spread

DECISIONS = 200
POWER = 0.8
PART = 2 / 3  # of the training rows: each model sees others, and two share enough to be of one quality
PAIRS = 12  # of models whose gain is measured for the smallest one that can be seen
ERRORS = 3  # Monte-Carlo errors above nominal that are no chance


class Drawn(Frozen):
    """One decision: its outcome, and the gain with its bounds where there are any."""

    outcome: Outcome
    gain: float | None = None
    low: float | None = None
    high: float | None = None


class Rate(Frozen):
    """A share of the decisions, what it should be, and the standard error of such a share in so many decisions."""

    share: float
    nominal: float
    error: float

    @property
    def above(self) -> bool:
        """Whether it is above nominal by more than chance."""
        return self.share > self.nominal + ERRORS * self.error


class Result(Frozen):
    """What an A/A test found.

    Attributes:
        metric, confidence, margin: of the rule.
        rows: of the holdout.
        unit, units: what was exchanged as a whole, and how many there are.
        refits: how many models were fitted.
        differ, apart: share of the predictions that differ between two of them, and by how much on average.
        promoted: false promotions.
        blocked: blocks, of the metric and the guards together.
        greater: promotions by a planted gate, "at least as good".
        ties: share of the decisions in which both measure the same, which that gate promotes.
        smallest_gain: the true gain that is promoted with a chance of 80 %; None if it cannot be told.
        decisions: each of them.
    """

    metric: str
    confidence: float
    margin: float
    rows: int
    unit: str
    units: int
    refits: int
    differ: float
    apart: float
    promoted: Rate
    blocked: Rate
    greater: Rate
    ties: float
    smallest_gain: float | None
    decisions: tuple[Drawn, ...]


Judge = Callable[[Floats, Floats], Drawn]  # of champion and challenger


def part(y: Labels, generator: np.random.Generator) -> NDArray[np.int64]:
    """Places of the training rows of one fit, in their order: PART of all rows, or of each class if there are some.

    Without repeats: a repeated row would be on both sides of a split inside the fit.
    """
    kinds = [np.arange(len(y))] if y.dtype.kind == "f" else [np.flatnonzero(y == kind) for kind in np.unique(y)]
    drawn = [generator.choice(rows, int(np.ceil(PART * len(rows))), replace=False) for rows in kinds]
    return np.sort(np.concatenate(drawn))


def exchanged(one: Floats, other: Floats, groups: Groups, generator: np.random.Generator) -> tuple[Floats, Floats]:
    """Two models whose predictions, (n,) or (n x classes), are exchanged in each unit by a fair coin."""
    unit = np.arange(len(one)) if groups is None else groups
    heads = (generator.random(int(unit.max()) + 1) < 0.5)[unit]
    heads = heads if one.ndim == 1 else heads[:, None]
    return np.where(heads, other, one), np.where(heads, one, other)


def by_gate(
    y: Labels, rule: params.Gate, task: Task, groups: Groups, segments: pd.DataFrame | None = None, unit: str = "group"
) -> Judge:
    """The judge of the test: ``decide`` with the rule's metric, confidence and guards.

    It asks for "better" by more than zero, so that the level itself is tested: a margin makes a false promotion rarer,
    and a model that is equally good passes ``non_inferior`` rightly. Floors are left out: they judge one model alone.
    """
    strict = rule.model_copy(update={"floors": {}, "margin": 0.0, "promote_when": "superior"})

    def judge(champion: Floats, challenger: Floats) -> Drawn:
        made = decide(y, champion, challenger, strict, None, task, groups, segments, every_metric=False, unit=unit)
        gate = next(metric for metric in made.metrics if metric.name == rule.metric)
        return Drawn(outcome=made.outcome, gain=gate.gain, low=gate.gain_low, high=gate.gain_high)

    return judge


def decisions(
    models: Sequence[Floats], groups: Groups, judge: Judge, seed: int, count: int = DECISIONS
) -> Iterator[Drawn]:
    """``count`` decisions, each between two of the models, in turn, exchanged by units."""
    pairs = list(combinations(range(len(models)), 2))
    for turn in range(count):
        generator = np.random.default_rng([seed, turn])
        one, other = (models[place] for place in pairs[turn % len(pairs)])
        yield judge(*exchanged(one, other, groups, generator))


def differences(models: Sequence[Floats]) -> tuple[float, float]:
    """Share of the predictions that differ between two models, but for rounding, and the mean size of a difference.

    Both are means over all pairs; of several classes a row differs if one probability does.
    """
    pairs = list(combinations(models, 2))
    shares = []
    for one, other in pairs:
        rows: NDArray[np.bool_] = ~np.isclose(one, other, rtol=1e-12, atol=0.0)
        shares.append(float((rows if rows.ndim == 1 else rows.any(axis=1)).mean()))
    return float(np.mean(shares)), float(np.mean([np.abs(one - other).mean() for one, other in pairs]))


def smallest(spread: Spread, rule: params.Gate) -> float | None:
    """The true gain that the rule promotes with a chance of POWER; None if there is no error.

    The bound of the interval is so many errors below the gain, and the gain exceeds its middle with a chance of one
    half only: both distances are Student's.
    """
    from scipy.special import ndtri, stdtrit

    if not spread.known or not spread.error:
        return None
    levels = (rule.confidence, POWER)
    infinite = not np.isfinite(spread.freedom)
    arms = sum(float(ndtri(level) if infinite else stdtrit(spread.freedom, level)) for level in levels)
    return (rule.margin if rule.promote_when == "superior" else -rule.margin) + arms * spread.error


def visible(y: Labels, models: Sequence[Floats], rule: params.Gate, groups: Groups) -> float | None:
    """The median of ``smallest`` over up to PAIRS pairs of models, as they are; None if it cannot be told.

    Nor can it where a share would have to gain more than one.
    """
    metric, found = at(METRICS[rule.metric], rule.threshold), []
    pairs = list(combinations(range(len(models)), 2))
    for one, other in pairs[:: -(-len(pairs) // PAIRS)]:
        try:
            found.append(smallest(guards.gain(metric, y, models[one], models[other], groups)[2], rule))
        except ValueError:
            return None
    known = [value for value in found if value is not None]
    least = float(np.median(known)) if known else None
    return None if least is None or least > metric.ends(models[0]).differences.high else least


def result(
    drawn: Sequence[Drawn], y: Labels, models: Sequence[Floats], rule: params.Gate, groups: Groups, unit: str
) -> Result:
    """The rates of the decisions, and what this holdout can see."""

    def rate(values: Any, nominal: float) -> Rate:
        return Rate(
            share=float(np.mean(values)),
            nominal=nominal,
            error=float(np.sqrt(nominal * (1 - nominal) / len(drawn))),
        )

    differ, apart = differences(models)
    return Result(
        metric=rule.metric,
        confidence=rule.confidence,
        margin=rule.margin,
        rows=len(y),
        unit=unit,
        units=len(y) if groups is None else int(groups.max()) + 1,
        refits=len(models),
        differ=differ,
        apart=apart,
        promoted=rate([one.outcome == "promote" for one in drawn], 1 - rule.confidence),
        blocked=rate([one.outcome == "block" for one in drawn], 1 - rule.guards.confidence),
        greater=rate([one.gain is not None and one.gain >= 0 for one in drawn], 0.5),
        ties=float(np.mean([one.gain == 0 for one in drawn])),
        smallest_gain=visible(y, models, rule, groups),
        decisions=tuple(drawn),
    )
