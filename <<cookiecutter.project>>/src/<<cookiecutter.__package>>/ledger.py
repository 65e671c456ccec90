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
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError

from .bundle import Bundle, digest_of
from .config import Frozen
from .errors import Misuse, Refused
from .files import new_directory, to_json
from .git import GitError
from .project import now

if TYPE_CHECKING:
    from .project import Project

SCHEMA = 1
BRANCH = "refs/heads/ledger"
IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "ledger"), ("EMAIL", "ledger@invalid"))
}


class Champion(Frozen):
    """A model that an event speaks of, and the number of that event."""

    event: int
    key: str
    digest: str
    commit: str


class Event(Frozen):
    """One line of history. ``accepted`` comes before a model serves, ``live`` after."""

    schema_: Literal[1] = Field(alias="schema")
    number: int = Field(ge=1)
    type: Literal["accepted", "live"]
    key: str = Field(pattern="^[0-9a-f]{64}$")
    digest: str = Field(pattern="^[0-9a-f]{64}$")
    commit: str = Field(pattern="^[0-9a-f]{40}$")
    data_sha256: str
    time: str
    run: str | None
    outcome: str
    reason: str

    @property
    def champion(self) -> Champion:
        return Champion(event=self.number, key=self.key, digest=self.digest, commit=self.commit)


class Moved(Exception):
    """Somebody else wrote an event since this decision was made: decide again, against the new champion."""


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
        """An ``accepted`` event that nothing followed: a run was stopped in the middle."""
        return self.events[-1] if self.events and self.events[-1].type == "accepted" else None

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
        self._check_champion(names)
        witness = self.champion()
        expected = f"champion/{witness.event:06d}" if witness else None
        if (self._witnesses() or [None])[-1] != expected:
            raise Misuse(
                f"ledger: the last champion by events is {expected}, by tags {(self._witnesses() or [None])[-1]};"
                " restore the branch `ledger` or the tag"
            )

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
        return event

    def _check_champion(self, names: list[str]) -> None:
        stored = self._json("champion.json") if "champion.json" in names else None
        if stored != self._champion_json(self.events):
            raise Misuse("ledger: champion.json does not follow from the events; restore the branch `ledger`")

    def _json(self, path: str) -> dict[str, Any]:
        try:
            value = json.loads(self.git.bytes("cat-file", "blob", f"{self.head}:{path}"))
        except (ValueError, UnicodeDecodeError):
            value = None
        if not isinstance(value, dict):
            raise Misuse(f"ledger: {path} is no JSON object; restore the branch `ledger`")
        return value

    def _head(self) -> str | None:
        if not self.remote:
            return self.git("rev-parse", BRANCH) if self.git.succeeds("rev-parse", "-q", "--verify", BRANCH) else None
        listed = self._ask("ls-remote", "origin", BRANCH, "refs/tags/champion/*")
        self._remote_refs = {ref: commit for commit, ref in (line.split("\t") for line in listed.splitlines())}
        head = self._remote_refs.get(BRANCH)
        if head and not self.git.succeeds("cat-file", "-e", f"{head}^{{commit}}"):
            self._ask("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "origin", BRANCH)
        return head

    def _witnesses(self) -> list[str]:
        if self.remote:
            refs = [ref for ref in self._remote_refs if ref.startswith("refs/tags/champion/")]
        else:
            refs = self.git("for-each-ref", "--format=%(refname)", "refs/tags/champion/").split()
        return sorted(ref.removeprefix("refs/tags/") for ref in refs)

    def _ask(self, *words: str) -> str:
        try:
            return self.git(*words, more=self._credentials())
        except GitError as error:
            raise Misuse(f"ledger: origin cannot be read: {error}; check the remote and your access") from None

    def _credentials(self) -> dict[str, str]:
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
        """Put the bundle of an earlier event with this key at ``path``; False if no event speaks of it."""
        event = next((event for event in reversed(self.events) if event.key == key), None)
        if event:
            self._extract(event.key, event.digest, path)
        return event is not None

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
        if self.remote and not self.git.succeeds("rev-parse", "-q", "--verify", ref):
            try:
                self.git(
                    "fetch", "--quiet", "--no-tags", "--depth=1", "origin", f"{ref}:{ref}", more=self._credentials()
                )
            except GitError as error:
                raise Misuse(f"ledger: {ref} cannot be fetched from origin: {error}; restore that ref") from None
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
        with new_directory(path) as new:
            for name, content in files.items():
                (new / name).write_bytes(content)

    # Writing

    @property
    def writable(self) -> bool:
        """Without a remote always; with one only on demand, so that a laptop never moves the team's champion."""
        return self.project.push or not self.remote

    def accept(self, bundle: Bundle, expected: int, outcome: str, reason: str) -> None:
        """Write ``accepted`` for a bundle, together with its bytes.

        Args:
            bundle: the candidate that was judged.
            expected: the number of the last event when it was judged.

        Raises:
            Moved: there is a newer event.
            Refused: a newer commit than this one is champion already.
        """
        if self.number != expected:
            raise Moved
        champion = self.champion()
        if champion and self._is_newer(champion.commit):
            raise Refused(
                f"promote: champion/{champion.event:06d} comes from commit {champion.commit[:12]}, which is newer than"
                f" {self.project.commit[:12]}; nothing was changed"
            )
        tree = "".join(
            f"100644 blob {self.git('hash-object', '-w', '--stdin', '--no-filters', stdin=content)}\t{name}\n"
            for name, content in bundle.files.items()
        )
        stored = self._commit(self.git("mktree", stdin=tree.encode()), None, f"Model {bundle.key}")
        self._append("accepted", bundle.key, bundle.digest, outcome, reason, {f"refs/models/{bundle.key}": stored})

    def live(self, accepted: Event) -> None:
        """Write ``live`` for the model of an ``accepted`` event: from now on it is the champion.

        Raises:
            Moved: there is a newer event.
        """
        if self.pending() != accepted:
            raise Moved
        self._append("live", accepted.key, accepted.digest, accepted.outcome, accepted.reason, {}, accepted)

    def settle(self) -> Event | None:
        """Finish what a stopped run left ``accepted``. Nothing serves yet, so nothing else is left to do for it."""
        left = self.pending()
        if left:
            self.live(left)
        return left

    def _is_newer(self, commit: str) -> bool:
        """Whether ``commit`` was built on top of this project's commit."""
        if commit == self.project.commit:
            return False
        if not self.git.succeeds("cat-file", "-e", f"{commit}^{{commit}}"):
            if self.remote:
                self._ask("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "origin", commit)
            else:
                return False  # the commit was dropped from this repository: it cannot be built on this one
        return self.git.succeeds("merge-base", "--is-ancestor", self.project.commit, commit)

    def _append(
        self,
        kind: Literal["accepted", "live"],
        key: str,
        digest: str,
        outcome: str,
        reason: str,
        refs: dict[str, str],
        accepted: Event | None = None,
    ) -> None:
        number = self.number + 1
        event = Event.model_validate(
            {
                "schema": SCHEMA,
                "number": number,
                "type": kind,
                "key": key,
                "digest": digest,
                "commit": accepted.commit if accepted else self.project.commit,
                "data_sha256": accepted.data_sha256 if accepted else self.project.params.data.sha256,
                "time": now(),
                "run": self.project.environment.run_url,
                "outcome": outcome,
                "reason": reason,
            }
        )
        events = [*self.events, event]
        listing = [
            f"100644 blob {self._blob(event.model_dump(by_alias=True))}\t{event.number:06d}.json" for event in events
        ]
        folder = self.git("mktree", stdin=("\n".join(listing) + "\n").encode())
        champion = self._blob(self._champion_json(events))
        tree = self.git(
            "mktree", stdin=f"040000 tree {folder}\tevents\n100644 blob {champion}\tchampion.json\n".encode()
        )
        commit = self._commit(tree, self.head, f"{number:06d} {kind} {key[:12]}\n\n{reason}")
        refs = {**refs, BRANCH: commit}
        if kind == "live":
            refs[f"refs/tags/champion/{number:06d}"] = commit
        self._write(refs)
        self.read()

    def _write(self, refs: dict[str, str]) -> None:
        """All refs or none; the branch only if its head is still the one that was read."""
        try:
            if self.remote:
                pairs = [f"{commit}:{ref}" for ref, commit in refs.items()]
                self.git("push", "--quiet", "--atomic", "origin", *pairs, more=self._credentials())
                return
            zero = "0" * 40
            lines = [
                f"update {ref} {commit} {(self.head or zero) if ref == BRANCH else ''}".rstrip()
                for ref, commit in refs.items()
            ]
            self.git("update-ref", "--stdin", stdin=("\n".join(lines) + "\n").encode())
        except GitError as error:
            if self._head() != self.head:
                raise Moved from None
            raise Misuse(f"ledger: {self.where} did not take the event: {error}; nothing was changed") from None

    def _blob(self, value: Any) -> str:
        return self.git("hash-object", "-w", "--stdin", "--no-filters", stdin=to_json(value).encode())

    def _commit(self, tree: str, parent: str | None, message: str) -> str:
        words = ["commit-tree", "--no-gpg-sign", tree, "-F", "-", *(["-p", parent] if parent else [])]
        return self.git(*words, stdin=message.encode(), more=IDENTITY)

    @staticmethod
    def _champion_json(events: list[Event]) -> dict[str, Any]:
        """What champion.json says: the champion, the one before it, and what waits to become one."""
        live = [event.champion.model_dump() for event in events if event.type == "live"]
        waiting = events[-1].champion.model_dump() if events and events[-1].type == "accepted" else None
        return {
            "schema": SCHEMA,
            "event": len(events),
            "champion": live[-1] if live else None,
            "previous": live[-2] if len(live) > 1 else None,
            "accepted": waiting,
        }
