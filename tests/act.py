"""Executes the generated workflows with act, offline: what GitHub would do with an event, as facts to assert on.

The workflows come out of the bare remote at the commit of the event, as on GitHub. Pinned actions are replaced by the
stand-ins beside this file; a pin without a stand-in, or an input that a stand-in does not know, is an error. What act
ignores is either done here (branch filters, the right to push) or asserted in test_workflows_static.py.
"""

import contextlib
import fnmatch
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import yaml

STANDINS = Path(__file__).parent / "standins"
REPOSITORY = "your-team/late-flights"

# One environment for all jobs, and nothing in it phones home.
SWITCHES = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "GX_ANALYTICS_ENABLED": "false"}

# Two jobs of the stand-in platform may share a core with other tests: numeric libraries must not fight over it.
THREADS = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}

# act gives every step a terminal, which a runner has not: git would page.
NO_TERMINAL = {"GIT_PAGER": "cat", "PAGER": "cat", "TERM": "dumb"}

# A token is worth what its job was granted: the local transport hands the pusher's environment to this hook.
HOOK = """#!/bin/sh
test "$GITHUB_ACTIONS" = true || exit 0
if test -z "$GITHUB_TOKEN"; then echo "this step was given no token to push with" >&2; exit 1; fi
grep -qxF "$GITHUB_WORKFLOW/$GITHUB_JOB" "$(dirname "$0")/writers" && exit 0
echo "the token of $GITHUB_WORKFLOW/$GITHUB_JOB may not write" >&2; exit 1
"""


class ActError(Exception):
    """The harness cannot stand in for GitHub here; never a verdict about the workflow."""


@dataclass
class Run:
    """What one event did. A job that was skipped is in none of these."""

    jobs: dict[str, str] = field(default_factory=dict)  # job -> success | failure
    steps: dict[str, dict[str, str]] = field(default_factory=dict)  # job -> step -> success | failure | skipped
    summary: dict[str, str] = field(default_factory=dict)  # job -> Markdown
    annotations: list[dict[str, str]] = field(default_factory=list)  # job, level, message, file, line
    logs: dict[str, str] = field(default_factory=dict)  # job -> what its steps printed
    artifacts: Path = Path()  # one folder per artifact
    log: str = ""


def git(folder, *arguments, check=True) -> str:
    """Runs git for a test: with an identity, without the machine's settings."""
    who = {
        f"GIT_{role}_{what}": value
        for role in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "A Tester"), ("EMAIL", "tester@example.com"))
    }
    environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", **who}
    done = subprocess.run(["git", "-C", str(folder), *arguments], env=environment, capture_output=True, text=True)
    if check and done.returncode:
        raise ActError(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


# --- The remote, and what happens to it -------------------------------------------------------------------------------


def make_remote(project, remote) -> Path:
    """A bare remote with the project's commits, as `git push` to a new repository would leave it; sets `origin`."""
    remote = Path(remote).resolve()
    git(project, "clone", "--quiet", "--bare", str(project), str(remote))
    git(remote, "remote", "remove", "origin", check=False)
    git(remote, "config", "uploadpack.allowAnySHA1InWant", "true")  # as GitHub does: a base may be behind its branch
    git(project, "remote", "remove", "origin", check=False)
    git(project, "remote", "add", "origin", f"file://{remote}")
    return remote


def push(project, remote, branch="main") -> dict:
    """Pushes HEAD to a branch; returns the payload of the push event."""
    before = git(remote, "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}", check=False)
    git(project, "push", "--quiet", f"file://{remote}", f"HEAD:refs/heads/{branch}")
    return push_payload(git(project, "rev-parse", "HEAD"), before, branch)


def open_pull_request(project, remote, number=1) -> dict:
    """Pushes HEAD as a pull request against main, with GitHub's merge commit; returns the payload of its event."""
    head, base = git(project, "rev-parse", "HEAD"), git(remote, "rev-parse", "refs/heads/main")
    git(
        project,
        "push",
        "--quiet",
        f"file://{remote}",
        f"HEAD:refs/heads/pull-{number}",
        f"HEAD:refs/pull/{number}/head",
    )
    with tempfile.TemporaryDirectory() as scratch:
        git(scratch, "clone", "--quiet", "--branch=main", f"file://{remote}", "clone")
        clone = Path(scratch) / "clone"
        git(clone, "fetch", "--quiet", "origin", head)
        git(clone, "merge", "--quiet", "--no-ff", "-m", f"Merge {head} into {base}", head)
        git(clone, "push", "--quiet", "origin", f"HEAD:refs/pull/{number}/merge")
        merge = git(clone, "rev-parse", "HEAD")
    return pull_request_payload(base, head, merge, number)


def merge_pull_request(remote, pull) -> dict:
    """Moves main to the merge commit, as the green button does; returns the payload of the push event."""
    base, merge = pull["pull_request"]["base"]["sha"], pull["pull_request"]["merge_commit_sha"]
    git(remote, "update-ref", "refs/heads/main", merge, base)
    return push_payload(merge, base)


def push_payload(sha, before="", branch="main") -> dict:
    return {
        "ref": f"refs/heads/{branch}",
        "before": before or "0" * 40,
        "after": sha,
        "repository": {"full_name": REPOSITORY, "default_branch": "main"},
    }


def pull_request_payload(base_sha, head_sha, merge_sha, number=1) -> dict:
    repository = {"full_name": REPOSITORY, "default_branch": "main"}
    return {
        "action": "opened",
        "number": number,
        "pull_request": {
            "number": number,
            "base": {"ref": "main", "sha": base_sha, "repo": repository},
            "head": {"ref": f"pull-{number}", "sha": head_sha, "repo": repository},
            "merge_commit_sha": merge_sha,
        },
        "repository": repository,
    }


def events(remote) -> list[dict]:
    """The ledger of a remote, oldest first; no ledger is no events."""
    names = git(remote, "ls-tree", "--name-only", "refs/heads/ledger", "events/", check=False).split()
    return [json.loads(git(remote, "show", f"refs/heads/ledger:{name}")) for name in sorted(names)]


def refs(remote, prefix) -> list[str]:
    return git(remote, "for-each-ref", "--format=%(refname)", prefix).split()


# --- The run ----------------------------------------------------------------------------------------------------------


def run_event(
    remote, event, payload, scratch, *, workflows=None, venv=None, env=None, secrets=None, variables=None, timeout=300
) -> Run:
    """Runs every workflow that the event starts, or only the named ones of them.

    scratch: an existing folder of this run alone. venv: the environment that `make setup` finds ready.
    """
    remote, scratch = Path(remote).resolve(), Path(scratch).resolve()
    sha = payload["pull_request"]["merge_commit_sha"] if event == "pull_request" else payload["after"]
    project, home, artifacts = scratch / "project", scratch / "home", scratch / "artifacts"
    home.mkdir(), artifacts.mkdir()
    (scratch / "event.json").write_text(json.dumps(payload))

    git(scratch, "init", "--quiet", "--initial-branch=main", str(project))
    git(project, "fetch", "--quiet", "--depth=1", f"file://{remote}", sha)
    git(project, "checkout", "--quiet", "--detach", sha)
    git(project, "remote", "add", "origin", f"https://github.com/{payload['repository']['full_name']}.git")

    folder = project / ".github/workflows"
    parsed = {path: yaml.safe_load(path.read_text()) for path in sorted(folder.glob("*.yml"))}
    started = {path: workflow for path, workflow in parsed.items() if _starts(workflow, event, payload)}
    if workflows is not None:
        if absent := set(workflows) - {path.stem for path in started}:
            raise ActError(f"this {event} does not start {', '.join(sorted(absent))}")
        started = {path: workflow for path, workflow in started.items() if path.stem in workflows}
    for path in set(parsed) - set(started):
        path.unlink()
    if not started:
        return Run(artifacts=artifacts)

    venv, lock = Path(venv or sys.prefix), project / "requirements/dev.txt"
    if lock.is_file() and (venv / "installed.txt").read_text() != lock.read_text():
        raise ActError(f"{venv} does not hold the project's lock: `make setup` would install it, from the network")

    ids = [job for workflow in started.values() for job in workflow["jobs"]]
    if len(ids) != len(set(ids)):
        raise ActError(f"two workflows of one event share the name of a job: {sorted(ids)}")
    replacements, labels = set(), set()
    for workflow in started.values():
        for job in workflow["jobs"].values():
            labels.add(job["runs-on"])
            replacements |= _replacements(job["steps"], project)
    (remote / "hooks").mkdir(exist_ok=True)
    (remote / "hooks/writers").write_text(
        "".join(
            f"{workflow['name']}/{name}\n"
            for workflow in parsed.values()
            for name, job in workflow["jobs"].items()
            if (job.get("permissions") or {}).get("contents") == "write"
        )
    )
    (remote / "hooks/pre-receive").write_text(HOOK)
    (remote / "hooks/pre-receive").chmod(0o755)
    _adapt(project)

    environment = {
        **SWITCHES,
        **THREADS,
        **NO_TERMINAL,
        "VENV": str(venv),
        "STANDIN_PYTHON": sys.executable,
        "STANDIN_REMOTE": str(remote),
        "STANDIN_ARTIFACTS": str(artifacts),
        **(env or {}),
    }
    command = [
        "env",
        "-i",
        f"HOME={home}",
        "PATH=/usr/local/bin:/usr/bin:/bin",
        str(Path(sys.executable).parent / "act"),
        "--json",
        "--no-skip-checkout",
        "--no-cache-server",
        "--defaultbranch",
        "main",
        "--action-cache-path",
        str(scratch / "cache"),
        # Files of a project that act would otherwise read.
        "--env-file",
        os.devnull,
        "--secret-file",
        os.devnull,
        "--var-file",
        os.devnull,
        "--input-file",
        os.devnull,
        "-e",
        str(scratch / "event.json"),
        "-W",
        str(folder),
    ]
    for label in sorted(labels):
        command += ["-P", f"{label}=-self-hosted"]
    for name, value in environment.items():
        command += ["--env", f"{name}={value}"]
    for name, value in (variables or {}).items():
        command += ["--var", f"{name}={value}"]
    for name, value in {"GITHUB_TOKEN": "stand-in-token", **(secrets or {})}.items():
        command += ["-s", f"{name}={value}"]
    for action in sorted(replacements):
        command += ["--local-repository", f"{action}={STANDINS / action.partition('@')[0]}"]
    out, err, code = _bounded([*command, event], project, timeout)
    (scratch / "act.jsonl").write_text(out)

    run = _read(out)
    run.artifacts = artifacts
    # act also ends with 0 when a workflow ran no job at all: the caller compares the exact set.
    if (code == 0) != (set(run.jobs.values()) <= {"success"}):
        raise ActError(f"act ended with {code}, jobs {run.jobs}:\n{err}\n{run.log}")
    return run


def _starts(workflow, event, payload) -> bool:
    """Whether GitHub would start this workflow: act ignores the filters."""
    triggers = workflow[True] if True in workflow else workflow["on"]  # YAML 1.1 reads `on` as true
    if isinstance(triggers, str):
        triggers = [triggers]
    if isinstance(triggers, list):
        triggers = dict.fromkeys(triggers)
    if event not in triggers:
        return False
    filters = triggers[event] or {}
    if unknown := set(filters) - {"branches"}:
        raise ActError(f"filters that are not stood in for: {', '.join(sorted(unknown))}")
    branch = payload["pull_request"]["base"]["ref"] if event == "pull_request" else payload["ref"]
    branch = branch.removeprefix("refs/heads/")
    return "branches" not in filters or any(fnmatch.fnmatchcase(branch, each) for each in filters["branches"])


def _replacements(steps, project) -> set[str]:
    """The `owner/repo@commit` of every action that these steps use, through local actions too."""
    found = set()
    for step in steps:
        uses = step.get("uses")
        if not uses:
            continue
        if uses.startswith(("$/", "./")):
            local = yaml.safe_load((project / uses[2:] / "action.yml").read_text())
            found |= _replacements(local["runs"]["steps"], project)
            continue
        definition = STANDINS / uses.partition("@")[0] / "action.yml"
        if not definition.is_file():
            raise ActError(f"no stand-in for {uses}")
        # act drops an input that the action does not declare; so does GitHub, with a warning nobody reads.
        if unknown := set(step.get("with") or {}) - set(yaml.safe_load(definition.read_text())["inputs"]):
            raise ActError(f"the stand-in for {uses} does not know {', '.join(sorted(unknown))}")
        found.add(uses)
    return found


def _adapt(project) -> None:
    """Takes out what act cannot read: `queue` and `cache-mode`, which it would ignore, and `$/`, which it calls `./`.

    On GitHub `$/` is the action of the workflow's own commit, here that of the checked out one.
    """
    for path in [*(project / ".github/workflows").glob("*.yml"), *(project / ".github/actions").glob("*/action.yml")]:
        text = re.sub(r"(?m)^ +(queue|cache-mode):.*\n", "", path.read_text())
        path.write_text(re.sub(r"(?m)^( +(?:- )?uses: )\$/", r"\1./", text))


def _bounded(command, folder, timeout) -> tuple[str, str, int]:
    """Runs a command for so long and no longer; its steps live in sessions of their own and end with it."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=timeout)
    except BaseException as error:
        for pid in [*_descendants(process.pid), process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        out, err = process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise ActError(f"act was stopped after {timeout} s:\n{_read(out).log}\n{err}") from None
        raise
    return out, err, process.returncode


def _descendants(root) -> list[int]:
    children = {}
    for line in subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True).stdout.splitlines():
        pid, parent = map(int, line.split())
        children.setdefault(parent, []).append(pid)
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found[1:]


def _read(out) -> Run:
    """What act's JSON lines say."""
    run, log, summaries = Run(), [], {}
    for line in out.splitlines():
        if not line.startswith("{"):
            log.append(line)
            continue
        entry = json.loads(line)
        job = entry.get("jobID", "")
        if entry.get("matrix"):
            job += f" ({', '.join(map(str, entry['matrix'].values()))})"
        step, text = entry.get("stepID", []), entry.get("msg", "")
        if "jobResult" in entry:
            run.jobs[job] = entry["jobResult"]
        if "stepResult" in entry and len(step) == 1 and entry.get("stage") == "Main":
            run.steps.setdefault(job, {})[entry["step"]] = entry["stepResult"]
        if entry.get("command") == "summary":
            # A composite action repeats what its last step wrote.
            written = summaries.setdefault(job, [])
            if not any(inner[: len(step)] == step and len(inner) > len(step) for inner, _ in written):
                written.append((step, entry["content"]))
        elif entry.get("command") in ("error", "warning", "notice"):
            where = entry.get("kvPairs") or {}
            run.annotations.append(
                {
                    "job": job,
                    "level": entry["command"],
                    "message": entry["arg"],
                    "file": where.get("file", ""),
                    "line": where.get("line", ""),
                }
            )
        if entry.get("raw_output"):
            run.logs[job] = run.logs.get(job, "") + text
        log.append(f"[{job or 'act'}{'/' + entry['step'] if 'step' in entry else ''}] {text.rstrip()}")
    run.summary = {job: "".join(content for _, content in written) for job, written in summaries.items()}
    run.log = "\n".join(log)
    return run
