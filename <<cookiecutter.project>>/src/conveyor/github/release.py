"""A release: the champion under a version, with the files that show its origin. Nothing is trained or built."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conveyor.core.errors import Misuse, Refused
from conveyor.core.files import new_directory, read_json, sha256, to_json
from conveyor.core.git import GitError
from conveyor.core.project import Project
from conveyor.deploy import docker_engine, image, sbom
from conveyor.deploy.rollback import retried
from conveyor.github.api import GitHub
from conveyor.ledger.events import Event
from conveyor.ledger.ledger import ledger_of
from conveyor.ledger.permission import writable
from conveyor.model.bundle import Bundle
from conveyor.report import model_card

if TYPE_CHECKING:
    import docker

VERSION = re.compile(r"v((?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*)){2}(?:-[0-9A-Za-z.-]+)?)")
NOTES, ABOUT, SUMS = "notes.md", "release.json", "SHA256SUMS"
LENGTH = 120_000  # characters of a release's text; GitHub takes 125 000


def run(project: Project, tag: str, say: Callable[[str], None] = print) -> str:
    """Write build/release: the files of a release, and its text.

    Raises:
        Refused: the tag is not on main, has moved, or is of another commit already; the model is quarantined.
        Misuse: the tag is no version, its section in the changelog is missing or empty, or there is no champion or no
            image of this commit.
    """
    version = version_of(tag)
    on_main(project, tag)
    event = champion_of(project)
    ledger_of(project).release_of(event, tag)
    words = section(project.needed("CHANGELOG.md").decode(), version)
    bundle = ledger_of(project).bundle(event.champion)
    with docker_engine.connected() as client:
        reference = published(project, client, event)
        say(f"release   reading {reference}")
        docker_engine.pull(client, reference, project.environment.registry_auth(reference))
        bill = sbom.of(client, reference)
    text = model_card.markdown(project, bundle, version, event, reference)
    name = project.name
    about = {"tag": tag, "commit": project.commit, "event": event.number, "key": event.key, "digest": event.digest}
    files = {
        f"{name}-{version}-model.tar.gz": packed(bundle, f"{name}-{version}"),
        "model-card.md": text.encode(),
        "sbom.cdx.json": to_json(bill).encode(),
        ABOUT: to_json({**about, "image": reference}).encode(),
    }
    files[SUMS] = "".join(f"{sha256(content)}  {file}\n" for file, content in sorted(files.items())).encode()
    files[NOTES] = f"{words}\n\n---\n\n{text}"[:LENGTH].encode()
    with new_directory(project.build / "release") as new:
        for file, content in files.items():
            (new / file).write_bytes(content)
    return f"{tag} is model {event.key[:12]} in {reference}: build/release"


def version_of(tag: str) -> str:
    """The version of a tag.

    Raises:
        Misuse: the tag is no version.
    """
    found = VERSION.fullmatch(tag)
    if not found:
        raise Misuse(f"release: {tag[:40]!r} is no version; tag it as v1.0.0, and run `make release TAG=v1.0.0`")
    return found[1]


def on_main(project: Project, tag: str) -> None:
    """Check that the tag at origin is at this commit, and that this commit is on main.

    Raises:
        Refused: the tag is at another commit, or this commit is not on main.
        Misuse: there is no origin with such a tag.
    """
    ledger = ledger_of(project)
    if not ledger.store.remote:
        raise Misuse("release: there is no remote origin; a release is made from what is there")
    refs = ledger.store.at_origin("refs/heads/main", f"refs/tags/{tag}", f"refs/tags/{tag}^{{}}")
    at = refs.get(f"refs/tags/{tag}^{{}}", refs.get(f"refs/tags/{tag}"))
    if at is None:
        raise Misuse(f"release: origin has no tag {tag}; push it first")
    if at != project.commit:
        raise Refused(f"release: {tag} is at commit {at[:12]} at origin, and this is {project.commit[:12]}; it moved")
    main = refs.get("refs/heads/main")
    try:
        if main and not project.git.succeeds("cat-file", "-e", f"{main}^{{commit}}"):
            words = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "origin", main)
            project.git(*words, more=ledger.store.credentials())
    except GitError as error:
        raise Misuse(f"release: main cannot be fetched from origin: {error}; check your access") from None
    if not main or not project.git.succeeds("merge-base", "--is-ancestor", project.commit, main):
        raise Refused(f"release: commit {project.commit[:12]} is not on main; merge it, and tag what main has then")


def champion_of(project: Project) -> Event:
    """The ``live`` event of the model that this commit serves: the last one whose commit is not newer than this one.

    Raises:
        Misuse: there is none.
        Refused: the model is quarantined.
    """
    ledger = ledger_of(project)
    for event in reversed(ledger.events):
        if event.type == "live" and project.git.succeeds("merge-base", "--is-ancestor", event.commit, project.commit):
            banned = ledger.quarantine_of(event.key)
            if banned:
                raise Refused(f"release: {ledger.why_quarantined(banned)}; nothing was released")
            return event
    raise Misuse("release: no model was live with this commit or an earlier one; wait until `deliver` has ended")


def section(changelog: str, version: str) -> str:
    """The changelog's section for a version.

    Raises:
        Misuse: it is missing or empty.
    """
    found = re.search(rf"^## \[?v?{re.escape(version)}(?![\w.+-])\]?.*?\n(.*?)(?=^## |\Z)", changelog, re.M | re.S)
    if not found or not found[1].strip():
        raise Misuse(f"CHANGELOG.md: no words under `## {version}`; write them on main, and tag that commit")
    return found[1].strip()


def published(project: Project, client: docker.DockerClient, event: Event) -> str:
    """The image that `deliver` built of this commit and this model, by the registry's digest.

    Raises:
        Misuse: there is none.
    """
    if not project.environment.registry:
        raise Misuse("release: no registry to find the image in; set REGISTRY, as in REGISTRY=ghcr.io/acme")
    repository, tag = image.repository_of(project), image.tag_of(project, event)
    digest = _digest(project, client, f"{repository}:{tag}")
    if digest is None:
        raise Misuse(f"release: {repository} has no image {tag}; `deliver` of this commit has to end first")
    return f"{repository}@{digest}"


def _digest(project: Project, client: docker.DockerClient, name: str) -> str | None:
    """The registry's digest of a tag; None if the tag does not exist.

    Raises:
        Misuse: the registry does not answer that.
    """
    import docker.errors

    try:
        digest: str = client.images.get_registry_data(name, project.environment.registry_auth(name)).id
        return digest
    except docker.errors.APIError as error:
        told = docker_engine.told(error)
        if any(sign in told for sign in ("manifest unknown", "not found", "no such manifest", "name unknown")):
            return None
        raise Misuse(f"release: {name} cannot be looked up: {told}; check REGISTRY and the rights there") from None


def packed(bundle: Bundle, folder: str) -> bytes:
    """The files of a bundle as a tar; the same bundle gives the same bytes."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        for name, content in sorted(bundle.files.items()):
            about = tarfile.TarInfo(f"{folder}/{name}")
            about.size, about.mode = len(content), 0o644
            tar.addfile(about, io.BytesIO(content))
    return out.getvalue()


def publish(project: Project, say: Callable[[str], None] = print) -> str:
    """Make build/release a release on GitHub, and tag its image with the version; finishes a stopped run.

    The ledger is the witness: a version is one commit and one model for ever, even if tag or release are deleted. The
    release is a draft until all files are there.

    Raises:
        Refused: the version is of another commit, was released already, or its image's tag is of another image.
        Misuse: build/release is not whole, or GitHub, the registry or the ledger cannot be written.
    """
    writable(project, "publish")
    folder = project.build / "release"
    about = read_json(folder / ABOUT, "release", dict.fromkeys(("tag", "commit", "key", "digest", "image"), str))
    tag, version, assets = about["tag"], version_of(about["tag"]), whole(folder)
    on_main(project, tag)
    event = champion_of(project)
    if (about["commit"], about["key"], about["digest"]) != (project.commit, event.key, event.digest):
        raise Refused(f"release: build/release is of model {about['key'][:12]}, not of {event.key[:12]}; begin anew")
    github = GitHub(project.environment)
    ours = [release for release in github.pages("releases") if release["tag_name"] == tag]
    done = next((release for release in ours if not release["draft"]), None)
    known = ledger_of(project).release_of(event, tag)
    if done and (known is None or known.run != project.environment.run_url):
        raise Refused(f"release: {tag} was released already: {done['html_url']}; take the next version")
    retried(project, "publish", lambda: ledger_of(project).release(event, tag, about["image"]))
    if done:
        return f"{tag} is released: {done['html_url']}"
    told = {
        "tag_name": tag,
        "name": tag,
        "body": (folder / NOTES).read_text(encoding="utf-8"),
        "draft": True,
        "prerelease": "-" in version,
    }
    draft = github("PATCH", f"releases/{ours[0]['id']}", told) if ours else github("POST", "releases", told)
    _upload(github, draft, assets, say)
    _name_image(project, about["image"], version, say)
    shown = github("PATCH", f"releases/{draft['id']}", {"draft": False})
    return f"{tag} is released: {shown['html_url']}"


def whole(folder: Path) -> list[Path]:
    """The files in the checksums.

    Raises:
        Misuse: one is missing or differs.
    """
    if not (folder / SUMS).is_file() or not (folder / NOTES).is_file():
        raise Misuse(f"{folder.name}: not whole; run `make release` first")
    named = [line.split("  ", 1) for line in (folder / SUMS).read_text(encoding="utf-8").splitlines()]
    for digest, name in named:
        if not (folder / name).is_file() or sha256((folder / name).read_bytes()) != digest:
            raise Misuse(f"{folder.name}/{name}: not the file that {SUMS} names; run `make release` again")
    return [*(folder / name for _, name in named), folder / SUMS]


def _upload(github: GitHub, draft: dict[str, Any], assets: list[Path], say: Callable[[str], None]) -> None:
    """Make a draft hold exactly these files; half-uploaded ones of a stopped run are deleted."""
    wanted = {asset.name: f"sha256:{sha256(asset.read_bytes())}" for asset in assets}
    there = {asset["name"]: asset for asset in github.pages(f"releases/{draft['id']}/assets")}
    for name, asset in there.items():
        if (asset["state"], asset.get("digest")) != ("uploaded", wanted.get(name)):
            github("DELETE", f"releases/assets/{asset['id']}")
    for asset in assets:
        known = there.get(asset.name, {})
        if (known.get("state"), known.get("digest")) != ("uploaded", wanted[asset.name]):
            say(f"publish   {asset.name}")
            github.upload(draft["upload_url"], asset)


def _name_image(project: Project, reference: str, version: str, say: Callable[[str], None]) -> None:
    """Tag the image that served in its registry.

    Raises:
        Refused: the tag is of another image, or the registry made another image of it.
    """
    repository, _, digest = reference.partition("@")
    with docker_engine.connected() as client:
        before = _digest(project, client, f"{repository}:{version}")
        if before not in (None, digest):
            raise Refused(f"release: {repository}:{version} is another image, {before[:19]}; take the next version")
        if before is None:
            pulled = docker_engine.pull(client, reference, project.environment.registry_auth(reference))
            pulled.tag(repository, version)
            pushed = image.push(project, client, repository, version, say)
            if pushed != reference:
                raise Refused(f"release: the registry made {pushed[-64:][:12]} of image {digest[7:19]}; delete it")
