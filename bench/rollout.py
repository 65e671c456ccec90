"""What clients see of rollouts: requests sent, lost and answered wrongly, on a real engine, whatever goes wrong.

    make bench-rollout                       # a quarter of an hour; writes docs/rollout.md
    .venv/bin/python bench/rollout.py short  # minutes, with fewer rollouts and requests, and no page

A generated repository, two models that were champion, their images, and a load of at least 200 requests a second on
the edge, each with a body and an answer of its own, beside a hostile caller. Every rollout is a command of that
repository. The engine is one of its own, in a network of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import host as hosts
from hostile import hostile
from load import Load, shares
from product import ROOT, bake
from questions import questions

PLACE = ROOT / "build" / "bench"
OUT = PLACE / "rollout.json"
PORT = 18080
EDGE = "caddy:2.11.7-alpine"
STANDINS = ROOT / "tests" / "standins"
# What is wrong with an image, the phase in which it is deployed, and a value: see tests/standins/replica/variant.py.
BAD = {
    "sick": ("never healthy", "0"),
    "wrong": ("wrong answers", "0"),
    "golden-only": ("right on golden rows only", "0"),
    "empty": ("empty answers but on golden rows", "0"),
    "slow": ("slow", "0.15"),
    "crash": ("crashes later", "{crash_after}"),
}

# The line of params.yaml that is another one while an image is deployed.
EDITS = {
    "slow": ("max_seconds: 5.0 ", "max_seconds: 0.1 "),
    "crash": ("watch_seconds: {0.watch} ", "watch_seconds: {0.crash_watch} "),
    "sick": ("ready_seconds: 60.0 ", "ready_seconds: 8.0 "),
}


@dataclass(frozen=True)
class Size:
    """How long a run is, and how many requests a second it sends; the hostile caller sends so many shapes a second."""

    rate: float
    hostile: float
    control: float
    good: int
    watch: float
    crash_after: float
    crash_watch: float
    bad: tuple[str, ...]  # the bad images that come while both releases serve


FULL = Size(300.0, 2.0, 20.0, 10, 5.0, 25.0, 45.0, ("wrong", "golden-only", "empty", "slow", "crash", "sick"))
SHORT = Size(60.0, 2.0, 8.0, 2, 4.0, 6.0, 12.0, ("golden-only", "crash"))  # tests/test_rollout.py has each of them


class Repository:
    """The generated repository, with commands that show what they say."""

    def __init__(self, path: Path, variables: dict[str, str]) -> None:
        self.path = path
        foreign = ("GIT_", "GITHUB_", "MLFLOW_", "DOCKER_", "MAKE", "MFLAGS")
        self.variables = {k: v for k, v in os.environ.items() if not k.startswith(foreign)} | {
            "PYTHONPATH": "src",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
            "GX_ANALYTICS_ENABLED": "false",
            **variables,
        }

    def start(self, *words: str) -> subprocess.Popen:
        """A command of the package."""
        return subprocess.Popen(
            [sys.executable, "-m", "conveyor", *words],
            cwd=self.path,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *words: str, code: int = 0) -> str:
        """A command that must end with an exit code; its last line."""
        command = self.start(*words)
        said = command.communicate()[0]
        if command.returncode != code:
            raise SystemExit(f"error: {' '.join(words)} ended with {command.returncode}, not {code}:\n{said}")
        return said.strip().splitlines()[-1]

    def git(self, *words: str) -> None:
        who = ["-c", "user.name=Bench", "-c", "user.email=bench@example.com", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *who, *words], cwd=self.path, env=self.variables, check=True, capture_output=True)

    def replace(self, old: str, new: str) -> None:
        """Edit params.yaml and commit that."""
        file = self.path / "params.yaml"
        text = file.read_text()
        if old not in text:
            raise SystemExit(f"error: params.yaml holds no {old!r}")
        file.write_text(text.replace(old, new))
        self.git("commit", "--quiet", "--all", "--message", f"{old} -> {new}")

    def json(self, name: str) -> dict:
        return json.loads((self.path / "build" / name).read_text())

    def events(self) -> list[dict]:
        done = subprocess.run(
            [sys.executable, "-m", "conveyor", "history", "--json"],
            cwd=self.path,
            env=self.variables,
            capture_output=True,
        )
        return json.loads(done.stdout)


def prepare() -> tuple[Repository, dict[str, dict], dict[str, str]]:
    """Two champions with their images, and bad images of the second one; made with the engine of this machine.

    Returns:
        The repository; image.json of each model, by name; the bad images, by fault.
    """
    path = PLACE / "rollout"
    for old in (path, PLACE / "baked"):  # one baked over another would be full of changes
        shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(bake(PLACE / "baked"), path, symlinks=True)
    repository = Repository(path, {})
    dockerfile = (path / "container" / "base.Dockerfile").read_text()
    base = next(line.split()[1] for line in dockerfile.splitlines() if line.startswith("FROM "))
    run([sys.executable, str(STANDINS / "images.py"), base, EDGE])
    models = {}
    for name in ("first", "second"):
        if name == "second":
            repository.replace("degree: 1 ", "degree: 2 ")  # which is shown to be better
        print(f"prepare   model {name}: pipeline and image")
        repository.run("pipeline")
        repository.run("image")
        if name == "first":
            shutil.rmtree(PLACE / "rollout-first", ignore_errors=True)
            shutil.copytree(path, PLACE / "rollout-first", symlinks=True)
        models[name] = repository.json("image.json")
        # An id is lost on the way to another engine's store only if nothing names it.
        run(["docker", "tag", models[name]["reference"], f"bench-rollout:{name}"])
    bad = {}
    for fault in size().bad:
        value = BAD[fault][1]
        words = ["--build-arg", f"GOOD={models['second']['reference']}", "--tag", f"bench-rollout:{fault}"]
        words += ["--build-arg", f"FAULT={fault} {value.format(crash_after=size().crash_after)}"]
        run(["docker", "build", "--quiet", *words, str(STANDINS / "replica")])
        told = run(["docker", "image", "inspect", "--format", "{{.Id}}", f"bench-rollout:{fault}"])
        bad[fault] = told.strip()
    return repository, models, bad


def run(words: list[str]) -> str:
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"error: {' '.join(words[:4])}: {done.stderr.strip()}")
    return done.stdout


def size() -> Size:
    return SHORT if "short" in sys.argv[1:] else FULL


def play(repository: Repository, models: dict[str, dict], bad: dict[str, str], own: hosts.Host) -> dict:
    """All phases under load; returns what became of each."""
    now = size()
    repository.variables |= {"DOCKER_HOST": own.address, "DEPLOY_PORT": str(PORT)}
    begun = Repository(PLACE / "rollout-first", repository.variables)  # as it was with its first champion
    for each in (begun, repository):
        each.replace("watch_seconds: 90.0 ", f"watch_seconds: {now.watch} ")
        each.replace("max_seconds: 0.5 ", "max_seconds: 5.0 ")  # a busy machine is not what is measured
    lived = {e["key"]: e["number"] for e in repository.events() if e["type"] == "live"}
    first, second = models["first"], models["second"]
    serves = second
    asked = questions([each.path / "build" / "candidate" for each in (begun, repository)])
    notes: dict[str, str] = {}

    def image(reference: str) -> None:
        (repository.path / "build" / "image.json").write_text(json.dumps({**second, "reference": reference}))

    def note(load: Load, text: str) -> None:
        notes[load.phase] = text
        print(f"{load.phase:<34} {text[:120]}")

    def roll(load: Load, phase: str) -> None:
        """Back to the other model, as a person would."""
        nonlocal serves
        load.phase, serves = phase, first if serves is second else second
        note(load, repository.run("rollback", "--to", str(lived[serves["key"]]), "--because", phase))

    def control(load: Load, phase: str) -> None:
        load.phase = phase
        time.sleep(now.control)
        note(load, "no rollout")

    def deploy(load: Load, fault: str) -> None:
        """A bad image, which must be refused."""
        load.phase = BAD[fault][0]
        image(bad[fault])
        note(load, repository.run("deploy", code=1))

    print(begun.run("deploy"))
    image(second["reference"])
    print(repository.run("deploy"))
    with Load(PORT, asked, now.rate) as load, hostile(PORT, now.hostile) as came:
        time.sleep(2)
        control(load, "control 1")
        for number in range(1, now.good + 1):
            roll(load, f"good rollout {number}")
        if serves is first:  # the bad images are of the second model
            roll(load, "good rollout, once more")
        control(load, "control 2")
        for fault in now.bad:
            edit = [text.format(now) for text in EDITS.get(fault, ())]
            if edit:
                repository.replace(*edit)
            deploy(load, fault)
            if edit:
                repository.replace(*reversed(edit))
        repository.replace(f"watch_seconds: {now.watch} ", f"watch_seconds: {now.watch + 3} ")
        load.phase = "deployer killed"
        killed = repository.start("rollback", "--to", str(lived[first["key"]]), "--because", "to be killed")
        for line in killed.stdout:
            if "in the rotation" in line:
                time.sleep(1)
                killed.send_signal(signal.SIGKILL)
        if killed.wait() != -signal.SIGKILL:
            raise SystemExit(f"error: the roll-back ended with {killed.returncode} before it could be killed")
        note(load, "kill -9 while both releases served")
        load.phase = "finished by the next"
        note(load, repository.run("rollback", "--because", "go on"))
        load.phase = "engine restarted"
        own.stop()
        own.start()
        note(load, f"everything was away until {back(load):.1f} s after the engine was told to stop")
        load.phase = "after it"
        time.sleep(3)
    served = repository.events()[-1]
    return {
        "rows": [{**load.row(phase), "note": notes.get(phase, "")} for phase in load.counts],
        "quiet": together(load, "control"),
        "rollouts": together(load, "good rollout"),
        "losses": load.losses[:20],
        "last": {name: served[name] for name in ("type", "key")},
        "rate": now.rate,
        "hostile": came,
    }


def together(load: Load, name: str) -> dict[str, float]:
    """p50, p99 and max of all phases whose name begins so."""
    return shares([took for phase in load.seconds if phase.startswith(name) for took in load.seconds[phase]])


def back(load: Load) -> float:
    """Seconds until requests are answered again."""
    began, before = time.monotonic(), len(load.seconds.get(load.phase, []))
    while time.monotonic() - began < 60:
        time.sleep(0.1)
        if len(load.seconds.get(load.phase, [])) > before:
            return time.monotonic() - began
    raise SystemExit("error: nothing is answered a minute after the engine was restarted")


def table(found: dict) -> str:
    quiet, rollouts, sent = found["quiet"], found["rollouts"], sum(row["sent"] for row in found["rows"])
    attacks = sum(sum(counts.values()) for counts in found["hostile"].values())
    lines = [
        f"{found['rate']:.0f} requests a second, {sent} in all, beside {attacks} of the hostile caller. p50, p99 and"
        " max are milliseconds until the answer.",
        "",
        f"p99 in the good rollouts is {rollouts['p99'] / quiet['p99']:.1f} x that of the control phases. The longest"
        f" answer took {1000 * rollouts['max']:.0f} ms there and {1000 * quiet['max']:.0f} ms in the control phases.",
        "",
        "| phase | sent | lost | wrong | p50 | p99 | max |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in found["rows"]:
        counts = " | ".join(str(row[name]) for name in ("sent", "lost", "wrong"))
        shares = " | ".join(f"{1000 * row[name]:.0f}" for name in ("p50", "p99", "max"))
        lines.append(f"| {row['phase']} | {counts} | {shares} |")
    return "\n".join(lines)


def main() -> None:
    sys.stdout.reconfigure(line_buffering=True)
    prepared = PLACE / "rollout-prepared.json"
    if hosts.INSIDE not in os.environ:
        repository, models, bad = prepare()
        prepared.write_text(json.dumps({"models": models, "bad": bad}))
        hosts.inside()
    hosts.inside()
    given = json.loads(prepared.read_text())
    with hosts.host() as own:
        print("prepare   the images go to an engine of their own")
        names = ("first", "second", *size().bad)
        own.take(EDGE, *(f"bench-rollout:{name}" for name in names))
        found = play(Repository(PLACE / "rollout", {}), given["models"], given["bad"], own)
    OUT.write_text(json.dumps(found, indent=2) + "\n")
    print("\n" + table(found))
    kept = [row for row in found["rows"] if row["phase"] != "engine restarted"]
    failed = sum(row["lost"] + row["wrong"] for row in kept)
    print(f"\n{failed} lost or wrong besides the engine's restart, of {sum(row['sent'] for row in kept)}")
    if failed:
        print("\n".join(map(str, found["losses"])))
        raise SystemExit(1)
    if "short" not in sys.argv[1:]:
        write(found)


def write(found: dict) -> None:
    """docs/rollout.md."""
    text = (ROOT / "docs" / "rollout.md").read_text() if (ROOT / "docs" / "rollout.md").is_file() else ""
    begin, end = "<!-- measured -->\n", "<!-- end -->\n"
    head, tail = (text.split(begin)[0], text.split(end)[1]) if begin in text else (text, "")
    (ROOT / "docs" / "rollout.md").write_text(f"{head}{begin}\n{table(found)}\n\n{end}{tail}")


if __name__ == "__main__":
    main()
