"""The only code that runs git: with a time limit, without prompts, and with its error as one line."""

from __future__ import annotations

import builtins
import os
import re
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

SECONDS = 120
LEAST = (2, 31)  # the first git that takes settings from its environment: a token is given that way
# What a hook, or a caller's `git -c`, says about another repository: none of it is about this one.
ELSEWHERE = re.compile(
    "GIT_(DIR|WORK_TREE|IMPLICIT_WORK_TREE|COMMON_DIR|INDEX_FILE|OBJECT_DIRECTORY|ALTERNATE_OBJECT_DIRECTORIES|PREFIX"
    "|INTERNAL_SUPER_PREFIX|NAMESPACE|SHALLOW_FILE|GRAFT_FILE|REPLACE_REF_BASE|QUARANTINE_PATH|[A-Z]+_PATHSPECS"
    "|CONFIG|CONFIG_PARAMETERS|CONFIG_COUNT|CONFIG_(KEY|VALUE)_[0-9]+)"
)


# What git says of a ref whose file is damaged (it goes on without the ref), or whose object is missing.
BROKEN = re.compile(rb"^(warning: ignoring broken ref|fatal: missing object [0-9a-f]+ for) (.+)$", re.MULTILINE)


class GitError(Exception):
    """git failed; the text is the line of its output that gives the cause."""


class BrokenRef(GitError):
    """A ref cannot be read.

    Attributes:
        ref: its name.
        lost: whether its object is missing; else its file is damaged.
    """

    def __init__(self, ref: str, lost: bool) -> None:
        super().__init__(f"{ref} {'names an object that is missing' if lost else 'is damaged'}")
        self.ref, self.lost = ref, lost


def complaint(stderr: bytes) -> str:
    """The cause in git's output: the remote's message, else the refused ref, else the first error."""
    lines = [line.rstrip() for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    remote = [line.removeprefix("remote:").strip() for line in lines if line.startswith("remote:")]
    if any(remote):
        return " ".join(text for text in remote if text)[:300]
    for begin in (" ! [", ("fatal:", "error:")):
        for line in lines:
            if line.startswith(begin):
                return line.strip()
    return lines[-1].strip() if lines else ""


def bounded(
    words: list[str], root: Path, stdin: bytes | None, env: dict[str, str], seconds: float
) -> subprocess.CompletedProcess[bytes]:
    """Run a tool in ``root``; after ``seconds`` end it and all processes that it started.

    Raises:
        FileNotFoundError: the tool is not installed.
        subprocess.TimeoutExpired: it was ended.
    """
    given = subprocess.DEVNULL if stdin is None else subprocess.PIPE
    pipe = subprocess.PIPE
    with subprocess.Popen(
        words, cwd=root, stdin=given, stdout=pipe, stderr=pipe, env=env, start_new_session=True
    ) as run:
        try:
            out, told = run.communicate(stdin, timeout=seconds)
        except BaseException:
            # End its helpers, too: an ssh that waits for ever would keep the pipes open.
            with suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL) if hasattr(os, "killpg") else run.kill()
            raise
    return subprocess.CompletedProcess(words, run.returncode, out, told)


class Git:
    """git in one working tree."""

    def __init__(self, root: Path, variables: dict[str, str] | None = None) -> None:
        self.root = root
        # A prompt would hang a workflow. The language fixes the texts that are parsed. `status` must write no index.
        # An object that `git replace` put in another's place would be read as that one.
        fixed = {
            "GIT_TERMINAL_PROMPT": "0",
            "LC_ALL": "C",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_GRAFT_FILE": os.devnull,  # so would other parents of a commit, from .git/info/grafts
        }
        given = {name: value for name, value in os.environ.items() if not ELSEWHERE.fullmatch(name)}
        self.variables = {**given, **fixed, **(variables or {})}

    def bytes(
        self, *words: str, stdin: bytes | None = None, more: dict[str, str] | None = None, seconds: float | None = None
    ) -> bytes:
        """Standard output of ``git words``, which may take ``seconds``.

        Raises:
            GitError: git is missing, exited with an error, or did not answer in time.
        """
        done = self._ended(words, stdin, more, seconds)
        if done.returncode:
            raise GitError(complaint(done.stderr) or f"git {words[0]} exited with {done.returncode}")
        return done.stdout

    def refs(self, *patterns: str) -> list[list[str]]:
        """The name, the object and the kind of the object of each ref that matches.

        Raises:
            BrokenRef: one of them cannot be read: git alone would pass over it.
            GitError: see ``bytes``.
        """
        words = ("for-each-ref", "--format=%(refname) %(objectname) %(objecttype)", *patterns)
        done = self._ended(words, None, None, None)
        for broken in BROKEN.finditer(done.stderr):
            ref = os.fsdecode(broken[2])
            if any(f"{ref}/".startswith(f"{pattern.rstrip('/')}/") for pattern in patterns):
                raise BrokenRef(ref, broken[1].startswith(b"fatal"))
        if done.returncode:
            raise GitError(complaint(done.stderr))
        return [line.split(" ") for line in done.stdout.decode(errors="replace").splitlines()]

    def _ended(
        self, words: tuple[str, ...], stdin: builtins.bytes | None, more: dict[str, str] | None, seconds: float | None
    ) -> subprocess.CompletedProcess[builtins.bytes]:
        limit = seconds or SECONDS
        try:
            return bounded(["git", *words], self.root, stdin, {**self.variables, **(more or {})}, limit)
        except FileNotFoundError:
            raise GitError("git is not installed") from None
        except subprocess.TimeoutExpired:
            verb = next(word for word in words if not word.startswith("-") and "=" not in word)
            raise GitError(f"git {verb} did not answer within {limit:.0f} seconds") from None

    def __call__(
        self,
        *words: str,
        stdin: builtins.bytes | None = None,
        more: dict[str, str] | None = None,
        seconds: float | None = None,
    ) -> str:
        """Standard output of ``git words`` as text without the last line feed; what is no UTF-8 is replaced."""
        return self.bytes(*words, stdin=stdin, more=more, seconds=seconds).decode(errors="replace").rstrip("\n")

    def succeeds(self, *words: str) -> bool:
        """Whether ``git words`` exits with 0."""
        try:
            self.bytes(*words)
        except GitError:
            return False
        return True
