"""What the ledger survives: real processes that race, are killed at random, or meet a full disk.

    make bench-faults                      # a few minutes
    .venv/bin/python bench/faults.py 0.1   # a tenth of the rounds

Each process promotes a bundle of its own through the package's own code, against a bare git remote. After each round
the ledger is read again, and nothing may be lost, doubled or half-written. Prints a table; exits with 1 if there was.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from product import bake

from conveyor.core.params import Gate
from conveyor.core.project import Project
from conveyor.gate.decide import decide
from conveyor.ledger.ledger import ledger_of

ROOT_MAY = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
PROMOTE = """
import sys
from pathlib import Path
from conveyor.core.project import Project
from conveyor.ledger.events import Moved
from conveyor.ledger.ledger import ledger_of
from conveyor.model.bundle import Bundle

root, bundle, attempts = sys.argv[1:]
ledger, made = ledger_of(Project(Path(root), push=True)), Bundle(Path(bundle))
for _ in range(int(attempts)):
    try:
        ledger.settle()
        # Another writer may have settled what this one had accepted: `promote` finds that model in the ledger, too.
        if any(event.key == made.key for event in ledger.events):
            break
        ledger.live(ledger.accept(made, ledger.number, "promote", "it is better"))
        break
    except Moved:
        ledger.read()
else:
    sys.exit(3)
"""


@dataclass
class Row:
    """One line of the table."""

    fault: str
    rounds: int = 0
    wrong: list[str] = field(default_factory=list)
    note: str = ""


class Place:
    """A generated repository with a bare remote, and bundles to promote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "late-flights"
        shutil.copytree(bake(), self.root, symlinks=True)
        self.git("clone", "--quiet", "--bare", str(self.root), str(folder / "remote.git"))
        self.git("remote", "remove", "origin", check=False)
        self.git("remote", "add", "origin", str(folder / "remote.git"))

    def git(self, *words: str, check: bool = True) -> None:
        subprocess.run(["git", *words], cwd=self.root, check=check, capture_output=True)

    def clone(self, name: str) -> Path:
        self.git("clone", "--quiet", str(self.folder / "remote.git"), str(self.folder / name))
        return self.folder / name

    def bundle(self, name: str) -> Path:
        path = self.folder / "bundles" / name
        path.mkdir(parents=True, exist_ok=True)
        (path / "model.skops").write_bytes(random.Random(name).randbytes(200_000))
        (path / "lineage.json").write_text(json.dumps({"key": sha256(name.encode()).hexdigest()}))
        return path

    def start(self, root: Path, name: str, attempts: int = 50) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-c", PROMOTE, str(root), str(self.bundle(name)), str(attempts)]
        return subprocess.Popen(
            words,
            env={**os.environ, "PYTHONPATH": str(self.root / "src")},
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def ledger(self):
        return ledger_of(Project(self.root, push=True))

    def sound(self, promoted: set[str]) -> list[str]:
        """What is wrong with the ledger at origin, given the names that were reported as promoted."""
        ledger = self.ledger()  # reading it checks events, champion.json and witnesses
        wrong = [] if ledger.pending() is None else ["a model is left on its way"]
        lived = [event for event in ledger.events if event.type == "live"]
        accepted = [event.key for event in ledger.events if event.type == "accepted"]
        wrong += [f"{name} is lost" for name in promoted if sha256(name.encode()).hexdigest() not in accepted]
        wrong += [f"{key[:12]} was accepted twice" for key in set(accepted) if accepted.count(key) > 1]
        for event in lived[-3:]:
            ledger.store.extract(event.key, event.digest, self.folder / "extracted")  # the bytes are there and right
        return wrong


def race(folder: Path, rounds: int, writers: int) -> Row:
    """Several processes promote at once: each is in, one after another."""
    row, place = Row(f"{writers} processes promote at once"), Place(folder)
    clones = [place.clone(f"clone-{number}") for number in range(writers)]
    for turn in range(rounds):
        names = [f"race-{turn}-{number}" for number in range(writers)]
        running = [place.start(root, name) for root, name in zip(clones, names, strict=True)]
        for process in running:
            process.communicate(timeout=300)
        row.wrong += [f"round {turn}: a writer ended with {p.returncode}" for p in running if p.returncode]
        row.wrong += place.sound(set(names))
        row.rounds += 1
    row.note = f"{place.ledger().number} events"
    return row


def killed(folder: Path, rounds: int) -> Row:
    """kill -9 at a random moment of a promotion; the next run settles whatever was left."""
    row, place, chance = Row("kill -9 at a random moment, then run again"), Place(folder), random.Random(2013)
    began = time.monotonic()
    place.start(place.root, "first").communicate()
    whole, cut = time.monotonic() - began, 0
    for turn in range(rounds):
        process = place.start(place.root, f"killed-{turn}")
        # Most of the time goes into starting Python: aim at the rest of it.
        time.sleep(whole * chance.uniform(0.4, 1.1))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        cut += process.returncode == -signal.SIGKILL
        again = place.start(place.root, f"killed-{turn}")
        _, told = again.communicate()
        if again.returncode:
            row.wrong.append(f"round {turn}: {told.decode()[-200:]}")
        ledger = place.ledger()
        row.wrong += [f"round {turn}: a model is left on its way"] if ledger.pending() else []
        row.wrong += (
            [] if ledger.champion().key == sha256(f"killed-{turn}".encode()).hexdigest() else [f"{turn} is lost"]
        )
        row.rounds += 1
    row.note = f"{cut} were killed before they ended"
    return row


def full_disk(folder: Path, rounds: int) -> Row:
    """A file system that is full after a few kilobytes more each time, holding a clone that promotes."""
    row, place = Row("disk full"), Place(folder)
    place.start(place.root, "first").communicate()
    disk = folder / "disk"
    disk.mkdir()
    if subprocess.run([*ROOT_MAY, "mount", "-t", "tmpfs", "-o", "size=24m,mode=1777", "tmpfs", str(disk)]).returncode:
        row.wrong.append("no small file system can be mounted here; run this as root")
        return row
    try:
        root = place.clone("disk/clone")
        filler = disk / "filler"
        held = 0
        for turn in range(rounds):
            free = shutil.disk_usage(disk).free
            leave = int(400_000 * (turn + 1) / rounds)
            filler.write_bytes(b"\0" * max(0, free - leave))
            before = place.ledger().number
            process = place.start(root, f"full-{turn}")
            _, told = process.communicate()
            filler.unlink()
            ledger = place.ledger()
            if process.returncode:
                held += 1
                row.wrong += [] if ledger.number in (before, before + 1) else [f"round {turn}: {ledger.number} events"]
                again = place.start(root, f"full-{turn}")
                row.wrong += [f"round {turn}: {again.communicate()[1].decode()[-200:]}"] if again.wait() else []
            row.wrong += place.sound({f"full-{turn}"})
            row.rounds += 1
        row.note = f"{held} runs could not write, and the next one did"
    finally:
        subprocess.run([*ROOT_MAY, "umount", str(disk)], check=True)
    return row


def big_holdout() -> Row:
    """A million rows, every metric and every guard."""
    import resource

    import numpy as np
    import pandas as pd

    row = Row("holdout of a million rows")
    generator = np.random.default_rng(1)
    y = generator.integers(0, 2, 1_000_000)
    champion, challenger = (1 / (1 + np.exp(-(2 * y - 1 + generator.normal(0, s, len(y))))) for s in (2.0, 1.9))
    segments = pd.DataFrame({"segment": generator.integers(0, 5, len(y)).astype(str)})
    rule = Gate(metric="roc_auc", promote_when="superior", margin=0.0, confidence=0.95)
    began = time.monotonic()
    made = decide(y, champion, challenger, rule, segments=segments)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    row.rounds, row.note = 1, f"{time.monotonic() - began:.0f} s, {most:.0f} MB at most"
    row.wrong += [] if made.outcome == "promote" and len(made.guards) == 6 else [made.reason]
    row.wrong += [] if most < 2000 else [f"{most:.0f} MB"]
    return row


def main(part: float) -> None:
    def rounds(number: int) -> int:
        return max(2, int(number * part))

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, run in {
            "race": lambda f: race(f, rounds(20), 3),
            "killed": lambda f: killed(f, rounds(60)),
            "disk": lambda f: full_disk(f, rounds(30)),
            "rows": lambda f: big_holdout(),
        }.items():
            place = Path(folder) / name
            place.mkdir()
            rows.append(run(place))
            print(
                f"{rows[-1].fault}: {rows[-1].rounds} rounds, {len(rows[-1].wrong)} wrong", file=sys.stderr, flush=True
            )
    print("| fault | rounds | wrong | |\n|---|--:|--:|---|")
    for row in rows:
        print(f"| {row.fault} | {row.rounds} | {len(row.wrong)} | {row.note} |")
    for row in rows:
        for line in row.wrong:
            print(f"{row.fault}: {line}", file=sys.stderr)
    sys.exit(any(row.wrong for row in rows))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)
