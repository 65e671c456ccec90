"""The outcome of a comparison: rules in a fixed order, of which the first that applies decides."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from conveyor.core import params
from conveyor.core.tasks import Task
from conveyor.gate import inputs, looks
from conveyor.gate.decision import Comparison, Floor, Outcome
from conveyor.gate.guards import Guard
from conveyor.gate.metrics import METRICS, Labels
from conveyor.gate.resampling import Groups
from conveyor.gate.spread import FEWEST, WITHOUT, Floats, Spread

OWN = 30  # rows: fewer give no interval of a model's own metric


@dataclass(frozen=True)
class Judged:
    """Everything that the outcome follows from."""

    y: Labels
    champion: Floats | None
    challenger: Floats
    rule: params.Gate
    task: Task
    compared: dict[str, Comparison]
    alone: dict[str, Comparison]
    floors: tuple[Floor, ...]
    guarded: tuple[Guard, ...]
    champion_error: str | None
    gain: Spread | None
    groups: Groups
    unit: str
    look: looks.Look | None
    against: Spread | None

    def outcome(self) -> tuple[Outcome, str]:
        """The outcome of the first rule that applies."""
        return self._unfit() or self._first() or self._unlike() or self._harmful() or self._better()

    @cached_property
    def alike(self) -> bool:
        """Whether both models predict the same."""
        return self.champion is not None and inputs.same(self.champion, self.challenger, self.y, self.task)

    @property
    def rows(self) -> str:
        return f"on {len(self.y)} row{'s' * (len(self.y) != 1)}"

    def _unfit(self) -> tuple[Outcome, str] | None:
        """The challenger cannot be measured, or a floor does not hold."""
        y, name = self.y, self.rule.metric
        if not len(y):
            return "block", "no row is left to judge by"
        unscored = len(y) - int(_valid(self.challenger, self.task).sum())
        if unscored:
            return "block", f"the challenger gave no {self._kind} for {unscored} of {len(y)} rows"
        if self.alone[name].challenger is None:
            if len(np.unique(y)) > 1:
                return "block", f"{name} cannot be computed: it is no finite number {self.rows}"
            only = "only one value" if self.task == "regression" else "only one class"
            return "block", f"{name} cannot be computed: the {len(y)} rows hold {only}"
        for floor in self.floors:
            if not floor.holds:
                side = "below" if METRICS[floor.metric].higher_is_better else "above"
                value = "not computable" if floor.value is None else f"{floor.value:.4f}"
                return "block", f"{floor.metric} {value} is {side} the floor {floor.floor:g} {self.rows}"
        return None

    @property
    def _kind(self) -> str:
        return "number" if self.task == "regression" else "probability"

    def _first(self) -> tuple[Outcome, str] | None:
        """Without a champion."""
        if self.champion is not None:
            return None
        name, own = self.rule.metric, self.alone[self.rule.metric]
        fewest = len(self.y) if self.task == "regression" else min(np.bincount(self.y, minlength=2))
        if own.challenger_low is None and (len(self.y) < OWN or fewest < FEWEST):
            return "block", f"{name} {own.challenger:.4f} {self.rows} has no interval: too few rows to tell"
        held = "every floor holds" if self.floors else "no floor is set"
        return "bootstrap", f"no champion yet and {held}: {name} {own.challenger:.4f} {self.rows}"

    def _unlike(self) -> tuple[Outcome, str] | None:
        """The champion cannot be measured, or there is nothing to tell apart."""
        assert self.champion is not None
        if self.champion_error or not _valid(self.champion, self.task).all():
            why = self.champion_error or f"it gave no {self._kind} for some of them"
            return "incomparable", f"the champion cannot score these rows: {why}"
        if self.alike:
            # Neither superior nor merely non-inferior: nothing is promoted, by either rule.
            return "keep", f"the two models predict the same {self.rows}"
        return None

    @property
    def _margin(self) -> str:
        return f" by more than {self.rule.margin:g}" if self.rule.margin else ""

    @property
    def _numbers(self) -> str:
        gate = self.compared[self.rule.metric]
        return (
            f"{self.rule.metric} {gate.challenger:.4f} against {gate.champion:.4f}, gain {gate.gain:+.4f} "
            f"[{gate.gain_low:+.4f}, {gate.gain_high:+.4f}] {self.rows}"
        )

    @property
    def _wanted(self) -> str:
        return "better" if self.rule.promote_when == "superior" else "no worse"

    def _harmful(self) -> tuple[Outcome, str] | None:
        """Harm is shown, over all or by a guard; or nothing can be told."""
        gate, name = self.compared[self.rule.metric], self.rule.metric
        if self.gain is None or gate.champion is None or gate.gain_low is None or gate.p_harm is None:
            few = f"too few rows to tell, the difference of {name} {self.rows}{self._fewest}"
            return "keep", f"not shown to be {self._wanted}{self._margin}: {few}"
        if gate.p_harm <= (1 - self.rule.guards.confidence) / 2:
            return "block", f"shown to be worse{self._margin}: {self._numbers}"
        for guard in self.guarded:
            if not guard.holds:
                return "block", f"{_harm(guard, name)}; over all {self._numbers}"
        return None

    @property
    def _fewest(self) -> str:
        """What there is too little of."""
        if self.groups is not None and self.groups.max() + 1 < FEWEST:
            return f", which are of {self._units}; at least {FEWEST} are needed"
        if self.groups is not None and self.gain and self.gain.inflated > 1:
            near = f"in neighbouring ones (correlation {self.gain.serial:.2f})"
            alike = near if self.gain.serial else "a few units apart, as weekdays are,"
            return f", which are of {self._units}, so alike {alike} that they tell too little"
        counts = np.bincount(self.y) if self.task != "regression" else np.zeros(0, dtype=np.int64)
        fewest = int(counts.min(initial=len(self.y), where=counts > 0))
        return f"; a class has {fewest}, at least {FEWEST} are needed" if fewest < FEWEST else ""

    @property
    def _units(self) -> str:
        count = 0 if self.groups is None else int(self.groups.max()) + 1
        return f"{count} unit{'s' * (count != 1)} ({self.unit})"

    def _better(self) -> tuple[Outcome, str]:
        """The evidence is there, or it is not."""
        assert self.gain is not None
        superior, worst = self.rule.promote_when == "superior", self._worst
        bounds, low = self.gain.interval(self.rule.confidence), self.gain.lower(self.rule.confidence)
        if bounds is None or low is None or bounds[0] <= worst:
            return "keep", f"not shown to be {self._wanted}{self._margin}: {self._numbers}"
        if low <= worst:
            without = f"without the {WITHOUT} rows or groups that favour it most, it is not"
            return "keep", f"few rows carry the gain: {without} shown to be {self._wanted}: {self._numbers}"
        shown = f"shown to be {self._wanted}{self._margin}"
        if self.look and (why := self.look.refuses(self.gain.value, self.needed, 1 - self.rule.confidence)):
            return "keep", f"not {shown} {why}: {self._numbers}"
        if not superior and self.against is not None:
            # Not worse than the champion, again and again, adds up.
            plain = 1 - self.rule.confidence
            reach = looks.reach(self.against, self.look.level if self.look else plain, plain)
            least = None if reach is None else self.against.value - reach
            if least is None or least <= worst:
                best = f"than the best champion so far, gain {self.against.value:+.4f}"
                return "keep", f"not shown to be no worse{self._margin} {best}: {self._numbers}"
        for guard in self.guarded:
            if guard.doubted:
                return "keep", f"{_doubt(guard, self.rule.metric)}; over all {self._numbers}"
        return "promote", f"{shown}: {self._numbers}"

    @property
    def _worst(self) -> float:
        """What the true gain must be shown to exceed."""
        return self.rule.margin if self.rule.promote_when == "superior" else -self.rule.margin

    @property
    def needed(self) -> float | None:
        """The gain that would be enough at the level of this look; None if nothing would, or nothing is compared."""
        plain = 1 - self.rule.confidence
        reach = looks.reach(self.gain, self.look.level if self.look else plain, plain) if self.gain else None
        most = METRICS[self.rule.metric].ends(self.challenger).differences.high
        needed = np.inf if reach is None else self._worst + reach
        return needed if np.isfinite(needed) and needed <= most else None


def _harm(guard: Guard, metric: str) -> str:
    if guard.kind == "calibration":
        # The guard compares squares; their roots are shown.
        squares = guard.challenger, guard.champion, guard.champion + guard.margin
        ours, theirs, most = (float(np.sqrt(max(square, 0))) for square in squares)
        return f"shown to be worse calibrated: error {ours:.4f} against {theirs:.4f}, where {most:.4f} is tolerated"
    values = f"{metric} {guard.challenger:.4f} against {guard.champion:.4f} on its {guard.rows} rows"
    return f"shown to be worse in the segment {guard.name} by more than {guard.margin:g}: {values}"


def _doubt(guard: Guard, metric: str) -> str:
    values = f"{metric} {guard.challenger:.4f} against {guard.champion:.4f} on its {guard.rows} rows"
    return f"the segment {guard.name} measures worse by more than {guard.margin:g}: {values}"


def usable(predicted: Floats) -> NDArray[np.bool_]:
    """Which rows have a finite prediction (n,)."""
    finite = np.isfinite(predicted)
    return finite if predicted.ndim == 1 else np.asarray(finite.all(axis=1))


def _valid(predicted: Floats, task: Task) -> NDArray[np.bool_]:
    """Which rows have a prediction that the task allows (n,): finite, and a probability if the task has classes."""
    if task == "regression":
        return np.isfinite(predicted)
    inside = np.isfinite(predicted) & (predicted >= 0) & (predicted <= 1)
    if predicted.ndim == 1:
        return inside
    whole: NDArray[np.bool_] = np.abs(np.where(inside, predicted, 0).sum(axis=1) - 1) < 1e-3
    return whole & inside.all(axis=1)
