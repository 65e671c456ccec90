"""The picture of a verdict as Mermaid text, which GitHub draws in a comment: no file has to be stored."""

from __future__ import annotations

import re

import numpy as np

from conveyor.report.wording import Json, by_urgency, metric_name, plain

SHOWN = 10  # segments: more names would overlap
COLOURS = {"upper bound": "#9aa0a6", "gain": "#2f81f7", "lower bound": "#9aa0a6", "tolerated": "#d1242f"}


def gains(judged: Json, short: dict[str, str]) -> list[str]:
    """The gain over all rows and in the most urgent segments with its interval, as lines of a chart.

    Args:
        judged: the decision.
        short: the short name of each segment.

    Returns:
        Lines of Markdown; none if there is no champion, no interval, or no segment.
    """
    whole = next(m for m in judged["metrics"] if m["name"] == judged["metric"])
    points = [("all rows", whole, judged["margin"])]
    for guard in by_urgency(judged["guards"]):
        if guard["kind"] == "segment" and guard["gain_low"] is not None and len(points) <= SHOWN:
            points.append((short[guard["name"]], guard, guard["margin"]))
    if whole["gain_low"] is None or whole["gain"] is None or len(points) < 2:
        return []
    lines = {
        "upper bound": [point["gain_high"] for _, point, _ in points],
        "gain": [point["gain"] for _, point, _ in points],
        "lower bound": [point["gain_low"] for _, point, _ in points],
        "tolerated": [0 - margin for *_, margin in points],
    }
    values = [value for line in lines.values() for value in line]
    room = 0.05 * (max(values) - min(values)) or 1.0
    names = ", ".join(f'"{_text(name, 14)}"' for name, *_ in points)
    palette = ",".join(COLOURS.values())
    return [
        "```mermaid",
        f'%%{{init: {{"themeVariables": {{"xyChart": {{"plotColorPalette": "{palette}"}}}}}}}}%%',
        "xychart-beta",
        f'  title "Gain of the challenger in {_text(metric_name(judged["metric"]), 40)}"',
        f"  x-axis [{names}]",
        f'  y-axis "gain" {_number(min(values) - room)} --> {_number(max(values) + room)}',
        *(f"  line [{', '.join(map(_number, line))}]" for line in lines.values()),
        "```",
        "",
        "Blue is the gain, grey its interval; red is the loss that is tolerated.",
        "",
    ]


def _text(value: str, length: int) -> str:
    """A name in which nothing ends the text or has a meaning in Mermaid."""
    text = re.sub(r"[^\w .+-]", " ", plain(value, 200)).strip() or "?"
    return text if len(text) <= length else text[: length - 1] + "…"


def _number(value: float) -> str:
    """Six significant digits without an exponent, also for very small errors."""
    return np.format_float_positional(value, precision=6, unique=False, fractional=False, trim="-")
