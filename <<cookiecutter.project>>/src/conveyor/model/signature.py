"""The columns of a model as training saw them, and the check of rows against them before the model is asked."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, ConfigDict, FailFast, Field, TypeAdapter, ValidationError
from pydantic_core import from_json
from typing_extensions import TypedDict

from conveyor.model.bundle import Bundle
from conveyor.model.rows import LARGEST, Rows, kind_of, kind_of_values

if TYPE_CHECKING:
    import pandas as pd

CATEGORIES = 1000  # a column with more distinct texts lists none: these are names, not categories
FEW = 4  # rows; for more rows a check by column comes first, which is faster if nothing is wrong
WHOLE = 2**53 - 1  # up to here a whole number equals its float
STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
WORDS = {"number": "a number", "text": "text", "truth": "true or false", "time": "a time as 2013-06-30T12:00:00Z"}


class BadRows(Exception):
    """A body or a row does not fit the model.

    Attributes:
        row: the number of the row, the first is 1, or None.
        column: the name of the column, or None.
    """

    def __init__(self, text: str, row: int | None = None, column: str | None = None) -> None:
        self.row, self.column = row, column
        super().__init__(f"row {row}: {text}" if row else text)


def profile(
    trained: pd.DataFrame,
    held_out: pd.DataFrame,
    missing: tuple[str, ...],
    closed: tuple[str, ...],
    predicted: NDArray[np.float64],
    task: str,
) -> dict[str, Any]:
    """The content of profile.json, from the features of both sides of the split.

    Args:
        missing, closed: the columns whose value may be missing, and those that take only texts of training; see
            choice.Chosen.
        predicted: the answers for the holdout; for numbers their tenths bound the histogram.
    """
    columns = []
    for name, values in trained.items():
        present = values.dropna()
        kind = kind_of_values(values)
        gaps = bool(values.isna().any() or held_out[name].isna().any())
        known: dict[str, Any] = {"name": name, "kind": kind, "missing": gaps or name in missing}
        if kind == "number" and len(present):
            known["range"] = [float(present.min()), float(present.max())]
        if kind == "text":
            distinct = sorted(map(str, present.unique()))
            known["categories"] = distinct if len(distinct) <= CATEGORIES else None
            known["closed"] = name in closed
        columns.append(known)
    tenths = np.linspace(0.1, 0.9, 9)
    bounds = np.unique(np.quantile(predicted, tenths)) if task == "regression" else np.round(tenths, 1)
    return {"columns": columns, "bounds": bounds.tolist()}


@dataclass(frozen=True)
class Column:
    """A column of the model: its kind, whether values may be missing, those of training; ``closed``: only these."""

    name: str
    kind: str
    missing: bool
    range: list[float] | None
    categories: frozenset[str] | None
    closed: bool = False


def columns_of(bundle: Bundle) -> list[Column]:
    """The columns of a bundle's model, in its order. Without a profile only their types are known."""
    if bundle.profile is None:
        return [Column(name, kind_of(dtype), True, None, None) for name, dtype in bundle.features.items()]
    found = []
    for of in bundle.profile["columns"]:
        seen = of.get("categories")
        found.append(
            Column(
                name=of["name"],
                kind=of["kind"],
                missing=of["missing"],
                range=of.get("range"),
                categories=None if seen is None else frozenset(seen),
                closed=of.get("closed", False),
            )
        )
    return found


def _time(text: str) -> str:
    datetime.fromisoformat(text)
    return text


class Signature:
    """Checks rows against the columns of a model.

    Args:
        columns: see ``columns_of``.
        max_rows: the largest number of rows in a request.
        example: the values of a row, by column.
        unused: columns that a row may have, and that the model does not see: another model takes them, or they name the
            row, so that its label finds it.
    """

    def __init__(
        self,
        columns: list[Column],
        max_rows: int,
        example: dict[str, Any] | None = None,
        unused: tuple[str, ...] = (),
    ) -> None:
        self.columns = {column.name: column for column in columns}
        self.max_rows, self.unused = max_rows, frozenset(unused)
        self._numbers = tuple(column.name for column in columns if column.kind == "number")
        self._others = tuple(column.name for column in columns if column.kind != "number")
        self._numbers_of = _values_of(self._numbers)
        self._needed = np.array([not self.columns[name].missing for name in self._numbers], dtype=bool)
        types: dict[str, Any] = {
            "number": Annotated[float, Field(ge=-LARGEST, le=LARGEST)],
            "text": str,
            "truth": bool,
            "time": Annotated[str, AfterValidator(_time), Field(json_schema_extra={"format": "date-time"})],
        }
        fields = {}
        for column in columns:
            kind = types[column.kind]
            if column.closed and column.categories:
                kind = Literal[tuple(sorted(column.categories))]
            shown = [example[column.name]] if example else None
            about = Field(title=column.name, description=_described(column), examples=shown)
            fields[column.name] = Annotated[kind | None if column.missing else kind, about]
        # A typed dictionary takes any name for a column, and reads twice as fast as a model.
        # No type checker can know these columns: they depend on the model.
        dictionary: Any = TypedDict
        row = dictionary("Row", fields)
        row.__pydantic_config__ = STRICT
        several = (Field(min_length=1, max_length=max_rows), FailFast())
        # A type checker cannot know that this is a type either.
        body = {"rows": Annotated[list[row], *several]}  # type: ignore[valid-type]
        request = dictionary("Request", body)
        request.__pydantic_config__ = STRICT
        self._adapter = TypeAdapter(request)
        self._check = self._adapter.validator.validate_python

    def schema(self) -> dict[str, Any]:
        """The JSON schema of a request, without references."""
        made = self._adapter.json_schema()
        made["properties"]["rows"]["items"] = made.pop("$defs")["Row"]
        return made

    def read(self, body: bytes) -> tuple[list[dict[str, Any]], Rows]:
        """The rows of a JSON body as they came, and what the model sees of them by column.

        Raises:
            BadRows: naming the first wrong row and column.
        """
        given: list[dict[str, Any]] | None = None
        try:
            content = from_json(body)
        except ValueError as error:
            raise BadRows(f"the body is no JSON: {error}") from None
        listed: Any = content.get("rows") if type(content) is dict else None
        several = type(listed) is list and FEW < len(listed) <= self.max_rows and len(content) == 1
        if several and (found := self._sound(listed)):
            return listed, found
        if self.unused and type(listed) is list:
            given, listed = listed, list(map(self._used, listed))
            content["rows"] = listed
            if several and (found := self._sound(listed)):
                return given, found
        try:
            # Not directly from the body: each of its errors would hold a copy of the whole row.
            rows = self._check(content)["rows"]
        except ValidationError as error:
            raise self._complaint(error) from None
        numbers = np.array(list(map(self._numbers_of, rows)), dtype=np.float64)
        return given or rows, Rows(self._numbers, numbers, self._others_of(rows))

    def _used(self, row: Any) -> Any:
        if type(row) is not dict or self.unused.isdisjoint(row):
            return row
        return {name: value for name, value in row.items() if name not in self.unused}

    def _others_of(self, rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
        return {name: [row[name] for row in rows] for name in self._others}

    def _sound(self, rows: Any) -> Rows | None:
        """The columns of ``read``, or None if something is wrong or needs the check value by value."""
        with suppress(ValueError, TypeError, KeyError, OverflowError):
            return self._by_column(rows)
        return None

    def _by_column(self, rows: list[Any]) -> Rows | None:
        """The same; an exception of these means None, too."""
        if set(map(type, rows)) != {dict} or set(map(len, rows)) != {len(self.columns)}:
            return None
        flat = list(chain.from_iterable(map(self._numbers_of, rows)))
        types = set(map(type, flat))
        if not types <= {float, int, type(None)}:
            return None
        numbers = np.array(flat, dtype=np.float64).reshape(len(rows), len(self._numbers))
        if (np.abs(numbers) > (WHOLE if int in types else LARGEST)).any():
            return None
        gaps = np.isnan(numbers)
        if gaps.any() and (np.count_nonzero(gaps) != flat.count(None) or gaps[:, self._needed].any()):
            return None
        others = self._others_of(rows)
        if not all(_fits(self.columns[name], values) for name, values in others.items()):
            return None
        return Rows(self._numbers, numbers, others)

    def _complaint(self, error: ValidationError) -> BadRows:
        errors = error.errors(include_url=False, include_context=False)
        # An unknown column comes first: it is often the misspelt name of the missing one.
        first = min(errors, key=lambda e: e["type"] != "extra_forbidden")
        kind, place, given = first["type"], first["loc"], first["input"]
        if len(place) < 2:
            if kind == "extra_forbidden":
                return BadRows(f"unknown field {_shown(place[0])}; the body holds `rows` and nothing else")
            if kind in ("too_short", "too_long"):
                return BadRows(f"`rows` should hold 1 to {self.max_rows} rows")
            return BadRows('the body should be {"rows": [{column: value, ...}, ...]}')
        row = int(place[1]) + 1
        if len(place) == 2:
            return BadRows("should be an object, {column: value, ...}", row)
        name = str(place[2])
        if kind == "extra_forbidden":
            lacking = [str(e["loc"][2]) for e in errors if e["type"] == "missing" and e["loc"][1:2] == place[1:2]]
            close = get_close_matches(name[:100], (lacking or list(self.columns))[:1000], n=1)
            mend = f"did you mean {close[0]!r}?" if close else "leave it out"
            return BadRows(f"unknown column {_shown(name)}; {mend}", row, name[:100])
        column = self.columns[name]
        wanted = WORDS[column.kind] + (" or null" if column.missing else "")
        if kind == "missing":
            return BadRows(f"column {name!r} is missing; it should be {wanted}", row, name)
        beyond = kind == "float_type" and type(given) is int  # a number with more digits than a float holds
        if beyond or kind in ("greater_than_equal", "less_than_equal", "finite_number"):
            wanted = f"a finite number of at most {LARGEST:g}"
        if kind == "literal_error" and column.categories:
            wanted = f"one of the {len(column.categories)} texts of training"
        return BadRows(f"column {name!r} should be {wanted}, not {_shown(given)}", row, name)


def _values_of(names: tuple[str, ...]) -> Callable[[dict[str, Any]], tuple[Any, ...]]:
    """A function that takes some values out of a row."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda row: tuple(row[name] for name in names)


def _fits(column: Column, values: list[Any]) -> bool:
    """Whether these values fit a column that is not numeric.

    Raises:
        ValueError: one is no time.
    """
    types = set(map(type, values))
    if column.missing:
        types.discard(type(None))
    if not types <= {bool if column.kind == "truth" else str}:
        return False
    if column.kind == "time":
        for value in values:
            if value is not None:
                _time(value)
    if column.closed and column.categories:
        return column.categories.issuperset(value for value in values if value is not None)
    return True


def _described(column: Column) -> str:
    if column.range:
        return "in training {:g} to {:g}".format(*column.range)
    if column.categories is not None:
        others = "no other one is answered" if column.closed else "another one is answered, too"
        return f"in training one of {len(column.categories)} texts; {others}"
    return WORDS[column.kind]


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, dict | list) else type(value).__name__
    text = "null" if value is None else text
    return text if len(text) <= 60 else text[:57] + "..."
