"""When does it pay to retrain? The flights of 2013 come as live traffic, their labels a week late.

    make bench-replay                        # writes docs/replay.md and docs/replay.svg
    .venv/bin/python bench/replay.py short   # one model, two months, prints the table

Three policies see the same days: never retrain; retrain each week and deliver what measures at least as good; retrain
by evidence, as `make retrain` with `monitor.retrain: deliver`. All train the model.py of the product by its own split.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import pandas as pd
from product import ROOT, bake

from conveyor.core import params
from conveyor.data import split, units
from conveyor.data.columns import features, labels
from conveyor.data.hashing import utc
from conveyor.gate import guards
from conveyor.gate.decide import decide
from conveyor.gate.metrics import METRICS, at
from conveyor.watch import alarm, evidence

SAMPLES = (
    ROOT / "<<cookiecutter.project>>" / "data" / "flights.csv.gz",
    ROOT / "tools" / "flights-july-december.csv.gz",
)
WEEK, LATE = np.timedelta64(7, "D"), np.timedelta64(7, "D")
END = np.datetime64("2014-01-01")
BEGINS = ("2013-02-01", "2013-04-01", "2013-07-01")
ESTIMATORS = ("logistic", "forest")
NEVER, WEEKLY, OURS = "never", "weekly, if at least as good", "by evidence"
ALLOWED, SHARE = 0.002, 1 / 3  # how much worse than weekly it may be, with what share of its deliveries


@dataclass(frozen=True)
class Model:
    """A trained model: the first row that it did not learn, the last row of its data, its predictions of all rows."""

    learnt: int
    known: int
    predicted: np.ndarray


@dataclass(eq=False)
class World:
    """The rows of 2013 in the order of time, and the models that an estimator makes of those before a day."""

    estimator: str

    @cached_property
    def rule(self) -> params.Params:
        return params.load(bake() / "params.yaml", {"model.params.estimator": self.estimator})

    @cached_property
    def frame(self) -> pd.DataFrame:
        rows = [pd.read_csv(path, parse_dates=["scheduled"]) for path in SAMPLES]
        return pd.concat(rows, ignore_index=True).sort_values("scheduled", kind="stable").reset_index(drop=True)

    @cached_property
    def y(self) -> np.ndarray:
        return labels(self.frame, self.rule.data)

    @cached_property
    def day(self) -> np.ndarray:
        """The day of each row, as numpy has them."""
        return units.blocks(utc(self.frame["scheduled"]), "day").astype("datetime64[D]")

    @cache  # noqa: B019, one world lives as long as the process
    def model_of(self, learnt: int) -> np.ndarray:
        made = runpy.run_path(str(bake() / "src/late_flights/model.py"))
        asked = made["Params"].model_validate(self.rule.model.params)
        rows = features(self.frame, self.rule.data)
        fitted = made["build"](asked, self.rule.model.seed).fit(rows[:learnt], self.y[:learnt])
        return fitted.predict_proba(rows)[:, 1]

    def trained(self, before: np.datetime64) -> Model:
        """The model of all rows before a day, by the split of params.yaml."""
        known = int(np.searchsorted(self.day, before))
        rule = split.split(self.frame[:known], self.rule.data, self.rule.split, self.rule.gate.block)
        learnt = int(rule.trained_on(self.frame[:known]).sum())
        return Model(learnt, known, self.model_of(learnt))


def weekly(world: World, champion: Model, now: np.datetime64) -> Model | None:
    """What promotes a challenger that measures at least as good on rows that neither has learnt."""
    metric, challenger = METRICS[world.rule.gate.metric], world.trained(now - LATE)
    rows = slice(max(challenger.learnt, champion.learnt), challenger.known)
    ours, theirs = (
        metric.way(metric.function, world.y[rows], [each.predicted[rows]], None).alone[0].value
        for each in (challenger, champion)
    )
    return challenger if challenger.learnt > champion.learnt and ours >= theirs else None


def by_evidence(world: World, champion: Model, now: np.datetime64) -> Model | None:
    """What `make retrain` does: the look that is due, the same rows, and the gate's verdict."""
    last = world.day[champion.known - 1].astype(int)
    newest = world.day[np.searchsorted(world.day, now - LATE) - 1].astype(int)
    due = evidence.looks(newest - 1 - last)
    if not due:
        return None
    challenger = world.trained(np.datetime64(int(last) + due[-1].blocks + 1, "D"))
    rule = world.rule.gate
    held = np.arange(max(challenger.learnt, champion.learnt), challenger.known)
    after = held[world.day[held].astype(int) > last]
    found = evidence.shown(
        at(METRICS[rule.metric], rule.threshold),
        world.y[after],
        challenger.predicted[after],
        champion.predicted[after],
        world.day[after].astype(int),
        due[-1].level,
    )
    if found.low is None or found.low <= rule.margin:
        return None
    frame = world.frame.iloc[held]
    groups, unit = units.units(frame, world.rule.data, rule.block)
    verdict = decide(
        world.y[held],
        champion.predicted[held],
        challenger.predicted[held],
        rule,
        groups=groups,
        segments=guards.segment(frame, rule.guards.segments),
        every_metric=False,
        unit=unit,
    )
    return challenger if verdict.outcome == "promote" else None


POLICIES: dict[str, Callable[[World, Model, np.datetime64], Model | None]] = {
    NEVER: lambda world, champion, now: None,
    WEEKLY: weekly,
    OURS: by_evidence,
}


@dataclass(frozen=True)
class Lived:
    """What a policy did: the predictions of its champions for all rows, and the days of its deliveries."""

    predicted: np.ndarray
    delivered: list[np.datetime64]


def live(world: World, begin: str, policy: str, end: np.datetime64 = END) -> Lived:
    """Each week the policy may deliver another champion."""
    start = np.datetime64(begin)
    champion = world.trained(start)
    predicted, delivered = champion.predicted.copy(), []
    for now in np.arange(start + WEEK, end, WEEK):
        better = POLICIES[policy](world, champion, now)
        if better is not None:
            champion = better
            delivered.append(now)
            predicted[world.day >= now] = champion.predicted[world.day >= now]
    return Lived(predicted, delivered)


@dataclass(frozen=True)
class Result:
    """The difference of the log loss of two policies, in nats for each row, with the 95 % interval by days."""

    gain: float
    low: float
    high: float


def difference(world: World, rows: np.ndarray, one: Lived, other: Lived) -> Result:
    """How much less ``one`` loses than ``other``."""
    if (one.predicted[rows] == other.predicted[rows]).all():
        return Result(0.0, 0.0, 0.0)
    number = world.day[rows].astype(int)
    found = evidence.shown(
        METRICS["log_loss"], world.y[rows], one.predicted[rows], other.predicted[rows], number, 0.025
    )
    assert found.low is not None and found.high is not None
    return Result(found.gain, found.low, found.high)


def losses(world: World, lived: Lived) -> np.ndarray:
    """The log loss of each row."""
    return METRICS["log_loss"].function(world.y, lived.predicted)


def alarmed(world: World, begin: str, lived: Lived, end: np.datetime64 = END) -> str:
    """What the alarm on live loss says of the first champion at the end."""
    first, start = world.trained(np.datetime64(begin)), np.datetime64(begin)
    loss = losses(world, lived)
    held, rows = slice(first.learnt, first.known), (world.day >= start) & (world.day < end)

    def by_day(rows: slice | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        days, place = np.unique(world.day[rows].astype(int), return_inverse=True)
        return days, np.bincount(place, loss[rows]) / np.bincount(place)

    days, found = by_day(rows)
    rule = world.rule.monitor
    seen = alarm.watch(by_day(held)[1], found, days, budget=rule.false_alarms, tolerance=rule.tolerance)
    return seen.state if seen.alarmed is None else f"alarm on {np.datetime64(int(seen.alarmed), 'D')}"


def replay(world: World, begin: str, end: np.datetime64 = END) -> tuple[dict[str, Lived], list[str]]:
    """The policies from a day on, and their lines of the table."""
    rows = np.flatnonzero((world.day >= np.datetime64(begin)) & (world.day < end))
    lived = {policy: live(world, begin, policy, end) for policy in POLICIES}
    table = []
    for policy, each in lived.items():
        told = [f"{losses(world, each)[rows].mean():.4f}", str(len(each.delivered))]
        for other in (NEVER, WEEKLY):
            found = difference(world, rows, each, lived[other])
            told.append("" if policy == other else f"{found.gain:+.4f} ({found.low:+.4f} to {found.high:+.4f})")
        says = alarmed(world, begin, each, end) if policy == NEVER else ""
        table.append(f"| {begin} | {world.estimator} | {policy} | {' | '.join(told)} | {says} |")
        print(table[-1], file=sys.stderr, flush=True)
    return lived, table


HEAD = """\
| live from | model | retrains | log loss | deliveries | gain over never | gain over weekly | alarm without retraining |
|---|---|---|--:|--:|--:|--:|---|"""


def verdict(world: World, begin: str, lived: dict[str, Lived]) -> str:
    """Whether the aims are reached: better than never, not worse than weekly, with a third of its deliveries."""
    rows = np.flatnonzero(world.day >= np.datetime64(begin))
    never, every = (difference(world, rows, lived[OURS], lived[each]) for each in (NEVER, WEEKLY))
    few = len(lived[OURS].delivered) <= SHARE * len(lived[WEEKLY].delivered)
    return (
        f"| {begin} | {world.estimator} | {_yes(never.low > 0)} | {_yes(-every.low <= ALLOWED)} |"
        f" {_yes(every.low > 0)} | {_yes(few)} |"
    )


def _yes(so: bool) -> str:
    return "yes" if so else "no"


def picture(world: World, begin: str, lived: dict[str, Lived]) -> None:
    """The log loss of each day that a policy saves, summed up."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "replay", "font.family": "sans-serif"}
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3.6))
    rows = world.day >= np.datetime64(begin)
    days, place = np.unique(world.day[rows], return_inverse=True)
    never = losses(world, lived[NEVER])[rows]
    for policy, colour in ((WEEKLY, "#c98a2b"), (OURS, "#17457f")):
        saved = np.cumsum(np.bincount(place, never - losses(world, lived[policy])[rows]) / np.bincount(place))
        line = axes.plot(days, saved, color=colour, label=f"{policy}: {len(lived[policy].delivered)} deliveries")[0]
        at_days = np.searchsorted(days, np.array(lived[policy].delivered))
        axes.plot(days[at_days], saved[at_days], ".", color=line.get_color())
    axes.axhline(0, color="#777777", linewidth=1)
    axes.set_title(
        f"log loss saved since {begin} against never, a day's mean, summed up: {world.estimator}",
        loc="left",
        fontsize=9,
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    figure.autofmt_xdate()
    figure.tight_layout()
    figure.savefig(ROOT / "docs" / "replay.svg", metadata={"Date": None}, facecolor="white")


def page(table: list[str], aims: list[str]) -> str:
    """docs/replay.md."""
    return f"""# When does it pay to retrain?

Made by `make bench-replay`. The flights of 2013 that the sample data hold ({len(World(ESTIMATORS[0]).frame):,} rows)
come as live traffic, their labels a week later. Each Monday a policy may deliver another champion. All policies
train the product's `model.py`, hold out the newest fifth of what is known, and see the same days:

- *never*: the first champion stays
- *weekly, if at least as good*: each week a challenger is trained, and delivered if its area under the ROC curve, on
  rows that neither model has learnt, is at least that of the champion
- *by evidence*: `make retrain` with `monitor.retrain: deliver` (`src/conveyor/watch/evidence.py`, and the gate)

The gain is in nats for each row, with its 95 % interval by days; a positive one is a smaller loss. The alarm is that of
`make monitor` on the first champion.

{HEAD}
{chr(10).join(table)}

![Log loss saved against never](replay.svg)

## Aims

Four questions about *by evidence*: is it shown to be better than *never*? Is it at most {ALLOWED} nats worse than
*weekly*, by the bound of the interval? Is it shown to be better than *weekly*? Does it deliver at most a third as
often?

| live from | model | better than never | not worse than weekly | better than weekly | a third of the deliveries |
|---|---|---|---|---|---|
{chr(10).join(aims)}

From July on these flights drift little, and no policy gains much. A champion of few months gains by retraining, and
*weekly* then gains more than *by evidence*. That policy waits until a gain is shown, which takes long, because days
differ by their weather. It delivers at most a tenth as often.
"""


def main(short: bool = False) -> None:
    if short:
        print("\n".join([HEAD, *replay(World("logistic"), "2013-04-01", np.datetime64("2013-06-10"))[1]]))
        return
    table, aims, drawn = [], [], None
    for estimator in ESTIMATORS:
        world = World(estimator)
        for begin in BEGINS:
            lived, lines = replay(world, begin)
            table += lines
            aims.append(verdict(world, begin, lived))
            drawn = drawn or (world, begin, lived)
    assert drawn is not None
    picture(*drawn)
    (ROOT / "docs" / "replay.md").write_text(page(table, aims), encoding="utf-8")


if __name__ == "__main__":
    main(short=sys.argv[1:] == ["short"])
