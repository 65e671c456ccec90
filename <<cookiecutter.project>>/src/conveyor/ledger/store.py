"""The refs of the ledger, here or at origin: looked at together, and written all or none.

    refs/heads/ledger          one commit per event
    refs/models/<key>          the bytes of a bundle, outside every ordinary clone
    refs/tags/champion/000002  the second witness of each ``live`` event

What origin has is followed under refs/conveyor, so that a fetch brings what is new; refs/conveyor/verified/<rules> is
the commit up to which this clone has verified the events.
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

from filelock import FileLock, Timeout

from conveyor.core.errors import Misuse
from conveyor.core.git import SECONDS, BrokenRef, GitError
from conveyor.core.project import Project
from conveyor.ledger.damage import Damage, Damaged
from conveyor.ledger.events import Moved
from conveyor.ledger.key import SIGNERS, Key
from conveyor.ledger.repository import Repository, credentials

BRANCH, WITNESS, MODELS = "refs/heads/ledger", "refs/tags/champion/", "refs/models/"
OURS = "refs/conveyor/"
VERIFIED = f"{OURS}verified/"
PAGE, RESTORE = "docs/ledger.md", '"Back up and restore"'
WAIT = 60.0  # seconds for another writer of this repository
EVERYTHING = 10**9  # as a depth: git counts a larger one as "the history of every branch"
FETCH = (
    *("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--no-auto-maintenance"),
    *("--prune", "--no-prune-tags", "--no-filter", "--refmap="),
)
# What a person's configuration adds to a push is for code: hooks, tags, signatures, options, mirrors.
PUSH = (
    *("-c", "push.pushOption=", "-c", "remote.origin.mirror=false", "push", "--quiet", "--no-verify"),
    *("--no-follow-tags", "--no-signed", "--recurse-submodules=no"),
)
BYTES_A_SECOND = 200_000  # the slowest push that is waited for
# What keeps a clone from reading origin, with its mend, by git's words.
CAUSES = {
    "No space left|File too large|quota exceeded": "make room",
    "another process": "wait for it, or end it",
    "on the remote side": "`git fsck` there says what is lost",
    "corrupt loose object|^error: (inflate|object file)|bad object": "make a fresh clone",
}
LARGE = 10_000.0  # seconds for the bytes of a model, as for its push


@dataclass(frozen=True)
class Look:
    """The refs of a ledger at one time.

    Attributes:
        head: the commit of the branch; None: there is no branch.
        tags: the object of each witness, by the number of its event.
        models: the commit of each model's bytes, by key, of those that were looked at.
        verified: up to where this clone has verified the events, by rules.
    """

    head: str | None = None
    tags: dict[int, str] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    verified: dict[str, str] = field(default_factory=dict)


class Store:
    """The refs of a repository that make up its ledger.

    Attributes:
        remote: whether a remote named origin holds them.
        where: the same in words.
        key: the key that writes it, if one is given.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self.git = project.git
        self.repository = Repository(project)
        self.remote = self.repository.remote
        self.where = "origin" if self.remote else "this repository"
        given = project.environment.ledger_key
        # Before the signers are on main, the secret is there and not yet used.
        wanted = project.push and (project.root / SIGNERS).is_file()
        self.key = Key(project, given) if given and wanted else None

    # Looking

    def look(self, witnesses: Iterable[str] = ("",), models: Iterable[str] = (), whole: bool = False) -> Look:
        """The refs as they are now.

        Args:
            witnesses: of the witnesses at origin, those whose number begins with one of these texts; of the others it
                is known what this clone last saw. Without an origin all are looked at.
            models: the keys of the models whose bytes are looked for at origin, and fetched.
            whole: bring all objects of the events, also where this clone seems to have them.

        Raises:
            Misuse: origin cannot be read.
        """
        if not self.remote:
            return self.seen()
        patterns = [f"+{WITNESS}{start}*:{OURS}champion/{start}*" for start in witnesses]
        try:
            if keys := list(models):
                self._bring(keys)
            self.fetch(f"+{BRANCH}:{OURS}ledger", *patterns, whole=whole)
        except GitError as error:
            if "couldn't find remote ref" not in str(error):
                raise self.unread(error) from None
            # The branch is not there. What this clone has seen of it stays, for the one who restores it.
            try:
                if patterns:
                    self.fetch(*patterns)
            except GitError as error:
                raise self.unread(error) from None
            self._not_empty()
            return replace(self.seen(), head=None)
        return self.seen()

    def _not_empty(self) -> None:
        """Check that origin has branches if it had some: git takes any page of a proxy for an empty repository.

        Raises:
            Misuse: it has none.
        """
        if self.git("for-each-ref", "--count=1", "refs/remotes/") and not self.at_origin("refs/heads/*"):
            raise Misuse(
                f'ledger: origin shows no branch at all; if it is new, {PAGE}, "A new origin", else check the remote'
                " and your access"
            )

    def seen(self) -> Look:
        """The refs as this clone knows them, without a question to origin.

        Raises:
            Damaged: one of them cannot be read, and is no copy of what origin has.
        """
        places = (f"{OURS}ledger", f"{OURS}champion/", f"{OURS}models/") if self.remote else (BRANCH, WITNESS, MODELS)
        try:
            found = self.git.refs(*places, VERIFIED)
        except BrokenRef as broken:
            self._forget(broken)
            return self.seen()
        # A record of what was verified that is no commit is none.
        refs = {name: at for name, at, kind in found if kind == "commit" or not name.startswith(VERIFIED)}
        # Other tags under this prefix are not the ledger's.
        tags = {int(name): at for name, at in _under(refs, places[1]).items() if re.fullmatch("[0-9]{6}", name)}
        return Look(refs.get(places[0]), tags, _under(refs, places[2]), _under(refs, VERIFIED))

    def _forget(self, broken: BrokenRef) -> None:
        """Delete a ref that cannot be read, as after a power cut, if it is a copy: it is fetched again.

        Raises:
            Damaged: it is none.
        """
        ref, shared = broken.ref, self.project.clone.shared
        if self.remote:
            return self.update([f"delete {ref}"]) if broken.lost else (shared / ref).unlink()
        drop = f"git update-ref -d {ref}" if broken.lost else f"rm {shlex.quote(str(shared / ref))}"
        back = "forgets it" if ref.startswith(VERIFIED) else "and `make fsck REPAIR=1` put it back"
        mend = f"`{drop}` {back}"
        if ref == BRANCH:
            at = self._logged(ref)
            put = f"`{drop} && git update-ref {ref} {at}` puts it at the last commit that git's log of it names"
            mend = f"{put} and this clone has" if at else f"{PAGE}, {RESTORE}"
        raise Damaged(Damage(str(broken), mend))

    def _logged(self, ref: str) -> str | None:
        """The last commit that git's log of a ref names and this clone has."""
        log = self.project.clone.shared / "logs" / ref
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
        commits = [line.split(" ")[1] for line in reversed(lines) if " " in line]
        return next((each for each in commits if self.git.succeeds("cat-file", "-e", f"{each}^{{commit}}")), None)

    def fetch(self, *refspecs: str, whole: bool = False) -> None:
        """Fetch from origin; one process of this clone at a time, for git refuses two that write one ref.

        Args:
            whole: bring all objects.

        Raises:
            GitError: origin cannot be read.
        """
        # A clone without old commits of the ledger gets them; those of other branches stay as they are.
        deep = [f"--depth={EVERYTHING}"] if self.project.clone.shallow else []
        # A partial clone would ask for each file of an event by itself when that is read.
        deep += ["--refetch"] if whole and self.repository.partial else []
        with self.locked("another process fetches the ledger"):
            self.git(*FETCH, *deep, "origin", *refspecs, more=self.credentials())

    def ask(self, *words: str) -> str:
        """The output of a git command that reads origin.

        Raises:
            Misuse: origin cannot be read.
        """
        try:
            return self.git(*words, more=self.credentials())
        except GitError as error:
            raise self.unread(error) from None

    def fetched(self, keys: Iterable[str]) -> dict[str, str]:
        """The commits of these models' bytes, by key, fetched from origin: it is asked for nothing else.

        Raises:
            GitError: origin cannot be read.
        """
        if self.remote:
            self._bring(list(keys))
        return self.seen().models

    def _bring(self, keys: list[str]) -> None:
        refspecs = [f"+{MODELS}{key}*:{OURS}models/{key}*" for key in keys]
        self.git(*FETCH, "origin", *refspecs, more=self.credentials(), seconds=LARGE)

    def stored(self) -> dict[str, str]:
        """The commits of all models' bytes, by key. Nothing is fetched.

        Raises:
            Misuse: origin cannot be read.
        """
        return _under(self.at_origin(f"{MODELS}*"), MODELS) if self.remote else self.seen().models

    def at_origin(self, *patterns: str) -> dict[str, str]:
        """The refs of origin and their objects, by name; for an annotated tag, ``<tag>^{}`` is its commit.

        Raises:
            Misuse: origin cannot be read.
        """
        listed = self.ask("ls-remote", "origin", *patterns)
        return {ref: commit for commit, ref in (line.split("\t") for line in listed.splitlines())}

    def credentials(self) -> dict[str, str]:
        return credentials(self.project.environment)

    @staticmethod
    def unread(error: GitError) -> Misuse:
        found = (mend for cause, mend in CAUSES.items() if re.search(cause, str(error)))
        mend = next(found, "check the remote and your access")
        return Misuse(f"ledger: origin cannot be read: {error}; {mend}")

    # Writing

    def write(self, refs: dict[str, str], head: str | None, size: int = 0) -> None:
        """Write all refs or none, the branch only if its head is ``head``. A ref without a commit is deleted.

        Args:
            size: the bytes that a push has to bring.

        Raises:
            Moved: another run has written meanwhile.
            GitError: the refs were not written, or the answer was lost.
        """
        if not self.remote:
            return self._write_here(refs, head)
        seconds = SECONDS + size / BYTES_A_SECOND
        pairs = _pairs(refs)
        try:
            self._push(["--atomic"], pairs, seconds)
        except GitError as error:
            if "does not support --atomic" not in str(error):
                raise
            # A run that loses the race must not replace the bytes of the one that wins it.
            keys = [ref.removeprefix(MODELS) for ref, at in refs.items() if at and ref.startswith(MODELS)]
            now = self.look((), keys)
            if now.head != head:
                raise Moved from None
            lease = [f"--force-with-lease={MODELS}{key}:{now.models.get(key, '')}" for key in keys]
            # One after another: bytes without an event harm nobody, the branch is the compare-and-swap, and nothing is
            # deleted before it.
            for pair in sorted((pair.removeprefix("+") for pair in pairs), key=_turn):
                self._push(lease if MODELS in pair and pair[0] != ":" else [], [pair], seconds)

    def put(self, refs: dict[str, str]) -> None:
        """Write refs that need no compare-and-swap: a branch only moves forward.

        Raises:
            GitError: they were not written.
        """
        if self.remote:
            brings = any(ref.startswith(MODELS) for ref in refs)
            return self._push([], _pairs(refs), LARGE if brings else SECONDS)
        with self.locked("another run writes the ledger"):
            self.update([f"update {ref} {at}" for ref, at in refs.items()])

    def _push(self, options: list[str], pairs: list[str], seconds: float) -> None:
        settings, variables = self.key.pushing(self.repository.url) if self.key else ([], self.credentials())
        self.git(*settings, *PUSH, *options, "origin", *pairs, more=variables, seconds=seconds)

    def _write_here(self, refs: dict[str, str], head: str | None) -> None:
        """The same without a remote: one transaction of git, by one writer at a time.

        A git that is killed in the transaction has written its first refs only. The branch is the last one, so the
        event does not exist then: bytes without an event are written again, and the next writer finishes a witness
        ahead of its branch.
        """
        with self.locked("another run writes the ledger"):
            known = self.seen()
            if known.head != head:
                raise Moved
            nothing = "0" * len(refs[BRANCH])  # in place of the commit of a ref that is not there
            present = {f"{WITNESS}{number:06d}": at for number, at in known.tags.items()}
            present |= {f"{MODELS}{key}": at for key, at in known.models.items()}
            lines = [
                f"update {ref} {at} {present.get(ref, nothing)}" for ref, at in refs.items() if at and ref != BRANCH
            ]
            lines.append(f"update {BRANCH} {refs[BRANCH]} {head or nothing}")
            self.update(lines + [f"delete {ref}" for ref, at in refs.items() if not at])

    def update(self, lines: list[str]) -> None:
        """One transaction of refs of this clone."""
        self.git("update-ref", "--stdin", stdin="".join(f"{line}\n" for line in lines).encode())

    def note(self, rules: str, commit: str) -> None:
        """Note that the events up to a commit were verified. Where that cannot be written, they are verified again."""
        with suppress(GitError):
            self.update([f"update {VERIFIED}{rules} {commit}"])

    @contextmanager
    def locked(self, who: str) -> Iterator[None]:
        """Hold the lock of this clone's ledger; the operating system frees it when its holder dies.

        Raises:
            GitError: another process has held it for too long, or it cannot be held here.
        """
        lock = FileLock(self.project.clone.shared / "conveyor-ledger.lock")
        try:
            lock.acquire(timeout=WAIT)
        except Timeout:
            raise GitError(f"{who} for more than {WAIT:.0f} seconds") from None
        except OSError as error:
            raise GitError(f"{error.filename}: {error.strerror}; this clone must be writable") from None
        try:
            yield
        finally:
            lock.release()

    @staticmethod
    def pause(turn: int) -> None:
        """Wait before looking again at refs that did not fit together: a writer may be between two of them."""
        time.sleep(0.05 * 2**turn)


def _under(refs: dict[str, str], prefix: str) -> dict[str, str]:
    return {name.removeprefix(prefix): at for name, at in refs.items() if name.startswith(prefix)}


def _pairs(refs: dict[str, str]) -> list[str]:
    """Refs as a push takes them."""
    # The bytes of a model that no event stored may lie there from a run that was stopped: they are replaced.
    return [f"+{at}:{ref}" if at and ref.startswith(MODELS) else f"{at}:{ref}" for ref, at in refs.items()]


def _turn(pair: str) -> int:
    """When a server without atomic pushes gets a ref: bytes, the branch, its witness, what is deleted."""
    at, _, ref = pair.partition(":")
    if not at:
        return 3
    return 0 if ref.startswith(MODELS) else 1 if ref == BRANCH else 2
