"""What actions/download-artifact does: files land in path, over what is there; several artifacts in a folder each."""

import os
import shutil
import sys
from pathlib import Path

name, store = os.environ["STANDIN_NAME"], Path(os.environ["STANDIN_ARTIFACTS"])
path = Path(os.environ["GITHUB_WORKSPACE"]) / Path(os.environ["STANDIN_PATH"]).expanduser()
found = [store / name] if name else sorted(store.iterdir())
if name and not found[0].is_dir():
    sys.exit(f"::error::Unable to download artifact(s): Artifact not found for name: {name}")
for artifact in found:
    shutil.copytree(artifact, path if len(found) == 1 else path / artifact.name, dirs_exist_ok=True)
