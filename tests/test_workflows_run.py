"""Risk: the workflows of a pull request and of a merge do not do what the README says. Each is executed here."""

import json
import pickle

from act import dispatch_payload, events, git, merge_pull_request, open_pull_request, queue_pull_request, refs
from github_team import BLOCKED, DELIVERED, GREEN, NOTHING_DUE, SECRETS, VARIABLES, rewrite_data, verdict

SAME = "model, code in the image, lock and settings are those of the last successful deployment"


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
    assert merged.jobs == NOTHING_DUE
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
    assert merged.jobs == BLOCKED, "nothing is accepted"
    assert verdict(merged, "train").startswith("**Verdict: block**")
    [*same, blocked] = events(team.remote)
    assert (same, blocked["type"], blocked["outcome"]) == (before, "blocked", "block")
    assert team.champions() == ["refs/tags/champion/000002"]


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
        for row in rows[15_957:]:  # the file is sorted by time, so these are the newest 37 days, about a fifth
            row[target] = str(1 - int(row[target]))

    team.project.better()
    rewrite_data(team.project, flipped)
    run = team.propose("a better model, and labels upside down", "compare")
    assert run.jobs == {"challenger": "success", "decide": "failure", "compare": "failure"}
    # A pull request does not rewrite what it is judged by; once it is merged, main uses the rows as they are.
    assert verdict(run, "decide") == "**Verdict: block** — no row is left to judge by"
    assert "changes 4043 rows that the base holds out; they judge nothing" in run.summary["decide"]
    merged = team.merge("deliver")
    assert merged.jobs == BLOCKED
    assert verdict(merged, "train").startswith("**Verdict: block** — roc_auc 0.2")


def test_a_pull_request_that_loosens_the_rule_is_judged_by_the_rule_of_the_base(team):
    team.project.edit("src/late_flights/model.py", '"departure_minute", ', "")
    team.project.edit("params.yaml", "promote_when: superior ", "promote_when: non_inferior ")
    team.project.edit("params.yaml", "margin: 0.001 ", "margin: 0.5 ")
    team.project.edit("src/conveyor/gate/outcome.py", '"block", f"shown to be worse', '"promote", f"shown to be worse')
    run = team.propose("everything passes", "compare")
    assert run.jobs == {"challenger": "success", "decide": "failure", "compare": "failure"}
    assert verdict(run, "decide").startswith("**Verdict: block** — shown to be worse by more than 0.001: roc_auc 0.6")
    for flag in ("changes the rule of the gate", "changes code that judges or moves models; the base's was used"):
        assert flag in run.summary["decide"]


def test_a_pull_request_is_judged_by_main_as_it_is_merged_onto_it_and_not_as_it_was_when_it_was_opened(team):
    """The event tells the base of then for ever. What main has changed since is no change of the pull request."""
    start = team.project.git("rev-parse", "HEAD").stdout.strip()
    team.project.edit("params.yaml", "C: 1.0,", "C: 0.8,")
    opened = team.open("a little more regularisation")
    proposal = team.project.git("rev-parse", "HEAD").stdout.strip()

    team.project.git("reset", "--quiet", "--hard", start)
    team.project.edit("params.yaml", "margin: 0.001 ", "margin: 0.002 ")
    team.open("a wider margin", number=2)
    merge_pull_request(team.remote, team.pull)

    # Run again, the first event is judged by the main that it was merged onto.
    again = team.run("pull_request", opened, "compare")
    assert again.jobs == GREEN
    assert verdict(again, "decide").startswith("**Verdict: keep** — not shown to be better by more than 0.001:")

    team.project.git("reset", "--quiet", "--hard", proposal)
    (team.project.path / "CONTRIBUTORS.md").write_text("Ada\n")
    later = team.open("a name", opened=opened)
    for merges_main in (False, True):
        if merges_main:
            team.project.git("fetch", "--quiet", "origin", "main")
            team.project.git("merge", "--quiet", "--no-edit", "FETCH_HEAD")
            later = open_pull_request(team.project.path, team.remote, opened=opened)
        assert later["pull_request"]["base"]["sha"] == opened["pull_request"]["base"]["sha"] == start
        run = team.run("pull_request", later, "compare")
        assert run.jobs == GREEN
        assert verdict(run, "decide").startswith("**Verdict: keep** — not shown to be better by more than 0.002:")
        assert "the rule of the gate" not in run.summary["decide"]


def test_a_merge_queue_asks_both_checks_and_the_rule_of_its_base_judges(team):
    team.project.edit("params.yaml", "C: 1.0,", "C: 0.8,")
    team.project.edit("params.yaml", "margin: 0.001 ", "margin: 0.5 ")
    run = team.run("merge_group", queue_pull_request(team.project.path, team.remote, team.open("a looser rule")))
    assert run.jobs == {"test": "success", "ci": "success", **GREEN}
    assert verdict(run, "decide").startswith("**Verdict: keep** — not shown to be better by more than 0.001:")
    assert "changes the rule of the gate" in run.summary["decide"]
    assert "Comment" not in run.steps["decide"] and not team.github.requests


def test_what_is_no_merge_onto_main_has_no_base_and_is_refused(team, tmp_path):
    """As when the merge commit is gone: a pull request that names itself as base would judge itself."""
    team.project.edit("params.yaml", "margin: 0.001 ", "margin: 0.5 ")
    pull = team.open("a looser rule")
    pull["pull_request"]["merge_commit_sha"] = pull["pull_request"]["head"]["sha"]
    run = team.run("pull_request", pull, "compare")
    assert run.jobs == {"challenger": "success", "decide": "failure", "compare": "failure"}
    assert run.steps["decide"]["Find the base"] == "failure" and not run.summary.get("decide")


def test_on_main_a_looser_rule_that_came_with_its_model_is_not_used_for_it(team):
    team.project.edit("src/late_flights/model.py", '"departure_minute", ', "")
    team.project.edit("params.yaml", "promote_when: superior ", "promote_when: non_inferior ")
    team.project.edit("params.yaml", "margin: 0.001 ", "margin: 0.5 ")
    team.open("passes from now on")
    before = events(team.remote)
    merged = team.merge("deliver")
    assert merged.jobs == BLOCKED
    assert verdict(merged, "train").startswith("**Verdict: block** — shown to be worse by more than 0.001: roc_auc 0.6")
    assert "it is used from the next change on" in merged.summary["train"]
    again = team.dispatch("deliver")
    assert again.jobs == BLOCKED, "nor if somebody starts it by hand"
    [*same, blocked] = events(team.remote)
    assert (same, blocked["type"]) == (before, "blocked"), "it is on record once"


def test_predictions_for_other_rows_or_a_forged_champion_do_not_help(team):
    """The untrusted job hands over what it likes: here the labels as its predictions, and noise as the champion's."""
    team.project.edit(
        "src/conveyor/steps/score.py",
        '                columns["champion"] = theirs.predictions\n',
        '                columns["champion"] = np.linspace(0, 1, len(rows))\n',
    )
    team.project.edit("src/conveyor/steps/score.py", '"row": positions,', '"row": np.roll(positions, 1),')
    run = team.propose("a forgery", "compare")
    assert run.jobs == {"challenger": "success", "decide": "failure", "compare": "failure"}
    assert verdict(run, "decide").startswith(
        "**Verdict: block** — the challenger gave no probability for 4043 of 4043 rows"
    )


def test_a_change_of_data_alone_is_judged_like_one_of_the_model(team):
    def without_the_oldest(header, rows):
        del rows[:2000]  # the file is sorted by time

    rewrite_data(team.project, without_the_oldest)
    team.be_live()
    run = team.propose("the newest rows only", "compare")
    assert run.jobs == GREEN
    assert verdict(run, "decide").startswith("**Verdict: keep** — not shown to be better by more than 0.001")
    assert "| data: rows trained on | 15,957 | 14,399 |" in run.summary["decide"]
    served = team.info()
    merged = team.merge("deliver")
    assert merged.jobs == NOTHING_DUE
    assert team.history()[2:] == [("kept", "keep")]
    assert team.info() == served


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
    # Each request of git has the token of its job, where the code is checked out and where the ledger is asked.
    reading = {f"deliver/{job}" for job in ("train", "accept", "image", "staging", "production")}
    assert {(each.job, each.status) for each in merged.requests} == {(job, 200) for job in reading}


def test_an_image_that_answers_otherwise_is_refused_in_staging_and_production_never_sees_it(team):
    team.be_live()  # as it is after the test before, which spares a delivery
    before = team.serves()
    team.project.better()
    team.project.edit(
        "src/conveyor/serving/service.py", "predicted = self._answer(columns)", "predicted = 1 - self._answer(columns)"
    )
    team.open("a better model upside down")
    run = team.merge("deliver")
    assert run.jobs["image"] == "success" and run.jobs["staging"] == "failure" and "production" not in run.jobs
    assert [event["type"] for event in events(team.remote)[2:]] == ["accepted", "aborted"]
    assert "other answers to the golden rows" in events(team.remote)[-1]["reason"]
    assert team.serves() == team.serves(staging=True) == before


HOSTILE = "$(touch planted) `touch planted` ; touch planted\n::error::planted\n::set-output name=x::y"


def test_a_fork_gets_its_verdict_and_can_write_nothing_and_hostile_texts_are_texts(team):
    """What a stranger controls: branch, title, text, commit message and author."""
    before = {ref: git(team.remote, "rev-parse", ref) for ref in refs(team.remote, "refs/")}
    team.project.better()
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
    team.project.better()
    sound = (team.project.path / "src/conveyor/serving/app.py").read_text()
    team.project.edit("src/conveyor/serving/app.py", "import socket", "import socket_is_not_there")
    team.open("a better model, and a server that does not start")
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
    team.project.better()
    team.open("a better model")
    first = team.merge("deliver", kill=("deliver", "image", "Build, push, list what is in it", "before"))
    assert first.jobs == {"train": "success", "accept": "success", "image": "failure", "deliver": "failure"}
    payload = dispatch_payload(team.head())

    team.update()
    team.project.edit("params.yaml", "C: 1.0,", "C: 0.1,")
    team.open("another one")
    second = team.merge("deliver")
    assert second.jobs == DELIVERED
    overtaken = events(team.remote)[2]["key"]
    told = [(event["type"], event["key"] == overtaken) for event in events(team.remote)[2:]]
    assert told == [("accepted", True), ("aborted", True), ("accepted", False), ("live", False)]
    newest = events(team.remote)[-1]["key"]
    assert team.serves() == newest != overtaken

    # The first run, started again by somebody: it is told that it is late, and changes nothing.
    before = events(team.remote)
    late = team.run("workflow_dispatch", payload, "deliver")
    assert "deliver" in late.jobs and late.jobs["deliver"] == "failure"
    assert events(team.remote) == before and team.serves() == newest


def test_a_change_of_words_alone_ends_green_after_its_verdict_and_deploys_nothing(team):
    (team.project.path / "docs" / "model.md").write_text("# The model\n\nIn other words.\n")
    (team.project.path / "tests" / "test_data.py").write_text("")
    team.project.edit("params.yaml", "margin: 0.001 ", "margin: 0.002 ")  # of the gate
    team.open("words, tests, and the rule of the gate")
    merged = team.merge("deliver")
    assert merged.jobs == NOTHING_DUE
    assert merged.outputs["accept"] == {"due": "false"}
    [told] = [a for a in merged.annotations if a["job"] == "accept"]
    assert (told["level"], told["message"].partition(":")[0]) == ("notice", SAME)
    assert [(d["environment"], d["state"]) for d in team.github.deployments] == [
        ("staging", "success"),
        ("production", "success"),
    ]
    # By hand it is delivered all the same, and then what serves has changed.
    assert team.dispatch("deliver").jobs == DELIVERED
    team.update()
    team.project.edit("params.yaml", "max_rows: 1000 ", "max_rows: 900 ")
    team.open("smaller requests")
    assert team.merge("deliver").jobs == DELIVERED


def test_an_image_that_is_not_attested_is_deployed_nowhere(team):
    """Each time the runner is lost before the image is verified, and the attestations are gone when it is back."""
    team.be_live()
    team.project.edit("params.yaml", "max_rows: 1000 ", "max_rows: 900 ")
    team.open("smaller requests")
    payload, served, run = merge_pull_request(team.remote, team.pull), team.info(), None
    for place in ("staging", "production"):
        kill = ("deliver", place, "Verify that this workflow built it", "before")
        run = team.run("push", payload, "deliver", kill=kill, rerun_of=run)
        kept, team.github.attestations = team.github.attestations, []
        run = team.run("push", payload, "deliver", rerun_of=run)
        assert (run.jobs[place], run.jobs["deliver"]) == ("failure", "failure")
        assert "is not known to come from `deliver` on main: Error: " in run.logs[place]
        assert run.steps[place].get("Deploy") != "success" and team.info() == served
        team.github.attestations = kept


def test_older_code_is_not_deployed_over_newer(team):
    """Two deliveries of one model: the older one comes to production last, as after a reviewer let it wait."""
    team.project.edit("params.yaml", "max_rows: 1000 ", "max_rows: 900 ")
    team.open("smaller requests")
    older = merge_pull_request(team.remote, team.pull)
    waits = team.run("push", older, "deliver", kill=("deliver", "production", "Deploy", "before"))
    team.update()
    team.project.edit("params.yaml", "max_rows: 900 ", "max_rows: 800 ")
    team.open("still smaller ones")
    assert team.merge("deliver").jobs == DELIVERED

    before, served = events(team.remote), team.info()
    late = team.run("push", older, "deliver", rerun_of=waits)
    assert (late.jobs["production"], late.jobs["deliver"]) == ("failure", "failure")
    assert "overtaken: the code that serves in production comes from commit" in late.logs["production"]
    assert events(team.remote) == before and team.info() == served


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
    team.project.better()
    team.open("a better model")
    run = None
    payload = merge_pull_request(team.remote, team.pull)
    for job, step in MAIN_STEPS:
        run = team.run("push", payload, "deliver", kill=("deliver", job, step, "after"), rerun_of=run)
        assert run.jobs[job] == "failure" and run.jobs["deliver"] == "failure", run.log
    last = team.run("push", payload, "deliver", rerun_of=run)
    assert last.attempt == len(MAIN_STEPS) + 1
    assert set(last.jobs.values()) == {"success"}, last.log

    def told(remote):
        of_the_run = ("id", "time", "run", "by", "commit", "digest", "model", "receipt")  # the bytes of a training
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
