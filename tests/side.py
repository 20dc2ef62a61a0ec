"""One side of a comparison, for tests/test_benchmarks.py: it counts how often it ran."""

from collections.abc import Callable
from typing import Any

from benchmarks.turns import serve


def counter(start: int) -> tuple[Callable[[], None], dict[str, Any]]:
    """Count on from a number."""
    numbers = iter(range(start, start + 2))
    print("what a library may say")
    return lambda: print(next(numbers)), {"from": start}


if __name__ == "__main__":
    serve({"counter": counter})
