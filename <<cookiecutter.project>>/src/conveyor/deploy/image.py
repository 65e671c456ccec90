"""The image of the champion: its bundle, the server's lock and this code, built once and moved by digest."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conveyor.core.ci import outputs
from conveyor.core.code import reached
from conveyor.core.errors import Misuse, Refused
from conveyor.core.files import new_directory, read_json, sha256, write_json
from conveyor.core.project import Project
from conveyor.deploy import docker_engine, platforms, provenance
from conveyor.ledger.events import Event
from conveyor.ledger.ledger import ledger_of
from conveyor.model.bundle import Bundle
from conveyor.model.code import pack_code
from conveyor.serving.settings import Settings

if TYPE_CHECKING:
    import docker

BY_DIGEST = re.compile(r"([^\s@]+@)?sha256:[0-9a-f]{64}")
DIRTY = "-dirty"
SERVER = "conveyor.serving.app"
CHECK = f"{SERVER} --check"  # in the Dockerfile's step that asks for the golden answers
STEP = re.compile(r"Step \d+/\d+ : ")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # the engine colours what a command writes to standard error


def run(project: Project, say: Callable[[str], None] = print) -> str:
    """Build the image of the model that is to serve and, with ``push``, push it; writes build/image.json.

    Raises:
        Misuse: there is no model to serve, no engine, no base image, or no registry to push to.
        Refused: with this code and this lock the model does not give its golden answers.
    """
    event = ledger_of(project).to_serve()
    if event is None:
        raise Misuse("image: there is no champion yet; run `make pipeline` first")
    with docker_engine.connected() as client:
        return make(project, client, event, say)


def make(project: Project, client: docker.DockerClient, event: Event, say: Callable[[str], None]) -> str:
    """The image of an event's model, built with an engine."""
    bundle = ledger_of(project).bundle(event.champion)
    context = lay_out(project, bundle)
    repository = repository_of(project)
    if project.push and not project.environment.registry:
        raise Misuse("image: no registry to push to; set REGISTRY, as in REGISTRY=ghcr.io/acme")
    asked = project.environment.platform
    platform = platforms.given(asked) if asked else platforms.of_engine(client)
    base, pinned = _base(project, client, platform, say)
    digest = pinned.rpartition("@")[2]
    labels = labels_of(project, event, bundle) | {
        "org.opencontainers.image.base.name": base,
        "org.opencontainers.image.base.digest": digest,
    }
    identity = _build(client, context, pinned if "@" in pinned else base, labels, platform if asked else None, say)
    image = client.images.get(identity)
    if not platforms.same(platforms.of(image), platform):
        made = platforms.of(image)
        raise Misuse(f"image: the engine built it for {made}, not {platform}; build it on such a machine")
    tag = tag_of(project, event)
    image.tag(repository, tag)
    reference = push(project, client, repository, tag, say) if project.push else image.id
    size = image.attrs["Size"]
    about = {"base": {"name": base, "digest": digest}, "bytes": size, "platform": platforms.of(image)}
    note(project, event, reference, about)
    return f"model {event.key[:12]}, {platforms.of(image)}, {size / 1e6:.0f} MB: {reference}"


def note(project: Project, event: Event, reference: str, about: dict[str, Any] | None = None) -> None:
    """Write build/image.json for the image of an event's model."""
    told = {"reference": reference, "key": event.key, "digest": event.digest, **(about or {})}
    write_json(project.build / "image.json", {**project.header(), **told})
    name, _, digest = reference.rpartition("@")
    outputs(project.environment, name=name, digest=digest)


def read(project: Project) -> dict[str, Any]:
    """build/image.json.

    Raises:
        Misuse: the file is missing, or its image has no digest.
    """
    keys = {"reference": str, "key": str, "digest": str, "commit": str}
    made = read_json(project.build / "image.json", "image", keys)
    if not BY_DIGEST.fullmatch(made["reference"]):
        raise Misuse(f"image.json: {made['reference'][:80]} names no digest, and a tag can move; run `make image`")
    return made


def label(project: Project, name: str) -> str:
    """A label of our own on images and containers; labels of the Open Container Initiative are written in full."""
    return f"{project.package}.{name}"


def repository_of(project: Project) -> str:
    """The name of the image without a tag: under REGISTRY if that is set, in lower case as registries require."""
    registry = project.environment.registry
    return f"{registry.rstrip('/').lower()}/{project.name}" if registry else project.name


def tag_of(project: Project, event: Event) -> str:
    """The tag of the image of an event's model: one for each commit of the code."""
    return f"{project.commit[:12]}{DIRTY if project.dirty else ''}-{event.key[:12]}"


def revision(project: Project) -> str:
    """The commit of the code, marked if the working tree has uncommitted changes."""
    return project.commit + (DIRTY if project.dirty else "")


def settings_of(project: Project) -> str:
    """Digest of the serving settings in params.yaml: they are in the image, so other settings need another image."""
    return sha256(Settings.of(project.params, "", "", "").to_json().encode())


def labels_of(project: Project, event: Event, bundle: Bundle) -> dict[str, str]:
    """The labels of an image."""
    return provenance.labels(project) | {
        "org.opencontainers.image.title": project.name,
        "org.opencontainers.image.revision": revision(project),
        "org.opencontainers.image.version": tag_of(project, event),
        label(project, "key"): event.key,
        label(project, "digest"): event.digest,
        label(project, "settings"): settings_of(project),
        label(project, "data-sha256"): bundle.lineage["data_sha256"],
    }


def lay_out(project: Project, bundle: Bundle) -> Path:
    """Write the Dockerfile's inputs to build/image: locks, and in app/ code, bundle and settings.

    Raises:
        Misuse: data.private names a column that the model does not know.
    """
    names = project.params.data
    known = {*bundle.features, *names.key, *names.ignore, names.target, names.time, names.group}
    for column in names.private:
        if column not in known:
            raise Misuse(f"params.yaml: data.private: no column {column!r}; the model has {', '.join(bundle.features)}")
    settings = Settings.of(project.params, bundle.key, bundle.digest, revision(project))
    locks = {"2-serve.txt": project.needed("requirements/serve.txt")}
    if bundle.form != "compiled":
        locks = {"1-model.txt": bundle.requirements, "2-serve.txt": without(locks["2-serve.txt"], "onnxruntime")}
    path = project.build / "image"
    with new_directory(path) as new:
        (new / "Dockerfile").write_bytes(project.needed("container/Dockerfile"))
        parts = {f"locks/{name}": content for name, content in locks.items()}
        parts |= {f"app/bundle/{name}": content for name, content in bundle.answering().items()}
        parts |= {f"app/code/{name}": content for name, content in serving_code(project, bundle).items()}
        parts["app/settings.json"] = settings.to_json().encode()
        for name, content in parts.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_bytes(content)
    return path


def serving_code(project: Project, bundle: Bundle) -> dict[str, bytes]:
    """The modules of the wheel that the server can import, and the wheel's name and version.

    The team's package is included if the stored model serves, because it may define a type of the model.
    """
    wanted = {
        f"{name.replace('.', '/')}{end}" for name in reached(SERVER, late=True) for end in (".py", "/__init__.py")
    }
    team = f"{project.team.name}/" if bundle.form != "compiled" else ".dist-info/METADATA"
    with zipfile.ZipFile(io.BytesIO(pack_code(project)[1])) as wheel:
        kept = [n for n in wheel.namelist() if n in wanted or n.startswith(team) or n.endswith(".dist-info/METADATA")]
        return {name: wheel.read(name) for name in kept}


def without(lock: bytes, package: str) -> bytes:
    """A lock without one package. No other package of the lock may need it: pip would report that."""
    return re.sub(rb"^%s==.*\n(?:[ \t].*\n)*" % package.encode(), b"", lock, flags=re.M)


def _base(project: Project, client: docker.DockerClient, platform: str, say: Callable[[str], None]) -> tuple[str, str]:
    """The base image, and its reference by the digest of its registry, or its own id if it has no registry."""
    import docker.errors

    found = re.search(r"^FROM (\S+)$", project.needed("container/base.Dockerfile").decode(), re.M)
    if not found:
        raise Misuse("container/base.Dockerfile: no line `FROM <image>:<version>`; add it")
    name = project.environment.base_image or found[1]
    try:
        image = client.images.get(name)
    except docker.errors.ImageNotFound:
        image = None
    if image is None or not platforms.same(platforms.of(image), platform):
        say(f"image     pulling {name} for {platform}")
        mend = "name one that is there: in container/base.Dockerfile, or by BASE_IMAGE"
        try:
            image = docker_engine.pull(client, name, platform=platform)
        except docker.errors.DockerException as error:
            told = docker_engine.told(error)
            raise Misuse(f"image: the base {name} cannot be pulled for {platform}: {told}; {mend}") from None
        if not platforms.same(platforms.of(image), platform):
            raise Misuse(f"image: the base {name} is for {platforms.of(image)}, not {platform}; {mend}")
    digests = image.attrs.get("RepoDigests") or [image.id]
    repository = re.sub(r":[^/:]*$", "", name)
    # The same image may have digests of other registries, too.
    return name, next((digest for digest in digests if digest.startswith(f"{repository}@")), digests[0])


def _build(
    client: docker.DockerClient,
    context: Path,
    base: str,
    labels: dict[str, str],
    platform: str | None,
    say: Callable[[str], None],
) -> str:
    """The id of the image, built from the context."""
    identity: str | None = None
    step, said = "", ""
    for line in client.api.build(
        path=str(context),
        buildargs={"BASE": base},
        labels=labels,
        platform=platform,
        rm=True,
        forcerm=True,
        decode=True,
    ):
        text = COLOUR.sub("", line.get("stream", ""))
        if STEP.match(text):
            step, said = text.strip(), ""
            say(f"image     {step[:110]}")
        elif not text.startswith((" --->", "Removing intermediate container")):
            said += text
        identity = line.get("aux", {}).get("ID", identity)
        if "error" in line:
            # The last output of a failing command, with the indented lines below it.
            last = " ".join(re.split(r"\n(?=\S)", said.strip())[-1].split())[:500]
            if "exec format error" in said + line["error"]:
                mend = "install its emulation there (Debian: qemu-user-static), or build on such a machine"
                raise Misuse(f"image: the engine's machine runs no programs for {platform}; {mend}")
            if CHECK in step and line.get("errorDetail", {}).get("code") == 1:
                told = last.removeprefix("error: ")
                raise Refused(f"image: this code and lock around the model are refused: {told}; nothing was built")
            reason = " ".join(line["error"].split())[:200] + (f": {last}" if last else "")
            raise Misuse(f"image: {reason}; mend that and run it again")
    if identity is None:
        raise Misuse("image: the engine built nothing, and does not say why; look into its log")
    return identity


def push(project: Project, client: docker.DockerClient, repository: str, tag: str, say: Callable[[str], None]) -> str:
    """Push a tag, and return the image by the digest that the registry gave it."""
    say(f"image     pushing {repository}:{tag}")
    found, auth = None, project.environment.registry_auth(repository)
    for line in client.images.push(repository, tag=tag, auth_config=auth, stream=True, decode=True):
        if "error" in line:
            mend = "check REGISTRY and the rights to write there"
            raise Misuse(f"image: {repository} does not take it: {' '.join(line['error'].split())[:200]}; {mend}")
        found = line.get("aux", {}).get("Digest", found)
    if found is None:
        raise Misuse(f"image: {repository} named no digest of what was pushed; push it again")
    return f"{repository}@{found}"
