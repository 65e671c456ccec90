"""Signatures of events, where the reviewed params.yaml requires them: ssh signatures of the events' commits.

`ledger.signed_from` says from which event on, .github/ledger/signers names the keys, in the format of ssh's allowed
signers. git would start a process per signature; here all are checked in this one.

Source of the format: OpenSSH, PROTOCOL.sshsig; git, gitformat-signature.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from typing import TYPE_CHECKING

from conveyor.core.errors import Misuse
from conveyor.core.files import sha256
from conveyor.core.git import Git
from conveyor.core.project import Project
from conveyor.ledger.chain import contents_of
from conveyor.ledger.events import Event
from conveyor.ledger.key import SIGNERS

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

KIND = "ssh-ed25519"
MAGIC = b"SSHSIG"
BEGIN, END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"


class Signatures:
    """The signatures that a repository wants.

    Attributes:
        rules: differs where other signatures are wanted; empty: none.

    Raises:
        Misuse: signatures are wanted, and the file of signers is missing or wrong.
    """

    def __init__(self, project: Project) -> None:
        self.first = project.params.ledger.signed_from
        self.rules, self.keys = "", {}
        self._commits: dict[str, bytes | None] = {}
        if self.first is not None:
            content = project.needed(SIGNERS)
            self.keys = signers(content)
            self.rules = f"-{sha256(content + str(self.first).encode())[:12]}"

    def wanted(self, commits: list[str]) -> list[str]:
        """Those of these commits that must be read before ``fault`` is asked about them."""
        return commits if self.first is not None else []

    def take(self, contents: dict[str, bytes | None]) -> None:
        """Take the contents of commits, by their ids."""
        self._commits = contents

    def load(self, git: Git, commits: list[str]) -> None:
        """Read these commits."""
        self.take(contents_of(git, self.wanted(commits)))

    def fault(self, event: Event, commit: str) -> str | None:
        """What is wrong with the signature of an event's commit; None: nothing, or none is wanted."""
        if self.first is None or event.number < self.first:
            return None
        return fault(self._commits.get(commit) or b"", self.keys)


def signers(content: bytes) -> dict[bytes, Ed25519PublicKey]:
    """The keys of a file of allowed signers, by their encoded form.

    Raises:
        Misuse: a line is none of an ed25519 key, or there is no key.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    keys = {}
    for number, line in enumerate(content.decode(errors="replace").splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            if words[1] != KIND:  # an option, such as valid-before, would be passed over
                raise ValueError
            blob = base64.b64decode(words[2], validate=True)
            kind, key = _strings(blob, 2)
            keys[blob] = Ed25519PublicKey.from_public_bytes(key)
        except (ValueError, IndexError, struct.error):
            raise Misuse(
                f"{SIGNERS}:{number}: no {KIND} key; write it as: ledger {KIND} AAAA..., without options"
            ) from None
    if not keys:
        raise Misuse(f"{SIGNERS}: names no key, and ledger.signed_from of params.yaml wants one")
    return keys


def fault(commit: bytes, keys: dict[bytes, Ed25519PublicKey]) -> str | None:
    """What is wrong with the signature of a commit; None: one of these keys has signed it."""
    from cryptography.exceptions import InvalidSignature

    payload, armored = _parted(commit)
    if armored is None:
        return "is not signed"
    try:
        blob = base64.b64decode("".join(armored.replace(BEGIN, "").replace(END, "").split()), validate=True)
        if blob[:6] != MAGIC or struct.unpack(">I", blob[6:10])[0] != 1:
            return "has no ssh signature"
        public, space, reserved, hashed, signature = _strings(blob[10:], 5)
        if public not in keys:
            return f"is signed by a key that {SIGNERS} does not name"
        if space != b"git" or hashed not in (b"sha512", b"sha256"):
            return "has a signature that is not for git"
        digest = hashlib.new(hashed.decode(), payload).digest()
        signed = MAGIC + b"".join(struct.pack(">I", len(part)) + part for part in (space, reserved, hashed, digest))
        keys[public].verify(_strings(signature, 2)[1], signed)
    except (ValueError, struct.error, binascii.Error, InvalidSignature):
        return "has a signature that does not fit"
    return None


def _parted(commit: bytes) -> tuple[bytes, str | None]:
    """A commit without its signature, and the signature."""
    head, separator, message = commit.partition(b"\n\n")
    kept, signature, inside = [], [], False
    for line in head.split(b"\n"):
        if line.startswith((b"gpgsig ", b"gpgsig-sha256 ")):
            inside = True
            signature.append(line.partition(b" ")[2])
        elif inside and line.startswith(b" "):
            signature.append(line[1:])
        else:
            inside = False
            kept.append(line)
    return b"\n".join(kept) + separator + message, b"\n".join(signature).decode(errors="replace") if signature else None


def _strings(blob: bytes, count: int) -> list[bytes]:
    """The first strings of ssh's format: each after its length in four bytes."""
    found, place = [], 0
    for _ in range(count):
        (size,) = struct.unpack(">I", blob[place : place + 4])
        if place + 4 + size > len(blob):
            raise ValueError("cut off")
        found.append(blob[place + 4 : place + 4 + size])
        place += 4 + size
    return found
