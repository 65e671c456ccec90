"""Risk: a workflow that runs well and is unsafe, or says what act does not look at: rights, pins, triggers, limits."""

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import OPTIONS
from pinned import RECORD, faults_of_outputs, faults_of_step

BIN = Path(sys.executable).parent
BECAUSE = {"because": {"required": True, "type": "string"}}
TRIGGERS = {
    "approve": {"workflow_dispatch": {"inputs": BECAUSE}},
    "ci": {event: {"branches": ["main"]} for event in ("push", "pull_request", "merge_group")},
    "collect": {"schedule": [{"cron": "17 4 * * 1"}], "workflow_dispatch": None},
    "compare": {event: {"branches": ["main"]} for event in ("pull_request", "merge_group")},
    "deliver": {"push": {"branches": ["main"]}, "workflow_dispatch": None},
    "monitor": {"schedule": [{"cron": "17 5 * * *"}], "workflow_dispatch": None},
    "pages": {"schedule": [{"cron": "47 5 * * *"}], "workflow_dispatch": None},
    "release": {"push": {"tags": ["v*"]}},
    "rollback": {"workflow_dispatch": {"inputs": {**BECAUSE, "to": {"required": False, "type": "string"}}}},
    "update": {"schedule": [{"cron": "17 6 1 * *"}], "workflow_dispatch": None},
}
ACTIONS = (
    "actions/attest",
    "actions/checkout",
    "actions/deploy-pages",
    "actions/download-artifact",
    "actions/setup-python",
    "actions/upload-artifact",
    "actions/upload-pages-artifact",
    "aws-actions/configure-aws-credentials",
)
READ, WRITE = {"contents": "read"}, {"contents": "write"}
CLOUD = {"id-token": "write"}
# What a job may do; every other one may read the contents, or nothing.
GRANTS = {
    ("approve", "judge"): READ | CLOUD,
    ("approve", "record"): WRITE | CLOUD | {"actions": "write"},
    ("collect", "bring"): WRITE | {"pull-requests": "write", "issues": "write", "checks": "read"},
    ("compare", "decide"): READ | {"pull-requests": "write"},
    ("deliver", "train"): READ | CLOUD,
    ("deliver", "accept"): WRITE | CLOUD | {"deployments": "read"},
    ("deliver", "image"): READ | {"packages": "write"},
    ("deliver", "attest"): CLOUD | {"attestations": "write"},
    ("deliver", "staging"): WRITE | {"packages": "read", "attestations": "read"},
    ("deliver", "production"): WRITE | {"packages": "read", "attestations": "read"},
    ("monitor", "live"): READ | {"issues": "write"},
    ("monitor", "probation"): WRITE | {"issues": "write", "actions": "write"},
    ("monitor", "missed"): READ | {"actions": "write"},
    ("pages", "deploy"): CLOUD | {"pages": "write"},
    ("release", "files"): READ | CLOUD | {"packages": "read"},
    ("release", "attest"): CLOUD | {"attestations": "write"},
    ("release", "publish"): WRITE | {"packages": "write"},
    ("rollback", "restore"): WRITE | {"packages": "write"},
    ("update", "look"): READ | {"issues": "write"},
}
# The code that a job of a pull request runs: where it is the pull request's, nothing can be written.
PULLED = ("ci.test", "compare.challenger")
# Every value of the two answers that a workflow could depend on.
COMBINATIONS = [{"python": value} for value in OPTIONS["python"]] + [
    {"deploy": value} for value in OPTIONS["deploy"][1:]
]


@pytest.fixture(scope="module", params=COMBINATIONS, ids=lambda answers: "-".join(answers.values()))
def baked(request, bake):
    return bake(**request.param)


@pytest.fixture(scope="module")
def files(baked):
    """Every YAML file that GitHub Actions reads."""
    return sorted([*(baked.path / ".github/workflows").glob("*"), *(baked.path / ".github/actions").rglob("*.yml")])


@pytest.fixture(scope="module")
def workflows(baked):
    """name -> the parsed workflow, with `on` under its own name."""
    found = {}
    for path in sorted((baked.path / ".github/workflows").iterdir()):
        parsed = yaml.safe_load(path.read_text())
        found[path.stem] = {"on": parsed.pop(True), **parsed}
    return found


@pytest.fixture(scope="module")
def composite(baked):
    return yaml.safe_load((baked.path / ".github/actions/setup/action.yml").read_text())


def jobs(workflows):
    return [(name, job, body) for name, workflow in workflows.items() for job, body in workflow["jobs"].items()]


def using(action, workflows):
    """(workflow, job, inputs) of each step that uses this action."""
    found = [(name, job, step) for name, job, body in jobs(workflows) for step in body["steps"] if "uses" in step]
    return [(name, job, step["with"]) for name, job, step in found if step["uses"].startswith(f"{action}@")]


def lines(files):
    return [line for path in files for line in path.read_text().splitlines()]


def steps(workflows, composite):
    found = [(f"{name}.{job}", step) for name, job, body in jobs(workflows) for step in body["steps"]]
    return found + [("setup", step) for step in composite["runs"]["steps"]]


def tool(baked, name, *arguments):
    return subprocess.run([BIN / name, *arguments], cwd=baked.path, capture_output=True, text=True)


def test_zizmor_at_its_strictest_finds_nothing_in_any_file(baked, files):
    done = tool(baked, "zizmor", "--offline", "--persona=auditor", ".")
    assert done.returncode == 0, done.stdout
    for path in files:
        assert f"completed ./{path.relative_to(baked.path)}" in done.stderr


def test_actionlint_finds_nothing(baked, files):
    done = tool(baked, "actionlint", *[path for path in files if path.parent.name == "workflows"])
    assert (done.returncode, done.stdout) == (0, "")


def test_github_would_parse_every_file(baked, files):
    for path in files:
        schema = "github-workflows" if path.parent.name == "workflows" else "github-actions"
        done = tool(baked, "check-jsonschema", "--builtin-schema", f"vendor.{schema}", path)
        assert done.returncode == 0, done.stdout


def test_the_workflows_start_on_exactly_these_events(workflows):
    found = {name: workflow["on"] for name, workflow in workflows.items()}
    for on in found.values():
        for given in ((on.get("workflow_dispatch") or {}).get("inputs") or {}).values():
            assert len(given.pop("description")) > 10
    assert found == TRIGGERS
    assert all(workflow["name"] == name for name, workflow in workflows.items())


def test_a_workflow_grants_nothing_and_a_job_only_what_it_names(workflows):
    for name, workflow in workflows.items():
        assert workflow["permissions"] == {}, name
    for name, job, body in jobs(workflows):
        known = GRANTS.get((name, job))
        assert body["permissions"] == known if known else body["permissions"] in ({}, READ), f"{name}.{job}"
    assert set(GRANTS) <= {(name, job) for name, job, _ in jobs(workflows)}


def test_every_grant_says_why(files, workflows):
    grants = [line for line in lines(files) if re.match(r" +[a-z-]+: (read|write)\b", line)]
    assert len(grants) == sum(len(body["permissions"]) for _, _, body in jobs(workflows)) > 0
    for line in grants:
        assert re.search(r": (read|write) # \w.{10,}", line), line


def test_no_job_that_runs_the_code_of_a_pull_request_can_write(workflows):
    """Over every step of every job: what a pull request starts and checks out, unless another commit is named."""
    pulled = set()
    for name, workflow in workflows.items():
        assert not {"pull_request_target", "workflow_run", "issue_comment"} & set(workflow["on"]), name
        if "pull_request" not in workflow["on"]:
            continue
        for job, body in workflow["jobs"].items():
            here = [s["with"] for s in body["steps"] if s.get("uses", "").startswith("actions/checkout@")]
            local = any(step.get("uses", "").startswith(("$/", "./")) for step in body["steps"])
            if local or any("ref" not in inputs and inputs.get("path") != "pull" for inputs in here):
                pulled.add(f"{name}.{job}")
                assert body["permissions"] == READ, f"{name}.{job}"
    assert pulled == set(PULLED)


def test_every_action_is_pinned_to_a_commit_with_its_version_beside_it_and_to_one_only(files):
    pins = {}
    for line in lines(files):
        if "uses:" in line and "uses: $/.github/actions/setup" not in line:
            pin = re.fullmatch(r" +(?:- )?uses: ([\w-]+/[\w-]+)@([0-9a-f]{40}) # (v\d+\.\d+\.\d+)", line)
            assert pin, line
            pins.setdefault(pin[1], set()).add((pin[2], pin[3]))
    assert set(pins) == set(ACTIONS)
    recorded = {action: {(told["commit"], told["version"])} for action, told in RECORD.items()}
    assert pins == recorded, "CONTRIBUTING.md says how a pin is recorded"


def test_no_action_is_given_an_input_or_asked_for_an_output_that_it_does_not_have(workflows, composite):
    used = [step for _, step in steps(workflows, composite) if "@" in step.get("uses", "")]
    assert {step["uses"].partition("@")[0] for step in used} == set(ACTIONS)
    assert not [fault for step in used for fault in faults_of_step(step)]
    for place in [*(body for _, _, body in jobs(workflows)), composite | composite["runs"]]:
        assert not faults_of_outputs(place, place["steps"])


def test_every_job_has_a_limit_and_a_runner_that_does_not_change_by_itself(workflows):
    for name, job, body in jobs(workflows):
        assert 1 <= body["timeout-minutes"] <= 60, f"{name}.{job}"
        assert body["runs-on"] == "ubuntu-24.04", f"{name}.{job}"


def test_a_newer_push_cancels_checks_of_a_pull_request_but_never_a_delivery(workflows):
    assert {name: workflow["concurrency"] for name, workflow in workflows.items()} == {
        "approve": {"group": "approve", "cancel-in-progress": False, "queue": "max"},
        "collect": {"group": "collect", "cancel-in-progress": True},
        "ci": {"group": "ci-${{ github.event.pull_request.number || github.sha }}", "cancel-in-progress": True},
        "compare": {"group": "compare-${{ github.ref }}", "cancel-in-progress": True},
        "deliver": {"group": "deliver-${{ github.run_id }}", "cancel-in-progress": False},
        "monitor": {"group": "monitor", "cancel-in-progress": True},
        "pages": {"group": "pages", "cancel-in-progress": False},
        "release": {"group": "release-${{ github.ref }}", "cancel-in-progress": False},
        "rollback": {"group": "rollback", "cancel-in-progress": False, "queue": "max"},
        "update": {"group": "update", "cancel-in-progress": False},
    }


def test_a_delivery_that_waits_for_a_reviewer_holds_no_other_one_up_and_none_is_dropped(workflows):
    """One job at a time for the ledger and for each environment; nothing before or between them waits."""
    found = {f"{name}.{job}": body["concurrency"] for name, job, body in jobs(workflows) if "concurrency" in body}
    assert found == {
        f"deliver.{job}": {"group": f"deliver-{job}", "cancel-in-progress": False, "queue": "max"}
        for job in ("accept", "staging", "production")
    }


def test_every_command_is_one_line_that_a_developer_can_type(baked, workflows, composite):
    verbs = re.findall(r"(?m)^([a-z-]+):", (baked.path / "Makefile").read_text())
    commands = [(where, step["run"]) for where, step in steps(workflows, composite) if "run" in step]
    assert len(commands) > 10
    for where, command in commands:
        assert "\n" not in command and "${{" not in command, where
        if not command.startswith(('echo "$RESULTS"', 'echo "::notice ')) and command not in (BASE, MOVE):
            make, *words = command.split()
            assert make == "make" and words, where
            for word in words:
                assert word in verbs or word in ("PUSH=1", "TO=staging"), f"{where}: the Makefile has no {word}"


# Of the pull request: the base that it would be merged onto, and what of its artifact is judged.
BASE = 'git rev-parse --quiet --verify HEAD^2 && echo "sha=$(git rev-parse HEAD^1)" >> "$GITHUB_OUTPUT"'
MOVE = "mkdir -p build && mv ../challenger/candidate ../challenger/scores.parquet build/"
PUSHING = {
    "approve.record": "make approve deliver PUSH=1",
    "deliver.accept": "make accept PUSH=1",
    "deliver.image": "make image sbom PUSH=1",
    "deliver.staging": "make deploy TO=staging PUSH=1",
    "deliver.production": "make deploy PUSH=1",
    "monitor.probation": "make probation PUSH=1",
    "release.publish": "make publish PUSH=1",
    "rollback.restore": "make rollback PUSH=1",
}
READING = {
    ("approve.judge", "make validate train score compare"),
    ("collect.bring", "make retrain"),
    ("collect.bring", "make propose"),
    ("compare.challenger", "make train score"),
    ("compare.decide", "make compare"),
    ("compare.decide", "make comment"),
    ("deliver.train", "make validate train score compare"),
    ("deliver.accept", "make due"),
    ("deliver.staging", "make attested"),
    ("deliver.production", "make attested"),
    ("monitor.live", "make monitor"),
    ("monitor.missed", "make missed"),
    ("pages.site", "make site"),
    ("release.files", "make release"),
    ("update.look", "make newer"),
}


def test_only_these_push_and_a_delivery_does_so_in_this_order(workflows, composite):
    pushing = {where: step["run"] for where, step in steps(workflows, composite) if "PUSH" in step.get("run", "")}
    assert pushing == PUSHING
    order = ["train", *(where.partition(".")[2] for where in PUSHING if where.startswith("deliver."))]
    for before, job in itertools.pairwise(order):
        attested = ["attest"] if job == "staging" else []  # what is deployed has its provenance
        assert workflows["deliver"]["jobs"][job]["needs"] == [before, *attested]


def test_the_token_reaches_only_the_steps_that_read_or_move_the_ledger_or_write_the_comment(workflows, composite):
    given = {(where, step["run"]) for where, step in steps(workflows, composite) if "github.token" in str(step)}
    assert given == READING | set(PUSHING.items())


DATA, PACKAGES, KEY = {"DATA_OPTIONS"}, {"REGISTRY_TOKEN"}, {"LEDGER_KEY"}
TRACKING = {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"}
SERVER = {"DEPLOY_HOST", "DEPLOY_KEY", "DEPLOY_KNOWN_HOSTS", "PREDICT_TOKEN"}


def test_a_secret_is_only_seen_by_the_step_that_needs_it_and_a_page_names_it(baked, workflows, composite):
    found = {}
    for where, step in steps(workflows, composite):
        if names := set(re.findall(r"secrets\.(\w+)", str(step))):
            assert set(re.findall(r"secrets\.(\w+)", str(step["env"]))) == names, where
            found.setdefault(where, set()).update(names)
    host = SERVER | {"KUBECONFIG_DATA"}
    assert found == {
        "approve.judge": DATA | TRACKING,
        "approve.record": DATA | TRACKING | KEY,
        "collect.bring": DATA | {"SOURCE_PASSWORD", "PROPOSE_TOKEN"},
        "compare.challenger": DATA,
        "compare.decide": DATA,
        "deliver.train": DATA | TRACKING,
        "deliver.accept": DATA | TRACKING | KEY,
        "deliver.image": DATA | PACKAGES,
        "deliver.staging": host | TRACKING | PACKAGES | DATA | KEY,
        "deliver.production": host | TRACKING | PACKAGES | DATA | KEY,
        "monitor.live": DATA | {"DEPLOY_HOST", "DEPLOY_KEY", "DEPLOY_KNOWN_HOSTS", "MONITOR_WEBHOOK"},
        "monitor.probation": DATA | KEY | {"MONITOR_WEBHOOK"},
        "pages.site": DATA | {"DEPLOY_HOST", "DEPLOY_KEY", "DEPLOY_KNOWN_HOSTS"},
        "release.files": DATA | PACKAGES,
        "release.publish": PACKAGES | KEY,
        "rollback.restore": host | TRACKING | PACKAGES | DATA | KEY,
    }
    writing = {where for where, command in PUSHING.items() if "image" not in command}
    assert writing == {where for where, names in found.items() if names >= KEY}
    page = (baked.path / "docs" / "secrets.md").read_text()
    variables = set(re.findall(r"vars\.(\w+)", str(workflows)))
    assert all(f"`{name}`" in page for name in {*set().union(*found.values()), *variables})


def test_every_job_that_sees_a_secret_is_in_an_environment_and_a_host_in_that_of_its_name(workflows):
    given = {f"{name}.{job}": body["environment"] for name, job, body in jobs(workflows) if "environment" in body}
    # It sees no secret: GitHub asks for this name of whoever publishes pages.
    assert given.pop("pages.deploy") == {"name": "github-pages", "url": "${{ steps.publish.outputs.page_url }}"}
    for where, place in given.items():
        # GitHub notes a deployment for each job in an environment, unless it is told that there is none.
        told = {"url": "${{ vars.SERVICE_URL }}"} if where in DEPLOYING else {"deployment": False}
        assert {key: value for key, value in place.items() if key != "name"} == told, where
        given[where] = place["name"]
    build, pull = "${{ vars.BUILD_ENVIRONMENT }}", "${{ vars.PULL_REQUEST_ENVIRONMENT }}"
    writes = "${{ vars.LEDGER_ENVIRONMENT || vars.BUILD_ENVIRONMENT }}"
    assert given == {
        "approve.judge": build,
        "approve.record": writes,
        "collect.bring": build,
        "compare.challenger": pull,
        "compare.decide": pull,
        "deliver.train": build,
        "deliver.accept": writes,
        "deliver.image": build,
        "deliver.staging": "staging",
        "deliver.production": "production",
        "monitor.live": build,
        "monitor.probation": writes,
        "pages.site": build,
        "release.files": build,
        "release.publish": writes,
        "rollback.restore": "production",
    }
    assert set(given) == {f"{name}.{job}" for name, job, body in jobs(workflows) if "secrets." in str(body)}


def test_nothing_is_kept_between_runs(workflows, composite, files):
    """What a pull request could put into a cache would be built, promoted or released from it."""
    assert not [line for line in lines(files) if re.search(r"\bcache\b(?!-mode)", line.partition("#")[0])]
    for _, _, inputs in using("actions/download-artifact", workflows):
        assert not {"run-id", "github-token", "repository", "pattern"} & set(inputs), "only what this run kept"


def test_what_is_dispatched_by_hand_moves_nothing_but_from_main(workflows):
    for name, job in (("approve", "judge"), ("deliver", "train"), ("rollback", "restore")):
        assert workflows[name]["jobs"][job]["if"] == "github.ref == 'refs/heads/main'"
        others = [body for other, body in workflows[name]["jobs"].items() if other not in (job, name)]
        assert all(job in reached(workflows[name]["jobs"], body) for body in others)


def reached(jobs_, body):
    """All jobs before one."""
    needed = set(body["needs"])
    return needed.union(*(reached(jobs_, jobs_[job]) for job in needed if "needs" in jobs_[job]))


def test_pages_are_made_only_where_they_are_asked_for_and_published_without_code_of_the_repository(workflows):
    """They can be public where the repository is not."""
    site, deploy = (workflows["pages"]["jobs"][name] for name in ("site", "deploy"))
    assert site["if"] == "${{ vars.PAGES != '' && github.ref == 'refs/heads/main' }}"
    assert deploy["needs"] == ["site"] and "if" not in deploy
    [publish] = deploy["steps"]
    assert publish["uses"].startswith("actions/deploy-pages@")
    [(name, job, kept)] = using("actions/upload-pages-artifact", workflows)
    assert (name, job, kept) == ("pages", "site", {"path": "build/site/"})


DEPLOYING = ("deliver.staging", "deliver.production", "rollback.restore")
PUBLIC = "${{ !github.event.repository.private || vars.ATTESTATIONS != '' }}"
PRIVATE = "${{ github.event.repository.private && vars.ATTESTATIONS == '' }}"


def test_an_attestation_is_made_without_code_of_the_repository_or_it_is_said_that_none_is(workflows):
    for name, before, subjects in (("deliver", "image", 2), ("release", "files", 1)):
        body = workflows[name]["jobs"]["attest"]
        assert body["needs"] == [before]
        fetch, notice, *attests = body["steps"]
        assert fetch["uses"].startswith("actions/download-artifact@")
        assert notice["if"] == PRIVATE and notice["run"].startswith('echo "::notice title=Not attested::')
        assert [step["if"] for step in attests] == [PUBLIC] * subjects
        assert all(step["uses"].startswith("actions/attest@") for step in attests)
    assert "attest" in workflows["release"]["jobs"]["publish"]["needs"], "no release without provenance"
    provenance, contents = (step["with"] for step in workflows["deliver"]["jobs"]["attest"]["steps"][2:])
    image = {"subject-name": "${{ needs.image.outputs.name }}", "subject-digest": "${{ needs.image.outputs.digest }}"}
    assert (provenance, contents) == (image, image | {"sbom-path": "build/sbom.cdx.json"})


def test_each_workflow_has_one_gate_that_needs_every_other_job(workflows):
    for name, workflow in workflows.items():
        gate = workflow["jobs"][name]
        assert gate["name"] == name
        assert gate["if"] == "always()"
        assert sorted(gate["needs"]) == sorted(set(workflow["jobs"]) - {name}) != []
        assert gate["permissions"] == {}


@pytest.mark.parametrize(
    ("results", "passes"),
    [
        ("success", True),
        ("success success", True),
        ("", False),
        ("failure", False),
        ("success failure", False),
        ("failure success", False),
        ("success skipped", False),
        ("cancelled success", False),
    ],
    ids=lambda value: str(value).replace(" ", "-") or "none",
)
def test_a_gate_passes_only_if_every_job_succeeded(bake, results, passes):
    for path in sorted((bake().path / ".github/workflows").iterdir()):
        (step,) = yaml.safe_load(path.read_text())["jobs"][path.stem]["steps"]
        all_of_them = "join(needs.*.result, ' ')"
        if path.stem == "deliver":  # without anything to deploy there is no result of the jobs that would do it
            ended = "needs.accept.outputs.due == 'false' && format('{0} {1}', needs.train.result, needs.accept.result)"
            all_of_them = f"{ended} || {all_of_them}"
        if path.stem == "pages":  # without the variable there is nothing to publish
            all_of_them = f"vars.PAGES == '' && 'success' || {all_of_them}"
        assert step["env"] == {"RESULTS": f"${{{{ {all_of_them} }}}}"}
        done = subprocess.run(
            ["bash", "-e", "-c", step["run"]], env={"RESULTS": results, "PATH": "/usr/bin:/bin"}, capture_output=True
        )
        assert (done.returncode == 0) == passes, path.stem


def test_nothing_softens_a_failure_or_is_used_that_the_tests_cannot_execute(workflows, composite):
    for where, body in [*((f"{n}.{j}", b) for n, j, b in jobs(workflows)), *steps(workflows, composite)]:
        # act ignores the last ones: use them with an assertion of their own.
        for key in ("continue-on-error", "working-directory", "defaults", "container", "services"):
            judges = where == "compare.decide" and key in ("defaults", "working-directory")  # another test reads them
            assert judges or key not in body, f"{where}: {key}"
    for name, workflow in workflows.items():
        assert set(workflow) == {"on", "name", "permissions", "concurrency", "jobs"}, name


def test_a_step_that_failed_stops_its_job_except_for_what_reports_it(workflows, composite):
    conditions = {(where, step["name"]): step["if"] for where, step in steps(workflows, composite) if "if" in step}
    always = {at for at, condition in conditions.items() if "cancelled()" in condition}
    pulled = {"${{ !cancelled() && github.event_name == 'pull_request' }}"}  # a merge queue has nothing to comment on
    assert {conditions[at] for at in always - {("compare.decide", "Comment")}} == {"${{ !cancelled() }}"}
    assert {conditions[at] for at in [("compare.decide", "Comment")]} == pulled
    assert always == {
        ("approve.judge", "Report"),
        ("compare.decide", "Report"),
        ("compare.decide", "Comment"),
        ("compare.decide", "Keep the report"),
        ("deliver.train", "Report"),
        ("deliver.train", "Keep the model"),
        ("monitor.live", "Keep the page"),
    }
    assert not any(word in str(conditions) for word in ("always()", "failure()"))
    judged = {at for at, condition in conditions.items() if condition == "${{ steps.data.outputs.judged != 'false' }}"}
    assert judged == {
        ("compare.challenger", "Train, score"),
        ("compare.challenger", "Hand the challenger over"),
        ("compare.decide", "Fetch the challenger"),
        ("compare.decide", "Take the model and its scores"),
        ("compare.decide", "Compare"),
    }
    assert workflows["compare"]["jobs"]["decide"]["if"] == "${{ !cancelled() }}"


def test_python_is_the_answer_in_quotes(baked, composite, workflows):
    asked = composite["runs"]["steps"][0]["with"]["python-version"]
    assert asked == baked.options["python"]
    assert [with_["python-version"] for _, _, with_ in using("actions/setup-python", workflows)] == [asked]
    assert f'python-version: "{asked}"' in (baked.path / ".github/actions/setup/action.yml").read_text()


def test_no_checkout_leaves_credentials_behind(workflows):
    found = using("actions/checkout", workflows)
    assert (
        len(found)
        == sum(
            step.get("uses", "").startswith("actions/checkout@") for _, _, b in jobs(workflows) for step in b["steps"]
        )
        > 10
    )
    assert all(inputs["persist-credentials"] is False for _, _, inputs in found)


def test_a_job_that_asks_the_ledger_has_the_history_of_its_branch_and_not_the_ledgers(workflows):
    """The ledger is fetched by the code, as far as it is new; depth 0 would bring all branches and tags."""
    for name, job, body in jobs(workflows):
        asks = f"{name}.{job}" not in ("update.look", "monitor.missed")  # these ask GitHub's API alone
        if any("github.token" in str(step) for step in body["steps"]) and asks:
            checkouts = [s["with"] for s in body["steps"] if s.get("uses", "").startswith("actions/checkout@")]
            assert checkouts[-1]["fetch-depth"] == 2**31 - 1, f"{name}.{job}"  # an earlier one is of the pull request


def test_the_base_judges_and_the_pull_request_is_data(workflows):
    decide = workflows["compare"]["jobs"]["decide"]
    pull, found, base, *rest = decide["steps"]
    assert pull["with"] == {"path": "pull", "fetch-depth": 2, "persist-credentials": False}
    assert (found["run"], found["id"], found["working-directory"]) == (BASE, "base", "pull")
    # With an empty `ref` the action would check out the merge: the pull request would judge itself.
    first, second, last = re.fullmatch(r"\$\{\{ (\S+) \|\| (\S+) \|\| '(.+)' \}\}", base["with"]["ref"]).groups()
    assert (first, second) == (
        "steps.base.outputs.sha",
        "fromJSON(toJSON(github.event)).merge_group.base_sha",
    ) and " " in last
    assert base["with"]["path"] == "base" and decide["defaults"] == {"run": {"working-directory": "base"}}
    assert not any("working-directory" in step for step in rest)
    assert [step["run"] for step in rest if step.get("env", {}).get("PULL") == "../pull"] == [
        "make validate",
        "make compare",
        "make report",
    ]
    assert [step["run"] for step in rest if "run" in step] == [
        "make validate",
        MOVE,
        "make compare",
        "make report",
        "make comment",
    ]
    # GitHub takes an action of the repository itself from the commit of the workflow: that of the pull request.
    assert not any(step["uses"].startswith(("$/", "./")) for step in rest if "uses" in step)


def test_the_untrusted_job_hands_over_a_model_and_its_scores_and_no_verdict(workflows):
    *_, handed = workflows["compare"]["jobs"]["challenger"]["steps"]
    assert handed["with"]["path"].split() == ["build/candidate/", "build/scores.parquet"]
    assert handed["with"]["if-no-files-found"] == "error"
    assert handed["with"]["include-hidden-files"] is False
    assert handed["with"]["retention-days"] == 7
    decide = workflows["compare"]["jobs"]["decide"]["steps"]
    names = [step.get("uses", step.get("run")).partition("@")[0] for step in decide]
    # Validated before anything of the untrusted job lies beside it.
    assert names.index("make validate") < names.index("actions/download-artifact") < names.index("make compare")


def test_an_artifact_is_fetched_under_the_name_it_was_kept_and_into_the_folder_it_came_from(workflows):
    kept = {(name, with_["name"]): job for name, job, with_ in using("actions/upload-artifact", workflows)}
    fetched = {}
    for name, job, with_ in using("actions/download-artifact", workflows):
        fetched.setdefault((name, with_["name"]), []).append(job)
    assert kept == {
        ("approve", "model"): "judge",
        ("compare", "challenger"): "challenger",
        ("compare", "report"): "decide",
        ("deliver", "model"): "train",
        ("deliver", "image"): "image",
        ("monitor", "monitor"): "live",
        ("release", "release"): "files",
    }
    assert fetched == {
        ("approve", "model"): ["record"],
        ("compare", "challenger"): ["decide"],
        ("deliver", "model"): ["accept"],
        ("deliver", "image"): ["attest", "staging", "production"],
        ("release", "release"): ["attest", "publish"],
    }
    for name, _, with_ in using("actions/download-artifact", workflows):
        assert with_["path"] == {"release": "build/release/", "compare": "challenger/"}.get(name, "build/")
    for (name, artifact), there in fetched.items():
        for job in there:
            assert kept[name, artifact] in reached(workflows[name]["jobs"], workflows[name]["jobs"][job])
