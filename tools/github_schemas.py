"""Cut GitHub's own description of its REST API to the operations of tools/github_needs.py.

tests/github.py and tests/standins/gh.py stand in for these.

    npm pack @octokit/openapi && tar xzf octokit-openapi-*.tgz
    python tools/github_schemas.py package/generated/api.github.com.json

The package is under the MIT license, which goes along with what is cut from it.
"""

import json
import re
import sys
from pathlib import Path

from github_needs import NEEDS

TARGET = Path(__file__).parents[1] / "tests/standins/github/openapi.json"
ROOT = "/repos/{owner}/{repo}"
# Words of a description that say where something has no effect, or is refused.
RESTRICTS = re.compile(r"\b(only (appl|available|for|work)|requires|enterprise|not (available|supported))", re.I)
# The same of the description of a whole operation, where they say who may as well.
CONDITIONS = re.compile(rf"{RESTRICTS.pattern}|\b(must (be|have)|cannot be|only users|available in)\b", re.I)
LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
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


def sentences(node, pattern):
    """The sentences of a description that hold such words."""
    text = " ".join(str(node.get("description", "")).split())
    return [each for each in re.split(r"(?<=[.!?])\s+", text) if pattern.search(each)]


def restrictions(node, place=""):
    """The sentences that restrict a body or one of its keys, by the key."""
    if isinstance(node, list):
        return {key: said for each in node for key, said in restrictions(each, place).items()}
    if not isinstance(node, dict):
        return {}
    said = sentences(node, RESTRICTS)
    found = {place: " ".join(said)} if said else {}
    for key in ("items", "allOf", "anyOf", "oneOf"):
        found |= restrictions(node.get(key), place)
    for name, each in node.get("properties", {}).items():
        found |= restrictions(each, f"{place}.{name}".lstrip("."))
    return found


def operation(described, path, method, used):
    """The parameters, the body and the answers of one operation, as schemas."""
    found = described["paths"][path][method]
    told = {"id": found["operationId"], "path": {}, "query": {}, "required": [], "responses": {}}
    if conditions := sentences(found, CONDITIONS):
        told["conditions"] = [LINK.sub(r"\1", each) for each in conditions]
    for parameter in found["parameters"]:
        if "$ref" in parameter:
            parameter = described["components"]["parameters"][parameter["$ref"].rpartition("/")[2]]
        told[parameter["in"]][parameter["name"]] = schema(parameter["schema"], used)
        if parameter["in"] == "query" and parameter.get("required"):
            told["required"].append(parameter["name"])
    body = found.get("requestBody", {}).get("content", {}).get("application/json")
    if body:
        told["body"] = schema(body["schema"], used)
        told["restricts"] = restrictions(whole(body["schema"], described))
    for status, answer in found["responses"].items():
        if "$ref" in answer:
            answer = described["components"]["responses"][answer["$ref"].rpartition("/")[2]]
        content = answer.get("content", {}).get("application/json")
        told["responses"][status] = schema(content["schema"], used) if content else None
    return told


def whole(node, described):
    """The node with what it refers to in its place."""
    if isinstance(node, list):
        return [whole(each, described) for each in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return whole(described["components"]["schemas"][node["$ref"].rpartition("/")[2]], described)
    return {key: whole(value, described) for key, value in node.items()}


def cut(described):
    used, schemas = set(), {}
    operations = {}
    for name in NEEDS:
        method, _, path = name.partition(" ")
        operations[name] = operation(described, ROOT + path, method.lower(), used)
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
