"""What actions/setup-python does: a bare python on the PATH of the steps that follow."""

import os
import re
import sys
from pathlib import Path

version = os.environ["STANDIN_VERSION"]
# An unquoted 3.10 arrives as 3.1: only a version that we support, in full, is let through.
if not re.fullmatch(r"3\.1[1-9]", version):
    sys.exit(f"setup-python: python-version is {version!r}, expected 3.11 or newer, quoted")

folder = Path(os.environ["RUNNER_TEMP"]) / "python"
folder.mkdir(parents=True, exist_ok=True)
for name in ("python", "python3"):
    link = folder / name
    link.unlink(missing_ok=True)
    link.symlink_to(sys._base_executable)
# A runner has GitHub's command line, too.
gh = folder / "gh"
gh.write_text(f'#!/bin/sh\nexec "{sys._base_executable}" -I "{os.environ["STANDIN_GH"]}" "$@"\n')
gh.chmod(0o755)
with open(os.environ["GITHUB_PATH"], "a", encoding="utf-8") as path:
    path.write(f"{folder}\n")
