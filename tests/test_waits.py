"""Risk: a command is silent for so long that somebody ends it."""

import inspect
import json
import re
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from conveyor import cli
from conveyor.core import venv
from conveyor.core.files import sha256, write_json
from conveyor.core.waits import announced
from conveyor.model import scoring
from conveyor.steps import pipeline

QUICK = ("seal", "migrate", "github-setup", "ui", "newer", "deliver")  # print at once, or wait for one answer alone


def lines(capsys):
    return capsys.readouterr().out.splitlines()


def test_a_silent_wait_says_what_it_does_and_less_and_less_often(capsys):
    out = sys.stdout
    with announced("train", "fits the\n    model", silence=0.1):
        time.sleep(0.9)
    assert sys.stdout is out
    said = lines(capsys)
    # After 0.1 s, 0.3 s and 0.7 s.
    assert 2 <= len(said) <= 3 and all(
        re.fullmatch(r"train     at work for [01] s: fits the model", one) for one in said
    )


def test_a_wait_that_prints_or_ends_soon_says_nothing_more(capsys):
    with announced("image", "builds", silence=0.5):
        for number in range(6):
            time.sleep(0.15)
            print(f"image     step {number}")
    with announced("image", "builds", silence=0.5):
        pass
    time.sleep(0.6)
    assert lines(capsys) == [f"image     step {number}" for number in range(6)]


def test_an_inner_wait_has_words_of_its_own_and_an_error_ends_both(capsys):
    out = sys.stdout
    with pytest.raises(ValueError), announced("adopt", "tries it", silence=0.1):
        with announced("train", "fits the model"):
            time.sleep(0.2)
        time.sleep(0.4)
        raise ValueError
    assert sys.stdout is out
    assert [line.partition(" for ")[0] for line in lines(capsys)] == ["train     at work", "adopt     at work"]


@pytest.mark.parametrize("step", pipeline.STEPS, ids=lambda step: step.name)
def test_every_step_says_what_it_does_and_how_long_it_took_the_last_time(tmp_path, capsys, monkeypatch, step):
    monkeypatch.setattr(pipeline, "announced", lambda verb, what: announced(verb, what, 0.1))
    monkeypatch.setattr(pipeline, "run", lambda *given: time.sleep(0.2) or "done")
    project = SimpleNamespace(build=tmp_path)
    pipeline.show(step, project)
    first, last = lines(capsys)
    assert re.fullmatch(rf"{step.name:<9} at work for 0 s: {step.does}", first) and last.startswith(
        f"{step.name:<9} done"
    )
    write_json(tmp_path / "steps" / f"{step.name}.json", {"seconds": 61.4})
    pipeline.show(step, project)
    assert lines(capsys)[0].endswith(f"{step.does} (the last time it took 61 s)")


def test_a_step_records_how_long_it_took(bootstrapped):
    for step in pipeline.STEPS:
        told = json.loads((bootstrapped.path / "build" / "steps" / f"{step.name}.json").read_text())
        assert 0 < told["seconds"] < 600, step.name


def test_every_verb_that_may_wait_is_announced():
    """By its own words: the first line of its help."""
    for command in cli.app.registered_commands:
        name = command.name or command.callback.__name__
        code = inspect.getsource(command.callback)
        if name not in QUICK:
            assert re.search(r"\bwaited\(|\bact\(|\bstep\(|run_all\(|experiment\.run\(", code), name
            with cli.waited(name):
                assert sys.stdout.doing == f"{name} {command.callback.__doc__.splitlines()[0]}"


def test_the_libraries_of_an_old_champion_are_announced_once_before_they_are_installed(tmp_path, monkeypatch, capsys):
    seen = []
    bundle = SimpleNamespace(requirements=b"old==1\n", path=tmp_path, key="93c483121589" + "0" * 52)
    place = tmp_path / "build" / "environments" / sha256(bundle.requirements)[:16]
    (place / "bin").mkdir(parents=True)
    (place / "bin" / "python").touch()
    monkeypatch.setattr(venv, "_run", lambda *words: seen.append(capsys.readouterr().out))
    scoring.environment(SimpleNamespace(build=tmp_path / "build"), bundle)
    assert seen[0] == (
        "setup     installing the libraries of model 93c483121589, whose lock differs"
        " (once; some seconds, or minutes)\n"
    )
    assert set(seen[1:]) == {""}
    scoring.environment(SimpleNamespace(build=tmp_path / "build"), bundle)
    assert capsys.readouterr().out == ""


def test_a_wait_in_a_process_is_seen_while_it_lasts(bootstrapped):
    """The line is not held back by a pipe."""
    words = "import time; from conveyor.core.waits import announced\nwith announced('aa', 'tests', 0.2): time.sleep(30)"
    with subprocess.Popen(
        [sys.executable, "-c", words],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(bootstrapped.path / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
    ) as run:
        assert run.stdout.readline() == "aa        at work for 0 s: tests\n"
        run.kill()
