"""Time the embedding of a corpus, as a refresh does it, against the plain forward pass of the same tokens.

    python benchmarks/embedding.py --corpus build/wiki_nq_mini --blocks 4096
    python benchmarks/embedding.py --random 4096 --hidden 768 --layers 12 --heads 12 --dtype bfloat16

Embedding gathers blocks by length, cuts them to a few widths, sends them to the device and brings the
embeddings back. The plain pass runs the same compiled program over the same padded batches, which lie on the
device already, and leaves the results there. The two take turns. Asked: 0.85 of the plain rate.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from gather import write_random  # the file beside this one

from realm_jax.config import BertConfig, Config, IndexConfig, ModelConfig, ShapeConfig
from realm_jax.data.corpus import Corpus
from realm_jax.index.embed import embed_blocks
from realm_jax.models.flops import embedder_flops
from realm_jax.runs.live_index import block_embedder
from realm_jax.runs.setup import models_of, resolve
from realm_jax.types import Blocks

ASKED = 0.85


def seconds(work: Callable[[], Any]) -> float:
    """Time a call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(config: Config, corpus: Corpus, *, blocks: int, rounds: int) -> None:
    """Print the two rates and their ratio, round by round and in the middle."""
    models = models_of(config)
    embed = block_embedder(models, block_length=config.shapes.block_length)
    params = jax.jit(models.init)(jax.random.key(0))
    tower = {models.block_tower: params[models.block_tower]}
    ids = np.sort(np.random.default_rng(0).permutation(len(corpus))[:blocks])
    batches: list[tuple[Blocks, int]] = []

    def keep(batch: Blocks, length: int) -> np.ndarray:
        batches.append((jax.device_put(batch), length))
        return np.zeros((len(batch.body.length), 1), np.float32)

    settings: dict[str, Any] = {"batch_size": config.index.embed_batch_size, "block_ids": ids}
    embed_blocks(keep, corpus, **settings)
    tokens = int(corpus.token_counts()[ids].sum())
    flops = sum(
        embedder_flops(models.embedder, rows=len(batch.body.length), length=length)
        for batch, length in batches
    )

    def refresh() -> None:
        embed_blocks(partial(embed, tower), corpus, **settings)

    def plain() -> None:
        jax.block_until_ready([embed(tower, *batch) for batch in batches])

    refresh()  # compiles
    plain()
    print(f"{len(ids)} blocks, {tokens} tokens, in {len(batches)} batches, on {jax.devices()[0].device_kind}")
    ratios = []
    for number in range(rounds):
        ours, theirs = (seconds(work) for work in (refresh, plain))
        ratios.append(theirs / ours)
        print(
            f"round {number + 1}: embedding {len(ids) / ours:.0f} blocks/s, {tokens / ours:.0f} tokens/s, "
            f"{flops / ours / 1e9:.1f} GFLOP/s; plain {tokens / theirs:.0f} tokens/s; ratio {ratios[-1]:.3f}",
            flush=True,
        )
    print(f"ratio: median {np.median(ratios):.3f}, lowest {min(ratios):.3f} (asked: {ASKED})")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, help="a prepared corpus")
    parser.add_argument("--random", type=int, default=8192, help="blocks of a random one, if none is given")
    parser.add_argument("--blocks", type=int, default=8192, help="blocks embedded, drawn at random")
    parser.add_argument("--batch", type=int, default=256, help="blocks a call")
    parser.add_argument("--hidden", type=int, default=128, help="width of the model")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = args.corpus
        if path is None:
            path = Path(folder) / "corpus"
            write_random(path, blocks=args.random, body_width=288, title_width=16)
        corpus = Corpus.open(path)
        longest = corpus.title_width + corpus.body_width
        bert = BertConfig(
            hidden_size=args.hidden,
            num_layers=args.layers,
            num_heads=args.heads,
            intermediate_size=4 * args.hidden,
            max_positions=max(512, longest),
        )
        config = Config(
            model=ModelConfig(bert=bert, dtype=args.dtype),
            shapes=ShapeConfig(block_length=longest),
            index=IndexConfig(embed_batch_size=args.batch),
        )
        config = resolve(config, corpus)
        measure(config, corpus, blocks=args.blocks, rounds=args.rounds)


if __name__ == "__main__":
    main()
