"""What an image says about the model it serves: settings.json, made when the image is built, and the environment."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import Misuse

CONFIG = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=(), allow_inf_nan=False)


class Settings(BaseModel):
    """settings.json: the model that is expected, and sections model, serve and data.private of params.yaml.

    Attributes:
        key, digest: of the bundle; another one is not served.
        commit: of the serving code.
    """

    model_config = CONFIG

    schema_: Literal[1] = Field(alias="schema")
    key: str
    digest: str
    commit: str
    trusted_types: tuple[str, ...] = Field(strict=False)
    private: tuple[str, ...] = Field(strict=False)
    tolerance: float = Field(gt=0, lt=1)
    max_rows: int = Field(ge=1)
    max_bytes: int = Field(ge=1000)
    max_seconds: float = Field(gt=0)
    log: str | None
    log_bytes: int = Field(ge=100_000)

    @classmethod
    def of(cls, params: Any, key: str, digest: str, commit: str) -> Settings:
        """The settings for a bundle, by a checked params.yaml (config.Params)."""
        return cls.model_validate(
            {
                "schema": 1,
                "key": key,
                "digest": digest,
                "commit": commit,
                "trusted_types": params.model.trusted_types,
                "private": params.data.private,
                "tolerance": params.model.tolerance,
                **params.serve.model_dump(),
            }
        )

    def to_json(self) -> str:
        """The text of settings.json."""
        return json.dumps(self.model_dump(mode="json", by_alias=True), indent=2, sort_keys=True) + "\n"

    @classmethod
    def read(cls, path: Path) -> Settings:
        """The settings in the file at ``path``.

        Raises:
            Misuse: it is missing, or not what ``to_json`` writes; the line names the key.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise Misuse(f"{path}: {error.strerror}; SETTINGS names the settings of the image") from None
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise Misuse(f"{path}: {where + ': ' if where else ''}{first['msg']}; build the image again") from None


class Environment(BaseModel):
    """What the container's environment says. Unset and empty are the same but for PREDICTION_LOG: empty means none."""

    model_config = CONFIG

    bundle: Path
    settings: Path
    host: str
    port: int = Field(ge=0, le=65535)
    token: str | None
    log: str | None

    @classmethod
    def read(cls) -> Environment:
        """The environment of this process.

        Raises:
            Misuse: PORT is no port.
        """
        given = os.environ
        port = given.get("PORT") or "8000"
        if not port.isdecimal() or int(port) > 65535:
            raise Misuse(f"PORT: {port!r} is no port; give a number up to 65535")
        return cls(
            bundle=Path(given.get("BUNDLE") or "/app/bundle"),
            settings=Path(given.get("SETTINGS") or "/app/settings.json"),
            host=given.get("HOST") or "0.0.0.0",
            port=int(port),
            token=given.get("PREDICT_TOKEN") or None,
            log=given.get("PREDICTION_LOG"),
        )
