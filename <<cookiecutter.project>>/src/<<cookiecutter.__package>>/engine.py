"""The Docker engine: this machine's, or the one that DOCKER_HOST names (`ssh://deploy@host` for a server)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .errors import Misuse

if TYPE_CHECKING:
    import docker

SECONDS = 120  # within which the engine answers a call


@contextmanager
def connected() -> Iterator[docker.DockerClient]:
    """A client of the engine.

    Raises:
        Misuse: the engine cannot be reached, goes away, or refuses; one line with the mend.
    """
    import docker
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    named = os.environ.get("DOCKER_HOST")
    where = named or "this machine"
    client = None
    try:
        client = docker.from_env(timeout=SECONDS, use_ssh_client=where.startswith("ssh://"))
        client.ping()
    except (DockerException, RequestException, OSError) as error:
        if client:
            client.close()
        mend = "check that address and your key" if named else "start Docker, or set DOCKER_HOST"
        raise Misuse(f"docker: the engine of {where} cannot be reached: {told(error)}; {mend}") from None
    try:
        yield client
    except (DockerException, RequestException) as error:
        raise Misuse(f"docker: {told(error)}; {_mend(str(error))}") from None
    finally:
        client.close()


def told(error: Exception) -> str:
    """What the engine said, as one line."""
    text = getattr(error, "explanation", None) or str(error)
    return " ".join(str(text).split())[:300]


def _mend(text: str) -> str:
    if "no space left" in text:
        return "make room on the host (`docker system prune`) and run it again"
    if any(sign in text for sign in ("Connection aborted", "Connection refused", "Read timed out", "EOF")):
        return "the engine went away; what was begun is settled by the next `make deploy`"
    return "mend that and run it again"
