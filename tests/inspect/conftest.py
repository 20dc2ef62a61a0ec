"""The tiny runs, opened once."""

import pytest

from realm_jax.inspect.loaded import LoadedRun, open_run
from tests.tiny_run import TinyRuns


@pytest.fixture(scope="session")
def qa(tiny_runs: TinyRuns) -> LoadedRun:
    return open_run(tiny_runs.qa, batch_size=4)


@pytest.fixture(scope="session")
def realm(tiny_runs: TinyRuns) -> LoadedRun:
    return open_run(tiny_runs.realm, batch_size=2)
