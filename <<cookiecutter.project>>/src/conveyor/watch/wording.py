"""What may explain the live loss, as Markdown."""

from __future__ import annotations

from conveyor.gate.spread import FEWEST
from conveyor.report.wording import escape
from conveyor.watch.alarm import Window
from conveyor.watch.explained import Explained
from conveyor.watch.few_labels import Estimate, FewLabels
from conveyor.watch.moved import SIZE, Change, Column, Traffic
from conveyor.watch.segments import ROWS, Segment

MOST = 30  # columns that are told, beside those that have moved
NO_BOUNDS = "too few blocks, or too much alike"
NO_INTERVAL = "no interval"  # days are fewer than ten, or too much alike
SHARES = {
    "missing": "missing",
    "unseen": "not in training",
    "outside": "outside the range of training",
    "unreadable": "no number",
}


def moved(found: Explained) -> str:
    """What moved, the expectations and the traffic."""
    if found.why:
        more = ["", f"- {traffic(found)}"] if found.traffic else []
        return "\n".join([f"Not known: {escape(found.why)}.", *more])
    changed = [column.name for column in (*found.scores, *found.columns) if column.moved]
    head = f"**{len(changed)} of {len(found.scores) + len(found.columns)} columns have moved**"
    head += f": {', '.join(escape(name) for name in changed[:MOST])}" if changed else ""
    table = ["| | moved | difference | 95 % interval | more |", "|---|---|---|---|---|"]
    listed = [*found.scores, *found.columns]
    told = [column for place, column in enumerate(listed) if column.moved or place < MOST]
    table += [_row(column) for column in told]
    text = [
        f"The last {found.days} days of the log: {found.rows:,} predictions of {found.live_days} days, beside the rows"
        " that the champion learnt from. The prediction is compared with that of the holdout.",
        "",
        head,
        "",
        *table,
        "",
        "- Pairs: the share of pairs in which the live value is larger than that of training, less .5. Moved: the"
        f" difference is shown, at 95 % for all columns together, and is {SIZE:.2f} of the pairs or {SIZE:.0%} of the"
        " rows, or more",
        f"- {NO_INTERVAL[:1].upper()}{NO_INTERVAL[1:]}: {_why(found)}",
        *([f"- {len(listed) - len(told)} more columns differ less"] if len(listed) > len(told) else []),
        *([f"- Private features, which are not logged: {found.private}"] if found.private else []),
        *(f"- {escape(line, 300)}" for line in notes(found)),
        f"- {traffic(found)}",
    ]
    return "\n".join(text)


def _why(found: Explained) -> str:
    """Why an interval may be missing."""
    if found.live_days < FEWEST:
        return f"too few days, {found.live_days} of at least {FEWEST}"
    return "days resemble those around them or a week apart too much, as temperatures and weekdays do, or are too few"


def _row(column: Column) -> str:
    said, bounds, more = cells(column)
    told = "; ".join(escape(each) for each in more)
    return f"| {escape(column.name)} | {'**yes**' if column.moved else 'no'} | {escape(said)} | {bounds} | {told} |"


def cells(column: Column) -> tuple[str, str, list[str]]:
    """The largest difference of a column, its interval, and what else there is to say of it, as plain text."""
    if column.gone:
        return "gone from the log", "", []
    main = column.change("pairs") or column.change("category")
    said, bounds = "", ""
    if main is not None:
        said = f"pairs {main.value:+.2f}" if main.what == "pairs" else f"{main.category} {_shift(main)}"
        bounds = _interval(main, share=main.what == "category")
    more = [
        f"{SHARES[change.what]} {_shift(change)} ({_interval(change, share=True)})"
        for change in column.changes
        if change.what in SHARES and change.value
    ]
    deviations = column.change("deviations")
    if deviations is not None:
        more.insert(0, f"mean {deviations.value:+.3g} deviations ({_interval(deviations, share=False)})")
    if column.distance is not None:
        more.insert(0, f"total variation {column.distance:.2f}")
    if column.unseen:
        more.append(f"new: {', '.join(column.unseen)}")
    more += [f"one value only ({' and '.join(column.constant)})"] if column.constant else []
    return said, bounds, more


def _shift(change: Change) -> str:
    return f"{change.before:.1%} → {change.now:.1%}"


def _interval(change: Change, share: bool) -> str:
    if change.low is None or change.high is None:
        return NO_INTERVAL
    low, high = (f"{100 * each:+.1f}" if share else f"{each:+.3g}" for each in (change.low, change.high))
    return f"{low} to {high}{' points' if share else ''}"


def notes(found: Explained) -> list[str]:
    """The contract of training on live rows, as plain text."""
    if found.contract.why:
        return [f"The contract of training was not checked: {found.contract.why}"]
    failing = found.contract.failing
    if not failing:
        return [f"The contract of training: {found.contract.count} expectations hold on live rows"]
    head = f"The contract of training: {len(failing)} of {found.contract.count} expectations fail on live rows"
    return [head, *(f"fails: {line}" for line in failing[:MOST])]


def traffic(found: Explained) -> str:
    """How many predictions there are, as plain text."""
    seen = found.traffic
    if seen is None:
        return "Traffic: the log has no complete day"
    empty = f"{seen.empty} days without any" if seen.empty else "no day without any"
    last = f"the last one was {seen.idle:,} days ago" if seen.idle else "the last one was today"
    return (
        f"Traffic: a median of {seen.median:,.0f} predictions a day in {seen.days} complete days, {seen.last:,} in"
        f" the last of them, {empty}; {last}. {_refused(seen)}"
    )


def bounds(window: Window) -> str:
    """The bounds of a mean of live blocks."""
    return NO_BOUNDS if window.low is None else f"{window.low:.4g} to {window.high:.4g}"


def _refused(seen: Traffic) -> str:
    if not seen.refused:
        return "No request for a prediction was refused"
    told = ", ".join(f"{number:,} with status {status}" for status, number in seen.refused)
    return (
        f"Requests without an answer: {told}; a median of {seen.refused_median:,.0f} a day, {seen.refused_last:,} in"
        " the last of these days"
    )


def segments(found: Explained) -> str:
    """The live loss of each segment, if the holdout is known."""
    if not found.segments:
        return f"No column of `gate.guards.segments` has a value with {ROWS} labelled rows, live and in the holdout."
    text = ["| segment | live rows | live loss | holdout | difference | 95 % interval |", "|---|--:|--:|--:|--:|---|"]
    text += [_segment(each) for each in found.segments]
    about = f"The last {found.days} days. Each interval holds alone: of many, some miss zero by chance."
    return "\n".join([*text, "", about])


def _segment(each: Segment) -> str:
    difference, bounds = gap(each)
    name = f"{escape(each.column)} {escape(each.value)}"
    return f"| {name} | {each.rows:,} | {each.live:.4g} | {each.then:.4g} | {difference} | {bounds} |"


def gap(each: Segment) -> tuple[str, str]:
    """How much more live rows of a segment lose, and the interval."""
    bounds = NO_INTERVAL if each.low is None or each.high is None else f"{each.low:+.3g} to {each.high:+.3g}"
    return f"{each.difference:+.3g}", bounds


def few(found: Explained) -> list[str]:
    """Lines on the live loss where few rows have a label, as plain text."""
    if found.few_why:
        return [f"Few rows have a label: {found.few_why}"]
    return _few(found.few, found.days) if found.few else []


def _few(few: FewLabels, days: int) -> list[str]:
    text = [
        f"{few.labelled:,} of {few.rows:,} predictions of the last {days} days have a label: their mean loss is"
        f" {_estimate(few.alone)}"
    ]
    if few.narrower:
        text.append(
            f"With the predictions that have none it is {_estimate(few.corrected)} (prediction-powered inference,"
            f" weight {few.weight:.2f}), if rows with a label are a random sample of the predictions"
        )
    return [*text, f"If calibration still holds, the loss of all of them is {_estimate(few.calibrated)}"]


def _estimate(of: Estimate) -> str:
    return f"{of.value:.4g} ({NO_INTERVAL if of.low is None else f'{of.low:.4g} to {of.high:.4g}'})"
