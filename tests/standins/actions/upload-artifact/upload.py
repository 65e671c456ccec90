"""What actions/upload-artifact does: hidden files stay out, modes are lost, an artifact is written once."""

import os
import re
import shutil
import sys
from pathlib import Path

name, missing = os.environ["STANDIN_NAME"], os.environ["STANDIN_MISSING"]
hidden, days = os.environ["STANDIN_HIDDEN"], os.environ["STANDIN_DAYS"]
workspace = Path(os.environ["GITHUB_WORKSPACE"])
store = Path(os.environ["STANDIN_ARTIFACTS"]) / name

paths = [line.strip() for line in os.environ["STANDIN_PATHS"].splitlines()]
paths = [path for path in paths if path and not path.startswith("#")]
if not paths:
    sys.exit("upload-artifact: Input required and not supplied: path")
if missing not in ("warn", "error", "ignore"):
    sys.exit(f"upload-artifact: if-no-files-found is {missing!r}")
if hidden not in ("true", "True", "TRUE", "false", "False", "FALSE"):
    sys.exit(f"upload-artifact: include-hidden-files is {hidden!r}")
if days and not re.match(r"\s*[+-]?\d", days):
    sys.exit(f"upload-artifact: retention-days is {days!r}")
if not name or set(name) & set('":<>|*?\r\n\\/'):
    sys.exit(f"upload-artifact: {name!r} is no name for an artifact")
if any(set(path) & set("*?[!~") for path in paths):
    sys.exit("upload-artifact: the stand-in knows no patterns")


def found(path, above=()):
    """The files under a path. What is hidden stays out although the path names it; so does a link to nothing."""
    if not path.exists() or path.name.startswith(".") and hidden.lower() != "true":
        return
    if not path.is_dir():
        yield path
    elif path.resolve() not in above:  # else a link leads back
        for entry in sorted(path.iterdir()):
            yield from found(entry, (*above, path.resolve()))


named = {Path(os.path.normpath(workspace / path)) for path in paths}
searched = sorted(path for path in named if not named & set(path.parents))
files = [file for path in searched for file in found(path)]
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
root = Path(os.path.commonpath(searched))
root = root.parent if files == [root] else root
for file in files:
    inside = file.relative_to(root)
    if set(str(inside)) & set('":<>|*?\r\n'):
        sys.exit(f"upload-artifact: {str(inside)!r} cannot be stored, its name holds a character that Windows refuses")
    (store / inside).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, store / inside)
print(f"upload-artifact: {len(files)} files as {name}")
