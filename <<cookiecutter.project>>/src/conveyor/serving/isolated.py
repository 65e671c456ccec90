"""An answer in a separate process, for a request that may have ended the replica that got it first."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress

from conveyor.serving.problem import Problem

OPEN_FILES = 1_048_576  # descriptors are below this number
MOST = 4  # children at a time
WAITING = 256  # requests in the queue: all open requests of a dead replica come at once
WHOLE = b"\n"  # the end of a whole answer
ENDED = "this request ended the process that answered it; send other rows, or fewer at once"


class Apart:
    """Answers in child processes, each with a time limit in seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._asked, self._turn = seconds, 0, asyncio.Semaphore(MOST)

    async def answer(self, give: Callable[[], bytes]) -> bytes:
        """The result of ``give`` in a child. The event loop continues meanwhile.

        Raises:
            Problem: 500 if the child ends or takes too long, 503 if too many requests wait.
        """
        if self._asked >= MOST + WAITING:
            raise Problem(503, "too many requests are asked again at once", retry=1)
        self._asked += 1
        try:
            async with self._turn:
                said = await self._said(give)
        except OSError as error:  # no process, no memory or no descriptor for it
            raise Problem(503, f"no process to answer in: {error.strerror}", retry=1) from None
        finally:
            self._asked -= 1
        if not said.endswith(WHOLE):
            raise Problem(500, ENDED)
        return said.removesuffix(WHOLE)

    async def _said(self, give: Callable[[], bytes]) -> bytes:
        reading, writing = os.pipe()
        try:
            child = os.fork()
        except OSError:
            os.close(reading)
            os.close(writing)
            raise
        if child == 0:
            _live(give, writing)
        os.close(writing)
        said = bytearray()
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def more() -> None:
            part = os.read(reading, 65536)
            said.extend(part)
            if not part:
                loop.remove_reader(reading)
                ended.set()

        loop.add_reader(reading, more)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._seconds):
                    await ended.wait()
        finally:
            loop.remove_reader(reading)
            os.close(reading)
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            await asyncio.to_thread(os.waitpid, child, 0)  # freeing much memory takes time
        return bytes(said)


def _live(give: Callable[[], bytes], writing: int) -> None:
    """Run a child: it closes all descriptors of its parent, and never returns."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.closerange(3, writing)
        os.closerange(writing + 1, OPEN_FILES)
        with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("1000")  # out of memory, the kernel ends this process first
        said = give() + WHOLE
        while said:
            said = said[os.write(writing, said) :]
    finally:
        os._exit(0)
