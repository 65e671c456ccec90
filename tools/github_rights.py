"""Who asks GitHub's API for what, with which right: by the code, the Makefiles and the workflows, and no list by hand.

`chapter` is the table for docs/workflows.md; `problems` is what is wrong with it, one line each.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from github_calls import Module
from github_needs import ACTIONS, COMMANDS, NEEDS, PULLS, Need, level

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = ROOT / "<<cookiecutter.project>>"
MACHINERY = PRODUCT / "src" / "conveyor"
# Only these know the address of the API, or start gh: else a request could be missed.
ADDRESS = re.compile(r"api_url|GITHUB_API_URL|api\.github\.com")
KNOW_IT = ("core/environment.py", "github/api.py", "tools/api.py")
GH = re.compile(r'\["gh", ')
START_IT = ("github/attested.py", "github/ledger_key.py", "github/setup.py")
# The tools that write workflows' and tests' files; what they say about the API is no request.
ABOUT_IT = ("tools/github_calls.py", "tools/github_needs.py", "tools/github_rights.py", "tools/github_schemas.py")
# The verbs for which a person is logged in to gh, and what the person types.
BY_HAND = {"github-setup": "`make github-setup`", "ledger-key": "`make github-setup LEDGER_KEY=1`"}
COLUMNS = ("request", "permission", "where", "depends on")


@dataclass(frozen=True)
class Asked:
    """One operation, as the step of a job asks for it.

    Attributes:
        by: the verb, script or action that asks.
        pull: whether the job is about a pull request.
        rights: of the job.
        token: whether the step is given the token.
    """

    operation: str
    repository: str
    workflow: str
    job: str
    by: str
    pull: bool
    rights: dict[str, str]
    token: bool

    @property
    def allowed(self) -> bool:
        enough = ("write",) if level(self.operation) == "write" else ("read", "write")
        named = [
            each
            for each in (NEEDS | COMMANDS)[self.operation].any_of
            if each != PULLS or self.pull or " /pulls" in self.operation
        ]
        return any(self.rights.get(permission) in enough for permission in named)


@cache
def modules() -> dict[str, Module]:
    """All modules that could ask, by their place under the machinery or under this repository."""
    found = {path.relative_to(MACHINERY).as_posix(): path for path in sorted(MACHINERY.rglob("*.py"))}
    tools = {path.relative_to(ROOT).as_posix(): path for path in sorted((ROOT / "tools").glob("*.py"))}
    return {name: Module(path) for name, path in (found | tools).items() if name not in ABOUT_IT}


def verbs(known: dict[str, Module]) -> dict[str, dict[str, set[str]]]:
    """The operations of each verb of the product and of each script of the template, by the module that asks.

    A verb that asks for nothing is not there.
    """
    cli = [Module(path) for path in sorted((MACHINERY / "cli").glob("*.py"))]
    [acts] = [ast.literal_eval(module.top["ACTS"].value) for module in cli if "ACTS" in module.top]
    found = {verb: _operations(known, *_place(dotted)) for verb, dotted in acts.items()}
    for command in (each for module in cli for each in module.tree.body):
        if not isinstance(command, ast.FunctionDef) or not (verb := _verb(command)):
            continue
        imported = {
            each.asname or each.name: f"{node.module}.{each.name}".removeprefix("conveyor.")
            for node in ast.walk(command)
            if isinstance(node, ast.ImportFrom)
            for each in node.names
        }
        for node in ast.walk(command):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in imported:
                place = _place(f"{imported[node.value.id]}.{node.attr}")
                found[verb] = found.get(verb, {}) | _operations(known, *place)
    for name, module in known.items():
        if name.startswith("tools/"):
            found |= {f"{name} {function}": _operations(known, name, function) for function in module.top}
    return {verb: by for verb, by in found.items() if by}


def _place(dotted: str) -> tuple[str, str]:
    """The module and the function of "github.comment.run"."""
    module, _, function = dotted.rpartition(".")
    return f"{module.replace('.', '/')}.py", function


def _verb(command: ast.FunctionDef) -> str:
    for each in command.decorator_list:
        if isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute) and each.func.attr == "command":
            return each.args[0].value if each.args else command.name.replace("_", "-")
    return ""


def _operations(known: dict[str, Module], name: str, function: str) -> dict[str, set[str]]:
    """What a function asks for, by the module that does; also through the functions that it imports."""
    if (module := known.get(name)) is None:
        return {}
    reached = module.reached(function)
    found = {call.operation for call in module.calls if call.where in reached}
    told = {name: found} if found else {}
    for dotted in sorted(reached):
        if dotted.startswith("conveyor."):
            for by, operations in _operations(known, *_place(dotted.removeprefix("conveyor."))).items():
                told[by] = told.get(by, set()) | operations
    return told


def targets(makefile: Path) -> dict[str, list[str]]:
    """What each target of a Makefile runs: verbs of the product, and scripts of the template with their argument."""
    found: dict[str, list[str]] = {}
    target = ""
    for line in makefile.read_text(encoding="utf-8").splitlines():
        if begins := re.match(r"([a-z-]+):", line):
            target = begins[1]
        for verb, script, argument in re.findall(r"\$\(RUN\) ([a-z-]+)|(tools/\w+\.py)(?: (\w+))?", line):
            found.setdefault(target, []).append(verb or f"{script} {argument or target}")
    return found


def asked(repository: str, makefile: Path, workflows: dict[str, dict[str, Any]]) -> list[Asked]:
    """Every operation that a step of a workflow asks for.

    Args:
        repository: "generated" or "template".
        workflows: parsed, by name; YAML 1.1 reads their `on` as true.
    """
    by_verb, run_by = verbs(modules()), targets(makefile)
    found = []
    for workflow, parsed in workflows.items():
        for job, body in parsed["jobs"].items():
            for step in body["steps"]:
                # An action has the token by itself: it is the default of an input.
                token = "github.token" in step.get("env", {}).get("GITHUB_TOKEN", "") or "uses" in step
                for by, operation in _of(step, run_by, by_verb):
                    about = (repository, workflow, job, by, "pull_request" in parsed[True])
                    found.append(Asked(operation, *about, body.get("permissions") or {}, token))
    return found


def _of(step: dict[str, Any], run_by: dict[str, list[str]], by_verb: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What one step asks for: by which verb, script or action, and the operation."""
    action = step.get("uses", "").partition("@")[0]
    yield from ((action, operation) for operation in ACTIONS.get(action, ()))
    make, *words = step.get("run", "").split() or [""]
    for word in words if make == "make" else ():
        for verb in run_by.get(word, ()):
            for operations in by_verb.get(verb, {}).values():
                yield from ((verb.partition(" ")[0], operation) for operation in sorted(operations))


def problems(found: list[Asked], known: dict[str, Module]) -> list[str]:
    """What is wrong: a right or a token that is missing, a request that no verb leads to, one past the client."""
    told = []
    for each in found:
        place = f"{each.repository}: {each.workflow}/{each.job}: {each.operation} ({each.by})"
        if not each.allowed:
            told.append(f"{place} needs {needs(each.operation)}, and the job may {each.rights or 'nothing'}")
        if not each.token:
            told.append(f"{place}: the step has no GITHUB_TOKEN")
    reached = {(name, operation) for by in verbs(known).values() for name, all_ in by.items() for operation in all_}
    for name, module in known.items():
        lost = {call for call in module.calls if (name, call.operation) not in reached}
        told += [f"{name}: {call.operation} in {call.where}: no verb leads to it" for call in sorted(lost, key=str)]
        text = module.path.read_text(encoding="utf-8")
        for pattern, allowed in ((ADDRESS, KNOW_IT), (GH, START_IT)):
            if (seen := pattern.search(text)) and name not in allowed:
                told.append(f"{name}: {seen[0]}: GitHub is asked through {', '.join(allowed)} only")
    return list(dict.fromkeys(told))


def needs(operation: str) -> str:
    """The cell of what an operation needs."""
    need = (NEEDS | COMMANDS)[operation]
    return " or ".join(f"`{permission}: {level(operation)}`" for permission in need.any_of) or "nothing"


def depends(need: Need) -> str:
    """The cell of what else it hangs on, with the source that says so."""
    if not need.note:
        return ""
    return need.note + (f' ("{need.page}")' if need.page else "")


def chapter(found: list[Asked]) -> str:
    """The chapter of the page: what workflows ask for, and what a person does through gh."""
    by_verb = verbs(modules())
    jobs: dict[str, dict[str, None]] = {}
    for each in found:
        place = "the template's " if each.repository == "template" else ""
        jobs.setdefault(each.operation, {})[f"{place}{each.workflow}/{each.job}"] = None
    people: dict[str, dict[str, None]] = {}
    for verb, typed in BY_HAND.items():
        for operation in set().union(*by_verb[verb].values()):
            people.setdefault(operation, {})[typed] = None
    return "\n".join([INTRODUCTION, *_table(jobs), "", PERSON, *_table(people), ""])


def _table(rows: dict[str, dict[str, None]]) -> list[str]:
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    order = sorted(rows, key=lambda name: (name not in NEEDS, name.partition(" ")[2], name))
    for name in order:
        cells = (
            f"`{name}`" if name[-1] != " " else f"`{name}/`",
            needs(name),
            "<br>".join(rows[name]),
            depends((NEEDS | COMMANDS)[name]),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return lines


INTRODUCTION = """## Calls of GitHub's API

`make docs` found them in the code, and the jobs in the workflows; a test fails where a job may not do what it asks for.
A path is relative to the repository's. A public repository is read without a permission, a private one is not. The last
column stands on GitHub's description of its API, or on the page of its documentation that it names. The permissions are
those of tools/github_needs.py, which the tests' double of the API wants too.
"""
PERSON = """Through `gh` an administrator of the repository asks for these; no workflow can. A classic token needs the
scope `repo`; the permissions are those of a fine-grained one.
"""
