"""What actions/checkout does, as far as our workflows can tell, against a bare repository on disk."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

workspace = Path(os.environ["GITHUB_WORKSPACE"]).resolve()
target = (workspace / os.environ["STANDIN_PATH"]).resolve()
ref, depth = os.environ["STANDIN_REF"], int(os.environ["STANDIN_DEPTH"])

if target != workspace and workspace not in target.parents:
    sys.exit(f"checkout: {target} is not under the workspace")
if os.environ["STANDIN_PERSIST"] != "false":
    sys.exit("checkout: the stand-in keeps no credentials, say persist-credentials: false")


def git(*arguments):
    subprocess.run(["git", "-C", str(target), *arguments], check=True)


# Like the real one: what lies in the target goes, a clone in a sub-folder included.
target.mkdir(parents=True, exist_ok=True)
for old in target.iterdir():
    shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()

commit, local = "", ""
if not ref:
    ref, commit = os.environ["GITHUB_REF"], os.environ["GITHUB_SHA"]
elif re.fullmatch("[0-9a-f]{40}", ref):
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
git("remote", "add", "origin", f"file://{os.environ['STANDIN_REMOTE']}")
wanted = [f"+{commit or ref}:{tracking}"] if ref else [commit]
if depth:
    git("fetch", "--quiet", "--no-tags", f"--depth={depth}", "origin", *wanted)
else:
    git("fetch", "--quiet", "--no-tags", "origin", "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
    git("fetch", "--quiet", "--no-tags", "origin", *wanted)

if local:
    git("checkout", "--quiet", "--force", "-B", local, tracking)
else:
    git("checkout", "--quiet", "--force", "--detach", tracking or commit)
