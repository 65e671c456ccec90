"""Risk: the image is not what was judged, or does not run as hardened as we say."""

import io
import json
import re
import shutil
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest
from conftest import OPTIONS, environment
from containers import HARDENED, answers, images_of, in_image, made, running
from docker.errors import ImageNotFound
from engine import free_port, until

from conveyor.deploy.docker_engine import run_inside

HOLD = """
import http.client, pathlib, time
kept = http.client.HTTPConnection("127.0.0.1", 8000)
kept.request("GET", "/readyz")
assert kept.getresponse().read() and kept.sock
pathlib.Path("/tmp/held").touch()
time.sleep(60)
"""
WRITABLE = """
import os
for folder, folders, files in os.walk("/"):
    if folder in ("/dev", "/proc", "/sys"):
        folders.clear()
        continue
    for name in folders + files:
        path = os.path.join(folder, name)
        if not os.path.islink(path) and os.access(path, os.W_OK):
            print(path)
"""


# How it runs


def test_it_becomes_healthy_and_answers_without_network_capabilities_or_a_disk_to_write_to(engine, champion_image):
    assert engine.images.get(champion_image.id).attrs["Config"]["Healthcheck"]["Interval"] <= 30_000_000_000
    soon = {"interval": 1_000_000_000}  # ns; the rest of the check is the image's
    with running(engine, champion_image.id, healthcheck=soon, **HARDENED) as container:
        golden = json.loads(run_inside(container, ["cat", "/app/bundle/golden.json"]).output)["answers"]
        assert answers(container) == pytest.approx(golden, abs=1e-5)
        assert [run_inside(container, ["id", which]).output for which in ("-u", "-g")] == [b"10001\n", b"10001\n"]

        def healthy() -> bool:
            container.reload()
            return container.attrs["State"]["Health"]["Status"] == "healthy"

        until(healthy, 30, "the image's own health check is not content")


SICK = """
from http.server import BaseHTTPRequestHandler, HTTPServer
class Sick(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(503)
HTTPServer(("127.0.0.1", 9001), Sick).serve_forever()
"""


def test_the_health_check_asks_at_the_port_that_was_given_and_takes_only_a_yes(engine, champion_image):
    command = engine.images.get(champion_image.id).attrs["Config"]["Healthcheck"]["Test"]
    with running(engine, champion_image.id, environment={"PORT": "9000"}, **HARDENED) as container:
        until(lambda: b"http://0.0.0.0:9000" in container.logs(), 30, "it does not serve")
        assert run_inside(container, command[1:]).exit_code == 0
        assert (
            run_inside(container, command[1:], environment={"PORT": ""}).exit_code == 1
        )  # 8000, where nothing listens
        container.exec_run(["python", "-c", SICK], detach=True)
        listens = ["python", "-c", "import socket; socket.create_connection(('127.0.0.1', 9001), 1)"]
        until(lambda: run_inside(container, listens).exit_code == 0, 20, "nobody says no")
        said_no = run_inside(container, command[1:], environment={"PORT": "9001"})
        assert (said_no.exit_code, said_no.output, said_no.errors) == (1, b"", b"")


@pytest.mark.parametrize("user", ["10001:10001", "12345:0"])
def test_its_user_may_write_predictions_and_tmp_and_nothing_else(engine, champion_image, user):
    assert in_image(engine, champion_image.id, WRITABLE, user=user).split() == ["/tmp", "/var/log/predictions"]


def test_it_serves_and_logs_as_any_user_of_group_0(engine, champion_image):
    """As OpenShift runs it: a number that nobody knows before, and the group of root."""
    volume = engine.volumes.create()
    try:
        mounted = {volume.name: {"bind": "/var/log/predictions", "mode": "rw"}}
        options = {"volumes": mounted, "environment": {"PREDICTION_LOG": "/var/log/predictions"}, **HARDENED}
        with running(engine, champion_image.id, user="12345:0", **options) as container:
            said = answers(container)
            container.stop()  # what waits is written then
            assert container.wait()["StatusCode"] == 0, container.logs()
        with running(engine, champion_image.id, **options) as container:  # its own user goes on in the same volume
            assert answers(container) == said
            container.stop()
            look = ["sh", "-c", "stat -c '%u:%g' /var/log/predictions/*; cat /var/log/predictions/*"]
            kept = engine.containers.run(champion_image.id, look, remove=True, **options).decode().splitlines()
        assert sorted(kept[:2]) == ["10001:10001", "12345:0"]
        assert [json.loads(line)["prediction"] for line in kept[2:]] == said * 2
    finally:
        volume.remove()


def test_docker_stop_ends_it_in_order_while_a_connection_is_kept(engine, champion_image):
    with running(engine, champion_image.id, **HARDENED) as container:
        answers(container)
        container.exec_run(["python", "-c", HOLD], detach=True)
        until(lambda: run_inside(container, ["test", "-e", "/tmp/held"]).exit_code == 0, 20, "no connection is held")
        began = time.monotonic()
        container.stop()
        assert time.monotonic() - began < 3
        assert container.wait()["StatusCode"] == 0


def test_its_labels_and_image_json_say_what_it_was_made_of(engine, champion_image):
    project, told = champion_image.project, champion_image.made
    image = engine.images.get(champion_image.id)
    event = json.loads(project.cli("history", "--json").stdout)[-1]
    base = engine.images.get(project.base)
    said = {
        "org.opencontainers.image.revision": project.git("rev-parse", "HEAD").stdout.strip(),
        "org.opencontainers.image.title": "late-flights",
        "org.opencontainers.image.base.name": project.base,
        "org.opencontainers.image.base.digest": (base.attrs["RepoDigests"] or [base.id])[0].rpartition("@")[2],
        "org.opencontainers.image.licenses": "MIT",
        "org.opencontainers.image.version": f"{told['commit'][:12]}-{event['key'][:12]}",
        "late_flights.key": event["key"],
        "late_flights.digest": event["digest"],
        "late_flights.data-sha256": re.search("sha256: (.*?) ", (project.path / "params.yaml").read_text())[1],
    }
    assert {key: image.labels.get(key) for key in said} == said
    assert "org.opencontainers.image.source" not in image.labels  # there is no remote
    created = image.labels["org.opencontainers.image.created"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", created)
    assert int(datetime.fromisoformat(created).timestamp()) == int(project.git("show", "-s", "--format=%ct").stdout)
    assert told["platform"] == f"linux/{engine.version()['Arch']}"
    assert told["commit"] == said["org.opencontainers.image.revision"] and told["dirty"] is False
    assert (told["key"], told["digest"]) == (event["key"], event["digest"])
    assert told["data_sha256"] == said["late_flights.data-sha256"]
    assert told["base"] == {"name": project.base, "digest": said["org.opencontainers.image.base.digest"]}
    assert re.fullmatch("sha256:[0-9a-f]{64}", told["reference"]) and told["bytes"] == image.attrs["Size"]
    inside = json.loads(in_image(engine, champion_image.id, "print(open('/app/settings.json').read())"))
    assert (inside["key"], inside["digest"], inside["commit"]) == (event["key"], event["digest"], told["commit"])


# How it is made


def test_a_second_build_is_from_the_cache_and_the_same_image(engine, champion_image, own):
    own.git("reset", "-q", "HEAD~1")
    done = own.cli("image")
    assert made(own)["reference"] == champion_image.id, done.stdout
    assert made(own)["created"] > champion_image.made["created"]


def test_an_image_of_uncommitted_code_says_so_and_its_libraries_are_the_layer_that_was_there(
    engine, champion_image, own, removed
):
    own.edit("src/conveyor/serving/app.py", '"""The server:', '"""Our server:')
    own.cli("image")
    told = made(own)
    removed.append(told["reference"])
    image, commit = engine.images.get(told["reference"]), own.git("rev-parse", "HEAD").stdout.strip()
    assert told["dirty"] is True
    assert image.labels["org.opencontainers.image.revision"] == f"{commit}-dirty"
    assert image.tags == [f"late-flights:{commit[:12]}-dirty-{told['key'][:12]}"]
    # What is new is the code: a few MB, and no library is built, pushed or pulled again.
    layers, before = (i.attrs["RootFS"]["Layers"] for i in (image, engine.images.get(champion_image.id)))
    assert layers[:-1] == before[:-1] and layers[-1] != before[-1]
    assert max(part["Size"] for part in image.history() if "/app" in part["CreatedBy"]) < 1e6


def test_what_is_below_the_code_is_the_same_without_a_cache(engine, champion_image, tmp_path):
    """As on another machine, or another day: a registry has it already."""
    context = champion_image.project.path / "build" / "image"
    words = f"FROM {champion_image.project.base}\nLABEL of={tmp_path}\n"
    base, _ = engine.images.build(fileobj=io.BytesIO(words.encode()), rm=True)
    given = {"BASE": base.id}
    # Of a label of its own: no build of another test goes on from it, though it holds what theirs would.
    shutil.copytree(context, tmp_path / "context")
    dockerfile = tmp_path / "context" / "Dockerfile"
    text, began = dockerfile.read_text(), "FROM scratch AS empty\n"
    assert text.count(began) == 1
    dockerfile.write_text(text.replace(began, f"{began}LABEL of={tmp_path}\n"))
    path = str(tmp_path / "context")
    again, _ = engine.images.build(path=path, buildargs=given, nocache=True, rm=True, target="empty")
    engine.images.remove(again.id, noprune=True)
    assert again.attrs["RootFS"]["Layers"] == engine.images.get(champion_image.id).attrs["RootFS"]["Layers"][:-1]


def test_without_a_champion_there_is_no_image(project, one_line):
    one_line(project.cli("image", check=False), 2, "image: there is no champion yet; run `make pipeline` first")


def test_a_bundle_that_was_changed_on_disk_is_replaced_by_the_one_that_was_judged(engine, champion_image, own):
    own.git("reset", "-q", "HEAD~1")
    (own.path / "build" / "champion" / "golden.json").write_text('{"rows": [], "answers": []}')
    own.cli("image")
    assert made(own)["reference"] == champion_image.id


def test_a_bundle_that_was_changed_in_the_ledger_is_refused(own, one_line, engine):
    key = json.loads(own.cli("history", "--json").stdout)[-1]["key"]
    model = f"refs/models/{key}"
    (own.path / "golden.json").write_text('{"rows": [], "answers": []}')
    blob = own.git("hash-object", "-w", "golden.json").stdout.strip()
    listed = own.git("ls-tree", model).stdout
    tree = re.sub("[0-9a-f]+\tgolden.json", f"{blob}\tgolden.json", listed)
    assert tree != listed
    (own.path / "tree").write_text(tree)
    written = own.run("sh", "-c", "git mktree < tree").stdout.strip()
    commit = own.git("commit-tree", written, "-m", "changed").stdout.strip()
    own.git("update-ref", model, commit)
    shutil.rmtree(own.path / "build" / "champion")
    one_line(own.cli("image", check=False), 2, f"ledger: {model} is commit .*, event 1 says .*; `make fsck` says .*")
    assert not images_of(engine, own)


def test_serving_code_that_gives_other_answers_is_refused_and_leaves_no_image(engine, own, one_line):
    own.edit("src/conveyor/model/runtime.py", "return said[:, 1] if task", "return said[:, 1] + 0.01 if task")
    done = own.cli("image", check=False)
    refused = "the golden rows are answered with a difference of 0.01, more than 1e-05"
    one_line(done, 1, f"image: this code and lock around the model are refused: .*{refused}.*; nothing was built")
    assert not images_of(engine, own)
    assert not (own.path / "build" / "image.json").exists()


def test_a_lock_in_which_the_model_cannot_be_loaded_is_refused(engine, own, one_line):
    lock = own.path / "requirements" / "serve.txt"
    without = re.sub(r"^onnxruntime==(.|\n)*?(?=^[a-z])", "", lock.read_text(), flags=re.M)
    assert "onnxruntime" not in without and "uvicorn" in without
    lock.write_text(without)
    done = own.cli("image", check=False)
    refused = "ModuleNotFoundError: No module named 'onnxruntime'"
    one_line(done, 1, f"image: this code and lock around the model are refused: {refused}; nothing was built")
    assert not images_of(engine, own)


def test_a_package_that_is_not_the_locked_one_is_told_in_one_line(engine, own, one_line):
    lock = own.path / "requirements" / "serve.txt"
    first = re.search(r"^[a-z-]+==.*\\\n(    --hash=sha256:.*\n)+", lock.read_text(), re.M)[0]
    name = first.partition("==")[0]
    lock.write_text(re.sub("sha256:[0-9a-f]{64}", "sha256:" + "0" * 64, first))
    done = own.cli("image", check=False)
    one_line(done, 2, f"image: The command .*: ERROR: THESE PACKAGES DO NOT MATCH.*{name}==.*; mend that and .*")
    assert not images_of(engine, own)


def test_an_engine_that_is_not_there_is_one_line(own, one_line):
    done = own.cli("image", check=False, DOCKER_HOST="tcp://127.0.0.1:1")
    one_line(done, 2, "docker: the engine of tcp://127.0.0.1:1 cannot be reached: .*; check that address and your key")


def test_a_base_that_is_not_there_is_one_line(own, one_line):
    done = own.cli("image", check=False, BASE_IMAGE="127.0.0.1:1/nothing:1")
    one_line(
        done, 2, "image: the base 127.0.0.1:1/nothing:1 cannot be pulled for linux/.*: .*; name one that is there: .*"
    )


# Where it goes


def test_it_is_pushed_and_comes_back_by_the_digest_of_its_reference(engine, registry, own, removed):
    own.cli("image", "--push", REGISTRY=f"{registry.address}/Acme/")
    reference = made(own)["reference"]
    assert re.fullmatch(f"{registry.address}/acme/late-flights@sha256:[0-9a-f]{{64}}", reference)
    image = engine.images.get(reference)
    engine.images.remove(image.id, force=True, noprune=True)
    with pytest.raises(ImageNotFound):
        engine.images.get(image.id)
    back = engine.images.pull(reference)
    removed.append(back.id)
    assert back.id == image.id
    with running(engine, reference, **HARDENED) as container:
        assert len(answers(container)) == 20


def test_a_base_from_a_registry_is_taken_and_named_by_its_digest(engine, registry, own, removed):
    name, tag = f"{registry.address}/mirror/python", own.base.partition(":")[2]
    engine.images.get(own.base).tag(name, tag)
    said = list(engine.images.push(name, tag, stream=True, decode=True))
    digest = next(line["aux"]["Digest"] for line in said if "aux" in line)
    engine.images.remove(f"{name}:{tag}", noprune=True)
    own.cli("image", BASE_IMAGE=f"{name}:{tag}")
    removed.append(made(own)["reference"])
    engine.images.remove(f"{name}:{tag}", noprune=True)
    assert made(own)["base"] == {"name": f"{name}:{tag}", "digest": digest}
    assert engine.images.get(made(own)["reference"]).labels["org.opencontainers.image.base.digest"] == digest


def test_no_registry_to_push_to_is_one_line(own, one_line):
    done = own.cli("image", "--push", check=False)
    one_line(done, 2, "image: no registry to push to; set REGISTRY, as in REGISTRY=.*")


def test_a_registry_that_does_not_answer_is_one_line(engine, own, one_line, removed):
    address = f"127.0.0.1:{free_port()}"
    done = own.cli("image", "--push", check=False, REGISTRY=address)
    removed += [tag for tag in images_of(engine, own) if tag.startswith(address)]
    one_line(done, 2, f"image: {address}/late-flights does not take it: .*; check REGISTRY and the rights .*")
    assert not (own.path / "build" / "image.json").exists()


# What it is made from


@pytest.mark.parametrize("python", OPTIONS["python"])
def test_the_dockerfiles_are_sound_and_name_their_bases_exactly(bake, python):
    project = bake(python=python)
    files = sorted((project.path / "container").glob("*Dockerfile"))
    assert [file.name for file in files] == ["Dockerfile", "base.Dockerfile", "edge.Dockerfile"]
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, "--no-color", *files], capture_output=True, text=True, env=environment())
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
    assert re.fullmatch(rf"python:{re.escape(python)}\.\d+-slim-bookworm", project.base)
    bases = [line.split()[1] for file in files for line in file.read_text().splitlines() if line.startswith("FROM ")]
    others = set(bases) - {project.base}
    assert {"${BASE}", "scratch", "empty"} < others
    [edge] = others - {"${BASE}", "scratch", "empty"}
    assert re.fullmatch(r"caddy:\d+\.\d+\.\d+-alpine", edge)
