"""The log of production: predictions, and the labels that callers sent; log_rows.py makes rows of it.

The log is in a volume of the Docker host that serves, or at a URL that ``serve.log`` or PREDICTION_LOG names. It is
read by days, and of a line only what is asked for is kept.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any, TypeVar

import pandas as pd

from conveyor.core.environment import data_options
from conveyor.core.errors import Misuse, reason_of
from conveyor.core.files import sha256
from conveyor.core.project import Project
from conveyor.deploy.docker_engine import connected
from conveyor.deploy.host import Host, log_of
from conveyor.ledger.permission import TARGET
from conveyor.watch.log_days import LogFile, parts
from conveyor.watch.log_lines import Asked, is_beside, kind_of
from conveyor.watch.log_rows import Read, read_of

T = TypeVar("T")
IN_MEMORY = 50_000_000  # bytes of an archive of the volume; more of it waits on the disk


class NoLog(Misuse):
    """There is no log to read, because nothing is deployed or none is kept."""


def read(project: Project, asked: Asked, now: pd.Timestamp) -> Read:
    """All predictions of production, with labels and refusals, that the log has.

    Days of the log that are as they were are read from build/log, or from the folder that LOG_CACHE names.

    Args:
        asked: what is read of a line.
        now: the present time.

    Raises:
        NoLog: nothing is deployed, or no log is kept.
        Misuse: the log cannot be read.
    """
    with _opened(project) as files:
        found = read_of(parts(files, asked, kept(project)), asked, now)
    return replace(found, others=sum(is_beside(file.name) for file in files))


def kept(project: Project) -> Path:
    """Where days of the log are kept that were read."""
    named = project.environment.log_cache
    return Path(named) / project.package if named else project.build / "log"


def files_of(project: Project) -> Iterator[tuple[str, bytes]]:
    """The files of the log of production, by name and content, and the names of others; see ``read`` for the errors."""
    with _opened(project) as files:
        for file in sorted(files, key=lambda file: file.name):
            yield file.name, file.content() if kind_of(file.name) else b""


@contextmanager
def _opened(project: Project) -> Iterator[list[LogFile]]:
    """The files of the log, which can be read until the end of the block."""
    place = log_of(project)
    if not place:
        raise NoLog("serve.log: is null, so no prediction is kept; name a folder of the containers, or a URL")
    with ExitStack() as open_files:
        yield _of_store(place) if "://" in place else _of_host(project, place, open_files)


def _of_store(url: str) -> list[LogFile]:
    """The objects at a URL.

    Raises:
        Misuse: the store does not answer.
    """
    import fsspec

    def asked(of: Callable[[], T], otherwise: T) -> T:
        try:
            return of()
        except FileNotFoundError:
            return otherwise  # nothing was written yet, or the file was deleted as the oldest one
        except Exception as error:  # each file system raises its own library's
            raise Misuse(
                f"serve.log: {url}: cannot be read: {reason_of(error)}; check DATA_OPTIONS and the store"
            ) from None

    def listed() -> list[LogFile]:
        store, folder = fsspec.core.url_to_fs(url, **data_options())
        return [
            LogFile(str(about["name"]), _mark(about), partial(asked, partial(store.cat_file, about["name"]), b""))
            for about in store.ls(folder, detail=True)
            if about["type"] == "file"
        ]

    return asked(listed, [])


def _mark(about: dict[str, Any]) -> str:
    """Another one if what a store tells of an object, as its size and time, has changed."""
    return sha256(repr(sorted(about.items())).encode())


def _of_host(project: Project, place: str, open_files: ExitStack) -> list[LogFile]:
    """The files of the volume on the Docker host, which replicas of all releases share.

    Raises:
        NoLog: there is no such volume.
        Misuse: the engine cannot be reached.
    """
    if project.params.deploy.target != "docker":
        raise NoLog(f"serve.log: {place} is a folder of the pods; name a URL to have the log read")
    try:
        return _of_volume(project, place, open_files)
    except Misuse as error:
        # No engine here is no fault where none is named: what serves is elsewhere.
        raise error if project.environment.docker_host else NoLog(str(error)) from None


def _of_volume(project: Project, place: str, open_files: ExitStack) -> list[LogFile]:
    from docker.errors import NotFound

    with connected() as client:
        host = Host(project, TARGET, client, lambda text: None)
        with suppress(NotFound):
            client.volumes.get(host.volume("predictions"))
            releases = host.releases()
            if releases:
                return open_files.enter_context(_archived(releases[0].containers[0].get_archive, place))
    here = f"; a folder of this machine is file://{place}" if project.environment.prediction_log else ""
    raise NoLog(f"nothing is deployed in production on this engine, so there is no log of predictions{here}")


@contextmanager
def _archived(archive: Callable[[str], tuple[Iterator[bytes], Any]], place: str) -> Iterator[list[LogFile]]:
    """The files of a folder in a container; the engine sends them all, ``serve.log_bytes`` at most."""
    received, _ = archive(place)
    file: IO[bytes]
    with SpooledTemporaryFile(IN_MEMORY) as file:
        for part in received:
            file.write(part)
        file.seek(0)
        with tarfile.open(fileobj=file) as members:

            def content(member: tarfile.TarInfo) -> bytes:
                opened = members.extractfile(member)
                return opened.read() if opened else b""

            yield [
                LogFile(member.name, f"{member.size} {member.mtime}", partial(content, member))
                for member in members
                if member.isfile()
            ]
