"""Several files that change at once. After a kill all of them are as before, or the next run replaces the rest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

from conveyor.core.files import new_directory, to_json, write_bytes
from conveyor.core.project import Project

PLAN = "build/adopt"


def carry_out(project: Project, changes: dict[str, bytes | None]) -> None:
    """Replace files: first all of them are written beside, with a plan, then they take their places.

    Args:
        changes: the content of each file by its path in the repository; None: file or folder goes.
    """
    with new_directory(project.root / PLAN) as new:
        for number, content in enumerate(changes.values()):
            if content is not None:
                (new / str(number)).write_bytes(content)
        plan = [[name, content is not None] for name, content in changes.items()]
        (new / "plan.json").write_text(to_json(plan), encoding="utf-8")
    finish(project, None)


def finish(project: Project, say: Callable[[str], None] | None) -> bool:
    """Carry out the plan of this process, or of one that was killed. Returns whether there was one."""
    place = project.root / PLAN
    if not (place / "plan.json").is_file():
        return False
    if say:
        say("first     the files of an earlier run, which was killed, take their places")
    for number, (name, written) in enumerate(json.loads((place / "plan.json").read_text(encoding="utf-8"))):
        target = project.root / name
        if written:
            write_bytes(target, (place / str(number)).read_bytes())
        elif target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)
    (place / "plan.json").unlink()  # first: without its files a plan is none
    shutil.rmtree(place)
    return True
