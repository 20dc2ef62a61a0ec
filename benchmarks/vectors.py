"""The vectors that indexes are compared on, and how a result is judged; needs NumPy alone."""

import os
from pathlib import Path

import numpy as np


def clustered(count: int, *, dimension: int, centres: int, rng: np.random.Generator) -> np.ndarray:
    """Draw float32 [count, dimension] around a few centres (their own noise is half as wide).

    As those of a trained embedder are: isotropic vectors would make any tree look bad.
    """
    places = np.random.default_rng(7).standard_normal((centres, dimension), dtype=np.float32)
    noise = rng.standard_normal((count, dimension), dtype=np.float32)
    return places[rng.integers(0, centres, count)] + np.float32(0.5) * noise


def write_vectors(
    folder: Path, *, count: int, queries: int, dimension: int, k: int, embeddings: str | None = None
) -> None:
    """Write rows, queries and the k best rows of each query to a folder.

    Given a file of embeddings, its vectors are the rows, and some of them with noise on top are the queries.
    """
    rng, centres = np.random.default_rng(1), max(10, count // 100)
    if embeddings:
        rows = np.load(embeddings).astype(np.float32)
        asked = rows[rng.choice(len(rows), queries, replace=False)]
        asked = asked + np.float32(0.3 * rows.std()) * rng.standard_normal(asked.shape, dtype=np.float32)
    else:
        rows, asked = (clustered(n, dimension=dimension, centres=centres, rng=rng) for n in (count, queries))
    best = np.argpartition(-(asked @ rows.T), k - 1, axis=1)[:, :k]
    for name, array in {"rows": rows, "queries": asked, "best": best}.items():
        np.save(folder / f"{name}.npy", array)


def read_vectors(folder: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows `[N, D]`, queries `[B, D]` and the best rows `[B, k]`, in no order."""
    rows, queries, best = (np.load(Path(folder) / f"{name}.npy") for name in ("rows", "queries", "best"))
    return rows, queries, best


def recall(found: np.ndarray, best: np.ndarray) -> float:
    """Return the share of the best that was found, `[B, k]` each."""
    return float(np.mean([np.isin(b, f).mean() for f, b in zip(found, best, strict=True)]))


def resident() -> float:
    """Return the memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
