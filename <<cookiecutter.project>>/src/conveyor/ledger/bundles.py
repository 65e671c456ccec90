"""The bytes of models in the ledger: written with an event, read back, put back where they are missing, deleted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from conveyor.core.errors import Misuse
from conveyor.core.git import GitError
from conveyor.ledger.damage import Damage
from conveyor.ledger.events import Champion, Event, Kind
from conveyor.ledger.journal import Journal, repeated
from conveyor.ledger.store import MODELS
from conveyor.model.bundle import Bundle

KEYS = 5_000  # models that one event can delete


class Bundles(Journal):
    """The bundles of a ledger, each the bytes of one model."""

    def restore(self, key: str, path: Path) -> bool:
        """Put the bundle of an earlier event with this key at ``path``; False if no bundle is stored."""
        event = self.stored(key)
        if event:
            self.models.extract(event, path)
        return event is not None

    def bundle(self, model: Champion, folder: str = "champion") -> Bundle:
        """The bundle of a model in this folder of build/, its digest verified.

        Raises:
            Misuse: its bytes are missing, or differ from those that were judged.
        """
        path = self.project.build / folder
        if not path.is_dir() or Bundle(path).digest != model.digest:
            self.models.extract(self._storing(model.key, model.digest), path)
        return Bundle(path)

    def _storing(self, key: str, digest: str) -> Event:
        """The event that stored these bytes.

        Raises:
            Misuse: there is none any more.
        """
        event = self.stored(key)
        if event is None or event.digest != digest:
            raise Misuse(f"ledger: the bytes of model {key[:12]} were deleted by `prune`; train it again")
        return event

    def prune(self, keep: int) -> list[str]:
        """Delete the bytes of old models, but not of the champion, the one before it, the best one so far, or a model
        on its way.

        Args:
            keep: how many of the last champions keep their bytes, at least two.

        Returns:
            The keys whose bytes were deleted; if there are none, what an earlier one that was stopped has left.

        Raises:
            Moved: there is a newer event.
            Misuse: the event is written, and not all could be deleted; the next one deletes the rest.
        """
        lived = list(dict.fromkeys(event.key for event in reversed(self.lived)))
        waiting = self.pending()
        kept = {*lived[: max(keep, 2)], *([waiting.key] if waiting else []), self.anchor()}
        old = sorted((event for event in self.all_stored() if event.key not in kept), key=lambda event: event.key)
        old, keys = old[:KEYS], [event.key for event in old[:KEYS]]
        if old:
            reason = f"kept the bytes of the last {max(keep, 2)} champions, deleted those of {len(old)} models"
            told = {**repeated(self.events[-1]), "outcome": "prune", "reason": reason, "keys": keys}
            there = self.store.stored()
            gone = [f"{MODELS}{key}" for key in keys if key in there]
            self._append("pruned", told, dict.fromkeys(gone, ""))
        rest: set[str] = set()
        for left in self.models.left(self, self.head):
            try:
                self.models.sweep(left)
            except GitError as error:
                raise self._untaken(error) from None
            rest |= {*left.refs, *(name.partition(".")[0] for name in left.files)}
        return keys or sorted(rest)

    def _append_with_bytes(self, kind: Kind, told: dict[str, Any], bundle: Bundle) -> Event:
        """Write an event together with a bundle, unless that is stored: stored bytes are never written again."""
        stored = self.stored(bundle.key)
        if stored and stored.digest == bundle.digest and (stored.model or self.models.url):
            self._show(stored, bundle)
            return self._append(kind, {**told, "model": stored.model})
        try:
            model = self.models.keep(bundle)
        except GitError as error:
            raise self._untaken(error) from None
        refs = {f"{MODELS}{bundle.key}": model} if model else {}
        return self._append(kind, {**told, "model": model}, refs, sum(map(len, bundle.files.values())))

    def _show(self, stored: Event, bundle: Bundle | None = None) -> None:
        """Make sure that the bytes of a model are where an event says, and put them back from this clone if need be.

        Args:
            bundle: the same bytes, if they are at hand.

        Raises:
            Misuse: they are not there, and cannot be put back.
        """
        if bundle and stored.model is None and self.models.url:
            self.models.keep(bundle)  # looks at what is there, and writes it again if it is damaged
        damages = self._damages(stored)
        if damages and bundle and stored.model and self.models.keep(bundle) == stored.model:
            damages = [replace(damages[0], repair=((f"{MODELS}{stored.key}", stored.model),))]
        for damage in damages:
            if not damage.repair or not self.writable:
                raise Misuse(f"ledger: {damage.line}")
            self.put(dict(damage.repair))
            if left := self._damages(stored):
                raise Misuse(f"ledger: origin does not show what it took: {left[0].line}")

    def _damages(self, stored: Event) -> list[Damage]:
        """What is wrong with the bytes of one model; origin is asked for nothing else, however many it has."""
        in_git = stored.model or self.models.url is None
        try:
            return self.models.damages([stored], there=self.store.fetched([stored.key]) if in_git else {})
        except GitError as error:
            raise self.store.unread(error) from None
