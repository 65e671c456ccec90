"""The settings of the server: settings.json, made with the image, and the environment."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from conveyor.core.errors import Misuse
from conveyor.core.tokens import tokens

CONFIG = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=(), allow_inf_nan=False)


class Settings(BaseModel):
    """settings.json: the expected model, and of params.yaml the sections model and serve, data.private, gate.threshold.

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
    threshold: float = Field(default=0.5, gt=0, lt=1)  # older settings have none
    max_rows: int = Field(ge=1)
    max_bytes: int = Field(ge=1000)
    max_seconds: float = Field(gt=0)
    log: str | None
    log_bytes: int = Field(ge=100_000)
    log_days: int | None = Field(default=None, ge=1)  # these two are in no older settings
    feedback: bool = False
    client_rate: float | None = Field(gt=0)
    client_open: int | None = Field(ge=1)

    @classmethod
    def of(cls, params: Any, key: str, digest: str, commit: str) -> Settings:
        """The settings for a bundle, from a checked params.yaml (core/params.py)."""
        return cls.model_validate(
            {
                "schema": 1,
                "key": key,
                "digest": digest,
                "commit": commit,
                "trusted_types": params.model.trusted_types,
                "private": params.data.private,
                "tolerance": params.model.tolerance,
                "threshold": params.gate.threshold,
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
            Misuse: it is missing, or not in the format of ``to_json``; the line names the key.
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
    """The container's environment. An empty variable is an unset one, with two exceptions.

    PREDICTION_LOG: empty means no log. PREDICT_TOKEN: empty is refused; an open service has no such variable.
    """

    model_config = CONFIG

    bundle: Path
    settings: Path
    host: str
    port: int = Field(ge=0, le=65535)
    tokens: tuple[str, ...]
    log: str | None
    mirror_key: str | None
    behind_edge: bool

    @classmethod
    def read(cls) -> Environment:
        """The environment of this process.

        Raises:
            Misuse: PORT is no port, PREDICT_TOKEN or MIRROR_KEY no token, BEHIND_EDGE neither 0 nor 1.
        """
        given = os.environ
        port = given.get("PORT") or "8000"
        if not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
            raise Misuse(f"PORT: {port!r} is no port; give a number up to 65535")
        key = given.get("MIRROR_KEY") or None
        if key and len(tokens(key, "MIRROR_KEY")) > 1:
            raise Misuse("MIRROR_KEY: holds a comma; give one key")
        behind = given.get("BEHIND_EDGE") or "0"
        if behind not in ("0", "1"):
            raise Misuse(f"BEHIND_EDGE: {behind!r} is neither 0 nor 1")
        return cls(
            bundle=Path(given.get("BUNDLE") or "/app/bundle"),
            settings=Path(given.get("SETTINGS") or "/app/settings.json"),
            host=given.get("HOST") or "0.0.0.0",
            port=int(port),
            tokens=tokens(given["PREDICT_TOKEN"], "PREDICT_TOKEN") if "PREDICT_TOKEN" in given else (),
            log=given.get("PREDICTION_LOG"),
            mirror_key=key,
            behind_edge=behind == "1",
        )
