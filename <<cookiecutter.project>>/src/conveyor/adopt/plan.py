"""Replace several files at once. After a kill all of them are as before, or the next run replaces the rest.

A plan that no longer fits is dropped: it never overwrites what a person has changed or fetched since.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

from conveyor.core.files import new_directory, sha256, to_json, write_bytes
from conveyor.core.project import PLAN, Project
from conveyor.steps.pipeline import digest


def carry_out(project: Project, changes: dict[str, bytes | None]) -> None:
    """Replace files: first all of them are written beside, with a plan, then they take their places.

    Args:
        changes: the content of each file by its path in the repository; None: file or folder goes.
    """
    with new_directory(project.root / PLAN) as new:
        plan = []
        for number, (name, content) in enumerate(changes.items()):
            if content is not None:
                (new / str(number)).write_bytes(content)
            after = "absent" if content is None else sha256(content)
            plan.append([name, digest(project.root / name), after])
        (new / "plan.json").write_text(to_json(plan), encoding="utf-8")
    finish(project, None)


def finish(project: Project, say: Callable[[str], None] | None) -> bool:
    """Carry out the plan of this process, or of one that was killed. Returns whether it was."""
    place = project.root / PLAN
    if not (place / "plan.json").is_file():
        return False
    plan = json.loads((place / "plan.json").read_text(encoding="utf-8"))
    changed = [name for name, before, after in plan if digest(project.root / name) not in (before, after)]
    if say and changed:
        say(f"first     drops the files of an earlier run, which was killed: {changed[0]} has changed since")
    elif say:
        say("first     the files of an earlier run, which was killed, take their places")
    for number, (name, _, after) in enumerate([] if changed else plan):
        target = project.root / name
        if after != "absent":
            write_bytes(target, (place / str(number)).read_bytes())
        elif target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)
        for left in target.parent.glob(".writing-*"):  # of the run that was killed
            left.unlink(missing_ok=True)
    (place / "plan.json").unlink()  # first: without its files a plan is none
    shutil.rmtree(place)
    return not changed
