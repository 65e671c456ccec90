"""Pictures of a comparison as SVG for inside an HTML page, whose style sheet gives them their colours and font."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

Labels, Floats = NDArray[np.int64], NDArray[np.float64]
Scores = dict[str, Floats]  # predictions by the model's role, the champion first so that the challenger lies above it

# Drawn in colours that nobody would choose, which become variables of the style sheet: so they follow the theme.
ROLES = ("ink", "muted", "line", "champion", "challenger", "good", "bad")
COLOUR = {role: f"#01020{i}" for i, role in enumerate(ROLES)}
STYLE = {
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
WIDTH = 360  # narrow, for text must stay legible where a phone shrinks the picture


class Group(NamedTuple):
    """Rows of about the same prediction: how many, predicted mean, observed share, and the interval of the latter."""

    rows: int
    predicted: float
    observed: float
    low: float
    high: float


def picture(name: str, label: str, height: int, margins: tuple[int, ...], draw: Callable[[Axes], None]) -> str:
    """What ``draw`` draws, as an SVG element: the same text for the same picture, with no date and no link in it.

    Args:
        name: unique on the page, for the ids in the element.
        label: what the picture shows, for those who do not see it.
        margins: left, bottom, right and top of the axes, in pixels.
    """
    left, bottom, right, top = margins
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # what the machine's own matplotlibrc says has no say here
        matplotlib.rcParams.update({**STYLE, "svg.hashsalt": name})
        figure = Figure(figsize=(WIDTH / 72, height / 72))
        box = (left / WIDTH, bottom / height, (WIDTH - left - right) / WIDTH, (height - bottom - top) / height)
        draw(figure.add_axes(box))
        out = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r' id="[\w.]+_\d+"', "", svg)  # counters that every picture of the page would repeat
    for role, colour in COLOUR.items():
        svg = svg.replace(colour, f"var(--{role})")
    opening = f'<svg role="img" aria-label="{html.escape(label)}" viewBox="0 0 {WIDTH} {height}">'
    return re.sub("<svg[^>]*>", lambda _: opening, svg, count=1)


def differences(metrics: list[dict[str, Any]], decision: dict[str, Any], names: dict[str, str]) -> str:
    """Each metric's gain with its interval, a line each; the one that decides stands first, on a band of its margin.

    A line is green or red where the interval says so; the one that decides by the rule of the gate, the others by zero.
    """
    margin, superior = decision["margin"], decision["promote_when"] == "superior"

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=COLOUR["muted"], linewidth=1)
        for y, metric in enumerate(metrics):
            decides = metric["name"] == decision["metric"]
            gain, low, high = metric["gain"], metric["gain_low"], metric["gain_high"]
            edge = margin if decides else 0.0
            sign = 0 if low is None else (low > (edge if superior else -edge)) - (high < -edge)
            colour = COLOUR[("muted", "good", "bad")[sign]]
            text = {"va": "center", "fontweight": "bold" if decides else "normal"}
            side = axes.get_yaxis_transform()
            axes.text(-0.04, y, names[metric["name"]], ha="right", color=COLOUR["ink"], transform=side, **text)
            axes.text(1.04, y, f"{gain:+.4f}".replace("-", "−"), ha="left", color=colour, transform=side, **text)
            if low is not None:
                axes.plot([low, high], [y, y], color=colour, linewidth=4 if decides else 2, solid_capstyle="round")
            axes.plot([gain], [y], marker="o", markersize=9 if decides else 7, color=colour)
            if decides and margin:
                axes.fill_betweenx([y - 0.42, y + 0.42], -margin, margin, color=COLOUR["line"], linewidth=0, zorder=0)
        # Zero is in the picture, and the marks at its edges are not cut.
        left, right = axes.get_xlim()
        room = 0.06 * (right - left)
        axes.set_xlim(min(left, 0) - room, max(right, 0) + room)
        axes.set_ylim(len(metrics) - 0.4, -0.6)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.locator_params(axis="x", nbins=4)
        for text, offset, side in (("← worse", -8, "right"), ("better →", 8, "left")):
            axes.annotate(text, (0, -0.6), xytext=(offset, 4), textcoords="offset points", ha=side)

    said = [
        f"{names[m['name']]} {m['gain']:+.4f}"
        + ("" if m["gain_low"] is None else f", between {m['gain_low']:+.4f} and {m['gain_high']:+.4f}")
        for m in metrics
    ]
    label = "Gain of the challenger over the champion, positive is better: " + "; ".join(said)
    return picture("differences", label, 50 + 40 * len(metrics), (86, 28, 66, 26), draw)


def roc(y: Labels, scores: Scores) -> tuple[Floats, Floats]:
    """One model's ROC curve: false and true positive rates, thinned to what a picture can show."""
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
        _square(axes, 1.0, "share of the negatives that are flagged too", "share of the positives that are found")

    return picture("ranking", f"ROC curves of {' and '.join(scores)}; the diagonal is a guess", *SQUARE, draw)


def groups(y: Labels, predicted: Floats) -> list[Group]:
    """Up to ten groups of about equally many rows by prediction, with 95 % Wilson intervals of the observed share."""
    count = int(np.clip(len(y) // 30, 1, 10))
    edges = np.unique(np.quantile(predicted, np.linspace(0, 1, count + 1)))
    which = np.clip(np.searchsorted(edges, predicted, side="right") - 1, 0, max(len(edges) - 2, 0))
    made = []
    for group in np.unique(which):
        n, k, z = int(np.sum(which == group)), int(np.sum(y[which == group])), 1.96
        middle, half = (k + z * z / 2) / (n + z * z), z / (n + z * z) * (k * (n - k) / n + z * z / 4) ** 0.5
        made.append(Group(n, float(predicted[which == group].mean()), k / n, middle - half, middle + half))
    return made


def calibration(made: dict[str, list[Group]]) -> str:
    """What was predicted against what was seen, of each model's groups."""
    most = max(max(group.high, group.predicted) for role in made for group in made[role])

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=COLOUR["line"], linewidth=1.5)
        for role, own in made.items():
            seen = {"color": COLOUR[role], "linestyle": LINES[role]}
            for group in own:
                axes.plot([group.predicted] * 2, [group.low, group.high], color=COLOUR[role], linewidth=1)
            face = COLOUR[role] if role == "challenger" else "none"
            axes.plot([g.predicted for g in own], [g.observed for g in own], linewidth=1, **seen)
            axes.plot([g.predicted for g in own], [g.observed for g in own], "o", color=seen["color"], mfc=face)
        _square(axes, min(most * 1.04, 1.0), "predicted probability", "share that came true")

    label = f"Calibration of {' and '.join(made)}: the share that came true against the predicted probability"
    return picture("calibration", label, *SQUARE, draw)


LINES = {"champion": (0, (4, 2)), "challenger": "-"}
SQUARE = (358, (30, 42, 10, 30))  # height and margins


def _square(axes: Axes, most: float, x: str, y: str) -> None:
    axes.set(xlim=(0, most), ylim=(0, most))
    axes.set_xlabel(x, labelpad=6)
    # Upright above its axis: a title that lies on its side is read by nobody.
    axes.set_title(y, loc="left", x=-0.08, pad=10, fontsize=12)
    axes.locator_params(nbins=5)
