"""The real server with a model that some rows end: what a row does stands in its column `dest`.

`python deadly.py` and the column says EXIT, KILL, LOOP, HOG, BUG, SICK or anything else.
"""

import os
import signal
import sys
import time

from conveyor.serving import app, service

answer = service.Service.answer


def deadly(self, body, probe=False):
    if b'"EXIT"' in body:
        os._exit(3)
    if b'"KILL"' in body:
        os.kill(os.getpid(), signal.SIGKILL)
    while b'"LOOP"' in body:
        time.sleep(0.001)
    if b'"HOG"' in body:
        held = []
        while True:
            held.append(bytearray(50_000_000))
    if b'"BUG"' in body:
        raise RuntimeError(f"a bug at {body!r}")
    if b'"SICK"' in body:
        model = self._answer
        self._answer = lambda columns: model(columns) + 0.1
    return answer(self, body, probe)


service.Service.answer = deadly
sys.exit(app.main([]))
