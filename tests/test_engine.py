"""Risk: what the tests of images stand on is no engine, registry, image or proxy as users have them."""

import ast
import contextlib
import http.client
import io
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from uuid import uuid4

import pytest
from conftest import ROOT
from docker import DockerClient
from docker.errors import APIError, DockerException
from engine import free_port, running_engine, until
from standins import images

from conveyor.deploy.docker_engine import run_inside

BASE = "python:3.12.11-slim-bookworm"
EDGE = "caddy:2.11.7"


@pytest.fixture
def tiny(engine, base_image):
    """An image of one file on the base, which no other test has."""
    base_image(BASE)
    lines = [
        f"FROM {BASE}",
        f"LABEL of={uuid4().hex}",
        'RUN python -c "print(6 * 7)" > /answer',
        'CMD ["cat", "/answer"]',
    ]
    image, _ = engine.images.build(fileobj=io.BytesIO("\n".join(lines).encode()), rm=True)
    yield image
    engine.images.remove(image.id, force=True, noprune=True)


def test_an_image_goes_through_the_registry_and_comes_back_by_its_digest(engine, registry, tiny):
    name = f"{registry.address}/tiny"
    tiny.tag(name, "1")
    said = list(engine.images.push(name, "1", stream=True, decode=True))
    digest = next(line["aux"]["Digest"] for line in said if "aux" in line)
    engine.images.remove(tiny.id, force=True, noprune=True)
    back = engine.images.pull(f"{name}@{digest}")
    assert back.attrs["RepoDigests"] == [f"{name}@{digest}"]
    assert engine.containers.run(back, remove=True) == b"42\n"


def test_a_registry_that_was_stopped_fails_and_starts_again_with_what_it_held(engine, registry, tiny):
    name = f"{registry.address}/tiny"
    tiny.tag(name, "1")
    engine.images.push(name, "1")
    registry.stop()
    assert "connection refused" in engine.images.push(name, "2")  # the SDK raises nothing for a failed push
    with pytest.raises(APIError, match="connection refused"):
        engine.images.pull(name, "1")
    registry.start()
    assert engine.images.pull(name, "1").id == tiny.id


def test_the_package_index_is_reached_by_an_unmodified_dockerfile(engine, base_image):
    base_image(BASE)
    install = "RUN python -m venv /app && /app/bin/pip install --no-deps click==8.1.8"
    image, log = engine.images.build(fileobj=io.BytesIO(f"FROM {BASE}\n{install}\n".encode()), rm=True, nocache=True)
    assert any("Successfully installed click-8.1.8" in line.get("stream", "") for line in log)
    engine.images.remove(image.id, force=True, noprune=True)


def test_the_edge_proxy_answers(engine, edge_image, tmp_path):
    edge_image(EDGE)
    (tmp_path / "Caddyfile").write_text(':8080\nrespond "through the edge"\n')
    port = free_port()
    proxy = engine.containers.run(
        EDGE,
        detach=True,
        ports={"8080/tcp": ("127.0.0.1", port)},
        volumes={str(tmp_path): {"bind": "/etc/caddy", "mode": "ro"}},
    )
    try:
        assert until(lambda: _get(port), 20, "the edge does not answer") == "through the edge"
        assert run_inside(proxy, ["wget", "-q", "-O", "-", "http://127.0.0.1:8080"]).output == b"through the edge"
    finally:
        proxy.remove(force=True)


def _get(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=5) as answer:
            return answer.read().decode()
    except OSError:
        return ""


def test_an_edge_without_the_capability_of_its_binary_does_not_start(engine, edge_image):
    """The real image is such: who drops all capabilities has to give this one back."""
    edge_image(EDGE)
    command = {"image": EDGE, "command": ["caddy", "version"], "cap_drop": ["ALL"], "remove": True}
    with pytest.raises(DockerException, match="operation not permitted"):
        engine.containers.run(**command)
    assert engine.containers.run(**command, cap_add=["NET_BIND_SERVICE"]).startswith(b"v2.11.7")


def test_a_stand_in_is_made_once_and_an_image_without_its_label_is_left_alone(engine, base_image):
    made = base_image(BASE)
    assert base_image(BASE).id == made.id
    container = engine.containers.create(BASE)
    try:
        engine.api.import_image_from_stream(container.export(), "python", "of-a-test")  # its labels are not in it
    finally:
        container.remove()
    real = engine.images.get("python:of-a-test")
    try:
        assert base_image("python:of-a-test").id == real.id != made.id
    finally:
        engine.images.remove(real.id, force=True, noprune=True)


@pytest.mark.parametrize(
    ("tag", "words"),
    [("caddy:1.0", "stands in for 2.11.7 only"), ("such-an-image:none", "nothing stands in for it")],
    ids=["version", "name"],
)
def test_an_image_that_nothing_stands_in_for_is_one_line(engine, tag, words):
    script = [sys.executable, images.__file__, tag]
    done = subprocess.run(script, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr and len(done.stderr.splitlines()) == 1


def test_an_engine_that_runs_is_used_and_not_ended(engine, tmp_path):
    with running_engine(tmp_path) as client:
        assert client.info()["ID"] == engine.info()["ID"]
    assert engine.ping()
    assert not list(tmp_path.glob("dockerd.[pu]*"))


@pytest.fixture
def container(engine, tiny):
    made = engine.containers.create(tiny)
    yield made
    made.remove()


def test_the_engine_is_reached_over_ssh_by_the_command_line(ssh_host, container):
    listing = ["docker", "-H", ssh_host.url, "ps", "--all", "--quiet", "--no-trunc"]
    done = subprocess.run(listing, capture_output=True, text=True, env=os.environ | ssh_host.environment())
    assert container.id in done.stdout.split(), done.stderr


def test_the_engine_is_reached_over_ssh_by_a_client_of_a_forwarded_socket(ssh_host, container):
    with tempfile.TemporaryDirectory() as place:  # the path of a socket has to be short
        socket = Path(place) / "engine"
        tunnel = forward(ssh_host, socket, "host")
        try:
            until(socket.exists, 20, "ssh does not forward")
            with contextlib.closing(DockerClient(f"unix://{socket}")) as client:
                assert container.id in [found.id for found in client.containers.list(all=True, ignore_removed=True)]
        finally:
            tunnel.terminate()
            assert tunnel.communicate(timeout=20)[1] == ""


@pytest.mark.parametrize("knows", ["other", "nothing"])
def test_a_host_that_shows_another_key_than_the_known_one_is_refused(ssh_host, tmp_path, knows):
    said = forward(ssh_host, tmp_path / "engine", knows)
    error = said.communicate(timeout=20)[1]
    assert (said.returncode, error.splitlines()[-1]) == (255, "Host key verification failed.")
    assert not (tmp_path / "engine").exists()


def forward(ssh_host, socket: Path, knows: str) -> subprocess.Popen[str]:
    command = ["ssh", "-N", "-o", "ExitOnForwardFailure=yes", "-L", f"{socket}:/var/run/docker.sock", ssh_host.url]
    env = os.environ | ssh_host.environment(knows)
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env)


def test_hadolint_finds_what_is_wrong_with_a_dockerfile(tmp_path):
    hadolint = Path(sys.executable).parent / "hadolint"
    file = tmp_path / "Dockerfile"
    for text, code, rule in (
        ("FROM debian\nRUN cd /tmp\n", 1, "DL3006"),
        (f"FROM {BASE}\nUSER 1000\n", 0, ""),
    ):
        file.write_text(text)
        done = subprocess.run([hadolint, "--no-color", file], capture_output=True, text=True, env=dict(os.environ))
        assert (done.returncode, rule in done.stdout) == (code, True), done.stdout + done.stderr


@pytest.fixture
def waiting(engine, base_image):
    """A container that waits, of the base."""
    base_image(BASE)
    container = engine.containers.run(BASE, ["sleep", "300"], detach=True, network_mode="none", init=True)
    yield container
    container.remove(force=True)


def test_what_a_command_prints_before_its_reader_is_ready_is_taken_whole(waiting, monkeypatch):
    """As on a busy machine: the header of the answer and the first output arrive together."""
    begin = http.client.HTTPResponse.begin
    monkeypatch.setattr(http.client.HTTPResponse, "begin", lambda answer: (time.sleep(0.5), begin(answer))[1])
    done = run_inside(waiting, ["sh", "-c", "echo out; echo $WORD >&2; exit 3"], environment={"WORD": "err"})
    assert (done.exit_code, done.output, done.errors) == (3, b"out\n", b"err\n")


def test_every_byte_of_a_long_output_is_taken_and_none_of_an_empty_one(waiting):
    script = "import os; os.write(2, b'x'); [os.write(1, bytes(range(256)) * 64) for _ in range(200)]"
    done = run_inside(waiting, ["python", "-c", script])
    assert done.output == bytes(range(256)) * 64 * 200 and done.errors == b"x"
    assert run_inside(waiting, ["true"]).output == b""


def test_a_command_whose_container_is_killed_has_failed(waiting):
    killer = threading.Timer(1, waiting.kill)
    killer.start()
    assert run_inside(waiting, ["sh", "-c", "echo begun; sleep 60"]).exit_code == 137
    killer.join()
    with pytest.raises(APIError, match="is not running"):
        run_inside(waiting, ["true"])


def test_no_code_takes_away_layers_or_reads_output_that_others_work_with():
    """`images.remove` with untagged parents breaks a build that goes on from them; `exec_run` may lose the output."""
    found = []
    for folder in ("<<cookiecutter.project>>/src/conveyor", "bench", "tests", "tools"):
        for path in (ROOT / folder).rglob("*.py"):
            for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
                said = ast.unparse(call)
                removes = re.match(r"[\w.]*\bimages\.remove\(", said) and "noprune=True" not in said
                reads = re.match(r"[\w.]*\.exec_run\(", said) and "detach=True" not in said
                found += [f"{path.relative_to(ROOT)}: {said}"] if removes or reads else []
    assert not found
