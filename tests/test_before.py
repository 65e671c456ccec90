"""Risk: a repository from before is worth nothing any more: its champion cannot be scored, served or gone back to.

The ledger in tests/before was written when the machinery was a part of the team's package; its README says how.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import BakedProject
from serving import serving, settings

from conveyor.core.project import Project
from conveyor.ledger.ledger import ledger_of
from conveyor.model.code import scorer


@pytest.fixture
def old(sound) -> BakedProject:
    """A repository of today, whose ledger is the one of before."""
    before = sound.path / "before.bundle"
    shutil.copyfile(Path(__file__).with_name("before") / "ledger.bundle", before)
    sound.git("fetch", "--quiet", "--no-tags", str(before), "refs/*:refs/*")
    before.unlink()
    return sound


def champion(project: BakedProject):
    """The bundle of the champion in the ledger."""
    ledger = ledger_of(Project(project.path))
    return ledger.bundle(ledger.champion())


def test_its_champion_is_scored_by_its_own_code_and_judged(old):
    assert scorer(champion(old).wheel) == "late_flights.score"
    for step in ("train", "score"):
        old.cli(step)
    done = old.cli("compare", check=False)  # by days, the default model is not shown to be the worse one
    decision = json.loads((old.path / "build" / "decision.json").read_text())
    assert (done.returncode, decision["decision"]["outcome"]) == (0, "keep"), done.stdout + done.stderr
    assert decision["champion"]["event"] == 4
    [auc] = [metric for metric in decision["decision"]["metrics"] if metric["name"] == "roc_auc"]
    assert auc["champion"] == pytest.approx(0.7143, abs=5e-5), "what its own event says of it"


def test_it_answers_as_it_did_with_the_server_of_today(old):
    bundle = champion(old)
    with serving(old, settings(old, bundle.path), bundle.path) as server:
        status, answer = server.ask("POST", "/predict", {"rows": bundle.golden["rows"]})
    assert status == 200
    assert np.allclose(answer["predictions"], bundle.golden["answers"], atol=1e-9)
    checked = old.run(
        *(sys.executable, "-m", "conveyor.serving.app", "--check"),
        env={"BUNDLE": str(bundle.path), "SETTINGS": str(settings(old, bundle.path)), "PYTHONPATH": "src"},
    )
    assert "answers 20 golden rows as in training" in checked.stdout


def test_its_history_is_told_and_gone_back_in(old):
    assert old.cli("history").stdout.count("\n") == 1 + 4
    said = old.cli("rollback", "--because", "it is slow").stdout
    assert "champion/000007" in said  # event 5 is the migration
    assert champion(old).key.startswith(ledger_of(Project(old.path)).events[1].key[:12])
    assert old.cli("history").stdout.count("\n") == 1 + 7
