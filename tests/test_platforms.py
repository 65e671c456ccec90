"""Risk: an image for another machine is built or deployed, and nobody is told."""

import re
from hashlib import sha256

import pytest
from containers import images_of, made
from standins import images

from conveyor.core.errors import Misuse
from conveyor.deploy import platforms

SMALL = """ARG BASE
FROM ${BASE} AS system
FROM scratch
COPY --from=system /etc/os-release /etc/
COPY app/ /app/
"""


@pytest.fixture
def other(engine, own, request):
    """The name of a base for a platform that is not the engine's, and that platform."""
    architecture = images.foreign(engine)
    name = f"stand-in-{architecture}:{sha256(str(own.path).encode()).hexdigest()[:12]}"
    yield name, architecture
    engine.images.remove(name, force=True, noprune=True)


def test_an_image_for_another_platform_says_so_and_is_not_deployed_here(engine, own, other, removed):
    base, architecture = other
    base_here = own.base
    images.relabelled(engine, base_here, base, architecture)
    (own.path / "container" / "Dockerfile").write_text(SMALL)
    own.cli("image", BASE_IMAGE=base, PLATFORM=f"linux/{architecture}")
    told = made(own)
    removed.append(told["reference"])
    image, here = engine.images.get(told["reference"]), engine.version()["Arch"]
    assert (image.attrs["Os"], image.attrs["Architecture"]) == ("linux", architecture)
    assert told["platform"] == f"linux/{architecture}"
    refused = f"deploy: {told['reference']} is for linux/{architecture}, and the engine is linux/{here}; build .*"
    with pytest.raises(Misuse, match=f"^{refused} `make image PLATFORM=linux/{here}`$"):
        platforms.check(image, engine, told["reference"])
    platforms.check(engine.images.get(base_here), engine, base_here)


def test_a_base_is_asked_for_by_the_platform_that_was_named(engine, own, one_line, other):
    base, architecture = other
    done = own.cli("image", check=False, PLATFORM=f"linux/{architecture}")  # of the base this engine's is here
    one_line(done, 2, f"image: the base {own.base} cannot be pulled for linux/{architecture}: .*; name one that .*")
    images.relabelled(engine, own.base, base, architecture)
    done = own.cli("image", check=False, BASE_IMAGE=base)
    one_line(done, 2, f"image: the base {base} cannot be pulled for linux/{engine.version()['Arch']}: .*")
    assert not images_of(engine, own)


def test_a_platform_of_which_the_machine_runs_no_programs_is_one_line(engine, own, one_line, other):
    base, architecture = other
    images.unrunnable(engine, base, architecture)
    done = own.cli("image", check=False, BASE_IMAGE=base, PLATFORM=f"linux/{architecture}")
    mend = r"install its emulation there \(Debian: qemu-user-static\), or build on such a machine"
    one_line(done, 2, f"image: the engine's machine runs no programs for linux/{architecture}; {mend}")


@pytest.mark.parametrize("platform", ["arm64", "linux", "linux/", "/arm64", "linux/arm/v7/x", "linux/arm 64", "$(id)"])
def test_a_platform_that_is_none_is_one_line(engine, own, one_line, platform):
    done = own.cli("image", check=False, PLATFORM=platform)
    one_line(done, 2, f"PLATFORM: {re.escape(repr(platform))} is no platform; set it as in PLATFORM=linux/arm64")


def test_one_platform_has_several_names():
    for names in (
        ("linux/amd64", "linux/x86_64", "Linux/AMD64", "linux/x86-64"),
        ("linux/arm64", "linux/aarch64", "linux/arm64/v8"),
        ("linux/arm/v7", "linux/armv7l", "linux/arm/v7"),
    ):
        assert {platforms.given(name) for name in names} == {names[0]}
    assert platforms.same("linux/arm/v7", "linux/arm") and not platforms.same("linux/arm/v7", "linux/arm/v6")
    assert not platforms.same("linux/arm64", "linux/arm") and not platforms.same("linux/amd64", "windows/amd64")
