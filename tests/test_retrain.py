"""Risk: a model is retrained without need or without end, or its rows reach main though nothing is won."""

import json
import shutil

import pandas as pd
import pytest
from act import git
from github import GitHub, grants
from later_rows import SAMPLE, champion_of, departures

from conveyor.core.project import Project
from conveyor.ledger.ledger import ledger_of
from conveyor.model.bundle import Bundle
from conveyor.watch.monitor import TITLE

KNOWN = 20  # days that the first champion has


@pytest.fixture
def world(project, tmp_path):
    """world(days, changed) -> what `retrain` says in the workflow, once the source has so many days in all.

    ``changed``: whether what the columns mean for the target is another thing after the champion's data.
    """
    project.set_param("data.source", {"url": str(tmp_path / "new.csv")})
    project.set_param("monitor.retrain", "propose")
    champion_of(project, KNOWN)
    remote = tmp_path / "remote.git"
    project.git("init", "--quiet", "--bare", str(remote))
    project.git("remote", "add", "origin", str(remote))
    project.git("push", "--quiet", "origin", "HEAD:refs/heads/main", "ledger", "--tags", "refs/models/*:refs/models/*")
    with GitHub(grants(project.path), project.path) as double:
        outputs = tmp_path / "outputs"

        def run(verb: str = "retrain", *words: str, check: bool = True):
            given = double.environment("collect/bring") | {"GITHUB_OUTPUT": str(outputs)}
            return project.cli(verb, *words, check=check, **given)

        def look(days: int, changed: bool = False) -> str:
            departures(days, KNOWN if changed else None).to_csv(tmp_path / "new.csv", index=False)
            project.git("checkout", "--quiet", "--", ".")
            shutil.rmtree(project.path / "build", ignore_errors=True)
            outputs.write_text("")
            return run("retrain", "--issue").stdout

        look.project, look.double, look.remote, look.run = project, double, remote, run
        look.collected = lambda: (
            [line for line in outputs.read_text().split() if line.startswith("collected=")][-1] == "collected=true"
        )
        yield look


def newest(text: str) -> pd.Timestamp:
    return pd.to_datetime(pd.read_csv(text)["scheduled"]).max()


def test_before_fourteen_blocks_came_nothing_is_trained_and_no_file_changes(world):
    told = world(KNOWN + 14)  # the newest of them may still get rows
    assert "no look at newer rows: 13 days came after the champion's data, and the first look is at 14 days" in told
    assert not world.collected() and not world.project.git("status", "--porcelain", "--untracked-files=no").stdout
    assert not (world.project.path / "build/retrain").exists()


def test_a_challenger_that_is_shown_to_win_becomes_a_pull_request_of_exactly_the_rows_of_its_look(world):
    told = world(KNOWN + 61, changed=True)
    assert (
        "look 3 at champion/000002, of 56 days after its data" in told
        and "is shown to be better by more than 0.001" in told
    ), told
    assert world.collected() and "the gate says promote" in told
    assert (world.project.path / "build/retrain/retrain.md").read_text().rstrip().endswith("rows.")
    last = newest(world.project.path / "data/flights.csv.gz")
    assert last.floor("D") == newest(SAMPLE).floor("D").replace(month=1, day=1) + pd.Timedelta(days=KNOWN + 56 - 1)
    world.run("propose")
    [pull] = world.double.pulls.values()
    assert "Retrained on newer rows" in pull["body"] and "roc_auc +" in pull["body"]
    assert "newer ones, which come another time" in pull["body"] and not world.double.merges
    changed = git(world.remote, "diff", "--name-only", "refs/heads/main", "refs/heads/collect").split()
    assert changed == ["data/flights.csv.gz", "params.yaml"]
    assert len(ledger_of(Project(world.project.path)).events) == 2  # the champion is as it was


def test_where_nothing_has_changed_nothing_is_proposed_and_the_alarms_issue_says_so(world):
    world.double.issues.append(
        {
            "number": 1,
            "title": TITLE,
            "body": "",
            "state": "open",
            "user": {"type": "Bot", "login": "github-actions[bot]"},
            "labels": [],
            "html_url": "https://github.com/o/r/issues/1",
            "closed_at": None,
        }
    )
    told = world(KNOWN + 29)
    assert "look 2 at champion/000002, of 28 days" in told and "is not shown to be better" in told
    assert "nothing is proposed" in told and not world.collected()
    assert not (world.project.path / "build/proposal.json").exists() and not world.double.pulls
    [comment] = world.double.comments[1]
    assert "is not shown to be better" in comment["body"]
    # The rows of the look are the same one day later, and so is its answer.
    again = world(KNOWN + 30)
    assert [line for line in again.splitlines() if "look 2" in line][0].split(": ")[2:4] == [
        line for line in told.splitlines() if "look 2" in line
    ][0].split(": ")[2:4]


def test_a_look_that_was_stopped_is_made_by_the_next_run(world):
    model = world.project.path / "src" / world.project.package / "model.py"
    text = model.read_text()
    model.write_text(text.replace("def build(", "def built("))
    world.project.git("commit", "--quiet", "--all", "--message", "a typing error")
    with pytest.raises(AssertionError, match="build"):
        world(KNOWN + 61, True)
    assert not (world.project.path / "build/proposal.json").exists()
    model.write_text(text)
    told = world.run("retrain").stdout
    assert "look 3 at champion/000002" in told and "is shown to be better" in told
    assert world.collected() and "asks" not in told
    assert (world.project.path / "build/proposal.json").exists()


def test_no_look_while_a_model_is_on_its_way_and_no_more_than_so_many_a_month(world):
    project = world.project
    project.set_param("monitor.retrain_most", 1)
    project.git("commit", "--quiet", "--all", "--message", "one a month")
    assert "1 models came to be live in 30 days, and monitor.retrain_most is 1" in world(KNOWN + 61, True)
    assert not world.collected()
    project.set_param("monitor.retrain_most", 2)
    project.git("commit", "--quiet", "--all", "--message", "two a month")
    for step in ("validate", "train"):
        project.cli(step)
    here = Project(project.path, push=True)
    ledger = ledger_of(here)
    ledger.accept(Bundle(here.build / "candidate"), 2, "promote", "for this test", target="production")
    assert "a model is on its way" in world(KNOWN + 61, True) and not world.collected()


def test_without_the_setting_rows_are_proposed_as_they_come(world):
    world.project.set_param("monitor.retrain", None)
    world.project.git("commit", "--quiet", "--all", "--message", "as they come")
    assert "new rows" in world(KNOWN + 3) and world.collected()


def test_a_holdout_of_too_few_of_the_new_blocks_shows_nothing(world):
    world.project.set_param("split.holdout", 0.05)
    world.project.git("commit", "--quiet", "--all", "--message", "a small holdout")
    told = world(KNOWN + 29, True)
    assert "too few to tell: make split.holdout larger" in told and not world.collected()


# deliver: the pull request is merged


@pytest.fixture
def won(world):
    """A proposal that is to be merged, and a function that proposes it with such checks of its commit."""
    world.project.set_param("monitor.retrain", "deliver")
    world.project.git("commit", "--quiet", "--all", "--message", "deliver")
    world(KNOWN + 61, changed=True)
    assert json.loads((world.project.path / "build/proposal.json").read_text())["merge"] is True

    def propose(*checks, reason=None) -> str:
        from conveyor.core.environment import Environment
        from conveyor.github import propose

        world.double.unmergeable = reason
        here = Project(world.project.path)
        here.environment = Environment.read(world.double.environment("collect/bring"))
        waited = []

        def sleep(seconds):
            waited.append(seconds)
            head = git(world.remote, "rev-parse", "refs/heads/collect").strip()
            world.double.checks[head] = (
                [{"id": 1, "name": "ci", **checks[min(len(waited), len(checks)) - 1]}] if checks else []
            )

        return propose.run(here, sleep), waited

    return world, propose


def test_what_has_won_is_merged_once_its_checks_have_succeeded(won):
    world, propose = won
    going, green = {"status": "in_progress", "conclusion": None}, {"status": "completed", "conclusion": "success"}
    told, waited = propose(going, going, green, reason="Required status check is expected.")
    assert "not merged, a person must" in told and len(waited) == 3
    told, _ = propose(green)
    assert "merged; its delivery begins" in told
    [merge] = world.double.merges
    assert merge["head"] == git(world.remote, "rev-parse", "refs/heads/collect").strip() and merge["way"] == "squash"


def test_a_check_that_failed_or_a_rule_of_the_repository_keeps_it_open(won):
    world, propose = won
    told, waited = propose(reason="At least 1 approving review is required.")
    assert "not merged, a person must: GitHub: PUT pulls/1/merge: 405, At least 1 approving review" in told
    assert sum(waited) == 120  # no check starts for a workflow's own token: it is not waited for any longer
    told, _ = propose({"status": "completed", "conclusion": "failure"}, reason="Required status check failed.")
    assert "not merged: ci has not succeeded" in told and not world.double.merges
