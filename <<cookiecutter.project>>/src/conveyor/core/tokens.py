"""The format of bearer tokens: one rule for the server and for the commands that deploy it."""

from __future__ import annotations

import re

from conveyor.core.errors import Misuse


def tokens(text: str, name: str) -> tuple[str, ...]:
    """The one or two tokens of a variable.

    Raises:
        Misuse: a token is empty or does not fit into a header, or there are more than two. The line shows no token.
    """
    found = tuple(text.split(","))
    if len(found) > 2:
        raise Misuse(f"{name}: holds more than two tokens; give one, or the new and the old one as new,old")
    if not all(found):
        raise Misuse(f"{name}: is empty where a token should be; give it, or leave the variable out")
    if not all(re.fullmatch("[!-~]+", token) for token in found):
        raise Misuse(f"{name}: holds a blank or a character that no header takes; use ASCII without blanks")
    return found
