"""POST /feedback: callers send the labels of predictions that they got; the log keeps them."""

from __future__ import annotations

import math
import re
from typing import Any

from pydantic_core import from_json

from conveyor.core.tasks import plain
from conveyor.serving import bounds
from conveyor.serving.prediction_log import FeedbackLog
from conveyor.serving.problem import Problem

ID_TEXT = 200  # characters of an id
LAST_ROW = 2**31 - 1
FIELDS = ("id", "row", "label")
WAIT = 5  # seconds until labels that find no room may be sent again
NAMED = 10  # classes that a message lists


class Feedback:
    """Checks labels, and hands them to their log.

    Args:
        classes: of the model, as text; empty for numbers.
        max_rows: the largest number of labels in a request.
    """

    def __init__(self, log: FeedbackLog, classes: list[str], max_rows: int) -> None:
        self._log, self._max_rows = log, max_rows
        self._forms = [form for name in classes for form in _forms(name)]
        self._known = {(type(form) is bool, form) for form in self._forms}
        more = ", ..." if len(classes) > NAMED else ""
        self._wanted = f"one of {', '.join(classes[:NAMED])}{more}" if classes else "a finite number"

    def schema(self) -> dict[str, Any]:
        """The JSON schema of a request."""
        label: dict[str, Any] = {"enum": self._forms} if self._forms else {"type": "number"}
        fields = {
            "id": {"type": "string", "minLength": 1, "maxLength": ID_TEXT, "description": "the `id` of the answer"},
            "row": {"type": "integer", "minimum": 1, "maximum": LAST_ROW, "default": 1},
            "label": {**label, "description": f"the true value: {self._wanted}"},
        }
        one = {"type": "object", "properties": fields, "required": ["id", "label"], "additionalProperties": False}
        labels = {"type": "array", "items": one, "minItems": 1, "maxItems": self._max_rows}
        made = {"type": "object", "properties": {"labels": labels}, "required": ["labels"]}
        return made | {"additionalProperties": False}

    @property
    def example(self) -> dict[str, Any]:
        """A body."""
        id = "9b2f0d6c-4a4e-4f6e-8d0c-2f1f5f0a6f3e"
        return {"labels": [{"id": id, "row": 1, "label": self._forms[-1] if self._forms else 1.5}]}

    def take(self, body: bytes) -> int:
        """Check the labels of a body, all of them before the first one is kept, and queue them. Returns how many.

        Raises:
            Problem: 422 naming the first wrong label and its field, 503 if the log cannot take them.
        """
        labels = [self._checked(number, each) for number, each in enumerate(self._listed(body), start=1)]
        if self._log.failing or not self._log.put(labels, len(body)):
            raise Problem(503, "the log cannot take labels now; send them again", retry=WAIT)
        return len(labels)

    def _listed(self, body: bytes) -> list[Any]:
        whole = Problem(422, 'the body should be {"labels": [{"id": ..., "row": 1, "label": ...}, ...]}')
        many = f"`labels` should hold 1 to {self._max_rows} labels"
        body = body.removeprefix(b"\xef\xbb\xbf")  # as in the body of /predict
        try:
            bounds.check(body, len(FIELDS), self._max_rows)
            content = from_json(body)
        except bounds.Beyond as beyond:
            told = f"label {beyond.row}: should be an object with {', '.join(FIELDS)}" if beyond.row else many
            raise Problem(422, told, beyond.row) from None
        except ValueError:  # its text may hold a value
            raise Problem(422, "the body is no JSON in UTF-8") from None
        labels = content.get("labels") if type(content) is dict and len(content) == 1 else None
        if type(labels) is not list:
            raise whole
        if not 1 <= len(labels) <= self._max_rows:
            raise Problem(422, many)
        return labels

    def _checked(self, number: int, given: Any) -> tuple[str, int, str | float | bool]:
        """A label as the log keeps it."""

        def wrong(field: str | None, text: str) -> Problem:
            of = f"field {field!r} " if field is not None else ""
            return Problem(422, f"label {number}: {of}{text}", number, field)

        if type(given) is not dict:
            raise wrong(None, f"should be an object with {', '.join(FIELDS)}")
        unknown = next((name for name in given if name not in FIELDS), None)
        if unknown is not None:
            raise wrong(unknown[:100], "is unknown; leave it out")
        for name in ("id", "label"):
            if name not in given:
                raise wrong(name, "is missing")
        id, row, label = given["id"], given.get("row", 1), given["label"]
        if type(id) is not str or not 1 <= len(id) <= ID_TEXT:
            raise wrong("id", f"should be the id of an answer, of 1 to {ID_TEXT} characters")
        # JSON has one kind of numbers: 2.0 is 2.
        if type(row) not in (int, float) or not 1 <= row <= LAST_ROW or row != int(row):
            raise wrong("row", "should be the number of a row, the first is 1")
        if not self._fits(label):
            raise wrong("label", f"should be {self._wanted}")
        return id, int(row), label

    def _fits(self, label: Any) -> bool:
        if self._known:
            return isinstance(label, str | int | float) and (type(label) is bool, label) in self._known
        try:
            return type(label) in (int, float) and math.isfinite(label)
        except OverflowError:  # a whole number that no float holds
            return False


def _forms(name: str) -> list[str | float | bool]:
    """The JSON values that mean a class: its text, its number, and the truth value that the data may have."""
    forms: list[str | float | bool] = [name]
    short = plain(name)
    if re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,15})?", short):
        forms.append(float(short) if "." in short else int(short))
    return [*forms, short == "1"] if short in ("0", "1") else forms
