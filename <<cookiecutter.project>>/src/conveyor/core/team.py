"""The team's own code, by its names in params.yaml: package.module:name."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from conveyor.core.errors import Misuse, at_fault

SOURCE = Path(__file__).resolve().parents[2]  # the folder of both packages
MACHINERY = "conveyor"
REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+:[A-Za-z_]\w*")


def imported(module: str, key: str) -> tuple[Path, ModuleType]:
    """A module of the team, and its file.

    Args:
        module: its full name.
        key: the key of params.yaml that names it.

    Raises:
        Misuse: the module does not exist, or does not load; the line names the place.
    """
    where = f"params.yaml: {key}: {module}"
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:
        spec = None
    except (Exception, SystemExit) as error:
        # To find a module Python runs the packages around it, which are the team's code, too.
        raise Misuse(f"{where}: {type(error).__name__}: {' '.join(str(error).split())[:300]}; mend it") from error
    if spec is None or not spec.origin:
        raise Misuse(f"{where}: there is no such module in src; mend the name")
    file = Path(spec.origin)
    if SOURCE not in file.parents or SOURCE / MACHINERY in file.parents:
        raise Misuse(f"{where}: is none of your own modules; write one in src, beside the machinery")
    try:
        return file, import_module(module)
    except (Exception, SystemExit) as error:
        more = "" if isinstance(error, SyntaxError) else ", or add a library that it needs to requirements"
        raise at_fault(error, file, f"mend that line{more}") from error
