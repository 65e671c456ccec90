"""Before a deployment: does GitHub's signed provenance say that `deliver` built this image on main?"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from pathlib import Path

from conveyor.core.errors import Misuse, Refused
from conveyor.core.git import bounded
from conveyor.core.project import Project
from conveyor.deploy import image
from conveyor.deploy.pull_secret import credentials, registry

# What gh says when it came to no answer: an old gh, the network, GitHub or the registry.
NOT_ASKED = re.compile(
    r"unknown (flag|command)|HTTP (401|403|429|5\d\d)|unauthorized|denied|dial tcp|no such host|timeout|connection",
    re.I,
)
SECONDS = 120  # time limit; the registry and GitHub are asked
WORKFLOW = ".github/workflows/deliver.yml"


def run(project: Project) -> str:
    """Verify the attestation of the image in build/image.json by GitHub's command line.

    Raises:
        Misuse: there is no image of a registry, no repository or no `gh`; or it comes to no answer.
        Refused: no attestation of this digest was signed for `deliver` on main of this repository.
    """
    environment, reference = project.environment, image.read(project)["reference"]
    if not environment.repository:
        raise Misuse("GITHUB_REPOSITORY: not set; this runs in a workflow, or with it set")
    if "@" not in reference:
        raise Misuse("attested: the image of build/image.json is in no registry; run `make image PUSH=1` with REGISTRY")
    signer = [f"--signer-workflow={environment.repository}/{WORKFLOW}", "--source-ref=refs/heads/main"]
    words = ["gh", "attestation", "verify", f"oci://{reference}", f"--repo={environment.repository}", *signer]
    given = {**os.environ, "GH_PROMPT_DISABLED": "1"} | ({"GH_TOKEN": environment.token} if environment.token else {})
    try:
        with tempfile.TemporaryDirectory() as scratch:
            if auth := environment.registry_auth(reference):  # gh reads the registry as docker would
                host = registry(reference.partition("@")[0])
                known = credentials(host, auth["username"] or "", auth["password"] or "")
                path = Path(scratch, "config.json")
                path.touch(mode=0o600)
                path.write_text(json.dumps(known), encoding="utf-8")
                given["DOCKER_CONFIG"] = scratch
            done = bounded(words, project.root, None, given, SECONDS)
    except FileNotFoundError:
        raise Misuse("gh is not installed; install GitHub's command line") from None
    except subprocess.TimeoutExpired:
        raise Misuse(f"attested: gh did not answer within {SECONDS} seconds; run it again") from None
    if done.returncode:
        told = " ".join(done.stderr.decode(errors="replace").split())[-300:] or f"gh exited with {done.returncode}"
        if NOT_ASKED.search(told):
            raise Misuse(f"attested: gh could not verify {reference}: {told}; run it again, or update gh")
        raise Refused(
            f"attested: {reference} is not known to come from `deliver` on main: {told}; nothing was deployed"
        )
    return f"{reference} was built by `deliver` on main of {environment.repository}"
