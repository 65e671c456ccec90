"""Risk: the generated repository does not pass its own checks, on its owner's first day."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from conftest import environment


@pytest.mark.parametrize("name", ["late-flights", "a", "x" * 60], ids=["default name", "shortest name", "longest name"])
def test_its_formatter_changes_nothing(bake, name):
    # The name of the package stands in imports: it must not push a line over the limit, or change their order.
    project = bake(project=name)
    project.make("format")
    assert project.git("status", "--porcelain").stdout == ""


def test_its_commit_hook_runs_the_same_check(project):
    project.run(project.venv / "bin" / "pre-commit", "run", "--all-files", env={"VENV": str(project.venv)})
    project.edit(f"src/{project.package}/model.py", "CATEGORIES = [", "CATEGORIES  =  [")
    project.git("add", "--all")
    done = project.run(
        project.venv / "bin" / "pre-commit", "run", "--all-files", env={"VENV": str(project.venv)}, check=False
    )
    assert done.returncode == 1 and "1 file would be reformatted" in done.stdout


LISTED = re.compile(r"(?m)^  ([a-z-]+) ")
STEPS = ["data-lock", "validate", "train", "score", "compare", "promote", "report", "pipeline"]


def test_every_verb_of_the_makefile_is_explained(project):
    listed = set(LISTED.findall(project.make().stdout))
    commands = project.cli("--help").stdout
    for verb in [*STEPS, "try", "history", "ui"]:
        assert verb in listed and f"  {verb} " in commands
    assert {"setup", "check", "test", "format", "lock", "clean"} < listed


def test_the_paths_and_verbs_that_its_readme_and_pages_name_exist(project):
    verbs = set(LISTED.findall(project.make().stdout))
    pages = [project.path / "README.md", *sorted((project.path / "docs").glob("*.md"))]
    assert len(pages) > 5
    text = "\n".join(page.read_text() for page in pages)
    named = {word for call in re.findall(r"^    make ([a-z -]+)", text, re.M) for word in call.split()}
    named |= {word for call in re.findall(r"`make ([a-z -]+)", text) for word in call.split()}
    assert named and named <= verbs
    for path in re.findall(r"`((?:src|expectations|params|container|\.github|requirements/\w)[^`\s]*)`", text):
        assert list(project.path.glob(path)), path


def test_the_page_of_commands_names_each_verb_that_is_not_one_of_python(project):
    """What it says of all others, that `make VERB` is `python -m conveyor VERB`, is true."""
    recipes = re.findall(r"^([a-z-]+):.*\n((?:\t.*\n)+)", (project.path / "Makefile").read_text(), re.M)
    others = {verb for verb, recipe in recipes if not recipe.startswith(f"\t@$(RUN) {verb}")}
    text = (project.path / "docs" / "commands.md").read_text()
    exceptions = text.split("The `Makefile` shows the exceptions:")[1].split(".")[0]
    assert set(re.findall(r"`([a-z-]+)`", exceptions)) == others
    switches = dict(re.findall(r"^export (\w+) := (\w+)$", (project.path / "Makefile").read_text(), re.M))
    assert len(switches) > 3 and all(f"{name}={value}`" in text for name, value in switches.items())


def test_ui_serves_the_runs_on_loopback_until_its_process_is_ended(bootstrapped):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "conveyor", "ui", "--port", str(port)],
        cwd=bootstrapped.path,
        env=environment(PYTHONPATH="src"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        for _ in range(240):
            try:
                body = urllib.request.urlopen(f"http://127.0.0.1:{port}/version", timeout=2).read()
                break
            except OSError:
                time.sleep(0.25)
        assert body.decode().startswith("3.")
        server.terminate()  # this process alone: it is the server, and takes what it started with it
        server.wait(30)
        with pytest.raises(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/version", timeout=2)
    except BaseException:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
        raise
