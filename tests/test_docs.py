"""Risk: the page about the workflows says what they did once."""

import runpy
import shutil

import pytest
from conftest import ROOT

PAGE = ROOT / "docs" / "workflows.md"


@pytest.fixture(scope="module")
def tool():
    return runpy.run_path(str(ROOT / "tools" / "workflows.py"))


def test_the_page_is_what_make_docs_would_write_now(tool):
    text = PAGE.read_text()
    assert tool["page"](tool["kept"](text)) == text, "run `make docs`"


def test_the_tables_of_the_coverage_are_kept_as_they_are(tool):
    block = f"{tool['BEGIN']}\n\n| a \\1 | table |\n\n{tool['END']}"
    assert tool["kept"](f"before\n{block}\nafter\n") == block
    assert tool["kept"]("nothing yet") == f"{tool['BEGIN']}\n{tool['END']}"


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
    before = tool["house"]("The template", {"": folder})
    assert before in PAGE.read_text()
    ci = folder / "ci.yml"
    ci.write_text(ci.read_text().replace("timeout-minutes: 90", "timeout-minutes: 91"))
    assert tool["house"]("The template", {"": folder}) == before.replace("| 90 |", "| 91 |") != before
