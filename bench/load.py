"""A steady load on one address: requests that are sent on time, whatever the answers do, and what became of each.

The clock sends, not the answers (an open loop): a service that stalls is asked as often as one that does not, and
every request that it owes an answer counts. See G. Tene, "How NOT to measure latency", 2013. Each request is another
one than those around it, and knows its own answer: see questions.py.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from questions import TOLERANCE, Question, same

SECONDS = 30.0  # after which a request without an answer is lost
IDLE = 60.0  # seconds after which a kept connection is not used again, as clients do: servers close theirs, too


@dataclass
class Load:
    """Requests at a rate or of some callers, from a thread of its own.

    Attributes:
        questions: what is asked, in turn.
        rate: of requests a second.
        callers: where given, so many ask one after another, each as soon as it has its answer, and no rate is kept.
        counts: by phase: sent, lost, wrong, and how many each model answered.
        losses: what a client saw of each lost or wrong request, with its phase.
        seconds: of each request that was answered, by phase.
    """

    port: int
    questions: list[Question]
    rate: float = 200.0
    callers: int | None = None
    phase: str = "before"
    counts: dict[str, Counter] = field(default_factory=dict)
    losses: list[tuple[str, str]] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def __enter__(self) -> Load:
        self._stop = threading.Event()
        self._next = itertools.cycle(self.questions)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    async def _run(self) -> None:
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter, float]] = []
        if self.callers:
            await asyncio.gather(*(self._call() for _ in range(self.callers)))
        else:
            await self._send()
        for _, writer, _ in self._idle:
            writer.close()

    async def _send(self) -> None:
        waiting: set[asyncio.Task] = set()
        due = time.monotonic()
        while not self._stop.is_set():
            task = asyncio.create_task(self._request())
            waiting.add(task)
            task.add_done_callback(waiting.discard)
            due += 1 / self.rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        await asyncio.gather(*waiting)

    async def _call(self) -> None:
        while not self._stop.is_set():
            await self._request()

    async def _request(self) -> None:
        phase, question, id = self.phase, next(self._next), str(uuid.uuid4())
        counts = self.counts.setdefault(phase, Counter())
        counts["sent"] += 1
        began = time.monotonic()
        try:
            async with asyncio.timeout(SECONDS):
                status, headers, content = await self._exchange(question.body, id)
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            counts["lost"] += 1
            self.losses.append((phase, f"{type(error).__name__}: {error}"))
            return
        if status != 200:
            counts["lost"] += 1
            self.losses.append((phase, f"{status}: {content[:200]!r}"))
            return
        self.seconds.setdefault(phase, []).append(time.monotonic() - began)
        if wrong := fault(question, id, headers, content):
            counts["wrong"] += 1
            self.losses.append((phase, f"wrong, {wrong}: {content[:200]!r}"))
        else:
            counts[json.loads(content)["model"]] += 1

    async def _exchange(self, body: bytes, id: str) -> tuple[int, dict[str, str], bytes]:
        """One request on a kept connection, as clients of a service have them."""
        if self._idle and time.monotonic() - self._idle[-1][2] < IDLE:
            reader, writer, _ = self._idle.pop()
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(
                b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"X-Request-Id: %s\r\nContent-Length: %d\r\n\r\n%s" % (id.encode(), len(body), body)
            )
            await writer.drain()
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
            headers = {name.lower(): text.strip() for name, _, text in (line.partition(":") for line in lines)}
            if "content-length" not in headers:
                raise ValueError(f"an answer of no stated length: {first}")
            content = await reader.readexactly(int(headers["content-length"]))
        except BaseException:
            writer.close()
            raise
        if headers.get("connection", "").lower() == "close":
            writer.close()
        else:
            self._idle.append((reader, writer, time.monotonic()))
        return int(first.split()[1]), headers, content

    def total(self, *phases: str) -> Counter:
        """The counts of some phases, of all by default."""
        return sum((self.counts.get(phase, Counter()) for phase in phases or self.counts), Counter())

    def row(self, phase: str) -> dict[str, Any]:
        """What became of a phase: sent, lost and wrong, and of those that were answered p50, p99 and max in seconds."""
        counts = self.total(phase)
        told = {name: counts[name] for name in ("sent", "lost", "wrong")}
        return {"phase": phase, **told, **shares(self.seconds.get(phase, []))}


def shares(seconds: list[float]) -> dict[str, float]:
    """p50, p99 and max; NaN of nothing."""
    took = sorted(seconds) or [float("nan")]
    return {"p50": took[len(took) // 2], "p99": took[int(0.99 * len(took))], "max": took[-1]}


def fault(question: Question, id: str, headers: dict[str, str], content: bytes) -> str | None:
    """What is wrong with an answer of status 200, or None.

    Args:
        question: what was asked.
        id: the X-Request-Id that was sent.
        headers: of the answer, by their names in small letters.
        content: of the answer.
    """
    if headers.get("x-request-id", id) != id:
        return "it is of another request id"
    try:
        said = json.loads(content)
        model, predictions = said["model"], said["predictions"]
    except (ValueError, KeyError, TypeError) as error:
        return f"it is no answer ({type(error).__name__})"
    if not isinstance(model, str) or model not in question.answers:
        return "it names no model that serves"
    if not same(predictions, question.answers[model], TOLERANCE):
        return "the predictions are not those of this model for these rows"
    return None
