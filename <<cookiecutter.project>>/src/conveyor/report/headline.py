"""The headline of a report: it says no more than the evidence shows, which may be missing or point the other way."""

from __future__ import annotations

from typing import NamedTuple

from conveyor.gate.decision import BANNED
from conveyor.report.wording import MEANING, Json, counted, state, verdict


class Headline(NamedTuple):
    """A tone of the style sheet, a title, and a sentence."""

    tone: str
    title: str
    sentence: str


def headline(validation: Json, decision: Json | None) -> Headline:
    """The headline of a verdict, for a reader who does not know the gate."""
    outcome, _ = verdict(validation, decision)
    plain = Headline(*MEANING[outcome])
    if decision is None or outcome not in ("bootstrap", "promote", "keep"):
        return plain
    if outcome == "promote" and any(str(flag).startswith(BANNED) for flag in decision["flags"]):
        return Headline("warn", "The challenger is quarantined", "The gate lets it pass, but a person has banned it.")
    judged = decision["decision"]
    return {"bootstrap": _first, "promote": _promoted, "keep": _kept}[outcome](plain, judged)


def _first(plain: Headline, judged: Json) -> Headline:
    if judged["floors"]:
        return plain
    return plain._replace(tone="even", sentence="There is nothing to beat yet, and no floor asks anything of it.")


def _promoted(plain: Headline, judged: Json) -> Headline:
    """A model that passes as no worse has not won, and may even measure worse."""
    gate, watched = _gate(judged), _watched(judged)
    if judged["promote_when"] == "superior" or gate["gain_low"] > 0:
        return plain._replace(sentence=f"It is shown to be better{watched}, so it may become the champion.")
    title = "The challenger passes as no worse"
    if gate["gain"] < 0:
        title = "The challenger passes, though it looks worse"
    loss = f"worse by more than {judged['margin']:g}" if judged["margin"] else "worse"
    return Headline(
        plain.tone, title, f"It is shown to be not {loss}{watched}, so it may become the champion. A gain is not shown."
    )


def _watched(judged: Json) -> str:
    states = [state(guard) for guard in judged["guards"]]
    beyond, told = states.count("beyond"), len(states) - states.count("cannot tell")
    if beyond:
        verb = "measures" if beyond == 1 else "measure"
        return f", though {counted(beyond, 'guard')} {verb} beyond what is tolerated, which may be luck"
    return "" if told else ", though no guard could look for harm to a part of the rows"


def _kept(plain: Headline, judged: Json) -> Headline:
    gate = _gate(judged)
    if gate["gain"] is None or not gate["gain"]:
        return plain
    if gate["gain"] > 0:
        if gate["gain_low"] is None:
            return plain._replace(sentence="There are too few rows to tell whether replacing it would help.")
        if any(state(guard) == "in doubt" for guard in judged["guards"]):
            return plain._replace(sentence="The challenger looks better over all rows, but worse in a part of them.")
        return plain
    if gate["gain_low"] is None:
        few = "It measures worse than the champion, but there are too few rows to tell whether that is luck."
        return plain._replace(title="The challenger looks worse, on too few rows to tell", sentence=few)
    why = "It measures worse than the champion, and that may be luck."
    if gate["gain_high"] < 0:
        margin = f" by more than {judged['margin']:g}" if judged["margin"] else ""
        why = f"It is probably worse than the champion, but not shown{margin} with the confidence that a block needs."
    return plain._replace(title="The challenger looks worse, but not by enough to block", sentence=why)


def _gate(judged: Json) -> Json:
    """The metric that decides."""
    gate: Json = next(metric for metric in judged["metrics"] if metric["name"] == judged["metric"])
    return gate
