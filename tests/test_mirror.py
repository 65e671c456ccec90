"""Risk: MLflow shows another champion than the ledger, or its failure costs or blocks what the ledger says."""

import json
import re
import shutil
import socket
import sqlite3
import sys
import threading
import time
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ledgers import Place

from conveyor.core import errors as errors_module
from conveyor.core.errors import Misuse
from conveyor.core.project import Project
from conveyor.deploy import rollback as rollback_module
from conveyor.deploy.rollback import prune, quarantine
from conveyor.ledger import mirror as mirror_module
from conveyor.ledger.ledger import ledger_of
from conveyor.ledger.mirror import followed
from conveyor.model import tracking
from conveyor.steps import promote
from conveyor.steps.promote import approve

NAME = "late_flights"


# A server, and what can stand between it and a command


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


class Between:
    """A proxy in front of a server: it counts the calls, and does what ``fault`` says instead of passing one on.

    ``fault`` takes the number of the call, from 0, and its path, and returns None (pass it on), an answer as
    (status, body), "cut" (end the connection), "lost" (pass it on, and end the connection instead of answering).
    """

    def __init__(self, server: str) -> None:
        self.server = server.removeprefix("http://")
        self.calls: list[tuple[str, str]] = []
        self.fault = lambda number, path: None
        between = self

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                between.answer(self)

            do_GET = do_POST = do_PATCH = do_DELETE = handle_any

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.http.server_port}"

    def answer(self, asked: BaseHTTPRequestHandler) -> None:
        content = asked.rfile.read(int(asked.headers.get("Content-Length") or 0))
        number, path = len(self.calls), asked.path.split("?")[0].removeprefix("/api/2.0/mlflow/")
        self.calls.append((asked.command, path))
        fault = self.fault(number, path)
        if fault == "cut":
            return
        status, body = fault if isinstance(fault, tuple) else self.pass_on(asked, content)
        if fault == "lost":
            return
        asked.send_response(status)
        asked.send_header("Content-Type", "application/json")
        asked.send_header("Content-Length", str(len(body)))
        asked.end_headers()
        asked.wfile.write(body)

    def pass_on(self, asked: BaseHTTPRequestHandler, content: bytes) -> tuple[int, bytes]:
        there = HTTPConnection(self.server, timeout=60)
        try:
            there.request(asked.command, asked.path, content, {"Content-Type": "application/json"})
            answer = there.getresponse()
            return answer.status, answer.read()
        finally:
            there.close()

    @contextmanager
    def running(self):
        thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield self
        finally:
            self.http.shutdown()
            thread.join()
            self.http.server_close()


@pytest.fixture
def between(server):
    with Between(server).running() as between:
        yield between


@pytest.fixture
def client(server, monkeypatch):
    """MLflow's own client on the server, which holds no model of ours yet."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient(server, server)
    try:
        client.delete_registered_model(NAME)
    except MlflowException as error:
        assert error.error_code == "RESOURCE_DOES_NOT_EXIST"
    return client


# Ledgers without training


class Mirrored(Place):
    """A ledger whose mirror is a server."""

    def __init__(self, project, folder: Path) -> None:
        super().__init__(project, folder)
        self.runs: dict[str, str] = {}

    def bundle(self, name: str):
        """The bundle of that name, made by the run of MLflow that ``runs`` says."""
        bundle = super().bundle(name)
        if name in self.runs:
            lineage = {"key": bundle.key, "mlflow_run": self.runs[name]}
            (bundle.path / "lineage.json").write_text(json.dumps(lineage))
        return type(bundle)(bundle.path)

    def key(self, name: str) -> str:
        return self.bundle(name).key

    def mirror(self, push: bool = False) -> str:
        return mirror_module.run(self.opened(push))

    def opened(self, push: bool = False):
        return Project(self.project.path, push=push)

    def act(self, write, project=None) -> str:
        """Write into the ledger as a command does, with MLflow after it."""
        return followed(write)(project or self.opened())

    def promotes(self, name: str):
        """What a promotion writes."""

        def write(project) -> str:
            ledger = ledger_of(project)
            ledger.accept(self.bundle(name), ledger.number, "promote", f"{name} is better")
            ledger.live(ledger.events[-1])
            return f"promoted {name}"

        return write


@pytest.fixture
def place(project, client, between, tmp_path, monkeypatch):
    """A repository whose commands reach the server through the proxy."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", between.address)
    return Mirrored(project, tmp_path)


def held(client) -> dict:
    """All that the registry says: the key of each alias, and each version with its tags and its source."""
    versions = {
        str(version.version): (dict(version.tags), version.source, version.run_id or None)
        for version in client.search_model_versions(f"name='{NAME}'")
    }
    aliases = {alias: str(number) for alias, number in client.get_registered_model(NAME).aliases.items()}
    return {"aliases": aliases, "versions": versions}


def states(client) -> dict[str, str]:
    return {number: tags["ledger.state"] for number, (tags, *_) in sorted(held(client)["versions"].items())}


def logged_run(client, name: str) -> tuple[str, str]:
    """A run that logged a model, as training does: the ids of both."""
    from mlflow.entities import LoggedModelOutput

    run = client.create_run("0").info.run_id
    model = client.create_logged_model("0", name, source_run_id=run)
    client.log_outputs(run, [LoggedModelOutput(model.model_id, 0)])
    client.finalize_logged_model(model.model_id, "READY")
    return run, model.model_id


# What the registry says


def test_the_first_champion_is_a_version_with_tags_and_an_alias(place, client):
    place.promote("first")
    assert place.mirror() == "MLflow: version 1 of late_flights is champion (5 changes)"
    [event] = [event for event in place.open().events if event.type == "live"]
    tags = {
        "ledger.key": event.key,
        "ledger.digest": event.digest,
        "ledger.commit": event.commit,
        "ledger.event": "2",
        "ledger.state": "champion",
    }
    version = (tags, f"ledger:/refs/models/{event.key}", None)
    assert held(client) == {"aliases": {"champion": "1"}, "versions": {"1": version}}


def test_a_model_that_its_run_logged_on_this_server_is_linked_to_it(place, client):
    run, model = logged_run(client, "model")
    place.runs["first"] = run
    place.promote("first")
    place.mirror()
    [(_, source, made_by)] = held(client)["versions"].values()
    assert (source, made_by) == (f"models:/{model}", run)
    assert json.loads(client.get_logged_model(model).tags["mlflow.modelVersions"]) == [{"name": NAME, "version": 1}]


@pytest.mark.parametrize("gone", ["elsewhere", "model"])
def test_a_model_whose_run_this_server_does_not_have_names_the_ledger(place, client, gone):
    run, model = logged_run(client, "model")
    if gone == "model":
        client.delete_logged_model(model)
    place.runs["first"] = run if gone == "model" else "f" * 32
    place.promote("first")
    place.mirror()
    assert [source for _, source, _ in held(client)["versions"].values()] == [
        f"ledger:/refs/models/{place.key('first')}"
    ]


def test_a_model_has_one_version_however_often_it_was_champion(place, client):
    place.act(place.promotes("first"))
    place.act(place.promotes("second"))
    assert states(client) == {"1": "former", "2": "champion"}
    rollback = rollback_module
    assert rollback.rollback(place.opened(), None, "it\ncrashed").endswith(
        "MLflow: version 1 of late_flights is champion (4 changes)"
    )
    ledger = place.open()
    crashed = ledger.why_quarantined(ledger.events[4])
    assert crashed.endswith("in event 5: it\ncrashed")
    assert states(client) == {"1": "champion", "2": f"quarantined: {crashed}"}
    assert held(client)["aliases"] == {"champion": "1"}
    assert {tags["ledger.event"] for tags, *_ in held(client)["versions"].values()} == {"6", "4"}

    rollback.rollback(place.opened(), 4, "it was another")
    assert list(states(client)) == ["1", "2"] and states(client)["2"] == "champion"
    place.act(place.promotes("third"))
    rollback.quarantine(place.opened(), 8, "it leaks")
    assert [state.split(":")[0] for state in states(client).values()] == ["quarantined", "quarantined", "champion"]


def test_a_model_on_its_way_back_is_the_challenger_until_it_is_live(place, client):
    place.promote("first")
    ledger = place.promote("second")
    ledger.roll_back(None, "it crashed")  # and the run was stopped here
    place.mirror()
    assert held(client)["aliases"] == {"champion": "2", "challenger": "1"}
    place.act(lambda project: str(ledger_of(project).settle()))
    assert held(client)["aliases"] == {"champion": "1"}


def test_a_model_on_its_way_that_never_was_champion_has_no_version(place, client):
    ledger = place.promote("first")
    ledger.accept(place.bundle("second"), 2, "promote", "")
    place.mirror()
    assert held(client)["aliases"] == {"champion": "1"} and len(states(client)) == 1


def test_without_a_champion_nothing_is_asked_of_the_server(place, between):
    assert place.mirror() == "there is no champion yet, nothing to mirror"
    assert between.calls == []


def test_where_nothing_changed_two_reads_suffice(place, client, between):
    for name in ("first", "second", "third"):
        place.promote(name)
    place.mirror()
    before, between.calls = held(client), []
    assert place.mirror() == "MLflow: version 3 of late_flights is champion (unchanged)"
    assert between.calls == [("GET", "registered-models/get"), ("GET", "model-versions/search")]
    assert held(client) == before


# By hand


BY_HAND = {
    "champion to a former one": (
        lambda client: client.set_registered_model_alias(NAME, "champion", "1"),
        "champion was moved by hand: it pointed to version 1 and belongs to version 2; put back",
    ),
    "champion to a foreign version": (
        lambda client: client.set_registered_model_alias(
            NAME, "champion", client.create_model_version(NAME, "ledger:/refs/heads/mine").version
        ),
        "champion was moved by hand: it pointed to version 3 and belongs to version 2; put back",
    ),
    "champion removed": (
        lambda client: client.delete_registered_model_alias(NAME, "champion"),
        "champion was moved by hand: it pointed nowhere and belongs to version 2; put back",
    ),
    "challenger set": (
        lambda client: client.set_registered_model_alias(NAME, "challenger", "1"),
        "challenger was moved by hand: it pointed to version 1 and belongs nowhere; removed",
    ),
}


@pytest.mark.parametrize("move, line", BY_HAND.values(), ids=BY_HAND)
def test_an_alias_that_was_moved_by_hand_is_reported_and_put_back(place, client, capsys, move, line):
    place.promote("first")
    place.promote("second")
    place.mirror()
    move(client)
    capsys.readouterr()
    place.mirror()
    assert capsys.readouterr().out == f"mirror    MLflow's alias {line}\n"
    assert held(client)["aliases"] == {"champion": "2"}
    place.mirror()
    assert capsys.readouterr().out == ""


def test_an_alias_that_is_only_late_is_moved_in_silence(place, client, capsys):
    for name in ("first", "second", "third"):
        place.promote(name)
        if name != "second":
            place.mirror()
    assert capsys.readouterr().out == "" and held(client)["aliases"] == {"champion": "3"}


def test_tags_and_versions_of_the_ledger_are_put_right_and_others_are_left_alone(place, client):
    place.promote("first")
    place.promote("second")
    place.mirror()
    expected = held(client)
    client.set_model_version_tag(NAME, "1", "ledger.state", "champion")
    client.set_model_version_tag(NAME, "2", "ledger.event", "many")
    client.delete_model_version_tag(NAME, "2", "ledger.digest")
    place.mirror()
    assert held(client) == expected

    client.set_registered_model_alias(NAME, "shadow", "1")
    client.set_model_version_tag(NAME, "2", "owner", "Ada")
    mine = client.create_model_version(NAME, "ledger:/refs/heads/mine", tags={"mine": "yes"}).version
    client.delete_model_version(NAME, "2")
    place.mirror()
    found = held(client)
    assert found["aliases"] == {"shadow": "1", "champion": "4"} and found["versions"][mine][0] == {"mine": "yes"}
    assert found["versions"]["4"][0] == expected["versions"]["2"][0]


# Faults: the event stands, and one line says so


SAID = "the champion HAS moved, champion/000004 is live; MLFLOW_TRACKING_URI: the server did not follow the ledger: "
FAULTS = {
    "unavailable": ((503, b"come back later"), r"server error \(HTTP 503\)"),
    "broken": ((500, b"{}"), r"server error \(HTTP 500\)"),
    "broken, as MLflow says it": (
        (501, b'{"error_code": "NOT_IMPLEMENTED", "message": "no"}'),
        r"server error \(HTTP 501\)",
    ),
    "who are you": (
        (401, b"log in"),
        r"access refused \(HTTP 401\), set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and \w+_PASSWORD",
    ),
    "not you": ((403, b'{"error_code": "PERMISSION_DENIED", "message": "no"}'), r"access refused \(HTTP 403\), .*"),
    "a page to log in": ((200, b"<html>"), "API request .* was successful but .*not in a valid JSON format.*"),
    "another service": ((404, b"nothing here"), "API request .* failed with error code 404 .*"),
    "a connection that ends": ("cut", "not reachable"),
}


@pytest.mark.parametrize("fault, reason", FAULTS.values(), ids=FAULTS)
def test_a_server_that_fails_after_the_event_costs_nothing(place, client, between, fault, reason):
    place.act(place.promotes("first"))
    between.fault = lambda number, path: fault
    with pytest.raises(Misuse) as stopped:
        place.act(place.promotes("second"))
    assert re.fullmatch(SAID + reason + "; `make mirror` brings it up to date", str(stopped.value)), stopped.value
    assert place.open().champion().event == 4 and held(client)["aliases"] == {"champion": "1"}
    between.fault = lambda number, path: None
    place.act(lambda project: "the next command, which writes nothing")
    assert held(client)["aliases"] == {"champion": "2"} and states(client) == {"1": "former", "2": "champion"}


def test_a_server_that_never_answers_is_waited_for_a_bounded_time(place, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(Misuse, match="000002 is live; .*: no answer within 1 seconds; `make"):
            place.act(place.promotes("first"))
    assert time.monotonic() - began < 10


def test_a_server_that_is_down_fails_the_command_in_seconds_with_the_tries_that_are_the_default(
    place, one_line, between
):
    """Also: no password of the address is shown, and nothing goes to another place instead."""
    place.promote("first")
    place.promote("second")
    address, began = f"http://ada:secret@127.0.0.1:{free_port()}", time.monotonic()
    done = place.project.cli("rollback", "--because", "it crashed", check=False, MLFLOW_TRACKING_URI=address)
    message = "the champion HAS moved, champion/000006 is live; .* ledger: not reachable; `make mirror` .*"
    one_line(done, 2, message)
    assert "secret" not in done.stderr and time.monotonic() - began < 60
    assert not (place.project.path / "mlruns").exists()
    mended = place.project.cli("mirror", MLFLOW_TRACKING_URI=between.address)
    assert mended.stdout == "mirror    MLflow: version 1 of late_flights is champion (8 changes)\n"


def test_a_password_in_the_address_is_not_shown(place):
    complaint = tracking.complaint
    assert complaint(OSError("to http://ada:secret@127.0.0.1:9/api\nfailed")) == "to http://127.0.0.1:9/api failed"


def test_a_line_says_what_became_of_the_ledger_where_the_champion_stays(place, between):
    for name in ("first", "second"):
        place.act(place.promotes(name))
    between.fault = lambda number, path: (503, b"")
    with pytest.raises(Misuse, match="^event 000005 is written, champion/000004 stays; MLFLOW_T"):
        quarantine(place.opened(), 2, "it leaks")
    with pytest.raises(Misuse, match="^the ledger is as it was, champion/000004 stays; MLFLOW_T"):
        prune(place.opened(), 2)


def test_an_approval_is_followed_by_the_mirror(place, client, monkeypatch):
    place.promote("first")
    candidate = place.bundle("second")
    shutil.copytree(candidate.path, place.project.path / "build" / "candidate")
    decision = {
        "decision": {"outcome": "incomparable", "reason": "other columns"},
        "sight": {"holdout": "0" * 64},
        "challenger": {"digest": candidate.digest},
        "ledger": 2,
    }
    (place.project.path / "build" / "decision.json").write_text(json.dumps(decision))
    monkeypatch.setattr(promote, "_carry_out", place.promotes("second"))
    said = approve(place.opened(), "the columns are new")
    assert said == "promoted second; MLflow: version 2 of late_flights is champion (8 changes)"
    assert [event.type for event in place.open().events[2:]] == ["approved", "accepted", "live"]
    assert held(client)["aliases"] == {"champion": "2"}


def test_what_a_refused_command_wrote_before_is_mirrored_too(place, client, between):
    """A run settles what another one left, judges its own model against that, and is blocked."""
    errors = errors_module

    def blocked(project) -> str:
        ledger_of(project).settle()
        raise errors.Refused("block: shown to be worse")

    ledger = place.open()
    ledger.accept(place.bundle("first"), 0, "bootstrap", "")
    with pytest.raises(errors.Refused, match="^block: shown to be worse$"):
        place.act(blocked)
    assert held(client)["aliases"] == {"champion": "1"}
    ledger = place.open()
    ledger.accept(place.bundle("second"), 2, "promote", "")
    between.fault = lambda number, path: (503, b"")
    with pytest.raises(errors.Refused, match=f"^block: shown to be worse; and {re.escape(SAID)}server error"):
        place.act(blocked)


# Stopped in the middle: after each call that a promotion's mirror makes


def test_a_mirror_that_is_stopped_after_any_call_is_completed_by_the_next(place, client, between, capsys):
    """The server dies before the first call, or after one that it carries out but does not answer any more."""
    place.runs["first"], _ = logged_run(client, "first")
    place.runs["second"], model = logged_run(client, "second")
    place.promote("first")
    before = place.folder / "before"
    shutil.copytree(place.project.path, before, symlinks=True)
    moved: list[int] = []

    def begin(last: int) -> None:
        """The first champion is mirrored; of the calls after that, ``last`` is the last one carried out."""

        def fault(number: int, path: str) -> str | None:
            if path.endswith("/alias"):
                moved.append(place.open().champion().event)
            return None if number < last else "lost" if number == last else "cut"

        shutil.rmtree(place.project.path)
        shutil.copytree(before, place.project.path, symlinks=True)
        client.delete_registered_model(NAME)
        between.fault = lambda number, path: None
        place.mirror()
        between.calls, between.fault = [], fault

    place.mirror()
    begin(last=1000)
    place.act(place.promotes("second"))
    undisturbed, calls = held(client), list(between.calls)
    assert undisturbed["aliases"] == {"champion": "2"}
    assert [path for _, path in calls[2:5]] == ["runs/get", f"logged-models/{model}", "model-versions/create"]
    for last in range(-1, len(calls)):
        begin(last)
        with pytest.raises(Misuse, match="^" + SAID):
            place.act(place.promotes("second"))
        assert place.open().champion().event == 4
        between.fault = lambda number, path: None
        place.mirror()
        assert held(client) == undisturbed, f"stopped after call {last} of {calls}"
    assert moved and set(moved) == {4}, "an alias moved before its event was written"
    assert "by hand" not in capsys.readouterr().out


def test_a_mirror_that_is_overtaken_by_an_event_goes_on_to_it(place, client, between):
    """Else the run that read the older ledger, and writes last, would leave the older champion."""
    place.promote("first")

    def overtake(number: int, path: str) -> None:
        if path.endswith("/alias") and place.open().number == 2:
            place.promote("second")

    between.fault = overtake
    assert place.mirror().startswith("MLflow: version 2 of late_flights is champion")
    assert held(client)["aliases"] == {"champion": "2"} and states(client) == {"1": "former", "2": "champion"}


def test_a_request_that_was_repeated_leaves_a_second_version_that_does_not_count(place, client, between, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    between.fault = lambda number, path: (
        "lost" if [path for _, path in between.calls].count("model-versions/create") == 1 else None
    )
    place.promote("first")
    place.mirror()
    assert len(held(client)["versions"]) == 2
    place.mirror()
    assert held(client)["aliases"] == {"champion": "1"} and held(client)["versions"]["1"][0]["ledger.event"] == "2"
    assert place.mirror().endswith("(unchanged)")


# Where there is no server


def test_without_server_and_database_a_promotion_says_so_and_makes_none(place, monkeypatch, one_line):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert place.act(place.promotes("first")) == (
        "promoted first; not mirrored, for there is no MLFLOW_TRACKING_URI and no mlruns/mlflow.db"
    )
    assert not (place.project.path / "mlruns").exists()
    message = "mirror: MLFLOW_TRACKING_URI is not set and there is no mlruns/mlflow.db; set it, or train first"
    one_line(place.project.cli("mirror", check=False, MLFLOW_TRACKING_URI=""), 2, message)
    assert not (place.project.path / "mlruns").exists()


def test_the_database_of_the_project_follows_and_is_not_opened_where_the_ledger_stands(bootstrapped):
    database = bootstrapped.path / "mlruns" / "mlflow.db"
    with closing(sqlite3.connect(database)) as opened:
        [version] = opened.execute("select name, version, source, run_id from model_versions").fetchall()
        tags = dict(opened.execute("select key, value from model_version_tags").fetchall())
        aliases = opened.execute("select alias, version from registered_model_aliases").fetchall()
        [model] = opened.execute("select model_id from logged_models").fetchone()
    lineage = json.loads((bootstrapped.path / "build" / "candidate" / "lineage.json").read_text())
    assert version == (NAME, 1, f"models:/{model}", lineage["mlflow_run"]) and aliases == [("champion", 1)]
    assert (tags["ledger.key"], tags["ledger.state"]) == (lineage["key"], "champion")

    database.write_text("this is no database")  # so whoever opened it would fail
    done = bootstrapped.cli("promote")
    assert "champion/000002 stays" in done.stdout and "MLflow" not in done.stdout


def test_a_damaged_database_is_one_line(place, one_line):
    place.promote("first")
    (place.project.path / "mlruns").mkdir()
    (place.project.path / "mlruns" / "mlflow.db").write_text("this is no database, " * 100)
    message = "(the ledger .*)?mlruns/mlflow.db: MLflow cannot use it: .*not a database; make room, or move it away"
    one_line(place.project.cli("mirror", check=False), 2, message)


# A remote


def test_a_laptop_that_only_reads_origin_mirrors_on_demand_alone(place, between, client):
    place.remote()
    place.promote("first", push=True)
    assert place.act(lambda project: "read") == "read" and between.calls == []
    place.mirror()
    assert held(client)["aliases"] == {"champion": "1"}
    place.act(place.promotes("second"), place.opened(push=True))
    assert held(client)["aliases"] == {"champion": "2"}


# The whole way


def test_first_champion_promotion_and_rollback_through_the_commands(sound, server, client):
    """Training, gate and ledger as a team runs them, with runs and models on the server."""
    project, env = sound, {"MLFLOW_TRACKING_URI": server}
    project.cli("pipeline", **env)
    project.better()
    done = project.cli("pipeline", **env)
    assert re.search(r"^promote +promote: champion/000004 .*; MLflow: version 2 of late_flights", done.stdout, re.M)
    found = held(client)
    assert found["aliases"] == {"champion": "2"} and states(client) == {"1": "former", "2": "champion"}
    lineage = json.loads((project.path / "build" / "candidate" / "lineage.json").read_text())
    tags, source, run = found["versions"]["2"]
    assert (tags["ledger.key"], tags["ledger.event"], run) == (lineage["key"], "4", lineage["mlflow_run"])
    assert client.get_run(run).data.tags["key"] == lineage["key"]
    assert source == f"models:/{client.get_run(run).outputs.model_outputs[0].model_id}"

    said = project.cli("rollback", "--because", "it crashed", **env).stdout
    assert re.fullmatch(r"rollback  champion/000006 .* quarantined; MLflow: version 1 of .* \(4 changes\)\n", said)
    assert held(client)["aliases"] == {"champion": "1"} and list(held(client)["versions"]) == ["2", "1"]
    assert states(client)["1"] == "champion" and states(client)["2"].startswith("quarantined: model ")
    assert project.cli("mirror", **env).stdout.endswith("(unchanged)\n")
    load = (
        "import mlflow; mlflow.set_tracking_uri(mlflow.get_tracking_uri());"
        "print(type(mlflow.sklearn.load_model('models:/late_flights@champion')).__name__)"
    )
    loaded = project.run(sys.executable, "-c", load, env=env | {"PYTHONPATH": "src"})
    assert loaded.stdout.strip().endswith("Pipeline")
    assert not (project.path / "mlruns").exists()
