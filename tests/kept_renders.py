"""`kept_renders.py FOLDER -m copier copy ... TEMPLATE MADE`: a copy of what copier made of the same files and answers.

Dozens of updates render the same two releases with the same answers, and copier takes two seconds for each. The first
call runs copier and keeps what it made in FOLDER; a call that copier refuses keeps nothing.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

kept, *words = sys.argv[1:]
*options, template, made = words
data = options.index("--data-file") + 1
files = sorted(path for path in Path(template).rglob("*") if path.is_symlink() or not path.is_dir())
listed = [
    (
        path.relative_to(template).as_posix(),
        path.lstat().st_mode,
        os.readlink(path) if path.is_symlink() else sha256(path.read_bytes()).hexdigest(),
    )
    for path in files
]
asked = [*options[:data], Path(options[data]).read_text(encoding="utf-8"), *options[data + 1 :]]
place = Path(kept) / sha256(json.dumps([asked, listed]).encode()).hexdigest()[:32]
if place.exists():
    shutil.copytree(place, made, symlinks=True)
    sys.exit()
code = subprocess.run([sys.executable, *words]).returncode
if code == 0:
    fresh = tempfile.mkdtemp(dir=kept)
    shutil.copytree(made, fresh, symlinks=True, dirs_exist_ok=True)
    try:
        os.rename(fresh, place)
    except OSError:  # another call was faster, and it kept the same
        shutil.rmtree(fresh)
sys.exit(code)
