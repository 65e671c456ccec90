"""The differences between two models, by the lineages of their bundles.

A lineage may be of an older version, or come from the job of a pull request, which can write anything: a missing value
or one of another type counts as unknown, and raises no error here.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

from conveyor.core.files import read_json, sha256

Json = dict[str, Any]
PARTS = ("parameters", "data", "features", "code", "libraries")
DEPTH = 8  # levels of nested parameters that are compared one by one
FILE = 1_000_000  # bytes of a module that are compared


class Change(NamedTuple):
    """One difference: its part, its name, and the old and new value as text; "–" for a missing one."""

    part: str
    name: str
    before: str
    after: str


def read(folder: Path, key: str) -> Json | None:
    """The lineage of the bundle in ``folder``, with the digests of its ``modules``; None if it has another ``key``.

    Raises:
        Misuse: the lineage is no JSON.
    """
    if not (folder / "lineage.json").is_file():
        return None
    found = read_json(folder / "lineage.json", made_by="train")
    return {**found, "modules": modules(folder)} if found.get("key") == key else None


def modules(folder: Path) -> dict[str, str]:
    """The digest of each module in the bundle's wheel, by name."""
    found = {}
    try:
        for wheel in sorted(folder.glob("*.whl"))[:1]:
            with zipfile.ZipFile(wheel) as archive:
                for info in archive.infolist():
                    if ".dist-info/" not in info.filename and not info.is_dir():
                        with archive.open(info) as file:
                            found[info.filename.partition("/")[2] or info.filename] = sha256(file.read(FILE))
    except (OSError, ValueError, RuntimeError, NotImplementedError, EOFError, zipfile.BadZipFile, zlib.error):
        return {}  # no wheel of ours: the modules cannot be compared
    return found


def changes(before: Json, after: Json) -> list[Change]:
    """All differences between two lineages, in the order of ``PARTS``."""
    then, now = mapping(before.get("inputs")), mapping(after.get("inputs"))
    found = _differing("parameters", *({"seed": m.get("seed"), **dotted(m.get("params"))} for m in (before, after)))
    data = _differing("data", _data(before, then), _data(after, now))
    features = _differing("features", *(mapping(m.get("features")) for m in (before, after)))
    if not found + data + features and then.get("params") != now.get("params"):
        settings = digest(then, "params"), digest(now, "params")
        found.append(Change("parameters", "sections data, split and model", *settings))
    libraries = _differing("libraries", *(mapping(m.get("versions")) for m in (before, after)))
    if not libraries and then.get("locks") != now.get("locks"):
        libraries = [Change("libraries", "locks", digest(then, "locks"), digest(now, "locks"))]
    return found + data + features + _code(before, after, then, now) + libraries


def _data(model: Json, inputs: Json) -> Json:
    rows = model.get("trained_rows")
    asked = {name: model.get(name) for name in ("task", "target", "classes")}
    return {
        "sha256": digest(inputs, "data"),
        "rows trained on": f"{rows:,}" if isinstance(rows, int) else rows,
        **{name: ", ".join(map(str, value)) if isinstance(value, list) else value for name, value in asked.items()},
    }


def _code(before: Json, after: Json, then: Json, now: Json) -> list[Change]:
    """The modules that differ, if code that trains or scores differs; other modules do not change the model."""
    if then.get("code") == now.get("code") and before.get("scoring_code") == after.get("scoring_code"):
        return []
    files = [{name: text[:12] for name, text in mapping(m.get("modules")).items()} for m in (before, after)]
    differing = _differing("code", *files) if all(files) else []
    return differing or [Change("code", "modules that train", digest(then, "code"), digest(now, "code"))]


def _differing(part: str, before: Json, after: Json) -> list[Change]:
    pairs = [(name, text(before.get(name)), text(after.get(name))) for name in {**before, **after}]
    return [Change(part, str(name), *values) for name, *values in pairs if values[0] != values[1]]


def dotted(value: Any, prefix: str = "", depth: int = DEPTH) -> Json:
    """Nested parameters by dotted name."""
    flat: Json = {}
    for name, inner in mapping(value).items():
        nested = isinstance(inner, dict) and inner and depth
        flat |= dotted(inner, f"{prefix}{name}.", depth - 1) if nested else {f"{prefix}{name}": inner}
    return flat


def mapping(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def digest(values: Json, name: str) -> str:
    return text(values.get(name))[:12]


def text(value: Any) -> str:
    return "–" if value is None else str(value)
