"""params.yaml and the environment, as frozen models that refuse what they do not know."""

from __future__ import annotations

import ipaddress
import json
import math
import os
import re
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from .errors import Misuse
from .metrics import METRICS, Task, of_task
from .tokens import tokens

Names = Annotated[tuple[str, ...], Field(strict=False)]  # YAML has lists, a frozen model wants tuples


DOMAIN = re.compile(r"(?=.{1,253}$)([a-z0-9-]{1,63}\.)+[a-z]{2,63}")


class Frozen(BaseModel):
    """Cannot be changed, knows its keys, and takes no text for a number."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=(), allow_inf_nan=False)


class Data(Frozen):
    path: str = Field(min_length=1)
    sha256: str
    target: str = Field(min_length=1)
    key: Names = Field(min_length=1)
    time: str | None
    ignore: Names = ()
    task: Task = "binary"
    group: str | None = None
    private: Names = ()

    @field_validator("sha256", mode="before")
    @classmethod
    def _pin(cls, pin: Any) -> Any:
        if not isinstance(pin, str) or not re.fullmatch("[0-9a-f]{64}", pin):
            raise ValueError(f"{_shown(pin)} is no sha256; run `make data-lock`, which writes it")
        return pin


class Split(Frozen):
    holdout: float = Field(gt=0, lt=1)
    shared_rows: int = Field(default=0, ge=0)


class Model(Frozen):
    seed: int = Field(ge=0, lt=2**32)
    params: dict[str, Any]
    trusted_types: Names = ()
    tolerance: float = Field(default=1e-5, gt=0, lt=1)


class Guards(Frozen):
    confidence: float = Field(default=0.99, gt=0.5, lt=1)
    segments: Names = ()
    min_rows: int = Field(default=300, ge=20)
    segment_margin: float = Field(default=0.02, ge=0)
    calibration_margin: float | None = Field(default=0.02, ge=0)


class Gate(Frozen):
    metric: str
    promote_when: Literal["superior", "non_inferior"]
    margin: float = Field(ge=0)
    confidence: float = Field(gt=0.5, lt=1)
    floors: dict[str, float] = {}
    guards: Guards = Guards()

    @field_validator("metric")
    @classmethod
    def _known_metric(cls, name: str) -> str:
        return _known(name)

    @field_validator("floors")
    @classmethod
    def _known_floors(cls, floors: dict[str, float]) -> dict[str, float]:
        return {_known(name): floor for name, floor in floors.items()}


def _known(metric: str) -> str:
    if metric not in METRICS:
        raise ValueError(f"no metric {metric!r}; there are {', '.join(METRICS)}")
    return metric


class Serve(Frozen):
    """Limits of one request and of one client, and where predictions are logged."""

    max_rows: int = Field(default=1000, ge=100)  # the golden rows are asked at once
    max_bytes: int = Field(default=2_000_000, ge=1000)
    max_seconds: float = Field(default=10.0, gt=0)
    log: str | None = "/var/log/predictions"
    log_bytes: int = Field(default=100_000_000, ge=100_000)
    client_rate: float | None = Field(default=None, gt=0)
    client_open: int | None = Field(default=None, ge=1)


class Tls(Frozen):
    """Where the edge has its certificate from: files of the host, or a name for which it gets one itself."""

    certificate: str | None = None
    key: str | None = None
    name: str | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Tls:
        files = (self.certificate, self.key)
        if self.name is None and all(file and re.fullmatch("/[^:\\0]+", file) for file in files):
            return self
        if self.name and files == (None, None) and DOMAIN.fullmatch(self.name):
            return self
        raise ValueError(
            "give certificate and key, two absolute paths on the host, or name, as in {name: model.example.com}"
        )


class Deploy(Frozen):
    """How a new image takes the place of the one that serves."""

    bind: str = "127.0.0.1"

    @field_validator("bind")
    @classmethod
    def _address(cls, text: str) -> str:
        try:
            return str(ipaddress.ip_address(text))
        except ValueError:  # Docker takes any other text for all addresses of the host
            raise ValueError(f"{_shown(text)} is no IP address; use 127.0.0.1, or 0.0.0.0 for all") from None

    port: int = Field(default=8080, ge=1, le=65535)
    tls: Tls | None = None
    behind_tls: bool = False
    canary: float = Field(default=0.5, ge=0.05, le=0.5)
    replicas: int = Field(default=2, ge=1, le=100)
    memory: str = "512m"

    @field_validator("memory")
    @classmethod
    def _size(cls, text: str) -> str:
        found = re.fullmatch("([1-9][0-9]{0,5})([mg])", text)
        if not found or (found[2] == "m" and int(found[1]) < 6):
            raise ValueError(f"{_shown(text)} is no size of at least 6m; write it as 512m or 2g")
        return text

    keep: int = Field(default=3, ge=1)
    ready_seconds: float = Field(default=60.0, gt=0)
    watch_seconds: float = Field(default=90.0, ge=0)
    max_error_rate: float = Field(default=0.01, ge=0, le=1)
    max_seconds: float = Field(default=0.5, gt=0)


class Monitor(Frozen):
    """What the scheduled look warns of."""

    max_age_days: int = Field(default=90, ge=1)


class Params(Frozen):
    """The whole of params.yaml."""

    data: Data
    split: Split
    model: Model
    gate: Gate
    serve: Serve = Serve()
    deploy: Deploy = Deploy()
    monitor: Monitor = Monitor()

    @model_validator(mode="after")
    def _metrics_of_the_task(self) -> Params:
        known = of_task(self.data.task)
        for name in (self.gate.metric, *self.gate.floors):
            if name not in known:
                raise ValueError(f"gate: {name} is no metric of data.task {self.data.task}; use {', '.join(known)}")
        return self


class Environment(Frozen):
    """What comes from outside the repository. An empty variable counts as unset, as GitHub passes those."""

    tracking_uri: str | None = None
    token: str | None = None
    server_url: str = "https://github.com"
    api_url: str = "https://api.github.com"
    repository: str | None = None
    job: str = "by hand"
    event: str | None = None
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

    @property
    def registry_auth(self) -> dict[str, str | None] | None:
        """What the Docker SDK wants of whoever pulls or pushes; None: what `docker login` left."""
        if not self.registry_token:
            return None
        return {"username": self.registry_user, "password": self.registry_token}

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
            server_url=server,
            api_url=given.get("GITHUB_API_URL", "https://api.github.com"),
            repository=given.get("GITHUB_REPOSITORY"),
            job="/".join(given[name] for name in ("GITHUB_WORKFLOW", "GITHUB_JOB") if name in given) or "by hand",
            event=given.get("GITHUB_EVENT_PATH"),
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
        )


@cache
def data_options() -> dict[str, Any]:
    """DATA_OPTIONS: what the file system of a data URL is opened with, as `{"key": ..., "secret": ...}` for S3.

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
        # GitHub hides a secret as a whole in logs, not what is written in it.
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
        raise Misuse(f"REGISTRY: {_shown(text)} is no name of a registry; set it as in REGISTRY=ghcr.io/acme")
    return text


def _name(text: str | None) -> str | None:
    if text is not None and not re.fullmatch("[a-z0-9][a-z0-9-]{0,60}", text):
        raise Misuse(f"DEPLOY_NAME: {_shown(text)} is no name; use lower case letters, digits and hyphens")
    return text


def _port(text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch("[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        raise Misuse(f"DEPLOY_PORT: {_shown(text)} is no port; use a number from 1 to 65535")
    return int(text)


class UniqueKeys(yaml.SafeLoader):
    """YAML that refuses a key written twice instead of keeping the last one in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} stands twice", key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else key)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as error:
            if node.tag == "tag:yaml.org,2002:int":
                return math.inf  # of more digits than Python reads: refused where its key is known
            raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in ``path``.

    Raises:
        Misuse: the file is missing, empty, no UTF-8, no YAML or no mapping.
    """
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=UniqueKeys)
    except FileNotFoundError:
        raise Misuse(f"{path.name}: missing; run this in the root of the repository") from None
    except UnicodeDecodeError:
        raise Misuse(f"{path.name}: not UTF-8 text; save it as UTF-8") from None
    except RecursionError:
        raise Misuse(f"{path.name}: too deep; no key needs more than a few levels") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path.name}:{mark.line + 1}" if mark else path.name
        raise Misuse(f"{where}: not YAML: {getattr(error, 'problem', None) or error}; mend that line") from None
    if not isinstance(value, dict):
        raise Misuse(f"{path.name}: holds no keys; `git checkout {path.name}` brings it back")
    return value


def checked(model: type[BaseModel], value: Any, where: str) -> Any:
    """``value`` as ``model``.

    Raises:
        Misuse: with one line for the first key that is wrong; ``where`` is put before it.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise Misuse(f"{where}{first_error(error, model)}") from None


def first_error(error: ValidationError, model: type[BaseModel]) -> str:
    """The first complaint of pydantic as one line: the key, what is wrong and the mend."""
    errors = error.errors(include_url=False)
    # An unknown key is named first: it explains the missing one that it was meant to be.
    first = min(errors, key=lambda e: e["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        close = get_close_matches(str(first["loc"][-1]), _fields(model, first["loc"][:-1]), n=1)
        text = f"{key}: unknown key; " + (f"did you mean {close[0]}?" if close else "remove it")
    elif first["type"] == "missing":
        text = f"{key}: missing; add it"
    else:
        message = first["msg"].removeprefix("Value error, ")
        text = f"{key}: {message[:1].lower()}{message[1:]}" if key else message
        # A complaint of our own has told what was found.
        text += "" if first["type"] == "value_error" else f", not {_shown(first['input'])}"
    more = len(errors) - 1
    return text + (f" (and {more} more)" if more else "")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def plain(value: Any, file: str, key: str = "") -> None:
    """Check that ``value`` holds only what JSON holds, and numbers that a computation can take.

    Raises:
        Misuse: naming the first key of the file that does not.
    """
    where = f"{file}: {key}" if key else file
    if isinstance(value, dict):
        for name, inner in value.items():
            if not isinstance(name, str):
                raise Misuse(f"{where}: the key {_shown(name)} should be text; put it into quotes")
            plain(inner, file, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            plain(inner, file, f"{key}.{number}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise Misuse(f"{where}: input should be a finite number, not {value}")
    elif isinstance(value, int) and abs(value) >= 2**63:
        raise Misuse(f"{where}: input should be a number of at most 64 bits, not {_shown(value)}")
    elif not isinstance(value, str | int | float | None):
        kinds = "text, a number, true, false or null"
        raise Misuse(f"{where}: input should be {kinds}, not a {type(value).__name__}; put text into quotes")


def _fields(model: Any, location: tuple[Any, ...]) -> list[str]:
    for part in location:
        field = getattr(model, "model_fields", {}).get(part)
        model = field.annotation if field else None
    return list(getattr(model, "model_fields", {}))


def load(path: Path, overrides: dict[str, Any] | None = None) -> Params:
    """params.yaml at ``path``, with dotted ``overrides`` such as ``{"model.seed": 8}`` put in.

    Raises:
        Misuse: naming the file, the key and the mend.
    """
    value = read_yaml(path)
    for dotted, new in (overrides or {}).items():
        *parents, last = dotted.split(".")
        place: Any = value
        for parent in parents:
            place = place.get(parent) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            raise Misuse(f'{dotted}: {path.name} has no such key; `make try SET="model.seed=8"` shows the form')
        place[last] = new
    plain(value, path.name)
    return checked(Params, value, f"{path.name}: ")


def pinned(text: str, pin: str) -> str:
    """params.yaml as text with another data.sha256; comments and order of the file survive.

    Raises:
        Misuse: the key is not there.
    """
    place: Any = yaml.compose(text, Loader=UniqueKeys)
    for part in ("data", "sha256"):
        place = next((value for key, value in place.value if key.value == part), None)
        if place is None:
            raise Misuse("params.yaml: data.sha256: missing; add it, with any value")
    start, end = place.start_mark.index, place.end_mark.index
    # An empty value has its place right behind the colon.
    return text[:start] + " " * (text[start - 1] == ":") + pin + text[end:]
