"""What serves besides the model: the files and settings that reach the container, the edge and the cluster."""

from __future__ import annotations

import tempfile
import tomllib
from pathlib import Path
from typing import Any

from conveyor.core import params
from conveyor.core.code import place_of, reached
from conveyor.core.errors import Misuse
from conveyor.core.git import GitError
from conveyor.core.project import Project
from conveyor.core.team import SOURCE
from conveyor.deploy.image import SERVER
from conveyor.model.bundle import Bundle
from conveyor.serving.settings import Settings

# These give containers their rights and limits. How a release is replaced (rollout.py) changes nothing that serves.
RUN_BY = tuple(f"src/conveyor/deploy/{name}.py" for name in ("cluster", "edge", "host", "pull_secret", "replicas"))


def paths(project: Project, bundle: Bundle) -> list[str]:
    """The files and folders that reach the image of a model or tell how it runs, relative to the root.

    The team's package is in the image only if the stored model serves; see ``deploy.image.serving_code``.
    """
    modules = (place_of(name) for name in reached(SERVER, late=True))
    code = sorted(f"src/{place.relative_to(SOURCE).as_posix()}" for place in modules if place)
    team = [] if bundle.form == "compiled" else [project.team.relative_to(project.root).as_posix()]
    return ["container", "requirements/serve.txt", *code, *RUN_BY, *team]


def changed(project: Project, bundle: Bundle, before: str) -> list[str]:
    """What of that was changed since an earlier commit, also if it was changed back: names of files and of sections.

    A delivery in between may have deployed it, or may be about to: only another one undoes that.

    Args:
        bundle: the model that is to serve; whether it served at ``before``, too, is for the caller to know.
        before: a commit of this repository.
    """
    since = f"{before}..{project.commit}"
    words = ("log", "-m", "--first-parent", "--format=", "--relative", "--name-only", "-z", since, "--")
    touched = project.git(*words, *paths(project, bundle)).split("\0")
    found = sorted({name.strip("\n") for name in touched} - {""})
    commits = project.git("rev-list", "--first-parent", since, "--", "params.yaml", "pyproject.toml").split()
    now, other = _settings(project.params, project.pyproject), set()
    try:
        for commit in (before, *commits):
            then = _settings(_params(project, commit), tomllib.loads(project.git("show", f"{commit}:./pyproject.toml")))
            other |= {name for name in now if now[name] != then[name]}
    except (GitError, Misuse, tomllib.TOMLDecodeError):
        return [*found, "params.yaml"]  # this version cannot read those of then: they may be other ones
    return found + sorted(other)


def _params(project: Project, commit: str) -> params.Params:
    """params.yaml of an earlier commit."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "params.yaml")
        path.write_bytes(project.git("show", f"{commit}:./params.yaml").encode())
        return params.load(path)


def _settings(given: params.Params, pyproject: dict[str, Any]) -> dict[str, Any]:
    """The settings that serve, by the section that holds them."""
    about = pyproject.get("project", {})
    return {
        "params.yaml: deploy": given.deploy,
        "params.yaml: serve, model.trusted_types, model.tolerance, data.private, gate.threshold": Settings.of(
            given, "", "", ""
        ),
        "pyproject.toml: project": [about.get(name) for name in ("name", "version", "license")],
    }
