"""The in-batch loss of the inverse cloze task against a softmax in Python."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from realm_jax.ops.contrastive import in_batch_log_prob

B, D = 4, 3


def embeddings(seed=0):
    rng = np.random.default_rng(seed)
    return (jnp.asarray(rng.standard_normal((B, D)), jnp.float32) for _ in range(2))


def test_each_query_is_classified_among_the_blocks_of_the_batch():
    queries, blocks = embeddings()
    found = in_batch_log_prob(queries, blocks, jnp.arange(B, dtype=jnp.int32))
    q, z = (np.asarray(a, np.float64).tolist() for a in (queries, blocks))
    scores = [[sum(a * b for a, b in zip(q[i], z[j], strict=True)) for j in range(B)] for i in range(B)]
    expected = [[s - math.log(sum(math.exp(t) for t in row)) for s in row] for row in scores]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_another_row_of_the_same_block_is_no_negative():
    """Blocks 7, 8, 7, 9: rows 0 and 2 leave each other out, and equal the batch without the other."""
    queries, blocks = embeddings()
    ids = jnp.asarray([7, 8, 7, 9], jnp.int32)
    found = np.asarray(in_batch_log_prob(queries, blocks, ids))
    left_out = [(0, 2), (2, 0)]
    assert {(i, j) for i in range(B) for j in range(B) if np.isneginf(found[i, j])} == set(left_out)
    for gone, kept in ((2, [0, 1, 3]), (0, [1, 2, 3])):
        part = in_batch_log_prob(queries[np.array(kept)], blocks[np.array(kept)], ids[np.array(kept)])
        row = {2: 0, 0: 2}[gone]
        np.testing.assert_allclose(part[kept.index(row)], found[row, kept], rtol=1e-5)


def test_gradients_are_finite_and_none_flows_between_copies():
    queries, blocks = embeddings()
    ids = jnp.asarray([7, 7, 7, 7], jnp.int32)

    def loss(queries, blocks):
        return -jnp.sum(jnp.diagonal(in_batch_log_prob(queries, blocks, ids)))

    value, gradients = jax.value_and_grad(loss, argnums=(0, 1))(queries, blocks)
    assert value == 0.0  # each positive is alone in its softmax
    assert all((np.asarray(g) == 0).all() for g in gradients)


def test_order_of_the_batch_does_not_matter():
    queries, blocks = embeddings()
    ids, order = jnp.asarray([1, 2, 3, 2], jnp.int32), np.array([3, 1, 0, 2])
    straight = in_batch_log_prob(queries, blocks, ids)
    shuffled = in_batch_log_prob(queries[order], blocks[order], ids[order])
    np.testing.assert_allclose(shuffled, straight[order][:, order], rtol=1e-5)


def test_compiled_equals_plain():
    queries, blocks = embeddings()
    ids = jnp.arange(B, dtype=jnp.int32)
    plain, compiled = (f(queries, blocks, ids) for f in (in_batch_log_prob, jax.jit(in_batch_log_prob)))
    np.testing.assert_allclose(plain, compiled, rtol=1e-5, atol=1e-6)
