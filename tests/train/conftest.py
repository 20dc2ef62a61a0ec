"""Programs of these tests run once or twice: they are compiled without optimising."""

from collections.abc import Iterator

import pytest

from tests.tiny_run import quick_compilation


@pytest.fixture(scope="package", autouse=True)
def quick() -> Iterator[None]:
    with quick_compilation():
        yield
