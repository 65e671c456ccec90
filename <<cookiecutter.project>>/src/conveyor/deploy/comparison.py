"""Compare the answers of a new release during a deployment: shadow.py does it inside the network."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from conveyor.core.errors import Refused
from conveyor.deploy.host import Host, Release
from conveyor.deploy.traffic import SLOW, more_than
from conveyor.model.bundle import Bundle
from conveyor.model.code import pack_code
from conveyor.serving.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

MADE = 100  # requests of made rows, before the release gets requests of callers
MOST = 200  # live requests in one comparison
SECONDS = 15.0  # for one comparison, at most
FOLDER = "/tmp/check"
NAMED = 5  # ids in a refusal
# The image's libraries alone, after our own code: without the paths and start-up files of the image.
START = f"""
import glob, runpy, sys
sys.path[:0] = glob.glob("{FOLDER}/*.whl") + glob.glob("/opt/venv/lib/python*/site-packages")
sys.argv = ["shadow", "{FOLDER}"]
runpy.run_module("conveyor.deploy.shadow", run_name="__main__")
"""


class Comparison:
    """The answers of a new release compared with those of its model, before and while it gets requests of callers.

    Args:
        new: the release under test.
        old: the release that serves beside it, or None.
        bundle: of the new release's model, from the ledger.
    """

    def __init__(self, host: Host, new: Release, old: Release | None, bundle: Bundle) -> None:
        self._host, self._new, self._old = host, new, old
        self._since = 0.0
        self._asked = dict.fromkeys(("given", "mirrored", "made"), 0)
        self._spread: tuple[list[float], list[float]] = ([], [])
        name, wheel = pack_code(host.project)
        settings = Settings.of(host.project.params, bundle.key, bundle.digest, "")
        files = {name: wheel, "settings.json": settings.to_json().encode()}
        files |= {f"bundle/{name}": content for name, content in bundle.files.items()}
        host.put("/", {f"{FOLDER[1:]}/{name}": content for name, content in files.items()})

    def before(self) -> str:
        """Compare before the release gets requests: on the latest requests to the old release, and on made rows.

        Raises:
            Refused: an answer differs from the model's, or too many are late.
        """
        self._look(MADE)
        return f"answers as its model does: {self._counts()}{self._moved()}"

    def meanwhile(self) -> None:
        """Compare on the requests since the last time, and on the answers of the new release to callers.

        Raises:
            Refused: see ``before``.
        """
        self._look(0)

    def told(self) -> str:
        """The counts of all comparisons so far, in words."""
        return f"{self._counts()} compared{self._moved()}"

    def _counts(self) -> str:
        live = self._asked["given"] + self._asked["mirrored"]
        return f"{live or 'no'} live and {self._asked['made']} made requests"

    def _moved(self) -> str:
        before, now = self._spread
        if not before or self._old is None or self._old.key == self._new.key:
            return ""
        shown = [" ".join(f"{point:g}" for point in points) for points in (before, now)]
        return f"; predictions of the same rows (5, 50, 95 %): {shown[0]} -> {shown[1]}"

    def _look(self, made: int) -> None:
        host, new, old = self._host, self._new, self._old
        spec: dict[str, Any] = {
            "new": _at(new.running),
            "mirror": _key(new),
            "old": _at(old.running) if old and _key(old) else [],
            "old_mirror": _key(old) if old else "",
            "same": bool(old and (old.key, old.digest) == (new.key, new.digest)),
            "since": self._since,
            "most": MOST,
            "made": made,
            "seconds": SECONDS,
            "late": host.rule.max_seconds,
        }
        host.put(FOLDER, {"spec.json": json.dumps(spec).encode()})
        found = json.loads(host.run(["python", "-I", "-S", "-c", START]).splitlines()[-1])
        self._since = found["since"]
        if found["before"]:
            self._spread = (found["before"], found["now"])
        for kind in self._asked:
            self._asked[kind] += found[kind]["asked"]
        for kind, what in (("given", "callers got"), ("mirrored", "live rows get"), ("made", "made rows get")):
            wrong = found[kind]["wrong"]
            if wrong:
                raise Refused(
                    f"in {len(wrong)} of {found[kind]['asked']} requests {what} {found[kind]['why']}, unlike the model"
                    f" that was judged: {', '.join(wrong[:NAMED])}"
                )
        if more_than(SLOW, found["late"], found["timed"]):
            raise Refused(f"{found['late']} of {found['timed']} answers took over {host.rule.max_seconds:g} s")
        if found["old_wrong"]:
            host.say(
                f"note: the release before gave {found['old_wrong']} callers other answers than the same model does"
            )


def _at(containers: Iterable[Any]) -> list[str]:
    return [f"{container.name}:8000" for container in containers]


def _key(release: Release) -> str:
    """The key to the requests that its replicas keep; empty for a release from before this key existed."""
    return release.variable("MIRROR_KEY") or ""
