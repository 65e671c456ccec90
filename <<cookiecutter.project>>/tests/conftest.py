"""What the tests share: the pinned data, and the parameters."""

from pathlib import Path

import pytest

from conveyor.core import params as parameters
from conveyor.data import source

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def params() -> parameters.Params:
    return parameters.load(ROOT / "params.yaml")


@pytest.fixture(scope="session")
def frame(params):
    """The pinned data. Tests that change them take a copy; whoever has no credentials for them runs the others."""
    try:
        return source.read(params.data, ROOT)
    except source.NoAccess as refused:
        # No fault of the code that is tested: `validate` refuses data that cannot be read, with the same words.
        pytest.skip(str(refused))
