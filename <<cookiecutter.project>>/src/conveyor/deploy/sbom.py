"""A software bill of materials of the image in CycloneDX 1.6, read from the image itself."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from conveyor.core.errors import Misuse
from conveyor.core.files import write_json
from conveyor.core.project import Project
from conveyor.deploy import docker_engine, image

if TYPE_CHECKING:
    import docker

# Runs in the image: prints the Python packages that it can import, and the packages of its distribution.
INVENTORY = """
import json, os, platform
from importlib.metadata import distributions
found = {(d.metadata["Name"], d.version) for d in distributions()}
debian, status = [], "/var/lib/dpkg/status"
for block in open(status, encoding="utf-8").read().split("\\n\\n") if os.path.exists(status) else []:
    fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and line[0] != " ")
    if fields.get("Status") == "install ok installed":
        debian.append((fields["Package"], fields["Version"], fields["Architecture"]))
print(json.dumps({"python": platform.python_version(), "packages": sorted(found), "debian": sorted(debian)}))
"""


def of(client: docker.DockerClient, reference: str) -> dict[str, Any]:
    """The bill of an image on the engine, equal to the byte for the same image.

    Raises:
        Misuse: the image cannot be read.
    """
    from docker.errors import ContainerError

    words = {"entrypoint": ["python", "-P", "-c"], "command": [INVENTORY], "network_mode": "none", "remove": True}
    try:
        told = json.loads(client.containers.run(reference, healthcheck={"test": ["NONE"]}, **words))
    except (ContainerError, ValueError) as error:
        told = " ".join(str(error).split())[:200]
        raise Misuse(f"sbom: {reference[-19:]} does not say what is in it: {told}; build it anew") from None
    parts = [("python", "generic", told["python"], "")]
    parts += [(name, "pypi", version, "") for name, version in told["packages"]]
    parts += [(name, "deb/debian", version, f"?arch={arch}") for name, version, arch in told["debian"]]
    repository, _, digest = reference.rpartition("@")
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digest)}",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": repository or "image", "version": digest}},
        "components": [
            {
                "type": "library",
                "name": name,
                "version": version,
                "purl": f"pkg:{kind}/{quote(name.lower() if kind == 'pypi' else name)}@{quote(version)}{more}",
            }
            for name, kind, version, more in parts
        ],
    }


def run(project: Project) -> str:
    """Write build/sbom.cdx.json, the bill of the image in build/image.json.

    Raises:
        Misuse: there is no such image here.
    """
    from docker.errors import ImageNotFound

    reference = image.read(project)["reference"]
    with docker_engine.connected() as client:
        try:
            bill = of(client, reference)
        except ImageNotFound:
            raise Misuse(f"sbom: {reference[-19:]} is not on this engine; run `make image`") from None
    write_json(project.build / "sbom.cdx.json", bill)
    return f"{len(bill['components'])} packages: build/sbom.cdx.json"
