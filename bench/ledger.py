"""What a ledger costs as it grows: processes of git, bytes and ratios of time, for 10 to 10 000 events.

    make bench-ledger                          # about five minutes; writes docs/ledger.md
    .venv/bin/python bench/ledger.py 10 1000   # other lengths, prints the table

The events come in by `git fast-import`, byte for byte as the writer makes them (the first and the last are compared
with its own). A remote on this machine is asked through git's own protocol. Bytes are what the remote's end sends.
"""

from __future__ import annotations

import base64
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256, shake_256
from pathlib import Path

from product import bake

from conveyor.core.files import to_json
from conveyor.core.project import Project
from conveyor.gate.looks import Sight
from conveyor.gate.overlap import BINS
from conveyor.ledger.events import Event, path_of
from conveyor.ledger.ledger import Ledger
from conveyor.ledger.state import State
from conveyor.model.bundle import Bundle

ROOT = Path(__file__).parents[1]
LENGTHS = (10, 100, 1000, 10_000)
KEY = "ssh-ed25519"


def git(root: Path, *words: str, given: bytes | None = None, **more: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=root, input=given, check=True, capture_output=True, env=os.environ | more
    )
    return done.stdout.decode().strip()


def bundle(folder: Path, name: str) -> Bundle:
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    (place / "model.skops").write_bytes(name.encode() * 1000)
    (place / "lineage.json").write_text(json.dumps({"key": sha256(name.encode()).hexdigest()}))
    return Bundle(place)


def events(length: int, commit: str) -> Iterator[Event]:
    """A third of the verdicts accept a model, as ``accepted`` and ``live``."""
    number, last = 0, b""
    while number < length:
        name = str(number)
        told = {
            "schema": 2,
            "key": sha256(name.encode()).hexdigest(),
            "digest": sha256(f"bytes of {name}".encode()).hexdigest(),
            "commit": commit if not number else sha256(f"commit {name}".encode()).hexdigest()[:40],
            "data_sha256": sha256(f"data {number // 30}".encode()).hexdigest(),
            "run": f"https://github.com/team/late-flights/actions/runs/{10**10 + number}",
            "by": "ada",
            "outcome": "promote",
            "reason": f"roc_auc better by +0.0{number % 997:03d} (90 % interval +0.001 to +0.03), more than the margin",
        }
        # The rows change with the data, and the first verdict on them tells how many they are and has their sketch.
        rows = str(number // 30).encode()
        judged = {"holdout": sha256(rows).hexdigest()}
        judged |= {"recipe": sha256(f"recipe {name}".encode()).hexdigest()[:16]}
        if rows != last:
            judged |= {"rows": 100_000, "sketch": base64.b64encode(shake_256(rows).digest(BINS // 2)).decode()}
            last = rows
        stored = {"model": sha256(f"model {name}".encode()).hexdigest()[:40]}
        for kind in ("accepted", "live") if number % 4 < 2 else ("kept",):
            number += 1
            if number <= length:
                seconds = 1_700_000_000 + 600 * number
                moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
                identity = sha256(f"id {number}".encode()).hexdigest()[:32]
                more = {"kept": judged, "accepted": {**judged, **stored}}.get(kind, {})
                about = {"number": number, "type": kind, "time": moment, "id": identity}
                yield Event.model_validate({**told, **about, **more})


def stream(length: int, commit: str) -> Iterator[bytes]:
    """The commits of a ledger for `git fast-import`."""

    def data(text: str) -> bytes:
        return f"data {len(text.encode())}\n{text}\n".encode()

    state = State()
    yield b"feature done\n"
    for event in events(length, commit):
        state.add(event)
        seconds = 1_700_000_000 + 600 * event.number
        yield f"commit refs/heads/ledger\nmark :{event.number}\n".encode()
        yield "".join(f"{who} ledger <ledger@invalid> {seconds} +0000\n" for who in ("author", "committer")).encode()
        yield data(f"{event.number:06d} {event.type} {event.key[:12]}")
        yield f"M 100644 inline {path_of(event.number)}\n".encode() + data(event.stored())
        yield b"M 100644 inline champion.json\n" + data(to_json(state.summary()))
        if event.type == "live":
            yield f"reset refs/tags/champion/{event.number:06d}\nfrom :{event.number}\n\n".encode()
    yield b"done\n"


def signed(bare: Path, key: Path) -> None:
    """Sign each commit of a ledger, as the writer does."""
    import base64
    import hashlib
    import struct

    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

    private = load_ssh_private_key(key.read_bytes(), None)
    public = base64.b64decode(private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split()[1])

    def string(*parts: bytes) -> bytes:
        return b"".join(struct.pack(">I", len(part)) + part for part in parts)

    ids = git(bare, "rev-list", "--reverse", "refs/heads/ledger").split()
    told = subprocess.run(
        ["git", "cat-file", "--batch"], cwd=bare, input="\n".join(ids).encode(), capture_output=True, check=True
    ).stdout
    new: dict[str, str] = {}
    place, lines = 0, []
    for each in ids:
        end = told.index(b"\n", place)
        size = int(told[place:end].split()[2])
        body = told[end + 1 : end + 1 + size]
        place = end + 2 + size
        for old, now in list(new.items())[-1:]:
            body = body.replace(f"parent {old}".encode(), f"parent {now}".encode())
        digest = hashlib.sha512(body).digest()
        signature = private.sign(b"SSHSIG" + string(b"git", b"", b"sha512", digest))
        blob = b"SSHSIG" + struct.pack(">I", 1)
        blob += string(public, b"git", b"", b"sha512", string(KEY.encode(), signature))
        text = base64.b64encode(blob).decode()
        rows = [text[at : at + 70] for at in range(0, len(text), 70)]
        armored = "\n ".join(["-----BEGIN SSH SIGNATURE-----", *rows, "-----END SSH SIGNATURE-----"])
        head, _, message = body.partition(b"\n\n")
        whole = head + b"\ngpgsig " + armored.encode() + b"\n\n" + message
        oid = hashlib.sha1(b"commit %d\0" % len(whole) + whole).hexdigest()
        new[each] = oid
        lines.append((oid, whole))
    import zlib

    for oid, whole in lines:
        file = bare / "objects" / oid[:2] / oid[2:]
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(zlib.compress(b"commit %d\0" % len(whole) + whole))
    moved = [f"update refs/heads/ledger {new[ids[-1]]}\n"]
    for line in git(bare, "for-each-ref", "--format=%(refname) %(objectname)", "refs/tags/champion").splitlines():
        ref, at = line.split()
        moved.append(f"update {ref} {new[at]}\n")
    git(bare, "update-ref", "--stdin", given="".join(moved).encode())


@contextmanager
def traced(folder: Path) -> Iterator[list[int]]:
    """Counts the processes of git that this process starts; those that git starts itself are not among them."""
    log = folder / "trace"
    log.unlink(missing_ok=True)
    os.environ["GIT_TRACE2_EVENT"] = str(log)
    found: list[int] = []
    try:
        yield found
    finally:
        del os.environ["GIT_TRACE2_EVENT"]
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        found.append(sum(line["event"] == "start" and "/" not in line["sid"] for line in lines))


# What 10 000 events may cost, plain and signed.
BOUNDS = {"read": 1.0, "processes": 12, "append": 1.0, "promote": 2.0, "whole": 30.0, "stored": 1000}
BOUNDS |= {"fetched": 50_000, "clone": 100_000}


@dataclass
class Row:
    """One ledger.

    Attributes:
        read, append, promote, whole: seconds to read it again, to write one event, to read it and make a model champion
            with its bytes, and to verify all of it.
        processes: of git, for a read that finds new events: one that finds none takes fewer.
        stored, fetched, clone: bytes of an event in a packed repository, of a fetch after one new event, of what the
            ledger adds to a clone of main alone.
    """

    events: int
    read: float
    processes: int
    append: float
    promote: float
    whole: float
    stored: float
    fetched: int
    clone: int

    @property
    def beyond(self) -> list[str]:
        """The bounds that it breaks."""
        return [name for name, most in BOUNDS.items() if getattr(self, name) > most]


def size_of(root: Path) -> int:
    git(root, "repack", "-adqf")
    return sum(file.stat().st_size for file in (root / "objects/pack").glob("*.pack"))


def sent(root: Path, *refspecs: str) -> int:
    """The bytes of the pack that a fetch brings."""
    before = {file.name for file in (root / ".git/objects/pack").glob("*")}
    git(root, "-c", "fetch.unpackLimit=1", "fetch", "--quiet", "origin", *refspecs)
    return sum(f.stat().st_size for f in (root / ".git/objects/pack").glob("*.pack") if f.name not in before)


def measure(folder: Path, length: int, signing: bool) -> Row:
    bare, root = folder / "remote.git", folder / "late-flights"
    git(folder, "clone", "--quiet", str(bake()), str(root))
    git(root, "remote", "remove", "origin")
    git(folder, "init", "--quiet", "--bare", str(bare))
    git(root, "remote", "add", "origin", f"file://{bare}")
    commit = git(root, "rev-parse", "HEAD")
    if signing:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key")], check=True)
        place = root / ".github/ledger"
        place.mkdir(parents=True, exist_ok=True)
        (place / "signers").write_text(f"ledger {(folder / 'key.pub').read_text()}")
        params = root / "params.yaml"
        params.write_text(params.read_text().replace("signed_from: null", "signed_from: 1     "))
        os.environ["LEDGER_KEY"] = (folder / "key").read_text()
    git(root, "push", "--quiet", "origin", "HEAD:refs/heads/main")
    base = size_of(bare)
    main_before = size_of_clone(bare, folder / "clone-a")
    git(bare, "fast-import", "--quiet", "--done", given=b"".join(stream(length, commit)))
    if signing:
        signed(bare, folder / "key")
    stored = (size_of(bare) - base) / length
    main_after = size_of_clone(bare, folder / "clone-b")

    def opened() -> Ledger:
        return Ledger(Project(root, push=True))

    began = time.perf_counter()
    opened()
    whole = time.perf_counter() - began
    began = time.perf_counter()
    ledger = opened()
    read = time.perf_counter() - began
    began = time.perf_counter()
    ledger.note(bundle(folder, "one more"), ledger.number, "keep", "not better", Sight(holdout="rows"))
    append = time.perf_counter() - began
    began = time.perf_counter()
    ledger = opened()
    ledger.live(
        ledger.accept(bundle(folder, "better"), ledger.number, "promote", "it is better", Sight(holdout="rows"))
    )
    promote = time.perf_counter() - began
    with traced(folder) as processes:
        opened()
    colleague = folder / "colleague"
    git(folder, "clone", "--quiet", "--single-branch", "--branch", "main", f"file://{bare}", str(colleague))
    Ledger(Project(colleague))
    ledger.note(bundle(folder, "and one more"), ledger.number, "keep", "not better", Sight(holdout="rows"))
    fetched = sent(colleague, "+refs/heads/ledger:refs/conveyor/ledger")
    os.environ.pop("LEDGER_KEY", None)
    return Row(length, read, processes[0], append, promote, whole, stored, fetched, main_after - main_before)


def size_of_clone(bare: Path, place: Path) -> int:
    """The bytes of git's folder in a clone of main alone."""
    git(bare, "clone", "--quiet", "--single-branch", "--branch", "main", f"file://{bare}", str(place))
    return sum(file.stat().st_size for file in (place / ".git").rglob("*") if file.is_file())


def exponent(rows: list[Row], value: str) -> float:
    """The slope of the logarithms over the last two lengths: 0 is flat, 1 grows with the events."""
    first, last = rows[-2], rows[-1]
    ratio = max(getattr(last, value), 1e-9) / max(getattr(first, value), 1e-9)
    return math.log(ratio) / math.log(last.events / first.events)


def page(found: dict[str, list[Row]], faults: str) -> str:
    """The text of docs/ledger.md."""
    text = [INTRODUCTION.strip()]
    for kind, rows in found.items():
        text += ["", f"## {kind}", "", HEAD, "|--:|--:|--:|--:|--:|--:|--:|--:|--:|"]
        for row in rows:
            seconds = " | ".join(f"{getattr(row, name):.2f}" for name in ("read", "append", "promote", "whole"))
            text.append(
                f"| {row.events:,} | {row.processes} | {seconds} | {row.stored:.0f} | {row.fetched:,} | {row.clone:,} |"
            )
        slopes = ", ".join(f"{name} {exponent(rows, name):.2f}" for name in ("read", "append", "promote", "whole"))
        text += ["", f"Exponents over the last two rows: {slopes}."]
    return "\n".join([*text, "", FAULTS.strip(), "", faults.strip(), ""])


HEAD = "| events | processes | read, s | append, s | promote, s | verify all, s | bytes an event | fetched | clone |"
INTRODUCTION = """
# What the ledger costs, and what it survives

Written by `make bench-ledger`: a remote on this machine, through git's own protocol. Seconds are of one noisy machine
with two cores; processes and bytes are exact.

- *processes*: of a read that finds new events; *read*: a read that finds everything verified
- *append*: writes one event; *promote*: reads, and writes `accepted` and `live` with a model's bytes
- *verify all*: the first read of a clone
- *fetched*: bytes of the pack after one new event; *clone*: bytes that the ledger adds to a clone of main alone
"""
FAULTS = """
## Faults

Written by `make bench-faults`: real processes against a bare remote. After each round `make fsck` must find nothing,
nothing that was reported may be lost, nothing may be written twice, and the next run must succeed.
"""


def main(lengths: list[int], write: bool) -> None:
    found: dict[str, list[Row]] = {"Plain": [], "Signed": []}
    for kind, rows in found.items():
        for length in lengths:
            with tempfile.TemporaryDirectory() as folder:
                rows.append(measure(Path(folder), length, kind == "Signed"))
            print(kind.lower(), rows[-1], f"beyond: {rows[-1].beyond}", flush=True)
    if write:
        target = ROOT / "docs" / "ledger.md"
        before = target.read_text(encoding="utf-8") if target.exists() else ""
        faults = before.rpartition("next run must succeed.\n")[2]
        target.write_text(page(found, faults), encoding="utf-8")
    sys.exit(any(row.beyond for rows in found.values() for row in rows))


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or list(LENGTHS), write=not sys.argv[1:])
