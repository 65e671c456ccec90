"""MLflow's model registry as a mirror of the ledger, computed from all events. It never decides anything.

    registered model     has the name of this package
    version              one per model that was ever champion, identified by its tag ledger.key
    its tags             the ledger's facts about the model: digest, commit, its last ``live`` event, its state
    alias champion       the champion
    alias challenger     the model on its way, if it was champion before; else this alias does not exist

The ledger is written first and is right. MLflow has no compare-and-set, so the registry can be late, or changed by
hand: the next run corrects it. Other aliases, and versions without ledger.key, stay as they are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from conveyor.core.errors import Misuse, Refused
from conveyor.core.files import write_text
from conveyor.ledger.events import Champion
from conveyor.ledger.ledger import Ledger, ledger_of
from conveyor.model import tracking
from conveyor.model.bundle import Bundle

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from conveyor.core.project import Project


@dataclass(frozen=True)
class Version:
    number: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Registry:
    """The content of MLflow under the name of this package."""

    registered: bool = False
    versions: tuple[Version, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)

    def by_key(self) -> dict[str, Version]:
        """The version of each model; a repeated request can make two, of which the first counts."""
        newest_first = sorted(self.versions, key=lambda version: -int(version.number))
        return {version.tags["ledger.key"]: version for version in newest_first if "ledger.key" in version.tags}


@dataclass(frozen=True)
class Register:
    """Make the registered model."""


@dataclass(frozen=True)
class Create:
    """Make the version of a model, with the tags that never change."""

    key: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Point:
    """Set an alias to a model; None removes it. ``was`` says to what somebody had moved it by hand."""

    alias: str
    key: str | None
    was: str | None = None


@dataclass(frozen=True)
class Tag:
    key: str
    name: str
    value: str


Action = Register | Create | Point | Tag


# Plan: functions of the ledger and the registry, without requests


def told(ledger: Ledger) -> dict[str, dict[str, str]]:
    """The tags of each model that was ever champion, by key, in the order of their first ``live`` event."""
    champion = ledger.champion()
    tags = {}
    for event in ledger.lived:
        banned = ledger.quarantine_of(event.key)
        if champion and event.key == champion.key:
            state = "champion"
        else:
            state = f"quarantined: {ledger.why_quarantined(banned)}"[:1000] if banned else "former"
        tags[event.key] = {
            "ledger.key": event.key,
            "ledger.digest": event.digest,
            "ledger.commit": event.commit,
            "ledger.event": str(event.number),
            "ledger.state": state,
        }
    return tags


def plan(ledger: Ledger, registry: Registry) -> list[Action]:
    """The actions that bring the registry in line with the ledger; empty if it is.

    The order matters if it is cut off: the tag that calls a version champion is written after the alias has moved. So
    an alias that is only late can be told from one that was moved by hand.
    """
    models, known = told(ledger), registry.by_key()
    actions: list[Action] = [] if registry.registered or not models else [Register()]
    actions += [Create(key, _identity(tags)) for key, tags in models.items() if key not in known]
    actions += _aliases(ledger, registry, models) if models else []
    for key, tags in models.items():
        present = known[key].tags if key in known else _identity(tags)
        actions += [Tag(key, name, value) for name, value in tags.items() if present.get(name) != value]
    return actions


def _identity(tags: Mapping[str, str]) -> dict[str, str]:
    return {name: tags[name] for name in ("ledger.key", "ledger.digest", "ledger.commit")}


def _aliases(ledger: Ledger, registry: Registry, models: Mapping[str, object]) -> Iterator[Point]:
    champion, waiting = ledger.champion(), ledger.pending()
    belongs = {
        "champion": champion.key if champion else None,
        "challenger": waiting.key if waiting and waiting.key in models else None,
    }
    known = registry.by_key()
    for alias, key in belongs.items():
        at = registry.aliases.get(alias)
        if at == (known[key].number if key in known else None) and (at or not key):
            continue
        yield Point(alias, key, _moved_by_hand(ledger, registry, alias, at))


def _moved_by_hand(ledger: Ledger, registry: Registry, alias: str, at: str | None) -> str | None:
    """To what an alias was moved by hand; None if the mirror set it or never set it."""
    # The tags are written last: the version that they call champion shows the last event that was mirrored.
    followed = [
        int(version.tags["ledger.event"])
        for version in registry.by_key().values()
        if version.tags.get("ledger.state") == "champion" and version.tags.get("ledger.event", "").isdecimal()
    ]
    if at is None:
        return "nowhere" if alias == "champion" and followed else None
    kinds = ("live",) if alias == "champion" else ("accepted", "rolled_back")
    keys = {e.key for e in ledger.events if e.type in kinds and e.number >= min(followed, default=0)}
    late = any(version.number == at for key, version in registry.by_key().items() if key in keys)
    return None if late else f"to version {at}"


# Carry out


def read(client: MlflowClient, name: str) -> Registry:
    """The present content of MLflow, in two calls (more if there are many versions)."""
    from mlflow.exceptions import MlflowException

    try:
        model = client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return Registry()
        raise
    page = client.search_model_versions(f"name='{name}'")
    versions = list(page)
    while page.token:
        page = client.search_model_versions(f"name='{name}'", page_token=page.token)
        versions += page
    return Registry(
        registered=True,
        # A server gives numbers as text, a database as numbers.
        versions=tuple(Version(str(version.version), dict(version.tags)) for version in versions),
        aliases={alias: str(number) for alias, number in model.aliases.items()},
    )


def apply(actions: list[Action], registry: Registry, client: MlflowClient, ledger: Ledger) -> dict[str, str]:
    """Carry out the actions in their order. Returns the number of the version of each model."""
    name, numbers = ledger.project.package, {key: version.number for key, version in registry.by_key().items()}
    for action in actions:
        match action:
            case Register():
                client.create_registered_model(name, description="Follows the ledger of the repository: `make history`")
            case Create(key, tags):
                made = client.create_model_version(name, tags=dict(tags), **_source(client, ledger, key))
                numbers[key] = str(made.version)
            case Point(alias, key, was):
                if key:
                    client.set_registered_model_alias(name, alias, numbers[key])
                else:
                    client.delete_registered_model_alias(name, alias)
                if was:
                    place = f"to version {numbers[key]}; put back" if key else "nowhere; removed"
                    print(f"mirror    MLflow's alias {alias} was moved by hand: it pointed {was} and belongs {place}")
            case Tag(key, label, value):
                client.set_model_version_tag(name, numbers[key], label, value)
    return numbers


def _source(client: MlflowClient, ledger: Ledger, key: str) -> dict[str, Any]:
    """The source of a version: the model that its run logged, if this MLflow has it, else the ledger's ref."""
    with TemporaryDirectory() as place:
        path = Path(place) / "bundle"
        run = Bundle(path).lineage.get("mlflow_run") if ledger.restore(key, path) else None
    logged = _logged_model(client, run) if run else None
    # MLflow also accepts `runs:/<id>/model`, but cannot load such a version.
    return (
        {"source": f"models:/{logged}", "model_id": logged, "run_id": run}
        if logged
        else {"source": f"ledger:/refs/models/{key}"}
    )


def _logged_model(client: MlflowClient, run: str) -> str | None:
    """The id of the model that a run logged; None if the run was made elsewhere or its model was deleted."""
    from mlflow.exceptions import MlflowException

    try:
        outputs = client.get_run(run).outputs
        models = outputs.model_outputs if outputs else []
        return client.get_logged_model(models[0].model_id).model_id if models else None
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def run(project: Project) -> str:
    """Bring MLflow's registry in line with the ledger.

    Raises:
        Misuse: there is neither a server nor a database, or MLflow fails.
    """
    ledger = ledger_of(project)
    if not _exists(project):
        raise Misuse("mirror: MLFLOW_TRACKING_URI is not set and there is no mlruns/mlflow.db; set it, or train first")
    if ledger.champion() is None:
        return "there is no champion yet, nothing to mirror"
    with tracking.answering(project, "did not follow the ledger", "`make mirror` brings it up to date") as client:
        changes, version = _catch_up(ledger, client)
    if version is None:
        return "there is no champion any more, nothing to mirror"
    if not project.environment.tracking_uri:
        write_text(_mark(project), str(ledger.head))
    moved = f"{changes} changes" if changes else "unchanged"
    return f"MLflow: version {version} of {project.package} is champion ({moved})"


def _catch_up(ledger: Ledger, client: MlflowClient) -> tuple[int, str | None]:
    """Returns the number of changes, and the version of the champion; None if the ledger was deleted.

    Of two runs at once, the one with the older ledger could write last. So after a write the ledger is read again: an
    event is written before its mirror, so this finds any newer event.
    """
    changes = 0
    while True:
        registry = read(client, ledger.project.package)
        actions = plan(ledger, registry)
        numbers, seen = apply(actions, registry, client, ledger), ledger.head
        changes += len(actions)
        if actions:
            ledger.read()
        if ledger.head == seen:
            champion = ledger.champion()
            return changes, numbers[champion.key] if champion else None


def _exists(project: Project) -> bool:
    return bool(project.environment.tracking_uri) or tracking.database(project).is_file()


def _mark(project: Project) -> Path:
    """The file with the commit of the ledger that this machine's own database mirrors: it saves requests to MLflow."""
    return tracking.database(project).with_name("followed")


def _follows(project: Project) -> bool:
    """Whether MLflow is up to date without a request. A server is always asked: others write there, too."""
    mark = _mark(project)
    return (
        not project.environment.tracking_uri
        and mark.is_file()
        and mark.read_text(encoding="utf-8") == ledger_of(project).head
    )


def followed(write: Callable[..., str]) -> Callable[..., str]:
    """Mirror the events that ``write`` adds to the ledger, even if it raises after it has written one.

    Raises:
        Refused, Misuse: as ``write`` does; or the ledger is written, and the mirror failed.
    """

    @functools.wraps(write)
    def act(project: Project, *given: object) -> str:
        champion, number = ledger_of(project).champion(), ledger_of(project).number
        try:
            message = write(project, *given)
        except (Refused, Misuse) as error:
            if ledger_of(project).number == number:
                raise
            try:
                _follow(project, champion, number)
            except Misuse as missed:
                raise type(error)(f"{error}; and {missed}") from missed
            raise
        return "; ".join(filter(None, [message, _follow(project, champion, number)]))

    return act


def _follow(project: Project, champion: Champion | None, number: int) -> str:
    """Mirror the ledger, which was at ``number`` with ``champion`` before; returns the result in words."""
    ledger = ledger_of(project)
    if not ledger.writable or _follows(project):
        return ""
    if not _exists(project):
        return "not mirrored, for there is no MLFLOW_TRACKING_URI and no mlruns/mlflow.db"
    try:
        return run(project)
    except Misuse as error:
        now = ledger.champion()
        place = f"champion/{now.event:06d}" if now else "no champion"
        if now != champion:
            state = f"the champion HAS moved, {place} is live"
        elif ledger.number != number:
            state = f"event {ledger.number:06d} is written, {place} stays"
        else:
            state = f"the ledger is as it was, {place} stays"
        raise Misuse(f"{state}; {error}") from error
