"""Baked projects for every test: each set of answers is generated once, each test gets a copy of its own."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import preloaded
import pytest
import yaml
from docker.errors import APIError
from engine import NoEngine, Registry, SshHost, free_port, running_engine, until, which
from filelock import FileLock
from standins import images

from conveyor.core.params import load
from conveyor.model.builder import Builder

pytest_plugins = ["github_team", "containers", "ledgers", "released"]

ROOT = Path(__file__).parents[1]
TEMPLATE = ROOT / "<<cookiecutter.project>>"
QUESTIONS = {
    key: value for key, value in json.loads((ROOT / "cookiecutter.json").read_text()).items() if not key.startswith("_")
}
OPTIONS = {key: value for key, value in QUESTIONS.items() if isinstance(value, list)}
DEFAULTS = {key: value[0] if key in OPTIONS else value for key, value in QUESTIONS.items()}
# What the machine or a surrounding `make` or workflow says must not reach a project under test.
FOREIGN = (
    "GIT_",
    "GITHUB_",
    "MLFLOW_",
    "COOKIECUTTER_",
    "PYTEST_",
    "PYTHON",
    "MAKE",
    "MFLAGS",
    "VIRTUAL_ENV",
    "DEPLOY_",
)
# Beside tests that deploy, others must not find what those have deployed: the engine is one.
NOWHERE = {"DEPLOY_NAME": "deployed-by-nobody"}
os.environ |= NOWHERE
SWITCHES = {
    **NOWHERE,
    "DO_NOT_TRACK": "true",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MPLBACKEND": "Agg",
    "ORT_DISABLE_TELEMETRY": "1",
    "OMP_NUM_THREADS": "1",  # workers share the cores, and waiting threads would spin
}


def environment(**more: str) -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)} | SWITCHES | more


def run(*argv: str | Path, cwd: Path, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(word) for word in argv],
        cwd=cwd,
        env=environment(**env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=preloaded.SECONDS,
    )
    return checked(done, check)


def module(*words: str | Path, cwd: Path, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
    """The same for `python -m` and these words, without the time that it takes to import libraries."""
    return checked(preloaded.run([str(word) for word in words], cwd, environment(**env), born()), check)


def born() -> dict[str, str]:
    """The environment in which a warm process imports the libraries."""
    return environment(MLFLOW_LOGGING_LEVEL="CRITICAL")  # which the product says in time, before it imports MLflow


def checked(done: subprocess.CompletedProcess[str], check: bool) -> subprocess.CompletedProcess[str]:
    assert not check or done.returncode == 0, f"{done.args} returned {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def generate(
    output: Path,
    *options: str,
    template: Path = ROOT,
    check: bool = True,
    env: dict[str, str] | None = None,
    **answers: str,
) -> subprocess.CompletedProcess[str]:
    """Run Cookiecutter as a user does; its replay files stay out of the home directory."""
    config = output / ".cookiecutter.yaml"
    config.write_text(json.dumps({key: str(output / ".cookiecutter") for key in ("cookiecutters_dir", "replay_dir")}))
    pairs = [f"{key}={value}" for key, value in answers.items()]
    words = ("cookiecutter", "--no-input", *options, template, *pairs)
    try:
        return module(*words, cwd=output, check=check, **{"COOKIECUTTER_CONFIG": str(config)} | (env or {}))
    finally:
        config.unlink()
        shutil.rmtree(output / ".cookiecutter", ignore_errors=True)


@dataclass(frozen=True)
class BakedProject:
    path: Path
    options: dict[str, str]
    venv: Path

    @property
    def package(self) -> str:
        return self.options["project"].lower().replace("-", "_")

    @property
    def base(self) -> str:
        """The image that its own is built on."""
        return re.search("^FROM (.*)$", (self.path / "container" / "base.Dockerfile").read_text(), re.M)[1]

    def run(self, *argv: str | Path, env: dict[str, str] | None = None, check: bool = True):
        return run(*argv, cwd=self.path, check=check, **env or {})

    def make(self, *targets: str, check: bool = True, **env: str):
        return self.run("make", *targets, check=check, env={"VENV": str(self.venv)} | env)

    def git(self, *args: str, check: bool = True):
        identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
        return self.run("git", *identity, *args, check=check)

    def cli(self, *args: str, check: bool = True, **env: str):
        """The command `python -m conveyor`, with the project's own code and, unless they are given, these libraries."""
        if "PYTHONPATH" in env:
            return self.run(sys.executable, "-m", "conveyor", *args, check=check, env=env)
        return module("conveyor", *args, cwd=self.path, check=check, PYTHONPATH="src", **env)

    def edit(self, path: str, old: str, new: str) -> None:
        text = (self.path / path).read_text(encoding="utf-8")
        assert old in text, f"{old!r} is not in {path}"
        (self.path / path).write_text(text.replace(old, new), encoding="utf-8")

    def set_param(self, key: str, value: object) -> None:
        """Set one value of params.yaml by its dotted name, which must exist up to its last part."""
        file = self.path / "params.yaml"
        params = yaml.safe_load(file.read_text(encoding="utf-8"))
        *sections, name = key.split(".")
        section = params
        for part in sections:
            section = section[part]
        section[name] = value
        file.write_text(yaml.safe_dump(params, sort_keys=False, allow_unicode=True), encoding="utf-8")

    def better(self) -> None:
        """Let params.yaml ask for a model that is shown to be better: with squares and products of the numbers."""
        file = self.path / "params.yaml"
        text, count = re.subn(r"^( +degree:) 1\b", r"\1 2", file.read_text(encoding="utf-8"), flags=re.M)
        assert count == 1, f"{count} degrees of 1 in params.yaml"
        file.write_text(text, encoding="utf-8")

    def files(self) -> list[Path]:
        """Everything that is generated, relative to the project; git's own files are not."""
        found = (path.relative_to(self.path) for path in self.path.rglob("*") if not path.is_dir())
        return sorted(path for path in found if path.parts[0] != ".git")

    def texts(self) -> dict[Path, str]:
        contents = {path: (self.path / path).read_bytes() for path in self.files()}
        return {path: content.decode() for path, content in contents.items() if b"\0" not in content}


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Path:
    """One directory for all workers of pytest-xdist; TESTS_SHARED names one that is kept for the next run."""
    if kept := os.environ.get("TESTS_SHARED"):
        Path(kept).mkdir(parents=True, exist_ok=True)
        return Path(kept)
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def venv(tmp_path_factory) -> Path:
    """The environment that runs these tests, dressed as one that `make setup` has just installed from the lock."""
    face = tmp_path_factory.mktemp("venv")
    for entry in Path(sys.prefix).iterdir():
        (face / entry.name).symlink_to(entry)
    stamp = face / "installed.txt"
    stamp.unlink(missing_ok=True)
    shutil.copyfile(TEMPLATE / "requirements/dev.txt", stamp)
    return face


@pytest.fixture(scope="session")
def bake(shared, venv, tmp_path_factory):
    def bake(**answers: str) -> BakedProject:
        options = DEFAULTS | answers
        kept = shared / f"bake-{sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:16]}"
        if not kept.exists():
            fresh = Path(tempfile.mkdtemp(dir=shared))
            generate(fresh, **options)
            for words in (("repack", "-adq"), ("prune-packed", "-q")):  # a copy of few files takes a third of the time
                run("git", *words, cwd=fresh / options["project"])
            try:
                fresh.rename(kept)
            except OSError:  # another worker was faster, and its bake is the same
                shutil.rmtree(fresh)
        path = tmp_path_factory.mktemp("project") / options["project"]
        shutil.copytree(kept / options["project"], path, symlinks=True)
        return BakedProject(path, options, venv)

    return bake


@pytest.fixture
def project(bake) -> BakedProject:
    """A private copy of what the default answers generate."""
    return bake()


@pytest.fixture
def one_line():
    """Asserts how a foreseen end looks: its exit code, one line on standard error, nothing half-written."""

    def one_line(done: subprocess.CompletedProcess[str], code: int, message: str) -> None:
        assert "Traceback" not in done.stdout + done.stderr, done.stderr
        lines = done.stderr.strip().splitlines()
        assert (done.returncode, len(lines)) == (code, 1), done.stdout + done.stderr
        assert re.fullmatch(f"error: {message}", lines[0]), lines[0]

    return one_line


def estimators(project: BakedProject) -> dict[str, Builder]:
    """What model.py of a project builds with each of its estimators, and the parameters that are shipped."""
    file = project.path / "src" / project.package / "model.py"
    spec = spec_from_file_location("model_of_a_project", file)
    model = module_from_spec(spec)
    sys.modules[spec.name] = model  # where pydantic looks up what annotations name
    spec.loader.exec_module(model)
    shipped = load(project.path / "params.yaml").model.params
    return {
        name: Builder(file, model.build, model.Params.model_validate({**shipped, "estimator": name}))
        for name in model.Params.model_fields["estimator"].annotation.__args__
    }


def once(shared: Path, name: str, make: Callable[[Path], None]) -> Path:
    """A directory that one worker makes and all read: expensive states are reached once per run."""
    place = shared / name
    with FileLock(f"{place}.lock"):
        if not place.exists():
            fresh = Path(tempfile.mkdtemp(dir=shared))
            make(fresh)
            fresh.rename(place)
    return place


@pytest.fixture
def sound(project, shared) -> BakedProject:
    """A project whose data were validated."""

    def validate(fresh: Path) -> None:
        project.cli("validate")
        shutil.copytree(project.path / "build", fresh, dirs_exist_ok=True)

    shutil.copytree(once(shared, "validated", validate), project.path / "build", dirs_exist_ok=True)
    return project


def bootstrap(project: BakedProject, shared: Path) -> BakedProject:
    """Brings a fresh project to its first champion: a logistic regression, promoted by `pipeline`."""

    def pipeline(fresh: Path) -> None:
        (fresh / "output.txt").write_text(project.cli("pipeline").stdout)
        shutil.copytree(project.path, fresh / "project", symlinks=True)

    kept = once(shared, "bootstrapped", pipeline) / "project"
    shutil.rmtree(project.path)
    shutil.copytree(kept, project.path, symlinks=True)
    return project


@pytest.fixture
def bootstrapped(project, shared) -> BakedProject:
    """A project that has its first champion."""
    return bootstrap(project, shared)


@pytest.fixture(scope="module")
def trained(bake, shared) -> BakedProject:
    """A project with a champion, which the tests of a module share and do not change."""
    return bootstrap(bake(), shared)


@pytest.fixture(scope="module")
def bundle(trained) -> Path:
    """The champion's."""
    return trained.path / "build" / "candidate"


@pytest.fixture(scope="session")
def engine(shared):
    """A client of this machine's Docker engine, which is started where none runs."""
    try:
        with running_engine(shared) as client:
            yield client
    except NoEngine as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def base_image(engine):
    """base_image(tag) -> the image that a Dockerfile begins with, or its stand-in; made once per machine."""
    return lambda tag: images.provide(engine, tag)


@pytest.fixture(scope="session")
def edge_image(base_image):
    """edge_image(tag) -> the image of the edge proxy, or its stand-in."""
    return base_image


@dataclass(frozen=True)
class ChampionImage:
    """The image of the first champion.

    Attributes:
        project: the project that it was made in, with build/image.json; no test may change it.
        id: of the image on the engine.
        made: build/image.json.
    """

    project: BakedProject
    id: str
    made: dict[str, Any]


@pytest.fixture(scope="session")
def libraries(bake, shared, engine, base_image):
    """The layer of libraries in the engine's cache: two workers that built it at once would have two of it."""

    def build(fresh: Path) -> None:
        project = bootstrap(bake(), shared)
        base_image(project.base)
        project.cli("image")
        made = json.loads((project.path / "build" / "image.json").read_text())
        engine.images.remove(made["reference"], force=True, noprune=True)

    once(shared, "libraries", build)


@pytest.fixture(scope="session")
def champion_image(bake, shared, engine, libraries):
    """The image of a bootstrapped project, made once; whoever uses it is with "images" in TOGETHER."""
    project = bootstrap(bake(), shared)
    project.cli("image")
    made = json.loads((project.path / "build" / "image.json").read_text())
    yield ChampionImage(project, made["reference"], made)
    with contextlib.suppress(APIError):  # another test has built on it, and it stays for that
        engine.images.remove(made["reference"], force=True, noprune=True)  # what it was built from stays in the cache


@pytest.fixture(scope="session")
def registry(engine, tmp_path_factory, shared):
    """A registry, which a test may stop and has to start again; a layer that any test pushed is not sent twice."""
    if which("docker-registry") is None:
        pytest.skip("docker-registry is not installed; .ci/run does it")
    kept = "TESTS_SHARED" in os.environ
    place = shared / "registry" if kept else tmp_path_factory.mktemp("registry")
    place.mkdir(exist_ok=True)
    registry = Registry(place)
    registry.start()
    yield registry
    registry.stop()
    if not kept:
        shutil.rmtree(place)


@pytest.fixture(scope="session")
def ssh_host(engine, tmp_path_factory):
    """A host that is reached over ssh only, with this machine's engine on it."""
    if which("sshd") is None:
        pytest.skip("sshd is not installed; .ci/run does it")
    host = SshHost(tmp_path_factory.mktemp("ssh"))
    host.start()
    yield host
    host.stop()


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[str]:
    """The address of an MLflow server with a database of its own."""
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    words = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words += ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", str(folder / "files")]
    log = (folder / "log.txt").open("wb")
    with (
        log,
        subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *words],
            cwd=folder,
            env=environment(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"),  # processes that no test asks for
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # its workers are ended with it
        ) as process,
    ):
        try:
            until(lambda: healthy(port, process), 120, "the server does not answer")
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def healthy(port: int, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "the server has ended"
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


# One worker's is what deploys by the same names or from the same images, and what shares what takes long to make.
TOGETHER = {
    "tests/test_alerts.py": "a Prometheus",
    "tests/test_image.py": "images",
    "tests/test_image_contents.py": "images",
    "tests/test_platforms.py": "images",
    "tests/test_rollout.py": "images",
    "tests/test_demo.py": "product",
    "tests/test_workflows_by_hand.py": "product",
    "tests/test_workflows_grown.py": "product",
    "tests/test_workflows_watch.py": "product",
    "tests/test_workflows_run.py": "product",
    "tests/test_mirror.py": "a server of MLflow's",
    "tests/test_serve.py": "a server of ours",
    "tests/test_models.py": "models of each kind",
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """One worker takes all tests that belong together. (xdist's own mark for that is lost on pytest 9.2.)"""
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return TOGETHER.get(nodeid.partition("::")[0], nodeid)

    return Together(config, log)


def pytest_terminal_summary(terminalreporter, config):
    """In CI a skipped test is a failed one: it would hide what could not be shown there."""
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped and os.environ.get("NO_SKIPS"):
        terminalreporter.write_line(f"{len(skipped)} skipped, which NO_SKIPS forbids", red=True)
        terminalreporter._session.exitstatus = pytest.ExitCode.TESTS_FAILED
