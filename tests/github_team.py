"""A team on GitHub, for tests: a clone of its repository, a bare remote, a registry, an engine, and GitHub's API."""

import gzip
import json
import os
import pickle
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import preloaded_act
import pytest
from act import (
    SWITCHES,
    THREADS,
    Run,
    dispatch_payload,
    events,
    git,
    grants,
    in_private,
    make_remote,
    merge_pull_request,
    open_pull_request,
    push,
    refs,
    run_event,
    schedule_payload,
)
from conftest import BakedProject, once
from engine import clear, free_port
from github import GitHub

GREEN = {"challenger": "success", "decide": "success", "compare": "success"}
DELIVERED = dict.fromkeys(("train", "accept", "image", "attest", "staging", "production", "deliver"), "success")
NOTHING_DUE = dict.fromkeys(("train", "accept", "deliver"), "success")  # the verdict changes nothing that serves
BLOCKED = dict.fromkeys(("train", "accept", "deliver"), "failure")  # `accept` records it


# What a team may set, besides REGISTRY.
VARIABLES = (
    "REGISTRY_USER",
    "MLFLOW_TRACKING_URI",
    "BUILD_ENVIRONMENT",
    "PULL_REQUEST_ENVIRONMENT",
    "AWS_ROLE",
    "AWS_REGION",
)
SECRETS = (
    "DATA_OPTIONS",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "REGISTRY_TOKEN",
    "DEPLOY_HOST",
    "DEPLOY_KEY",
    "DEPLOY_KNOWN_HOSTS",
    "PREDICT_TOKEN",
    "SOURCE_PASSWORD",
    "PROPOSE_TOKEN",
    "MONITOR_WEBHOOK",
)


@dataclass
class Team:
    """A clone of the repository, its remote, and what happened to it so far."""

    project: BakedProject
    remote: Path
    scratch: Path
    registry: str
    port: int
    github: GitHub
    preloaded: Path | None = None
    served: tuple[str, ...] = ()  # the models that answered in production and staging after the first push
    deployed: bool = False  # whether what serves is of this team, and not of the test before
    pull: dict | None = None

    def run(self, event: str, payload: dict, *workflows: str, **more) -> Run:
        """Runs what an event starts; more: as for `run_event`. The variable REGISTRY is set unless others are given."""
        folder = self.scratch / f"run-{len(list(self.scratch.glob('run-*')))}"
        folder.mkdir()
        if event == "pull_request":
            self.github.open(payload)
        more = {"variables": {"REGISTRY": f"{self.registry}/Your-Team"}} | more
        # On GitHub Enterprise, which the variable stands for, a private repository has attestations.
        self.github.private = payload["repository"]["private"] and not (more["variables"] or {}).get("ATTESTATIONS")
        env = {"GITHUB_API_URL": self.github.url} | more.pop("env", {})
        venv = self.preloaded or self.project.venv
        run = run_event(self.remote, event, payload, folder, workflows=workflows or None, venv=venv, env=env, **more)
        self.github.ran(run)
        self.deployed |= any(steps.get("Deploy") == "success" for steps in run.steps.values())
        return run

    def dispatch(self, workflow: str, **inputs: str) -> Run:
        """Starts a workflow on main by hand."""
        return self.run("workflow_dispatch", dispatch_payload(self.head(), inputs), workflow)

    def look(self) -> Run:
        """What the schedule of every day starts."""
        return self.run("schedule", schedule_payload(self.head()), "monitor")

    def publish(self, **variables: str) -> Run:
        """What the schedule of the pages starts, with these variables."""
        return self.run("schedule", schedule_payload(self.head()), "pages", variables=variables)

    def be_live(self) -> None:
        """Delivers what main is, unless its champion serves: tests share one engine, and begin with what is there."""
        live = [event["key"] for event in events(self.remote) if event["type"] == "live"][-1]
        self.deployed = True
        try:
            serves = self.serves() == self.serves(staging=True) == live
        except OSError:
            serves = False
        if not serves:
            assert self.dispatch("deliver").jobs == DELIVERED

    def head(self) -> str:
        return git(self.remote, "rev-parse", "refs/heads/main")

    def serves(self, staging: bool = False) -> str:
        """The key of the model that answers at the edge of production, or of staging."""
        return self.info(staging)["key"]

    def info(self, staging: bool = False) -> dict:
        assert self.deployed, "all tests share one engine: deliver first, or be_live()"
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port + staging}/info", timeout=20) as answer:
            return json.loads(answer.read())

    def commit(self, message: str) -> None:
        """Commits what was changed, on top of what main is by now."""
        self.project.git("checkout", "--quiet", "-B", "proposal")
        self.project.git("add", "--all")
        self.project.git("commit", "--quiet", "--message", message)

    def open(self, message: str, **more) -> dict:
        """Commits what was changed and opens a pull request; more: as for `open_pull_request`."""
        self.commit(message)
        self.pull = open_pull_request(self.project.path, self.remote, **more)
        return self.pull

    def propose(self, message: str, *workflows: str, **more) -> Run:
        """The same, and runs its workflows."""
        return self.run("pull_request", self.open(message, **more), *workflows)

    def merge(self, *workflows: str, private: bool = False, **more) -> Run:
        merged = merge_pull_request(self.remote, self.pull)
        return self.run("push", in_private(merged) if private else merged, *workflows, **more)

    def update(self) -> None:
        """Brings the clone to what main is."""
        self.project.git("fetch", "--quiet", "origin", "main")
        self.project.git("reset", "--quiet", "--hard", "FETCH_HEAD")

    def champions(self) -> list[str]:
        return refs(self.remote, "refs/tags/champion/")

    def history(self) -> list[tuple[str, str]]:
        """Type and outcome of each event."""
        return [(event["type"], event["outcome"]) for event in events(self.remote)]


@pytest.fixture(scope="session")
def begin(bake, registry, base_image, libraries, nothing_is_left):
    """begin(folder, port) -> the kept state of a team before its first push: `project`, `remote.git`, `scratch`."""

    def begin(folder: Path, port: int) -> None:
        project = bake()
        base_image("caddy:2.11.7-alpine")
        for old, new in (
            ("watch_seconds: 90.0 ", "watch_seconds: 1.0 "),
            ("max_seconds: 0.5 ", "max_seconds: 10.0 "),
            ("replicas: 2", "replicas: 1"),  # what more of them are for, test_rollout.py shows
            ("port: 8080", f"port: {port}"),
        ):
            project.edit("params.yaml", old, new)
        project.git("commit", "--quiet", "--all", "--message", "a short watch")
        shutil.copytree(project.path, folder / "project", symlinks=True)
        make_remote(folder / "project", folder / "remote.git")
        (folder / "scratch").mkdir()

    return begin


@pytest.fixture(scope="session")
def installed_venv(venv, tmp_path_factory) -> Iterator[Path]:
    """An environment whose commands are forks of a process that has the libraries."""
    born = {"PATH": os.environ["PATH"], "HOME": str(tmp_path_factory.mktemp("home")), **SWITCHES, **THREADS}
    with preloaded_act.face(venv, tmp_path_factory.mktemp("preloaded"), born) as face:
        yield face


@pytest.fixture(scope="session")
def team_at(bake, registry, nothing_is_left, installed_venv, tmp_path_factory) -> Iterator[Callable[..., Team]]:
    """team_at(state, port) -> a team of its own in a kept state."""
    doubles = []

    def team_at(kept: Path, port: int) -> Team:
        project, place = bake(), tmp_path_factory.mktemp("team")
        shutil.rmtree(project.path)
        shutil.copytree(kept / "project", project.path, symlinks=True)
        shutil.copytree(kept / "remote.git", place / "remote.git")
        git(project.path, "remote", "set-url", "origin", f"file://{place / 'remote.git'}")
        (place / "scratch").mkdir()
        github = GitHub(grants(project.path), project.path).__enter__()
        doubles.append(github)
        return Team(project, place / "remote.git", place / "scratch", registry.address, port, github, installed_venv)

    yield team_at
    for github in doubles:
        github.__exit__(None, None, None)


@pytest.fixture(scope="session")
def first_push(shared, begin, team_at) -> tuple[Path, int]:
    """A team's repository after its first push, that push's run, and the port of its edge. It is made once."""

    def push_it(fresh: Path) -> None:
        port = free_port()
        (fresh / "port").write_text(str(port))
        begin(fresh, port)
        team = team_at(fresh, port)
        team.preloaded = None  # once, each command is a new interpreter
        run = team.run("push", push(team.project.path, team.remote))
        shutil.copytree(run.artifacts, fresh / "artifacts", symlinks=True)
        served = team.serves(), team.serves(staging=True)
        known = (team.github.attestations, team.github.deployments, team.github.runs)
        (fresh / "run.pickle").write_bytes(pickle.dumps((run, known, served)))
        keep(team, fresh)

    kept = once(shared, "first-push", push_it)
    return kept, int((kept / "port").read_text())


def keep(team: Team, place: Path) -> None:
    """Keeps the state of a team for others."""
    for name, path in (("project", team.project.path), ("remote.git", team.remote)):
        shutil.rmtree(place / name, ignore_errors=True)
        shutil.copytree(path, place / name, symlinks=True)


@pytest.fixture
def delivered(first_push, team_at) -> tuple[Team, Run]:
    """A team after its first push, and that push's run."""
    kept, port = first_push
    team = team_at(kept, port)
    run, known, team.served = pickle.loads((kept / "run.pickle").read_bytes())
    team.github.attestations, team.github.deployments, team.github.runs = known
    run.artifacts = kept / "artifacts"
    return team, run


@pytest.fixture
def team(delivered) -> Team:
    return delivered[0]


@dataclass(frozen=True)
class Better:
    """A better model's pull request, its merge, and what was there in between and after."""

    proposed: Run
    comments: list[dict]
    between: list[dict]
    merged: Run
    serves: str


@pytest.fixture(scope="session")
def second_champion(shared, first_push, team_at) -> Path:
    """The same team once a better model was merged and delivered, and how that went. It is made once."""
    kept, port = first_push

    def merge(fresh: Path) -> None:
        team = team_at(kept, port)
        team.project.better()
        proposed = team.propose("a better model")
        comments, between = team.github.comments[1], events(team.remote)
        merged = team.merge("deliver")
        assert merged.jobs == DELIVERED, merged.log
        better = Better(proposed, comments, between, merged, team.serves())
        (fresh / "better.pickle").write_bytes(pickle.dumps(better))
        team.update()
        keep(team, fresh)

    return once(shared, "second-champion", merge)


@pytest.fixture
def with_two(second_champion, first_push, team_at) -> Team:
    """A team that has had two champions: a logistic regression, and a better one in event 4."""
    return team_at(second_champion, first_push[1])


@pytest.fixture(scope="session")
def nothing_is_left(engine):
    """What was deployed goes with the last test, unless the state is kept for a next run."""
    yield
    if "TESTS_SHARED" not in os.environ:
        clear(engine, "late-flights")


def verdict(run: Run, job: str) -> str:
    """The first line of what a job wrote into the summary."""
    return run.summary[job].strip().splitlines()[0]


def rewrite_data(project: BakedProject, change: Callable[[list[str], list[list[str]]], object]) -> None:
    """Change the rows of the data, as lists of cells under a header, and pin the result."""
    path = project.path / "data" / "flights.csv.gz"
    header, *rows = [line.split(",") for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
    change(header, rows)
    path.write_bytes(gzip.compress("".join(",".join(row) + "\n" for row in [header, *rows]).encode(), mtime=0))
    project.cli("data-lock")
