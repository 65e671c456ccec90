"""The judge is judged first: what act.py and the stand-ins must do and must refuse, on a project of three files."""

import json
import time

import act
import pytest
from github import GitHub, grants
from pinned import RECORD

ACTIONS = {
    "checkout": "actions/checkout",
    "python": "actions/setup-python",
    "upload": "actions/upload-artifact",
    "download": "actions/download-artifact",
    "attest": "actions/attest",
    "cloud": "aws-actions/configure-aws-credentials",
}
PINS = {name: f"{action}@{RECORD[action]['commit']}" for name, action in ACTIONS.items()}
CHECKOUT = f"""
      - name: Check out
        uses: {PINS["checkout"]}
        with: {{persist-credentials: false, fetch-depth: 0}}"""
READS = f'{{id: a, uses: {PINS["checkout"]}, with: {{ref: "${{{{ steps.a.outputs.NAME }}}}"}}}}'
SENT = '-c http.https://github.com/.extraheader=\\"AUTHORIZATION: basic $(printf x-access-token:$T | base64 -w0)\\"'
# act can lose the last words of a step that fails at once, on a busy machine: this one waits until they are read.
PUSH = f"git {SENT} push -q origin HEAD:refs/heads/ledger || (sleep 2; false)"


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
        ("write", "${{ github.token }}", "success", ""),
        ("read", "${{ github.token }}", "failure", "the token of one/first may not write"),
        ("write", "another", "failure", "could not read Username"),
        ("write", "", "failure", "could not read Username"),
    ],
    ids=["granted", "read-only", "unknown", "no-token"],
)
def test_a_push_needs_a_token_and_the_right_to_write(hosted, tmp_path, granted, token, result, words):
    text = workflow(f'{{name: Push, env: {{T: "{token}"}}, run: "{PUSH}"}}')
    _, remote, payload = hosted(text.replace("contents: read", f"contents: {granted}"))
    run = act.run_event(remote, "push", payload, tmp_path / "run")
    assert run.jobs == {"first": result}
    assert words in run.logs["first"] if words else act.refs(remote, "refs/heads/ledger")
    assert act.refs(remote, "refs/heads/ledger") == (["refs/heads/ledger"] if result == "success" else [])


@pytest.mark.parametrize(
    ("private", "granted", "look", "result"),
    [
        (False, "none", "git ls-remote -q origin", {"Check out": "success", "Look": "success"}),
        (True, "none", "git ls-remote -q origin", {"Check out": "failure"}),
        (True, "read", "git ls-remote -q origin", {"Check out": "success", "Look": "failure"}),
        (True, "read", f"git {SENT} ls-remote -q origin", {"Check out": "success", "Look": "success"}),
    ],
    ids=["public", "nothing-granted", "no-token", "token"],
)
def test_each_read_of_a_private_repository_needs_the_token_of_its_job(hosted, tmp_path, private, granted, look, result):
    text = workflow(f'{{name: Look, env: {{T: "${{{{ github.token }}}}"}}, run: "{look}"}}')
    _, remote, payload = hosted(text.replace("contents: read", f"contents: {granted}"))
    payload = act.in_private(payload) if private else payload
    run = act.run_event(remote, "push", payload, tmp_path / "run")
    assert run.steps["first"] == result
    assert {each.host for each in run.requests} == {"github.com"}
    assert all(each.job == "one/first" for each in run.requests if private and each.status == 200)


def test_the_token_of_a_checkout_is_in_no_settings_after_it(hosted, tmp_path):
    """Where it finds nothing, as it should, grep prints 0 for each file and fails, which is no failure here."""
    _, remote, payload = hosted(
        workflow('{name: Look, run: "grep -rsic extraheader .git/config ~/.gitconfig || true"}')
    )
    log = act.run_event(remote, "push", payload, tmp_path / "run").logs["first"]
    assert [line.rpartition(":")[2] for line in log.split()] == ["0", "0"]


def test_an_artifact_holds_the_contents_of_its_folder_without_hidden_files_and_modes(hosted, tmp_path):
    fill = "mkdir -p build/in .x; touch build/.hidden build/in/b .x/c; chmod +x build/in/b; echo a > build/a"
    link = "ln -s absent build/gone; ln -s . build/in/loop"
    _, remote, payload = hosted(
        workflow(
            f'{{name: Fill, run: "{fill}; {link}"}}',
            f"{{name: Folder, uses: {PINS['upload']}, with: {{name: folder, path: build/}}}}",
            f"{{name: Alone, uses: {PINS['download']}, with: {{path: alone/}}}}",
            f'{{name: Two, uses: {PINS["upload"]}, with: {{name: two, path: "build/a\\nbuild/in/b\\nbuild/absent"}}}}',
            f"{{name: One, uses: {PINS['upload']}, with: {{name: one, path: build/in/b}}}}",
            f"{{name: None, uses: {PINS['upload']}, with: {{name: none, path: absent}}}}",
            f"{{name: Hidden, uses: {PINS['upload']}, with: {{name: hidden, path: .x}}}}",
            f"{{name: Back, uses: {PINS['download']}, with: {{name: folder, path: back/}}}}",
            f"{{name: All, uses: {PINS['download']}, with: {{path: all/}}}}",
            '{name: Look, run: "find alone all back -type f -perm -u+x; find alone all back -type f | sort"}',
            f"{{name: Twice, uses: {PINS['upload']}, with: {{name: folder, path: build/}}}}",
        )
    )
    run = act.run_event(remote, "push", payload, tmp_path / "run")
    found = sorted(str(path.relative_to(run.artifacts)) for path in run.artifacts.rglob("*") if path.is_file())
    assert found == ["folder/a", "folder/in/b", "one/b", "two/a", "two/in/b"]
    one, several = ["alone/a", "alone/in/b"], [f"all/{file}" for file in found]
    assert [line for line in run.logs["first"].splitlines() if line.startswith(("a", "b"))] == [
        *several,
        *one,
        "back/a",
        "back/in/b",
    ]
    assert [each["level"] for each in run.annotations] == ["warning", "warning"], "of what is not there, and of .x"
    assert run.steps["first"]["Look"] == "success" and run.steps["first"]["Twice"] == "failure"


def test_a_tag_is_checked_out_as_it_was_made_and_never_one_that_has_moved_since(hosted, tmp_path):
    project, remote, _ = hosted(
        workflow('{name: Look, run: "git describe"}').replace("fetch-depth: 0", "fetch-depth: 1")
    )
    act.git(project, "tag", "-m", "One", "v1")
    act.git(project, "push", "-q", f"file://{remote}", "v1")
    payload = act.push_payload(act.git(project, "rev-parse", "HEAD")) | {"ref": "refs/tags/v1"}
    assert act.run_event(remote, "push", payload, tmp_path / "run").logs["first"] == "v1\n"
    commit(project, "a", "2")
    act.git(project, "push", "-q", f"file://{remote}", "+HEAD:refs/tags/v1")
    (tmp_path / "again").mkdir()
    run = act.run_event(remote, "push", payload, tmp_path / "again")
    assert run.jobs == {"first": "failure"} and "does not point to the expected commit" in run.annotations[0]["message"]


@pytest.mark.parametrize(
    "step",
    [
        f"{{uses: {PINS['upload']}, with: {{path: absent, if-no-files-found: error}}}}",
        f"{{uses: {PINS['upload']}, with: {{path: a, include-hidden-files: 'yes'}}}}",
        f"{{uses: {PINS['upload']}, with: {{path: a, retention-days: week}}}}",
        f'{{uses: {PINS["upload"]}, with: {{path: a, name: ""}}}}',
        f'{{uses: {PINS["upload"]}, with: {{path: a, name: "a:b"}}}}',
        f"{{uses: {PINS['download']}, with: {{name: absent}}}}",
        f"{{uses: {PINS['python']}, with: {{python-version: 3.10}}}}",
        f"{{uses: {PINS['checkout']}, with: {{path: ../out, persist-credentials: false}}}}",
        # These two the real one does, and the stand-in does not.
        f"{{uses: {PINS['checkout']}}}",
        f"{{uses: {PINS['checkout']}, with: {{persist-credentials: false}}}}",
        f'{{uses: {PINS["checkout"]}, with: {{token: "", persist-credentials: false}}}}',
    ],
    ids=[
        "nothing-to-upload",
        "hidden-files",
        "retention",
        "no-name",
        "name",
        "nothing-to-download",
        "unquoted-python",
        "outside",
        "credentials",
        "twice",
        "no-token",
    ],
)
def test_a_stand_in_fails_where_the_real_action_would_or_where_it_cannot_follow(hosted, tmp_path, step):
    _, remote, payload = hosted(workflow(step))
    run = act.run_event(remote, "push", payload, tmp_path / "run")
    assert run.jobs == {"first": "failure"}
    assert list(run.steps["first"].values()) == ["success", "failure"]


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("uses: actions/cache@27d5ce7f107fe9357f9df03efb73ab90386fccae", "no stand-in for actions/cache"),
        (f'{{uses: {PINS["python"]}, with: {{python-versoin: "3.12"}}}}', "setup-python has no input python-versoin"),
        (
            f"{{uses: {PINS['python']}, with: {{cache: pip}}}}",
            "stand-in for actions/setup-python@.* does not know cache",
        ),
        (f"{{uses: {PINS['upload']}}}", "upload-artifact requires the input path"),
        ("{uses: actions/checkout@v7}", "checkout is pinned at v7, and recorded at 3d3c"),
        (READS.replace("NAME", "sha"), "has no output sha"),
        (READS.replace("NAME", "ref"), "of the stand-in: .* ref"),
        ("uses: $/.github/actions/own", "no stand-in for some/thing@v1"),
    ],
    ids=["action", "input", "unknown-here", "required", "commit", "output", "output-here", "inside-a-composite"],
)
def test_what_the_pinned_action_or_its_stand_in_does_not_do_is_an_error_before_anything_runs(
    hosted, tmp_path, step, words
):
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


# --- Other events -----------------------------------------------------------------------------------------------------

BY_HAND = """{workflow_dispatch: {inputs: {
  why: {required: true},
  sure: {type: boolean, default: false},
  to: {type: choice, options: [one, two], default: one}}}}"""


def test_a_start_by_hand_has_its_inputs_with_defaults_its_branch_and_who_did_it(hosted, tmp_path):
    look = "${{ toJSON(github.event.inputs) }} ${{ inputs.sure && 1 || 0 }} ${{ github.ref }} ${{ github.actor }}"
    project, remote, _ = hosted(workflow(f"{{name: Look, env: {{L: '{look}'}}, run: 'echo $L'}}", on=BY_HAND))
    payload = act.dispatch_payload(act.git(project, "rev-parse", "HEAD"), {"why": "so"}, actor="grace")
    run = act.run_event(remote, "workflow_dispatch", payload, tmp_path / "run")
    assert run.logs["first"] == '{ "sure": "false", "to": "one", "why": "so" } 0 refs/heads/main grace\n'
    assert "standin" not in (tmp_path / "run/event.json").read_text()


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, "Required input 'why' not provided"),
        ({"why": ""}, "Required input 'why' not provided"),
        ({"why": "x", "who": "y"}, r"Unexpected inputs provided: \['who'\]"),
        ({"why": "x", "sure": "yes"}, "Provided value 'yes' for input 'sure'"),
        ({"why": "x", "to": "three"}, "Provided value 'three' for input 'to'"),
    ],
)
def test_a_start_by_hand_with_inputs_that_github_refuses_is_an_error(hosted, tmp_path, inputs, words):
    project, remote, _ = hosted(workflow('{name: Look, run: "true"}', on=BY_HAND))
    payload = act.dispatch_payload(act.git(project, "rev-parse", "HEAD"), inputs)
    with pytest.raises(act.ActError, match=words):
        act.run_event(remote, "workflow_dispatch", payload, tmp_path / "run")


def test_a_start_by_hand_is_of_one_workflow(hosted, tmp_path):
    project, remote, _ = hosted(*(workflow(name=n, job=n, on="workflow_dispatch") for n in ("one", "two")))
    payload = act.dispatch_payload(act.git(project, "rev-parse", "HEAD"))
    with pytest.raises(act.ActError, match="name one of w0, w1"):
        act.run_event(remote, "workflow_dispatch", payload, tmp_path / "run")
    (tmp_path / "again").mkdir()
    run = act.run_event(remote, "workflow_dispatch", payload, tmp_path / "again", workflows=["w1"])
    assert run.jobs == {"two": "success"}


def test_a_schedule_runs_on_the_default_branch_and_starts_nothing_else(hosted, tmp_path):
    project, remote, _ = hosted(
        workflow('{name: Look, run: "echo $GITHUB_REF $GITHUB_EVENT_NAME"}', on='{schedule: [{cron: "1 2 * * 3"}]}'),
        workflow(name="other", job="other"),
    )
    payload = act.schedule_payload(act.git(project, "rev-parse", "HEAD"))
    run = act.run_event(remote, "schedule", payload, tmp_path / "run")
    assert run.jobs == {"first": "success"} and run.logs["first"] == "refs/heads/main schedule\n"


def test_a_tag_starts_what_speaks_of_tags_or_of_neither(hosted, tmp_path):
    project, remote, push = hosted(
        workflow('{name: Look, run: "echo $GITHUB_REF $GITHUB_SHA; git describe --tags"}', on="{push: {tags: ['v*']}}"),
        workflow(name="main", job="main", on="{push: {branches: [main]}}"),
        workflow(name="both", job="both", on="push"),
        workflow(name="other", job="other", on="{push: {tags: ['v*', '!v1.*']}}"),
    )
    run = act.run_event(remote, "push", act.push_tag(project, remote, "v1.0.0"), tmp_path / "run")
    assert run.jobs == {"first": "success", "both": "success"}
    assert run.logs["first"].split() == ["refs/tags/v1.0.0", act.git(project, "rev-parse", "HEAD"), "v1.0.0"]
    (tmp_path / "again").mkdir()
    assert act.run_event(remote, "push", push, tmp_path / "again").jobs == {"main": "success", "both": "success"}


@pytest.mark.parametrize(
    ("name", "patterns", "matches"),
    [
        ("main", ["main"], True),
        ("mainly", ["main"], False),
        ("release/1", ["release/*"], True),
        ("release/1/2", ["release/*"], False),
        ("release/1/2", ["release/**"], True),
        ("v1.0.0", ["v[0-9]+.[0-9]+.[0-9]+"], True),
        ("v1x0x0", ["v[0-9]+.[0-9]+.[0-9]+"], False),
        ("v10", ["v1?0", "!v10"], False),
        ("v10", ["!v10", "v1?0"], True),
    ],
)
def test_the_patterns_of_a_filter_are_githubs(name, patterns, matches):
    assert act._matches(name, patterns) is matches


SECRETS = '{name: Look, env: {S: "${{ secrets.KEY }}", V: "${{ vars.PLACE }}"}, run: "echo [$S] [$V]"}'


@pytest.mark.parametrize("options", [{}, {"fork": "someone/late-flights"}, {"actor": "dependabot[bot]"}])
def test_a_pull_request_from_a_fork_or_of_dependabot_has_no_secrets_and_cannot_write(hosted, tmp_path, options):
    push = f'{{name: Push, env: {{T: "${{{{ github.token }}}}"}}, run: "{PUSH}"}}'
    text = workflow(SECRETS, push, on="pull_request")
    project, remote, _ = hosted(text.replace("contents: read", "contents: write"))
    commit(project, "b", "2")
    pull = act.open_pull_request(project, remote, **options)
    assert act.restricted(pull) is bool(options)
    head = pull["pull_request"]["head"]["repo"]
    assert (head["full_name"], head["fork"]) == (options.get("fork", act.REPOSITORY), "fork" in options)
    assert act.refs(remote, "refs/heads") == ["refs/heads/main"] + ["refs/heads/pull-1"] * ("fork" not in options)
    run = act.run_event(
        remote, "pull_request", pull, tmp_path / "run", secrets={"KEY": "opens"}, variables={"PLACE": "here"}
    )
    assert run.logs["first"].startswith("[] []" if options else "[***] [here]")
    assert run.steps["first"]["Push"] == ("failure" if options else "success")


def test_what_a_pull_request_says_arrives_as_it_was_written(hosted, tmp_path):
    hostile = 'a";touch${IFS}pwned;"`touch pwned`$(touch pwned)'
    branch = hostile.replace(" ", "${IFS}")
    names = {"T": "github.event.pull_request.title", "H": "github.head_ref", "B": "github.event.pull_request.body"}
    look = {"name": "Look", "run": 'printf %s%s%s "$T" "$H" "$B"; ls'}
    look["env"] = {key: f"${{{{ {name} }}}}" for key, name in names.items()}
    project, remote, _ = hosted(workflow(json.dumps(look), on="pull_request"))
    commit(project, "b", "2")
    pull = act.open_pull_request(project, remote, title=hostile, branch=branch, body=f"{hostile}\n--")
    run = act.run_event(remote, "pull_request", pull, tmp_path / "run")
    assert run.logs["first"].split("\n")[0] == hostile + branch + hostile
    assert "pwned" not in run.logs["first"].split("\n--")[1]


@pytest.mark.parametrize(
    "environment", ["production", "{name: production}", "${{ vars.WHERE }}", "${{ vars.NOT_SET || vars.WHERE }}"]
)
def test_a_secret_of_an_environment_is_seen_by_its_jobs_only(hosted, tmp_path, environment):
    look = SECRETS.replace("echo [$S]", "echo ${#S}")
    more = f"""
  second:
    environment: {environment}
    runs-on: ubuntu-24.04
    steps: [{look}]
"""
    text = workflow(look, more=more)
    _, remote, payload = hosted(text)
    run = act.run_event(
        remote,
        "push",
        payload,
        tmp_path / "run",
        secrets={"KEY": "all"},
        variables={"WHERE": "production"},
        environments={"production": {"secrets": {"KEY": "prod"}, "vars": {"PLACE": "there"}}},
    )
    assert run.logs == {"first": "3 []\n", "second": "4 [there]\n"}


# --- Runs that end early, and again -----------------------------------------------------------------------------------

TWO = f"""
  second:
    needs: [first]
    runs-on: ubuntu-24.04
    permissions: {{contents: write}}
    outputs: {{told: "${{{{ steps.work.outputs.told }}}}"}}
    steps:
      - {{uses: {PINS["download"]}, with: {{name: made, path: in/}}}}
      - {{name: Before, run: "true"}}
      - name: Work
        id: work
        env: {{FROM: "${{{{ needs.first.outputs.x }}}}", ATTEMPT: "${{{{ github.run_attempt }}}}"}}
        run: cat in/a; echo "$FROM $ATTEMPT $GITHUB_RUN_ATTEMPT"; echo "told=$ATTEMPT" >> "$GITHUB_OUTPUT"
      - {{name: Still, if: always(), run: "true"}}
      - {{name: Keep, uses: {PINS["upload"]}, with: {{name: kept, path: in/}}}}
  gate:
    if: always()
    needs: [first, second]
    runs-on: ubuntu-24.04
    steps:
      - name: Results
        env: {{RESULTS: "${{{{ join(needs.*.result, ' ') }}}}"}}
        run: echo "$RESULTS" | grep -xE 'success success'
"""


MAKE = """mkdir out; date +%N > out/a; echo "x=it's }} \'{{" >> $GITHUB_OUTPUT"""


@pytest.fixture
def in_two_jobs(hosted):
    """A workflow whose second job takes an artifact and an output from its first."""
    text = workflow(
        json.dumps({"name": "Make", "id": "make", "run": MAKE}),
        f"{{name: Give, uses: {PINS['upload']}, with: {{name: made, path: out/}}}}",
        more=TWO,
    )
    return hosted(text.replace("    steps:", '    outputs: {x: "${{ steps.make.outputs.x }}"}\n    steps:', 1))


def test_a_lost_runner_ends_its_job_and_a_re_run_does_only_what_failed(in_two_jobs, tmp_path):
    _, remote, payload = in_two_jobs
    lost = act.run_event(remote, "push", payload, tmp_path / "run", kill=("w0", "second", "Work", "after"))
    assert lost.jobs == {"first": "success", "second": "failure", "gate": "failure"}
    assert list(lost.steps["second"])[-2:] == ["Work", act.LOST], "not even what runs always"
    assert lost.outputs["first"] == {"x": "it's }} '{{"}
    assert [each[2] for each in lost.executed] == ["Make", "Before", "Work", "Results"]

    (tmp_path / "again").mkdir()
    again = act.run_event(remote, "push", payload, tmp_path / "again", rerun_of=lost)
    assert again.jobs == {"first": "success", "second": "success", "gate": "success"}
    assert set(again.steps) == {"second", "gate"}, "the first job is not executed again"
    made = (lost.artifacts / "made/a").read_text()
    assert again.logs["second"] == f"{made}it's }}}} '{{{{ 2 2\nupload-artifact: 1 files as kept\n", (
        "and its artifact and output are those of before"
    )
    assert again.outputs == {"first": lost.outputs["first"], "second": {"told": "2"}}
    assert (again.artifacts / "made/a").read_text() == (again.artifacts / "kept/a").read_text() == made
    with pytest.raises(act.ActError, match="nothing failed"):
        (tmp_path / "third").mkdir()
        act.run_event(remote, "push", payload, tmp_path / "third", rerun_of=again)


def test_a_runner_lost_before_a_step_has_not_done_it_and_a_re_run_writes_its_artifact_anew(in_two_jobs, tmp_path):
    _, remote, payload = in_two_jobs
    lost = act.run_event(remote, "push", payload, tmp_path / "run", kill=("w0", "first", "Make", "before"))
    assert lost.steps["first"] == {"Check out": "success", act.LOST: "failure"}
    assert lost.jobs == {"first": "failure", "gate": "failure"} and not lost.outputs
    (lost.artifacts / "made").mkdir()
    (lost.artifacts / "made/a").write_text("of the first attempt")
    (tmp_path / "again").mkdir()
    again = act.run_event(remote, "push", payload, tmp_path / "again", rerun_of=lost)
    assert set(again.jobs.values()) == {"success"}
    assert (again.artifacts / "made/a").read_text() != "of the first attempt"
    assert (lost.artifacts / "made/a").read_text() == "of the first attempt"


def test_executed_commands_are_told_and_one_of_them_can_be_replaced(in_two_jobs, tmp_path, monkeypatch):
    _, remote, payload = in_two_jobs
    monkeypatch.setenv("ACT_COVERAGE", str(tmp_path / "coverage"))
    monkeypatch.setenv("ACT_MUTATE", "w0/gate/Results")
    run = act.run_event(remote, "push", payload, tmp_path / "run", kill=("w0", "second", "Before", "before"))
    assert run.jobs == {"first": "success", "second": "failure", "gate": "success"}, "the gate says nothing any more"
    lines = [json.loads(line) for line in (tmp_path / "coverage").read_text().splitlines()]
    assert [(each["workflow"], each["job"], each["step"], each["run"]) for each in lines] == run.executed
    assert run.executed[-1] == ("w0", "gate", "Results", "echo \"$RESULTS\" | grep -xE 'success success'")
    assert lines[0]["test"].endswith("test_act.py::test_executed_commands_are_told_and_one_of_them_can_be_replaced")
    monkeypatch.delenv("ACT_MUTATE")
    for target, words in (
        (("w0", "gate", "Result"), "no step w0/gate/Result"),
        (("w0", "second", "Keep"), "no command"),
    ):
        folder = tmp_path / target[2]
        folder.mkdir()
        with pytest.raises(act.ActError, match=words):
            act.run_event(remote, "push", payload, folder, mutate=target)


# --- Actions that need GitHub, or a cloud -----------------------------------------------------------------------------

DIGEST = "sha256:" + "a" * 64
SUBJECT = f"subject-name: ghcr.io/Your-Team/x, subject-digest: '{DIGEST}'"


def attest(*inputs, permissions="id-token: write, attestations: write, artifact-metadata: write, contents: read"):
    steps = [
        f"{{name: Attest {n}, id: a{n}, uses: {PINS['attest']}, with: {{{each}}}}}" for n, each in enumerate(inputs)
    ]
    bill = json.dumps({"bomFormat": "CycloneDX", "serialNumber": "1", "specVersion": "1.6"})
    make = json.dumps(
        {"name": "Make", "run": f"echo '{bill}' > sbom.json; echo '{{}}' > no.json; mkdir in; touch in/.b"}
    )
    text = workflow(make, *steps, '{name: Look, run: "echo ${{ steps.a0.outputs.attestation-url }}"}')
    return text.replace("contents: read", permissions)


def test_what_is_attested_is_recorded_with_its_digest_and_its_job(hosted, tmp_path):
    project, remote, payload = hosted(
        attest(f"{SUBJECT}, push-to-registry: true", f"{SUBJECT}, sbom-path: sbom.json", "subject-path: 'in, *.json'")
    )
    with GitHub(grants(project)) as github:
        run = act.run_event(remote, "push", payload, tmp_path / "run", env={"GITHUB_API_URL": github.url})
    assert run.jobs == {"first": "success"}, run.log
    image, bill, files = github.attestations
    assert image["job"] == "one/first"
    assert image["subject"] == [{"name": "ghcr.io/your-team/x", "digest": {"sha256": "a" * 64}}]
    assert image["predicate_type"] == "https://slsa.dev/provenance/v1"
    assert image["predicate"]["buildDefinition"]["resolvedDependencies"][0]["digest"]["gitCommit"] == payload["after"]
    assert (bill["predicate_type"], bill["predicate"]["specVersion"]) == ("https://cyclonedx.org/bom", "1.6")
    assert [each["name"] for each in files["subject"]] == [".b", "no.json", "sbom.json"]
    assert run.logs["first"].endswith(f"/{act.REPOSITORY}/attestations/{image['id']}\n")
    assert "### Attestation Created" in run.summary["first"] and not run.annotations


@pytest.mark.parametrize(
    ("inputs", "permissions", "words"),
    [
        (SUBJECT, "attestations: write", 'missing "id-token" permission'),
        (SUBJECT, "id-token: write", "Resource not accessible by integration"),
        ("subject-name: x", None, "One of subject-path, subject-digest, or subject-checksums must be"),
        (f"{SUBJECT}, subject-path: a", None, "Only one of subject-path, subject-digest"),
        (f"{SUBJECT}, show-summary: 'yes'", None, "does not meet YAML 1.2"),
        (f"subject-digest: '{DIGEST}'", None, "subject-name must be provided"),
        (f"subject-name: x, subject-digest: '{DIGEST[7:]}'", None, "must be in the format"),
        (f"subject-name: x, subject-digest: '{DIGEST[:-1]}'", None, "invalid length"),
        ("subject-path: absent", None, "Could not find subject at path absent"),
        (f"{SUBJECT}, sbom-path: no.json", None, "Unsupported SBOM format"),
        (f"{SUBJECT}, sbom-path: absent.json", None, "SBOM file cannot be read"),
        (f"{SUBJECT}, sbom-path: sbom.json, predicate: x", None, "Cannot specify sbom-path together with"),
        (f"{SUBJECT}, predicate: '{{}}'", None, "predicate-type and exactly one of"),
    ],
)
def test_what_the_real_attest_refuses_is_refused(hosted, tmp_path, inputs, permissions, words):
    project, remote, payload = hosted(attest(inputs, **({"permissions": permissions} if permissions else {})))
    with GitHub(grants(project)) as github:
        run = act.run_event(remote, "push", payload, tmp_path / "run", env={"GITHUB_API_URL": github.url})
    assert run.jobs == {"first": "failure"} and words in run.annotations[0]["message"] and not github.attestations


ROLE = "aws-region: eu-west-1, role-to-assume: 'arn:aws:iam::123456789012:role/deployer'"


@pytest.mark.parametrize(
    ("inputs", "permission", "words"),
    [
        (ROLE, "write", ""),
        (ROLE, "none", "did you mean to set the `id-token` permission"),
        ("aws-region: eu-west-1, role-to-assume: deployer", "write", "assumes a role by its ARN only"),
        (ROLE.replace("eu-west-1", "EU"), "write", "Region is not valid"),
        (ROLE.replace("eu-west-1", '"${{ vars.UNSET }}"'), "write", "not supplied: aws-region"),
        (f"{ROLE}, allowed-account-ids: '1'", "write", "none of allowed-account-ids"),
        (f"{ROLE}, role-session-name: 'a b'", "write", "Role session name is not valid"),
        (f"{ROLE}, role-duration-seconds: 10", "write", "is not between 900 and 43200"),
    ],
)
def test_a_role_is_assumed_by_who_has_an_identity(hosted, tmp_path, inputs, permission, words):
    text = workflow(
        f"{{uses: {PINS['cloud']}, with: {{{inputs}}}}}", '{name: Look, run: "echo $AWS_REGION; env | grep -c ^AWS"}'
    )
    _, remote, payload = hosted(text.replace("contents: read", f"id-token: {permission}"))
    run = act.run_event(remote, "push", payload, tmp_path / "run")
    assert run.jobs == {"first": "failure" if words else "success"}
    if words:
        assert words in run.annotations[0]["message"]
    else:
        assert run.logs["first"] == "eu-west-1\n5\n"
