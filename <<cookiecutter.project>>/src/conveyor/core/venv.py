"""Virtual environments that hold a lock: built once, then found again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from conveyor.core.errors import Misuse
from conveyor.core.files import write_bytes

SECONDS = 1800


def holding(place: Path, lock: Path, announcement: str) -> str:
    """The Python of an environment at ``place`` that holds what ``lock`` pins by hash.

    If it must be built, the ``announcement`` is printed first. uv installs on all cores. It does not read pip's
    settings: where only these name an index, pip installs.

    Raises:
        Misuse: the lock cannot be installed; with the installer's last line.
    """
    python = place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    complete = place / "complete"
    if complete.is_file() and python.exists():  # a link that leads nowhere after an upgrade of Python does not
        return str(python)
    print(announcement, flush=True)
    uv = Path(sys.executable).with_name("uv.exe" if os.name == "nt" else "uv")
    hashed = ["install", "--quiet", "--require-hashes", "-r", str(lock)]
    try:
        _run(sys.executable, "-m", "venv", "--clear", str(place))
        try:
            _run(str(uv), "pip", *hashed, "--python", str(python))
        except (OSError, subprocess.CalledProcessError):
            _run(str(python), "-m", "pip", *hashed)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        said = (error.stderr or b"").decode(errors="replace").strip().splitlines()
        why = said[-1] if said else error
        raise Misuse(
            f"{lock}: cannot be installed: {why}; see that the package index answers, and run it again"
        ) from None
    write_bytes(complete, b"")
    return str(python)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=SECONDS)
