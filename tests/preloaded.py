"""Runs `python -m MODULE` in a process of its own that need not import the libraries again.

Most of a command's time is the import of scikit-learn, MLflow and Great Expectations, and the tests run hundreds of
commands. Each worker has one process that has imported the libraries, and nothing of the product; a command is a fork
of it with arguments, environment, folder and streams of its own. What only an interpreter shows that has just started
(a forgotten import, a variable that a library reads while it loads) is seen wherever a command goes through make: in
the first push of the workflows under act, and in the tests that call `make`.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from functools import cache
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from unittest.mock import patch

LIBRARIES = [
    "alembic.command",
    "cookiecutter.cli",
    "docker",
    "filelock",
    "git",
    "great_expectations",
    "great_expectations.render.renderer.site_builder",
    "hatchling.bridge.app",
    "hatchling.builders.wheel",
    "hatchling.metadata.core",
    "matplotlib.backends.backend_svg",
    "matplotlib.figure",
    "matplotlib.style",
    "mlflow.models.display_utils",
    "mlflow.pyfunc",
    "mlflow.sklearn",
    "mlflow.tracing.processor.base_mlflow",
    "mlflow.tracing.processor.otel",
    "onnxruntime",
    "packaging.licenses",
    "pandas",
    "pyarrow.csv",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "skl2onnx",
    "sklearn.compose",
    "sklearn.ensemble",
    "sklearn.impute",
    "sklearn.linear_model",
    "sklearn.pipeline",
    "sklearn.preprocessing",
    "skops.io",
    "trove_classifiers",
    "typer",
    "tzdata",
    "preloaded_first_use",
    "preloaded_mlflow",
]
SECONDS = 900

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload([__name__, *LIBRARIES])


def run(argv: list[str], cwd: Path, env: dict[str, str], born: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """What `subprocess.run` would give for `python -m` and these words.

    Args:
        argv: the module and its arguments.
        env: the whole environment of the command.
        born: the environment in which the libraries are imported, at the first call.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "stdout", Path(folder) / "stderr"
        process = start(argv, cwd, env, born, out, err)
        process.join(SECONDS)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(argv, SECONDS)
        return subprocess.CompletedProcess(argv, process.exitcode, out.read_text(), err.read_text())


def start(argv: list[str], cwd: Path, env: dict[str, str], born: dict[str, str], out: Path, err: Path) -> BaseProcess:
    """The same as a process that runs, with files for its streams."""
    _begin(tuple(born.items()))
    out.touch(), err.touch()
    process = _forks.Process(target=_command, args=(argv, str(cwd), env, str(out), str(err)))
    process.start()
    return process


@cache
def _begin(born: tuple[tuple[str, str], ...]) -> None:
    # Before Python 3.11.9 it does not take over sys.path, and it is silent about a module that it does not find.
    place = {"PYTHONPATH": str(Path(__file__).parent)}
    with patch.dict(os.environ, dict(born) | place, clear=True):
        forkserver.ensure_running()


def _command(argv: list[str], cwd: str, env: dict[str, str], out: str, err: str) -> None:
    for number, path in enumerate((out, err), 1):
        os.dup2(os.open(path, os.O_WRONLY), number)
    missing = [library for library in LIBRARIES if library not in sys.modules]
    assert not missing, f"not preloaded: {missing}"
    become(argv, cwd, env)


def become(argv: list[str], cwd: str, env: dict[str, str]) -> None:
    """Runs `python -m` with these words in this process, which is a fork: in that folder, with that environment."""
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    installed = [entry for entry in sys.path if entry.startswith((sys.prefix, sys.base_prefix))]
    sys.path[:] = [cwd, *filter(None, env.get("PYTHONPATH", "").split(os.pathsep)), *installed]
    sys.argv[1:] = argv[1:]
    sys.dont_write_bytecode = bool(env.get("PYTHONDONTWRITEBYTECODE"))
    try:
        runpy.run_module(argv[0], run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()
