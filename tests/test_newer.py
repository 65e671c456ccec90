"""Risk: nobody hears of a newer release of the template, hears of it twice, or for ever."""

import re

import pytest
from github import BOT, GitHub, grants

from conveyor.github import newer

TITLE = "A newer release of the template is out"


@pytest.fixture
def place(project, template):
    """A repository of the first release of a template that has a second one."""
    project.edit(".copier-answers.yml", "_src_path: ", f"_src_path: {template}\nwas: ")
    return project


@pytest.fixture
def github(project):
    with GitHub(grants(project.path), project.path) as double:
        yield double


@pytest.fixture
def look(github, place, monkeypatch):
    """look() -> what the verb says in the workflow."""

    def look(release="v0.1.0", issue=True):
        answers = place.path / ".copier-answers.yml"
        answers.write_text(re.sub(r"(?m)^_commit: .*$", f"_commit: {release}", answers.read_text()))
        seal = place.path / "src/conveyor/SEAL"
        seal.write_text(re.sub(r"^conveyor .*", f"conveyor {release[1:]}", seal.read_text()))
        monkeypatch.setattr("time.sleep", lambda seconds: None)  # between attempts
        for name, value in github.environment("update/look").items():
            monkeypatch.setenv(name, value)
        return newer.run(place.path, issue)

    return look


def test_one_issue_holds_what_is_new_since_the_release_that_is_here(github, look):
    assert "opened https://" in look() and "said in https://" in look()
    [issue] = github.issues
    assert (issue["title"], issue["state"]) == (TITLE, "open") and github.writes == ["POST issues"]
    assert "v0.2.0 is out; this repository has v0.1.0" in issue["body"] and "`make update`" in issue["body"]
    assert "is called `deploy.keep_releases`" in issue["body"]
    assert "The first one" not in issue["body"] and "Not out yet" not in issue["body"]


def test_the_issue_is_rewritten_where_it_says_something_else(github, look):
    look()
    github.issues[0]["body"] = "Something older"
    look()
    assert "v0.2.0 is out" in github.issues[0]["body"] and len(github.issues) == 1


def test_it_is_closed_once_the_release_is_here_and_stays_closed(github, look):
    look()
    assert look("v0.2.0") == "v0.2.0 is the newest release; its issue is closed"
    assert look("v0.2.0") == "v0.2.0 is the newest release"
    assert [issue["state"] for issue in github.issues] == ["closed"] and len(github.comments[1]) == 1


def test_a_release_that_is_not_there_any_more_is_not_asked_for(github, look):
    assert look("v0.9.0") == "v0.9.0 is the newest release" and github.issues == []


def test_what_others_wrote_is_left_alone(github, look):
    somebody = {"login": "somebody", "type": "User"}
    github.pulls[2] = {"number": 2, "title": TITLE, "body": "", "state": "open", "user": BOT}
    github.issues += [
        {"number": 1, "title": TITLE, "state": "open", "user": somebody, "labels": []},
        {"number": 3, "title": f"{TITLE} of mine", "state": "open", "user": BOT, "labels": []},
    ]
    look("v0.2.0")
    assert [issue["state"] for issue in github.issues] == ["open"] * 2 and github.pulls[2]["state"] == "open"
    look()
    assert len(github.issues) == 3


def test_on_a_laptop_it_only_says_so(github, look, place, one_line):
    assert look(issue=False) == "v0.2.0 is out, this repository has v0.1.0; `make update` brings it"
    assert github.requests == []


def test_a_long_changelog_is_cut_where_github_takes_no_more(github, look, monkeypatch):
    monkeypatch.setattr("conveyor.update.template.changelog", lambda *_: "- A line.\n" * 20_000)
    look()
    assert len(github.issues[0]["body"]) < 65_000 and "CHANGELOG.md" in github.issues[0]["body"]


def test_a_template_that_cannot_be_read_is_one_line(place, one_line):
    place.edit(".copier-answers.yml", "_src_path: ", "_src_path: /nowhere\nit: ")
    one_line(place.cli("newer", check=False), 2, ".copier-answers.yml: _src_path: /nowhere: .*; write the .*")
