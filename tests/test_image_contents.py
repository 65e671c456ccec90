"""Risk: the image holds what does not answer, or lacks what does."""

import json
import re
from pathlib import Path

import pytest
from containers import HARDENED, answers, in_image, made, running
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from conveyor.core import code

SITE = """
import importlib.metadata, json, os, pathlib, platform, sysconfig
places = [sysconfig.get_path("purelib"), os.environ["PYTHONPATH"]]
installed = {found.name: found.version for found in importlib.metadata.distributions(path=places)}
modules = sorted(path.name for place in places for path in pathlib.Path(place).iterdir())
weight = sum(path.lstat().st_size for path in pathlib.Path(places[0]).rglob("*") if path.is_file())
told = {"python": platform.python_version(), "installed": installed, "modules": modules, "bytes": weight}
print(json.dumps(told))
"""
# What installs, what runs as somebody else, and what it would take to bring that back; printed if it is there.
LEFT = """
import importlib.util, os, shutil, stat
for name in ("apt", "apt-get", "dpkg", "dpkg-deb", "pip", "pip3", "perl", "su", "sudo", "mount", "passwd", "chsh"):
    print(shutil.which(name, path="/opt/venv/bin:/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin") or "")
print(*[name for name in ("pip", "ensurepip", "setuptools", "wheel") if importlib.util.find_spec(name)])
for folder, folders, files in os.walk("/"):
    if folder in ("/dev", "/proc", "/sys"):
        folders.clear()
        continue
    for path in (os.path.join(folder, name) for name in folders + files):
        mode = os.lstat(path).st_mode
        if not stat.S_ISLNK(mode) and (mode & 0o6000 or "security.capability" in os.listxattr(path)):
            print(path)
"""
# What it imports to serve, of which no compiled code is there: each start would compile it, and could not keep it.
COMPILED = """
import importlib, os, sys
importlib.import_module("conveyor.serving.app")
import onnxruntime, uvicorn.protocols.http.httptools_impl, uvloop
modules = [module.__spec__ for module in list(sys.modules.values()) if getattr(module, "__spec__", None)]
print(len(modules), *[spec.name for spec in modules if spec.cached and not os.path.exists(spec.cached)])
"""
KNOWS = """
import ssl, zoneinfo
assert ssl.create_default_context().cert_store_stats()["x509_ca"] > 100
print(zoneinfo.ZoneInfo("Europe/Berlin"))
"""


def wanted(locks: list[str], python: str) -> dict[str, str]:
    """Name and version of what pip installs from locks in the image."""
    machine = default_environment() | {"python_version": python.rpartition(".")[0], "python_full_version": python}
    found = {}
    for line in "\n".join(locks).splitlines():
        if line[:1].isalnum():
            requirement = Requirement(line.removesuffix("\\").strip())
            if requirement.marker is None or requirement.marker.evaluate(machine):
                found[canonicalize_name(requirement.name)] = str(requirement.specifier).removeprefix("==")
    return found


@pytest.fixture(scope="module")
def boosting(bake, engine, base_image):
    """A project whose champion does not compile within the tolerance, and the id of its image."""
    project = bake()
    project.set_param("model.params.estimator", "boosting")
    project.set_param("model.tolerance", 1e-18)  # the compiled form is 1e-16 away
    project.git("commit", "-qam", "Boosting")
    project.cli("pipeline")
    base_image(project.base)
    project.cli("image")
    yield project, made(project)["reference"]
    engine.images.remove(made(project)["reference"], force=True, noprune=True)


def test_it_holds_the_lock_of_the_server_and_nothing_else(engine, champion_image):
    site = json.loads(in_image(engine, champion_image.id, SITE))
    lock = (champion_image.project.path / "requirements" / "serve.txt").read_text()
    installed = {canonicalize_name(name): version for name, version in site["installed"].items()}
    assert installed.pop("late-flights") == "0.1.0"
    assert installed == wanted([lock], site["python"]) and "onnxruntime" in installed
    assert not {"sklearn", "pandas", "mlflow", "scipy", "skops", "pip"} & set(site["modules"])
    assert site["bytes"] <= 130e6 and champion_image.made["bytes"] <= 230e6


def test_nothing_in_it_installs_or_runs_as_somebody_else(engine, champion_image):
    assert in_image(engine, champion_image.id, LEFT, user="0").split() == []
    # What is left of the base is listed as Debian lists it, and was removed from that list where it went.
    status = engine.containers.run(
        champion_image.id, ["cat", "/var/lib/dpkg/status"], network_mode="none", remove=True
    ).decode()
    listed = set(re.findall("^Package: (.*)$", status, re.M))
    assert {"base-files", "ca-certificates", "coreutils", "libc6", "tzdata"} < listed
    assert not {"apt", "dpkg", "login", "mount", "passwd", "perl-base", "util-linux"} & listed


def test_it_knows_certificates_and_time_zones(engine, champion_image):
    assert in_image(engine, champion_image.id, KNOWS) == "Europe/Berlin\n"


def test_all_that_a_server_imports_is_compiled_beforehand(engine, champion_image):
    count, *lacking = in_image(engine, champion_image.id, COMPILED, user="0").split()
    assert int(count) > 300 and lacking == []


def test_of_the_code_it_holds_what_serving_imports(engine, champion_image):
    listed = engine.containers.run(
        champion_image.id, ["find", "/app/code", "-name", "*.py"], network_mode="none", remove=True
    ).decode()
    modules = {str(Path(name).relative_to("/app/code")) for name in listed.split()}
    serving = {"app", "service", "prediction_log", "settings"}
    assert {f"conveyor/serving/{name}.py" for name in serving} | {"conveyor/model/runtime.py"} <= modules
    source = champion_image.project.path / "src"
    ours = {str(path.relative_to(source)) for path in source.rglob("*.py")}
    assert modules < ours
    trains = {"cli/base.py", "core/params.py", "core/project.py"}
    trains |= {"data/source.py", "deploy/image.py", "model/scoring.py"}
    trains |= {"gate/decide.py", "ledger/ledger.py", "steps/pipeline.py", "steps/train.py"}
    trains = {f"conveyor/{name}" for name in trains} | {"late_flights/model.py"}
    assert trains < ours and not trains & modules


def test_what_is_imported_late_is_reached_and_what_only_types_name_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(code, "SOURCE", tmp_path)
    sources = {
        "a": "from conveyor import b\nif TYPE_CHECKING:\n  from conveyor.e import x\nelse:\n  from conveyor import f\n",
        "b": "def answer():\n  try:\n    from conveyor.c import x\n  finally:\n    from conveyor import d\n",
        "c": "class C:\n    async def f(self):\n        from conveyor.g import x\n",
        "inner/__init__": "from conveyor.d import x\n",
        "inner/h": "import a, b\n",
        **dict.fromkeys("defg", "import a, h\n"),
    }
    for name, source in sources.items():
        place = tmp_path / "conveyor" / f"{name}.py"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(source)
    assert set(code.reached("conveyor.a")) == {"conveyor.a", "conveyor.b"}
    assert set(code.reached("conveyor.a", late=True)) == {f"conveyor.{name}" for name in "abcdfg"}
    assert set(code.reached("conveyor.inner.h")) == {"conveyor.inner.h", "conveyor.inner", "conveyor.d"}


def test_it_holds_no_git_tests_parameters_or_data(engine, champion_image):
    listed = engine.containers.run(
        champion_image.id, ["find", "/app", "/opt", "/var/log/predictions"], network_mode="none", remove=True
    )
    paths = [Path(line) for line in listed.decode().splitlines()]
    assert "tests" not in {path.name for path in paths}
    ours = [path for path in paths if path.is_relative_to("/app") or "late_flights" in path.parts]
    assert {path.name for path in ours if path.parent == Path("/app")} == {"bundle", "code", "settings.json"}
    forbidden = {"params.yaml", "tests", ".git", "flights.csv.gz", "requirements", "data"}
    assert len(ours) > 20 and not {path.name for path in ours} & forbidden
    where_is_git = ["sh", "-c", "command -v git || echo none"]
    assert engine.containers.run(champion_image.id, where_is_git, network_mode="none", remove=True) == b"none\n"


def test_a_model_that_does_not_compile_brings_the_lock_of_its_bundle(engine, boosting):
    project, image = boosting
    lineage = json.loads((project.path / "build" / "champion" / "lineage.json").read_text())
    assert lineage["served"]["form"] == "arrays"
    site = json.loads(in_image(engine, image, SITE))
    locks = [(project.path / "requirements" / name).read_text() for name in ("model.txt", "serve.txt")]
    installed = {canonicalize_name(name): version for name, version in site["installed"].items()}
    del installed["late-flights"]
    needed = wanted(locks, site["python"])
    assert needed.pop("onnxruntime")  # what compiled models are answered with
    assert installed == needed and "scikit-learn" in installed
    listed = engine.containers.run(image, ["ls", "/app/bundle"], network_mode="none", remove=True).decode().split()
    assert listed == ["golden.json", "left-out.json", "lineage.json", "model.skops", "profile.json"]
    golden = json.loads((project.path / "build" / "champion" / "golden.json").read_text())["answers"]
    with running(engine, image, **HARDENED) as container:
        assert answers(container) == pytest.approx(golden, abs=1e-9)
