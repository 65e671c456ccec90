"""When river's ADWIN finds a rise, with its own settings; bench/watch.py runs it, in the environment that holds river.

    build/river/bin/python bench/adwin.py STREAMS.npy FOUND.json

STREAMS.npy holds numbers (streams x steps). FOUND.json gets the steps, of each stream, after which ADWIN tells a change
and the mean of what it keeps is above the mean before.
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


with open(sys.argv[2], "w", encoding="utf-8") as out:
    json.dump([rises(stream) for stream in np.load(sys.argv[1]).tolist()], out)
