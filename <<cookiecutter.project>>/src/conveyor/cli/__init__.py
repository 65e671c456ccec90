"""The commands: one verb per step, each a few lines over its module. Exit 0 done, 1 the gate said no, 2 misuse."""

from __future__ import annotations

import sys

from conveyor.cli import data, pipeline, production, repository, workflows
from conveyor.cli.base import app, waited
from conveyor.core.ending import ended

__all__ = ["app", "data", "main", "pipeline", "production", "repository", "waited", "workflows"]


def main() -> None:
    """Run the command line."""
    ended(lambda: app(sys.argv[1:] or ["--help"], prog_name="conveyor", standalone_mode=False))
