"""Write build/report.md and build/report.html from the files of the earlier steps."""

from __future__ import annotations

from pydantic import ValidationError

from conveyor.core import ci
from conveyor.core.ci import annotate, summarise
from conveyor.core.errors import Misuse
from conveyor.core.files import read_json, to_json, write_text
from conveyor.core.project import Project
from conveyor.data import tables
from conveyor.gate import aa
from conveyor.gate.decision import Decision
from conveyor.gate.metrics import Labels
from conveyor.report import changed, wording
from conveyor.report.headline import headline
from conveyor.report.markdown import markdown
from conveyor.report.page import page
from conveyor.report.pictures import Scores
from conveyor.report.wording import Json, plain, verdict
from conveyor.steps.aa import asked


def judged_rows(project: Project, decision: Json) -> tuple[Labels, Scores]:
    """Labels and predictions of the judged rows, from the file of compare."""
    columns = ("label", "champion", "challenger")
    rows, _ = tables.read(project.build / "judged.parquet", columns, made_by="compare")
    roles = ("champion", "challenger") if decision["champion"] else ("challenger",)
    return rows["label"], {role: rows[role] for role in roles}


def aa_of(project: Project) -> Json | None:
    """The result of the A/A test, if there is one of these data and this rule.

    Not for a pull request, whose jobs may have written the file.

    Raises:
        Misuse: the file is damaged.
    """
    path = project.build / "aa.json"
    if not path.is_file() or project.pull:
        return None
    made = read_json(path, "aa", {"asked": str, "aa": dict})
    if made["asked"] != asked(project):
        return None
    try:
        return aa.Result.model_validate_json(to_json(made["aa"])).model_dump(mode="json")
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        raise Misuse(f"{path}: damaged, its `aa.{key}`; delete it and run `make aa`") from None


HEADER = {"commit": str, "dirty": bool, "created": str, "data_sha256": str}
VALIDATION = {**HEADER, "passed": bool, "failures": list, "expectations": list, "columns": list}
DECISION = {
    **HEADER,
    "challenger": dict,
    "decision": dict,
    "flags": list,
    "holdout_rows": int,
    "left_out.altered": int,
    "left_out.champion_trained": int,
    "rule_of": str,
    "warnings": list,
}


def run(project: Project) -> str:
    """Write build/report.md and build/report.html; in a workflow the Markdown also goes to the job's summary.

    Raises:
        Misuse: there is no validation.json, or a file of the run is damaged.
    """
    validation = read_json(project.build / "validation.json", "validate", VALIDATION)
    path, decision, made, before = project.build / "decision.json", None, None, None
    if validation["passed"] and path.is_file():
        decision = read_json(path, "compare", DECISION)
        try:
            made_then = Decision.model_validate_json(to_json(decision["decision"]))
            decision["decision"] = made_then.model_dump(mode="json")  # with the keys that an older one lacks
        except ValidationError as error:
            key = ".".join(map(str, error.errors()[0]["loc"]))
            raise Misuse(f"{path}: damaged, its `decision.{key}`; delete it and run `make compare`") from None
        if decision["data_sha256"] != validation["data_sha256"]:
            decision = None  # about earlier data
    if decision:
        made = changed.read(project.build / "candidate", wording.challenger_key(decision))
        before = changed.read(project.build / "champion", decision["champion"]["key"]) if decision["champion"] else None
    scored = judged_rows(project, decision) if decision else "nothing was judged"
    origin = ci.origin(project.environment, (decision or validation)["commit"])
    text = markdown(validation, decision, made, before, origin)
    write_text(project.build / "report.md", text)
    html = page(validation, decision, made, scored, project.package, before, aa_of(project), origin)
    write_text(project.build / "report.html", html)
    summarise(project.environment, text)
    outcome, reason = verdict(validation, decision)
    said = headline(validation, decision)
    level = {"bad": "error", "warn": "warning"}.get(said.tone, "notice")
    annotate(project.environment, level, f"Verdict: {outcome}. {said.title}", plain(reason))
    where = (project.build / "report.html").relative_to(project.root).as_posix()
    return f"{outcome}: {where}"
