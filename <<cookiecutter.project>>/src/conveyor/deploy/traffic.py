"""The answers to callers of a release, counted, and whether they exceed its budget. Pure functions of metrics."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from conveyor.core.errors import Misuse

LEVEL = 0.01  # how likely a release within its budget has so many events; below it the release is refused
SLOW = 0.05  # the share of requests that may take longer than deploy.max_seconds
CERTAIN = 0.95  # confidence that a budget was kept, after enough requests without an event

LINE = re.compile(r"^(\w+?)_(count|bucket|total)\{(.*?)\} (\S+)", re.M)
EDGE, REPLICA = "caddy_http_request_duration_seconds", "predict_seconds"
# Refusals that callers cause: a token, time, rows, or their rate. Any other refusal is a failure.
OF_CALLERS = ("401", "408", "422", "429")
HELD = "log_append"  # the edge's handler for requests that it holds until they are whole
HELD_PATHS = ("/predict", "/feedback")


@dataclass(frozen=True)
class Traffic:
    """Requests, failed ones, and how many took up to each number of seconds."""

    requests: float = 0.0
    errors: float = 0.0
    within: tuple[tuple[float, float], ...] = ()

    @classmethod
    def of_edge(cls, text: str) -> Traffic:
        """From the edge's metrics: requests that it held until they were whole. Callers can make others fail."""
        requests = errors = 0.0
        for name, kind, labels, value in LINE.findall(text):
            told = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            if (name, kind, told.get("handler")) == (EDGE, "count", HELD):
                requests += float(value)
                errors += float(value) if told["code"].startswith("5") else 0.0
        return cls(requests, errors)

    @classmethod
    def of_replicas(cls, texts: list[str]) -> Traffic:
        """From the metrics of all replicas together: requests for predictions, and labels."""
        requests = errors = 0.0
        within: dict[float, float] = {}
        for name, kind, labels, value in LINE.findall("\n".join(texts)):
            told = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            if name == REPLICA and kind == "bucket":
                within[float(told["le"])] = within.get(float(told["le"]), 0.0) + float(value)
            elif name == "requests" and told.get("path") in HELD_PATHS:
                requests += float(value)
                errors += float(value) if told["status"] >= "4" and told["status"] not in OF_CALLERS else 0.0
        return cls(requests, errors, tuple(sorted(within.items())))

    def since(self, before: Traffic) -> Traffic:
        """The difference to an earlier reading of the same counters."""
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
    """Whether ``events`` are more than a share of the requests allows, by an exact test of level ``LEVEL``.

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
    """How many requests without an event show a share of events below ``share``, with confidence ``CERTAIN``."""
    return math.ceil(math.log(1 - CERTAIN) / math.log1p(-share)) if 0 < share < 1 else 1


def judge(edge: Traffic, new: Traffic, old: Traffic, max_error_rate: float, max_seconds: float) -> str | None:
    """Why a release must be removed, in words; None if nothing shows that.

    The reason is failures or late answers above the budget, and above those of the release beside it: callers can make
    both fail, and both are late on a busy host.

    Args:
        edge: the answers to callers of both releases. Failures that no replica counted are charged to the new release,
            because the counters of a replica are lost when it dies.
        new, old: the counters of each release's replicas.
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
    """The counts of a release that stays, and whether they are enough for a conclusion."""
    text = f"{new.requests:.0f} requests while it was watched, {new.errors:.0f} failed"
    wanted = enough(max_error_rate)
    if new.requests >= wanted or not 0 < max_error_rate < 1:
        return text
    return f"{text}; not enough requests to tell whether {max_error_rate:g} of them fail, that takes {wanted}"


def readable(answer: dict[str, Any], what: str) -> str:
    """The text of a page of metrics.

    Raises:
        Misuse: the page was not given, which is no fault of the model.
    """
    if answer["status"] != 200:
        raise Misuse(f"deploy: {what} does not tell its metrics: {answer['body'][:100]}; deploy again")
    body: str = answer["body"]
    return body
