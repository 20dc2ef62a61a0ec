"""Time pre-training steps whose inputs are made one step ahead against steps that wait for theirs.

    python benchmarks/ahead.py --corpus build/wiki_nq_mini

One process, one compiled step, the inputs of a real run (masked texts, embedded queries, search, blocks):
some steps with the thread, as many without, and so on in turns. Printed is the ratio of their times.
"""

import argparse
import statistics
import time
from functools import partial
from typing import Any

import jax
import numpy as np

from realm_jax.config import BertConfig, Config, ModelConfig, RealmConfig, ShapeConfig
from realm_jax.data.corpus import Corpus
from realm_jax.data.streams import masked_stream
from realm_jax.index.engines import ENGINES
from realm_jax.ops.marginal import token_loss
from realm_jax.ops.relevance import retrieval_log_prob
from realm_jax.refresh.workers import ThreadWorker
from realm_jax.runs.ahead import Ahead
from realm_jax.runs.candidates import CandidateSearch, query_embedder
from realm_jax.runs.live_index import IndexVersion, LiveIndex
from realm_jax.runs.realm import RealmInputs
from realm_jax.runs.setup import models_of, resolve
from realm_jax.train.compile import make_step
from realm_jax.train.optimizer import make_optimizer
from realm_jax.train.state import create_state
from realm_jax.train.steps import realm_loss


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", required=True, help="a prepared corpus")
    parser.add_argument("--engine", choices=sorted(ENGINES), default="exact")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16, help="texts")
    parser.add_argument("--oversample", type=int, default=3, help="rows drawn for each row kept")
    parser.add_argument("--steps", type=int, default=8, help="steps in a turn")
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args(arguments)
    corpus = Corpus.open(args.corpus)
    bert = BertConfig(
        hidden_size=args.hidden,
        num_layers=2,
        num_heads=max(1, args.hidden // 64),
        intermediate_size=4 * args.hidden,
    )
    length = 40 + corpus.body_width
    config = resolve(
        Config(
            model=ModelConfig(bert=bert),
            shapes=ShapeConfig(query_length=40, block_length=length, joint_length=length, max_masks=8),
            realm=RealmConfig(batch_size=args.batch, oversample=args.oversample),
        ),
        corpus,
    )
    models, shapes = models_of(config), config.shapes
    embeddings = np.random.default_rng(0).standard_normal((len(corpus), 128), dtype=np.float32)
    live = LiveIndex(IndexVersion(0, ENGINES[args.engine].build(embeddings), embeddings))
    inputs = RealmInputs(
        query_embedder(models),
        CandidateSearch(
            corpus, candidates=shapes.candidates, extra=config.index.extra, null_block=shapes.null_block
        ),
        live,
        settings=config.realm,
        text=corpus,
        corpus=corpus,
        candidates=shapes.candidates,
        max_masks=shapes.max_masks,
        seed=0,
    )
    rates = {"embedder": 1e-4, "encoder": 1e-4}
    optimizer = make_optimizer(learning_rates=rates, steps=1000, warmup=0, weight_decay=0.01, clip_norm=1.0)
    loss = partial(
        realm_loss,
        models=models,
        block_length=shapes.block_length,
        joint_length=shapes.joint_length,
        marginal_loss=token_loss,
        weigh=retrieval_log_prob,
    )
    step_fn = make_step(loss, optimizer=optimizer, trained=list(rates), dropout=True)
    params = jax.jit(models.init)(jax.random.key(0))
    state: Any = create_state(params, optimizer=optimizer, trained=list(rates), seed=0)

    def made(worker: ThreadWorker | None) -> Ahead:
        stream = masked_stream(
            corpus,
            query_length=shapes.query_length,
            max_masks=shapes.max_masks,
            masker="salient",
            same_corpus=True,
            seed=0,
            batch_size=args.batch * args.oversample,
        )
        return Ahead(stream, inputs, worker)

    ways = {"ahead": made(ThreadWorker(name="inputs")), "waiting": made(None)}

    done = 0

    def turn(way: Ahead, steps: int) -> float:
        nonlocal state, done
        start = time.perf_counter()
        for _ in range(steps):
            batch = next(way)
            state, _ = step_fn(state, *way(done, state.params, batch))
            done += 1
        jax.block_until_ready(state)
        return (time.perf_counter() - start) / steps

    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        turn(way, 2)  # compiles, and fills what is ahead
    for _ in range(args.turns):
        for name, way in ways.items():
            seconds[name].append(turn(way, args.steps))
    for way in ways.values():
        way.close()
    ahead, waiting = (statistics.median(seconds[name]) for name in ("ahead", "waiting"))
    pairs = [b / a for a, b in zip(seconds["ahead"], seconds["waiting"], strict=True)]
    print(
        f"{args.batch} texts, {args.oversample} drawn for each, {len(corpus)} blocks, {args.engine}: "
        f"a step takes {1000 * ahead:.0f} ms one ahead, {1000 * waiting:.0f} waiting: {waiting / ahead:.2f}x "
        f"({min(pairs):.2f} to {max(pairs):.2f} in {args.turns} turns)"
    )


if __name__ == "__main__":
    main()
