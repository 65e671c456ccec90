"""The code of a model as a wheel: the team's package and the machinery."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path

from conveyor.core.errors import Misuse
from conveyor.core.project import Project


def pack_code(project: Project) -> tuple[str, bytes]:
    """The wheel of both packages: its name and its bytes, equal for equal code.

    Raises:
        Misuse: pyproject.toml is missing, or does not describe a package.
    """
    from hatchling.builders.wheel import WheelBuilder

    project.needed("pyproject.toml")
    for package in {module.parent for module in project.team.rglob("*.py")}:
        if not (package / "__init__.py").is_file():
            place = package.relative_to(project.root).as_posix()
            raise Misuse(f"{place}: has modules and no __init__.py, so no wheel can import them; add an empty one")
    with tempfile.TemporaryDirectory() as folder:
        try:
            made = Path(next(WheelBuilder(str(project.root)).build(directory=folder, versions=["standard"])))
        except OSError:
            raise
        except Exception as error:
            # hatchling and the TOML reader may raise any exception: its cause is pyproject.toml.
            reason = " ".join(str(error).split())[:200]
            raise Misuse(f"pyproject.toml: makes no wheel: {reason}; mend it") from error
        return made.name, made.read_bytes()


def scorer(wheel: Path) -> str:
    """The module of a bundle's wheel that scores its model, see ``scoring.main``.

    In a wheel from before the machinery was a package of its own, it is in the team's package.

    Raises:
        Misuse: the wheel has none.
    """
    try:
        with zipfile.ZipFile(wheel) as code:
            names = code.namelist()
    except (OSError, zipfile.BadZipFile):
        names = []
    found = [name for name in names if name == "conveyor/model/scoring.py" or name.count("/") == 1]
    found = [name for name in found if name.endswith(("/scoring.py", "/score.py"))]
    if not found:
        raise Misuse(f"{wheel}: holds no code that scores a model; restore the bundle")
    return found[0].removesuffix(".py").replace("/", ".")
