"""The level of the next test: one gate judges many models, and each test can promote an equal one by luck.

The rule is LORD++ of A. Ramdas, F. Yang, M. Wainwright and M. Jordan, "Online control of the false discovery rate with
decaying memory" (NeurIPS 2017), with the first champion as the first discovery: it is one of the models ever promoted,
and no test made it so. The challenger at place t is tested at the level

    false_share * (gamma(t) + sum of gamma(t - s) over the places s that were promoted before)

Until a promotion these levels are fixed and add up to at most ``false_share``, so they bound the chance of any false
promotion whatever binds the tests together, such as one holdout for all of them. Rules that spend by the p-values seen
(SAFFRON, ADDIS) have no such bound.

A challenger that is judged again as rows come keeps its place. Its later looks share ``AGAIN`` of the level of its
first one: all its looks together have little more than that level.
"""

from __future__ import annotations

import re
from dataclasses import replace
from statistics import NormalDist
from typing import TYPE_CHECKING

from pydantic import Field

from conveyor.core import params
from conveyor.core.frozen import Frozen

if TYPE_CHECKING:
    from conveyor.gate.spread import Spread

FIRST = 0.5  # the most of the mass of gamma that the first place gets: without a promotion the others have the rest
AGAIN = 0.1  # of the level of a first look: what all later looks of the same challenger have together
DECAY = 1.4  # of the places from the second on: of 1.1 to 1.6 the one with the most power at the 20th
TAIL = 2.1055472779775806  # sum of k ** -DECAY over k = 2, 3, …: Riemann's zeta(1.4) - 1
SHARED = 0.15  # rows that overlap in a smaller share than this do not count as looked at; chance can show 0.1


class Sight(Frozen):
    """What a verdict looked at.

    Attributes:
        holdout: the digest of the rows.
        rows: how many they are; 0 if the verdict tested nothing, None if the event is older than this record.
        sketch: of the rows, see overlap.py.
        recipe: the digest of what makes the challenger, without the data; None if that is the champion's own, because
            a champion that is trained again is a new challenger each time.
    """

    holdout: str | None = None
    rows: int | None = None
    sketch: str | None = None
    recipe: str | None = None


class Seen(Sight):
    """One verdict on main: a look at the rows. ``key`` names the challenger, ``against`` the champion."""

    key: str
    against: str
    promoted: bool = False


class History(Frozen):
    """All verdicts on main that tested something, the oldest first."""

    looks: tuple[Seen, ...] = ()


class Look(Frozen):
    """The next test.

    Attributes:
        place: of the challenger among all that were tested, from 1 on.
        again: how many looks at other rows this challenger had before.
        level: of the one-sided test that promotes.
        before: how many verdicts before it saw these rows, or an overlapping part of them.
        share: the mean share of these rows that those saw; None if it is known of none.
    """

    place: int
    again: int
    level: float = Field(gt=0, lt=1)
    before: int
    share: float | None = None

    def refuses(self, gain: float, needed: float | None, plain: float) -> str | None:
        """Why a gain that is enough for a first look, at the level ``plain``, is not enough for this one."""
        if self.level >= plain or (needed is not None and gain > needed):
            return None
        asked = "" if needed is None else f", which needs a gain of {needed:+.4f}"
        return f"at level {self.level:.2g}{asked}; at level {plain:.2g}, of a first look, it would be"


class _Challenger:
    """One place in the sequence: the model that has it, and the rows that judged it."""

    def __init__(self, place: int) -> None:
        self.place = place
        self.again: dict[tuple[str, str | None], int] = {}  # the number of its look at each model and rows
        self.promoted = False


class _Places:
    """The challengers in the order of their first looks."""

    def __init__(self) -> None:
        self.count = 0
        self._open: dict[tuple[str, str], _Challenger] = {}
        self._promoted: dict[tuple[str, str], _Challenger] = {}

    def of(self, key: str, against: str, sight: Sight) -> _Challenger:
        """The challenger, or a new one at the next place, which ``add`` keeps."""
        found = self._promoted.get((key, against)) or self._open.get((sight.recipe or key, against))
        return found or _Challenger(self.count + 1)

    def add(self, seen: Seen) -> bool:
        """One more verdict; whether it is a discovery."""
        challenger, who = self.of(seen.key, seen.against, seen), (seen.recipe or seen.key, seen.against)
        challenger.again.setdefault((seen.key, seen.holdout), len(challenger.again))
        self.count = max(self.count, challenger.place)
        if challenger.promoted:
            return False
        self._open[who] = challenger
        if not seen.promoted:
            return False
        # The next model of this recipe would be another discovery: it gets a place of its own.
        challenger.promoted = True
        self._promoted[seen.key, seen.against] = self._open.pop(who)
        return True


def next_look(history: History, rule: params.Gate, key: str, against: str, sight: Sight) -> Look:
    """The level at which a challenger is tested now.

    The same model on the same rows against the same champion is the same test: it has the level that it had. A
    model that the gate promoted, and that never came to serve, keeps its first level and counts once. All levels are
    those of the rule as it is now: who changes ``confidence`` between looks can spend a third more.

    Args:
        history: the verdicts before.
        rule: the gate.
        key: the challenger's.
        against: the champion's key.
        sight: the rows, and what the challenger is made from.
    """
    places = _Places()
    promoted = [places.count for seen in history.looks if places.add(seen)]  # after which place
    challenger = places.of(key, against, sight)
    again = challenger.again.get((key, sight.holdout), len(challenger.again))
    first = level(rule, challenger.place, tuple(place for place in promoted if place < challenger.place))
    shares = [_share(sight, seen) for seen in history.looks if (seen.key, seen.holdout) != (key, sight.holdout)]
    counted = [share for share in shares if share is None or share >= SHARED]
    measured = [share for share in counted if share is not None]
    return Look(
        place=challenger.place,
        again=again,
        level=first if challenger.promoted or rule.false_share is None else first * later(again),
        before=len(counted),
        share=sum(measured) / len(measured) if measured else None,
    )


def level(rule: params.Gate, place: int, promoted: tuple[int, ...] = ()) -> float:
    """The level of the first look at the challenger of a place, never above ``1 - confidence``.

    Args:
        rule: the gate.
        place: from 1 on.
        promoted: the places before it after which a model was promoted.
    """
    plain = 1 - rule.confidence
    if rule.false_share is None:
        return plain
    first = min(FIRST, plain / rule.false_share)
    found = rule.false_share * sum(gamma(place - since, first) for since in (0, *promoted))
    return plain if found > plain * (1 - 1e-9) else found


def gamma(place: int, first: float) -> float:
    """The share of a discovery's wealth that is spent at this place after it; with later looks they add up to one."""
    return first if place == 1 else (1 / (1 + AGAIN) - first) * place**-DECAY / TAIL


def later(again: int) -> float:
    """The level of a challenger's look number ``again`` after its first, as a share of the first one's."""
    return 1.0 if not again else AGAIN * (again + 1) ** -DECAY / TAIL


def reach(spread: Spread, level: float, plain: float) -> float | None:
    """How far a one-sided bound of this level lies below the value; None if there is no bound.

    Draws do not reach to small levels: below ``plain`` the bound is not nearer than Student's.
    """
    lows = [spread.lower(1 - level)]
    if level < plain and spread.draws is not None:
        lows.append(replace(spread, draws=None).lower(1 - level))
    known = [low for low in lows if low is not None]
    return spread.value - min(known) if known else None


def best_by_luck(looks: int) -> float:
    """The expected maximum of so many standard normal numbers: G. Blom, "Statistical estimates and transformed
    beta-variables" (1958), with his constant 3/8."""
    return NormalDist().inv_cdf((looks - 0.375) / (looks + 0.25))


def recipe_of(challenger: object, champion: str | None) -> str | None:
    """The recipe of a challenger for its ``Sight``, from what the job that scored it says of it."""
    said = isinstance(challenger, str) and re.fullmatch("[0-9a-f]{16}", challenger)
    return str(challenger) if said and challenger != champion else None


def _share(now: Sight, then: Sight) -> float | None:
    """The share of the rows of now that a verdict has seen; None if it is not known."""
    if now.holdout is not None and now.holdout == then.holdout:
        return 1.0
    if not (now.sketch and now.rows and then.sketch and then.rows):
        return None
    from conveyor.gate import overlap  # a reader of the ledger needs no numpy

    return overlap.in_common(now.sketch, now.rows, then.sketch, then.rows)[0]
