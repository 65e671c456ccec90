"""Risk: what a new user opens, reads or pastes on the first day does not work."""

import importlib.util
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import OPTIONS, ROOT, environment

from conveyor.core.params import load
from conveyor.update.template import origin

SETTINGS = json.loads((ROOT / "cookiecutter.json").read_text())
FOLDERS = {"template": ROOT, "product": ROOT / "<<cookiecutter.project>>"}


# The dev container


@pytest.fixture(params=OPTIONS["python"])
def container(request, bake):
    """A project, and what its devcontainer.json says."""
    project = bake(python=request.param)
    return project, json.loads((project.path / ".devcontainer" / "devcontainer.json").read_text())


def test_the_dev_container_is_the_python_of_image_and_workflows_and_no_root(container):
    project, said = container
    file = project.path / ".devcontainer" / said["build"]["dockerfile"]
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, "--no-color", file], capture_output=True, text=True, env=environment())
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
    (base,) = re.findall("^FROM (.*)$", file.read_text(), re.M)
    assert base == project.base.replace("-slim-", "-") and base.startswith(f"python:{project.options['python']}.")
    setup = yaml.safe_load((project.path / ".github/actions/setup/action.yml").read_text())
    assert setup["runs"]["steps"][0]["with"]["python-version"] == project.options["python"]
    assert re.findall(r"^RUN useradd .* (\S+)$", file.read_text(), re.M) == [said["remoteUser"]] != ["root"]


def test_the_dev_container_runs_verbs_and_forwards_ports_that_there_are(container):
    project, said = container
    assert said["postCreateCommand"] == "make setup" and said["name"] == project.options["project"]
    serving = load(project.path / "params.yaml").deploy.port
    ui = int(re.search(r"--port .*\[default: (\d+);", project.cli("ui", "--help").stdout)[1])
    assert said["forwardPorts"] == [serving, ui]
    labels = [said["portsAttributes"].pop(str(port))["label"] for port in (serving, ui)]
    assert not said["portsAttributes"]
    verbs = re.findall(r"(?m)^([a-z-]+):", (project.path / "Makefile").read_text())
    for command in [said["postCreateCommand"], *labels]:
        make, *words = command.split()
        assert make == "make" and words and set(words) <= set(verbs)


def test_the_dev_container_holds_no_secret_and_names_the_version_of_what_it_adds(container):
    _, said = container
    known = {"name", "build", "features", "remoteUser", "postCreateCommand", "forwardPorts", "portsAttributes"}
    assert set(said) == known and set(said["build"]) == {"dockerfile"}
    assert said["features"] and all(re.fullmatch(r"ghcr\.io/\S+:\d+\.\d+\.\d+", name) for name in said["features"])
    assert "$" not in json.dumps(said), "no variable of the machine"


# The list of verbs


@pytest.mark.parametrize("folder", FOLDERS)
def test_make_lists_each_verb_that_says_what_it_does_below_one_heading(folder):
    place = FOLDERS[folder]
    done = subprocess.run(["make", "-s"], cwd=place, env=environment(), capture_output=True, text=True, check=True)
    headings, listed = [], {}
    for line in done.stdout.splitlines():
        assert len(line) <= 100, line
        if re.match(r"\S", line):
            headings.append(line)
            verb = None
        elif found := re.match(r"  (\S+) +(\S.*)", line):
            verb = found[1]
            assert headings and verb not in listed, verb
            listed[verb] = (headings[-1], found[2])
        elif line:
            assert re.match(r" {15,19}\S", line) and verb, line
            listed[verb] = (listed[verb][0], f"{listed[verb][1]} {line.strip()}")
    makefile = (place / "Makefile").read_text()
    explained = dict(re.findall(r"(?m)^([a-z-]+):.*?  ## (.*)$", makefile))
    assert {verb: text for verb, (_, text) in listed.items()} == explained and len(explained) > 20
    assert {heading for heading, _ in listed.values()} == set(headings), "none is empty"
    assert len(set(headings)) == len(headings) > 4
    assert makefile.count("\n## ") == len(headings)


def test_the_glossary_tells_ten_words_that_the_pages_use(project):
    rows = re.findall(r"(?m)^\| (\w[^|]*) \| (\w[^|]*) \|$", (project.path / "docs" / "glossary.md").read_text())
    words = [word for cell, _ in rows[1:] for word in cell.split(", ")]
    assert rows[0][0] == "word" and len(words) >= 10 and len(set(words)) == len(words)
    pages = [page for page in (project.path / "docs").glob("*.md") if page.name != "glossary.md"]
    used = " ".join(page.read_text() for page in (*pages, project.path / "README.md", project.path / "Makefile"))
    assert [word for word in words if word not in used] == []


# The template's address


def test_one_setting_names_the_template_for_readme_answers_and_update(project):
    address, readme = SETTINGS["_address"], (ROOT / "README.md").read_text()
    addressed = runpy.run_path(str(ROOT / "tools" / "seal.py"))["addressed"]
    assert addressed(readme, address) == readme, "run `make seal`"
    (given,) = set(re.findall(r"\bcookiecutter ((?:gh|https):[^\s`]+)(?<!\.zip)(?=[\s`])", readme))
    assert "<" not in given
    # What `make update` and the workflow `update` ask, where Cookiecutter was given a folder, and the README's words.
    assert origin(project.path).address == address
    project.edit(".copier-answers.yml", f"_src_path: {address}", f"_src_path: {given}")
    assert origin(project.path).address == address


def test_the_readme_follows_the_setting():
    addressed = runpy.run_path(str(ROOT / "tools" / "seal.py"))["addressed"]
    readme = (ROOT / "README.md").read_text()
    moved = addressed(readme, "https://github.com/ada/template")
    assert moved.count("cookiecutter gh:ada/template") == 2
    assert (
        "`cookiecutter https://github.com/ada/template/releases/download/vX.Y.Z/template-X.Y.Z-portable.zip`" in moved
    )
    assert addressed(moved, SETTINGS["_address"]) == readme
    elsewhere = addressed(readme, "https://git.example/ada/template")
    assert elsewhere.count("cookiecutter https://git.example/ada/template\n") == 1


# The demo: what it edits and what it says at its end. tests/test_demo.py plays it.


@pytest.fixture(scope="module")
def demo():
    spec = importlib.util.spec_from_file_location("demo", ROOT / "tools" / "demo.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


def test_an_edit_of_the_demo_leaves_the_comments_where_they_are(demo, project):
    edits = {"forest": demo.forest, "curves": demo.curves, "a short watch": demo.short_watch}
    before = (project.path / "params.yaml").read_text().splitlines()
    for name, edit in edits.items():
        edit(project.path)
        after = (project.path / "params.yaml").read_text().splitlines()
        ((old, new),) = [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]]
        assert old.index(" #") == new.index(" #"), name
        before = after
    load(project.path / "params.yaml")


def test_the_demo_tells_how_to_end_what_it_leaves_from_where_it_was_started(demo, project, monkeypatch):
    monkeypatch.setattr(demo, "ROOT", project.path.parent)
    said, command = demo.left(project.path).split("\n  ")
    assert said == "its 3 containers stay, and port 8080 with them; to end them:"
    done = subprocess.run(
        [*command.split(), f'RUN={sys.executable} -c "import sys; print(sys.argv[1:])"', "-s"],
        cwd=project.path.parent,
        env=environment(VENV=str(project.venv)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "['undeploy']", done.stdout
    project.set_param("deploy.replicas", 4)
    assert demo.left(project.path).startswith("its 5 containers")
