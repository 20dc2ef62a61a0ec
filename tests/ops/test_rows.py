"""BERT's inputs from token rows: what stands where, against lists in Python."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from realm_jax.ops.rows import block_tokens, join, joint_tokens, single
from realm_jax.types import Blocks, Rows

SEP = 2
L1, L2 = 5, 7


def rows_of(lists, width):
    ids = np.zeros((len(lists), width), np.int32)
    for i, row in enumerate(lists):
        ids[i, : len(row)] = row
    return Rows(ids=jnp.asarray(ids), length=jnp.asarray([len(row) for row in lists], jnp.int32))


def by_lists(first, second, length):
    """Join one pair: (ids, segments) without padding. The second row loses its end, except [SEP]."""
    joined = (first + second)[:length]
    joined[-1] = second[-1]
    return joined, [0] * len(first) + [1] * (len(joined) - len(first))


FIRST = st.lists(st.integers(10, 99), min_size=1, max_size=L1)
SECOND = st.lists(st.integers(10, 99), min_size=0, max_size=L2 - 1).map(lambda row: [*row, SEP])


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(FIRST, SECOND), min_size=3, max_size=3), st.sampled_from([6, 9, 12, 20]))
def test_join(pairs, length):
    first, second = (rows_of([pair[i] for pair in pairs], width) for i, width in ((0, L1), (1, L2)))
    tokens = jax.jit(join, static_argnames="length")(first, second, length=length)
    assert tokens.ids.shape == tokens.mask.shape == tokens.segments.shape == (3, length)
    assert (tokens.ids.dtype, tokens.mask.dtype, tokens.segments.dtype) == (jnp.int32, bool, jnp.int32)
    for b, pair in enumerate(pairs):
        ids, segments = by_lists(*pair, length)
        padding = [0] * (length - len(ids))
        assert tokens.ids[b].tolist() == ids + padding
        assert tokens.segments[b].tolist() == segments + padding
        assert tokens.mask[b].tolist() == [True] * len(ids) + [False] * len(padding)


def test_single_reads_rows_as_they_are():
    rows = rows_of([[1, 11, 2], [1], []], 4)
    tokens = single(rows)
    assert tokens.ids.tolist() == [[1, 11, 2, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert tokens.mask.tolist() == [[True, True, True, False], [True, False, False, False], [False] * 4]
    assert tokens.segments.tolist() == [[0] * 4] * 3 and tokens.segments.dtype == jnp.int32


def test_junk_behind_the_end_of_a_row_is_never_read():
    clean, second = rows_of([[1, 11, 2]], L1), rows_of([[21, SEP]], L2)
    dirty = Rows(ids=clean.ids.at[0, 3:].set(77), length=clean.length)
    dirty_second = Rows(ids=second.ids.at[0, 2:].set(88), length=second.length)
    for expected, found in zip(
        jax.tree.leaves(join(clean, second, length=9)),
        jax.tree.leaves(join(dirty, dirty_second, length=9)),
        strict=True,
    ):
        np.testing.assert_array_equal(found, expected)


def test_blocks_are_title_then_body_whatever_the_leading_axes():
    titles, bodies = [[1, 11, 2], [1, 2]], [[21, 22, SEP], [SEP]]
    blocks = Blocks(title=rows_of(titles, L1), body=rows_of(bodies, L2))
    flat = block_tokens(blocks, length=8)
    assert flat.ids.tolist() == [[1, 11, 2, 21, 22, SEP, 0, 0], [1, 2, SEP, 0, 0, 0, 0, 0]]
    assert flat.segments.tolist() == [[0, 0, 0, 1, 1, 1, 0, 0], [0, 0, 1, 0, 0, 0, 0, 0]]
    deep = block_tokens(jax.tree.map(lambda leaf: leaf[None, :, None], blocks), length=8)
    for a, b in zip(jax.tree.leaves(deep), jax.tree.leaves(flat), strict=True):
        np.testing.assert_array_equal(a[0, :, 0], b)


def test_every_candidate_is_read_behind_its_own_query_and_masks_stay_where_they_were():
    queries = [[1, 11, 4, 2], [1, 12, 2]]
    bodies = [[[31, SEP], [32, 33, SEP]], [[41, SEP], [SEP]]]
    query = rows_of(queries, L1)
    body = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(rows_of(row, L2) for row in bodies))
    tokens = joint_tokens(query, body, length=8)
    assert tokens.ids.shape == (2, 2, 8)
    for b in range(2):
        for k in range(2):
            ids, segments = by_lists(queries[b], bodies[b][k], 8)
            assert tokens.ids[b, k].tolist() == ids + [0] * (8 - len(ids))
            assert tokens.segments[b, k].tolist() == segments + [0] * (8 - len(ids))
            assert tokens.ids[b, k, : len(queries[b])].tolist() == queries[b]


def test_a_null_block_adds_only_its_separator():
    query = rows_of([[1, 11, 2]], L1)
    null = Rows(ids=jnp.asarray([[[SEP, 0]]], jnp.int32), length=jnp.asarray([[1]], jnp.int32))
    assert joint_tokens(query, null, length=6).ids.tolist() == [[[1, 11, 2, SEP, 0, 0]]]
