"""The Docker engine: this machine's, or the one in DOCKER_HOST (`ssh://deploy@host` for a server)."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conveyor.core.errors import Misuse

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container
    from docker.models.images import Image

SECONDS = 120  # time limit of a call


@contextmanager
def connected() -> Iterator[docker.DockerClient]:
    """A client of the engine.

    Raises:
        Misuse: the engine cannot be reached, goes away, or refuses; one line with the fix.
    """
    import docker
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    named = os.environ.get("DOCKER_HOST", "")
    with tunnel(named) if named.startswith("ssh://") else nullcontext(None) as address:
        client = None
        try:
            client = docker.DockerClient(address, timeout=SECONDS) if address else docker.from_env(timeout=SECONDS)
            client.ping()
        except (DockerException, RequestException, OSError) as error:
            if client:
                client.close()
            mend = "check that address and your key" if named else "start Docker, or set DOCKER_HOST"
            raise Misuse(
                f"docker: the engine of {named or 'this machine'} cannot be reached: {told(error)}; {mend}"
            ) from None
        try:
            yield client
        except (DockerException, RequestException) as error:
            raise Misuse(f"docker: {told(error)}; {_mend(str(error))}") from None
        finally:
            client.close()


@contextmanager
def tunnel(host: str) -> Iterator[str]:
    """Forward the engine's socket from another host through ssh; returns the local address.

    If DEPLOY_KEY (a private key) and DEPLOY_KNOWN_HOSTS (the host's line of known_hosts) are set, only these are used;
    otherwise ssh's own configuration. In both cases an unknown host is refused without a prompt.

    Raises:
        Misuse: ssh cannot connect.
    """
    if not re.fullmatch(r"ssh://[\w\[][\w.@:%\[\]-]*", host):
        raise Misuse(f"DOCKER_HOST: {host[:80]!r} is no address; write it as in DOCKER_HOST=ssh://deploy@host")
    with tempfile.TemporaryDirectory(prefix="engine-") as name:
        place = Path(name)
        options = ["BatchMode=yes", "StrictHostKeyChecking=yes", "ExitOnForwardFailure=yes", "ConnectTimeout=20"]
        for variable, file, more in (
            ("DEPLOY_KEY", "key", ["IdentityFile={}", "IdentitiesOnly=yes"]),
            ("DEPLOY_KNOWN_HOSTS", "known_hosts", ["UserKnownHostsFile={}", "GlobalKnownHostsFile=/dev/null"]),
        ):
            if os.environ.get(variable):
                path = place / file
                path.touch(mode=0o600)
                path.write_text(os.environ[variable].rstrip() + "\n", encoding="utf-8")
                options += [option.format(path) for option in more]
        socket = place / "engine"
        words = ["ssh", *(word for option in options for word in ("-o", option))]
        # `cat` keeps the connection open. When this process ends, in any way, its input closes: that ends the tunnel.
        words += ["-L", f"{socket}:/var/run/docker.sock", host, "cat"]
        try:
            ssh = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        except FileNotFoundError:
            raise Misuse(f"docker: {host}: ssh is not installed; install it") from None
        try:
            until = time.monotonic() + 30
            while not socket.exists():
                if ssh.poll() is not None or time.monotonic() > until:
                    ssh.kill()
                    said = ssh.communicate()[1].decode(errors="replace").strip().splitlines()
                    why = said[-1] if said else "ssh does not answer"
                    raise Misuse(
                        f"docker: the engine of {host} cannot be reached: {why}; check that address, DEPLOY_KEY and"
                        " DEPLOY_KNOWN_HOSTS"
                    )
                time.sleep(0.05)
            yield f"unix://{socket}"
        finally:
            for pipe in (ssh.stdin, ssh.stderr):
                if pipe:
                    pipe.close()
            try:
                ssh.wait(10)
            except subprocess.TimeoutExpired:
                ssh.kill()


def pull(
    client: docker.DockerClient,
    reference: str,
    auth: dict[str, str | None] | None = None,
    platform: str | None = None,
) -> Image:
    """Pull an image by a tag or a digest, for ``platform`` if that is given.

    Raises:
        DockerException: with the message of the registry or the engine; the SDK's `pull` loses that of a full disk.
    """
    from docker.errors import DockerException

    for line in client.api.pull(reference, auth_config=auth, platform=platform, stream=True, decode=True):
        if "error" in line:
            raise DockerException(line["error"])
    return client.images.get(reference)


@dataclass(frozen=True)
class Done:
    """What a command in a container left: its exit code, and what it printed to its output and as errors."""

    exit_code: int
    output: bytes
    errors: bytes


def run_inside(container: Container, command: list[str], **options: Any) -> Done:
    """Run a command in a running container and wait for its end.

    The SDK's `exec_run` reads the connection beside the reader of the answer's header. That reader already holds what
    arrived together with the header, so on a busy machine the beginning of the output is lost. Here the answer is an
    ordinary one, which one reader takes whole.

    Args:
        options: of the SDK's `exec_create`, as `environment` or `user`.

    Raises:
        APIError: the engine refuses, as where the container does not run.
        DockerException: the connection ended before the command did.
    """
    from docker.errors import DockerException, create_api_error_from_http_exception
    from requests.exceptions import HTTPError

    api = container.client.api
    made = api.exec_create(container.id, command, **options)["Id"]
    address = f"{api.base_url}/v{api.api_version}/exec/{made}/start"
    with api.post(address, json={"Detach": False, "Tty": False}, timeout=SECONDS) as answer:
        try:
            answer.raise_for_status()
        except HTTPError as error:
            create_api_error_from_http_exception(error)
        content = answer.content
    code = api.exec_inspect(made)["ExitCode"]
    printed = {1: b"", 2: b""}
    while content:  # frames: the stream, three bytes of nothing, the length in four bytes, and so many bytes
        length = int.from_bytes(content[4:8], "big")
        if code is None or content[0] not in printed or len(content) < 8 + length:
            raise DockerException("the connection ended within the output of a command")
        printed[content[0]] += content[8 : 8 + length]
        content = content[8 + length :]
    if code is None:
        raise DockerException("the connection ended before the command did")
    return Done(code, printed[1], printed[2])


def told(error: Exception) -> str:
    """The engine's message as one line."""
    text = getattr(error, "explanation", None) or str(error)
    return " ".join(str(text).split())[:300]


def _mend(text: str) -> str:
    if "no space left" in text:
        return "make room on the host (`docker system prune`) and run it again"
    if any(sign in text for sign in ("Connection aborted", "Connection refused", "Read timed out", "EOF")):
        return "the engine went away; what was begun is settled by the next `make deploy`"
    return "mend that and run it again"
