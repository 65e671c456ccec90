"""The environment of a command as one frozen model: all that it gets from outside the repository."""

from __future__ import annotations

import json
import os
import re
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from conveyor.core.errors import Misuse
from conveyor.core.frozen import Frozen, shown
from conveyor.core.tokens import tokens


class Environment(Frozen):
    """All values from outside the repository. An empty variable counts as unset: GitHub passes unset ones like that."""

    tracking_uri: str | None = None
    token: str | None = None
    ledger_key: str | None = None
    server_url: str = "https://github.com"
    api_url: str = "https://api.github.com"
    repository: str | None = None
    job: str = "by hand"
    event: str | None = None
    ref: str | None = None
    outputs: str | None = None
    summary: str | None = None
    run_url: str | None = None
    actor: str | None = None
    docker_host: str | None = None
    registry: str | None = None
    registry_user: str | None = None
    registry_token: str | None = None
    base_image: str | None = None
    platform: str | None = None
    deploy_name: str | None = None
    deploy_port: int | None = None
    predict_token: str | None = None
    prediction_log: str | None = None
    kubeconfig: str | None = None
    source_password: str | None = None
    webhook: str | None = None
    log_cache: str | None = None

    def registry_auth(self, image: str) -> dict[str, str | None] | None:
        """The credentials for the Docker SDK to pull and push an image by its name; None: those of `docker login`.

        The token of a workflow's job may write to the repository: it goes to no registry but GitHub's.
        """
        host, server = image.partition("/")[0], urlsplit(self.server_url).hostname or ""
        of_github = host == "ghcr.io" if server == "github.com" else host.endswith(f".{server}")
        token = self.registry_token if of_github else self.lasting_token
        return {"username": self.registry_user, "password": token} if token else None

    @property
    def lasting_token(self) -> str | None:
        """REGISTRY_TOKEN, unless it is the token of a workflow's job, which ends with the job."""
        return None if self.run_url and self.registry_token == self.token else self.registry_token

    @classmethod
    def read(cls, variables: dict[str, str] | None = None) -> Environment:
        given = {name: value for name, value in (variables or dict(os.environ)).items() if value}
        server = given.get("GITHUB_SERVER_URL", "https://github.com")
        run = None
        if "GITHUB_RUN_ID" in given and "GITHUB_REPOSITORY" in given:
            run = f"{server}/{given['GITHUB_REPOSITORY']}/actions/runs/{given['GITHUB_RUN_ID']}"
        return cls(
            tracking_uri=given.get("MLFLOW_TRACKING_URI"),
            token=given.get("GITHUB_TOKEN"),
            ledger_key=given.get("LEDGER_KEY"),
            server_url=server,
            api_url=given.get("GITHUB_API_URL", "https://api.github.com"),
            repository=given.get("GITHUB_REPOSITORY"),
            job="/".join(given[name] for name in ("GITHUB_WORKFLOW", "GITHUB_JOB") if name in given) or "by hand",
            event=given.get("GITHUB_EVENT_PATH"),
            ref=given.get("GITHUB_REF"),
            outputs=given.get("GITHUB_OUTPUT"),
            summary=given.get("GITHUB_STEP_SUMMARY"),
            run_url=run,
            actor=given.get("GITHUB_ACTOR"),
            docker_host=given.get("DOCKER_HOST"),
            registry=_registry(given.get("REGISTRY")),
            registry_user=given.get("REGISTRY_USER") or given.get("GITHUB_ACTOR"),
            registry_token=given.get("REGISTRY_TOKEN"),
            base_image=given.get("BASE_IMAGE"),
            platform=given.get("PLATFORM"),
            deploy_name=_name(given.get("DEPLOY_NAME")),
            deploy_port=_port(given.get("DEPLOY_PORT")),
            predict_token=_token(given.get("PREDICT_TOKEN")),
            prediction_log=given.get("PREDICTION_LOG"),
            kubeconfig=given.get("KUBECONFIG_DATA"),
            source_password=given.get("SOURCE_PASSWORD"),
            webhook=given.get("MONITOR_WEBHOOK"),
            log_cache=given.get("LOG_CACHE"),
        )


@cache
def data_options() -> dict[str, Any]:
    """DATA_OPTIONS: options for the URLs of data.path and ledger.models, as `{"key": ..., "secret": ...}` for S3.

    Raises:
        Misuse: it is no JSON object.
    """
    text = os.environ.get("DATA_OPTIONS", "")
    if not text:
        return {}
    try:
        options = json.loads(text)
    except ValueError:
        options = None
    if not isinstance(options, dict):
        raise Misuse('DATA_OPTIONS: no JSON object; write it as {"key": "...", "secret": "..."}')
    if os.environ.get("GITHUB_ACTIONS"):
        # In logs GitHub hides a secret as a whole, but not the values inside it.
        for line in _texts(options):
            print(f"::add-mask::{line}")
    return options


def _texts(value: Any) -> list[str]:
    """Every line of every text in a JSON value."""
    if isinstance(value, str):
        return [line for line in value.splitlines() if line.strip()]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [line for part in inner for line in _texts(part)]


def _token(text: str | None) -> str | None:
    if text is not None:
        tokens(text, "PREDICT_TOKEN")
    return text


def _registry(text: str | None) -> str | None:
    if text is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.:_/-]*", text):
        raise Misuse(f"REGISTRY: {shown(text)} is no name of a registry; set it as in REGISTRY=ghcr.io/acme")
    return text


def _name(text: str | None) -> str | None:
    if text is not None and not re.fullmatch("[a-z0-9][a-z0-9-]{0,60}", text):
        raise Misuse(f"DEPLOY_NAME: {shown(text)} is no name; use lower case letters, digits and hyphens")
    return text


def _port(text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch("[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        raise Misuse(f"DEPLOY_PORT: {shown(text)} is no port; use a number from 1 to 65535")
    return int(text)
