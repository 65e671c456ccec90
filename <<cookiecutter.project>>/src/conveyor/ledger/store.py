"""The storage of the ledger: refs of git, here or at origin, written all or none."""

from __future__ import annotations

import base64
import re
from json import loads
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from conveyor.core.errors import Misuse
from conveyor.core.files import new_directory, to_json
from conveyor.core.git import GitError
from conveyor.core.project import Project
from conveyor.ledger.events import Moved
from conveyor.model.bundle import digest_of

BRANCH = "refs/heads/ledger"
SECONDS = 60.0  # for another writer of this repository
IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "ledger"), ("EMAIL", "ledger@invalid"))
}


class Store:
    """The refs of a repository that make up its ledger.

    Attributes:
        remote: whether a remote named origin holds them.
        where: the same in words.
        head: the commit of the branch at the last reading; None: there is no branch.
        refs: those of origin at the same reading.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self.git = project.git
        self.remote = "origin" in self.git("remote").split()
        self.where = "origin" if self.remote else "this repository"
        self.head: str | None = None
        self.refs: dict[str, str] = {}

    def at_origin(self, *patterns: str) -> dict[str, str]:
        """The refs of origin and their objects, by name; for an annotated tag, ``<tag>^{}`` is its commit.

        Raises:
            Misuse: origin cannot be read.
        """
        listed = self.ask("ls-remote", "origin", *patterns)
        return {ref: commit for commit, ref in (line.split("\t") for line in listed.splitlines())}

    def read_head(self) -> str | None:
        """The present commit of the branch, fetched if this clone lacks it; None: there is no branch."""
        if not self.remote:
            return self.git("rev-parse", BRANCH) if self.git.succeeds("rev-parse", "-q", "--verify", BRANCH) else None
        self.refs = self.at_origin(BRANCH, "refs/tags/champion/*")
        head = self.refs.get(BRANCH)
        if head and not self.git.succeeds("cat-file", "-e", f"{head}^{{commit}}"):
            self.ask("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "origin", BRANCH)
        return head

    def witnesses(self) -> list[str]:
        """The tags of the ``live`` events, in their order."""
        if self.remote:
            refs = [ref for ref in self.refs if ref.startswith("refs/tags/champion/")]
        else:
            refs = self.git("for-each-ref", "--format=%(refname)", "refs/tags/champion/").split()
        # Other tags under this prefix are not the ledger's.
        return sorted(ref.removeprefix("refs/tags/") for ref in refs if re.fullmatch(r"refs/tags/champion/\d{6}", ref))

    def ask(self, *words: str) -> str:
        """The output of a git command that reads origin.

        Raises:
            Misuse: origin cannot be read.
        """
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

    def json(self, path: str) -> dict[str, Any]:
        """A JSON object of the branch.

        Raises:
            Misuse: the file is no JSON object.
        """
        try:
            value = loads(self.git.bytes("cat-file", "blob", f"{self.head}:{path}"))
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise Misuse(f"ledger: {path} is no JSON object; restore the branch `ledger`")
        return value

    def extract(self, key: str, digest: str, path: Path) -> None:
        """Write the bytes of a model to a folder, fetched if this clone lacks them.

        Raises:
            Misuse: they are missing, damaged, or do not have this digest.
        """
        ref = f"refs/models/{key}"
        try:
            files = self.files(ref, digest)
        except Misuse:
            if not self.remote:
                raise
            try:
                # This clone's ref of the name may be from before it had this origin.
                self.git(
                    "fetch", "--quiet", "--no-tags", "--depth=1", "origin", f"+{ref}:{ref}", more=self.credentials()
                )
            except GitError as error:
                mend = "restore that ref (a fork takes it from upstream)"
                raise Misuse(f"ledger: {ref} cannot be fetched from origin: {error}; {mend}") from None
            files = self.files(ref, digest)
        with new_directory(path) as new:
            for name, content in files.items():
                (new / name).write_bytes(content)

    def files(self, ref: str, digest: str) -> dict[str, bytes]:
        """The files of a model that this clone has under a ref.

        Raises:
            Misuse: see ``extract``.
        """
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

    def write(self, refs: dict[str, str]) -> None:
        """Write all refs or none, and the branch only if its head has not moved. A ref without a commit is deleted.

        Raises:
            Moved: another run has written meanwhile.
            GitError: the refs were not written.
        """
        try:
            if self.remote:
                pairs = [f"{commit}:{ref}" for ref, commit in refs.items()]
                # The pre-push hook is for code: it would test files that are not pushed.
                self.git("push", "--quiet", "--no-verify", "--atomic", "origin", *pairs, more=self.credentials())
            else:
                self._write_here(refs)
        except GitError:
            if self.read_head() != self.head:
                raise Moved from None
            raise

    def _write_here(self, refs: dict[str, str]) -> None:
        """The same without a remote: one transaction of git, by one writer at a time.

        A git that is killed in the transaction has written its first refs only. The branch is the last one, so the
        event does not exist then: bytes without an event are written again, and ``unfinished`` handles a tag ahead of
        its branch.
        """
        place = Path(self.project.root, self.git("rev-parse", "--git-common-dir"), "conveyor-ledger.lock")
        try:
            with FileLock(place, timeout=SECONDS):  # the operating system frees it when its holder dies
                if (head := self.read_head()) and (tag := self.unfinished(head)):
                    self._update([f"update {BRANCH} {tag} {head}"])
                if self.read_head() != self.head:
                    raise Moved
                nothing = "0" * len(refs[BRANCH])  # in place of the commit of a ref that is not there
                old = {
                    ref: self.git("for-each-ref", "--format=%(objectname)", ref) or nothing
                    for ref, commit in refs.items()
                    if commit and ref != BRANCH
                }
                lines = [f"update {ref} {refs[ref]} {before}" for ref, before in old.items()]
                lines.append(f"update {BRANCH} {refs[BRANCH]} {self.head or nothing}")
                self._update(lines + [f"delete {ref}" for ref, commit in refs.items() if not commit])
        except Timeout:
            raise GitError(f"another run has written for more than {SECONDS} seconds") from None

    def unfinished(self, head: str) -> str | None:
        """The commit of a local tag that is the child of ``head``: git was killed before it moved the branch."""
        tags = self.witnesses()
        listed = self.git("rev-list", "--no-walk", "--parents", f"refs/tags/{tags[-1]}").split() if tags else []
        return listed[0] if listed[1:] == [head] else None

    def _update(self, lines: list[str]) -> None:
        self.git("update-ref", "--stdin", stdin="".join(f"{line}\n" for line in lines).encode())

    def blob(self, value: Any) -> str:
        """The id of a JSON value, stored as a blob."""
        return self.git("hash-object", "-w", "--stdin", "--no-filters", stdin=to_json(value).encode())

    def commit(self, tree: str, parent: str | None, message: str) -> str:
        """The id of a commit, stored with a fixed author."""
        words = ["commit-tree", "--no-gpg-sign", tree, "-F", "-", *(["-p", parent] if parent else [])]
        return self.git(*words, stdin=message.encode(), more=IDENTITY)
