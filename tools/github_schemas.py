"""Cut GitHub's own description of its REST API to what tests/github.py and tests/standins/gh.py stand in for.

    npm pack @octokit/openapi && tar xzf octokit-openapi-*.tgz
    python tools/github_schemas.py package/generated/api.github.com.json

The package is under the MIT license, which goes along with what is cut from it.
"""

import json
import sys
from pathlib import Path

TARGET = Path(__file__).parents[1] / "tests/standins/github/openapi.json"
ROOT = "/repos/{owner}/{repo}"
OPERATIONS = {
    "": ["get", "patch"],
    "/actions/permissions": ["put"],
    "/actions/permissions/selected-actions": ["put"],
    "/actions/permissions/workflow": ["put"],
    "/actions/workflows/{workflow_id}/dispatches": ["post"],
    "/actions/variables": ["get", "post"],
    "/actions/variables/{name}": ["patch"],
    "/attestations": ["post"],
    "/codeowners/errors": ["get"],
    "/commits/{ref}/check-runs": ["get"],
    "/commits/{ref}/status": ["get"],
    "/environments": ["get"],
    "/environments/{environment_name}": ["put"],
    "/environments/{environment_name}/deployment-branch-policies": ["get", "post"],
    "/issues": ["get", "post"],
    "/issues/comments/{comment_id}": ["delete", "get", "patch"],
    "/issues/{issue_number}": ["get", "patch"],
    "/issues/{issue_number}/comments": ["get", "post"],
    "/keys": ["get", "post"],
    "/private-vulnerability-reporting": ["put"],
    "/pulls/{pull_number}": ["get"],
    "/releases": ["get", "post"],
    "/releases/assets/{asset_id}": ["delete", "get"],
    "/releases/tags/{tag}": ["get"],
    "/releases/{release_id}": ["delete", "get", "patch"],
    "/releases/{release_id}/assets": ["get", "post"],
    "/rulesets": ["get", "post"],
    "/rulesets/{ruleset_id}": ["put"],
}
PROSE = ("description", "example", "examples", "externalDocs", "summary", "title")


def schema(node, used):
    """The same as a JSON schema: OpenAPI 3.0 has a word of its own for null. Notes in ``used`` what it refers to."""
    if isinstance(node, list):
        return [schema(each, used) for each in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        name = node["$ref"].removeprefix("#/components/schemas/")
        used.add(name)
        return {"$ref": f"#/schemas/{name}"}
    cut = {}
    for key, value in node.items():
        if key == "properties":
            cut[key] = {name: schema(each, used) for name, each in value.items()}
        elif key not in PROSE and not key.startswith("x-") and key not in ("nullable", "deprecated", "format"):
            cut[key] = schema(value, used)
    if not node.get("nullable"):
        return cut
    if "type" in cut and not {"allOf", "anyOf", "oneOf"} & set(cut):
        more = {"enum": [*cut["enum"], None]} if "enum" in cut and None not in cut["enum"] else {}
        return cut | {"type": [cut["type"], "null"]} | more
    return {"anyOf": [cut, {"type": "null"}]}


def operation(described, path, method, used):
    """The parameters, the body and the answers of one operation, as schemas."""
    found = described["paths"][path][method]
    told = {"id": found["operationId"], "path": {}, "query": {}, "required": [], "responses": {}}
    for parameter in found["parameters"]:
        if "$ref" in parameter:
            parameter = described["components"]["parameters"][parameter["$ref"].rpartition("/")[2]]
        told[parameter["in"]][parameter["name"]] = schema(parameter["schema"], used)
        if parameter["in"] == "query" and parameter.get("required"):
            told["required"].append(parameter["name"])
    body = found.get("requestBody", {}).get("content", {}).get("application/json")
    if body:
        told["body"] = schema(body["schema"], used)
    for status, answer in found["responses"].items():
        if "$ref" in answer:
            answer = described["components"]["responses"][answer["$ref"].rpartition("/")[2]]
        content = answer.get("content", {}).get("application/json")
        told["responses"][status] = schema(content["schema"], used) if content else None
    return told


def cut(described):
    used, schemas = set(), {}
    operations = {
        f"{method.upper()} {path}": operation(described, ROOT + path, method, used)
        for path, methods in OPERATIONS.items()
        for method in methods
    }
    while missing := sorted(used - set(schemas)):
        for name in missing:
            schemas[name] = schema(described["components"]["schemas"][name], used)
    return {"operations": operations, "schemas": schemas}


def main(source):
    described = json.loads(Path(source).read_text(encoding="utf-8"))
    told = cut(described)
    notes = {
        "license": (Path(source).parents[1] / "LICENSE").read_text(encoding="utf-8"),
        "source": f"npm package @octokit/openapi {described['info']['version']}",
    }
    parts = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in notes.items()]
    for part, entries in sorted(told.items()):  # one line each, so that a new version can be compared
        lines = (f"{json.dumps(name)}: {json.dumps(entry, sort_keys=True)}" for name, entry in sorted(entries.items()))
        parts.append(f"{json.dumps(part)}: {{\n" + ",\n".join(lines) + "\n}")
    TARGET.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
