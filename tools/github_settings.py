"""Cut what GitHub says of the requests that `make github-setup` makes from its own description of the API.

The description is in the npm package ``@octokit/openapi`` (MIT License, Copyright (c) 2020 Octokit contributors):

    npm pack @octokit/openapi && tar xzf octokit-openapi-*.tgz
    python tools/github_settings.py package    # rewrites tests/standins/github/settings.json

Prose is left out.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

OUT = Path(__file__).resolve().parent.parent / "tests/standins/github/settings.json"
REPOSITORY = "/repos/{owner}/{repo}"
OPERATIONS = (
    ("PATCH", ""),
    ("PUT", "/actions/permissions"),
    ("PUT", "/actions/permissions/selected-actions"),
    ("PUT", "/actions/permissions/workflow"),
    ("GET", "/rulesets"),
    ("POST", "/rulesets"),
    ("PUT", "/rulesets/{ruleset_id}"),
    ("GET", "/environments"),
    ("PUT", "/environments/{environment_name}"),
    ("GET", "/environments/{environment_name}/deployment-branch-policies"),
    ("POST", "/environments/{environment_name}/deployment-branch-policies"),
    ("GET", "/codeowners/errors"),
    ("PUT", "/private-vulnerability-reporting"),
)
PROSE = ("title", "description", "example", "examples", "format", "default", "nullable")


def needed(description: dict[str, Any]) -> dict[str, Any]:
    """The operations, and by their names all schemas that those refer to."""
    found: dict[str, Any] = {}

    def schema(given: Any) -> Any:
        """Without prose; ``nullable`` as JSON Schema says it."""
        if isinstance(given, list):
            return [schema(each) for each in given]
        if not isinstance(given, dict):
            return given
        if "$ref" in given:
            name = given["$ref"].removeprefix("#/components/schemas/")
            if name not in found:
                found[name] = None  # it may refer to itself
                found[name] = schema(description["components"]["schemas"][name])
            return {"$ref": f"#/{name}"}
        kept = {key: schema(value) for key, value in given.items() if key not in (*PROSE, "properties")}
        if "properties" in given:  # whose keys are names, and no words of a schema
            kept["properties"] = {name: schema(value) for name, value in given["properties"].items()}
        return {"anyOf": [{"type": "null"}, kept]} if given.get("nullable") else kept

    def parameter(given: dict[str, Any]) -> dict[str, Any]:
        return description["components"]["parameters"][given["$ref"].rpartition("/")[2]] if "$ref" in given else given

    for method, path in OPERATIONS:
        told = description["paths"][REPOSITORY + path][method.lower()]
        parameters = [parameter(given) for given in told["parameters"]]
        made = {"query": sorted(given["name"] for given in parameters if given["in"] == "query")}
        if "requestBody" in told:
            made["sent"] = schema(told["requestBody"]["content"]["application/json"]["schema"])
        if method == "GET":
            made["answered"] = schema(told["responses"]["200"]["content"]["application/json"]["schema"])
        found[f"{method} {path}"] = made
    return found


def main(package: Path) -> None:
    description = json.loads((package / "generated/api.github.com.json").read_text(encoding="utf-8"))
    version = json.loads((package / "package.json").read_text(encoding="utf-8"))["version"]
    source = f"@octokit/openapi {version}, MIT License, Copyright (c) 2020 Octokit contributors"
    made = {"source": source, **needed(description)}
    lines = [f"{json.dumps(name)}: {json.dumps(value, sort_keys=True)}" for name, value in sorted(made.items())]
    OUT.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{OUT.name}: {len(OPERATIONS)} operations, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
