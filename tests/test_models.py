"""Risk: a model file runs code or holds what nobody reviewed, or a model is scored by other code than its own."""

import io
import json
import os
import pickle
import re
import shutil
import sys
import zipfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
import yaml
from conftest import ROOT, estimators
from lightgbm import LGBMClassifier
from pyarrow import parquet
from sklearn.pipeline import make_pipeline
from threadpoolctl import threadpool_limits

from conveyor.core.errors import Misuse
from conveyor.core.params import load
from conveyor.core.project import Project
from conveyor.data.columns import features, labels
from conveyor.data.source import frame_of, read
from conveyor.ledger.ledger import ledger_of
from conveyor.model import scoring
from conveyor.model.bundle import Bundle, pack, unpack
from conveyor.model.scoring import Scored, column, environment, exact, of_champion
from conveyor.steps.compare import warnings
from conveyor.steps.score import cost
from conveyor.steps.train import train

MODEL = "src/late_flights/model.py"


def decision(project) -> dict:
    return json.loads((project.path / "build" / "decision.json").read_text())["decision"]


def lineage(project) -> dict:
    return json.loads((project.path / "build" / "candidate" / "lineage.json").read_text())


def golden(bundle: Path) -> list[float]:
    """What the model answered for the first rows of its holdout when it was trained."""
    return json.loads((bundle / "golden.json").read_text())["answers"]


def scores(project, model: str) -> np.ndarray:
    return parquet.read_table(project.path / "build" / "scores.parquet")[model].to_numpy()


def trust(project, *types: str) -> None:
    """Extend model.trusted_types."""
    listed = yaml.safe_load((project.path / "params.yaml").read_text())["model"]["trusted_types"]
    project.set_param("model.trusted_types", [*listed, *types])


# What is shipped


@pytest.fixture(scope="module")
def shipped(bake):
    """The estimators of model.py by name, fitted on a thousand rows, with the list of params.yaml and those rows."""
    project = bake()
    root = project.path
    params = load(root / "params.yaml")
    frame = read(params.data, root).iloc[:1000]
    rows, y = features(frame, params.data), labels(frame, params.data)
    with threadpool_limits(1):  # a worker beside this one wants the cores, and waiting threads would spin
        fitted = {name: train(built, rows, y, seed=1) for name, built in estimators(project).items()}
    return fitted, params.model.trusted_types, rows, y


def test_every_shipped_estimator_is_stored_with_the_list_of_params_yaml_and_answers_as_before(shipped):
    fitted, trusted_types, rows, _ = shipped
    assert len(fitted) == 3
    for name, model in fitted.items():
        stored = unpack(pack(model), trusted_types)
        assert np.array_equal(stored.predict_proba(rows), model.predict_proba(rows)), name


def test_every_entry_of_the_list_is_needed_by_a_shipped_estimator(shipped):
    fitted, trusted_types, *_ = shipped
    needed = (skops.io.get_untrusted_types(data=pack(model)) for model in fitted.values())
    assert sorted(set().union(*needed)) == list(trusted_types)


# Another library

LIGHTGBM = ["collections.OrderedDict", "lightgbm.basic.Booster", "lightgbm.sklearn.LGBMClassifier"]


def test_a_lightgbm_model_answers_as_before_when_it_is_loaded_again(shipped):
    fitted, trusted_types, rows, y = shipped
    model = make_pipeline(fitted["logistic"].named_steps["columns"], LGBMClassifier(n_jobs=1, verbosity=-1)).fit(
        rows, y
    )
    packed = pack(model)
    with pytest.raises(Misuse, match=rf"holds {', '.join(LIGHTGBM)}, which model\.trusted_types"):
        unpack(packed, trusted_types)
    stored = unpack(packed, (*trusted_types, *LIGHTGBM))
    assert np.array_equal(stored.predict_proba(rows), model.predict_proba(rows))


def test_lightgbm_takes_the_steps_that_its_page_names(bootstrapped, one_line):
    project = bootstrapped
    page = " ".join((project.path / "docs" / "model.md").read_text().split("## Another kind of model")[1].split())
    for step in ("`lightgbm` to `requirements/model.in`", "`make lock`", "branch in `build`", "`model.trusted_types`"):
        assert step in page

    first = decision(project)["metrics"][0]["challenger"]
    # What `make lock` writes, without asking an index: the template's lock resolved it together with the product's.
    project.edit("requirements/model.in", "pandas\n", "lightgbm\npandas\n")
    locked = re.search(r"^lightgbm==.+\n(?: .+\n)+", (ROOT / "requirements/dev.txt").read_text(), re.M)[0]
    champions_lock = (project.path / "requirements" / "model.txt").read_bytes()
    for name in ("model", "serve", "run", "dev"):
        lock = project.path / "requirements" / f"{name}.txt"
        lock.write_text(lock.read_text() + locked)
    # The champion is locked without it: the environment of these tests serves as one that was built from that lock.
    environments = project.path / "build" / "environments"
    environments.mkdir()
    (environments / sha256(champions_lock).hexdigest()[:16]).symlink_to(project.venv)
    (project.venv / "complete").touch()

    project.edit(MODEL, "from sklearn.compose", "from lightgbm import LGBMClassifier\nfrom sklearn.compose")
    project.edit(MODEL, '"forest", "boosting"]', '"forest", "boosting", "lightgbm"]')
    project.edit(
        MODEL,
        "    boosting: dict[str, Any] = {}\n",
        "    boosting: dict[str, Any] = {}\n    lightgbm: dict[str, Any] = {}\n",
    )
    project.edit(
        MODEL,
        '": HistGradientBoostingClassifier,\n',
        '": HistGradientBoostingClassifier,\n        "lightgbm": LGBMClassifier,\n',
    )
    project.set_param("model.params.estimator", "lightgbm")
    project.set_param(
        "model.params.lightgbm", {"n_estimators": 100, "learning_rate": 0.05, "n_jobs": 1, "verbosity": -1}
    )

    done = project.cli("pipeline", check=False)
    one_line(done, 2, rf"model\.skops: holds {', '.join(LIGHTGBM)}, which model\.trusted_types in params\.yaml .*")
    assert not (project.path / "build" / "decision.json").exists()

    trust(project, *LIGHTGBM)
    project.cli("pipeline")
    metric = decision(project)["metrics"][0]
    assert decision(project)["outcome"] in ("keep", "promote") and metric["champion"] == pytest.approx(first, abs=1e-12)
    assert metric["challenger"] > 0.69 and metric["gain_low"] < metric["gain"] < metric["gain_high"]
    candidate = project.path / "build" / "candidate"
    assert scores(project, "challenger")[:20].tolist() == golden(candidate)
    assert (candidate / "requirements.txt").read_text().endswith(locked)
    assert f"lightgbm=={lineage(project)['versions']['lightgbm']} " in locked

    project.run(project.venv / "bin" / "ruff", "check", ".")
    project.run(sys.executable, "-m", "pytest", "-q", "tests/test_model.py")


# A transformer of one's own

TRANSFORMER = """class {name}(StandardScaler):
    def transform(self, X):
        return 2 * super().transform(X)


"""


def define(project, name: str, source: str = TRANSFORMER) -> None:
    """Define a transformer in model.py, and let the pipeline use it."""
    project.edit(MODEL, "CATEGORIES = [", source.format(name=name) + "CATEGORIES = [")
    project.edit(MODEL, "append(StandardScaler())", f"append({name}())")


def test_a_transformer_of_ones_own_is_refused_by_name_until_it_is_listed(sound, one_line):
    define(sound, "Doubled")
    message = r"model\.skops: holds late_flights\.model\.Doubled, which model\.trusted_types in params\.yaml .*"
    one_line(sound.cli("train", check=False), 2, message)
    assert not (sound.path / "build" / "candidate").exists()
    trust(sound, "late_flights.model.Doubled")
    sound.cli("train")
    assert (sound.path / "build" / "candidate" / "model.skops").is_file()


def test_a_champion_whose_transformer_is_gone_is_scored_by_its_own_wheel_while_its_type_is_listed(sound):
    project = sound
    define(project, "Doubled")
    trust(project, "late_flights.model.Doubled")
    project.git("commit", "--all", "-m", "a transformer of our own")
    project.cli("pipeline")
    first = decision(project)["metrics"][0]["challenger"]

    project.git("checkout", "HEAD~1", "--", "src", "params.yaml")
    assert "Doubled" not in (project.path / MODEL).read_text()
    project.better()
    project.cli("pipeline")
    assert decision(project)["outcome"] == "incomparable"
    assert "holds late_flights.model.Doubled, which model.trusted_types" in decision(project)["reason"]

    trust(project, "late_flights.model.Doubled")
    project.cli("score")
    project.cli("compare")
    metric = decision(project)["metrics"][0]
    assert (decision(project)["outcome"], metric["champion"]) == ("promote", pytest.approx(first, abs=1e-12))


# A pull request


def test_the_list_of_a_pull_request_holds_in_its_own_job_and_not_where_the_base_judges(bootstrapped, tmp_path):
    base, pull = bootstrapped, replace(bootstrapped, path=tmp_path / "pull")
    base.git("clone", "--quiet", str(base.path), str(pull.path))
    define(pull, "Doubled")
    trust(pull, "late_flights.model.Doubled")
    for step in ("validate", "train", "score"):  # the job without permissions
        pull.cli(step)
    for handed_over in ("candidate", "scores.parquet"):
        put(pull.path / "build" / handed_over, base.path / "build" / handed_over)
    marker = tmp_path / "marker"
    (base.path / "build" / "candidate" / "model.skops").write_bytes(pickle.dumps(Payload(marker)))

    base.cli("compare", "--pull", str(pull.path))
    base.cli("report", "--pull", str(pull.path))
    assert decision(base)["outcome"] == "keep", decision(base)["reason"]
    assert decision(base)["metrics"][0]["challenger"] > 0.65
    assert not marker.exists(), "the challenger's file was loaded"

    # The base loads one model, the champion, and by its own list, however long the other one is.
    base.set_param("model.trusted_types", [])
    base.cli("compare", "--pull", str(pull.path))
    assert decision(base)["outcome"] == "incomparable"
    assert "holds numpy.dtype, which model.trusted_types in params.yaml does not list" in decision(base)["reason"]


def put(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.rmtree(target)
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)


# A file that would run code


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def joblib_file(payload: Payload, model: bytes) -> bytes:
    joblib.dump(payload, file := io.BytesIO(), compress=3)
    return file.getvalue()


def zip_of_a_pickle(payload: Payload, model: bytes) -> bytes:
    with zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
        archive.writestr("data.pkl", pickle.dumps(payload))
    return file.getvalue()


def skops_with_a_pickled_array(payload: Payload, model: bytes) -> bytes:
    """A model of ours, but for its arrays: each is pickled, as NumPy does with arrays of objects."""
    np.save(array := io.BytesIO(), np.array([payload], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(io.BytesIO(model)) as ours, zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
        for name in ours.namelist():
            archive.writestr(name, array.getvalue() if name.endswith(".npy") else ours.read(name))
    return file.getvalue()


def first_member(content: bytes, suffix: str) -> io.BytesIO:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return io.BytesIO(archive.read(next(name for name in archive.namelist() if name.endswith(suffix))))


# How each is made, and what would run it.
HOSTILE = {
    "pickle": (lambda payload, model: pickle.dumps(payload), pickle.loads),
    "joblib": (joblib_file, lambda content: joblib.load(io.BytesIO(content))),
    "zip of a pickle": (zip_of_a_pickle, lambda content: pickle.load(first_member(content, ".pkl"))),
    "skops with a pickled array": (
        skops_with_a_pickled_array,
        lambda content: np.load(first_member(content, ".npy"), allow_pickle=True),
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_payload_under_the_name_of_a_model_is_refused_and_never_run(bootstrapped, one_line, tmp_path, kind):
    make, run = HOSTILE[kind]
    marker = tmp_path / "marker"
    candidate = Bundle(bootstrapped.path / "build" / "candidate")
    model = candidate.path / "model.skops"
    model.write_bytes(make(Payload(marker), model.read_bytes()))
    run(model.read_bytes())
    marker.rmdir()  # it was there: the payload is a live one

    done = bootstrapped.cli("score", check=False)
    one_line(done, 2, r"model\.skops: no skops model \((BadZipFile|KeyError|ValueError)\); train again")

    # As champion, of which the ledger itself says that these are its bytes.
    project = Project(bootstrapped.path)
    ledger_of(project).accept(candidate, ledger_of(project).number, "promote", "it says so")
    ledger_of(project).live(ledger_of(project).events[-1])
    rows = features(frame_of(project).head(9), project.params.data)
    with of_champion(project, ledger_of(project).bundle(ledger_of(project).champion()), rows) as (nothing, reason):
        assert nothing is None and reason.startswith("model.skops: no skops model")
    assert not marker.exists()


def test_a_payload_in_the_place_of_the_champions_bytes_is_refused_before_it_is_looked_at(
    bootstrapped, one_line, tmp_path
):
    git, marker = bootstrapped.git, tmp_path / "marker"
    champion = ledger_of(Project(bootstrapped.path)).champion()
    (tmp_path / "payload").write_bytes(pickle.dumps(Payload(marker)))
    blob = git("hash-object", "-w", str(tmp_path / "payload")).stdout.strip()
    index = {"GIT_INDEX_FILE": str(tmp_path / "index")}
    bootstrapped.run("git", "read-tree", f"refs/models/{champion.key}", env=index)
    bootstrapped.run("git", "update-index", "--cacheinfo", f"100644,{blob},model.skops", env=index)
    tree = bootstrapped.run("git", "write-tree", env=index).stdout.strip()
    git("update-ref", f"refs/models/{champion.key}", git("commit-tree", tree, "-m", "tampered").stdout.strip())
    one_line(
        bootstrapped.cli("score", check=False),
        2,
        rf"ledger: refs/models/{champion.key} is commit .*, event 1 says .*; `make fsck` says what brings it back",
    )
    assert not marker.exists()


# A model that fails, and other libraries


def test_a_champion_that_fails_on_these_rows_or_takes_too_long_is_incomparable_and_says_why(bootstrapped, monkeypatch):
    project = Project(bootstrapped.path)
    champion = ledger_of(project).bundle(ledger_of(project).champion())
    rows = features(frame_of(project).head(9), project.params.data)
    with of_champion(project, champion, rows.assign(temp=np.inf)) as (nothing, reason):
        assert nothing is None and re.fullmatch("ValueError: .* infinity .*", reason)
    with of_champion(project, champion, rows.assign(carrier=3)) as (nothing, reason):
        assert nothing is None and reason.startswith("column 'carrier' was text (str) when model")

    monkeypatch.setattr(scoring, "SECONDS", 0.01)
    apart = scoring.apart(project, champion, rows)
    with pytest.raises(Misuse, match="it said nothing within 0.01 s"), apart:
        pass


def test_latency_is_measured_in_turns_and_size_beside_it():
    """A busy moment of the machine meets both models; what is not a number is no measurement."""
    turns, sizes = [], {"challenger": 30, "champion": 10}

    def scored(role: str, seconds: float):
        return Scored(np.array([]), lambda: turns.append(role) or seconds)

    bundles = [type("Stored", (), {"model_bytes": size}) for size in sizes.values()]
    told = cost(scored("challenger", 0.3), scored("champion", 0.1), *bundles)
    assert turns == ["challenger", "champion"] * (len(turns) // 2) and len(turns) > 20
    assert told["seconds"] == {"challenger": 0.3, "champion": 0.1} and told["bytes"] == sizes
    assert warnings(told) == [
        "the challenger takes 3.0 times the champion's seconds for 100 rows",
        "the challenger takes 3.0 times the champion's bytes as stored",
    ]
    gone = cost(scored("challenger", 0.3), scored("champion", float("nan")), *bundles[:1], bundles[0])
    assert gone["seconds"]["champion"] is None and warnings(gone) == []


def test_rows_reach_another_process_to_the_last_digit():
    """A champion that is scored apart must see what it would see here: the smallest numbers, the finest times."""
    fine = pd.to_datetime(["2013-01-01T00:00:00.123456789", None], format="ISO8601")
    never = pd.Series(["2013-01-01", None, "9999-12-31"]).astype("datetime64[us, UTC]")
    sent = {
        "small": pd.Series([3.3e-15, 1 / 3, -0.0, np.nan, np.inf, 1.7e308]),
        "whole": pd.Series([2**60 + 1, -7, 0]),
        "truth": pd.Series([True, False, True]),
        "words": pd.Series(["a", None, 'ü"\n']),
        "fine": pd.Series(fine.as_unit("ns")),
        "never": never,
    }
    for name, values in sent.items():
        told = json.loads(json.dumps(exact(values)))
        pd.testing.assert_series_equal(column(told, str(values.dtype)), values, obj=name)


FUSSY = """import sklearn


class {name}(StandardScaler):
    \"\"\"Answers under the scikit-learn alone that it was fitted with.\"\"\"

    def fit(self, X, y=None):
        self.version_ = sklearn.__version__
        return super().fit(X, y)

    def transform(self, X):
        if self.version_ != sklearn.__version__:
            raise ValueError(f"fitted with {{self.version_}}, not {{sklearn.__version__}}")
        return super().transform(X)


"""


def test_a_champion_locked_to_an_older_scikit_learn_is_scored_in_an_environment_of_its_lock(sound, tmp_path):
    project = sound
    define(project, "Fussy", FUSSY)
    trust(project, "late_flights.model.Fussy")
    project.git("commit", "--all", "-m", "the same code under both locks")

    project.edit("requirements/model.in", "scikit-learn\n", "scikit-learn==1.8.0\n")
    older = project.path / "requirements" / "model.txt"
    resolve = (project.venv / "bin" / "uv", "pip", "compile", "--quiet", "--universal", "--generate-hashes")
    project.run(*resolve, "--python-version", "3.11", older.with_suffix(".in"), "-o", older)
    assert "scikit-learn==1.8.0 " in older.read_text()
    project.git("commit", "--all", "-m", "an older scikit-learn")

    # Trained with the libraries of that lock; what only the pipeline needs, such as MLflow, comes from around them.
    put(older, tmp_path / "requirements.txt")
    asked = SimpleNamespace(key="0" * 64, path=tmp_path, requirements=older.read_bytes())
    environment(Project(project.path), asked)
    environments = project.path / "build" / "environments"
    [libraries] = environments.glob("*/lib/python*/site-packages")
    project.cli("pipeline", PYTHONPATH=os.pathsep.join(["src", str(libraries)]))
    assert decision(project)["outcome"] == "bootstrap"
    assert lineage(project)["versions"]["scikit-learn"] == "1.8.0"
    answers = golden(project.path / "build" / "candidate")

    project.git("checkout", "HEAD~1", "--", "requirements")
    project.better()
    project.cli("pipeline")
    assert lineage(project)["versions"]["scikit-learn"] != "1.8.0"
    assert decision(project)["outcome"] == "promote", decision(project)["reason"]
    assert scores(project, "champion")[:20] == pytest.approx(answers, abs=1e-9)
    assert len(list(environments.iterdir())) == 1, "built once, then found again"
