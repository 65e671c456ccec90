"""Risk: the machine fails in the middle, or a file is damaged, and a traceback is all that is left."""

import json
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from conftest import environment

from conveyor.core import git
from conveyor.core.errors import Misuse
from conveyor.model.bundle import Bundle

# MLflow's database

OPEN = (
    "from pathlib import Path; from conveyor.model import tracking; from conveyor.core.project import Project;"
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
    for verb in ("train", "ui"):  # in a process that has imported nothing yet: MLflow's own log is still to be silenced
        words = (sys.executable, "-m", "conveyor", verb)
        one_line(sound.run(*words, check=False, env={"PYTHONPATH": "src"}), 2, message)
    assert not (sound.path / "build" / "candidate").exists()
    database.unlink()
    sound.cli("train")


@pytest.mark.parametrize("copied", [True, False], ids=["copied", "moved"])
def test_a_repository_that_is_elsewhere_finds_its_own_runs_and_logs_beside_them(sound, tmp_path, copied):
    sound.cli("train")
    new = replace(sound, path=tmp_path / "elsewhere" / "late-flights")
    (shutil.copytree if copied else shutil.move)(sound.path, new.path)
    before = sorted(sound.path.rglob("*")) if copied else None
    new.set_param("model.seed", 8)
    new.cli("train")
    artifacts = new.path / "mlruns" / "artifacts"
    with sqlite3.connect(new.path / "mlruns" / "mlflow.db") as database:
        places = [place for (place,) in database.execute("select artifact_location from logged_models")]
        places += [place for (place,) in database.execute("select artifact_uri from runs")]
    assert len(places) == 4 and all(place.startswith(f"{artifacts.as_uri()}/") for place in places), places
    assert len(list(artifacts.rglob("MLmodel"))) == 2
    assert before == (sorted(sound.path.rglob("*")) if copied else None), "nothing goes to where it came from"


def test_what_mlflow_takes_from_the_environment_is_named_where_it_fails(sound, one_line):
    done = sound.cli("train", check=False, MLFLOW_RUN_ID="0" * 32)
    message = (
        "mlruns: MLflow's database did not take the run: .*; MLflow takes MLFLOW_RUN_ID of the environment: unset .*"
    )
    one_line(done, 2, message)


# The disk, the folders, git


def small_files(project, *args: str):
    """The command where no file can grow beyond a kilobyte: the next write fails as on a full disk."""
    words = (sys.executable, "-m", "conveyor", *args)
    limited = 'ulimit -f 1; exec "$@"'
    return project.run(
        "bash", "-c", limited, "bash", *words, check=False, env={"PYTHONPATH": "src", "PYTHONDONTWRITEBYTECODE": "1"}
    )


@pytest.mark.parametrize(
    "step, gone, named",
    [
        ("validate", "validation.json", "build.*: File too large; make room .*"),
        ("train", "candidate", ".*File too large; make room .*"),
        ("score", "scores.parquet", "build/(champion|scores.parquet): File too large; make room .*"),
        ("compare", "decision.json", "build/(receipt.json|judged.parquet|decision.json): File too large; make room .*"),
        ("report", "report.html", "build/report.(md|html): File too large; make room .*"),
    ],
)
def test_a_disk_that_takes_no_more_is_one_line_and_nothing_is_half_written(bootstrapped, one_line, step, gone, named):
    if step == "compare":
        bootstrapped.cli("score")  # against the champion that there is now
    place = bootstrapped.path / "build" / gone
    shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
    before = bootstrapped.git("for-each-ref").stdout
    if step == "train":  # else the ledger has this model
        bootstrapped.set_param("model.seed", 8)
    one_line(small_files(bootstrapped, step), 2, named)
    assert not place.exists() and not list((bootstrapped.path / "build").rglob(".writing-*"))
    assert bootstrapped.git("for-each-ref").stdout == before


def test_a_promotion_that_git_cannot_store_leaves_no_champion(sound, one_line):
    for step in ("train", "score", "compare"):
        sound.cli(step)
    one_line(
        small_files(sound, "promote"), 2, "ledger: this repository did not take the event: .*; nothing was changed"
    )
    assert sound.git("for-each-ref", "--format=%(refname)").stdout.split() == ["refs/heads/main"]
    sound.cli("promote")


def test_a_compiled_module_that_a_full_disk_cut_off_is_named(sound, one_line):
    sound.cli("score", check=False)
    [compiled] = sound.path.glob("src/conveyor/steps/__pycache__/score.*.pyc")
    compiled.write_bytes(compiled.read_bytes()[:100])
    message = "score: a compiled module is cut off; delete the folders __pycache__ in src"
    sound.run("rm", "-rf", "build/candidate")
    one_line(sound.cli("score", check=False), 2, message)


def test_a_file_in_the_place_of_the_build_folder_is_named(project, one_line):
    (project.path / "build").write_text("not a folder")
    for command in (["pipeline"], ["try", "model.seed=8"]):
        one_line(project.cli(*command, check=False), 2, "build(/try)?: (File exists|Not a directory); make room .*")


def test_a_repository_of_another_user_is_named_with_the_way_out(project, one_line):
    done = project.cli("history", check=False, GIT_TEST_ASSUME_DIFFERENT_OWNER="1")
    mend = "if you trust it, run `git config --global --add safe.directory .*/late-flights`"
    one_line(done, 2, f"git: the repository .*/late-flights belongs to another user; {mend}")


def test_a_configuration_that_git_cannot_read_is_named(project, one_line):
    (project.path / ".git" / "config").write_text("[core")
    one_line(project.cli("history", check=False), 2, r"git: fatal: bad config line \d in file .git/config; mend .*")


@pytest.mark.parametrize(
    "said, told",
    [
        (
            "remote: error: GH006: Protected branch update failed.\nremote: \nremote: Changes must go through a pull"
            " request.\nTo https://host/x\n ! [remote rejected] a -> b (hook declined)\nerror: failed to push",
            "error: GH006: Protected branch update failed. Changes must go through a pull request.",
        ),
        (
            "To x\n ! [rejected] a -> b (fetch first)\nerror: failed to push some refs to 'x'\nhint: Updates were",
            "! [rejected] a -> b (fetch first)",
        ),
        ("warning: w\nfatal: no access\n\nPlease make sure you have the correct access rights.", "fatal: no access"),
        ("something else\nat the end\n", "at the end"),
        ("", ""),
    ],
    ids=["remote", "ref", "fatal", "last", "nothing"],
)
def test_what_git_complains_of_is_told_by_its_cause(said, told):
    assert git.complaint(said.encode()) == told


# Files that are damaged


BUNDLE = {
    "model.skops": (None, "model.skops: missing; delete candidate and run `make train`"),
    "requirements.txt": (None, "requirements.txt: missing; delete candidate and run `make train`"),
    "split.json": ("{}", r"split.json: damaged \(key by\); delete it and run `make train`"),
    "lineage.json": ("{}", "lineage.json: damaged, its `.*` is no .*; delete it and run `make train`"),
}


@pytest.mark.parametrize("name, content, message", [(n, *rest) for n, rest in BUNDLE.items()], ids=BUNDLE)
def test_a_damaged_candidate_is_named_and_trained_again(bootstrapped, one_line, name, content, message):
    path = bootstrapped.path / "build" / "candidate" / name
    path.unlink()
    if content is not None:
        path.write_text(content)
    one_line(bootstrapped.cli("score", check=False), 2, f".*/build/candidate/{message}")
    assert "restored model" in bootstrapped.cli("pipeline").stdout


@pytest.mark.parametrize("verb", ["report", "promote"])
@pytest.mark.parametrize("name", ["validation", "decision"])
@pytest.mark.parametrize("content", ["{}", '{"passed": true, "failures": 3}', "[]", '{"decision'])
def test_a_verdict_of_another_shape_is_named_with_the_step_that_makes_it(bootstrapped, one_line, verb, name, content):
    path = bootstrapped.path / "build" / f"{name}.json"
    path.write_text(content)
    done = bootstrapped.cli(verb, check=False)
    if (verb, name) == ("promote", "validation"):  # that step does not read it
        assert done.returncode == 0
    else:
        made_by = {"validation": "validate", "decision": "compare"}[name]
        one_line(done, 2, f".*/build/{name}.json: .*; delete it and run `make {made_by}`")


def test_a_decision_with_a_number_gone_is_named_by_its_key(bootstrapped, one_line):
    path = bootstrapped.path / "build" / "decision.json"
    made = json.loads(path.read_text())
    del made["decision"]["metrics"][0]["higher_is_better"]
    path.write_text(json.dumps(made))
    message = ".*/decision.json: damaged, its `decision.metrics.0.higher_is_better`; delete it and run `make compare`"
    one_line(bootstrapped.cli("report", check=False), 2, message)


def test_golden_answers_and_the_wheel_of_a_bundle_are_missed_by_name(bootstrapped):
    bundle = Bundle(bootstrapped.path / "build" / "candidate")
    assert len(bundle.golden["rows"]) == len(bundle.golden["answers"]) == 20
    (bundle.path / "golden.json").write_text("{}")
    with pytest.raises(Misuse, match="golden.json: damaged, its `rows` is no list; delete it and run"):
        assert bundle.golden
    bundle.wheel.unlink()
    with pytest.raises(Misuse, match="holds no wheel of its code; delete it and run `make train`"):
        assert bundle.wheel


@pytest.mark.parametrize("content", ['{"schema": 1, "rea', "{}", "[]"], ids=["cut", "empty", "a list"])
def test_a_damaged_record_of_a_step_means_that_it_runs_again(bootstrapped, content):
    (bootstrapped.path / "build" / "steps" / "train.json").write_text(content)
    assert "restored model" in bootstrapped.cli("train").stdout


@pytest.mark.parametrize(
    "path, content, message",
    [
        ("requirements/model.txt", None, "requirements/model.txt: missing; `git checkout .*model.txt` brings it back"),
        ("pyproject.toml", None, "pyproject.toml: missing; `git checkout pyproject.toml` brings it back"),
        ("pyproject.toml", "[project", "pyproject.toml: makes no wheel: .*; mend it"),
        ("pyproject.toml", "[tool]", "pyproject.toml: makes no wheel: .*; mend it"),
    ],
    ids=["no lock", "no project file", "no TOML", "no project in it"],
)
def test_what_a_bundle_needs_is_missed_before_a_model_is_logged(sound, one_line, path, content, message):
    (sound.path / path).unlink()
    if content:
        (sound.path / path).write_text(content)
    one_line(sound.cli("train", check=False), 2, message)
    assert not (sound.path / "build" / "candidate").exists() and not (sound.path / "mlruns").exists()


def test_a_reader_that_has_seen_enough_is_no_verdict(bootstrapped):
    words = f"PYTHONPATH=src {sys.executable} -m conveyor --help | true; echo ${{PIPESTATUS[0]}}"
    done = bootstrapped.run("bash", "-c", words)
    assert done.stdout.strip() in ("0", "2") and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words, told",
    [
        (["promot"], "No such command 'promot'"),
        (["rollback", "--to", "abc"], "Invalid value for '--to'"),
        (["quarantine", "--because", "x"], "Missing option '--event'"),
        (["prune", "--keep", "1"], "Invalid value for '--keep'"),
    ],
)
def test_a_word_that_the_commands_do_not_take_is_misuse(project, words, told):
    done = project.cli(*words, check=False)
    assert done.returncode == 2 and told in done.stderr and "Traceback" not in done.stderr


def test_json_and_yaml_of_any_depth_are_one_line(bootstrapped, one_line):
    for path, verb in (("build/decision.json", "promote"), ("build/validation.json", "train")):
        kept = (bootstrapped.path / path).read_text()
        (bootstrapped.path / path).write_text("[" * 200_000 + "]" * 200_000)
        one_line(bootstrapped.cli(verb, check=False), 2, f".*{path}: not a JSON object; .*")
        (bootstrapped.path / path).write_text(kept)
    (bootstrapped.path / "params.yaml").write_text("a: " + "[" * 5000 + "]" * 5000)
    one_line(bootstrapped.cli("train", check=False), 2, "params.yaml: too deep; no key needs more than a few levels")
