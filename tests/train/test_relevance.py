"""How fine-tuning scores its beams: by the towers that are trained, and by the index elsewhere."""

from functools import partial

import jax
import numpy as np
import pytest

from realm_jax.ops.rows import block_tokens, single
from realm_jax.train.relevance import end_to_end_relevance, given_relevance, query_side_relevance
from realm_jax.types import Beam
from tests.train.tiny import (
    BODY,
    DIMENSION,
    QUERY,
    TITLE,
    B,
    K,
    candidates,
    models,
    random_params,
    rows,
)

OTHERS = 3
MODELS = models(two_towers=True)
PARAMS = random_params(MODELS)


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(0)
    embeddings = rng.standard_normal((B, K + OTHERS, DIMENSION)).astype(np.float32)
    has = np.ones((B, K + OTHERS), bool)
    beam = Beam(has_answer=has, is_valid=has, embeddings=embeddings, scores=embeddings[..., 0])
    return rows(rng, (B,), QUERY, cls=True), candidates(rng), beam


@pytest.fixture(scope="module")
def embedded(drawn):
    """Questions [B, D] and the blocks that are read [B, K, D]."""
    question, found, _ = drawn
    tokens = block_tokens(found.blocks, length=TITLE + BODY)
    return (
        np.asarray(jax.jit(MODELS.embed_query)(PARAMS, single(question))),
        np.asarray(jax.jit(MODELS.embed_block)(PARAMS, tokens)),
    )


def test_on_the_query_side_blocks_keep_their_rows_of_the_index(drawn, embedded):
    found = query_side_relevance(PARAMS, (None, None), *drawn, models=MODELS)
    expected = np.einsum("bd,brd->br", embedded[0], drawn[2].embeddings)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_end_to_end_the_blocks_that_are_read_are_embedded_anew_and_alone_train_their_tower(drawn, embedded):
    score = partial(end_to_end_relevance, models=MODELS, block_length=TITLE + BODY)

    @jax.jit
    def scores_and_gradients(params):
        def part(params, columns):
            return score(params, (None, None), *drawn)[:, columns].sum()

        read, others = (
            jax.grad(part)(params, columns)["block_embedder"] for columns in (slice(0, K), slice(K, None))
        )
        return score(params, (None, None), *drawn), read, others

    found, read, others = scores_and_gradients(PARAMS)
    blocks = np.concatenate([embedded[1], drawn[2].embeddings[:, K:]], axis=1)
    expected = np.einsum("bd,brd->br", embedded[0], blocks)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(read)) > 1e-3
    assert all((np.asarray(leaf) == 0).all() for leaf in jax.tree.leaves(others))


def test_given_scores_are_taken_as_they_are(drawn):
    np.testing.assert_array_equal(given_relevance(PARAMS, (None, None), *drawn), drawn[2].scores)
