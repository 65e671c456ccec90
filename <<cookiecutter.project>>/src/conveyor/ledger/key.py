"""The ledger's key: a deploy key of the repository, which alone may write the ledger, and signs each event."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

from conveyor.core.errors import Misuse
from conveyor.core.project import Project
from conveyor.ledger.repository import place_of

HOSTS = ".github/ledger/known_hosts"
SIGNERS = ".github/ledger/signers"


class Key:
    """A private key from LEDGER_KEY, as a file for ssh that is gone when this process ends.

    Raises:
        Misuse: it is no private key.
    """

    def __init__(self, project: Project, text: str) -> None:
        if "PRIVATE KEY" not in text:
            raise Misuse("LEDGER_KEY: no private key; `make github-setup LEDGER_KEY=1` makes one")
        folder = Path(tempfile.mkdtemp(prefix="ledger-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        self.project = project
        self.file = folder / "key"
        self.file.touch(mode=0o600)
        self.file.write_text(text.strip().replace("\r\n", "\n") + "\n", encoding="utf-8")

    def signing(self) -> list[str]:
        """The settings for git that sign a commit."""
        return ["-c", "gpg.format=ssh", "-c", f"user.signingkey={self.file}", "-c", "gpg.ssh.program=ssh-keygen"]

    def pushing(self, url: str) -> tuple[list[str], dict[str, str]]:
        """The settings and variables for git that push to the repository of ``url`` with this key.

        Raises:
            Misuse: the repository names no host keys for it.
        """
        if place_of(url).startswith(("/", ".")):  # a folder
            return [], {}
        hosts = self.project.root / HOSTS
        if not hosts.is_file():
            raise Misuse(f"{HOSTS}: missing; `make github-setup LEDGER_KEY=1` writes it")
        # ssh reads the blanks and signs of a path in an option as its own: this copy's path has none.
        known = shutil.copyfile(hosts, self.file.with_name("known_hosts"))
        ssh = (
            f"ssh -i '{self.file}' -o IdentitiesOnly=yes -o IdentityAgent=none -o BatchMode=yes"
            f" -o StrictHostKeyChecking=yes -o UserKnownHostsFile='{known}' -o GlobalKnownHostsFile=/dev/null"
        )
        if "://" in url and not url.startswith("ssh://"):
            host, _, path = place_of(url).partition("/")
            url = f"ssh://git@{host}/{path}.git"
        return ["-c", f"remote.origin.pushurl={url}"], {"GIT_SSH_COMMAND": ssh, "GIT_SSH_VARIANT": "ssh"}
