"""The real server with one thing wrong: what a bad image does. `python variant.py <fault> [value]`.

sick         is never ready
wrong        gives other answers
crash        ends after `value` seconds
late         begins to listen after `value` seconds
slow         takes `value` seconds for each answer that a client asks for
failing      answers clients with 500, and those who probe it as it should
golden-only  answers the golden rows as it should, and anything else by .1 too much
empty        answers the golden rows as it should, and anything else with nothing or with no predictions, in turn
turns        is right for `value` answers that clients ask for, and wrong by .1 from then on
poison       ends at a body that holds the word `value`
leak         keeps `value` megabytes for each answer that a client asks for
"""

import json
import os
import sys
import threading
import time
from pathlib import Path

from conveyor.serving import app, problem, service

fault, value = (*sys.argv[1:], "0")[:2]
answer = service.Service.answer
golden = json.loads((Path(os.environ["BUNDLE"]) / "golden.json").read_text())["rows"]
asked, kept = 0, []

if fault == "late":
    time.sleep(float(value))
elif fault == "sick":
    service.Service.not_ready = property(lambda self: "it is never ready")
elif fault == "crash":
    timer = threading.Timer(float(value), lambda: os._exit(3))
    timer.daemon = True
    timer.start()


def higher(content):
    said = json.loads(content)
    return json.dumps(said | {"predictions": [number + 0.1 for number in said["predictions"]]}).encode()


def changed(self, body, probe=False):
    global asked
    asked += not probe
    if fault == "poison" and value.encode() in body:
        os._exit(3)
    if fault == "slow" and not probe:
        time.sleep(float(value))
    if fault == "leak" and not probe:
        kept.append(os.urandom(int(float(value) * 2**20)))
    if fault == "failing" and not probe:
        raise problem.Problem(500, "a bug")
    content = answer(self, body, probe)
    if fault == "wrong":
        return content.replace(b'"predictions":[0.', b'"predictions":[0.9')
    if fault == "turns" and not probe and asked > float(value):
        return higher(content)
    if fault in ("golden-only", "empty") and any(row not in golden for row in json.loads(body)["rows"]):
        nothing = b"" if asked % 2 else json.dumps(json.loads(content) | {"predictions": []}).encode()
        return higher(content) if fault == "golden-only" else nothing
    return content


service.Service.answer = changed
sys.exit(app.main([]))
