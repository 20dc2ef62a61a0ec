"""Exact top-k against a stable sort in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realm_jax.ops.topk import StoredRows, top_k_rows


def run(queries, embeddings, count, **kwargs):
    scores, rows = top_k_rows(
        jnp.asarray(queries), StoredRows(jnp.asarray(embeddings)), jnp.int32(count), **kwargs
    )
    assert (scores.dtype, rows.dtype) == (jnp.float32, jnp.int32)
    return np.asarray(scores), np.asarray(rows)


def by_sorting(queries, embeddings, count, k):
    scores = queries @ embeddings[:count].T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    fill = ((0, 0), (0, k - order.shape[1]))
    found = np.take_along_axis(scores, order, axis=1)
    return np.pad(found, fill, constant_values=-np.inf), np.pad(order, fill, constant_values=-1)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(0, 24),
    shape=st.sampled_from([(3, 24), (5, 8), (9, 4), (30, 8), (1, 4)]),
)
def test_small_integers_are_ranked_as_a_stable_sort_does(seed, count, shape):
    """Integers make scores exact and ties frequent: ties go to the lower row, within a part and across."""
    k, rows_per_block = shape
    rng = np.random.default_rng(seed)
    queries, embeddings = rng.integers(-2, 3, (4, 3)), rng.integers(-2, 3, (24, 3))
    queries, embeddings = queries.astype(np.float32), embeddings.astype(np.float32)
    found = run(queries, embeddings, count, k=k, rows_per_block=rows_per_block)
    for got, expected in zip(found, by_sorting(queries, embeddings, count, k), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_all_equal_rows_come_in_order():
    scores, rows = run(np.ones((2, 3), np.float32), np.ones((12, 3), np.float32), 12, k=7, rows_per_block=4)
    np.testing.assert_array_equal(rows, np.tile(np.arange(7), (2, 1)))
    assert (scores == 3.0).all()


def test_padding_is_never_found_however_well_it_scores():
    embeddings = np.array([[-5.0], [-7.0], [9.0], [9.0]], np.float32)
    scores, rows = run(np.ones((1, 1), np.float32), embeddings, 2, k=3, rows_per_block=2)
    assert rows.tolist() == [[0, 1, -1]] and scores.tolist() == [[-5.0, -7.0, -np.inf]]


def test_parts_do_not_change_the_result():
    rng = np.random.default_rng(0)
    queries, embeddings = (rng.standard_normal(s).astype(np.float32) for s in ((6, 16), (96, 16)))
    whole = run(queries, embeddings, 90, k=10, rows_per_block=96)
    for rows_per_block in (8, 16, 48):
        part = run(queries, embeddings, 90, k=10, rows_per_block=rows_per_block)
        np.testing.assert_array_equal(part[1], whole[1])
        np.testing.assert_allclose(part[0], whole[0], rtol=1e-6, atol=1e-6)


def test_large_scores_are_kept():
    embeddings = np.array([[1e38], [3e38], [-3e38], [0.0]], np.float32)
    scores, rows = run(np.ones((1, 1), np.float32), embeddings, 4, k=4, rows_per_block=2)
    assert rows.tolist() == [[1, 0, 3, 2]] and np.isfinite(scores).all()


def test_the_number_of_real_rows_does_not_compile_anew():
    rng = np.random.default_rng(0)
    queries, embeddings = (rng.standard_normal(s).astype(np.float32) for s in ((2, 4), (16, 4)))
    run(queries, embeddings, 16, k=3, rows_per_block=8)
    compiled = top_k_rows._cache_size()
    run(queries, embeddings, 5, k=3, rows_per_block=8)
    assert top_k_rows._cache_size() == compiled


def test_scores_in_memory_do_not_grow_with_the_rows():
    """The compiler's own count of scratch memory: the same for 64 parts as for 4."""

    def scratch(rows):
        shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((32, 8), (rows, 8))]
        lowered = top_k_rows.lower(shapes[0], StoredRows(shapes[1]), jnp.int32(rows), k=5, rows_per_block=256)
        return lowered.compile().memory_analysis().temp_size_in_bytes

    assert scratch(64 * 256) <= scratch(4 * 256) + 1024


@pytest.mark.parametrize("rows", [np.zeros(3, np.float32), np.zeros((1, 2, 3), np.float32)])
def test_ranks_are_checked(rows):
    with pytest.raises(AssertionError):
        run(np.zeros((1, 3), np.float32), rows, 1, k=1, rows_per_block=1)
