"""Risk: a champion that is worse than the one before stays, or time alone confirms it."""

import json

import later_rows
import pandas as pd
import pytest
from github import GitHub, grants

from conveyor.core.project import Project
from conveyor.ledger.events import Unsound
from conveyor.ledger.ledger import ledger_of
from conveyor.ledger.state import State
from conveyor.model.bundle import Bundle


@pytest.fixture
def second(bootstrapped):
    """A project with a second champion, a forest, whose data are those of the first one."""
    bootstrapped.set_param("model.params.estimator", "forest")
    bootstrapped.set_param("model.params.forest.n_estimators", 20)
    bootstrapped.git("commit", "--quiet", "--all", "--message", "a forest")
    for step in ("validate", "train"):
        bootstrapped.cli(step)
    project = Project(bootstrapped.path)
    ledger = ledger_of(project)
    ledger.live(ledger.accept(Bundle(project.build / "candidate"), ledger.number, "promote", "for this test"))
    return bootstrapped


def comes(project, days: int, better: str = "new", since: int = 0) -> None:
    later_rows.comes(project, days, better, since)
    project.git("commit", "--quiet", "--all", "--message", "what came later")


def kinds(project) -> list[str]:
    return [event.type for event in ledger_of(Project(project.path)).events]


def test_the_first_champion_is_not_on_probation(bootstrapped):
    assert "champion/000002 has no champion before it" in bootstrapped.cli("probation").stdout


def test_before_two_weeks_of_later_rows_nothing_is_said(second):
    before = kinds(second)
    told = second.cli("probation").stdout
    assert "champion/000004 is on probation: 0 days came after its data; the first look is at 14" in told
    comes(second, 14)  # the last of the days may still get rows
    told = second.cli("probation").stdout
    assert "is on probation: 13 days" in told or "is on probation: 12 days" in told
    assert kinds(second) == before


def test_later_rows_confirm_a_champion_that_is_no_worse_and_the_ledger_says_so_once(second):
    comes(second, 17)
    told = second.cli("probation").stdout
    assert (
        "is confirmed: it is at most 0.001 worse than champion/000002: roc_auc +" in told and "event 5 says so" in told
    )
    assert kinds(second)[-1] == "confirmed" and kinds(second).count("confirmed") == 1
    event = ledger_of(Project(second.path)).events[-1]
    assert "worse than champion/000002" in event.reason and "of the 14 days after its data" in event.reason
    assert "was confirmed at" in second.cli("probation").stdout and kinds(second).count("confirmed") == 1
    assert "confirmed" in second.cli("history").stdout
    assert json.loads(second.cli("history", "--json").stdout)[-1]["key"] == event.key
    assert not second.cli("fsck").stdout.count("damage")
    second.cli("promote", check=False)  # the ledger is read by each verb as before
    assert ledger_of(Project(second.path)).champion().event == 4


@pytest.mark.parametrize("back", [False, True], ids=["told", "rolled back"])
def test_harm_is_an_issue_and_where_it_is_wanted_the_ordinary_roll_back(second, back):
    comes(second, 17, better="old")
    second.set_param("monitor.rollback", back)
    with GitHub(grants(second.path), second.path) as double:
        given = double.environment("monitor/probation")
        told = second.cli("probation", "--issue", **given).stdout
        assert (
            "is harmful: it is more than 0.001 worse than champion/000002" in told
            and "::error title=The champion is worse" in told
        )
        [issue] = double.issues
        assert issue["title"] == "The champion is worse than the one before" and "roc_auc -" in issue["body"]
        # Its reviewers need a day; then it is refused.
        double.runs.append({"workflow": "rollback.yml", "sha": "0" * 40, "status": "waiting"})
        told = second.cli("probation", "--issue", **given).stdout
        assert "said in https" in told and len(double.issues) == 1
        assert ("a run of the workflow rollback has not ended: https" in told) == back
        assert len(double.dispatches) == back
        double.runs[-1]["status"] = "completed"
        second.cli("probation", "--issue", **given)
        started = [(each["workflow"], each["inputs"]["to"]) for each in double.dispatches]
        assert started == ([("rollback.yml", "2")] * 2 if back else [])
        because = double.dispatches[0]["inputs"]["because"] if back else "worse on later rows"
        assert kinds(second)[-1] == "live"  # nothing is undone by this verb itself
        second.cli("rollback", "--to", "2", "--because", because)
        told = second.cli("probation", "--issue", **given).stdout
        assert "came back by a roll-back" in told and "its issue is closed" in told
        assert double.issues[0]["state"] == "closed"


def test_a_look_without_rows_does_not_hold_up_the_next_one(second):
    comes(second, 33, since=16)
    told = second.cli("probation").stdout
    assert "is confirmed" in told and "of the 28 days after its data" in told


def test_a_date_that_has_not_come_counts_for_nothing(second):
    comes(second, 17)
    rows = pd.read_csv(second.path / later_rows.DATA, dtype=str, keep_default_na=False)
    rows.tail(1).assign(scheduled="2131-01-01T00:00:00Z").pipe(lambda one: pd.concat([rows, one])).to_csv(
        second.path / later_rows.DATA, index=False
    )
    second.cli("data-lock")
    second.git("commit", "--quiet", "--all", "--message", "a typing error")
    assert "of the 14 days after its data" in second.cli("probation").stdout


def test_who_may_not_write_the_ledger_is_told_how(second, tmp_path):
    comes(second, 17)
    remote = tmp_path / "remote.git"
    second.git("init", "--quiet", "--bare", str(remote))
    second.git("remote", "add", "origin", str(remote))
    second.git("push", "--quiet", "origin", "HEAD:refs/heads/main", "ledger", "--tags", "refs/models/*:refs/models/*")
    assert "PUSH=1 writes it into the ledger" in second.cli("probation").stdout
    assert "event 5 says so" in second.cli("probation", "--push").stdout
    assert second.git("ls-remote", "origin", "refs/heads/ledger").stdout.split()[0]


def test_what_cannot_be_judged_is_one_line_with_its_reason(second):
    comes(second, 17)
    second.set_param("data.time", None)
    assert "cannot be judged by later rows: data.time is null" in second.cli("probation").stdout


def test_a_ledger_that_confirms_another_model_than_the_champion_is_unsound(second):
    events = list(ledger_of(Project(second.path)).events)
    state = State()
    for event in events:
        state.add(event)
    wrong = events[0].model_copy(update={"type": "confirmed", "number": 5, "id": "f" * 32, "time": events[-1].time})
    with pytest.raises(Unsound, match="confirms a model that is not champion"):
        state.add(wrong)
