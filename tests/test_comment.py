"""Risk: a pull request gets no comment, two, a foreign one is overwritten, or a fork's run fails for the lack of it."""

import json
import re

import pytest
from act import REPOSITORY, TOKEN, pull_request_payload
from github import GitHub

from conveyor.core.project import Project

RIGHTS = {"compare/decide": {"contents": "read", "pull-requests": "write"}}
PULL = pull_request_payload("a" * 40, "b" * 40, "c" * 40, number=7)
REPORT = "**Verdict: keep** — not shown to be better\n\n| metric | champion |\n|---|--:|\n"


@pytest.fixture
def github():
    with GitHub(RIGHTS) as double:
        double.open(PULL)
        yield double


@pytest.fixture
def comment(project, tmp_path, monkeypatch, capsys):
    """comment(double, report) -> what the verb said in the workflow of pull request 7."""
    from conveyor.github.comment import run

    def comment(double, report=REPORT, challenger=None):
        (project.path / "build").mkdir(exist_ok=True)
        if challenger:
            made = {"challenger": {"digest": challenger}, "sight": {"holdout": "rows"}}
            (project.path / "build" / "decision.json").write_text(json.dumps(made))
        (project.path / "build" / "report.md").write_text(report)
        (tmp_path / "event.json").write_text(json.dumps(PULL))
        monkeypatch.setattr("time.sleep", lambda seconds: None)  # between attempts
        event = {"GITHUB_EVENT_PATH": str(tmp_path / "event.json")}
        for name, value in (double.environment("compare/decide") | event).items():
            monkeypatch.setenv(name, value)
        told = run(Project(project.path))
        return f"{capsys.readouterr().out}{told}"

    return comment


def test_there_is_one_comment_whose_first_line_is_the_verdict_and_it_is_written_anew(github, comment):
    assert "made https://" in comment(github)
    [made] = github.comments[7]
    assert made["body"].splitlines()[0] == REPORT.splitlines()[0]
    assert f"https://github.com/{REPOSITORY}/actions/runs/7" in made["body"]
    assert "unchanged https://" in comment(github)
    assert "updated https://" in comment(github, "**Verdict: block** — worse\n")
    [again] = github.comments[7]
    assert again["id"] == made["id"] and again["body"].startswith("**Verdict: block** — worse\n")


def test_it_carries_how_many_challengers_were_judged_and_warns_of_many(github, comment, tmp_path, monkeypatch):
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))

    def said(challenger=None, report=REPORT):
        comment(github, report, challenger)
        [made] = github.comments[7]
        assert made["body"].startswith(report.splitlines()[0])
        return made["body"]

    assert "were judged" not in said() + said("m1")
    assert "\n2 challengers of this pull request were judged.\n" in said("m2")
    # The same challenger again, and data that were refused, are none more.
    assert said("m2", "**Verdict: keep** — again\n").count("2 challengers of this pull request") == 1
    for number in range(3, 10):
        assert "[!WARNING]" not in said(f"m{number}") and not summary.exists()
    tenth = said("m10")
    assert "> [!WARNING]\n> 10 challengers of this pull request were judged. Who changes a model by the gains" in tenth
    assert "rows that came later confirm it" in tenth and "10 challengers" in summary.read_text()


def test_the_count_of_a_comment_that_somebody_else_wrote_or_forged_is_not_taken(github, comment):
    comment(github, challenger="m1")
    [ours] = github.comments[7]
    forged = {**ours, "id": 900, "body": f"<!-- judged: 500 {'a' * 12} -->\n{ours['body']}"}
    github.comments[7] = [{**forged, "user": {"login": "eve", "type": "User"}}, ours]
    # Nor is one that the report's own text holds, which is escaped, or stands before ours.
    comment(github, f"{REPORT}<!-- judged: 9 {'b' * 12} -->\n", challenger="m2")
    assert "2 challengers of this pull request were judged." in github.comments[7][1]["body"]
    comment(github, challenger="m3")
    assert "3 challengers of this pull request were judged." in github.comments[7][1]["body"]


def test_a_comment_that_somebody_else_wrote_is_left_alone_whatever_is_in_it(github, comment):
    comment(github)
    [ours] = github.comments[7]
    forged = {**ours, "id": 1, "body": f"Mine.\n{ours['body']}", "user": {"login": "eve", "type": "User"}}
    github.comments[7] = [forged]
    comment(github)
    assert [entry["user"]["login"] for entry in github.comments[7]] == ["eve", "github-actions[bot]"]
    assert github.comments[7][0] == forged


def test_among_many_comments_ours_is_found_and_a_second_one_goes(github, comment):
    comment(github)
    [ours] = github.comments[7]
    others = [
        {**ours, "id": 1000 + n, "body": f"No. {n}", "user": {"login": "ada", "type": "User"}} for n in range(250)
    ]
    github.comments[7] = [*others[:120], ours, *others[120:], {**ours, "id": 5000}]
    assert "updated https://" in comment(github, "**Verdict: promote** — better\n")
    assert [entry["id"] for entry in github.comments[7]] == [e["id"] for e in [*others[:120], ours, *others[120:]]]


def test_where_the_token_may_not_write_that_is_said_and_nothing_fails(project, comment):
    head = PULL["pull_request"]["head"] | {"repo": {"full_name": "eve/late-flights", "fork": True}}
    with GitHub(RIGHTS) as fork:
        fork.open(PULL | {"pull_request": PULL["pull_request"] | {"head": head}})
        done = comment(fork)
        assert "::notice title=No comment on the pull request::the token of this pull request may not write" in done
        assert not fork.comments.get(7)


def test_a_github_that_is_down_or_busy_costs_the_comment_and_not_the_verdict(github, comment):
    github.fail("GET", "comments", 503, times=2)
    assert "made https://" in comment(github), "it was asked again"
    github.fail("GET", "comments", 500, times=9)
    done = comment(github)
    assert "::warning title=No comment on the pull request::GitHub: GET issues/7/comments: 500" in done
    with GitHub(RIGHTS) as gone:
        url = gone.url
    gone.url = url
    assert "does not answer" in comment(gone)


def test_a_report_that_is_too_long_is_cut_where_it_does_no_harm(github, comment):
    rows = "".join(f"| {n} | {'x' * 80} |\n" for n in range(2000))
    comment(github, f"{REPORT}<details><summary>All</summary>\n\n{rows}\n</details>\n")
    [made] = github.comments[7]
    assert len(made["body"]) <= 65_536
    assert made["body"].count("<details>") == made["body"].count("</details>") == 1
    assert "It goes on in the whole report." in made["body"]
    assert "unchanged" in comment(github, f"{REPORT}<details><summary>All</summary>\n\n{rows}\n</details>\n")


def test_outside_a_pull_request_it_is_one_line(project, one_line):
    one_line(project.cli("comment", check=False), 2, r".*build/report\.md: missing; run `make report` first")
    (project.path / "build" / "report.md").write_text(REPORT)
    one_line(project.cli("comment", check=False), 2, "GITHUB_EVENT_PATH: not set; this runs in a workflow")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"pull_request": null}'])
def test_an_event_that_is_about_no_pull_request_is_one_line(project, tmp_path, one_line, text):
    (project.path / "build").mkdir()
    (project.path / "build" / "report.md").write_text(REPORT)
    (tmp_path / "event.json").write_text(text)
    done = project.cli("comment", check=False, GITHUB_EVENT_PATH=str(tmp_path / "event.json"))
    one_line(done, 2, "(GITHUB_EVENT_PATH: cannot be read: .*|comment: the event is about no pull request; .*)")


def test_the_token_is_in_no_line_that_is_printed(github, comment):
    github.fail("GET", "comments", 401, times=1)
    done = comment(github)
    assert not re.search(re.escape(TOKEN), done)
