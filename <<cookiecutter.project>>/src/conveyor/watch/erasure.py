"""Delete one person's lines from the log of predictions: find the log, and rewrite its files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conveyor.core.environment import data_options
from conveyor.core.errors import Misuse, reason_of
from conveyor.core.project import Project
from conveyor.data.hashing import row_hash
from conveyor.deploy.docker_engine import connected, run_inside
from conveyor.deploy.host import Host, archive, log_of
from conveyor.ledger.permission import TARGET
from conveyor.serving.log_files import FEEDBACK, PREDICTIONS
from conveyor.watch import log_lines, removal


@dataclass(frozen=True)
class Person:
    """Whose rows go.

    Attributes:
        names: for some columns the hashes of the values that tell the person; a row that has one set of them is one of
            the person's.
    """

    names: dict[tuple[str, ...], frozenset[int]]

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for columns in self.names for name in columns))

    def among(self, frame: pd.DataFrame) -> NDArray[np.bool_]:
        """Which rows are the person's; columns that name a person may be missing, or have gaps."""
        found = np.zeros(len(frame), dtype=bool)
        for columns, hashes in self.names.items():
            if set(columns) <= set(frame.columns):
                named = frame[list(columns)]
                known = np.isin(row_hash(named, codes=True), np.array(sorted(hashes), dtype=np.uint64))
                found |= known & named.notna().all(axis=1).to_numpy()
        return found


@dataclass(frozen=True)
class Found:
    """What a log holds of a person.

    Attributes:
        names: of the files that hold some of it, labels first: predictions tell which labels are the person's.
        rows: id and row of each of the person's answers.
        predictions, labels: how many lines.
        damaged: lines of the log that cannot be read, so that nobody knows whose they are; they stay.
        files: of the log; others: the names of those beside them, which are not looked at.
    """

    names: list[str]
    rows: frozenset[tuple[str, int]]
    predictions: int
    labels: int
    damaged: int
    files: int = 0
    others: tuple[str, ...] = ()


def find(files: Iterator[tuple[str, bytes]], person: Person) -> Found:
    """What the files of a log hold of a person: predictions by their features, and the labels of these."""
    rows: set[tuple[str, int]] = set()
    counts: dict[str, int] = {}
    said: dict[str, list[tuple[str, int] | None]] = {}
    damaged = count = 0
    others = list[str]()
    for name, content in files:
        kind = log_lines.kind_of(name)
        count += kind is not None
        others += [name] if log_lines.is_beside(name) else []
        if kind == FEEDBACK:
            said[name] = [removal.row_of(line) for line in content.splitlines() if line.strip()]
            damaged += said[name].count(None)
        elif kind == PREDICTIONS:
            lines, bad = log_lines.lines_of(content, partial(_features, person.columns))
            told = pd.DataFrame([features for *_, features in lines], columns=list(person.columns), dtype=object)
            mine = {(id, row) for (id, row, _), is_one in zip(lines, person.among(told), strict=True) if is_one}
            counts[name] = sum((id, row) in mine for id, row, _ in lines)
            rows |= mine
            damaged += bad
    of_labels = {name: sum(row in rows for row in given) for name, given in said.items()}
    names = [name for found in (of_labels, counts) for name in sorted(found) if found[name]]
    found = sum(counts.values()), sum(of_labels.values())
    return Found(names, frozenset(rows), *found, damaged, count, tuple(others))


def _features(wanted: tuple[str, ...], told: Any) -> tuple[str, int, list[str | None]]:
    cells = [dict.get(told["features"], name) for name in wanted]
    return str(told["id"]), int(told["row"]), [None if cell is None else log_lines.text_of(cell) for cell in cells]


def erase(project: Project, found: Found) -> int:
    """Write the files of the log without these lines; returns how many went.

    After a kill each file is as it was or as it is to be, and the next run finds the rest.

    Raises:
        Misuse: the store takes nothing, or no replica runs that could write.
    """
    place = log_of(project)
    if not found.names or not place:
        return 0
    return _at_url(place, found) if "://" in place else _on_host(project, place, found)


def _at_url(url: str, found: Found) -> int:
    import fsspec

    count = 0
    try:
        store, folder = fsspec.core.url_to_fs(url, **data_options())
        if Path(found.names[0]).is_file() and "file" in (store.protocol, *store.protocol):
            names = [str(Path(name).relative_to(folder)) for name in found.names]
            return removal.remove(folder, names, set(found.rows), removal.WAIT)
        for name in found.names:  # a store replaces an object as a whole
            left, gone = removal.without(store.cat_file(name), set(found.rows))
            store.pipe_file(name, left) if left else store.rm_file(name)
            count += gone
    except Exception as error:  # each file system raises its own library's
        raise Misuse(
            f"serve.log: {url}: cannot be written: {reason_of(error)}; DATA_OPTIONS must let it write there"
        ) from None
    return count


def _on_host(project: Project, place: str, found: Found) -> int:
    with connected() as client:
        host = Host(project, TARGET, client, lambda text: None)
        replica = next((replica for release in host.releases() for replica in release.running), None)
        if replica is None:
            raise Misuse(f"serve.log: {place}: no replica runs that could write there; run `make deploy` first")
        names = [str(PurePosixPath(*PurePosixPath(name).parts[1:])) for name in found.names]
        asked = json.dumps({"names": names, "rows": sorted(found.rows)})
        replica.put_archive(place, archive({removal.WORDS: asked.encode()}))
        done = run_inside(replica, ["python", "-I", "-c", Path(removal.__file__).read_text(encoding="utf-8"), place])
    if done.exit_code:
        said = done.errors.decode(errors="replace").strip().splitlines()
        raise Misuse(f"serve.log: {place}: cannot be written by a replica: {said[-1] if said else 'it says nothing'}")
    return int(done.output)
