"""The two ways in which a command ends early, each with one line that says what is wrong and how to correct it."""

from __future__ import annotations

import traceback
import unicodedata
from pathlib import Path

HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


class Refused(Exception):
    """No to a model or its data, by the gate, the data contract, a rollout or the ledger. The command exits with 1."""

    code = 1


class Misuse(Exception):
    """Usage, configuration or environment is wrong. The command exits with 2."""

    code = 2


JOINERS = "\u200c\u200d"  # of scripts and emoji


def one_line(text: str) -> str:
    """A text with line breaks, control characters and marks of direction escaped.

    A raw line break could begin a command in a workflow's log, a control character changes a terminal, and half of a
    surrogate pair cannot be printed.
    """
    return "".join(
        repr(each)[1:-1] if unicodedata.category(each) in HIDDEN and each not in JOINERS else each
        for each in text.rstrip("\r\n")
    )


def reason_of(error: BaseException) -> str:
    """What an exception of a library says, in one short line; the name of its class if it says nothing."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def at_fault(error: BaseException, file: Path, mend: str) -> Misuse:
    """An exception of the code in ``file`` as one line, with the last place in that file before the error."""
    places = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == file]
    text = str(error)
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename) == file:
        places, text = [error.lineno], error.msg
    kind = "" if isinstance(error, TypeError | ValueError | Misuse) else f"{type(error).__name__}: "
    return Misuse(f"{file.name}{f':{places[-1]}' if places else ''}: {kind}{' '.join(text.split())[:300]}; {mend}")
