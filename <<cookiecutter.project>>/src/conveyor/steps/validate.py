"""Check the data against the contract in expectations/data.json, before anything is trained."""

from __future__ import annotations

from typing import Any

import pandas as pd

from conveyor.core.ci import foreign, outputs
from conveyor.core.errors import Misuse, Refused
from conveyor.core.files import new_directory, write_json
from conveyor.core.frozen import shown
from conveyor.core.project import Project
from conveyor.data import columns, source, split
from conveyor.data.contract import EXAMPLES, MEND, SUITE, UNCHECKED, Outcome, read_suite, validate
from conveyor.data.source import frame_of

UNJUDGED = (
    "the data need credentials, which this pull request does not get; main judges what is merged, or push the branch to"
    " this repository to have it judged before"
)


ANOTHER = (
    "so it asks another question, which the champion cannot answer. Merge it if that is meant: on main the verdict is"
    " incomparable until a person runs the workflow approve, or make approve"
)


def _another_question(project: Project) -> str | None:
    """What a pull request asks for instead of what its base asks for."""
    base, pull = project.base_data, project.pull_data
    found = [
        f"data.{name} {shown(before)} becomes {shown(after)}"
        for name in ("task", "target")
        if (before := getattr(base, name)) != (after := getattr(pull, name))
    ]
    return f"{' and '.join(found)}, {ANOTHER}" if found else None


def failures(project: Project, frame: pd.DataFrame, outcomes: list[Outcome]) -> list[str]:
    """The faults of the data, a sentence each, the most important first."""
    broken = [outcome for outcome in outcomes if not outcome.passed]
    listed = [o for o in broken if "match_ordered_list" in o.type]
    missing = {o.column for o in broken if o.column and o.column not in frame.columns} if listed else set()
    in_rows = {o.column for o in broken if "rows differ" in o.detail}

    def follows(o: Outcome) -> bool:
        """Whether it fails only because of another one, which names the cause."""
        # A missing or infinite value turns whole numbers into floats: that row is the one to fix.
        floats = "type" in o.type.removeprefix("expect_") and "found float" in o.detail
        return UNCHECKED in o.detail or o.column in missing or (floats and o.column in in_rows)

    told = listed + [o for o in broken if o not in listed and not follows(o)]
    lines = [outcome.detail for outcome in told or broken]
    return lines or _shared(project, frame)


def _shared(project: Project, frame: pd.DataFrame) -> list[str]:
    """Rows on both sides of the split: a model that has learnt them by heart would look good."""
    names, allowed = project.params.data, project.params.split.shared_rows
    again = split.repeated_keys(frame, names)
    if len(again):
        rows = ", ".join(str(position + 1) for position in again[:EXAMPLES])
        key = ", ".join(names.key)
        return [
            f"{len(again)} rows repeat the key ({key}) of a row before them, such as row {rows}; a key names one row"
        ]
    try:
        columns.labels(frame, names)
        trained = split.split(frame, names, project.params.split, project.params.gate.block).trained_on(frame)
    except Refused as refused:
        return [str(refused).removeprefix(f"{names.path}: ")]
    shared = split.shared_rows(frame, trained, names)
    if len(shared) <= allowed:
        return []
    rows = ", ".join(str(position + 1) for position in shared[:EXAMPLES])
    return [
        f"the holdout and the training rows share more rows than {allowed}, equal in all features and the target:"
        f" {len(shared)}, such as row {rows}; drop them, or allow as many by split.shared_rows in params.yaml"
    ]


def run(project: Project) -> str:
    """Write build/validation.json and the Data Docs.

    If the data are elsewhere and a pull request gets no credentials for them, such as one from a fork, nothing is
    judged, and that is no error. Nor is anything judged where a pull request asks another question than its base.
    """
    header, names = project.header(), project.params.data
    verdict: dict[str, Any] = {**header, "passed": False, "rows": None, "columns": [], "expectations": [], "docs": None}
    place = project.build / "validation.json"

    def unjudged(why: str) -> str:
        write_json(place, {**verdict, "failures": [why], "unjudged": why})
        outputs(project.environment, judged="false")
        return f"not judged: {why}"

    if other := _another_question(project):
        return unjudged(other)
    try:
        suite, frame = read_suite(project.root / SUITE), frame_of(project)
        with new_directory(project.build / "data_docs") as docs:
            outcomes = validate(frame, suite, docs)
    except source.NoAccess as error:
        # A pull request that names other data is still an error: nobody could read them before the merge.
        excused = foreign(project.environment) and names.path == project.base_data.path
        if excused:
            return unjudged(UNJUDGED)
        write_json(place, {**verdict, "failures": [str(error)]})
        raise
    except source.NoColumn as error:
        if project.pull:
            return unjudged(f"{str(error).partition('; ')[0]}, {ANOTHER}")
        write_json(place, {**verdict, "failures": [str(error)]})
        raise
    except Misuse as error:
        # Unreadable data get a verdict, too: the report says why nothing was trained, and an older verdict is replaced.
        write_json(place, {**verdict, "failures": [str(error)]})
        raise
    told = failures(project, frame, outcomes)
    verdict |= {
        "passed": not told,
        "rows": len(frame),
        "columns": list(frame.columns),
        "failures": [f"{names.path}: {line}" for line in told],
        "expectations": [outcome.__dict__ for outcome in outcomes],
        "docs": (project.build / "data_docs" / "index.html").relative_to(project.root).as_posix(),
    }
    write_json(place, verdict)
    if told:
        more = f" (and {len(told) - 1} more in {verdict['docs']})" if len(told) > 1 else ""
        # If the contract holds, each line has its own advice.
        mend = f"; {MEND}" if any(not outcome.passed for outcome in outcomes) else ""
        raise Refused(f"{verdict['failures'][0]}{more}{mend}")
    return f"{len(outcomes)} expectations hold on {len(frame)} rows"
