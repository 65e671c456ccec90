"""Risk: an image is deployed that was not built by `deliver` on main, or a token is left behind by the look at it."""

import base64
import json
import os
import stat
import sys

import pytest
from act import REPOSITORY, STANDINS
from github import GitHub, grants

from conveyor.core.environment import Environment
from conveyor.core.errors import Misuse, Refused
from conveyor.core.project import Project

JOB, DIGEST = "deliver/staging", "a" * 64
IMAGE = f"registry.example.com:5000/team/late-flights@sha256:{DIGEST}"
# Notes how it was called and what it could read, and goes on as the stand-in.
SEEN = """
import json, os, pathlib, runpy, sys
place = pathlib.Path(os.environ["DOCKER_CONFIG"], "config.json") if "DOCKER_CONFIG" in os.environ else None
told = {"words": sys.argv[1:], "config": place and [str(place), place.stat().st_mode, place.read_text()]}
pathlib.Path(os.environ["SEEN"]).write_text(json.dumps(told))
runpy.run_path(os.environ["STAND_IN"], run_name="__main__")
"""


@pytest.fixture
def double(project):
    with GitHub(grants(project.path), project.path) as double:
        yield double


@pytest.fixture
def attested(project, double, tmp_path, monkeypatch):
    """attested(reference, **environment) -> what the verb said of the image in build/image.json."""
    from conveyor.github.attested import run

    (tmp_path / "bin").mkdir()
    gh = tmp_path / "bin" / "gh"
    gh.write_text(f"#!{sys.executable} -I\n{SEEN}")
    gh.chmod(0o755)

    def attested(reference=IMAGE, **more):
        made = {"reference": reference, "key": "k" * 64, "digest": "d" * 64, "commit": "c" * 40}
        (project.path / "build").mkdir(exist_ok=True)
        (project.path / "build" / "image.json").write_text(json.dumps(made))
        known = {"SEEN": str(tmp_path / "seen.json"), "STAND_IN": str(STANDINS / "attestations.py")}
        path = {"PATH": f"{gh.parent}{os.pathsep}{os.environ['PATH']}"}
        for name, value in (double.environment(JOB) | known | path | more).items():
            monkeypatch.setenv(name, value)
        return run(Project(project.path))

    return attested


def attest(double, digest=DIGEST, kind="https://slsa.dev/provenance/v1", path="deliver", ref="refs/heads/main"):
    """What the workflow `path` on `ref` has attested, as GitHub holds it."""
    workflow = {"ref": ref, "repository": f"https://github.com/{REPOSITORY}", "path": f".github/workflows/{path}.yml"}
    subject = [{"name": "registry.example.com/team/late-flights", "digest": {"sha256": digest}}]
    predicate = {"buildDefinition": {"externalParameters": {"workflow": workflow}}}
    statement = {"subject": subject, "predicateType": kind, "predicate": predicate}
    envelope = {"payload": base64.b64encode(json.dumps(statement).encode()).decode()}
    bundle = {"mediaType": "", "verificationMaterial": {}, "dsseEnvelope": envelope}
    double.attestations.append({"id": 1, "job": f"{path}/attest", "bundle": bundle, "subject": subject})


def test_an_image_that_deliver_attested_on_main_is_let_through(double, attested):
    attest(double, kind="https://cyclonedx.org/bom", path="other")
    attest(double)
    assert attested() == f"{IMAGE} was built by `deliver` on main of {REPOSITORY}"


@pytest.mark.parametrize(
    "other",
    [
        None,
        {"digest": "b" * 64},
        {"kind": "https://cyclonedx.org/bom"},
        {"path": "release"},
        {"ref": "refs/heads/proposal"},
        {"ref": "refs/pull/7/merge"},
    ],
    ids=["nothing", "another digest", "contents alone", "another workflow", "another branch", "a pull request"],
)
def test_an_image_without_such_an_attestation_is_refused(double, attested, other):
    if other is not None:
        attest(double, **other)
    with pytest.raises(Refused, match=f"^attested: {IMAGE} is not known to come from `deliver` on main: Error: .*"):
        attested()


def test_the_registry_is_read_with_the_job_s_token_which_stays_nowhere(double, attested, tmp_path):
    attest(double)
    attested()
    assert json.loads((tmp_path / "seen.json").read_text())["config"] is None
    attested(REGISTRY_USER="ada", REGISTRY_TOKEN="s3cret")
    seen = json.loads((tmp_path / "seen.json").read_text())
    path, mode, text = seen["config"]
    auth = base64.b64encode(b"ada:s3cret").decode()
    assert json.loads(text) == {"auths": {"registry.example.com:5000": {"auth": auth}}}
    assert stat.S_IMODE(mode) == 0o600 and not os.path.exists(path)
    assert "s3cret" not in str(seen["words"]) and auth not in str(seen["words"])


@pytest.mark.parametrize(
    "server, image, token, sent",
    [
        ("https://github.com", "ghcr.io/acme/flights", "job", "job"),
        ("https://github.com", "ghcr.io/acme/flights@sha256:1", "lasting", "lasting"),
        ("https://github.com", "registry.example.com/flights", "job", None),
        ("https://github.com", "registry.example.com/flights", "lasting", "lasting"),
        ("https://github.com", "acme/flights", "job", None),
        ("https://github.com", "ghcr.io.example.com/flights", "job", None),
        ("https://git.acme.com", "containers.git.acme.com/acme/flights", "job", "job"),
        ("https://git.acme.com", "ghcr.io/acme/flights", "job", None),
        ("https://git.acme.com", "registry.acme.com/flights", "job", None),
    ],
)
def test_the_token_of_a_job_goes_to_no_registry_but_that_of_github(server, image, token, sent):
    of_job = {"GITHUB_RUN_ID": "1", "GITHUB_REPOSITORY": "acme/flights", "GITHUB_ACTOR": "ada", "GITHUB_TOKEN": "job"}
    auth = Environment.read(of_job | {"GITHUB_SERVER_URL": server, "REGISTRY_TOKEN": token}).registry_auth(image)
    assert auth == (sent and {"username": "ada", "password": sent})


def test_a_right_that_is_missing_or_a_github_that_fails_is_no_lack_of_provenance(double, attested):
    attest(double)
    double.fail("GET", "attestations", 500)
    with pytest.raises(Misuse, match="^attested: gh could not verify .*HTTP 500; run it again, or update gh$"):
        attested()
    double.private, double.grants = True, double.grants | {JOB: {"contents": "write"}}
    with pytest.raises(Misuse, match="HTTP 403"):
        attested()


def test_what_cannot_be_asked_is_one_line_with_the_mend(attested, monkeypatch):
    with pytest.raises(
        Misuse, match="^attested: the image of build/image.json is in no registry; run `make image PUSH=1"
    ):
        attested("sha256:" + DIGEST)
    with pytest.raises(Misuse, match="^gh is not installed"):
        attested(PATH="/nowhere")
    with pytest.raises(Misuse, match="^GITHUB_REPOSITORY: not set"):
        attested(GITHUB_REPOSITORY="")
