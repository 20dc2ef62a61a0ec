"""Compare our index engines with FAISS and hnswlib: recall, queries per second, build time, memory.

    python -m benchmarks.neighbours --peer build/peers/bin/python --rows 100000
    python -m benchmarks.neighbours --peer build/peers/bin/python --rows 1000000 --peers flat IVF

Embeddings are drawn around centres, or are those of an index (`--embeddings RUN/index/vSTEP/embeddings.npy`).
Ours have the settings of realm_jax/index/scann.py; the peers are tried with several efforts, which gives a
curve of recall and speed. All take turns, with equal threads; of two searches in a row the second counts.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.turns import Side, Took, take_turns
from benchmarks.vectors import write_vectors

EFFORTS = {  # by kind: lists probed, or candidates kept
    "faiss flat": [0],
    "faiss IVF": [2, 4, 8, 16, 32],
    "faiss HNSW": [16, 32, 64, 128, 256],
    "hnswlib HNSW": [16, 32, 64, 128, 256],
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--peer", help="interpreter with benchmarks/requirements-peers.txt; absent: ours alone"
    )
    parser.add_argument("--peers", nargs="+", default=["flat", "IVF", "HNSW"], help="kinds of them")
    parser.add_argument("--engines", nargs="+", default=["exact", "scann"])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--embeddings", help="float32 [N, D], .npy, instead of drawn ones")
    parser.add_argument("--queries", type=int, default=512, help="a batch")
    parser.add_argument("--dimension", type=int, default=128)
    parser.add_argument("--k", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(arguments)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        write_vectors(
            Path(folder),
            count=args.rows,
            queries=args.queries,
            dimension=args.dimension,
            k=args.k,
            embeddings=args.embeddings,
        )
        runs: dict[str, Callable[[], Took]] = {}
        facts: dict[str, dict[str, float]] = {}

        def add(side: Side, label: str, **settings: object) -> None:
            facts[label] = side.prepare("search", label=label, folder=folder, **settings)
            runs[label] = partial(second, side, label)

        ours = stack.enter_context(
            Side("benchmarks.our_indexes", python=sys.executable, threads=args.threads)
        )
        for engine in args.engines:
            add(ours, engine, kind=engine)
        if args.peer:
            peer = stack.enter_context(
                Side("benchmarks.other_indexes", python=args.peer, threads=args.threads)
            )
            for kind, efforts in EFFORTS.items():
                for effort in efforts if kind.split()[1] in args.peers else []:
                    add(peer, f"{kind} {effort or ''}".strip(), kind=kind, effort=effort)
        took = take_turns(runs, repeats=args.repeats)
    print(f"{args.embeddings or args.rows} rows, {args.queries} queries, k = {args.k}")
    for label, said in facts.items():
        median = statistics.median(one.seconds for one in took[label])
        print(
            f"{label:<18} recall@{args.k} {said['recall']:.3f}, {args.queries / median:6.0f} queries/s, "
            f"build {said['build']:5.1f} s, {said['megabytes']:6.1f} MB"
        )


def second(side: Side, label: str) -> Took:
    """Search twice and count the second: the first finds caches full of the rows of the index before it."""
    side.run(label)
    return side.run(label)


if __name__ == "__main__":
    main()
