"""Risk: what the schedule learns from live rows does not reach the issue, the ledger or a pull request on GitHub."""

import pytest
from act import events, git, push
from engine import free_port
from later_rows import answered, champion_of, comes, departures, predicted

LOOKED = dict.fromkeys(("live", "probation", "missed", "monitor"), "success")


def pushed(team, message: str) -> None:
    team.commit(message)
    push(team.project.path, team.remote)


def test_an_alarm_opens_one_issue_which_the_next_run_writes_anew_and_the_end_closes(team, tmp_path):
    rows = predicted(team.project)
    team.project.edit("params.yaml", "log: /var/log/predictions ", f"log: file://{tmp_path}/log ")
    team.project.edit("params.yaml", "labels: null ", "labels: labels.csv ")

    def look(worse: bool, until: str):
        seen = rows[rows["time"] < until]
        said = seen["prediction"].where((seen["time"] < "2013-09-01T00:00Z") | (not worse), 1 - seen["prediction"])
        answered(team.project, tmp_path / "log", seen.assign(prediction=said))
        return team.look()

    answered(team.project, tmp_path / "log", rows)
    pushed(team, "labels")
    run = look(True, "2013-12-01T00:00Z")
    assert run.jobs == LOOKED, run.logs["live"]
    [issue] = team.github.issues
    assert issue["title"] == "The live loss has risen" and "| last 28 days |" in issue["body"]
    assert [each["level"] for each in run.annotations if each["job"] == "live"] == ["error"]
    before = issue["body"]
    assert look(True, "2013-12-08T00:00Z").jobs == LOOKED and len(team.github.issues) == 1
    assert issue["body"] != before and issue["state"] == "open"
    assert look(False, "2013-12-08T00:00Z").jobs == LOOKED
    assert issue["state"] == "closed" and events(team.remote)[-1]["type"] == "live"


def test_later_rows_confirm_a_champion_in_the_ledger(with_two):
    team = with_two
    team.update()
    comes(team.project, 17)
    pushed(team, "what came later")
    run = team.look()
    assert run.jobs == LOOKED and events(team.remote)[-1]["type"] == "confirmed", run.logs["probation"]
    assert "is confirmed: it is at most" in run.summary["probation"]
    assert team.look().jobs == LOOKED and [e["type"] for e in events(team.remote)].count("confirmed") == 1


def test_a_champion_that_later_rows_show_to_be_worse_is_rolled_back(with_two):
    team = with_two
    team.update()
    team.be_live()
    comes(team.project, 17, better="old")
    team.project.edit("params.yaml", "rollback: false ", "rollback: true ")
    pushed(team, "what came later")
    run = team.look()
    assert run.jobs == LOOKED and "is harmful: it is more than" in run.summary["probation"]
    [issue] = team.github.issues
    [start] = [each for each in team.github.dispatches if each["workflow"] == "rollback.yml"]
    assert team.dispatch("rollback", **start["inputs"]).jobs == {"restore": "success", "rollback": "success"}
    assert team.serves() == events(team.remote)[1]["key"] == events(team.remote)[-1]["key"]
    assert team.look().jobs == LOOKED and issue["state"] == "closed"


@pytest.fixture
def twenty_days(begin, team_at, tmp_path):
    """A team whose champion is of twenty days, and whose source has 81, in which the target means another thing."""
    begin(tmp_path, free_port())
    team = team_at(tmp_path, 0)
    team.project.edit("params.yaml", "retrain: null ", "retrain: deliver ")
    team.project.edit("params.yaml", "source: null ", "source: {command: cat new.csv} ")
    departures(81, 20).to_csv(team.project.path / "new.csv", index=False)
    team.project.git("checkout", "--quiet", "-B", "proposal")
    team.project.git("add", "--all")
    champion_of(team.project, 20)
    push(team.project.path, team.remote)
    return team


def test_rows_from_which_a_better_model_comes_are_proposed_and_merged(twenty_days):
    team = twenty_days
    run = team.dispatch("collect")
    assert run.jobs == {"bring": "success", "collect": "success"}, run.logs["bring"]
    [pull] = team.github.pulls.values()
    assert "Retrained on newer rows" in pull["body"] and "is shown to be better" in pull["body"]
    [merge] = team.github.merges
    assert merge["head"] == git(team.remote, "rev-parse", "refs/heads/collect").strip()
    assert [event["type"] for event in events(team.remote)] == ["accepted", "live"]


def test_rows_from_which_none_comes_are_proposed_to_nobody(twenty_days):
    team = twenty_days
    departures(20 + 29).to_csv(team.project.path / "new.csv", index=False)
    pushed(team, "nothing has changed")
    run = team.dispatch("collect")
    assert run.jobs == {"bring": "success", "collect": "success"} and "Propose" not in run.steps["bring"]
    assert "is not shown to be better" in run.summary["bring"] and not team.github.pulls
