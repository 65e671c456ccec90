"""What actions/download-artifact does with a name: its files land in path, over what is there."""

import os
import shutil
import sys
from pathlib import Path

name = os.environ["STANDIN_NAME"]
store = Path(os.environ["STANDIN_ARTIFACTS"]) / name
if not name:
    sys.exit("download-artifact: the stand-in downloads by name only")
if not store.is_dir():
    sys.exit(f"::error::Unable to download artifact(s): Artifact not found for name: {name}")
shutil.copytree(store, Path(os.environ["GITHUB_WORKSPACE"]) / os.environ["STANDIN_PATH"], dirs_exist_ok=True)
