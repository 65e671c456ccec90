"""What callers of a release were told, counted, and whether that is worse than its budget. Pure: it asks nobody."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from conveyor.core.errors import Misuse

LEVEL = 0.01  # how likely a release within its budget would look at least so bad; below it the release is refused
SLOW = 0.05  # the share of requests that may take longer than deploy.max_seconds
CERTAIN = 0.95  # of a budget that was kept: enough requests, so that one which is broken had been seen so often

LINE = re.compile(r"^(\w+?)_(count|bucket|total)\{(.*?)\} (\S+)", re.M)
EDGE, REPLICA = "caddy_http_request_duration_seconds", "predict_seconds"
# What callers bring about themselves: a token, time, rows, or how often they ask. Any other refusal is a failure.
OF_CALLERS = ("401", "408", "422", "429")
HELD = "log_append"  # the handler that the edge has for requests that it holds until they are whole


@dataclass(frozen=True)
class Traffic:
    """Requests, those that failed, and how many took up to so many seconds."""

    requests: float = 0.0
    errors: float = 0.0
    within: tuple[tuple[float, float], ...] = ()

    @classmethod
    def of_edge(cls, text: str) -> Traffic:
        """From the edge's metrics: requests that it held until they were whole. Others fail by their callers, too."""
        requests = errors = 0.0
        for name, kind, labels, value in LINE.findall(text):
            told = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            if (name, kind, told.get("handler")) == (EDGE, "count", HELD):
                requests += float(value)
                errors += float(value) if told["code"].startswith("5") else 0.0
        return cls(requests, errors)

    @classmethod
    def of_replicas(cls, texts: list[str]) -> Traffic:
        """From the metrics of replicas, all together: what they were asked to predict."""
        requests = errors = 0.0
        within: dict[float, float] = {}
        for name, kind, labels, value in LINE.findall("\n".join(texts)):
            told = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            if name == REPLICA and kind == "bucket":
                within[float(told["le"])] = within.get(float(told["le"]), 0.0) + float(value)
            elif name == "requests" and told.get("path") == "/predict":
                requests += float(value)
                errors += float(value) if told["status"] >= "4" and told["status"] not in OF_CALLERS else 0.0
        return cls(requests, errors, tuple(sorted(within.items())))

    def since(self, before: Traffic) -> Traffic:
        """What came after another reading of the same counters."""
        then = dict(before.within)
        within = tuple((bound, count - then.get(bound, 0.0)) for bound, count in self.within)
        return Traffic(self.requests - before.requests, self.errors - before.errors, within)

    def slow(self, seconds: float) -> float:
        """How many took longer than the smallest bound that is at least ``seconds``; 0 if none is."""
        counts = dict(self.within)
        bounds = [bound for bound in counts if bound >= seconds]
        if not bounds or math.inf not in counts:
            return 0.0
        return counts[math.inf] - counts[min(bounds)]


def more_than(share: float, events: float, requests: float) -> bool:
    """Whether so many events are more than a share of the requests allows, by an exact test of level ``LEVEL``.

    The probability of at least ``events`` among independent requests is that of the beta distribution, see C. Clopper
    and E. Pearson, "The use of confidence or fiducial limits", 1934.
    """
    if events <= 0 or share >= 1:
        return False
    if share <= 0:
        return True
    from scipy.special import betainc  # without the rest of scipy, which takes a second to import

    requests = max(requests, events)
    return bool(betainc(events, requests - events + 1, share) < LEVEL)


def enough(share: float) -> int:
    """How many requests without an event show that fewer than ``share`` have one, with confidence ``CERTAIN``."""
    return math.ceil(math.log(1 - CERTAIN) / math.log1p(-share)) if 0 < share < 1 else 1


def judge(edge: Traffic, new: Traffic, old: Traffic, max_error_rate: float, max_seconds: float) -> str | None:
    """Why a release must go, in words; None while nothing shows that.

    It has failed, or was late, more often than its budget allows, and than the release beside it: callers can make both
    fail, and both are late on a busy host.

    Args:
        edge: what callers were told, whichever release they met; what neither release tells of itself is charged to the
            new one, for a replica that dies takes its counters with it.
        new, old: what the replicas of each say of themselves.
    """
    unknown = max(0.0, edge.errors - new.errors - old.errors)
    errors, requests = new.errors + unknown, max(new.requests, edge.requests - old.requests)
    if more_than(max_error_rate, errors, requests) and _worse(errors, requests, old.errors, old.requests):
        return f"{errors:.0f} of {requests:.0f} requests to the new release failed"
    late = new.slow(max_seconds)
    if more_than(SLOW, late, new.requests) and _worse(late, new.requests, old.slow(max_seconds), old.requests):
        return f"{late:.0f} of {new.requests:.0f} requests took over {max_seconds:g} s in the new release"
    return None


def _worse(events: float, requests: float, others: float, of_others: float) -> bool:
    """Whether one release has more of the events than its part of the requests explains."""
    return not of_others or more_than(requests / (requests + of_others), events, events + others)


def told(new: Traffic, max_error_rate: float) -> str:
    """What was seen of a release that stays, and whether that is enough to tell."""
    text = f"{new.requests:.0f} requests while it was watched, {new.errors:.0f} failed"
    wanted = enough(max_error_rate)
    if new.requests >= wanted or not 0 < max_error_rate < 1:
        return text
    return f"{text}; not enough requests to tell whether {max_error_rate:g} of them fail, that takes {wanted}"


def readable(answer: dict[str, Any], what: str) -> str:
    """The text of a page of metrics.

    Raises:
        Misuse: it was not given; no model is to blame for that.
    """
    if answer["status"] != 200:
        raise Misuse(f"deploy: {what} does not tell its metrics: {answer['body'][:100]}; deploy again")
    body: str = answer["body"]
    return body
