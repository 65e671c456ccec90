"""A message to a chat, by an address that takes a POST with JSON: Slack, Teams, or anything that reads `text`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import requests

from conveyor.core.errors import Misuse
from conveyor.github.api import ATTEMPTS, BUSY, SECONDS

CARDS = ("office.com", "azure.com", "powerplatform.com")  # hosts of Teams, which takes cards


def send(url: str, title: str, text: str, link: str | None, sleep: Callable[[float], None] = time.sleep) -> None:
    """Post a message. A busy answer is tried again a little later.

    Args:
        url: the address, which is a secret as a whole: messages name its host alone.
        title: what has happened, in a few words.
        text: in one or two sentences.
        link: where to read more.

    Raises:
        Misuse: it is no such address, does not answer, or takes no message.
    """
    host = urlsplit(url).hostname if url.startswith(("https://", "http://")) else None
    if not host:
        raise Misuse("MONITOR_WEBHOOK: no address of a webhook; give one that begins with https://")
    more = f"\n{link}" if link else ""
    body: Any = _card(title, f"{text}{more}") if host.endswith(CARDS) else {"text": f"*{title}*\n{text}{more}"}
    for attempt in range(1, ATTEMPTS + 1):
        try:
            answer = requests.post(url, json=body, timeout=SECONDS, allow_redirects=False)
        except requests.RequestException as error:
            said = type(error).__name__
        else:
            if answer.status_code < 300:
                return
            said = str(answer.status_code)
            if answer.status_code not in BUSY:
                break
        if attempt < ATTEMPTS:
            sleep(float(attempt))
    raise Misuse(f"MONITOR_WEBHOOK: {host} took no message: {said}; check the secret")


def _card(title: str, text: str) -> dict[str, Any]:
    """What a workflow of Teams takes."""
    blocks = [
        {"type": "TextBlock", "text": title, "weight": "bolder", "wrap": True},
        {"type": "TextBlock", "text": text, "wrap": True},
    ]
    card = {"type": "AdaptiveCard", "version": "1.4", "body": blocks}
    return {
        "type": "message",
        "attachments": [{"contentType": "application/vnd.microsoft.card.adaptive", "content": card}],
    }
