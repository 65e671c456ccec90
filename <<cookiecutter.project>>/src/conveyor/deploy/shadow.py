"""Compare the answers of new replicas with those of their model, for rows of callers and for made rows.

It runs as a module inside the network of a deployment, in the container that is the lock. It uses its own code and the
bundle of the ledger, because the image is under test; only the libraries are the image's. Rows do not leave the host:
it prints counts, ids of requests, and the spread of predictions.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from conveyor.model.bundle import Bundle
from conveyor.model.signature import Column, columns_of
from conveyor.serving.problem import Problem
from conveyor.serving.service import Service
from conveyor.serving.settings import Settings

SEED = 20131231  # of the made rows
BATCHES = (1, 1, 1, 2, 5, 20)  # rows of a made request
ANSWER_SECONDS, ANSWER_BYTES = 10.0, 10_000_000  # limits of an answer
UNREADABLE = (ValueError, KeyError, TypeError, OverflowError, RecursionError)
UNSEEN = "\x7fnever seen"


@dataclass
class Seen:
    """The result for one kind of requests."""

    asked: int = 0
    wrong: list[str] = field(default_factory=list)  # ids
    why: str = ""


@dataclass(frozen=True)
class Answer:
    """A status, and its body."""

    status: int
    body: bytes


class Checker:
    """The model of a bundle, which gives the right answers."""

    def __init__(self, bundle: Bundle, settings: Settings) -> None:
        self._service = Service(bundle, settings)
        self._key, self._tolerance = settings.key, settings.tolerance

    def answer(self, body: bytes) -> Answer:
        """The answer of the bundle's model."""
        try:
            return Answer(200, self._service.answer(body, True))
        except Problem as problem:
            return Answer(problem.status, b"")

    def wrong(self, given: Answer, right: Answer, classes: bool = True) -> str | None:
        """What is wrong with an answer, in words that hold no value of the rows; None: nothing.

        Args:
            classes: whether its classes count; a release before may have had another threshold, or none.
        """
        if given.status != right.status:
            return f"status {given.status} where the model gives {right.status}"
        if given.status != 200:
            return None
        try:
            said = json.loads(given.body)
            model, predictions = said["model"], np.asarray(said["predictions"], dtype=np.float64)
        except UNREADABLE:
            return "an answer that holds no predictions"
        if model != self._key:
            return f"an answer of model {str(model)[:12]}"
        wanted = predictions_of(right.body)
        if predictions.shape != wanted.shape:
            return "another number of predictions than rows"
        if not (np.abs(predictions - wanted) <= self._tolerance).all():
            return "other predictions"
        # By its own predictions: near the threshold the tolerance allows either class.
        if classes and self._service.classes and said.get("chosen") != self._service.chosen(predictions.tolist()):
            return "classes that are not those of the threshold"
        return None


def predictions_of(body: bytes) -> np.ndarray:
    """The predictions of a right answer, (n,) or (n x classes)."""
    return np.asarray(json.loads(body)["predictions"], dtype=np.float64)


# What is asked


def made(bundle: Bundle, number: int) -> Iterator[bytes]:
    """``number`` bodies of rows; each value is drawn for its own column, from the values of training.

    They hold missing values if the model takes them, numbers at and beyond the ends of the range, and unseen texts.
    """
    draw, golden = random.Random(SEED), bundle.golden["rows"]
    pools = {column.name: _pool(column, [row.get(column.name) for row in golden]) for column in columns_of(bundle)}
    for _ in range(number):
        rows = [{name: draw.choice(pool) for name, pool in pools.items()} for _ in range(draw.choice(BATCHES))]
        yield json.dumps({"rows": rows}, allow_nan=False).encode()


def _pool(column: Column, golden: list[Any]) -> list[Any]:
    found = [value for value in golden if value is not None]
    if column.kind == "number":
        low, high = column.range or (0.0, 1.0)
        found += [low, high, (low + high) / 2, low + 0.137 * (high - low), low - 1.0, high + 1.0]
    elif column.kind == "text":
        found += sorted(column.categories or ())[:200]
        found += [] if column.closed else [UNSEEN]
    elif column.kind == "truth":
        found += [True, False]
    elif column.kind == "time":
        found += ["2000-01-01T00:00:00Z"]
    return found + [None] if column.missing else found


def ask(base: str, path: str, headers: dict[str, str], body: bytes | None = None) -> tuple[Answer, float]:
    """An answer and the seconds until it came; status 0 if there is none."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection(base, timeout=10)
    try:
        connection.request("POST" if body is not None else "GET", path, body, headers)
        response = connection.getresponse()
        content = b""
        while part := response.read1(65536):
            content += part
            if len(content) > ANSWER_BYTES or time.perf_counter() - began > ANSWER_SECONDS:
                return Answer(0, b""), time.perf_counter() - began
        return Answer(response.status, content), time.perf_counter() - began
    except (OSError, http.client.HTTPException):
        return Answer(0, b""), time.perf_counter() - began
    finally:
        connection.close()


def kept(base: str, key: str, since: float) -> list[dict[str, Any]]:
    """The requests that a replica has answered since then and still keeps; empty if it keeps none."""
    answer, _ = ask(base, "/mirror", {"X-Mirror": key})
    if answer.status != 200:
        return []
    return [request for request in json.loads(answer.body)["requests"] if request["at"] > since]


# The comparison


def compare(spec: dict[str, Any], checker: Checker, bundle: Bundle, token: str) -> dict[str, Any]:
    """Send requests, and count wrong and late answers.

    Args:
        spec: ``new``: host and port of each new replica, with ``mirror``, their key; ``old``: the same of each old one,
            with ``old_mirror``; ``since``: the time of the newest request of an earlier comparison; ``most``: number of
            live requests; ``made``: number of made ones; ``seconds``: when to stop; ``same``: whether the old release
            has the same model; ``late``: seconds beyond which an answer is late.

    Returns:
        ``given`` (answers of the new release to callers), ``mirrored`` (its answers to requests that callers sent to
        the old one) and ``made``: each with ``asked``, ``wrong`` (ids) and ``why``; ``late`` of ``timed``; ``since``;
        ``before`` and ``now``: the 5, 50 and 95 % points of the predictions for the same live rows; ``old_wrong``.
    """
    until = time.monotonic() + spec["seconds"]
    found = {name: Seen() for name in ("given", "mirrored", "made")}
    headers = {"Content-Type": "application/json", "X-Mirror": spec["mirror"]}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    before: list[np.ndarray] = []
    now: list[np.ndarray] = []
    timed, since, old_wrong = [], spec["since"], 0

    def note(kind: str, id: str, given: Answer, right: Answer) -> None:
        found[kind].asked += 1
        if why := checker.wrong(given, right):
            found[kind].wrong.append(id)
            found[kind].why = found[kind].why or why

    def asked(number: int, body: bytes) -> Answer:
        answer, seconds = ask(spec["new"][number % len(spec["new"])], "/predict", headers, body)
        timed.append(seconds)
        return answer

    live = [("given", it) for base in spec["new"] for it in kept(base, spec["mirror"], since)]
    live += [("mirrored", it) for base in spec["old"] for it in kept(base, spec["old_mirror"], since)]
    live.sort(key=lambda request: request[1]["at"])
    for number, (kind, request) in enumerate(live[-spec["most"] :]):
        if time.monotonic() > until:
            break
        since = max(since, request["at"])
        body, said = request["body"].encode(), Answer(request["status"], request["answer"].encode())
        right = checker.answer(body)
        if kind == "given":
            note(kind, request["id"], said, right)
            continue
        note(kind, request["id"], asked(number, body), right)
        old_wrong += spec["same"] and checker.wrong(said, right, classes=False) is not None
        if said.status == right.status == 200:
            with suppress(*UNREADABLE):  # a fault of the old release does not count against the new one
                before.append(predictions_of(said.body).ravel())
                now.append(predictions_of(right.body).ravel())
    for number, body in enumerate(made(bundle, spec["made"]), 1):
        if time.monotonic() > until:
            break
        note("made", f"made row {number}", asked(number, body), checker.answer(body))
    return {
        **{name: vars(seen) for name, seen in found.items()},
        "timed": len(timed),
        "late": sum(seconds > spec["late"] for seconds in timed),
        "since": since,
        "before": spread(before),
        "now": spread(now),
        "old_wrong": int(old_wrong),
    }


def spread(predictions: list[np.ndarray]) -> list[float]:
    """The 5, 50 and 95 % points of all predictions together; empty where there are none."""
    if not predictions:
        return []
    points: list[float] = np.quantile(np.concatenate(predictions), [0.05, 0.5, 0.95]).round(4).tolist()
    return points


def main(folder: Path) -> None:
    """Read spec.json, settings.json and bundle/ of a folder, and print the result."""
    bundle = Bundle(folder / "bundle")
    checker = Checker(bundle, Settings.read(folder / "settings.json"))
    spec = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
    print(json.dumps(compare(spec, checker, bundle, os.environ.get("TOKEN", ""))))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
