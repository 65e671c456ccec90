"""Risk: a chat is not told of an alarm, is told each day, or its secret address is in a log."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from conveyor.core.errors import Misuse
from conveyor.watch import monitor, webhook


@contextmanager
def chat(*answers: int):
    """A chat that answers with these in turn, the last one again and again: its address, and what it was told."""
    told = []

    class Chat(BaseHTTPRequestHandler):
        def do_POST(self):
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(answers[min(len(told), len(answers)) - 1])
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Chat)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hooks/s3cret", told
    finally:
        server.shutdown()
        server.server_close()


def test_a_chat_gets_title_text_and_link():
    with chat(200) as (url, told):
        webhook.send(url, "The loss has risen", "By .1.", "https://github.com/o/r/actions/runs/7")
    assert told == [{"text": "*The loss has risen*\nBy .1.\nhttps://github.com/o/r/actions/runs/7"}]


@pytest.mark.parametrize("host", ["acme.webhook.office.com", "prod-1.westeurope.logic.azure.com"])
def test_teams_gets_a_card(monkeypatch, host):
    sent = []
    monkeypatch.setattr(
        webhook.requests, "post", lambda url, json, **_: sent.append(json) or SimpleNamespace(status_code=202)
    )
    webhook.send(f"https://{host}/x", "Title", "Text", None)
    [card] = sent[0]["attachments"]
    assert [block["text"] for block in card["content"]["body"]] == ["Title", "Text"]


def test_a_busy_chat_is_asked_again_a_few_times_and_one_that_says_no_is_not():
    waited = []
    with chat(503, 429, 200) as (url, told):
        webhook.send(url, "t", "x", None, waited.append)
    assert len(told) == 3 and waited == [1.0, 2.0]
    with chat(503) as (url, told), pytest.raises(Misuse, match="MONITOR_WEBHOOK: 127.0.0.1 took no message: 503"):
        webhook.send(url, "t", "x", None, waited.append)
    assert len(told) == 3
    with chat(404) as (url, told), pytest.raises(Misuse, match="took no message: 404"):
        webhook.send(url, "t", "x", None, waited.append)
    assert len(told) == 1


@pytest.mark.parametrize("url", ["s3cret", "file:///s3cret", "http://127.0.0.1:9/s3cret"])
def test_no_message_holds_the_address(url):
    with pytest.raises(Misuse) as told:
        webhook.send(url, "t", "x", None, lambda seconds: None)
    assert "s3cret" not in str(told.value)


def test_a_chat_is_told_when_an_issue_opens_or_closes_and_of_what_github_does_not_take():
    with chat(200) as (url, told):
        project = SimpleNamespace(environment=SimpleNamespace(webhook=url, run_url=None))
        assert monitor.called(project, "t", "x", lambda: "opened https://…") == "opened https://…; the webhook is told"
        assert monitor.called(project, "t", "x", lambda: "said in https://…") == "said in https://…" and len(told) == 1
        assert monitor.called(project, "t", "x", lambda: "no issue is open") and len(told) == 1
        assert "told" in monitor.called(project, "t", "x", lambda: "its issue is closed") and len(told) == 2

        def away() -> str:
            raise Misuse("GitHub: away")

        with pytest.raises(Misuse, match="GitHub: away"):
            monitor.called(project, "t", "x", away)
        assert "could not be written: GitHub: away" in told[2]["text"]
    nobody = SimpleNamespace(environment=SimpleNamespace(webhook=None, run_url=None))
    assert monitor.called(nobody, "t", "x", lambda: "opened") == "opened"
