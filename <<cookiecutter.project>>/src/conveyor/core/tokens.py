"""What a bearer token may be: one rule for the server and for the commands that deploy it."""

from __future__ import annotations

import re

from conveyor.core.errors import Misuse


def tokens(text: str, name: str) -> tuple[str, ...]:
    """The token that a variable holds, or both of them.

    Raises:
        Misuse: one is empty, or holds what no header takes, or there are more; the line shows none of it.
    """
    found = tuple(text.split(","))
    if len(found) > 2:
        raise Misuse(f"{name}: holds more than two tokens; give one, or the new and the old one as new,old")
    if not all(found):
        raise Misuse(f"{name}: is empty where a token should be; give it, or leave the variable out")
    if not all(re.fullmatch("[!-~]+", token) for token in found):
        raise Misuse(f"{name}: holds a blank or a character that no header takes; use ASCII without blanks")
    return found
