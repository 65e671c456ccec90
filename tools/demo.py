"""Play the acts of a model's life on the sample data, in a repository generated with the default answers.

Every challenger comes from an edit of params.yaml or model.py, and the data are broken in their file: nothing is
injected behind the pipeline's back. The demo fails if an act ends otherwise than it should. A second run repeats
only what changed: acts that ended well before, on the same template, are not played again.

Where a Docker engine answers, the last champion is deployed then, asked for a prediction, and a bad image of it is
deployed, which must be rolled back by itself. The last act is about a model that is live while the world changes.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import demo_drift

ROOT = Path(__file__).resolve().parent.parent
STAGE = ROOT / "build" / "demo"
RECORD = STAGE / "acts.json"
REPORTS = STAGE / "reports"
MAKE_ENVIRONMENT = {
    name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "MAKE", "MFLAGS"))
}
PORT = 8080
EDGE = f"http://127.0.0.1:{PORT}"
STANDINS = ROOT / "tests" / "standins"
TEMPLATE = ["cookiecutter.json", "hooks", "<<cookiecutter.project>>", "tools/demo.py", "tools/demo_drift.py"]


@dataclass(frozen=True)
class Act:
    """One change to the repository and how the pipeline must answer it.

    Attributes:
        name: of the branch and of the report.
        story: what somebody did.
        change: edits the files of the repository.
        outcome: of the gate, or "refused" if the data never reach it.
        merged: whether the change stays on main.
    """

    name: str
    story: str
    change: Callable[[Path], None]
    outcome: str
    merged: bool


def replace(repo: Path, file: str, old: str, new: str) -> None:
    """Edit a file as a person would; the text to replace must stand there once."""
    path = next(repo.glob(file))
    text = path.read_text()
    if text.count(old) != 1:
        sys.exit(f"error: {file} of the generated repository holds {old!r} {text.count(old)} times, not once")
    path.write_text(text.replace(old, new))


def nothing(repo: Path) -> None:
    """The repository as it was generated."""


def forest(repo: Path) -> None:
    """It measures better, but by no more than chance may give on so few days."""
    replace(repo, "params.yaml", "estimator: logistic ", "estimator: forest   ")


def forgetful(repo: Path) -> None:
    """A colleague drops what tells most: the time of day."""
    replace(repo, "src/*/model.py", '"departure_minute", ', "")


def curves(repo: Path) -> None:
    replace(repo, "params.yaml", "degree: 1 ", "degree: 2 ")


def short_watch(repo: Path) -> None:
    """Nobody else sends requests here."""
    replace(repo, "params.yaml", "watch_seconds: 90.0 ", "watch_seconds: 8.0  ")


def broken_column(repo: Path) -> None:
    """An export went wrong: distances come in with a unit. The pin is renewed, as somebody in a hurry would do."""
    path = repo / "data" / "flights.csv.gz"
    header, *rows = gzip.decompress(path.read_bytes()).decode().splitlines()
    column = header.split(",").index("distance")
    cells = [row.split(",") for row in rows]
    broken = [",".join([*row[:column], row[column] + " mi", *row[column + 1 :]]) for row in cells]
    path.write_bytes(gzip.compress("\n".join([header, *broken, ""]).encode(), mtime=0))
    make(repo, "data-lock")


ACTS = (
    Act("first-champion", "the repository as generated: a logistic regression", nothing, "bootstrap", merged=True),
    Act("forest", "params.yaml: a random forest, which 37 days do not show to be better", forest, "keep", merged=False),
    Act("curves", "params.yaml: squares and products of the numbers", curves, "promote", merged=True),
    Act("forgetful", "model.py: forgets the time of day", forgetful, "block", merged=False),
    Act("broken-column", "data: a column of numbers arrives as text", broken_column, "refused", merged=False),
)


def make(repo: Path, *targets: str) -> int:
    """Run make in the generated repository, its output shown as it comes; returns the exit code."""
    words = ["make", "--no-print-directory", *targets]
    return subprocess.run(words, cwd=repo, env=MAKE_ENVIRONMENT, stderr=subprocess.STDOUT).returncode


def git(repo: Path, *words: str) -> str:
    identity = ["-c", "user.name=Demo", "-c", "user.email=demo@example.com", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *words], cwd=repo, env=MAKE_ENVIRONMENT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"error: git {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()


def fingerprint() -> str:
    """Digest of everything that the demo plays on."""
    files = sorted(
        f for name in TEMPLATE for f in ([ROOT / name] if (ROOT / name).is_file() else (ROOT / name).rglob("*"))
    )
    seen = hashlib.sha256()
    for file in files:
        if file.is_file() and "__pycache__" not in file.parts:
            seen.update(file.relative_to(ROOT).as_posix().encode() + b"\0" + file.read_bytes())
    return seen.hexdigest()


def stage() -> tuple[Path, dict]:
    """The generated repository and the record of the acts that were played in it."""
    record = json.loads(RECORD.read_text()) if RECORD.is_file() else {}
    if record.get("template") != fingerprint():
        shutil.rmtree(STAGE, ignore_errors=True)
        REPORTS.mkdir(parents=True)
        bake(STAGE)
        record = {"template": fingerprint(), "acts": {}}
    return next(path for path in STAGE.iterdir() if (path / "params.yaml").is_file()), record


def bake(place: Path) -> Path:
    """Generate a repository with the default answers."""
    print(f"bake      the default answers into {place.relative_to(ROOT)}")
    words = [sys.executable, "-m", "cookiecutter", "--no-input", "--output-dir", str(place), str(ROOT)]
    done = subprocess.run(words, env=MAKE_ENVIRONMENT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"error: the template cannot be baked:\n{done.stdout}{done.stderr}")
    repo = next(path for path in place.iterdir() if (path / "params.yaml").is_file())
    (repo / ".venv").symlink_to(sys.prefix)  # whoever goes on playing there need not install everything once more
    return repo


def play(repo: Path, act: Act) -> dict:
    """One act: change, commit, pipeline. Returns its line of the table.

    Exits with an error if the act does not end as it should.
    """
    git(repo, "checkout", "--quiet", "--force", "main")
    git(repo, "checkout", "--quiet", "-B", act.name)
    act.change(repo)
    git(repo, "commit", "--quiet", "--all", "--allow-empty", "--message", act.story)
    code = make(repo, "pipeline")
    decision = repo / "build" / "decision.json"
    found = json.loads(decision.read_text()) if decision.is_file() else {}
    outcome = found["decision"]["outcome"] if found else "refused"
    if outcome != act.outcome or code != (2 if outcome in ("block", "refused") else 0):  # make turns a 1 into a 2
        sys.exit(f"error: act {act.name} ended as {outcome} (exit {code}), it should end as {act.outcome}")
    print(f"=> {outcome}, as it should")
    report = REPORTS / f"{len(list(REPORTS.iterdir())) + 1}-{act.name}.html"
    shutil.copyfile(repo / "build" / "report.html", report)
    git(repo, "checkout", "--quiet", "--force", "main")
    if act.merged:
        git(repo, "merge", "--quiet", "--ff-only", act.name)
    metric = (
        next((m for m in found["decision"]["metrics"] if m["name"] == found["decision"]["metric"]), {}) if found else {}
    )
    return {
        "story": act.story,
        "outcome": outcome,
        "metric": metric,
        "champion": git(repo, "for-each-ref", "--format=%(refname:short)", "refs/tags/champion/").split()[-1],
        "report": report.relative_to(ROOT).as_posix(),
    }


def said(words: list[str]) -> str | None:
    """What a command prints, or None if it fails."""
    try:
        done = subprocess.run(words, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def serve(repo: Path) -> str:
    """Deploy the champion, ask it, and deploy a bad image; returns how it went, in words."""
    if said(["docker", "version"]) is None:
        return "no Docker engine answers here: install Docker and run `make demo` again to see the champion served"
    files = (repo / "container" / f"{name}.Dockerfile" for name in ("base", "edge"))
    base, edge = (re.search(r"^FROM (\S+)", file.read_text(), re.M)[1] for file in files)
    made = subprocess.run([sys.executable, str(STANDINS / "images.py"), base, edge], capture_output=True, text=True)
    if made.returncode:
        return f"the images cannot be built here: {made.stderr.strip()}"
    print("\n" + made.stdout.strip())
    if "watch_seconds: 90.0 " in (repo / "params.yaml").read_text():
        short_watch(repo)
        git(repo, "commit", "--quiet", "--all", "--message", "params.yaml: a short watch, for the demo")
    if make(repo, "image", "deploy"):
        sys.exit("error: the champion was not deployed, it should be")
    champion = json.loads((repo / "build" / "image.json").read_text())
    rows = json.loads((repo / "build" / "champion" / "golden.json").read_text())["rows"][:1]
    before = ask(rows)
    print(f"\nPOST {EDGE}/predict {json.dumps(rows[0])}\n=> {json.dumps(before)}")

    print("\nand a bad image of the same model, which dies after a few seconds:")
    fault = "crash 5"
    words = ["--build-arg", f"GOOD={champion['reference']}", "--build-arg", f"FAULT={fault}"]
    bad = said(["docker", "build", "--quiet", *words, str(STANDINS / "replica")])
    if bad is None:
        sys.exit("error: the bad image cannot be built")
    (repo / "build" / "image.json").write_text(json.dumps({**champion, "reference": bad.splitlines()[-1]}))
    if make(repo, "deploy") != 2:  # make turns a 1 into a 2
        sys.exit("error: the bad image was deployed, it should not be")
    (repo / "build" / "image.json").write_text(json.dumps(champion))
    if ask(rows)["predictions"] != before["predictions"]:
        sys.exit("error: the champion does not answer as before")
    print("=> rolled back by itself, as it should")
    return f"model {champion['key'][:12]} answers at {EDGE}; {left(repo)}"


def left(repo: Path) -> str:
    """What goes on running, and how to end it, in words."""
    replicas = int(re.search(r"^ +replicas: (\d+)", (repo / "params.yaml").read_text(), re.M)[1])
    place = repo.relative_to(ROOT)
    return f"its {replicas + 1} containers stay, and port {PORT} with them; to end them:\n  make -C {place} undeploy"


def ask(rows: list[dict]) -> dict:
    """A prediction through the edge."""
    request = urllib.request.Request(
        f"{EDGE}/predict", json.dumps({"rows": rows}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def table(lines: dict[str, dict]) -> str:
    """The acts with metric and interval, and the paths of the reports."""
    shown = [("act", "outcome", "roc_auc", "gain", "interval", "champion after it")]
    for line in lines.values():
        metric = line["metric"]
        value = f"{metric['challenger']:.4f}" if metric else "-"
        gain, interval = "-", "-"
        if metric.get("gain") is not None:
            gain, interval = f"{metric['gain']:+.4f}", f"[{metric['gain_low']:+.4f}, {metric['gain_high']:+.4f}]"
        shown.append((line["story"], line["outcome"], value, gain, interval, line["champion"]))
    widths = [max(len(row[i]) for row in shown) for i in range(len(shown[0]))]
    text = "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in shown
    )
    return text + "\n\nreports:\n" + "\n".join(f"  {line['report']}" for line in lines.values())


def main() -> None:
    began = time.monotonic()
    sys.stdout.reconfigure(line_buffering=True)
    repo, record = stage()
    count = len(ACTS) + 1
    for number, act in enumerate(ACTS, 1):
        print(f"\nact {number} of {count}: {act.story}")
        if act.name in record["acts"]:
            print(f"unchanged: {record['acts'][act.name]['outcome']}")
            continue
        record["acts"][act.name] = play(repo, act)
        RECORD.write_text(json.dumps(record, indent=2) + "\n")
    served = serve(repo)
    print(f"\nact {count} of {count}: a model is live while the world changes")
    if "drift" in record:
        print("unchanged: it was retrained")
    else:
        shutil.rmtree(STAGE / "drift", ignore_errors=True)
        record["drift"] = demo_drift.play(bake(STAGE / "drift"), git, MAKE_ENVIRONMENT)
        RECORD.write_text(json.dumps(record, indent=2) + "\n")
    print(f"\n{table(record['acts'])}\n\nserved: {served}\n\nlive: {record['drift']}; look at")
    for name in ("monitor.html", "site/index.html"):
        print(f"  build/demo/drift/{repo.name}/build/{name}")
    print()
    print(f"{time.monotonic() - began:.0f} s. The repository is yours to go on with:")
    print(f'  cd {repo.relative_to(ROOT)} && make try SET="model.params.estimator=boosting"')


if __name__ == "__main__":
    main()
