"""Containers of the champion's image, and projects and images of a test's own."""

import json
import shutil
from contextlib import contextmanager

import pytest
from conftest import BakedProject
from engine import until

from conveyor.deploy.docker_engine import run_inside

HARDENED = {
    "read_only": True,
    "network_mode": "none",
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "tmpfs": {"/tmp": "size=16m,mode=1777"},
}
ASK = """
import json, sys, urllib.request
body = json.dumps({"rows": json.load(open("/app/bundle/golden.json"))["rows"]}).encode()
asked = urllib.request.Request("http://127.0.0.1:8000/predict", body, {"content-type": "application/json"})
print(urllib.request.urlopen(asked, timeout=5).read().decode())
"""


@contextmanager
def running(engine, image: str, **options):
    """A container of the image, removed afterwards."""
    container = engine.containers.run(image, detach=True, **options)
    try:
        yield container
    finally:
        container.remove(force=True)


def in_image(engine, image: str, script: str, **options) -> str:
    """What a Python script prints in the image, run as its user unless another one is named."""
    words = ["python", "-c", script]
    return engine.containers.run(image, words, network_mode="none", remove=True, **options).decode()


def answers(container) -> list[float]:
    """The answers of a running container to the golden rows of its bundle, asked from inside."""

    def asked():
        done = run_inside(container, ["python", "-c", ASK])
        return json.loads(done.output)["predictions"] if done.exit_code == 0 else None

    return until(asked, 30, "the container does not answer")


def made(project: BakedProject) -> dict:
    return json.loads((project.path / "build" / "image.json").read_text())


def images_of(engine, project: BakedProject) -> set[str]:
    """Every tag of this project's commit; a dangling image has none."""
    commit = project.git("rev-parse", "HEAD").stdout[:12]
    return {tag for image in engine.images.list() for tag in image.tags if commit in tag}


@pytest.fixture
def own(champion_image, tmp_path) -> BakedProject:
    """A copy of the project of the champion's image with a commit, and so images, of its own."""
    path = tmp_path / champion_image.project.path.name
    shutil.copytree(champion_image.project.path, path, symlinks=True)
    (path / "build" / "image.json").unlink()
    project = BakedProject(path, champion_image.project.options, champion_image.project.venv)
    project.git("commit", "--allow-empty", "-qm", f"For {tmp_path.name}")
    return project


@pytest.fixture
def removed(engine):
    """Images by their id, removed after the test."""
    ids: list[str] = []
    yield ids
    for id in ids:
        engine.images.remove(id, force=True, noprune=True)
