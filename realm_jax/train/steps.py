"""The three training steps: inverse cloze task, REALM, open-domain QA.

Each is a pure loss of parameters and inputs; its keyword arguments are bound once, then it is compiled into
a step (`train/compile.py`). Candidates come in as data: the step embeds them anew with the current
parameters, so the gradient reaches the retriever, while the index only chose them.

Letters: B batch, K candidates, M masked positions, S spans.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from realm_jax.data.questions import Occurrences
from realm_jax.models.build import Models
from realm_jax.models.knowledge_encoder import gather_positions, gold_log_prob
from realm_jax.ops.contrastive import in_batch_log_prob
from realm_jax.ops.marginal import null_log_prob, retrieval_utility, token_marginal
from realm_jax.ops.open_qa import QaLoss
from realm_jax.ops.open_qa import marginal_loss as marginal_loss_of_spans
from realm_jax.ops.relevance import relevance_score
from realm_jax.ops.rows import block_tokens, joint_tokens, single
from realm_jax.ops.spans import span_allowed, span_matches
from realm_jax.train.relevance import Relevance
from realm_jax.train.state import Metrics
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
    places: Occurrences | None = None,
    *,
    models: Models,
    block_length: int,
    joint_length: int,
    marginal_loss: Callable[[Array, Array, Array], tuple[Array, Array]],
    weigh: Callable[[Array, Array], Array],
    span_weight: float = 0.0,
    span_relevance: Callable[[Array], Array] = jax.lax.stop_gradient,
) -> tuple[Array, Metrics]:
    """Compute the marginal likelihood loss of REALM pre-training.

    Args:
      params: all parts, by name.
      key: dropout key; None turns dropout off.
      batch: masked texts `[B, ...]`.
      candidates: `[B, K, ...]`.
      places: where the masked tokens stand in the bodies; only with a `span_weight`.
      models: the models.
      block_length: tokens of a block as the embedder reads it.
      joint_length: most tokens of query and block as the encoder reads them.
      marginal_loss: one of `ops.marginal.MARGINALS`.
      weigh: scores and validity to log p(z|x), float32 `[B, K]`: `retrieval_log_prob`, or `uniform_log_prob`.
      span_weight: weight of the span loss (`span_loss`) that is added.
      span_relevance: log p(z|x) as the span loss takes it, float32 `[B, K]`; with the identity it teaches the
        retriever too.

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
    if places is None:
        masked = models.read(params, joint, batch.target_positions, dropout_key=encoder_key)
    else:  # spans are scored all over the row
        hidden = models.read(params, joint, dropout_key=encoder_key)
        masked = gather_positions(hidden, batch.target_positions)
    logits = models.words_of(params, masked)
    gold = gold_log_prob(logits, batch.target_ids)
    loss, count = marginal_loss(log_prob, gold, batch.target_weights)
    metrics = {"loss": (loss, count), **realm_metrics(log_prob, gold, logits, batch, candidates)}
    total = loss / jnp.maximum(count, 1.0)
    if places is not None:
        given = span_relevance(log_prob)
        pointing, rows = span_loss(params, hidden, given, batch.query, candidates, places, models=models)
        metrics["span_loss"] = (pointing, rows)
        total = total + span_weight * pointing / jnp.maximum(rows, 1.0)
    return total, metrics


def span_loss(
    params: Params,
    hidden: Array,
    log_prob: Array,
    query: Rows,
    candidates: Candidates,
    places: Occurrences,
    *,
    models: Models,
) -> tuple[Array, Array]:
    """Ask the reader's span scorer to point at the masked tokens, in what the encoder has read.

    It teaches encoder and scorer to find an answer, before there are questions.

    Args:
      params: all parts, by name; those of the encoder and of the reader's head are used.
      hidden: `[B, K, L, H]`, from `Models.read`.
      log_prob: float32 `[B, K]`, log p(z|x).
      query: rows `[B, L_query]`.
      candidates: `[B, K, ...]`.
      places: where the masked tokens stand in the bodies, `[B, K, S]`.
      models: the models.

    Returns:
      float32 `[]` sum of -log sum_z p(z|x) p(span|z,x), float32 `[]` rows with the masked tokens in a body.

    Source: span selection as pre-training, Glass et al. 2020.
    """
    spans, correct = placed_spans(
        models.spans_of(params, hidden),
        query,
        candidates.blocks.body,
        (places.starts, places.stops, places.mask),
        length=hidden.shape[-2],
        max_width=models.reader.max_span_width,
    )
    total, rows, _ = marginal_loss_of_spans(
        span_scores=spans,
        relevance=log_prob,
        span_correct=correct,
        has_answer=places.has_answer,
        is_valid=candidates.is_valid,
    )
    return total, rows


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
    is_continuation: np.ndarray | None = None,
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
      is_continuation: see `reader_spans`.

    Returns:
      Loss in nats per question with an answer, float32 `[]`, and metrics; `retrieved` is the share of the
      questions with an answer in their beam, `answerable` of those with one that can be read.

    Source: REALM, section 3.2 and 4.2; ORQA, section 5.
    """
    query_key, block_key, reader_key = _keys(key, 3)
    spans, correct = reader_spans(
        params,
        reader_key,
        batch,
        candidates,
        models=models,
        joint_length=joint_length,
        is_continuation=is_continuation,
    )
    asked = batch.question if batch.asked is None else batch.asked
    loss, count, extras = answer_loss(
        span_scores=spans,
        relevance=relevance(params, (query_key, block_key), asked, candidates, beam),
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
    is_continuation: np.ndarray | None = None,
) -> tuple[Array, Array]:
    """Score the spans of each candidate and mark the correct ones.

    Args:
      params: all parts, by name.
      key: dropout key; None turns dropout off.
      batch: questions and where their answers stand.
      candidates: `[B, K, ...]`.
      models: the models.
      joint_length: tokens L of question and block as the reader reads them.
      is_continuation: bool `[V]`, the wordpieces that go on with a word; given, spans are whole words.

    Returns:
      Span scores float32 `[B, K, S]`, -inf outside the block's body, and bool `[B, K, S]`.
    """
    joint = joint_tokens(batch.question, candidates.blocks.body, length=joint_length)
    return placed_spans(
        models.span_scores(params, joint, dropout_key=key),
        batch.question,
        candidates.blocks.body,
        (batch.answer_starts, batch.answer_stops, batch.answer_mask),
        length=joint_length,
        max_width=models.reader.max_span_width,
        is_continuation=None if is_continuation is None else jnp.asarray(is_continuation)[joint.ids],
    )


def placed_spans(
    scores: Array,
    question: Rows,
    body: Rows,
    answers: tuple[Array, Array, Array],
    *,
    length: int,
    max_width: int,
    is_continuation: Array | None = None,
) -> tuple[Array, Array]:
    """Keep the spans inside the body, and mark the correct ones.

    Args:
      scores: float32 `[B, K, S]`, of every span of the joint row.
      question: rows `[B, L_question]`.
      body: rows `[B, K, L_body]`.
      answers: int32 first and inclusive last tokens in the body, and a bool mask, each `[B, K, A]`.
      length: tokens L of the joint row.
      max_width: widest span, tokens.
      is_continuation: bool `[B, K, L]`, tokens that go on with a word; given, spans are whole words.

    Returns:
      Scores float32 `[B, K, S]`, -inf outside the body, and bool `[B, K, S]`.
    """
    inside = body_mask(question, body, length=length)
    allowed = span_allowed(inside, max_width=max_width, is_continuation=is_continuation)
    offset = question.length[:, None, None]
    starts, stops, mask = answers
    correct = span_matches(starts + offset, stops + offset, mask, length=length, max_width=max_width)
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


def _keys(key: Array | None, count: int) -> Sequence[Array | None]:
    return [None] * count if key is None else list(jax.random.split(key, count))
