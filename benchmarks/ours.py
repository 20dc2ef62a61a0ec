"""Our side of the comparisons, through the code that runs use; benchmarks/beside.py starts it."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.sizes import CLS, READ, SEP, Size, StepTokens, block_embeddings, some_blocks, step_tokens
from benchmarks.turns import Tasks, serve
from realm_jax.config import BertConfig, Config, IndexConfig, ModelConfig, QaConfig, ShapeConfig
from realm_jax.data.corpus import Corpus
from realm_jax.index.embed import embed_blocks
from realm_jax.index.exact import ExactIndex
from realm_jax.inspect.answer import answer_questions
from realm_jax.inspect.loaded import LoadedRun
from realm_jax.models.bert import Bert
from realm_jax.models.build import Models, build_models
from realm_jax.ops.marginal import token_loss
from realm_jax.ops.relevance import retrieval_log_prob
from realm_jax.runs.live_index import IndexVersion, block_embedder
from realm_jax.runs.setup import models_of as models_of_config
from realm_jax.text.packing import null_blocks
from realm_jax.train.compile import make_step
from realm_jax.train.optimizer import make_optimizer
from realm_jax.train.state import create_state
from realm_jax.train.steps import realm_loss
from realm_jax.types import NO_BLOCK, Blocks, Candidates, MaskedBatch, Rows

Made = tuple[Callable[[], None], dict[str, Any]]
Dtype = Literal["float32", "bfloat16"]  # of the computation


def models_of(size: Size, dtype: Dtype) -> Models:
    """Build models of a size and compute dtype, with the port's activation and epsilons."""
    bert = Bert(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        num_layers=size.layers,
        num_heads=size.heads,
        intermediate_size=size.intermediate,
        dropout=size.dropout,
        dtype=jnp.dtype(dtype),
    )
    return build_models(
        bert=bert,
        embedding_size=size.embedding,
        two_towers=False,
        span_hidden_size=256,
        span_norm_eps=1e-3,
        max_span_width=10,
    )


def masked_batch(tokens: StepTokens) -> MaskedBatch:
    """Put the texts into the step's own shape."""
    batch, length = tokens.queries.shape
    return MaskedBatch(
        query=Rows(ids=tokens.queries, length=np.full(batch, length, np.int32)),
        target_positions=tokens.positions,
        target_ids=tokens.targets,
        target_weights=np.ones(tokens.targets.shape, np.float32),
        origin=np.full(batch, NO_BLOCK, np.int32),
    )


def candidates_of(tokens: StepTokens) -> Candidates:
    """Put the blocks into the step's own shape, the null block before them."""
    batch, rest, title = tokens.titles.shape
    body = tokens.bodies.shape[-1]
    blocks = null_blocks(
        (batch, rest + 1), title_length=title + 2, body_length=body + 1, cls_id=CLS, sep_id=SEP
    )
    blocks.title.ids[:, 1:, 1:-1], blocks.title.ids[:, 1:, -1] = tokens.titles, SEP
    blocks.body.ids[:, 1:, :-1], blocks.body.ids[:, 1:, -1] = tokens.bodies, SEP
    blocks.title.length[:, 1:], blocks.body.length[:, 1:] = title + 2, body + 1
    number = np.broadcast_to(np.arange(-1, rest, dtype=np.int32), (batch, rest + 1))
    return Candidates(block_ids=number, blocks=blocks, is_null=number < 0, is_valid=number >= NO_BLOCK)


def pretraining(size: dict[str, Any], *, dtype: Dtype) -> Made:
    """One step, as the loop makes it: loss, gradients, clipping, AdamW, metrics."""
    of, tokens = Size(**size), step_tokens(Size(**size))
    models = models_of(of, dtype)
    loss = partial(
        realm_loss,
        models=models,
        block_length=of.block_length,
        joint_length=of.query_length + of.block_length,
        marginal_loss=token_loss,
        weigh=retrieval_log_prob,
    )
    rates = {"embedder": 1e-4, "encoder": 1e-4}
    optimizer = make_optimizer(learning_rates=rates, steps=1000, warmup=0, weight_decay=0.01, clip_norm=1.0)
    params = jax.jit(models.init)(jax.random.key(0))
    state = create_state(params, optimizer=optimizer, trained=list(rates), seed=0)
    step_fn = make_step(loss, optimizer=optimizer, trained=list(rates), dropout=of.dropout > 0)
    batch, candidates = masked_batch(tokens), candidates_of(tokens)
    first = float(jax.jit(loss)(params, None, batch, candidates)[0])
    kept = [state]

    def step() -> None:
        kept[0], metrics = step_fn(kept[0], batch, candidates)
        jax.block_until_ready((kept[0], metrics))

    step()
    trained = {name: params[name] for name in rates}
    return step, {"first_loss": first, "parameters": sum(leaf.size for leaf in jax.tree.leaves(trained))}


def embedding(size: dict[str, Any], *, dtype: Dtype) -> Made:
    """Embed a batch of blocks, all as long as they may be."""
    of, tokens = Size(**size), step_tokens(Size(**size))
    models = models_of(of, dtype)
    params = jax.jit(models.init)(jax.random.key(0))
    embed = block_embedder(models, block_length=of.block_length)
    blocks = jax.tree.map(lambda leaf: leaf[:, 1:].reshape(-1, *leaf.shape[2:]), candidates_of(tokens).blocks)

    def run() -> None:
        jax.block_until_ready(embed(params, blocks, of.block_length))

    run()
    return run, {"blocks": len(blocks.body.length)}


class Part:
    """Some blocks of a corpus, as if they were all."""

    def __init__(self, corpus: Corpus, block_ids: np.ndarray):
        self._corpus, self._block_ids = corpus, block_ids

    def __len__(self) -> int:
        return len(self._block_ids)

    def token_counts(self) -> np.ndarray:
        return self._corpus.token_counts()[self._block_ids]

    def gather(self, block_ids: np.ndarray) -> Blocks:
        return self._corpus.gather(np.where(block_ids < 0, NO_BLOCK, self._block_ids[block_ids]))


def corpus_embedding(size: dict[str, Any], *, dtype: Dtype, corpus: str, blocks: int, batch: int) -> Made:
    """Embed real blocks, as a refresh does."""
    opened = Corpus.open(corpus)
    of = replace(Size(**size), vocabulary=opened.tokenizer.vocab_size)
    models = models_of(of, dtype)
    params = jax.jit(models.init)(jax.random.key(0))
    longest = opened.body_width + opened.title_width
    embed = partial(block_embedder(models, block_length=longest), params)
    part = Part(opened, some_blocks(blocks, len(opened)))

    def run() -> None:
        embed_blocks(embed, part, batch_size=batch)

    run()
    return run, {"blocks": len(part)}


def answering(size: dict[str, Any], *, dtype: Dtype, corpus: str, questions: list[str], batch: int) -> Made:
    """Answer questions in batches: tokens, search, reading, the words of the answer and of its blocks."""
    of, opened = Size(**size), Corpus.open(corpus)
    bert = BertConfig(
        hidden_size=of.hidden,
        num_layers=of.layers,
        num_heads=of.heads,
        intermediate_size=of.intermediate,
    )
    vocab_size = opened.tokenizer.vocab_size
    config = Config(
        model=ModelConfig(bert=bert, vocab_size=vocab_size, embedding_size=of.embedding, dtype=dtype),
        shapes=ShapeConfig(query_length=40, joint_length=40 + opened.body_width),
        qa=QaConfig(candidates=READ),
        index=IndexConfig(engine="exact"),
    )
    models = models_of_config(config)
    embeddings = block_embeddings(len(opened), of.embedding)
    run = LoadedRun(
        folder=Path(corpus),
        phase="qa",
        step=0,
        recorded_version=None,
        config=config,
        corpus=opened,
        models=models,
        params=jax.jit(models.init)(jax.random.key(0)),
        batch_size=batch,
        fresh_index=False,
        own_corpus=True,
    )
    vars(run)["version"] = IndexVersion(0, ExactIndex(embeddings), embeddings)  # no file is opened for it

    def answer() -> None:
        answer_questions(run, questions)

    answer()
    return answer, {"questions": len(questions)}


TASKS: Tasks = {
    "pretraining": pretraining,
    "embedding": embedding,
    "corpus_embedding": corpus_embedding,
    "answering": answering,
}

if __name__ == "__main__":
    serve(TASKS)
