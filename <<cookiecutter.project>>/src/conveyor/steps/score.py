"""Predict the holdout with the challenger and with the champion, and write build/scores.parquet."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np

from conveyor.core.project import Project
from conveyor.data import hashing, tables
from conveyor.data.columns import features
from conveyor.data.source import frame_of
from conveyor.data.split import SplitRule
from conveyor.ledger.ledger import ledger_of
from conveyor.model.bundle import Bundle
from conveyor.model.scoring import BATCH, Scored, of_champion, of_own_bundle

ROUNDS = 15  # how often models are timed in turn


def run(project: Project) -> str:
    """Write build/scores.parquet: a row for each holdout row, with the predictions of champion and challenger."""
    challenger = Bundle(project.build / "candidate")
    frame = frame_of(project)
    positions = np.flatnonzero(~SplitRule.read(challenger.path).trained_on(frame))
    rows = features(frame.iloc[positions], project.params.data)
    champion = ledger_of(project).champion()
    about: dict[str, Any] = {
        "champion": champion.model_dump() if champion else None,
        "champion_error": None,
        "challenger": {"key": challenger.key, "digest": challenger.digest, "recipe": challenger.recipe},
        "cost": None,
    }
    columns: tables.Columns = {"row": positions, "content": hashing.row_hash(frame.iloc[positions])}
    with ExitStack() as stack:
        ours = stack.enter_context(of_own_bundle(project, challenger, rows))
        columns["challenger"], columns["champion"] = ours.predictions, np.full(ours.predictions.shape, np.nan)
        if champion:
            judged = ledger_of(project).bundle(champion)  # its damage is an error, not a champion that cannot score
            theirs, about["champion_error"] = stack.enter_context(of_champion(project, judged, rows))
            if theirs:
                columns["champion"] = theirs.predictions
                about["cost"] = cost(ours, theirs, challenger, judged)
    tables.write(project.build / "scores.parquet", columns, about)
    against = f"champion {champion.key[:12]}" if champion else "no champion yet"
    return f"{len(positions)} holdout rows scored: challenger {challenger.key[:12]}, {against}"


def cost(ours: Scored, theirs: Scored, challenger: Bundle, champion: Bundle) -> dict[str, Any]:
    """Seconds for BATCH rows and bytes of both models: medians of ROUNDS rounds in which both take turns."""
    rounds = np.array([(ours.again(), theirs.again()) for _ in range(ROUNDS + 1)][1:])  # the first one warms up
    seconds = [float(value) if np.isfinite(value) else None for value in np.median(rounds, axis=0)]
    return {
        "rows": BATCH,
        "seconds": dict(zip(("challenger", "champion"), seconds, strict=True)),
        "bytes": {"challenger": challenger.model_bytes, "champion": champion.model_bytes},
    }
