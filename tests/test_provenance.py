"""Risk: an image says that it comes from elsewhere, or tells what lets one in there."""

import pytest
from conftest import OPTIONS

from conveyor.core.errors import Misuse
from conveyor.core.project import Project
from conveyor.deploy import provenance
from conveyor.model.code import pack_code


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("https://github.com/acme/late-flights.git", "https://github.com/acme/late-flights"),
        ("https://ada:ghp_secret@github.com/acme/late-flights", "https://github.com/acme/late-flights"),
        ("https://ghp_secret@git.example.com:8443/a/b/c.git/", "https://git.example.com:8443/a/b/c"),
        ("http://x-access-token:secret@git.example.com/a/b?token=secret#secret", "https://git.example.com/a/b"),
        ("git@github.com:acme/late-flights.git", "https://github.com/acme/late-flights"),
        ("git@github.com:acme/.github.git", "https://github.com/acme/.github"),
        ("github.com:acme/late-flights", "https://github.com/acme/late-flights"),
        ("ssh://git:secret@git.example.com:2222/acme/late-flights.git", "https://git.example.com/acme/late-flights"),
        ("git://git.example.com/acme/late-flights", "https://git.example.com/acme/late-flights"),
        ("https://[::1]:8443/acme/late-flights", "https://[::1]:8443/acme/late-flights"),
        ("/srv/git/late-flights.git", None),
        ("../late-flights", None),
        ("file:///srv/git/late-flights.git", None),
        ("C:/repositories/late-flights", None),
        ("ext::sh -c touch% planted", None),
        ("https://github.com", None),
        ("https://github.com/a b/c", None),
        ("https://git.example.com:port/a/b", None),
        ("https://git.example.com/../b", None),
        ("", None),
    ],
)
def test_the_source_of_an_image_is_a_page_and_tells_no_secret(remote, address):
    assert provenance.address(remote) == address


@pytest.mark.parametrize("licence", OPTIONS["license"])
def test_the_labels_name_the_remote_and_the_licence_that_was_chosen(bake, licence):
    project = bake(license=licence)
    project.git("remote", "add", "origin", "https://ada:secret@git.example.com/acme/flights.git")
    labels = provenance.labels(Project(project.path))
    assert labels.pop("org.opencontainers.image.created").endswith("Z")
    assert labels == {
        "org.opencontainers.image.source": "https://git.example.com/acme/flights",
        "org.opencontainers.image.licenses": "LicenseRef-Proprietary" if licence == "Proprietary" else licence,
    }
    assert pack_code(Project(project.path))  # hatchling takes no expression that is not SPDX's
    project.edit("pyproject.toml", "license = ", 'license = "EUPL-1.2"\n# ')
    assert provenance.licence(Project(project.path)) == "EUPL-1.2"
    project.edit("pyproject.toml", "[project]", "[project")
    with pytest.raises(Misuse, match="pyproject.toml: .*; mend it"):
        provenance.licence(Project(project.path))
