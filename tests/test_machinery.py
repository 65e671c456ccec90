"""Risk: the machinery outgrows its layout: long modules, empty layers, circular imports, a verb for one system only."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, TEMPLATE

MACHINERY = TEMPLATE / "src" / "conveyor"
LINES = 400  # of a module
POSIX = {"crypt", "fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}  # not on Windows
OF_POSIX = {"fork", "geteuid", "getuid", "killpg", "mkfifo", "setsid", "SIGALRM", "SIGHUP", "SIGKILL", "SIGUSR1"}
SHELLS = {"bash", "cmd", "dash", "powershell", "sh", "zsh"}


def parsed() -> dict[str, ast.Module]:
    """Each module of the machinery by its path from there."""
    files = sorted(MACHINERY.rglob("*.py"))
    return {file.relative_to(MACHINERY).as_posix(): ast.parse(file.read_text(encoding="utf-8")) for file in files}


def test_no_module_is_longer_than_its_limit():
    lengths = {file.name: len(file.read_text(encoding="utf-8").splitlines()) for file in MACHINERY.rglob("*.py")}
    assert len(lengths) > 100 and {name: lines for name, lines in lengths.items() if lines > LINES} == {}


def test_no_package_holds_one_module_alone():
    packages = [file.parent for file in MACHINERY.rglob("__init__.py")]
    assert len(packages) > 10
    assert [package.name for package in packages if len(list(package.glob("*.py"))) < 3] == []


def only_passes_on(module: ast.Module) -> bool:
    """Whether it has imports, perhaps ``__all__``, and nothing of its own."""
    own = [node for node in module.body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))]
    names = [node for node in own if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"]
    imports = [node for node in own if isinstance(node, ast.Import | ast.ImportFrom)]
    return bool(imports) and len(imports) + len(names) == len(own)


def test_only_the_public_face_re_exports():
    assert [name for name, module in parsed().items() if only_passes_on(module)] == ["api.py"]


def test_the_public_face_is_explained_and_the_model_of_the_sample_imports_nothing_else():
    api = parsed()["api.py"]
    [names] = [ast.literal_eval(node.value) for node in api.body if isinstance(node, ast.Assign)]
    assert sorted(re.findall(r"(?m)^(\w+)$", ast.get_docstring(api))) == sorted(names)
    model = (TEMPLATE / "src/<<cookiecutter.__package>>/model.py").read_text(encoding="utf-8")
    assert set(re.findall(r"(?m)^\s*(?:from|import) (conveyor\b[\w.]*)", model)) == {"conveyor.api"}


@pytest.mark.parametrize(
    ("name", "line", "broken"),
    [
        ("core/errors.py", "import conveyor.data.tables", "imports run down"),
        ("gate/decide.py", "import conveyor.core.files", "the gate is pure"),
        ("ledger/damage.py", "import conveyor.ledger.bundles", "no cycle"),
    ],
)
def test_the_contract_refuses_an_import_upwards_a_file_in_the_gate_and_a_cycle(tmp_path, name, line, broken):
    shutil.copytree(MACHINERY, tmp_path / "conveyor", ignore=shutil.ignore_patterns("__pycache__"))
    file = tmp_path / "conveyor" / name
    file.write_text(f"{file.read_text()}\n{line}\n")
    words = [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache", ROOT / "pyproject.toml"]
    done = subprocess.run(words, cwd=tmp_path, env={"PYTHONPATH": "."}, capture_output=True, text=True)
    assert done.returncode == 1 and f"{broken} BROKEN" in done.stdout


def at_import(node: ast.AST) -> list[ast.AST]:
    """What runs when a module is imported: everything outside of functions."""
    inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    return [] if inside else [node, *(each for child in ast.iter_child_nodes(node) for each in at_import(child))]


def imported(node: ast.AST) -> set[str]:
    """The first parts of the names that an import names."""
    if isinstance(node, ast.ImportFrom):
        return {(node.module or "").partition(".")[0]}
    return {alias.name.partition(".")[0] for alias in node.names} if isinstance(node, ast.Import) else set()


def test_every_module_can_be_imported_where_the_modules_of_posix_are_missing():
    found = {(name, each) for name, module in parsed().items() for node in at_import(module) for each in imported(node)}
    assert ("core/git.py", "subprocess") in found
    assert [(name, module) for name, module in found if module in POSIX] == []


def test_only_the_server_of_the_image_uses_what_windows_lacks_without_asking_for_it():
    used = {
        name
        for name, module in parsed().items()
        for node in ast.walk(module)
        if isinstance(node, ast.Attribute) and node.attr in OF_POSIX and ast.unparse(node.value) in ("os", "signal")
    }
    assert used == {"core/git.py", "serving/isolated.py"}
    asked = [node for node in ast.walk(parsed()["core/git.py"]) if isinstance(node, ast.IfExp)]
    assert "hasattr(os, 'killpg')" in [ast.unparse(node.test) for node in asked]


def shell(call: ast.Call) -> bool:
    """Whether a call starts a shell: by an option, by a function for that, or as the first word of a command."""
    called = ast.unparse(call.func)
    if called in ("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"):
        return True
    if any(keyword.arg == "shell" for keyword in call.keywords):
        return True
    words = [each for given in call.args for each in (given.elts[:1] if isinstance(given, ast.List) else [given])]
    return any(isinstance(word, ast.Constant) and word.value in SHELLS for word in words)


def test_no_verb_starts_a_shell_on_the_machine_where_it_runs():
    calls = [
        (name, ast.unparse(node.func))
        for name, module in parsed().items()
        for node in ast.walk(module)
        if isinstance(node, ast.Call) and shell(node)
    ]
    assert calls == [("deploy/edge.py", "run_inside")]  # in the container of the edge
