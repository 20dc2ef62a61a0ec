"""Losses of open-domain QA over the spans of the retrieved blocks, and the prediction.

Letters: B batch, R retrieved candidates, K candidates that are read (the first K of the R), S spans.

Every loss has the signature of `QaLoss`:

    loss(span_scores=..., relevance=..., span_correct=..., has_answer=..., is_valid=...)
        -> (sum, count, extras)

- span_scores: float32 `[B, K, S]`, the reader's scores; -inf on spans outside the body (`span_allowed`).
- relevance: float32 `[B, R]`, R >= K, f(x, z). Only differences within a row matter, so log p(z|x) may
  stand in its place.
- span_correct: bool `[B, K, S]`, the span is an answer; one whose score is -inf does not count.
- has_answer: bool `[B, R]`, the answer string stands in the block, whatever its width.
- is_valid: bool `[B, R]`; False takes a candidate out of every softmax.

The sum is in nats, the count is the number of questions from which there is something to learn; all others
add nothing to the sum and to the gradients. `extras` maps a name to a pair (sum, count). Divide last, and
guard against a count of 0.
"""

from collections.abc import Callable
from typing import Protocol

import chex
import jax
import jax.numpy as jnp

from realm_jax.types import Array

Extras = dict[str, tuple[Array, Array]]


class QaLoss(Protocol):
    """The common signature of the losses; the module docstring says what the arguments are."""

    def __call__(
        self, *, span_scores: Array, relevance: Array, span_correct: Array, has_answer: Array, is_valid: Array
    ) -> tuple[Array, Array, Extras]: ...


def marginal_loss(
    *, span_scores: Array, relevance: Array, span_correct: Array, has_answer: Array, is_valid: Array
) -> tuple[Array, Array, Extras]:
    """Sum -log sum_z p(z|x) p(y|z,x), with p(y|z,x) the share of the matching spans in block z.

    Both distributions run over what is read: z over the K candidates, spans over one block.

    Returns:
      float32 `[]` sum, float32 `[]` count of questions with a matching span, extras `answerable`.

    Source: REALM, equation 1 and section 3.2 (fine-tuning).
    """
    _check(span_scores, relevance, span_correct, has_answer, is_valid)
    width = span_scores.shape[1]
    learnable = _learnable(span_scores, span_correct, is_valid[:, :width])
    retrieval = _log_softmax(relevance[:, :width], is_valid[:, :width], axis=-1)
    answer = _answer_log_prob(span_scores, learnable)
    log_prob = _logsumexp(retrieval + answer, jnp.any(learnable, axis=-1), axis=-1)
    total, count = _negative_sum(log_prob)
    return total, count, {"answerable": (count, _questions(is_valid))}


def orqa_loss(
    *, span_scores: Array, relevance: Array, span_correct: Array, has_answer: Array, is_valid: Array
) -> tuple[Array, Array, Extras]:
    """Sum ORQA's two terms, each zero for a question where nothing is correct.

    Retriever: -log of the share of the blocks with the answer among all R. Reader: -log of the share of the
    matching spans among all spans of the K blocks read, each scored with its block's relevance added.

    Returns:
      float32 `[]` sum of both terms, float32 `[]` count of questions with a term, extras `retriever_loss`,
      `reader_loss` and `answerable` (questions with the reader's term).

    Source: ORQA, its early (retriever) and full (reader) loss, as in the released code; the oracles' losses.
    """
    _check(span_scores, relevance, span_correct, has_answer, is_valid)
    width = span_scores.shape[1]
    learnable = _learnable(span_scores, span_correct, is_valid[:, :width])
    retrieval = _log_softmax(relevance, is_valid, axis=-1)
    retrieved = _logsumexp(retrieval, has_answer & is_valid, axis=-1)
    spans = orqa_span_log_prob(span_scores=span_scores, relevance=relevance, is_valid=is_valid)
    read = _logsumexp(spans, learnable, axis=(-2, -1))
    return _two_terms(-retrieved, -read, is_valid)


def emdr2_loss(
    *, span_scores: Array, relevance: Array, span_correct: Array, has_answer: Array, is_valid: Array
) -> tuple[Array, Array, Extras]:
    """Sum EMDR2's two terms: the reader over all blocks together, and the marginal with the reader fixed.

    Reader: -log of the share of the matching spans among all spans of the K blocks, whatever their relevance.
    Retriever: -log sum_z p(z|x) p(y|z,x) without a gradient through p(y|z,x).

    Returns:
      As `orqa_loss`.

    Source: Sachan et al. 2021 (EMDR2), with a span reader for the generator.
    """
    _check(span_scores, relevance, span_correct, has_answer, is_valid)
    width = span_scores.shape[1]
    learnable = _learnable(span_scores, span_correct, is_valid[:, :width])
    retrieval = _log_softmax(relevance[:, :width], is_valid[:, :width], axis=-1)
    answer = jax.lax.stop_gradient(_answer_log_prob(span_scores, learnable))
    marginal = _logsumexp(retrieval + answer, jnp.any(learnable, axis=-1), axis=-1)
    spans = joint_span_log_prob(span_scores=span_scores, relevance=relevance, is_valid=is_valid)
    read = _logsumexp(spans, learnable, axis=(-2, -1))
    return _two_terms(-marginal, -read, is_valid)


def pdist_loss(
    *, span_scores: Array, relevance: Array, span_correct: Array, has_answer: Array, is_valid: Array
) -> tuple[Array, Array, Extras]:
    """Sum the reader's loss over all blocks and KL(q || p(z|x)), with q(z) in proportion to p(y|z,x).

    The target q is what the reader's likelihoods say of the blocks; no gradient goes through it.

    Returns:
      As `orqa_loss`.

    Source: Izacard et al. 2022 (Atlas), perplexity distillation, with a span reader for the generator.
    """
    _check(span_scores, relevance, span_correct, has_answer, is_valid)
    width = span_scores.shape[1]
    learnable = _learnable(span_scores, span_correct, is_valid[:, :width])
    useful = jnp.any(learnable, axis=-1)  # [B, K]
    retrieval = _log_softmax(relevance[:, :width], is_valid[:, :width], axis=-1)
    answer = jax.lax.stop_gradient(_answer_log_prob(span_scores, learnable))
    target = _log_softmax(answer, useful, axis=-1)
    gap = jnp.where(useful, target, 0.0) - jnp.where(useful, retrieval, 0.0)
    divergence = jnp.sum(jnp.where(useful, jnp.exp(target) * gap, 0.0), axis=-1)
    divergence = jnp.where(jnp.any(useful, axis=-1), divergence, jnp.inf)
    spans = joint_span_log_prob(span_scores=span_scores, relevance=relevance, is_valid=is_valid)
    read = _logsumexp(spans, learnable, axis=(-2, -1))
    return _two_terms(divergence, -read, is_valid)


def marginal_span_log_prob(*, span_scores: Array, relevance: Array, is_valid: Array) -> Array:
    """Normalise spans block by block: log p(z|x) + log p(s|z,x).

    Args:
      span_scores: float32 `[B, K, S]`; -inf on spans outside the body.
      relevance: float32 `[B, R]`, R >= K.
      is_valid: bool `[B, R]`.

    Returns:
      float32 `[B, K, S]`; -inf where there is no span. A block without spans keeps its p(z|x) to itself.
    """
    width = span_scores.shape[1]
    retrieval = _log_softmax(relevance[:, :width], is_valid[:, :width], axis=-1)
    within = _log_softmax(span_scores, _readable(span_scores, is_valid[:, :width]), axis=-1)
    return retrieval[..., None] + within


def orqa_span_log_prob(*, span_scores: Array, relevance: Array, is_valid: Array) -> Array:
    """Normalise all spans of a question together, each scored with its block's relevance added.

    Args:
      span_scores: float32 `[B, K, S]`; -inf on spans outside the body.
      relevance: float32 `[B, R]`, R >= K.
      is_valid: bool `[B, R]`.

    Returns:
      float32 `[B, K, S]`; -inf where there is no span.
    """
    width = span_scores.shape[1]
    scores = span_scores + relevance[:, :width, None]
    return _log_softmax(scores, _readable(span_scores, is_valid[:, :width]), axis=(-2, -1))


def joint_span_log_prob(*, span_scores: Array, relevance: Array, is_valid: Array) -> Array:
    """Normalise all spans of a question together, whatever the relevance of their blocks.

    Args:
      span_scores: float32 `[B, K, S]`; -inf on spans outside the body.
      relevance: float32 `[B, R]`, R >= K; not used.
      is_valid: bool `[B, R]`.

    Returns:
      float32 `[B, K, S]`; -inf where there is no span.
    """
    del relevance
    return _log_softmax(
        span_scores, _readable(span_scores, is_valid[:, : span_scores.shape[1]]), axis=(-2, -1)
    )


def best_spans(span_log_prob: Array, *, count: int = 1) -> tuple[Array, Array, Array]:
    """Pick the most probable spans of each question.

    Args:
      span_log_prob: float32 `[B, K, S]`, of the function in `SPAN_LOG_PROBS` that goes with the loss.
      count: how many, best first; of equals the first block, then the first span of the table.

    Returns:
      int32 `[B, count]` candidates, int32 `[B, count]` spans (rows of `span_table`), float32 `[B, count]`
      probabilities; a probability of 0 means that there was no such span.
    """
    chex.assert_rank(span_log_prob, 3)
    flat = span_log_prob.reshape(span_log_prob.shape[0], -1)
    log_prob, place = jax.lax.top_k(flat, count)
    spans = span_log_prob.shape[2]
    return (place // spans).astype(jnp.int32), (place % spans).astype(jnp.int32), jnp.exp(log_prob)


QA_LOSSES: dict[str, QaLoss] = {
    "marginal": marginal_loss,
    "orqa": orqa_loss,
    "emdr2": emdr2_loss,
    "pdist": pdist_loss,
}

SPAN_LOG_PROBS: dict[str, Callable[..., Array]] = {  # how a model trained with that loss predicts
    "marginal": marginal_span_log_prob,
    "orqa": orqa_span_log_prob,
    "emdr2": joint_span_log_prob,
    "pdist": joint_span_log_prob,
}


def _check(
    span_scores: Array, relevance: Array, span_correct: Array, has_answer: Array, is_valid: Array
) -> None:
    chex.assert_rank([span_scores, relevance], [3, 2])
    chex.assert_equal_shape([span_scores, span_correct])
    chex.assert_equal_shape([relevance, has_answer, is_valid])
    chex.assert_axis_dimension_gteq(relevance, 1, span_scores.shape[1])


def _readable(span_scores: Array, is_valid: Array) -> Array:
    """Mark the spans that exist, NaN ones included, in the candidates that count: bool `[B, K, S]`."""
    return (span_scores != -jnp.inf) & is_valid[..., None]


def _learnable(span_scores: Array, span_correct: Array, is_valid: Array) -> Array:
    """Mark the matching spans among the readable ones: bool `[B, K, S]`."""
    return span_correct & _readable(span_scores, is_valid)


def _answer_log_prob(span_scores: Array, learnable: Array) -> Array:
    """Give log p(y|z,x), the share of the matching spans in each block: float32 `[B, K]`."""
    within = _log_softmax(span_scores, span_scores != -jnp.inf, axis=-1)
    return _logsumexp(within, learnable, axis=-1)


def _two_terms(retriever: Array, reader: Array, is_valid: Array) -> tuple[Array, Array, Extras]:
    """Sum a retriever's and a reader's term `[B]`, each +inf where it has nothing to learn from."""
    retriever_sum, retriever_count = _negative_sum(-retriever)
    reader_sum, reader_count = _negative_sum(-reader)
    count = jnp.sum((retriever != jnp.inf) | (reader != jnp.inf), dtype=jnp.float32)
    extras: Extras = {
        "retriever_loss": (retriever_sum, retriever_count),
        "reader_loss": (reader_sum, reader_count),
        "answerable": (reader_count, _questions(is_valid)),
    }
    return retriever_sum + reader_sum, count, extras


def _negative_sum(log_prob: Array) -> tuple[Array, Array]:
    """Sum -log p over the entries of `[B]` above -inf, and count them; NaN stays visible."""
    some = log_prob != -jnp.inf
    return -jnp.sum(jnp.where(some, log_prob, 0.0)), jnp.sum(some, dtype=jnp.float32)


def _questions(is_valid: Array) -> Array:
    """Count the questions that are not padding."""
    return jnp.sum(jnp.any(is_valid, axis=-1), dtype=jnp.float32)


def _logsumexp(x: Array, where: Array, *, axis: int | tuple[int, ...]) -> Array:
    """Sum exponentials over `where`; -inf with a gradient of 0 where it is all False."""
    some = jnp.any(where, axis=axis, keepdims=True)
    # The inner `where` keeps empty rows finite: the outer one alone would let 0 * inf into the gradient.
    chosen = jnp.where(some, jnp.where(where, x, -jnp.inf), 0.0)
    total = jnp.where(some, jax.nn.logsumexp(chosen, axis=axis, keepdims=True), -jnp.inf)
    return jnp.squeeze(total, axis=axis)


def _log_softmax(x: Array, where: Array, *, axis: int | tuple[int, ...]) -> Array:
    """Normalise over `where`; -inf elsewhere, and everywhere in a row that is all False."""
    total = jnp.expand_dims(_logsumexp(x, where, axis=axis), axis)
    # Both sides are made finite before they meet, so that no -inf - -inf arises.
    inside = jnp.where(where, x, 0.0) - jnp.where(total != -jnp.inf, total, 0.0)
    return jnp.where(where, inside, -jnp.inf)
