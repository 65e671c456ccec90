"""Risk: a stand-in takes or gives what the real action would not, and a workflow that fails on GitHub passes here."""

import copy
import json
import subprocess
import sys
from hashlib import sha256

import act
import actions  # of tools/, to which pinned.py leads
import pytest
from conftest import ROOT
from pinned import RECORD, described, faults_of_outputs, faults_of_standin, faults_of_step, standins

CHECKOUT = RECORD["actions/checkout"]
STEP = {"uses": f"actions/checkout@{CHECKOUT['commit']}", "with": {"fetch-depth": 0}}
DESCRIPTION = """
inputs:
  one: {description: of no importance, default: yes, required: true}
  two: {default: 010}
  three: {default: null, deprecationMessage: say two}
  four:
outputs:
  out: {description: the same}
runs: {using: node24, main: index.js}
"""
DECLARED = {
    "inputs": {
        "one": {"default": "yes", "required": True},
        "two": {"default": "010", "required": False},
        "three": {"default": None, "required": False, "deprecated": "say two"},
        "four": {"default": None, "required": False},
    },
    "outputs": ["out"],
    "using": "node24",
}


# --- Stand-ins and steps against the record ---------------------------------------------------------------------------


def test_there_is_a_stand_in_for_each_recorded_action_and_none_differs_from_it():
    found = standins()
    assert set(found) == set(RECORD)
    assert not [fault for action, told in found.items() for fault in faults_of_standin(action, told)]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"inputs": {"fetch-dept": {"default": "1", "required": False}}}, "actions/checkout has no input fetch-dept"),
        (
            {"inputs": {"fetch-depth": {"default": "0", "required": False}}},
            "default of the input fetch-depth of actions/checkout is '1', of its stand-in '0'",
        ),
        (
            {"inputs": {"path": {"default": "", "required": False}}},
            "default of the input path of actions/checkout is None, of its stand-in ''",
        ),
        (
            {"inputs": {"path": {"default": None, "required": True}}},
            "required of the input path of actions/checkout is False, of its stand-in True",
        ),
        ({"outputs": ["commit", "sha"]}, "actions/checkout has no output sha"),
    ],
    ids=["input", "default", "no-default", "required", "output"],
)
def test_a_stand_in_that_differs_from_the_record_is_named_with_what_differs(change, fault):
    told = standins()["actions/checkout"]
    assert faults_of_standin("actions/checkout", told) == []
    assert faults_of_standin("actions/checkout", told | change) == [fault]
    assert faults_of_standin("a/b", told) == ["a/b is not in the record of tools/actions.py"]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"commit": "f" * 40}, f"actions/checkout is pinned at {CHECKOUT['commit']}, and recorded at {'f' * 40}"),
        ({"using": "node20"}, "actions/checkout runs on node20, and runners start node24"),
        ({"using": "composite: a/b@v1"}, "actions/checkout runs on composite: a/b@v1, and runners start node24"),
        ({"inputs": {}}, "actions/checkout has no input fetch-depth"),
        (
            {"inputs": {"fetch-depth": {"default": "1", "required": False, "deprecated": "say depth"}}},
            "the input fetch-depth of actions/checkout is deprecated: say depth",
        ),
        (
            {"inputs": CHECKOUT["inputs"] | {"why": {"default": None, "required": True}}},
            "actions/checkout requires the input why",
        ),
    ],
    ids=["commit", "node", "composite", "input", "deprecated", "required"],
)
def test_a_step_is_held_against_the_record(change, fault):
    assert faults_of_step(STEP) == []
    assert faults_of_step(STEP, RECORD | {"actions/checkout": CHECKOUT | change}) == [fault]
    assert faults_of_step({"uses": "a/b@v1"}) == ["a/b is not in the record of tools/actions.py"]


def test_a_required_input_is_given_by_its_default_or_a_value_and_by_nothing_empty():
    record = copy.deepcopy(RECORD)
    record["actions/checkout"]["inputs"]["ref"]["required"] = True
    for value, right in (("main", True), ("", False), (None, False), (False, True)):
        assert (faults_of_step(STEP | {"with": {"ref": value}}, record) == []) == right, value
    record["actions/checkout"]["inputs"]["ref"]["default"] = "main"
    assert faults_of_step(STEP, record) == []


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("${{ steps.a.outputs.commit }} ${{ steps.b.outputs.any }}", []),
        ("${{ steps.a.outputs.sha }}", ["actions/checkout has no output sha"]),
        ("${{ steps['a'].outputs[ 'sha' ] }}", ["actions/checkout has no output sha"]),
        ("${{ toJSON(steps.a.outputs) }}", ["name the outputs of a one by one"]),
    ],
)
@pytest.mark.parametrize("where", ["outputs", "env", "if"])
def test_an_output_that_is_read_anywhere_is_one_of_its_action(where, text, faults):
    steps = [STEP | {"id": "a"}, {"id": "b", "run": "true"}, {"uses": "$/.github/actions/setup", "id": "c"}]
    place = {where: {"x": text}, "steps": steps}
    assert faults_of_outputs(place, steps) == faults
    if not faults:
        assert faults_of_outputs(place, steps, standins()) == ["actions/checkout has no output commit"]


def test_the_harness_refuses_a_stand_in_that_differs_from_the_record(monkeypatch, tmp_path):
    told = standins()
    assert act._replacements({}, [STEP], tmp_path) == {STEP["uses"]}
    told["actions/checkout"]["inputs"]["fetch-depth"]["default"] = "0"
    monkeypatch.setattr("pinned.standins", lambda: told)
    with pytest.raises(act.ActError, match="default of the input fetch-depth of actions/checkout"):
        act._replacements({}, [STEP], tmp_path)


# --- The tool that makes the record -----------------------------------------------------------------------------------


def test_the_record_is_of_what_the_workflows_pin_and_in_the_form_of_its_tool():
    assert actions.pins(ROOT) == {action: (told["commit"], told["version"]) for action, told in RECORD.items()}
    assert actions.TARGET.read_text() == json.dumps(RECORD, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    for told in RECORD.values():
        assert set(told) == {"commit", "version", "sha256", "inputs", "outputs", "using"} and len(told["sha256"]) == 64


def test_an_action_gets_a_default_as_it_is_written():
    """YAML 1.1 would read `yes` as true and 010 as 8; no default and null are the same."""
    assert described(DESCRIPTION) == DECLARED


def test_what_a_composite_action_uses_is_recorded_and_has_to_be_pinned():
    inner = f"a/b@{'1' * 40}"
    text = f"runs: {{using: composite, steps: [{{run: x}}, {{uses: {inner}}}, {{uses: {inner}}}]}}"
    using = described(text)["using"]
    assert using == f"composite: {inner}, {inner}"
    assert faults_of_step(STEP, RECORD | {"actions/checkout": CHECKOUT | {"using": using}}) == []
    assert described("runs: {using: composite, steps: [{run: x}]}")["using"] == "composite"


@pytest.mark.parametrize(
    "text", ["", "- a", "inputs: {}", "runs: {}", "runs: node24", "a: [", "{runs: {using: a}, inputs: b}"]
)
def test_what_describes_no_action_is_refused(text):
    with pytest.raises(ValueError, match="^describes no action [^\n]+$"):
        described(text)


@pytest.fixture
def repository(tmp_path):
    """repository(place, files, tag) -> the commit of a new repository in a folder of checkouts."""

    def make(place="acme/tool", name="action.yml", text=DESCRIPTION, tag="v1.0.0"):
        folder = tmp_path / "checkouts" / place
        folder.mkdir(parents=True)
        act.git(folder, "init", "-q", "-b", "main")
        (folder / name).write_text(text)
        act.git(folder, "add", "-A")
        act.git(folder, "commit", "-q", "-m", "One")
        if tag:
            act.git(folder, "tag", "-m", "annotated", tag)
        commit = act.git(folder, "rev-parse", "HEAD")
        (folder / name).write_text("what is checked out does not count")
        act.git(folder, "commit", "-q", "-a", "-m", "Two")
        return commit

    return make


def bare(checkouts):
    """The same repositories as bare git directories, CHECKOUTS/OWNER+NAME/repo."""
    (checkouts / "acme+tool").mkdir()
    (checkouts / "acme/tool/.git").rename(checkouts / "acme+tool/repo")
    act.git(checkouts / "acme+tool/repo", "config", "core.bare", "true")


def bare_without_plus(checkouts):
    (checkouts / "acme/tool/.git").rename(checkouts / "acme/bare")
    (checkouts / "acme/tool").rename(checkouts / "acme/old")
    (checkouts / "acme/bare").rename(checkouts / "acme/tool")


@pytest.mark.parametrize("layout", [lambda checkouts: None, bare, bare_without_plus], ids=["tree", "plus", "bare"])
@pytest.mark.parametrize("name", ["action.yml", "action.yaml"])
def test_an_action_is_read_at_its_pinned_commit_from_a_clone_or_a_git_directory(repository, tmp_path, layout, name):
    commit = repository(name=name)
    layout(tmp_path / "checkouts")
    assert actions.record(tmp_path / "checkouts", {"acme/tool": (commit, "v1.0.0")}) == {
        "acme/tool": DECLARED
        | {"commit": commit, "version": "v1.0.0", "sha256": sha256(DESCRIPTION.encode()).hexdigest()}
    }


def test_a_version_is_that_of_its_tag_unless_the_clone_has_no_tags(repository, tmp_path):
    checkouts, commit = tmp_path / "checkouts", repository(tag="")
    assert actions.record(checkouts, {"acme/tool": (commit, "v9.9.9")})["acme/tool"]["version"] == "v9.9.9"
    act.git(checkouts / "acme/tool", "tag", "v1.0.0", "HEAD")
    head = act.git(checkouts / "acme/tool", "rev-parse", "HEAD")
    for version, words in (("v1.0.0", f"its tag v1.0.0 is {head}"), ("v1.1.0", "it has no tag v1.1.0")):
        with pytest.raises(actions.Refused, match=f"pinned at {commit} as {version}, but {words}; mend"):
            actions.record(checkouts, {"acme/tool": (commit, version)})


@pytest.mark.parametrize(
    ("made", "commit", "error", "words"),
    [
        ({"place": "acme/other"}, None, "Misuse", "no git repository of acme/tool; clone it to"),
        ({}, "f" * 40, "Misuse", f"has no commit {'f' * 40}, at which acme/tool is pinned; fetch it there"),
        ({"name": "README"}, None, "Refused", "acme/tool has no action.yml at"),
        ({"text": "name: x"}, None, "Refused", "action.yml at .* describes no action"),
    ],
    ids=["checkout", "commit", "no-action", "bad-action"],
)
def test_what_cannot_be_recorded_is_one_line(repository, tmp_path, made, commit, error, words):
    head = repository(**made)
    commit = commit or head
    (tmp_path / "checkouts/acme/tool").mkdir(parents=True, exist_ok=True)
    act.git(tmp_path, "init", "-q")  # a repository around the folder is not that of the action
    with pytest.raises(getattr(actions, error), match=words) as told:
        actions.record(tmp_path / "checkouts", {"acme/tool": (commit, "v1.0.0")})
    assert "\n" not in str(told.value)


def test_a_tag_object_is_no_commit_to_pin(repository, tmp_path):
    repository()
    tag = act.git(tmp_path / "checkouts/acme/tool", "rev-parse", "v1.0.0")
    with pytest.raises(actions.Misuse, match=f"has no commit {tag}"):
        actions.record(tmp_path / "checkouts", {"acme/tool": (tag, "v1.0.0")})


@pytest.fixture
def template(tmp_path):
    """template(lines, ...) -> a template with a workflow of its own, and one of its product, of these lines."""

    def make(own, product=""):
        for folder, line in ((".github/workflows", own), ("<<cookiecutter.project>>/.github/actions/a", product)):
            path = tmp_path / "template" / folder / "a.yml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"steps:\n{line}\n")
        return tmp_path / "template"

    return make


A, B = "a" * 40, "b" * 40


def test_the_pins_are_those_of_the_template_and_of_the_product(template):
    root = template(
        f"  - uses: acme/tool@{A} # v1.0.0\n  - uses: ./.github/b", f"    uses: acme/b@{B} # v1.2.3 # uses: c"
    )
    with pytest.raises(actions.Refused, match="v1.2.3 # uses: c`; pin it as owner/name@"):
        actions.pins(root)
    root = template(
        f"  - uses: acme/tool@{A} # v1.0.0\n  - uses: $/.github/b\n # uses: c", f"    uses: acme/b@{B} # v1.2.3"
    )
    assert actions.pins(root) == {"acme/b": (B, "v1.2.3"), "acme/tool": (A, "v1.0.0")}


@pytest.mark.parametrize(
    ("own", "product", "words"),
    [
        (
            f"- uses: acme/tool@{A} # v1.0.0",
            f"- uses: acme/tool@{B} # v1.0.0",
            f"at {B} .v1.0.0., and at {A} .v1.0.0. in",
        ),
        (
            f"- uses: acme/tool@{A} # v1.0.0",
            f"- uses: acme/tool@{A} # v1.0.1",
            f"at {A} .v1.0.1., and at {A} .v1.0.0. in",
        ),
        ("- uses: acme/tool@v1", "", ".github/workflows/a.yml:2: `- uses: acme/tool@v1`; pin it as"),
        (f"- uses: acme/tool@{A}", "", "pin it as owner/name@<40 digits of its commit> # vX.Y.Z"),
        (f"- {{uses: acme/tool@{A}}} # v1.0.0", "", "pin it as"),
        (f"- uses: acme/tool/sub@{A} # v1.0.0", "", "pin it as"),
        ("- run: true", "", "no workflow there uses an action"),
    ],
    ids=["two-commits", "two-versions", "tag", "no-version", "braces", "sub-folder", "none"],
)
def test_a_pin_that_cannot_be_recorded_is_one_line(template, own, product, words):
    with pytest.raises(actions.Refused, match=words) as told:
        actions.pins(template(own, product))
    assert "\n" not in str(told.value)


def test_the_same_checkouts_give_the_same_bytes_and_other_ones_a_line_and_no_record(
    repository, template, tmp_path, monkeypatch
):
    commit = repository()
    root = template(f"  - uses: acme/tool@{commit} # v1.0.0")
    monkeypatch.setattr(actions, "ROOT", root)
    monkeypatch.setattr(actions, "TARGET", root / "actions.json")
    monkeypatch.setattr(sys, "argv", ["actions.py", str(tmp_path / "checkouts")])
    assert actions.main() == "actions   1 recorded in actions.json"
    text = (root / "actions.json").read_text()
    assert text.endswith("}\n") and json.loads(text)["acme/tool"]["commit"] == commit
    assert actions.main() and (root / "actions.json").read_text() == text

    before = actions.__file__, (ROOT / "tests/standins/actions.json").read_bytes()
    for arguments, words in (
        ([tmp_path], "no git repository of actions/attest"),
        ([], "usage: python tools/actions.py"),
    ):
        done = subprocess.run([sys.executable, before[0], *arguments], capture_output=True, text=True)
        assert done.returncode == 2 and not done.stdout
        assert done.stderr.startswith("error: ") and words in done.stderr and done.stderr.count("\n") == 1
    assert (ROOT / "tests/standins/actions.json").read_bytes() == before[1]
