"""The commits of the branch `ledger`: one commit per event, and no older commit is written again.

A commit adds the file of one event and writes champion.json; it changes nothing else. The commits of schema 1, before
an event ``migrated``, held all events in one folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from conveyor.core.git import Git
from conveyor.ledger.events import MOST_BYTES, Event, Newer, Unsound, path_of, plain, read
from conveyor.ledger.state import State

SUMMARY = "champion.json"
FLAT = re.compile(r"events/(\d{6})\.json")
CHANGE = re.compile(r":(\d{6}) (\d{6}) ([0-9a-f]+) ([0-9a-f]+) ([A-Z])\d*\t(.*)")
FILE = "100644"


@dataclass(frozen=True)
class Change:
    """One path that a commit changes: how (git's letter), the new mode, and the blobs before and after."""

    path: str
    how: str
    mode: str
    old: str
    new: str


@dataclass(frozen=True)
class Link:
    """One commit: its parents and its changes against the first of them."""

    commit: str
    parents: tuple[str, ...]
    changes: tuple[Change, ...]


class Broken(Exception):
    """A commit, or a file in it, that no writer has written.

    Attributes:
        sound: the last commit that is sound; None: there is none.
        what: what is wrong, in words.
        event: the number of the event at fault.
        newer: whether a newer version wrote it.
    """

    def __init__(self, what: str, sound: str | None, event: int, newer: bool = False) -> None:
        super().__init__(what)
        self.what, self.sound, self.event, self.newer = what, sound, event, newer


def links(git: Git, head: str, after: str | None) -> list[Link]:
    """The commits after ``after`` up to ``head``, the oldest first."""
    # A person's settings for diffs and logs must not reach what is parsed here.
    words = [
        "-c",
        f"diff.orderFile={os.devnull}",
        "-c",
        "i18n.logOutputEncoding=UTF-8",
        "log",
        "--topo-order",
        "--reverse",
    ]
    words += ["--format=%x01%H %P", "--raw", "--no-abbrev", "--full-index", "--no-renames", "--root", "--no-relative"]
    words += ["--first-parent", "--diff-merges=first-parent", "--no-ext-diff", "--no-show-signature", "--no-color"]
    words += ["--ignore-submodules=none"]
    told = git(*words, "--no-notes", head, *([f"^{after}"] if after else []), "--")
    found = []
    for part in told.split("\x01")[1:]:
        first, *lines = part.split("\n")
        commit, *parents = first.split()
        matched = [CHANGE.fullmatch(line) for line in lines if line]
        changes = [Change(m[6], m[5], m[2], m[3], m[4]) for m in matched if m]
        found.append(Link(commit, tuple(parents), tuple(changes)))
    return found


def shape(link: Link, number: int, flat: bool) -> Change:
    """The change by which a commit adds the event of this number, if it changes nothing else that it may not.

    Args:
        flat: whether it may be of schema 1, which wrote the files of the older events again.

    Raises:
        Unsound: the text completes "commit ... ".
    """
    added, summary, gone = None, None, []
    for change in link.changes:
        if change.path == SUMMARY and change.how in "AM" and change.mode == FILE:
            summary = change
        elif change.path == path_of(number) and change.how == "A" and change.mode == FILE:
            added = change
        elif flat and (older := FLAT.fullmatch(change.path)) and change.mode == FILE and change.how in "AM":
            if change.how == "A" and int(older[1]) == number and added is None:
                added = change
            elif change.how == "A" or int(older[1]) >= number:
                raise Unsound(f"adds {change.path}, where event {number} comes next")
        elif flat and FLAT.fullmatch(change.path) and change.how == "D":
            gone.append(change)
        else:
            raise Unsound(_told(change))
    if added is None or summary is None:
        raise Unsound(f"adds no {path_of(number)}" if added is None else f"leaves {SUMMARY} as it was")
    if gone and (FLAT.fullmatch(added.path) or len(gone) != number - 1):
        raise Unsound(f"removes {gone[0].path}")
    return added


def _told(change: Change) -> str:
    if change.how in "AM" and change.mode == "120000":
        return f"makes {change.path} a symbolic link"
    if change.how in "AM" and change.mode == "160000":
        return f"makes {change.path} a submodule"
    if change.how == "T" or (change.how == "M" and change.old == change.new):
        return f"changes the kind of {change.path}"
    return f"{ {'A': 'adds', 'M': 'rewrites', 'D': 'removes'}.get(change.how, 'changes') } {change.path}"


def contents_of(git: Git, ids: Iterable[str], seconds: float | None = None) -> dict[str, bytes | None]:
    """The contents of objects by their ids, all in one process, which may take ``seconds``; None: it is missing."""
    wanted = list(dict.fromkeys(ids))
    found: dict[str, bytes | None] = dict.fromkeys(wanted)
    words = ("cat-file", "--batch", "--buffer")
    told, place = git.bytes(*words, stdin=_lines(wanted), seconds=seconds) if wanted else b"", 0
    for each in wanted:
        end = told.index(b"\n", place)
        size = told[place:end].split()[-1].decode()
        place = end + 1
        if size.isdecimal():
            found[each] = told[place : place + int(size)]
            place += int(size) + 1
    return found


def _lines(ids: list[str]) -> bytes:
    return "".join(f"{each}\n" for each in ids).encode()


def beside(git: Git, chain: list[Link]) -> tuple[str, str] | None:
    """The last merge that has the ledger as another parent than its first: its commit, and that parent.

    Whoever follows first parents sees the history of another branch there.
    """
    pairs = [(link.commit, parent) for link in reversed(chain) for parent in link.parents[1:]]
    asked = _lines([f"{parent}:{SUMMARY}" for _, parent in pairs])
    told = git.bytes("cat-file", "--batch-check=%(objecttype)", stdin=asked).splitlines() if pairs else []
    return next((pair for pair, kind in zip(pairs, told, strict=True) if kind == b"blob"), None)


def listed(git: Git, commit: str) -> tuple[dict[int, str], bool]:
    """The blobs of the events in a commit's tree by number, and whether they are in the layout of schema 1."""
    found, old = {}, False
    for line in git("ls-tree", "-r", "--full-tree", commit).splitlines():
        about, _, path = line.partition("\t")
        blob = about.split()[2]
        flat = FLAT.fullmatch(path)
        if flat:
            found[int(flat[1])], old = blob, True
        elif (number := path.rpartition("/")[2].removesuffix(".json")).isdecimal() and path == path_of(int(number)):
            found[int(number)] = blob
    return found, old


def shaped(chain: list[Link], before: int, flat: bool, last: str | None) -> tuple[list[Change], Broken | None]:
    """The change of each commit that adds its event, up to the first commit that is not as a writer writes it.

    Args:
        chain: the commits, the oldest first.
        before: the number of the event before the first of them; 0: none.
        flat: whether they may begin in the layout of schema 1.
        last: the commit of that event.
    """
    added: list[Change] = []
    for number, link in enumerate(chain, before + 1):
        try:
            if link.parents != ((last,) if last else ()):
                raise Unsound("is a merge" if len(link.parents) > 1 else "does not follow the one before it")
            added.append(shape(link, number, flat))
        except Unsound as fault:
            return added, Broken(f"commit {link.commit[:12]} {fault}", last, number)
        flat, last = flat and bool(FLAT.fullmatch(added[-1].path)), link.commit
    return added, None


def folded(
    state: State,
    chain: list[Link],
    added: list[Change],
    contents: dict[str, bytes | None],
    last: str | None,
    signed: Callable[[Event, str], str | None],
) -> None:
    """Take the events of these commits into ``state``, each checked.

    Args:
        contents: the blobs of the changes, see ``again``.
        last: the commit of the last event in ``state``.
        signed: says what is wrong with the signature of an event's commit, None if nothing is.

    Raises:
        Broken: the first file that is not as a writer writes it.
    """
    by_event: dict[int, str] = {}
    for link, change in zip(chain, added, strict=False):
        number = state.number + 1
        try:
            event = event_of(contents[change.new])
            if (event.schema_ == 1) != bool(FLAT.fullmatch(change.path)):
                raise Unsound(f"has schema {event.schema_}, which is not kept there")
            if event.type == "migrated" and event.before != last:
                raise Unsound("names another commit than its parent as the end of the old layout")
            if missing := signed(event, link.commit):
                raise Unsound(missing)
            state.add(event)
        except Unsound as fault:
            raise Broken(f"{change.path} {fault}", last, number, isinstance(fault, Newer)) from None
        for older in again([link]):
            if not _same(contents[older.old], contents[older.new]):
                wrote = by_event.get(_number(older), "before")
                what = f"commit {link.commit[:12]} rewrites {older.path}, which commit {wrote[:12]} wrote"
                raise Broken(what, last, _number(older))
        by_event[number], last = link.commit, link.commit


def again(chain: list[Link]) -> list[Change]:
    """The files of schema 1 that were written once more."""
    return [c for link in chain for c in link.changes if c.how == "M" and FLAT.fullmatch(c.path)]


def _number(change: Change) -> int:
    return int(change.path.removeprefix("events/").removesuffix(".json"))


def event_of(content: bytes | None) -> Event:
    """An event from a blob; see ``events.read``."""
    if content is None:
        raise Unsound("is missing")
    if len(content) > MOST_BYTES:
        raise Unsound(f"has {len(content)} bytes, where {MOST_BYTES} are the most")
    return read(content)


def _same(old: bytes | None, new: bytes | None) -> bool:
    """Whether two texts of an event of schema 1 say the same: a newer writer added keys without a value."""
    try:
        first, second = (
            {key: value for key, value in plain(each or b"").items() if value not in (None, [])} for each in (old, new)
        )
    except Unsound:
        return False
    return first == second
