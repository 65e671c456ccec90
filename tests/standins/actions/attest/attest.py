"""What actions/attest does but for the signature and the registry: says of files or a digest where they come from."""

import base64
import glob
import json
import os
import re
import sys
import urllib.error
import urllib.request
from hashlib import sha256
from pathlib import Path

inputs, env = json.loads(os.environ["STANDIN_INPUTS"]), os.environ
job = f"{env['GITHUB_WORKFLOW']}/{env['GITHUB_JOB']}"
granted = json.loads(env["STANDIN_GRANTS"]).get(job, {})
os.chdir(env["GITHUB_WORKSPACE"])


def no(message):
    sys.exit(f"::error::{message}")


if granted.get("id-token") != "write":
    no('missing "id-token" permission. Please add "permissions: id-token: write" to your workflow.')

for key in ("push-to-registry", "create-storage-record", "show-summary"):
    if inputs[key] not in ("true", "True", "TRUE", "false", "False", "FALSE"):
        no(f'Input does not meet YAML 1.2 "Core Schema" specification: {key}')
    inputs[key] = inputs[key].lower()
path, digest, name = (inputs[f"subject-{key}"] for key in ("path", "digest", "name"))
custom = [key for key in ("predicate-type", "predicate", "predicate-path") if inputs[key]]
if inputs["subject-checksums"]:
    no("the stand-in knows no subject-checksums")
if not path and not digest:  # the list of artifacts that a runner may offer is not stood in for
    no("One of subject-path, subject-digest, or subject-checksums must be provided")
if path and digest:
    no("Only one of subject-path, subject-digest, or subject-checksums may be provided")
if inputs["sbom-path"] and custom:
    no("Cannot specify sbom-path together with predicate-type, predicate, or predicate-path")
if custom and ("predicate-type" not in custom or len(custom) != 2):
    no("predicate-type and exactly one of predicate and predicate-path must be provided")

if digest:
    if not name:
        no("subject-name must be provided when using subject-digest")
    if not re.fullmatch("[^:]+:[^:]+", digest):
        no('subject-digest must be in the format "algorithm:hex_digest"')
    if not re.fullmatch("sha256:[0-9a-fA-F]{64}", digest):
        no("subject-digest has an unsupported algorithm, invalid hex digits or an invalid length; here it is a sha256")
    name = name.lower() if inputs["push-to-registry"] == "true" else name
    subjects = {(name, digest.partition(":")[2])}
else:
    patterns = [each.strip() for each in re.split(r"[\n,]", path) if each.strip()]
    hits = [Path(hit) for each in patterns for hit in glob.glob(each, recursive=True, include_hidden=True)]
    # A folder stands for all files in it.
    files = [file for hit in hits for file in (hit.rglob("*") if hit.is_dir() else [hit]) if file.is_file()]
    subjects = {(name or file.name, sha256(file.read_bytes()).hexdigest()) for file in files}
    if not subjects:
        no(f"Could not find subject at path {path}")

if inputs["sbom-path"]:
    try:
        predicate = json.loads(Path(inputs["sbom-path"]).read_bytes())
    except (OSError, ValueError) as error:
        no(f"SBOM file cannot be read: {error}")
    if predicate.get("spdxVersion") and predicate.get("SPDXID"):
        kind = f"https://spdx.dev/Document/v{predicate['spdxVersion'].partition('-')[2]}"
    elif all(predicate.get(key) for key in ("bomFormat", "serialNumber", "specVersion")):
        kind = "https://cyclonedx.org/bom"
    else:
        no("Unsupported SBOM format. Must be valid SPDX or CycloneDX JSON.")
elif custom:
    kind = inputs["predicate-type"]
    predicate = json.loads(inputs["predicate"] or Path(inputs["predicate-path"]).read_bytes())
else:
    kind = "https://slsa.dev/provenance/v1"
    run = f"{env['GITHUB_SERVER_URL']}/{env['GITHUB_REPOSITORY']}/actions/runs/{env['GITHUB_RUN_ID']}"
    source = {"uri": f"git+{env['GITHUB_SERVER_URL']}/{env['GITHUB_REPOSITORY']}@{env['GITHUB_REF']}"}
    predicate = {
        "buildDefinition": {
            "externalParameters": {
                "workflow": {
                    "ref": env["GITHUB_REF"],
                    "repository": f"{env['GITHUB_SERVER_URL']}/{env['GITHUB_REPOSITORY']}",
                    "path": f".github/workflows/{env['GITHUB_WORKFLOW']}.yml",
                }
            },
            "resolvedDependencies": [source | {"digest": {"gitCommit": env["GITHUB_SHA"]}}],
        },
        "runDetails": {"metadata": {"invocationId": f"{run}/attempts/{env['GITHUB_RUN_ATTEMPT']}"}},
    }

if inputs["push-to-registry"] == "true":
    if len(subjects) != 1:
        no(f"push-to-registry requires exactly one subject but {len(subjects)} subjects were resolved")
    if "/" not in next(iter(subjects))[0]:
        no("push-to-registry requires the fully-qualified name of an image")
    if inputs["create-storage-record"] == "true" and granted.get("artifact-metadata") != "write":
        print('::warning::Please check that the "artifact-metadata:write" permission has been included')

statement = {
    "_type": "https://in-toto.io/Statement/v1",
    "subject": [{"name": name, "digest": {"sha256": value}} for name, value in sorted(subjects)],
    "predicateType": kind,
    "predicate": predicate,
}
bundle = {
    "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
    "verificationMaterial": {},
    "dsseEnvelope": {
        "payload": base64.b64encode(json.dumps(statement).encode()).decode(),
        "payloadType": "application/vnd.in-toto+json",
        "signatures": [],
    },
}
request = urllib.request.Request(
    f"{env['GITHUB_API_URL']}/repos/{env['GITHUB_REPOSITORY']}/attestations",
    json.dumps({"bundle": bundle}).encode(),
    {"Authorization": f"Bearer {inputs['github-token']}", "User-Agent": f"actions-attest/{job}"},
)
try:
    with urllib.request.urlopen(request, timeout=30) as answer:
        told = str(json.load(answer)["id"])
except urllib.error.HTTPError as error:
    no(f"Failed to persist attestation: {json.load(error)['message']}")
except OSError as error:
    no(f"Failed to persist attestation: {error}")

file = Path(env["RUNNER_TEMP"]) / f"attestation-{told}.json"
file.write_text(json.dumps(bundle) + "\n")
url = f"{env['GITHUB_SERVER_URL']}/{env['GITHUB_REPOSITORY']}/attestations/{told}"
with open(env["GITHUB_OUTPUT"], "a", encoding="utf-8") as out:
    out.write(f"bundle-path={file}\nattestation-id={told}\nattestation-url={url}\n")
if inputs["show-summary"] == "true":
    with open(env["GITHUB_STEP_SUMMARY"], "a", encoding="utf-8") as out:
        out.write(f"### Attestation Created\n\n- {url}\n")
