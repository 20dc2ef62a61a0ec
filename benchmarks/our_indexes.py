"""Our index engines with the settings they choose themselves; benchmarks/neighbours.py starts it."""

import time
from collections.abc import Callable
from typing import Any

from benchmarks.turns import serve
from benchmarks.vectors import read_vectors, recall, resident
from realm_jax.index.engines import ENGINES


def search(kind: str, folder: str) -> tuple[Callable[[], None], dict[str, Any]]:
    """Build an index, then search a batch of queries in it."""
    rows, queries, best = read_vectors(folder)
    k = best.shape[1]
    before, start = resident(), time.perf_counter()
    index = ENGINES[kind].build(rows)
    said = {"build": time.perf_counter() - start, "megabytes": resident() - before}
    found = recall(index.search(queries, k).block_ids, best)

    def run() -> None:
        index.search(queries, k)

    return run, said | {"recall": found}


if __name__ == "__main__":
    serve({"search": search})
