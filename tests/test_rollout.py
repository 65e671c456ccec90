"""Risk: a deployment loses requests, leaves a mess, or lets a bad image serve. All on a real engine, under load."""

import contextlib
import http.client
import json
import os
import re
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import ROOT, BakedProject, environment, module, once
from engine import clear, free_port, until

from conveyor.deploy.docker_engine import run_inside

sys.path.insert(0, str(ROOT / "bench"))
from load import Load  # noqa: E402
from questions import questions  # noqa: E402

# Where one deployer after another is killed. A rollout is begun anew up to "watched", and only finished from "switched"
# on, when all requests go to the new release.
POINTS = (
    ("deployer at work", "replicas ready", "joined", "switched"),
    ("replicas created", "answers compared", "one replica drained", "before live"),
    ("watched", "drained", "after live"),
)
NAME = "rollout"  # what is deployed here goes by another name than what other files deploy
LABEL = "late_flights."
VARIANT = "variant"


@dataclass
class Stage:
    """An engine with an edge port, and a repository whose second model is accepted and not yet deployed.

    Attributes:
        first: the repository as it was with its first champion, and that one's image.
        project: the repository with the second model on its way to production, and that one's image.
    """

    first: BakedProject
    project: BakedProject
    engine: object
    port: int

    def deploy(self, project: BakedProject | None = None, *words: str, check: bool = True, **env: str):
        return self.cli("deploy", *words, project=project, check=check, **env)

    def cli(self, *words: str, project: BakedProject | None = None, check: bool = True, **env: str):
        return (project or self.project).cli(
            *words, check=check, **{"DEPLOY_PORT": str(self.port), "DEPLOY_NAME": NAME} | env
        )

    def stopped(self, how: str, point: str) -> list[str]:
        """The words of a deployment that is `killed` or `held` at a point; they want these variables."""
        return ["interrupted", how, point, "deploy"]

    @property
    def variables(self) -> dict[str, str]:
        path = os.pathsep.join(["src", str(ROOT / "tests")])
        return {"PYTHONPATH": path, "DEPLOY_PORT": str(self.port), "DEPLOY_NAME": NAME}

    def key(self, project: BakedProject) -> str:
        return image_of(project)["key"]

    def bundle(self, project: BakedProject) -> Path:
        return project.path / "build" / "candidate"

    def load(self, rate: float = 16.0) -> Load:
        """A load of different requests, whose answers are known for both models."""
        bundles = [self.bundle(project) for project in (self.first, self.project)]
        return Load(self.port, questions(bundles), rate)

    def ask(self) -> dict:
        rows = json.loads((self.bundle(self.first) / "golden.json").read_text())["rows"]
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/predict",
            json.dumps({"rows": rows}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read())

    def status(self, token: str) -> int:
        """What a caller with a token gets."""
        rows = json.loads((self.bundle(self.first) / "golden.json").read_text())["rows"]
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        body = json.dumps({"rows": rows}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/predict", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    def serves(self) -> str:
        """The key of the model that answers at the edge."""
        return self.ask()["model"]

    def containers(self, role: str) -> list:
        found = self.engine.containers.list(all=True, filters={"label": f"{LABEL}role={role}"}, ignore_removed=True)
        return [container for container in found if container.labels[f"{LABEL}environment"].startswith(f"{NAME}-")]

    def rotation(self) -> dict[str, str]:
        """What the edge reads for each request."""
        edge = self.containers("edge")[0]
        names = ("main", "next", "share")
        return {name: run_inside(edge, ["cat", f"/rotation/{name}"]).output.decode() for name in names}

    def left(self) -> list[str]:
        """Networks and volumes of this deployment, but for the log of predictions."""
        networks = [network.name for network in self.engine.networks.list() if network.name.startswith(f"{NAME}-")]
        volumes = [volume.name for volume in self.engine.volumes.list() if volume.name.startswith(f"{NAME}-")]
        return [name for name in networks + volumes if not name.endswith("-predictions")]

    def running(self) -> list[str]:
        """The keys of the replicas that run, one entry each."""
        return sorted(c.labels[f"{LABEL}key"] for c in self.containers("replica") if c.status == "running")

    def events(self, project: BakedProject | None = None) -> list[str]:
        told = json.loads((project or self.project).cli("history", "--json").stdout)
        return [event["type"] for event in told]

    def bad(self, fault: str, seconds: float = 0.0, good: str | None = None) -> str:
        """The id of an image that is a good one, by default of the second model, with one thing wrong."""
        image, _ = self.engine.images.build(
            path=str(ROOT / "tests/standins/replica"),
            buildargs={
                "GOOD": good or image_of(self.project)["reference"],
                "FAULT": f"{fault} {seconds}",
            },
            labels={VARIANT: "true"},
            rm=True,
        )
        return image.id

    def put(self, reference: str, project: BakedProject | None = None, **more: str) -> None:
        """Let build/image.json name another image."""
        project = project or self.project
        (project.path / "build/image.json").write_text(
            json.dumps({**image_of(project), "reference": reference, **more})
        )

    def settled(self) -> None:
        """What must hold whatever happened: one release serves, none is half-way, nobody holds the lock."""
        for release in {c.labels[f"{LABEL}release"] for c in self.containers("replica")}:
            states = {c.status for c in self.containers("replica") if c.labels[f"{LABEL}release"] == release}
            assert len(states) == 1, f"{release} is half-way: {states}"
        assert len(set(self.running())) <= 1 and len(self.running()) in (0, 2)
        until(lambda: not self.containers("deployer"), 10, "the deployer's container did not end")


def image_of(project: BakedProject) -> dict:
    return json.loads((project.path / "build" / "image.json").read_text())


@pytest.fixture(scope="module")
def accepted(champion_image, bake, shared, edge_image) -> Path:
    """A repository in which a better model was accepted for production, after a first one was promoted."""
    edge_image("caddy:2.11.7-alpine")

    def accept(fresh: Path) -> None:
        project = bake()
        shutil.rmtree(project.path)
        shutil.copytree(champion_image.project.path, project.path, symlinks=True)
        short = (
            ("watch_seconds: 90.0 ", "watch_seconds: 1.0 "),
            ("max_seconds: 0.5 ", "max_seconds: 9.0 "),  # other tests want the cores, too
        )
        for old, new in short:
            project.edit("params.yaml", old, new)
        project.git("commit", "--quiet", "--all", "--message", "a short watch")
        shutil.copytree(project.path, fresh / "first", symlinks=True)
        project.better()
        project.git("commit", "--quiet", "--all", "--message", "a better model")
        for words in (("validate",), ("train",), ("score",), ("compare",), ("accept",), ("image",)):
            project.cli(*words)
        shutil.copytree(project.path, fresh / "second", symlinks=True)

    return once(shared, "accepted", accept)


@pytest.fixture(scope="module")
def port(engine) -> int:
    """Of the edge, which the tests share: each brings the release that it begins with."""
    clear(engine, NAME)
    yield free_port()
    clear(engine, NAME)
    engine.images.prune({"label": VARIANT})


@pytest.fixture
def projects(accepted, bake, engine, port) -> Stage:
    made = []
    for name in ("first", "second"):
        project = bake()
        shutil.rmtree(project.path)
        shutil.copytree(accepted / name, project.path, symlinks=True)
        made.append(project)
    return Stage(*made, engine, port)


@pytest.fixture
def stage(projects, engine) -> Stage:
    """Nothing is deployed, and nothing is left."""
    clear(engine, NAME)
    yield projects
    clear(engine, NAME)


@pytest.fixture
def serving(projects, engine) -> Stage:
    """The first champion serves."""
    projects.deploy(projects.first)
    assert projects.serves() == projects.key(projects.first)
    return projects


def test_an_accepted_model_becomes_champion_when_it_serves_and_no_request_is_lost(serving):
    assert serving.events()[-1] == "accepted"
    with serving.load(60) as load:
        said = serving.deploy().stdout
    assert "in the rotation" in said and "is drained" in said
    assert serving.events()[-2:] == ["accepted", "live"]
    assert serving.serves() == serving.key(serving.project)
    assert len(load.total()) and load.total()["sent"] > 200
    assert (load.total()["lost"], load.total()["wrong"]) == (0, 0), load.losses[:5]
    assert {key for key in load.total() if len(key) == 64} == {serving.key(serving.first), serving.key(serving.project)}
    serving.settled()
    again = serving.deploy().stdout
    assert "unchanged: model" in again and serving.events()[-1] == "live", "a second deployment changes nothing"


@pytest.mark.parametrize("points", POINTS, ids=", then ".join)
def test_deployers_that_are_killed_leave_what_the_next_one_finishes_or_undoes(serving, points):
    with serving.load(30) as load:
        for point in points:
            done = module(*serving.stopped("killed", point), cwd=serving.project.path, check=False, **serving.variables)
            assert done.returncode == -9, f"{point} is not reached:\n{done.stdout}{done.stderr}"
            load.phase = f"killed, {point}"
            time.sleep(1)
        serving.deploy()
    assert serving.events()[-2:] == ["accepted", "live"]
    assert serving.events().count("live") == 2
    assert serving.serves() == serving.key(serving.project)
    serving.settled()
    assert (load.total()["lost"], load.total()["wrong"]) == (0, 0), load.losses[:5]


@pytest.mark.parametrize(
    ("fault", "seconds", "reason"),
    [
        ("sick", 0.0, "replica 1 is not ready within 3 s"),
        ("wrong", 0.0, "replica 1 gives other answers to the golden rows"),
        ("crash", 4.0, "replica [12] has ended with 3|answers the golden rows with nothing"),
        ("slow", 0.2, "of [0-9]+ answers took over 0.1 s"),
        ("failing", 0.0, "requests (made|live) rows get status 500 where the model gives 200"),
        ("golden-only", 0.0, "in [0-9]+ of [0-9]+ requests (made|live) rows get other predictions, unlike the model"),
        ("empty", 0.0, "in [0-9]+ of [0-9]+ requests (made|live) rows get an answer that holds no predictions"),
        (
            "turns",
            170.0,
            "in [0-9]+ of [0-9]+ requests callers got other predictions, .*: [0-9a-f-]{36}(, [0-9a-f-]{36})*",
        ),
        ("leak", 30.0, "replica [12] (was killed at|uses [0-9]+ MB, which is nearly) its memory limit, deploy.memory"),
    ],
)
def test_a_bad_image_is_rolled_back_by_itself_and_its_model_is_aborted(serving, one_line, fault, seconds, reason):
    serving.project.edit("params.yaml", "watch_seconds: 1.0 ", "watch_seconds: 8.0 ")
    if fault == "sick":
        serving.project.edit("params.yaml", "ready_seconds: 60.0 ", "ready_seconds: 3.0 ")
    if fault == "slow":
        serving.project.edit("params.yaml", "max_seconds: 9.0 ", "max_seconds: 0.1 ")
    serving.put(serving.bad(fault, seconds))
    with serving.load(60 if fault == "turns" else 16) as load:
        done = serving.deploy(check=False)
    one_line(done, 1, f"deploy: .*({reason}).*; rolled back: model {serving.key(serving.first)[:12]} serves as before")
    assert serving.events()[-2:] == ["accepted", "aborted"]
    assert serving.running() == [serving.key(serving.first)] * 2, "nothing of it is left"
    assert serving.serves() == serving.key(serving.first)
    serving.settled()
    if fault != "turns":  # it is right until callers have asked it for a while
        assert (load.total()["lost"], load.total()["wrong"]) == (0, 0), load.losses[:5]


def test_a_first_deployment_that_fails_leaves_nothing_behind(stage, one_line):
    stage.put(stage.bad("golden-only"))
    one_line(stage.deploy(check=False), 1, "deploy: .* made rows get other .* rolled back: nothing serves, as before")
    assert stage.events()[-1] == "aborted" and not stage.containers("replica")
    stage.cli("undeploy")
    assert not stage.left(), "neither a network nor a volume but the log's"


def test_a_slow_start_is_waited_for(serving):
    serving.put(serving.bad("late", 4.0))
    serving.deploy()
    assert serving.events()[-1] == "live"


def test_a_replica_at_its_memory_limit_is_named_with_the_limit(serving, one_line):
    serving.project.edit("params.yaml", "memory: 512m ", "memory: 24m ")
    one_line(serving.deploy(check=False), 1, r".*memory limit, deploy\.memory = 24m; rolled back: .*")
    assert serving.serves() == serving.key(serving.first)
    serving.settled()


def test_while_one_deployment_is_at_work_another_one_and_an_end_are_told_to_wait(serving, one_line):
    """From another checkout: within one, the build folder says so already."""
    command = [sys.executable, "-m", *serving.stopped("held", "deployer at work")]
    options = {"env": environment(**serving.variables), "stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=serving.project.path, text=True, **options) as one:
        assert "held\n" in iter(one.stdout.readline, "")
        other = serving.deploy(serving.first, check=False)
        end = serving.cli("undeploy", project=serving.first, check=False)
        assert serving.serves() == serving.key(serving.first)
        one.communicate("go on\n")
    one_line(other, 2, "deploy: another deployment is at work in production, by .* since .*; wait until it has ended")
    one_line(end, 2, "undeploy: a deployment is at work in production; wait until it has ended")
    assert one.returncode == 0 and serving.serves() == serving.key(serving.project)


def test_a_roll_back_deploys_the_earlier_champion_and_a_roll_back_of_it_the_later(serving):
    serving.deploy()
    with serving.load() as load:
        serving.cli("rollback", "--because", "too slow")
        assert serving.serves() == serving.key(serving.first)
        assert serving.events()[-2:] == ["rolled_back", "live"]
        back = serving.events().index("live", 3) + 1
        serving.cli("rollback", "--to", str(back), "--because", "it was not that")
    assert serving.serves() == serving.key(serving.project)
    assert serving.events()[-2:] == ["rolled_back", "live"]
    assert (load.total()["lost"], load.total()["wrong"]) == (0, 0), load.losses[:5]


def test_a_roll_back_whose_target_fails_too_keeps_what_serves(serving, one_line):
    serving.deploy()
    later = serving.key(serving.project)
    # What served then is gone, and the code of now does not give the model's answers any more.
    for container in serving.containers("replica"):
        if container.labels[f"{LABEL}key"] == serving.key(serving.first):
            container.remove(force=True)
    serving.project.edit(
        "src/conveyor/serving/service.py",
        "content = {",
        "said = [each / 2 for each in said]\n        content = {",
    )
    done = serving.cli("rollback", "--because", "too slow", check=False)
    one_line(done, 1, "deploy: replica 1 gives other answers .* rolled back: .* serves as before")
    assert serving.events()[-2:] == ["rolled_back", "aborted"]
    assert serving.serves() == later, "what serves is kept"
    serving.settled()
    shown = serving.cli("history").stdout.splitlines()
    assert any("<- champion" in line and later[:12] in line for line in shown)


def test_a_quarantined_model_is_not_deployed(serving, one_line):
    number = serving.events().index("accepted", 2) + 1
    serving.cli("quarantine", "--event", str(number), "--because", "bad labels")
    one_line(serving.deploy(check=False), 2, "deploy: build/image.json is of model .* wants .*; run `make image` first")
    assert serving.running() == [serving.key(serving.first)] * 2


@pytest.mark.parametrize("reference", ["late-flights:latest", "ghcr.io/acme/late-flights:1.0"])
def test_an_image_is_deployed_by_its_digest_only(stage, one_line, reference):
    stage.put(reference)
    one_line(stage.deploy(check=False), 2, "image.json: .* names no digest, and a tag can move; run `make image`")


def test_an_image_that_is_not_there_is_named(stage, one_line):
    stage.put("sha256:" + "0" * 64)
    one_line(stage.deploy(check=False), 2, "deploy: the image sha256:000000000000 is not on this engine; .*")


def test_an_image_of_another_model_is_refused_by_its_labels(stage, one_line):
    stage.put(image_of(stage.first)["reference"])
    one_line(stage.deploy(check=False), 2, "deploy: .* is not the image of model .*; run `make image`")


def test_a_registry_that_is_down_stops_a_deployment_before_anything_changes(serving, registry, one_line):
    serving.cli("image", "--push", REGISTRY=registry.address)
    reference = image_of(serving.project)["reference"]
    assert reference.startswith(f"{registry.address}/late-flights@sha256:")
    serving.engine.images.remove(reference, force=True, noprune=True)
    registry.stop()
    try:
        done = serving.deploy(check=False)
    finally:
        registry.start()
    one_line(done, 2, f"deploy: {reference} cannot be pulled: .*; check that the registry answers .*")
    assert serving.events()[-1] == "accepted" and serving.serves() == serving.key(serving.first)
    assert f"pulling {reference}" in serving.deploy().stdout
    assert serving.serves() == serving.key(serving.project)


def test_an_engine_that_does_not_answer_is_named(stage, one_line):
    done = stage.deploy(check=False, DOCKER_HOST="tcp://127.0.0.1:1")
    one_line(done, 2, "docker: the engine of tcp://127.0.0.1:1 cannot be reached: .*; check that address and your key")
    assert stage.events()[-1] == "accepted"


def test_a_port_that_is_taken_is_named_and_nothing_is_started(stage, one_line):
    with socket.create_server(("127.0.0.1", stage.port)):
        one_line(stage.deploy(check=False), 2, f"deploy: port {stage.port} of the host is taken; .*")
    assert not stage.containers("replica") and not stage.containers("edge") and not stage.left()
    assert stage.events()[-1] == "accepted", "it waits for the next deployment"
    stage.deploy()
    assert stage.serves() == stage.key(stage.project)


def test_a_host_whose_disk_is_full_says_so(stage, registry, one_line):
    """An engine of its own, on a file system of 64 MB."""
    stage.cli("image", "--push", REGISTRY=registry.address)
    place = Path(tempfile.mkdtemp(prefix="full-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", place], check=True)
    address = f"unix://{place / 'docker.sock'}"
    binary = shutil.which("dockerd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    words = [binary, "--host", address, "--data-root", place / "data", "--exec-root", place / "exec"]
    # A bridge of its own: without one it would take the other engine's away.
    for line in ("link add full0 type bridge", "address add 172.29.0.1/24 dev full0", "link set full0 up"):
        subprocess.run(["ip", *line.split()], check=True)
    words += ["--pidfile", place / "pid", "--bridge", "full0", "--iptables=false"]
    with open(stage.project.path.parent / "dockerd.log", "w", encoding="utf-8") as log:
        engine = subprocess.Popen([str(word) for word in words], stdout=log, stderr=log)
    try:
        until((place / "pid").exists, 30, "dockerd does not start")
        ready = ["docker", "--host", address, "version"]
        until(lambda: not subprocess.run(ready, capture_output=True).returncode, 30, "dockerd does not answer")
        done = stage.deploy(check=False, DOCKER_HOST=address)
    finally:
        engine.terminate()
        engine.wait(30)
        until(
            lambda: not subprocess.run(["umount", place], capture_output=True).returncode, 20, "it cannot be unmounted"
        )
        place.rmdir()
        subprocess.run(["ip", "link", "delete", "full0"], check=True)
    one_line(done, 2, "deploy: .* cannot be pulled: .*no space left on device.*")
    assert stage.events()[-1] == "accepted"


def test_old_releases_and_their_images_go_and_the_last_ones_stay(serving, engine):
    for project in (serving.first, serving.project):
        project.edit("params.yaml", "keep: 3 ", "keep: 1 ")
    images, layers, good = [], [], image_of(serving.first)["reference"]
    for number in range(3):
        images.append(serving.bad("late", 0.01 * (number + 1), good))
        layers.append(engine.images.get(images[-1]).attrs["Parent"])
        serving.put(images[-1], serving.first)
        serving.deploy(serving.first)
    there = [image for image in images if _exists(engine, image)]
    assert there == images[1:], "the one that serves and the one before it"
    assert all(_exists(engine, layer) for layer in layers), "a build at that moment may go on from them"
    engine.api.remove_image(layers[0])  # with what is below it, on which only this test has built
    assert len({c.labels[f"{LABEL}release"] for c in serving.containers("replica")}) == 2


def _exists(engine, image: str) -> bool:
    import docker.errors

    with contextlib.suppress(docker.errors.ImageNotFound):
        return bool(engine.images.get(image))
    return False


def test_staging_stands_beside_production_on_the_same_engine_and_writes_no_live(serving):
    other = free_port()
    said = serving.deploy(None, "--to", "staging", DEPLOY_PORT=str(other)).stdout
    assert f"the edge listens at 127.0.0.1:{other}" in said
    assert serving.events()[-1] == "accepted"
    assert serving.running() == sorted([serving.key(serving.first)] * 2 + [serving.key(serving.project)] * 2)
    assert serving.serves() == serving.key(serving.first)


def test_with_a_token_only_who_bears_it_is_answered_and_the_deployment_still_sees_golden_answers(stage):
    stage.deploy(stage.first, PREDICT_TOKEN="a-secret")
    with pytest.raises(urllib.error.HTTPError) as refused:
        stage.ask()
    assert refused.value.code == 401
    refused.value.close()


def test_while_a_token_is_changed_both_are_taken(stage):
    stage.deploy(stage.first, PREDICT_TOKEN="old-one")
    assert stage.status("old-one") == 200 and stage.status("new-one") == 401
    stage.deploy(stage.first, PREDICT_TOKEN="new-one,old-one")
    assert stage.status("old-one") == stage.status("new-one") == 200
    stage.deploy(stage.first, PREDICT_TOKEN="new-one")
    assert stage.status("new-one") == 200 and stage.status("old-one") == stage.status("new-one,old-one") == 401


@pytest.mark.parametrize("address", ["0.0.0.0", "192.0.2.7"])
def test_a_token_does_not_cross_a_network_in_the_clear_unasked(stage, one_line, address):
    stage.project.edit("params.yaml", "bind: 127.0.0.1 ", f"bind: {address} ")
    done = stage.deploy(check=False)
    one_line(done, 2, f"deploy: params.yaml: deploy.bind is {address}, where .* in the clear; set deploy.tls, or .*")
    assert not stage.containers("edge") and stage.events()[-1] == "accepted"
    stage.project.edit("params.yaml", "behind_tls: false ", "behind_tls: true ")
    if address == "0.0.0.0":
        stage.deploy()
        assert stage.serves() == stage.key(stage.project)


def test_the_edge_speaks_tls_with_the_certificate_of_the_host(stage, one_line):
    place = Path(tempfile.mkdtemp(prefix="certificate-"))
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    words += ["-addext", "subjectAltName=DNS:localhost", "-keyout", place / "key.pem", "-out", place / "cert.pem"]
    subprocess.run([str(word) for word in words], check=True, capture_output=True)
    place.chmod(0o755)
    (place / "key.pem").chmod(0o644)
    stage.project.edit("params.yaml", "tls: null ", f"tls: {{certificate: {place}/cert.pem, key: {place}/key.pem}} ")
    stage.project.edit("params.yaml", "bind: 127.0.0.1 ", "bind: 0.0.0.0 ")
    stage.deploy()
    known = ssl.create_default_context(cafile=place / "cert.pem")
    url = f"https://localhost:{stage.port}/readyz"
    with urllib.request.urlopen(url, timeout=10, context=known) as answer:
        assert answer.status == 200
    with pytest.raises(OSError):
        urllib.request.urlopen(f"http://localhost:{stage.port}/readyz", timeout=10)
    assert "unchanged: model" in stage.deploy().stdout
    stage.cli("undeploy")
    (place / "key.pem").chmod(0o600)
    done = stage.deploy(check=False)
    one_line(done, 2, "deploy: params.yaml: deploy.tls: the edge does not start with these files; .* by user 10001 .*")
    (place / "key.pem").unlink()
    one_line(stage.deploy(check=False), 2, "deploy: params.yaml: deploy.tls: the host has no file .*")
    shutil.rmtree(place)
    assert not stage.containers("edge") and not stage.left()


def test_a_certificate_for_a_name_wants_the_port_where_it_is_asked_for(stage, one_line):
    stage.project.edit("params.yaml", "tls: null ", "tls: {name: model.example.com} ")
    done = stage.deploy(check=False, DEPLOY_PORT="")
    one_line(done, 2, "deploy: params.yaml: deploy.tls.name wants deploy.port: 443, .*")


def test_a_new_release_gets_the_share_that_is_asked_for(serving):
    serving.project.edit("params.yaml", "canary: 0.5 ", "canary: 0.1 ")
    serving.project.edit("params.yaml", "watch_seconds: 1.0 ", "watch_seconds: 17.0 ")
    with serving.load(40) as load:
        said = serving.deploy().stdout
    assert "in the rotation, with 10% of the requests" in said
    told = re.search("watched for 1[0-9] of 17 s: ([0-9]+) requests, ([0-9]+) of them to the new release", said)
    requests, new = int(told[1]), int(told[2])
    assert requests > 200 and abs(new - requests / 10) < 5 * (requests * 0.09) ** 0.5
    assert (load.total()["lost"], load.total()["wrong"]) == (0, 0), load.losses[:5]
    assert re.search("[0-9]+ live and 100 made requests compared; predictions of the same rows .* -> ", said)


def test_few_requests_are_said_to_be_too_few_to_tell(serving):
    said = serving.deploy().stdout
    assert "not enough requests to tell whether 0.01 of them fail, that takes 299" in said


def test_a_release_leaves_the_rotation_before_anything_of_it_is_stopped(serving):
    command = [sys.executable, "-m", *serving.stopped("held", "switched")]
    options = {"env": environment(**serving.variables), "stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=serving.project.path, text=True, **options) as one:
        while "held" not in one.stdout.readline():
            pass
        assert len(serving.running()) == 4, "all of the old one run"
        assert {serving.serves() for _ in range(12)} == {serving.key(serving.project)}
        rotation = serving.rotation()
        assert rotation["main"].startswith("release-") and not rotation["next"] and not rotation["share"]
        one.communicate("go on\n")
    assert one.returncode == 0 and serving.running() == [serving.key(serving.project)] * 2


def test_a_deployment_of_before_the_rotation_goes_on_serving_and_is_followed(serving):
    """Its replicas share one name in the network, its edge has no volume."""
    for container in serving.containers("edge"):
        container.remove(force=True)
    serving.engine.volumes.get(f"{NAME}-production-rotation").remove()
    network = serving.engine.networks.get(f"{NAME}-production")
    for container in serving.containers("replica"):
        network.disconnect(container)
        if container.status == "running":
            network.connect(container, aliases=["replicas"])
    said = serving.deploy(serving.first).stdout
    assert "the edge listens at" in said and "unchanged: model" in said
    assert serving.serves() == serving.key(serving.first) and serving.rotation()["main"] == "replicas"
    serving.deploy()
    assert serving.serves() == serving.key(serving.project) and serving.rotation()["main"].startswith("release-")
    serving.settled()


def test_a_replica_that_died_stays_known(serving):
    serving.deploy()
    replica = next(c for c in serving.containers("replica") if c.status == "running")
    os.kill(replica.attrs["State"]["Pid"], signal.SIGKILL)

    def again() -> bool:
        replica.reload()
        return replica.attrs["RestartCount"] == 1 and replica.status == "running"

    until(again, 20, "it is not started again")
    said = serving.cli("monitor", GITHUB_ACTIONS="true", GITHUB_RUN_ID="1", GITHUB_REPOSITORY="acme/model").stdout
    assert f"A replica has died::{replica.name} has died" in said
    assert f"{replica.name} has died" in (serving.project.path / "build" / "monitor.md").read_text()


def test_thousands_of_bodies_that_do_not_get_whole_do_not_end_the_edge(serving):
    """A caller that is connected is answered meanwhile; the engine's own proxy may turn away whoever comes."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, most[1]), most[1]))
    head = b"POST /predict HTTP/1.1\r\nHost: edge\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n"
    edge = serving.containers("edge")[0]
    with (
        contextlib.ExitStack() as links,
        contextlib.closing(http.client.HTTPConnection("127.0.0.1", serving.port)) as one,
    ):
        one.request("GET", "/readyz")
        assert one.getresponse().read()
        for _ in range(3000):
            link = links.enter_context(socket.create_connection(("127.0.0.1", serving.port), timeout=20))
            with contextlib.suppress(OSError):
                link.sendall(head + b" " * 9900)
        one.request("GET", "/readyz")
        assert one.getresponse().status == 200
        edge.reload()
        assert edge.attrs["RestartCount"] == 0 and edge.status == "running" and not edge.attrs["State"]["OOMKilled"]
        used = edge.stats(stream=False, one_shot=True)["memory_stats"]
        assert used["usage"] < used["limit"]
    until(lambda: serving.serves() == serving.key(serving.first), 20, "nobody is answered after it")


def test_the_edge_has_bounds(serving):
    host = serving.containers("edge")[0].attrs["HostConfig"]
    assert 0 < host["Memory"] <= 1e9 and 0 < host["PidsLimit"] <= 512
    assert [limit["Name"] for limit in host["Ulimits"]] == ["nofile"]
    assert host["CapDrop"] == ["ALL"] and host["SecurityOpt"] == ["no-new-privileges"]
    replica = next(c for c in serving.containers("replica") if c.status == "running").attrs["HostConfig"]
    assert 0 < replica["CpuShares"] < 1024, "the edge goes first where the cores are wanted by all"


def test_what_answers_behind_the_edge_cannot_reach_the_outside(serving):
    replica = serving.containers("replica")[0]
    outside = serving.containers("edge")[0].attrs["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    reach = ["python", "-c", f"import socket; socket.create_connection(('{outside}', 8000), 3)"]
    done = run_inside(replica, reach)
    assert done.exit_code == 1 and b"Error" in done.errors
    control = serving.engine.containers.run(replica.attrs["Image"], reach, remove=True, network="bridge")
    assert control == b"", "from another network it is reached"
    host = replica.attrs["HostConfig"]
    assert host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and host["SecurityOpt"] == ["no-new-privileges"]
    with pytest.raises(urllib.error.HTTPError) as refused:  # metrics are for inside
        urllib.request.urlopen(f"http://127.0.0.1:{serving.port}/metrics", timeout=5)
    assert refused.value.code == 404
    refused.value.close()


def test_a_deployment_over_ssh_is_the_same(stage, ssh_host):
    stage.deploy(stage.first, DOCKER_HOST=ssh_host.url, **ssh_host.secrets())
    assert stage.serves() == stage.key(stage.first)
    stage.settled()


def test_a_host_whose_key_is_another_one_is_not_deployed_to(stage, ssh_host, one_line):
    done = stage.deploy(stage.first, check=False, DOCKER_HOST=ssh_host.url, **ssh_host.secrets("other"))
    one_line(done, 2, "docker: the engine of ssh://.* cannot be reached: Host key verification failed.; check .*")
    assert not stage.containers("replica")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("reverse_proxy {", "reverse_prox {", "container/edge.Dockerfile: .*validate.*"),
        ("port 8000", "port 8001", "the edge with the Caddyfile of now does not answer for what serves; mend .*"),
    ],
)
def test_an_edge_that_would_not_work_does_not_take_the_place_of_one_that_does(serving, one_line, old, new, said):
    folder = serving.project.path / "container"
    (folder / "Caddyfile").write_text((folder / "Caddyfile").read_text().replace(old, new))
    one_line(serving.deploy(check=False), 2, f"deploy: {said}")
    assert serving.serves() == serving.key(serving.first)
    assert serving.events()[-1] == "accepted", "it is not the model's fault"
    assert [edge.name for edge in serving.containers("edge")] == [f"{NAME}-production-edge"]


def test_a_client_that_does_not_finish_its_request_does_not_hold_the_edge_for_ever(serving):
    file = serving.project.path / "container" / "Caddyfile"
    caddyfile = file.read_text()
    for limit in ("read_header 10s", "read_body 30s", "grace_period 10s"):
        assert limit in caddyfile
        caddyfile = caddyfile.replace(limit, limit.split()[0] + " 2s")
    file.write_text(caddyfile)
    serving.deploy()
    head = b"POST /predict HTTP/1.1\r\nHost: edge\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", serving.port), timeout=20) as client:
        client.sendall(head)
        assert client.recv(4096) == b"", "no header, no answer"
    with socket.create_connection(("127.0.0.1", serving.port), timeout=40) as client:
        client.sendall(head + b"Content-Length: 1000\r\n\r\n{")
        told = client.recv(4096)
        assert told.split()[1] in (b"499", b"503") and b"Connection: close" in told, told
    with socket.create_connection(("127.0.0.1", serving.port), timeout=20) as client:
        client.sendall(head + b"Content-Length: 1000\r\n\r\n{")
        assert serving.serves() == serving.key(serving.project)
        [edge] = serving.containers("edge")
        began = time.monotonic()
        edge.stop(timeout=60)
        assert time.monotonic() - began < 20 and edge.wait()["StatusCode"] == 0


def test_an_edge_does_not_move_to_a_port_that_is_taken(serving, one_line):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = serving.deploy(check=False, DEPLOY_PORT=str(port))
    one_line(done, 2, f"deploy: port {port} of the host is taken; .*")
    assert serving.serves() == serving.key(serving.first)


def test_what_was_said_when_it_was_deployed_holds_for_the_next_one(stage, one_line):
    """A roll-back in another shell neither opens the door nor moves it."""
    stage.deploy(stage.first, PREDICT_TOKEN="a-secret")
    done = stage.deploy(check=False, DEPLOY_PORT="")
    one_line(done, 2, "deploy: production answers only who bears a token, and PREDICT_TOKEN is not set; .*")
    stage.deploy(DEPLOY_PORT="", PREDICT_TOKEN="a-secret")
    with urllib.request.urlopen(f"http://127.0.0.1:{stage.port}/info", timeout=5) as answer:
        assert json.loads(answer.read())["key"] == stage.key(stage.project)
    for sick in (0, 1):
        for container in [c for c in stage.containers("replica") if c.status == "running"][:sick]:
            container.stop(timeout=10)
        done = stage.cli("rollback", "--because", "too slow", check=False)
        one_line(done, 2, "deploy: production answers only who bears a token, and PREDICT_TOKEN is not set; .*")
        assert stage.events()[-1] == "live", "it is said before the ledger is written"


def test_an_image_with_other_settings_than_params_yaml_is_not_deployed(stage, one_line):
    stage.project.edit("params.yaml", "private: [] ", "private: [carrier] ")
    one_line(stage.deploy(check=False), 2, "deploy: the image was built with other values of .*; run `make image`")


def test_a_token_that_no_header_takes_is_refused_and_not_shown(stage, one_line):
    done = stage.deploy(check=False, PREDICT_TOKEN="s3cret\nx")
    one_line(done, 2, "PREDICT_TOKEN: holds a blank .*")
    assert "s3cret" not in done.stderr


def test_a_client_cannot_mark_its_requests_as_no_traffic(serving):
    rows = json.loads((serving.bundle(serving.first) / "golden.json").read_text())["rows"][:1]

    def counted() -> float:
        replicas = [c for c in serving.containers("replica") if c.status == "running"]
        text = [run_inside(c, ["python", "-c", METRICS]).output.decode() for c in replicas]
        return sum(float(line.split()[1]) for told in text for line in told.splitlines() if line[:11] == "rows_total ")

    before = counted()
    request = urllib.request.Request(
        f"http://127.0.0.1:{serving.port}/predict",
        json.dumps({"rows": rows}).encode(),
        {"Content-Type": "application/json", "X-Probe": "1"},
    )
    urllib.request.urlopen(request, timeout=10).close()
    assert counted() == before + 1


METRICS = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000/metrics').read().decode())"


def test_undeploy_takes_all_of_it_down_but_what_was_predicted(serving):
    serving.ask()
    assert serving.cli("undeploy").stdout.strip().endswith(f"containers of {NAME}-production are gone")
    assert not [c for role in ("edge", "replica", "deployer") for c in serving.containers(role)]
    assert not serving.engine.networks.list(names=[f"^{NAME}-production$"])
    with pytest.raises(OSError):
        serving.ask()
    assert serving.engine.volumes.get(f"{NAME}-production-predictions")
    assert f"nothing of {NAME}-production is here" in serving.cli("undeploy").stdout
