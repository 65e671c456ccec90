"""The model of one bundle, ready to answer: from the body of a request to the body of its answer."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json, to_json

from conveyor.core.errors import Misuse, Refused
from conveyor.core.tasks import chosen_of_list
from conveyor.model import runtime
from conveyor.model.bundle import Bundle
from conveyor.model.rows import Rows
from conveyor.model.signature import BadRows, Signature, columns_of
from conveyor.serving import bounds
from conveyor.serving.context import ASKED, new_id
from conveyor.serving.feedback import Feedback
from conveyor.serving.prediction_log import FeedbackLog, Log, PredictionLog, RefusedLog
from conveyor.serving.problem import Problem, trace_of
from conveyor.serving.readiness import Ready
from conveyor.serving.settings import Settings
from conveyor.serving.telemetry import Observed


class Service:
    """A bundle's model, ready to answer.

    Attributes:
        broken: why it must not answer, or None.
        draining: whether the process is about to end.
        logs: what is closed at the end.
        feedback: takes labels, or None.
        refused: counts requests without an answer, or None.

    Raises:
        Misuse: the bundle is not the one of the settings, or is damaged.
    """

    def __init__(self, bundle: Bundle, settings: Settings, log: str | None = None) -> None:
        if bundle.judged != settings.digest or bundle.key != settings.key:
            raise Misuse(
                f"{bundle.path}: has digest {bundle.judged[:12]}…, the settings say {settings.digest[:12]}…;"
                " build the image again"
            )
        self.settings = settings
        asked, profile = bundle.asked, bundle.profile
        self.task, self.classes, self.target = asked["task"], asked["classes"], asked["target"]
        self.form, self._answer = runtime.load(bundle, settings.trusted_types, settings.tolerance)
        columns = columns_of(bundle)
        golden = bundle.golden["rows"]
        self.example = dict(golden[0]) if golden else {column.name: None for column in columns}
        for column in columns:
            if column.name in settings.private:  # private values must not be shown either
                self.example[column.name] = {"number": 0.0, "truth": False, "time": "2000-01-01T00:00:00Z"}.get(
                    column.kind, "text"
                )
        told = [replace(c, range=None, categories=None) if c.name in settings.private else c for c in columns]
        self.signature = Signature(told, settings.max_rows, self.example, bundle.unused)
        self.about = {
            "key": settings.key,
            "digest": settings.digest,
            "commit": settings.commit,
            "form": self.form,
            **asked,
            "threshold": settings.threshold if self.task == "binary" else None,
            "features": {column.name: column.kind for column in columns},
        }
        self.golden_rows, self.difference, self.broken = len(golden), float("nan"), None
        try:
            self.difference = runtime.golden(bundle, self._answer, settings.tolerance)
        except Refused as refused:
            self.broken = str(refused)
        except Exception as error:
            # With libraries that do not fit the model it may raise any exception: then it must not serve.
            self.broken = f"{bundle.path.name}: the golden rows are not answered: {type(error).__name__}: {error}"
        self.draining = False
        self.logs: list[Log] = []
        self.log, self.feedback, self.refused = None, None, None
        if log:
            self.log = PredictionLog(log, settings.key, settings.private, settings.log_bytes, settings.log_days)
            self.refused = RefusedLog(log, settings.log_bytes)
            self.logs += [self.log, self.refused]
        if log and settings.feedback:
            labels = FeedbackLog(log, settings.log_bytes)
            self.feedback = Feedback(labels, self.classes, settings.max_rows)
            self.logs.append(labels)
        self.observed = Observed(
            columns,
            self.classes if self.task == "multiclass" else [],
            profile["bounds"] if profile else np.linspace(0.1, 0.9, 9).round(1).tolist(),
            {name: self.about[name] for name in ("key", "digest", "commit", "form")},
            self.logs,
        )
        self._bundle, self.ready = bundle, Ready(self._look)

    @property
    def not_ready(self) -> str | None:
        """Why /readyz says no, or None."""
        return "draining: the process is about to end" if self.draining else self.broken or self.ready.reason()

    def _look(self) -> str | None:
        """Why the answer to a golden row is not right, or None."""
        if not self.golden_rows:
            return None
        row, wanted = self._bundle.golden["rows"][0], self._bundle.golden["answers"][0]
        try:
            features = self._bundle.features
            said = self._answer(Rows.of({name: [row.get(name)] for name in features}, features))
        except Exception as error:
            # The model's libraries may raise any exception; /readyz reports it.
            return f"the model does not answer a golden row: {type(error).__name__}"
        if not np.isfinite(said).all() or runtime.apart(said, np.asarray([wanted])) > self.settings.tolerance:
            return "the model answers a golden row otherwise than in training"
        return None

    def answer(self, body: bytes, probe: bool = False) -> bytes:
        """The response to the body of a request for /predict. A probe is neither logged nor counted.

        Raises:
            Problem: the body does not fit the model, or the model cannot answer it.
        """
        if self.broken:
            raise Problem(503, self.broken)
        rows, columns = self._read(body)
        try:
            predicted = self._answer(columns)
        except Exception as error:
            # The model's libraries may raise any exception for unfit values.
            reason, kind = " ".join(str(error).split())[:200], type(error).__name__
            told = f"the model cannot answer these rows: {kind}"
            open_ = not self.settings.private
            logged = f"{told}: {reason}" if open_ else told
            raise Problem(422, f"{told}: {reason}", logged=logged, trace=trace_of(error, open_)) from None
        said = predicted.tolist()  # for one row lists are several times as fast as arrays
        if not all(map(isfinite, chain.from_iterable(said) if predicted.ndim > 1 else said)):
            row = int(np.flatnonzero(~np.isfinite(predicted.reshape(len(rows), -1)).all(axis=1))[0]) + 1
            raise Problem(422, f"row {row}: the model gives no answer", row)
        id = new_id()
        if not probe and ASKED.get().recorded:
            self._record(id, rows, columns, predicted, len(body))
        content = {"id": id, "model": self.settings.key, "predictions": said}
        if self.classes:
            content["chosen"] = self.chosen(said)
        return to_json({**content, "classes": self.classes} if self.task == "multiclass" else content)

    def chosen(self, said: list[Any]) -> list[str]:
        """The class of each row, as the gate chooses it."""
        return [self.classes[place] for place in chosen_of_list(said, self.settings.threshold)]

    def record_again(self, body: bytes, content: bytes) -> None:
        """Count and log the answer that another process gave to a body."""
        said = from_json(content)
        rows, columns = self._read(body)
        self._record(said["id"], rows, columns, np.asarray(said["predictions"], dtype=np.float64), len(body))

    def _record(
        self, id: str, rows: list[dict[str, Any]], columns: Rows, predicted: NDArray[np.float64], size: int
    ) -> None:
        self.observed.rows(columns, predicted)
        if self.log:
            self.log.put(id, rows, predicted, size, ASKED.get().request)

    def _read(self, body: bytes) -> tuple[list[dict[str, Any]], Rows]:
        """The rows of a body. Whatever the body holds, this takes only some megabytes more than the body.

        Raises:
            Problem: naming the first wrong row and column.
        """
        body = body.removeprefix(b"\xef\xbb\xbf")  # the byte order mark that some editors put before UTF-8
        if body.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise Problem(422, "the body is UTF-16; send it as UTF-8")
        try:
            bounds.check(body, len(self.signature.columns) + len(self.signature.unused), self.settings.max_rows)
            return self.signature.read(body)
        except bounds.Beyond as beyond:
            bad = self._beyond(beyond)
        except BadRows as found:
            bad = found
        text = str(bad)
        hidden = bad.column in self.settings.private
        raise Problem(422, text, bad.row, bad.column, logged=_without_value(text, bad.column) if hidden else text)

    def _beyond(self, beyond: bounds.Beyond) -> BadRows:
        """What is wrong in a body that holds too much: the first wrong column at its beginning, if there is one."""
        if beyond.beginning is not None:
            try:
                self.signature.read(beyond.beginning)
            except BadRows as bad:
                # A column that is missing there may come later.
                if bad.column is not None and f"column {bad.column!r} is missing" not in str(bad):
                    return bad
        return BadRows(str(beyond), beyond.row)


def _without_value(text: str, column: str | None) -> str:
    """A message about a column, without the wrong value."""
    end = text.find(", not ", text.index(repr(column)) + len(repr(column))) if repr(column) in text else -1
    return text if end < 0 else text[:end]
