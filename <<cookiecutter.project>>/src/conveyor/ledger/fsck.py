"""Every damage of the ledger with its repair; ``repair`` does those that need no judgement."""

from __future__ import annotations

from dataclasses import replace

from conveyor.core.errors import Misuse, one_line
from conveyor.core.git import GitError
from conveyor.core.project import Project
from conveyor.ledger.damage import Damage, Left
from conveyor.ledger.events import Moved
from conveyor.ledger.models import Models
from conveyor.ledger.reading import examine
from conveyor.ledger.state import State
from conveyor.ledger.store import BRANCH, Store

FINISH = "`make fsck REPAIR=1` or the next event finishes it"


def damages(project: Project, whole: bool = True) -> tuple[State, list[Damage]]:
    """What the events say, and all that is wrong: commits, events, witnesses, and the bytes of the models.

    Args:
        whole: verify all events again, also those that this clone has verified before.

    Raises:
        Misuse: origin cannot be read.
    """
    store, state = Store(project), State()
    reading = examine(store, state, whole)
    found = list(reading.damages)
    if reading.finish and whole:
        what = "event and branch" if BRANCH in reading.finish else "the last event and its witness"
        refs = tuple(reading.finish.items())
        found.append(Damage(f"a run was stopped between {what}", FINISH, refs, stops=False))
    models = Models(store)
    found += models.damages(state.all_stored(), whole)
    return state, found + (models.left(state, reading.look.head) if whole else [])


def run(project: Project, repair: bool = False) -> str:
    """List every damage; with ``repair`` mend what needs no judgement, and look again.

    Raises:
        Misuse: there is damage; or origin cannot be read, or not written from here.
    """
    state, found = damages(project)
    mended = {damage.what for damage in found if damage.repair or isinstance(damage, Left)}
    if repair and mended:
        store = Store(project)
        if store.remote and not project.push:
            raise Misuse("fsck: the ledger at origin is read-only from here; PUSH=1 writes it")
        try:
            if refs := {ref: at for damage in found for ref, at in damage.repair}:
                store.put(refs)
            for left in found:
                if isinstance(left, Left):
                    Models(store).sweep(left)
        except Moved:
            raise Misuse("fsck: there is a new event meanwhile; run it again") from None
        except GitError as error:
            raise Misuse(f"fsck: {store.where} did not take the repair: {error}; nothing else was changed") from None
        state, found = damages(project)
        again = "it was written and is not shown: the server hides or drops that ref, allow refs/models and refs/tags"
        found = [replace(damage, mend=again) if damage.what in mended else damage for damage in found]
        for what in sorted(mended - {damage.what for damage in found}):
            print(f"fsck      mended: {one_line(what)}")
    for damage in found:
        print(f"fsck      {one_line(damage.line)}")
    if found:
        raise Misuse(f"fsck: {len(found)} damage{'' if len(found) == 1 else 's'} in the ledger, listed above")
    champion = state.champion()
    at = f", champion/{champion.event:06d} is live" if champion else ""
    return f"{state.number} events, {len(state.all_stored())} models: sound{at}"
