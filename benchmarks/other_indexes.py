"""The peers of our index engines: FAISS and hnswlib; benchmarks/neighbours.py starts it."""

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from benchmarks.turns import serve
from benchmarks.vectors import read_vectors, recall, resident

DEGREE, WIDTH = 16, 80  # of HNSW: edges of a row, candidates looked at for them
Search = Callable[[np.ndarray, int], np.ndarray]  # queries [B, D], k -> rows [B, k]


@cache
def built(kind: str, folder: str) -> tuple[Any, dict[str, float]]:
    """Build an index of a kind; returns it, and its seconds and megabytes."""
    rows, _, _ = read_vectors(folder)
    before, start = resident(), time.perf_counter()
    index = BUILDERS[kind](rows)
    return index, {"build": time.perf_counter() - start, "megabytes": resident() - before}


def faiss_index(rows: np.ndarray, name: str) -> Any:
    import faiss

    index = faiss.index_factory(rows.shape[1], name, faiss.METRIC_INNER_PRODUCT)
    if name.startswith("HNSW"):
        index.hnsw.efConstruction = WIDTH
    index.train(rows)
    index.add(rows)
    return index


def hnswlib_index(rows: np.ndarray) -> Any:
    import hnswlib

    index = hnswlib.Index(space="ip", dim=rows.shape[1])
    index.init_index(max_elements=len(rows), M=DEGREE, ef_construction=WIDTH)
    index.add_items(rows)
    return index


BUILDERS: dict[str, Callable[[np.ndarray], Any]] = {
    "faiss flat": lambda rows: faiss_index(rows, "Flat"),
    "faiss IVF": lambda rows: faiss_index(rows, f"IVF{round(4 * len(rows) ** 0.5)},Flat"),
    "faiss HNSW": lambda rows: faiss_index(rows, f"HNSW{DEGREE}"),
    "hnswlib HNSW": hnswlib_index,
}


def searcher(kind: str, index: Any, effort: int) -> Search:
    """Return the search with an effort: lists that are probed, or candidates that are kept."""
    if kind.startswith("hnswlib"):
        index.set_ef(effort)
        return lambda queries, k: index.knn_query(queries, k)[0]
    if kind == "faiss IVF":
        index.nprobe = effort
    if kind == "faiss HNSW":
        index.hnsw.efSearch = effort
    return lambda queries, k: index.search(queries, k)[1]


def search(kind: str, folder: str, effort: int) -> tuple[Callable[[], None], dict[str, Any]]:
    """Search a batch of queries in an index, built when it is first asked for."""
    index, said = built(kind, folder)
    _, queries, best = read_vectors(folder)
    k = best.shape[1]
    found = recall(searcher(kind, index, effort)(queries, k), best)

    def run() -> None:
        searcher(kind, index, effort)(queries, k)

    return run, said | {"recall": found}


if __name__ == "__main__":
    serve({"search": search})
