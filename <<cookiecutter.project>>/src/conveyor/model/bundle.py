"""The bundle: one directory that is trained, judged, stored and served.

    model.skops         the fitted pipeline, in a format that runs no code when it is loaded
    model.onnx          the same, compiled, if that gives the same answers
    profile.json        the columns and their values in training
    *.whl               the code of both packages at that time
    requirements.txt    the hashed lock of the libraries that the model needs to answer
    split.json          the split rule with its watermark: which rows the model was trained on
    golden.json         some rows with the model's answers
    lineage.json        key, commit, data, parameters, versions, times

Its key is the fingerprint of its inputs; its digest is the sha256 over its files. An image holds only the files that
answer, and left-out.json with the sha256 of the others: together they still give the digest.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conveyor.core.errors import Misuse
from conveyor.core.files import read_json, sha256, to_json

if TYPE_CHECKING:
    pass

LEFT_OUT = "left-out.json"


def digest_of(files: dict[str, bytes], left_out: dict[str, str] | None = None) -> str:
    """The sha256 over the names and contents of a bundle's files.

    Args:
        left_out: the sha256 of each file that is not here.
    """
    hashes = {**(left_out or {}), **{name: sha256(content) for name, content in files.items()}}
    return sha256("".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes)).encode())


class Bundle:
    """A bundle on disk. The caller checks its digest before anything in it is executed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def files(self) -> dict[str, bytes]:
        if not self.path.is_dir():
            raise Misuse(f"{self.path}: missing; run `make train` first")
        return {file.name: file.read_bytes() for file in sorted(self.path.iterdir()) if file.is_file()}

    def file(self, name: str) -> bytes:
        """The content of one of its files.

        Raises:
            Misuse: the bundle lacks it.
        """
        if name not in self.files:
            raise Misuse(f"{self.path / name}: missing; delete {self.path.name} and run `make train`")
        return self.files[name]

    @cached_property
    def digest(self) -> str:
        return digest_of(self.files)

    @cached_property
    def judged(self) -> str:
        """The digest of the whole bundle, also if some of its files were left out, see ``answering``."""
        if LEFT_OUT not in self.files:
            return self.digest
        left_out = self._json(LEFT_OUT)
        if not all(isinstance(hash, str) for hash in left_out.values()):
            raise Misuse(f"{self.path / LEFT_OUT}: damaged; build the image again")
        return digest_of({name: self.files[name] for name in self.files if name != LEFT_OUT}, left_out)

    def answering(self) -> dict[str, bytes]:
        """The files that an image needs to answer, and ``LEFT_OUT`` with the digests of the others."""
        model = "model.onnx" if self.form == "compiled" else "model.skops"
        kept = [name for name in ("lineage.json", "profile.json", "golden.json", model) if name in self.files]
        left_out = {name: sha256(content) for name, content in self.files.items() if name not in kept}
        return {**{name: self.file(name) for name in kept}, LEFT_OUT: to_json(left_out).encode()}

    @cached_property
    def lineage(self) -> dict[str, Any]:
        return self._json("lineage.json", {"key": str})

    @property
    def key(self) -> str:
        key: str = self.lineage["key"]
        return key

    @property
    def recipe(self) -> str | None:
        """The digest of what makes the model, without the data; None: the bundle does not record it."""
        made = self.lineage.get("inputs")
        if not isinstance(made, dict):
            return None
        return sha256(to_json({name: value for name, value in made.items() if name != "data"}).encode())[:16]

    @property
    def features(self) -> dict[str, str]:
        """The columns of the model, in the order of the profile, and the type of each."""
        types = self._json("lineage.json", {"features": dict})["features"]
        order = [column["name"] for column in self.profile["columns"]] if self.profile else types
        return {name: types[name] for name in order}

    @property
    def unused(self) -> tuple[str, ...]:
        """Columns of the data that the model does not take; none in an older bundle."""
        return tuple(self._json("lineage.json", {"unused": list})["unused"]) if "unused" in self.lineage else ()

    @property
    def scoring_code(self) -> str:
        """Digest of the code that scored it when it was trained."""
        code: str = self._json("lineage.json", {"scoring_code": str})["scoring_code"]
        return code

    def _json(self, name: str, keys: Mapping[str, type] | None = None) -> dict[str, Any]:
        return read_json(self.path / name, made_by="train", keys=keys)

    @property
    def golden(self) -> dict[str, Any]:
        return self._json("golden.json", {"rows": list, "answers": list})

    @property
    def form(self) -> str | None:
        """How the model is served, see runtime.py; None: the bundle records no form, it is older."""
        if "served" not in self.lineage:
            return None
        form: str = self._json("lineage.json", {"served.form": str})["served"]["form"]
        return form

    @cached_property
    def profile(self) -> dict[str, Any] | None:
        """Its columns and their values in training, see signature.py; None: the bundle has no profile, it is older."""
        if not (self.path / "profile.json").is_file():
            return None
        return self._json("profile.json", {"columns": list, "bounds": list})

    @property
    def wheel(self) -> Path:
        found = next(self.path.glob("*.whl"), None)
        if found is None:
            raise Misuse(f"{self.path}: holds no wheel of its code; delete it and run `make train`")
        return found

    @property
    def requirements(self) -> bytes:
        return self.file("requirements.txt")

    @property
    def asked(self) -> dict[str, Any]:
        """The question that the model answers: task, target and classes."""
        keys = {"task": str, "target": str, "classes": list}
        lineage = self._json("lineage.json", keys)
        return {name: lineage[name] for name in keys}

    @property
    def model_bytes(self) -> int:
        return len(self.file("model.skops"))

    def load_model(self, trusted_types: tuple[str, ...]) -> Any:
        """The fitted pipeline; see ``unpack``."""
        return unpack(self.file("model.skops"), trusted_types)


def pack(fitted: Any) -> bytes:
    """A fitted pipeline as skops bytes. They differ each time, because they hold ids and clock times."""
    import skops.io

    content: bytes = skops.io.dumps(fitted, compression=zipfile.ZIP_DEFLATED)
    return content


def unpack(content: bytes, trusted_types: tuple[str, ...]) -> Any:
    """The fitted pipeline in skops bytes.

    Args:
        content: the result of ``pack``.
        trusted_types: the reviewed list of type names that skops does not trust by itself.

    Raises:
        Misuse: the model holds a type that is not on the list, or is no skops file.
    """
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        return skops.io.loads(content, trusted=list(trusted_types))
    except UntrustedTypesFoundException:
        refused = sorted(set(skops.io.get_untrusted_types(data=content)) - set(trusted_types))
        raise Misuse(
            f"model.skops: holds {', '.join(refused)}, which model.trusted_types in params.yaml does not list;"
            " add it there once reviewed"
        ) from None
    except (ImportError, AttributeError) as error:
        text = " ".join(str(error).split())[:200]
        raise Misuse(f"model.skops: wants code that is not here: {text}; bring it back, or train again") from None
    except Exception as error:
        # skops may raise any exception for a damaged or foreign file: it is no model of ours.
        raise Misuse(f"model.skops: no skops model ({type(error).__name__}); train again") from None
