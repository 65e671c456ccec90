"""Risk: copier, or the portable edition, makes another repository than cookiecutter, so an update would undo it."""

import io
import json
import re
import shutil
import subprocess
import sys
import zipfile
from functools import cache
from itertools import product
from pathlib import Path

import copier
import copier._main
import jinja2
import pytest
import yaml
from conftest import DEFAULTS, OPTIONS, QUESTIONS, ROOT, TEMPLATE, generate
from cookiecutter.main import cookiecutter
from copier.errors import CopierError

from conveyor.core import seal

sys.path.insert(0, str(ROOT / "tools"))
import copier_yml  # noqa: E402 (the tools are no package: the line before leads to them)
import portable  # noqa: E402 (the same)

ANSWERS = ".copier-answers.yml"
SETTINGS = json.loads((ROOT / "cookiecutter.json").read_text())
ODD = "Says \"late\" or 'on time', 50 % of <days>, at C:\\temp, é 日本 😀"
COMBINATIONS = [dict(zip(OPTIONS, chosen, strict=True)) for chosen in product(*OPTIONS.values())]


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """What copier reads, without a git repository around it: what is not committed counts."""
    place = tmp_path_factory.mktemp("template")
    shutil.copy(ROOT / "copier.yml", place)
    shutil.copytree(TEMPLATE, place / TEMPLATE.name)
    return place


def copied(template: Path, place: Path, *excluded: str, **answers: str) -> Path:
    copier.run_copy(str(template), place, data=answers, defaults=True, quiet=True, exclude=["__pycache__", *excluded])
    return place


def contents(place: Path, *left_out: str) -> dict[str, bytes]:
    files = (path for path in place.rglob("*") if path.is_file())
    named = {path.relative_to(place).as_posix(): path for path in files}
    return {name: path.read_bytes() for name, path in named.items() if not name.startswith((".git/", *left_out))}


def test_copier_asks_what_cookiecutter_asks():
    assert (ROOT / "copier.yml").read_text() == copier_yml.text(SETTINGS), "run `make seal`"
    asked = {key: value for key, value in yaml.safe_load((ROOT / "copier.yml").read_text()).items() if key in QUESTIONS}
    assert {key: value["default"] for key, value in asked.items()} == DEFAULTS and list(asked) == list(QUESTIONS)
    assert {key: list(value["choices"].values()) for key, value in asked.items() if "choices" in value} == OPTIONS


def test_the_version_of_what_is_generated_is_that_of_the_seal():
    assert SETTINGS["_version"] == seal.read(TEMPLATE)[0], "run `make seal`"


def test_copier_makes_the_same_bytes(bake, template, tmp_path):
    project = bake(description=ODD, project="Night-Trains", owner="ada-lovelace")
    made = copied(template, tmp_path / "made", **project.options)
    assert contents(made) == contents(project.path)
    assert len(contents(made)) > 150


@pytest.fixture(scope="module")
def rendered(template, tmp_path_factory):
    """The template less what no answer changes: the machinery (test_seal.py shows it), data and locks."""
    place = shutil.copytree(template, tmp_path_factory.mktemp("rendered") / "template")
    shutil.copy(ROOT / "cookiecutter.json", place)
    for name in ("src/conveyor", "data", "requirements"):
        shutil.rmtree(place / TEMPLATE.name / name)
    return place


@pytest.fixture(scope="module")
def compiled():
    """Compiles a template once for each of the two renderers: no answer is known then.

    And copier does not start git for each file: git finds no repository here. The test above runs without this.
    """
    compile_ = jinja2.Environment.compile

    @cache
    def first(key, source, *more):
        return compile_(environments[key], source, *more)

    environments = {}

    def compiled(self, source, *more):
        key = (type(self), jinja2.lexer.get_lexer(self), tuple(self.extensions))
        environments[key] = self
        return first(key, source, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jinja2.Environment, "compile", compiled)
        patch.setattr(copier._main, "is_git_available", lambda: False)
        yield


@pytest.mark.parametrize("answers", COMBINATIONS, ids=lambda answers: "-".join(answers.values()))
@pytest.mark.usefixtures("compiled")
def test_copier_makes_the_same_bytes_of_every_combination_of_answers(rendered, tmp_path, answers):
    made = copied(rendered, tmp_path / "made", **answers)
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({key: str(tmp_path / "kept") for key in ("cookiecutters_dir", "replay_dir")}))
    baked = cookiecutter(
        str(rendered), no_input=True, extra_context=answers, output_dir=str(tmp_path), config_file=str(config)
    )
    assert contents(made) == contents(Path(baked)) and len(contents(made)) > 50


@pytest.mark.parametrize(
    ("source", "written"),
    [
        ("gh:ada/conveyor", "gh:ada/conveyor"),
        ("https://example.com/ada/conveyor.git", "https://example.com/ada/conveyor.git"),
        ("git@example.com:ada/conveyor.git", "git@example.com:ada/conveyor.git"),
        ("https://example.com/conveyor-1.0.0-portable.zip", SETTINGS["_address"]),
        ("/home/ada/conveyor", SETTINGS["_address"]),
        ("../conveyor", SETTINGS["_address"]),
        ("C:\\conveyor", SETTINGS["_address"]),
    ],
)
def test_a_repository_knows_its_template_by_an_address_and_never_by_a_local_path(source, written):
    from cookiecutter.environment import StrictEnvironment

    text = (TEMPLATE / ANSWERS).read_text()
    environment = StrictEnvironment(context={"cookiecutter": SETTINGS}, **SETTINGS["_jinja2_env_vars"])
    description = json.dumps(DEFAULTS["description"])
    answers = {**SETTINGS, **DEFAULTS, "__description": description, "_template": source}
    said = yaml.safe_load(environment.from_string(text).render(cookiecutter=answers))
    assert said.pop("_src_path") == written and said.pop("_commit") == f"v{SETTINGS['_version']}"
    assert said == DEFAULTS


def test_what_was_answered_stands_in_the_repository(bake):
    options = DEFAULTS | {"description": ODD, "deploy": "kubernetes", "python": "3.11", "license": "Proprietary"}
    said = yaml.safe_load((bake(**options).path / ANSWERS).read_text())
    assert {key: value for key, value in said.items() if not key.startswith("_")} == options


@pytest.mark.parametrize(
    "answers",
    [
        *({"project": bad} for bad in ("", "a--b", "1a", "a_b", "a" * 61)),
        *({"owner": bad} for bad in ("", "-a", "a b")),
        *({"description": bad} for bad in ("", "  ", "a << b", "a <% b", "#% if", "a\nb")),
    ],
    ids=str,
)
def test_copier_refuses_what_cookiecutter_refuses(template, tmp_path, answers):
    with pytest.raises((CopierError, ValueError)):
        copied(template, tmp_path / "made", **answers)
    assert not (tmp_path / "made").exists()
    assert generate(tmp_path, check=False, **answers).returncode


@pytest.fixture(scope="module")
def edition(tmp_path_factory):
    """The zip file of what is here."""
    place = tmp_path_factory.mktemp("portable")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    names = [name for name in listed.split("\0") if name and (ROOT / name).is_file()]
    archive = subprocess.run(
        ["tar", "--create", "--null", "--files-from=-"],
        cwd=ROOT,
        input="\0".join(names).encode(),
        capture_output=True,
        check=True,
    ).stdout
    (place / "conveyor.zip").write_bytes(portable.packed(archive, "conveyor-1.0.0"))
    return place / "conveyor.zip"


def test_the_portable_edition_holds_no_name_that_windows_forbids(edition):
    with zipfile.ZipFile(edition) as packed:
        names = packed.namelist()
    assert len(names) > 150 and {name.split("/")[0] for name in names} == {"conveyor-1.0.0"}
    assert not [name for name in names if re.search(r'[<>:"|?*\\]', name) or len(name) > 180]


@pytest.mark.parametrize(
    "answers", [{}, {"deploy": "kubernetes", "license": "Apache-2.0", "description": ODD}], ids=str
)
def test_the_portable_edition_makes_the_same_bytes(bake, edition, tmp_path, answers):
    generate(tmp_path, template=edition, **answers)
    assert contents(tmp_path / "late-flights") == contents(bake(**answers).path)


def test_the_portable_edition_refuses_its_own_marks(edition, tmp_path):
    done = generate(tmp_path, template=edition, check=False, description="{= 7 * 7 =}")
    assert done.returncode and "leave out {~, {!, #%, {=: they mark the template's own parts" in done.stderr
    assert not (tmp_path / "late-flights").exists()


def test_a_text_that_holds_the_other_marks_is_refused_by_name():
    with pytest.raises(ValueError, match="hooks/x.py: holds {=, "):
        portable.packed(archive_of({"hooks/x.py": b"print(f'{=}')"}), "x")


def archive_of(files: dict[str, bytes]) -> bytes:
    import tarfile

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()
