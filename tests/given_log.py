"""A log of given files as rows: read anew, and again from the folder of its days, which must tell the same."""

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from conveyor.core.files import sha256
from conveyor.watch.log_days import LogFile, parts
from conveyor.watch.log_lines import Asked
from conveyor.watch.log_rows import Read, read_of


def files_of(files: Iterable[tuple[str, bytes]]) -> list[LogFile]:
    return [LogFile(name, sha256(content), partial(bytes, content)) for name, content in files]


def parsed(
    files: Iterable[tuple[str, bytes]],
    wanted: tuple[str, ...],
    several: bool,
    now: pd.Timestamp,
    recent: Mapping[str, str] | None = None,
) -> Read:
    asked, given = Asked(wanted, several, recent or {}), files_of(files)
    with TemporaryDirectory() as folder:
        fresh, kept = (read_of(parts(given, asked, Path(folder)), asked, now) for _ in range(2))
        assert not given or not list(Path(folder).glob(".writing-*"))
    for name in ("rows", "features", "labels", "refusals"):
        pd.testing.assert_frame_equal(getattr(fresh, name), getattr(kept, name))
    for name in ("files", "repeated", "damaged", "future"):
        assert getattr(fresh, name) == getattr(kept, name), name
    return fresh
