"""Knowledge-augmented encoder, alone and behind the scorer, against the oracles."""

from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realm_jax.models.knowledge_encoder import gold_log_prob
from realm_jax.ops.marginal import null_log_prob, retrieval_utility, token_loss, token_marginal
from realm_jax.ops.relevance import relevance_score, retrieval_log_prob
from realm_jax.types import Params
from tests.models.oracle import PRECISION, Oracle, close, load_oracle


@pytest.fixture(autouse=True)
def full_precision() -> Iterator[None]:
    with jax.default_matmul_precision(PRECISION):
        yield


def targets(oracle: Oracle) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Take every position of the row for a target: positions, ids and weights `[B, L]`."""
    labels = oracle["inputs/labels"]
    positions = np.broadcast_to(np.arange(labels.shape[1], dtype=np.int32), labels.shape)
    weights = oracle["inputs/mlm_mask"].astype(np.float32)
    return jnp.asarray(positions), jnp.asarray(np.where(weights > 0, labels, 0)), jnp.asarray(weights)


def mean_loss(oracle: Oracle, params: Params, scores: jax.Array, joint: str) -> tuple[jax.Array, tuple]:
    positions, ids, weights = targets(oracle)
    logits = oracle.models.word_logits(params, oracle.tokens(joint), positions)
    gold = gold_log_prob(logits, ids)
    log_prob = retrieval_log_prob(scores, jnp.ones(scores.shape, bool))
    total, count = token_loss(log_prob, gold, weights)
    return total / count, (logits, gold, token_marginal(log_prob, gold), weights)


def test_encoder(tmp_path: Path) -> None:
    oracle = load_oracle("encoder", tmp_path)
    scores = jnp.asarray(oracle["inputs/relevance_score"])

    def loss(params: Params, scores: jax.Array) -> tuple[jax.Array, tuple]:
        return mean_loss(oracle, params, scores, "inputs/")

    run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    (value, (logits, gold, marginal, weights)), (gradients, by_score) = run(oracle.params, scores)
    close(value, oracle["outputs/loss"])
    close(logits, oracle["outputs/logits"])
    oracle.check_gradients(gradients, relevance_score=by_score)
    close(gold * weights[:, None], oracle["derived/gold_log_prob"])
    close(marginal * weights, oracle["derived/marginal_log_prob"])
    is_null = jnp.arange(scores.shape[1])[None, :] == jnp.full(
        scores.shape, oracle.about["null_candidate_index"]
    )
    utility = retrieval_utility(marginal, null_log_prob(gold, is_null)) * weights
    close(utility, oracle["derived/retrieval_utility"], tolerance=1e-4)


def test_few_positions_give_the_logits_of_all(tmp_path: Path) -> None:
    """Gathering at the masked positions changes nothing but the cost."""
    oracle = load_oracle("encoder", tmp_path)
    positions = np.array([[3, 7, 0], [5, 1, 2]], np.int32)
    got = jax.jit(oracle.models.word_logits)(oracle.params, oracle.tokens("inputs/"), positions)
    whole = oracle["outputs/logits"]
    close(got, np.stack([whole[b][:, positions[b]] for b in range(2)]))


def test_pretrain_step_reaches_the_embedder(tmp_path: Path) -> None:
    oracle = load_oracle("pretrain_step", tmp_path)
    models = oracle.models

    def loss(params: Params, nudge: jax.Array) -> tuple[jax.Array, jax.Array]:
        queries = models.embed_query(params, oracle.tokens("inputs/query_"))
        blocks = models.embed_block(params, oracle.tokens("inputs/candidate_"))
        scores = relevance_score(queries, blocks) + nudge  # 0: its gradient is that of the scores
        return mean_loss(oracle, params, scores, "inputs/joint_")[0], scores

    run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    nudge = jnp.zeros(oracle["outputs/relevance_score"].shape)
    (value, scores), (gradients, by_score) = run(oracle.params, nudge)
    close(value, oracle["outputs/loss"])
    close(scores, oracle["outputs/relevance_score"])
    oracle.check_gradients(gradients, relevance_score=by_score)
