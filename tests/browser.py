"""Debian's Chromium over a pair of pipes, by its DevTools protocol: what a page logs, how wide it is, how it looks."""

import base64
import fcntl
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from engine import which

SIZES = {"phone": (390, 844), "desktop": (1280, 900)}
SCHEMES = ("light", "dark")


class NoBrowser(Exception):
    """There is no Chromium on this machine."""


class Browser:
    """A headless browser with one page."""

    def __init__(self, folder: Path) -> None:
        found = next(filter(None, map(which, ("chromium", "google-chrome"))), None)
        if found is None:
            raise NoBrowser("chromium is not installed; .ci/run does it")
        (low, ours), (answers, high) = os.pipe(), os.pipe()
        theirs, told = (fcntl.fcntl(each, fcntl.F_DUPFD, 10) for each in (low, high))
        words = [found, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}"]
        words += ["--no-first-run", "--disable-background-networking", "--hide-scrollbars"]
        words += ["--remote-debugging-pipe"]
        # The browser reads at 3 and writes at 4.
        script = f'exec "$@" 3<&{theirs} 4>&{told}'
        self.process = subprocess.Popen(
            ["bash", "-c", script, "browser", *words],
            pass_fds=(theirs, told),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for each in (low, high, theirs, told):
            os.close(each)
        self.out, self.answers = os.fdopen(ours, "wb", buffering=0), os.fdopen(answers, "rb", buffering=0)
        self.rest, self.number, self.events, self.session = b"", 0, [], None
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self.session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self(f"{domain}.enable")

    def __call__(self, method: str, **given: Any) -> dict[str, Any]:
        """Ask for one thing, and keep what is told meanwhile."""
        self.number += 1
        asked = {"id": self.number, "method": method, "params": given}
        if self.session:
            asked["sessionId"] = self.session
        self.out.write(json.dumps(asked).encode() + b"\0")
        while True:
            answer = self.next()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def next(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            part = self.answers.read(1 << 16)
            assert part, "the browser has ended"
            self.rest += part
        line, _, self.rest = self.rest.partition(b"\0")
        return json.loads(line)

    def show(self, page: Path, size: str, scheme: str) -> None:
        """Load a file in a window of that size, in that colour scheme."""
        width, height = SIZES[size]
        self("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.events.clear()
        self("Page.navigate", url=page.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self.next())
        self("Runtime.evaluate", expression="1")

    def faults(self) -> list[str]:
        """What the page logged, and each address that it asked for beside its own."""
        found = []
        for event in self.events:
            method, told = event.get("method"), event.get("params", {})
            if method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
                found.append(json.dumps(told))
            if method == "Network.requestWillBeSent" and told["type"] != "Document":
                found.append(told["request"]["url"])
        return found

    def value(self, expression: str) -> Any:
        return self("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def beyond(self) -> list[str]:
        """The elements that reach beyond the window's right edge, and how wide the page is if it can be scrolled."""
        return self.value(
            "[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 0.5)"
            ".map(e => e.tagName + ' ' + e.textContent.slice(0, 40))"
            ".concat([document.documentElement.scrollWidth].filter(width => width > innerWidth).map(w => w + ' px'))"
        )

    def overlapping(self) -> list[str]:
        """The texts of pictures that lie over each other."""
        return self.value(
            "[...document.querySelectorAll('svg')].flatMap(svg => {"
            " const all = [...svg.querySelectorAll('text')].map(e => [e.textContent, e.getBoundingClientRect()]);"
            " return all.flatMap(([a, r], i) => all.slice(i + 1).filter(([b, s]) => r.width && s.width"
            " && r.left < s.right && s.left < r.right && r.top < s.bottom && s.top < r.bottom)"
            ".map(([b, s]) => a + ' over ' + b)) })"
        )

    def picture(self, path: Path) -> None:
        """The whole page as PNG."""
        made = self("Page.captureScreenshot", captureBeyondViewport=True, format="png")
        path.write_bytes(base64.b64decode(made["data"]))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.out.close()
        self.answers.close()
