"""The judge is judged first: what act.py and the stand-ins must do and must refuse, on a project of three files."""

import time

import act
import pytest

PINS = {
    "checkout": "actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1",
    "python": "actions/setup-python@5fda3b95a4ea91299a34e894583c3862153e4b97",
    "upload": "actions/upload-artifact@bbbca2ddaa5d8feaa63e36b76fdaad77386f024f",
    "download": "actions/download-artifact@3e5f45b2cfb9172054b4087a40e8e0b5a5461e7c",
}
CHECKOUT = f"""
      - name: Check out
        uses: {PINS["checkout"]}
        with: {{persist-credentials: false, fetch-depth: 0}}"""
PUSH = "git push -q origin HEAD:refs/heads/ledger"


def workflow(*steps, on="push", more="", name="one", job="first"):
    """A workflow with one job of these steps."""
    lines = "".join(f"\n      - {step}" for step in steps)
    return f"""
name: {name}
on: {on}
jobs:
  {job}:
    runs-on: ubuntu-24.04
    permissions: {{contents: read}}
    steps:{CHECKOUT}{lines}
{more}"""


@pytest.fixture
def hosted(tmp_path):
    """hosted(workflow, ...) -> a project with these workflows and its remote, pushed."""

    def host(*workflows):
        project = tmp_path / "project"
        project.mkdir()
        act.git(project, "init", "-q", "-b", "main")
        (project / ".github/workflows").mkdir(parents=True)
        for number, text in enumerate(workflows):
            (project / f".github/workflows/w{number}.yml").write_text(text)
        commit(project, "a", "1")
        remote = act.make_remote(project, tmp_path / "remote.git")
        (tmp_path / "run").mkdir()
        return project, remote, act.push_payload(act.git(project, "rev-parse", "HEAD"))

    return host


def commit(project, name, text):
    (project / name).parent.mkdir(parents=True, exist_ok=True)
    (project / name).write_text(text)
    act.git(project, "add", "-A")
    act.git(project, "commit", "-q", "-m", f"{name} is {text}")


def test_a_failed_step_a_skipped_job_and_a_gate_are_told_apart(hosted, tmp_path):
    _, remote, payload = hosted(
        workflow(
            '{name: Write, run: "echo spoken; echo written >> $GITHUB_STEP_SUMMARY"}',
            '{name: Annotate, run: "echo ::error file=a,line=3::broken"}',
            '{name: Fail, run: "false"}',
            '{name: Never, run: "true"}',
            '{name: Still, if: "${{ !cancelled() }}", run: "true"}',
            more="""
  second:
    needs: [first]
    runs-on: ubuntu-24.04
    steps: [{run: "true"}]
  gate:
    if: always()
    needs: [first, second]
    runs-on: ubuntu-24.04
    steps:
      - name: Results
        env: {RESULTS: "${{ join(needs.*.result, ' ') }}"}
        run: echo "$RESULTS" | grep -xE 'failure skipped|skipped failure'  # act gives them in any order
""",
        )
    )
    run = act.run_event(remote, "push", payload, tmp_path / "run")
    assert run.jobs == {"first": "failure", "gate": "success"}
    assert run.steps["first"] == {
        "Check out": "success",
        "Write": "success",
        "Annotate": "success",
        "Fail": "failure",
        "Still": "success",
    }
    assert run.summary == {"first": "written\n"}
    assert run.annotations == [{"job": "first", "level": "error", "message": "broken", "file": "a", "line": "3"}]
    assert run.logs["first"] == "spoken\n"


def test_only_what_github_would_start_runs(hosted, tmp_path):
    _, remote, payload = hosted(
        workflow(name="main", job="main", on="{push: {branches: [main]}}"),
        workflow(name="other", job="other", on="{push: {branches: ['release/*']}}"),
        workflow(name="pull", job="pull", on="pull_request"),
    )
    assert act.run_event(remote, "push", payload, tmp_path / "run").jobs == {"main": "success"}
    with pytest.raises(act.ActError, match="this push does not start w1"):
        (tmp_path / "again").mkdir()
        act.run_event(remote, "push", payload, tmp_path / "again", workflows=["w1"])


def test_nothing_of_this_machines_environment_reaches_a_job(hosted, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "leaked")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "leaked")
    _, remote, payload = hosted(workflow('{name: Look, run: "env"}'))
    log = act.run_event(remote, "push", payload, tmp_path / "run").logs["first"]
    assert "leaked" not in log
    assert "MLFLOW_DISABLE_TELEMETRY=true" in log


def test_a_pull_request_is_checked_out_as_its_merge_commit_and_its_base_beside_it(hosted, tmp_path):
    project, remote, _ = hosted(
        workflow(
            f'{{name: Base, uses: {PINS["checkout"]}, with: {{ref: "${{{{ github.event.pull_request.base.sha }}}}",'
            " path: base, persist-credentials: false}}",
            '{name: Look, run: "cat a b base/a; git rev-parse HEAD; git branch -r; git -C base rev-parse HEAD"}',
            on="pull_request",
        )
    )
    act.git(project, "checkout", "-q", "-b", "topic")
    commit(project, "a", "2")
    commit(project, "b", "3")
    pull = act.open_pull_request(project, remote)
    base, merge = pull["pull_request"]["base"]["sha"], pull["pull_request"]["merge_commit_sha"]
    run = act.run_event(remote, "pull_request", pull, tmp_path / "run")
    assert run.jobs == {"first": "success"}
    assert run.logs["first"].split() == [f"231{merge}", "origin/main", "origin/pull-1", "pull/1/merge", base]
    assert act.merge_pull_request(remote, pull)["after"] == act.git(remote, "rev-parse", "main") == merge


@pytest.mark.parametrize(
    ("granted", "token", "result", "words"),
    [
        ("write", "stand-in", "success", ""),
        ("read", "stand-in", "failure", "the token of one/first may not write"),
        ("write", "", "failure", "this step was given no token to push with"),
    ],
    ids=["granted", "read-only", "no-token"],
)
def test_a_push_needs_a_token_and_the_right_to_write(hosted, tmp_path, granted, token, result, words):
    text = workflow(f'{{name: Push, env: {{GITHUB_TOKEN: "{token}"}}, run: "{PUSH}"}}')
    _, remote, payload = hosted(text.replace("contents: read", f"contents: {granted}"))
    run = act.run_event(remote, "push", payload, tmp_path / "run")
    assert run.jobs == {"first": result}
    assert words in run.logs["first"] if words else act.refs(remote, "refs/heads/ledger")
    assert act.refs(remote, "refs/heads/ledger") == (["refs/heads/ledger"] if result == "success" else [])


def test_an_artifact_holds_the_contents_of_its_folder_without_hidden_files_and_modes(hosted, tmp_path):
    fill = "mkdir -p build/in .x; touch build/.hidden build/in/b; chmod +x build/in/b; echo a > build/a"
    _, remote, payload = hosted(
        workflow(
            f'{{name: Fill, run: "{fill}"}}',
            f"{{name: Folder, uses: {PINS['upload']}, with: {{name: folder, path: build/}}}}",
            f'{{name: Two, uses: {PINS["upload"]}, with: {{name: two, path: "build/a\\nbuild/in/b\\nbuild/absent"}}}}',
            f"{{name: One, uses: {PINS['upload']}, with: {{name: one, path: build/in/b}}}}",
            f"{{name: None, uses: {PINS['upload']}, with: {{name: none, path: absent}}}}",
            f"{{name: Back, uses: {PINS['download']}, with: {{name: folder, path: back/}}}}",
            '{name: Look, run: "find back -type f -perm -u+x; find back -type f | sort"}',
            f"{{name: Twice, uses: {PINS['upload']}, with: {{name: folder, path: build/}}}}",
        )
    )
    run = act.run_event(remote, "push", payload, tmp_path / "run")
    found = sorted(str(path.relative_to(run.artifacts)) for path in run.artifacts.rglob("*") if path.is_file())
    assert found == ["folder/a", "folder/in/b", "one/b", "two/a", "two/in/b"]
    assert "back/a\nback/in/b\n" in run.logs["first"]
    assert run.steps["first"]["Look"] == "success" and run.steps["first"]["Twice"] == "failure"


@pytest.mark.parametrize(
    "step",
    [
        f"{{uses: {PINS['upload']}, with: {{path: absent, if-no-files-found: error}}}}",
        f'{{uses: {PINS["upload"]}, with: {{path: a, name: "a:b"}}}}',
        f"{{uses: {PINS['download']}, with: {{name: absent}}}}",
        f"{{uses: {PINS['python']}, with: {{python-version: 3.10}}}}",
        f"{{uses: {PINS['checkout']}, with: {{path: ../out, persist-credentials: false}}}}",
        f"{{uses: {PINS['checkout']}}}",
    ],
    ids=["nothing-to-upload", "name", "nothing-to-download", "unquoted-python", "outside", "credentials"],
)
def test_a_stand_in_fails_where_the_real_action_would(hosted, tmp_path, step):
    _, remote, payload = hosted(workflow(step))
    run = act.run_event(remote, "push", payload, tmp_path / "run")
    assert run.jobs == {"first": "failure"}
    assert list(run.steps["first"].values()) == ["success", "failure"]


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("uses: actions/cache@27d5ce7f107fe9357f9df03efb73ab90386fccae", "no stand-in for actions/cache"),
        (f'{{uses: {PINS["python"]}, with: {{python-versoin: "3.12"}}}}', "does not know python-versoin"),
        ("uses: $/.github/actions/own", "no stand-in for some/thing@v1"),
    ],
    ids=["action", "input", "inside-a-composite"],
)
def test_what_has_no_stand_in_is_an_error_before_anything_runs(hosted, tmp_path, step, words):
    project, remote, _ = hosted(workflow(step))
    commit(
        project,
        ".github/actions/own/action.yml",
        "{name: own, description: own, runs: {using: composite, steps: [{uses: some/thing@v1}]}}",
    )
    with pytest.raises(act.ActError, match=words):
        act.run_event(remote, "push", act.push(project, remote), tmp_path / "run")


def test_a_run_that_takes_too_long_is_ended_with_everything_it_started(hosted, tmp_path):
    _, remote, payload = hosted(workflow('{name: Sleep, run: "(sleep 61.25; true) & sleep 61.25"}'))
    before = time.monotonic()
    with pytest.raises(act.ActError, match="stopped after 2 s"):
        act.run_event(remote, "push", payload, tmp_path / "run", timeout=2)
    assert time.monotonic() - before < 20
    processes = act.subprocess.run(["ps", "-A", "-o", "args="], capture_output=True, text=True).stdout
    assert "sleep 61.25" not in processes.splitlines()


def test_a_workflow_that_act_cannot_read_is_an_error_and_no_empty_run(hosted, tmp_path):
    _, remote, payload = hosted(workflow('{name: Bad, run: "true", fi: "true"}'))
    with pytest.raises(act.ActError, match="fi"):
        act.run_event(remote, "push", payload, tmp_path / "run")
