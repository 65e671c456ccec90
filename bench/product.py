"""The repository of the default answers, for measuring: generated once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def bake(place: Path = ROOT / "build" / "bench") -> Path:
    """The generated repository, made again when the template has changed; two measurements may run at once."""
    place.mkdir(parents=True, exist_ok=True)
    newest = max(path.stat().st_mtime for path in (ROOT / "<<cookiecutter.project>>").rglob("*"))
    made = place / "late-flights"
    if not made.is_dir() or made.stat().st_mtime < newest:
        config = place / "cookiecutter.yaml"
        config.write_text(json.dumps({"cookiecutters_dir": str(place / ".c"), "replay_dir": str(place / ".r")}))
        words = ["--config-file", config, "--no-input", "--overwrite-if-exists", ROOT, "-o", place]
        subprocess.run([sys.executable, "-m", "cookiecutter", *map(str, words)], check=True, stdout=subprocess.DEVNULL)
        made.touch()
    return made
