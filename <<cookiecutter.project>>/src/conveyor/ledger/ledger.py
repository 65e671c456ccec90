"""The ledger: which model is champion, and why. This is the only code that reads or moves the champion.

The state is in git, without a server: see store.py for its refs and chain.py for its commits. An event is one atomic
push without force. The branch only takes a commit whose parent is its head: that makes the push the compare-and-swap,
and of two writers one loses. After a push the refs are read back: a push whose answer was lost is looked up.

With a remote named origin, origin is the truth and nothing is written without ``push``. Without one it is local.
"""

from __future__ import annotations

from typing import Any

from conveyor.core.errors import Misuse, Refused
from conveyor.core.project import Project, per_project
from conveyor.gate.looks import Sight
from conveyor.ledger.bundles import Bundles
from conveyor.ledger.events import Champion, Event, Kind, Moved
from conveyor.ledger.journal import repeated
from conveyor.model.bundle import Bundle

TURNS = 10  # how often the end of a model's way is written again because another event came between


class Ledger(Bundles):
    """The ledger of a repository, read once: the events that its verbs write."""

    def accept(
        self,
        bundle: Bundle,
        expected: int,
        outcome: str,
        reason: str,
        sight: Sight | None = None,
        target: str | None = None,
        **more: str | None,
    ) -> Event:
        """Write ``accepted`` for a bundle, together with its bytes. Another model on its way is aborted.

        Args:
            bundle: the candidate that was judged.
            expected: the number of the last event when it was judged.
            outcome, reason: the verdict.
            sight: the rows that judged it.
            target: the environment in which it must serve before it is live.
            more: ``anchor`` and ``receipt`` of the event.

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
            self._show(self._storing(bundle.key, bundle.digest), bundle)
            return waiting  # a stopped run has accepted it
        if waiting:
            self.abort(waiting, f"overtaken by model {bundle.key[:12]} before it was seen to serve")
        told = self._about(bundle, outcome, reason, **self._told(sight or Sight()), target=target, **more)
        return self._append_with_bytes("accepted", told, bundle)

    def note(self, bundle: Bundle, expected: int, outcome: str, reason: str, sight: Sight, **more: str | None) -> None:
        """Write ``kept`` or ``blocked``: the verdict on a model that does not become champion, once for its rows.

        Its bytes are not stored.

        Raises:
            Moved: there is a newer event.
        """
        self._expect(expected)
        if not self.is_judged(bundle.key, sight.holdout):
            kind: Kind = "blocked" if outcome == "block" else "kept"
            self._append(kind, self._about(bundle, outcome, reason, **self._told(sight), **more))

    def _told(self, sight: Sight) -> dict[str, Any]:
        """The fields of an event; what is known of these rows is stored once."""
        known = self.sketched(sight.holdout) if sight.rows else {}
        return sight.model_dump() | dict.fromkeys(known)

    def approve(self, bundle: Bundle, expected: int, reason: str) -> Event:
        """Write ``approved`` for a bundle that could not be compared, together with its bytes, unless it is written.

        Raises:
            Moved: there is a newer event.
        """
        if known := self.approval_of(bundle):
            return known
        self._expect(expected)
        return self._append_with_bytes("approved", self._about(bundle, "incomparable", reason), bundle)

    def live(self, waiting: Event) -> None:
        """Write ``live`` for a model on its way, unless it is written: from now on it is the champion.

        Raises:
            Moved: it is no longer on its way.
            Misuse: origin does not show its bytes.
        """
        self._show(self._storing(waiting.key, waiting.digest))
        self._end("live", waiting, waiting.reason)

    def abort(self, waiting: Event, reason: str) -> None:
        """Write ``aborted`` for a model on its way: it does not come to serve, the champion stays.

        Raises:
            Moved: it is no longer on its way.
        """
        self._end("aborted", waiting, reason)

    def _end(self, kind: Kind, waiting: Event, reason: str) -> None:
        """Write the end of a model's way. Other events do not matter, as long as it is still on its way."""
        for turn in range(TURNS):
            if self.pending() != waiting:
                last = next((e for e in reversed(self.events) if e.type in ("live", "aborted")), None)
                if last and last.type == kind and last.number > waiting.number and last.key == waiting.key:
                    return
                raise Moved
            try:
                self._append(kind, {**repeated(waiting), "reason": reason})
                return
            except Moved:
                self.store.pause(min(turn, 4))
                self.read()
        raise Moved

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
        champion, lived = self.champion(), self.lived
        if champion is None:
            raise Misuse("rollback: there is no champion yet")
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
        # Before anything is written.
        self.models.extract(self._storing(chosen.key, chosen.digest), self.project.build / "rollback")
        told = {**repeated(chosen), "outcome": "rollback", "reason": because, "target": target}
        told["replaces"] = champion.key
        return self._append("rolled_back", told)

    def rolled_back_as(self, to: int | None, because: str) -> Event | None:
        """The roll-back that brought the present champion, if it is what is asked for once more.

        Of the same person, for the same reason, and to the same model: somebody who got no answer asks again.
        """
        champion = self.champion()
        if champion is None or len(self.lived) < 2:
            return None
        since = self.events[self.lived[-2].number : champion.event]
        done = next((event for event in since if event.type == "rolled_back" and event.key == champion.key), None)
        meant = to is None or any(event.number == to and event.key == champion.key for event in self.lived)
        same = done and meant and (done.reason, done.by) == (because, self._who())
        return done if same else None

    def release_of(self, event: Event, tag: str) -> Event | None:
        """The ``released`` event of a version; None if the version is not released.

        Raises:
            Refused: the version is of another commit or model. A version stays, even if its tag is deleted.
        """
        known = self.released_as(tag)
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

    def confirm(self, champion: Champion, reason: str) -> Event:
        """Write ``confirmed`` for the champion, unless it is.

        Raises:
            Moved: another model is champion by now.
        """
        if self.champion() != champion:
            raise Moved
        told = {**repeated(self.lived[-1]), "outcome": "confirm", "reason": reason}
        return self.confirmation() or self._append("confirmed", told)

    def put_under_quarantine(self, number: int, because: str) -> Event:
        """Write ``quarantined`` for the model of an event, unless it is: it will not be accepted again.

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
        if known := self.quarantine_of(event.key):
            return known
        return self._append("quarantined", {**repeated(event), "outcome": "quarantine", "reason": because})

    def _expect(self, number: int) -> None:
        if self.number != number:
            raise Moved

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
        """Check that this commit is not older than that of the champion or of the last event.

        Raises:
            Refused: one of these is of a newer commit, whose delivery brings what this commit holds: this one would go
                back.
        """
        champion, last = self.champion(), self.events[-1] if self.events else None
        told = {champion.commit: f"champion/{champion.event:06d}"} if champion else {}
        if last:
            told.setdefault(last.commit, f"event {last.number} ({last.type})")
        for commit, what in told.items():
            if self.is_newer(commit):
                raise Refused(
                    f"promote: overtaken: {what} comes from commit {commit[:12]}, which is newer than"
                    f" {self.project.commit[:12]} and holds its change; nothing was changed"
                )

    def is_newer(self, commit: str) -> bool:
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


@per_project
def ledger_of(project: Project) -> Ledger:
    """The ledger of a repository, read once per process and again after each write."""
    return Ledger(project)
