"""params.yaml as frozen models that refuse unknown keys."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from conveyor.core.errors import Misuse
from conveyor.core.frozen import Frozen, Names, checked, shown
from conveyor.core.migrations import RENAMED
from conveyor.core.tasks import METRICS, Task, of_task
from conveyor.core.team import REFERENCE
from conveyor.core.yaml_file import UniqueKeys, plain, read_yaml

DOMAIN = re.compile(r"(?=.{1,253}$)([a-z0-9-]{1,63}\.)+[a-z]{2,63}")


class Source(Frozen):
    """Where `make collect` gets new rows: at a URL, from a command, or from a database by SQL."""

    url: str | None = Field(default=None, min_length=1)
    command: str | None = Field(default=None, pattern=r"\S")
    sql: str | None = None
    query: str | None = Field(default=None, min_length=1)

    @field_validator("url", "sql")
    @classmethod
    def _no_secret(cls, url: str | None, of: ValidationInfo) -> str | None:
        # Other words behind a question mark hold secrets, too, but nobody can tell which.
        if url and re.match(r"[^/]*://([^/@]*:[^/@]*@|.*[?&]password=)", url):
            place = "SOURCE_PASSWORD" if of.field_name == "sql" else "DATA_OPTIONS"
            raise ValueError(f"a password has no place in this file; leave it out and set {place}")
        return url

    @model_validator(mode="after")
    def _one_way(self) -> Source:
        given = [name for name in ("url", "command", "sql") if getattr(self, name)]
        if len(given) != 1 or (self.sql is None) != (self.query is None):
            raise ValueError("give url, or command, or sql with query")
        return self


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
    text: Names = ()
    numbers: Names = ()
    source: Source | None = None

    @field_validator("sha256", mode="before")
    @classmethod
    def _pin(cls, pin: Any) -> Any:
        if not isinstance(pin, str) or not re.fullmatch("[0-9a-f]{64}", pin):
            raise ValueError(f"{shown(pin)} is no sha256; run `make data-lock`, which writes it")
        return pin

    @model_validator(mode="after")
    def _one_type(self) -> Data:
        for name in self.text:
            if name in self.numbers:
                raise ValueError(f"text and numbers both name {name}; a column has one type")
        return self


class Split(Frozen):
    holdout: float = Field(gt=0, lt=1)
    shared_rows: int = Field(default=0, ge=0)


class Model(Frozen):
    """What is trained.

    Attributes:
        build: the function that makes the unfitted pipeline, as package.module:function; see conveyor/api.py.
    """

    build: str

    @field_validator("build")
    @classmethod
    def _named(cls, reference: str) -> str:
        if not REFERENCE.fullmatch(reference):
            raise ValueError(f"{shown(reference)} names no function; write it as package.module:function")
        return reference

    seed: int = Field(ge=0, lt=2**32)
    params: dict[str, Any]
    trusted_types: Names = ()
    tolerance: float = Field(default=1e-5, gt=0, lt=1)


class Guards(Frozen):
    confidence: float = Field(default=0.99, gt=0.5, lt=1)
    segments: Names = ()
    min_rows: int = Field(default=100, ge=20)
    segment_margin: float = Field(default=0.02, ge=0)
    doubt: float = Field(default=0.1, ge=0, le=0.5)
    calibration_margin: float | None = Field(default=0.02, ge=0)


def _block(value: Any) -> Any:
    named = value in ("day", "week", "row") if isinstance(value, str) else type(value) is int and 1 <= value <= 100_000
    if not named:
        raise ValueError(f"{shown(value)} is no block; write day, week, row, or a number of hours such as 6")
    return value


# Rows of one block of time belong together: of one day, one week, or so many hours; row: each row is alone.
Block = Annotated[Literal["day", "week", "row"] | int, BeforeValidator(_block)]
BLOCK = re.compile(r"hour|day|week|\d+ hours")  # what a block of time is called


class Gate(Frozen):
    own_metrics: dict[str, str] = {}  # first, because the metrics below may name one of these
    metric: str
    promote_when: Literal["superior", "non_inferior"]
    margin: float = Field(ge=0)
    confidence: float = Field(gt=0.5, lt=1)
    threshold: float = Field(default=0.5, gt=0, lt=1)  # of a binary task; the service has the same
    false_share: float | None = Field(default=0.1, gt=0, lt=1)
    floors: dict[str, float] = {}
    block: Block = "day"
    receipt: bool = False  # whether workflows keep build/receipt.json, in a private repository
    guards: Guards = Guards()

    @field_validator("own_metrics")
    @classmethod
    def _named(cls, own: dict[str, str]) -> dict[str, str]:
        for name, reference in own.items():
            if name in METRICS or not re.fullmatch("[a-z][a-z0-9_]{0,40}", name):
                raise ValueError(f"{shown(name)} is taken, or no name of a metric; use lower case letters and _")
            if not REFERENCE.fullmatch(reference):
                raise ValueError(f"{shown(reference)} names nothing; write it as package.module:NAME")
        return own

    @field_validator("metric", "floors")
    @classmethod
    def _known(cls, named: Any, others: ValidationInfo) -> Any:
        known = (*METRICS, *others.data.get("own_metrics", ()))
        for name in [named] if isinstance(named, str) else named:
            if name not in known:
                raise ValueError(f"no metric {name!r}; there are {', '.join(known)}")
        return named


class Serve(Frozen):
    """Limits of one request and of one client, and where predictions are logged."""

    max_rows: int = Field(default=1000, ge=100)  # the golden rows are sent in one request
    max_bytes: int = Field(default=2_000_000, ge=1000)
    max_seconds: float = Field(default=10.0, gt=0)
    log: str | None = "/var/log/predictions"
    log_bytes: int = Field(default=100_000_000, ge=100_000)
    log_days: int | None = Field(default=None, ge=1)
    feedback: bool = False
    client_rate: float | None = Field(default=None, gt=0)
    client_open: int | None = Field(default=None, ge=1)


class Tls(Frozen):
    """The source of the edge's certificate: files of the host, or a name for which the edge gets one."""

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
    """Where the model is served, and how a new image replaces the one that serves."""

    target: Literal["docker", "kubernetes"] = "docker"
    bind: str = "127.0.0.1"

    @field_validator("bind")
    @classmethod
    def _address(cls, text: str) -> str:
        try:
            return str(ipaddress.ip_address(text))
        except ValueError:  # Docker reads any other text as all addresses of the host
            raise ValueError(f"{shown(text)} is no IP address; use 127.0.0.1, or 0.0.0.0 for all") from None

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
            raise ValueError(f"{shown(text)} is no size of at least 6m; write it as 512m or 2g")
        return text

    keep: int = Field(default=3, ge=1)
    ready_seconds: float = Field(default=60.0, gt=0)
    watch_seconds: float = Field(default=90.0, ge=0)
    max_error_rate: float = Field(default=0.01, ge=0, le=1)
    max_seconds: float = Field(default=0.5, gt=0)


class Ledger(Frozen):
    """Where the bytes of models are kept, and from which event on signatures are wanted."""

    models: str | None = Field(default=None, min_length=1)
    signed_from: int | None = Field(default=None, ge=1)


class Monitor(Frozen):
    """What the scheduled monitor looks at, and what it warns of."""

    max_age_days: int = Field(default=90, ge=1)
    labels: str | None = Field(default=None, min_length=1)  # None: the data of data.path
    false_alarms: float = Field(default=0.05, gt=0, lt=1)  # in a year
    tolerance: float = Field(default=0.01, ge=0)  # of the loss, in its units
    rollback: bool = False
    retrain: Literal["propose", "deliver"] | None = None  # None (null): rows are proposed as they come
    retrain_most: int = Field(default=2, ge=1)  # models that come to be live in 30 days


class Params(Frozen):
    """The whole of params.yaml."""

    data: Data
    split: Split
    model: Model
    gate: Gate
    serve: Serve = Serve()
    deploy: Deploy = Deploy()
    ledger: Ledger = Ledger()
    monitor: Monitor = Monitor()

    @model_validator(mode="after")
    def _metrics_of_the_task(self) -> Params:
        known = (*of_task(self.data.task), *self.gate.own_metrics)
        for name in (self.gate.metric, *self.gate.floors):
            if name not in known:
                raise ValueError(f"gate: {name} is no metric of data.task {self.data.task}; use {', '.join(known)}")
        return self

    @model_validator(mode="after")
    def _the_target_divides_nothing(self) -> Params:
        for key, names in (("data.group", (self.data.group,)), ("gate.guards.segments", self.gate.guards.segments)):
            if self.data.target in names:
                raise ValueError(f"{key}: {self.data.target} is the target; name another column")
        return self

    @model_validator(mode="after")
    def _nothing_private_is_kept(self) -> Params:
        if self.gate.receipt and self.data.private:
            raise ValueError(
                "gate.receipt: an artifact would hold labels and segments, and data.private names columns; use false"
            )
        return self

    @model_validator(mode="after")
    def _labels_have_a_place(self) -> Params:
        if self.serve.feedback and self.serve.log is None:
            raise ValueError(
                "serve.feedback: labels are kept beside the predictions, and serve.log is null; name a place"
            )
        if self.serve.feedback and self.data.target in self.data.private:
            raise ValueError(
                f"serve.feedback: labels are {self.data.target}, which data.private keeps out of the log; use false"
            )
        return self

    @model_validator(mode="after")
    def _judged_by_others(self) -> Params:
        model = self.model.build.partition(":")[0]
        for name, reference in self.gate.own_metrics.items():
            module = reference.partition(":")[0]
            if module == model or module.endswith(".model"):
                raise ValueError(
                    f"gate.own_metrics.{name}: {module} is a module of models, which change without a review by the"
                    " owner of the gate; write the metric into another one"
                )
        return self


def load(path: Path, overrides: dict[str, Any] | None = None) -> Params:
    """params.yaml at ``path`` with dotted ``overrides``, such as ``{"model.seed": 8}``.

    Raises:
        Misuse: naming the file, the key and the fix.
    """
    value = read_yaml(path)
    for dotted, new in (overrides or {}).items():
        place, last = _place(value, dotted)
        if place is None:
            raise Misuse(f'{dotted}: {path.name} has no such key; `make try SET="model.seed=8"` shows the form')
        place[last] = new
    plain(value, path.name)
    for change in RENAMED:
        place, last = _place(value, change.old)
        if place is not None and last in place:
            raise Misuse(f"{path.name}: {change.old}: is called {change.new} since version {change.version}; rename it")
    return checked(Params, value, f"{path.name}: ")


def _place(value: Any, dotted: str) -> tuple[dict[str, Any] | None, str]:
    """The mapping that a dotted key stands in, None where there is none, and the last part of the key."""
    *parents, last = dotted.split(".")
    for parent in parents:
        value = value.get(parent) if isinstance(value, dict) else None
    return (value if isinstance(value, dict) else None), last


def pinned(text: str, pin: str) -> str:
    """The text of params.yaml with another data.sha256; comments and order stay.

    Raises:
        Misuse: the key is missing.
    """
    place: Any = yaml.compose(text, Loader=UniqueKeys)
    for part in ("data", "sha256"):
        place = next((value for key, value in place.value if key.value == part), None)
        if place is None:
            raise Misuse("params.yaml: data.sha256: missing; add it, with any value")
    start, end = place.start_mark.index, place.end_mark.index
    # An empty value starts right behind the colon.
    return text[:start] + " " * (text[start - 1] == ":") + pin + text[end:]
