"""Executes the generated workflows with act, offline: what GitHub would do with an event, as facts to assert on.

The workflows come out of the bare remote at the commit of the event, as on GitHub. A job reaches it at github.com only,
which git_server.py is, with a token of its own that is worth what the job was granted. Pinned actions are replaced by
the stand-ins beside this file. What the pinned action would not take or give, by its record (pinned.py), is an error;
so is what its stand-in does not know. What act ignores is either done here (filters, inputs of a dispatch, rights,
secrets of environments) or asserted in test_workflows_static.py.

Two variables serve a look at the tests themselves: ACT_COVERAGE names a file that gets a line of JSON per `run:` step
that was executed, and ACT_MUTATE="workflow/job/step" replaces the command of that step by `true`.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pinned
import yaml
from git_server import GitServer, Request
from pinned import STANDINS

REPOSITORY = "your-team/late-flights"
TOKEN = "stand-in-token"  # of a run; see `token_of`
LOST = "The runner is lost"
RECORDER = "standin-outputs-"  # the job that tells what the others put out
COMMIT = "standin_commit"  # of an event whose payload names none on GitHub; no workflow sees it

# One environment for all jobs, and nothing in it phones home.
SWITCHES = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "GX_ANALYTICS_ENABLED": "false"}

# Two jobs of the stand-in platform may share a core with other tests: numeric libraries must not fight over it.
THREADS = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}

# act gives every step a terminal, which a runner has not: git would page, and ask for a name.
NO_TERMINAL = {"GIT_PAGER": "cat", "PAGER": "cat", "TERM": "dumb", "GIT_TERMINAL_PROMPT": "0"}


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
    sha: str = ""  # the commit of the event
    workflows: set[str] = field(default_factory=set)  # that were started
    deployments: list[tuple[str, str]] = field(default_factory=list)  # environment, result of its job
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)  # job that succeeded -> name -> value
    executed: list[tuple[str, str, str, str]] = field(default_factory=list)  # workflow, job, step, command of a `run:`
    attempt: int = 1
    requests: list[Request] = field(default_factory=list)  # of git
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


def push_tag(project, remote, tag) -> dict:
    """Pushes HEAD as a tag; returns the payload of the push event."""
    git(project, "push", "--quiet", f"file://{remote}", f"HEAD:refs/tags/{tag}")
    return push_payload(git(project, "rev-parse", "HEAD")) | {"ref": f"refs/tags/{tag}"}


def open_pull_request(
    project, remote, number=1, *, fork=None, branch=None, title="A change", body="", actor="ada", opened=None
) -> dict:
    """Pushes HEAD as a pull request against main, with GitHub's merge commit; returns the payload of its event.

    fork: the repository that it comes from, if it is another one; its branch is not in the remote then.
    opened: the payload of the event that opened it; this push is a later one, and GitHub tells the base of then.
    """
    head, base = git(project, "rev-parse", "HEAD"), git(remote, "rev-parse", "refs/heads/main")
    branch = branch or f"pull-{number}"
    pushed = [f"HEAD:refs/pull/{number}/head"] + ([] if fork else [f"HEAD:refs/heads/{branch}"])
    git(project, "push", "--quiet", f"file://{remote}", *pushed)
    with tempfile.TemporaryDirectory() as scratch:
        git(scratch, "clone", "--quiet", "--branch=main", f"file://{remote}", "clone")
        clone = Path(scratch) / "clone"
        git(clone, "fetch", "--quiet", "origin", f"refs/pull/{number}/head")
        git(clone, "merge", "--quiet", "--no-ff", "-m", f"Merge {head} into {base}", head)
        git(clone, "push", "--quiet", "origin", f"+HEAD:refs/pull/{number}/merge")
        merge = git(clone, "rev-parse", "HEAD")
    payload = pull_request_payload(base, head, merge, number, actor=actor)
    theirs = repository() | ({"full_name": fork, "owner": _user(fork.split("/")[0]), "fork": True} if fork else {})
    payload["pull_request"] |= {"title": title, "body": body}
    payload["pull_request"]["head"] |= {"ref": branch, "repo": theirs}
    if opened:
        payload["action"] = "synchronize"
        payload["pull_request"]["base"]["sha"] = opened["pull_request"]["base"]["sha"]
    return payload


def queue_pull_request(project, remote, pull) -> dict:
    """Puts a pull request into the merge queue, merged onto main; returns the payload of the event of its group."""
    base, head = git(remote, "rev-parse", "refs/heads/main"), pull["pull_request"]["head"]["sha"]
    with tempfile.TemporaryDirectory() as scratch:
        git(scratch, "clone", "--quiet", "--branch=main", f"file://{remote}", "clone")
        clone, ref = Path(scratch) / "clone", f"refs/heads/gh-readonly-queue/main/pr-{pull['number']}-{base}"
        git(clone, "fetch", "--quiet", "origin", head)
        git(clone, "merge", "--quiet", "--no-ff", "-m", f"Merge pull request #{pull['number']}", head)
        git(clone, "push", "--quiet", "origin", f"HEAD:{ref}")
        queued = git(clone, "rev-parse", "HEAD")
    group = {"head_sha": queued, "head_ref": ref, "base_sha": base, "base_ref": "refs/heads/main"}
    return {"action": "checks_requested", "merge_group": group, "repository": repository(), "sender": _user("ada")}


def merge_pull_request(remote, pull) -> dict:
    """Moves main to the merge commit, as the green button does; returns the payload of the push event."""
    base, merge = pull["pull_request"]["base"]["sha"], pull["pull_request"]["merge_commit_sha"]
    git(remote, "update-ref", "refs/heads/main", merge, base)
    return push_payload(merge, base)


def _user(login) -> dict:
    return {"login": login, "type": "Bot" if login.endswith("[bot]") else "User"}


def repository(private=False) -> dict:
    owner, name = REPOSITORY.split("/")
    return {
        "full_name": REPOSITORY,
        "name": name,
        "owner": {"login": owner, "type": "Organization"},
        "default_branch": "main",
        "fork": False,
        "private": private,
        "visibility": "private" if private else "public",
    }


def in_private(payload) -> dict:
    """The same event in a private repository."""
    return payload | {"repository": repository(private=True)}


def push_payload(sha, before="", branch="main") -> dict:
    return {
        "ref": f"refs/heads/{branch}",
        "before": before or "0" * 40,
        "after": sha,
        "repository": repository(),
    }


def pull_request_payload(base_sha, head_sha, merge_sha, number=1, actor="ada") -> dict:
    return {
        "action": "opened",
        "number": number,
        "pull_request": {
            "number": number,
            "title": "A change",
            "body": "",
            "user": _user(actor),
            "base": {"ref": "main", "sha": base_sha, "repo": repository()},
            "head": {"ref": f"pull-{number}", "sha": head_sha, "repo": repository()},
            "merge_commit_sha": merge_sha,
        },
        "repository": repository(),
        "sender": _user(actor),
    }


def dispatch_payload(sha, inputs=None, ref="refs/heads/main", actor="ada") -> dict:
    """The payload of a start by hand; which workflow, and whether its inputs are right, is seen by `run_event`."""
    return {"ref": ref, "inputs": dict(inputs or {}), "repository": repository(), "sender": _user(actor), COMMIT: sha}


def schedule_payload(sha) -> dict:
    return {"repository": repository(), COMMIT: sha}


def token_of(job) -> str:
    """The token of a job, "workflow/job"."""
    return f"{TOKEN}/{job}"


def restricted(payload) -> bool:
    """Whether GitHub starts this with a token that only reads and without secrets: from a fork, or by Dependabot."""
    head = payload.get("pull_request", {}).get("head", {}).get("repo", {})
    return head.get("fork", False) or payload.get("sender", {}).get("login") == "dependabot[bot]"


def events(remote) -> list[dict]:
    """The ledger of a remote, oldest first; no ledger is no events."""
    names = git(remote, "ls-tree", "-r", "--name-only", "refs/heads/ledger", "events/", check=False).split()
    return [json.loads(git(remote, "show", f"refs/heads/ledger:{name}")) for name in sorted(names)]


def refs(remote, prefix) -> list[str]:
    return git(remote, "for-each-ref", "--format=%(refname)", prefix).split()


# --- The run ----------------------------------------------------------------------------------------------------------


def run_event(
    remote,
    event,
    payload,
    scratch,
    *,
    workflows=None,
    venv=None,
    env=None,
    secrets=None,
    variables=None,
    environments=None,
    rerun_of=None,
    kill=None,
    mutate=None,
    timeout=900,
) -> Run:
    """Runs every workflow that the event starts, or only the named ones of them.

    scratch: an existing folder of this run alone. venv: the environment that `make setup` finds ready.
    environments: name -> {"secrets": {...}, "vars": {...}}, which only jobs of that environment see.
    rerun_of: the run of which this is "re-run failed jobs": what succeeded is kept, with its outputs and artifacts.
    kill: (workflow, job, step, "before" or "after"): there the runner is lost, and with it all that would follow.
    mutate: (workflow, job, step): its command is replaced by `true`.
    """
    remote, scratch = Path(remote).resolve(), Path(scratch).resolve()
    payload, attempt = dict(payload), rerun_of.attempt + 1 if rerun_of else 1
    named = payload.pop(COMMIT, None) or payload.get("after")
    sha = payload["pull_request"]["merge_commit_sha"] if event == "pull_request" else named
    if event == "merge_group":
        sha = payload["merge_group"]["head_sha"]
    if restricted(payload):
        secrets, variables, environments = None, None, None
    project, home, artifacts = scratch / "project", scratch / "home", scratch / "artifacts"
    home.mkdir(), artifacts.mkdir()
    for earlier in sorted(rerun_of.artifacts.iterdir()) if rerun_of else ():
        (artifacts / earlier.name).symlink_to(earlier.resolve())  # by which upload-artifact knows that it is not new

    git(scratch, "init", "--quiet", "--initial-branch=main", str(project))
    git(project, "fetch", "--quiet", "--depth=1", f"file://{remote}", sha)
    git(project, "checkout", "--quiet", "--detach", sha)
    git(project, "remote", "add", "origin", f"https://github.com/{payload['repository']['full_name']}.git")

    folder = project / ".github/workflows"
    parsed = read_workflows(project)
    started = {path: workflow for path, workflow in parsed.items() if _starts(workflow, event, payload)}
    if workflows is not None:
        if absent := set(workflows) - {path.stem for path in started}:
            raise ActError(f"this {event} does not start {', '.join(sorted(absent))}")
        started = {path: workflow for path, workflow in started.items() if path.stem in workflows}
    for path in set(parsed) - set(started):
        path.unlink()
    if not started:
        return Run(artifacts=artifacts)
    if event == "workflow_dispatch":
        if len(started) > 1:
            raise ActError(f"a dispatch starts one workflow: name one of {', '.join(path.stem for path in started)}")
        (workflow,) = started.values()
        payload["inputs"] = dispatch_inputs(workflow, payload["inputs"])
    (scratch / "event.json").write_text(json.dumps(payload))

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
            replacements |= _replacements(job, job["steps"], project)
    granted = grants(project)
    if restricted(payload):
        granted = {job: dict.fromkeys(rights, "read") for job, rights in granted.items()}
    known = {
        job: (path.stem, list(started[path]["jobs"][job]["steps"])) for path in started for job in started[path]["jobs"]
    }
    secrets, variables = dict(secrets or {}), dict(variables or {})
    if mutate or "ACT_MUTATE" in os.environ:
        target = mutate or os.environ["ACT_MUTATE"].split("/", 2)
        steps, index = _find(parsed, *target)
        if "run" not in steps[index]:
            raise ActError(f"{'/'.join(target)} runs no command")
        steps[index] = steps[index] | {"run": "true"}
    kept, deploying = set(), dict(_deploying(started.values(), variables))
    if rerun_of:
        if "failure" not in rerun_of.jobs.values():
            raise ActError("nothing failed, so GitHub offers no re-run of failed jobs")
        for workflow in started.values():
            kept |= _keep(workflow["jobs"], rerun_of)
    if kill:
        _kill(*_find(started, *kill[:3]), kill[3])
    for path, workflow in started.items():
        _give(workflow, environments or {}, secrets, variables)
        _record(workflow, scratch / "outputs" / path.stem)
        _token(workflow)
        _adapt(workflow)
        path.write_text(yaml.safe_dump(workflow, sort_keys=False, allow_unicode=True, width=10_000))

    environment = {
        **SWITCHES,
        **THREADS,
        **NO_TERMINAL,
        "VENV": str(venv),
        "STANDIN_PYTHON": sys.executable,
        "STANDIN_GH": str(STANDINS / "attestations.py"),
        "STANDIN_ARTIFACTS": str(artifacts),
        "STANDIN_GRANTS": json.dumps(granted),
        "GITHUB_API_URL": "http://127.0.0.1:9",  # nobody answers: no test asks the real one
        "GITHUB_RUN_ATTEMPT": str(attempt),
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
        "--actor",
        payload.get("sender", {}).get("login", "ada"),
        "-e",
        str(scratch / "event.json"),
        "-W",
        str(folder),
    ]
    for label in sorted(labels):
        command += ["-P", f"{label}=-self-hosted"]
    for name, value in environment.items():
        command += ["--env", f"{name}={value}"]
    for name, value in variables.items():
        command += ["--var", f"{name}={value}"]
    for name, value in {"GITHUB_TOKEN": TOKEN, **secrets}.items():
        command += ["-s", f"{name}={value}"]
    for action in sorted(replacements):
        command += ["--local-repository", f"{action}={STANDINS / action.partition('@')[0]}"]
    contents = {job: rights.get("contents", "none") for job, rights in granted.items()}
    tokens = {token_of(job): job for job in granted}
    served = GitServer(remote, payload["repository"]["full_name"], tokens, contents, payload["repository"]["private"])
    with served:
        (home / ".gitconfig").write_text(served.settings)
        out, err, code = _bounded([*command, event], project, timeout)
    (scratch / "act.jsonl").write_text(out)

    run = _read(out, known, kept)
    run.artifacts, run.attempt, run.requests = artifacts, attempt, served.requests
    run.sha, run.workflows = sha, {path.stem for path in started}
    run.deployments = [(place, run.jobs[job]) for job, place in deploying.items() if job in run.jobs]
    for file in sorted((scratch / "outputs").glob("*")):
        run.outputs |= {
            job: told["outputs"] for job, told in json.loads(file.read_text()).items() if told["result"] == "success"
        }
    if "ACT_COVERAGE" in os.environ:
        test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
        lines = [
            dict(zip(("workflow", "job", "step", "run"), each, strict=True))
            | {"test": test, "result": run.jobs.get(each[1], "of a matrix")}
            for each in run.executed
        ]
        with open(os.environ["ACT_COVERAGE"], "a", encoding="utf-8") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))
    # act also ends with 0 when a workflow ran no job at all: the caller compares the exact set.
    if (code == 0) != (set(run.jobs.values()) <= {"success"}):
        raise ActError(f"act ended with {code}, jobs {run.jobs}:\n{err}\n{run.log}")
    return run


def read_workflows(project) -> dict[Path, dict]:
    """The workflows of a project as data, their triggers under `on` and with their details."""
    found = {}
    for path in sorted((Path(project) / ".github/workflows").glob("*.yml")):
        workflow = yaml.safe_load(path.read_text())
        triggers = workflow.pop(True, None) or workflow.get("on")  # YAML 1.1 reads `on` as true
        triggers = [triggers] if isinstance(triggers, str) else triggers
        workflow["on"] = dict.fromkeys(triggers) if isinstance(triggers, list) else triggers
        found[path] = workflow
    return found


def grants(project) -> dict[str, dict[str, str]]:
    """What the token of each job may do, by "workflow/job"; a job's own permissions replace those of its workflow."""
    granted = {}
    for path, workflow in read_workflows(project).items():
        for name, job in workflow["jobs"].items():
            rights = job.get("permissions", workflow.get("permissions", {}))
            if not isinstance(rights, dict):
                raise ActError(f"{path.name}: the permissions of {name} are {rights!r}; name each of them")
            granted[f"{workflow['name']}/{name}"] = rights
    return granted


def dispatch_inputs(workflow, given) -> dict[str, str]:
    """The inputs of a start by hand as the workflow sees them, or what GitHub's API says against them."""
    declared = (workflow["on"]["workflow_dispatch"] or {}).get("inputs") or {}
    if unknown := sorted(set(given) - set(declared)):
        raise ActError(f"Unexpected inputs provided: {unknown}")
    told = {}
    for name, details in declared.items():
        details = details or {}
        kind = details.get("type", "string")
        if kind not in ("string", "boolean", "choice", "number"):
            raise ActError(f"inputs of type {kind} are not stood in for")
        value = given.get(name, details.get("default"))
        if value is None or value == "" and details.get("required"):
            if details.get("required"):
                raise ActError(f"Required input '{name}' not provided")
            if kind == "choice":  # GitHub's form takes the first, its API none
                raise ActError(f"the choice {name} has no default")
            value = "false" if kind == "boolean" else ""
        value = str(value).lower() if isinstance(value, bool) else str(value)
        allowed = {"boolean": ["true", "false"], "choice": [str(each) for each in details.get("options", [])]}.get(kind)
        if allowed is not None and value not in allowed:
            raise ActError(f"Provided value '{value}' for input '{name}' not in the list of allowed values")
        if kind == "number" and value and not re.fullmatch(r"-?\d+(\.\d+)?", value):
            raise ActError(f"Provided value '{value}' for input '{name}' is no number")
        told[name] = value
    return told


def _starts(workflow, event, payload) -> bool:
    """Whether GitHub would start this workflow: act ignores the filters."""
    if event not in workflow["on"]:
        return False
    if event in ("workflow_dispatch", "schedule"):  # these have no filters
        return True
    filters = workflow["on"][event] or {}
    if unknown := set(filters) - ({"branches", "tags"} if event == "push" else {"branches"}):
        raise ActError(f"filters that are not stood in for: {', '.join(sorted(unknown))}")
    if event == "merge_group":
        ref = payload["merge_group"]["base_ref"]
    else:
        ref = payload["pull_request"]["base"]["ref"] if event == "pull_request" else payload["ref"]
    kind = "tags" if ref.startswith("refs/tags/") else "branches"
    # A push to what only the other filter speaks of starts nothing.
    return not filters or _matches(re.sub("^refs/(heads|tags)/", "", ref), filters.get(kind, []))


def _matches(name, patterns) -> bool:
    """GitHub's patterns: `*` stops at a slash, `?` and `+` repeat what is before them, the last that fits decides."""
    matches = False
    for pattern in patterns:
        expression = re.sub(
            r"\*\*|\*|[^\w\[\]?+-]",
            lambda found: {"**": ".*", "*": "[^/]*"}.get(found[0], re.escape(found[0])),
            pattern.removeprefix("!"),
        )
        if re.fullmatch(expression, name):
            matches = not pattern.startswith("!")
    return matches


def _name(step) -> str:
    return step.get("name") or step.get("run") or step["uses"]


def _find(workflows, workflow, job, step) -> tuple[list, int]:
    """The steps of a job, and the place of one among them."""
    for path, content in workflows.items():
        steps = content["jobs"].get(job, {}).get("steps", []) if path.stem == workflow else []
        for index, each in enumerate(steps):
            if _name(each) == step:
                return steps, index
    raise ActError(f"there is no step {workflow}/{job}/{step}")


def _kill(steps, index, when) -> None:
    """Ends a job like a runner that is gone: nothing follows, not even what runs always."""
    steps[index + {"before": 0, "after": 1}[when] :] = [{"name": LOST, "run": "false"}]


def _keep(jobs, before) -> set[str]:
    """Replaces jobs that a re-run of the failed ones leaves alone by what they said; returns their names."""
    results = {}
    for told, result in before.jobs.items():
        results.setdefault(told.partition(" (")[0], set()).add(result)
    if mixed := [name for name in jobs if len(results.get(name, ())) > 1]:
        raise ActError(f"a re-run of a part of a matrix is not stood in for: {', '.join(mixed)}")
    again = {name for name in jobs if results.get(name) == {"failure"}}
    while more := {name for name in set(jobs) - again if again & set(_list(jobs[name].get("needs", [])))}:
        again |= more
    kept = {name for name in jobs if results.get(name) == {"success"}} - again
    for name in kept:
        literals = {key: json.dumps(value).replace("'", "''") for key, value in before.outputs.get(name, {}).items()}
        jobs[name] = {key: jobs[name][key] for key in ("needs", "runs-on", "strategy") if key in jobs[name]} | {
            "if": "always()",
            "outputs": {key: f"${{{{ fromJSON('{value}') }}}}" for key, value in literals.items()},
            "steps": [{"run": "true"}],
        }
    return kept


def _list(value) -> list:
    return [value] if isinstance(value, str) else value


def _place(job, variables) -> str:
    """The name of a job's environment; empty if it has none."""
    place = job.get("environment") or ""
    place = place["name"] if isinstance(place, dict) else place
    if re.fullmatch(r"\$\{\{ *vars\.\w+( *\|\| *vars\.\w+)* *\}\}", place):
        named = (variables.get(variable, "") for variable in re.findall(r"vars\.(\w+)", place))
        place = next(filter(None, named), "")
    return place


def _deploying(workflows, variables) -> Iterator[tuple[str, str]]:
    """The jobs of which GitHub notes a deployment, each with the name of its environment."""
    for workflow in workflows:
        for name, job in workflow["jobs"].items():
            told = job.get("environment")
            place = _place(job, variables)
            if place and not (isinstance(told, dict) and told.get("deployment") is False):
                yield name, place


def _give(workflow, environments, secrets, variables) -> None:
    """Gives jobs what their environment holds: act has one set of secrets, so names of their own stand for them."""
    for name, job in workflow["jobs"].items():
        place = _place(job, variables)
        if "${{" in place and environments:
            raise ActError(f"the environment of {name} is an expression, which is not stood in for")
        text = json.dumps(job)
        for kind, all_of_them in (("secrets", secrets), ("vars", variables)):
            for key, value in environments.get(place, {}).get(kind, {}).items():
                own = f"STANDIN_{place.upper().replace('-', '_')}_{key}"
                all_of_them[own] = value
                text = re.sub(rf"\b{kind}\.{key}\b", f"{kind}.{own}", text)
        workflow["jobs"][name] = json.loads(text)


def _token(workflow) -> None:
    """Gives each job a token of its own: under act all jobs of a run have one."""
    for name, job in workflow["jobs"].items():
        token = json.dumps(token_of(f"{workflow['name']}/{name}"))[1:-1]
        workflow["jobs"][name] = json.loads(
            re.sub(r"\b(github\.token|secrets\.GITHUB_TOKEN)\b", f"'{token}'", json.dumps(job))
        )


def _record(workflow, file) -> None:
    """Adds a job that writes the outputs of all others, evaluated, into a file."""
    if told := [name for name, job in workflow["jobs"].items() if job.get("outputs")]:
        file.parent.mkdir(exist_ok=True)
        workflow["jobs"][f"{RECORDER}{file.name.replace('.', '_')}"] = {
            "needs": told,
            "if": "always()",
            "runs-on": workflow["jobs"][told[0]]["runs-on"],
            "steps": [
                {"run": 'printf %s "$TOLD" > "$FILE"', "env": {"TOLD": "${{ toJSON(needs) }}", "FILE": str(file)}}
            ],
        }


def _replacements(place, steps, project) -> set[str]:
    """The `owner/repo@commit` of every action that these steps of a job or action use, through local actions too."""
    found, standins = set(), pinned.standins()
    for step in steps:
        uses = step.get("uses")
        if not uses:
            continue
        if uses.startswith(("$/", "./")):
            local = yaml.safe_load((project / uses[2:] / "action.yml").read_text())
            found |= _replacements(local, local["runs"]["steps"], project)
            continue
        action = uses.partition("@")[0]
        if action not in standins:
            raise ActError(f"no stand-in for {uses}")
        known = standins[action]
        if faults := pinned.faults_of_step(step) + pinned.faults_of_standin(action, known):
            raise ActError("; ".join(faults))
        if unknown := set(step.get("with") or {}) - set(known["inputs"]):
            raise ActError(f"the stand-in for {uses} does not know {', '.join(sorted(unknown))}")
        found.add(uses)
    if faults := pinned.faults_of_outputs(place, steps):
        raise ActError("; ".join(faults))
    if faults := pinned.faults_of_outputs(place, steps, standins):
        raise ActError(f"of the stand-in: {'; '.join(faults)}")
    return found


def _adapt(workflow) -> None:
    """Takes out what act ignores and may not even be able to read, and writes `./` for `$/`, which it does not know.

    On GitHub `$/` is the action of the workflow's own commit, here that of the checked out one.
    """
    for part in (workflow, *workflow["jobs"].values()):
        for key in ("cache-mode", "concurrency", "environment", "permissions"):
            part.pop(key, None)
        for step in part.get("steps", []):
            if step.get("uses", "").startswith("$/"):
                step["uses"] = f".{step['uses'][1:]}"


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


def _read(out, known=None, kept=()) -> Run:
    """What act's JSON lines say.

    known: job -> its workflow and its steps. kept: jobs of an earlier attempt, of which only the result counts.
    """
    run, log, summaries = Run(), [], {}
    for line in out.splitlines():
        if not line.startswith("{"):
            log.append(line)
            continue
        entry = json.loads(line)
        name = job = entry.get("jobID", "")
        if name.startswith(RECORDER) or name in kept and "jobResult" not in entry:
            continue
        if entry.get("matrix"):
            job += f" ({', '.join(map(str, entry['matrix'].values()))})"
        step, text = entry.get("stepID", []), entry.get("msg", "")
        if "jobResult" in entry:
            run.jobs[job] = entry["jobResult"]
        if "stepResult" in entry and len(step) == 1 and entry.get("stage") == "Main":
            run.steps.setdefault(job, {})[entry["step"]] = entry["stepResult"]
            if known and entry["stepResult"] != "skipped" and entry["step"] != LOST:
                workflow, steps = known[name]
                ids = [each.get("id", str(index)) for index, each in enumerate(steps)]
                done = steps[ids.index(step[0])]
                if "run" in done:
                    run.executed.append((workflow, name, _name(done), done["run"]))
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
