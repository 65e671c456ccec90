"""Prepare the rows for a repository: each has a target and a key, numbers are finite, years are times."""

from __future__ import annotations

import re
from difflib import get_close_matches
from itertools import combinations

import numpy as np
import pandas as pd

from conveyor.adopt import infer
from conveyor.adopt.meant import Found
from conveyor.core.errors import Misuse
from conveyor.data import hints
from conveyor.model.rows import kind_of

ROW = "row"  # the name of a key that is made
YEAR = re.compile(r"((fiscal|calendar|survey)_?)?(year|yr|jahr)", re.I)
YEARS = (1000, 2999)


def prepare(found: Found, asked: infer.Asked) -> tuple[infer.Roles, list[tuple[str, str, str]]]:
    """Change the rows of ``found`` to what a repository can use.

    Returns:
        The roles of the columns, and what was done: subject, answer, reason.

    Raises:
        Misuse: there is no such target, or see ``infer.roles``.
    """
    frame = found.frame
    if asked.target not in frame.columns:
        close = get_close_matches(asked.target, list(frame.columns), n=1)
        mend = f"is {close[0]!r} meant?" if close else f"the data have {', '.join(map(str, frame.columns))}"
        if sum(bool(hints.NUMBER.fullmatch(str(name))) for name in frame.columns) > frame.shape[1] / 2:
            mend = f"its first line holds values ({', '.join(map(str, frame.columns[:3]))}): write the names above it"
        raise Misuse(f"adopt: TARGET: there is no column {asked.target!r}; {mend}")
    told = [("format", "; ".join(found.told), f"{len(frame):,} rows, {frame.shape[1]} columns")]
    infinite = [name for name in frame.select_dtypes("float") if np.isinf(frame[name]).any()]
    if infinite:
        frame, found.native = frame.assign(**{n: frame[n].where(np.isfinite(frame[n])) for n in infinite}), False
        told.append(("infinite", ", ".join(infinite), "no model takes them: they become gaps"))
    gaps = frame[asked.target].isna()
    if gaps.any():
        frame, found.native = frame[~gaps].reset_index(drop=True), False
        told.append(("rows", f"{int(gaps.sum()):,} left out", "they have no target"))
    if dated := _year(frame, asked):
        name, why = dated
        begins = pd.to_datetime(frame[name].astype("int64").astype(str), format="%Y")
        frame, found.native = frame.assign(**{name: begins}), False
        told.append(("years", name, f"{why}: it becomes the first day of the year"))
    roles = infer.roles(frame, asked)
    if not roles.key:
        name = next(n for n in (ROW, *(f"{ROW}_{k}" for k in range(9))) if n not in frame.columns)
        frame, found.native = frame.assign(**{name: np.arange(1, len(frame) + 1)}), False
        roles.key, roles.ignore[name] = (name,), "names the row"
        roles.told.append(("data.key", name, "a new column: no columns tell all rows apart"))
    found.frame = frame
    return roles, told


def _year(frame: pd.DataFrame, asked: infer.Asked) -> tuple[str, str] | None:
    """The column of whole numbers that are the years of the rows, and why; None: there is none.

    TIME names it; or it is called so, there is no other time, and the same units come back in many of its years. The
    year in which each of many cars was built is none.
    """

    def whole(name: str) -> bool:
        values = frame[name]
        sound = (
            pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values) and values.notna().all()
        )
        return bool(sound and not infer.fractions(values) and values.between(YEARS[0], YEARS[1]).all())

    if asked.time:
        return (asked.time, "as TIME says") if asked.time in frame.columns and whole(asked.time) else None
    others = [name for name in frame.columns if name != asked.target]
    if any(pd.api.types.is_datetime64_any_dtype(frame[name]) and not infer.BORN.search(name) for name in others):
        return None
    units = [
        n for n in others if frame[n].notna().all() and (kind_of(str(frame[n].dtype)) == "text" or infer.ID.search(n))
    ]
    units = [n for n in units if 1 < frame[n].nunique() <= len(frame) / 2][:6]
    for name in others:
        if not YEAR.fullmatch(infer.joined(name)) or not whole(name) or frame[name].nunique() < infer.DAYS:
            continue
        for unit in [(), *combinations(units, 1), *combinations(units, 2)]:
            of = int(frame[list(unit)].drop_duplicates().shape[0]) if unit else 1
            if len(frame) >= 2 * of and not frame.duplicated([name, *unit]).any():
                return (
                    name,
                    f"{' and '.join(unit)} with {of} values come back in other years" if unit else "a row a year",
                )
    return None
