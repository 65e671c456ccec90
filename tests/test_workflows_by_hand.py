"""Risk: what a person or the schedule starts does something else than it says: rollback, approve, monitor, release."""

import gzip
import json
import re
import tarfile
import urllib.error
import urllib.request

import pytest
from act import dispatch_payload, events, git, in_private, merge_pull_request, push, push_tag
from conftest import once
from engine import free_port
from github_team import DELIVERED, NOTHING_DUE, Team, keep, rewrite_data, verdict

LOOKED = dict.fromkeys(("live", "probation", "missed", "monitor"), "success")
RESTORED = {"restore": "success", "rollback": "success"}
RELEASED = dict.fromkeys(("files", "attest", "publish", "release"), "success")
HOSTILE = "$(touch planted) `touch planted`; touch planted\n::error::planted | <b>"


def planted(team: Team) -> bool:
    return any(team.scratch.rglob("planted"))


# Approve; before others, while the first champion serves: else it is delivered once more


def renamed(team: Team) -> None:
    """A column goes by another name: the champion cannot score that, and the contract of the base refuses it."""

    def rename(header, rows):
        header[header.index("distance")] = "miles"

    rewrite_data(team.project, rename)
    for path in ("src/late_flights/model.py", "expectations/data.json", "params.yaml"):
        text = (team.project.path / path).read_text()
        (team.project.path / path).write_text(text.replace("distance", "miles"))


def test_what_could_not_be_compared_waits_for_a_person_and_is_delivered_once_approved(team):
    renamed(team)
    team.commit("miles")
    waiting = team.run("push", push(team.project.path, team.remote), "deliver")
    assert waiting.jobs == NOTHING_DUE
    assert verdict(waiting, "train").startswith("**Verdict: incomparable** — the champion cannot score these rows")
    assert team.history()[2:] == [("kept", "incomparable")]
    team.be_live()
    old = team.serves()

    run = team.dispatch("approve", because=HOSTILE)
    assert run.jobs == {"judge": "success", "record": "success", "approve": "success"}
    approved = events(team.remote)[-1]
    assert (approved["type"], approved["reason"], approved["by"]) == ("approved", HOSTILE, "ada")
    assert team.serves() == old and not planted(team)
    assert team.github.dispatches == [{"workflow": "deliver.yml", "ref": "main", "inputs": {}}]

    assert team.dispatch("deliver").jobs == DELIVERED
    assert [event["type"] for event in events(team.remote)[-3:]] == ["approved", "accepted", "live"]
    assert team.serves() == events(team.remote)[-1]["key"] == approved["key"] != old


def test_a_model_that_the_gate_could_judge_needs_no_person(team):
    before = events(team.remote)
    run = team.dispatch("approve", because="I like it")
    assert run.jobs == {"judge": "success", "record": "failure", "approve": "failure"}
    assert verdict(run, "judge").startswith("**Verdict: keep**")
    assert "approve: the gate came to a verdict, keep" in run.logs["record"]
    assert events(team.remote) == before and not team.github.dispatches


# Rollback


def test_a_rollback_brings_the_earlier_champion_to_serve_and_a_rollback_of_it_the_later(with_two):
    team = with_two
    team.be_live()
    first, second = events(team.remote)[1]["key"], events(team.remote)[3]["key"]
    assert team.serves() == second
    run = team.dispatch("rollback", because=HOSTILE)
    assert run.jobs == RESTORED
    *_, back, live = events(team.remote)
    assert (back["type"], back["key"], back["replaces"], live["type"]) == ("rolled_back", first, second, "live")
    assert back["reason"] == HOSTILE and back["by"] == "ada" and not planted(team)
    assert team.serves() == first
    assert "Step 1/" not in run.logs["restore"], "the image is the one in which it served"

    again = team.dispatch("rollback", because="it was the data", to="4")
    assert again.jobs == RESTORED
    assert [event["type"] for event in events(team.remote)[-2:]] == ["rolled_back", "live"]
    assert team.serves() == events(team.remote)[-1]["key"] == second


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"because": "why", "to": "3"}, "rollback: event 3 made no champion"),
        ({"because": "why", "to": "$(touch planted)"}, "Invalid value for '--to'"),
        ({"because": "  "}, "rollback: needs a reason for the record"),
    ],
    ids=["no-champion", "hostile", "no-reason"],
)
def test_a_rollback_to_nowhere_or_without_a_reason_changes_nothing(with_two, inputs, said):
    before = events(with_two.remote)
    run = with_two.dispatch("rollback", **inputs)
    assert run.jobs == {"restore": "failure", "rollback": "failure"}
    assert said in run.logs["restore"]
    assert events(with_two.remote) == before and not planted(with_two)


@pytest.mark.parametrize(
    ("workflow", "inputs"), [("rollback", {"because": "why"}), ("approve", {"because": "why"}), ("deliver", {})]
)
def test_from_another_branch_than_main_nothing_is_moved(team, workflow, inputs):
    before = events(team.remote)
    git(team.remote, "branch", "other", "main")
    payload = dispatch_payload(team.head(), inputs, ref="refs/heads/other")
    run = team.run("workflow_dispatch", payload, workflow)
    assert run.jobs == {workflow: "failure"}, "the gate says that nothing ran"
    assert events(team.remote) == before


# Monitor


def test_the_schedule_tells_what_is_live(team):
    run = team.look()
    assert run.jobs == LOOKED
    assert verdict(run, "live").startswith(f"**Live: model {events(team.remote)[1]['key'][:12]}** — champion/000002")
    assert not team.github.dispatches


def test_the_schedule_keeps_the_page_of_what_is_live(team):
    page = (team.look().artifacts / "monitor" / "monitor.html").read_text()
    assert events(team.remote)[1]["key"][:12] in page


def test_a_merge_that_skipped_its_delivery_is_delivered_by_the_schedule(team):
    """GitHub starts nothing for a commit with [skip ci] in its message. One start is enough."""
    team.project.edit("params.yaml", "C: 1.0,", "C: 0.8,")
    team.open("a little more regularisation [skip ci]")
    merge_pull_request(team.remote, team.pull)
    assert team.look().jobs == LOOKED
    assert [each["workflow"] for each in team.github.dispatches] == ["deliver.yml"]
    assert team.dispatch("deliver").jobs == DELIVERED
    team.look()
    assert len(team.github.dispatches) == 1


def test_with_nothing_live_the_schedule_says_so_and_does_not_fail(begin, team_at, tmp_path):
    begin(tmp_path, free_port())
    team = team_at(tmp_path, 0)
    run = team.look()
    assert run.jobs == LOOKED
    assert verdict(run, "live").startswith("**Nothing is live**")
    assert [each["workflow"] for each in team.github.dispatches] == ["deliver.yml"], "no delivery ever ran"
    [told] = [each for each in run.annotations if each["job"] == "missed"]
    assert told["level"] == "warning" and "had no delivery" in told["message"]


def test_a_ledger_that_is_damaged_turns_the_schedule_red(team):
    git(team.remote, "update-ref", "-d", "refs/heads/ledger")
    run = team.look()
    assert run.jobs == dict.fromkeys(LOOKED, "failure") | {"missed": "success"}
    assert "and no branch `ledger`" in run.logs["live"]


# Pages


def test_pages_are_published_where_they_are_asked_for(team):
    run = team.publish(PAGES="1")
    assert run.jobs == {"site": "success", "deploy": "success", "pages": "success"}
    with tarfile.open(run.artifacts / "github-pages" / "artifact.tar") as site:
        names = site.getnames()
        first = site.extractfile("index.html").read().decode()
    live = events(team.remote)[1]
    assert {"monitor.html", "events.html", "lives.html", f"champion/{live['number']:06d}.html"} <= set(names)
    assert f"Model {live['key'][:12]} is live" in first


def test_without_the_variable_nothing_is_made_and_the_gate_is_green(team):
    assert team.publish().jobs == {"pages": "success"}


def test_of_a_damaged_ledger_nothing_is_published_and_the_gate_is_red(team):
    git(team.remote, "update-ref", "-d", "refs/heads/ledger")
    assert team.publish(PAGES="1").jobs == {"site": "failure", "pages": "failure"}


# Update


def newest(team: Team, template, release: str) -> None:
    """The repository has this release of a template of which v0.2.0 is the newest."""
    answers = team.project.path / ".copier-answers.yml"
    text = re.sub(r"(?m)^_src_path: .*$", f"_src_path: {template}", answers.read_text())
    answers.write_text(re.sub(r"(?m)^_commit: .*$", f"_commit: {release}", text))
    seal = team.project.path / "src/conveyor/SEAL"
    seal.write_text(re.sub(r"^conveyor .*", f"conveyor {release[1:]}", seal.read_text()))
    team.commit(f"This is {release}")
    push(team.project.path, team.remote)


def test_one_issue_is_open_while_a_newer_release_of_the_template_is_out(team, template):
    done = {"look": "success", "update": "success"}
    newest(team, template, "v0.1.0")
    assert team.dispatch("update").jobs == done == team.dispatch("update").jobs
    [issue] = team.github.issues
    assert issue["state"] == "open" and "`deploy.keep_releases`" in issue["body"]
    newest(team, template, "v0.2.0")
    assert team.dispatch("update").jobs == done
    assert [issue["state"] for issue in team.github.issues] == ["closed"]


def test_a_template_that_is_not_there_turns_the_schedule_red(team, tmp_path):
    newest(team, tmp_path / "nowhere", "v0.1.0")
    assert team.dispatch("update").jobs == {"look": "failure", "update": "failure"}


# Collect


def test_new_rows_become_one_pull_request_that_a_person_merges(team):
    """Two runs, and a third one after the merge, which finds nothing new."""
    done = {"bring": "success", "collect": "success"}
    assert team.dispatch("collect").jobs == done and not team.github.pulls, "no source is named"
    file = team.project.path / "data/flights.csv.gz"
    rows = gzip.decompress(file.read_bytes()).splitlines(keepends=True)
    file.write_bytes(gzip.compress(b"".join(rows[:15_001]), mtime=0))
    (team.project.path / "new.csv").write_bytes(b"".join([rows[0], *rows[15_001:18_001]]))
    team.project.edit("params.yaml", "source: null ", "source: {command: cat new.csv} ")
    team.project.cli("data-lock")
    team.commit("A source")
    push(team.project.path, team.remote)
    main = team.head()
    run = team.dispatch("collect")
    assert run.jobs == done and run.steps["bring"]["Propose"] == "success"
    [pull] = team.github.pulls.values()
    assert pull["title"].startswith("3,000 new rows for flights.csv.gz") and team.head() == main
    assert team.dispatch("collect").jobs == done
    assert team.github.writes == ["POST pulls"]
    changed = git(team.remote, "diff", "--name-only", "refs/heads/main..refs/heads/collect").split()
    assert changed == ["data/flights.csv.gz", "params.yaml"]
    git(team.remote, "update-ref", "refs/heads/main", "refs/heads/collect")
    run = team.dispatch("collect")
    assert run.jobs == done and "Propose" not in run.steps["bring"] and "nothing new" in run.logs["bring"]
    assert team.github.writes == ["POST pulls"]


def test_a_source_that_is_away_turns_the_schedule_red(team):
    team.project.edit("params.yaml", "source: null ", "source: {command: cat nowhere.csv} ")
    team.commit("A source that is away")
    push(team.project.path, team.remote)
    run = team.dispatch("collect")
    assert run.jobs == {"bring": "failure", "collect": "failure"} and not team.github.pulls
    assert "data.source.command: exited with 1: cat: nowhere.csv: No such file" in run.logs["bring"]


# Release


@pytest.fixture(scope="module")
def releasable(shared, first_push, team_at):
    """A team whose main says in the changelog what 1.0.0 is, and has delivered that."""
    kept, port = first_push

    def deliver(fresh):
        team = team_at(kept, port)
        words = "# Changelog\n\n## Unreleased\n\nLater.\n\n## 1.0.0\n\nIt tells *late* flights.\n\n## 0.1.0\n\nOld.\n"
        (team.project.path / "CHANGELOG.md").write_text(words)
        team.open("1.0.0")
        assert team.merge("deliver").jobs == DELIVERED
        team.update()
        keep(team, fresh)

    return lambda: team_at(once(shared, "releasable", deliver), port)


def registry_digest(team: Team, tag: str) -> str | None:
    asked = urllib.request.Request(
        f"http://{team.registry}/v2/your-team/late-flights/manifests/{tag}",
        headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"},
    )
    try:
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return answer.headers["Docker-Content-Digest"]
    except urllib.error.HTTPError as error:
        assert error.code == 404
        return None


def test_a_tag_on_main_becomes_a_release_also_where_its_runner_is_lost_in_each_job(releasable):
    team = releasable()
    payload, run = push_tag(team.project.path, team.remote, "v1.0.0"), None
    for job, step in (
        ("files", "Put the release together"),
        ("attest", "Attest the provenance of the files"),
        ("publish", "Publish"),
    ):
        run = team.run("push", payload, kill=("release", job, step, "after"), rerun_of=run)
        assert run.jobs[job] == "failure" and run.jobs["release"] == "failure", run.log
    last = team.run("push", payload, rerun_of=run)
    assert set(last.jobs.values()) == {"success"}, last.log

    [release] = team.github.releases
    assert (release["tag_name"], release["draft"], release["prerelease"]) == ("v1.0.0", False, False)
    assert release["body"].startswith("It tells *late* flights.\n\n---\n\n# late_flights 1.0.0\n")
    assets = {asset["name"]: asset for asset in release["assets"]}
    assert set(assets) == {
        "SHA256SUMS",
        "late-flights-1.0.0-model.tar.gz",
        "model-card.md",
        "release.json",
        "sbom.cdx.json",
    }
    about = json.loads(assets["release.json"]["bytes"])
    live = events(team.remote)[1]
    assert (about["commit"], about["key"], about["digest"]) == (team.head(), live["key"], live["digest"])
    released = events(team.remote)[-1]
    assert (released["type"], released["tag"], released["commit"]) == ("released", "v1.0.0", team.head())
    assert [event["type"] for event in events(team.remote)].count("released") == 1
    assert registry_digest(team, "1.0.0") == about["image"].partition("@")[2]
    subjects = {
        s["digest"]["sha256"] for a in team.github.attestations if a["job"] == "release/attest" for s in a["subject"]
    }
    assert {asset["digest"].removeprefix("sha256:") for asset in assets.values()} <= subjects


def test_a_version_that_is_out_is_not_made_again_nor_moved(releasable):
    team = releasable()
    payload = push_tag(team.project.path, team.remote, "v1.0.0")
    assert team.run("push", payload).jobs == RELEASED
    out, before = json.dumps(team.github.releases, default=str), events(team.remote)

    # GitHub numbers runs; here each has the same number, so the ledger is told of another one.
    again = team.run("push", payload, env={"GITHUB_RUN_ID": "2"})
    assert again.jobs == {"files": "success", "attest": "success", "publish": "failure", "release": "failure"}
    assert "release: v1.0.0 was released already" in again.logs["publish"]

    earlier = git(team.project.path, "rev-parse", f"{team.head()}^1")
    git(team.project.path, "push", "--quiet", "--force", f"file://{team.remote}", f"{earlier}:refs/tags/v1.0.0")
    moved = team.run("push", {**payload, "after": earlier})
    assert moved.jobs == {"files": "failure", "release": "failure"}
    assert "release: v1.0.0 was released from commit" in moved.logs["files"]
    assert json.dumps(team.github.releases, default=str) == out and events(team.remote) == before


def test_a_tag_that_is_not_on_main_or_is_no_version_is_refused(releasable):
    team = releasable()
    before = events(team.remote)
    (team.project.path / "README.md").write_text("Aside.\n")
    team.commit("aside")
    for tag, said in (("v1.0.0", "is not on main"), ("v1.0", "is no version")):
        run = team.run("push", push_tag(team.project.path, team.remote, tag))
        assert run.jobs == {"files": "failure", "release": "failure"}
        assert said in run.logs["files"]
    assert not team.github.releases and events(team.remote) == before


def test_a_private_repository_gets_its_release_and_is_told_that_nothing_is_attested(releasable):
    team = releasable()
    run = team.run("push", in_private(push_tag(team.project.path, team.remote, "v1.0.0")))
    assert run.jobs == RELEASED
    assert [a["level"] for a in run.annotations if a["job"] == "attest"] == ["notice"]
    assert team.github.releases and not [a for a in team.github.attestations if a["job"] == "release/attest"]
    assert {(each.job, each.status) for each in run.requests} == {("release/files", 200), ("release/publish", 200)}
