"""The ledger: which model is champion, and why. This is the only code that reads or moves the champion.

The state is in git, without a server:

    branch ledger              one commit per event: events/000001.json, ..., and champion.json, derived from them
    refs/models/<key>          the bytes of a bundle, outside every ordinary clone
    tags champion/000002       the second witness of each ``live`` event

An event is one atomic push without force. The branch only takes a commit whose parent is its head: that makes the push
the compare-and-swap, and of two writers one loses.

With a remote named origin, origin is the truth and nothing is written without ``push``. Without one it is local.
"""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any

from conveyor.core.errors import Misuse, Refused
from conveyor.core.git import GitError
from conveyor.core.project import Project, now, per_project
from conveyor.ledger.events import SCHEMA, Champion, Event, History, Kind, Moved, champion_json, repeated
from conveyor.ledger.reading import events_of
from conveyor.ledger.store import BRANCH, Store
from conveyor.model.bundle import Bundle

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


class Ledger(History):
    """The ledger of a repository, read once; it is read again after every write."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.store = Store(project)
        self.read()

    # Reading

    def read(self) -> None:
        """Read all events again; see ``reading.events_of``."""
        self.events = events_of(self.store)

    # Bundles

    def restore(self, key: str, path: Path) -> bool:
        """Put the bundle of an earlier event with this key at ``path``; False if no bundle is stored."""
        event = self.stored(key)
        if event:
            self.store.extract(event.key, event.digest, path)
        return event is not None

    def bundle(self, model: Champion) -> Bundle:
        """The bundle of a model in build/champion, its digest verified.

        Raises:
            Misuse: its bytes are missing, or differ from those that were judged.
        """
        path = self.project.build / "champion"
        if not path.is_dir() or Bundle(path).digest != model.digest:
            self.store.extract(model.key, model.digest, path)
        return Bundle(path)

    # Writing

    @property
    def writable(self) -> bool:
        """Always without a remote; with one only with ``push``, so that a laptop never moves the team's champion."""
        return self.project.push or not self.store.remote

    def accept(
        self,
        bundle: Bundle,
        expected: int,
        outcome: str,
        reason: str,
        holdout: str | None = None,
        target: str | None = None,
    ) -> Event:
        """Write ``accepted`` for a bundle, together with its bytes. Another model on its way is aborted.

        Args:
            bundle: the candidate that was judged.
            expected: the number of the last event when it was judged.
            outcome, reason: the verdict.
            holdout: the digest of the rows that judged it.
            target: the environment in which it must serve before it is live.

        Raises:
            Moved: there is a newer event.
            Refused: the champion is of a newer commit than this one, or the model is quarantined.
        """
        self._expect(expected)
        self.in_time()
        bad = self.quarantine_of(bundle.key)
        if bad:
            raise Refused(f"promote: {self.why_quarantined(bad)}; nothing was changed")
        waiting = self.pending()
        if waiting and (waiting.key, waiting.digest, waiting.target) == (bundle.key, bundle.digest, target):
            return waiting  # a stopped run has accepted it
        refs = self._bytes(bundle)
        if waiting:
            self.abort(waiting, f"overtaken by model {bundle.key[:12]} before it was seen to serve")
        return self._append("accepted", self._about(bundle, outcome, reason, holdout=holdout, target=target), refs)

    def note_kept(self, bundle: Bundle, expected: int, outcome: str, reason: str, holdout: str | None) -> None:
        """Write ``kept``: the verdict on a model that does not become champion. Its bytes are not stored.

        Raises:
            Moved: there is a newer event.
        """
        self._expect(expected)
        if not any(e.key == bundle.key and e.holdout == holdout for e in self.events):
            self._append("kept", self._about(bundle, outcome, reason, holdout=holdout))

    def approve(self, bundle: Bundle, expected: int, reason: str) -> None:
        """Write ``approved`` for a bundle that could not be compared, together with its bytes.

        Raises:
            Moved: there is a newer event.
        """
        self._expect(expected)
        self._append("approved", self._about(bundle, "incomparable", reason), self._bytes(bundle))

    def live(self, waiting: Event) -> None:
        """Write ``live`` for a model on its way: from now on it is the champion.

        Raises:
            Moved: it is no longer on its way.
        """
        self._end("live", waiting, waiting.reason)

    def abort(self, waiting: Event, reason: str) -> None:
        """Write ``aborted`` for a model on its way: it does not come to serve, the champion stays.

        Raises:
            Moved: it is no longer on its way.
        """
        self._end("aborted", waiting, reason)

    def _end(self, kind: Kind, waiting: Event, reason: str) -> None:
        if self.pending() != waiting:
            raise Moved
        self._append(kind, {**repeated(waiting), "reason": reason})

    def settle(self) -> Event | None:
        """Finish the model that a stopped run left on its way, if it is to be deployed nowhere.

        A model that is to be deployed waits for `make deploy`, which asks the engine what serves.

        Raises:
            Misuse: a person's roll-back waits for that; no verdict overtakes it.
        """
        left = self.pending()
        if left and left.target:
            if left.type == "rolled_back":
                raise Misuse(
                    f"ledger: event {left.number} goes back to model {left.key[:12]} and is not finished in"
                    f" {left.target}; `make image deploy` finishes it"
                )
            return None
        if left:
            self.live(left)
        return left

    def roll_back(self, to: int | None, because: str, target: str | None = None) -> Event:
        """Write ``rolled_back`` to an earlier champion; the present one is quarantined.

        Args:
            to: the number of a ``live`` event; None: the last earlier champion that is not quarantined.
            because: the reason, for the record.
            target: the environment in which the model must serve before it is live.

        Raises:
            Moved: there is a newer event.
            Misuse: there is no such champion, or its bytes are gone or damaged.
        """
        champion = self.champion()
        if champion is None:
            raise Misuse("rollback: there is no champion yet")
        lived = [event for event in self.events if event.type == "live"]
        if to is None:
            found = [e for e in lived if e.key != champion.key and not self.quarantine_of(e.key)]
            if not found:
                raise Misuse("rollback: there was no other champion that is not quarantined; `make history` lists all")
        else:
            found = [event for event in lived if event.number == to]
            if not found:
                raise Misuse(f"rollback: event {to} made no champion; `make history` lists those that did")
        chosen = found[-1]
        if chosen.key == champion.key:
            raise Misuse(f"rollback: event {chosen.number} made the model champion that is it now; name another")
        if self.stored(chosen.key) is None:
            raise Misuse(f"rollback: the bytes of event {chosen.number} were deleted by `prune`; name another")
        self.store.extract(chosen.key, chosen.digest, self.project.build / "rollback")  # before anything is written
        told = {**repeated(chosen), "outcome": "rollback", "reason": because, "target": target}
        told["replaces"] = champion.key
        return self._append("rolled_back", told)

    def release_of(self, event: Event, tag: str) -> Event | None:
        """The ``released`` event of a version; None if the version is not released.

        Raises:
            Refused: the version is of another commit or model. A version stays, even if its tag is deleted.
        """
        known = next((each for each in self.events if each.type == "released" and each.tag == tag), None)
        if known and (known.commit, known.key, known.digest) != (self.project.commit, event.key, event.digest):
            raise Refused(
                f"release: {tag} was released from commit {known.commit[:12]} with model {known.key[:12]}, in event"
                f" {known.number}; a version does not move, take the next one"
            )
        return known

    def release(self, event: Event, tag: str, image: str) -> Event:
        """Write ``released`` for an event's model and this project's commit, unless it is written.

        Raises:
            Moved: there is a newer event.
            Refused: the version is of another commit or model.
        """
        told = {**repeated(event), "commit": self.project.commit, "outcome": "release", "tag": tag}
        return self.release_of(event, tag) or self._append("released", {**told, "reason": f"{tag} is {image}"})

    def put_under_quarantine(self, number: int, because: str) -> Event:
        """Write ``quarantined`` for the model of an event: it will not be accepted again.

        Raises:
            Moved: there is a newer event.
            Misuse: there is no such event, or its model is champion.
        """
        event = next((event for event in self.events if event.number == number), None)
        champion = self.champion()
        if event is None:
            raise Misuse(f"quarantine: there is no event {number}; `make history` lists them")
        if champion and event.key == champion.key:
            raise Misuse(f"quarantine: the model of event {number} is champion; `make rollback` takes it out first")
        return self._append("quarantined", {**repeated(event), "outcome": "quarantine", "reason": because})

    def prune(self, keep: int) -> list[str]:
        """Delete the bytes of old models, but not of the champion, the one before it, or a model on its way.

        Args:
            keep: how many of the last champions keep their bytes, at least two.

        Returns:
            The keys whose bytes were deleted.

        Raises:
            Moved: there is a newer event.
        """
        lived = list(dict.fromkeys(event.key for event in reversed(self.events) if event.type == "live"))
        waiting = self.pending()
        kept = {*lived[: max(keep, 2)], *([waiting.key] if waiting else [])}
        old = sorted({event.key for event in self.events if event.key not in kept and self.stored(event.key)})
        if old:
            reason = f"kept the bytes of the last {max(keep, 2)} champions, deleted those of {len(old)} models"
            told = {**repeated(self.events[-1]), "outcome": "prune", "reason": reason, "keys": old}
            self._append("pruned", told, dict.fromkeys((f"refs/models/{key}" for key in old), ""))
        return old

    def _expect(self, number: int) -> None:
        if self.number != number:
            raise Moved

    def _bytes(self, bundle: Bundle) -> dict[str, str]:
        """The ref that stores a bundle, unless it is stored already: stored bytes are never written again."""
        stored = self.stored(bundle.key)
        if stored and stored.digest == bundle.digest:
            return {}
        try:
            tree = "".join(
                f"100644 blob {self.store.git('hash-object', '-w', '--stdin', '--no-filters', stdin=content)}\t{name}\n"
                for name, content in bundle.files.items()
            )
            commit = self.store.commit(self.store.git("mktree", stdin=tree.encode()), None, f"Model {bundle.key}")
        except GitError as error:
            raise self._untaken(error) from None
        return {f"refs/models/{bundle.key}": commit}

    def _about(self, bundle: Bundle, outcome: str, reason: str, **more: Any) -> dict[str, Any]:
        return {
            "key": bundle.key,
            "digest": bundle.digest,
            "commit": self.project.commit,
            "data_sha256": self.project.params.data.sha256,
            "outcome": outcome,
            "reason": reason,
            **more,
        }

    def in_time(self) -> None:
        """Check that this commit is not older than the champion's.

        Raises:
            Refused: the champion is of a newer commit: this build would go back.
        """
        champion = self.champion()
        if champion and self._is_newer(champion.commit):
            raise Refused(
                f"promote: champion/{champion.event:06d} comes from commit {champion.commit[:12]}, which is newer than"
                f" {self.project.commit[:12]}; nothing was changed"
            )

    def _is_newer(self, commit: str) -> bool:
        """Whether ``commit`` was built on top of this project's commit."""
        if commit == self.project.commit:
            return False
        if not self.store.git.succeeds("cat-file", "-e", f"{commit}^{{commit}}"):
            if not self.store.remote:
                return False  # the commit was dropped from this repository: it cannot be built on this one
            try:
                self.store.ask("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "origin", commit)
            except Misuse as error:
                if "not our ref" in str(error) or "unadvertised object" in str(error):
                    return False  # origin never had the commit, or has dropped it
                raise
        return self.store.git.succeeds("merge-base", "--is-ancestor", self.project.commit, commit)

    def _untaken(self, error: GitError) -> Misuse:
        waiting = self.pending()
        state = f"event {waiting.number} waits for the next run" if waiting else "nothing was changed"
        mend = "; delete that .lock file if no git is at work" if ".lock'" in str(error) else ""
        return Misuse(f"ledger: {self.store.where} did not take the event: {error}{mend}; {state}")

    def _append(self, kind: Kind, told: dict[str, Any], refs: dict[str, str] | None = None) -> Event:
        number = self.number + 1
        given = {
            "schema": SCHEMA,
            "number": number,
            "type": kind,
            "time": now(),
            "run": self.project.environment.run_url,
            "by": self._who(),
            **told,
        }
        event = Event.model_validate(given)
        events = [*self.events, event]
        try:
            listing = [
                f"100644 blob {self.store.blob(e.model_dump(by_alias=True, mode='json'))}\t{e.number:06d}.json"
                for e in events
            ]
            folder = self.store.git("mktree", stdin=("\n".join(listing) + "\n").encode())
            champion = self.store.blob(champion_json(events))
            tree = self.store.git(
                "mktree", stdin=f"040000 tree {folder}\tevents\n100644 blob {champion}\tchampion.json\n".encode()
            )
            commit = self.store.commit(tree, self.store.head, f"{number:06d} {kind} {event.key[:12]}\n\n{event.reason}")
        except GitError as error:
            raise self._untaken(error) from None
        refs = {**(refs or {}), BRANCH: commit}
        if kind == "live":
            refs[f"refs/tags/champion/{number:06d}"] = commit
        reached(f"before {kind}")
        try:
            self.store.write(refs)
        except GitError as error:
            raise self._untaken(error) from None
        reached(f"after {kind}")
        self.read()
        return event

    def _who(self) -> str:
        """The author of an event: GitHub's actor, else git's user name, else the account's."""
        if self.project.environment.actor:
            return self.project.environment.actor
        try:
            return self.store.git("config", "user.name") or getpass.getuser()
        except (GitError, OSError, KeyError):
            return "unknown"


@per_project
def ledger_of(project: Project) -> Ledger:
    """The ledger of a repository, read once per process and again after each write."""
    return Ledger(project)
