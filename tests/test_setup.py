"""Risk: the set-up says that it is done and is not, or fails where there is a way."""

import re
import sys

import pytest
from conftest import ROOT, TEMPLATE, run


def pinned(*names: str) -> str:
    """The lines of the lock for these packages."""
    lock = (ROOT / "requirements" / "dev.txt").read_text()
    product = (TEMPLATE / "requirements" / "dev.txt").read_text()
    return "".join(re.search(rf"^{name}==(?:.*\\\n)*.*\n", lock + product, re.M)[0] for name in names)


@pytest.fixture(params=["template", "generated repository"])
def house(request, bake, tmp_path):
    """The folder of a Makefile, its lock, how make is told of another lock, and the stamp of a set-up."""
    if request.param == "template":
        return ROOT, tmp_path / "lock.txt", [f"LOCKS={tmp_path / 'lock.txt'}"], "template.txt"
    project = bake()
    return project.path, project.path / "requirements" / "dev.txt", [], "installed.txt"


def test_it_is_done_when_everything_is_installed_and_by_pip_where_uv_cannot(house, tmp_path):
    place, lock, told, stamp = house
    venv = tmp_path / "venv"

    def setup(**env: str):
        words = (f"PYTHON={sys.executable}", *told, f"VENV={venv}")
        return run("make", "setup", *words, cwd=place, check=False, **env)

    sound = pinned("uv", "iniconfig")
    lock.write_text(sound.replace("iniconfig==", "iniconfig==9."))  # there is no such version
    done = setup()
    assert done.returncode == 2 and "iniconfig" in done.stderr
    assert not (venv / stamp).exists()

    lock.write_text(sound)
    done = setup(UV_OFFLINE="1", UV_CACHE_DIR=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert "iniconfig" in done.stderr and "network" in done.stderr.lower(), "uv is asked first"
    assert run(venv / "bin" / "python", "-c", "import iniconfig", cwd=tmp_path).returncode == 0
    assert setup().stdout == "", "it is not done twice"


def test_a_python_that_is_too_old_is_named_with_the_way_out(house, tmp_path):
    place, verb = house[0], "demo" if house[0] == ROOT else "setup"
    old = tmp_path / "python"
    old.write_text(f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 10); $2"\n')
    old.chmod(0o755)
    done = run("make", "install", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}", cwd=place, check=False)
    assert done.returncode == 2 and not (tmp_path / "venv").exists()
    assert done.stderr.splitlines()[0] == (
        f"error: Python 3.11 or newer is needed; name one: make {verb} PYTHON=python3.12"
    )
