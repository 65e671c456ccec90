"""Write docs/workflows.md from the workflows themselves: those that are generated, and the template's own.

A cell that depends on where the model is served says so. The table of the commands comes from bench/workflows.json,
which `make bench-workflows` writes.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import github_rights
import yaml
from cookiecutter.main import cookiecutter

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "workflows.md"
DEPLOYMENTS = ("docker", "kubernetes")
COMMANDS = ROOT / "bench" / "workflows.json"
HEAD = """# Workflows

`make docs` made this page from the workflows: the trigger of each workflow, and the rights, time limit, environment,
secrets and variables of each job. The row of a job names all its rights. What those are for in GitHub's API follows.
"""
COLUMNS = ("job", "needs", "may", "minutes", "environment", "secrets and variables")


def folders(scratch: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """The folders of the workflows by deployment: of the repository that is generated, and of the template."""
    generated = {}
    config = scratch / "config.yaml"
    config.write_text(f"cookiecutters_dir: {scratch}\nreplay_dir: {scratch}\n")  # none of it in the home directory
    for deploy in DEPLOYMENTS:
        baked = cookiecutter(
            str(ROOT),
            no_input=True,
            extra_context={"deploy": deploy},
            output_dir=str(scratch / deploy),
            config_file=str(config),
            accept_hooks=False,
        )
        generated[deploy] = Path(baked) / ".github" / "workflows"
    return generated, {"": ROOT / ".github" / "workflows"}


def chapter(title: str, variants: dict[str, Path]) -> str:
    """The chapter about the workflows of one repository."""
    names = sorted({path.stem for folder in variants.values() for path in folder.glob("*.yml")})
    parts = [f"## {title}\n"]
    for name in names:
        texts = {
            deploy: path.read_text(encoding="utf-8")
            for deploy, folder in variants.items()
            if (path := folder / f"{name}.yml").is_file()
        }
        parts.append(workflow(name, texts, set(texts) != set(variants)))
    return "\n".join(parts)


def workflow(name: str, texts: dict[str, str], only: bool) -> str:
    """The section about one workflow, from its text for each deployment."""
    parsed = {deploy: yaml.safe_load(text) for deploy, text in texts.items()}
    said = {
        deploy: {job: row(job, each, texts[deploy]) for job, each in flow["jobs"].items()}
        for deploy, flow in parsed.items()
    }
    jobs = list(dict.fromkeys(job for rows in said.values() for job in rows))
    question = merged({deploy: leading(text) for deploy, text in texts.items()})
    starts = merged({deploy: triggers(flow[True]) for deploy, flow in parsed.items()})  # YAML 1.1 reads `on` as true
    lines = [
        f"### {name}\n",
        question + (f" Only for {', '.join(texts)}." if only else ""),
        "",
        f"Runs on {starts}.",
        "",
    ]
    lines += ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for job in jobs:
        cells = {deploy: rows[job] for deploy, rows in said.items() if job in rows}
        where = "" if len(cells) == len(texts) else f" ({', '.join(cells)} only)"
        merge = [merged({deploy: cell[n] for deploy, cell in cells.items()}) for n in range(len(COLUMNS))]
        merge[0] += where
        lines.append("| " + " | ".join(merge) + " |")
    return "\n".join([*lines, ""])


def leading(text: str) -> str:
    """The comment at the head of a workflow: the question that it answers."""
    return " ".join(line.lstrip("# ") for line in re.match("(#.*\n)*", text)[0].splitlines())


def listed(value: Any) -> str:
    """What YAML takes as one or as several."""
    return ", ".join(f"`{each}`" for each in ([value] if isinstance(value, str) else value or ()))


def merged(cells: dict[str, str]) -> str:
    """One cell for all deployments, or what it is for each."""
    if len(set(cells.values())) == 1:
        return next(iter(cells.values()))
    return "<br>".join(f"{deploy}: {cell or 'none'}" for deploy, cell in cells.items())


def triggers(events: dict[str, Any]) -> str:
    """What starts a workflow, in words."""
    return ", ".join(words(event, about) for event, about in events.items())


def words(event: str, about: Any) -> str:
    if event == "schedule":
        return "schedule " + ", ".join(f"`{each['cron']}`" for each in about)
    if event == "workflow_dispatch" and about:
        return "dispatch with " + listed(about["inputs"])
    filters = "; ".join(f"{key} {listed(values)}" for key, values in (about or {}).items())
    return {"workflow_dispatch": "dispatch"}.get(event, event.replace("_", " ")) + (f" ({filters})" if filters else "")


def row(job: str, body: dict[str, Any], text: str) -> list[str]:
    """The cells of a job, in the order of the columns."""
    # The lines of this job: comments are lost on a parser, and the reasons of its rights are comments.
    own = re.search(rf"(?ms)^  {re.escape(job)}:\n(.*?)(?=^  [\w-]+:|\Z)", text)[1]
    reasons = dict(re.findall(r"(?m)^ +([a-z-]+): (?:read|write) # (.+)$", own))
    rights = body.get("permissions") or {}
    may = [
        f"{scope}: {level}" + (f" ({reasons[scope]})" if scope in reasons else "") for scope, level in rights.items()
    ]
    environment = body.get("environment", "")
    name = body.get("name", job)
    uses = sorted(set(re.findall(r"\b(?:secrets|vars)\.\w+", own)))
    return [
        f"`{job}`" + (f", {name}" if name != job else ""),
        listed(body.get("needs")),
        "<br>".join(may) or "nothing",
        str(body.get("timeout-minutes", "")),
        listed(environment if isinstance(environment, str) else environment["name"]) if environment else "",
        listed(uses),
    ]


def commands(measured: dict[str, Any], names: list[str]) -> str:
    """The table of the commands: how many tests execute each, and which one fails when it is replaced by `true`."""
    missing = [name for name in names if name not in measured]
    lines = [
        "## Each command, and a test that fails without it",
        "",
        "`make test` executes every command of the generated workflows under act. `make bench-workflows` replaces each",
        "command by `true` and runs the tests that execute it. This is the result.",
        *([f"Not asked yet: {', '.join(missing)}."] if missing else []),
        "",
        "| workflow | job | command | executed by | fails without it |",
        "|---|---|---|--:|---|",
    ]
    for name, told in measured.items():
        for place, each in told["commands"].items():
            job = place.partition("/")[0]
            test = (each["fails"] or "**none**").rpartition("::")[2].replace("_", " ")
            run = each["run"].replace("|", "\\|")
            lines.append(f"| {name} | {job} | `{run}` | {each['executed']} | {test} |")
    return "\n".join([*lines, ""])


def asked(generated: dict[str, Path], own: dict[str, Path]) -> list[github_rights.Asked]:
    """What the workflows in these folders ask GitHub's API for; of both deployments."""
    found = []
    for repository, makefile, variants in (
        ("generated", github_rights.PRODUCT / "Makefile", generated),
        ("template", ROOT / "Makefile", own),
    ):
        for folder in variants.values():
            parsed = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in folder.glob("*.yml")}
            found += github_rights.asked(repository, makefile, dict(sorted(parsed.items())))
    return found


def page() -> str:
    """The whole page."""
    with tempfile.TemporaryDirectory() as scratch:
        generated, own = folders(Path(scratch))
        chapters = [chapter("The generated repository", generated), chapter("The template", own)]
        chapters.append(github_rights.chapter(asked(generated, own)))
        names = sorted(path.stem for path in generated["docker"].glob("*.yml"))
    return "\n".join([HEAD, *chapters, commands(json.loads(COMMANDS.read_text(encoding="utf-8")), names)])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"docs      {PAGE.relative_to(ROOT)}")
