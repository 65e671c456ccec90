"""What the tests share: the pinned data, and the parameters."""

from pathlib import Path

import pytest

from << cookiecutter.__package >> import config, data

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def params() -> config.Params:
    return config.load(ROOT / "params.yaml")


@pytest.fixture(scope="session")
def frame(params):
    """The pinned data. Tests that change them take a copy; whoever has no credentials for them runs the others."""
    try:
        return data.read(params.data, ROOT)
    except data.NoAccess as refused:
        # No fault of the code that is tested: `validate` refuses data that cannot be read, with the same words.
        pytest.skip(str(refused))
