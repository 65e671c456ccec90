"""Risk: the settings that make the gate binding are wrong, harm what a person has set, or keep the workflows out."""

import json
import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from conftest import OPTIONS, TEMPLATE
from ledgers import Place
from standins import gh

from conveyor.core.errors import Misuse
from conveyor.github import ledger_key, setup

BIN = Path(sys.executable).parent
RULESETS = {path.stem: json.loads(path.read_text()) for path in (TEMPLATE / ".github/rulesets").iterdir()}
ALL_ACTIONS = {"enabled": True, "allowed_actions": "all", "sha_pinning_required": True}
MAIN_ONLY = {"protected_branches": False, "custom_branch_policies": True}
READS = ("GET ", "GET /rulesets", "GET /environments", "GET /actions/permissions", "GET /codeowners/errors")
SETTINGS = [
    "PUT /actions/permissions",
    "PUT /actions/permissions/selected-actions",
    "PUT /actions/permissions/workflow",
    "PATCH ",
    *["POST /rulesets"] * 4,
    "PUT /environments/staging",
    "POST /environments/staging/deployment-branch-policies",
    "PUT /environments/production",
    "POST /environments/production/deployment-branch-policies",
]


class HostedRepository:
    """A repository on GitHub, as its settings stand behind the stand-in for gh."""

    def __init__(self, project, folder: Path) -> None:
        self.project, self.file, self.bin = project, folder / "github.json", folder / "bin"
        self.bin.mkdir()
        script = f'#!/bin/sh\nexec "{sys.executable}" -I -S "{gh.__file__}" "{self.file}" "$@"\n'
        (self.bin / "gh").write_text(script)
        (self.bin / "gh").chmod(0o755)
        project.git("remote", "add", "origin", "git@github.com:acme/late-flights.git")

    @property
    def path(self) -> str:
        return f"{self.bin}:{os.environ['PATH']}"

    @property
    def state(self) -> dict:
        """It holds no request that GitHub's description does not know so."""
        state = json.loads(self.file.read_text())
        assert [gh.faults(*request) for request in state["requests"]] == [""] * len(state["requests"])
        return state

    def has(self, **there) -> None:
        """What is set already; and under ``fail`` what a request ends with: code, output, complaint."""
        before = self.state if self.file.exists() else gh.EMPTY
        self.file.write_text(json.dumps({**before, "requests": [], **there}))

    def apply(self, check: bool = True, **env: str):
        return self.project.cli("github-setup", "--apply", check=check, PATH=self.path, **env)

    def written(self) -> list[str]:
        """The requests that changed something, in their order."""
        made = [(method, path.removeprefix(gh.REPOSITORY)) for method, path, *_ in self.state["requests"]]
        return [f"{method} {path}" for method, path in made if method != "GET"]


@pytest.fixture
def hosted(project, tmp_path):
    return HostedRepository(project, tmp_path)


# What is set


def test_without_apply_commands_are_printed_and_nothing_is_run(hosted):
    done = hosted.project.make("github-setup", PATH=hosted.path)
    assert not hosted.file.exists()
    lines = [line for line in done.stdout.splitlines() if line and not line.startswith("#")]
    assert lines[0] == "export GH_HOST=github.com"
    assert len(lines) == 1 + len(SETTINGS)
    assert all(
        re.search(r"(^|\| )gh api --method (PUT|POST|PATCH) repos/acme/late-flights", line) for line in lines[1:]
    )
    assert "graphql" not in done.stdout


def test_a_shell_that_runs_what_is_printed_does_what_apply_does(hosted):
    (hosted.bin / "script").write_text(hosted.project.make("github-setup", PATH=hosted.path).stdout)
    hosted.project.run("sh", "-e", hosted.bin / "script", env={"PATH": hosted.path})
    printed = hosted.state
    hosted.file.unlink()
    hosted.project.make("github-setup", APPLY="1", PATH=hosted.path)
    applied = hosted.state
    assert [each for each in applied["requests"] if each[0] != "GET"] == printed["requests"]
    assert {**applied, "requests": []} == {**printed, "requests": []}


def test_what_is_optional_is_printed_as_requests_that_github_takes_too(hosted):
    hosted.has(environments={"production": {}})
    lines = hosted.project.make("github-setup", PATH=hosted.path).stdout.splitlines()
    optional = [line.removeprefix("# ") for line in lines if re.match(r"# .*gh api --method", line)]
    assert len(optional) == 3
    for line in optional:
        hosted.project.run("sh", "-ec", line, env={"PATH": hosted.path})
    assert hosted.state["environments"]["production"]["reviewers"] == [{"type": "User", "id": 1}]
    assert hosted.state["environments"]["production"]["deployment_branch_policy"] == MAIN_ONLY
    assert hosted.state["repository"] == {"private-vulnerability-reporting": None, "actions/permissions": ALL_ACTIONS}


def test_a_fresh_repository_gets_every_setting(hosted):
    done = hosted.apply()
    state = hosted.state
    assert hosted.written() == SETTINGS
    assert state["repository"] == {
        "actions/permissions": {"enabled": True, "allowed_actions": "selected", "sha_pinning_required": True},
        "actions/permissions/selected-actions": {
            "github_owned_allowed": True,
            "verified_allowed": False,
            "patterns_allowed": ["aws-actions/configure-aws-credentials@*"],
        },
        "actions/permissions/workflow": {
            "default_workflow_permissions": "read",
            "can_approve_pull_request_reviews": False,
        },
        "": {
            "allow_merge_commit": True,
            "allow_squash_merge": True,
            "allow_rebase_merge": False,
            "delete_branch_on_merge": True,
        },
    }
    own = [{key: ruleset[key] for key in ruleset if key not in ("id", "source")} for ruleset in state["rulesets"]]
    assert own == [RULESETS[name] for name in ("ledger", "main", "tags", "versions")]
    only_main = {"deployment_branch_policy": MAIN_ONLY, "branches": [{"id": 0, "name": "main", "type": "branch"}]}
    assert state["environments"] == {"staging": only_main, "production": only_main}
    assert len(done.stdout.splitlines()) == len(SETTINGS) + 1


def test_a_repository_with_a_source_of_new_rows_lets_its_workflows_open_pull_requests(hosted):
    hosted.project.edit("params.yaml", "source: null ", "source: {command: cat new.csv} ")
    hosted.apply()
    told = hosted.state["repository"]["actions/permissions/workflow"]
    assert told == {"default_workflow_permissions": "read", "can_approve_pull_request_reviews": True}


def test_a_private_repository_whose_patterns_github_ignores_lets_every_pinned_action_in(hosted):
    hosted.has(about={"private": True})
    hosted.apply()
    assert hosted.written() == [name for name in SETTINGS if "selected-actions" not in name]
    assert hosted.state["repository"]["actions/permissions"] == ALL_ACTIONS


@pytest.mark.parametrize(
    ("about", "told"),
    [
        ({"allow_rebase_merge": True}, "allow_rebase_merge False"),
        (
            {"delete_branch_on_merge": False, "allow_squash_merge": False},
            "allow_squash_merge True, delete_branch.* True",
        ),
    ],
)
def test_what_github_takes_without_a_word_and_does_not_set_is_told(hosted, one_line, about, told):
    hosted.has(about=about)
    done = hosted.apply(check=False)
    one_line(done, 2, f"github-setup: GitHub did not take {told}; the plan, or a policy .* All else is set")
    assert hosted.written() == SETTINGS


def test_every_restriction_in_githubs_description_of_what_is_sent_is_known_here():
    """A new version of the description can restrict what was free: then somebody has to look."""
    known = {
        "patterns_allowed",  # of public repositories: sent to no other
        "bypass_actors.bypass_mode",  # pull_request: of branches only
        "enforcement",  # evaluate: of GitHub Enterprise
        "issue_field_values",  # never sent
    }
    told = {key: said for each in gh.KNOWN["operations"].values() for key, said in each.get("restricts", {}).items()}
    assert told.keys() == known and "only applies to public repositories" in told["patterns_allowed"]
    for ruleset in (*RULESETS.values(), *ledger_key.rulesets()):
        assert ruleset["enforcement"] == "active"
        modes = [actor["bypass_mode"] for actor in ruleset.get("bypass_actors", ())]
        assert ruleset["target"] == "branch" or "pull_request" not in modes


@pytest.mark.parametrize(
    ("created", "told"),
    [
        ("2026-07-15T00:00:00Z", "repo:acme@11/late-flights@22:environment:BUILD_ENVIRONMENT"),
        (
            "2026-07-14T23:59:59Z",
            "repo:acme/late-flights:environment:BUILD_ENVIRONMENT, or if it was renamed since, "
            "repo:acme@11/late-flights@22:environment:BUILD_ENVIRONMENT",
        ),
    ],
)
def test_the_subject_that_a_cloud_role_trusts_is_that_of_githubs_tokens(hosted, created, told):
    hosted.has(about={"created_at": created})
    assert hosted.apply().stdout.splitlines()[-1] == f"github-setup a cloud role (AWS_ROLE) trusts only {told}"


def test_applied_again_it_changes_nothing_and_doubles_nothing(hosted):
    hosted.apply()
    before = hosted.state
    hosted.has()
    hosted.apply()
    assert {**hosted.state, "requests": []} == {**before, "requests": []}
    assert [name for name in hosted.written() if "rulesets" in name] == [f"PUT /rulesets/{40 + n}" for n in range(4)]


def test_a_ruleset_that_was_loosened_by_hand_is_put_back_and_one_of_another_name_is_left_alone(hosted):
    loose = {**RULESETS["main"], "enforcement": "disabled", "rules": [], "id": 8, "source": "acme/late-flights"}
    own = {**RULESETS["ledger"], "name": "ours", "id": 9, "source": "acme/late-flights"}
    hosted.has(rulesets=[loose, own])
    hosted.apply()
    after = {ruleset["name"]: ruleset for ruleset in hosted.state["rulesets"]}
    assert set(after) == {"main", "ours", "ledger", "tags", "versions"}
    assert after["main"] == {**loose, **RULESETS["main"]}
    assert after["ours"] == own


def test_an_environment_that_the_first_delivery_made_is_closed_to_other_branches(hosted):
    hosted.has(environments={"staging": {}, "production": {}})
    hosted.apply()
    assert {name: kept["deployment_branch_policy"] for name, kept in hosted.state["environments"].items()} == {
        "staging": MAIN_ONLY,
        "production": MAIN_ONLY,
    }


def test_reviewers_waiting_time_and_branches_that_a_person_added_stay(hosted):
    kept = {
        "reviewers": [{"type": "User", "id": 5}, {"type": "Team", "id": 6}],
        "prevent_self_review": True,
        "wait_timer": 30,
        "deployment_branch_policy": MAIN_ONLY,
        "branches": [{"id": 0, "name": "hotfix/*", "type": "branch"}],
    }
    hosted.has(environments={"production": kept})
    hosted.apply()
    after = hosted.state["environments"]["production"]
    assert [branch["name"] for branch in after.pop("branches")] == ["hotfix/*", "main"]
    assert after == {key: value for key, value in kept.items() if key != "branches"}


def test_an_action_that_is_not_githubs_own_is_let_in_by_name_and_one_of_the_repository_is_not_named(hosted):
    hosted.project.edit(
        ".github/workflows/ci.yml",
        "      - name: Check\n",
        "      - uses: acme/tool/sub@3d3c42e5aac5ba805825da76410c181273ba90b1 # v1.0.0\n      - name: Check\n",
    )
    hosted.apply()
    assert hosted.state["repository"]["actions/permissions/selected-actions"]["patterns_allowed"] == [
        "acme/tool/sub@*",
        "aws-actions/configure-aws-credentials@*",
    ]


# What goes wrong


@pytest.mark.parametrize("request_", [SETTINGS[0], "POST /rulesets", SETTINGS[-1], *READS])
def test_what_github_refuses_is_one_line_what_came_before_stays_and_a_second_run_ends_it(hosted, one_line, request_):
    told = "gh: Upgrade to GitHub Pro or make this repository public. (HTTP 403)\nmore"
    hosted.has(fail={request_: [1, "{}", told]})
    done = hosted.apply(check=False)
    one_line(
        done, 2, r"github-setup: \S.*: gh: Upgrade to GitHub Pro .* \(HTTP 403\) more; what comes before it is set; .*"
    )
    tried = hosted.written()
    assert tried == SETTINGS[: len(tried)] and len(done.stdout.splitlines()) == len(tried) - (request_ not in READS)
    hosted.has(fail={})
    hosted.apply()
    assert len(hosted.state["rulesets"]) == 4
    assert all(len(kept["branches"]) == 1 for kept in hosted.state["environments"].values())


def test_the_line_of_a_refusal_names_the_setting(hosted, one_line):
    hosted.has(fail={"PUT /environments/production": [1, "", "gh: Not Found (HTTP 404)"]})
    one_line(hosted.apply(check=False), 2, r"github-setup: environment production: gh: Not Found \(HTTP 404\); what .*")


def test_a_gh_that_fails_without_a_word_or_answers_no_json_is_one_line(hosted, one_line):
    hosted.has(fail={"PATCH ": [4, "", ""]})
    one_line(
        hosted.apply(check=False),
        2,
        "github-setup: pull requests are merged .*: gh exited with 4; what comes before it is set; .*",
    )
    hosted.has(fail={"GET /rulesets": [0, "<html>", ""]})
    one_line(hosted.apply(check=False), 2, "github-setup: rulesets: gh answered no JSON; update gh, and run it again")


def test_a_gh_that_does_not_answer_is_ended(hosted, monkeypatch):
    (hosted.bin / "gh").write_text("#!/bin/sh\nsleep 60\n")
    monkeypatch.setenv("PATH", hosted.path)
    monkeypatch.setattr(setup, "SECONDS", 0.3)
    with pytest.raises(Misuse, match="^github-setup: the repository: gh did not answer within 0.3 seconds;"):
        setup.run(hosted.project.path, True)


def test_without_gh_one_line_says_what_to_install(hosted, one_line):
    (hosted.bin / "gh").unlink()
    (hosted.bin / "git").symlink_to(shutil.which("git"))
    done = hosted.project.cli("github-setup", "--apply", check=False, PATH=str(hosted.bin))
    one_line(done, 2, "gh is not installed; install GitHub's command line, and log in by `gh auth login`")
    assert hosted.project.cli("github-setup", PATH=str(hosted.bin)).stdout.count("gh api --method") == len(SETTINGS) + 3


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"rules": []}'])
def test_a_ruleset_that_is_none_is_named(hosted, one_line, content):
    (hosted.project.path / ".github/rulesets/main.json").write_text(content)
    mend = ".github/rulesets/main.json: no ruleset with a name; `git checkout` brings it back"
    one_line(hosted.apply(check=False), 2, mend)
    one_line(hosted.project.cli("github-setup", check=False), 2, mend)


def test_an_owner_whom_github_does_not_know_is_named_with_the_line_of_the_file(hosted, one_line):
    error = {"line": 5, "column": 3, "kind": "Unknown owner", "message": "Unknown owner on line 5:\n\n  * @acme\n    ^"}
    hosted.has(errors=[{**error, "path": ".github/CODEOWNERS", "source": "* @acme", "suggestion": None}])
    done = hosted.apply(check=False)
    one_line(done, 2, ".github/CODEOWNERS:5: Unknown owner; name a person or an @organisation/team .*All else is set")
    assert hosted.written() == SETTINGS


@pytest.mark.parametrize(
    ("method", "path", "sent"),
    [
        ("PUT", "actions/permissions", {"enabled": True, "sha_pining_required": True}),
        ("PUT", "actions/permissions", {"allowed_actions": "selected"}),
        ("PUT", "actions/permissions/workflow", {"default_workflow_permissions": "none"}),
        ("POST", "rulesets", {**RULESETS["main"], "enforcement": "on"}),
        ("POST", "rulesets", {**RULESETS["main"], "rules": [{"type": "no_deletion"}]}),
        ("POST", "rulesets", {**RULESETS["main"], "rules": [{"type": "pull_request", "parameters": {"count": 1}}]}),
        ("PUT", "environments/staging", {"reviewers": [{"type": "Owner", "id": 1}]}),
        ("PUT", "environments/staging", {"deployment_branch_policy": {"protected_branches": True}}),
        ("PUT", "private-vulnerability-reporting", {}),
        ("DELETE", "rulesets", None),
        ("GET", "rulesets?name=main", None),
    ],
)
def test_what_github_would_refuse_or_ignore_is_noticed(method, path, sent):
    assert gh.faults(method, f"{gh.REPOSITORY}/{path}", sent, None)


# Whose settings


@pytest.fixture(scope="module")
def where(bake):
    """where(url) -> host and repository of a project with that origin."""
    project = bake()

    def where(url: str | None = None) -> tuple[str, str]:
        project.git("remote", "remove", "origin", check=False)
        if url is not None:
            project.git("config", "remote.origin.url", url)
        return setup.where(project.path)

    return where


@pytest.fixture
def outside(monkeypatch):
    """Not in a workflow."""
    for name in ("GITHUB_REPOSITORY", "GITHUB_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/acme/late-flights",
        "https://github.com/acme/late-flights.git",
        "https://github.com/acme/late-flights/",
        "https://ada:secret@github.com/acme/late-flights.git",
        "https://GitHub.com/acme/late-flights",
        "git@github.com:acme/late-flights.git",
        "git@github.com:acme/late-flights",
        "github.com:acme/late-flights.git",
        "ssh://git@github.com/acme/late-flights.git",
        "ssh://git@github.com:22/acme/late-flights",
        "ssh://git@ssh.github.com:443/acme/late-flights.git",
    ],
)
def test_the_repository_is_that_of_the_remote(outside, where, url):
    assert where(url) == ("github.com", "acme/late-flights")


def test_a_name_with_dots_keeps_them(outside, where):
    assert where("git@github.com:acme/late.flights.v2.git") == ("github.com", "acme/late.flights.v2")


@pytest.mark.parametrize(
    "url",
    [
        "https://gitlab.example.org/acme/late-flights.git",
        "git@work:acme/late-flights.git",
        "https://github.com.example.org/acme/late-flights",
        "https://example.org/github.com/acme/late-flights",
        "https://github.com@example.org/acme/late-flights",
        "https://example.org#@github.com/acme/late-flights/x",
        "https://github.com/acme",
        "https://github.com/acme/late-flights/tree/main",
        "https://github.com/acme/..",
        "https://github.com/acme/..git",
        "https://github.com/../acme",
        "https://github.com/-acme/late-flights",
        "https://github.com/acme/late flights",
        "https://github.com/acme/late-flights?x=y",
        "https://github.com/acme/{repo}",
        "git@github.com:acme/$(touch pwned)",
        "git@github.com:acme/late-flights;id",
        "git@github.com:acme/late-flights\nx",
        "git@github.com:acme/låte",
        "/srv/git/acme/late-flights.git",
        "file:///srv/git/late-flights.git",
        "ext::sh -c id% acme/late-flights",
        "x" * 5000,
        "https://token-of-ada@github.com/acme",
    ],
)
def test_a_remote_that_is_no_repository_on_github_is_refused_and_not_repeated(outside, where, url):
    with pytest.raises(Misuse) as refused:
        where(url)
    mend = "the remote named origin is no repository on github.com; set GITHUB_REPOSITORY=OWNER/NAME"
    assert str(refused.value) == mend


def test_without_a_remote_or_a_repository_one_line_says_what_to_set(project, one_line, tmp_path):
    told = "no repository on GitHub is known: .*origin.*; set GITHUB_REPOSITORY=OWNER/NAME"
    one_line(project.cli("github-setup", check=False), 2, told)
    shutil.rmtree(project.path / ".git")
    done = project.cli("github-setup", check=False, GIT_CEILING_DIRECTORIES=str(project.path.parent))
    one_line(done, 2, "no repository on GitHub is known: .*not a git repository.*; set GITHUB_REPOSITORY=OWNER/NAME")
    assert "repos/acme/late-flights" in project.cli("github-setup", GITHUB_REPOSITORY="acme/late-flights").stdout


def test_what_the_environment_names_comes_first(outside, where):
    outside.setenv("GITHUB_REPOSITORY", "ours/model")
    assert where("git@github.com:acme/late-flights.git") == ("github.com", "ours/model")
    outside.setenv("GITHUB_SERVER_URL", "https://github.example.org")
    assert where() == ("github.example.org", "ours/model")
    outside.delenv("GITHUB_REPOSITORY")
    assert where("git@github.example.org:acme/x.git") == ("github.example.org", "acme/x")
    with pytest.raises(Misuse, match="is no repository on github.example.org"):
        where("git@github.com:acme/late-flights.git")


@pytest.mark.parametrize(
    "name", ["acme", "acme/", "/x", "a/b/c", "acme/..", "acme/x y", "acme/x\n", "$(id)/x", "a/{repo}"]
)
def test_a_name_in_the_environment_that_is_none_is_refused(outside, where, name):
    outside.setenv("GITHUB_REPOSITORY", name)
    with pytest.raises(Misuse, match="^GITHUB_REPOSITORY: .* is no repository; write it as OWNER/NAME$"):
        where()


# Rulesets


@pytest.mark.parametrize("name", RULESETS)
def test_a_ruleset_has_the_form_in_which_github_imports_and_updates_it(name):
    ruleset = RULESETS[name]
    assert ruleset["name"] == name and ruleset["enforcement"] == "active"
    for operation in ("POST /rulesets", "PUT /rulesets/{ruleset_id}"):
        assert gh.wrong(gh.closed(gh.KNOWN["operations"][operation]["body"]), ruleset) == ""


def test_main_wants_exactly_the_gates_of_the_workflows_that_a_pull_request_starts(project):
    wanted = {rule["type"]: rule.get("parameters") for rule in RULESETS["main"]["rules"]}["required_status_checks"]
    gates = []
    for path in sorted((project.path / ".github/workflows").iterdir()):
        workflow = yaml.safe_load(path.read_text())
        if "pull_request" in workflow[True]:
            gates.append(workflow["jobs"][workflow["name"]]["name"])
    assert wanted["required_status_checks"] == [{"context": gate, "integration_id": 15368} for gate in gates] != []
    assert wanted["strict_required_status_checks_policy"] is True


def test_an_administrator_gets_past_main_by_a_pull_request_and_only_who_maintains_makes_a_version():
    """A tag `v*` runs the code of its commit in the workflow `release`."""
    maintainer, admin = ({"actor_id": role, "actor_type": "RepositoryRole"} for role in (2, 5))
    bypass = {name: ruleset["bypass_actors"] for name, ruleset in RULESETS.items()}
    assert bypass == {
        "main": [admin | {"bypass_mode": "pull_request"}],
        "ledger": [],
        "tags": [],
        "versions": [maintainer | {"bypass_mode": "always"}, admin | {"bypass_mode": "always"}],
    }


# git calls it for every ref of a push; what it refuses is what GitHub refuses anybody who may not bypass.
HOOK = """#!{python}
import fnmatch, json, os, pathlib, subprocess, sys
ref, old, new = sys.argv[1:]
none, made = "0" * 40, []
for file in sorted(pathlib.Path({rulesets!r}).glob("*.json")):
    ruleset = json.loads(file.read_text())
    names = ruleset["conditions"]["ref_name"]["include"]
    kind = {{"branch": "refs/heads/", "tag": "refs/tags/"}}[ruleset["target"]]
    known = [ref, "~DEFAULT_BRANCH" if ref == "refs/heads/main" else ref]
    role = int(os.environ.get("ROLE", "0"))  # of whoever pushes
    if role in [one["actor_id"] for one in ruleset["bypass_actors"] if one["bypass_mode"] == "always"]:
        continue
    if ref.startswith(kind) and any(fnmatch.fnmatchcase(one, name) for one in known for name in names):
        made += [rule["type"] for rule in ruleset["rules"]]
forced = none not in (old, new) and subprocess.run(["git", "merge-base", "--is-ancestor", old, new]).returncode
broken = {{
    "creation": old == none,
    "deletion": new == none,
    "update": none not in (old, new),
    "non_fast_forward": forced,
    "pull_request": old != none,
    "required_status_checks": old != none,
}}
for rule in made:
    if broken[rule]:
        sys.exit("GH013: Repository rule violations found for " + ref + ": " + rule)
"""


@pytest.fixture
def ruled(project, tmp_path):
    """A ledger whose origin holds the rulesets against every push."""
    place = Place(project, tmp_path)
    hook = place.remote() / "hooks/update"
    hook.write_text(HOOK.format(python=sys.executable, rulesets=str(project.path / ".github/rulesets")))
    hook.chmod(0o755)
    return place


# Where no engine runs, docker's client leaves the socket that it tried to the collector.
@pytest.mark.filterwarnings("ignore:.*<socket.socket .*family=1:pytest.PytestUnraisableExceptionWarning")
def test_the_rules_let_workflows_and_people_write_the_ledger(ruled):
    for name in ("first", "second", "third"):
        ruled.promote(name, push=True)
    ruled.act("rollback", ruled.open(push=True), None, "it is slow")
    ruled.act("quarantine", ruled.open(push=True), 1, "wrong labels")
    ruled.act("prune", ruled.open(push=True), 2)
    remote = ruled.refs(ruled.folder / "remote.git")
    assert len([ref for ref in remote if ref.startswith("refs/tags/champion/")]) == 4
    assert len([ref for ref in remote if ref.startswith("refs/models/")]) == 2


def test_the_rules_let_nobody_rewrite_what_was(ruled):
    ruled.promote("first", push=True)
    ruled.promote("second", push=True)
    git = ruled.project.git
    git("--git-dir", str(ruled.folder / "remote.git"), "config", "receive.denyDeleteCurrent", "ignore")
    git("fetch", "--quiet", "origin", "+refs/heads/ledger:refs/heads/ledger", "+refs/tags/*:refs/tags/*")
    git("tag", "v1.0.0")
    refused = git("push", "origin", "v1.0.0", check=False)
    assert "rule violations found for refs/tags/v1.0.0: creation" in refused.stderr
    ruled.project.run("git", "push", "--quiet", "origin", "v1.0.0", env={"ROLE": "2"})
    git("push", "--quiet", "origin", "main:refs/heads/work")
    git("commit", "--allow-empty", "--quiet", "--message", "more")
    before = ruled.refs(ruled.folder / "remote.git")
    for refspec, rule in {
        "+ledger~1:refs/heads/ledger": "non_fast_forward",
        ":refs/heads/ledger": "deletion",
        "+main:refs/tags/champion/000002": "update",
        ":refs/tags/champion/000004": "deletion",
        "+main:refs/tags/v1.0.0": "update",
        ":refs/tags/v1.0.0": "deletion",
        "main:refs/heads/main": "pull_request",
        ":refs/heads/main": "deletion",
    }.items():
        done = git("push", "origin", refspec, check=False)
        assert done.returncode != 0
        assert f"rule violations found for {refspec.partition(':')[2]}: {rule}" in done.stderr
    assert ruled.refs(ruled.folder / "remote.git") == before
    git("push", "--quiet", "origin", ":refs/heads/work", "main:refs/heads/other")


def test_a_hook_before_pushes_does_not_hear_of_the_ledger(ruled):
    """`make hooks` installs one that tests the code; an event of the ledger is none."""
    hook = ruled.project.path / ".git/hooks/pre-push"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    ruled.promote("first", push=True)
    assert ruled.open().champion().key == ruled.key("first")


# Owners, updates, forms


def owners(project) -> list[tuple[str, list[str]]]:
    """Pattern and owners of each line, in GitHub's syntax: gitignore's without `!`, `[ ]` and `\\#`."""
    found = []
    for line in (project.path / ".github/CODEOWNERS").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern, *names = line.split()
            assert not re.search(r"[!\[\]\\]", pattern), line
            for name in names:
                assert re.fullmatch(r"@[A-Za-z0-9](-?[A-Za-z0-9]){0,38}(/[a-z0-9_-]+)?", name), line
            found.append((pattern, names))
    return found


def test_everything_but_the_model_and_prose_has_an_owner(bake):
    project = bake(owner="ada-lovelace")
    lines, files = owners(project), [path.as_posix() for path in project.files()]
    matched, owned = set(), {}
    for file in files:
        for pattern, names in lines:
            # One with a slash begins at the root, another one is the name of a file in any folder.
            if fnmatch(f"/{file}", pattern) if "/" in pattern else fnmatch(Path(file).name, pattern):
                matched.add(pattern)
                owned[file] = names
    assert matched == {pattern for pattern, _ in lines}
    assert all(names in ([], ["@ada-lovelace"]) for names in owned.values())
    free = [file for file in files if not owned.get(file)]
    assert free == [file for file in files if file.endswith((".md", f"src/{project.package}/model.py"))]
    assert f"src/{project.package}/model.py" in free
    assert len([file for file in free if not file.startswith("docs/")]) < 7


@pytest.fixture(params=OPTIONS["deploy"])
def updates(request, bake):
    """A project, and what Dependabot is to look at."""
    project = bake(deploy=request.param)
    done = project.run(BIN / "check-jsonschema", "--builtin-schema", "vendor.dependabot", ".github/dependabot.yml")
    assert done.stdout.strip().endswith("validation done")
    return project, yaml.safe_load((project.path / ".github/dependabot.yml").read_text())["updates"]


def test_every_place_with_a_pin_is_looked_at_each_week_and_waits_a_week(updates):
    project, found = updates
    places = {each["package-ecosystem"]: each.get("directories") or [each["directory"]] for each in found}
    pinned = {
        path.parent for path in (project.path / ".github").rglob("*.yml") if re.search("uses: .*@", path.read_text())
    }
    folders = {project.path / folder.strip("/") for folder in places["github-actions"]}
    assert {folder if folder.name == "setup" else project.path for folder in pinned} == folders
    assert places["uv"] == ["/requirements"]
    # Only an image that FROM names itself is looked at.
    named = {
        path.parent for path in project.path.rglob("*Dockerfile") if re.search("^FROM [a-z]+:", path.read_text(), re.M)
    }
    assert [project.path / folder.strip("/") for folder in places.get("docker", [])] == sorted(named)
    assert [path.name for path in project.path.rglob("devcontainer.json")] == ["devcontainer.json"]
    assert places["devcontainers"] == ["/"], "it looks for the file's folder itself"
    for each in found:
        assert each["schedule"] == {"interval": "weekly"} and each["cooldown"] == {"default-days": 7}
        assert each["commit-message"]["prefix"]
    done = project.run(BIN / "zizmor", "--offline", "--persona=auditor", ".github/dependabot.yml")
    assert "completed .github/dependabot.yml" in done.stderr


def test_a_lock_names_the_options_that_dependabot_has_to_repeat(project):
    """As Dependabot looks for them in the file, and as `make lock` gives them."""
    locks = sorted((project.path / "requirements").glob("*.txt"))
    assert [lock.stem for lock in locks] == ["dev", "model", "run", "serve", "update"]
    (recipe,) = re.findall("^LOCK := uv pip compile (.*)$", (project.path / "Makefile").read_text(), re.M)
    for lock in locks:
        text = lock.read_text()
        head = [line for line in text.splitlines()[:2] if line.startswith("#")]
        assert head[1].strip("# ") == f"make lock (uv pip compile {recipe})"
        assert "--universal" in recipe and re.search(r"--python-version[=\s]+3\.11\b", text)
        assert "--hash=sha" in text and "# via " not in text and "--pre" not in text


def test_make_lock_writes_these_lines(project, tmp_path):
    """On requirements of nothing, so that no index is asked."""
    for name in ("dev", "run", "model", "serve", "update"):
        (project.path / f"requirements/{name}.in").write_text("")
        (project.path / f"requirements/{name}.txt").write_text("")
    shutil.copyfile(project.path / "requirements/dev.txt", tmp_path / "installed.txt")
    (tmp_path / "bin").symlink_to(BIN)
    project.run("make", "lock", env={"VENV": str(tmp_path)})
    for lock in (project.path / "requirements").glob("*.txt"):
        assert lock.read_text() == "".join((TEMPLATE / "requirements" / lock.name).read_text().splitlines(True)[:2])


def test_the_forms_for_issues_are_githubs_and_ask_each_thing_once(project):
    folder = project.path / ".github/ISSUE_TEMPLATE"
    forms = sorted(path.name for path in folder.iterdir())
    assert forms == ["incident.yml", "model_change.yml"]
    for name in forms:
        schema = ("--builtin-schema", "vendor.github-issue-forms")
        project.run(BIN / "check-jsonschema", *schema, f".github/ISSUE_TEMPLATE/{name}")
        asked = [each for each in yaml.safe_load((folder / name).read_text())["body"] if each["type"] != "markdown"]
        for key in ([each["id"] for each in asked], [each["attributes"]["label"] for each in asked]):
            assert len(set(key)) == len(key) > 2
        assert sum(each.get("validations", {}).get("required", False) for each in asked) == 2


def test_what_the_forms_tell_to_type_is_there(project):
    verbs = re.findall(r"(?m)^([a-z-]+):", (project.path / "Makefile").read_text())
    texts = [path.read_text() for path in (project.path / ".github/ISSUE_TEMPLATE").iterdir()]
    told = re.findall(
        "`make ([a-z-]+)", "".join([*texts, (project.path / ".github/pull_request_template.md").read_text()])
    )
    assert set(told) == {"history", "rollback", "try"} and set(told) <= set(verbs)


# Hooks


@pytest.fixture
def hooked(project, tmp_path):
    """A project with its hooks, and a remote; tests are one that is quick."""
    for path in (project.path / "tests").glob("*.py"):
        path.unlink()
    (project.path / "tests/test_one.py").write_text("def test_one():\n    assert True\n")
    project.git("commit", "--quiet", "--all", "--message", "one test")
    project.git("add", "--all")
    project.git("commit", "--quiet", "--message", "one test")
    project.git("clone", "--quiet", "--bare", str(project.path), str(tmp_path / "remote.git"))
    project.git("remote", "add", "origin", str(tmp_path / "remote.git"))
    project.make("hooks", PRE_COMMIT_HOME=str(tmp_path / "pre-commit"))

    def git(*words: str) -> subprocess.CompletedProcess[str]:
        identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
        env = {"VENV": str(project.venv), "PRE_COMMIT_HOME": str(tmp_path / "pre-commit")}
        return project.run("git", *identity, *words, check=False, env=env)

    return project, git


def test_a_commit_has_to_pass_what_ci_checks(hooked):
    project, git = hooked
    (project.path / "tests/test_two.py").write_text("def  test_two( ):\n    assert  True\n")
    git("add", "--all")
    refused = git("commit", "--message", "two")
    assert refused.returncode != 0 and "1 file would be reformatted" in refused.stdout + refused.stderr
    assert git("log", "-1", "--format=%s").stdout == "one test\n"
    project.make("format")
    git("add", "--all")
    done = git("commit", "--message", "two")
    assert done.returncode == 0, done.stderr
    assert git("log", "-1", "--format=%s").stdout == "two\n"


def test_a_push_has_to_pass_what_ci_tests(hooked, tmp_path):
    project, git = hooked
    remote = tmp_path / "remote.git"
    (project.path / "tests/test_one.py").write_text("def test_one():\n    assert 1 == 2\n")
    assert git("commit", "--all", "--message", "broken").returncode == 0
    refused = git("push", "origin", "main")
    assert refused.returncode != 0 and "1 failed" in refused.stdout + refused.stderr
    assert project.git("--git-dir", str(remote), "log", "-1", "--format=%s", "main").stdout == "one test\n"
    (project.path / "tests/test_one.py").write_text("def test_one():\n    assert 1 == 1\n")
    assert git("commit", "--all", "--message", "mended").returncode == 0
    assert git("push", "origin", "main").returncode == 0
    assert project.git("--git-dir", str(remote), "log", "-1", "--format=%s", "main").stdout == "mended\n"
