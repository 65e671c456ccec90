"""Risk: the live model gets worse and nobody hears of it, or somebody is called though it has not."""

import json

import given_log
import numpy as np
import pandas as pd
import pytest
from github import BOT, GitHub, grants
from later_rows import answered, predicted

from conveyor.core import params
from conveyor.data import units
from conveyor.watch import labels, loss


@pytest.fixture
def live(bootstrapped, tmp_path):
    """A project whose champion has answered each flight of the second half of 2013, and a file of what came true."""
    rows = predicted(bootstrapped)
    bootstrapped.set_param("monitor.labels", "labels.csv")
    answered(bootstrapped, tmp_path / "log", rows)
    return bootstrapped, rows


def monitor(project, tmp_path, check=True, **more: str):
    given = {"PREDICTION_LOG": f"file://{tmp_path}/log", **more}
    done = project.cli("monitor", check=check, **given)
    return done, (project.path / "build" / "monitor.md").read_text()


def test_the_loss_of_live_rows_is_told_beside_what_the_holdout_promised(live, tmp_path):
    project, rows = live
    done, text = monitor(project, tmp_path)
    assert "its log_loss has not shown to be higher than on its holdout" in done.stdout
    assert "| promised, on the holdout | 37 | 0.55 |" in text and "predictions: 20,000; with a label: 20,000" in text
    whole = rows[rows["time"] < "2013-12-31T00:00Z"]  # of the last day there are few rows, which wait
    last = whole[whole["time"] > pd.Timestamp("2013-12-31", tz="UTC") - pd.Timedelta(days=28)]
    clipped = last["prediction"].to_numpy()
    each = -np.where(last["late"] == 1, np.log(clipped), np.log1p(-clipped))
    wanted = pd.Series(each).groupby(last["time"].dt.floor("D").to_numpy()).mean().mean()
    [line] = [line for line in text.splitlines() if line.startswith("| last 28 days")]
    assert float(line.split("|")[3]) == pytest.approx(wanted, abs=5e-4)


def test_a_model_that_has_become_worse_is_an_alarm_in_summary_and_annotation(live, tmp_path):
    project, rows = live
    broken = rows.assign(
        prediction=np.where(rows["time"] > "2013-09-01T00:00Z", 1 - rows["prediction"], rows["prediction"])
    )
    answered(project, tmp_path / "log", broken)
    workflow = {"GITHUB_RUN_ID": "1", "GITHUB_REPOSITORY": "your-team/late-flights"}
    done, text = monitor(project, tmp_path, **workflow)
    assert "its log_loss has risen" in done.stdout and "**The log_loss has risen**" in text
    assert "::error title=The live loss has risen::its log_loss has risen" in done.stdout


def test_each_look_counts_only_what_is_labelled_and_says_what_is_not(live, tmp_path):
    project, rows = live
    said = pd.read_csv(project.path / "labels.csv")
    said = said[pd.to_datetime(said["scheduled"]) < "2013-08-01"]
    odd = said.head(3).assign(flight=9998)
    pd.concat([said, said.head(2), odd]).to_csv(project.path / "labels.csv", index=False)
    text = monitor(project, tmp_path)[1]
    for words in ("labels that were given before: 2", "labels without a prediction: 3"):
        assert words in text
    july = int((rows["time"] < "2013-08-01T00:00Z").sum())
    assert f"with a label: {july:,}; without: {20_000 - july:,}" in text


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"PREDICTION_LOG": ""}, "its live loss is not known: "),
        ({"PREDICTION_LOG": "file:///nowhere/at/all"}, "the log holds no prediction"),
    ],
)
def test_without_a_log_the_monitor_says_why_and_stays_green(live, tmp_path, change, told):
    project, _ = live
    done, text = monitor(project, tmp_path, **change)
    assert told in done.stdout and "Not known: " in text


def test_labels_that_are_away_are_one_line(live, tmp_path, one_line):
    project, _ = live
    (project.path / "labels.csv").unlink()
    done, text = monitor(project, tmp_path, check=False)
    one_line(done, 2, "labels.csv: no such file; put the data there or mend monitor.labels in params.yaml")
    assert text.startswith("**Live: model ") and "Not known: labels.csv: no such file" in text


def test_a_log_of_lines_that_count_for_nothing_says_why(live, tmp_path):
    project, rows = live
    lines = (tmp_path / "log" / "predictions-1.jsonl").read_text().splitlines()[:3]
    future = [each.replace("2013-07", "2113-07") for each in lines[:2]]
    (tmp_path / "log" / "predictions-1.jsonl").write_text("\n".join([*future, lines[2][:40]]) + "\n")
    text = monitor(project, tmp_path)[1]
    assert (
        "the log holds no prediction; damaged or half-written lines of the log: 1; lines of the log with a time" in text
    )


def test_labels_that_shrink_are_taken_as_they_are(live, tmp_path):
    project, _ = live
    first = monitor(project, tmp_path)[1]
    rows = pd.read_csv(project.path / "labels.csv")
    rows.head(len(rows) // 4).to_csv(project.path / "labels.csv", index=False)
    text = monitor(project, tmp_path)[1]
    assert "predictions: 20,000; with a label: 20,000; without: 0" in first
    assert "predictions: 20,000; with a label: 5,000; without: 15,000" in text


def test_a_champion_of_older_data_is_compared_with_the_holdout_of_then(live, tmp_path):
    project, _ = live
    before = monitor(project, tmp_path)[1]
    file = project.path / "data" / "flights.csv.gz"
    content = pd.read_csv(file, dtype=str, keep_default_na=False)
    content.head(15_000).to_csv(file, index=False)
    project.cli("data-lock")
    after = monitor(project, tmp_path)[1]
    promised = [line for text in (before, after) for line in text.splitlines() if "promised" in line]
    assert len(promised) == 2 and promised[0] == promised[1]


def test_without_a_time_column_nothing_is_promised_for_a_day(live, tmp_path):
    project, _ = live
    project.set_param("data.time", None)
    text = monitor(project, tmp_path)[1]
    assert "Not known: data.time is null: a holdout without time does not tell how much days differ" in text


# Blocks


def told(rows: list[tuple[str, float, float | None]], block: params.Block = "day") -> loss.Blocks:
    """The blocks of rows: time, prediction, label or none."""
    lines = [
        json.dumps({"id": f"{n}", "row": 1, "time": t, "model": "m", "features": {}, "prediction": p}).encode()
        for n, (t, p, _) in enumerate(rows)
    ]
    log = given_log.parsed(
        iter([("predictions-1.jsonl", b"\n".join(lines))]), (), False, pd.Timestamp("2026-11-30", tz="UTC")
    )
    said = pd.DataFrame({"id": [str(n) for n, row in enumerate(rows) if row[2] is not None]})
    said["label"] = [row[2] for row in rows if row[2] is not None]
    joined = labels.joined(log.rows, said, ["0", "1"])
    return loss.live(joined, log.rows, "m", "binary", block)


def test_a_day_of_few_rows_waits_for_the_next_one():
    rows = [("2026-11-01T10:00:00Z", 0.5, 1.0)] * 12 + [("2026-11-02T10:00:00Z", 0.25, 1.0)] * 12
    rows += [("2026-11-03T10:00:00Z", 0.5, 0.0)] * 40 + [("2026-11-04T10:00:00Z", 0.5, 0.0)] * 5
    found = told(rows)
    assert found.rows.tolist() == [24, 40]
    assert found.loss == pytest.approx([(np.log(2) + np.log(4)) / 2, np.log(2)])
    days = [units.blocks(pd.Series(pd.to_datetime([f"2026-11-0{day}T00:00Z"])), "day")[0] for day in (2, 3)]
    assert found.number.tolist() == days


@pytest.mark.parametrize("odd", ["a small day", "an old clock", "a full day"])
def test_a_day_with_all_its_labels_does_not_make_the_others_wait(odd):
    """Of each day 45 of 100 rows have a label, and 3 of the last two days."""
    rows = []
    for day in range(1, 21):
        known = 45 if day < 19 else 3
        rows += [(f"2026-11-{day:02d}T10:00:00Z", 0.5, 1.0 if n < known else None) for n in range(100)]
    first = {
        "a small day": [("2026-10-31T10:00:00Z", 0.5, 1.0)] * 3,
        "an old clock": [("1970-01-01T00:00:05Z", 0.5, 1.0)],
    }
    if odd == "a full day":
        rows[400:500] = [(rows[400][0], 0.5, 1.0)] * 100
    found = told([*first.get(odd, []), *rows])
    assert len(found.loss) == 18 and str(np.datetime64(int(found.number[-1]), "D")) == "2026-11-18"


def test_the_newest_days_wait_for_their_labels_and_older_ones_do_not():
    rows = [("2026-11-01T10:00:00Z", 0.5, 1.0)] * 30 + [("2026-11-01T11:00:00Z", 0.5, None)] * 170
    rows += [("2026-11-02T10:00:00Z", 0.5, 1.0)] * 100 + [("2026-11-03T10:00:00Z", 0.5, 1.0)] * 25
    rows += [("2026-11-03T10:00:00Z", 0.5, None)] * 75
    assert told(rows).rows.tolist() == [30, 100]


@pytest.mark.parametrize(("block", "year"), [("day", 365), ("week", 52), (6, 1460), (1, 8760)])
def test_a_year_has_so_many_blocks(block, year):
    assert loss.a_year(block) == year


def test_each_task_has_a_loss_that_is_never_negative():
    assert loss.of_rows("binary", np.array([1.0, 0.0]), np.array([0.5, 0.5])) == pytest.approx([np.log(2)] * 2)
    three = np.array([[0.5, 0.25, 0.25], [0.0, 0.0, 1.0]])
    assert loss.of_rows("multiclass", np.array([0.0, 2.0]), three) == pytest.approx([np.log(2), 0], abs=1e-12)
    assert loss.of_rows("regression", np.array([1.5, -2.0]), np.array([1.0, 2.0])).tolist() == [0.5, 4.0]


# The issue


@pytest.fixture
def look(live, tmp_path, monkeypatch):
    """look(worse) -> what the workflow's job says, with a model that is worse from September on or not."""
    project, rows = live
    with GitHub(grants(project.path), project.path) as double:

        def look(worse: bool) -> str:
            changed = np.where((rows["time"] > "2013-09-01T00:00Z") & worse, 1 - rows["prediction"], rows["prediction"])
            answered(project, tmp_path / "log", rows.assign(prediction=changed))
            given = double.environment("monitor/live") | {"PREDICTION_LOG": f"file://{tmp_path}/log"}
            return project.cli("monitor", "--issue", **given).stdout

        yield double, look


def test_one_issue_is_open_while_there_is_an_alarm_and_the_same_one_if_it_comes_back(look):
    double, look = look
    assert "no issue is open" in look(False) and not double.issues
    assert "opened https://" in look(True) and "said in https://" in look(True)
    [issue] = double.issues
    assert issue["title"] == "The live loss has risen" and "| last 28 days |" in issue["body"]
    assert "at most 5% of the years" in issue["body"] and "/actions/runs/7" in issue["body"]
    assert double.writes == ["POST issues"]
    assert "its issue is closed" in look(False) and issue["state"] == "closed"
    assert "It is over: its log_loss has not shown" in double.comments[issue["number"]][0]["body"]
    assert "opened again: https://" in look(True) and [each["state"] for each in double.issues] == ["open"]


def test_of_two_issues_that_two_runs_opened_at_once_the_first_stays(look, monkeypatch):
    double, look = look
    create, times = double._issues_create, []

    def both(request):
        """Another run has found none either, and is a moment faster."""
        if not times:
            double.issues.append({**other})
        times.append(request)
        return create(request)

    other = {"id": 4711, "number": 1, "title": "The live loss has risen", "body": "of the other run", "state": "open"}
    other |= {"user": BOT, "labels": [], "html_url": double._web("issues/1"), "closed_at": None}
    monkeypatch.setattr(double, "_issues_create", both)
    assert f"said in {other['html_url']}" in look(True)
    assert [each["state"] for each in double.issues] == ["open", "closed"]
    assert double.comments[2][0]["body"] == "The same is told in #1."
    look(True)
    assert "| last 28 days |" in double.issues[0]["body"] and len(double.issues) == 2


def test_an_alarm_long_after_the_last_one_is_an_issue_of_its_own(look):
    double, look = look
    look(True)
    look(False)
    double.issues[0]["closed_at"] = "2020-01-01T00:00:00Z"
    assert "opened https://" in look(True) and len(double.issues) == 2


def test_an_issue_that_cannot_be_written_turns_the_job_red_and_the_summary_is_there(look, live, one_line):
    double, _ = look
    double.fail("POST", "issues", 503)
    project, rows = live
    with pytest.raises(AssertionError, match="GitHub: POST issues: 503"):
        look[1](True)
    assert "**The log_loss has risen**" in (project.path / "build" / "monitor.md").read_text()
