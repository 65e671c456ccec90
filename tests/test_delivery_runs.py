"""Risk: the template's own workflows read well and do nothing, or another thing, when GitHub runs them."""

import json
import re
import shutil

import act
import pytest
from conftest import ROOT
from github import GitHub, grants

GREEN = "\t@echo green"
VERBS = ("upgrade", "test-python")  # what they do is shown elsewhere; here they only pass, or fail


class TemplateRepository:
    """A repository with the template's own workflows and tools, and its remote."""

    def __init__(self, path):
        self.path, self.remote, self.runs = path / "template", None, path
        for name in (".github", "tools"):
            shutil.copytree(ROOT / name, self.path / name, ignore=shutil.ignore_patterns("__pycache__", "*.gz"))
        (self.path / ".ci").mkdir()
        (self.path / "CHANGELOG.md").write_text("# Changelog\n\n## 1.4.0\n\n- New.\n")
        seal = self.path / "<<cookiecutter.project>>/src/conveyor/SEAL"
        seal.parent.mkdir(parents=True)
        seal.write_text("conveyor 1.4.0\n")
        address = {"_address": f"https://github.com/{act.REPOSITORY}"}
        (self.path / "cookiecutter.json").write_text(json.dumps(address))
        act.git(self.path, "init", "--quiet", "--initial-branch=main")
        self.commit()
        self.remote = act.make_remote(self.path, path / "remote.git")

    def commit(self, **recipes):
        """A commit in which these verbs have another recipe."""
        makefile = (ROOT / "Makefile").read_text()
        for verb in VERBS:
            recipe = recipes.get(verb.replace("-", "_"), GREEN)
            makefile, count = re.subn(rf"(?m)^{verb}: .*\n(\t.*\n)+", f"{verb}:\n{recipe}\n", makefile)
            assert count == 1
        (self.path / "Makefile").write_text(makefile)
        (self.path / ".ci/run").write_text(f"#!/bin/sh\n{recipes.get('everything', 'echo green')}\n")
        (self.path / ".ci/run").chmod(0o755)
        act.git(self.path, "add", "--all")
        act.git(self.path, "commit", "--quiet", "--allow-empty", "--message", "As it is")
        return act.git(self.path, "rev-parse", "HEAD")

    def play(self, event, payload, **more):
        scratch = self.runs / f"run-{len(list(self.runs.glob('run-*')))}"
        scratch.mkdir()
        return act.run_event(self.remote, event, payload, scratch, **more)


@pytest.fixture
def template(tmp_path):
    return TemplateRepository(tmp_path)


@pytest.fixture
def github(template):
    with GitHub(grants(template.path)) as github:
        yield github


@pytest.fixture
def tag(template):
    """tag(name) -> the payload of a tag that is pushed to main's newest commit."""

    def tag(name="v1.4.0"):
        act.push(template.path, template.remote)
        return act.push_tag(template.path, template.remote, name)

    return tag


ALL = dict.fromkeys(("build", "attest", "publish", "release"), "success")


def test_a_pushed_tag_builds_attests_and_publishes(template, github, tag):
    run = template.play("push", tag(), env={"GITHUB_API_URL": github.url})
    assert run.jobs == ALL, run.log
    (release,) = github.releases
    assert (release["tag_name"], release["draft"], release["body"]) == ("v1.4.0", False, "- New.\n")
    assert {asset["name"] for asset in release["assets"]} == {
        "late-flights-1.4.0.tar.gz",
        "late-flights-1.4.0-portable.zip",
        "SHA256SUMS",
    }
    (attestation,) = github.attestations
    assert attestation["job"] == "release/attest"
    attested = {each["name"]: f"sha256:{each['digest']['sha256']}" for each in attestation["subject"]}
    assert attested == {asset["name"]: asset["digest"] for asset in release["assets"]}
    assert not run.annotations


def test_in_a_private_repository_it_says_that_nothing_is_attested_and_publishes(template, github, tag):
    run = template.play("push", act.in_private(tag()), env={"GITHUB_API_URL": github.url})
    assert run.jobs == ALL and not github.attestations
    assert [(each["job"], each["level"]) for each in run.annotations] == [("attest", "notice")]
    assert [release["draft"] for release in github.releases] == [False]


def test_in_a_private_repository_that_has_attestations_it_attests(template, github, tag):
    more = {"env": {"GITHUB_API_URL": github.url}, "variables": {"ATTESTATIONS": "true"}}
    run = template.play("push", act.in_private(tag()), **more)
    assert run.jobs == ALL and len(github.attestations) == 1 and not run.annotations


def test_a_tag_that_is_no_release_is_red_and_nobody_sees_anything(template, github, tag):
    run = template.play("push", tag("v9.9.9"), env={"GITHUB_API_URL": github.url})
    assert run.jobs == {"build": "failure", "release": "failure"}
    assert "CHANGELOG.md: no section `## 9.9.9`" in run.logs["build"]
    assert not github.requests


def test_a_run_that_was_lost_before_it_published_is_finished_by_its_re_run(template, github, tag):
    payload, api = tag(), {"GITHUB_API_URL": github.url}
    github.fail("PATCH", "releases", 502)
    run = template.play("push", payload, env=api)
    assert run.jobs == ALL | {"publish": "failure", "release": "failure"}
    assert [release["draft"] for release in github.releases] == [True]
    again = template.play("push", payload, env=api, rerun_of=run)
    assert again.jobs["publish"] == again.jobs["release"] == "success"
    assert [release["draft"] for release in github.releases] == [False]


def test_the_weekly_run_opens_an_issue_when_it_fails_and_closes_it_when_it_passes(template, github):
    api = {"GITHUB_API_URL": github.url}
    sha = template.commit(test_python="\t@exit 1")
    act.push(template.path, template.remote)
    run = template.play("schedule", act.schedule_payload(sha), env=api, workflows=["newest"])
    assert run.jobs == {"test": "failure", "tell": "success", "newest": "failure"}
    assert [issue["state"] for issue in github.issues] == ["open"]

    sha = template.commit()
    act.push(template.path, template.remote)
    run = template.play("workflow_dispatch", act.dispatch_payload(sha), env=api, workflows=["newest"])
    assert run.jobs == dict.fromkeys(("test", "tell", "newest"), "success")
    assert [issue["state"] for issue in github.issues] == ["closed"]


def test_newest_versions_that_cannot_be_resolved_are_told_and_not_tested(template, github):
    sha = template.commit(upgrade="\t@exit 1")
    act.push(template.path, template.remote)
    run = template.play("schedule", act.schedule_payload(sha), env={"GITHUB_API_URL": github.url}, workflows=["newest"])
    assert run.jobs == {"test": "failure", "tell": "success", "newest": "failure"}
    assert "Test" not in run.steps["test"] and len(github.issues) == 1


@pytest.mark.parametrize(("does", "result"), [("exit 0", "success"), ("exit 1", "failure")])
def test_the_weekly_mutation_is_red_where_a_command_is_missed_by_no_test(template, does, result):
    sha = template.commit(everything=f'test "$*" = "bench-workflows WORKFLOWS=ALL" && {does}')
    act.push(template.path, template.remote)
    run = template.play("schedule", act.schedule_payload(sha), workflows=["mutation"])
    assert run.jobs == {"replace": result, "mutation": result}


PYTHONS = ("python (3.11)", "python (3.13)", "python (3.14)")


@pytest.mark.parametrize(
    ("recipes", "red"),
    [({}, ()), ({"test_python": "\t@exit 1"}, PYTHONS), ({"everything": "exit 1"}, ("everything",))],
    ids=["green", "red on the other Pythons", "red on the default one"],
)
def test_ci_runs_everything_and_each_other_python_and_is_red_if_one_of_them_is(template, recipes, red):
    template.commit(**recipes)
    run = template.play("push", act.push(template.path, template.remote))
    jobs = dict.fromkeys(("everything", *PYTHONS), "success") | dict.fromkeys(red, "failure")
    assert run.jobs == jobs | {"ci": "failure" if red else "success"}, run.log
