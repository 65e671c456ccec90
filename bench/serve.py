"""How fast the service answers: a row, a hundred rows, sixteen callers at a time; beside it `mlflow models serve`, and
the least that a service on FastAPI can do, see noop.py.

    make bench-serve                          # writes docs/serving.md
    .venv/bin/python bench/serve.py --quick   # one model, fewer and shorter runs, and no page

A server has one core and the client another one. All servers are up, and are asked in turn; each figure is the median
of the runs, so a busy moment of the machine meets all. Each request has other rows than the one before, and each answer
is compared with what the model says of them. build/bench/serve.json holds every run.
"""

from __future__ import annotations

import json
import os
import platform
import selectors
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from product import ROOT
from product import bake as baked

from conveyor.core import params as conveyor_params
from conveyor.model.bundle import Bundle
from conveyor.serving.settings import Settings

CORES = sorted(os.sched_getaffinity(0))
SERVER, CLIENT = CORES[0], CORES[-1]
ESTIMATORS = ("logistic", "forest", "boosting")
FORMS = ("compiled", "arrays")  # every one of these models compiles: its arrays stand for a model that does not
LOADS = {"1 row": (1, 1), "100 rows": (100, 1), "1 row, 16 callers": (1, 16)}
MLFLOW, NOOP = "mlflow models serve", "no-op"
BODIES = {1: 4000, 100: 300}  # how many requests differ, by their rows
RIGHT = 1e-5  # how far an answer may be from the model's own
# Of a compiled logistic regression, by the no-op: the least rate for a row, and the largest p99 at 16 callers.
FLOORS = {"rate": 0.5, "p99": 2.5}
AIMS = {"rate": 0.75, "p99": 1.5}
OURS = {"OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "PYTHONPATH": "src"}


bake = cache(baked)  # once: the template may be edited while this measures


@dataclass(frozen=True)
class Request:
    """The bytes that are sent, and the predictions that must come back."""

    sent: bytes
    right: list[float]


@dataclass(frozen=True)
class Subject:
    """A server that listens at ``port``, its session, and its requests by their number of rows."""

    name: str
    form: str
    port: int
    session: int
    requests: dict[int, list[Request]]


@dataclass(frozen=True)
class Known:
    """Rows of the data, and what a model says of each: the probability, and the class."""

    rows: list[dict[str, Any]]
    probabilities: list[float]
    classes: list[float]

    def requests(self, path: str, body: Callable[[list[dict[str, Any]]], object], said: list[float]) -> dict:
        """Requests for a path, each for other rows."""
        made: dict[int, list[Request]] = {}
        for count, bodies in BODIES.items():
            step = len(self.rows) // bodies
            places = [slice(number * step, number * step + count) for number in range(bodies)]
            places = [place for place in places if place.stop <= len(self.rows)]
            made[count] = [Request(post(path, body(self.rows[place])), said[place]) for place in places]
        return made


def pinned(core: int) -> Callable[[], None]:
    return lambda: os.sched_setaffinity(0, {core})


def post(path: str, content: object) -> bytes:
    body = json.dumps(content).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


# What is measured


def train(place: Path, estimator: str) -> Path:
    """The bundle of an estimator, of which the ledger knows nothing."""
    project, kept = bake(), place / estimator
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["model"]["params"]["estimator"] = estimator
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    words = [sys.executable, "-m", "conveyor"]
    for step in ("validate", "train"):
        subprocess.run([*words, step], cwd=project, env=os.environ | OURS, check=True, stdout=subprocess.DEVNULL)
    shutil.copytree(project / "build" / "candidate", kept)
    return kept


def known(bundle: Path) -> Known:
    """All rows of the data, as the model itself answers them in a data frame, on no server."""
    import pandas as pd

    found = Bundle(bundle)
    model = found.load_model(conveyor_params.load(bake() / "params.yaml").model.trusted_types)
    rows = pd.read_csv(bake() / "data" / "flights.csv.gz")[list(found.features)]
    listed = [
        {name: None if value != value else value for name, value in row.items()} for row in rows.to_dict("records")
    ]
    return Known(listed, model.predict_proba(rows)[:, 1].tolist(), model.predict(rows).astype(float).tolist())


def served_as(form: str, bundle: Path) -> Path:
    """A copy of a bundle that says to be served in that form."""
    copy = shutil.copytree(bundle, bundle.with_name(f"{bundle.name}-{form}"))
    lineage = json.loads((copy / "lineage.json").read_text())
    lineage["served"]["form"] = form
    (copy / "lineage.json").write_text(json.dumps(lineage))
    return copy


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@contextmanager
def running(words: list[str], port: int, **variables: str) -> Iterator[int]:
    """A server on its core, from when it listens to the end of the block; its session."""
    with open(ROOT / "build" / "bench" / "serve" / f"{port}.txt", "w", encoding="utf-8") as said:
        process = subprocess.Popen(
            words,
            cwd=bake(),
            env=os.environ | OURS | variables,
            stdout=said,
            stderr=said,
            preexec_fn=pinned(SERVER),
            start_new_session=True,
        )
    try:
        for _ in range(600):
            if process.poll() is not None:
                sys.exit(f"error: {' '.join(words)} ended: {Path(said.name).read_text(encoding='utf-8')[-2000:]}")
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield process.pid
    finally:
        with suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(process.pid, signal.SIGTERM)  # mlflow starts another process, in the same session
        process.wait()


@contextmanager
def ours(estimator: str, bundle: Path, place: Path, rows: Known) -> Iterator[Subject]:
    """The service with the bundle of an estimator and all that it does by default, so the log of predictions, too."""
    found, port = Bundle(bundle), free_port()
    params = conveyor_params.load(bake() / "params.yaml")
    image = place / f"{bundle.name}.json"
    image.write_text(Settings.of(params, found.key, found.digest, "0" * 40).to_json())
    variables = {"BUNDLE": str(bundle), "SETTINGS": str(image), "HOST": "127.0.0.1", "PORT": str(port)}
    requests = rows.requests("/predict", lambda some: {"rows": some}, rows.probabilities)
    with running(
        [sys.executable, "-m", "conveyor.serving.app"], port, PREDICTION_LOG=str(place / "log"), **variables
    ) as session:
        yield Subject(estimator, found.form, port, session, requests)


@contextmanager
def noop(rows: Known) -> Iterator[Subject]:
    """A FastAPI app that answers with a constant."""
    port = free_port()
    requests = rows.requests("/predict", lambda some: {"rows": some}, [0.5] * len(rows.rows))
    constant = {count: [Request(each.sent, [0.5]) for each in some] for count, some in requests.items()}
    with running([sys.executable, str(ROOT / "bench" / "noop.py"), str(port)], port) as session:
        yield Subject(NOOP, NOOP, port, session, constant)


@contextmanager
def mlflows(bundle: Path, rows: Known) -> Iterator[Subject]:
    """MLflow's server with the model that training logged; it answers with classes."""
    found, port = Bundle(bundle), free_port()
    columns = list(found.features)
    words = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local", "--workers", "1"]
    words += ["--host", "127.0.0.1", "--port", str(port), "--model-uri", f"runs:/{found.lineage['mlflow_run']}/model"]
    uri = f"sqlite:///{bake() / 'mlruns' / 'mlflow.db'}"
    path = os.pathsep.join([str(Path(sys.prefix) / "bin"), os.environ["PATH"]])  # it looks for uvicorn there
    # Whole numbers are declared as doubles in the model's signature.
    requests = rows.requests(
        "/invocations",
        lambda some: {"dataframe_split": {"columns": columns, "data": [list(map(_double, r.values())) for r in some]}},
        rows.classes,
    )
    with running(words, port, MLFLOW_TRACKING_URI=uri, PATH=path) as session:
        yield Subject(bundle.name, MLFLOW, port, session, requests)


def _double(value: Any) -> Any:
    return float(value) if type(value) is int else value


def bare(bundle: Path, runs: int) -> float:
    """Seconds of the model alone for a hundred rows in a data frame, in this process and on the server's core."""
    import pandas as pd

    found = Bundle(bundle)
    model = found.load_model(conveyor_params.load(bake() / "params.yaml").model.trusted_types)
    rows = pd.DataFrame(found.golden["rows"])[list(found.features)]
    rows = pd.concat([rows] * 5, ignore_index=True)
    os.sched_setaffinity(0, {SERVER})
    took = []
    for _ in range(runs):
        began = time.perf_counter()
        model.predict_proba(rows)
        took.append(time.perf_counter() - began)
    os.sched_setaffinity(0, {CLIENT})
    return statistics.median(took)


def cpu(session: int) -> float:
    """Seconds of processor time that the processes of a session have used so far."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # ended meanwhile
            fields = stat.read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12]) if int(fields[3]) == session else 0
    return ticks / os.sysconf("SC_CLK_TCK")


# The client


def load(port: int, requests: list[Request], callers: int, seconds: float) -> tuple[float, list[float], int]:
    """Send one request after the other over kept connections.

    Returns:
        answers per second; the seconds of each, sorted, but for the first of a connection, which waits until the
        server has accepted it; how many answers there were.

    Raises:
        SystemExit: an answer is no 200, or not the one to its request.
    """
    took, given, waiting, number = [], [], selectors.DefaultSelector(), 0

    def send(connection: socket.socket, state: list) -> None:
        nonlocal number
        state[:] = b"", time.perf_counter(), number
        connection.sendall(requests[number % len(requests)].sent)
        number += 1

    with ExitStack() as stack:
        for _ in range(callers):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            send(connection, waiting.register(connection, selectors.EVENT_READ, [b"", 0.0, 0]).data)
        began = time.perf_counter()
        while time.perf_counter() < began + seconds or len(took) < 2 * callers:
            for key, _ in waiting.select(10):
                said = key.data[0] = key.data[0] + key.fileobj.recv(1 << 20)
                head, found, body = said.partition(b"\r\n\r\n")
                if not found or len(body) < _length(head):
                    continue
                now = time.perf_counter()
                if b" 200 " not in head[:20]:
                    sys.exit(f"error: port {port} says {said[:300]!r}")
                if key.data[2] >= callers:
                    took.append(now - key.data[1])
                given.append((key.data[2], body))
                send(key.fileobj, key.data)
        rate = len(given) / (time.perf_counter() - began)
    waiting.close()
    for asked, body in given:
        right, said = requests[asked % len(requests)].right, json.loads(body)["predictions"]
        if len(said) != len(right) or any(abs(a - b) > RIGHT for a, b in zip(said, right, strict=True)):
            sys.exit(f"error: port {port} answers request {asked} with {said[:3]}, and right is {right[:3]}")
    return rate, sorted(took), len(given)


def _length(head: bytes) -> int:
    place = head.lower().index(b"content-length:") + len(b"content-length:")
    return int(head[place:].partition(b"\r\n")[0])


# The page


def measure(estimators: tuple[str, ...], rounds: int, seconds: float) -> dict:
    """All figures: of each subject and load the requests per second and the 50th and 99th percentile, in ms."""
    place = ROOT / "build" / "bench" / "serve"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    bundles = {estimator: train(place, estimator) for estimator in estimators}
    os.sched_setaffinity(0, {CLIENT})
    runs: dict[str, list] = {}
    answers = 0
    with ExitStack() as stack:
        rows = {name: known(bundle) for name, bundle in bundles.items()}
        subjects = [stack.enter_context(noop(next(iter(rows.values()))))]
        subjects += [
            stack.enter_context(ours(name, served_as(form, bundle), place, rows[name]))
            for form in FORMS
            for name, bundle in bundles.items()
        ]
        subjects += [stack.enter_context(mlflows(bundle, rows[name])) for name, bundle in bundles.items()]
        for number in range(rounds + 1):  # the first one warms up
            for what, (count, callers) in LOADS.items():
                for subject in subjects:
                    before = cpu(subject.session)
                    rate, took, given = load(subject.port, subject.requests[count], callers, seconds if number else 0.3)
                    answers += given
                    p50, p99 = (1e3 * took[int(share * len(took))] for share in (0.5, 0.99))
                    used = 1e3 * (cpu(subject.session) - before) / given
                    said = {"rate": rate, "p50": p50, "p99": p99, "cpu": used}
                    if number:
                        runs.setdefault(f"{subject.name} | {subject.form} | {what}", []).append(said)
            for name, bundle in bundles.items():
                took = bare(bundle, 40)
                if number:
                    runs.setdefault(f"{name} | bare | 100 rows", []).append({"rate": 1 / took, "p50": 1e3 * took})
    median = {
        name: {figure: statistics.median(run[figure] for run in each) for figure in each[0]}
        for name, each in runs.items()
    }
    made = {"rounds": rounds, "seconds": seconds, "answers": answers, "median": median, "runs": runs, "ratios": {}}
    for name, form in ((subject.name, subject.form) for subject in subjects if subject.form in FORMS):
        for what in LOADS:
            mine, theirs, least = (
                f"{of} | {what}" for of in (f"{name} | {form}", f"{name} | {MLFLOW}", f"{NOOP} | {NOOP}")
            )
            made["ratios"][mine] = median[mine]["rate"] / median[theirs]["rate"]
            made["ratios"][f"{mine}, cpu"] = median[theirs]["cpu"] / median[mine]["cpu"]
            # Runs that follow each other meet the same machine: the median of their ratios.
            for figure in FLOORS:
                each = [a[figure] / b[figure] for a, b in zip(runs[mine], runs[least], strict=True)]
                made["ratios"][f"{mine}, no-op {figure}"] = statistics.median(each)
        alone = median[f"{name} | bare | 100 rows"]
        made["ratios"][f"{name} | {form} | 100 rows, bare"] = (
            median[f"{name} | {form} | 100 rows"]["p50"] / alone["p50"]
        )
    (ROOT / "build" / "bench" / "serve.json").write_text(json.dumps(made, indent=1))
    return made


def table(made: dict) -> str:
    """The figures as Markdown."""
    lines = [
        "| model | answered by | load | requests/s | median ms | p99 ms | CPU ms | rate / MLflow's | CPU / MLflow's |"
    ]
    lines.append("|---|---|---|---:|---:|---:|---:|---:|---:|")
    for name, of in made["median"].items():
        model, form, what = name.split(" | ")
        ratio = made["ratios"].get(name)
        model = "" if form == NOOP else model
        by = {
            "bare": "the model alone, in process",
            MLFLOW: f"`{MLFLOW}`",
            NOOP: "a FastAPI app that answers a constant",
        }
        by = by.get(form, f"this service, {form}")
        rest = f"{of['p99']:.2f} | {of['cpu']:.2f}" if form != "bare" else "|"
        shown = f"{ratio:.1f} x | 1/{made['ratios'][name + ', cpu']:.1f}" if ratio else "|"
        lines.append(f"| {model} | {by} | {what} | {of['rate']:,.0f} | {of['p50']:.2f} | {rest} | {shown} |")
    return "\n".join(lines)


def beside(made: dict) -> str:
    """The figures of compiled models by those of the no-op, as Markdown."""
    lines = ["| model | load | requests/s / no-op's | p99 / no-op's |", "|---|---|---:|---:|"]
    for name in made["ratios"]:
        model, form, what = name.split(" | ")
        if form == "compiled" and what in LOADS:
            rate, p99 = (made["ratios"][f"{name}, no-op {figure}"] for figure in FLOORS)
            lines.append(f"| {model} | {what} | {rate:.2f} | {p99:.2f} |")
    return "\n".join(lines)


PAGE = """# How fast the service answers

`make bench-serve` made this page: medians of {rounds} runs of {seconds:g} s for each line, in turns. The server has one
core, and the client another one. Python {python}, {machine}, {cores} cores. The service does all that it does by
default: it checks, counts and logs each row. `mlflow models serve` answers with the same model, as training logged it,
with one worker. All figures are of one run of the script. Other programs on the machine make the times longer, those of
a server with many threads most; the processor time of a request (CPU ms) hardly changes.
Each request has other rows than the one before. Each answer was compared with the model's own: {answers} answers,
0 wrong. The first answer of a connection is not timed: uvicorn's loop accepts one connection between two rounds
of answers, so that answer waits for those of all connections before it.

{table}

The no-op is a FastAPI app that reads the JSON of the same requests and answers with a constant, in the same uvicorn on
the same core. Compiled models relative to it, as medians of {rounds} pairs of runs:

{beside}

The aim is {AIMS[rate]} of its rate for one row of the logistic regression and {AIMS[p99]} of its p99 for 16 callers.
A test fails if the page has less than {FLOORS[rate]} or more than {FLOORS[p99]}.

The time of the service for a hundred rows, relative to that of the stored model alone for a data frame of them:
{bare}.
A compiled model is much faster than its original: the data frame costs more time than
checking, counting and logging the rows.

Training chooses the form, see [decisions.md](decisions.md): the compiled one if it gives the same answers, as it does
for each of these models. The lines `arrays` show the cost of a model that does not compile: the time of scikit-learn
without that of a data frame.
"""


def page(made: dict) -> str:
    """docs/serving.md."""
    bare = {form: [] for form in FORMS}
    for what, ratio in made["ratios"].items():
        name, form, load = what.split(" | ")
        bare[form] += [f"{name} {ratio:.2f}"] if load.endswith(", bare") else []
    return PAGE.format(
        rounds=made["rounds"],
        seconds=made["seconds"],
        python=platform.python_version(),
        machine=platform.machine(),
        cores=len(CORES),
        table=table(made),
        beside=beside(made),
        answers=f"{made['answers']:,}",
        AIMS=AIMS,
        FLOORS=FLOORS,
        bare=";\n".join(f"{form}: {', '.join(ratios)}" for form, ratios in bare.items()),
    )


def main(words: list[str]) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the servers are ended, too
    quick = words == ["--quick"]
    made = measure(ESTIMATORS[:1], 3, 0.3) if quick else measure(ESTIMATORS, 5, 1.0)
    print(table(made), beside(made), sep="\n\n")
    if not quick:
        (ROOT / "docs" / "serving.md").write_text(page(made))


if __name__ == "__main__":
    main(sys.argv[1:])
