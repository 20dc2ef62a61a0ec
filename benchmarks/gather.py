"""Time the gathering of blocks from a prepared corpus, from a warm file cache.

    python benchmarks/gather.py --corpus runs/corpus
    python benchmarks/gather.py --random 40000

Asked: 4096 blocks of 288 tokens in under 20 ms.
"""

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from realm_jax.data.corpus import Corpus
from realm_jax.data.encode import EncodedChunk
from realm_jax.data.writer import CorpusWriter
from realm_jax.text.tokenizer import SPECIAL_TOKENS, Tokenizer


def write_random(path: Path, *, blocks: int, body_width: int, title_width: int) -> None:
    """Write a corpus of random tokens."""
    tokenizer = Tokenizer([*SPECIAL_TOKENS, *(f"t{i}" for i in range(30_000))])
    rng = np.random.default_rng(0)
    bodies = rng.integers(5, len(tokenizer), (blocks, body_width)).astype(np.uint16)
    titles = rng.integers(5, len(tokenizer), (blocks, title_width)).astype(np.uint16)
    empty = np.zeros(blocks, np.int64)
    chunk = EncodedChunk(
        titles=titles,
        title_lengths=np.full(blocks, title_width, np.uint16),
        bodies=bodies,
        body_lengths=np.full(blocks, body_width, np.uint16),
        sentences=np.zeros((0, 2), np.uint16),
        sentence_counts=empty,
        spans=np.zeros((0, 3), np.uint16),
        span_counts=empty,
        texts=b"",
        text_lengths=np.zeros((blocks, 3), np.int64),
        uids=np.arange(blocks, dtype=np.uint64),
        documents=blocks,
        characters=0,
        bad=[],
        skipped=Counter(),
        position=0.0,
    )
    with CorpusWriter(path, overwrite=False) as writer:
        writer.add(chunk)
        writer.finish(tokenizer, {"kinds": []})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, help="a prepared corpus")
    parser.add_argument("--random", type=int, default=40_000, help="blocks of a random one, if none is given")
    parser.add_argument("--blocks", type=int, default=4096, help="gathered at a time")
    parser.add_argument("--repeats", type=int, default=50)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = args.corpus
        if path is None:
            path = Path(folder) / "corpus"
            write_random(path, blocks=args.random, body_width=288, title_width=24)
        corpus = Corpus.open(path)
        rng = np.random.default_rng(1)
        corpus.gather(np.arange(len(corpus)))  # warms the cache
        times = []
        for _ in range(args.repeats):
            block_ids = rng.integers(-1, len(corpus), args.blocks)
            start = time.perf_counter()
            corpus.gather(block_ids)
            times.append(1000 * (time.perf_counter() - start))
    times.sort()
    print(
        f"{args.blocks} of {len(corpus)} blocks, {corpus.body_width} + {corpus.title_width} tokens: "
        f"median {times[len(times) // 2]:.2f} ms, 95th percentile {times[int(0.95 * len(times))]:.2f} ms, "
        f"slowest {times[-1]:.2f} ms"
    )


if __name__ == "__main__":
    main()
