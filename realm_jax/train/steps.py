"""The three training steps: inverse cloze task, REALM, open-domain QA.

Each is pure, `(state, batch, ...) -> (state, metrics)`; the keyword arguments are bound once, then the step
is compiled. Candidates come in as data: the step embeds them anew with the current parameters, so the
gradient reaches the retriever, while the index only chose them.

Letters: B batch, K candidates, M masked positions, S spans.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from realm_jax.mesh import in_order, split_rows, whole
from realm_jax.models.build import Models
from realm_jax.models.knowledge_encoder import gold_log_prob
from realm_jax.ops.contrastive import in_batch_log_prob
from realm_jax.ops.marginal import null_log_prob, retrieval_utility, token_marginal
from realm_jax.ops.open_qa import QaLoss
from realm_jax.ops.relevance import relevance_score
from realm_jax.ops.rows import block_tokens, joint_tokens, single
from realm_jax.ops.spans import span_allowed, span_matches
from realm_jax.train.accumulate import Accumulate, by_sums
from realm_jax.train.relevance import Relevance
from realm_jax.train.sharding import gather, state_shardings
from realm_jax.train.state import Metrics, TrainState, apply_gradients, step_key, update
from realm_jax.types import Array, Beam, Candidates, IctBatch, MaskedBatch, Params, QuestionBatch, Rows


def ict_loss(
    params: Params, key: Array | None, batch: IctBatch, *, models: Models, block_length: int
) -> tuple[Array, Metrics]:
    """Compute the inverse cloze loss of a batch.

    Args:
      params: all parts, by name.
      key: dropout key; None turns dropout off.
      batch: B pseudo-queries and their blocks.
      models: the models.
      block_length: tokens of a block as the embedder reads it.

    Returns:
      Mean loss in nats, float32 `[]`, and metrics.
    """
    return ict_contrast(ict_embeddings(params, key, batch, models=models, block_length=block_length), batch)


def ict_embeddings(
    params: Params, key: Array | None, batch: IctBatch, *, models: Models, block_length: int
) -> tuple[Array, Array]:
    """Embed pseudo-queries and blocks, float32 `[B, D]` each; the arguments are those of `ict_loss`."""
    query_key, block_key = _keys(key, 2)
    queries = models.embed_query(params, single(batch.query), dropout_key=query_key)
    tokens = block_tokens(batch.blocks, length=block_length)
    return queries, models.embed_block(params, tokens, dropout_key=block_key)


def ict_contrast(embeddings: tuple[Array, Array], batch: IctBatch) -> tuple[Array, Metrics]:
    """Compute the inverse cloze loss of a batch from its embeddings; see `ict_loss`."""
    queries, blocks = embeddings
    log_prob = in_batch_log_prob(queries, blocks, batch.block_ids)
    rows = jnp.float32(queries.shape[0])
    loss = -jnp.sum(jnp.diagonal(log_prob))
    best = jnp.argmax(log_prob, axis=-1) == jnp.arange(queries.shape[0])
    metrics = {"loss": (loss, rows), "accuracy": (jnp.sum(best.astype(jnp.float32)), rows)}
    return loss / rows, metrics


def retrieval_scores(
    params: Params,
    key: Array | None,
    query: Rows,
    candidates: Candidates,
    *,
    models: Models,
    block_length: int,
) -> Array:
    """Score each query against its candidates with the current parameters.

    Args:
      params: all parts, by name.
      key: dropout key; None turns dropout off.
      query: rows `[B, L]`.
      candidates: `[B, K, ...]`.
      models: the models.
      block_length: tokens of a block as the embedder reads it.

    Returns:
      float32 `[B, K]`.
    """
    query_key, block_key = _keys(key, 2)
    queries = models.embed_query(params, single(query), dropout_key=query_key)
    tokens = block_tokens(candidates.blocks, length=block_length)
    return relevance_score(queries, models.embed_block(params, tokens, dropout_key=block_key))


def realm_loss(
    params: Params,
    key: Array | None,
    batch: MaskedBatch,
    candidates: Candidates,
    *,
    models: Models,
    block_length: int,
    joint_length: int,
    marginal_loss: Callable[[Array, Array, Array], tuple[Array, Array]],
    weigh: Callable[[Array, Array], Array],
) -> tuple[Array, Metrics]:
    """Compute the marginal likelihood loss of REALM pre-training.

    Args:
      params: all parts, by name.
      key: dropout key; None turns dropout off.
      batch: masked texts `[B, ...]`.
      candidates: `[B, K, ...]`.
      models: the models.
      block_length: tokens of a block as the embedder reads it.
      joint_length: most tokens of query and block as the encoder reads them.
      marginal_loss: one of `ops.marginal.MARGINALS`.
      weigh: scores and validity to log p(z|x), float32 `[B, K]`: `retrieval_log_prob`, or `uniform_log_prob`.

    Returns:
      Loss in nats per masked token (or per text), float32 `[]`, and metrics.

    Source: REALM, equations 1 and 2 and section 3.3.
    """
    retriever_key, encoder_key = _keys(key, 2)
    scores = retrieval_scores(
        params, retriever_key, batch.query, candidates, models=models, block_length=block_length
    )
    log_prob = weigh(scores, candidates.is_valid)
    # Bodies cut short are read in a row no longer than they need; each width is a program of its own.
    width = batch.query.ids.shape[-1] + candidates.blocks.body.ids.shape[-1]
    joint = joint_tokens(batch.query, candidates.blocks.body, length=min(joint_length, width))
    logits = models.word_logits(params, joint, batch.target_positions, dropout_key=encoder_key)
    gold = gold_log_prob(logits, batch.target_ids)
    loss, count = marginal_loss(log_prob, gold, batch.target_weights)
    metrics = {"loss": (loss, count), **realm_metrics(log_prob, gold, logits, batch, candidates)}
    return loss / jnp.maximum(count, 1.0), metrics


def realm_metrics(
    log_prob: Array, gold: Array, logits: Array, batch: MaskedBatch, candidates: Candidates
) -> Metrics:
    """Measure what retrieval was worth, as sums and counts.

    Args:
      log_prob: float32 `[B, K]`, log p(z|x).
      gold: float32 `[B, K, M]`, log p(y_j|z,x).
      logits: float32 `[B, K, M, V]`.
      batch: masked texts.
      candidates: the candidates.

    Returns:
      Retrieval utility (nats per masked token), token accuracy of the best single candidate's prediction,
      mean p(null|x), and the share of valid candidates.
    """
    weights = batch.target_weights
    tokens = jnp.sum(weights)
    marginal = token_marginal(log_prob, gold)
    top = jnp.argmax(log_prob, axis=-1)
    top_logits = jnp.take_along_axis(logits, top[:, None, None, None], axis=1)[:, 0]
    hits = (jnp.argmax(top_logits, axis=-1) == batch.target_ids).astype(jnp.float32)
    rows = jnp.float32(log_prob.shape[0])
    null = jnp.sum(jnp.where(candidates.is_null, jnp.exp(log_prob), 0.0))
    has_null = jnp.any(candidates.is_null, axis=-1).astype(jnp.float32)[:, None] * weights
    utility = retrieval_utility(marginal, null_log_prob(gold, candidates.is_null))
    valid = candidates.is_valid.astype(jnp.float32)
    return {
        "retrieval_utility": (jnp.sum(utility * has_null), jnp.sum(has_null)),
        "top_accuracy": (jnp.sum(hits * weights), tokens),
        "null_probability": (null, rows),
        "valid_candidates": (jnp.sum(valid), rows),
    }


def qa_loss(
    params: Params,
    key: Array | None,
    batch: QuestionBatch,
    candidates: Candidates,
    beam: Beam,
    *,
    models: Models,
    joint_length: int,
    answer_loss: QaLoss,
    relevance: Relevance,
) -> tuple[Array, Metrics]:
    """Compute the loss of open-domain QA fine-tuning.

    Args:
      params: all parts, by name.
      key: dropout key; None turns dropout off.
      batch: questions and where their answers stand.
      candidates: `[B, K, ...]`, the blocks that are read.
      beam: R blocks, the first K of them the candidates.
      models: the models.
      joint_length: tokens of question and block as the reader reads them.
      answer_loss: one of `ops.open_qa.QA_LOSSES`.
      relevance: scores the beam; one of `train.relevance`, which says what of the retriever is trained.

    Returns:
      Loss in nats per question with an answer, float32 `[]`, and metrics; `retrieved` is the share of the
      questions with an answer in their beam, `answerable` of those with one that can be read.

    Source: REALM, section 3.2 and 4.2; ORQA, section 5.
    """
    query_key, block_key, reader_key = _keys(key, 3)
    spans, correct = reader_spans(
        params, reader_key, batch, candidates, models=models, joint_length=joint_length
    )
    loss, count, extras = answer_loss(
        span_scores=spans,
        relevance=relevance(params, (query_key, block_key), batch.question, candidates, beam),
        span_correct=correct,
        has_answer=beam.has_answer,
        is_valid=beam.is_valid,
    )
    retrieved = jnp.any(beam.has_answer & beam.is_valid, axis=-1).astype(jnp.float32)
    rows = jnp.float32(retrieved.shape[0])
    metrics = {"loss": (loss, count), "retrieved": (jnp.sum(retrieved), rows), **extras}
    return loss / jnp.maximum(count, 1.0), metrics


def reader_spans(
    params: Params,
    key: Array | None,
    batch: QuestionBatch,
    candidates: Candidates,
    *,
    models: Models,
    joint_length: int,
) -> tuple[Array, Array]:
    """Score the spans of each candidate and mark the correct ones.

    Args:
      params: all parts, by name.
      key: dropout key; None turns dropout off.
      batch: questions and where their answers stand.
      candidates: `[B, K, ...]`.
      models: the models.
      joint_length: tokens L of question and block as the reader reads them.

    Returns:
      Span scores float32 `[B, K, S]`, -inf outside the block's body, and bool `[B, K, S]`.
    """
    joint = joint_tokens(batch.question, candidates.blocks.body, length=joint_length)
    width = models.reader.max_span_width
    allowed = span_allowed(
        body_mask(batch.question, candidates.blocks.body, length=joint_length), max_width=width
    )
    scores = models.span_scores(params, joint, dropout_key=key)
    offset = batch.question.length[:, None, None]
    correct = span_matches(
        batch.answer_starts + offset,
        batch.answer_stops + offset,
        batch.answer_mask,
        length=joint_length,
        max_width=width,
    )
    return jnp.where(allowed, scores, -jnp.inf), correct & allowed


def body_mask(question: Rows, body: Rows, *, length: int) -> Array:
    """Mark the body's own tokens in joint rows: neither the question nor the closing [SEP].

    Args:
      question: rows `[B, L_question]`.
      body: rows `[B, K, L_body]`.
      length: tokens L of the joint row.

    Returns:
      bool `[B, K, L]`.
    """
    position = jnp.arange(length, dtype=jnp.int32)[None, None, :]
    start = question.length[:, None, None]
    stop = jnp.minimum(start + body.length[:, :, None], length) - 1
    return (position >= start) & (position < stop)


def make_step(
    loss: Callable[..., tuple[Array, Metrics]],
    *,
    optimizer: optax.GradientTransformation,
    trained: Sequence[str],
    dropout: bool,
    microbatches: int = 1,
    accumulate: Accumulate = by_sums,
    mesh: Mesh | None = None,
    state: TrainState | None = None,
) -> Callable[..., tuple[TrainState, Metrics]]:
    """Compile a loss into a step.

    Args:
      loss: `(params, key, *inputs) -> (loss, metrics)`, its keywords bound.
      optimizer: for the trained parts.
      trained: names of the parts to train.
      dropout: False passes no key.
      microbatches: parts of a batch that are in memory one after the other.
      accumulate: how their gradients become that of the batch.
      mesh: the devices; None is the default device.
      state: with a mesh, a state or its shapes: what is laid out.

    Returns:
      `step(state, *inputs) -> (state, metrics)`; the state's buffers are donated. On a mesh the state lies as
      `state_shardings` says, and axis 0 of all inputs is split over the devices of the batch.
    """

    def step(state: TrainState, *inputs: Any) -> tuple[TrainState, Metrics]:
        def complete(parts: Params) -> Params:
            params = {**state.params, **parts}
            return params if mesh is None else gather(params, mesh=mesh)

        if microbatches == 1:

            def loss_fn(params: Params, key: Array) -> tuple[Array, Metrics]:
                return loss(complete(params), key if dropout else None, *inputs)

            return update(state, loss_fn, optimizer=optimizer, trained=trained)
        gradients, metrics = accumulate(
            loss,
            {name: state.params[name] for name in trained},
            step_key(state) if dropout else None,
            inputs,
            complete=complete,
            microbatches=microbatches,
            mesh=mesh,
        )
        return apply_gradients(state, gradients, metrics, optimizer=optimizer)

    if mesh is None:
        return partial(jax.jit, donate_argnums=0)(step)
    placed = state_shardings(mesh, state)
    program = jax.jit(
        lambda state, inputs: step(state, *inputs),
        in_shardings=(placed, split_rows(mesh)),
        out_shardings=(placed, whole(mesh)),
        donate_argnums=0,
    )
    return in_order(lambda state, *inputs: program(state, inputs))


def _keys(key: Array | None, count: int) -> Sequence[Array | None]:
    return [None] * count if key is None else list(jax.random.split(key, count))
