"""Risk: the page about the workflows says what they did once."""

import json
import runpy
import shutil

import pytest
from conftest import ROOT

PAGE = ROOT / "docs" / "workflows.md"


@pytest.fixture(scope="module")
def tool():
    return runpy.run_path(str(ROOT / "tools" / "workflows.py"))


def test_the_page_is_what_make_docs_would_write_now(tool):
    assert tool["page"]() == PAGE.read_text(), "run `make docs`"


def test_what_was_found_by_replacing_commands_was_found_in_the_workflows_as_they_are_now(tmp_path):
    """Where a workflow has changed since, its commands are to be replaced again: `make bench-workflows`."""
    bench = runpy.run_path(str(ROOT / "bench" / "workflow_coverage.py"))
    measured, workflows = json.loads(bench["RESULTS"].read_text()), bench["generated"](tmp_path)
    assert {name: told["sha256"] for name, told in measured.items()} == {
        name: bench["digest"](text) for name, text in workflows.items()
    }
    told = {f"{name}/{place}": each for name, one in measured.items() for place, each in one["commands"].items()}
    assert {place: each["run"] for place, each in told.items()} == bench["commands"](workflows)
    for place, each in told.items():
        assert each["fails"], f"no test fails without {place}"
        file, _, test = each["fails"].partition("::")
        assert f"def {test.partition('[')[0]}(" in (ROOT / file).read_text(), f"{test} is gone"


def test_a_command_that_no_test_misses_is_shown_as_such(tool):
    each = {"run": "a | b", "executed": 2, "fails": None}
    found = {"ci": {"commands": {"test/Check": each, "ci/Gate": each | {"fails": "tests/x.py::test_a_b[c]"}}}}
    text = tool["commands"](found, ["ci", "other"])
    assert "Not asked yet: other." in text and "Not asked yet" not in tool["commands"](found, ["ci"])
    assert text.splitlines()[-2:] == [
        "| ci | test | `a \\| b` | 2 | **none** |",
        "| ci | ci | `a \\| b` | 2 | test a b[c] |",
    ]


WORKFLOW = """# Is it so?
# It is.
name: x

on:
  push:
    tags: ["v*"]
  schedule:
    - cron: "1 2 * * 3"
  workflow_dispatch:
    inputs:
      because:

permissions: {}

jobs:
  one:
    name: first
    timeout-minutes: 7
    permissions:
      contents: write # pushes
      issues: read
    environment:
      name: production
    env:
      A: ${{ secrets.LATER }}${{ vars.EARLIER }}
  two:
    needs: one
    permissions: {}
"""


def test_each_fact_about_a_job_reaches_the_page(tool):
    lines = tool["workflow"]("x", {"": WORKFLOW}, False).splitlines()
    assert lines[2] == "Is it so? It is."
    assert lines[4] == "Runs on push (tags `v*`), schedule `1 2 * * 3`, dispatch with `because`."
    one, two = lines[-2:]
    may, uses = "contents: write (pushes)<br>issues: read", "`secrets.LATER`, `vars.EARLIER`"
    assert one == f"| `one`, first |  | {may} | 7 | `production` | {uses} |"
    assert two == "| `two` | `one` | nothing |  |  |  |"


def test_what_differs_between_deployments_is_told_for_each_and_nothing_else_is_told_twice(tool):
    other = WORKFLOW.replace("secrets.LATER", "secrets.OTHER").replace(
        "  two:", "  three:\n    permissions: {}\n  two:"
    )
    text = tool["workflow"]("x", {"docker": WORKFLOW, "kubernetes": other}, False)
    assert "docker: `secrets.LATER`, `vars.EARLIER`<br>kubernetes: `secrets.OTHER`, `vars.EARLIER`" in text
    assert text.count("Is it so? It is.") == 1 and "| `two` | `one` | nothing |" in text
    assert "| `three` (kubernetes only) |" in text
    assert "Only for docker." in tool["workflow"]("x", {"docker": WORKFLOW}, True)


def test_the_page_follows_a_change_of_a_workflow(tool, tmp_path):
    folder = tmp_path / "workflows"
    shutil.copytree(ROOT / ".github" / "workflows", folder)
    before = tool["chapter"]("The template", {"": folder})
    assert before in PAGE.read_text()
    ci = folder / "ci.yml"
    ci.write_text(ci.read_text().replace("timeout-minutes: 55", "timeout-minutes: 56"))
    assert tool["chapter"]("The template", {"": folder}) == before.replace("| 55 |", "| 56 |") != before
