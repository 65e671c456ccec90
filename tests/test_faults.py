"""Risk: the machine fails in the middle, or a file is damaged, and a traceback is all that is left."""

import random
import sqlite3
import subprocess
import sys
import time

import pytest
from conftest import environment

# MLflow's database

OPEN = (
    "from pathlib import Path; from late_flights import tracking; from late_flights.project import Project;"
    "import mlflow.store.tracking.sqlalchemy_store; print('ready', flush=True);"
    "print(tracking.uri(Project(Path.cwd())))"
)


def opening(project) -> subprocess.Popen:
    """A process that is about to open MLflow's database, which takes it seconds where there is none yet."""
    words, env = [sys.executable, "-c", OPEN], environment(PYTHONPATH="src")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(words, cwd=project.path, env=env, **pipes)
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_kill_while_mlflow_makes_its_database_leaves_none(project):
    for _ in range(2):
        with opening(project) as process:
            time.sleep(random.uniform(0.2, 0.8))
            process.kill()
    with opening(project) as process:
        said, complaint = process.communicate()
    assert process.returncode == 0 and said.endswith("/mlruns/mlflow.db\n"), complaint
    assert not list((project.path / "mlruns").glob(".new-*"))


def test_two_first_runs_share_one_database(project):
    processes = [opening(project) for _ in range(2)]
    for process in processes:
        said, complaint = process.communicate()
        assert process.returncode == 0, complaint


def cut_short(path):
    """As MLflow's first migration leaves it when it is killed: tables, and no version of all of them."""
    with sqlite3.connect(path) as database:
        database.execute("create table experiments (experiment_id integer)")


@pytest.mark.parametrize(
    "plant", [lambda path: path.write_bytes(b"junk " * 1000), cut_short], ids=["junk", "half migrated"]
)
def test_a_broken_database_of_mlflow_is_named_with_the_way_out(sound, one_line, plant):
    database = sound.path / "mlruns" / "mlflow.db"
    database.parent.mkdir()
    plant(database)
    message = "mlruns/mlflow.db: MLflow cannot use it: .*; make room, or move it away"
    one_line(sound.cli("train", check=False), 2, message)
    one_line(sound.cli("ui", check=False), 2, message)
    assert not (sound.path / "build" / "candidate").exists()
    database.unlink()
    sound.cli("train")
