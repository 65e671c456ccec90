"""The events of the ledger: what each kind means, and how one is stored and read."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Literal, NoReturn, get_args

from pydantic import Field, ValidationError, field_validator

from conveyor.core.files import to_json
from conveyor.core.frozen import Frozen

SCHEMA = 2
MOST_BYTES = 2**20  # of one event
MOST_NUMBER = 10**6  # numbers are written with six digits
MOST_ROWS = 10**12  # of one holdout
TIME = r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\dZ$"
COMMIT = "^([0-9a-f]{40}|[0-9a-f]{64})$"
SHA256 = "^[0-9a-f]{64}$"
SKETCH = "^[A-Za-z0-9+/]{86}==$"  # see gate/overlap.py
RECIPE = "^[0-9a-f]{16}$"


class Champion(Frozen):
    """The model of an event, and the event's number."""

    event: int
    key: str
    digest: str
    commit: str


Kind = Literal[
    "accepted",
    "live",
    "confirmed",
    "aborted",
    "kept",
    "blocked",
    "approved",
    "rolled_back",
    "quarantined",
    "released",
    "pruned",
    "migrated",
]


class Event(Frozen):
    """One line of history.

    accepted      the gate accepted the model; it does not serve yet
    live          it serves: from now on it is the champion
    confirmed     rows that came after its data show that the champion is no worse than the champion before it
    aborted       it was accepted and does not come to serve
    kept          the gate did not accept it; the verdict is recorded
    blocked       the gate refused it; the verdict is recorded
    approved      a person accepts a model that could not be compared
    rolled_back   a person goes back to this model from the one in ``replaces``, which is quarantined
    quarantined   a person bans this model
    released      this model, as it served with the code of ``commit``, is the version ``tag``
    pruned        the bytes of old models, ``keys``, were deleted
    migrated      the events up to the commit ``before`` are in the layout of schema 1

    ``id`` tells a writer whose push got no answer that the event is its own. ``by`` is the person or the workflow's
    actor, ``holdout`` the digest of the rows that judged the model, ``target`` the environment in which a model on its
    way must serve before it is live (None: nowhere), ``model`` the commit of its bytes (None: they are not in git),
    ``clock`` the writer's own time where that was before the time of the last event. ``rows``, ``sketch`` and
    ``recipe`` tell later verdicts what this one tested, see gate/looks.py. ``anchor`` is the key of the best champion
    so far (None: it is this one), ``receipt`` the digest of the verdict's receipt, see gate/receipt.py.
    """

    schema_: int = Field(alias="schema", ge=1, le=SCHEMA)
    number: int = Field(ge=1, lt=MOST_NUMBER)
    id: str | None = Field(default=None, pattern="^[0-9a-f]{32}$")
    type: Kind
    key: str = Field(pattern=SHA256)
    digest: str = Field(pattern=SHA256)
    commit: str = Field(pattern=COMMIT)
    data_sha256: str = Field(max_length=100)
    time: str = Field(pattern=TIME)
    clock: str | None = Field(default=None, pattern=TIME)
    run: str | None = Field(default=None, max_length=2000)
    by: str = Field(max_length=1000)
    outcome: str = Field(max_length=100)
    reason: str = Field(max_length=100_000)
    holdout: str | None = Field(default=None, max_length=100)
    rows: int | None = Field(default=None, ge=0, lt=MOST_ROWS)
    sketch: str | None = Field(default=None, pattern=SKETCH)
    recipe: str | None = Field(default=None, pattern=RECIPE)
    anchor: str | None = Field(default=None, pattern=SHA256)
    receipt: str | None = Field(default=None, pattern=SHA256)
    target: str | None = Field(default=None, max_length=100)
    replaces: str | None = Field(default=None, pattern=SHA256)
    tag: str | None = Field(default=None, max_length=1000)
    model: str | None = Field(default=None, pattern=COMMIT)
    before: str | None = Field(default=None, pattern=COMMIT)
    keys: tuple[Annotated[str, Field(pattern=SHA256)], ...] = Field(default=(), strict=False)

    @field_validator("time", "clock")
    @classmethod
    def _day(cls, text: str | None) -> str | None:
        if text is not None:
            datetime.fromisoformat(text)  # 30 February fits the pattern, too
        return text

    @property
    def champion(self) -> Champion:
        return Champion(event=self.number, key=self.key, digest=self.digest, commit=self.commit)

    def stored(self) -> str:
        """The text of its file."""
        values = self.model_dump(by_alias=True, mode="json")
        return to_json({name: value for name, value in values.items() if value not in (None, [])})


KINDS = get_args(Kind)
FIELDS = {field.alias or name for name, field in Event.model_fields.items()}


class Moved(Exception):
    """Another run wrote an event after this decision: decide again, against the new champion."""


class Unsound(Exception):
    """A file of the ledger is not what a writer writes; the text completes "<file> ..."."""


class Newer(Unsound):
    """A newer version of the machinery has written it."""


def path_of(number: int) -> str:
    """The file of an event: a folder holds a hundred, for each event writes the list of its folder again."""
    return f"events/{number // 100:04d}/{number:06d}.json"


def plain(content: bytes) -> dict[str, Any]:
    """A JSON object, as strictly as JSON can be read.

    Raises:
        Unsound: it is none, is not UTF-8, or has a key twice, a byte order mark, NaN or an infinity.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise Unsound("has a key twice")
        return found

    def refuse(constant: str) -> NoReturn:
        raise Unsound(f"holds {constant}")

    try:
        value = json.loads(content.decode(), object_pairs_hook=unique, parse_constant=refuse)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Unsound("is no JSON object")
    return value


def read(content: bytes) -> Event:
    """An event from the bytes of its file.

    Raises:
        Newer: it has a schema, a kind or a key that this version does not know.
        Unsound: it is damaged.
    """
    value = plain(content)
    schema, kind = value.get("schema"), value.get("type")
    if type(schema) is int and schema > SCHEMA:
        raise Newer(f"has schema {schema}, this version knows {SCHEMA}")
    if unknown := set(value) - FIELDS:
        raise Newer(f"has the key {min(unknown)!r:.60}, which this version does not know")
    if isinstance(kind, str) and kind not in KINDS:
        raise Newer(f"is of the kind {kind!r:.60}, which this version does not know")
    try:
        return Event.model_validate(value)
    except ValidationError as error:
        raise Unsound(f"is damaged (key {'.'.join(map(str, error.errors()[0]['loc']))})") from None


def read_again(content: bytes) -> Event:
    """An event that was read before from the same bytes: several times as fast.

    Raises:
        Newer: a newer version that works in the same clone has read it.
        Unsound: it is not as it was.
    """
    try:
        return Event.model_validate_json(content)
    except ValidationError:
        return read(content)
