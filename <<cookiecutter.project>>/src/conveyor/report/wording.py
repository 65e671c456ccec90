"""The decision in words, for Markdown and page, and the escaping of foreign text."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from conveyor.core.ci import Where
from conveyor.gate import looks
from conveyor.gate.decide import SHOWN
from conveyor.gate.metrics import METRICS
from conveyor.gate.spread import FEWEST
from conveyor.report import changed
from conveyor.report.changed import mapping

Json = dict[str, Any]
LONG = 2000  # characters of a verdict
LENGTH = 300  # characters of a text from the data
NO_FLOOR = "nothing is asked of the challenger's own values"
FLATTERED = 3  # from this look on the report says how much luck can show

# Each outcome for a reader who does not know the gate: a tone, a headline and a sentence.
MEANING = {
    "bootstrap": ("good", "A first champion", "There is nothing to beat yet, and it measures no worse than any floor."),
    "promote": ("good", "The challenger wins", "It passed every test of the gate, so it may become the champion."),
    "keep": ("even", "The champion stays", "What was measured does not show that replacing it would help."),
    "block": ("bad", "The challenger is blocked", "It may not become the champion."),
    "incomparable": ("warn", "A person has to decide", "The two models cannot be compared on these rows."),
    "data refused": ("bad", "The data were refused", "They break the data contract, so no model was judged by them."),
    "not judged": ("warn", "Nothing was judged", "This pull request could not be compared with the champion."),
    "none": ("warn", "No decision", "The run ended before any model was judged."),
}
# A metric of the team may keep its own name.
NAMES = {
    "roc_auc": ("ROC AUC", "how often a positive row gets a higher score than a negative one; a guess gets 0.5"),
    "average_precision": ("Avg. precision", "how pure the top of the ranking is, over all its lengths; 1 is perfect"),
    "log_loss": ("Log loss", "how surprised the model is by what happens; bold mistakes cost most"),
    "brier": ("Brier score", "mean squared distance of the predicted probability from what happens"),
    "accuracy": ("Accuracy", "share of rows whose predicted class is the right one"),
    "balanced_accuracy": ("Bal. accuracy", "mean over the classes of the share of their rows that is found"),
    "precision": ("Precision", "share of the flagged rows that are positive; of several classes, the mean over them"),
    "recall": ("Recall", "share of the positive rows that are flagged; of several classes, the mean over them"),
    "f1": ("F1", "harmonic mean of precision and recall; of several classes, the mean over them"),
    "rmse": ("RMSE", "typical error in units of the target; large errors weigh more"),
    "mae": ("MAE", "mean error in units of the target, whatever its sign"),
    "r2": ("R²", "share of the target's variance that is explained; predicting the mean gets 0"),
}


def verdict(validation: Json, decision: Json | None) -> tuple[str, str]:
    """The outcome and its reason."""
    if "unjudged" in validation:
        return "not judged", validation["unjudged"]
    if not validation["passed"]:
        return "data refused", (validation["failures"] or ["no reason was given"])[0]
    if decision is None:
        return "none", "the data passed, but the run ended before a decision; its log says why"
    return decision["decision"]["outcome"], decision["decision"]["reason"]


def plain(value: Any, length: int = LENGTH) -> str:
    """One line of printable text of limited length, whatever the name of a column or category."""
    text = " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
    return text if len(text) <= length else text[:length] + "…"


def escape(value: Any, length: int = LENGTH) -> str:
    """``plain`` text that Markdown shows as it is: nothing in it begins a block, cell, tag, code, emphasis or link.

    An invisible space after ``@`` prevents a notification, and after ``#`` a cross-reference of an issue.
    """
    text = re.sub(r"@|#(?=\d)", lambda found: f"{found[0]}\u200b", plain(value, length))
    special = r"[&<>|`*\\~$]|\](?=[(\[])|:(?=//)|(?<=www)\.|(?<![^\W_])_|_(?![^\W_])"
    block = r"^[#+-](?=[\s#-]|$)|^\d(?=\d*[.)](?:\s|$))"
    return re.sub(f"{special}|{block}", lambda found: f"&#{ord(found[0])};", text)


def number(value: float | None, sign: str = "") -> str:
    """Four decimals, fewer for large numbers, as errors in units of the target can be."""
    if value is None:
        return "–"
    decimals = 4 if abs(value) < 100 else 2 if abs(value) < 10_000 else 0
    return format(value, f"{sign},.{decimals}f")


def interval(low: float | None, high: float | None, sign: str = "") -> str:
    return "" if low is None or high is None else f"{number(low, sign)} to {number(high, sign)}"


def percent(share: float) -> str:
    return f"{100 * share:.4g}\u00a0%"  # the sign stays on the line of its number


def metric_name(name: str) -> str:
    return NAMES.get(name, (name, ""))[0]


def counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def data_state(validation: Json) -> str:
    """The state of the data, in at most two words."""
    return "not read" if "unjudged" in validation else "passed" if validation["passed"] else "refused"


def data_verdict(validation: Json) -> str:
    """How many expectations held, in words."""
    checked = validation["expectations"]
    held = f"{sum(e['passed'] for e in checked)} of {len(checked)} expectations hold" if checked else "none was checked"
    return held if validation["rows"] is None else f"{held} on {validation['rows']:,} rows"


def rows_used(decision: Json) -> str:
    """How many rows were judged, and which were left out."""
    judged, left_out = decision["decision"], decision["left_out"]
    reasons = {
        "champion_trained": "because the champion was trained on them",
        "altered": "because the base holds them out with other content",
    }
    why = [f"{left_out[name]:,} {reason}" for name, reason in reasons.items() if left_out[name]]
    counts = f" ({classes(judged)}{too_few(judged)})" if judged["class_counts"] else ""
    return f"{judged['rows']:,}{counts} of {decision['holdout_rows']:,} held out" + (
        f"; left out are {' and '.join(why)}" if why else ""
    )


def look(decision: Json) -> str:
    """The place of this verdict among those of main, what it needed, and by how much luck may flatter it.

    Empty if no champion was there to compare with.
    """
    judged = decision["decision"]
    given = judged.get("look")
    if not given:
        return ""
    before, plain_level = given["before"], 1 - judged["confidence"]
    [gate] = [m for m in judged["metrics"] if m["name"] == judged["metric"]]
    said = [f"number {before + 1:,} at these rows"]
    if before:
        share = "" if given["share"] is None else f" about {percent(round(given['share'], 2))} of"
        said[0] += f" ({counted(before, 'verdict')} of main used{share} them before)"
    if given["again"]:
        said.append(f"this challenger was judged {counted(given['again'], 'time')} before, on other rows")
    stricter = f" in place of {plain_level:.2g}" if given["level"] < plain_level else ""
    needed, gain = judged["needed"], gate.get("gain")
    asked = f", which needs a gain of {number(needed, '+')}" if needed is not None else ""
    if needed is not None and gain is not None and gain <= needed:
        asked += f": {number(gain, '+')} is not enough"
    said.append(f"tested at level {given['level']:.2g}{stricter}{asked}")
    if decision["rule_of"] == "the base":
        said.append("main would use the same level, and a pull request does not change it")
    if before + 1 >= FLATTERED and gate.get("gain_error"):
        most = looks.best_by_luck(before + 1) * gate["gain_error"]
        said.append(
            f"after so many looks a reported gain can be too good by about {number(most)}, as that of the luckiest of"
            f" {before + 1:,} equal challengers is"
        )
    return "; ".join(said)


def too_few(judged: Json) -> str:
    """Whether a class has too few rows for an interval, in words."""
    fewest = min((count for count in judged["class_counts"] if count), default=0)
    return f"; a class has {fewest}, at least {FEWEST} are needed" if fewest < FEWEST else ""


def classes(judged: Json) -> str:
    """How many rows of each class there are, in words."""
    counts = judged["class_counts"]
    return f"{counts[1]:,} of them positive" if judged["task"] == "binary" else f"of {len(counts)} classes"


def threshold_line(threshold: float | None, balance: Json | None, of: str) -> str:
    """The threshold of the classes, and the one that would balance precision and recall; empty without one.

    Args:
        threshold, balance: as in a decision.
        of: whose precision and recall these are.
    """
    if threshold is None:
        return ""
    text = f"a row is flagged as positive from a probability of {positional(threshold)} on"
    if balance is None:
        return text
    precision, recall = number(balance["precision"]), number(balance["recall"])
    there = f"equal, {precision}" if balance["precision"] == balance["recall"] else f"closest, {precision} and {recall}"
    return f"{text}; with {positional(balance['threshold'])}, precision and recall of {of} would be {there}"


def positional(value: float) -> str:
    """A number with all its decimals and no exponent, as params.yaml takes it."""
    return np.format_float_positional(value, trim="0")


def floor_line(floor: Json) -> str:
    higher = floor["metric"] not in METRICS or METRICS[floor["metric"]].higher_is_better
    return f"{'holds' if floor['holds'] else 'does not hold'}: at {'least' if higher else 'most'} {floor['floor']:g}"


def judged_by(decision: Json) -> str:
    """Whose rule decided, if it is not simply that of params.yaml; else nothing."""
    whose = decision["rule_of"]
    return "" if whose == "params.yaml" else f"Judged by the rule of {whose}."


# Guards


def by_urgency(guards: list[Json]) -> list[Json]:
    """Broken guards first, then those in doubt, then those that are closest to breaking."""
    return sorted(guards, key=lambda guard: (list(STATES).index(state(guard)), guard["p"]))


# Each state of a guard, the most urgent first, and what the tile of the guards says if it is the first one.
STATES = {
    "broken": "broken",
    "in doubt": "in doubt",
    "beyond": "not broken",
    "cannot tell": "cannot tell",
    "holds": "hold",
}

RESULTS = {"holds": "holds", "beyond": "beyond, not shown", "cannot tell": "cannot tell"}
RESULTS |= {state: state for state in ("broken", "in doubt")}


def state(guard: Json) -> str:
    """The result of a guard: a broken one blocks, one in doubt stops a promotion.

    One that measures beyond what is tolerated without enough evidence holds, and so does one that has too little
    evidence for any error: a reader must be told.
    """
    if not guard["holds"]:
        return "broken"
    if guard["doubted"]:
        return "in doubt"
    if guard["gain"] < 0 - guard["margin"]:
        return "beyond"
    return "holds" if guard["gain_low"] is not None else "cannot tell"


def guards_line(guards: list[Json]) -> str:
    """How many guards there are, of what kind, and how many hold or are in doubt."""
    segments = sum(guard["kind"] == "segment" for guard in guards)
    kinds = [counted(segments, "segment")] * bool(segments) + ["calibration"] * (segments < len(guards))
    states = [state(guard) for guard in guards]
    broken, doubted, beyond, untold = (states.count(which) for which in list(STATES)[:-1])
    # A decision lists at most SHOWN guards if all others hold.
    total = f"{len(guards)}{' or more' if len(guards) == SHOWN else ''}"
    of = f"of {total} guard{'s' * (len(guards) > 1)}"
    said = [f"{broken} {of} {'is' if broken == 1 else 'are'} broken"] * bool(broken)
    said += [f"{doubted} {'more' if said else of} {'is' if doubted == 1 else 'are'} in doubt"] * bool(doubted)
    tolerated = f"{'measures' if beyond == 1 else 'measure'} beyond what is tolerated, which may be luck"
    said += [f"{beyond} {'more' if said else of} {tolerated}"] * bool(beyond)
    said += [f"{untold} {'more' if said else of} {'has' if untold == 1 else 'have'} too little to tell"] * bool(untold)
    hold = f"{total} guard{'s hold' if len(guards) > 1 else ' holds'}"
    return f"{', '.join(said) or hold} ({', '.join(kinds)})"


def root(squared: float) -> float:
    """A calibration error in its own unit: guards measure its square, which can be negative by chance."""
    error: float = max(squared, 0.0) ** 0.5
    return error


def values(guard: Json) -> tuple[float, float]:
    """Champion's and challenger's value of a guard, in readable units."""
    pair = guard["champion"], guard["challenger"]
    return pair if guard["kind"] == "segment" else (root(pair[0]), root(pair[1]))


def tolerated(guard: Json) -> str:
    """The worst tolerated value of a guard."""
    if guard["kind"] == "segment":
        return f"gain of at least {0 - guard['margin']:g}"
    return f"error up to {number(root(guard['champion'] + guard['margin']))}"


def closest(guard: Json) -> str:
    """One guard in a few words."""
    notes = {"beyond": " (measured beyond what is tolerated, which may be luck)", "in doubt": " (in doubt)"}
    luck = notes.get(state(guard), "")
    if guard["kind"] == "segment":
        bounds = f" [{interval(guard['gain_low'], guard['gain_high'], '+')}]" if guard["gain_low"] is not None else ""
        return f"{plain(guard['name'], 60)} {number(guard['gain'], '+')}{bounds}{luck}"
    theirs, ours = values(guard)
    return f"calibration error {number(ours)} against {number(theirs)}, {tolerated(guard)} is tolerated{luck}"


def challenger_key(decision: Json) -> str:
    """The key of the challenger, from the job that scored it."""
    return str(mapping(decision["challenger"]).get("key"))


def lineage(validation: Json, decision: Json | None, made: Json | None, origin: Sequence[Where] = ()) -> dict[str, str]:
    """The origin of the verdict, by name; the candidate's lineage only if the candidate is the challenger.

    Args:
        origin: pull request, branch and commits; the commit of the header is the last one.
    """
    header = decision or validation
    found: Json = {where.name: where.short for where in origin or [Where("commit", header["commit"])]}
    found[list(found)[-1]] += " with uncommitted changes" if header["dirty"] else ""
    found["data"] = header["data_sha256"][:12]
    if decision and validation["passed"]:
        found["challenger"] = challenger_key(decision)[:12]
        champion = decision["champion"]
        found["champion"] = f"{champion['key'][:12]} (event {champion['event']})" if champion else "none"
        if made and made.get("key", challenger_key(decision)) == challenger_key(decision):
            found["MLflow run"] = made.get("mlflow_run")
            # The lineage may use any names: none of them replaces a value from here.
            found |= {name: text for name, text in mapping(made.get("versions")).items() if name not in found}
            found["parameters"] = json.dumps(made.get("params"), ensure_ascii=False)
    return {str(name): str(value) for name, value in found.items() if value}


def column_of(name: str) -> tuple[str, str]:
    """Column and value of a segment, from its name in guards.segment."""
    found = re.fullmatch(r"(.+?) (= .*|missing|up to \S+|above \S+|\S+ to \S+)", name, re.DOTALL)
    return (found[1], found[2].removeprefix("= ")) if found else ("", name)


def unknown(made: Json | None) -> str:
    return f"It is not known: the lineage of the {'challenger' if made is None else 'champion'} is not there"


def unchanged(found: list[changed.Change], decision: Json) -> list[str]:
    """The parts that are the same in both models, and the source of that statement."""
    same = [part for part in changed.PARTS if part not in {change.part for change in found}]
    said = [f"The same: {', '.join(same)}"] if same else []
    # If the base judges, the challenger comes from a job that runs the code of the pull request.
    doubt = "The challenger's side is what the job of the pull request says of it"
    return said + [doubt] * (decision["rule_of"] == "the base")
