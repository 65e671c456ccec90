"""The platforms of images, in Docker's names: linux/amd64, linux/arm64, linux/arm/v7."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from conveyor.core.errors import Misuse

if TYPE_CHECKING:
    import docker
    from docker.models.images import Image

# The kernel's names of architectures, and Docker's.
DOCKERS = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armv7l": "arm/v7", "armv6l": "arm/v6"}
USUAL = {"arm64/v8": "arm64", "amd64/v1": "amd64"}  # a default variant is left out


def given(text: str) -> str:
    """A platform as a person writes it, in Docker's names.

    Raises:
        Misuse: it is no platform.
    """
    if not re.fullmatch(r"[a-z0-9]+/[a-z0-9_-]+(/[a-z0-9]+)?", text.lower()):
        raise Misuse(f"PLATFORM: {text[:60]!r} is no platform; set it as in PLATFORM=linux/arm64")
    return _named(*text.lower().split("/"))


def _named(system: str, architecture: str, variant: str = "") -> str:
    name = DOCKERS.get(architecture, architecture) + (f"/{variant}" if variant else "")
    return f"{system}/{USUAL.get(name, name)}"


def of(image: Image) -> str:
    """The platform of an image on the engine."""
    return _named(image.attrs["Os"], image.attrs["Architecture"], image.attrs.get("Variant") or "")


def of_engine(client: docker.DockerClient) -> str:
    """The platform of the engine, which does not name a variant."""
    told = client.version()
    return _named(told["Os"], told["Arch"])


def same(one: str, other: str) -> bool:
    """Whether two platforms are the same; if only one names a variant, they count as the same."""
    return all(a == b for a, b in zip(one.split("/"), other.split("/"), strict=False))


def check(image: Image, client: docker.DockerClient, reference: str) -> None:
    """Refuse an image that the engine could only emulate.

    Raises:
        Misuse: it is for another platform than the engine's.
    """
    made, here = of(image), of_engine(client)
    if not same(made, here):
        raise Misuse(
            f"deploy: {reference[-71:]} is for {made}, and the engine is {here};"
            f" build one for it: `make image PLATFORM={here}`"
        )
