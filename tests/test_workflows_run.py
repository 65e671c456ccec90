"""Risk: the generated workflows do not do what the README says. Each is executed here, on a bare git remote."""

import gzip
import json
import pickle
import shutil
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest
from act import Run, events, git, make_remote, merge_pull_request, open_pull_request, push, refs, run_event
from conftest import BakedProject, once
from engine import clear, free_port

GREEN = {"challenger": "success", "decide": "success", "compare": "success"}
DELIVERED = dict.fromkeys(("train", "accept", "image", "staging", "production", "deliver"), "success")


@dataclass
class Team:
    """A clone of the repository, its remote, and what happened to it so far."""

    project: BakedProject
    remote: Path
    scratch: Path
    registry: str
    port: int
    pull: dict | None = None

    def run(self, event: str, payload: dict, *workflows: str) -> Run:
        folder = self.scratch / f"run-{len(list(self.scratch.glob('run-*')))}"
        folder.mkdir()
        return run_event(
            self.remote,
            event,
            payload,
            folder,
            workflows=workflows or None,
            venv=self.project.venv,
            variables={"REGISTRY": f"{self.registry}/Your-Team"},
        )

    def serves(self, staging: bool = False) -> str:
        """The key of the model that answers at the edge of production, or of staging."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port + staging}/info", timeout=20) as answer:
            return json.loads(answer.read())["key"]

    def open(self, message: str) -> None:
        """Commit what was changed, and open a pull request."""
        self.project.git("checkout", "--quiet", "-B", "proposal")
        self.project.git("commit", "--quiet", "--all", "--message", message)
        self.pull = open_pull_request(self.project.path, self.remote)

    def propose(self, message: str, *workflows: str) -> Run:
        """The same, and run its workflows."""
        self.open(message)
        return self.run("pull_request", self.pull, *workflows)

    def merge(self, *workflows: str) -> Run:
        return self.run("push", merge_pull_request(self.remote, self.pull), *workflows)

    def champions(self) -> list[str]:
        return refs(self.remote, "refs/tags/champion/")


@pytest.fixture(scope="module")
def first_push(bake, shared, registry, base_image) -> tuple[Path, int]:
    """A team's repository after its first push, that push's run, and the port of its edge. It is made once."""
    port = free_port()

    def push_it(fresh: Path) -> None:
        project = bake()
        base_image(project.base)
        base_image("caddy:2.11.7-alpine")
        for old, new in (
            ("watch_seconds: 90.0 ", "watch_seconds: 1.0 "),
            ("max_seconds: 0.5 ", "max_seconds: 5.0 "),
            ("port: 8080", f"port: {port}"),
        ):
            project.edit("params.yaml", old, new)
        project.git("commit", "--quiet", "--all", "--message", "a short watch")
        shutil.copytree(project.path, fresh / "project", symlinks=True)
        remote = make_remote(fresh / "project", fresh / "remote.git")
        (fresh / "scratch").mkdir()
        team = Team(project, remote, fresh / "scratch", registry.address, port)
        (fresh / "run.pickle").write_bytes(pickle.dumps(team.run("push", push(fresh / "project", remote))))

    return once(shared, "first-push", push_it), port


@pytest.fixture
def delivered(first_push, bake, registry, tmp_path) -> tuple[Team, Run]:
    """A team after its first push, and that push's run."""
    kept, port = first_push
    project = bake()
    shutil.rmtree(project.path)
    shutil.copytree(kept / "project", project.path, symlinks=True)
    shutil.copytree(kept / "remote.git", tmp_path / "remote.git")
    git(project.path, "remote", "set-url", "origin", f"file://{tmp_path / 'remote.git'}")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    team = Team(project, tmp_path / "remote.git", scratch, registry.address, port)
    run = pickle.loads((kept / "run.pickle").read_bytes())
    run.artifacts = kept / "scratch" / "run-0" / "artifacts"
    return team, run


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left(engine):
    """What was deployed goes with the last test."""
    yield
    clear(engine, "late-flights")


@pytest.fixture
def team(delivered) -> Team:
    return delivered[0]


def verdict(run: Run, job: str) -> str:
    """The first line of what a job wrote into the summary."""
    return run.summary[job].strip().splitlines()[0]


def rewrite_data(project: BakedProject, change) -> None:
    """Change the rows of the data, as lists of cells under a header, and pin the result."""
    path = project.path / "data" / "flights.csv.gz"
    header, *rows = [line.split(",") for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
    change(header, rows)
    path.write_bytes(gzip.compress("".join(",".join(row) + "\n" for row in [header, *rows]).encode(), mtime=0))
    project.cli("data-lock")


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
    assert team.serves() == team.serves(staging=True) == events(team.remote)[1]["key"]
    assert events(team.remote)[0]["target"] == "production"
    assert events(team.remote)[1]["commit"] == git(team.project.path, "rev-parse", "main")
    assert events(team.remote)[1]["run"].startswith("https://github.com/your-team/late-flights/actions/runs/")


def test_a_better_model_is_green_and_its_merge_moves_the_champion(team):
    team.project.edit("params.yaml", "estimator: logistic ", "estimator: forest ")
    run = team.propose("a forest")
    assert run.jobs == {"test": "success", "ci": "success", **GREEN}
    assert verdict(run, "decide").startswith(
        "**Verdict: promote** — shown to be better by more than 0.001: roc_auc 0.7"
    )
    assert len(events(team.remote)) == 2, "a pull request moves nothing"

    merged = team.merge("deliver")
    assert merged.jobs == DELIVERED
    assert [(event["type"], event["outcome"]) for event in events(team.remote)[2:]] == [
        ("accepted", "promote"),
        ("live", "promote"),
    ]
    assert team.champions() == ["refs/tags/champion/000002", "refs/tags/champion/000004"]
    assert team.serves() == events(team.remote)[3]["key"] != events(team.remote)[1]["key"]


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
    team.project.edit("src/late_flights/compare.py", '"block", f"shown to be worse', '"promote", f"shown to be worse')
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
    assert events(team.remote) == before


def test_predictions_for_other_rows_or_a_forged_champion_do_not_help(team):
    """The untrusted job hands over what it likes: here the labels as its predictions, and noise as the champion's."""
    team.project.edit(
        "src/late_flights/score.py",
        '                columns["champion"] = theirs.predictions\n',
        '                columns["champion"] = np.linspace(0, 1, len(rows))\n',
    )
    team.project.edit("src/late_flights/score.py", '"row": positions,', '"row": positions[::-1].copy(),')
    run = team.propose("a forgery", "compare")
    assert run.jobs == {"challenger": "success", "decide": "failure", "compare": "failure"}
    assert verdict(run, "decide").startswith(
        "**Verdict: block** — the challenger gave no probability for 4000 of 4000 rows"
    )


def test_a_second_push_of_the_same_model_trains_nothing(team):
    (team.project.path / "README.md").write_text("Other words.\n")
    team.open("words")
    merged = team.merge("deliver")
    assert merged.jobs == DELIVERED
    assert "train     restored model" in merged.logs["train"]
    assert len(events(team.remote)) == 2
    assert team.serves() == events(team.remote)[-1]["key"]


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
    sound = (team.project.path / "src/late_flights/serve.py").read_text()
    team.project.edit("src/late_flights/serve.py", "import asyncio", "import asyncio_is_not_there")
    team.open("a forest, and a server that does not start")
    stopped = team.merge("deliver")
    assert stopped.jobs == {"train": "success", "accept": "success", "image": "failure", "deliver": "failure"}
    assert [event["type"] for event in events(team.remote)[2:]] == ["accepted"]
    assert team.champions() == before, "what was accepted is not champion before it serves"

    team.project.git("fetch", "--quiet", "origin", "main")
    team.project.git("reset", "--quiet", "--hard", "FETCH_HEAD")
    (team.project.path / "src/late_flights/serve.py").write_text(sound)
    team.open("a server that starts")
    merged = team.merge("deliver")
    assert merged.jobs == DELIVERED
    assert [event["type"] for event in events(team.remote)[2:]] == ["accepted", "live"], "it was accepted once"
    assert team.serves() == events(team.remote)[-1]["key"]
