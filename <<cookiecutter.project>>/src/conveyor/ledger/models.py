"""The bytes of models: commits under refs/models, or, with `ledger.models`, files in a folder or at an fsspec URL.

A file over 50 MB is stored in git in pieces, because GitHub refuses blobs over 100 MB. At a URL the bytes of a bundle
are one file, named by the bundle's digest. Whatever is read is checked against that digest.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from conveyor.core import environment
from conveyor.core.errors import Misuse
from conveyor.core.files import new_directory
from conveyor.core.git import GitError
from conveyor.ledger.chain import contents_of
from conveyor.ledger.damage import Damage, Left
from conveyor.ledger.events import Event
from conveyor.ledger.state import State
from conveyor.ledger.store import BRANCH, LARGE, MODELS, PAGE, RESTORE, Store
from conveyor.model.bundle import Bundle, digest_of

PIECE = 50_000_000
MOST = 1_900_000_000  # of one push: GitHub refuses 2 GB
# Equal bytes make an equal commit, whenever and by whom it is made.
NOBODY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "ledger"), ("EMAIL", "ledger@invalid"), ("DATE", "@0 +0000"))
}


class Models:
    """The bytes of the models of a ledger."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.git = store.git
        self.url = store.project.params.ledger.models

    # Keeping

    def check_size(self, bundle: Bundle) -> None:
        """Check that the bytes of a bundle can be stored.

        Raises:
            Misuse: they are more than origin takes in one push.
        """
        size = sum(map(len, bundle.files.values()))
        if self.url is None and self.store.remote and size > MOST:
            raise Misuse(
                f"the model has {size / 1e9:.1f} GB, and origin takes at most {MOST / 1e9:.1f} GB; set ledger.models in"
                " params.yaml to a folder or a URL; build/candidate keeps this model"
            )

    def keep(self, bundle: Bundle) -> str | None:
        """Store the bytes of a bundle; returns their commit, which still has to be pushed, None: they are at the URL.

        Raises:
            Misuse: they cannot be stored.
            GitError: git cannot store them.
        """
        self.check_size(bundle)
        if self.url is not None:
            self._put(bundle)
            return None
        lines = []
        for name, content in bundle.files.items():
            if len(content) <= PIECE:
                lines.append(f"100644 blob {self._blob(content)}\t{name}")
                continue
            pieces = [self._blob(content[place : place + PIECE]) for place in range(0, len(content), PIECE)]
            tree = self._tree(f"100644 blob {piece}\t{number:06d}" for number, piece in enumerate(pieces))
            lines.append(f"040000 tree {tree}\t{name}")
        words = ["commit-tree", "--no-gpg-sign", self._tree(lines), "-m", f"Model {bundle.key}"]
        return self.git(*words, more=NOBODY)

    def _blob(self, content: bytes) -> str:
        return self.git("hash-object", "-w", "--stdin", "--no-filters", stdin=content)

    def _tree(self, lines: Any) -> str:
        return self.git("mktree", stdin="".join(f"{line}\n" for line in lines).encode())

    # Reading

    def extract(self, event: Event, path: Any) -> None:
        """Write the bytes of an event's model to a folder, fetched if this clone lacks them.

        Raises:
            Misuse: they are missing, damaged, or do not have the event's digest.
        """
        files = self._files(event)
        if (found := digest_of(files)) != event.digest:
            raise Misuse(
                f"ledger: the bytes of model {event.key[:12]} have digest {found[:12]}…, event {event.number} says"
                f" {event.digest[:12]}…; restore them, `make fsck` says how"
            )
        with new_directory(path) as new:
            for name, content in files.items():
                (new / name).write_bytes(content)

    def _files(self, event: Event) -> dict[str, bytes]:
        if event.model is None and self.url is not None:
            content = self._got(event.digest)
            if content is not None:
                return _unpacked(content, event)
        known = self.store.seen().models
        # An event of schema 1 does not name the commit of its bytes.
        if self.store.remote and known.get(event.key) != (event.model or ""):
            known = self.store.look(models=[event.key], witnesses=()).models
        at = known.get(event.key)
        if at is None:
            raise Misuse(f"ledger: {self.lost(event)}; `make fsck` says what brings them back")
        if event.model and at != event.model:
            raise Misuse(
                f"ledger: {MODELS}{event.key} is commit {at[:12]}, event {event.number} says {event.model[:12]};"
                " `make fsck` says what brings it back"
            )
        try:
            return self._read(at)
        except GitError as error:
            raise Misuse(f"ledger: {MODELS}{event.key} is damaged: {error}; restore it, `make fsck` says how") from None

    def lost(self, event: Event) -> str:
        place = self.url if event.model is None and self.url else f"{MODELS}{event.key} of {self.store.where}"
        return f"{place} is missing, the bytes of model {event.key[:12]} of event {event.number}"

    def _read(self, commit: str) -> dict[str, bytes]:
        blobs: dict[str, list[str]] = {}
        for entry in self.git("ls-tree", "-r", "-z", "--full-tree", commit).split("\0"):
            about, _, name = entry.partition("\t")
            if name:
                blobs.setdefault(name.partition("/")[0], []).append(about.split()[2])
        contents = contents_of(self.git, [blob for pieces in blobs.values() for blob in pieces], LARGE)
        return {name: b"".join(contents[blob] or b"" for blob in pieces) for name, pieces in blobs.items()}

    # At a URL

    @contextmanager
    def _system(self) -> Iterator[tuple[Any, str]]:
        from fsspec.core import url_to_fs

        url = str(self.url)
        try:
            if "://" not in url:
                url = str(self.store.project.root / url)
                yield url_to_fs(url)
            else:
                yield url_to_fs(url, **environment.data_options())
        except Misuse:
            raise
        except Exception as error:  # each file system raises its own library's exceptions
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise Misuse(f"ledger.models: {self.url}: {reason}; mend it in params.yaml, or its credentials") from None

    def _put(self, bundle: Bundle) -> None:
        with self._system() as (system, place):
            name = f"{place}/{bundle.digest}.tar"
            if self._content(system, name, bundle.digest) is not None:
                return
            system.makedirs(place, exist_ok=True)
            # A new name first: a file system that is cut off leaves no half file under the right one.
            system.pipe_file(f"{name}.writing", _packed(bundle.files))
            with suppress(FileNotFoundError):  # another writer of the same bytes has moved it
                system.mv(f"{name}.writing", name)
            if self._content(system, name, bundle.digest) is None:
                raise OSError("what was written there cannot be read back")

    def _got(self, digest: str) -> bytes | None:
        with self._system() as (system, place):
            return self._content(system, f"{place}/{digest}.tar")

    @staticmethod
    def _content(system: Any, name: str, digest: str | None = None) -> bytes | None:
        """The bytes of a file; None: it is not there, or holds no bundle of this digest."""
        try:
            content: bytes = system.cat_file(name)
        except FileNotFoundError:
            return None
        if digest is None or (files := _parts(content)) is None or digest_of(files) != digest:
            return content if digest is None else None
        return content

    # Deleting

    def left(self, state: State, head: str | None) -> list[Left]:
        """The bytes of deleted models that are still there: a `prune` was stopped behind its event.

        Args:
            head: the commit of the last event in ``state``.
        """
        deleted = {key for event in state.events if event.type == "pruned" for key in event.keys}
        stored = {event.key: event.digest for event in state.all_stored()}
        mend = "`make fsck REPAIR=1` or the next `make prune` deletes them" + (" (with PUSH=1)" * self.store.remote)
        found = []
        if gone := deleted - set(stored):
            refs = tuple(f"{MODELS}{key}" for key in sorted(gone & set(self.store.stored())))
            if refs:
                what = f"{refs[0]} of {self.store.where} is there, and `prune` deleted the model"
                found.append(Left(_counted(what, refs), mend, stops=False, refs=refs, head=head))
        digests = {event.digest for event in state.events if event.key in deleted} - set(stored.values())
        if digests and self.url is not None:
            with self._system() as (system, place):
                there = {path.rpartition("/")[2] for path in _names(system, place)}
                files = sorted(there & {f"{digest}.tar{end}" for digest in digests for end in ("", ".writing")})
            if files:
                what = f"{files[0]} is there in {self.url}, and `prune` deleted the model"
                found.append(Left(_counted(what, files), mend, stops=False, files=tuple(files), head=head))
        return found

    def sweep(self, left: Left) -> None:
        """Delete what is left.

        Raises:
            Moved: there is a newer event.
            GitError: git cannot delete it.
            Misuse: it cannot be deleted at the URL.
        """
        if left.refs and left.head:
            self.store.write({**dict.fromkeys(left.refs, ""), BRANCH: left.head}, left.head)
        if left.files:
            with self._system() as (system, place):
                for name in left.files:
                    system.rm_file(f"{place}/{name}")

    # Looking

    def damages(self, events: list[Event], whole: bool = False, there: dict[str, str] | None = None) -> list[Damage]:
        """The models whose bytes are missing or are others.

        Args:
            whole: also read those at the URL, and those in git that this clone has.
            there: the commits of the bytes that are in git, by key; None: all are listed.
        """
        in_git = [event for event in events if event.model or self.url is None]
        if there is None:
            there = self.store.stored() if in_git else {}
        found = []
        for event in in_git:
            ref = f"{MODELS}{event.key}"
            at = there.get(event.key)
            if at and (event.model is None or at == event.model):
                if whole and self.store.seen().models.get(event.key) == at and (why := self._unsound(event, at)):
                    mend = "make a fresh clone" if self.store.remote else f"{PAGE}, {RESTORE}"
                    found.append(Damage(f"{ref} is damaged here: {why}", mend, stops=False))
                continue
            what = self.lost(event) if at is None else f"{ref} holds other bytes than event {event.number} stored"
            repair: tuple[tuple[str, str], ...] = ()
            if event.model and self.git.succeeds("cat-file", "-e", f"{event.model}^{{tree}}"):
                mend = "`make fsck REPAIR=1` puts them back" + (" (with PUSH=1)" if self.store.remote else "")
                repair = ((ref, event.model),)
            elif event.model:
                mend = "`make fsck REPAIR=1 PUSH=1` in a clone that has judged or served the model puts them back"
            elif here := self.store.seen().models.get(event.key):
                mend = f"`git push origin {here}:{ref}` puts them back"
            else:
                mend = "set ledger.models to where they are, or train the model again"
            found.append(Damage(what, mend, repair, stops=False))
        outside = [event for event in events if event not in in_git]
        if outside:
            with self._system() as (system, place):
                names = {event.digest: f"{place}/{event.digest}.tar" for event in outside}
                if whole:
                    kept = {d for d, name in names.items() if self._content(system, name, d) is not None}
                else:
                    kept = {digest for digest, name in names.items() if system.exists(name)}
                gone = [event for event in outside if event.digest not in kept]
            found += [
                Damage(self.lost(event), f"restore {event.digest}.tar there from a back-up", stops=False)
                for event in gone
            ]
        return found

    def _unsound(self, event: Event, commit: str) -> str | None:
        """What is wrong with bytes that this clone has; None: nothing."""
        try:
            return None if digest_of(self._read(commit)) == event.digest else f"event {event.number} stored other bytes"
        except GitError as error:
            return str(error)


def _names(system: Any, place: str) -> list[str]:
    """The paths in a folder; none if it is not there."""
    try:
        return [str(path) for path in system.ls(place, detail=False)]
    except FileNotFoundError:
        return []


def _counted(what: str, of: Sequence[object]) -> str:
    return f"{what} ({len(of)} such)" if len(of) > 1 else what


def _packed(files: dict[str, bytes]) -> bytes:
    """Files as a tar file; equal files make equal bytes."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(files):
            about = tarfile.TarInfo(name)
            about.size = len(files[name])
            archive.addfile(about, io.BytesIO(files[name]))
    return packed.getvalue()


def _parts(content: bytes) -> dict[str, bytes] | None:
    """The files of a tar file; None: it is none, or holds anything but plain files."""
    files = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for entry in archive:
                part = archive.extractfile(entry) if entry.isfile() else None
                if part is None or "/" in entry.name:
                    return None
                files[entry.name] = part.read()
    except (tarfile.TarError, EOFError, ValueError):
        return None
    return files


def _unpacked(content: bytes, event: Event) -> dict[str, bytes]:
    files = _parts(content)
    if files is None:
        raise Misuse(
            f"ledger.models: {event.digest}.tar, the bytes of model {event.key[:12]} of event {event.number}, is"
            " damaged; restore it from a back-up"
        )
    return files
