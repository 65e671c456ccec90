"""Write copier.yml: the questions of cookiecutter.json as copier asks them. `make seal` runs it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
OPTIONS, WRITTEN = ROOT / "cookiecutter.json", ROOT / "copier.yml"
PRODUCT = "<<cookiecutter.project>>"
HEAD = """\
# The questions of cookiecutter.json, for copier, which brings a repository to a newer version. `make seal` writes this.
"""
# What the hook refuses, as far as copier's Jinja can tell: condition and mend. It leaves names of libraries out.
REFUSED = {
    "project": (
        "not project | regex_search('^(?=[A-Za-z])(?=.{1,60}$)[A-Za-z0-9]+(-[A-Za-z0-9]+)*$')",
        "use letters, digits and single hyphens, first a letter, last no hyphen, at most 60 characters",
    ),
    "description": (
        "not description | trim or description | regex_search('<[#%<]|#%|[\\\\x00-\\\\x1f\\\\x7f]')",
        "write one line of text, and leave out the marks of the template",
    ),
    "owner": (
        "not owner | regex_search('^(?=.{1,39}$)[A-Za-z0-9]+(-[A-Za-z0-9]+)*$')",
        "use a GitHub account name: letters, digits and single hyphens inside, at most 39 characters",
    ),
}
# Cookiecutter's tag for the time is none of copier's.
OWN = {"__year": "<< '%Y' | strftime >>"}


def derived(options: dict[str, Any]) -> dict[str, Any]:
    """copier.yml, from what cookiecutter.json holds."""
    prompts = options["__prompts__"]
    questions = {key: _question(key, value, prompts[key]) for key, value in options.items() if not key.startswith("_")}
    # Each computed value is a question that nobody is asked. The templates find all of them below one name.
    names = [key for key in options if key.startswith("__") and key not in ("__prompts__", "__project")]
    computed = {
        f"computed{key[1:]}": {
            "type": "str",
            "when": False,
            "default": OWN.get(key) or re.sub(r"\bcookiecutter\.(?=[a-z])", "", options[key]),
        }
        for key in names
    }
    given = ", ".join(
        [f"'{key}': {key}" for key in questions]
        + [f"'{key}': computed{key[1:]}" for key in names]
        + [f"'{key}': {json.dumps(options[key])}" for key in ("_version", "_address")]
    )
    everything = {"type": "json", "when": False, "default": f"<< {{{given}}} | tojson >>"}
    return {
        "_subdirectory": f"<< '{PRODUCT}' >>",
        "_templates_suffix": "",
        "_envops": options["_jinja2_env_vars"] | {"keep_trailing_newline": True},
        **questions,
        **computed,
        "cookiecutter": everything,
    }


def _question(key: str, value: Any, prompt: Any) -> dict[str, Any]:
    help_text = prompt["__prompt__"] if isinstance(prompt, dict) else prompt
    asked: dict[str, Any] = {"type": "str", "help": help_text}
    if isinstance(value, list):
        labels = prompt if isinstance(prompt, dict) else {}
        asked |= {"choices": {labels.get(choice, choice): choice for choice in value}, "default": value[0]}
    else:
        asked["default"] = value
        if key in REFUSED:
            condition, mend = REFUSED[key]
            asked["validator"] = f"<% if {condition} %>{mend}<% endif %>"
    return asked


def text(options: dict[str, Any]) -> str:
    """The file's text."""
    return HEAD + yaml.safe_dump(derived(options), sort_keys=False, allow_unicode=True, width=10_000)


def write() -> None:
    """Bring copier.yml up to date."""
    WRITTEN.write_text(text(json.loads(OPTIONS.read_text(encoding="utf-8"))), encoding="utf-8")
