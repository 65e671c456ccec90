"""How a command ends: 0 done, 1 the gate said no, 2 usage, configuration or environment; each with one line."""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import typer

from conveyor.core.errors import Misuse, Refused, one_line
from conveyor.core.git import GitError


def ended(run: Callable[[], int | None]) -> NoReturn:
    """Run a command line and end this process: every foreseen end is one line on standard error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Progress is shown at once, also in a file or in a workflow's log.
            stream.reconfigure(line_buffering=True)
            with suppress(OSError):  # a pipe that was opened as a file
                stream.reconfigure(errors="backslashreplace")  # a text that the terminal's encoding lacks
    try:
        raise SystemExit(_code(run))
    except typer.Abort:
        raise SystemExit(130) from None
    except BrokenPipeError:
        # The reader has closed the pipe: the rest of the buffer has no place to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(2) from None
    except (Refused, Misuse) as error:
        _end(str(error), error.code)
    except GitError as error:
        _end(f"git: {error}; mend that and run again", Misuse.code)
    except ImportError as error:
        if not (error.name or "").startswith("conveyor"):
            raise
        _end(f"{error.name}: the machinery lacks it; `git checkout src/conveyor` brings it back", Misuse.code)
    except OSError as error:
        # A full disk, a folder without permission, a file in the place of a folder, in any step.
        _end(f"{_near(error.filename)}: {error.strerror or error}; make room or mend the access, and run again", 2)
    except Exception as error:
        # An unknown verb or option. typer has its own click, whose classes have no public name.
        if hasattr(error, "show") and hasattr(error, "exit_code"):
            if not hasattr(error, "format_message") or not error.format_message():
                error.show()
                raise SystemExit(error.exit_code) from None
            _end(f"{error.format_message().rstrip('.')}; `make` lists the verbs with what they take", error.exit_code)
        # Not foreseen: show a traceback, and never the exit code of the gate.
        traceback.print_exc()
        raise SystemExit(2) from None


def _code(run: Callable[[], int | None]) -> str | int | None:
    try:
        return run()
    except SystemExit as error:
        # Here 1 only means that the reader has closed the pipe; as exit code it would mean that the gate said no.
        return 2 if error.code == 1 else error.code


def _end(text: str, code: int) -> NoReturn:
    print(f"error: {one_line(text)}", file=sys.stderr)
    raise SystemExit(code) from None


def _near(path: object) -> str:
    """A path relative to the working directory, if it is inside."""
    if not isinstance(path, str | bytes | os.PathLike):
        return "the disk"
    place = Path(os.fsdecode(path))
    return str(place.relative_to(Path.cwd()) if place.is_relative_to(Path.cwd()) else place)
