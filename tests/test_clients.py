"""Risk: one client takes what others need, counts as another one, or is let in with a token that is none."""

import re
import socket
import sys
import time
from contextlib import ExitStack, closing

import pytest
from serving import JSON, serving, settings, statuses, talk

from conveyor.core.errors import Misuse
from conveyor.core.tokens import tokens
from conveyor.serving import clients

HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def limited(trained, bundle, **limits):
    return settings(trained, bundle, **{f"serve.{name}": limit for name, limit in limits.items()})


def of(address: str) -> dict[str, str]:
    return {"X-Forwarded-For": f"198.51.100.7, {address}"}


def test_a_client_that_asks_too_often_is_told_when_to_ask_again_and_others_are_not(trained, bundle):
    image = limited(trained, bundle, client_rate=5.0)
    with serving(trained, image, bundle, BEHIND_EDGE="1") as server:
        found = [server.predict(server.row(), **of("192.0.2.1"))[0] for _ in range(20)]
        assert found[:5] == [200] * 5 and found.count(429) >= 10
        server.connection.request("POST", "/predict", b"{}", JSON | of("192.0.2.1"))
        response = server.connection.getresponse()
        assert response.status == 429 and response.headers["retry-after"] == "1"
        assert response.read() == (
            b'{"error":"this client sends more than 5 requests a second","row":null,"column":null}'
        )
        assert server.predict(server.row(), **of("192.0.2.2"))[0] == 200
        assert server.predict(server.row(), **of("192.0.2.1") | {"X-Probe": "golden"})[0] == 200, "the deployment"
        probes = ("/healthz", "/readyz", "/metrics")
        assert {server.ask("GET", path, headers=of("192.0.2.1"))[0] for path in probes * 10} == {200}
        time.sleep(1.1)
        assert server.predict(server.row(), **of("192.0.2.1"))[0] == 200
        assert server.metric('requests_total{path="/predict",status="429"}') >= 11


def test_the_address_of_a_client_is_the_peers_unless_an_edge_says_it(trained, bundle):
    image = limited(trained, bundle, client_rate=0.1)
    with serving(trained, image, bundle) as server:
        found = [server.predict(server.row(), **of(f"192.0.2.{number}"))[0] for number in range(5)]
        assert found == [200, 429, 429, 429, 429]
        assert server.predict(server.row(), **{"X-Probe": "golden"})[0] == 429, "anybody may say so here"
    with serving(trained, image, bundle, BEHIND_EDGE="1") as server:
        assert [server.predict(server.row(), **of(f"192.0.2.{n}"))[0] for n in range(5)] == [200] * 5
        spoofed = {"X-Forwarded-For": "203.0.113.9, 192.0.2.1"}
        assert server.predict(server.row(), **spoofed)[0] == 429, "the last address is the edge's word"


def test_the_open_requests_of_a_client_are_counted_with_bodies_that_are_not_whole(trained, bundle):
    image = limited(trained, bundle, client_open=3)
    with ExitStack() as stack, serving(trained, image, bundle) as server:
        assert server.predict(server.row())[0] == 200
        slow = []
        for _ in range(3):
            slow.append(stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10)))
            slow[-1].sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        time.sleep(0.3)
        status, said = server.predict(server.row())
        assert (status, said["error"]) == (429, "this client has 3 requests open; wait for an answer")
        assert server.ask("GET", "/healthz")[0] == 200
        slow[0].close()
        slow[1].sendall(b" " * 99)
        assert statuses(slow[1].recv(65536)) == [422]
        time.sleep(0.3)
        assert [server.predict(server.row())[0] for _ in range(5)] == [200] * 5


def test_without_limits_a_client_may_do_as_it_likes(trained, bundle):
    with serving(trained, limited(trained, bundle), bundle) as server:
        assert {server.predict(server.row())[0] for _ in range(200)} == {200}


def test_an_address_of_ipv6_counts_by_its_network():
    same = ["2001:db8:1:2::1", "2001:db8:1:2:ffff::9", "2001:DB8:1:2:0::", "2001:db8:1:2::1%eth0"]
    assert {clients.name_of(address) for address in same} == {"2001:db8:1:2::/64"}
    assert clients.name_of("2001:db8:1:3::1") == "2001:db8:1:3::/64"
    assert clients.name_of("::ffff:192.0.2.1") == clients.name_of("192.0.2.1") == "192.0.2.1"
    assert len(clients.name_of("no address" * 50)) == 64


def test_only_so_many_clients_are_remembered(monkeypatch):
    monkeypatch.setattr(clients, "REMEMBERED", 100)
    limits = clients.Clients(1.0, 2, 1000)
    for number in range(1000):
        limits.enter(f"client {number}")
        limits.leave(f"client {number}")
    assert len(limits._left) == 100 and not limits._open
    with pytest.raises(clients.Problem, match="more than 1 requests a second"):
        limits.enter("client 999")
    limits.enter("client 1")


def test_a_rate_below_one_lets_one_through():
    limits = clients.Clients(0.01, None, 1000)
    limits.enter("a")
    with pytest.raises(clients.Problem) as found:
        limits.enter("a")
    assert 95 <= found.value.retry <= 100


# Tokens


def test_two_tokens_are_valid_while_one_takes_the_place_of_the_other(trained, bundle):
    image = limited(trained, bundle)
    with serving(trained, image, bundle, PREDICT_TOKEN="the-new-one,the-old-one") as server:
        for token, status in [("the-new-one", 200), ("the-old-one", 200), ("the-new-one,the-old-one", 401)]:
            assert server.predict(server.row(), Authorization=f"Bearer {token}")[0] == status
        assert server.predict(server.row(), Authorization="Bearer ")[0] == 401
    with serving(trained, image, bundle, PREDICT_TOKEN="the-new-one") as server:
        assert server.predict(server.row(), Authorization="Bearer the-old-one")[0] == 401


@pytest.mark.parametrize(
    "token, message",
    [
        ("", "is empty where a token should be; give it, or leave the variable out"),
        (",", "is empty where a token should be; .*"),
        ("secret,", "is empty where a token should be; .*"),
        (",secret", "is empty where a token should be; .*"),
        (" secret", "holds a blank or a character that no header takes; use ASCII without blanks"),
        ("secret ", "holds a blank .*"),
        ("secret\n", "holds a blank .*"),
        ("secret, other", "holds a blank .*"),
        ("sec\tret", "holds a blank .*"),
        ("sec\x7fret", "holds a blank .*"),
        ("secrét", "holds a blank .*"),
        ("secret,other,third", "holds more than two tokens; give one, or the new and the old one as new,old"),
    ],
)
def test_a_token_that_no_header_takes_is_refused_and_not_shown(token, message):
    with pytest.raises(Misuse) as refused:
        tokens(token, "PREDICT_TOKEN")
    assert re.fullmatch(f"PREDICT_TOKEN: {message}", str(refused.value)) and "secr" not in str(refused.value)


@pytest.mark.parametrize(
    "variables, message",
    [
        ({"PREDICT_TOKEN": ""}, "PREDICT_TOKEN: is empty where a token should be; give it, or leave the variable out"),
        ({"PREDICT_TOKEN": "secret\n"}, "PREDICT_TOKEN: holds a blank .*"),
        ({"MIRROR_KEY": "secret,other"}, "MIRROR_KEY: holds a comma; give one key"),
        ({"MIRROR_KEY": "sec ret"}, "MIRROR_KEY: holds a blank .*"),
        ({"BEHIND_EDGE": "yes"}, "BEHIND_EDGE: 'yes' is neither 0 nor 1"),
        ({"PORT": "٣"}, "PORT: '٣' is no port; .*"),
    ],
)
def test_a_server_with_a_wrong_environment_does_not_start(trained, bundle, one_line, variables, message):
    known = {"BUNDLE": str(bundle), "SETTINGS": str(limited(trained, bundle)), "PYTHONPATH": "src"}
    known |= {"PORT": "0", "HOST": "127.0.0.1", "PREDICTION_LOG": ""} | variables
    done = trained.run(sys.executable, "-m", "conveyor.serving.app", check=False, env=known)
    one_line(done, 2, message)
    assert "secr" not in done.stderr + done.stdout


def test_a_slow_sender_is_one_client_among_others(trained, bundle):
    """The connection that is refused is kept: what it sends next counts anew."""
    image = limited(trained, bundle, client_rate=1.0)
    with serving(trained, image, bundle) as server, closing(server.connect()):
        sent = b"GET /info HTTP/1.1\r\nHost: x\r\n\r\n" * 3
        assert statuses(talk(server, sent, seconds=1)) == [200, 429, 429]
