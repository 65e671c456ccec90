"""Read a ledger and check it: commits, events and witnesses must agree. Damage is never read as "no champion".

Events that this clone has verified before are not verified again: their commits are the same. So a read costs only
what is new.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from conveyor.core.git import GitError
from conveyor.ledger.chain import (
    SUMMARY,
    Broken,
    Link,
    again,
    beside,
    contents_of,
    folded,
    links,
    listed,
    shaped,
)
from conveyor.ledger.damage import Damage, Damaged
from conveyor.ledger.events import SCHEMA, Newer, Unsound, plain, read_again
from conveyor.ledger.signatures import Signatures
from conveyor.ledger.state import State
from conveyor.ledger.store import BRANCH, PAGE, RESTORE, VERIFIED, WITNESS, Look, Store

RULES = "2"  # another number verifies everything again
NEW = 50  # a writer without an origin notes after so many events that they were verified
TURNS = 4
WROTE = "a newer version of the machinery wrote it"


@dataclass
class Reading:
    """A ledger as it was read.

    Attributes:
        look: the refs.
        state: what its events say, up to the first damage.
        damages: all that is wrong.
        finish: refs that a stopped writer has left behind, which the next one writes first.
        rules: by which rules it was read.
        commits: those of the branch, the oldest first.
    """

    look: Look
    state: State
    damages: list[Damage] = field(default_factory=list)
    finish: dict[str, str] = field(default_factory=dict)
    rules: str = RULES
    commits: list[str] = field(default_factory=list)


def read(store: Store, state: State) -> Reading:
    """The ledger as it is now, its events in ``state``.

    Raises:
        Damaged: it is damaged.
        Misuse: origin cannot be read.
    """
    reading = examine(store, state)
    for damage in reading.damages:
        if damage.stops:
            raise Damaged(damage)
    return reading


def examine(store: Store, state: State, whole: bool = False) -> Reading:
    """The ledger with all its damages.

    Args:
        whole: verify all events and witnesses again.
    """
    turn = 0
    while True:
        reading = _once(store, state, whole)
        if turn == TURNS or not any(damage.passing for damage in reading.damages):
            return reading
        store.pause(turn)
        turn += 1


def _once(store: Store, state: State, whole: bool) -> Reading:
    state.reset()
    signatures = Signatures(store.project)
    # A laptop's own ledger is not the beginning of the one that it finds at an origin later.
    rules = f"{RULES}{signatures.rules}{'' if store.remote else '-here'}"
    try:
        known = store.seen()
    except Damaged as broken:
        return Reading(Look(), state, [broken.damage], rules=rules)
    verified = known.verified.get(rules)
    base = None if whole else verified
    look = store.look(from_hundred(max(known.tags, default=0)) if base else ("",), whole=verified is None)
    reading = Reading(look, state, rules=rules)
    if look.head is None:
        if look.tags or (store.remote and known.head):
            reading.damages.append(_no_branch(store, known, look))
        return reading
    if whole and verified and verified != look.head and not _descends(store, verified, look.head):
        reading.damages.append(_rewritten(store, verified, look.head, rules))
    try:
        new = _take(store, reading, look.head, base, signatures)
    except GitError as error:
        mend = "make a fresh clone" if store.remote else f"{PAGE}, {RESTORE}"
        reading.damages.append(Damage(f"the branch `ledger` of {store.where} cannot be read: {error}", mend))
        return reading
    _witnesses(store, reading)
    if store.remote and (new or not base) and not reading.damages and reading.state.events:
        store.note(rules, look.head)
    return reading


def from_hundred(number: int) -> list[str]:
    """The beginnings of the numbers, written with six digits, from the hundred of this one on: few, whatever it is."""
    first = f"{number // 100:04d}"
    return [first] + [f"{first[:place]}{d}" for place in range(4) for d in range(int(first[place]) + 1, 10)]


def _take(store: Store, reading: Reading, head: str, base: str | None, signatures: Signatures) -> int:
    """Take the events up to ``head`` into ``reading``; returns how many were verified now."""
    git, state, chain = store.git, reading.state, []
    try:
        reading.commits = git("rev-list", "--first-parent", "--reverse", head).split()
        known = base is None or base in reading.commits
        chain = links(git, head, base if known else None) if head != base else []
        if not known:
            if _misled(store, reading, chain, base, signatures):
                return 0
            reading.damages.append(_rewritten(store, str(base), head, reading.rules))
            return 0
        blobs, flat = listed(git, base) if base else ({}, True)
        if blobs and min(blobs) > 1:  # the older ones are in the last commit of schema 1
            blobs = {**listed(git, reading.commits[min(blobs) - 2])[0], **blobs}
        added, broken = shaped(chain, len(blobs), flat, base)
        summary = next((c.new for link in chain[-1:] for c in link.changes if c.path == SUMMARY and not broken), None)
        wanted = [c.new for c in added] + [blob for c in again(chain) for blob in (c.old, c.new)]
        wanted += [*blobs.values(), *([summary] if summary else [])]
        # One process for all: what was verified, what is new, and the commits with their signatures.
        contents = contents_of(git, wanted + signatures.wanted([link.commit for link in chain[: len(added)]]))
        if None in contents.values():
            raise GitError("an object of it is missing here")
        for number in sorted(blobs):
            state.add(read_again(contents[blobs[number]] or b""))
        signatures.take(contents)
        folded(state, chain, added, contents, base, signatures.fault)
        if broken:
            raise broken
        _summarised(reading, contents.get(summary) if summary else None, chain, base)
    except Broken as broken:
        if broken.sound is None and _misled(store, reading, chain, None, signatures):
            return 0
        reading.damages.append(_unsound(store, broken, chain))
    except Unsound as fault:
        where = f"the events up to {str(base)[:12]} cannot be read: one {fault}"
        forget = f"`git update-ref -d {VERIFIED}{reading.rules}` verifies them again"
        newer = Damage(f"{where}: {WROTE}", "`make update`")
        reading.damages.append(newer if isinstance(fault, Newer) else Damage(where, forget))
    return len(chain)


def _misled(store: Store, reading: Reading, chain: list[Link], base: str | None, signatures: Signatures) -> bool:
    """Whether the branch was merged into another one: then the ledger is read up to that merge, which is the damage."""
    found = beside(store.git, chain)
    if found is None:
        return False
    merge, head = found
    reading.state.reset()
    _take(store, reading, head, base, signatures)
    if not reading.damages:
        what = f"commit {merge[:12]} is a merge that puts another branch before the ledger"
        reading.damages.append(_unsound(store, Broken(what, head, reading.state.number + 1), chain))
    return True


def _summarised(reading: Reading, content: bytes | None, chain: list[Link], base: str | None) -> None:
    try:
        told = plain(content) if content is not None else None
    except Unsound:
        told = None
    old = reading.state.number and reading.state.events[-1].schema_ < SCHEMA  # it had another form
    if told != reading.state.summary() and chain and not old:
        sound = chain[-1].parents[0] if chain and chain[-1].parents else None
        number = reading.state.number
        raise Broken(f"{SUMMARY} does not follow from the events", sound, number)


def _unsound(store: Store, broken: Broken, chain: list[Link]) -> Damage:
    if broken.newer:
        return Damage(f"{broken.what}: {WROTE}", "`make update`")
    if broken.sound is None:
        if store.project.clone.shallow:
            if store.remote:
                mend = "`git fetch --unshallow` there brings them: it is a shallow clone itself"
            else:
                mend = "`git fetch --unshallow URL` brings them, with the URL that it was cloned from"
            return Damage(f"{store.where} lacks the first events", mend)
        if not any(change.path == SUMMARY for link in chain for change in link.changes):
            what = f"the branch `ledger` of {store.where} holds no events: {broken.what}"
            return Damage(what, "it is not ours, rename it")
        return Damage(broken.what, f"no commit is sound; {PAGE}, {RESTORE}")
    sound = f"the last sound commit is {str(broken.sound)[:12]}"
    return Damage(broken.what, f'{sound}; {PAGE}, "A bad commit", says how to go back to it')


def _descends(store: Store, before: str, head: str) -> bool:
    return store.git.succeeds("merge-base", "--is-ancestor", before, head)


def _rewritten(store: Store, base: str, head: str, rules: str) -> Damage:
    """The branch no longer holds what this clone has verified."""
    forget = f"`git update-ref -d {VERIFIED}{rules}`"
    if not store.git.succeeds("cat-file", "-e", f"{base}:{SUMMARY}"):
        return Damage(f"the record of what this clone has verified names {base[:12]}, no event", f"{forget} forgets it")
    before, now = (store.git("rev-list", "--reverse", "--first-parent", each).split() for each in (base, head))
    place = next((n for n, (a, b) in enumerate(zip(before, now, strict=False)) if a != b), min(len(before), len(now)))
    was, there = before[place][:12], (now[place][:12] if place < len(now) else "not there")
    back = f"git push --force origin {base}:{BRANCH}" if store.remote else f"git branch --force ledger {base}"
    return Damage(
        f"event {place + 1} was commit {was} when this clone last read it, and is {there} now: it was rewritten",
        f"if what this clone knows is right, `{back}`; if what is there is right, {forget} forgets the other",
        passing=True,
    )


def _no_branch(store: Store, known: Look, look: Look) -> Damage:
    if not look.tags:
        return Damage(
            f"origin has no branch `ledger` any more, which this clone has read up to commit {str(known.head)[:12]}",
            f'`git push origin {known.head}:{BRANCH}` brings it back; if origin is new, {PAGE}, "A new origin"',
            passing=True,
        )
    last = max(look.tags)
    what = f"{store.where} has the witness champion/{last:06d} and no branch `ledger`"
    if not store.remote:
        mend = f"`git branch ledger champion/{last:06d}` brings it back up to that event"
    elif known.head:
        mend = f"`git push origin {known.head}:{BRANCH}` brings back what this clone last saw of it"
    else:
        mend = (
            f'if it is a fork, {PAGE}, "A fork", says how to take the ledger along; else'
            f" `git push origin refs/conveyor/champion/{last:06d}:{BRANCH}` brings it back up to that event"
        )
    return Damage(what, mend, passing=True)


def _witnesses(store: Store, reading: Reading) -> None:
    """Compare the witnesses with the events."""
    state, tags, head = reading.state, reading.look.tags, str(reading.look.head)
    broken = any(damage.stops for damage in reading.damages)
    # Those behind a damage are left out.
    commits = dict(enumerate(reading.commits[: state.number], 1))
    lived = {event.number for event in state.lived}
    for number in sorted(lived):
        ref, at = f"{WITNESS}{number:06d}", tags.get(number)
        right = commits.get(number)
        if right is None or at == right:
            continue
        if at is None and right == head and number == state.number:
            reading.finish[ref] = right
        elif at is None:
            mend = "`make fsck REPAIR=1` puts it back" + (" (with PUSH=1)" if store.remote else "")
            reading.damages.append(
                Damage(f"the witness champion/{number:06d} is missing", mend, ((ref, right),), passing=True)
            )
        else:
            reading.damages.append(_moved(store, number, at, right))
    for number in sorted(set(tags) - lived if not broken else ()):
        _extra(store, reading, number, tags[number], head)


def _moved(store: Store, number: int, at: str, right: str) -> Damage:
    ref = f"{WITNESS}{number:06d}"
    what = f"the witness champion/{number:06d} is at {at[:12]}, and event {number} is commit {right[:12]}"
    put = f"git push --force origin {right}:{ref}" if store.remote else f"git tag --force champion/{number:06d} {right}"
    return Damage(what, f"if nobody rewrote the branch, `{put}` puts it back", passing=True)


def _extra(store: Store, reading: Reading, number: int, at: str, head: str) -> None:
    """A witness of no event: a writer was stopped before the branch, the branch was set back, or it is somebody's."""
    state = reading.state
    delete = f"git push origin :{WITNESS}{number:06d}" if store.remote else f"git tag --delete champion/{number:06d}"
    if number <= state.number:
        what = f"the tag champion/{number:06d} belongs to no champion: event {number} is {_kind(reading, number)}"
        reading.damages.append(Damage(what, f"`{delete}` removes it", stops=False))
        return
    what = f"the last event is {state.number}, and the witness champion/{number:06d} says that there were more"
    follows = _follows(store, reading, number, at)
    if follows == 1:
        reading.finish[BRANCH] = at
    elif follows:
        put = f"git push origin {at}:{BRANCH}" if store.remote else f"git branch --force ledger {at}"
        mend = f"somebody set the branch back; `{put}` brings the events up to it back"
        reading.damages.append(Damage(what, mend, passing=True))
    else:
        mend = f"its commit does not follow from the branch; if nobody rewrote that, `{delete}` removes it"
        reading.damages.append(Damage(what, mend, passing=True))


def _follows(store: Store, reading: Reading, number: int, at: str) -> int:
    """How many sound events lie between the branch and a witness ahead of it; 0: it does not follow."""
    git, head, state = store.git, str(reading.look.head), reading.state.copy()
    try:
        chain = links(git, at, head)
        old = bool(state.events) and state.events[-1].schema_ == 1
        added, broken = shaped(chain, state.number, old, head)
        contents = contents_of(git, [c.new for c in added] + [b for c in again(chain) for b in (c.old, c.new)])
        signatures = Signatures(store.project)
        signatures.load(git, [link.commit for link in chain])
        folded(state, chain, added, contents, head, signatures.fault)
    except (GitError, Broken):
        return 0
    sound = broken is None and state.number == number and state.lived[-1:] == state.events[-1:]
    return len(chain) if sound else 0


def _kind(reading: Reading, number: int) -> str:
    return reading.state.events[number - 1].type
