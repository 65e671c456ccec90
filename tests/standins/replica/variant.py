"""The real server with one thing wrong: what a bad image does. `python variant.py <package> <fault> [seconds]`.

sick       is never ready
wrong      gives other answers
crash      ends after so many seconds
late       begins to listen after so many seconds
slow       takes so many seconds for each answer that a client asks for
failing    answers clients with 500, and those who probe it as it should
"""

import importlib
import os
import sys
import threading
import time

package, fault = sys.argv[1:3]
seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
serve = importlib.import_module(f"{package}.serve")
answer = serve.Service.answer

if fault == "late":
    time.sleep(seconds)
elif fault == "sick":
    serve.Service.not_ready = property(lambda self: "it is never ready")
elif fault == "crash":
    timer = threading.Timer(seconds, lambda: os._exit(3))
    timer.daemon = True
    timer.start()


def changed(self, body, probe=False):
    if fault == "wrong":
        return answer(self, body, probe).replace(b'"predictions":[0.', b'"predictions":[0.9')
    if fault == "slow" and not probe:
        time.sleep(seconds)
    if fault == "failing" and not probe:
        raise serve.Problem(500, "a bug")
    return answer(self, body, probe)


serve.Service.answer = changed
sys.exit(serve.main([]))
