"""Frozen models that refuse unknown keys, and their first error as one line."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from conveyor.core.errors import Misuse

M = TypeVar("M", bound=BaseModel)
Names = Annotated[tuple[str, ...], Field(strict=False)]  # YAML has lists, a frozen model needs tuples


class Frozen(BaseModel):
    """Frozen; refuses unknown keys, and a text in place of a number."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=(), allow_inf_nan=False)


def checked(model: type[M], value: Any, where: str) -> M:
    """``value`` as ``model``.

    Raises:
        Misuse: one line for the first wrong key; ``where`` is put before it.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise Misuse(f"{where}{first_error(error, model)}") from None


def first_error(error: ValidationError, model: type[BaseModel]) -> str:
    """The first error of pydantic as one line: the key, the fault and the fix."""
    errors = error.errors(include_url=False)
    # An unknown key comes first: it is often the misspelt name of the missing one.
    first = min(errors, key=lambda e: e["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        close = get_close_matches(str(first["loc"][-1]), _fields(model, first["loc"][:-1]), n=1)
        text = f"{key}: unknown key; " + (f"did you mean {close[0]}?" if close else "remove it")
    elif first["type"] == "missing":
        text = f"{key}: missing; add it"
    else:
        message = _SAID.get(first["type"], first["msg"].removeprefix("Value error, "))
        if first["type"] == "float_type" and re.fullmatch(r"[+-]?\d+[eE][+-]?\d+", str(first["input"])):
            message = "a number needs a point before its exponent, such as 1.0e-5"  # YAML reads 1e-5 as text
        text = f"{key}: {message[:1].lower()}{message[1:]}" if key else message
        # Our own validators already say what was found.
        text += "" if first["type"] == "value_error" else f", not {shown(first['input'])}"
    more = len(errors) - 1
    return text + (f" (and {more} more)" if more else "")


# What pydantic says of these in the words of Python.
_SAID = {
    "tuple_type": "input should be a list, such as [one, two]",
    "dict_type": "input should be a mapping, such as {one: 1}",
    "too_short": "the list should not be empty",
}


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _fields(model: Any, location: tuple[Any, ...]) -> list[str]:
    for part in location:
        field = getattr(model, "model_fields", {}).get(part)
        model = field.annotation if field else None
    return list(getattr(model, "model_fields", {}))
