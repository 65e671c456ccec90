"""The log of production: predictions, and the labels that callers sent; log_lines.py makes rows of it.

The log is in a volume of the Docker host that serves, or at a URL that ``serve.log`` or PREDICTION_LOG names. It is
read file by file, and of a line only what is asked for is kept.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from tempfile import SpooledTemporaryFile
from typing import IO, Any

import pandas as pd

from conveyor.core.environment import data_options
from conveyor.core.errors import Misuse, reason_of
from conveyor.core.project import Project
from conveyor.deploy.docker_engine import connected
from conveyor.deploy.host import Host, log_of
from conveyor.ledger.permission import TARGET
from conveyor.watch.log_lines import NOTHING, Read, parsed

IN_MEMORY = 50_000_000  # bytes of an archive of the volume; more of it waits on the disk


class NoLog(Misuse):
    """There is no log to read, because nothing is deployed or none is kept."""


def read(
    project: Project,
    wanted: tuple[str, ...],
    several: bool,
    now: pd.Timestamp,
    recent: Mapping[str, str] = NOTHING,
) -> Read:
    """All predictions of production, and labels, that the log has.

    Args:
        wanted: features to read, as those of the key.
        several: whether a prediction is a list, of the probability of each class.
        now: the present time.
        recent: features of which only the last days are kept, and the kind of each.

    Raises:
        NoLog: nothing is deployed, or no log is kept.
        Misuse: the log cannot be read.
    """
    return parsed(files_of(project), wanted, several, now, recent)


def files_of(project: Project) -> Iterator[tuple[str, bytes]]:
    """The files of the log of production, by name and content; see ``read`` for the errors."""
    place = log_of(project)
    if not place:
        raise NoLog("serve.log: is null, so no prediction is kept; name a folder of the containers, or a URL")
    return _of_store(place) if "://" in place else _of_host(project, place)


def _of_store(url: str) -> Iterator[tuple[str, bytes]]:
    """The objects at a URL.

    Raises:
        Misuse: the store does not answer.
    """
    import fsspec

    try:
        store, folder = fsspec.core.url_to_fs(url, **data_options())
        names = sorted(str(name) for name in store.find(folder))
        for name in names:
            yield name, store.cat_file(name)
    except FileNotFoundError:
        return  # nothing was written yet
    except Exception as error:  # each file system raises its own library's
        raise Misuse(
            f"serve.log: {url}: cannot be read: {reason_of(error)}; check DATA_OPTIONS and the store"
        ) from None


def _of_host(project: Project, place: str) -> Iterator[tuple[str, bytes]]:
    """The files of the volume on the Docker host, which replicas of all releases share.

    Raises:
        NoLog: there is no such volume.
        Misuse: the engine cannot be reached.
    """
    if project.params.deploy.target != "docker":
        raise NoLog(f"serve.log: {place} is a folder of the pods; name a URL to have the log read")
    try:
        yield from _of_volume(project, place)
    except Misuse as error:
        # No engine here is no fault where none is named: what serves is elsewhere.
        raise error if project.environment.docker_host else NoLog(str(error)) from None


def _of_volume(project: Project, place: str) -> Iterator[tuple[str, bytes]]:
    from docker.errors import NotFound

    with connected() as client:
        host = Host(project, TARGET, client, lambda text: None)
        with suppress(NotFound):
            client.volumes.get(host.volume("predictions"))
            releases = host.releases()
            if releases:
                yield from _archived(releases[0].containers[0].get_archive, place)
                return
    raise NoLog("nothing is deployed in production on this engine, so there is no log of predictions")


def _archived(archive: Callable[[str], tuple[Iterator[bytes], Any]], place: str) -> Iterator[tuple[str, bytes]]:
    """The files of a folder in a container."""
    parts, _ = archive(place)
    file: IO[bytes]
    with SpooledTemporaryFile(IN_MEMORY) as file:
        for part in parts:
            file.write(part)
        file.seek(0)
        with tarfile.open(fileobj=file) as members:
            for member in members:
                content = members.extractfile(member) if member.isfile() else None
                if content:
                    yield member.name, content.read()
