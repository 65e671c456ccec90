"""Risk: the workflows of a pull request and of a merge do not do what the README says. Each is executed here."""

import json
import pickle

from act import dispatch_payload, events, git, merge_pull_request, open_pull_request, refs
from github_team import DELIVERED, GREEN, SECRETS, VARIABLES, rewrite_data, verdict


def test_the_first_push_needs_no_secret_and_bootstraps_a_champion(delivered):
    team, run = delivered
    assert run.jobs == {"test": "success", "ci": "success", **DELIVERED}
    assert [(event["number"], event["type"], event["outcome"]) for event in events(team.remote)] == [
        (1, "accepted", "bootstrap"),
        (2, "live", "bootstrap"),
    ]
    assert team.champions() == ["refs/tags/champion/000002"]
    assert refs(team.remote, "refs/models") == [f"refs/models/{events(team.remote)[1]['key']}"]
    assert verdict(run, "train").startswith(
        "**Verdict: bootstrap** — no champion yet and every floor holds: roc_auc 0.7"
    )
    assert set(team.served) == {events(team.remote)[1]["key"]}
    assert events(team.remote)[0]["target"] == "production"
    assert events(team.remote)[1]["commit"] == git(team.project.path, "rev-parse", "main")
    assert events(team.remote)[1]["run"].startswith("https://github.com/your-team/late-flights/actions/runs/")
    assert not team.github.requests, "no API is asked for anything"


def test_the_image_is_attested_with_its_provenance_and_what_is_in_it(delivered):
    team, run = delivered
    made = json.loads((run.artifacts / "image" / "image.json").read_text())
    name, digest = made["reference"].split("@sha256:")
    provenance, contents = team.github.attestations
    for attested in (provenance, contents):
        assert attested["job"] == "deliver/attest"
        assert attested["subject"] == [{"name": name, "digest": {"sha256": digest}}]
    [source] = provenance["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert source["digest"]["gitCommit"] == git(team.project.path, "rev-parse", "main")
    assert (provenance["predicate_type"], contents["predicate_type"]) == (
        "https://slsa.dev/provenance/v1",
        "https://cyclonedx.org/bom",
    )
    packages = {part["purl"].partition("@")[0] for part in contents["predicate"]["components"]}
    assert {"pkg:generic/python", "pkg:pypi/onnxruntime", "pkg:pypi/fastapi", "pkg:deb/debian/libc6"} <= packages
    assert not {"pkg:pypi/mlflow", "pkg:deb/debian/dpkg", "pkg:deb/debian/perl-base"} & packages


def test_a_better_model_is_green_and_its_merge_moves_the_champion(second_champion):
    better = pickle.loads((second_champion / "better.pickle").read_bytes())
    run = better.proposed
    assert run.jobs == {"test": "success", "ci": "success", **GREEN}
    assert verdict(run, "decide").startswith(
        "**Verdict: promote** — shown to be better by more than 0.001: roc_auc 0.7"
    )
    assert len(better.between) == 2, "a pull request moves nothing"
    [comment] = better.comments
    assert comment["body"].splitlines()[0] == verdict(run, "decide")
    assert "\n```mermaid\n" in comment["body"] and "| **roc_auc** (decides) |" in comment["body"]
    assert [(a["level"], a["job"]) for a in run.annotations] == [("notice", "decide")]

    assert better.merged.jobs == DELIVERED
    remote = second_champion / "remote.git"
    assert [(event["type"], event["outcome"]) for event in events(remote)[2:]] == [
        ("accepted", "promote"),
        ("live", "promote"),
    ]
    assert refs(remote, "refs/tags/champion/") == ["refs/tags/champion/000002", "refs/tags/champion/000004"]
    assert better.serves == events(remote)[3]["key"] != events(remote)[1]["key"]


def test_an_equal_model_is_green_and_its_merge_keeps_the_champion(team):
    team.project.edit("params.yaml", "{C: 1.0,", "{C: 0.8,")
    run = team.propose("a little more regularisation", "compare")
    assert run.jobs == GREEN
    assert verdict(run, "decide").startswith(
        "**Verdict: keep** — not shown to be better by more than 0.001: roc_auc 0.7"
    )

    before = events(team.remote)
    merged = team.merge("deliver")
    assert merged.jobs == DELIVERED
    assert verdict(merged, "train").startswith("**Verdict: keep**")
    [*same, kept] = events(team.remote)
    assert (same, kept["type"], kept["outcome"]) == (before, "kept", "keep")
    assert team.champions() == ["refs/tags/champion/000002"]


def test_a_worse_model_is_red_and_its_merge_changes_nothing(team):
    # Its model.py differs from the champion's, too: the champion is scored by its own code.
    team.project.edit("src/late_flights/model.py", '"departure_minute", ', "")
    run = team.propose("fewer columns", "compare")
    assert run.jobs == {"challenger": "success", "decide": "failure", "compare": "failure"}
    assert verdict(run, "decide").startswith("**Verdict: block** — shown to be worse by more than 0.001: roc_auc 0.6")

    assert team.github.comments[1][0]["body"].startswith("**Verdict: block** — shown to be worse")
    [told] = [a for a in run.annotations if a["message"].startswith("shown to be worse")]
    assert (told["level"], told["job"]) == ("error", "decide")

    # The author sees reason; the comment is the one that is there.
    team.project.git("revert", "--no-edit", "HEAD")
    again = open_pull_request(team.project.path, team.remote, number=1)
    assert team.run("pull_request", again, "compare").jobs == GREEN
    [comment] = team.github.comments[1]
    assert comment["body"].startswith("**Verdict: keep** — the two models predict the same")

    before = events(team.remote)
    merged = team.merge("deliver")
    assert merged.jobs == {"train": "failure", "deliver": "failure"}, "nothing is accepted"
    assert verdict(merged, "train").startswith("**Verdict: block**")
    assert events(team.remote) == before and team.champions() == ["refs/tags/champion/000002"]


def test_bad_data_are_red_before_training_and_their_merge_changes_nothing(team):
    def with_unit(header, rows):
        for row in rows:
            row[header.index("distance")] += " mi"

    rewrite_data(team.project, with_unit)
    run = team.propose("new export", "compare")
    assert run.jobs == {"challenger": "failure", "decide": "failure", "compare": "failure"}
    assert verdict(run, "decide").startswith("**Verdict: data refused** — data/flights.csv.gz: column 'distance'")
    [comment] = team.github.comments[1]
    assert comment["body"].splitlines()[0] == verdict(run, "decide")
    assert not list(run.artifacts.rglob("model.skops")), "nothing was trained"

    before = events(team.remote)
    merged = team.merge("deliver")
    assert merged.jobs == {"train": "failure", "deliver": "failure"}
    assert verdict(merged, "train").startswith("**Verdict: data refused**")
    assert events(team.remote) == before


def test_flipped_labels_of_the_holdout_turn_the_verdict(team):
    """The better model of the other test, judged against the opposite of the truth."""

    def flipped(header, rows):
        target = header.index("late")
        for row in rows[16_000:]:  # the file is sorted by time, so these are the newest fifth
            row[target] = str(1 - int(row[target]))

    team.project.edit("params.yaml", "estimator: logistic ", "estimator: forest ")
    rewrite_data(team.project, flipped)
    run = team.propose("a forest, and labels upside down", "compare")
    assert run.jobs == {"challenger": "success", "decide": "failure", "compare": "failure"}
    # A pull request does not rewrite what it is judged by; once it is merged, main uses the rows as they are.
    assert verdict(run, "decide") == "**Verdict: block** — no row is left to judge by"
    assert "changes 4000 rows that the base holds out; they judge nothing" in run.summary["decide"]
    merged = team.merge("deliver")
    assert merged.jobs == {"train": "failure", "deliver": "failure"}
    assert verdict(merged, "train").startswith("**Verdict: block** — roc_auc 0.2")


def test_a_pull_request_that_loosens_the_rule_is_judged_by_the_rule_of_the_base(team):
    team.project.edit("src/late_flights/model.py", '"departure_minute", ', "")
    team.project.edit("params.yaml", "promote_when: superior ", "promote_when: non_inferior ")
    team.project.edit("params.yaml", "margin: 0.001 ", "margin: 0.5 ")
    team.project.edit("src/conveyor/gate/decide.py", '"block", f"shown to be worse', '"promote", f"shown to be worse')
    run = team.propose("everything passes", "compare")
    assert run.jobs == {"challenger": "success", "decide": "failure", "compare": "failure"}
    assert verdict(run, "decide").startswith("**Verdict: block** — shown to be worse by more than 0.001: roc_auc 0.6")
    for flag in ("changes the rule of the gate", "changes code that judges or moves models; the base's was used"):
        assert flag in run.summary["decide"]


def test_on_main_a_looser_rule_that_came_with_its_model_is_not_used_for_it(team):
    team.project.edit("src/late_flights/model.py", '"departure_minute", ', "")
    team.project.edit("params.yaml", "promote_when: superior ", "promote_when: non_inferior ")
    team.project.edit("params.yaml", "margin: 0.001 ", "margin: 0.5 ")
    team.open("passes from now on")
    before = events(team.remote)
    merged = team.merge("deliver")
    assert merged.jobs == {"train": "failure", "deliver": "failure"}
    assert verdict(merged, "train").startswith("**Verdict: block** — shown to be worse by more than 0.001: roc_auc 0.6")
    assert "it is used from the next change on" in merged.summary["train"]
    again = team.dispatch("deliver")
    assert again.jobs == {"train": "failure", "deliver": "failure"}, "nor if somebody starts it by hand"
    assert events(team.remote) == before


def test_predictions_for_other_rows_or_a_forged_champion_do_not_help(team):
    """The untrusted job hands over what it likes: here the labels as its predictions, and noise as the champion's."""
    team.project.edit(
        "src/conveyor/steps/score.py",
        '                columns["champion"] = theirs.predictions\n',
        '                columns["champion"] = np.linspace(0, 1, len(rows))\n',
    )
    team.project.edit("src/conveyor/steps/score.py", '"row": positions,', '"row": positions[::-1].copy(),')
    run = team.propose("a forgery", "compare")
    assert run.jobs == {"challenger": "success", "decide": "failure", "compare": "failure"}
    assert verdict(run, "decide").startswith(
        "**Verdict: block** — the challenger gave no probability for 4000 of 4000 rows"
    )


def test_a_change_of_data_alone_is_judged_like_one_of_the_model(team):
    def without_the_oldest(header, rows):
        del rows[:2000]  # the file is sorted by time

    rewrite_data(team.project, without_the_oldest)
    run = team.propose("the newest rows only", "compare")
    assert run.jobs == GREEN
    assert verdict(run, "decide").startswith("**Verdict: keep** — not shown to be better by more than 0.001")
    assert "| data: rows trained on | 16,000 | 14,400 |" in run.summary["decide"]
    merged = team.merge("deliver")
    assert merged.jobs == DELIVERED
    assert team.history()[2:] == [("kept", "keep")]
    assert team.serves() == events(team.remote)[1]["key"]


def test_a_change_of_code_alone_trains_nothing_and_serves_the_champion_with_the_new_code(team):
    """In a private repository, which has no attestations: that is said, and nothing fails.

    What may be set is set to nothing, as GitHub has it with a variable or a secret that there is not.
    """
    team.project.edit(
        "src/conveyor/serving/service.py", '"form": self.form,', '"form": self.form,  # as the bundle says'
    )
    team.open("more to know")
    before = team.github.attestations[:]
    nothing = {"variables": dict.fromkeys(VARIABLES, "") | {"REGISTRY": f"{team.registry}/Your-Team"}}
    merged = team.merge("deliver", private=True, **nothing, secrets=dict.fromkeys(SECRETS, ""))
    assert merged.jobs == DELIVERED
    assert "Take the cloud identity" not in merged.steps["train"]
    assert "train     restored model" in merged.logs["train"]
    assert len(events(team.remote)) == 2
    told = team.info()
    assert (told["key"], told["commit"]) == (events(team.remote)[-1]["key"], team.head())
    assert [a["message"] for a in merged.annotations if a["job"] == "attest"] == [
        "Private repositories have attestations on GitHub Enterprise only; set the variable ATTESTATIONS there"
    ]
    assert team.github.attestations == before


def test_an_image_that_answers_otherwise_is_refused_in_staging_and_production_never_sees_it(team):
    team.be_live()  # as it is after the test before, which spares a delivery
    before = team.serves()
    team.project.edit("params.yaml", "estimator: logistic ", "estimator: forest ")
    team.project.edit(
        "src/conveyor/serving/service.py", "predicted = self._answer(columns)", "predicted = 1 - self._answer(columns)"
    )
    team.open("a forest upside down")
    run = team.merge("deliver")
    assert run.jobs["image"] == "success" and run.jobs["staging"] == "failure" and "production" not in run.jobs
    assert [event["type"] for event in events(team.remote)[2:]] == ["accepted", "aborted"]
    assert "other answers to the golden rows" in events(team.remote)[-1]["reason"]
    assert team.serves() == team.serves(staging=True) == before


HOSTILE = "$(touch planted) `touch planted` ; touch planted\n::error::planted\n::set-output name=x::y"


def test_a_fork_gets_its_verdict_and_can_write_nothing_and_hostile_texts_are_texts(team):
    """What a stranger controls: branch, title, text, commit message and author."""
    before = {ref: git(team.remote, "rev-parse", ref) for ref in refs(team.remote, "refs/")}
    team.project.edit("params.yaml", "estimator: logistic ", "estimator: forest ")
    team.project.git("config", "user.name", "$(touch planted)")
    branch = "$(touch${IFS}planted)`touch${IFS}planted`"
    stranger = {"fork": "eve/late-flights", "branch": branch, "title": HOSTILE, "body": HOSTILE, "actor": "eve"}
    run = team.propose(HOSTILE, "compare", **stranger)
    assert run.jobs == GREEN
    assert verdict(run, "decide").startswith("**Verdict: promote** — shown to be better by more than 0.001")
    assert {ref: git(team.remote, "rev-parse", ref) for ref in before} == before
    assert set(refs(team.remote, "refs/")) - set(before) == {"refs/pull/1/head", "refs/pull/1/merge"}
    assert not team.github.comments.get(1)
    assert {status for _, method, _, status in team.github.requests if method != "GET"} == {403}
    notices = [a for a in run.annotations if a["job"] == "decide" and a["level"] == "notice"]
    assert any("the token of this pull request may not write one, as that of a fork" in str(a) for a in notices)
    assert not list(team.scratch.rglob("planted")) and "planted" not in str(run.annotations)


def test_dependabot_is_treated_like_a_fork(team):
    (team.project.path / "README.md").write_text("Other words.\n")
    run = team.propose("bump", "compare", branch="dependabot/pip/x", actor="dependabot[bot]")
    assert run.jobs == GREEN
    assert not team.github.comments.get(1)
    assert verdict(run, "decide").startswith("**Verdict: keep** — the two models predict the same")


def test_an_image_is_built_once_and_deployed_by_the_digest_of_the_registry(delivered):
    team, run = delivered
    made = json.loads((run.artifacts / "image" / "image.json").read_text())
    assert made["reference"].startswith(f"{team.registry}/your-team/late-flights@sha256:")
    assert "Step 1/" in run.logs["image"]
    for job in ("staging", "production"):
        assert "Step 1/" not in run.logs[job] and f"model {made['key'][:12]} serves" in run.logs[job]


def test_a_delivery_that_stops_between_accepted_and_live_is_finished_by_the_next_one(team):
    before = team.champions()
    team.project.edit("params.yaml", "estimator: logistic ", "estimator: forest ")
    sound = (team.project.path / "src/conveyor/serving/app.py").read_text()
    team.project.edit("src/conveyor/serving/app.py", "import socket", "import socket_is_not_there")
    team.open("a forest, and a server that does not start")
    stopped = team.merge("deliver")
    assert stopped.jobs == {"train": "success", "accept": "success", "image": "failure", "deliver": "failure"}
    assert [event["type"] for event in events(team.remote)[2:]] == ["accepted"]
    assert team.champions() == before, "what was accepted is not champion before it serves"

    team.project.git("fetch", "--quiet", "origin", "main")
    team.project.git("reset", "--quiet", "--hard", "FETCH_HEAD")
    (team.project.path / "src/conveyor/serving/app.py").write_text(sound)
    team.open("a server that starts")
    merged = team.merge("deliver")
    assert merged.jobs == DELIVERED
    assert [event["type"] for event in events(team.remote)[2:]] == ["accepted", "live"], "it was accepted once"
    assert team.serves() == events(team.remote)[-1]["key"]


def test_a_second_merge_overtakes_one_that_is_accepted_and_not_yet_live(team):
    team.project.edit("params.yaml", "estimator: logistic ", "estimator: forest ")
    team.open("a forest")
    first = team.merge("deliver", kill=("deliver", "image", "Build, push, list what is in it", "before"))
    assert first.jobs == {"train": "success", "accept": "success", "image": "failure", "deliver": "failure"}
    payload = dispatch_payload(team.head())

    team.update()
    team.project.edit("params.yaml", "estimator: forest ", "estimator: boosting ")
    team.open("boosting")
    second = team.merge("deliver")
    assert second.jobs == DELIVERED
    forest = events(team.remote)[2]["key"]
    told = [(event["type"], event["key"] == forest) for event in events(team.remote)[2:]]
    assert told == [("accepted", True), ("aborted", True), ("accepted", False), ("live", False)]
    boosting = events(team.remote)[-1]["key"]
    assert team.serves() == boosting != forest

    # The first run, started again by somebody: it is told that it is late, and changes nothing.
    before = events(team.remote)
    late = team.run("workflow_dispatch", payload, "deliver")
    assert "deliver" in late.jobs and late.jobs["deliver"] == "failure"
    assert events(team.remote) == before and team.serves() == boosting


MAIN_STEPS = (
    ("train", "Validate, train, score, compare"),
    ("accept", "Accept"),
    ("image", "Build, push, list what is in it"),
    ("attest", "Attest the provenance of the image"),
    ("staging", "Deploy"),
    ("production", "Deploy"),
)


def test_a_delivery_whose_runner_is_lost_in_each_job_in_turn_ends_as_an_undisturbed_one(team, second_champion):
    """Each time only what failed is started again, with the artifacts of the attempts before it."""
    team.project.edit("params.yaml", "estimator: logistic ", "estimator: forest ")
    team.open("a forest")
    run = None
    payload = merge_pull_request(team.remote, team.pull)
    for job, step in MAIN_STEPS:
        run = team.run("push", payload, "deliver", kill=("deliver", job, step, "after"), rerun_of=run)
        assert run.jobs[job] == "failure" and run.jobs["deliver"] == "failure", run.log
    last = team.run("push", payload, "deliver", rerun_of=run)
    assert last.attempt == len(MAIN_STEPS) + 1
    assert set(last.jobs.values()) == {"success"}, last.log

    def told(remote):
        of_the_run = ("id", "time", "run", "by", "commit", "digest", "model")
        return [{key: value for key, value in event.items() if key not in of_the_run} for event in events(remote)]

    undisturbed = second_champion / "remote.git"
    assert told(team.remote) == told(undisturbed)
    for kind in ("refs/tags/champion/", "refs/models/", "refs/heads/ledger"):
        assert refs(team.remote, kind) == refs(undisturbed, kind)
    assert team.serves() == team.serves(staging=True) == events(team.remote)[-1]["key"]
    assert len({str(a["subject"]) for a in team.github.attestations[2:]}) == 1, "one image, whose digest stays"


def test_code_that_is_not_sound_is_red(team):
    team.project.edit(
        "src/late_flights/model.py",
        "from typing import Any",
        "import sys\nfrom typing import Any",
    )
    run = team.propose("an import that nobody uses", "ci")
    assert run.jobs == {"test": "failure", "ci": "failure"}
    assert run.steps["test"]["Check"] == "failure" and "Test" not in run.steps["test"]

    team.project.git("checkout", "--quiet", "HEAD~1", "--", "src")
    team.project.edit("tests/conftest.py", "resolve().parent.parent", "resolve().parents[99]")
    run = team.propose("tests that do not begin", "ci")
    assert run.jobs == {"test": "failure", "ci": "failure"}
    assert (run.steps["test"]["Check"], run.steps["test"]["Test"]) == ("success", "failure")
