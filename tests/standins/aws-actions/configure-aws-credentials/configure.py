"""What aws-actions/configure-aws-credentials does with a role: OpenID Connect, and no secret of the repository."""

import json
import os
import re
import sys

inputs = json.loads(os.environ["STANDIN_INPUTS"])
job = f"{os.environ['GITHUB_WORKFLOW']}/{os.environ['GITHUB_JOB']}"

session, seconds = inputs["role-session-name"] or "GitHubActions", int(inputs["role-duration-seconds"] or 0) or 3600
if not inputs["aws-region"]:
    sys.exit("::error::Input required and not supplied: aws-region")
if not re.fullmatch("[a-z0-9-]+", inputs["aws-region"]):
    sys.exit(f"::error::Region is not valid: {inputs['aws-region']}")
role = re.fullmatch(r"arn:aws[a-z-]*:iam::(\d{12}):role/[\w+=,.@/-]+", inputs["role-to-assume"])
if role is None:
    sys.exit("::error::the stand-in assumes a role by its ARN only")
if json.loads(os.environ["STANDIN_GRANTS"]).get(job, {}).get("id-token") != "write":
    sys.exit("::error::Credentials could not be loaded; did you mean to set the `id-token` permission?")
if not re.fullmatch(r"[\w+=,.@-]{2,64}", session):
    sys.exit(f"::error::Role session name is not valid: {session}")
if not 900 <= seconds <= 43_200:
    sys.exit("::error::role-duration-seconds is not between 900 and 43200")
allowed = [each.strip() for each in inputs["allowed-account-ids"].split(",") if each.strip()]
if allowed and role[1] not in allowed:
    sys.exit(f"::error::The account {role[1]} is none of allowed-account-ids")

region = inputs["aws-region"]
given = {"AWS_ACCESS_KEY_ID": "stand-in", "AWS_SECRET_ACCESS_KEY": "stand-in", "AWS_SESSION_TOKEN": "stand-in"}
with open(os.environ["GITHUB_ENV"], "a", encoding="utf-8") as env:
    for name, value in (given | {"AWS_REGION": region, "AWS_DEFAULT_REGION": region}).items():
        env.write(f"{name}={value}\n")
with open(os.environ["GITHUB_OUTPUT"], "a", encoding="utf-8") as out:
    out.write(f"aws-account-id={role[1]}\n")
