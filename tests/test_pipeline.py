"""Risk: the steps do not fit together, repeat what did not change, or keep what did."""

import json
import re
import signal
import sqlite3
import sys
import time

import preloaded
import pytest
from conftest import born, environment
from filelock import FileLock


def decision(project) -> dict:
    return json.loads((project.path / "build" / "decision.json").read_text())["decision"]


def events(project) -> list[tuple[int, str]]:
    listed = json.loads(project.cli("history", "--json").stdout)
    return [(event["number"], event["type"]) for event in listed]


def runs(project) -> int:
    with sqlite3.connect(project.path / "mlruns" / "mlflow.db") as database:
        return database.execute("select count(*) from runs").fetchone()[0]


def said(done, step: str) -> str:
    lines = [line for line in done.stdout.splitlines() if line.startswith(step)]
    return next(line for line in lines if " at work for " not in line)  # as a busy machine says


def test_the_first_run_bootstraps_a_champion(bootstrapped):
    assert decision(bootstrapped)["outcome"] == "bootstrap"
    assert events(bootstrapped) == [(1, "accepted"), (2, "live")]
    assert bootstrapped.git("status", "--porcelain").stdout == ""


def test_a_second_run_trains_nothing_and_promotes_nothing(bootstrapped):
    before = runs(bootstrapped)
    done = bootstrapped.cli("pipeline")
    assert said(done, "validate").startswith("validate  unchanged:") and said(done, "train").startswith(
        "train     unchanged:"
    )
    assert runs(bootstrapped) == before == 1
    assert decision(bootstrapped)["outcome"] == "keep" and events(bootstrapped) == [(1, "accepted"), (2, "live")]
    third = bootstrapped.cli("pipeline")
    assert all(said(third, step).split()[1] == "unchanged:" for step in ("validate", "train", "score", "compare"))


def test_a_machine_without_the_build_folder_restores_the_model_instead_of_training_it(bootstrapped):
    before = runs(bootstrapped)
    bootstrapped.run("rm", "-rf", "build")
    done = bootstrapped.cli("pipeline")
    assert said(done, "train").startswith("train     restored model")
    assert (
        runs(bootstrapped) == before
        and decision(bootstrapped)["reason"] == "the two models predict the same on 4043 rows"
    )


def test_each_kind_of_challenger_gets_its_outcome(bootstrapped):
    project = bootstrapped
    project.better()
    assert "served as compiled" in said(project.cli("pipeline"), "train")
    assert decision(project)["outcome"] == "promote" and events(project)[2:] == [(3, "accepted"), (4, "live")]

    project.set_param("model.params.estimator", "forest")
    project.cli("pipeline")
    assert decision(project)["outcome"] == "keep"
    assert decision(project)["reason"].startswith("not shown to be better by more than 0.001: roc_auc 0.7")
    project.set_param("model.params.estimator", "logistic")

    project.edit("src/late_flights/model.py", '"departure_minute", ', "")
    done = project.cli("pipeline", check=False)
    assert (done.returncode, decision(project)["outcome"]) == (1, "block")
    assert re.fullmatch(r"error: block: shown to be worse by more than 0.001: roc_auc .*\n", done.stderr)
    assert events(project)[4:] == [(5, "kept"), (6, "blocked")]
    assert (project.path / "build" / "report.md").read_text().startswith("**Verdict: block**")
    done = project.cli("pipeline", check=False)
    assert done.returncode == 1 and len(events(project)) == 6, "it is on record once, and red again"


def test_the_rows_of_one_day_are_one_unit_unless_params_yaml_says_otherwise(bootstrapped):
    """By rows the gain of a forest is more than chance; by days, which share their weather, it is not."""
    project = bootstrapped
    project.set_param("model.params.estimator", "forest")
    project.cli("pipeline")
    found = decision(project)
    assert (found["outcome"], found["units"]["name"], found["units"]["count"]) == ("keep", "day", 37)
    assert found["metrics"][0]["gain_low"] < 0 < found["metrics"][0]["gain"]
    assert found["units"]["design_effect"] > 2 and found["units"]["effective_rows"] < 2000
    assert "- Units: 37 days, " in (project.path / "build" / "report.md").read_text()
    project.set_param("gate.block", "row")
    project.cli("pipeline")
    by_row = decision(project)
    assert by_row["units"] is None and by_row["metrics"][0]["gain_low"] > 0.001
    assert (found["rows"], by_row["rows"]) == (4043, 4000)  # no day is divided, or none is whole
    assert by_row["metrics"][0]["gain"] == pytest.approx(found["metrics"][0]["gain"], abs=0.005)


def test_the_steps_run_alone_one_after_the_other(sound):
    for step in ("train", "score", "compare", "promote", "report"):
        sound.cli(step)
    assert decision(sound)["outcome"] == "bootstrap" and len(events(sound)) == 2


@pytest.mark.parametrize(
    "step, message",
    {
        "train": r".*validation.json: missing; run `make validate` first",
        "score": r"ledger.*|.*candidate.*; run `make train` first",
        "compare": "scores.parquet: missing; run `make score` first",
        "promote": r".*decision.json: missing; run `make compare` first",
        "report": r".*validation.json: missing; run `make validate` first",
    }.items(),
)
def test_a_step_before_its_turn_names_the_step_to_run_first(project, one_line, step, message):
    one_line(project.cli(step, check=False), 2, message)


def test_a_model_is_not_taken_for_unchanged_when_its_data_were_refused_since(bootstrapped, one_line):
    bootstrapped.edit("expectations/data.json", '"max_value": 6000', '"max_value": 60')
    assert bootstrapped.cli("validate", check=False).returncode == 1
    message = "validation.json: these data have not passed validation; run `make validate` first"
    one_line(bootstrapped.cli("train", check=False), 2, message)


def test_a_run_is_logged_with_all_that_made_it(bootstrapped):
    with sqlite3.connect(bootstrapped.path / "mlruns" / "mlflow.db") as database:
        tags = dict(database.execute("select key, value from tags").fetchall())
        params = dict(database.execute("select key, value from params").fetchall())
        metrics = dict(database.execute("select key, value from metrics").fetchall())
        data_sets = database.execute("select digest from datasets").fetchall()
    lineage = json.loads((bootstrapped.path / "build" / "candidate" / "lineage.json").read_text())
    assert tags["commit"] == bootstrapped.git("rev-parse", "HEAD").stdout.strip() == lineage["commit"]
    assert params["estimator"] == "logistic" and params["seed"] == "7" and params["logistic.C"] == "1.0"
    assert metrics["holdout_roc_auc"] == pytest.approx(decision(bootstrapped)["metrics"][0]["challenger"], abs=1e-9)
    assert data_sets == [(lineage["data_sha256"][:36],)]
    models = list((bootstrapped.path / "mlruns" / "artifacts").rglob("MLmodel"))
    assert len(models) == 1 and "departure_minute" in models[0].read_text().split("signature:")[1]


def test_every_json_names_schema_commit_data_and_time(bootstrapped):
    commit = bootstrapped.git("rev-parse", "HEAD").stdout.strip()
    for name in ("validation.json", "decision.json", "candidate/lineage.json", "steps/train.json"):
        value = json.loads((bootstrapped.path / "build" / name).read_text())
        assert (value["schema"], value["commit"], value["dirty"]) == (1, commit, False)
        assert re.fullmatch("[0-9a-f]{64}", value["data_sha256"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value["created"])


def test_a_dirty_tree_is_allowed_and_recorded(sound):
    (sound.path / "notes.txt").write_text("not committed")
    sound.cli("train")
    assert json.loads((sound.path / "build" / "candidate" / "lineage.json").read_text())["dirty"] is True


def test_outside_of_a_git_repository_nothing_starts(project, one_line):
    project.run("rm", "-rf", ".git")
    message = "not a git repository with a commit; run `git init`, `git add -A` and `git commit`"
    one_line(project.cli("pipeline", check=False), 2, message)
    assert not list((project.path / "build").rglob("*.json"))


def test_a_project_may_be_a_folder_of_a_bigger_repository(project, tmp_path):
    project.run("rm", "-rf", ".git")
    place = tmp_path / "bigger" / "models" / "late-flights"
    place.parent.mkdir(parents=True)
    project.path.rename(place)
    (tmp_path / "bigger" / "README.md").write_text("Many things\n")
    inside = type(project)(place, project.options, project.venv)
    inside.run("git", "init", "--quiet", str(tmp_path / "bigger"))
    inside.git("add", "--all", str(tmp_path / "bigger"))
    inside.git("commit", "--quiet", "-m", "everything")
    inside.cli("pipeline")
    assert events(inside) == [(1, "accepted"), (2, "live")]
    inside.run("rm", "-rf", "build")
    assert said(inside.cli("pipeline"), "train").startswith("train     restored model")
    assert decision(inside)["outcome"] == "keep" and inside.git("status", "--porcelain").stdout == ""


def test_try_shows_the_difference_and_promotes_nothing(bootstrapped):
    before = bootstrapped.git("for-each-ref").stdout
    candidate = (bootstrapped.path / "build" / "candidate" / "lineage.json").read_bytes()
    done = bootstrapped.cli("try", "model.params.degree=2")
    assert re.search(r"roc_auc +0\.\d{4} +0\.\d{4} +0\.\d{4}   \[\+0\.\d{4}, \+0\.\d{4}\]", done.stdout)
    assert "promote: shown to be better by more than 0.001" in done.stdout and "Nothing was promoted" in done.stdout
    assert bootstrapped.git("for-each-ref").stdout == before
    assert (bootstrapped.path / "build" / "candidate" / "lineage.json").read_bytes() == candidate
    assert bootstrapped.git("status", "--porcelain").stdout == ""


def test_a_split_that_has_changed_is_flagged_beside_the_verdict(bootstrapped):
    """More training rows alone may make a model better."""
    bootstrapped.set_param("split.holdout", 0.1)
    bootstrapped.cli("pipeline", check=False)
    made = json.loads((bootstrapped.path / "build" / "decision.json").read_text())
    told = "the split has changed (0.2 held out by time, now 0.1 held out by time): a gain may come from other"
    assert [flag.startswith(told) for flag in made["flags"]] == [True]
    assert told in (bootstrapped.path / "build" / "report.md").read_text()


def test_try_says_once_what_would_be_blocked(bootstrapped):
    done = bootstrapped.cli("try", "gate.floors={roc_auc: 0.99}")
    assert len(re.findall("is below the floor 0.99", done.stdout)) == 1 and done.stderr == ""
    assert re.search(r"(?m)^block: roc_auc 0\.\d+ is below the floor 0.99", done.stdout)


@pytest.mark.parametrize(
    "change, message",
    [
        ("", 'try: nothing is changed; write it as make try SET="model.seed=8"'),
        ("model.seed", 'model.seed: not a change; write it as make try SET="model.seed=8"'),
        ("model.sed=8", r"params.yaml: model.sed: unknown key; did you mean seed\?"),
        ("nothing.there=8", "nothing.there: params.yaml has no such key; .*"),
        ("model.seed=[", r"model.seed: the value \[ is not YAML; quote it"),
    ],
)
def test_a_change_that_cannot_be_tried_is_named(project, one_line, change, message):
    one_line(project.cli("try", change, check=False), 2, message)


def test_changes_reach_try_through_make_as_they_were_written(bootstrapped, one_line):
    given = 'SET=model.params.logistic={C: 0.5, max_iter: 500}   model.params.estimator="logistic"'
    done = bootstrapped.make("try", given)
    assert "Nothing was promoted" in done.stdout
    lineage = json.loads((bootstrapped.path / "build" / "try" / "candidate" / "lineage.json").read_text())
    assert lineage["params"]["logistic"] == {"C": 0.5, "max_iter": 500}
    nothing = bootstrapped.make("try", check=False).stderr.splitlines()
    assert nothing[0] == 'error: try: nothing is changed; write it as make try SET="model.seed=8"'


def test_history_shows_events_for_people_and_for_programs(bootstrapped):
    header, *lines = bootstrapped.cli("history").stdout.splitlines()
    for word, place in (("time, UTC", 8), ("what", 30), ("model", 42), ("commit", 56), ("by whom: why", 70)):
        assert header.index(word) == place and lines[0][place - 1] == " " != lines[0][place]
    assert [line.split()[0] for line in lines] == ["000001", "000002"]
    assert [line.split()[2] for line in lines] == ["accepted", "live"]


def test_history_of_a_new_repository_says_how_to_begin(project):
    assert project.cli("history").stdout == "no events yet; `make pipeline` bootstraps the first champion\n"


def test_data_lock_pins_what_is_there_and_refuses_junk(project, one_line):
    path = project.path / "data" / "flights.csv.gz"
    comments = (project.path / "params.yaml").read_text().count("#")
    rows = path.read_bytes()
    path.write_bytes(b"junk\0\xff")
    one_line(
        project.cli("data-lock", check=False),
        2,
        r"data/flights.csv.gz: no UTF-8 text \(byte 5\); save it as CSV in UTF-8",
    )
    assert project.git("status", "--porcelain", "params.yaml").stdout == ""
    path.write_bytes(rows + b"\0" * 0)
    assert project.cli("data-lock").stdout.startswith("data-lock unchanged")

    import gzip

    path.write_bytes(gzip.compress(gzip.decompress(rows).rsplit(b"\n", 2)[0] + b"\n", mtime=0))
    assert project.cli("data-lock").stdout.startswith("data-lock pinned")
    assert (project.path / "params.yaml").read_text().count("#") == comments


def test_a_champion_that_cannot_score_is_incomparable_and_stays(bootstrapped):
    project = bootstrapped
    project.edit("params.yaml", "ignore: [flight]", "ignore: [flight, visib]")
    project.edit("src/late_flights/model.py", '"pressure", "visib"]', '"pressure"]')
    project.cli("pipeline")
    assert decision(project)["outcome"] == "incomparable" and events(project)[2:] == [(3, "kept")]
    assert "column 'visib' is missing" in decision(project)["reason"]


# A remote


def test_a_laptop_reads_the_ledger_at_origin_and_writes_it_only_when_told(sound, tmp_path):
    bare = tmp_path / "remote.git"
    sound.git("clone", "--quiet", "--bare", str(sound.path), str(bare))
    sound.git("remote", "add", "origin", str(bare))
    done = sound.cli("pipeline")
    assert "bootstrap: the ledger at origin is read-only from here; PUSH=1 writes it" in said(done, "promote")
    assert sound.git("ls-remote", "origin").stdout.count("refs/") == 1
    sound.cli("promote", "--push")
    assert len(events(sound)) == 2 and sound.git("ls-remote", "origin").stdout.count("refs/") == 4


def test_a_model_that_was_rolled_back_is_not_promoted_again_by_the_next_run(bootstrapped):
    project = bootstrapped
    project.better()
    project.cli("pipeline")
    project.cli("rollback", "--because", "too slow", GITHUB_ACTOR="ada")
    done = project.cli("pipeline")
    told = r"model \w{12} was rolled back by ada in event 5: too slow"
    assert re.search(f"^promote   quarantined: {told}; champion/000006 stays", done.stdout, re.M), done.stdout
    assert decision(project)["outcome"] == "promote"  # that is what the gate says; the report says what becomes of it
    report = (project.path / "build" / "report.md").read_text()
    assert re.search(f"this model will not be promoted: {told}", report)
    assert [kind for _, kind in events(project)[4:]] == ["rolled_back", "live"]
    project.cli("rollback", "--because", "it was not the model", "--to", "4")
    assert "keep: nothing to promote, champion/000008 stays" in project.cli("pipeline").stdout


def test_a_late_run_of_an_older_commit_accepts_nothing_also_where_the_champion_stays(bootstrapped, one_line):
    older = bootstrapped.git("rev-parse", "HEAD").stdout.strip()
    bootstrapped.set_param("model.params.logistic.C", 0.8)
    bootstrapped.set_param("gate.promote_when", "non_inferior")
    bootstrapped.git("commit", "--quiet", "--all", "--message", "not worse")
    assert "promote: champion/000004 is model" in bootstrapped.cli("pipeline").stdout
    bootstrapped.git("checkout", "--quiet", older)
    for step in ("validate", "train", "score", "compare"):
        bootstrapped.cli(step)
    assert json.loads((bootstrapped.path / "build" / "decision.json").read_text())["decision"]["outcome"] == "keep"
    done = bootstrapped.cli("accept", check=False)
    newer = "champion/000004 comes from commit .{12}, which is newer than .{12} and holds its change"
    one_line(done, 1, f"promote: overtaken: {newer}; nothing was changed")


def test_a_decision_that_was_overtaken_is_made_again_against_the_new_champion(bootstrapped, tmp_path):
    """Two clones decide against the same champion; the second to promote meets the first one's model."""
    bare, other = tmp_path / "remote.git", tmp_path / "other"
    bootstrapped.git("clone", "--quiet", "--mirror", str(bootstrapped.path), str(bare))
    bootstrapped.git("remote", "add", "origin", str(bare))
    bootstrapped.run("cp", "-r", str(bootstrapped.path), str(other))
    first, second = bootstrapped, type(bootstrapped)(other, bootstrapped.options, bootstrapped.venv)
    for project, seed in ((first, 7), (second, 8)):
        project.better()
        project.set_param("model.seed", seed)
        project.cli("pipeline")  # reads origin, writes nothing there
        assert decision(project)["outcome"] == "promote"
    first.cli("promote", "--push")
    done = second.cli("promote", "--push")
    assert said(done, "promote").startswith("promote   keep: nothing to promote, champion/000004 stays")
    assert decision(second)["outcome"] == "keep" and events(second)[4:] == [(5, "kept")]


def test_promote_refuses_a_candidate_that_was_not_judged(sound, one_line):
    for step in ("train", "score", "compare"):
        sound.cli(step)
    (sound.path / "build" / "candidate" / "model.skops").write_bytes(b"another model")
    message = "decision.json: is about another candidate; run `make score compare` first"
    one_line(sound.cli("promote", check=False), 2, message)
    assert sound.git("for-each-ref", "refs/heads/ledger").stdout == ""


def test_a_step_imports_only_what_it_uses(sound):
    """Great Expectations, MLflow and matplotlib take seconds to import: nobody pays for them who does not use them."""
    script = """import sys; from conveyor import cli; from conveyor.steps import {0}
heavy = {{"great_expectations", "mlflow", "sklearn", "matplotlib", "skops"}}
print(*sorted(heavy & set(sys.modules)))"""
    used = {"score": "", "compare": "", "promote": "", "train": "", "pipeline": ""}
    for step, expected in used.items():
        done = sound.run(sys.executable, "-c", script.format(step), env={"PYTHONPATH": "src"})
        assert done.stdout.strip() == expected, step


# Interruptions, and the user's own code


def test_two_runs_do_not_work_in_one_build_folder(sound, one_line):
    with FileLock(sound.path / "build" / ".lock"):
        one_line(sound.cli("pipeline", check=False), 2, "build: another run is at work in it; wait until it has ended")
    sound.cli("pipeline")


@pytest.mark.parametrize("after", ["validate", "train", "score", "compare"])
def test_a_run_that_is_killed_leaves_nothing_that_the_next_one_believes(project, tmp_path, after):
    words, env, out = ["conveyor", "pipeline"], environment(PYTHONPATH="src"), tmp_path / "stdout"
    run = preloaded.start(words, project.path, env, born(), out, tmp_path / "stderr")
    while not re.search(f"^{after}", out.read_text(), re.M):
        assert run.exitcode is None, (tmp_path / "stderr").read_text()
        time.sleep(0.001)
    run.kill()
    run.join()
    assert run.exitcode == -signal.SIGKILL
    (project.path / "build" / ".writing-left").mkdir(exist_ok=True)
    project.cli("pipeline")
    assert decision(project)["outcome"] in ("bootstrap", "keep") and len(events(project)) == 2
    assert not list((project.path / "build").rglob(".writing-*"))


def forest_that_gives(part: str) -> tuple[str, str]:
    """An edit after which the forest's probabilities are ``part`` of what they should be."""
    start = "class Params("
    return start, (
        "class Forest(RandomForestClassifier):\n    def predict_proba(self, X):\n"
        f"        return super().predict_proba(X){part}\n\n\nRandomForestClassifier = Forest\n\n\n{start}"
    )


FAULTY_MODELS = {
    "build raises": (
        "    estimator = {",
        "    {}['nothing']\n    estimator = {",
        r"model.py:\d+: KeyError: 'nothing'; mend model.params in .*",
    ),
    "fit raises": (
        'CATEGORIES = ["carrier",',
        'CATEGORIES = ["airline",',
        "model.py: .*; mend model.params in params.yaml, or model.py",
    ),
    "no probabilities": (
        '"forest": RandomForestClassifier',
        '"forest": __import__("sklearn.svm").svm.LinearSVC',
        "model.py: AttributeError: .*predict_proba.*; the pipeline needs a predict_proba that takes the features",
    ),
    "probabilities of some rows": (
        *forest_that_gives("[:-1]"),
        r"model.py: predict_proba gives an array \(4042, 2\), .*",
    ),
    "probabilities of one class": (
        *forest_that_gives("[:, :1]"),
        r"model.py: predict_proba gives an array \(4043, 1\), .*",
    ),
    "no syntax": ("def build(", "def build((", r"model.py:\d+: SyntaxError: .*; mend that line"),
    "no such library": (
        "from conveyor.api import Frozen",
        "import no_such_library\nfrom conveyor.api import Frozen",
        r"model.py:\d+: ModuleNotFoundError: No module named 'no_such_library'; mend that line, or add .*",
    ),
    "no such name": (
        "from conveyor.api import Frozen",
        "from conveyor.api import Frosty",
        r"model.py:\d+: ImportError: .*; mend .*",
    ),
    "raises when it loads": (
        "class Params(",
        "CATEGORIES[9]\n\n\nclass Params(",
        r"model.py:\d+: IndexError: .*; mend .*",
    ),
    "ends the process when it loads": (
        "class Params(",
        "exit(0)\n\n\nclass Params(",
        r"model.py:\d+: SystemExit: 0; .*",
    ),
    "ends the process": (
        "    estimator = {",
        "    exit(0)\n    estimator = {",
        r"model.py:\d+: SystemExit: 0; mend .*",
    ),
    "builds nothing": (
        '    return Pipeline([("columns"',
        '    Pipeline([("columns"',
        r"model.py:\d+: build returns None; return an unfitted pipeline",
    ),
    "no build": (
        "def build(",
        "def make(",
        "model.py: `build`, which model.build of params.yaml names, is not there; define it",
    ),
}


@pytest.mark.parametrize("old, new, message", FAULTY_MODELS.values(), ids=FAULTY_MODELS)
def test_what_the_users_own_model_raises_is_one_line(sound, one_line, old, new, message):
    sound.edit("src/late_flights/model.py", old, new)
    sound.set_param("model.params.estimator", "forest")
    sound.set_param("model.params.forest", {"n_estimators": 5} if "Forest" in new else {})
    sound.set_param("model.trusted_types", ["late_flights.model.Forest", "numpy.dtype", "sklearn.tree._tree.Tree"])
    one_line(sound.cli("train", check=False), 2, message)
    assert not (sound.path / "build" / "candidate").exists()


def test_the_example_of_the_readme_changes_the_model_also_where_the_demo_has_gone_on(bootstrapped):
    """Before and after each change that the demo merges, it asks for another model than the one that is there."""
    import demo

    from conveyor.core.yaml_file import read_yaml
    from conveyor.steps.experiment import overrides

    [words] = re.findall(r'make try SET="(.*?)"', (bootstrapped.path / "README.md").read_text())
    [(name, wanted)] = overrides([words]).items()
    assert name == "model.params.estimator"  # whatever it is, the parameters of another one change nothing
    for act in demo.ACTS:
        if act.merged:
            act.change(bootstrapped.path)
            assert read_yaml(bootstrapped.path / "params.yaml")["model"]["params"]["estimator"] != wanted
    done = bootstrapped.cli("try", words)
    before, after = re.search(r"^roc_auc +([\d.]+) +([\d.]+)", done.stdout, re.M).groups()
    assert before != after
