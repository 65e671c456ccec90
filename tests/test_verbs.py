"""Risk: what a person types into a form on GitHub, or a branch's name, is run by make or the shell."""

import json
import sys
from types import SimpleNamespace

import pytest

# Each verb, the variable that carries a value to it, and the words that the command gets.
GIVEN = {
    "adopt": ("DATA", ["--data", "{}"]),
    "accept": ("BEFORE", ["--before", "{}"]),
    "approve": ("BECAUSE", ["--because", "{}"]),
    "compare": ("PULL", ["--pull", "{}"]),
    "deploy": ("TO", ["--to", "{}"]),
    "forget": ("KEY", ["--key", "{}"]),
    "history": ("AT", ["--at", "{}"]),
    "prune": ("KEEP", ["--keep", "{}"]),
    "quarantine": ("EVENT", ["--event", "{}", "--because", ""]),
    "release": ("TAG", ["--tag", "{}"]),
    "report": ("PULL", ["--pull", "{}"]),
    "rollback": ("TO", ["--to", "{}", "--because", ""]),
    "try": ("SET", ["{}"]),
    "undeploy": ("TO", ["--to", "{}"]),
    "update": ("TO", ["--to", "{}"]),
    "validate": ("PULL", ["--pull", "{}"]),
    "verify": ("IN", ["{}"]),
}
HOSTILE = (
    "$(touch planted)",
    "`touch planted`",
    "'; touch planted; '",
    '"; touch planted; "',
    "$(shell touch planted)",
    "a b",
)


@pytest.fixture(scope="module")
def baked(bake):
    project = bake()
    told = f'RUN={sys.executable} -c "import json, sys; print(json.dumps(sys.argv[1:]))"'
    return project, told


@pytest.mark.parametrize("verb", GIVEN)
def test_a_value_reaches_the_command_as_it_is(baked, verb):
    """As a workflow gives it, in the environment, and as a person does, after the verb."""
    project, told = baked
    variable, words = GIVEN[verb]
    for value in HOSTILE:
        for done in (
            project.make("-s", verb, told, **{variable: value}),
            project.make("-s", verb, told, f"{variable}={value}"),
        ):
            assert json.loads(done.stdout) == [verb, *(word.format(value) for word in words)]
            assert not (project.path / "planted").exists(), value


def test_a_platform_reaches_the_build_as_it_is(baked):
    project, _ = baked
    told = f"RUN={sys.executable} -c \"import os; print(os.environ['PLATFORM'])\""
    for value in HOSTILE:
        for done in (
            project.make("-s", "image", told, PLATFORM=value),
            project.make("-s", "image", told, f"PLATFORM={value}"),
        ):
            assert done.stdout == f"{value}\n"
            assert not (project.path / "planted").exists(), value


def test_what_is_not_given_is_not_passed_on(baked):
    project, told = baked
    for verb in ("accept", "compare", "deploy", "history", "prune"):
        for nothing in ({}, {GIVEN[verb][0]: ""}):
            assert json.loads(project.make("-s", verb, told, **nothing).stdout) == [verb]
    assert json.loads(project.make("-s", "image", told, PUSH="1").stdout) == ["image", "--push"]


def test_each_answer_reaches_adopt(baked):
    project, told = baked
    given = {"DATA": "a b.csv", "TARGET": "$(touch planted)", "TASK": "binary", "KEY": "a, b", "TIME": "none"}
    given |= {"GROUP": "`touch planted`", "SEPARATOR": ";", "DRY": "1"}
    words = [word for name, value in given.items() if name != "DRY" for word in (f"--{name.lower()}", value)]
    assert json.loads(project.make("-s", "adopt", told, **given).stdout) == ["adopt", *words, "--dry"]
    assert json.loads(project.make("-s", "adopt", told).stdout) == ["adopt"]
    assert not (project.path / "planted").exists()


def test_two_files_reach_predict_in_their_order(baked):
    project, told = baked
    done = project.make("-s", "predict", told, IN="$(touch planted).csv", OUT="of `touch planted`.csv")
    assert json.loads(done.stdout) == ["predict", "$(touch planted).csv", "of `touch planted`.csv"]
    assert not (project.path / "planted").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["quarantine"], "Missing option '--event'"),
        (["quarantine", "--event", "abc"], "Invalid value for '--event': .*"),
        (["prune", "--keep", "-1"], "Invalid value for '--keep': .*"),
        (["promot"], "No such command 'promot'.*"),
        (["history", "--att", "1"], "No such option: --att.*"),
    ],
)
def test_a_word_or_an_option_that_there_is_not_is_one_line(baked, one_line, words, told):
    one_line(baked[0].cli(*words, check=False), 2, f"{told}; `make` lists the verbs with what they take")


def test_without_a_word_it_lists_the_verbs(project):
    done = project.cli()
    assert done.stderr == "" and len(done.stdout.splitlines()) > 20 and "\n  rollback " in done.stdout


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        (
            {"REGISTRY": "$(touch planted) y"},
            "REGISTRY: .* is no name of a registry; set it as in REGISTRY=ghcr.io/acme",
        ),
        (
            {"DOCKER_HOST": "ssh://u@h;touch planted"},
            "DOCKER_HOST: .* is no address; write it as in DOCKER_HOST=ssh://.*",
        ),
        (
            {"DOCKER_HOST": "ssh://-oProxyCommand=x"},
            "DOCKER_HOST: .* is no address; write it as in DOCKER_HOST=ssh://.*",
        ),
    ],
)
def test_a_variable_that_names_no_place_is_one_line(bootstrapped, one_line, variables, told):
    one_line(bootstrapped.cli("image", check=False, **variables), 2, told)
    assert not (bootstrapped.path / "planted").exists()


def test_what_a_person_wrote_starts_no_command_of_a_workflows_log(monkeypatch, tmp_path):
    from conveyor.steps import pipeline

    monkeypatch.setattr(pipeline, "run", lambda step, project: "rolled back: a\n::error::b")
    said = []
    pipeline.show(pipeline.BY_NAME["promote"], SimpleNamespace(build=tmp_path), said.append)
    assert len(said) == 1 and len(said[0].splitlines()) == 1 and "a\\n::error::b" in said[0]
