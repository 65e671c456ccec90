"""What actions/upload-artifact does: hidden files stay out, modes are lost, an artifact is written once."""

import os
import shutil
import sys
from pathlib import Path

name, missing = os.environ["STANDIN_NAME"], os.environ["STANDIN_MISSING"]
hidden = os.environ["STANDIN_HIDDEN"] == "true"
workspace = Path(os.environ["GITHUB_WORKSPACE"])
store = Path(os.environ["STANDIN_ARTIFACTS"]) / name

paths = [line.strip() for line in os.environ["STANDIN_PATHS"].splitlines() if line.strip()]
if not paths:
    sys.exit("upload-artifact: path is required")
if missing not in ("warn", "error", "ignore"):
    sys.exit(f"upload-artifact: if-no-files-found is {missing!r}")
if set(name) & set('":<>|*?\r\n\\/'):
    sys.exit(f"upload-artifact: {name!r} is no name for an artifact")
if any(set(path) & set("*?[!~") for path in paths):
    sys.exit("upload-artifact: the stand-in knows no patterns")

searched = [Path(os.path.normpath(workspace / path)) for path in paths]
files = []
for path in searched:
    if path.is_file():
        files.append(path)
    for folder, folders, names in os.walk(path, followlinks=True):
        if not hidden:
            folders[:] = [entry for entry in folders if not entry.startswith(".")]
            names = [entry for entry in names if not entry.startswith(".")]
        files += [Path(folder) / entry for entry in names]

if not files:
    message = f"No files were found with the provided path: {' '.join(paths)}. No artifacts will be uploaded."
    if missing == "error":
        sys.exit(f"::error::{message}")
    if missing == "warn":
        print(f"::warning::{message}")
    sys.exit()
if store.is_symlink():  # of an earlier attempt of this run, which the newer one hides
    store.unlink()
if store.exists():
    sys.exit(f"upload-artifact: an artifact named {name} exists already on this run")

# One folder is stored by its contents, one file by its name, several paths from what they have in common.
if len(searched) > 1:
    root = Path(os.path.commonpath(searched))
    root = root.parent if root.is_file() else root
else:
    root = searched[0].parent if searched[0].is_file() else searched[0]
for file in files:
    inside = file.relative_to(root)
    if set(str(inside)) & set('":<>|*?\r\n\\'):
        sys.exit(f"upload-artifact: {str(inside)!r} cannot be stored, its name holds a character that Windows refuses")
    (store / inside).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, store / inside)
print(f"upload-artifact: {len(files)} files as {name}")
