"""Seal the machinery: write the digests of its files into SEAL, with the version that it has or the one in VERSION.

cookiecutter.json gets that version too, copier.yml the questions of cookiecutter.json, and the README the template's
address, which is `_address` there.

VERSION=1.4.0 python tools/seal.py
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import copier_yml

from conveyor.core import seal

ROOT = Path(__file__).parents[1]
PRODUCT, README = ROOT / "<<cookiecutter.project>>", ROOT / "README.md"


def addressed(text: str, address: str) -> str:
    """The text with the template's address in each of its commands."""
    edition = f"{address}/releases/download/vX.Y.Z/{address.rpartition('/')[2]}-X.Y.Z-portable.zip"
    short = re.sub("^https://github.com/", "gh:", address)
    given = r"(?<=\bcookiecutter )(?:gh:|https:)[^\s`]+"
    return re.sub(given, lambda found: edition if found[0].endswith(".zip") else short, text)


def main() -> str:
    place = PRODUCT / seal.PLACE
    version = os.environ.get("VERSION") or seal.read(PRODUCT)[0]
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        return f"error: VERSION: {version!r} is no version; name it like 1.4.0"
    text = seal.written(version, seal.sealed(PRODUCT))
    same = place.is_file() and place.read_text() == text
    place.write_text(text)
    options = copier_yml.OPTIONS.read_text(encoding="utf-8")
    copier_yml.OPTIONS.write_text(re.sub(r'("_version": )"[^"]*"', rf'\1"{version}"', options), encoding="utf-8")
    copier_yml.write()
    README.write_text(addressed(README.read_text(encoding="utf-8"), json.loads(options)["_address"]), encoding="utf-8")
    print(f"seal      {'unchanged' if same else 'written'}: version {version}")
    return ""


if __name__ == "__main__":
    sys.exit(main() or None)
