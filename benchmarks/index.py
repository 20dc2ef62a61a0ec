"""Time the index engines: build, publish, open, search; and measure their recall against exact search.

    python -m benchmarks.index --blocks 10000 100000 --engines exact scann

Embeddings are drawn around centres.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.vectors import clustered
from realm_jax.index.engines import ENGINES
from realm_jax.index.manifest import IndexManifest, measure_recall
from realm_jax.index.store import open_version, publish


def measure(
    engine: str, embeddings: np.ndarray, queries: np.ndarray, *, k: int, repeats: int, root: Path
) -> dict[str, float]:
    """Build, publish, open and search one index; seconds, except where the name says otherwise."""
    start = time.perf_counter()
    index = ENGINES[engine].build(embeddings)
    found = {"build": time.perf_counter() - start}
    index.search(queries, k)  # compiles
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        index.search(queries, k)
        times.append(time.perf_counter() - start)
    found["search_ms"] = 1000 * sorted(times)[len(times) // 2]
    found["recall"] = measure_recall(index, embeddings, queries, k=k)
    manifest = IndexManifest(
        version=0,
        corpus_hash="benchmark",
        count=embeddings.shape[0],
        dimension=embeddings.shape[1],
        engine=engine,
        settings=ENGINES[engine].settings(index),
        recall=found["recall"],
        recall_k=k,
        recall_sample=len(queries),
    )
    start = time.perf_counter()
    folder = publish(root, embeddings, index, manifest)
    found["publish"] = time.perf_counter() - start
    found["megabytes"] = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    start = time.perf_counter()
    open_version(root, 0, corpus_hash="benchmark")[0].search(queries, k)
    found["open"] = time.perf_counter() - start
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--blocks", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--engines", nargs="+", choices=sorted(ENGINES), default=sorted(ENGINES))
    parser.add_argument("--dimension", type=int, default=128)
    parser.add_argument("--queries", type=int, default=64, help="a batch")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=20)
    args = parser.parse_args()
    print(f"{args.queries} queries, k = {args.k}, {args.dimension} dimensions")
    for count in args.blocks:
        rng = np.random.default_rng(1)
        centres = max(10, count // 100)
        embeddings, queries = (
            clustered(n, dimension=args.dimension, centres=centres, rng=rng) for n in (count, args.queries)
        )
        for engine in args.engines:
            with tempfile.TemporaryDirectory() as folder:
                found = measure(
                    engine, embeddings, queries, k=args.k, repeats=args.repeats, root=Path(folder) / "index"
                )
            print(
                f"{count:>9} blocks {engine:<6} search {found['search_ms']:8.2f} ms a batch, "
                f"recall@{args.k} {found['recall']:.3f}, build {found['build']:6.2f} s, "
                f"publish {found['publish']:5.2f} s, open {found['open']:5.2f} s, "
                f"{found['megabytes']:7.1f} MB",
                flush=True,
            )


if __name__ == "__main__":
    main()
