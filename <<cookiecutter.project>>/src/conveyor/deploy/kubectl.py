"""kubectl in the namespace of one environment, and its errors as one line."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING

from conveyor.core.errors import Misuse
from conveyor.core.git import bounded
from conveyor.core.yaml_file import read_yaml

if TYPE_CHECKING:
    from conveyor.core.project import Project

OVERLAYS = "container/kubernetes/overlays"
SECONDS = 60


class Failed(Exception):
    """kubectl, or its roll-out, failed; the text is one line."""


class Kubectl:
    """kubectl in the namespace of one environment, with the context of the same name.

    Raises:
        Misuse: the environment does not exist, or has no namespace.
    """

    def __init__(self, project: Project, environment: str) -> None:
        self.root = project.root
        overlays = project.root / OVERLAYS
        known = sorted(folder.name for folder in overlays.glob("*") if folder.is_dir())
        if environment not in known:
            raise Misuse(f"{environment}: no environment; {OVERLAYS} has {', '.join(known) or 'none'}")
        self.overlay = overlays / environment
        self.namespace = read_yaml(self.overlay / "kustomization.yaml").get("namespace")
        if not isinstance(self.namespace, str):
            raise Misuse(f"{OVERLAYS}/{environment}/kustomization.yaml: namespace: missing; add it")
        self.words = ["kubectl", f"--context={self.namespace}", f"--namespace={self.namespace}"]
        self.variables = {**os.environ, "LC_ALL": "C"}
        if project.environment.kubeconfig:  # a workflow's secret: the file is deleted with this object
            self._file = tempfile.NamedTemporaryFile(  # noqa: SIM115 (it is kept as long as this object)
                "w", encoding="utf-8", prefix="kubeconfig-"
            )
            self._file.write(project.environment.kubeconfig)
            self._file.flush()
            self.variables["KUBECONFIG"] = self._file.name

    @property
    def named(self) -> bool:
        """Whether kubectl's configuration has this cluster."""
        return self.namespace in self("config", "get-contexts", "--output=name").split()

    def __call__(
        self, *words: str, stdin: bytes | None = None, seconds: float = SECONDS, hidden: Sequence[str] = ()
    ) -> str:
        """Standard output of ``kubectl words``; an error shows none of the ``hidden`` texts.

        Raises:
            Misuse: kubectl is not installed.
            Failed: it exited with an error, or did not answer in time.
        """
        try:
            done = bounded([*self.words, *words], self.root, stdin, self.variables, seconds)
        except FileNotFoundError:
            raise Misuse("kubectl is not installed; install it") from None
        except subprocess.TimeoutExpired:
            raise Failed(f"kubectl {words[0]} did not answer within {seconds:g} seconds") from None
        if done.returncode:
            for text in hidden:
                done.stderr = done.stderr.replace(text.encode(), b"***")
            raise Failed(_complaint(done.stderr) or f"kubectl {words[0]} exited with {done.returncode}")
        return done.stdout.decode(errors="replace")


def _complaint(stderr: bytes) -> str:
    """The line of kubectl's output that gives the cause: the last one, without log lines and exit codes of `exec`.

    Below a conflict of server-side apply stand lines of advice.
    """
    lines = [line.strip() for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    said = [line for line in lines if not re.match(r"[IWE][0-9]{4} |command terminated with", line)]
    conflict = [line for line in said if line.startswith("error: Apply failed with ")]
    text = (conflict or said or lines or [""])[-1].removeprefix("error: ")
    return text if len(text) <= 600 else f"...{text[-600:]}"  # kustomize begins with the place and ends with the cause


def asked(kubectl: Kubectl, *words: str) -> str:
    """The cluster's answer to a question that comes before any change."""
    try:
        return kubectl(*words)
    except Failed as error:
        mend = "mend the access to the cluster and run again"
        if f'context "{kubectl.namespace}" does not exist' in str(error):
            mend = f"`kubectl config set-context {kubectl.namespace} --cluster=... --user=...` makes it"
        raise Misuse(f"kubectl: {error}; {mend}") from None
