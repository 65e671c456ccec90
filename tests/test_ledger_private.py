"""Risk: where the repository is private a step asks for the ledger without a token, or shows the token to others."""

import os
import re
import shutil

import pytest
import yaml
from act import REPOSITORY, grants, in_private, make_remote, open_pull_request, run_event, token_of
from git_server import ELSEWHERE, GitServer
from github import GitHub
from ledgers import kinds

from conveyor.core.errors import Misuse

RIGHTS = {"one/reads": "read", "one/writes": "write", "one/nothing": "none"}
REFS = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*", "+refs/models/*:refs/models/*")


def hosted(project, folder, private=True) -> GitServer:
    """A server of what the project has, which becomes its origin."""
    bare = folder / "remote.git"
    project.git("init", "--quiet", "--bare", "--initial-branch=main", str(bare))
    project.git("push", "--quiet", str(bare), *REFS)
    server = GitServer(bare, REPOSITORY, {token_of(job): job for job in RIGHTS}, RIGHTS, private)
    project.git("remote", "add", "origin", server.url)
    return server


@pytest.fixture
def private(place, tmp_path, monkeypatch):
    """The server of a private repository with a champion; this process has no token yet."""
    place.promote("first")
    with hosted(place.project, tmp_path) as server:
        (tmp_path / "settings").write_text(server.settings)
        for name in [name for name in os.environ if name.startswith(("GIT_", "GITHUB_"))]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "settings"))
        yield server


def has(monkeypatch, job):
    monkeypatch.setenv("GITHUB_TOKEN", token_of(job))


def test_the_ledger_of_a_private_repository_is_read_and_written_with_the_token_in_each_request(
    place, private, monkeypatch
):
    has(monkeypatch, "one/writes")
    ledger = place.promote("second", push=True)
    clone = place.folder / "colleague"
    place.project.git("clone", "--quiet", str(private.bare), str(clone))
    place.project.git("-C", str(clone), "remote", "set-url", "origin", private.url)
    again = place.open(clone)
    assert kinds(again) == ["accepted", "live"] * 2
    assert again.bundle(again.champion()).files == ledger.bundle(ledger.champion()).files
    assert len(private.requests) > 10
    assert {(each.host, each.job, each.status, len(each.headers)) for each in private.requests} == {
        ("github.com", "one/writes", 200, 1)
    }


@pytest.mark.parametrize(
    ("job", "push", "told"),
    [
        (None, False, "ledger: origin cannot be read: .*could not read Username.*; check the remote and your access"),
        (
            "one/nothing",
            False,
            "ledger: origin cannot be read: the token of one/nothing may not read the contents; check",
        ),
        ("one/reads", True, "the token of one/reads may not write the contents"),
    ],
)
def test_who_has_no_token_or_no_right_is_told_so(place, private, monkeypatch, job, push, told):
    if job:
        has(monkeypatch, job)
    with pytest.raises(Misuse, match=told):
        place.promote("second", push=push)
    assert place.refs(private.bare)["refs/heads/ledger"] == place.refs()["refs/heads/ledger"]


def test_a_token_is_sent_to_no_other_host_than_the_one_that_gave_it(place, private, monkeypatch):
    """A pull request, or a fault, can name another origin."""
    has(monkeypatch, "one/writes")
    place.project.git("remote", "set-url", "origin", f"https://{ELSEWHERE}/{REPOSITORY}")
    assert kinds(place.open()) == ["accepted", "live"]
    with pytest.raises(Misuse, match=f"could not read Username for 'https://{ELSEWHERE}'"):
        place.promote("second", push=True)
    assert {(each.host, each.headers) for each in private.requests} == {(ELSEWHERE, ())}


def test_a_token_does_not_follow_a_redirect_to_another_host(place, private, monkeypatch):
    """git itself would send it there with the second request."""
    has(monkeypatch, "one/writes")
    private.moved = True
    with pytest.raises(Misuse, match="ledger: origin cannot be read: .* 301; check the remote"):
        place.open()
    assert {each.host for each in private.requests} == {"github.com"}


def test_a_pull_request_to_a_private_repository_is_judged_and_each_request_of_git_has_the_token_of_its_job(
    bootstrapped, installed_venv, tmp_path
):
    remote = make_remote(bootstrapped.path, tmp_path / "remote.git")
    bootstrapped.git("push", "--quiet", "origin", *REFS)
    bootstrapped.better()
    bootstrapped.git("commit", "--quiet", "--all", "--message", "a better model")
    pull = in_private(open_pull_request(bootstrapped.path, remote))
    with GitHub(grants(bootstrapped.path), bootstrapped.path) as github:
        github.open(pull)
        (tmp_path / "run").mkdir()
        env = {"GITHUB_API_URL": github.url}
        run = run_event(
            remote, "pull_request", pull, tmp_path / "run", workflows=["compare"], venv=installed_venv, env=env
        )
    assert run.jobs == dict.fromkeys(("challenger", "decide", "compare"), "success"), run.log
    assert github.comments[1][0]["body"].startswith("**Verdict: promote**")
    assert {(each.job, each.status) for each in run.requests} == {("compare/challenger", 200), ("compare/decide", 200)}


# What a workflow runs, and what it is given besides.
GIVEN = {
    "approve": ("--because", "why", "--push"),
    "accept": ("--push",),
    "deploy": ("--push",),
    "publish": ("--push",),
    "release": ("--tag", "v1.0.0"),
    "rollback": ("--because", "why", "--push"),
}
LEDGER = {
    "accept",
    "approve",
    "compare",
    "deploy",
    "due",
    "image",
    "monitor",
    "probation",
    "publish",
    "release",
    "retrain",
    "rollback",
    "score",
    "site",
    "train",
}


def test_each_step_that_asks_for_the_ledger_of_a_private_repository_has_the_token(bootstrapped, tmp_path):
    """What each verb of a workflow asks for is tried without a token; the workflows give it to exactly these."""
    shutil.rmtree(bootstrapped.path / "build/steps")  # nothing is skipped
    workflows = [yaml.safe_load(path.read_text()) for path in (bootstrapped.path / ".github/workflows").iterdir()]
    steps = [step for workflow in workflows for job in workflow["jobs"].values() for step in job["steps"]]
    run = [
        (step, set(re.findall(r"(?<= )[a-z]+(?!=)\b", step["run"]))) for step in steps if "make " in step.get("run", "")
    ]
    verbs = set().union(*(words for _, words in run)) - {"check", "test"}  # these two run the code of the project only
    (bootstrapped.path / "build/image.json").write_text(
        '{"schema": 1, "key": "", "digest": "", "reference": "", "image": "", "commit": ""}'
    )
    with hosted(bootstrapped, tmp_path) as server:
        (tmp_path / "settings").write_text(server.settings)
        given, asking = {"GIT_CONFIG_GLOBAL": str(tmp_path / "settings")}, set()
        for verb in sorted(verbs):
            server.requests.clear()
            done = bootstrapped.cli(verb, *GIVEN.get(verb, ()), check=False, **given)
            if any(each.path.startswith(f"/{REPOSITORY}") for each in server.requests):
                assert (done.returncode, server.requests[0].status) == (2, 401), verb
                assert "ledger: origin cannot be read: fatal: could not read Username" in done.stderr
                asking.add(verb)
        assert asking == LEDGER
        server.requests.clear()
        bootstrapped.cli("newer", check=False, GITHUB_TOKEN=token_of("one/writes"), **given)
        assert {(each.status, each.headers) for each in server.requests} == {(404, ())}, "the template is not ours"
    for step, words in run:
        if words & LEDGER:
            assert "github.token" in step["env"].get("GITHUB_TOKEN", ""), step["run"]
