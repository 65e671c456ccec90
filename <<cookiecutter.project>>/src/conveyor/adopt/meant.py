"""Columns whose texts or numbers mean times or amounts: they become such, where one way to read them fits all."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import pandas as pd

from conveyor.core.errors import Misuse
from conveyor.core.frozen import shown
from conveyor.data import hints

DAYS = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%y", "%d/%m/%y",
        "%m/%d/%y", "%d-%m-%y", "%m-%d-%y")  # fmt: skip
WORDS = ("%d %b %Y", "%b %d %Y", "%b %d, %Y", "%d-%b-%Y", "%d-%b-%y", "%d %B %Y", "%B %d %Y", "%B %d, %Y")
MONTHS = ("%b %Y", "%B %Y", "%b-%Y", "%b-%y", "%m/%Y")
CLOCKS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")
QUARTER, WEEK = "quarter", "week"
WORDY = re.compile(r"(\d{1,2}[ -][A-Za-z]{3,9}[ -](\d{4}|\d\d)|[A-Za-z]{3,9} \d{1,2},? \d{4}).*")
MONTH = re.compile(r"(19|20)\d\d-(0[1-9]|1[0-2])|[A-Za-z]{3,9}[ -](\d{4}|\d\d)|(0[1-9]|1[0-2])/(19|20)\d\d")
LOOKS = {
    QUARTER: re.compile(r"(19|20)\d\d[- /]?Q[1-4]|Q[1-4][- /]?(19|20)\d\d"),
    WEEK: re.compile(r"(19|20)\d\d-?W[0-5]\d"),
}
FEW = 100  # texts show which ways to read them are left
# Numbers that may be times by the name of their column, and the seconds of 1990 and of 2050.
STAMP = re.compile(r"date|time|timestamp|created|updated|month|day|datum|epoch|unix|(^|_)(ts|at|when)($|_)", re.I)
SINCE, UNTIL = 631_152_000, 2_524_608_000
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
DIGITS = {8: "%Y%m%d", 6: "%Y%m"}

AMOUNT = re.compile(r"[-+]?(\d+|\d{1,3}([., '\u00a0\u202f]\d{3})+)([.,]\d+)?")
MONEY = r"US\$|R\$|[$€£¥₹]|(?:EUR|USD|GBP|CHF|JPY|CNY|INR|CAD|AUD|SEK|NOK|DKK|PLN|CZK|BRL)(?![A-Za-z])"
SIGN = re.compile(rf"(?P<before>[-+]?)\s*(?P<sign>{MONEY})\s*(?P<rest>.*)|(?P<plain>.*?\d)\s*(?P<after>{MONEY}|%)")
SIGNED = re.compile(rf"\(|%|{MONEY}|\d [A-Za-z]")
UNIT = re.compile(r".*\d ([^\W\d_]{1,10})")  # the same in each cell, as in 74 kg
# Where a mark is of thousands, three digits come after each one.
THOUSANDS = {
    mark: re.compile(rf"[-+]?\d{{1,3}}({re.escape(mark)}\d{{3}})+([{re.escape(other)}]\d+)?")
    for mark, other in ((",", "."), (".", ","))
}


@dataclass
class Way:
    """How marks are read that could mean two things. An earlier file of the same source settles it for later ones.

    Attributes:
        decimal: the mark of decimals in a CSV; None: not settled.
        dates: the form of each column of times that is not ISO 8601.
    """

    decimal: str | None = None
    dates: dict[str, str] = field(default_factory=dict)


@dataclass
class Found:
    """Rows, and how they were read.

    Attributes:
        frame: the rows.
        native: whether ``data.path`` can name the file as it is.
        told: what was found, a line each.
        way: how marks were read.
    """

    frame: pd.DataFrame
    native: bool
    told: list[str] = field(default_factory=list)
    way: Way = field(default_factory=Way)

    def change(self, name: str, values: pd.Series, told: str) -> None:
        """Put other values in the place of a column's."""
        self.frame, self.native = self.frame.assign(**{name: values}), False
        self.told.append(told)


def times(found: Found, stay: tuple[str, ...], settled: Way) -> None:
    """Texts and numbers that are times become times.

    Args:
        stay: columns that stay as they are.
        settled: how an earlier file was read.
    """
    for name in found.frame:
        values, known = found.frame[name], settled.dates.get(name)
        if name in stay:
            continue
        if values.dtype == "str":
            _texts(found, name, known)
        elif pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
            way = known or (_of_numbers(values) if STAMP.search(name) else None)
            if way:
                found.change(name, numbers_as_times(values, way), f"{name} as {_told(way)}")
                found.way.dates[name] = way


def _told(way: str) -> str:
    return f"{way} since 1970" if way in UNITS else way


def _texts(found: Found, name: str, known: str | None) -> None:
    values = found.frame[name]
    texts = pd.Series([str(text) for text in values.dropna().unique()], dtype=object)
    if not len(texts):
        return
    looks = [form for form, pattern in LOOKS.items() if all(map(pattern.fullmatch, texts))]
    dated = all(any(pattern.fullmatch(text) for pattern in (hints.DATE, WORDY, MONTH)) for text in texts)
    if not looks and not dated:
        return
    each = [day + clock for day, clock in product((*DAYS, *WORDS), CLOCKS)]
    ways = [known] if known else looks or [*each, *MONTHS]
    fits: dict[str, Any] = {}
    for way in ("ISO8601", *ways):
        if _read(texts[:FEW], way) is not None and (read := _read(texts, way)) is not None:
            fits.setdefault(str(read.tolist()), (way, dict(zip(texts, read, strict=True))))
    if len(fits) == 1:
        [(way, as_time)] = fits.values()
        found.change(name, pd.to_datetime(values.map(as_time)), f"{name} as {way}")
        if way != "ISO8601":
            found.way.dates[name] = way
    elif fits:
        either = " or ".join(way for way, _ in fits.values())
        found.told.append(f"{name} could be {either}: write it as 2013-06-30")


def _read(texts: pd.Series, way: str) -> pd.Series | None:
    """The times of texts; None: this way to read them does not fit all."""
    utc = way == "ISO8601" and all(re.search(r"(Z|[-+]\d\d:?\d\d)$", text) for text in texts)
    try:
        if way == QUARTER:
            year, quarter = (texts.str.extract(pattern)[0] for pattern in (r"((?:19|20)\d\d)", "Q([1-4])"))
            texts, way = year + "-" + (quarter.astype(int) * 3 - 2).astype(str), "%Y-%m"
        elif way == WEEK:  # its Monday
            texts, way = texts.str.replace("-?W", "-W", regex=True) + "-1", "%G-W%V-%u"
        read = pd.to_datetime(texts, format=way, errors="coerce", utc=utc)
    except ValueError:  # some with a zone and some without, or a form that none of them has
        return None
    return read if pd.api.types.is_datetime64_any_dtype(read) and read.notna().all() else None


def _of_numbers(values: pd.Series) -> str | None:
    """The unit of times since 1970, or the form of days written as numbers; None: they are neither."""
    present = values.dropna()
    if not len(present):
        return None
    for unit, ticks in UNITS.items():
        if present.between(SINCE * ticks, UNTIL * ticks).all():
            return unit
    whole = (present % 1 == 0).all()
    for digits, way in DIGITS.items():
        if whole and present.between(19 * 10 ** (digits - 2), 21 * 10 ** (digits - 2)).all():
            return way if _read(present.astype("int64").astype(str), way) is not None else None
    return None


def numbers_as_times(values: pd.Series, way: str) -> pd.Series:
    """Numbers as times; see ``_of_numbers``. What is no such number becomes a gap."""
    if way in UNITS:
        exact = values if values.isna().any() or (values % 1 != 0).any() else values.astype("int64")
        return pd.to_datetime(exact, unit=way, errors="coerce", utc=True)
    texts = values.map(lambda value: None if pd.isna(value) else str(int(value)), na_action=None)
    return pd.to_datetime(texts, format=way, errors="coerce")


def amounts(found: Found, stay: tuple[str, ...], where: str) -> None:
    """Texts of numbers with marks of thousands, signs of money, of a hundredth or of one unit become numbers.

    Raises:
        Misuse: a comma could be that of decimals or of thousands, or stands in the place of neither.
    """
    decimal = found.way.decimal or "."
    for name in found.frame:
        values = found.frame[name]
        texts = [str(text) for text in values.dropna().unique()] if values.dtype == "str" and name not in stay else []
        cells = [text for text in texts if not hints.GAPS.fullmatch(text)]
        plain = without_signs(cells)
        if not plain or not all(map(AMOUNT.fullmatch, plain)):
            continue
        if any(re.match(r"[-+]?0\d", cell) for cell in plain) or all(cell.strip().isdigit() for cell in cells):
            continue  # codes
        other = "." if decimal == "," else ","
        odd = next((cell for cell in plain if other in cell and not THOUSANDS[other].fullmatch(cell)), None)
        if odd is not None:
            mend = f"write {shown(odd)} with a decimal point and without marks of thousands"
            raise Misuse(f"{where}: column {name!r} has numbers whose marks mean two things; {mend}")
        bare = [re.sub("[ '\u00a0\u202f]", "", cell) for cell in plain]
        bare = [c.replace(".", "").replace(",", ".") if decimal == "," else c.replace(",", "") for c in bare]
        numbers = pd.to_numeric(pd.Series(bare), errors="coerce")
        if numbers.notna().all():
            parsed = dict(zip(cells, numbers, strict=True))
            found.change(name, values.map(parsed).astype("float64"), f"{name} as amounts")


def without_signs(cells: list[str]) -> list[str]:
    """Cells without the sign that they share; those of several currencies, or of parts and hundredths, stay."""
    if not any(SIGNED.search(cell) for cell in cells[:FEW]):
        return cells
    units = {match[1] if (match := UNIT.fullmatch(cell.strip())) else "" for cell in cells}
    unit = units.pop() if len(units) == 1 else ""
    plain, signs = [], set()
    for cell in cells:
        bare = cell.strip().removesuffix(unit).strip() if unit else cell.strip()
        bare = f"-{bare[1:-1].strip()}" if re.fullmatch(r"\(.*\d.*\)", bare) else bare  # of accountants
        if match := SIGN.fullmatch(bare):
            bare = f"{match['before']}{match['rest']}" if match["sign"] else match["plain"]
        sign = (match["sign"] or match["after"]) if match else ""
        signs.add(sign if sign or re.search("[1-9]", bare) else None)
        plain.append(bare)
    signs.discard(None)
    alike = len(signs - {""}) <= 1 and ("%" not in signs or signs == {"%"})
    return plain if alike else cells
