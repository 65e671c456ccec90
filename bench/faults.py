"""What the ledger survives: real processes that race, are killed at random, meet a full disk or a bad server.

    make bench-faults                      # about a quarter of an hour; its table is in docs/ledger.md
    .venv/bin/python bench/faults.py 0.1   # a tenth of the rounds

Each process promotes a bundle of its own through the package's own code, against a bare git remote. After each round
the ledger is read again, and nothing may be lost, doubled or half-written. Prints a table; exits with 1 if there was.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from product import bake
from servers import Proxy, git_that, losing, served

from conveyor.core.errors import Misuse
from conveyor.core.params import Gate
from conveyor.core.project import Project
from conveyor.gate.decide import decide
from conveyor.ledger import fsck
from conveyor.ledger.ledger import ledger_of

ROOT_MAY = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
# Exits with 0: done, 3: others were faster each time, 2: refused in one line.
ACT = """
import random, sys
from pathlib import Path
from conveyor.core.errors import Misuse, Refused
from conveyor.core.git import GitError
from conveyor.core.project import Project
from conveyor.deploy import rollback
from conveyor.ledger.ledger import ledger_of
verb, root, reason = sys.argv[1:]
try:
    project = Project(Path(root), push=True)
    numbers = [event.number for event in ledger_of(project).events]
    given = {"rollback": (None, reason), "prune": (3,), "quarantine": (random.choice(numbers), reason)}[verb]
    print(getattr(rollback, verb)(project, *given))
except (Misuse, Refused, GitError) as refused:
    sys.exit(f"refused: {refused}")
"""
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

READ = """
import sys
from pathlib import Path
from conveyor.core.project import Project
from conveyor.ledger.ledger import Ledger
root, stop = map(Path, sys.argv[1:])
last = reads = 0
while not stop.exists():
    number = Ledger(Project(root)).number
    if number < last:
        sys.exit(f"{number} events after {last}")
    last, reads = number, reads + 1
print(reads)
"""
# A hook of git that kills the writer, and git itself, at one change of references: before they are written, or after.
KILL = """#!/bin/sh
[ "$1" = aborted ] && exit 0
echo x >> '{folder}/changes'
[ "$(wc -l < '{folder}/changes')" = "$(cat '{folder}/kill')" ] || exit 0
kill -9 $(ps -o ppid= -p $PPID) $PPID
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

    def start(self, root: Path, name: str, attempts: int = 50, **env: str) -> subprocess.Popen[bytes]:
        return self.run(PROMOTE, str(root), str(self.bundle(name)), str(attempts), **env)

    def act(self, verb: str, root: Path, reason: str, **env: str) -> subprocess.Popen[bytes]:
        return self.run(ACT, verb, str(root), reason, **env)

    def run(self, *words: str, **env: str) -> subprocess.Popen[bytes]:
        # What others have deployed on this machine is not rolled back here.
        nobody = {"DEPLOY_NAME": "deployed-by-nobody"}
        env = {**os.environ, "PYTHONPATH": str(self.root / "src"), **nobody, **env}
        pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE}
        return subprocess.Popen([sys.executable, "-c", *words], env=env, start_new_session=True, **pipes)

    def ledger(self):
        return ledger_of(Project(self.root, push=True))

    def sound(self, promoted: set[str]) -> list[str]:
        """What is wrong with the ledger at origin, given the names that were reported as promoted."""
        try:
            ledger = self.ledger()  # reading it checks events, champion.json and witnesses
        except Misuse as damaged:
            return [str(damaged)]
        wrong = [] if ledger.pending() is None else ["a model is left on its way"]
        # What a stopped writer left is no damage: the next event finishes it.
        wrong += [d.line for d in fsck.damages(ledger.project)[1] if d.mend != fsck.FINISH]
        lived = [event for event in ledger.events if event.type == "live"]
        accepted = [event.key for event in ledger.events if event.type == "accepted"]
        wrong += [f"{name} is lost" for name in promoted if sha256(name.encode()).hexdigest() not in accepted]
        wrong += [f"{key[:12]} was accepted twice" for key in set(accepted) if accepted.count(key) > 1]
        for event in lived[-3:]:
            if stored := ledger.stored(event.key):
                ledger.models.extract(stored, self.folder / "extracted")  # the bytes are there and right
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
                # Both events can be at origin when there is no room left to read them back.
                row.wrong += [] if before <= ledger.number <= before + 2 else [f"round {turn}: {ledger.number} events"]
                again = place.start(root, f"full-{turn}")
                row.wrong += [f"round {turn}: {again.communicate()[1].decode()[-200:]}"] if again.wait() else []
            row.wrong += place.sound({f"full-{turn}"})
            row.rounds += 1
        row.note = f"{held} runs could not write, and the next one did"
    finally:
        subprocess.run([*ROOT_MAY, "umount", str(disk)], check=True)
    return row


def refs_of(bare: Path) -> dict[str, str]:
    words = ["git", "for-each-ref", "--format=%(refname) %(objectname)"]
    listed = subprocess.run(words, cwd=bare, check=True, capture_output=True, text=True).stdout
    return dict(line.split() for line in listed.splitlines())


def torn(folder: Path) -> Row:
    """A server that stops between two references of a push: every proper subset of what each push changed."""
    row, place = Row("server stopped between the references of a push"), Place(folder)
    bare = folder / "remote.git"
    for name in ("first", "second", "third", "fourth"):
        place.start(place.root, name).communicate()
    steps = {
        "promote": lambda: place.start(place.root, "fifth"),
        "rollback": lambda: place.act("rollback", place.root, "it is slow"),
        "prune": lambda: place.act("prune", place.root, "old"),
    }
    for verb, begin in steps.items():
        # The states of the remote between the pushes of a verb, seen by a hook after each of them.
        kept = folder / f"states-{verb}"
        kept.mkdir()
        hook = bare / "hooks/post-receive"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ngit for-each-ref --format='%(refname) %(objectname)' > {kept}/$(date +%s%N)\n")
        hook.chmod(0o755)
        before = refs_of(bare)
        begin().communicate()
        hook.unlink()
        after = refs_of(bare)
        states = [before, *(dict(map(str.split, f.read_text().splitlines())) for f in sorted(kept.iterdir()))]
        for old, new in itertools.pairwise(states):
            changed = sorted(ref for ref in {*old, *new} if old.get(ref) != new.get(ref))
            for size in range(1, len(changed)):
                for written in itertools.combinations(changed, size):
                    state = {**old, **{ref: new[ref] for ref in written if ref in new}}
                    for gone in (ref for ref in written if ref not in new):
                        state.pop(gone, None)
                    row.wrong += [
                        f"{verb}, {', '.join(written)}: {line}" for line in resumed(place, bare, state, begin)
                    ]
                    row.rounds += 1
        put(bare, after)
        forget(place.root)
    row.note = "promote, rollback, prune"
    return row


def put(bare: Path, refs: dict[str, str]) -> None:
    lines = [f"delete {ref}" for ref in refs_of(bare) if ref not in refs] + [
        f"update {r} {at}" for r, at in refs.items()
    ]
    subprocess.run(["git", "update-ref", "--stdin"], cwd=bare, check=True, input="\n".join(lines).encode() + b"\n")


def forget(root: Path) -> None:
    """A clone that has not read the ledger yet: what was read of another state would be called rewritten."""
    put(root, {ref: at for ref, at in refs_of(root).items() if not ref.startswith("refs/conveyor/")})


def resumed(place: Place, bare: Path, state: dict[str, str], begin: Callable[[], subprocess.Popen[bytes]]) -> list[str]:
    """What is wrong when the remote is in this state and the verb is run again; a fresh clone reads it."""
    put(bare, state)
    forget(place.root)
    clone = place.folder / "reader"
    shutil.rmtree(clone, ignore_errors=True)
    place.git("clone", "--quiet", f"file://{bare}", str(clone))
    try:
        ledger_of(Project(clone))
    except Misuse as damaged:
        return [f"cannot be read: {damaged}"]
    process = begin()
    told = process.communicate()[1].decode()[-300:]
    wrong = place.sound(set())
    return wrong + ([] if process.returncode in (0, 1) and "Traceback" not in told else [told])


def lost(folder: Path, rounds: int) -> Row:
    """Pushes that are not sent, and pushes whose answer is lost: who got no answer asks again."""
    row, place = Row("a third of the pushes gets no answer"), Place(folder)
    for name in ("first", "second"):
        place.start(place.root, name).communicate()
    bad = git_that(folder / "bin", losing(0.33))
    unanswered = 0
    for turn in range(rounds):
        for verb in ("promote", "rollback"):
            before = place.ledger()
            for _ in range(20):
                process = (
                    place.start(place.root, f"lost-{turn}", **bad)
                    if verb == "promote"
                    else place.act("rollback", place.root, f"reason {turn}", **bad)
                )
                told = process.communicate()[1].decode()
                if process.returncode == 0:
                    break
                unanswered += 1
                if "Traceback" in told and "Misuse" not in told:
                    row.wrong.append(f"round {turn}, {verb}: {told[-300:]}")
            else:
                row.wrong.append(f"round {turn}: {verb} was never done")
            ledger = place.ledger()
            new = [event.type for event in ledger.events[before.number :]]
            right = {"promote": ["accepted", "live"], "rollback": ["rolled_back", "live"]}[verb]
            row.wrong += [] if new == right else [f"round {turn}: {verb} wrote {new}"]
            row.rounds += 1
        row.wrong += place.sound(set())
    row.note = f"asked {unanswered} times more"
    return row


def flaky(folder: Path, rounds: int) -> Row:
    """A proxy before git's server that cuts one of seven connections."""
    row, place = Row("a proxy cuts one of seven connections"), Place(folder)
    with served(folder, folder / "remote.git") as port:
        place.git("remote", "set-url", "origin", f"git://127.0.0.1:{port}/remote.git")
        for name in ("first", "second"):
            place.start(place.root, name).communicate()
        proxy = Proxy(port, 0.15, seed=7)
        proxy.start()
        for turn in range(rounds):
            place.git("remote", "set-url", "origin", f"git://127.0.0.1:{proxy.port}/remote.git")
            for _ in range(40):
                process = place.start(place.root, f"flaky-{turn}")
                told = process.communicate()[1].decode()
                if process.returncode == 0:
                    break
                if "Traceback" in told and "conveyor.core.errors.Misuse" not in told:
                    row.wrong.append(f"round {turn}: {told[-300:]}")
            place.git("remote", "set-url", "origin", f"git://127.0.0.1:{port}/remote.git")
            row.wrong += place.sound({f"flaky-{turn}"})
            row.rounds += 1
        proxy.close()
    row.note = f"{proxy.cut} connections were cut"
    return row


def simple_server(folder: Path, rounds: int) -> Row:
    """A server without atomic pushes, which also refuses every fourth reference at random."""
    row, place = Row("no atomic pushes, a fourth of the references refused"), Place(folder)
    bare = folder / "remote.git"
    subprocess.run(["git", "config", "receive.advertiseAtomic", "false"], cwd=bare, check=True)
    for name in ("first", "second"):
        place.start(place.root, name).communicate()
    hook = bare / "hooks/update"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/bash\n[ $((RANDOM % 4)) != 0 ]\n")
    hook.chmod(0o755)
    refused = 0
    for turn in range(rounds):
        for _ in range(40):
            process = place.start(place.root, f"simple-{turn}")
            told = process.communicate()[1].decode()
            if process.returncode == 0:
                break
            refused += 1
            if "Traceback" in told and "conveyor.core.errors.Misuse" not in told:
                row.wrong.append(f"round {turn}: {told[-300:]}")
        row.wrong += place.sound({f"simple-{turn}"})
        row.rounds += 1
    row.note = f"{refused} runs were refused, and the next one did"
    return row


def hidden(folder: Path, rounds: int) -> Row:
    """A server that hides the bytes of models: there is never a champion without them."""
    row, place = Row("refs/models hidden"), Place(folder)
    place.start(place.root, "first").communicate()
    subprocess.run(["git", "config", "uploadpack.hideRefs", "refs/models"], cwd=folder / "remote.git", check=True)
    for turn in range(rounds):
        process = place.start(place.root, f"hidden-{turn}")
        told = process.communicate()[1].decode()
        row.wrong += [] if process.returncode and "does not show" in told else [f"round {turn}: {told[-300:]}"]
        lived = [event.number for event in place.ledger().lived]
        row.wrong += [] if lived == [2] else [f"round {turn}: champions {lived}"]
        row.rounds += 1
    row.note = "refused in one line"
    return row


def chaos(folder: Path, rounds: int) -> Row:
    """Four processes do anything at once; some are killed, some are stopped for a while."""
    row, place, chance = Row("four processes do anything, kill -9 and stop at random"), Place(folder), random.Random(4)
    clones = [place.clone(f"clone-{number}") for number in range(4)]
    for name in ("first", "second"):
        place.start(place.root, name).communicate()
    last, cut = place.ledger().number, 0
    for turn in range(rounds):
        running, names = [], set()
        for number, root in enumerate(clones):
            verb = chance.choice(("promote", "promote", "rollback", "prune", "quarantine"))
            name = f"chaos-{turn}-{number}"
            started = place.start(root, name) if verb == "promote" else place.act(verb, root, name)
            running.append((verb, name, started))
        for verb, name, process in running:
            harm = chance.random()
            if harm < 0.25:
                time.sleep(chance.uniform(0.1, 1.2))
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                cut += 1
            elif harm < 0.4:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGSTOP)
                    time.sleep(0.5)
                    os.killpg(process.pid, signal.SIGCONT)
            told = process.communicate(timeout=300)[1].decode()
            if verb == "promote" and process.returncode == 0:
                names.add(name)
            if process.returncode not in (0, 1, 3, -9) or ("Traceback" in told and "Misuse" not in told):
                row.wrong.append(f"round {turn}: {verb} {process.returncode} {told[-300:]}")
        again = place.start(place.root, f"chaos-{turn}-end")
        row.wrong += [] if again.wait() == 0 else [f"round {turn}: {again.communicate()[1].decode()[-300:]}"]
        ledger = place.ledger()
        row.wrong += [f"round {turn}: events were lost"] if ledger.number < last else []
        row.wrong += place.sound(names)
        last = ledger.number
        row.rounds += 1
    row.note = f"{last} events, {cut} were killed"
    return row


def alone(folder: Path, seconds: float) -> Row:
    """A ledger without a remote: three readers all the time, and a writer that is killed at each change of refs."""
    row, place = Row("no remote, three readers, the writer killed at each change of references"), Place(folder)
    place.git("remote", "remove", "origin")
    for name in ("first", "second", "third"):
        place.start(place.root, name).communicate()
    stop, changes = folder / "stop", folder / "changes"
    hook = place.root / ".git/hooks/reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    readers = [place.run(READ, str(place.root), str(stop)) for _ in range(3)]
    end, cut, promoted = time.monotonic() + seconds, 0, set()
    for turn in itertools.count():
        verb, name = ("promote", "promote", "rollback", "prune")[turn % 4], f"alone-{turn}"
        if time.monotonic() > end:
            break
        for point in itertools.count(1):
            (folder / "kill").write_text(str(point))
            changes.unlink(missing_ok=True)
            hook.write_text(KILL.format(folder=folder))
            hook.chmod(0o755)
            process = place.start(place.root, name) if verb == "promote" else place.act(verb, place.root, name)
            told = process.communicate()[1].decode()[-300:]
            hook.unlink()
            for lock in (place.root / ".git").rglob("*.lock"):  # what git says then: delete it if no git is at work
                if lock.name != "conveyor-ledger.lock":
                    lock.unlink()
            row.rounds += 1
            if process.returncode != -signal.SIGKILL:
                row.wrong += [f"{name}, {verb}: {told}"] if process.returncode else []
                break
            cut += 1
            try:
                place.ledger()
            except Misuse as damaged:
                row.wrong.append(f"{name}, {verb}, change {point}: {damaged}")
        promoted |= {name} if verb == "promote" else set()
        row.wrong += place.sound(promoted)
    stop.touch()
    for reader in readers:
        said, told = reader.communicate()
        row.wrong += [told.decode()[-300:]] if reader.returncode else []
        row.wrong += [] if reader.returncode or int(said) > 3 else ["a reader read nothing"]
    row.note = f"{place.ledger().number} events, {cut} were killed"
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
            "torn": torn,
            "lost": lambda f: lost(f, rounds(20)),
            "simple": lambda f: simple_server(f, rounds(20)),
            "hidden": lambda f: hidden(f, rounds(5)),
            "flaky": lambda f: flaky(f, rounds(20)),
            "chaos": lambda f: chaos(f, rounds(40)),
            "alone": lambda f: alone(f, 60 * part),
            "rows": lambda f: big_holdout(),
        }.items():
            place = Path(folder) / name
            place.mkdir()
            rows.append(run(place))
            print(
                f"{rows[-1].fault}: {rows[-1].rounds} rounds, {len(rows[-1].wrong)} wrong", file=sys.stderr, flush=True
            )
    lines = ["| fault | rounds | wrong | |", "|---|--:|--:|---|"]
    lines += [f"| {row.fault} | {row.rounds} | {len(row.wrong)} | {row.note} |" for row in rows]
    print("\n".join(lines))
    page = Path(__file__).parents[1] / "docs" / "ledger.md"
    if part == 1:
        before, mark, _ = page.read_text(encoding="utf-8").partition("next run must succeed.\n")
        page.write_text("\n".join([before + mark, *lines, ""]), encoding="utf-8")
    for row in rows:
        for line in row.wrong:
            print(f"{row.fault}: {line}", file=sys.stderr)
    sys.exit(any(row.wrong for row in rows))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)
