"""Make the first commit (every later step asks git for it), say what to do next."""

import json
import os
import shlex
import shutil
import subprocess
import sys

owner = json.loads(r"""[<< cookiecutter.owner | tojson >>]""")[0]
# Nobody's signing key, hooks or private ignore list may stop or shrink this commit, and no identity is guessed.
neutral = ["commit.gpgsign=false", "user.useConfigOnly=true", "core.hooksPath=/dev/null", "core.excludesFile=/dev/null"]


def git(*words: str, config: list[str] = neutral, check: bool = True) -> subprocess.CompletedProcess:
    options = [word for setting in config for word in ("-c", setting)]
    return subprocess.run(["git", *options, *words], check=check, capture_output=True, text=True)


for folder, _, _ in os.walk("src"):
    shutil.rmtree(os.path.join(folder, "__pycache__"), ignore_errors=True)  # compiled beside a template that was run
try:
    for name in git("rev-parse", "--local-env-vars").stdout.split():
        os.environ.pop(name, None)  # inside another repository's hook these lead there
    if not os.path.exists(".git"):  # generated over a repository: its history is its owner's
        git("init", "--initial-branch=main", "--template=")
        git("add", "--all")
        if git("commit", "-mFirst commit", check=False).returncode:  # no identity: the owner's, an address of nobody
            git("commit", "-mFirst commit", config=[*neutral, f"user.name={owner}", "user.email=noreply@localhost"])
except (OSError, subprocess.CalledProcessError) as error:
    reason = " ".join((getattr(error, "stderr", "") or "git is not installed").split())
    print(f"No first commit, make it before you run the pipeline: {reason}", file=sys.stderr)
print(f"cd {shlex.quote(os.getcwd())}\nmake setup\nmake pipeline")
