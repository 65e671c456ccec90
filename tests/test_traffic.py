"""Risk: a deployment counts callers' requests wrongly, or takes a few of them for proof."""

from math import comb, inf

import pytest

from conveyor.core.errors import Misuse
from conveyor.deploy import traffic

EDGE = """
caddy_http_request_duration_seconds_bucket{code="200",handler="log_append",method="POST",server="srv0",le="0.25"} 90
caddy_http_request_duration_seconds_count{code="200",handler="log_append",method="POST",server="srv0"} 98
caddy_http_request_duration_seconds_count{code="502",handler="log_append",method="POST",server="srv0"} 2
caddy_http_request_duration_seconds_count{code="200",handler="reverse_proxy",method="POST",server="srv0"} 98
caddy_http_request_duration_seconds_count{code="502",handler="reverse_proxy",method="POST",server="srv0"} 31
caddy_http_request_duration_seconds_count{code="404",handler="static_response",method="GET",server="srv0"} 7
"""
REPLICA = """
requests_total{path="/predict",status="200"} 40.0
requests_total{path="/predict",status="500"} 2.0
requests_total{path="/predict",status="413"} 1.0
requests_total{path="/predict",status="422"} 4.0
requests_total{path="/predict",status="429"} 5.0
requests_total{path="/readyz",status="503"} 9.0
predict_seconds_bucket{le="0.25"} 30.0
predict_seconds_bucket{le="0.5"} 38.0
predict_seconds_bucket{le="+Inf"} 43.0
predict_seconds_count 43.0
"""


def test_at_the_edge_only_requests_count_that_no_caller_can_let_fail():
    """A body that breaks off while it is passed on is a 502, too."""
    seen = traffic.Traffic.of_edge(EDGE)
    assert (seen.requests, seen.errors) == (100, 2)


def test_replicas_are_counted_together_and_their_probes_are_not():
    seen = traffic.Traffic.of_replicas([REPLICA, REPLICA])
    assert (seen.requests, seen.errors) == (104, 6), "what callers bring about themselves is no failure"
    assert seen.slow(0.5) == 10 and seen.slow(0.3) == 10, "the next bound that is at least so long"
    assert seen.slow(60) == 0, "no bound tells"


def test_what_was_counted_before_does_not_count():
    before, after = traffic.Traffic.of_replicas([REPLICA]), traffic.Traffic.of_replicas([REPLICA, REPLICA])
    assert after.since(before) == before


@pytest.mark.parametrize("share", [0.001, 0.01, 0.05, 0.3])
@pytest.mark.parametrize("requests", [1, 2, 7, 60, 400])
def test_more_than_a_share_is_said_where_the_exact_binomial_tail_is_below_the_level(share, requests):
    for events in range(requests + 1):
        tail = sum(comb(requests, k) * share**k * (1 - share) ** (requests - k) for k in range(events, requests + 1))
        if abs(tail - traffic.LEVEL) > 1e-12:
            assert traffic.more_than(share, events, requests) == (tail < traffic.LEVEL), (events, tail)


def test_without_a_budget_the_first_failure_is_too_many_and_with_all_of_it_none_is():
    assert traffic.more_than(0.0, 1, 1000) and not traffic.more_than(0.0, 0, 1000)
    assert not traffic.more_than(1.0, 1000, 1000)


def judged(traffic, new, old=(0, 0), unknown=0):
    """What is said of requests and failures of two releases, with failures that none of them tells of itself."""
    new, old = traffic.Traffic(*new), traffic.Traffic(*old)
    edge = traffic.Traffic(new.requests + old.requests + unknown, new.errors + old.errors + unknown)
    return traffic.judge(edge, new, old, 0.01, 0.5)


def test_one_failure_among_few_requests_proves_nothing_and_two_do():
    assert judged(traffic, (1, 1)) is None and judged(traffic, (30, 1)) is None
    assert judged(traffic, (2, 2)) == "2 of 2 requests to the new release failed"
    assert judged(traffic, (1000, 10)) is None
    assert judged(traffic, (1000, 30)) == "30 of 1000 requests to the new release failed"


def test_a_release_that_fails_no_more_than_the_one_beside_it_stays():
    """What callers send can make both fail; and one that replaces a failing release need not be better than it."""
    assert judged(traffic, (1000, 300), (1000, 300)) is None
    assert judged(traffic, (100, 30), (900, 270)) is None
    assert judged(traffic, (1000, 300), (1000, 200)) == "300 of 1000 requests to the new release failed"
    assert judged(traffic, (1000, 5), (1000, 0)) is None, "within its budget"


def test_requests_that_died_with_a_replica_count_though_it_never_told_them():
    """The replica's own counters are gone with it: the edge knows, less what the old release failed itself."""
    assert judged(traffic, (0, 0), (100, 0), 5) == "5 of 5 requests to the new release failed"
    assert judged(traffic, (0, 0), (100, 5)) is None
    early = traffic.judge(traffic.Traffic(98, 0), traffic.Traffic(50, 0), traffic.Traffic(60, 3), 0.01, 0.5)
    assert early is None, "readings are not of one moment"


def test_late_answers_refuse_a_release_from_a_handful_on_unless_both_are_late():
    def seen(late, requests):
        return traffic.Traffic(requests, 0, ((0.5, requests - late), (inf, requests)))

    def reason(new, old=(0, 0)):
        return traffic.judge(traffic.Traffic(new[1] + old[1]), seen(*new), seen(*old), 0.01, 0.5)

    assert reason((1, 5)) is None
    assert reason((5, 10)) == "5 of 10 requests took over 0.5 s in the new release"
    assert reason((60, 1000)) is None and reason((80, 1000)) is not None
    assert reason((80, 1000), (80, 1000)) is None and reason((80, 1000), (30, 1000)) is not None


def test_too_few_requests_to_tell_is_said_with_the_number_that_it_takes():
    wanted = traffic.enough(0.01)
    assert wanted == 299 and (1 - 0.01) ** wanted <= 0.05 < (1 - 0.01) ** (wanted - 1)
    assert traffic.told(traffic.Traffic(298), 0.01).endswith(
        "not enough requests to tell whether 0.01 of them fail, that takes 299"
    )
    assert traffic.told(traffic.Traffic(299), 0.01) == "299 requests while it was watched, 0 failed"


def test_a_page_that_does_not_come_is_an_error_of_the_environment():
    with pytest.raises(Misuse, match="the edge does not tell its metrics: gone"):
        traffic.readable({"status": 0, "body": "gone"}, "the edge")
