"""Risk: a delivery ends although something that serves has changed, deploys words, or goes back to older code."""

import pytest
from act import push_payload
from github import GitHub, grants

from conveyor.core.project import Project

JOB = "deliver/accept"
# What a container, its edge or its cluster gets to see, as an edit: file, old, new.
SERVES = [
    ("container/Dockerfile", "FROM scratch AS empty", "FROM scratch AS empty\n# another line", "container/Dockerfile"),
    ("container/Caddyfile", "{", "{\n\t# another line", "container/Caddyfile"),
    (
        "container/kubernetes/base/service.yaml",
        "spec:",
        "# another line\nspec:",
        "container/kubernetes/base/service.yaml",
    ),
    ("requirements/serve.txt", "fastapi==", "# another line\nfastapi==", "requirements/serve.txt"),
    ("src/conveyor/serving/app.py", "import socket", "import socket  # another line", "src/conveyor/serving/app.py"),
    ("src/conveyor/core/errors.py", "import", "# another line\nimport", "src/conveyor/core/errors.py"),
    ("params.yaml", "max_rows: 1000 ", "max_rows: 900 ", "params.yaml: serve"),
    ("params.yaml", "replicas: 2", "replicas: 3", "params.yaml: deploy"),
    ("params.yaml", "threshold: 0.5 ", "threshold: 0.4 ", "params.yaml: serve"),
    ("src/conveyor/deploy/edge.py", "import", "# another line\nimport", "src/conveyor/deploy/edge.py"),
    ("pyproject.toml", 'version = "', 'version = "1', "pyproject.toml: project"),
]
# What none of them sees.
WORDS = [
    ("README.md", "#", "##"),
    ("docs/model.md", "#", "##"),
    ("tests/test_data.py", "import", "# another line\nimport"),
    ("Makefile", "help:", "another:\n\t@true\n\nhelp:"),
    (".github/workflows/ci.yml", "# Is", "# Another line\n# Is"),
    ("expectations/data.json", "{", "{ "),
    ("requirements/dev.txt", "pytest==", "# another line\npytest=="),
    ("src/late_flights/model.py", "import", "# another line\nimport"),
    ("src/conveyor/gate/decide.py", "import", "# another line\nimport"),
    ("src/conveyor/report/page.py", "import", "# another line\nimport"),
    ("src/conveyor/deploy/rollout.py", "import", "# another line\nimport"),
    ("params.yaml", "margin: 0.001 ", "margin: 0.002 "),
    ("params.yaml", "max_age_days: ", "max_age_days: 1"),
]


@pytest.fixture
def double(bootstrapped):
    with GitHub(grants(bootstrapped.path), bootstrapped.path) as double:
        yield double


@pytest.fixture
def due(bootstrapped, double, tmp_path, monkeypatch):
    """due() -> what the verb said, and its output, at the commit of the project."""
    from conveyor.github.due import run

    def due() -> tuple[str, str]:
        out = tmp_path / "outputs"
        out.write_text("")
        monkeypatch.setattr("time.sleep", lambda seconds: None)  # between attempts
        for name, value in (double.environment(JOB) | {"GITHUB_OUTPUT": str(out)}).items():
            monkeypatch.setenv(name, value)
        return run(Project(bootstrapped.path)), out.read_text().strip()

    return due


def deployed(double, project, state="success", environment="production"):
    """A job of this environment has ended at the commit of the project."""
    sha = project.git("rev-parse", "HEAD").stdout.strip()
    told = {"environment": environment, "sha": sha, "state": state}
    double.deployments.append({"id": len(double.deployments) + 1, **told})


def committed(project, path, old, new):
    text = (project.path / path).read_text()
    assert old in text, path
    (project.path / path).write_text(text.replace(old, new, 1))
    project.git("commit", "--quiet", "--all", "--message", f"change {path}")


def test_words_tests_and_the_judging_code_deploy_nothing(bootstrapped, double, due):
    """One after the other, so that each is held against what was deployed, and not against the commit before."""
    deployed(double, bootstrapped)
    for path, old, new in WORDS:
        committed(bootstrapped, path, old, new)
        said, output = due()
        assert output == "due=false" and said.startswith("nothing to deploy: "), (path, said)


@pytest.mark.parametrize(
    ("path", "old", "new", "named"), SERVES, ids=lambda value: value if "/" in str(value) else None
)
def test_what_reaches_the_container_or_its_edge_is_deployed(bootstrapped, double, due, path, old, new, named):
    deployed(double, bootstrapped)
    committed(bootstrapped, path, old, new)
    committed(bootstrapped, "README.md", "#", "##")  # it is not forgotten by the next commit
    said, output = due()
    assert output == "due=true" and f"{named}" in said and "was deployed" in said
    deployed(double, bootstrapped)
    assert due()[1] == "due=false"


def test_what_was_not_deployed_with_success_does_not_count(bootstrapped, double, due):
    assert due() == ("there is something to deploy: no deployment is known", "due=true")
    for state in ("failure", "error", "in_progress", "pending", "queued"):
        deployed(double, bootstrapped, state)
    deployed(double, bootstrapped, environment="staging")
    assert due()[1] == "due=true"
    deployed(double, bootstrapped, "inactive")  # one that another one has replaced since, as GitHub says it
    assert due()[1] == "due=false"


def test_a_model_that_came_after_the_last_deployment_is_deployed(bootstrapped, double, due):
    deployed(double, bootstrapped)
    bootstrapped.better()
    bootstrapped.git("commit", "--quiet", "--all", "--message", "better")
    assert "promote: champion/000004" in bootstrapped.cli("pipeline").stdout
    said, output = due()
    assert output == "due=true" and "is newer than what was deployed last" in said
    deployed(double, bootstrapped)
    assert due()[1] == "due=false"


def test_a_model_on_its_way_is_deployed_and_without_one_nothing_is_settled(bootstrapped, double, due, project):
    deployed(double, bootstrapped)
    bootstrapped.better()
    bootstrapped.git("commit", "--quiet", "--all", "--message", "better")
    for step in ("validate", "train", "score", "compare", "accept"):
        bootstrapped.cli(step)
    said, output = due()
    assert output == "due=true" and said.endswith(" waits")


def test_after_a_roll_back_each_delivery_deploys(bootstrapped, double, due):
    """A roll-back deploys the image in which the model served, with the code of then, and is a deployment, too."""
    bootstrapped.better()
    bootstrapped.git("commit", "--quiet", "--all", "--message", "better")
    bootstrapped.cli("pipeline")
    bootstrapped.cli("rollback", "--because", "complaints")
    deployed(double, bootstrapped)
    committed(bootstrapped, "README.md", "#", "##")
    said, output = due()
    assert output == "due=true" and "came back by a roll-back" in said


@pytest.mark.parametrize("state", ["failure", "in_progress", None], ids=["failed", "runs", "has not begun"])
@pytest.mark.parametrize(("path", "old", "new", "named"), [SERVES[0], SERVES[6]], ids=["a file", "a setting"])
def test_what_was_changed_and_changed_back_is_deployed(bootstrapped, double, due, path, old, new, named, state):
    """The delivery in between may have come to serve, or may still do so."""
    deployed(double, bootstrapped)
    committed(bootstrapped, path, old, new)
    if state:
        deployed(double, bootstrapped, state)
    bootstrapped.git("revert", "--no-edit", "HEAD")
    said, output = due()
    assert output == "due=true" and named in said
    deployed(double, bootstrapped)
    assert due()[1] == "due=false"


def test_a_merge_and_its_revert_are_seen_too(bootstrapped, double, due):
    deployed(double, bootstrapped)
    bootstrapped.git("checkout", "--quiet", "-b", "side")
    committed(bootstrapped, *SERVES[4][:3])
    bootstrapped.git("checkout", "--quiet", "main")
    bootstrapped.git("merge", "--quiet", "--no-ff", "--no-edit", "side")
    bootstrapped.git("revert", "--no-edit", "--mainline=1", "HEAD")
    said, output = due()
    assert output == "due=true" and "src/conveyor/serving/app.py" in said


def test_what_is_not_known_is_deployed(bootstrapped, double, due):
    deployed(double, bootstrapped)
    double.fail("GET", "deployments", 500, times=9)
    said, output = due()
    assert output == "due=true" and "what was deployed last is not known: GitHub: GET deployments" in said
    double._faults.clear()
    double.deployments[-1]["sha"] = "a" * 40
    said, output = due()
    assert output == "due=true" and "is not in the history of this one" in said


def test_settings_of_then_that_this_version_cannot_read_count_as_changed(bootstrapped, double, due):
    text = (bootstrapped.path / "params.yaml").read_text()
    committed(bootstrapped, "params.yaml", "serve:", "serve_:")
    deployed(double, bootstrapped)
    (bootstrapped.path / "params.yaml").write_text(text)
    bootstrapped.git("commit", "--quiet", "--all", "--message", "back")
    said, output = due()
    assert output == "due=true" and "params.yaml changed since" in said


@pytest.fixture
def missed(project, tmp_path, monkeypatch):
    """missed(double) -> what the verb said at the commit of the project."""
    from conveyor.github.missed import run

    def missed(double):
        for name, value in double.environment("monitor/missed").items():
            monkeypatch.setenv(name, value)
        return run(Project(project.path))

    return missed


def test_a_commit_without_a_delivery_gets_one_and_any_run_of_it_is_enough(project, missed, capsys):
    sha = project.git("rev-parse", "HEAD").stdout.strip()
    with GitHub(grants(project.path), project.path) as double:
        double.runs.append({"workflow": "deliver.yml", "sha": push_payload("b" * 40)["after"]})
        double.runs.append({"workflow": "ci.yml", "sha": sha})
        assert "had no delivery" in missed(double)
        assert double.dispatches == [{"workflow": "deliver.yml", "ref": "main", "inputs": {}}]
        assert "::warning title=A delivery was missing::" in capsys.readouterr().out
        double.runs.append({"workflow": "deliver.yml", "sha": sha})
        assert "has had its delivery" in missed(double) and len(double.dispatches) == 1


def test_schedules_stay_on_but_what_a_person_has_switched_off_stays_off(project, missed):
    with GitHub(grants(project.path), project.path) as double:
        double.switched = {"monitor.yml": "disabled_inactivity", "update.yml": "disabled_manually"}
        missed(double)
        assert double.switched["monitor.yml"] == double.switched["collect.yml"] == "active"
        assert double.switched["update.yml"] == "disabled_manually"


def test_a_branch_has_no_delivery_to_miss(project, missed, monkeypatch):
    with GitHub(grants(project.path), project.path) as double:
        monkeypatch.setenv("GITHUB_REF", "refs/heads/proposal")
        assert missed(double).startswith("nothing: refs/heads/proposal is not main")
        assert not double.dispatches
        monkeypatch.setenv("GITHUB_REF", "refs/heads/main")
        assert "had no delivery" in missed(double) and len(double.dispatches) == 1
