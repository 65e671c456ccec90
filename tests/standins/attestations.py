"""What `gh attestation verify` does with an image, but for the signature: does GitHub hold its provenance?"""

import argparse
import base64
import json
import os
import sys
import urllib.error
import urllib.request

parser = argparse.ArgumentParser(prog="gh")
parser.add_argument("command", choices=["attestation"])
parser.add_argument("verb", choices=["verify"])
parser.add_argument("artifact")
for name in ("repo", "signer-workflow", "source-ref"):
    parser.add_argument(f"--{name}", required=True)
given, env = parser.parse_args(), os.environ

if not env.get("GH_TOKEN"):
    sys.exit("gh: To use GitHub CLI in a GitHub Actions workflow, set the GH_TOKEN environment variable.")
if "DOCKER_CONFIG" in env:  # read as docker reads it
    with open(os.path.join(env["DOCKER_CONFIG"], "config.json"), encoding="utf-8") as config:
        assert all(base64.b64decode(each["auth"]).count(b":") for each in json.load(config)["auths"].values())
name, _, digest = given.artifact.removeprefix("oci://").partition("@")
request = urllib.request.Request(
    f"{env['GITHUB_API_URL']}/repos/{given.repo}/attestations/{digest}",
    headers={
        "Authorization": f"Bearer {env['GH_TOKEN']}",
        "User-Agent": f"gh/{env['GITHUB_WORKFLOW']}/{env['GITHUB_JOB']}",
    },
)
try:
    with urllib.request.urlopen(request, timeout=30) as answer:
        found = json.load(answer)["attestations"]
except urllib.error.HTTPError as error:
    sys.exit(f"Error: failed to fetch attestations from {given.repo}: HTTP {error.code}")
for attestation in found:
    statement = json.loads(base64.b64decode(attestation["bundle"]["dsseEnvelope"]["payload"]))
    if statement["predicateType"] == "https://slsa.dev/provenance/v1":
        workflow = statement["predicate"]["buildDefinition"]["externalParameters"]["workflow"]
        if (f"{given.repo}/{workflow['path']}", workflow["ref"]) == (given.signer_workflow, given.source_ref):
            sys.exit(0)
sys.exit('Error: verifying with issuer "sigstore.dev"' if found else "Error: no attestations found")
