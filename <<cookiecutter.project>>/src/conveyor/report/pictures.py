"""Pictures of a comparison as SVG inside an HTML page; the page's style sheet sets colours and font."""

from __future__ import annotations

import html
import io
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from conveyor.gate.metrics import Labels
from conveyor.gate.spread import Floats
from conveyor.report.wording import interval, number, state

Json = dict[str, Any]
Scores = dict[str, Floats]  # predictions by the model's role; the champion first: the challenger is drawn above it

# The drawing colours are placeholders: they become variables of the style sheet, so the picture follows the theme.
ROLES = ("ink", "muted", "line", "champion", "challenger", "good", "bad", "warn")
COLOUR = {role: f"#01020{i}" for i, role in enumerate(ROLES)}
STYLE: dict[Any, Any] = {  # matplotlib has a type of its own for the names
    "font.size": 12,
    "text.color": COLOUR["muted"],
    "axes.edgecolor": COLOUR["line"],
    "axes.labelcolor": COLOUR["muted"],
    "axes.spines.right": False,
    "axes.spines.top": False,
    "xtick.color": COLOUR["line"],
    "ytick.color": COLOUR["line"],
    "xtick.labelcolor": COLOUR["muted"],
    "ytick.labelcolor": COLOUR["muted"],
    "lines.linewidth": 2,
    "path.simplify_threshold": 0.2,
    "svg.fonttype": "none",
    "text.parse_math": False,
}
TONES = {"holds": "muted", "cannot tell": "muted", "beyond": "muted", "in doubt": "warn", "broken": "bad"}  # of a guard
URGENT = ("broken", "in doubt")
WIDTH = 360  # narrow: text must stay legible on a phone, where the picture shrinks


class Group(NamedTuple):
    """Rows with similar predictions: their number, mean prediction, observed value, and its interval."""

    rows: int
    predicted: float
    observed: float
    low: float
    high: float


def picture(
    name: str, label: str, height: int, margins: tuple[int, ...], draw: Callable[[Axes], None], width: int = WIDTH
) -> str:
    """The drawing of ``draw`` as an SVG element: equal text for an equal picture, without a date or a link.

    Args:
        name: unique on the page, for the ids in the element.
        label: a description of the picture for readers who cannot see it.
        margins: left, bottom, right and top of the axes, in pixels.
        width: in pixels; a phone shows no more than the default without shrinking the text.
    """
    left, bottom, right, top = margins
    with matplotlib.rc_context(), warnings.catch_warnings():
        # The browser draws the text: a letter may be missing in matplotlib's own font.
        warnings.filterwarnings("ignore", message="Glyph")
        matplotlib.rcdefaults()  # ignore the machine's matplotlibrc
        matplotlib.rcParams.update({**STYLE, "svg.hashsalt": name})
        figure = Figure(figsize=(width / 72, height / 72))
        box = (left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height)
        draw(figure.add_axes(box))
        out = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r' id="[\w.]+_\d+"', "", svg)  # counters would repeat in every picture of the page
    for role, colour in COLOUR.items():
        svg = svg.replace(colour, f"var(--{role})")
    opening = f'<svg role="img" aria-label="{html.escape(label)}" viewBox="0 0 {width} {height}">'
    return re.sub("<svg[^>]*>", lambda _: opening, svg, count=1)


def differences(metrics: list[Json], decision: Json, names: dict[str, str]) -> str:
    """Each metric's gain with its interval, one line each; the deciding one comes first, on a band of its margin.

    A line is green or red if the numbers show it: the deciding one by the rule of the gate, the others by zero. In a
    regression the metrics have different units, so each line has its own scale.
    """
    margin, superior = decision["margin"], decision["promote_when"] == "superior"
    own_scale = decision["task"] == "regression"

    def colour(metric: Json) -> str:
        decides, low, high = metric["name"] == decision["metric"], metric["gain_low"], metric["gain_high"]
        if low is None:
            return COLOUR["muted"]
        if decides:
            worse = metric["p_harm"] is not None and metric["p_harm"] <= (1 - decision["guard_confidence"]) / 2
            better = low > (margin if superior else -margin)
        else:
            worse, better = high < 0, low > 0
        return COLOUR["bad" if worse else "good" if better else "muted"]

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=COLOUR["muted"], linewidth=1)
        for y, metric in enumerate(metrics):
            decides, tone = metric["name"] == decision["metric"], colour(metric)
            gain, low, high = metric["gain"], metric["gain_low"], metric["gain_high"]
            band = margin if decides else 0.0
            unit = max(abs(v) for v in (gain, low, high, band) if v is not None) if own_scale else 0.0
            text = {"fontweight": "bold"} if decides else {}
            _line(axes, y, short(names[metric["name"]]), _gained(gain), tone, **text)
            _span(axes, y, [v if v is None else v / (unit or 1.0) for v in (gain, low, high)], tone, 1.0 + decides)
            if band:
                edge = band / (unit or 1.0)
                axes.fill_betweenx([y - 0.42, y + 0.42], -edge, edge, color=COLOUR["line"], linewidth=0, zorder=0)
        _gains(axes, len(metrics))
        if own_scale:
            axes.set_xticks([])

    said = [f"{names[m['name']]} {_said(m)}" for m in metrics]
    label = "Gain of the challenger over the champion, positive is better: " + "; ".join(said)
    return picture("differences", label, 50 + 40 * len(metrics), (124, 28, 66, 26), draw)


def forest(segments: list[tuple[str, str, Json]], margin: float, over_all: Json) -> str:
    """The gain in each segment with its interval, below that over all rows; a dashed line is the margin.

    Args:
        segments: column, value and guard of each; those of one column are together.
        margin: of the segments.
        over_all: the deciding metric, over all rows.
    """
    lines: list[tuple[str, Json | None]] = [("all rows", over_all)]
    for place, (column, value, guard) in enumerate(segments):
        if not place or segments[place - 1][0] != column:
            lines.append((column, None))
        lines.append((value, guard))

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=COLOUR["muted"], linewidth=1)
        axes.axvline(-margin, color=COLOUR["bad"], linewidth=1, linestyle=(0, (4, 3)))
        for y, (name, guard) in enumerate(lines):
            if guard is None:
                _line(axes, y, short(name), "", COLOUR["muted"], "muted")
                continue
            # The first line is no guard.
            tone = COLOUR[TONES[state(guard)] if y else "ink"]
            text = {"fontweight": "bold"} if not y or state(guard) in URGENT else {}
            _line(axes, y, short(name), _gained(guard["gain"]), tone, **text)
            _span(axes, y, [guard[part] for part in ("gain", "gain_low", "gain_high")], tone, 1.5 if not y else 1.0)
        _gains(axes, len(lines))

    label = f"Gain in segments, positive is better, margin {0 - margin:g}; over all rows {_said(over_all)}"
    for which in (*URGENT, "beyond"):
        named = [f"{column} {value} {_said(guard)}" for column, value, guard in segments if state(guard) == which]
        label += f"; {which}: {'; '.join(named)}" if named else ""
    if all(state(guard) not in URGENT for *_, guard in segments):
        label += f"; none of {len(segments)} is broken or in doubt"
    return picture("forest", label, 54 + 24 * len(lines), (124, 28, 66, 26), draw)


def short(text: str, most: float = 14) -> str:
    """A name, cut to fit beside a picture; letters have different widths."""
    used = 0.0
    for place, letter in enumerate(text):
        wide = 1.3 if letter.isupper() or letter in "mw" else 1.0
        wide = 1.8 if letter in "WM" or unicodedata.east_asian_width(letter) in "WF" else wide
        used += 0.6 if letter in " .,:;'|()[]-Iijlrtf" else wide
        if used > most:
            return text[: max(place - 1, 1)] + "…"
    return text


def _gained(value: float) -> str:
    """A gain in at most seven characters."""
    large = abs(value) >= 1e5
    return f"{'+' * (value >= 0)}{_compact(value)}" if large else f"{value:+.{4 if abs(value) < 10 else 0}f}"


def _said(measured: Json) -> str:
    bounds = interval(measured["gain_low"], measured["gain_high"], "+")
    return number(measured["gain"], "+") + (f", between {bounds.replace(' to ', ' and ')}" if bounds else "")


def _line(axes: Axes, y: float, name: str, value: str, colour: str, ink: str = "ink", **text: Any) -> None:
    """The texts left and right of a line."""
    place = {"va": "center", "transform": axes.get_yaxis_transform(), **text}
    axes.text(-0.04, y, name, ha="right", color=COLOUR[ink], **place)
    axes.text(1.04, y, value.replace("-", "−"), ha="left", color=colour, **place)


def _span(axes: Axes, y: float, measured: list[Any], colour: str, weight: float) -> None:
    """A dot with its interval, if it has one."""
    value, low, high = measured
    if low is not None:
        axes.plot([low, high], [y, y], color=colour, linewidth=2 * weight, solid_capstyle="round")
    axes.plot([value], [y], marker="o", markersize=5 + 2 * weight, color=colour)


def _gains(axes: Axes, lines: int) -> None:
    """The axis of gains: zero is visible, marks at the edges are not cut, and a text says which side is better."""
    left, right = axes.get_xlim()
    room = 0.06 * (right - left)
    axes.set_xlim(min(left, 0) - room, max(right, 0) + room)
    axes.set_ylim(lines - 0.4, -0.6)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=4)
    for text, offset, side in (("← worse", -8, "right"), ("better →", 8, "left")):
        axes.annotate(text, (0, -0.6), xytext=(offset, 4), textcoords="offset points", ha=side)


def roc(y: Labels, scores: Floats) -> tuple[Floats, Floats]:
    """One model's ROC curve: false and true positive rates, thinned to the resolution of the picture."""
    order = np.argsort(-scores, kind="stable")
    found, last = np.cumsum(y[order]), np.append(np.diff(scores[order]) != 0, True)  # tied rows are one step
    true, false = found[last], np.flatnonzero(last) + 1 - found[last]
    keep = np.unique(np.linspace(0, len(true) - 1, 300).astype(int))
    return np.append(0, false[keep]) / false[-1], np.append(0, true[keep]) / true[-1]


def ranking(y: Labels, scores: Scores) -> str:
    """The ROC curves of the models."""

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=COLOUR["line"], linewidth=1.5)
        for role, predicted in scores.items():
            axes.plot(*roc(y, predicted), color=COLOUR[role], linestyle=LINES[role])
        axes.set(xlim=(0, 1), ylim=(0, 1))
        _named(axes, "share of the negatives that are flagged too", "share of the positives that are found")

    return picture("ranking", f"ROC curves of {' and '.join(scores)}; the diagonal is a guess", *SQUARE, draw)


def groups(y: Labels, predicted: Floats) -> list[Group]:
    """Up to ten groups of about equally many rows by prediction, with 95 % intervals of the observed values.

    For labels that are zeros and ones: the share of ones with Wilson's interval; for numbers: their mean.
    """
    return [
        Group(len(own), float(said.mean()), *(_mean(own) if y.dtype.kind == "f" else wilson(int(own.sum()), len(own))))
        for own, said in _alike(y, predicted)
    ]


def spread(y: Labels, predicted: Floats) -> list[Group]:
    """For the same groups the median error, and the errors between which the middle 80 % of the rows are."""
    made = []
    for own, said in _alike(y, predicted):
        low, middle, high = np.quantile(own - said, [0.1, 0.5, 0.9]).tolist()
        made.append(Group(len(own), float(said.mean()), middle, low, high))
    return made


def _alike(y: Labels, predicted: Floats) -> Iterator[tuple[Labels, Floats]]:
    """Labels and predictions of each group of rows with similar predictions."""
    count = int(np.clip(len(y) // 30, 1, 10))
    edges = np.unique(np.quantile(predicted, np.linspace(0, 1, count + 1)))
    which = np.clip(np.searchsorted(edges, predicted, side="right") - 1, 0, max(len(edges) - 2, 0))
    for group in np.unique(which):
        yield y[which == group], predicted[which == group]


def _mean(values: Floats) -> tuple[float, float, float]:
    mean, n = float(values.mean()), len(values)
    half = 1.96 * float(values.std(ddof=1)) / n**0.5 if n > 1 else 0.0
    return mean, mean - half, mean + half


def wilson(k: int, n: int) -> tuple[float, float, float]:
    """The share k of n with its 95 % interval."""
    z = 1.96
    middle, half = (k + z * z / 2) / (n + z * z), z / (n + z * z) * (k * (n - k) / n + z * z / 4) ** 0.5
    return k / n, max(middle - half, 0.0), min(middle + half, 1.0)


def calibration(made: dict[str, list[Group]], x: str, y: str, numbers: bool = False) -> str:
    """Predicted against observed values of each model's groups.

    Args:
        made: see ``groups``.
        x, y: the names of the axes.
        numbers: for a regression, where the axes need not begin at zero.
    """
    ends = [end for own in made.values() for g in own for end in (g.low, g.high, g.predicted)]
    low, high = (min(ends), max(ends)) if numbers else (0.0, min(max(ends) * 1.04, 1.0))
    room = 0.04 * (high - low or 1.0) if numbers else 0.0

    def draw(axes: Axes) -> None:
        limits = (low - room, high + room)
        axes.plot(limits, limits, color=COLOUR["line"], linewidth=1.5)
        for role, own in made.items():
            seen: dict[str, Any] = {"color": COLOUR[role], "linestyle": LINES[role]}
            axes.plot([g.predicted for g in own], [g.observed for g in own], linewidth=1, **seen)
            _points(axes, role, [g.predicted for g in own], own)
        axes.set(xlim=limits, ylim=limits)
        _named(axes, x, y)

    label = f"Calibration of {' and '.join(made)}: what was seen against what was predicted"
    return picture("calibration", label, *(WIDE if numbers else SQUARE), draw)


def errors(made: dict[str, list[Group]]) -> str:
    """The errors of each model by its prediction: median and middle 80 % of actual minus predicted."""
    places = [g.predicted for own in made.values() for g in own]
    apart = 0.006 * (max(places) - min(places)) if len(made) > 1 else 0.0  # side by side, because equal models overlap

    def draw(axes: Axes) -> None:
        axes.axhline(0, color=COLOUR["line"], linewidth=1.5)
        for role, own in made.items():
            aside = apart if role == "challenger" else -apart
            _points(axes, role, [g.predicted + aside for g in own], own)
        _named(axes, "predicted", "actual less predicted")

    return picture("errors", f"Errors of {' and '.join(made)} by prediction; zero is none", *WIDE, draw)


def recalls(y: Labels, scores: Scores, names: list[str]) -> str:
    """For each class the share of its rows that a model finds, with Wilson's interval.

    If there are many classes: those with most rows.
    """
    counts = np.bincount(y, minlength=len(names))
    shown = [kind for kind in sorted(np.argsort(-counts, kind="stable")[:CLASSES].tolist()) if counts[kind]]

    def draw(axes: Axes) -> None:
        for role, predicted in scores.items():
            aside = 0.0 if len(scores) == 1 else 0.16 if role == "challenger" else -0.16
            for place, kind in enumerate(shown):
                share, low, high = wilson(int((predicted.argmax(axis=1)[y == kind] == kind).sum()), int(counts[kind]))
                axes.plot([low, high], [place + aside] * 2, color=COLOUR[role], linewidth=1.5)
                face = COLOUR[role] if role == "challenger" else "none"
                axes.plot([share], [place + aside], "o", color=COLOUR[role], mfc=face)
        for place, kind in enumerate(shown):
            _line(axes, place, short(names[kind]), f"{counts[kind]:,}", COLOUR["muted"])
        axes.set(xlim=(-0.02, 1.02), ylim=(len(shown) - 0.4, -0.6), yticks=[], xticks=[0, 0.25, 0.5, 0.75, 1])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("share of the class that is found", labelpad=6)
        axes.text(1.04, -0.75, "rows", ha="left", va="bottom", transform=axes.get_yaxis_transform())

    label = f"Share of the rows of each class that are found, by {' and '.join(scores)}"
    return picture("recalls", label, 74 + 34 * len(shown), (124, 46, 58, 28), draw)


LINES = {"champion": (0, (4, 2)), "challenger": "-"}
SQUARE, WIDE = (358, (30, 42, 10, 30)), (358, (46, 42, 10, 30))  # height and margins; numbers have wider labels
CLASSES = 15  # classes in a picture


def _points(axes: Axes, role: str, places: list[float], own: list[Group]) -> None:
    for place, group in zip(places, own, strict=True):
        axes.plot([place] * 2, [group.low, group.high], color=COLOUR[role], linewidth=1)
    face = COLOUR[role] if role == "challenger" else "none"
    # A point at the edge is drawn whole.
    axes.plot(places, [g.observed for g in own], "o", color=COLOUR[role], mfc=face, clip_on=False)


def _named(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, labelpad=6)
    # Upright above its axis, because vertical text is hard to read.
    axes.set_title(y, loc="left", x=-0.08, pad=10, fontsize=12)
    axes.locator_params(nbins=5)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: _compact(value))


def _compact(value: float) -> str:
    """A number at an axis in at most five characters."""
    for least, unit, letter in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= least:
            return f"{value / unit:.4g}{letter}".replace("-", "−")
    return f"{value:.4g}".replace("-", "−")
