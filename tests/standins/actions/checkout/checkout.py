"""What actions/checkout does, as far as our workflows can tell. The token goes with its fetches, and stays nowhere."""

import base64
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

workspace = Path(os.environ["GITHUB_WORKSPACE"]).resolve()
target = (workspace / os.environ["STANDIN_PATH"]).resolve()
ref, depth = os.environ["STANDIN_REF"], int(os.environ["STANDIN_DEPTH"] or 1)

if target != workspace and workspace not in target.parents:
    sys.exit(f"checkout: {target} is not under the workspace")
if not os.environ["STANDIN_TOKEN"]:
    sys.exit("checkout: Input required and not supplied: token")
if os.environ["STANDIN_PERSIST"] != "false":
    sys.exit("checkout: the stand-in keeps no credentials, say persist-credentials: false")


server, repository = os.environ["GITHUB_SERVER_URL"], os.environ["GITHUB_REPOSITORY"]
remote = f"{server}/{repository}"
# Under act the default is one for all jobs; on GitHub each has its own.
token, job = os.environ["STANDIN_TOKEN"], "/".join(os.environ[f"GITHUB_{part}"] for part in ("WORKFLOW", "JOB"))
basic = base64.b64encode(f"x-access-token:{token if '/' in token else f'{token}/{job}'}".encode()).decode()


def git(*arguments):
    subprocess.run(["git", "-C", str(target), *arguments], check=True)


def fetch(*arguments):
    header = f"http.{server}/.extraheader=AUTHORIZATION: basic {basic}"
    git("-c", header, "fetch", "--quiet", "--no-tags", *arguments)


# Like the real one: what lies in the target goes, a clone in a sub-folder included. Of its own clone it keeps the refs.
target.mkdir(parents=True, exist_ok=True)
if (target / ".git").exists():
    asked = ["git", f"--git-dir={target / '.git'}", "config", "remote.origin.url"]
    if subprocess.run(asked, capture_output=True, text=True).stdout.strip() == remote:
        sys.exit("checkout: the stand-in checks out once into a folder")
for old in target.iterdir():
    shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()

commit, local = "", ""
if not ref:
    ref, commit = os.environ["GITHUB_REF"], os.environ["GITHUB_SHA"]
elif re.fullmatch("[0-9a-fA-F]{40}", ref):
    commit, ref = ref, ""
elif not ref.startswith("refs/"):
    ref = f"refs/heads/{ref}"

if ref.startswith("refs/heads/"):
    local = ref.removeprefix("refs/heads/")
    tracking = f"refs/remotes/origin/{local}"
elif ref.startswith("refs/pull/"):
    tracking = ref.replace("refs/", "refs/remotes/", 1)
else:
    tracking = ref  # a tag, or nothing

git("init", "--quiet", "--initial-branch=main")
git("remote", "add", "origin", remote)
# A tag is fetched by its name, and stays annotated.
wanted = [f"+{ref if ref.startswith('refs/tags/') else commit or ref}:{tracking}"] if ref else [commit]
if depth:
    fetch(f"--depth={depth}", "origin", *wanted)
else:
    fetch("origin", "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
    fetch("origin", *wanted)

if ref.startswith("refs/tags/") and commit:
    asked = ["git", "-C", str(target), "rev-parse", f"{ref}^{{commit}}"]
    if subprocess.run(asked, capture_output=True, text=True).stdout.strip() != commit:
        sys.exit(f"::error::The ref '{ref}' does not point to the expected commit '{commit}'.")
if local:
    git("checkout", "--quiet", "--force", "-B", local, tracking)
else:
    git("checkout", "--quiet", "--force", "--detach", tracking or commit)
