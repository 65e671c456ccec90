"""`make try` for experiments: change a parameter, and see the difference with its interval."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from conveyor.core.errors import Misuse, Refused
from conveyor.core.files import read_json
from conveyor.core.project import Project
from conveyor.core.yaml_file import UniqueKeys
from conveyor.steps.pipeline import BY_NAME, alone, show


def overrides(changes: list[str]) -> dict[str, object]:
    """``["model.seed=8"]`` as ``{"model.seed": 8}``; values are YAML, and one text may hold several changes.

    Raises:
        Misuse: there is no change, or one has no equals sign, or a value is no YAML.
    """
    given: dict[str, object] = {}
    # A space begins another change only before `name=`: a value may hold spaces.
    for change in re.split(r"\s+(?=[\w.-]+=)", " ".join(changes).strip()):
        name, equals, value = change.partition("=")
        if not equals or not name:
            told = f"{change}: not a change" if change else "try: nothing is changed"
            raise Misuse(f'{told}; write it as make try SET="model.seed=8"')
        try:
            given[name] = yaml.load(value, Loader=UniqueKeys)
        except yaml.YAMLError:
            raise Misuse(f"{name}: the value {value[:60]} is not YAML; quote it") from None
    return given


def run(root: Path, changes: list[str]) -> None:
    """Validate, train, score and compare in build/try; the ledger is only read, the candidate does not change."""
    project = Project(root, overrides=overrides(changes), build="build/try")
    try:
        with alone(project):
            for name in ("validate", "train", "score", "compare"):
                show(BY_NAME[name], project)
    except Refused:
        if not (project.build / "decision.json").is_file():
            raise  # else the verdict follows
    decision = read_json(project.build / "decision.json", made_by="try")["decision"]
    print(
        f"\n{'metric':<18} {'champion':>9} {'trial':>9} {'gain':>9}   interval ({decision['confidence']:.0%} each side)"
    )
    for metric in decision["metrics"]:
        numbers = [metric["champion"], metric["challenger"], metric["gain"]]
        shown = " ".join(f"{'-' if value is None else format(value, '.4f'):>9}" for value in numbers)
        interval = "" if metric["gain_low"] is None else f"[{metric['gain_low']:+.4f}, {metric['gain_high']:+.4f}]"
        print(f"{metric['name']:<18} {shown}   {interval}")
    print(f"\n{decision['outcome']}: {decision['reason']}")
    print("Nothing was promoted; put the change into params.yaml to propose it.")
