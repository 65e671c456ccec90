"""What the pinned actions take and give, as tools/actions.py recorded it, and what differs from that record.

GitHub drops an input that an action does not declare, with a warning, and reads an output that it does not give as
nothing: both are faults here, of a workflow and of a stand-in.
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
STANDINS = Path(__file__).parent / "standins"
RECORD = json.loads((STANDINS / "actions.json").read_text(encoding="utf-8"))
RUNNERS = ("node24",)  # what GitHub's runners start; node20 is taken away from them
PINNED = re.compile(r"composite: [\w./-]+@[0-9a-f]{40}(, [\w./-]+@[0-9a-f]{40})*")  # it uses nothing that can change

sys.path.insert(0, str(ROOT / "tools"))
from actions import described  # noqa: E402 (the tools are no package: the line before leads to them)

INDEX = re.compile(r"\[\s*'([\w-]+)'\s*\]")
READ = re.compile(r"\bsteps\.([\w-]+)\.outputs\b(?:\.([\w-]+))?")


def standins() -> dict[str, dict]:
    """action -> what its stand-in declares."""
    files = sorted(STANDINS.glob("*/*/action.yml"))
    return {str(path.parent.relative_to(STANDINS)): described(path.read_text(encoding="utf-8")) for path in files}


def faults_of_step(step, record=RECORD) -> list[str]:
    """What GitHub would not do as a step says that uses an action by ``owner/name@commit``."""
    action, _, commit = step["uses"].partition("@")
    known, given = record.get(action), step.get("with") or {}
    if known is None:
        return [f"{action} is not in the record of tools/actions.py"]
    found = []
    if commit != known["commit"]:
        found.append(f"{action} is pinned at {commit}, and recorded at {known['commit']}")
    if known["using"] not in RUNNERS and not PINNED.fullmatch(known["using"]):
        found.append(f"{action} runs on {known['using']}, and runners start {' or '.join(RUNNERS)}")
    for name in given:
        if name not in known["inputs"]:
            found.append(f"{action} has no input {name}")
        elif "deprecated" in known["inputs"][name]:
            found.append(f"the input {name} of {action} is deprecated: {known['inputs'][name]['deprecated']}")
    for name, each in known["inputs"].items():
        if each["required"] and each["default"] is None and given.get(name) in (None, ""):
            found.append(f"{action} requires the input {name}")
    return found


def faults_of_outputs(place, steps, given=RECORD) -> list[str]:
    """The outputs of ``steps`` that ``place``, a job or a composite action, reads and the action does not give."""
    actions = {
        step["id"]: step["uses"].partition("@")[0] for step in steps if "id" in step and "@" in step.get("uses", "")
    }
    found = []
    for step, name in READ.findall(INDEX.sub(r".\1", json.dumps(place))):
        outputs = given.get(actions.get(step), {}).get("outputs", [])
        if step in actions and name not in outputs:
            found.append(f"{actions[step]} has no output {name}" if name else f"name the outputs of {step} one by one")
    return found


def faults_of_standin(action, told, record=RECORD) -> list[str]:
    """Where what a stand-in declares differs from what the action declares that it stands in for."""
    if action not in record:
        return [f"{action} is not in the record of tools/actions.py"]
    found, known = [], record[action]
    for name, mine in told["inputs"].items():
        real = known["inputs"].get(name)
        if real is None:
            found.append(f"{action} has no input {name}")
            continue
        for key in ("default", "required"):
            if mine[key] != real[key]:
                found.append(f"{key} of the input {name} of {action} is {real[key]!r}, of its stand-in {mine[key]!r}")
    return found + [f"{action} has no output {name}" for name in told["outputs"] if name not in known["outputs"]]
