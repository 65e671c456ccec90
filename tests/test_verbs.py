"""Risk: what a person types into a form on GitHub, or a branch's name, is run by make or the shell."""

import json
import sys

import pytest

# Each verb, the variable that carries a value to it, and the words that the command gets.
GIVEN = {
    "accept": ("BEFORE", ["--before", "{}"]),
    "approve": ("BECAUSE", ["--because", "{}"]),
    "compare": ("PULL", ["--pull", "{}"]),
    "deploy": ("TO", ["--to", "{}"]),
    "history": ("AT", ["--at", "{}"]),
    "prune": ("KEEP", ["--keep", "{}"]),
    "quarantine": ("EVENT", ["--event", "{}", "--because", ""]),
    "release": ("TAG", ["--tag", "{}"]),
    "report": ("PULL", ["--pull", "{}"]),
    "rollback": ("TO", ["--to", "{}", "--because", ""]),
    "try": ("SET", ["{}"]),
    "undeploy": ("TO", ["--to", "{}"]),
    "validate": ("PULL", ["--pull", "{}"]),
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


def test_what_is_not_given_is_not_passed_on(baked):
    project, told = baked
    for verb in ("accept", "compare", "deploy", "history", "prune"):
        for nothing in ({}, {GIVEN[verb][0]: ""}):
            assert json.loads(project.make("-s", verb, told, **nothing).stdout) == [verb]
    assert json.loads(project.make("-s", "image", told, PUSH="1").stdout) == ["image", "--push"]


def test_two_files_reach_predict_in_their_order(baked):
    project, told = baked
    done = project.make("-s", "predict", told, IN="$(touch planted).csv", OUT="of `touch planted`.csv")
    assert json.loads(done.stdout) == ["predict", "$(touch planted).csv", "of `touch planted`.csv"]
    assert not (project.path / "planted").exists()
