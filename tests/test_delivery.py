"""Risk: the template's own workflows are unsafe, lose a failure, or skip an answer that users can give."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import DEFAULTS, OPTIONS, ROOT, TEMPLATE, run
from pinned import RECORD, faults_of_outputs, faults_of_step

BIN = Path(sys.executable).parent
FILES = sorted((ROOT / ".github" / "workflows").iterdir())
TEXTS = {path.stem: path.read_text() for path in FILES}
WORKFLOWS = {name: yaml.safe_load(text) for name, text in TEXTS.items()}
JOBS = [(name, job, body) for name, workflow in WORKFLOWS.items() for job, body in workflow["jobs"].items()]
STEPS = [(name, job, step) for name, job, body in JOBS for step in body["steps"]]
VERBS = re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text())
WRITES = {
    ("newest", "tell"): {"contents": "read", "issues": "write"},
    ("release", "attest"): {"id-token": "write", "attestations": "write"},
    ("release", "publish"): {"contents": "write"},
}


def tool(name, *arguments):
    return subprocess.run([BIN / name, *arguments], cwd=ROOT, capture_output=True, text=True)


def test_zizmor_at_its_strictest_finds_nothing_in_any_file():
    done = tool("zizmor", "--offline", "--persona=auditor", ".github")
    assert done.returncode == 0, done.stdout
    for path in FILES:
        assert f"completed {path.relative_to(ROOT)}" in done.stderr


def test_actionlint_finds_nothing():
    done = tool("actionlint", *FILES)
    assert (done.returncode, done.stdout) == (0, "")


def test_github_would_parse_every_file():
    done = tool("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *FILES)
    assert done.returncode == 0, done.stdout


def test_the_workflows_start_on_exactly_these_events():
    # YAML 1.1 reads `on` as true.
    assert {name: workflow[True] for name, workflow in WORKFLOWS.items()} == {
        "ci": {"push": {"branches": ["main"]}, "pull_request": None},
        "mutation": {"schedule": [{"cron": "17 3 * * 6"}], "workflow_dispatch": None},
        "newest": {"schedule": [{"cron": "17 4 * * 1"}], "workflow_dispatch": None},
        "release": {"push": {"tags": ["v*"]}},
    }
    for name, workflow in WORKFLOWS.items():
        assert set(workflow) == {"name", True, "permissions", "concurrency", "jobs"}, name
        assert workflow["name"] == name


def test_a_workflow_grants_nothing_and_a_job_only_what_it_gives_a_reason_for():
    assert all(workflow["permissions"] == {} for workflow in WORKFLOWS.values())
    for name, job, body in JOBS:
        if (name, job) in WRITES:
            assert body["permissions"] == WRITES[name, job]
        else:
            assert body["permissions"] in ({}, {"contents": "read"}), f"{name}.{job}"
    grants = [
        line for text in TEXTS.values() for line in text.splitlines() if re.match(r" +[a-z-]+: (read|write)\b", line)
    ]
    assert len(grants) == sum(len(body["permissions"]) for _, _, body in JOBS) > 0
    for line in grants:
        assert re.search(r": (read|write) # \w.{10,}", line), line


def test_a_job_that_may_write_installs_nothing_and_only_its_last_step_sees_the_token():
    for name, job in WRITES:
        *before, last = WORKFLOWS[name]["jobs"][job]["steps"]
        commands = [step["run"] for step in [*before, last] if "run" in step]
        for command in commands:
            if command.startswith("make"):
                assert re.search(
                    rf"(?m)^{command.removeprefix('make ')}:  ##", (ROOT / "Makefile").read_text()
                )  # no setup
        assert "github.token" not in str(before), f"{name}.{job}"
    given = [(name, job) for name, job, step in STEPS if "github.token" in str(step)]
    assert given == [("newest", "tell"), ("release", "publish")]
    assert "secrets." not in "".join(TEXTS.values())


def test_every_action_is_pinned_to_one_commit_with_its_version_beside_it_and_it_is_the_products():
    def pins(text):
        lines = [line.strip().removeprefix("- ") for line in text.splitlines() if "uses:" in line and "$/" not in line]
        found = [re.fullmatch(r"uses: ([\w-]+/[\w-]+)@([0-9a-f]{40} # v\d+\.\d+\.\d+)", line) for line in lines]
        assert lines and all(found), lines
        return {(pin[1], pin[2]) for pin in found}

    ours = pins("".join(TEXTS.values()))
    theirs = pins("\n".join(path.read_text() for path in sorted((TEMPLATE / ".github").rglob("*.yml"))))
    assert {action for action, _ in ours} == {
        "actions/attest",
        "actions/checkout",
        "actions/download-artifact",
        "actions/setup-python",
        "actions/upload-artifact",
    }
    assert ours | theirs == {(action, f"{told['commit']} # {told['version']}") for action, told in RECORD.items()}


def test_no_action_is_given_an_input_or_asked_for_an_output_that_it_does_not_have():
    used = [step for _, _, step in STEPS if "uses" in step]
    assert used and not [fault for step in used for fault in faults_of_step(step)]
    for _, _, body in JOBS:
        assert not faults_of_outputs(body, body["steps"])


def test_every_job_has_a_limit_and_a_runner_that_does_not_change_by_itself():
    for name, job, body in JOBS:
        assert 1 <= body["timeout-minutes"] <= (180 if name == "mutation" else 90), f"{name}.{job}"
        assert body["runs-on"] == "ubuntu-24.04", f"{name}.{job}"


def test_a_newer_push_cancels_checks_but_never_a_release_or_what_is_being_told():
    assert {name: workflow["concurrency"] for name, workflow in WORKFLOWS.items()} == {
        "ci": {"group": "ci-${{ github.ref }}", "cancel-in-progress": True},
        "mutation": {"group": "mutation", "cancel-in-progress": False},
        "newest": {"group": "newest", "cancel-in-progress": False},
        "release": {"group": "release-${{ github.ref }}", "cancel-in-progress": False},
    }


def test_every_command_is_one_line_that_a_developer_can_type():
    commands = [(f"{name}.{job}", step["run"]) for name, job, step in STEPS if "run" in step]
    assert len(commands) == 13
    for where, command in commands:
        assert "\n" not in command and "${{" not in command, where
        if command.startswith(".ci/run"):
            program, *given = command.split()
            assert (ROOT / program).stat().st_mode & 0o111
            assert given in ([], ["bench-workflows", "WORKFLOWS=ALL"]) and "bench-workflows" in VERBS
        elif not command.startswith(('echo "$RESULTS"', 'echo "::notice')):
            make, verb = command.split()
            assert make == "make" and verb in VERBS, f"{where}: the Makefile has no {verb}"


def test_no_checkout_leaves_credentials_behind_and_the_tag_is_compared_with_all_of_main():
    checkouts = {(name, job): step["with"] for name, job, step in STEPS if "checkout@" in step.get("uses", "")}
    assert len(checkouts) == 7
    assert all(inputs["persist-credentials"] is False for inputs in checkouts.values())
    assert [where for where, inputs in checkouts.items() if inputs.get("fetch-depth") == 0] == [("release", "build")]


def test_each_workflow_has_one_gate_that_passes_only_if_every_other_job_succeeded():
    for name, workflow in WORKFLOWS.items():
        gate = workflow["jobs"][name]
        assert (gate["name"], gate["if"], gate["permissions"]) == (name, "always()", {})
        assert sorted(gate["needs"]) == sorted(set(workflow["jobs"]) - {name}) != []
        (step,) = gate["steps"]
        assert step["env"] == {"RESULTS": "${{ join(needs.*.result, ' ') }}"}
        for results in ("", "failure", "success failure", "skipped success", "success cancelled", "success success"):
            done = subprocess.run(["bash", "-e", "-c", step["run"]], env={"RESULTS": results}, capture_output=True)
            assert (done.returncode == 0) == (results == "success success"), f"{name}: {results!r}"


def test_nothing_softens_a_failure():
    for where, body in [*((f"{n}.{j}", b) for n, j, b in JOBS), *((f"{n}.{j}", s) for n, j, s in STEPS)]:
        for key in ("continue-on-error", "working-directory", "defaults", "container", "services"):
            assert key not in body, f"{where}: {key}"
    conditions = {(name, job): body["if"] for name, job, body in JOBS if "if" in body and name != job}
    assert conditions == {("newest", "tell"): "${{ !cancelled() }}"}
    private = "github.event.repository.private"
    assert [step["if"] for _, _, step in STEPS if "if" in step] == [
        f"${{{{ {private} && vars.ATTESTATIONS == '' }}}}",
        f"${{{{ !{private} || vars.ATTESTATIONS != '' }}}}",  # one of the two, always
    ]


def test_everything_runs_on_the_default_python_and_what_depends_on_it_on_every_other_answer():
    jobs = WORKFLOWS["ci"]["jobs"]
    asked = {
        job: step["with"]["python-version"]
        for name, job, step in STEPS
        if name == "ci" and "setup-python@" in step.get("uses", "")
    }
    assert asked == {"everything": DEFAULTS["python"], "python": "${{ matrix.python }}"}
    matrix = jobs["python"]["strategy"]["matrix"]["python"]
    assert sorted([DEFAULTS["python"], *matrix]) == sorted(OPTIONS["python"])
    assert all(isinstance(version, str) for version in matrix)  # 3.10 would be 3.1
    assert jobs["python"]["strategy"]["fail-fast"] is False
    weekly = ("mutation", "newest")
    given = [step["with"] for name, _, step in STEPS if name in weekly and "setup-python@" in step.get("uses", "")]
    assert [inputs["python-version"] for inputs in given] == [DEFAULTS["python"]] * 2


def test_what_is_not_run_on_every_python_is_a_file_of_tests_that_is_there():
    same = re.search(r"(?m)^SAME := (.*)$", (ROOT / "Makefile").read_text())[1].split()
    assert all((ROOT / "tests" / f"test_{name}.py").is_file() for name in same)
    kept = {path.stem.removeprefix("test_") for path in (ROOT / "tests").glob("test_*.py")} - set(same)
    assert {"child", "generation", "pipeline", "models", "serve", "runtime", "predict"} <= kept


def test_what_is_attested_is_what_is_published():
    steps = {job: body["steps"] for name, job, body in JOBS if name == "release"}
    (kept,) = [step["with"] for step in steps["build"] if "upload-artifact@" in step.get("uses", "")]
    assert (kept["path"], kept["if-no-files-found"], kept["include-hidden-files"]) == ("build/release/", "error", False)
    for job in ("attest", "publish"):
        (fetched,) = [step["with"] for step in steps[job] if "download-artifact@" in step.get("uses", "")]
        assert fetched == {"name": kept["name"], "path": kept["path"]}
    (attested,) = [step["with"] for step in steps["attest"] if "attest@" in step.get("uses", "")]
    assert attested["subject-path"].split() == [
        "build/release/*.tar.gz",
        "build/release/*.zip",
        "build/release/SHA256SUMS",
    ]
    assert WORKFLOWS["release"]["jobs"]["publish"]["needs"] == ["build", "attest"]


@pytest.fixture
def checkout(tmp_path):
    """run(*argv) in a clone of the template as it is here, with the environment of these tests dressed as `.venv`."""
    clone, venv = tmp_path / "template", tmp_path / "venv"
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, clone / name)
    run("git", "init", "--quiet", cwd=clone)
    run("git", "add", "--all", cwd=clone)
    if (ROOT / "build/mypy").is_dir():  # what `make check` has found: without it mypy takes a minute
        shutil.copytree(ROOT / "build/mypy", clone / "build/mypy")
    venv.mkdir()
    (venv / "bin").symlink_to(Path(sys.prefix) / "bin")
    locks = [(folder / "requirements/dev.txt").read_text() for folder in (TEMPLATE, ROOT)]
    (venv / "template.txt").write_text("".join(locks))
    return lambda *argv: run(*argv, cwd=clone, check=False, VENV=str(venv), HOME=str(tmp_path)), clone


def test_the_commit_hook_runs_the_check_and_stops_what_it_finds(checkout):
    call, clone = checkout
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [(repo["repo"], [hook["entry"] for hook in repo["hooks"]]) for repo in hooks] == [("local", ["make check"])]
    done = call(BIN / "pre-commit", "run", "--all-files")
    assert done.returncode == 0, done.stdout + done.stderr
    with (clone / "tools/api.py").open("a") as file:
        file.write("x  =  1\n")
    done = call(BIN / "pre-commit", "run", "--all-files")
    assert done.returncode == 1 and "1 file would be reformatted" in done.stdout
    call("git", "checkout", "--quiet", "--", "tools/api.py")
    with (clone / ".github/workflows/ci.yml").open("a") as file:
        file.write("  loose:\n    runs-on: ubuntu-latest\n    steps:\n      - uses: actions/checkout@v7\n")
    assert call(BIN / "pre-commit", "run", "--all-files").returncode == 1


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_every_verb_and_path_that_a_page_names_is_there(name):
    text = (ROOT / name).read_text()
    # Commands stand in backquotes or in indented blocks; those of the product follow a change into it.
    calls = re.findall(r"`make ([^`]+)`", text) + re.findall(r"(?m)^    make ([^#\n]+)", text)
    named = {word for call in calls for word in call.split() if "=" not in word}
    of_the_product = set(re.findall(r"(?m)^([a-z-]+):", (TEMPLATE / "Makefile").read_text()))
    assert named <= set(VERBS) | of_the_product, named - set(VERBS)
    paths = re.findall(r"\]\(([^)#:]+)\)", text) + re.findall(
        r"`((?:\.ci|\.github|tests|tools|docs|bench)/[^`\s]*)`", text
    )
    for path in paths:
        assert (ROOT / path).exists(), path
    assert named or name == "SECURITY.md"


def test_contributing_names_every_verb_that_makes_a_file_which_is_kept():
    assert {"golden", "docs", "lock", "upgrade", "sample-data"} <= set(
        re.findall(r"make ([a-z-]+)", (ROOT / "CONTRIBUTING.md").read_text())
    )
    assert json.loads((ROOT / "cookiecutter.json").read_text())["python"] == OPTIONS["python"]
