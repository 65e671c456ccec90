"""The verb `forget`: the rows of one person go from the data, the log, labels and build/, with a list of what stays."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from conveyor.adopt import collect, edit, plan
from conveyor.core import params
from conveyor.core.errors import Misuse, one_line
from conveyor.core.files import write_text
from conveyor.core.project import Project, now
from conveyor.data import formats, source
from conveyor.data.hashing import row_hash
from conveyor.deploy.host import log_of
from conveyor.ledger.ledger import ledger_of
from conveyor.watch import rows
from conveyor.watch.erasure import Found, Person, erase, find
from conveyor.watch.labels import BY_ID, numbers_of_rows
from conveyor.watch.predictions import NoLog, files_of, kept

REPORT = "forget.md"
# What build/ holds without rows of the data: all else there goes, and the steps make it again.
KEPT = (".lock", "adopt", "environments", "image.json", "kubernetes", "sbom.cdx.json", REPORT)
UNFINISHED = "Not finished: run the same command again.\n\n"
STOPPED = " (by an earlier run, which was stopped)"
ARTIFACT_DAYS = 90  # that GitHub keeps artifacts and logs of runs, unless the repository says otherwise
CELL = r'"(?:[^"]|"")*"|[^",]*'
PAIR = re.compile(rf'\s*("(?:[^"]|"")*"|[^",=]+)=({CELL})\s*(,|$)')


@dataclass
class Work:
    """What is to be done.

    Attributes:
        labels: files of monitor.labels that change.
        changes: files of the data, and params.yaml, that change together.
        objects: what is written to URLs before that.
        told: what changes, in words; rest: what is not reached.
    """

    labels: dict[str, bytes | None] = field(default_factory=dict)
    changes: dict[str, bytes | None] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    rest: list[str] = field(default_factory=list)


def run(project: Project, key: str, yes: bool = False, say: Callable[[str], None] = print) -> str:
    """Remove all rows of a person, and write build/forget.md: what was changed, and what cannot be reached.

    After a kill the next run finishes it: labels go first, then predictions, then build/, and the data last, for what
    goes later tells what belongs to it.

    Args:
        key: all columns of data.key, or data.group, with their values, as ``id=17,day=2013-05-01``.
        yes: whether it is done; else it is only told.

    Raises:
        Misuse: the key names other columns, nothing of it is found, or something cannot be read or written.
    """
    if plan.finish(project, say):
        raise Misuse("forget: an earlier run was killed; its files are in place now: run it again")
    given, data = pairs(key), project.params.data
    frame = source.frame_of(project)
    person = person_of(given, data, frame)
    work = Work()
    count = _data(project, person, frame, work)
    log = _log(project, person, work)
    count += log.predictions + log.labels + _labels(project, person, log, work)
    if not count:
        missed = f" ({'; '.join(work.rest)})" if work.rest else ""
        raise Misuse(f"KEY: no row, prediction or label of {one_line(key)} was found{missed}; nothing was changed")
    _beyond(project, work)
    left = [place for place in sorted(project.build.iterdir()) if place.name not in KEPT]
    if left:
        work.told.append(f"build/: {', '.join(place.name for place in left)} deleted; the steps make them again")
    if project.environment.log_cache and kept(project).is_dir():
        work.told.append(f"{kept(project)}: deleted; monitor reads the log again")
        left.append(kept(project))
    for text in work.told:
        say(one_line(f"forget    {text if yes else f'would be: {text}'}"))
    for text in work.rest:
        say(one_line(f"forget    not reached: {text}"))
    if not yes:
        return "nothing was changed: YES=1 does it"
    work.told = [*_of_stopped(project, key), *work.told]
    write_text(project.build / REPORT, _report(key, work, UNFINISHED))  # a kill must not lose what was planned
    if work.labels:
        plan.carry_out(project, work.labels)
    erase(project, log)
    for place in left:
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    for url, content in work.objects.items():
        collect.store(url, content)
    report = _report(key, work)
    if work.changes:
        plan.carry_out(project, {**work.changes, f"{project.build.name}/{REPORT}": report.encode()})
    else:
        write_text(project.build / REPORT, report)
    return f"done, see build/{REPORT}; next: commit what changed, make pipeline, and what is not reached"


def pairs(text: str) -> dict[str, str]:
    """The columns and values of a key; one with a comma or a quote stands in quotes, as in CSV.

    Raises:
        Misuse: it is none.
    """
    found: dict[str, str] = {}
    place = 0
    while place < len(text):
        part = PAIR.match(text, place)
        name, value = (_bare(each) for each in part.groups()[:2]) if part else ("", "")
        if not part or not name or not value or name in found:
            break
        found[name], place = value, part.end()
    if not found or place < len(text) or text.rstrip().endswith(","):
        raise Misuse('KEY: names no rows; write it as KEY="id=17,day=2013-05-01", a value with a comma in quotes')
    return found


def _bare(cell: str) -> str:
    cell = cell.strip()
    return cell[1:-1].replace('""', '"') if cell[:1] == '"' else cell


def person_of(given: dict[str, str], data: params.Data, frame: pd.DataFrame) -> Person:
    """Whom a key names. A group is known by the keys of its rows, too: they may be all that the log has.

    Raises:
        Misuse: it names neither all columns of data.key nor data.group.
    """
    ways = [data.key, *([(data.group,)] if data.group else [])]
    by = next((columns for columns in ways if set(columns) == set(given)), None)
    if by is None:
        group = f", or {data.group}" if data.group else ""
        raise Misuse(f"KEY: names {', '.join(given)}; a row is named by {', '.join(data.key)}{group}: name all of them")
    asked = pd.DataFrame({name: [given[name]] for name in by}, dtype=object)
    person = Person({tuple(by): frozenset(row_hash(asked, codes=True).tolist())})
    if by == data.key:
        return person
    keys = row_hash(frame.loc[person.among(frame), list(data.key)], codes=True)
    return Person({**person.names, data.key: frozenset(keys.tolist())})


def _data(project: Project, person: Person, frame: pd.DataFrame, work: Work) -> int:
    data, gone = project.params.data, person.among(frame)
    count = int(gone.sum())
    if not count:
        return 0
    files = source.fetch(data.path, project.root)
    where = data.path.partition("?")[0]
    if "" not in files and "://" in data.path:
        work.rest.append(f"{count:,} rows in the folder {where}: let your own job write it, then `make data-lock`")
        return count
    changed = rows.without(files, data.path, frame, gone, data)
    work.told.append(f"{where}: {count:,} of {len(frame):,} rows deleted, and the pin moved")
    whole = {name: content for name, content in {**files, **changed}.items() if content is not None}
    path = data.path
    if "://" in path:
        content = whole[""]
        path = collect.path_with(path, files, {"": content})
        work.objects[path] = content
        work.rest.append(f"{where}: stays, for main reads it; delete it when main reads {path.partition('?')[0]}")
    else:
        work.changes |= _places(path, changed)
    text = (project.root / "params.yaml").read_text(encoding="utf-8")
    settings = edit.with_values(text, {"data.path": path, "data.sha256": source.pin(dict(sorted(whole.items())))})
    work.changes["params.yaml"] = settings.encode()
    return count


def _places(path: str, changed: dict[str, bytes | None]) -> dict[str, bytes | None]:
    return {f"{path.rstrip('/')}/{name}" if name else path: content for name, content in changed.items()}


def _log(project: Project, person: Person, work: Work) -> Found:
    try:
        found = find(files_of(project), person)
    except NoLog as why:
        # Later the data do not tell any more which keys a group had.
        first = (
            "; reach it before you do it here: keys of the group are known by the data" if len(person.names) > 1 else ""
        )
        work.rest.append(f"the log of predictions: {why}{first}")
        return Found([], frozenset(), 0, 0, 0)
    if not found.files:
        work.rest.append(f"the log of predictions: {log_of(project)} holds no file of it; is that the right place?")
    if found.others:
        names = [name.rpartition("/")[2] for name in found.others]
        work.rest.append(f"files beside the log, {len(names)}, which are not read: {', '.join(names[:5])}")
    if found.names:
        lines = f"predictions {found.predictions:,}, labels of callers {found.labels:,}, in files {len(found.names):,}"
        work.told.append(f"the log of production: deleted {lines}")
    if found.damaged:
        work.rest.append(f"damaged lines of the log, {found.damaged:,}: nobody can tell whose they are")
    columns = ", ".join(person.columns)
    work.rest.append(
        f"predictions whose caller did not send {columns} beside the features: nothing tells whose they are"
    )
    work.rest.append("logs of other environments, as staging, and the latest requests in the memory of replicas")
    return found


def _labels(project: Project, person: Person, log: Found, work: Work) -> int:
    place, data = project.params.monitor.labels, project.params.data
    if place is None:
        return 0
    if "://" in place:
        work.rest.append(f"monitor.labels, {place.partition('?')[0]}: delete the labels there")
        return 0
    files = source.fetch(place, project.root, "monitor.labels in params.yaml")
    frame = formats.read(files, place, data.text, data.numbers)
    gone = person.among(frame)
    if BY_ID in frame:
        named = zip(frame[BY_ID].astype(str), numbers_of_rows(frame), strict=True)
        gone |= np.array([each in log.rows for each in named], dtype=bool)
    if gone.any():
        work.labels |= _places(place, rows.without(files, place, frame, gone, data))
        work.told.append(f"{place}: deleted labels {int(gone.sum()):,}")
    return int(gone.sum())


def _beyond(project: Project, work: Work) -> None:
    """What no run of this verb can reach."""
    data = project.params.data
    until = datetime.now(UTC) + timedelta(days=ARTIFACT_DAYS)
    if data.source:
        work.rest.append("data.source: `make collect` would bring the rows again; delete them there first")
    else:
        work.rest.append("where the data came from")
    if "://" not in data.path and "params.yaml" in work.changes:
        mend = "a tool that rewrites history, as git filter-repo, removes them, and every clone must follow"
        work.rest.append(f"old commits of {data.path}: {mend}")
    try:
        stored = ledger_of(project).all_stored()
    except Misuse as why:
        work.rest.append(f"models: the ledger cannot be read: {why}")
    else:
        same = sorted({event.key[:12] for event in stored if event.data_sha256 == data.sha256})
        others = len({event.key for event in stored} - {e.key for e in stored if e.data_sha256 == data.sha256})
        if same and "params.yaml" in work.changes:
            mend = "train anew, then `make prune`"
            work.rest.append(f"models of these data, which hold some rows as examples: {', '.join(same)}; {mend}")
        if others:
            work.rest.append(f"{others} models of other versions of the data, which may have had the rows")
    work.rest.append(
        f"artifacts and logs of workflow runs: GitHub keeps them for {ARTIFACT_DAYS} days, those of today until"
        f" {until:%Y-%m-%d}, unless the repository has another setting"
    )
    work.rest.append("releases with their model, images in registries, MLflow, and backups")
    work.rest.append(
        "days of the log that other machines keep in their LOG_CACHE, and in the build/log of other clones"
    )
    work.rest.append("logs of callers, and ids of requests in the log of refusals")


def _of_stopped(project: Project, key: str) -> list[str]:
    """What an earlier run for the same key, which was stopped, has told to change: some of it may be done."""
    try:
        text = (project.build / REPORT).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    if not text.startswith(f"{_title(key)}\n\n{UNFINISHED}"):
        return []
    lines = text.partition("## Changed\n\n")[2].partition("\n\n## ")[0].splitlines()
    return [f"{line.removeprefix('- ').removesuffix(STOPPED)}{STOPPED}" for line in lines]


def _title(key: str) -> str:
    return f"# Forgotten: `{one_line(key)}`"


def _report(key: str, work: Work, state: str = "") -> str:
    done, rest = ("\n".join(f"- {text}" for text in texts) for texts in (work.told, work.rest))
    return f"{_title(key)}\n\n{state}{now()}\n\n## Changed\n\n{done}\n\n## Not reached\n\n{rest}\n"
