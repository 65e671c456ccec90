"""Risk: the scheduled look says that all is well where it is not, or nothing where somebody has to look."""

import json

import pytest

from conveyor.ledger.events import Event
from conveyor.ledger.state import State

WORKFLOW = {"GITHUB_RUN_ID": "1", "GITHUB_REPOSITORY": "your-team/late-flights"}


@pytest.fixture
def summary(tmp_path):
    return tmp_path / "summary.md"


def monitor(project, summary, **more):
    done = project.cli("monitor", **WORKFLOW, GITHUB_STEP_SUMMARY=str(summary), **more)
    return done.stdout, summary.read_text()


def event(number, kind, time="2013-07-01T12:00:00Z", key="a", **more):
    given = {
        "commit": "c" * 40,
        "data_sha256": "d" * 64,
        "run": None,
        "by": "Ada",
        "outcome": "promote",
        "reason": "better",
    }
    return {
        "schema": 1,
        "number": number,
        "type": kind,
        "time": time,
        "key": key * 64,
        "digest": "b" * 64,
        **given,
        **more,
    }


@pytest.fixture
def told():
    """told(events, today) -> what the summary says of a ledger that holds these events."""
    from conveyor.deploy.monitor import markdown

    def told(events, today="2013-07-11T12:00:00Z"):
        state = State()
        for one in events:  # what comes before them does not matter here
            state._carry(Event.model_validate(one))
            state.events.append(Event.model_validate(one))
        return markdown(state, today)

    return told


def test_before_the_first_champion_nothing_is_live_and_that_is_said_and_no_failure(project, summary):
    said, text = monitor(project, summary)
    assert text.splitlines()[0] == "**Nothing is live** — no model has become champion yet"
    assert "::notice title=Nothing is live::no model has become champion yet" in said
    assert text == (project.path / "build" / "monitor.md").read_text()


def test_the_champion_is_named_with_its_age_and_whoever_made_it_one(bootstrapped, summary):
    said, text = monitor(bootstrapped, summary)
    [*_, live] = json.loads(bootstrapped.cli("history", "--json").stdout)
    assert text.splitlines()[0] == f"**Live: model {live['key'][:12]}** — champion/000002, since today"
    assert f"- Became champion: {live['time']}, by {live['by']}: no champion yet and every floor holds" in text
    assert "| 2 |" in text and "::" not in said, "nothing to warn of"


def test_a_champion_that_is_older_than_the_limit_is_warned_of(bootstrapped, summary):
    bootstrapped.set_param("monitor.max_age_days", 1)
    assert "::warning" not in monitor(bootstrapped, summary)[0]
    tomorrow = "from datetime import datetime, timedelta, UTC\nimport conveyor.core.project as p\n"
    tomorrow += "p.now = lambda: (datetime.now(UTC) + timedelta(days=2)).strftime('%Y-%m-%dT%H:%M:%SZ')\n"
    (bootstrapped.path / "src" / "sitecustomize.py").write_text(tomorrow)
    said, text = monitor(bootstrapped, summary, PYTHONPATH="src")  # a new interpreter, which reads that
    assert "for 2 days" in text
    assert "::warning title=The champion is old::model" in said
    assert "is live for 2 days, more than monitor.max_age_days 1" in said


def test_what_is_on_its_way_and_what_was_judged_since_are_told(told):
    first = [event(1, "accepted"), event(2, "live")]
    assert told(first).splitlines()[0] == f"**Live: model {'a' * 12}** — champion/000002, for 10 days"
    assert "Judged since, and not better: 0 models" in told(first)
    kept = [*first, event(3, "kept", key="b"), event(4, "kept", key="b"), event(5, "kept", key="c")]
    assert "Judged since, and not better: 2 models" in told(kept)
    waiting = told([*kept, event(6, "accepted", key="e")])
    assert f"**On its way**: model {'e' * 12}, event 6 (accepted) of 2013-07-01T12:00:00Z" in waiting
    assert "On its way" not in told([*kept, event(6, "accepted", key="e"), event(7, "aborted", key="e")])


def test_a_replica_that_died_is_told():
    from conveyor.deploy.monitor import markdown

    ledger = State()
    ledger.add(Event.model_validate(event(1, "accepted")))
    text = markdown(ledger, "2013-07-11T12:00:00Z", ["model-1 has died, last with exit code 3"])
    assert "**Died**:" in text and "- model-1 has died, last with exit code 3" in text.splitlines()
    assert "Died" not in markdown(ledger, "2013-07-11T12:00:00Z")


def test_what_a_person_wrote_is_shown_and_not_drawn(told):
    text = told([event(1, "accepted"), event(2, "live", reason="<img src=x> | @all\n# heading")])
    assert "<img" not in text and "@all" not in text and "\n# heading" not in text
    assert all(line.count("|") == 7 for line in text.splitlines() if line.startswith("|"))


def test_a_damaged_ledger_is_an_error_and_not_nothing_live(bootstrapped, one_line):
    bootstrapped.git("update-ref", "-d", "refs/heads/ledger")
    message = "monitor: 1 damage in the ledger: this repository has the witness champion/000002 and no branch .*"
    one_line(bootstrapped.cli("monitor", check=False), 2, message)
    text = (bootstrapped.path / "build/monitor.md").read_text()
    assert text.startswith("**The ledger is damaged**") and "Nothing is live" not in text
