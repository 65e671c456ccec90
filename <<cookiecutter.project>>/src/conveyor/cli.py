"""The commands: one verb per step, each a few lines over its module. Exit 0 done, 1 the gate said no, 2 misuse."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from conveyor.core.ending import ended
from conveyor.core.errors import one_line

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
Pull = Annotated[Path | None, typer.Option(help="A checkout of a pull request: its data are judged by the rule here.")]
Push = Annotated[bool, typer.Option(help="Write the ledger at origin. Without a remote it is local anyway.")]
Before = Annotated[
    str | None, typer.Option(help="The commit of main before this push: it judges a change of rule and model at once.")
]
To = Annotated[str, typer.Option(help="The environment: production, or another one beside it.")]
Because = Annotated[str, typer.Option(help="Why, for the record.")]


def _waited(verb: str) -> AbstractContextManager[None]:
    """Says what the verb does, in the first words of its help, where it is silent for long."""
    from conveyor.core.waits import announced

    known = [(each.name, each.callback) for each in app.registered_commands if each.callback]
    callback = next(function for name, function in known if verb in (name, function.__name__))
    return announced(verb, (callback.__doc__ or "").partition("\n")[0])


def _step(name: str, pull: Path | None = None, push: bool = False, before: str | None = None) -> None:
    from conveyor.core.project import Project
    from conveyor.steps.pipeline import BY_NAME, alone, show

    project = Project(Path.cwd(), pull=pull, push=push, before=before)
    with alone(project):
        show(BY_NAME[name], project)


@app.command("data-lock")
def data_lock() -> None:
    """Pin the data as they are now: writes data.sha256 in params.yaml."""
    from conveyor.core import params
    from conveyor.core.files import write_text
    from conveyor.data import source

    path = Path.cwd() / "params.yaml"
    # The pin is replaced, so its present value does not matter: the rest of the file must be sound.
    names = params.load(path, {"data.sha256": "0" * 64}).data
    with _waited("data-lock"):
        text, new = path.read_text(encoding="utf-8"), source.lock(path.parent, names)
    pinned = params.pinned(text, new)
    write_text(path, pinned)
    print(f"data-lock {'unchanged' if pinned == text else 'pinned'}: {names.path} {new}")


@app.command()
def adopt(
    data: Annotated[str, typer.Option(help="A file, a folder of Parquet, or an fsspec URL.")] = "",
    target: Annotated[str, typer.Option(help="The column to predict.")] = "",
    task: Annotated[str, typer.Option(help="binary, multiclass or regression; else it is inferred.")] = "",
    key: Annotated[str, typer.Option(help="Columns that tell all rows apart, with commas between.")] = "",
    time: Annotated[str, typer.Option(help="The column of times, or none.")] = "",
    group: Annotated[str, typer.Option(help="The column of what a row belongs to, or none.")] = "",
    separator: Annotated[str, typer.Option(help="What separates the columns of a CSV.")] = "",
    dry: Annotated[bool, typer.Option(help="Show what would change, and change nothing.")] = False,
) -> None:
    """Take data of your own: infer what their columns are for, and write params.yaml, the contract and model.py."""
    from conveyor.adopt.adopt import run
    from conveyor.adopt.infer import asked
    from conveyor.core.project import Project
    from conveyor.steps.pipeline import alone

    project = Project(Path.cwd())
    with alone(project), _waited("adopt"):
        print(
            f"adopt     {one_line(run(project, data, asked(target, task, key, time, group), separator or None, dry))}"
        )


@app.command()
def collect() -> None:
    """Bring the new rows of data.source in params.yaml, each once: checked by the contract, and pinned.

    A command gets the newest time as SINCE; SOURCE_PASSWORD is that of a database. docs/model.md has examples.
    """
    from conveyor.adopt.collect import run
    from conveyor.core.project import Project
    from conveyor.steps.pipeline import alone

    project = Project(Path.cwd())
    with alone(project), _waited("collect"):
        print(f"collect   {one_line(run(project))}")


@app.command()
def retrain(
    issue: Annotated[bool, typer.Option(help="In a workflow: tell the open issue about an alarm.")] = False,
) -> None:
    """Collect new rows, and where monitor.retrain is set, show whether a model that learns them is better.

    Nothing is promoted: `propose` makes a pull request of the rows.
    """
    from conveyor.core.project import Project
    from conveyor.steps.pipeline import alone
    from conveyor.watch.retrain import run

    project = Project(Path.cwd())
    with alone(project), _waited("retrain"):
        print(f"retrain   {one_line(run(project, issue))}")


@app.command()
def forget(
    key: Annotated[str, typer.Option(help="Whose rows: id=17,day=2013-05-01, all columns of data.key, or data.group.")],
    yes: Annotated[bool, typer.Option(help="Do it; else it is only told.")] = False,
) -> None:
    """Delete the rows of one person from data, log and labels, and tell what cannot be reached."""
    from conveyor.core.project import Project
    from conveyor.steps.pipeline import alone
    from conveyor.watch.forget import run

    project = Project(Path.cwd())
    with alone(project), _waited("forget"):
        print(f"forget    {one_line(run(project, key, yes))}")


@app.command()
def validate(pull: Pull = None) -> None:
    """Check the data against expectations/data.json, before anything is trained."""
    _step("validate", pull)


@app.command()
def train() -> None:
    """Fit model.py on the training rows and write the candidate bundle."""
    _step("train")


@app.command()
def score() -> None:
    """Predict the holdout with the candidate and with the champion."""
    _step("score")


@app.command()
def compare(pull: Pull = None, before: Before = None) -> None:
    """Decide whether the challenger is better than the champion; exit 1 if it is blocked."""
    _step("compare", pull, before=before)


@app.command()
def promote(push: Push = False, before: Before = None) -> None:
    """Make the candidate champion if the gate said so."""
    _step("promote", push=push, before=before)


@app.command()
def accept(push: Push = False, before: Before = None) -> None:
    """Accept the candidate if the gate said so; `deploy` makes it champion once it serves."""
    _act("accept", push, before=before)


@app.command()
def image(push: Annotated[bool, typer.Option(help="Push it to REGISTRY.")] = False) -> None:
    """Build the image of the model that is to serve."""
    _act("image", push)


@app.command()
def sbom() -> None:
    """Write build/sbom.cdx.json: what is in the image of build/image.json."""
    _act("sbom", False)


@app.command()
def undeploy(to: To = "production") -> None:
    """Take an environment down: edge and replicas; the ledger stays as it is."""
    _act("undeploy", False, to)


@app.command()
def deploy(
    to: To = "production",
    push: Push = False,
) -> None:
    """Bring build/image.json to serve without losing a request; it is rolled back by itself if it fails."""
    _act("deploy", push, to)


@app.command()
def report(pull: Pull = None) -> None:
    """Write build/report.md and build/report.html."""
    _step("report", pull)


@app.command()
def pipeline(push: Push = False) -> None:
    """validate, train, score, compare, promote and report, in one process; what did not change is not repeated."""
    from conveyor.core.project import Project
    from conveyor.steps.pipeline import alone, run_all

    project = Project(Path.cwd(), push=push)
    with alone(project):
        run_all(project)


@app.command("try")
def try_(
    changes: Annotated[list[str] | None, typer.Argument(help="model.seed=8 model.params.estimator=forest ...")] = None,
) -> None:
    """Train with changed parameters and show the difference to the champion; promotes nothing."""
    from conveyor.steps import experiment

    experiment.run(Path.cwd(), changes or [])


@app.command()
def aa() -> None:
    """Test the gate on models of which none is better: how often is one promoted? Exit 1 if too often."""
    from conveyor.core.project import Project
    from conveyor.steps import aa
    from conveyor.steps.pipeline import alone

    project = Project(Path.cwd())
    with alone(project), _waited("aa"):
        print(f"aa        {aa.run(project)}")


@app.command()
def verify(
    receipt: Annotated[Path, typer.Argument(help="The receipt of a verdict.")] = Path("build/receipt.json"),
    event: Annotated[int | None, typer.Option(help="The event that must record it; any by default.")] = None,
) -> None:
    """Derive a verdict again from its receipt, and compare it with the ledger; exit 1 if anything was changed."""
    from conveyor.steps import verify

    with _waited("verify"):
        print(f"verify    {one_line(verify.run(receipt, Path.cwd(), event))}")


@app.command()
def predict(
    source: Annotated[Path, typer.Argument(help="The rows: .csv, .csv.gz or .parquet.")],
    target: Annotated[
        Path, typer.Argument(help="Where the rows go, with a column of predictions; by the same endings.")
    ],
) -> None:
    """Predict the rows of a file with the champion, in the form in which it is served."""
    from conveyor.core.project import Project
    from conveyor.steps import predict
    from conveyor.steps.pipeline import alone

    project = Project(Path.cwd())
    with alone(project), _waited("predict"):
        print(f"predict   {predict.run(project, source, target)}")


@app.command()
def history(
    at: Annotated[str | None, typer.Option(help="2026-11-24 or 2026-11-24T08:00: what was live then, UTC.")] = None,
    json: Annotated[bool, typer.Option(help="As JSON.")] = False,
) -> None:
    """Every event of the ledger, the newest last; with --at the model that was live then."""
    from conveyor.core.project import Project
    from conveyor.ledger.history import events, live_at
    from conveyor.ledger.ledger import ledger_of

    with nullcontext() if json else _waited("history"):  # a program reads the one, a person the other
        ledger = ledger_of(Project(Path.cwd()))
    print(events(ledger, json) if at is None else live_at(ledger, at, json), end="")


# The functions of the verbs that act on the ledger or on an engine; the steps of the pipeline are not among them.
ACTS = {
    "accept": "steps.promote.accept",
    "approve": "steps.promote.approve",
    "attested": "github.attested.run",
    "comment": "github.comment.run",
    "deploy": "deploy.deployment.run",
    "due": "github.due.run",
    "fsck": "ledger.fsck.run",
    "image": "deploy.image.run",
    "ledger-key": "github.ledger_key.run",
    "missed": "github.missed.run",
    "monitor": "watch.monitor.run",
    "probation": "watch.probation.run",
    "propose": "github.propose.run",
    "prune": "deploy.rollback.prune",
    "publish": "github.release.publish",
    "quarantine": "deploy.rollback.quarantine",
    "release": "github.release.run",
    "rollback": "deploy.rollback.rollback",
    "sbom": "deploy.sbom.run",
    "site": "watch.site.run",
    "undeploy": "deploy.deployment.undeploy",
}


def _act(verb: str, push: bool, *given: object, before: str | None = None) -> None:
    """Run a verb of ``ACTS``, and load no more than it needs; the ledger is mirrored as after a step."""
    from conveyor.core.project import Project
    from conveyor.steps.pipeline import alone

    module, _, function = ACTS[verb].rpartition(".")
    act = getattr(import_module(f"conveyor.{module}"), function)
    project = Project(Path.cwd(), push=push, before=before)
    with alone(project), _waited(verb):
        print(f"{verb:<9} {one_line(act(project, *given))}")


@app.command()
def approve(because: Because = "", push: Push = False) -> None:
    """Let the candidate through that could not be compared; recorded with who and why."""
    _act("approve", push, because)


@app.command()
def rollback(
    to: Annotated[int | None, typer.Option(help="The event that made the model champion; see history.")] = None,
    because: Because = "",
    push: Push = False,
) -> None:
    """Go back to an earlier champion, the last one by default; the present one is quarantined."""
    _act("rollback", push, to, because)


@app.command()
def quarantine(
    event: Annotated[int, typer.Option(help="An event of the model.")], because: Because = "", push: Push = False
) -> None:
    """Ban a model: it is not accepted again."""
    _act("quarantine", push, event, because)


@app.command()
def prune(
    keep: Annotated[int, typer.Option(min=2, help="How many of the last champions keep their bytes.")] = 10,
    push: Push = False,
) -> None:
    """Delete the stored bytes of old models; the events stay."""
    _act("prune", push, keep)


@app.command()
def fsck(
    repair: Annotated[bool, typer.Option(help="Mend what needs no judgement.")] = False, push: Push = False
) -> None:
    """List every damage of the ledger, each with its mend."""
    _act("fsck", push, repair)


@app.command()
def monitor(issue: Annotated[bool, typer.Option(help="In a workflow: keep one issue about an alarm.")] = False) -> None:
    """Say what is live and for how long, what is on its way, and whether its loss has risen."""
    _act("monitor", False, issue)


@app.command()
def probation(
    issue: Annotated[bool, typer.Option(help="In a workflow: keep one issue about harm.")] = False, push: Push = False
) -> None:
    """Is the champion no worse than the one before, on rows that came after its data? The ledger records it."""
    _act("probation", push, issue)


@app.command()
def site(live: Annotated[bool, typer.Option(help="Look at the live loss first, as `monitor`.")] = False) -> None:
    """Write build/site from the ledger: what is live, all champions and events, as pages that need no server."""
    _act("site", False, live)


@app.command()
def comment() -> None:
    """In a workflow: write build/report.md as the comment on the pull request."""
    _act("comment", False)


@app.command()
def attested() -> None:
    """Was the image of build/image.json built by `deliver` on main? Exit 1 if that is not attested."""
    _act("attested", False)


@app.command()
def due() -> None:
    """In a workflow: has anything that serves changed since the last deployment?"""
    _act("due", False)


@app.command()
def missed() -> None:
    """In a workflow: start `deliver` if it never ran for this commit."""
    _act("missed", False)


@app.command()
def propose() -> None:
    """In a workflow: make a pull request of build/proposal.json, which `collect` or `retrain` has written."""
    _act("propose", False)


@app.command()
def deliver() -> None:
    """In a workflow: start `deliver` on main."""
    from conveyor.core import environment
    from conveyor.github import api

    print(f"deliver   {api.deliver(environment.Environment.read())}")


@app.command()
def release(tag: Annotated[str, typer.Option(help="The tag of this commit: v1.0.0.")] = "") -> None:
    """Write the files of a release to build/release: the champion of this commit, its card, its image's contents."""
    _act("release", False, tag)


@app.command()
def publish(push: Push = False) -> None:
    """In a workflow: make build/release a release on GitHub, and tag its image; nothing is built."""
    _act("publish", push)


@app.command()
def mirror() -> None:
    """Bring MLflow's registry in line with the ledger; it only writes MLflow."""
    from conveyor.core.project import Project
    from conveyor.ledger import mirror
    from conveyor.steps.pipeline import alone

    project = Project(Path.cwd())
    with alone(project), _waited("mirror"):
        print(f"mirror    {mirror.run(project)}")


@app.command()
def seal() -> None:
    """Check that the machinery is as its version has it, but for files that pyproject.toml says are yours."""
    from conveyor.core import seal
    from conveyor.core.project import read_pyproject

    print(f"seal      {seal.check(Path.cwd(), seal.owned(read_pyproject(Path.cwd())))}")


@app.command()
def update(to: Annotated[str, typer.Option(help="A release: v1.2.0; the newest one by default.")] = "") -> None:
    """Bring this repository to a newer release of its template: a merge to review, not committed."""
    from conveyor.update import update

    with _waited("update"):
        print(f"update    {update.run(Path.cwd(), to)}")


@app.command()
def newer(issue: Annotated[bool, typer.Option(help="In a workflow: keep one issue about it.")] = False) -> None:
    """Say whether a newer release of the template is out."""
    from conveyor.github import newer

    print(f"newer     {newer.run(Path.cwd(), issue)}")


@app.command(hidden=True)
def migrate(check: Annotated[bool, typer.Option(help="Only see whether this version takes them.")] = False) -> None:
    """For `update`: rename the keys of params.yaml that this version calls by another name."""
    from conveyor.update import update

    update.migrate(Path.cwd() / "params.yaml", check)


@app.command("github-setup")
def github_setup(
    apply: Annotated[bool, typer.Option(help="Run them through gh; settings that are there are updated.")] = False,
    ledger_key: Annotated[bool, typer.Option(help="Make the key that alone writes the ledger.")] = False,
) -> None:
    """Print the one-time settings of this repository on GitHub as commands."""
    from conveyor.github import setup

    if ledger_key:
        _act("ledger-key", False)
    else:
        setup.run(Path.cwd(), apply)


@app.command()
def ui(port: Annotated[int, typer.Option(min=1, max=65535)] = 5000) -> None:
    """Open the MLflow runs of this repository on the loopback address."""
    from conveyor.core.project import Project
    from conveyor.model import tracking

    words = ["mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    words += ["--backend-store-uri", tracking.uri(Project(Path.cwd()))]
    # Runs need no jobs, and the processes of jobs outlive the server for a while.
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    # It replaces this process, so ending this process ends the server.
    os.execv(sys.executable, [sys.executable, "-m", *words])


def main() -> None:
    """Run the command line."""
    ended(lambda: app(sys.argv[1:] or ["--help"], prog_name="conveyor", standalone_mode=False))
