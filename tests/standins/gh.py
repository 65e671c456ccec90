"""A stand-in for `gh api` with a repository's settings behind it, and what GitHub's own description says of both.

The state is a JSON file: tests set in it what is there already, under ``fail`` which request goes wrong and how, and
find in it what was asked and answered. ``faults`` holds that against the description, in the process of the tests: this
one is started for every request.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

KNOWN = json.loads((Path(__file__).parent / "github/openapi.json").read_text(encoding="utf-8"))
REPOSITORY = "repos/acme/late-flights"
EMPTY = {"repository": {}, "rulesets": [], "environments": {}, "errors": [], "fail": {}, "requests": []}


def closed(schema: Any) -> Any:
    """The schema with no other keys than those it names."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    end = {"additionalProperties": False} if isinstance(schema.get("properties"), dict) else {}
    return {**{key: closed(value) for key, value in schema.items()}, **end}


def wrong(schema: Any, given: Any) -> str:
    """What is wrong with ``given``, or nothing."""
    from jsonschema import Draft202012Validator

    found = Draft202012Validator({**schema, "schemas": KNOWN["schemas"]}).iter_errors(given)
    return "; ".join(f"{'.'.join(map(str, error.path))}: {error.message}"[:200] for error in found)


def operation(method: str, path: str) -> dict[str, Any]:
    """The description of a request; an empty one if there is no such request."""
    for name, described in KNOWN["operations"].items():
        known, _, template = name.partition(" ")
        if known == method and re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template)), path):
            return described
    return {}


def sample(schema: dict[str, Any]) -> Any:
    """A value of this schema with no more than it must have."""
    if "$ref" in schema:
        return sample(KNOWN["schemas"][schema["$ref"].removeprefix("#/schemas/")])
    for word in ("anyOf", "oneOf", "allOf"):
        if word in schema:
            return sample(schema[word][0])
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if "enum" in schema:
        return schema["enum"][0]
    if kind == "object":
        return {name: sample(schema["properties"][name]) for name in schema.get("required", ())}
    return {"string": "", "integer": 1, "number": 1, "boolean": False, "array": []}[kind]


def environment(name: str, kept: dict[str, Any]) -> dict[str, Any]:
    """As GitHub shows it."""
    rules = []
    if "wait_timer" in kept:
        rules.append({"id": 1, "node_id": "a", "type": "wait_timer", "wait_timer": kept["wait_timer"]})
    if "reviewers" in kept:
        person = dict.fromkeys(KNOWN["schemas"]["simple-user"]["required"], "") | {"site_admin": False}
        who = [{"type": each["type"], "reviewer": {**person, "id": each["id"]}} for each in kept["reviewers"]]
        self_review = kept.get("prevent_self_review", False)
        rules.append({"id": 2, "node_id": "b", "type": "required_reviewers", "prevent_self_review": self_review})
        rules[-1]["reviewers"] = who
    policy = kept.get("deployment_branch_policy")
    rules += [{"id": 3, "node_id": "c", "type": "branch_policy"}] if policy else []
    told = {"id": 7, "node_id": "d", "name": name, "protection_rules": rules, "deployment_branch_policy": policy}
    return {**told, **dict.fromkeys(("url", "html_url", "created_at", "updated_at"), "")}


def faults(method: str, path: str, sent: Any, answered: Any) -> str:
    """What GitHub would refuse, or ignore, of a request, and what it would not answer to it."""
    path, _, query = path.removeprefix(REPOSITORY).partition("?")
    described = operation(method, path)
    if not described:
        return f"there is no {method} {path}"
    if {each.partition("=")[0] for each in filter(None, query.split("&"))} - set(described["query"]):
        return f"there is no such query: {query}"
    if "body" not in described and sent is not None:
        return "nothing is to be sent"
    told = wrong(closed(described["body"]), sent) if "body" in described else ""
    shown = described["responses"].get("200")
    return told or (wrong(shown, answered) if shown and answered is not None else "")


def act(state: dict[str, Any], method: str, path: list[str], sent: Any) -> tuple[int, Any]:
    """The status and the answer; the state is what it is afterwards."""
    rulesets, environments = state["rulesets"], state["environments"]
    match method, path:
        case "GET", []:
            told = {"private": False, "created_at": "2026-09-01T00:00:00Z", "id": 22, "name": "late-flights"}
            told |= {"owner": sample({"$ref": "#/schemas/simple-user"}) | {"login": "acme", "id": 11}}
            own = state["repository"].get("", {})
            return 200, sample({"$ref": "#/schemas/full-repository"}) | told | own | state.get("about", {})
        case "GET", ["actions", "permissions", *_]:
            said = KNOWN["operations"]["GET /" + "/".join(path)]["responses"]["200"]
            return 200, sample(said) | state["repository"].get("/".join(path), {})
        case "PUT", ["actions", "permissions", "selected-actions"] if state.get("about", {}).get("private"):
            # "The `patterns_allowed` setting only applies to public repositories."
            state["repository"]["/".join(path)] = {**sent, "patterns_allowed": []}
        case "GET", ["environments", name]:
            return 200, environment(name, environments[name])
        case "GET", ["rulesets"]:
            hidden = ("rules", "conditions", "bypass_actors")
            return 200, [{key: value for key, value in each.items() if key not in hidden} for each in rulesets]
        case "POST", ["rulesets"]:
            if sent["name"] in [each["name"] for each in rulesets]:
                return 422, "Validation Failed\nName must be unique"
            rulesets.append({**sent, "id": 40 + len(rulesets), "source": "acme/late-flights"})
        case "PUT", ["rulesets", number]:
            here = [each for each in rulesets if str(each["id"]) == number]
            if not here:
                return 404, "Not Found"
            here[0].update(sent)
        case "GET", ["environments"]:
            listed = [environment(name, kept) for name, kept in environments.items()]
            return 200, {"total_count": len(listed), "environments": listed}
        case "PUT", ["environments", name]:
            # What is not sent is no longer so: a PUT is the whole of it.
            environments[name] = {**(sent or {}), "branches": environments.get(name, {}).get("branches", [])}
        case method, ["environments", name, "deployment-branch-policies"]:
            if not (environments.get(name, {}).get("deployment_branch_policy") or {}).get("custom_branch_policies"):
                return 404, "Not Found"
            branches = environments[name]["branches"]
            if method == "GET":
                return 200, {"total_count": len(branches), "branch_policies": branches}
            if sent["name"] in [each["name"] for each in branches]:
                return 303, "See Other"
            branches.append({"id": len(branches), **sent})
        case "GET", ["keys"]:
            more = {"url": "", "verified": True, "created_at": ""}
            return 200, [{"id": number, **more, **each} for number, each in enumerate(state.get("keys", []))]
        case "POST", ["keys"]:
            state["keys"] = [*state.get("keys", []), sent]
        case "GET", ["actions", "variables"]:
            named = state.get("variables", {}).items()
            listed = [{"name": name, "value": value, "created_at": "", "updated_at": ""} for name, value in named]
            return 200, {"total_count": len(listed), "variables": listed}
        case "POST" | "PATCH", ["actions", "variables", *_]:
            state["variables"] = {**state.get("variables", {}), sent["name"]: sent["value"]}
        case "GET", ["codeowners", "errors"]:
            return 200, {"errors": state["errors"]}
        case _, rest:
            state["repository"]["/".join(rest)] = sent
    return 204, None


def main(file: Path, words: list[str]) -> int:
    state = json.loads(file.read_text(encoding="utf-8")) if file.exists() else EMPTY
    if words[:3] == ["secret", "set", "LEDGER_KEY"]:
        place = words[words.index("--env") + 1]
        code, _, told = state["fail"].get(f"secret {place}", (0, "", ""))
        if not code:
            state["secrets"] = {**state.get("secrets", {}), place: sys.stdin.read()}
            file.write_text(json.dumps(state), encoding="utf-8")
        print(told, end="", file=sys.stderr)
        return code
    if words == ["api", "meta"]:
        print(json.dumps({"ssh_keys": ["ssh-ed25519 AAAAgithub", "ecdsa-sha2-nistp256 AAAAother"]}))
        return 0
    method = words[words.index("--method") + 1] if "--method" in words else "GET"
    path = next((word for word in words if word.startswith(REPOSITORY)), None)
    if words[0] != "api" or path is None:
        print(f"unknown command: {words}", file=sys.stderr)
        return 2
    sent = None
    if "--input" in words:
        source = words[words.index("--input") + 1]
        sent = json.loads(sys.stdin.read() if source == "-" else Path(source).read_bytes())
    place = path.removeprefix(REPOSITORY).partition("?")[0]
    code, out, told = state["fail"].get(f"{method} {place}", (0, "", ""))
    answered = None
    if not (code or out or told):
        status, given = act(state, method, place.split("/")[1:], sent)
        if status < 300:
            out, answered = json.dumps(given) if given is not None else "", given
        else:
            code, told = 1, f"gh: {given} (HTTP {status})"
    state["requests"].append([method, path, sent, answered])
    file.write_text(json.dumps(state), encoding="utf-8")
    print(out, end="")
    print(told, end="", file=sys.stderr)
    return code


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2:]))
