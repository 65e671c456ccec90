"""Risk: what a team sets to outgrow the defaults is not used, is shown in a log, or must not be left empty."""

import base64
import json
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from act import events, push
from engine import clear
from github_team import DELIVERED, GREEN, verdict
from mlflow import MlflowClient

USER = "data:s3cret-of-the-data"
BASIC = f"Basic {base64.b64encode(USER.encode()).decode()}"
OPTIONS = json.dumps({"client_kwargs": {"headers": {"Authorization": BASIC}}})


@pytest.fixture
def store(tmp_path):
    """The address of a store of data that lets in who bears BASIC, its folder, and what was asked of it."""
    asked = []

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *given):
            super().__init__(*given, directory=str(tmp_path / "store"))

        def send_head(self):
            asked.append(self.headers.get("Authorization"))
            if asked[-1] != BASIC:
                return self.send_error(403, "Forbidden")
            return super().send_head()

        def log_message(self, *_):
            pass

    (tmp_path / "store").mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", tmp_path / "store", asked
    server.shutdown()
    server.server_close()


@pytest.fixture
def elsewhere(team, store):
    """A team whose data are in that store, and not in git."""
    url, folder, _ = store
    data = team.project.path / "data" / "flights.csv.gz"
    data.rename(folder / data.name)
    team.project.edit("params.yaml", "path: data/flights.csv.gz", f"path: {url}/flights.csv.gz")
    team.commit("data that are not for everybody")
    push(team.project.path, team.remote)
    return team


@pytest.fixture
def taken_down(engine):
    """What was deployed with a token wants it until it is taken down: not by tests that come after."""
    yield
    clear(engine, "late-flights")


def test_with_everything_set_each_job_uses_what_is_meant_for_it_and_shows_none_of_it(
    elsewhere, store, server, ssh_host, taken_down
):
    team = elsewhere
    host = {"DEPLOY_HOST": ssh_host.url, **ssh_host.secrets()}
    environments = {
        "build": {"secrets": {"DATA_OPTIONS": OPTIONS, "MLFLOW_TRACKING_PASSWORD": "s3cret-of-mlflow"}},
        "staging": {"secrets": host},
        "production": {"secrets": {**host, "PREDICT_TOKEN": "s3cret-of-clients"}},
    }
    variables = {
        "REGISTRY": f"{team.registry}/Your-Team",
        "MLFLOW_TRACKING_URI": server,
        "BUILD_ENVIRONMENT": "build",
        "AWS_ROLE": "arn:aws:iam::123456789012:role/trainer",
        "AWS_REGION": "eu-central-1",
        "ATTESTATIONS": "yes",
    }
    team.project.better()
    team.open("a better model")
    before = len(team.github.attestations)
    run = team.merge("deliver", private=True, variables=variables, environments=environments)
    assert run.jobs == DELIVERED
    assert [event["type"] for event in events(team.remote)[2:]] == ["accepted", "live"]
    assert BASIC in store[2] and len(team.github.attestations) == before + 2
    for job in ("train", "accept"):
        assert run.steps[job]["Take the cloud identity"] == "success"

    registered = MlflowClient(server, server).get_model_version_by_alias("late_flights", "champion")
    assert registered.tags["ledger.key"] == events(team.remote)[-1]["key"]
    assert "Accepted publickey" in ssh_host.log
    assert team.serves() == events(team.remote)[-1]["key"]
    for secret in ("s3cret-of-the-data", BASIC, "s3cret-of-mlflow", "s3cret-of-clients", "PRIVATE KEY"):
        assert secret not in run.log


def test_without_a_registry_of_its_own_a_team_s_image_goes_to_that_of_github(team):
    team.project.edit("src/conveyor/serving/service.py", '"form": self.form,', '"form": self.form, "to": "ghcr",')
    team.open("to ghcr.io")
    run = team.merge("deliver", variables={})
    assert run.jobs == {"train": "success", "accept": "success", "image": "failure", "deliver": "failure"}
    assert "pushing ghcr.io/your-team/late-flights:" in run.logs["image"]


# Data that need credentials, in pull requests


def test_a_fork_without_credentials_is_not_judged_and_its_check_stays_green(elsewhere, store):
    team = elsewhere
    team.project.better()
    run = team.propose("a better model", "compare", fork="eve/late-flights")
    assert run.jobs == GREEN
    assert verdict(run, "decide").startswith(
        "**Verdict: not judged** — the data need credentials, which this pull request"
    )
    assert "Compare" not in run.steps["decide"] and "Train, score" not in run.steps["challenger"]
    assert not (run.artifacts / "challenger").exists() and BASIC not in store[2]


def test_nor_is_a_fork_let_off_that_names_another_place(elsewhere):
    team = elsewhere
    text = (team.project.path / "params.yaml").read_text()
    (team.project.path / "params.yaml").write_text(text.replace("/flights.csv.gz", "/other.csv.gz"))
    run = team.propose("data that nobody can see", "compare", fork="eve/late-flights")
    assert run.jobs["compare"] == run.jobs["decide"] == "failure"
    assert verdict(run, "decide").startswith("**Verdict: data refused** — http")
    assert "/other.csv.gz: cannot be read" in verdict(run, "decide")


def test_a_pull_request_of_the_team_is_judged_with_the_credentials_of_its_environment(elsewhere, store):
    team = elsewhere
    team.project.better()
    pull = team.open("a better model")
    without = team.run("pull_request", pull, "compare")
    assert without.jobs == {"challenger": "failure", "decide": "failure", "compare": "failure"}
    assert "cannot be read" in verdict(without, "decide") and BASIC not in store[2]

    variables = {"REGISTRY": team.registry, "PULL_REQUEST_ENVIRONMENT": "pulls"}
    environments = {"pulls": {"secrets": {"DATA_OPTIONS": OPTIONS}}}
    run = team.run("pull_request", pull, "compare", variables=variables, environments=environments)
    assert run.jobs == GREEN
    assert verdict(run, "decide").startswith("**Verdict: promote**")
    assert "s3cret-of-the-data" not in run.log and BASIC not in run.log
