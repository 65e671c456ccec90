"""Infer the role of each column: a pure function of the rows, with a reason for each answer."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conveyor.core.errors import Misuse
from conveyor.core.tasks import Task
from conveyor.data import hints
from conveyor.model.rows import kind_of, kind_of_values

FEW, SOME = 10, 1000  # classes of whole numbers, and of texts or categories
SAMPLE = 5000  # rows on which a column alone is tried
TELLS = 0.995  # of the best score: a column that tells the target alone comes from after the event
DAYS = 20  # so many days of rows make a holdout of the newest ones
SEGMENTS, SEGMENT_ROWS = 3, 100
PARTS = 3  # columns of a key
CHANCE = 4.6  # -ln(0.01): amounts of this many rows would be all different in one of a hundred tables

ID = re.compile(r"(^|[_\W])(id|ids|key|nr|no|num|number|uuid|guid|pk)$|^(index|row|rowid|unnamed)|[a-z](Id|ID)$", re.I)
NAMES = re.compile(r"(^|[_\W])(id|ids|uuid|guid|pk)$|[a-z](Id|ID)$")  # what names something is no amount
WHO = re.compile(  # at the end of a name: account_length is an amount
    r"(customer|kunde|client|user|patient|member|person|subject|account|household|visitor|student)"
    r"(_?(id|no|nr|num|number|key|code|name))?$|passenger_?id$",
    re.I,
)
WHEN = re.compile(r"date|time|day|timestamp|created|scheduled|when|month|at$|_at_|year|datum", re.I)
BORN = re.compile(r"birth|born|\bdob\b|geburt", re.I)
CODE = re.compile(r"zip|post_?(al)?_?code|plz|postcode|fips|(^|_)icd", re.I)
PERSON = re.compile(  # however few there are
    r"(^|_)(first|last|sur|full|given|family|middle|user|maiden|fore|vor|nach|customer|client|patient|employee|agent|"
    r"doctor|physician|nurse|driver|manager|teacher|student|owner|member|guest|passenger|applicant|contact|person)_?name"
    r"($|_)",
    re.I,
)
PRIVATE = re.compile(
    r"^name$|mail|phone|mobile|fax|birth|(^|_)(street|address|addr|iban|ssn|passport|credit_?card|dob|born)($|_)"
    r"|card_?(no|nr|num|number)$|social_?security|licen[cs]e_?plate",
    re.I,
)
SENTINEL = re.compile(r"-?(9{2,}|8{2,}|7{2,})")
PEOPLE = 50  # a column of such a name with fewer values names nobody
MAIL = re.compile(r"[^@\s]+@[^@\s]+\.[a-z]{2,}", re.I)
PHONE = re.compile(r"\+\d[\d ()/-]{6,}\d")
HOST = re.compile(r"\d{1,3}(\.\d{1,3}){3}")


@dataclass
class Roles:
    """What each column is for.

    Attributes:
        ignore: columns that no model sees, and why.
        private: columns that stay out of logs, and why.
        text: columns of numbers that are codes.
        categories, numbers: the features.
        told: what was decided about the data as a whole: subject, answer, reason.
    """

    task: Task
    target: str
    key: tuple[str, ...] = ()
    time: str | None = None
    group: str | None = None
    ignore: dict[str, str] = field(default_factory=dict)
    private: dict[str, str] = field(default_factory=dict)
    text: tuple[str, ...] = ()
    categories: list[str] = field(default_factory=list)
    numbers: list[str] = field(default_factory=list)
    segments: list[str] = field(default_factory=list)
    told: list[tuple[str, str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Asked:
    """What a person says instead of leaving it to be inferred; None: nothing."""

    target: str
    task: Task | None = None
    key: tuple[str, ...] | None = None
    time: str | None = None  # "none": no column
    group: str | None = None  # "none": no column


def asked(target: str, task: str = "", key: str = "", time: str = "", group: str = "") -> Asked:
    """What a person said; empty: nothing.

    Raises:
        Misuse: there is no target, or no such task.
    """
    if not target:
        raise Misuse("adopt: no target; name the column to predict: make adopt DATA=rows.csv TARGET=price")
    if task and task not in get_args(Task):
        raise Misuse(f"adopt: TASK: {task!r} is none of {', '.join(get_args(Task))}")
    names = tuple(name.strip() for name in key.split(",")) if key else None
    known: Task | None = next((one for one in get_args(Task) if one == task), None)
    return Asked(target, known, names, time or None, group or None)


def roles(frame: pd.DataFrame, asked: Asked) -> Roles:
    """What each column is for.

    Args:
        frame: the rows; each has a target.

    Raises:
        Misuse: a named column is not there, or the target cannot be one.
    """
    for name in (asked.target, *(asked.key or ()), asked.time, asked.group):
        if name not in (None, "none", *frame.columns):
            raise Misuse(f"adopt: there is no column {name!r}; the data have {', '.join(frame.columns)}")
    task, why = _task(frame[asked.target], asked)
    found = Roles(task, asked.target)
    found.told.append(("task", task, why))
    features = [name for name in frame.columns if name != asked.target]
    _time(frame, features, asked, found)
    _group(frame, features, asked, found)
    _key(frame, features, asked, found)
    found.text = tuple(name for name in features if _code(frame[name], name))
    for name in features:
        _one(frame, name, found)
    _leaks(frame, found)
    _sentinels(frame, found)
    found.segments = _segments(frame, found)
    if not found.categories and not found.numbers:
        why = "; ".join(f"{name} {reason}" for name, reason in found.ignore.items())
        raise Misuse(f"adopt: no column is left to tell {asked.target!r} by: {why}; add columns, or rows")
    return found


def _task(target: pd.Series, asked: Asked) -> tuple[Task, str]:
    count, numeric = target.nunique(), pd.api.types.is_numeric_dtype(target)
    whole = numeric and bool((target.astype(np.float64) % 1 == 0).all())
    if count < 2:
        raise Misuse(f"adopt: the target {asked.target!r} has one value in all rows; name another column as TARGET")
    if asked.task == "binary" and count != 2:
        raise Misuse(f"adopt: TASK=binary needs two values, and {asked.target!r} has {count}; leave TASK out")
    if asked.task == "regression" and (not numeric or pd.api.types.is_bool_dtype(target)):
        raise Misuse(f"adopt: TASK=regression needs numbers, and {asked.target!r} is {target.dtype}; leave TASK out")
    if asked.task == "multiclass" and count < 3:
        raise Misuse(f"adopt: TASK=multiclass needs three values, and {asked.target!r} has {count}; leave TASK out")
    if asked.task:
        return asked.task, "as TASK says"
    if count == 2:
        return "binary", "two values"
    if numeric and whole and count <= FEW:
        return "multiclass", f"{count} whole numbers; TASK=regression takes them as amounts"
    if numeric:
        return "regression", f"{count} numbers"
    if pd.api.types.is_datetime64_any_dtype(target) or count > SOME or count > len(target) / 5:
        raise Misuse(
            f"adopt: the target {asked.target!r} has {count} values of type {target.dtype}: neither classes nor"
            " numbers; name another column as TARGET"
        )
    return "multiclass", f"{count} values"


def _time(frame: pd.DataFrame, features: list[str], asked: Asked, found: Roles) -> None:
    times = [n for n in features if pd.api.types.is_datetime64_any_dtype(frame[n]) and not BORN.search(n)]
    if asked.time:
        if asked.time != "none" and asked.time not in times:
            raise Misuse(f"adopt: TIME: {asked.time!r} is no column of times; write it as 2013-06-30 or as 2013")
        found.time = None if asked.time == "none" else asked.time
        found.told.append(("data.time", found.time or "null", "as TIME says"))
        return
    sound = [name for name in times if frame[name].notna().all()]
    ranked = sorted(sound, key=lambda n: (not WHEN.search(n), -frame[n].nunique(), features.index(n)))
    for name in ranked:
        days = frame[name].dt.floor("D").nunique()
        if days >= DAYS:
            found.time = name
            found.told.append(("data.time", name, f"times in every row, on {days} days: the newest rows judge"))
            return
    why = "no column of times" if not times else f"{', '.join(times)}: gaps, or fewer than {DAYS} days"
    found.told.append(("data.time", "null", f"{why}: a hash of the key chooses the rows that judge"))


def _group(frame: pd.DataFrame, features: list[str], asked: Asked, found: Roles) -> None:
    if asked.group:
        found.group = None if asked.group == "none" else asked.group
        if found.group and frame[found.group].isna().any():
            raise Misuse(f"adopt: GROUP: {found.group!r} has gaps; fill them, or name another column")
        found.told.append(("data.group", found.group or "null", "as GROUP says"))
        return
    for name in features:
        values = frame[name]
        if WHO.search(joined(name)) and name != found.time and values.notna().all() and not fractions(values):
            count = values.nunique()
            if DAYS <= count <= len(frame) / 1.5:
                found.group = name
                found.told.append(("data.group", name, f"{count} of them have {len(frame) / count:.1f} rows each"))
                return
    found.told.append(("data.group", "null", "no column names whom a row belongs to"))


def _key(frame: pd.DataFrame, features: list[str], asked: Asked, found: Roles) -> None:
    if asked.key:
        if frame.duplicated(list(asked.key)).any():
            raise Misuse(f"adopt: KEY: {', '.join(asked.key)} do not tell all rows apart; name more columns")
        found.key = asked.key
        found.told.append(("data.key", ", ".join(found.key), "as KEY says"))
        return
    whole = [name for name in features if frame[name].notna().all() and not fractions(frame[name])]
    alone = [name for name in whole if frame[name].is_unique and (ID.search(name) or _by_design(frame[name]))]
    named = [name for name in alone if ID.search(name)]
    if alone and (named or alone)[0] == found.time and found.group:
        found.key = (found.group, found.time)
        found.told.append(("data.key", ", ".join(found.key), "the next row may have the time of another one"))
        return
    if named or alone:
        found.key = ((named or alone)[0],)
        found.told.append(("data.key", found.key[0], "its value is another one in each row"))
        return
    # The columns that tell most rows apart come first.
    likely = sorted(whole, key=lambda n: (n != found.time, not ID.search(n), -frame[n].nunique()))[:8]
    for size in range(2, PARTS + 1):
        for names in combinations(likely, size):
            if (found.time in names or any(ID.search(name) for name in names)) and not frame.duplicated(
                list(names)
            ).any():
                found.key = names
                found.told.append(("data.key", ", ".join(names), "together they tell all rows apart"))
                return


def _by_design(values: pd.Series) -> bool:
    """Whether values that are all different name rows: an amount may be so by chance, and a remark in these rows only.

    Of n numbers in a range of R some are equal with a probability of about 1 - exp(-n² / 2R).
    """
    if pd.api.types.is_numeric_dtype(values):
        span = float(values.max()) - float(values.min()) + 1
        return len(values) ** 2 / (2 * span) > CHANCE
    return kind_of(str(values.dtype)) == "time" or not values.astype(str).str.contains(r"\S\s+\S\s+\S").any()


def joined(name: str) -> str:
    """The words of a name, as in customer_id for customerId or "Customer ID"."""
    return "_".join(word for word in re.split(r"[\W_]+|(?<=[a-z])(?=[A-Z])", name) if word)


def fractions(values: pd.Series) -> bool:
    return pd.api.types.is_float_dtype(values) and not bool((values.dropna() % 1 == 0).all())


def _code(values: pd.Series, name: str) -> bool:
    """Whether whole numbers are codes: of places by their name, or the few that name something."""
    few = bool(NAMES.search(name)) and values.nunique() <= PEOPLE and not values.is_unique
    return pd.api.types.is_integer_dtype(values) and (bool(CODE.search(name)) or few)


def _one(frame: pd.DataFrame, name: str, found: Roles) -> None:
    """Whether a column is a feature, and of which kind; else why not."""
    values = frame[name]
    present = values.dropna()
    count, kind = present.nunique(), kind_of(str(values.dtype))
    texts = len(present) > 0 and kind_of_values(values) == "text"
    if why := _private(name, present, texts):
        found.private[name] = why
        found.ignore[name] = f"private: {why}"
    elif name == found.time:
        pass  # no model sees it
    elif name == found.group:
        found.ignore[name] = "data.group"
    elif not count:
        found.ignore[name] = "has no value"
    elif count == 1 and not values.isna().any():
        found.ignore[name] = "has one value in all rows"
    elif kind == "time":
        found.ignore[name] = "a time: make numbers of it, such as its hour"
    elif name in found.key and (len(found.key) == 1 or (ID.search(name) and count > PEOPLE)):
        found.ignore[name] = "names the row"
    elif (ID.search(name) or texts) and not fractions(values) and count > 0.9 * len(present) and len(present) > FEW:
        found.ignore[name] = "another value in nearly every row"
    elif NAMES.search(name) and kind == "number" and not fractions(values) and count > PEOPLE:
        found.ignore[name] = f"{count} numbers that name something"
    elif texts and all(hints.DATE.fullmatch(str(text)) for text in present.unique()):
        found.ignore[name] = "dates that can be read in two ways, or in none: write them as 2013-06-30"
    elif texts and count > PEOPLE and (how := hints.hint(values)):
        found.ignore[name] = how
    elif texts and count > SOME:
        found.ignore[name] = f"{count} texts: too many for categories"
    elif texts or name in found.text:
        if name in found.text and count > SOME:
            found.ignore[name] = f"{count} codes: too many for categories"
        else:
            found.categories.append(name)
    else:
        found.numbers.append(name)


def _sentinels(frame: pd.DataFrame, found: Roles) -> None:
    """Numbers such as -999 that may stand for a missing value: they are far from all others."""
    for name in found.numbers:
        values = frame[name].dropna().to_numpy(dtype=np.float64)
        for odd in (values.min(), values.max()):
            rest = values[values != odd]
            apart = float(np.abs(rest - odd).min()) if len(rest) else 0.0
            if SENTINEL.fullmatch(f"{odd:g}") and apart > rest.max() - rest.min():
                reason = (
                    f"{len(values) - len(rest)} rows have {odd:g}, far from all others: if it means a gap, empty them"
                )
                found.told.append((f"column {name}", f"{odd:g}?", reason))


def _private(name: str, present: pd.Series, texts: bool) -> str:
    words = joined(name)
    if (texts and PERSON.search(words)) or (PRIVATE.search(words) and present.nunique() > PEOPLE):
        return "its name says so"
    few = [str(text) for text in present[:200]] if texts else []
    for pattern, what in (
        (MAIL, "addresses of mail"),
        (PHONE, "numbers of telephones"),
        (HOST, "addresses of computers"),
    ):
        if few and sum(bool(pattern.fullmatch(text.strip())) for text in few) > len(few) / 2:
            return what
    return ""


def _leaks(frame: pd.DataFrame, found: Roles) -> None:
    """Features that tell the target alone: a small tree on each, on rows that it has not seen."""
    from sklearn.model_selection import cross_val_score
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    few = frame.sample(min(len(frame), SAMPLE), random_state=0)
    classes = found.task != "regression"
    y = pd.factorize(few[found.target])[0] if classes else few[found.target].to_numpy(dtype=np.float64)
    if classes and np.bincount(y).min() < 3:
        return  # a class is too rare to be told at all
    for name in [*found.numbers, *found.categories]:
        x = _coded(few[name]).reshape(-1, 1)
        model: Any = DecisionTreeClassifier if classes else DecisionTreeRegressor
        tree = model(max_leaf_nodes=64, random_state=0)
        score = cross_val_score(tree, x, y, cv=3, scoring="balanced_accuracy" if classes else "r2").mean()
        if not classes and name in found.numbers:  # of a long tail a tree knows little
            score = max(score, abs(few[name].astype(np.float64).corr(pd.Series(y, few.index), method="spearman")))
        if score > TELLS:
            found.ignore[name] = f"tells the target alone ({score:.1%}): is it known before?"
            for kind in (found.numbers, found.categories):
                if name in kind:
                    kind.remove(name)


def _coded(values: pd.Series) -> NDArray[np.float64]:
    numeric = pd.api.types.is_numeric_dtype(values)
    coded: NDArray[np.float64] = (
        values.to_numpy(dtype=np.float64, na_value=np.nan)
        if numeric
        else pd.factorize(values.astype(str))[0].astype(np.float64)
    )
    return np.where(np.isfinite(coded), coded, np.nan)


def _segments(frame: pd.DataFrame, found: Roles) -> list[str]:
    """Categories of which each value has enough rows in a fifth of the data."""
    held_out = len(frame) / 5
    fits = []
    for name in found.categories:
        shares = frame[name].value_counts(normalize=True)
        if 2 <= len(shares) <= 12 and shares.iloc[1] * held_out >= SEGMENT_ROWS:
            fits.append(name)
    return fits[:SEGMENTS]
