"""The receipt of a verdict: written beside it, and derived again from the file alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from conveyor.core import ci, seal
from conveyor.core.errors import Misuse, Refused
from conveyor.core.files import sha256, to_json, write_text
from conveyor.core.project import Project
from conveyor.gate import metrics
from conveyor.gate.decision import Decision
from conveyor.gate.receipt import Damaged, Receipt, receipt
from conveyor.ledger.ledger import ledger_of

NAME = "receipt.json"


def write(project: Project, given: dict[str, Any], decision: Decision, **about: Any) -> str:
    """Write build/receipt.json where that may be, and return the receipt's digest, which does not depend on that.

    In a workflow the build folder becomes an artifact, so there the file is written only if ``gate.receipt`` says so
    and the repository is private.
    """
    text = stored(receipt(given, decision, version=seal.read(project.root)[0], **about))
    path, (digest, content) = project.build / NAME, text
    path.unlink(missing_ok=True)
    if not project.environment.run_url:
        write_text(path, content)
    elif project.params.gate.receipt:
        repository = ci.event(project.environment).get("repository")
        if isinstance(repository, dict) and repository.get("private") is True:
            write_text(path, content)
        else:
            ci.annotate(project.environment, "warning", "No receipt", "gate.receipt is for private repositories only")
    return digest


def stored(made: Receipt) -> tuple[str, str]:
    """The digest of a receipt, and its text with the digest in it."""
    values = made.model_dump(mode="json", by_alias=True)
    digest = sha256(to_json(values).encode())
    return digest, to_json({**values, "sha256": digest})


def read(content: bytes) -> tuple[str, Receipt]:
    """The digest and the receipt in a file.

    Raises:
        Refused: it is none, it is damaged, or its digest is of another content.
    """
    try:
        made = _Stored.model_validate_json(content)
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        raise Refused(f"verify: the file is no receipt of this version{f' (key {key:.60})' if key else ''}") from None
    values = made.model_dump(mode="json", by_alias=True)
    said = values.pop("sha256")
    digest, text = stored(Receipt.model_validate_json(to_json(values)))
    if said != digest:
        raise Refused("verify: the digest in the receipt is of another content: it was changed")
    if text.encode() != content:
        raise Refused("verify: the receipt is not written as `compare` writes it: it was changed")
    return digest, made


class _Stored(Receipt):
    sha256: str


def derived(made: Receipt) -> Decision:
    """The verdict of a receipt, derived again.

    Raises:
        Refused: another one follows from its content.
        Misuse: its metric is the team's own, and not known here.
    """
    named = {made.rule.metric, *made.rule.floors}
    known = metrics.of_task(made.task).keys()
    if foreign := sorted(named & made.rule.own_metrics.keys() - known):
        raise Misuse(f"verify: {foreign[0]} is a metric of the team; run this in the repository of the receipt")
    if unfit := sorted(named - known):
        raise Refused(f"verify: the receipt is of a {made.task} task, which has no metric {unfit[0]}")
    try:
        again = made.again()
    except Damaged as damage:
        raise Refused(f"verify: the receipt {damage}") from None
    unlike = different(made.decision.model_dump(mode="json"), again.model_dump(mode="json"))
    if unlike:
        raise Refused(f"verify: the verdict does not follow from the receipt: {unlike}")
    return again


def different(said: Any, found: Any, where: str = "") -> str | None:
    """The first difference in words; numbers may differ by rounding, as between two processors."""
    if isinstance(said, dict) and isinstance(found, dict) and said.keys() == found.keys():
        inner = ((said[key], found[key], f"{where}.{key}" if where else key) for key in said)
        return next((text for each in inner if (text := different(*each))), None)
    if isinstance(said, list) and isinstance(found, list) and len(said) == len(found):
        lines = ((one, other, f"{where}.{place}") for place, (one, other) in enumerate(zip(said, found, strict=True)))
        return next((text for each in lines if (text := different(*each))), None)
    if isinstance(said, float) and isinstance(found, float):
        same = math.isclose(said, found, rel_tol=1e-9, abs_tol=1e-12)
    else:
        same = said == found
    return None if same else f"its {where} is {said!r:.120}, and {found!r:.120} follows"


def run(path: Path, root: Path, event: int | None = None) -> str:
    """Verify a receipt: its digest, its verdict, and that an event of the ledger in ``root`` records it.

    Args:
        path: the file.
        root: the repository; where there is none, the line says so.
        event: the number of the event; None: any.

    Raises:
        Refused: something is not as it was.
        Misuse: there is no such file or event, or the ledger of the named event cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Misuse(f"{path}: cannot be read: {error.strerror}; name a receipt") from None
    digest, made = read(content)
    project, unread = None, ""
    try:
        project = Project(root)
        metrics.add(project.params.gate.own_metrics if made.rule.own_metrics == project.params.gate.own_metrics else {})
    except Misuse as error:
        unread = str(error)
    again = derived(made)
    told = f"{again.outcome} follows from {again.rows:,} rows; version {made.version}, receipt {digest[:12]}"
    try:
        events = ledger_of(project).events if project else []
    except Misuse as error:
        unread = str(error)
    if unread:
        if event is not None:
            raise Misuse(f"verify: event {event} cannot be read: {unread}")
        return f"{told}; NOT compared with the ledger, which cannot be read: {unread}"
    if event is not None and not any(each.number == event for each in events):
        raise Misuse(f"verify: there is no event {event}; `make history` lists them")
    asked = [each for each in events if event in (None, each.number)]
    recorded = next((each.number for each in asked if each.receipt == digest), None)
    if recorded is None and event is None and again.outcome == "keep" and not again.tested:
        raise Misuse(f"verify: no event records this receipt: a verdict that tests nothing has none ({again.reason})")
    if recorded is None:
        where = "no event of the ledger" if event is None else f"event {event} does not"
        raise Refused(f"verify: {where} record{'s' * (event is None)} this receipt: it is not that of a verdict there")
    return f"{told}; event {recorded} records it"
