"""Risk: a caller gets another caller's answer, or none, because of what others send. Caddy itself, and real servers."""

import json
import re
import signal
import socket
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module

import pytest
from conftest import ROOT, bootstrap
from edge import Edge, edge
from serving import Server, serving, settings

sys.path.insert(0, str(ROOT / "bench"))
import hostile  # noqa: E402
from load import Load, fault  # noqa: E402
from questions import questions  # noqa: E402

CALLERS = 16


@pytest.fixture(scope="module")
def trained(bake, product, shared):
    """A project with a champion, which these tests share and do not change."""
    import_module(f"{product.__name__}.settings")
    return bootstrap(bake(), shared)


@pytest.fixture(scope="module")
def bundle(trained):
    return trained.path / "build" / "candidate"


@pytest.fixture(scope="module")
def asked(product, bundle):
    return questions(product.__name__, [bundle])


@dataclass
class Stage:
    edge: Edge
    replicas: list[Server]

    def load(self, asked, **how) -> Load:
        return Load(self.edge.port, asked, **how)


@pytest.fixture
def stage(product, trained, bundle, tmp_path):
    """The edge in front of two servers."""
    image = settings(product, trained, bundle)
    with ExitStack() as stack:
        replicas = [stack.enter_context(serving(trained, image, bundle)) for _ in range(2)]
        caddyfile = (trained.path / "container" / "Caddyfile").read_text()
        yield Stage(stack.enter_context(edge(caddyfile, [each.port for each in replicas], tmp_path)), replicas)


def wait_for(load: Load, number: int, seconds: float = 120.0) -> None:
    """Until so many requests of the phase were sent."""
    end = time.monotonic() + seconds
    while load.total(load.phase)["sent"] < number:
        assert time.monotonic() < end, load.row(load.phase)
        time.sleep(0.05)


def test_nobody_gets_the_answer_of_another_whatever_a_hostile_caller_sends(stage, asked):
    with stage.load(asked, callers=CALLERS) as load:
        wait_for(load, 500)
        load.phase = "attacked"
        with hostile.hostile(stage.edge.port, 12.0) as came:
            wait_for(load, 10_000)
        load.phase = "after it"
        wait_for(load, 1_000)
    assert (load.total()["lost"], load.total()["wrong"]) == (0, 0), load.losses[:5]
    assert all(came.values()), "every shape was sent"
    assert came["many_over_the_buffer"].keys() <= {"413", "reset"} and came["upgrade_h2c"].keys() <= {"413", "422"}
