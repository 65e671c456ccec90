"""The limits of one client, and of all clients together. Memory does not grow with the number of clients."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from functools import lru_cache

from conveyor.serving.problem import Problem

REMEMBERED = 10_000  # clients with a known rate; the one with the oldest request is forgotten first
BODIES = 16  # times max_bytes, for all unfinished bodies together


@lru_cache(maxsize=4096)
def name_of(address: str) -> str:
    """The client of an address: the address, or for IPv6 its /64, because anybody can have a whole /64."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))


class Clients:
    """The limits of each client, and of all bodies.

    Args:
        rate: requests a second of one client; so many may come at once; None: no limit.
        most: open requests of one client at a time; None: no limit.
        max_bytes: of one body.
    """

    def __init__(self, rate: float | None, most: int | None, max_bytes: int) -> None:
        self._rate, self._most, self._room = rate, most, BODIES * max_bytes
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._open: dict[str, int] = {}
        self.limited = rate is not None or most is not None

    def enter(self, client: str) -> None:
        """A request begins; ``leave`` ends it.

        Raises:
            Problem: it is one too many; then it has not begun.
        """
        if self._rate is not None:
            self._spend(client, self._rate)
        if self._most is not None:
            if self._open.get(client, 0) >= self._most:
                raise Problem(429, f"this client has {self._most} requests open; wait for an answer", retry=1)
            self._open[client] = self._open.get(client, 0) + 1

    def leave(self, client: str) -> None:
        """A request that has begun has its answer."""
        if self._most is not None:
            if self._open[client] == 1:
                del self._open[client]
            else:
                self._open[client] -= 1

    def _spend(self, client: str, rate: float) -> None:
        now, burst = time.monotonic(), max(1.0, rate)
        left, then = self._left.pop(client, (burst, now))
        left = min(burst, left + (now - then) * rate)
        self._left[client] = (left - 1 if left >= 1 else left, now)
        if len(self._left) > REMEMBERED:
            self._left.popitem(last=False)
        if left < 1:
            seconds = math.ceil((1 - left) / rate)
            raise Problem(429, f"this client sends more than {rate:g} requests a second", retry=seconds)

    def hold(self, size: int) -> None:
        """Count so many more bytes of unfinished bodies; ``release`` gives them back.

        Raises:
            Problem: there is no room; then they are not counted.
        """
        if size > self._room:
            raise Problem(503, "too many unfinished bodies are held; send it again", retry=1, close=True)
        self._room -= size

    def release(self, size: int) -> None:
        """Give so many bytes back."""
        self._room += size
