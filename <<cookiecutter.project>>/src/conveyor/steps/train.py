"""Fit the model on the training rows, log the run to MLflow, and write the candidate bundle."""

from __future__ import annotations

import platform
import re
import warnings
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from conveyor.core import params
from conveyor.core.code import code_sha256
from conveyor.core.errors import Misuse, at_fault
from conveyor.core.files import new_directory, read_json, sha256, to_json
from conveyor.core.project import Project, now
from conveyor.data import columns, split
from conveyor.data.hints import hint
from conveyor.data.source import frame_of
from conveyor.gate.metrics import Metric, at, of_task, value
from conveyor.ledger.ledger import ledger_of
from conveyor.model import runtime, scoring, signature, tracking
from conveyor.model.builder import Builder, unused
from conveyor.model.bundle import Bundle, pack, unpack
from conveyor.model.code import pack_code
from conveyor.model.compiled import choice

GOLDEN_ROWS = 20


def train(builder: Builder, rows: pd.DataFrame, y: NDArray[np.int64], seed: int) -> Any:
    """The team's pipeline, fitted.

    Args:
        builder: makes the pipeline.
        rows: the features of the training rows (n x features).
        y: their labels (n,), from columns.labels.
        seed: of every random draw of the fit.

    Raises:
        Misuse: the estimator refuses an option or its value.
    """
    try:
        return builder.pipeline(seed).fit(rows, y)
    except Misuse:
        raise
    except (Exception, SystemExit) as error:
        # The model is the user's own code: each of its exceptions becomes one line, with the place in model.py.
        told = [f"column {name!r}: {how}" for name in rows if (how := hint(rows[name]))]
        # A column that is no number is the likelier cause where the model was given one.
        mend = told[:3] or [f"mend model.params in params.yaml, or {builder.file.name}"]
        raise at_fault(error, builder.file, "; ".join(mend)) from error


def not_taken(builder: Builder, seed: int, given: list[str]) -> list[str]:
    """The columns that the team's pipeline drops: a row does not need them. See ``train`` for the errors."""
    try:
        return unused(builder.pipeline(seed), given)
    except Misuse:
        raise
    except (Exception, SystemExit) as error:
        raise at_fault(error, builder.file, f"mend model.params in params.yaml, or {builder.file.name}") from error


def predict(
    builder: Builder, fitted: Any, rows: pd.DataFrame, task: str = "binary", classes: int = 2
) -> NDArray[np.float64]:
    """The predictions of a model that was just fitted; see runtime.predict.

    Raises:
        Misuse: it gives none, or none for some rows.
    """
    needed = "predict" if task == "regression" else "predict_proba"
    try:
        predicted = runtime.predict(fitted, rows, task, classes)
    except (Exception, SystemExit) as error:
        # The user's own code again; or a pipeline without probabilities, which raises an exception of its own kind.
        mend = f"the pipeline needs a {needed} that takes the features"
        raise at_fault(error, builder.file, mend) from error
    lacking = int((~np.isfinite(predicted.reshape(len(rows), -1)).all(axis=1)).sum())
    if lacking:
        what = "number" if task == "regression" else "probability"
        raise Misuse(
            f"{builder.file.name}: the model gives no {what} for {lacking} of {len(rows)} holdout rows; mend it"
        )
    return predicted


def inputs(project: Project) -> dict[str, str]:
    """The digest of each input of a model. The key of the bundle is the digest of these."""
    params = project.params
    settings = {
        "data": params.data.model_dump(exclude={"path", "sha256", "private", "source"}),
        "split": {**params.split.model_dump(exclude={"shared_rows"}), "block": params.gate.block},
        "model": params.model.model_dump(exclude={"trusted_types"}),
    }
    return {
        "data": params.data.sha256,
        "params": sha256(to_json(settings).encode()),
        "code": code_sha256("conveyor.steps.train", team=project.team),
        "locks": sha256(
            (project.file_sha256("requirements/run.txt") + project.file_sha256("requirements/model.txt")).encode()
        ),
    }


def key(project: Project) -> str:
    """The key of the bundle that training would make now."""
    return sha256(to_json(inputs(project)).encode())


def run(project: Project) -> str:
    validation = read_json(project.build / "validation.json", made_by="validate")
    if not validation.get("passed") or validation.get("data_sha256") != project.params.data.sha256:
        raise Misuse("validation.json: these data have not passed validation; run `make validate` first")
    candidate = project.build / "candidate"
    ledger = ledger_of(project)
    if ledger.restore(key(project), candidate):
        # Trained before, from equal inputs: the same bytes are judged again.
        return f"restored model {key(project)[:12]} from the ledger; nothing it depends on changed"

    builder = Builder.of(project)
    # Made first, so that a missing file stops the run before a model is fitted and logged.
    wheel, _ = pack_code(project), project.needed("requirements/model.txt")
    frame, names = frame_of(project), project.params.data
    y = columns.labels(frame, names)
    rule = split.split(frame, names, project.params.split, project.params.gate.block)
    trained = rule.trained_on(frame)
    features = columns.features(frame, names)
    forgotten = not_taken(builder, project.params.model.seed, list(features.columns))
    features = features.drop(columns=forgotten)
    fitted = train(builder, features[trained], y[trained], project.params.model.seed)

    # From here on the stored bytes are the model, loaded as in serving: an unreviewed type stops the run here.
    packed = pack(fitted)
    fitted = unpack(packed, project.params.model.trusted_types)
    held_out = features[~trained]
    predicted = predict(builder, fitted, held_out, names.task, len(columns.classes(frame, names)))
    threshold, metrics = project.params.gate.threshold, of_task(names.task)
    measured = {name: _value(at(metric, threshold), y[~trained], predicted) for name, metric in metrics.items()}
    served = choice.choose(fitted, held_out, predicted, scoring.question(project), project.params.model.tolerance)
    run_id = log(project, fitted, features[trained], builder.params, measured)
    write(project, candidate, packed, predicted, rule, features[trained], held_out, forgotten, served, run_id, wheel)
    ledger.models.check_size(Bundle(candidate))
    line = f"model {Bundle(candidate).key[:12]} fitted on {trained.sum()} rows, {(~trained).sum()} held out"
    line += f", served as {served.form}" + (f" ({served.why})" if served.why else "")
    if forgotten:
        line += f"; it takes no {', '.join(forgotten)}: list them in {builder.file.name}, or in data.ignore"
    return line


def _value(metric: Metric, y: NDArray[Any], predicted: NDArray[np.float64]) -> float | None:
    try:
        measured = value(metric, y, predicted)
    except ValueError:
        return None
    return measured if np.isfinite(measured) else None


def libraries(project: Project) -> dict[str, str]:
    """The versions of the packages in requirements/model.in, so that a model of another library records that one."""
    found = {"numpy": version("numpy")}
    for name in re.findall(
        r"^\w[\w.-]*", (project.root / "requirements" / "model.in").read_text(encoding="utf-8"), re.M
    ):
        with suppress(PackageNotFoundError):  # of another platform
            found[name] = version(name)
    return found


def log(
    project: Project,
    fitted: Any,
    rows: pd.DataFrame,
    params: Any,
    measured: dict[str, float | None],
) -> str:
    """Log the run to MLflow, and return its id: to the team's server if there is one, else to a SQLite file.

    Raises:
        Misuse: the server in MLFLOW_TRACKING_URI does not take the run. It is not logged elsewhere instead.
    """
    names = project.params.data
    task = names.task, len(columns.classes(frame_of(project), names))
    # Whole numbers are declared as doubles: the service must accept a missing one.
    example = rows.head(200).astype({column: float for column in rows.select_dtypes("integer")})
    with tracking.answering(project, "did not take the run", "mend that and train again"):
        import mlflow.sklearn
        from mlflow.data.pandas_dataset import from_pandas

        mlflow.set_experiment(experiment_id=_experiment(project))
        with warnings.catch_warnings(), mlflow.start_run(run_name=getattr(params, "estimator", None)) as active:
            warnings.simplefilter("ignore")  # hints of MLflow about its own source classes
            mlflow.log_params({"seed": project.params.model.seed, **_flat(params.model_dump())})
            mlflow.log_metrics({f"holdout_{name}": value for name, value in measured.items() if value is not None})
            mlflow.set_tags({"commit": project.commit, "dirty": project.dirty, "key": key(project)})
            if names.task == "binary":
                mlflow.set_tag("threshold", project.params.gate.threshold)  # of these metrics
            signature = mlflow.models.infer_signature(example, runtime.predict(fitted, example, *task))
            source = from_pandas(rows, source=names.path, name=names.path, digest=names.sha256[:36])
            source.schema = signature.inputs  # else MLflow looks at each value of all rows, one by one
            mlflow.log_input(source, context="training")
            mlflow.sklearn.log_model(
                fitted,
                name="model",
                signature=signature,
                serialization_format="skops",
                skops_trusted_types=list(project.params.model.trusted_types),
                pip_requirements=[f"{name}=={number}" for name, number in libraries(project).items()],
            )
            run: str = active.info.run_id
            return run


def _experiment(project: Project) -> str:
    """The experiment of this project; a local one has its artifacts beside its database."""
    import mlflow

    name = project.package
    found = mlflow.get_experiment_by_name(name)
    if found:
        return found.experiment_id
    place = None if project.environment.tracking_uri else (project.root / "mlruns" / "artifacts").as_uri()
    return mlflow.create_experiment(name, artifact_location=place)


def _flat(value: dict[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        flat |= _flat(inner, f"{before}{name}.") if isinstance(inner, dict) else {f"{before}{name}": inner}
    return flat


def _naming(data: params.Data, rows: pd.DataFrame) -> list[str]:
    """The columns besides those of the model that name a row: with them in a request its label finds the prediction."""
    named = dict.fromkeys((*data.key, *([data.time] if data.time else [])))
    return [name for name in named if name not in rows.columns and name != data.target]


def write(
    project: Project,
    path: Path,
    packed: bytes,
    predicted: NDArray[np.float64],
    rule: split.SplitRule,
    trained: pd.DataFrame,
    held_out: pd.DataFrame,
    forgotten: list[str],
    served: choice.Chosen,
    run_id: str,
    wheel: tuple[str, bytes],
) -> None:
    """Write the bundle to ``path``, whole or not at all."""
    golden = held_out.head(GOLDEN_ROWS)
    with new_directory(path) as new:
        (new / "model.skops").write_bytes(packed)
        if served.onnx:
            (new / "model.onnx").write_bytes(served.onnx)
        (new / wheel[0]).write_bytes(wheel[1])
        (new / "requirements.txt").write_bytes(project.needed("requirements/model.txt"))
        (new / "split.json").write_text(to_json(rule.model_dump(mode="json")), encoding="utf-8")
        # In JSON a missing number is null.
        columns = [[None if value != value else value for value in scoring.exact(golden[name])] for name in golden]
        answers = {
            "rows": [dict(zip(golden.columns, row, strict=True)) for row in zip(*columns, strict=True)],
            "answers": predicted[:GOLDEN_ROWS].tolist(),
        }
        (new / "golden.json").write_text(to_json(answers), encoding="utf-8")
        task = project.params.data.task
        profile = signature.profile(trained, held_out, served.missing, served.closed, predicted, task)
        (new / "profile.json").write_text(to_json(profile), encoding="utf-8")
        lineage = {
            **project.header(),
            "key": key(project),
            "inputs": inputs(project),
            "params": project.params.model.params,
            "seed": project.params.model.seed,
            **scoring.question(project),
            "features": {column: str(dtype) for column, dtype in held_out.dtypes.items()},
            "unused": list(dict.fromkeys([*forgotten, *_naming(project.params.data, held_out)])),
            "trained_rows": len(trained),
            "served": {
                "form": served.form,
                "difference": served.difference,
                "tolerance": project.params.model.tolerance,
                "why": served.why,
            },
            "scoring_code": scoring.scoring_code(project),
            "versions": {"python": platform.python_version(), **libraries(project)},
            "mlflow_run": run_id,
            "finished": now(),
        }
        (new / "lineage.json").write_text(to_json(lineage), encoding="utf-8")
