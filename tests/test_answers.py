"""Risk: an answer is not what it should be. It is refused in one line, or it stays data."""

import ast
import json
import re
import shutil
import tomllib
from importlib.metadata import packages_distributions

import pytest
import yaml
from conftest import DEFAULTS, OPTIONS, ROOT, TEMPLATE, generate

NAME = "use letters, digits and single hyphens, first a letter, last no hyphen, at most 60 characters"
ACCOUNT = "use a GitHub account name: letters, digits and single hyphens inside, at most 39 characters"
LINE = "write one line of text, without control characters"
MARKS = "leave out <%, <#, #%, <<: they mark the template's own parts"
HOSTILE = (
    """Say "hi", it's ''' and \"\"\" \\" \\ \\n $(touch pwned) `touch pwned` ${HOME} {{ 7431 }} {% raw %} é漢🛫 \\"""
)


@pytest.fixture
def output(tmp_path):
    """Where to generate: one level down, so that what is written beside it is seen."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def written(output) -> list[str]:
    return [str(path) for path in output.parent.rglob("*") if path != output]


def assert_refused(output, *lines: str, **answers: str) -> None:
    refused = generate(output, check=False, **answers)
    assert refused.stderr.splitlines() == list(lines)
    assert refused.returncode == 1
    assert written(output) == []


@pytest.mark.parametrize(
    "project",
    [
        "",
        ".",
        "..",
        "../evil",
        "a/b",
        "/evil",
        "a\\b",
        "a b",
        "a_b",
        "a.git",
        "1st",
        "-a",
        "a-",
        "a--b",
        "a\n",
        "å",
        "a" * 61,
    ],
)
def test_a_name_that_no_repository_can_have_is_refused_and_nothing_is_written(output, project):
    assert_refused(output, f"project {project!r}: {NAME}", project=project)


@pytest.mark.parametrize(
    "project",
    ["class", "JSON", "unittest", "sklearn", "Great-Expectations", "tests", "con", "LPT1", "Conveyor", "copier"],
)
def test_a_name_that_is_taken_is_refused_with_another_one(output, project):
    mend = f"a name of Python, Windows, a library or the machinery, add a word: '{project}-model'"
    assert_refused(output, f"project {project!r}: {mend}", project=project)


def refusal(project: str) -> str | None:
    """What the hook says to a name, run in this process: as Cookiecutter would run it, for a hundred names."""
    settings = json.loads((ROOT / "cookiecutter.json").read_text())
    package = project.lower().replace("-", "_")
    answers = {**settings, **DEFAULTS, "project": project, "__project": project, "__package": package}
    given = re.sub("<< .* >>", lambda _: json.dumps([{}, answers]), (ROOT / "hooks/pre_gen_project.py").read_text())
    with pytest.raises(SystemExit) as ended:
        exec(compile(given, "pre_gen_project.py", "exec"), {})
    return ended.value.code


def test_every_name_that_the_locks_install_is_taken():
    """A package of such a name would hide the library, and what imports it would break."""

    def normal(name: str) -> str:
        return re.sub("[-_.]+", "-", name).lower()

    lock = (TEMPLATE / "requirements/dev.txt").read_text()
    locked = set(map(normal, re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)))
    imported = {
        name
        for name, packages in packages_distributions().items()
        if locked & set(map(normal, packages)) and not name.startswith("_")
    }
    own = {path.stem for path in (TEMPLATE / "tests").glob("*.py")}
    assert {"attr", "narwhals", "requests", "sklearn", "threadpoolctl"} <= imported
    names = sorted(imported | own | {name.replace("-", "_") for name in locked} | {"pip", "setuptools"})
    assert [
        name for name in names if "a name of Python, Windows, a library" not in str(refusal(name.replace("_", "-")))
    ] == []
    assert refusal("late-flights") is None and refusal("requests-model") is None


@pytest.mark.parametrize(
    "owner", ["", "-a", "a-", "a--b", "a_b", "a b", "@a", "a/b", "a\n", "$(touch pwned)", "å", "a" * 40]
)
def test_an_owner_that_is_no_account_name_is_refused(output, owner):
    assert_refused(output, f"owner {owner!r}: {ACCOUNT}", owner=owner)


@pytest.mark.parametrize("description", ["", "  ", "two\nlines", "a\tb", "a\x1bb", "a\x7fb", "a\x85b", "a\u2028b"])
def test_a_description_that_is_not_one_line_of_text_is_refused(output, description):
    assert_refused(output, f"description {description!r}: {LINE}", description=description)


@pytest.mark.parametrize("key", ["project", "description", "owner"])
@pytest.mark.parametrize("value", ["<< 7 * 7 >>", "<% if true %>a<% endif %>", "a<# note #>"])
def test_the_template_s_own_marks_are_refused_as_they_were_given(output, key, value):
    assert_refused(output, f"{key} {value!r}: {MARKS}", **{key: value})


def test_every_bad_answer_gets_its_line(output):
    assert_refused(output, f"project 'a b': {NAME}", f"owner '': {ACCOUNT}", project="a b", owner="")


@pytest.mark.parametrize(("key", "value"), [("python", "3.9"), ("deploy", "swarm"), ("license", "GPL-3.0")])
def test_an_unsupported_choice_is_refused_with_the_supported_ones(output, key, value):
    """Cookiecutter refuses these itself, before any code of ours; its last line is the one that says why."""
    refused = generate(output, check=False, **{key: value})
    line = f"ValueError: {value} provided for choice variable {key}, but the choices are {OPTIONS[key]}."
    assert refused.stderr.splitlines()[-1] == line
    assert refused.returncode == 1
    assert written(output) == []


def test_the_longest_legal_answers_are_accepted(output):
    name = "a" + "-1" * 29 + "Z"
    generate(output, project=name, owner="a" * 39)
    assert [path.name for path in output.iterdir()] == [name]
    assert (output / name / "src" / name.lower().replace("-", "_")).is_dir()


def test_a_hostile_description_stays_text(output):
    generate(output, description=HOSTILE)
    metadata = tomllib.loads((output / "late-flights/pyproject.toml").read_text(encoding="utf-8"))
    assert metadata["project"]["description"] == HOSTILE
    assert not [path for path in output.rglob("*") if path.name == "pwned"]
    assert not (ROOT / "pwned").exists()


def test_a_hostile_description_does_not_reach_what_is_executed(bake):
    """GitHub expands `${{ }}`, make and the shell expand `$( )`: quoting for all of them at once is not possible."""
    texts = bake(description=HOSTILE).texts()
    holders = {path.as_posix() for path, text in texts.items() if "7431" in text}
    assert "pyproject.toml" in holders
    assert not [path for path in holders if path.startswith((".github/", "container/")) or path.endswith("Makefile")]


def test_a_description_is_one_literal_for_toml_yaml_json_and_python(tmp_path):
    """`__description` is what templates use; `tojson` writes surrogate pairs, which TOML and YAML refuse."""
    for part in ("cookiecutter.json", "hooks"):
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copyfile
        copy(ROOT / part, tmp_path / part)
    (tmp_path / TEMPLATE.name).mkdir()
    (tmp_path / TEMPLATE.name / "literal").write_text("<< cookiecutter.__description >>\n")
    generate(tmp_path, description=HOSTILE, template=tmp_path)
    literal = (tmp_path / "late-flights/literal").read_text(encoding="utf-8")
    assert json.loads(literal) == ast.literal_eval(literal) == yaml.safe_load(literal) == HOSTILE
    assert tomllib.loads(f"text = {literal}")["text"] == HOSTILE
