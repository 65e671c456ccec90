"""What actions/upload-pages-artifact does: one archive of a folder, as an artifact that deploy-pages takes."""

import json
import os
import sys
import tarfile
from pathlib import Path

inputs = json.loads(os.environ["STANDIN_INPUTS"])
folder = Path(os.environ["GITHUB_WORKSPACE"], inputs["path"])
store = Path(os.environ["STANDIN_ARTIFACTS"]) / inputs["name"]

if not folder.is_dir():
    sys.exit(f"::error::tar: {inputs['path']}: Cannot open: No such file or directory")
if inputs["include-hidden-files"] != "false":
    sys.exit("upload-pages-artifact: the stand-in leaves hidden files out")
if store.exists():
    sys.exit(f"upload-pages-artifact: an artifact named {inputs['name']} exists already on this run")
store.mkdir(parents=True)
with tarfile.open(store / "artifact.tar", "w", dereference=True) as archive:
    for path in sorted(folder.iterdir()):
        if not path.name.startswith("."):
            archive.add(path, path.name)
