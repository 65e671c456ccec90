"""Risk: the service answers wrongly, falls over what it is sent, or drops requests when it is ended."""

import json
import math
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, closing
from multiprocessing import get_context
from pathlib import Path
from uuid import RFC_4122, UUID

import jsonschema
import numpy as np
import pandas as pd
import pytest
from conftest import environment
from serving import JSON, serving, settings

from conveyor.model.bundle import Bundle
from conveyor.model.signature import Column
from conveyor.serving import context, telemetry

PAGES = ("/healthz", "/readyz", "/metrics", "/info")
DEADLY = str(Path(__file__).parent / "standins" / "replica" / "deadly.py")
TOKEN = "a-secret-of-32-letters-and-digits"


@pytest.fixture(scope="module")
def image(trained, bundle):
    """The settings, with small limits."""
    limits = {"serve.max_rows": 400, "serve.max_bytes": 100_000, "serve.max_seconds": 1.0}
    return settings(trained, bundle, **limits)


@pytest.fixture(scope="module")
def server(trained, image, bundle):
    with serving(trained, image, bundle) as server:
        yield server


# Answers


def test_it_answers_as_the_model_did_in_training(server, bundle):
    status, said = server.predict(*server.golden["rows"])
    assert status == 200 and said["predictions"] == pytest.approx(server.golden["answers"], abs=1e-5)
    assert said["model"] == json.loads((bundle / "lineage.json").read_text())["key"]
    assert re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", said["id"])
    assert said["id"] != server.predict(server.row())[1]["id"] and "classes" not in said
    assert said["chosen"] == ["1" if p >= 0.5 else "0" for p in said["predictions"]]


def test_a_missing_value_and_an_unseen_category_are_answered(server):
    status, said = server.predict(server.row(dest="never seen", temp=None, carrier=None, distance=1))
    assert status == 200 and 0 < said["predictions"][0] < 1


def test_it_says_which_model_it_is(server, bundle):
    found = Bundle(bundle)
    status, said = server.ask("GET", "/info")
    assert status == 200 and (said["key"], said["digest"], said["form"]) == (found.key, found.digest, "compiled")
    assert (said["task"], said["target"], said["classes"], said["commit"]) == ("binary", "late", ["0", "1"], "0" * 40)
    assert said["threshold"] == 0.5
    assert list(said["features"]) == list(found.features) and said["features"]["carrier"] == "text"
    assert server.ask("GET", "/healthz") == server.ask("GET", "/readyz") == (200, {"status": "ok"})


def test_the_description_shows_the_columns_of_this_model(server, bundle):
    status, described = server.ask("GET", "/openapi.json")
    media = described["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    row = media["schema"]["properties"]["rows"]["items"]
    assert status == 200 and media["example"] == {"rows": [server.golden["rows"][0]]}
    assert list(row["properties"]) == row["required"] == list(server.golden["rows"][0]) or sorted(
        row["required"]
    ) == sorted(server.golden["rows"][0])
    carrier, distance = row["properties"]["carrier"], row["properties"]["distance"]
    assert [kind["type"] for kind in carrier["anyOf"]] == ["string", "null"] and "enum" not in json.dumps(row)
    assert [kind["type"] for kind in distance["anyOf"]] == ["number", "null"]
    assert carrier["examples"] == [server.golden["rows"][0]["carrier"]]
    assert re.search(r"in training \d+ to \d+", distance["description"]) and row["additionalProperties"] is False
    assert server.predict(*media["example"]["rows"])[0] == 200


# What is not a row of this model


def without(name):
    return lambda row: {key: value for key, value in row.items() if key != name}


WRONG = {
    "a column is missing": (
        without("distance"),
        "column 'distance' is missing; it should be a number or null",
        "distance",
    ),
    "a column is misspelt": (
        lambda row: without("distance")(row) | {"distanc": 1},
        "unknown column 'distanc'; did you mean 'distance'?",
        "distanc",
    ),
    "a column is unknown": (lambda row: row | {"xyz": 1}, "unknown column 'xyz'; leave it out", "xyz"),
    "text for a number": (
        lambda row: row | {"distance": "12"},
        "column 'distance' should be a number or null, not '12'",
        "distance",
    ),
    "truth for a number": (
        lambda row: row | {"distance": True},
        "column 'distance' should be a number or null, not True",
        "distance",
    ),
    "a number for text": (
        lambda row: row | {"carrier": 7},
        "column 'carrier' should be text or null, not 7",
        "carrier",
    ),
    "a list for text": (
        lambda row: row | {"carrier": ["AA"]},
        "column 'carrier' should be text or null, not list",
        "carrier",
    ),
    "no number": (
        lambda row: row | {"distance": float("nan")},
        "column 'distance' should be a finite number of at most 1e+30, not nan",
        "distance",
    ),
    "infinity": (
        lambda row: row | {"distance": float("-inf")},
        "column 'distance' should be a finite number of at most 1e+30, not -inf",
        "distance",
    ),
    "a number that no float holds": (
        lambda row: row | {"distance": 10**400},
        "column 'distance' should be a finite number of at most 1e+30, not 1" + "0" * 56 + "...",
        "distance",
    ),
    "a number that a compiled model cannot take": (
        lambda row: row | {"distance": 1e31},
        "column 'distance' should be a finite number of at most 1e+30, not 1e+31",
        "distance",
    ),
    "no row": (lambda row: 7, "should be an object, {column: value, ...}", None),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_row_is_named_with_its_column(server, kind):
    change, message, column = WRONG[kind]
    status, said = server.predict(server.row(), change(server.row()), server.row())
    assert (status, said) == (422, {"error": f"row 2: {message}", "row": 2, "column": column})


BODIES = {
    "nothing": (b"", 422, "the body is no JSON: .*"),
    "no JSON": (b"{rows: []}", 422, "the body is no JSON: .*"),
    "cut off": (b'{"rows": [{"carrier": "A', 422, "the body is no JSON: .*"),
    "no UTF-8": (b'{"rows": [{"carrier": "\xff\xfe"}]}', 422, "the body is no JSON: .*"),
    "half a character": (rb'{"rows": [{"carrier": "\ud800"}]}', 422, "the body is no JSON: .*"),
    "too deep": (b'{"rows": ' + b"[" * 5_000, 422, "the body is no JSON: recursion limit .*"),
    "a depth of objects": (b'{"rows": [' + b'{"a":' * 5000, 422, "the body is no JSON: recursion limit .*"),
    "more digits than Python reads": (
        b'{"rows": [{"distance": 1' + b"0" * 5000 + b"}]}",
        422,
        "the body is no JSON: .*",
    ),
    "a list": (b"[]", 422, "the body should be .*"),
    "null": (b"null", 422, "the body should be .*"),
    "no rows": (b"{}", 422, "the body should be .*"),
    "rows that are none": (b'{"rows": {}}', 422, "the body should be .*"),
    "an empty list": (b'{"rows": []}', 422, "`rows` should hold 1 to 400 rows"),
    "too many rows": (b'{"rows": [' + b"{}," * 1000 + b"{}]}", 422, "row 1: column .* is missing; .*"),
    "a field too many": (
        b'{"rows": [], "more": 1}',
        422,
        "unknown field 'more'; the body holds `rows` and nothing else",
    ),
    "too long": (b" " * 100_001, 413, "the body has more than 100000 bytes; send fewer rows at once"),
    "many unknown columns": (
        b'{"rows": [{' + b",".join(b'"%d":0' % number for number in range(9000)) + b"}]}",
        422,
        "row 1: unknown column '0'; leave it out",
    ),
}


@pytest.mark.parametrize("kind", BODIES)
def test_a_wrong_body_is_refused_in_words(server, kind):
    body, code, message = BODIES[kind]
    status, said = server.ask("POST", "/predict", body)
    assert status == code and list(said) == ["error", "row", "column"] and re.fullmatch(message, said["error"]), said


def test_a_key_that_stands_twice_counts_once_and_breaks_nothing(server):
    body = json.dumps({"rows": [server.row()]}).replace('"distance":', '"distance": 5, "distance":')
    assert server.ask("POST", "/predict", body.encode())[0] == 200


def test_other_errors_have_the_same_shape(server):
    for method, path, status in [("GET", "/nowhere", 404), ("PUT", "/predict", 405), ("POST", "/healthz", 405)]:
        assert server.ask(method, path)[0] == status
        assert list(server.ask(method, path)[1]) == ["error", "row", "column"]
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    status, said = server.ask("POST", "/predict", b"rows=1", form)
    assert (status, said["error"]) == (415, "send the body as application/json")


def test_more_rows_than_the_limit_are_refused(server):
    few = dict.fromkeys(server.row())
    status, said = server.predict(*[few] * 400)
    assert status == 200 and len(said["predictions"]) == 400
    status, said = server.predict(*[few] * 401)
    assert (status, said["error"]) == (422, "`rows` should hold 1 to 400 rows")


# Limits


HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def raw(server, *parts: bytes, pause: float = 0.0) -> tuple[int, bytes]:
    """The status that is given to bytes as they are sent, and all that was said until the connection was closed."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        said = b""
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
            while more := connection.recv(65536):
                said += more
        except OSError:  # closed while we were sending
            assert said or parts[1:]
        return int(said.split()[1]) if said else 0, said


def test_a_body_without_a_length_is_counted_as_it_comes(server):
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    chunk = b"2710\r\n" + b" " * 10_000 + b"\r\n"
    status, said = raw(server, head, *[chunk] * 11)
    assert status == 413 and b"connection: close" in said.lower()
    body = json.dumps({"rows": [server.row()]}).encode()
    whole = head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    assert raw(server, whole)[0] == 200


def test_a_body_that_does_not_arrive_in_time_is_given_up(server):
    head = HEAD + b"Content-Length: 1000\r\n\r\n"
    began = time.monotonic()
    status, said = raw(server, head, b'{"rows"')
    assert status == 408 and time.monotonic() - began < 5
    assert b"the body did not arrive within 1 seconds" in said and b"connection: close" in said.lower()


def test_a_client_that_goes_away_leaves_the_server_as_it_was(server):
    before = server.metric('requests_total{path="/predict",status="408"}')
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n{")
    for _ in range(50):
        if server.metric('requests_total{path="/predict",status="408"}') == before + 5:
            break
        time.sleep(0.1)
    assert server.metric('requests_total{path="/predict",status="408"}') == before + 5
    assert server.predict(server.row())[0] == 200


# Its own description, taken at its word


def test_whatever_its_description_allows_or_forbids_is_answered_as_described(trained, bundle, tmp_path):
    """Schemathesis makes right and wrong requests from the description, and checks each answer against it."""
    with serving(trained, settings(trained, bundle), bundle, PREDICT_TOKEN=TOKEN) as server:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{server.port}/openapi.json"),
                *("--checks", "all", "--phases", "examples,coverage,fuzzing", "--max-examples", "60"),
                *("--header", f"Authorization: Bearer {TOKEN}", "--seed", "7", "--no-color"),
                *("--generation-database", "none", "--request-timeout", "20"),
            ],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-6000:]
        assert server.ask("GET", "/readyz")[0] == 200
        assert server.metric('requests_total{path="/predict",status="200"}') > 20
        assert server.metric('requests_total{path="/predict",status="422"}') > 20
        counted = server.ask("GET", "/metrics")[1]
        assert not re.search(r'status="5', counted)
        assert server.end()[0] == 0


def test_every_status_of_the_description_is_given_and_no_other(trained, bundle):
    """The description is FastAPI's, the answers are not: each is provoked, and checked against its schema."""
    limits = {"serve.max_bytes": 1000, "serve.max_seconds": 1.0, "serve.client_open": 1}
    with serving(trained, settings(trained, bundle, **limits), bundle, PREDICT_TOKEN=TOKEN) as server:
        status, described = server.ask("GET", "/openapi.json")
        post = described["paths"]["/predict"]["post"]
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        wait = HEAD + f"Authorization: Bearer {TOKEN}\r\n".encode() + b"Content-Length: 100\r\n\r\n"
        found = {
            200: server.predict(server.row(), **bearer),
            401: server.predict(server.row()),
            413: server.ask("POST", "/predict", b" " * 2000, JSON | bearer),
            415: server.ask("POST", "/predict", b"", bearer),
            422: server.ask("POST", "/predict", b"", JSON | bearer),
        }
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as slow:
            slow.sendall(wait)
            time.sleep(0.3)
            found[429] = server.ask("POST", "/predict", b"", JSON | bearer)
        for code, sent in [(408, wait), (400, wait.replace(b"Content-Length: 100", b"Content-Length: 1, 1"))]:
            status, said = raw(server, sent)
            found[status] = status, json.loads(said.partition(b"\r\n\r\n")[2])
            assert status == code
    with serving(trained, settings(trained, bundle), bundle, DEADLY) as deadly:
        found[500] = deadly.predict(deadly.row(dest="EXIT"), **{"X-Again": "predict"})
        deadly.process.send_signal(signal.SIGTERM)
        found[503] = deadly.ask("GET", "/readyz")
    assert sorted(map(str, found)) == sorted(post["responses"])
    for code, (status, said) in found.items():
        assert status == code
        schema = post["responses"][str(code)]["content"]["application/json"]["schema"]
        jsonschema.validate(said, {**schema, "components": described["components"]})
    for path, methods in described["paths"].items():
        assert (path, list(methods)) in [("/predict", ["post"]), *((p, ["get"]) for p in PAGES)]


# Who may ask


def test_a_token_is_asked_for_where_there_is_one(trained, image, bundle):
    with serving(trained, image, bundle, PREDICT_TOKEN=TOKEN) as server:
        for wrong in ({}, {"Authorization": TOKEN}, {"Authorization": f"Basic {TOKEN}"}, {"Authorization": "Bearer"}):
            status, said = server.predict(server.row(), **wrong)
            assert (status, said["error"]) == (401, "the bearer token is missing or wrong")
        assert server.predict(server.row(), Authorization=f"Bearer {TOKEN[:-1]}")[0] == 401
        assert server.predict(server.row(), Authorization=f"bearer {TOKEN}")[0] == 200
        assert server.ask("GET", "/info")[0] == 200
        described = server.ask("GET", "/openapi.json")[1]
        assert described["components"]["securitySchemes"] == {"bearer": {"type": "http", "scheme": "bearer"}}


# Metrics


def test_each_id_is_a_uuid_of_its_own_also_in_a_process_that_was_forked():
    ids = [context.new_id() for _ in range(3 * context.IDS)]
    with get_context("fork").Pool(2) as pool:  # each begins as a copy of this process, in the middle of what was drawn
        ids += [id for found in pool.map(new_ids, [10, 10, 10, 10], chunksize=1) for id in found]
    assert len(set(ids)) == len(ids) == 3 * context.IDS + 40
    assert all(str(UUID(id)) == id and UUID(id).version == 4 and UUID(id).variant == RFC_4122 for id in ids)
    bits = [bin(UUID(id).int).count("1") for id in ids]
    assert 122 / 2 - 2 < sum(bits) / len(bits) - 1.5 < 122 / 2 + 2, "all but version and variant are drawn"


def new_ids(count: int) -> list[str]:
    return [context.new_id() for _ in range(count)]


@pytest.mark.parametrize("rows", [1, 3])
def test_a_number_is_in_range_for_one_row_as_for_several(rows):
    told = [Column(name, "number", True, [-1.0, 2.5], None) for name in ("a", "b")]
    seen = telemetry.Observed([*told, Column("c", "number", True, None, None)], [], [0.5], {"key": "k"}, [])
    for value, within in ((-1.0, True), (2.5, True), (2.6, False), (-1.1, False), (math.nan, False)):
        assert seen._within(np.array([[0.0, 1.0, 1e9]] * (rows - 1) + [[0.0, value, -1e9]])) == within


def test_what_differs_from_training_is_counted(server):
    names = {
        "unseen": 'unseen_categories_total{column="dest"}',
        "outside": 'out_of_range_total{column="distance"}',
        "missing": 'missing_values_total{column="temp"}',
        "rows": "rows_total",
        "answers": "prediction_count",
        "requests": 'requests_total{path="/predict",status="200"}',
        "seconds": "predict_seconds_count",
    }
    before = {name: server.metric(line) for name, line in names.items()}
    strange = server.row(dest="never seen", distance=99_999, temp=None)
    server.predict(server.row(), strange, strange)
    gained = {name: server.metric(line) - before[name] for name, line in names.items()}
    assert gained == {"unseen": 2, "outside": 2, "missing": 2, "rows": 3, "answers": 3, "requests": 1, "seconds": 1}
    said = server.ask("GET", "/metrics")[1]
    bounds = set(re.findall(r'predict_seconds_bucket{le="([^"]+)"}', said))
    assert {"0.05", "0.1", "0.25", "0.5", "1.0", "2.5"} <= bounds
    assert re.search(r'^model\{commit="0+",digest="\w+",form="compiled",key="\w+"\} 1\.0$', said, re.M)


def test_paths_that_nobody_serves_are_one_label(server):
    before = server.metric('requests_total{path="other",status="404"}')
    for number in range(20):
        server.ask("GET", f"/wp-admin/{number}")
    assert server.metric('requests_total{path="other",status="404"}') == before + 20
    assert "wp-admin" not in server.ask("GET", "/metrics")[1]


# The beginning and the end


def check(project, image, bundle):
    words = [sys.executable, "-m", "conveyor.serving.app", "--check"]
    return project.run(
        *words,
        check=False,
        env={"PYTHONPATH": "src", "BUNDLE": str(bundle), "SETTINGS": str(image), "PREDICTION_LOG": ""},
    )


def test_the_check_answers_the_golden_rows(trained, image, bundle):
    done = check(trained, image, bundle)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(
        r"check     model \w{12} \(compiled\) answers 20 golden rows as in training, within [\d.e-]+\n", done.stdout
    )


@pytest.fixture
def damaged(trained, bundle, tmp_path):
    return shutil.copytree(bundle, tmp_path / "bundle")


def test_another_bundle_than_the_settings_name_is_neither_checked_nor_served(trained, image, damaged, one_line):
    (damaged / "golden.json").write_text((damaged / "golden.json").read_text() + "\n")
    message = r".*bundle: has digest \w{12}…, the settings say \w{12}…; build the image again"
    one_line(check(trained, image, damaged), 1, message)
    variables = {"PYTHONPATH": "src", "BUNDLE": str(damaged), "SETTINGS": str(image), "PORT": "0", "HOST": "127.0.0.1"}
    one_line(trained.run(sys.executable, "-m", "conveyor.serving.app", check=False, env=variables), 2, message)


def test_a_model_that_answers_otherwise_than_in_training_is_never_ready(trained, damaged, one_line):
    golden = json.loads((damaged / "golden.json").read_text())
    golden["answers"][3] += 0.001
    (damaged / "golden.json").write_text(json.dumps(golden))
    image = settings(trained, damaged)
    message = r"bundle: the golden rows are answered with a difference of 0\.001, more than 1e-05; .*"
    one_line(check(trained, image, damaged), 1, message)
    with serving(trained, image, damaged) as server:
        for method, path in [("GET", "/readyz"), ("POST", "/predict")]:
            status, said = server.ask(method, path, {"rows": [server.row()]})
            assert status == 503 and re.fullmatch(message, said["error"])
        assert server.ask("GET", "/healthz")[0] == 200


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "No such file or directory; SETTINGS names the settings of the image"),
        ("{}", "schema: Field required; build the image again"),
        ("{", "Invalid JSON: .*; build the image again"),
    ],
)
def test_settings_that_are_missing_or_damaged_are_named(trained, bundle, tmp_path, one_line, content, message):
    place = tmp_path / "settings.json"
    if content is not None:
        place.write_text(content)
    one_line(check(trained, place, bundle), 1, f"{place}: {message}")


def test_a_port_that_is_taken_is_one_line(trained, image, bundle, one_line):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        variables = {"PYTHONPATH": "src", "BUNDLE": str(bundle), "SETTINGS": str(image), "PORT": port}
        variables |= {"HOST": "127.0.0.1", "PREDICTION_LOG": ""}
        done = trained.run(sys.executable, "-m", "conveyor.serving.app", check=False, env=variables)
    one_line(done, 2, f"HOST 127.0.0.1, PORT {port}: cannot be listened at: Address already in use; name others")


def test_it_drains_when_it_is_ended_and_exits_with_zero(trained, image, bundle):
    """A request that is on its way is answered, idle connections do not hold the process up, and a proxy is told."""
    with ExitStack() as stack, serving(trained, image, bundle) as server:
        idle = [stack.enter_context(closing(server.connect())) for _ in range(8)]
        for connection in idle:
            connection.request("GET", "/healthz")
            connection.getresponse().read()
        body = json.dumps({"rows": [server.row()]}).encode()
        head = HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode()
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as slow:
            slow.sendall(head + body[:5])
            time.sleep(0.2)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.1)
            status, said = server.ask("GET", "/readyz")
            assert (status, said["error"]) == (503, "draining: the process is about to end")
            idle[0].request("POST", "/predict", body, JSON)
            answered = idle[0].getresponse()
            assert answered.status == 200 and answered.headers["connection"] == "close"
            time.sleep(0.6)
            slow.sendall(body[5:])
            said = b"".join(iter(lambda: slow.recv(65536), b""))
            last = time.monotonic()
        assert said.startswith(b"HTTP/1.1 200 OK") and b"connection: close" in said.lower()
        assert server.process.wait(timeout=10) == 0 and time.monotonic() - last < 1
        [line] = map(json.loads, server.process.stderr)
        assert (line["path"], line["status"], line["level"]) == ("/readyz", 503, "error")


def test_a_caller_that_heeds_readyz_loses_no_request_while_it_is_ended(trained, image, bundle):
    """As a proxy does: it looks at /readyz, and sends there until that says no."""
    with serving(trained, image, bundle) as server:
        body, statuses = json.dumps({"rows": [server.row()]}).encode(), []

        def once(method: str, path: str, content: bytes | None = None) -> int:
            with closing(server.connect()) as connection:
                connection.request(method, path, content, JSON)
                return connection.getresponse().status

        while once("GET", "/readyz") == 200:
            statuses += [once("POST", "/predict", body) for _ in range(5)]
            if len(statuses) == 20:
                server.process.send_signal(signal.SIGTERM)
        assert len(statuses) >= 20 and set(statuses) == {200}
        assert server.process.wait(timeout=10) == 0


# The other tasks and forms


def test_a_multiclass_model_answers_with_a_probability_of_each_class(bake, trained, tmp_path):
    project = bake()
    frame = pd.read_csv(project.path / "data" / "flights.csv.gz")
    frame["late"] = frame["late"].where(frame["departure_minute"] < 1000, "very")
    frame.to_csv(project.path / "data" / "flights.csv.gz", index=False)
    project.set_param("data.task", "multiclass")
    project.set_param("data.private", ["carrier"])
    project.set_param("model.params.estimator", "boosting")
    project.set_param("gate.metric", "log_loss")
    project.set_param("gate.floors", {})
    suite = project.path / "expectations" / "data.json"
    kept = [e for e in json.loads(suite.read_text())["expectations"] if e["kwargs"].get("column") != "late"]
    suite.write_text(json.dumps({"name": "data", "expectations": kept}))
    for step in ("data-lock", "validate", "train"):
        project.cli(step)
    bundle = project.path / "build" / "candidate"
    with serving(project, settings(project, bundle), bundle) as server:
        status, said = server.predict(*server.golden["rows"])
        assert status == 200 and said["classes"] == ["0", "1", "very"]
        assert said["chosen"] == [said["classes"][row.index(max(row))] for row in said["predictions"]]
        for row, golden in zip(said["predictions"], server.golden["answers"], strict=True):
            assert row == pytest.approx(golden, abs=1e-5) and sum(row) == pytest.approx(1)
        about = server.ask("GET", "/info")[1]
        assert (about["form"], about["threshold"]) == ("compiled", None)
        assert server.metric('prediction_count{class="very"}') == 20
        row = server.ask("GET", "/openapi.json")[1]["paths"]["/predict"]["post"]["requestBody"]
        assert row["content"]["application/json"]["example"]["rows"][0]["carrier"] == "text"  # a private column
        # Beyond what its libraries take: in words, and not as an error of the server.
        assert server.predict(server.row(distance=1e30, temp=-1e30))[0] in (200, 422)
