"""What clients see of rollouts: requests sent, lost and answered wrongly, on a real engine, whatever goes wrong.

    make bench-rollout                       # a quarter of an hour; writes docs/rollout.md
    .venv/bin/python bench/rollout.py short  # minutes, with fewer rollouts and requests, and no page

A generated repository, two models that were champion, their images, and a load of at least 200 requests a second on
the edge. Every rollout is a command of that repository. The engine is one of its own, in a network of its own.
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
from load import Load
from product import ROOT, bake

PACKAGE = "late_flights"
PLACE = ROOT / "build" / "bench"
OUT = PLACE / "rollout.json"
PORT = 18080
EDGE = "caddy:2.11.7-alpine"
STANDINS = ROOT / "tests" / "standins"


@dataclass(frozen=True)
class Size:
    """How long a run is, and how many requests a second it sends."""

    rate: float
    good: int
    watch: float
    crash_after: float
    crash_watch: float


FULL = Size(rate=220.0, good=10, watch=5.0, crash_after=60.0, crash_watch=90.0)
SHORT = Size(rate=30.0, good=2, watch=4.0, crash_after=6.0, crash_watch=12.0)


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
            [sys.executable, "-m", PACKAGE, *words],
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
            [sys.executable, "-m", PACKAGE, "history", "--json"], cwd=self.path, env=self.variables, capture_output=True
        )
        return json.loads(done.stdout)


def prepare() -> tuple[Repository, dict[str, dict], dict[str, str]]:
    """Two champions with their images, and bad images of the second one; made with the engine of this machine.

    Returns:
        The repository; image.json, golden rows and answers of each model, by name; the bad images, by fault.
    """
    path = PLACE / "rollout"
    for old in (path, PLACE / "baked"):  # one baked over another would be full of changes
        shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(bake(PLACE / "baked"), path, symlinks=True)
    repository = Repository(path, {})
    dockerfile = (path / "container" / "Dockerfile").read_text()
    base = next(line.split("=", 1)[1] for line in dockerfile.splitlines() if line.startswith("ARG BASE="))
    run([sys.executable, str(STANDINS / "images.py"), base, EDGE])
    models = {}
    for name, estimator in (("first", None), ("second", "forest")):
        if estimator:
            repository.replace("estimator: logistic ", f"estimator: {estimator} ")
        print(f"prepare   model {name}: pipeline and image")
        repository.run("pipeline")
        repository.run("image")
        golden = json.loads((path / "build" / "candidate" / "golden.json").read_text())
        if not estimator:
            shutil.rmtree(PLACE / "rollout-first", ignore_errors=True)
            shutil.copytree(path, PLACE / "rollout-first", symlinks=True)
        models[name] = {"image": repository.json("image.json"), **golden}
        # An id is lost on the way to another engine's store only if nothing names it.
        run(["docker", "tag", models[name]["image"]["reference"], f"bench-rollout:{name}"])
    bad = {}
    for fault, seconds in (("sick", 0.0), ("wrong", 0.0), ("crash", size().crash_after)):
        words = ["--build-arg", f"GOOD={models['second']['image']['reference']}"]
        words += ["--build-arg", f"FAULT={PACKAGE} {fault} {seconds}", "--tag", f"bench-rollout:{fault}"]
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
    """All phases under load; returns the counts of each."""
    now = size()
    repository.variables |= {"DOCKER_HOST": own.address, "DEPLOY_PORT": str(PORT)}
    repository.replace("watch_seconds: 90.0 ", f"watch_seconds: {now.watch} ")
    repository.replace("max_seconds: 0.5 ", "max_seconds: 5.0 ")  # a busy machine is not what is measured
    lived = {e["key"]: e["number"] for e in repository.events() if e["type"] == "live"}
    first, second = models["first"], models["second"]
    serves = {"key": second["image"]["key"]}

    def image(reference: str, of: dict) -> None:
        made = {**of["image"], "reference": reference}
        (repository.path / "build" / "image.json").write_text(json.dumps(made))

    begun = Repository(PLACE / "rollout-first", repository.variables)  # as it was with its first champion
    begun.replace("watch_seconds: 90.0 ", f"watch_seconds: {now.watch} ")
    begun.replace("max_seconds: 0.5 ", "max_seconds: 5.0 ")
    print(begun.run("deploy"))
    image(second["image"]["reference"], second)
    print(repository.run("deploy"))
    body = json.dumps({"rows": second["rows"]}).encode()
    answers = {model["image"]["key"]: model["answers"] for model in models.values()}
    # Both models have the same golden rows: the newest of the same data.
    if first["rows"] != second["rows"]:
        raise SystemExit("error: the golden rows of the two models differ")
    notes: dict[str, str] = {}

    def other() -> dict:
        return first if serves["key"] == second["image"]["key"] else second

    def roll(load: Load, phase: str) -> None:
        """Back to the other model, as a person would."""
        load.phase, to = phase, other()
        notes[phase] = repository.run("rollback", "--to", str(lived[to["image"]["key"]]), "--because", phase)
        serves["key"] = to["image"]["key"]
        print(f"{phase:<28} {notes[phase][:90]}")

    with Load(PORT, body, answers, now.rate) as load:
        time.sleep(2)
        for number in range(1, now.good + 1):
            roll(load, f"good rollout {number}")
        if serves["key"] != second["image"]["key"]:  # the bad images are of the second model
            roll(load, "good rollout, once more")
        for fault in ("sick", "wrong", "crash"):
            load.phase = {"sick": "never healthy", "wrong": "wrong answers", "crash": "crashes later"}[fault]
            if fault == "crash":
                repository.replace(f"watch_seconds: {now.watch} ", f"watch_seconds: {now.crash_watch} ")
            if fault == "sick":
                repository.replace("ready_seconds: 60.0 ", "ready_seconds: 8.0 ")
            image(bad[fault], second)
            notes[load.phase] = repository.run("deploy", code=1)
            print(f"{load.phase:<28} {notes[load.phase][:90]}")
        repository.replace(f"watch_seconds: {now.crash_watch} ", f"watch_seconds: {now.watch + 3} ")
        load.phase = "deployer killed"
        killed = repository.start("rollback", "--to", str(lived[first["image"]["key"]]), "--because", "to be killed")
        for line in killed.stdout:
            if "in the rotation" in line:
                time.sleep(1)
                killed.send_signal(signal.SIGKILL)
        killed.wait()
        notes[load.phase] = f"kill -9 while both releases served; exit code {killed.returncode}"
        print(f"{load.phase:<28} {notes[load.phase]}")
        load.phase = "finished by the next"
        notes[load.phase] = repository.run("rollback", "--because", "go on")
        serves["key"] = first["image"]["key"]
        print(f"{load.phase:<28} {notes[load.phase][:90]}")
        load.phase = "engine restarted"
        own.stop()
        own.start()
        came = back(load)
        notes[load.phase] = f"everything was away until {came:.1f} s after the engine was told to stop"
        load.phase = "after it"
        time.sleep(3)
    phases = [phase for phase in load.counts]
    rows = []
    for phase in phases:
        counts, took = load.counts[phase], sorted(load.seconds.get(phase, [0.0]))
        rows.append(
            {
                "phase": phase,
                "sent": counts["sent"],
                "lost": counts["lost"],
                "wrong": counts["wrong"],
                "p99": took[int(0.99 * len(took))],
                "note": notes.get(phase, ""),
            }
        )
    served = repository.events()[-1]
    return {"rows": rows, "losses": load.losses[:20], "last": {k: served[k] for k in ("type", "key")}, "rate": now.rate}


def back(load: Load) -> float:
    """Seconds until requests are answered again."""
    began, before = time.monotonic(), len(load.seconds.get(load.phase, []))
    while time.monotonic() - began < 60:
        time.sleep(0.1)
        if len(load.seconds.get(load.phase, [])) > before:
            return time.monotonic() - began
    raise SystemExit("error: nothing is answered a minute after the engine was restarted")


def table(found: dict) -> str:
    rate = f"{found['rate']:.0f} requests a second; the p99 is that of the time until the answer."
    lines = [rate, "", "| phase | sent | lost | wrong | p99 (ms) |", "|---|---:|---:|---:|---:|"]
    for row in found["rows"]:
        lines.append(f"| {row['phase']} | {row['sent']} | {row['lost']} | {row['wrong']} | {1000 * row['p99']:.0f} |")
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
        names = ("first", "second", *given["bad"])
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
