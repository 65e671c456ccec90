"""Risk: `make demo`, the first thing that anybody runs, does not do what the README says."""

import json
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT, environment
from engine import clear


@pytest.fixture(scope="module")
def stage(tmp_path_factory, venv, libraries):
    """A copy of the template in which the demo can be played, without the results of this one."""
    copy = tmp_path_factory.mktemp("template") / "template"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", "build", "__pycache__", ".*_cache"))
    return copy


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left(engine):
    """What the demo leaves serving goes with its test."""
    yield
    clear(engine, "late-flights")


def play(stage, venv) -> subprocess.CompletedProcess[str]:
    # What the Makefile runs after set-up, with the interpreter of these tests; what that runs takes the environment.
    return subprocess.run(
        [sys.executable, "tools/demo.py"],
        cwd=stage,
        env=environment(DEPLOY_NAME="", VENV=str(venv)),
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_the_demo_plays_its_acts_and_a_second_run_repeats_none(stage, installed_venv, engine):
    first = play(stage, installed_venv)
    assert first.returncode == 0, first.stdout + first.stderr
    record = json.loads((stage / "build" / "demo" / "acts.json").read_text())
    assert [act["outcome"] for act in record["acts"].values()] == ["bootstrap", "keep", "promote", "block", "refused"]
    assert [act["champion"] for act in record["acts"].values()] == [*["champion/000002"] * 2, *["champion/000005"] * 3]
    for act in record["acts"].values():
        page = (stage / act["report"]).read_text()
        assert act["report"] in first.stdout and "<html" in page
        if act["metric"]:
            assert f"{act['metric']['challenger']:.4f}" in first.stdout
    # And then it is somebody's to play with: set up, and without a trace of the acts that were not merged.
    repository = stage / "build" / "demo" / "late-flights"
    done = subprocess.run(
        ["make", "try", "SET=model.params.estimator=boosting"],
        cwd=repository,
        env=environment(DEPLOY_NAME=""),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "Nothing was promoted" in done.stdout, done.stdout + done.stderr
    status = subprocess.run(["git", "status", "--porcelain"], cwd=repository, capture_output=True, text=True)
    assert status.stdout == ""
    said = re.search(
        r"served: model [0-9a-f]{12} answers at http://127.0.0.1:8080; its (\d+) containers stay, and port 8080 with"
        r" them; to end them:\n  (make .*)\n",
        first.stdout,
    )
    assert engine.containers.get("late-flights-production-edge").status == "running", "by the name of the package"
    assert len(engine.containers.list(filters={"name": "late-flights-production-"})) == int(said[1])
    for told in ('"predictions": [0.', "=> rolled back by itself, as it should"):
        assert told in first.stdout
    assert re.search(r"live: an alarm, and champion/0000\d\d in its place; look at\n", first.stdout)
    for name in ("monitor.html", "site/index.html"):
        path = f"build/demo/drift/late-flights/build/{name}"
        assert path in first.stdout and "<html" in (stage / path).read_text()
    assert int(re.search(r"^(\d+) s\. The repository", first.stdout, re.M)[1]) < 300
    again = play(stage, installed_venv)
    assert again.returncode == 0 and len(re.findall("^unchanged:", again.stdout, re.M)) == 6
    assert "fitted" not in again.stdout and "restored" not in again.stdout
    # What was told to end it, pasted where `make demo` was typed.
    subprocess.run(said[2].split(), cwd=stage, env=environment(DEPLOY_NAME=""), check=True, capture_output=True)
    assert not engine.containers.list(all=True, filters={"name": "late-flights-production-"})


def test_an_act_that_ends_otherwise_fails_the_demo(stage, installed_venv):
    """The demo is a check: with a floor that no model reaches its first act must not end well."""
    params = stage / "<<cookiecutter.project>>" / "params.yaml"
    sound = params.read_text()
    assert sound.count("{roc_auc: 0.6}") == 1
    params.write_text(sound.replace("{roc_auc: 0.6}", "{roc_auc: 0.9}"))
    done = play(stage, installed_venv)
    assert done.returncode == 1
    assert "error: act first-champion ended as block (exit 2), it should end as bootstrap" in done.stderr
