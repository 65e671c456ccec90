"""The evidence of a verdict, in words: units of rows, correlated neighbours, tails, and what no guard checked."""

from __future__ import annotations

from conveyor.core.params import BLOCK
from conveyor.gate.spread import FEWEST
from conveyor.report.wording import Json, counted, number, plain

DAY, WEEK = 24, 7 * 24  # hours


def blocks(count: int, name: str) -> str:
    """So many units in words, such as "37 days"."""
    if not BLOCK.fullmatch(name):
        return f"{counted(count, 'value')} of {plain(name, 60)}"
    return f"{counted(count, 'block')} of {name}" if name[0].isdigit() else counted(count, name)


def unit(count: int, name: str) -> str:
    """The unit of the intervals, in words."""
    one = f"block of {name}" if BLOCK.fullmatch(name) and name[0].isdigit() else plain(name, 60)
    return f"{blocks(count, name)}, the rows of one {one} count as one unit"


def units_line(judged: Json) -> str:
    """The unit of the gate, and how many independent rows would tell as much; empty where each row is alone."""
    units = judged["units"]
    if not units:
        return ""
    text = unit(units["count"], units["name"])
    if units["count"] < FEWEST:
        return f"{text}; at least {FEWEST} are needed to tell anything"
    effect, effective = units["design_effect"], units["effective_rows"]
    if effect is None or effective is None:
        return f"{text}; how much they repeat each other cannot be told"
    if effect <= 1:
        return f"{text}; they do not repeat each other here (design effect {effect:.2f})"
    rows = f"{judged['rows']:,} rows tell as much about the gain as about {effective:,.0f} independent ones"
    return f"{text}; the {rows} (design effect {effect:.1f})"


def unwatched(decision: Json) -> list[str]:
    """What no guard looked at, a line each; empty if guards looked at all values of some column, and at calibration.

    Args:
        decision: build/decision.json.
    """
    judged = decision["decision"]
    if not decision["champion"]:
        return ["everything: guards compare with a champion, and there is none"]
    gate = next(metric for metric in judged["metrics"] if metric["name"] == judged["metric"])
    if gate["gain"] is None:
        return ["everything: the two models could not be compared"]
    kinds, told = {guard["kind"] for guard in judged["guards"]}, list(judged["unseen"])
    columns = [line for line in told if not line.startswith("calibration:")]
    if "segment" not in kinds:
        none = "none has enough rows" if columns else "gate.guards.segments in params.yaml names no column"
        told.insert(0, f"segments: {none}")
    if "calibration" not in kinds and len(columns) == len(judged["unseen"]):
        told.append("calibration: gate.guards.calibration_margin in params.yaml is null")
    return told


def longer(name: str) -> str | None:
    """The next longer block, as params.yaml takes it; None if the unit is no block of time."""
    if not BLOCK.fullmatch(name):
        return None
    hours = _hours(name)
    return "day" if hours < DAY else "week" if hours < WEEK else str(2 * hours)


def _hours(name: str) -> int:
    return {"hour": 1, "day": DAY, "week": WEEK}.get(name) or int(name.split()[0])


def cautions(judged: Json) -> list[str]:
    """What weakens the interval of the gain, a sentence each."""
    return [*_correlated(judged), *_tail(judged)]


def _correlated(judged: Json) -> list[str]:
    units = judged["units"]
    if not units or not units["still_correlated"]:
        return []
    block, name = longer(units["name"]), units["name"]
    what = blocks(2, name).removeprefix("2 ")
    safer = "larger groups are safer"
    if block:
        left = units["count"] * _hours(name) / _hours(block)
        safer = f"longer units are safer: gate.block: {block} in params.yaml"
        if left < FEWEST:
            safer = f"a longer holdout is safer, because it is too short for units of a {block}"
    [gate] = [metric for metric in judged["metrics"] if metric["name"] == judged["metric"]]
    so = "the interval is widened by an estimate of that" if gate["gain_low"] is not None else "there is no interval"
    alike = f"neighbouring {what} are still correlated ({units['serial']:.2f})"
    if not units["serial"]:
        alike = f"{what} a few steps apart are alike, as weekdays are"
    return [f"{alike}: {so}, and {safer}"]


def _tail(judged: Json) -> list[str]:
    tail = judged["tail"]
    if not tail:
        return []
    what = "units" if judged["units"] else "rows"
    worst = judged["margin"] if judged["promote_when"] == "superior" else -judged["margin"]
    enough = "which is still enough" if tail["low"] > worst else "which is not enough"
    return [
        f"few {what} carry the gain: one of them has {100 * tail['carried']:.0f}\u00a0% of the squared deviations;"
        f" without up to {tail['without']} that favour the challenger most, the gain is shown to be above"
        f" {number(tail['low'], '+')}, {enough}"
    ]
