"""When river's ADWIN finds a rise, with its own settings; bench/watch.py runs it, in the environment that holds river.

Each line of its input names two files. The first one, .npy, holds numbers (streams x steps); the second one gets the
steps, of each stream, after which ADWIN tells a change and the mean of what it keeps is above the mean before. Then it
prints a line.
"""

import json
import sys

import numpy as np
from river.drift import ADWIN


def rises(numbers: list[float]) -> list[int]:
    adwin, found = ADWIN(), []
    for step, number in enumerate(numbers):
        before = adwin.estimation
        adwin.update(number)
        if adwin.drift_detected and adwin.estimation > before:
            found.append(step)
    return found


for line in sys.stdin:
    given, made = line.split()
    with open(made, "w", encoding="utf-8") as out:
        json.dump([rises(stream) for stream in np.load(given).tolist()], out)
    print("done", flush=True)
