"""The verb `collect`: append the new rows of `data.source`, each once; check all rows, then pin them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conveyor.adopt import append, edit, meant, origin, plan, sniff
from conveyor.core import params
from conveyor.core.ci import outputs
from conveyor.core.environment import data_options
from conveyor.core.errors import Misuse, Refused, reason_of
from conveyor.core.files import sha256, write_json
from conveyor.core.project import Project
from conveyor.data import formats, source
from conveyor.data.contract import SUITE, read_suite, validate
from conveyor.data.hashing import row_hash, utc
from conveyor.github.propose import PROPOSAL
from conveyor.model.rows import changed_kind, kind_of_values
from conveyor.steps.validate import failures

BRANCH = "collect"
NOTHING = "nothing: data.source in params.yaml names no source of new rows"


@dataclass(frozen=True)
class Sorted:
    """The rows of an answer: those to add, and how many are not.

    Attributes:
        new: the rows to add.
        known: how many are there already, value by value.
        changed: how many are there with other values; they stay as they are.
        waiting: how many have no target yet.
        left_out: columns that the data do not have.
        later: how many of the new rows come another time.
    """

    new: pd.DataFrame
    known: int
    changed: int
    waiting: int
    left_out: list[str]
    later: int = 0


def run(
    project: Project,
    say: Callable[[str], None] = print,
    now: Callable[[pd.DataFrame], NDArray[np.bool_]] | None = None,
    proposal: str = PROPOSAL,
) -> str:
    """Add the new rows of ``data.source`` to the data, and move the pin in params.yaml with them.

    A row is new if no row has its key. After a kill all is as before, or the next run finishes it.

    Args:
        now: tells which of the new rows are to come now (n,); the others come another time. None: all.
        proposal: the file for `propose`.

    Raises:
        Refused: with the new rows the data break the contract.
        Misuse: the source does not answer, or answers other columns or types.
    """
    if plan.finish(project, say):
        return _told(project, "an earlier run was killed; its files are in place: run it again for newer rows")
    data = project.params.data
    if data.source is None:
        return _told(project, NOTHING)
    files, known = source.fetch(data.path, project.root), source.frame_of(project)
    if "" not in files and "://" in data.path:
        raise Misuse(f"data.path: {data.path} is a folder at a URL, and collect writes none; let your own job write it")
    if "://" not in data.path and (project.root / data.path).is_symlink():
        raise Misuse(f"data.path: {data.path} is a link, and collect writes no file behind one; name the file itself")
    place = origin.where(data.source)
    say(f"collect   asks {place} (as long as it takes to answer)")
    newest = _newest(known[data.time]) if data.time else None
    asked, unended = _ended(origin.ask(project, data.source, newest))
    found = _read(project, asked, place, known)
    if found is not None and "" in files and not files[""].startswith(formats.PARQUET):
        found = found.replace("", None)  # a CSV has no empty text beside a gap
    answer = sort(found, known, project.params.data, place)
    if now is not None:
        wanted = now(answer.new)
        answer = replace(answer, new=answer.new[wanted].reset_index(drop=True), later=int((~wanted).sum()))
    besides = _besides(answer, unended)
    if not len(answer.new):
        return _told(project, f"nothing new at {place}{besides}")
    changed = append.appended(files, data.path, known, answer.new)
    path, whole = path_with(data.path, files, changed), dict(sorted({**files, **changed}.items()))
    _checked(project, path, whole, known, answer.new)
    text = (project.root / "params.yaml").read_text(encoding="utf-8")
    settings = edit.with_values(text, {"data.path": path, "data.sha256": source.pin(whole)}).encode()
    if "://" in path:
        store(path, changed[""])
        changes: dict[str, bytes | None] = {"params.yaml": settings}
    else:
        if source.pin(source.fetch(path, project.root)) != data.sha256:
            raise Misuse(f"{path}: has changed while {place} answered; nothing was changed, run it again")
        changes = {f"{path.rstrip('/')}/{name}" if name else path: content for name, content in changed.items()}
        changes["params.yaml"] = settings
    _propose(project, answer, place, known, list(changes), path, proposal)
    plan.carry_out(project, changes)
    outputs(project.environment, collected="true")
    rows = f"{_rows(answer)} from {place}{_span(project, answer.new)}{besides}"
    return f"{rows}; {path} has {len(known) + len(answer.new):,} rows now, and the pin says so; next: make pipeline"


def _newest(times: pd.Series) -> pd.Timestamp:
    """The newest time that has come: a slip such as 2103 would keep all new rows away."""
    come = times[utc(times) <= pd.Timestamp.now("UTC")].max()
    return times.max() if pd.isna(come) else come


def _told(project: Project, text: str) -> str:
    outputs(project.environment, collected="false")
    return text


def _read(project: Project, files: dict[str, bytes], place: str, known: pd.DataFrame) -> pd.DataFrame | None:
    """The answer as rows, read as the data are read; None: it has no row."""
    named = [name for name in known.columns if known[name].notna().any()]
    codes, data = tuple(name for name in named if kind_of_values(known[name]) == "text"), project.params.data
    try:
        return sniff.read(files, place, None, data.text, data.numbers, codes, _way(project), tuple(known)).frame
    except formats.NoRows as none:
        append.has_all([str(name).strip() for name in none.args[1]], known, place)  # else it may be a message
        return None


def _way(project: Project) -> meant.Way:
    """How `adopt` has read the data: the same source writes its marks as then."""
    try:
        noted = json.loads((project.root / SUITE).read_bytes())["meta"]["adopt"]["way"]
        return meant.Way(noted["decimal"], dict(noted["dates"]))
    except (OSError, ValueError, KeyError, TypeError):
        return meant.Way()


def _ended(files: dict[str, bytes]) -> tuple[dict[str, bytes], bool]:
    """The answer without a last line that has no end, and whether there is one: it may be cut off.

    Other files than text tell by themselves that they are not whole.
    """
    content = files.get("", b"")
    text = not content.startswith((*sniff.PACKED, *formats.UTF_16))
    if not text or content.lstrip()[:1] in (b"{", b"[", b"<") or content.endswith((b"\n", b"\r")):
        return files, False
    last = max(content.rfind(b"\n"), content.rfind(b"\r"))
    return ({"": content[: last + 1]}, True) if last > 0 else (files, False)


def sort(answer: pd.DataFrame | None, known: pd.DataFrame, data: params.Data, place: str) -> Sorted:
    """Which rows of an answer are new.

    Args:
        answer: the rows of the source; None: it has none.
        known: the rows that are there.
        place: the source, for messages.

    Raises:
        Misuse: columns or types are others, or two rows have one key and differ.
    """
    if answer is None:
        return Sorted(known.head(0), 0, 0, 0, [])
    rows, left_out = append.alike(answer, known, place)
    complete = rows[data.target].notna()
    rows = rows[complete]
    distinct = pd.DataFrame(
        {"key": row_hash(rows[list(data.key)], codes=True), "values": row_hash(rows, codes=True)}, index=rows.index
    ).drop_duplicates()
    twice = distinct["key"].duplicated()
    if twice.any():
        row, key = distinct.index[twice][0] + 1, ", ".join(data.key)
        raise Misuse(
            f"{place}: {int(twice.sum())} rows repeat the key ({key}) of a row before them with other values, such as"
            f" row {row}; a key names one row: mend it there"
        )
    rows, keys, values = rows.loc[distinct.index], distinct["key"].to_numpy(), distinct["values"].to_numpy()
    there = pd.Series(row_hash(known, codes=True), index=row_hash(known[list(data.key)], codes=True))
    is_known = np.isin(keys, there.index.to_numpy())
    same = is_known & np.isin(values, there.to_numpy())
    new = rows[~is_known].reset_index(drop=True)
    if data.time:
        new = new.sort_values(data.time, kind="stable").reset_index(drop=True)
    return Sorted(new, int(same.sum()), int((is_known & ~same).sum()), int((~complete).sum()), left_out)


def path_with(path: str, files: dict[str, bytes], changed: dict[str, bytes]) -> str:
    """data.path with the new rows. At a URL nothing is written over, for main reads that: another name has a digest."""
    if "://" not in path:
        return path
    folder, _, name = path.rpartition("/")
    stem, *endings = name.split(".")
    stem = stem.removesuffix(f"-{sha256(files[''])[:12]}")
    marked = f"{stem}-{sha256(changed[''])[:12]}"
    return f"{folder}/{'.'.join([marked, *endings])}"


def store(url: str, content: bytes) -> None:
    """Write an object.

    Raises:
        Misuse: the store does not take it.
    """
    import fsspec

    try:
        with fsspec.open(url, "wb", **data_options()) as out:
            out.write(content)
    except Exception as error:  # each file system raises its own library's
        raise Misuse(f"{url}: cannot be written: {reason_of(error)}; DATA_OPTIONS must let it write there") from None


def _checked(project: Project, path: str, files: dict[str, bytes], known: pd.DataFrame, new: pd.DataFrame) -> None:
    """Read what is to be written as every step will read it: old rows are as before, new ones as at the source.

    Raises:
        Refused: the contract does not hold.
        Misuse: the new rows change the type of a column.
    """
    data = project.params.data
    whole = formats.read(files, path, data.text, data.numbers)
    if changed := changed_kind(known, whole):
        name, before, now = changed
        mend = "name it in data.text or data.numbers, or mend it at the source"
        raise Misuse(f"{path}: column {name!r} is {before}, and with the new rows it would be {now}; {mend}")
    wanted = np.sort(np.concatenate([row_hash(known), row_hash(new)]))
    if len(whole) != len(wanted) or (np.sort(row_hash(whole[list(known.columns)])) != wanted).any():
        raise Misuse(f"{path}: read again, the rows would be others than at the source; write the file anew as Parquet")
    told = failures(project, whole, validate(whole, read_suite(project.root / SUITE)))
    if told:
        more = f" (and {len(told) - 1} more)" if len(told) > 1 else ""
        mend = f"mend them at the source, or {SUITE} if the contract has changed"
        begin = f"with the new rows, which begin at row {len(known) + 1}, {path}"
        raise Refused(f"{begin}: {told[0]}{more}; {mend}; nothing was changed")


def _span(project: Project, new: pd.DataFrame) -> str:
    time = project.params.data.time
    return f" ({new[time].min():%Y-%m-%d} to {new[time].max():%Y-%m-%d})" if time else ""


def _rows(answer: Sorted) -> str:
    return f"{len(answer.new):,} new row{'' if len(answer.new) == 1 else 's'}"


def _besides(answer: Sorted, unended: bool) -> str:
    told = [
        (answer.known, f"{answer.known:,} known"),
        (answer.changed, f"{answer.changed:,} with other values than here, where they stay as they are"),
        (answer.waiting, f"{answer.waiting:,} without a target yet"),
        (answer.later, f"{answer.later:,} that come another time"),
        (unended, "1 in the last line, which has no end: it waits, for it may be cut off"),
    ]
    said = [f"besides {', '.join(found)}"] if (found := [text for count, text in told if count]) else []
    said += [f"the data have no column {', '.join(answer.left_out)}"] if answer.left_out else []
    return "".join(f"; {each}" for each in said)


def _propose(
    project: Project, answer: Sorted, place: str, known: pd.DataFrame, paths: list[str], path: str, file: str
) -> None:
    """What the verb `propose` makes a pull request of."""
    span = _span(project, answer.new)
    lines = [
        f"`make collect` brought **{_rows(answer)}**{span} from `{place}`.",
        "",
        "| | rows |",
        "|---|---:|",
        f"| before | {len(known):,} |",
        f"| new | {len(answer.new):,} |",
        f"| known already, equal | {answer.known:,} |",
        f"| known with other values, which stay as they are here | {answer.changed:,} |",
        f"| without a target yet, which come when they have one | {answer.waiting:,} |",
        *([f"| newer ones, which come another time | {answer.later:,} |"] if answer.later else []),
        "",
        f"`{path}` holds the new rows behind the others. `{SUITE}` holds with them, and `data.sha256` is their pin.",
    ]
    if answer.left_out:
        lines += ["", f"The source also has {', '.join(f'`{name}`' for name in answer.left_out)}. The data do not."]
    title = f"{_rows(answer)} for {PurePosixPath(path).name}{span}"
    told = {"branch": BRANCH, "title": title, "body": "\n".join(lines) + "\n", "paths": sorted(paths)}
    write_json(project.root / file, {**project.header(), **told})
