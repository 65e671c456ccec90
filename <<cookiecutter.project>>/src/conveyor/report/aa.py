"""The A/A test of the gate for the page: its words, and the picture of its decisions."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes

from conveyor.gate.aa import Rate
from conveyor.report.pictures import COLOUR, picture
from conveyor.report.wording import Json, number, percent

TONES = {"promote": "challenger", "block": "bad"}  # what these decisions are drawn in; all others are muted


def section(found: Json, name: str) -> Json:
    """The parts of the section.

    Args:
        found: the ``aa`` of build/aa.json, see gate/aa.py.
        name: the metric's.
    """
    promoted = found["promoted"]
    often = [verb for verb in ("promoted", "blocked") if Rate.model_validate(found[verb]).above]
    verbs = " and ".join({"promoted": "promotes", "blocked": "blocks"}[verb] for verb in often)
    return {
        "good": not often,
        "headline": f"It {verbs} too often" if often else "It keeps its promise",
        "rates": [
            (f"false promotions, nominal {percent(promoted['nominal'])}", _rate(promoted)),
            (f"false blocks, at most {percent(found['blocked']['nominal'])}", _rate(found["blocked"])),
            (
                "a gate that promotes what measures at least as good: the check that the test sees a wrong gate",
                _rate(found["greater"]),
            ),
            ("predictions that differ between two of the models", percent(round(found["differ"], 3))),
        ],
        "smallest": None if found["smallest_gain"] is None else number(found["smallest_gain"], "+").replace("-", "−"),
        "svg": drawing(found, name),
        **{key: found[key] for key in ("refits", "units", "unit", "rows")},
        "count": len(found["decisions"]),
    }


def _rate(rate: Json) -> str:
    return f"{percent(round(rate['share'], 3))} ± {percent(round(rate['error'], 3))}"


def drawing(found: Json, name: str) -> str:
    """The intervals of all decisions, sorted by their gain; a dashed line is the smallest gain that can be seen."""
    drawn = sorted((d for d in found["decisions"] if d["low"] is not None), key=lambda d: d["gain"])
    smallest = found["smallest_gain"]

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=COLOUR["muted"], linewidth=1, zorder=3)
        if smallest is not None:
            axes.axvline(smallest, color=COLOUR["ink"], linewidth=1, linestyle=(0, (4, 3)))
        for kind in ("", *TONES):
            own = [(y, d) for y, d in enumerate(drawn) if (d["outcome"] if d["outcome"] in TONES else "") == kind]
            tone: Any = COLOUR[TONES.get(kind, "line")]
            axes.hlines([y for y, _ in own], [d["low"] for _, d in own], [d["high"] for _, d in own], tone, linewidth=1)
        axes.plot([d["gain"] for d in drawn], range(len(drawn)), color=COLOUR["muted"], linewidth=1.5)
        axes.set(ylim=(-2, len(drawn) + 1), yticks=[])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(f"measured gain of {name}", labelpad=6)
        axes.locator_params(axis="x", nbins=5)

    ends = number(drawn[0]["gain"], "+") if drawn else "none", number(drawn[-1]["gain"], "+") if drawn else "none"
    label = f"Intervals of {len(drawn)} decisions between equal models, by measured gain, from {ends[0]} to {ends[1]}"
    return picture("aa", label, 300, (16, 46, 16, 12), draw)
