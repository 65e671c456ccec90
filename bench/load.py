"""A steady load on one address: requests that are sent on time, whatever the answers do, and what became of each.

The clock sends, not the answers (an open loop): a service that stalls is asked as often as one that does not, and
every request that it owes an answer counts. See G. Tene, "How NOT to measure latency", 2013.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

SECONDS = 30.0  # after which a request without an answer is lost


@dataclass
class Load:
    """Requests at a rate, from a thread of its own.

    Attributes:
        answers: the right predictions, by the key of the model that gives them.
        counts: by phase: sent, lost, wrong, and how many each model answered.
        losses: what a client saw of each lost or wrong request, with its phase.
        seconds: of each request that was answered, by phase.
    """

    port: int
    body: bytes
    answers: dict[str, list[float]]
    rate: float = 200.0
    phase: str = "before"
    counts: dict[str, Counter] = field(default_factory=dict)
    losses: list[tuple[str, str]] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    tolerance: float = 1e-5

    def __enter__(self) -> Load:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    async def _run(self) -> None:
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        waiting: set[asyncio.Task] = set()
        due = time.monotonic()
        while not self._stop.is_set():
            task = asyncio.create_task(self._request(self.phase))
            waiting.add(task)
            task.add_done_callback(waiting.discard)
            due += 1 / self.rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        await asyncio.gather(*waiting)
        for _, writer in self._idle:
            writer.close()

    async def _request(self, phase: str) -> None:
        counts = self.counts.setdefault(phase, Counter())
        counts["sent"] += 1
        began = time.monotonic()
        try:
            async with asyncio.timeout(SECONDS):
                status, content = await self._exchange()
        except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError) as error:
            counts["lost"] += 1
            self.losses.append((phase, f"{type(error).__name__}: {error}"))
            return
        if status != 200:
            counts["lost"] += 1
            self.losses.append((phase, f"{status}: {content[:200]!r}"))
            return
        self.seconds.setdefault(phase, []).append(time.monotonic() - began)
        given = json.loads(content)
        right, said = self.answers.get(given["model"]), given["predictions"]
        if (
            right is None
            or len(said) != len(right)
            or any(abs(a - b) > self.tolerance for a, b in zip(said, right, strict=True))
        ):
            counts["wrong"] += 1
            self.losses.append((phase, f"wrong: {content[:200]!r}"))
        counts[given["model"]] += 1

    async def _exchange(self) -> tuple[int, bytes]:
        """One request on a kept connection, as clients of a service have them."""
        if self._idle:
            reader, writer = self._idle.pop()
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(
                b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(self.body), self.body)
            )
            await writer.drain()
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = next(int(line[15:]) for line in head.split("\r\n") if line.startswith("content-length:"))
            content = await reader.readexactly(length)
        except BaseException:
            writer.close()
            raise
        if "connection: close" in head:
            writer.close()
        else:
            self._idle.append((reader, writer))
        return int(head.split()[1]), content

    def total(self, *phases: str) -> Counter:
        """The counts of some phases, of all by default."""
        return sum((self.counts.get(phase, Counter()) for phase in phases or self.counts), Counter())
