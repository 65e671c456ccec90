"""Pictures over time: which model was live when, and the live loss beside that of the holdout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import matplotlib.dates
import numpy as np
from matplotlib.axes import Axes

from conveyor.gate.spread import Floats
from conveyor.report.pictures import COLOUR, WIDTH, picture

DATES: Any = matplotlib.dates  # its functions have no types
WIDE = 720  # pixels
POINTS = 400  # in a picture: of more, neighbours are drawn as their mean
FEW = 40  # points that are drawn large
LETTER = 6.5  # pixels of a digit
MARKS = 60  # stretches that are told apart: more would be a grey area


@dataclass(frozen=True)
class Period:
    """A stretch of time in which one model was live: from its ``live`` event until the next one, or until now."""

    start: datetime
    end: datetime
    label: str


@dataclass(frozen=True)
class Gain:
    """What a champion gained over the one before it when it was judged, with the ends of its interval."""

    time: datetime
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Loss:
    """A loss over time.

    Attributes:
        name: of the loss.
        times: the end of each block (n,).
        values: the mean loss of each block (n,).
        promised: what the holdout promised.
        low, high: its bounds, or None.
        run: how many blocks the running mean is of.
        started, alarmed: the begin of the change and the block of the alarm, or None.
    """

    name: str
    times: Sequence[datetime]
    values: Floats
    promised: float
    low: float | None
    high: float | None
    run: int
    started: datetime | None = None
    alarmed: datetime | None = None


def both(name: str, label: str, height: int, draw: Callable[[Axes, int], None], left: int = 52) -> tuple[str, str]:
    """The picture for wide screens and that for narrow ones."""

    def drawn(kind: str, width: int) -> str:
        def on(axes: Axes) -> None:
            axes.spines["left"].set_visible(False)
            draw(axes, width - left - 14)
            # With three at least it finds no interval for some ranges, such as 32 months.
            locator = DATES.AutoDateLocator(minticks=2, maxticks=5 if width == WIDTH else 9)
            axes.xaxis.set_major_locator(locator)
            axes.xaxis.set_major_formatter(DATES.ConciseDateFormatter(locator))

        return picture(f"{name}-{kind}", label, height, (left, 40, 14, 30), on, width)

    return drawn("wide", WIDE), drawn("narrow", WIDTH)


def running(values: Floats, count: int) -> Floats:
    """The mean of each value and of those before it, at most ``count`` of them (n,)."""
    summed = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    begins = np.maximum(ends - count, 0)
    made: Floats = (summed[ends] - summed[begins]) / (ends - begins)
    return made


def thinned(values: Floats, most: int = POINTS) -> tuple[int, Floats]:
    """How many neighbours are taken together so that at most ``most`` points are left, and their means."""
    each = -(-len(values) // most)
    if each <= 1:
        return 1, values
    return each, np.array([values[at : at + each].mean() for at in range(0, len(values), each)])


def losses(loss: Loss, lives: Sequence[Period], label: str) -> tuple[str, str]:
    """The loss over time, for wide and for narrow screens; the stretches of the models are behind it."""
    days = np.array([_day(time) for time in loss.times])
    mean = running(loss.values, loss.run)
    each, points = thinned(loss.values)
    places, lines = thinned(days)[1], thinned(mean)[1]
    first, last = _ends(days[0], days[-1])

    def draw(axes: Axes, width: int) -> None:
        seen = [*points, *lines, *(v for v in (loss.promised, loss.low, loss.high) if v is not None)]
        room = 0.12 * (max(seen) - min(seen) or 1.0)
        axes.set(xlim=(first, last), ylim=(min(seen) - room, max(seen) + room))
        _stretches(axes, lives, width)
        if loss.low is not None and loss.high is not None:
            axes.axhspan(loss.low, loss.high, color=COLOUR["good"], alpha=0.2, linewidth=0)
        axes.axhline(loss.promised, color=COLOUR["good"], linewidth=1.5, linestyle=(0, (4, 3)))
        few = len(points) <= FEW
        axes.plot(places, points, ".", color=COLOUR["muted"], markersize=10 if few else 5, alpha=1.0 if few else 0.7)
        axes.plot(places, lines, color=COLOUR["challenger"])
        for time, style in ((loss.started, (0, (3, 3))), (loss.alarmed, "-")):
            if time:
                axes.axvline(_day(time), color=COLOUR["bad"], linewidth=1.5, linestyle=style)
        axes.locator_params(axis="y", nbins=5)

    return both("loss", label, 300, draw)


def lived(lives: Sequence[Period], gains: Sequence[Gain], label: str) -> tuple[str, str]:
    """Which model was live when, with the gain of each over the one before it."""
    first, last = _ends(_day(lives[0].start), _day(lives[-1].end))

    def draw(axes: Axes, width: int) -> None:
        ends = [value for gain in gains for value in (gain.low, gain.high, 0.0)] or [0.0, 1.0]
        room = 0.12 * (max(ends) - min(ends) or 1.0)
        axes.set(xlim=(first, last), ylim=(min(ends) - room, max(ends) + room))
        _stretches(axes, lives, width)
        if gains:
            axes.axhline(0, color=COLOUR["muted"], linewidth=1)
            axes.locator_params(axis="y", nbins=5)
        else:
            axes.set_yticks([])
        for gain in gains:
            tone = COLOUR["good" if gain.low > 0 else "muted"]
            axes.plot([_day(gain.time)] * 2, [gain.low, gain.high], color=tone, solid_capstyle="round")
            axes.plot([_day(gain.time)], [gain.value], "o", color=tone, markersize=6)

    return both("lives", label, 260 if gains else 110, draw, left=60 if gains else 14)


def _stretches(axes: Axes, lives: Sequence[Period], width: int) -> None:
    """Every second stretch is shaded; labels stand above where they have room, that of the newest one always."""
    left, right = axes.get_xlim()
    shown = [life for life in lives if _day(life.end) > left and _day(life.start) < right]
    free = right
    for place, life in reversed(list(enumerate(shown))):
        begin, end = max(_day(life.start), left), min(_day(life.end), right)
        if place % 2 == 0:
            axes.axvspan(begin, end, color=COLOUR["line"], alpha=0.6, linewidth=0)
        if begin > left and len(shown) <= MARKS:
            axes.axvline(begin, color=COLOUR["muted"], linewidth=0.75)
        needed = (len(life.label) + 1) * LETTER * (right - left) / width
        if free - begin < needed and place < len(shown) - 1:
            continue
        at, side = (begin, "left") if free - begin >= needed else (right, "right")
        axes.text(at, 1.03, life.label, transform=axes.get_xaxis_transform(), ha=side, fontsize=11)
        free = min(at, right - needed)


def _day(time: datetime) -> float:
    return float(DATES.date2num(time.astimezone(UTC).replace(tzinfo=None)))


def _ends(first: float, last: float) -> tuple[float, float]:
    """The ends of the axis: a moment alone gets a day around it."""
    room = 0.02 * (last - first) or 0.5
    return first - room, last + room
