"""What actions/deploy-pages does but for the publishing: the job's grants, one archive, an address."""

import json
import os
import sys
import tarfile
from pathlib import Path

name, env = os.environ["STANDIN_NAME"], os.environ
granted = json.loads(env["STANDIN_GRANTS"]).get(f"{env['GITHUB_WORKFLOW']}/{env['GITHUB_JOB']}", {})
archive = Path(env["STANDIN_ARTIFACTS"]) / name / "artifact.tar"

if granted.get("id-token") != "write":
    sys.exit('::error::Ensure GITHUB_TOKEN has permission "id-token: write".')
if granted.get("pages") != "write":
    sys.exit('::error::Ensure GITHUB_TOKEN has permission "pages: write".')
if not archive.is_file():
    sys.exit(f'::error::No artifacts named "{name}" were found for this workflow run.')
with tarfile.open(archive) as packed:
    if "index.html" not in packed.getnames():
        sys.exit("::error::the archive has no index.html")
owner, _, repository = env["GITHUB_REPOSITORY"].partition("/")
with open(env["GITHUB_OUTPUT"], "a", encoding="utf-8") as out:
    out.write(f"page_url=https://{owner}.github.io/{repository}/\n")
