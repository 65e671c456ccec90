"""Write an event to the ledger: one push, and a check of its result.

A push is the compare-and-swap; afterwards the refs are read back. A push that failed, or whose answer was lost, is
looked up by the id of its event: nothing is written twice, and no run takes its own event for that of another run.
"""

from __future__ import annotations

import getpass
import uuid
from dataclasses import replace
from typing import Any

from conveyor.core.errors import Misuse
from conveyor.core.git import GitError
from conveyor.core.project import Project, now
from conveyor.ledger.events import SCHEMA, Event, Kind, Moved
from conveyor.ledger.key import SIGNERS
from conveyor.ledger.models import Models
from conveyor.ledger.reading import NEW, TURNS, Reading, read
from conveyor.ledger.signatures import Signatures
from conveyor.ledger.state import State
from conveyor.ledger.store import BRANCH, MODELS, WITNESS, Store
from conveyor.ledger.writing import commit_of

REASON = 10_000  # characters of a reason

# Points between two states of the ledger at which a run can be stopped. The tests stop a run at each of them.
POINTS = (
    "before accepted",
    "after accepted",
    "before live",
    "after live",
    "before rolled_back",
    "after rolled_back",
)


def reached(point: str) -> None:
    """Does nothing; a test replaces it to stop the process at a point."""


class Journal(State):
    """The events of a repository, read once, and how one more is written.

    Attributes:
        store: its refs.
        models: the bytes of its models.
        reading: what was found when they were last read.
    """

    def __init__(self, project: Project) -> None:
        super().__init__()
        self.project = project
        self.store = Store(project)
        self.models = Models(self.store)
        self.reading: Reading
        self.wrote = 0  # the number of the last event that this process has written
        self.read()

    def read(self) -> None:
        """Read all events again; see ``reading.read``."""
        self.reading = read(self.store, self)

    @property
    def head(self) -> str | None:
        """The commit of the last event."""
        return self.reading.look.head

    @property
    def writable(self) -> bool:
        """Always without a remote; with one only with ``push``, so that a laptop never moves the team's champion."""
        return self.project.push or not self.store.remote

    def put(self, refs: dict[str, str]) -> None:
        """Write refs that no event has to be written for.

        Raises:
            Misuse: they cannot be written.
        """
        try:
            self.store.put(refs)
        except GitError as error:
            raise self._untaken(error) from None

    def _append(self, kind: Kind, told: dict[str, Any], refs: dict[str, str] | None = None, size: int = 0) -> Event:
        """Write one event.

        Args:
            refs: those that belong to it, with their commits.
            size: the bytes that they bring.

        Raises:
            Moved: another run has written meanwhile.
            Misuse: it was not written, or that is not known.
        """
        if left := self.reading.finish:
            # First of all: behind another event a missing witness is damage.
            self.put(left)
            self.reading.finish = {}
            if BRANCH in left:
                raise Moved
        if self.events and self.events[-1].schema_ < SCHEMA and kind != "migrated":
            what = {"outcome": "migrate", "reason": "events before this one are in the layout of schema 1"}
            self._append("migrated", {**repeated(self.events[-1]), **what, "before": self.head})
        event = self._event(kind, told)
        try:
            commit = commit_of(self.store, self, self.head, event)
            signatures = Signatures(self.project)
            signatures.load(self.store.git, [commit])
        except GitError as error:
            raise self._untaken(error) from None
        if fault := signatures.fault(event, commit):
            raise Misuse(f"ledger: the event {fault}: LEDGER_KEY is not the key of {SIGNERS}; nothing was changed")
        refs = {**(refs or {}), BRANCH: commit}
        if kind == "live":
            refs[f"{WITNESS}{event.number:06d}"] = commit
        if not self.store.remote:  # one transaction, in which the branch is the last
            refs[BRANCH] = refs.pop(BRANCH)
        reached(f"before {kind}")
        self._write(event, refs, size)
        self.wrote = event.number
        reached(f"after {kind}")
        return event

    def _event(self, kind: Kind, told: dict[str, Any]) -> Event:
        time, last = now(), self.events[-1].time if self.events else ""
        given = {
            "schema": SCHEMA,
            "number": self.number + 1,
            "id": uuid.uuid4().hex,
            "type": kind,
            # A clock that is behind, or was ahead before: events stay in order, and history says so.
            "time": max(time, last),
            "clock": time if time < last else None,
            "run": self.project.environment.run_url,
            "by": self._who(),
            **told,
        }
        given["reason"] = given["reason"][:REASON]
        return Event.model_validate({name: _whole(value) for name, value in given.items()})

    def _write(self, event: Event, refs: dict[str, str], size: int) -> None:
        """Push an event, and look whether it is there: an answer can be lost, and a server can write half."""
        failed: GitError | None = None
        try:
            self.store.write(refs, self.head, size)
        except GitError as error:
            failed = error
        if not self.store.remote:
            if failed:
                raise self._untaken(failed)
            self._take(event, refs)
            return
        wanted = {ref: at for ref, at in refs.items() if at and ref != BRANCH}
        models = [ref.removeprefix(MODELS) for ref in wanted if ref.startswith(MODELS)]
        try:
            for turn in range(TURNS):
                look = self.store.look(_witnesses(wanted), models)
                if failed or look.head != self.head:
                    break
                self.store.pause(turn)  # what answers may be a copy that is a moment behind
        except Misuse as lost:
            raise Misuse(
                f"{failed or lost}; event {event.number} was sent to origin and may be written: run the same again,"
                " it goes on from what is there"
            ) from None
        if look.head == refs[BRANCH]:
            self._take(event, refs)
        else:
            before = self.head
            self.read()
            if not self.by_id(event.id or ""):
                if failed is None or self.head != before:
                    raise Moved
                raise self._untaken(failed)
        shown = {f"{WITNESS}{number:06d}": at for number, at in look.tags.items()}
        shown |= {f"{MODELS}{key}": at for key, at in look.models.items()}
        if missing := {ref: at for ref, at in wanted.items() if shown.get(ref) != at}:
            self._complete(event, missing)

    def _complete(self, event: Event, missing: dict[str, str]) -> None:
        """Write refs that a server has left out.

        Raises:
            Misuse: it does not show them then either.
        """
        reason = "it hides or drops that ref"
        try:
            self.store.put(missing)
        except GitError as error:
            reason = str(error)
        look = self.store.look(_witnesses(missing), [r.removeprefix(MODELS) for r in missing if MODELS in r])
        shown = {*look.tags.values(), *look.models.values()}
        if lost := [ref for ref, at in missing.items() if at not in shown]:
            raise Misuse(
                f"ledger: origin took event {event.number} and does not show {lost[0]}: {reason};"
                " allow refs/models and refs/tags there, and run the same again"
            )

    def _take(self, event: Event, refs: dict[str, str]) -> None:
        """Go on from an event that was written."""
        look = self.reading.look
        tags = {int(ref.removeprefix(WITNESS)): at for ref, at in refs.items() if ref.startswith(WITNESS)}
        self.reading.look = replace(look, head=refs[BRANCH], tags={**look.tags, **tags})
        self.add(event)
        if self.number % NEW == 0:
            self.store.note(self.reading.rules, refs[BRANCH])

    def _who(self) -> str:
        """The author of an event: GitHub's actor, else git's user name, else the account's."""
        given = self.project.environment.actor
        try:
            name: str = _whole(given or self.store.git("config", "user.name") or getpass.getuser())
        except (GitError, OSError, KeyError):
            return "unknown"
        return name[:200]

    def _untaken(self, error: GitError) -> Misuse:
        waiting = self.pending()
        state = f"event {self.wrote} was written before it" if self.wrote else "nothing was changed"
        state = f"event {waiting.number} waits for the next run" if waiting else state
        mend = "; delete that .lock file if no git is at work" if ".lock'" in str(error) else ""
        mend = "; rename that ref: the ledger needs its place" if "exists; cannot create" in str(error) else mend
        return Misuse(f"ledger: {self.store.where} did not take the event: {error}{mend}; {state}")


def _whole(value: Any) -> Any:
    """A text without halves of surrogate pairs, as from an argument that is no UTF-8: they cannot be stored."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


def repeated(event: Event) -> dict[str, Any]:
    """The fields that a following event repeats."""
    return {name: getattr(event, name) for name in ("key", "digest", "commit", "data_sha256", "outcome", "reason")}


def _witnesses(refs: dict[str, str]) -> list[str]:
    return [ref.removeprefix(WITNESS) for ref in refs if ref.startswith(WITNESS)]
