"""Runs a verb, whose words follow a number, and kills it before it writes so many files of its plan and one more."""

import os
import signal
import sys

from conveyor.adopt import plan
from conveyor.cli import main

left, write = int(sys.argv[1]), plan.write_bytes


def killed(path, content):
    global left
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    write(path, content)


plan.write_bytes = killed
sys.argv = ["conveyor", *sys.argv[2:]]
main()
