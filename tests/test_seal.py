"""Risk: nobody knows which files are the machinery's, a stale seal is shipped, or a changed file goes unseen."""

import json
import re
from itertools import product

import pytest
from conftest import OPTIONS, ROOT, TEMPLATE

from conveyor.core import seal


def own(project, *names: str) -> None:
    project.edit("pyproject.toml", "owned = []", f"owned = {json.dumps(names)}")


def linked(file) -> None:
    """The same bytes, elsewhere."""
    file.symlink_to(file.rename(file.with_name("elsewhere")))


def added(file) -> None:
    file.parent.mkdir(exist_ok=True)
    file.touch()


def test_the_seal_of_the_template_is_that_of_its_files():
    assert seal.check(TEMPLATE, []).startswith("the machinery is that of version "), "run `make seal`"


def test_the_machinery_is_the_same_bytes_whatever_was_answered(bake):
    known = seal.sealed(TEMPLATE)
    assert len(known) > 100
    for deploy, python in product(OPTIONS["deploy"], OPTIONS["python"][:2]):
        project = bake(deploy=deploy, python=python, project="Night-Trains")
        assert seal.sealed(project.path) == known
        assert (project.path / seal.PLACE).read_bytes() == (TEMPLATE / seal.PLACE).read_bytes()


def test_no_file_under_the_seal_holds_what_is_rendered():
    for name in [*seal.sealed(TEMPLATE), seal.PLACE]:
        assert not re.search(rb"<<|<%|<#|^\s*#%", (TEMPLATE / name).read_bytes(), re.M), name


@pytest.mark.parametrize(
    "name, change, said",
    [
        ("src/conveyor/gate/decide.py", lambda file: file.write_bytes(file.read_bytes() + b"#\n"), "differs"),
        ("container/Caddyfile", lambda file: file.write_bytes(file.read_bytes()[:-1]), "differs"),
        ("src/conveyor/gate/more.py", lambda file: file.write_text("MORE = 1\n"), "was added"),
        ("container/kubernetes/base/more.yaml", lambda file: file.write_text("a: 1\n"), "was added"),
        ("src/conveyor/report/page.html.j2", lambda file: file.unlink(), "is missing"),
        ("container/edge.Dockerfile", lambda file: file.unlink(), "is missing"),
        ("container/Caddyfile", linked, "differs"),
        ("src/conveyor/more", lambda file: file.symlink_to("/usr/lib"), "was added"),
        ("src/conveyor/core/__pycache__/more.py", added, "was added"),
    ],
)
def test_a_file_that_is_not_that_of_the_version_is_named_with_what_can_be_done(project, one_line, name, change, said):
    version, _ = seal.read(project.path)
    assert project.cli("seal").stdout == f"seal      the machinery is that of version {version}\n"
    change(project.path / name)
    message = rf"seal: {re.escape(name)} {said}: not the machinery of version {version}; undo it with git, or own .*"
    one_line(project.cli("seal", check=False), 2, message)


def test_many_files_that_differ_are_counted(project, one_line):
    for file in sorted((project.path / "src/conveyor/core").glob("*.py")):
        file.write_bytes(file.read_bytes() + b"#\n")
    one_line(
        project.cli("seal", check=False), 2, r"seal: (src/conveyor/core/\w+\.py differs, ){4}.* and \d+ more: not .*"
    )


def test_a_file_that_the_team_owns_is_accepted_with_a_word(project):
    project.edit("container/Caddyfile", "idle 2m", "idle 3m")
    (project.path / "container/kubernetes/base/service-account.yaml").unlink()
    own(project, "container/Caddyfile", "container/kubernetes/base/service-account.yaml")
    said = project.cli("seal").stdout
    assert said.endswith(", but for container/Caddyfile, container/kubernetes/base/service-account.yaml\n")


@pytest.mark.parametrize(
    "old, new, message",
    [
        (
            "owned = []",
            'owned = ["src/late_flights/model.py"]',
            r".*\.owned: src/late_flights/model.py is no file of .*",
        ),
        ("owned = []", 'owned = "container/Caddyfile"', r".*\.owned: no list of paths; write it as \[.*"),
        ("owned = []", "ownd = []", "pyproject.toml: tool.conveyor: holds something else than `owned`; remove it"),
        ("[tool.conveyor]", "[[tool.conveyor]]", "pyproject.toml: tool.conveyor: holds something else than .*"),
        ("owned = []", "owned = [", r"pyproject.toml: .* \(at .*; mend it"),
    ],
)
def test_an_owned_file_that_is_none_is_refused(project, one_line, old, new, message):
    project.edit("pyproject.toml", old, new)
    one_line(project.cli("seal", check=False), 2, message)


@pytest.mark.parametrize("content", [None, "", "conveyor\n", "conveyor 1.0.0\nabc\n", b"\xff"])
def test_a_damaged_seal_is_no_seal(project, one_line, content):
    place = project.path / seal.PLACE
    place.unlink()
    if content is not None:
        place.write_bytes(content if isinstance(content, bytes) else content.encode())
    one_line(
        project.cli("seal", check=False),
        2,
        "src/conveyor/SEAL: (missing or )?damaged; `git checkout .*` brings it back",
    )


def test_its_owner_sees_whose_a_file_is(project):
    """What git lists is the machinery's, or one of these."""
    listed = set(project.git("ls-files", "src", "container").stdout.split())
    theirs = listed - seal.sealed(project.path).keys() - {seal.PLACE}
    overlays = {f"container/kubernetes/overlays/{where}" for where in ("production", "staging")}
    assert theirs == {
        *(f"src/{project.package}/{name}.py" for name in ("__init__", "model")),
        *(f"{overlay}/{name}.yaml" for overlay in overlays for name in ("kustomization", "namespace")),
        "container/base.Dockerfile",
        *(f"container/monitoring/{name}" for name in ("alerts.yaml", "alerts_test.yaml", "dashboard.json")),
    }
    files = ("src/conveyor/cli/base.py", f"src/{project.package}/model.py")
    folded = project.git("check-attr", "linguist-generated", *files)
    assert folded.stdout.splitlines()[0].endswith(": set") and folded.stdout.splitlines()[1].endswith(": unspecified")


def test_a_module_that_every_command_wants_is_named_when_it_is_gone(project, one_line):
    (project.path / "src/conveyor/core/tokens.py").unlink()
    message = "conveyor.core.tokens: the machinery lacks it; `git checkout src/conveyor` brings it back"
    one_line(project.cli("validate", check=False), 2, message)


def test_the_map_of_the_machinery_names_each_package_in_the_order_of_the_layers():
    shown = re.findall(r"^\| `(\w+)/` \|", (TEMPLATE / "src/conveyor/README.md").read_text(), re.M)
    held = re.search(r"^layers = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.M | re.S)[1]
    assert shown == [name for name in re.findall(r'"(\w+)"', held)]
    there = {path.name for path in (TEMPLATE / "src/conveyor").iterdir() if (path / "__init__.py").is_file()}
    assert set(shown) == there
