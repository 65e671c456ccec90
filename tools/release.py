"""Cut a release: `files` makes in build/release what belongs to the tag in TAG, `publish` brings it to GitHub.

    TAG=v1.4.0 python tools/release.py files

Either can be run again at any time: `files` makes the same bytes, and `publish` goes on where it was stopped. A release
that is out is never changed.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import re
import subprocess
from pathlib import Path

from api import GitHub, Misuse, Refused, end, setting
from portable import packed

BUILD = Path("build/release")
NOTES, SUMS = BUILD / "notes.md", BUILD / "SHA256SUMS"
SEAL = "<<cookiecutter.project>>/src/conveyor/SEAL"
TAG = re.compile(r"v((?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*)){2})")


def git(*words: str) -> bytes | None:
    """What git prints, or None if it says no."""
    done = subprocess.run(["git", *words], capture_output=True)
    return done.stdout if done.returncode == 0 else None


def tagged() -> tuple[str, str, str]:
    """Tag, version and commit.

    Raises:
        Misuse: TAG is no version, or not a tag here.
    """
    tag = setting("TAG")
    version = TAG.fullmatch(tag)
    if not version:
        raise Misuse(f"TAG: {tag!r} is no version; name it like v1.4.0")
    commit = git("rev-parse", "--verify", f"refs/tags/{tag}^{{commit}}")
    if commit is None:
        raise Misuse(f"TAG: there is no tag {tag} here; fetch it, or make it with `git tag {tag}`")
    return tag, version[1], commit.decode().strip()


def files() -> str:
    """Write the notes, the archive and the sums of a tag.

    Raises:
        Misuse: see ``tagged``; or there is no main to compare with.
        Refused: the tag is not on main, or the changelog says nothing about it; or the seal names another version.
    """
    tag, version, commit = tagged()
    main = next(
        (ref for ref in ("refs/remotes/origin/main", "refs/heads/main") if git("rev-parse", "-q", "--verify", ref)),
        None,
    )
    if main is None:
        raise Misuse("main: there is no such branch here; fetch it")
    if git("merge-base", "--is-ancestor", commit, main) is None:
        raise Refused(f"{tag}: its commit {commit[:12]} is not on main; merge it first, and tag what was merged")
    notes = section((git("show", f"{commit}:CHANGELOG.md") or b"").decode(), version)
    if not notes:
        raise Refused(
            f"CHANGELOG.md: no section `## {version}` with a word in it; write it, and tag the commit that has it"
        )
    sealed = (git("show", f"{commit}:{SEAL}") or b"").decode().partition("\n")[0]
    if sealed != f"conveyor {version}":
        raise Refused(
            f"{SEAL}: says {sealed or 'nothing'!r}, and the tag is {tag}; run `make seal VERSION={version}`, commit it,"
            " and tag that commit"
        )
    address = json.loads(git("show", f"{commit}:cookiecutter.json") or b"{}").get("_address")
    here = "/".join(os.environ.get(part, "") for part in ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY"))
    if os.environ.get("GITHUB_REPOSITORY") and address != here:
        raise Refused(
            f"cookiecutter.json: _address is {address!r}, and this is {here}: what is generated would be updated from"
            " there; write it, run `make seal`, commit, and tag that commit"
        )
    # `owner/name` in a workflow. What this machine's git is set to changes no byte.
    name = f"{os.environ.get('GITHUB_REPOSITORY', 'template').rpartition('/')[2]}-{version}"
    same = ("-c", "tar.umask=0002", "-c", "core.autocrlf=false", "-c", "core.eol=lf")
    archive = git(*same, "archive", "--format=tar", f"--prefix={name}/", commit)
    try:
        portable = packed(git(*same, "archive", "--format=tar", commit), name)
    except ValueError as error:
        raise Refused(f"{error}; mend it, and tag the commit that has it") from None
    files = {f"{name}.tar.gz": gzip.compress(archive, mtime=0), f"{name}-portable.zip": portable}
    BUILD.mkdir(parents=True, exist_ok=True)
    for old in BUILD.iterdir():
        old.unlink()
    NOTES.write_text(notes + "\n", encoding="utf-8")
    for file, content in files.items():
        (BUILD / file).write_bytes(content)
    SUMS.write_text("".join(f"{hashlib.sha256(content).hexdigest()}  {file}\n" for file, content in files.items()))
    return f"release   {' and '.join(files)} of commit {commit[:12]} in {BUILD}"


def section(changelog: str, version: str) -> str:
    """What the changelog says below the heading of a version, which may go on with a date."""
    found = re.search(rf"^## {re.escape(version)}(?: [^\n]*)?\n(.*?)(?=^## |\Z)", changelog, re.M | re.S)
    return found[1].strip() if found else ""


def publish() -> str:
    """Make the release: as a draft, with its files, and then public. One that is out with these files is left as it is.

    Raises:
        Misuse: see ``tagged`` and ``GitHub``; or the files are not there as their sums say.
        Refused: the release is out with other files, as those of another commit are.
    """
    tag, *_ = tagged()
    contents = ours()
    wanted = {name: f"sha256:{hashlib.sha256(content).hexdigest()}" for name, content in contents.items()}
    github = GitHub()
    releases = sorted(
        (each for each in github.pages("releases") if each["tag_name"] == tag), key=lambda each: each["draft"]
    )  # what is out comes first
    release = releases[0] if releases else None
    if release and not release["draft"]:
        if digests(release) != wanted:
            # The archive names its commit: a tag that was moved has other files.
            raise Refused(f"{tag}: the release is out with other files; a release is never changed, tag a new version")
        return f"release   {release['html_url']} is out already, with these files"

    # No target_commitish: the tag is there, and for a commit with other workflows GitHub wants a right that no job has.
    about = {"tag_name": tag, "name": tag, "body": NOTES.read_text(encoding="utf-8")}
    if release is None:
        release = github("POST", "releases", about | {"draft": True})
    for asset in release["assets"]:  # what a run that was stopped has left
        if wanted.get(asset["name"]) != asset["digest"]:
            github("DELETE", f"releases/assets/{asset['id']}")
    for name in wanted.keys() - {name for name, digest in digests(release).items() if digest == wanted.get(name)}:
        github.upload(release["upload_url"], name, contents[name])
    if digests(github("GET", f"releases/{release['id']}")) != wanted:
        raise Misuse(f"{tag}: GitHub does not hold the files as they were sent; run it again")
    # Legacy: the highest version is the latest one, not the one that came last.
    out = github("PATCH", f"releases/{release['id']}", about | {"draft": False, "make_latest": "legacy"})
    return f"release   {out['html_url']} is out"


def ours() -> dict[str, bytes]:
    """The files of the release.

    Raises:
        Misuse: one is missing, or another than the sums say.
    """
    try:
        listed = dict(reversed(line.split("  ", 1)) for line in SUMS.read_text().splitlines())
        contents = {name: (BUILD / name).read_bytes() for name in [*listed, SUMS.name]}
    except (OSError, ValueError) as error:
        raise Misuse(f"{BUILD}: {error}; run `make release-files` first") from None
    for name, digest in listed.items():
        if hashlib.sha256(contents[name]).hexdigest() != digest:
            raise Misuse(f"{BUILD / name}: not what {SUMS.name} says; run `make release-files` again")
    return contents


def digests(release: dict) -> dict[str, str]:
    return {asset["name"]: asset["digest"] for asset in release["assets"]}


if __name__ == "__main__":
    verbs = {"files": files, "publish": publish}
    parser = argparse.ArgumentParser(description="Cut the release of the tag in TAG.")
    parser.add_argument("verb", choices=verbs)
    end(verbs[parser.parse_args().verb])
