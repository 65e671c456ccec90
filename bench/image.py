"""What the champion's image weighs and how soon it answers, beside the image that MLflow builds for the same model.

    make bench-image                          # builds four images, starts each five times, writes docs/image.md
    .venv/bin/python bench/image.py --quick   # seconds: the packages of each, as they are installed here

Ours are built by the package's own `image`. MLflow's are built from what `mlflow models generate-dockerfile` writes for
the model that training logged; its base alone is changed, so that all stand on the same one with the same Python. Exits
with 1 if ours weigh more than is said below.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from http.client import HTTPException
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from product import ROOT, bake

sys.path.insert(0, str(ROOT / "tests"))
STARTS = 5
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
SECONDS = 120.0  # within which a container answers
# What our site-packages may weigh, of MLflow's, by the form in which the model is served; and which model, at which
# tolerance, is served in it: every shipped one compiles, but some last digit differs from the original.
SHARES = {"compiled": 0.2, "arrays": 0.4}
# What site-packages and image of a compiled model may weigh, on whatever base the Dockerfile names.
MOST = {"site_packages": 130e6, "image": 230e6}
ESTIMATORS = {"compiled": ("logistic", 1e-5), "arrays": ("boosting", 1e-18)}
# The folder where numpy is, and what it weighs: the sizes of its files.
WEIGH = """
import importlib.util, os, pathlib
site = pathlib.Path(importlib.util.find_spec("numpy").origin).parents[1]
print(sum(path.lstat().st_size for path in site.rglob("*") if path.is_file()))
"""


@dataclass
class Weighed:
    """An image: who built it, the form it answers in, bytes, and seconds from its start to its first answer."""

    by: str
    form: str
    site_packages: int
    image: int = 0
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


# Without a container: the packages that are installed here


def quick() -> list[Weighed]:
    """The files of the packages that each image would hold, as the lock of the product has them here.

    What of MLflow's is not installed here (gevent) is not counted, nor is compiled Python of either.
    """
    requirements = ROOT / "<<cookiecutter.project>>" / "requirements"
    serve, model = (locked(requirements / f"{name}.txt") for name in ("serve", "model"))
    libraries = re.findall(r"^\w[\w.-]*", (requirements / "model.in").read_text(), re.M)
    theirs = weight(closure({"mlflow", "numpy", "gunicorn", *libraries}))
    dockerfile = (requirements.parent / "container" / "Dockerfile").read_text()
    # What it removes of the libraries; numpy's parts stay beside scipy.
    removed = set(re.findall(r"/site-packages/(\w+/[\w./*]+)", dockerfile)) | {"**/tests"}
    kept = {pattern for pattern in removed if not pattern.startswith("numpy/")}
    sizes = {"compiled": weight(serve, removed), "arrays": weight((serve | model) - {"onnxruntime"}, kept)}
    return [Weighed(by, form, sizes[form] if by == "ours" else theirs) for form in SHARES for by in ("ours", "mlflow")]


def locked(lock: Path) -> set[str]:
    """The packages that pip installs from a lock on this machine."""
    found = (
        Requirement(line.rstrip(" \\")) for line in lock.read_text(encoding="utf-8").splitlines() if line[:1].isalnum()
    )
    return {canonicalize_name(each.name) for each in found if each.marker is None or each.marker.evaluate()}


def closure(names: set[str]) -> set[str]:
    """Packages, and all that they need."""
    found: set[str] = set()
    waiting = [canonicalize_name(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for line in distribution(name).requires or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                waiting.append(canonicalize_name(needed.name))
    return found


def weight(names: set[str], without: Iterable[str] = ()) -> int:
    """The bytes of their files in site-packages, but for what these patterns name of it and what is in there."""
    site = Path(distribution("numpy").locate_file(""))
    gone = {path for pattern in without for path in site.glob(pattern)}
    total = 0
    for name in names:
        for file in distribution(name).files or []:
            path = site / file
            if ".." not in file.parts and file.suffix != ".pyc" and gone.isdisjoint((path, *path.parents)):
                total += path.lstat().st_size
    return total


# With an engine


@contextmanager
def champions() -> Iterator[dict[str, Path]]:
    """For each form a generated repository whose champion is served in it."""
    with tempfile.TemporaryDirectory(dir=bake().parent, prefix="image-") as place:
        found = {}
        for form, (estimator, tolerance) in ESTIMATORS.items():
            root = found[form] = Path(place) / form
            shutil.copytree(bake(), root, symlinks=True)
            params = (root / "params.yaml").read_text()
            params = params.replace("estimator: logistic ", f"estimator: {estimator} ")
            (root / "params.yaml").write_text(re.sub("tolerance: [0-9.]+", f"tolerance: {tolerance:.18f}", params))
            print(f"{form}: training", flush=True)
            verb_of(root, "pipeline")
            served = json.loads((root / "build" / "candidate" / "lineage.json").read_text())["served"]
            if served["form"] != form:
                raise SystemExit(f"error: {estimator} is served as {served['form']}, not {form}: {served['why']}")
        yield found


def verb_of(root: Path, verb: str) -> None:
    words = [sys.executable, "-m", "conveyor", verb]
    done = subprocess.run(words, cwd=root, env={**os.environ, "PYTHONPATH": "src"}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"error: {verb} of {root.name} returned {done.returncode}: {done.stderr.strip()[-500:]}")


def ours(root: Path) -> str:
    """The id of the image of our own making."""
    verb_of(root, "image")
    return json.loads((root / "build" / "image.json").read_text())["reference"]


def mlflows(engine: Any, root: Path, base: str, stand_in: bool) -> str:
    """The id of MLflow's image of the model that training logged."""
    [logged] = (root / "mlruns").rglob("MLmodel")
    context = root / "build" / "mlflow"
    words = [sys.executable, "-m", "mlflow", "models", "generate-dockerfile", "-m", logged.parent, "-d", context]
    subprocess.run([str(word) for word in words], check=True, capture_output=True)
    dockerfile = (context / "Dockerfile").read_text()
    # A stand-in knows the certificates of this machine, and the pip that MLflow installs has to be told of them.
    more = f"\nENV PIP_CERT={CERTIFICATES}" if stand_in else ""
    changed = re.sub(r"^FROM python:\S+$", f"FROM {base}{more}", dockerfile, count=1, flags=re.M)
    if changed == dockerfile:
        raise SystemExit("error: MLflow's Dockerfile no longer begins with FROM python:; look what it does now")
    (context / "Dockerfile").write_text(changed)
    return engine.images.build(path=str(context), rm=True, forcerm=True)[0].id


def weigh(engine: Any, by: str, form: str, image: str) -> Weighed:
    said = engine.containers.run(image, ["-c", WEIGH], entrypoint="python", remove=True, network_mode="none")
    return Weighed(by, form, int(said), engine.images.get(image).attrs["Size"])


def start(engine: Any, image: str, row: dict[str, Any], by: str) -> float:
    """Seconds from the word to start a container until it has answered a request."""
    inside, path, body = {
        "ours": ("8000/tcp", "predict", {"rows": [row]}),
        "mlflow": ("8080/tcp", "invocations", {"dataframe_records": [row]}),
    }[by]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    headers = {"Content-Type": "application/json"}
    asked = urllib.request.Request(f"http://127.0.0.1:{port}/{path}", json.dumps(body).encode(), headers)
    began = time.monotonic()
    container = engine.containers.run(image, detach=True, ports={inside: ("127.0.0.1", port)})
    last: Exception | None = None
    try:
        while (took := time.monotonic() - began) < SECONDS:
            try:
                with urllib.request.urlopen(asked, timeout=10) as answer:
                    said = json.load(answer)
                if len(said["predictions"]) != 1:
                    raise SystemExit(f"error: the {by} image answers {said}")
                return time.monotonic() - began
            except (OSError, HTTPException) as error:  # it does not listen yet, or a proxy before it says so
                last = error
                time.sleep(0.02)
        raise SystemExit(
            f"error: the {by} image has not answered after {took:.0f} s: {last}\n{container.logs()[-2000:]}"
        )
    finally:
        container.remove(force=True)


def measure() -> tuple[list[Weighed], dict[str, str]]:
    """Builds, weighs and starts; also what it was done with."""
    import docker
    from standins import images

    engine = docker.from_env()
    with champions() as roots:
        dockerfile = (roots["compiled"] / "container" / "base.Dockerfile").read_text()
        base = re.search("^FROM (.*)$", dockerfile, re.M)[1]
        found = images.provide(engine, base)
        stand_in = "stand-in" in found.labels
        built: list[tuple[Weighed, str, dict[str, Any]]] = []
        try:
            for form, root in roots.items():
                row = json.loads((root / "build" / "candidate" / "golden.json").read_text())["rows"][0]
                for by in ("ours", "mlflow"):
                    print(f"{form}: building {by}", flush=True)
                    image = ours(root) if by == "ours" else mlflows(engine, root, base, stand_in)
                    built.append((weigh(engine, by, form, image), image, row))
            for number in range(STARTS):  # in turn, so that what else the machine does meets all of them
                for weighed, image, row in built:
                    weighed.seconds.append(start(engine, image, row, weighed.by))
                    print(f"start {number + 1}: {weighed.form}, {weighed.by}: {weighed.seconds[-1]:.1f} s", flush=True)
        finally:
            for _, image, _ in built:
                engine.images.remove(image, force=True, noprune=True)
        python = engine.containers.run(base, ["python", "--version"], remove=True, network_mode="none").decode().strip()
    about = {
        "base": base + (" (built here in its place by tests/standins/images.py)" if stand_in else ""),
        "base_bytes": found.attrs["Size"],
        "python": python,
        "mlflow": version("mlflow"),
        "cores": str(os.cpu_count()),
    }
    return [weighed for weighed, _, _ in built], about


# What is told


def share(rows: list[Weighed], form: str, what: str) -> float:
    """Ours, of MLflow's."""
    us, them = (next(row for row in rows if (row.by, row.form) == (by, form)) for by in ("ours", "mlflow"))
    return getattr(us, what) / getattr(them, what)


def table(rows: list[Weighed]) -> list[str]:
    names = {"ours": "`make image`", "mlflow": "`mlflow models build-docker`"}
    full = all(row.seconds for row in rows)
    text = ["| form | built by | site-packages |" + (" image | cold start |" if full else "")]
    text.append("|---|---|--:|" + ("--:|--:|" if full else ""))
    for row in rows:
        more = f" {row.image / 1e6:.0f} MB | {row.median:.1f} s |" if full else ""
        text.append(f"| {row.form} | {names[row.by]} | {row.site_packages / 1e6:.0f} MB |{more}")
    for form in SHARES:
        parts = [
            f" {share(rows, form, what):.2f} |" for what in ("site_packages", *(["image", "median"] if full else []))
        ]
        text.append(f"| {form} | ours, of MLflow's |{''.join(parts)}")
    return text


def page(rows: list[Weighed], about: dict[str, str]) -> str:
    """docs/image.md."""
    aims = " and ".join(f"{limit:.2f} for `{form}`" for form, limit in SHARES.items())
    return "\n".join(
        [
            "# What the image weighs",
            "",
            "Made by `make bench-image`, which builds and starts all of these images in one run. A model that compiles"
            " is served without the libraries that trained it (`compiled`, here the logistic regression). Another model"
            " brings the lock of its bundle (`arrays`, here gradient boosting without a tolerated difference). For"
            f" both, MLflow {about['mlflow']} builds an image of the same model, as training logged it.",
            "",
            *table(rows),
            "",
            "Site-packages is the sum of the files there. MLflow's images hold their whole base,"
            f" {about['base_bytes'] / 1e6:.0f} MB; ours hold what Python needs of it, without package managers, perl"
            " and what changes users or rights. Cold start is the time from the order to start a container to its"
            f" answer to a request for one row: the median of {STARTS} starts, taken in turn, on {about['cores']}"
            " cores.",
            "",
            f"The base of all is {about['base']}, with {about['python']}. MLflow's are built from the output of `mlflow"
            " models generate-dockerfile`, with that base in its first line; on a base that was built here its pip also"
            " gets the certificates of this machine. Such an image installs nginx, MLflow, the libraries that the model"
            " was logged with (in the versions of the lock), and their dependencies as the index has them that day. It"
            " starts a worker for each core, ours starts one process.",
            "",
            f"The script fails above these limits: {aims} of MLflow's site-packages; for a compiled model"
            f" {MOST['site_packages'] / 1e6:.0f} MB of site-packages and {MOST['image'] / 1e6:.0f} MB for the whole"
            " image.",
            "",
        ]
    )


def main(words: list[str]) -> None:
    if words not in ([], ["--quick"]):
        raise SystemExit("error: there is no option but --quick")
    if words:
        rows = quick()
        print("\n".join(table(rows)))
    else:
        rows, about = measure()
        place = ROOT / "build" / "bench"
        (place / "image.json").write_text(json.dumps({"rows": [asdict(row) for row in rows], **about}, indent=1))
        (ROOT / "docs" / "image.md").write_text(page(rows, about))
        print(page(rows, about))
    shares = {form: share(rows, form, "site_packages") for form in SHARES}
    heavy = [f"{form}, {shares[form]:.2f} of MLflow's" for form, limit in SHARES.items() if shares[form] > limit]
    for row in rows:
        if (row.by, row.form) == ("ours", "compiled") and not words:
            heavy += [f"{row.form}, its {what}" for what, most in MOST.items() if getattr(row, what) > most]
    for form in heavy:
        print(f"too heavy: {form}", file=sys.stderr)
    sys.exit(bool(heavy))


if __name__ == "__main__":
    main(sys.argv[1:])
