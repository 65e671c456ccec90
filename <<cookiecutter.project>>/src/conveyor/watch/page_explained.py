"""The sections of the page of `monitor` about what may explain the live loss."""

from __future__ import annotations

from markupsafe import Markup

from conveyor.report import sections
from conveyor.report.sections import Section
from conveyor.watch import wording
from conveyor.watch.explained import Explained
from conveyor.watch.moved import Column

MOST = 30  # columns that are shown, beside those that have moved


def moved(found: Explained) -> Section | None:
    """The columns and the prediction, the largest difference first; the contract and the traffic."""
    if found.why:
        return None
    listed = [*found.scores, *found.columns]
    told = [column for place, column in enumerate(listed) if column.moved or place < MOST]
    rows = [_row(column) for column in told]
    count = sum(column.moved for column in listed)
    lead = f"{count} of {len(listed)} columns have moved: a difference is shown, and is large enough to matter."
    parts = [sections.note(f"{lead} It explains, and changes nothing in the alarm."), sections.table(HEADS, rows)]
    if len(told) < len(listed):
        parts.append(sections.note(f"{len(listed) - len(told)} more columns differ less."))
    notes = [*wording.notes(found), wording.traffic(found)]
    return Section("moved", "What moved since training?", sections.joined(*parts, sections.items(notes)))


HEADS = ["Column", "Moved", "Difference", "95 % interval", "…More"]


def _row(column: Column) -> tuple[Markup | str, ...]:
    said, bounds, more = wording.cells(column)
    yes = Markup("<strong>yes</strong>") if column.moved else "no"
    return column.name, yes, said, bounds, "; ".join(more)


def segments(found: Explained) -> Section | None:
    """The live loss of each segment beside that of the holdout."""
    if not found.segments:
        return None
    rows = [
        (f"{each.column} {each.value}", f"{each.rows:,}", f"{each.live:.4g}", f"{each.then:.4g}", *wording.gap(each))
        for each in found.segments
    ]
    heads = ["Segment", "#Live rows", "#Live loss", "#Holdout", "#Difference", "95 % interval"]
    about = "Each interval holds alone: of many, some miss zero by chance."
    return Section("segments", "Which segments?", sections.joined(sections.table(heads, rows), sections.note(about)))


def few(found: Explained) -> Section | None:
    """The loss where few rows have a label."""
    lines = wording.few(found)
    return Section("few", "Few rows have a label", sections.items(lines)) if lines else None
