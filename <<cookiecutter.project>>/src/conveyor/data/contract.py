"""The data contract: the expectations in expectations/data.json, checked by Great Expectations."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from conveyor.core.errors import Misuse
from conveyor.data.hints import hint

SUITE = "expectations/data.json"
MEND = f"mend the data, or {SUITE} if the contract has changed"
EXAMPLES = 3
DATABASES = ("_like_pattern", "_other_table", "_query_", "unexpected_rows_")  # Great Expectations checks these there
UNCHECKED = "which cannot be checked on these values"

# Expectations in words. Others are shown by their name and arguments.
WORDS = {
    "expect_column_values_to_be_between": "values {limits}",
    "expect_column_mean_to_be_between": "a mean {limits}",
    "expect_column_values_to_be_in_set": "only {value_set}",
    "expect_column_distinct_values_to_equal_set": "exactly the values {value_set}",
    "expect_column_values_to_be_in_type_list": "the type {type_list}",
    "expect_column_value_lengths_to_equal": "values of length {value:g}",
    "expect_column_values_to_not_be_null": "no missing value",
    "expect_compound_columns_to_be_unique": "no two rows alike in {column_list}",
    "expect_table_row_count_to_be_between": "{limits} rows",
    "expect_table_columns_to_match_ordered_list": "the columns {column_list}",
}


@dataclass(frozen=True)
class Outcome:
    """One expectation and whether it holds; if not, ``detail`` says in a sentence what was found."""

    type: str
    column: str | None
    passed: bool
    detail: str


def validate(frame: pd.DataFrame, suite: dict[str, Any], docs: Path | None = None) -> list[Outcome]:
    """Check a frame against a suite of Great Expectations.

    Args:
        frame: the data (n x columns).
        suite: name and expectations, in the JSON format of Great Expectations.
        docs: the folder for its Data Docs, or None.

    Returns:
        An outcome per expectation, in the order of the suite.

    Raises:
        Misuse: Great Expectations does not know an expectation or an argument of the suite, or fails on one.
    """
    expectations = [_in_zone(expectation, frame) for expectation in suite["expectations"]]
    try:
        return _checked(frame, suite["name"], expectations, docs)
    except (Misuse, OSError):
        raise
    except Exception as error:  # Great Expectations raises any, as for a result that it cannot keep
        for number, expectation in enumerate(expectations if len(expectations) > 1 else [], 1):
            try:
                _checked(frame, suite["name"], [expectation], None)
            except Exception as cause:  # the same, now with the expectation that is at fault
                raise _refused(number, expectation["type"], cause) from error
        raise _refused(1, expectations[0]["type"], error) from error


def _refused(number: int, kind: str, error: Exception) -> Misuse:
    why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return Misuse(f"{SUITE}: expectation {number}, {kind}, is refused: Great Expectations fails on it ({why}); drop it")


def _in_zone(expectation: dict[str, Any], frame: pd.DataFrame) -> dict[str, Any]:
    """An expectation with its limits in the zone of the column of times: a day is its beginning in UTC."""
    given = expectation.get("kwargs") or {}
    column = frame.get(given.get("column")) if isinstance(given.get("column"), str) else None
    if column is None or not pd.api.types.is_datetime64_any_dtype(column):
        return expectation
    limits = {}
    for name in ("min_value", "max_value"):
        with suppress(TypeError, ValueError):
            if isinstance(given.get(name), str):
                time = pd.Timestamp(given[name])
                aware = time.tz_localize("UTC") if time.tz is None else time.tz_convert("UTC")
                limits[name] = (aware if column.dt.tz is not None else aware.tz_localize(None)).isoformat()
    return {**expectation, "kwargs": {**given, **limits}}


def _checked(frame: pd.DataFrame, name: str, expectations: list[dict[str, Any]], docs: Path | None) -> list[Outcome]:
    import great_expectations as gx
    from great_expectations.checkpoint.actions import UpdateDataDocsAction
    from great_expectations.data_context.types.base import ProgressBarsConfig

    # Its results and exceptions hold everything; its log only repeats them with tracebacks.
    logging.getLogger("great_expectations").setLevel(logging.CRITICAL)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    actions: list[Any] = []
    if docs:
        backend = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs)}
        site: Any = {
            "class_name": "SiteBuilder",
            "store_backend": backend,
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        }
        context.add_data_docs_site("data_docs", site)
        actions = [UpdateDataDocsAction(name="docs", site_names=["data_docs"])]
    asset = context.data_sources.add_pandas("pandas").add_dataframe_asset("data")
    batch = asset.add_batch_definition_whole_dataframe("all")
    built = context.suites.add(_suite(name, expectations))
    definition = context.validation_definitions.add(gx.ValidationDefinition(name="data", data=batch, suite=built))
    checkpoint = gx.Checkpoint(name="data", validation_definitions=[definition], actions=actions)
    checkpoint.result_format = {"result_format": "COMPLETE", "partial_unexpected_count": EXAMPLES}
    [done] = context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": frame}).run_results.values()
    # The type allows results without an expectation, but results of a suite have one.
    given: list[Any] = done.results
    results = sorted(given, key=lambda result: result.expectation_config.meta["place"])
    return [_outcome(result, frame) for result in results]


def _suite(name: str, expectations: list[dict[str, Any]]) -> Any:
    """The suite as an object. Great Expectations silently drops what it cannot build; this function refuses it."""
    import great_expectations as gx
    from great_expectations.exceptions.exceptions import GreatExpectationsError
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    numbered = []
    for number, expectation in enumerate(expectations, 1):
        kind = expectation["type"]
        if any(part in kind for part in DATABASES):
            mend = f"use {kind.replace('like_pattern', 'regex')}" if DATABASES[0] in kind else "drop it"
            raise Misuse(f"{SUITE}: expectation {number}, {kind}, is refused: it is for databases; {mend}")
        try:
            # Results come in another order than the expectations: each carries its position.
            numbered.append({**expectation, "meta": {**(expectation.get("meta") or {}), "place": number}})
            ExpectationConfiguration(**numbered[-1]).to_domain_obj()
        except (TypeError, ValueError, KeyError, GreatExpectationsError) as error:
            # Of several lines the first one counts the faults, and the first two describe the first fault.
            lines = str(error).splitlines()
            why = ": ".join(line.strip().partition(" (type=")[0] for line in lines[1:3] or lines)
            raise Misuse(f"{SUITE}: expectation {number}, {expectation['type']}, is refused: {why}; mend it") from None
    return gx.ExpectationSuite(name=name, expectations=numbered)


def _outcome(result: Any, frame: pd.DataFrame) -> Outcome:
    config = result.expectation_config
    arguments = {name: value for name, value in config.kwargs.items() if name != "batch_id"}
    column = arguments.pop("column", None)
    wanted = WORDS.get(config.type, config.type.removeprefix("expect_").replace("_", " ") + " {}")
    try:
        given = ", ".join(f"{name}={value}" for name, value in arguments.items())
        wanted = wanted.format(given, limits=_limits(**arguments), **arguments).rstrip()
    except (KeyError, TypeError, ValueError):  # an argument is missing, or belongs to the result of another expectation
        wanted = f"{config.type} {arguments}"
    if arguments.get("mostly"):
        wanted += f" in {arguments['mostly']:.0%} of the rows"
    if result.success:
        return Outcome(config.type, column, True, wanted)
    subject = f"column {column!r}: " if column else ""
    missing = column and column not in frame.columns
    found = "the column is missing" if missing else _found(result, arguments, frame)
    text = column in frame.columns and not pd.api.types.is_datetime64_any_dtype(frame[column])
    if text and " in row " not in found and (how := hint(frame[column])):
        found += f"; {how}"
    return Outcome(config.type, column, False, f"{subject}expected {wanted}, {found}")


def _limits(min_value: Any = None, max_value: Any = None, **_: Any) -> str:
    # Great Expectations turns numbers into floats, and texts into times.
    low, high = (f"{v:.15g}" if isinstance(v, int | float) else str(v) for v in (min_value, max_value))
    if min_value is None or max_value is None:
        return f"of at least {low}" if max_value is None else f"of at most {high}"
    return f"between {low} and {high}"


def _found(result: Any, arguments: dict[str, Any], frame: pd.DataFrame) -> str:
    """What was found instead, with examples by their row in the file (row 1 is the first one under the header)."""
    if "column_list" in arguments and isinstance(result.result.get("observed_value"), list):
        return _columns(arguments["column_list"], list(frame.columns))
    if result.result.get("element_count") and result.result.get("unexpected_count"):
        count, total = result.result["unexpected_count"], result.result["element_count"]
        pairs = zip(
            result.result.get("partial_unexpected_list", []),
            result.result.get("partial_unexpected_index_list", []),
            strict=False,
        )
        examples = ", ".join(f"{_short(value)} in row {row + 1}" for value, row in pairs)
        return f"{count} of {total} rows differ" + (f": {examples}" if examples else "")
    if "partial_missing_list" in result.result:  # the result of a set of distinct values
        also, absent = result.result.get("partial_unexpected_list"), result.result["partial_missing_list"]
        return " and ".join(f"{word} {_short(of)}" for word, of in (("found no", absent), ("found also", also)) if of)
    if "observed_value" in result.result:
        return f"found {_short(result.result['observed_value'])}"
    return UNCHECKED


def _short(value: Any) -> str:
    """A value of the data on one line: a line break in it must not begin a new line in a log."""
    text = ", ".join(str(part) for part in value.values()) if isinstance(value, dict) else str(value)
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= 60 else text[:57] + "..."


def _columns(wanted: list[str], found: list[str]) -> str:
    for name in wanted:
        if name not in found:
            return f"column {name!r} is missing"
    for name in found:
        if name not in wanted:
            return f"column {name!r} is not among them"
    name = next(name for name, other in zip(found, wanted, strict=True) if name != other)
    return f"column {name!r} stands in the place of {wanted[found.index(name)]!r}"


def read_suite(path: Path) -> dict[str, Any]:
    """Read the contract.

    Raises:
        Misuse: the file is missing, is no JSON, or is no suite.
    """
    try:
        suite = json.loads(path.read_bytes())
        if not suite["expectations"] or not all(isinstance(e["type"], str) for e in suite["expectations"]):
            raise KeyError("expectations")
    except FileNotFoundError:
        raise Misuse(f"{SUITE}: missing; `git checkout {SUITE}` brings it back") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise Misuse(f"{SUITE}: not JSON: {error}; mend it") from None
    except (KeyError, TypeError):
        raise Misuse(f"{SUITE}: no suite of expectations; it needs `name` and a list `expectations`") from None
    if not isinstance(suite.get("name", "data"), str) or not suite.get("name", "data").strip():
        raise Misuse(f'{SUITE}: `name` is no text; write one, as in "name": "data"')
    return {"name": "data", **suite}
