"""The ledger: which model is champion, and how it came to be. The only code that reads or moves the champion.

State without a server, in git:

    branch ledger              one commit per event: events/000001.json, ..., and champion.json, derived from them
    refs/models/<key>          the bytes of a bundle, outside every ordinary clone
    tags champion/000002       the second witness of each ``live`` event

An event is pushed as one atomic push that is never forced. The branch only takes a commit whose parent is its head:
that makes the push the compare-and-swap, and of two writers one loses.

With a remote named origin, origin is the truth and nothing is written without ``push``. Without one it is local.
"""

from __future__ import annotations

import base64
import getpass
import json
import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from conveyor.core.errors import Misuse, Refused
from conveyor.core.files import new_directory, to_json
from conveyor.core.git import GitError
from conveyor.core.project import Project, now, per_project
from conveyor.ledger.events import Champion, Event, Kind, Moved, pending_of, repeated
from conveyor.model.bundle import Bundle, digest_of

SCHEMA = 1
BRANCH = "refs/heads/ledger"
IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "ledger"), ("EMAIL", "ledger@invalid"))
}


# Where a run can be stopped and leave the ledger between two states. The tests stop one at each of them.
POINTS = (
    "before accepted",
    "after accepted",
    "before live",
    "after live",
    "before rolled_back",
    "after rolled_back",
)


def reached(point: str) -> None:
    """Does nothing; a test puts something in its place that stops the process at a point."""


class Ledger:
    """The ledger of a repository, read once; it is read again after every write."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.git = project.git
        self.remote = "origin" in self.git("remote").split()
        self.where = "origin" if self.remote else "this repository"
        self.read()

    # Reading

    @property
    def number(self) -> int:
        """The number of the last event, 0 for a new ledger."""
        return len(self.events)

    def champion(self) -> Champion | None:
        """The model of the last ``live`` event."""
        return next((event.champion for event in reversed(self.events) if event.type == "live"), None)

    def pending(self) -> Event | None:
        """A model on its way to serve: ``accepted`` or ``rolled_back``, and neither ``live`` nor ``aborted`` yet."""
        return pending_of(self.events)

    def to_serve(self) -> Event | None:
        """The event of the model that is to serve: the one on its way, else the champion's."""
        return self.pending() or next((event for event in reversed(self.events) if event.type == "live"), None)

    def at(self, time: str) -> Event | None:
        """The ``live`` event that held at a time in UTC, as events write it."""
        return next((event for event in reversed(self.events) if event.type == "live" and event.time <= time), None)

    def quarantine_of(self, key: str) -> Event | None:
        """The event that put a model under quarantine, if one did and no later roll-back to it lifted that."""
        found = waiting = None
        for event in self.events:
            if event.replaces == key or (event.type == "quarantined" and event.key == key):
                found, before = event, found
            elif event.type == "rolled_back" and event.key == key:
                found = None
            elif event.type == "aborted" and waiting and waiting.replaces == key:
                found = before  # the roll-back did not come to serve: what it was to replace stays
            waiting = event if event.type == "rolled_back" else None if event.type in ("live", "aborted") else waiting
        return found

    def decisions(self, holdout: str, besides: str) -> int:
        """How many models besides one were judged on these rows: each makes the next verdict a little less fresh."""
        return len({e.key for e in self.events if e.holdout == holdout and e.key != besides})

    def read(self) -> None:
        """Read all events. Damage is an error that names the file, and never "no champion"."""
        self.head = self._head()
        self.events: list[Event] = []
        if self.head is None:
            witnesses = self._witnesses()
            if witnesses:
                raise Misuse(
                    f"ledger: {self.where} has the tag {witnesses[-1]} but no branch `ledger`; restore the branch"
                )
            return
        names = self.git("ls-tree", "-r", "--full-tree", "--name-only", self.head).split("\n")
        for number in range(1, 1 + sum(name.startswith("events/") for name in names)):
            self.events.append(self._event(number, names))
        if not self.events:
            raise Misuse(f"ledger: the branch `ledger` of {self.where} holds no events: not ours, rename it")
        self._check_champion(names)
        commits = self.git("rev-list", "--reverse", self.head).split()
        if len(commits) != self.number:
            raise Misuse(
                f"ledger: {len(commits)} commits for {self.number} events, so one was written over; restore the branch"
                " `ledger`"
            )
        witness = self.champion()
        expected = f"champion/{witness.event:06d}" if witness else None
        witnesses = self._witnesses()
        last = witnesses[-1] if witnesses else None
        if last != expected:
            if not self.remote and self._finish(last):
                return self.read()
            raise Misuse(
                f"ledger: the last champion by events is {expected}, by tags {last}; restore the branch `ledger` or the"
                " tag (all of a ledger: `git push origin ledger 'refs/tags/champion/*' 'refs/models/*'`)"
            )
        if witness and not self._witnessed(commits, witness):
            raise Misuse(f"ledger: the tag {expected} is not at the commit of its event; restore the tag")
        return None

    def _finish(self, witness: str | None) -> bool:
        """Move the local branch to a witness whose commit follows from it: git was stopped between the two."""
        if witness is None or not self.head:
            return False
        tag = f"refs/tags/{witness}"
        if not self.git.succeeds("rev-parse", "-q", "--verify", f"{tag}^"):
            return False
        if self.git("rev-parse", f"{tag}^") != self.head:
            return False
        self.git("update-ref", BRANCH, tag, self.head)
        return True

    def _witnessed(self, commits: list[str], champion: Champion) -> bool:
        """Whether the tag of the champion is at the commit of its event."""
        ref = f"refs/tags/champion/{champion.event:06d}"
        at = self._remote_refs[ref] if self.remote else self.git("rev-parse", ref)
        return at == commits[champion.event - 1]

    def _event(self, number: int, names: list[str]) -> Event:
        path = f"events/{number:06d}.json"
        if path not in names:
            raise Misuse(f"ledger: {path} is missing; restore the branch `ledger`")
        value = self._json(path)
        if isinstance(value.get("schema"), int) and value["schema"] > SCHEMA:
            raise Misuse(f"ledger: {path} has schema {value['schema']}, this code knows {SCHEMA}; update the code")
        try:
            event = Event.model_validate(value)
        except ValidationError as error:
            key = ".".join(map(str, error.errors()[0]["loc"]))
            raise Misuse(f"ledger: {path} is damaged (key {key}); restore the branch `ledger`") from None
        if event.number != number:
            raise Misuse(f"ledger: {path} says it is event {event.number}; restore the branch `ledger`")
        waits = pending_of(self.events)
        if event.type in ("live", "aborted") and (waits is None or waits.key != event.key):
            raise Misuse(f"ledger: {path} does not follow from the events before it; restore the branch `ledger`")
        return event

    def _check_champion(self, names: list[str]) -> None:
        stored = self._json("champion.json") if "champion.json" in names else None
        if stored != self._champion_json(self.events):
            raise Misuse("ledger: champion.json does not follow from the events; restore the branch `ledger`")

    def _json(self, path: str) -> dict[str, Any]:
        try:
            value = json.loads(self.git.bytes("cat-file", "blob", f"{self.head}:{path}"))
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise Misuse(f"ledger: {path} is no JSON object; restore the branch `ledger`")
        return value

    def at_origin(self, *patterns: str) -> dict[str, str]:
        """The refs of origin by name, with what each is at; of a tag with a message, ``<tag>^{}`` is its commit.

        Raises:
            Misuse: origin cannot be read.
        """
        listed = self._ask("ls-remote", "origin", *patterns)
        return {ref: commit for commit, ref in (line.split("\t") for line in listed.splitlines())}

    def _head(self) -> str | None:
        if not self.remote:
            return self.git("rev-parse", BRANCH) if self.git.succeeds("rev-parse", "-q", "--verify", BRANCH) else None
        self._remote_refs = self.at_origin(BRANCH, "refs/tags/champion/*")
        head = self._remote_refs.get(BRANCH)
        if head and not self.git.succeeds("cat-file", "-e", f"{head}^{{commit}}"):
            self._ask("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "origin", BRANCH)
        return head

    def _witnesses(self) -> list[str]:
        if self.remote:
            refs = [ref for ref in self._remote_refs if ref.startswith("refs/tags/champion/")]
        else:
            refs = self.git("for-each-ref", "--format=%(refname)", "refs/tags/champion/").split()
        # Other tags of that kind are somebody's own.
        return sorted(ref.removeprefix("refs/tags/") for ref in refs if re.fullmatch(r"refs/tags/champion/\d{6}", ref))

    def _ask(self, *words: str) -> str:
        try:
            return self.git(*words, more=self.credentials())
        except GitError as error:
            raise Misuse(f"ledger: origin cannot be read: {error}; check the remote and your access") from None

    def credentials(self) -> dict[str, str]:
        """The workflow's token, for this process alone: it is never written into a configuration file."""
        given = self.project.environment
        if not given.token:
            return {}
        basic = base64.b64encode(f"x-access-token:{given.token}".encode()).decode()
        return {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"http.{given.server_url}/.extraheader",
            "GIT_CONFIG_VALUE_0": f"AUTHORIZATION: basic {basic}",
        }

    # Bundles

    def restore(self, key: str, path: Path) -> bool:
        """Put the bundle of an earlier event with this key at ``path``; False if none is kept."""
        event = self._stored(key)
        if event:
            self._extract(event.key, event.digest, path)
        return event is not None

    def _stored(self, key: str) -> Event | None:
        """The last event that came with the bytes of this model, if they were not deleted since."""
        for event in reversed(self.events):
            if event.type == "pruned" and key in event.keys:
                return None
            if event.key == key and event.type in ("accepted", "approved"):
                return event
        return None

    def bundle(self, model: Champion) -> Bundle:
        """The bundle of a model in build/champion, its digest verified.

        Raises:
            Misuse: its bytes are missing, or are not those that were judged.
        """
        path = self.project.build / "champion"
        if not path.is_dir() or Bundle(path).digest != model.digest:
            self._extract(model.key, model.digest, path)
        return Bundle(path)

    def _extract(self, key: str, digest: str, path: Path) -> None:
        ref = f"refs/models/{key}"
        try:
            files = self._files(ref, digest)
        except Misuse:
            if not self.remote:
                raise
            try:
                # What this clone has under the name may come from before it had this origin.
                self.git(
                    "fetch", "--quiet", "--no-tags", "--depth=1", "origin", f"+{ref}:{ref}", more=self.credentials()
                )
            except GitError as error:
                mend = "restore that ref (a fork takes it from upstream)"
                raise Misuse(f"ledger: {ref} cannot be fetched from origin: {error}; {mend}") from None
            files = self._files(ref, digest)
        with new_directory(path) as new:
            for name, content in files.items():
                (new / name).write_bytes(content)

    def _files(self, ref: str, digest: str) -> dict[str, bytes]:
        if not self.git.succeeds("rev-parse", "-q", "--verify", ref):
            raise Misuse(f"ledger: {ref} is missing, the model of an event; restore that ref")
        try:
            names = self.git("ls-tree", "-z", "--full-tree", "--name-only", ref).rstrip("\0").split("\0")
            files = {name: self.git.bytes("cat-file", "blob", f"{ref}:{name}") for name in names}
        except GitError as error:
            raise Misuse(f"ledger: {ref} is damaged: {error}; restore that ref") from None
        if digest_of(files) != digest:
            raise Misuse(
                f"ledger: {ref} has digest {digest_of(files)[:12]}…, its event says {digest[:12]}…; restore that ref"
            )
        return files

    # Writing

    @property
    def writable(self) -> bool:
        """Without a remote always; with one only on demand, so that a laptop never moves the team's champion."""
        return self.project.push or not self.remote

    def accept(
        self,
        bundle: Bundle,
        expected: int,
        outcome: str,
        reason: str,
        holdout: str | None = None,
        target: str | None = None,
    ) -> Event:
        """Write ``accepted`` for a bundle, together with its bytes. Another one on its way is aborted.

        Args:
            bundle: the candidate that was judged.
            expected: the number of the last event when it was judged.
            outcome, reason: the verdict.
            holdout: the digest of the rows that it was judged on.
            target: where it is to be deployed before it is live.

        Raises:
            Moved: there is a newer event.
            Refused: a newer commit than this one is champion already, or the model is quarantined.
        """
        self._expect(expected)
        self.in_time()
        bad = self.quarantine_of(bundle.key)
        if bad:
            raise Refused(f"promote: {self.why_quarantined(bad)}; nothing was changed")
        waiting = self.pending()
        if waiting and (waiting.key, waiting.digest, waiting.target) == (bundle.key, bundle.digest, target):
            return waiting  # a run that was stopped has accepted it
        refs = self._bytes(bundle)
        if waiting:
            self.abort(waiting, f"overtaken by model {bundle.key[:12]} before it was seen to serve")
        return self._append("accepted", self._about(bundle, outcome, reason, holdout=holdout, target=target), refs)

    def why_quarantined(self, event: Event) -> str:
        what = "rolled back" if event.type == "rolled_back" else "put under quarantine"
        key = event.replaces if event.type == "rolled_back" else event.key
        return f"model {str(key)[:12]} was {what} by {event.by} in event {event.number}: {event.reason}"

    def note_kept(self, bundle: Bundle, expected: int, outcome: str, reason: str, holdout: str | None) -> None:
        """Write ``kept``: the verdict on a model that was judged and does not become champion. No bytes are kept.

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

    def approval_of(self, bundle: Bundle) -> Event | None:
        """The ``approved`` event of these very bytes, if there is no champion since."""
        for event in reversed(self.events):
            if event.type == "live":
                return None
            if event.type == "approved" and (event.key, event.digest) == (bundle.key, bundle.digest):
                return event
        return None

    def live(self, waiting: Event) -> None:
        """Write ``live`` for a model on its way: from now on it is the champion.

        Raises:
            Moved: it is not the one on its way any more.
        """
        self._end("live", waiting, waiting.reason)

    def abort(self, waiting: Event, reason: str) -> None:
        """Write ``aborted`` for a model on its way: it does not come to serve, the champion stays.

        Raises:
            Moved: it is not the one on its way any more.
        """
        self._end("aborted", waiting, reason)

    def _end(self, kind: Kind, waiting: Event, reason: str) -> None:
        if self.pending() != waiting:
            raise Moved
        self._append(kind, {**repeated(waiting), "reason": reason})

    def settle(self) -> Event | None:
        """Finish what a stopped run left on its way, where it is to be deployed nowhere: nothing else is left to do.

        What is to be deployed waits for `make deploy`, which asks the engine what serves.

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
        """Write ``rolled_back`` to an earlier champion; the model that is left is quarantined.

        Args:
            to: the number of a ``live`` event; None: the last champion before that is not quarantined.
            because: why, for the record.
            target: where it is to be deployed before it is live.

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
        if self._stored(chosen.key) is None:
            raise Misuse(f"rollback: the bytes of event {chosen.number} were deleted by `prune`; name another")
        self._extract(chosen.key, chosen.digest, self.project.build / "rollback")  # before anything is written
        told = {**repeated(chosen), "outcome": "rollback", "reason": because, "target": target}
        told["replaces"] = champion.key
        return self._append("rolled_back", told)

    def release_of(self, event: Event, tag: str) -> Event | None:
        """The event that made the model of another one this version, with this project's commit; None: nothing did.

        Raises:
            Refused: the version is that of another commit or model. It is for ever, whatever becomes of the tag.
        """
        known = next((each for each in self.events if each.type == "released" and each.tag == tag), None)
        if known and (known.commit, known.key, known.digest) != (self.project.commit, event.key, event.digest):
            raise Refused(
                f"release: {tag} was released from commit {known.commit[:12]} with model {known.key[:12]}, in event"
                f" {known.number}; a version does not move, take the next one"
            )
        return known

    def release(self, event: Event, tag: str, image: str) -> Event:
        """Write ``released`` for the model of an event and this project's commit, unless it is written.

        Raises:
            Moved: there is a newer event.
            Refused: the version is that of another commit or model.
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
        """Delete the bytes of old models; never those of the champion, of the one before, or of one on its way.

        Args:
            keep: how many of the last champions keep theirs, at least two.

        Returns:
            The keys whose bytes were deleted.

        Raises:
            Moved: there is a newer event.
        """
        lived = list(dict.fromkeys(event.key for event in reversed(self.events) if event.type == "live"))
        waiting = self.pending()
        kept = {*lived[: max(keep, 2)], *([waiting.key] if waiting else [])}
        old = sorted({event.key for event in self.events if event.key not in kept and self._stored(event.key)})
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
        stored = self._stored(bundle.key)
        if stored and stored.digest == bundle.digest:
            return {}
        try:
            tree = "".join(
                f"100644 blob {self.git('hash-object', '-w', '--stdin', '--no-filters', stdin=content)}\t{name}\n"
                for name, content in bundle.files.items()
            )
            commit = self._commit(self.git("mktree", stdin=tree.encode()), None, f"Model {bundle.key}")
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
        """Raises:
        Refused: the champion comes from a newer commit than this one: what is built here would go back.
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
        if not self.git.succeeds("cat-file", "-e", f"{commit}^{{commit}}"):
            if not self.remote:
                return False  # the commit was dropped from this repository: it cannot be built on this one
            try:
                self._ask("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "origin", commit)
            except Misuse as error:
                if "not our ref" in str(error) or "unadvertised object" in str(error):
                    return False  # origin never had it, or has dropped it
                raise
        return self.git.succeeds("merge-base", "--is-ancestor", self.project.commit, commit)

    def _untaken(self, error: GitError) -> Misuse:
        waiting = self.pending()
        state = f"event {waiting.number} waits for the next run" if waiting else "nothing was changed"
        mend = "; delete that .lock file if no git is at work" if ".lock'" in str(error) else ""
        return Misuse(f"ledger: {self.where} did not take the event: {error}{mend}; {state}")

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
                f"100644 blob {self._blob(e.model_dump(by_alias=True, mode='json'))}\t{e.number:06d}.json"
                for e in events
            ]
            folder = self.git("mktree", stdin=("\n".join(listing) + "\n").encode())
            champion = self._blob(self._champion_json(events))
            tree = self.git(
                "mktree", stdin=f"040000 tree {folder}\tevents\n100644 blob {champion}\tchampion.json\n".encode()
            )
            commit = self._commit(tree, self.head, f"{number:06d} {kind} {event.key[:12]}\n\n{event.reason}")
        except GitError as error:
            raise self._untaken(error) from None
        refs = {**(refs or {}), BRANCH: commit}
        if kind == "live":
            refs[f"refs/tags/champion/{number:06d}"] = commit
        reached(f"before {kind}")
        self._write(refs)
        reached(f"after {kind}")
        self.read()
        return event

    def _who(self) -> str:
        """Who does this: GitHub's actor, else the name that git knows, else that of the account."""
        if self.project.environment.actor:
            return self.project.environment.actor
        try:
            return self.git("config", "user.name") or getpass.getuser()
        except (GitError, OSError, KeyError):
            return "unknown"

    def _write(self, refs: dict[str, str]) -> None:
        """All refs or none; the branch only if its head is still the one that was read. No commit: the ref goes."""
        try:
            if self.remote:
                pairs = [f"{commit}:{ref}" for ref, commit in refs.items()]
                # A hook before pushes is for code: it would test what is not pushed.
                self.git("push", "--quiet", "--no-verify", "--atomic", "origin", *pairs, more=self.credentials())
            else:
                self._write_here(refs)
        except GitError as error:
            if self._head() != self.head:
                raise Moved from None
            raise self._untaken(error) from None

    def _write_here(self, refs: dict[str, str]) -> None:
        """The same without a remote. git can be killed between two refs, so the order is such that the rest follows:

        bytes without an event are written again, a witness ahead of its branch is what ``_finish`` looks for, and bytes
        of a model that was pruned may stay.
        """
        before: dict[str, str] = {}
        try:
            for ref, commit in refs.items():
                if commit and ref != BRANCH:
                    old = self.git("for-each-ref", "--format=%(objectname)", ref)
                    self._update(f"update {ref} {commit} {old}" if old else f"create {ref} {commit}")
                    before[ref] = old
            head = refs[BRANCH]
            self._update(f"update {BRANCH} {head} {self.head}" if self.head else f"create {BRANCH} {head}")
        except GitError:
            for ref, old in before.items():
                self._update(f"update {ref} {old} {refs[ref]}" if old else f"delete {ref} {refs[ref]}")
            raise
        for ref, commit in refs.items():
            if not commit:
                self._update(f"delete {ref}")

    def _update(self, line: str) -> None:
        self.git("update-ref", "--stdin", stdin=f"{line}\n".encode())

    def _blob(self, value: Any) -> str:
        return self.git("hash-object", "-w", "--stdin", "--no-filters", stdin=to_json(value).encode())

    def _commit(self, tree: str, parent: str | None, message: str) -> str:
        words = ["commit-tree", "--no-gpg-sign", tree, "-F", "-", *(["-p", parent] if parent else [])]
        return self.git(*words, stdin=message.encode(), more=IDENTITY)

    @staticmethod
    def _champion_json(events: list[Event]) -> dict[str, Any]:
        """What champion.json says: the champion, the one before it, and what waits to become one."""
        live = [event.champion.model_dump() for event in events if event.type == "live"]
        waiting = pending_of(events)
        return {
            "schema": SCHEMA,
            "event": len(events),
            "champion": live[-1] if live else None,
            "previous": live[-2] if len(live) > 1 else None,
            "accepted": waiting.champion.model_dump() if waiting else None,
        }


@per_project
def ledger_of(project: Project) -> Ledger:
    """The ledger of a repository, read once per process and again after each write."""
    return Ledger(project)
