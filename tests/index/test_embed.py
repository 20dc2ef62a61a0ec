"""Embedding a corpus: every block once, short ones together, results in block order."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realm_jax.errors import IndexFault, RefreshError
from realm_jax.index.embed import embed_blocks
from tests.index.fake import SEP, FakeCorpus

WIDEST = 3 + 40  # title and body of FakeCorpus


def sums(blocks, length):
    """Embed a block as (sum of its body's tokens, number of its tokens); a row must hold title and body."""
    assert (blocks.title.length + blocks.body.length <= length).all()
    ids = np.where(blocks.body.ids == SEP, 0, blocks.body.ids)
    return np.stack([ids.sum(axis=-1), blocks.body.length], axis=1).astype(np.float32)


class Spy:
    """Remembers the batches that it embeds."""

    def __init__(self):
        self.shapes = []

    def __call__(self, blocks, length):
        self.shapes.append((len(blocks.body.length), length))
        return sums(blocks, length)


lengths_of_corpora = st.lists(st.integers(0, 39), min_size=1, max_size=30)


@settings(deadline=None, max_examples=60)
@given(lengths_of_corpora, st.integers(1, 12), st.integers(1, 50))
def test_rows_are_those_of_each_block_alone(lengths, batch_size, multiple):
    found = embed_blocks(sums, FakeCorpus(lengths), batch_size=batch_size, length_multiple=multiple)
    expected = [[(10 + i) * n, n + 1] for i, n in enumerate(lengths)]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array(expected, np.float32))


@settings(deadline=None, max_examples=30)
@given(lengths_of_corpora, st.integers(1, 12), st.randoms())
def test_some_of_the_blocks_are_the_rows_of_all(lengths, batch_size, random):
    corpus = FakeCorpus(lengths)
    some = np.array(random.sample(range(len(lengths)), random.randint(1, len(lengths))))
    found = embed_blocks(sums, corpus, batch_size=batch_size, block_ids=some)
    np.testing.assert_array_equal(found, embed_blocks(sums, corpus, batch_size=batch_size)[some])


@settings(deadline=None, max_examples=60)
@given(lengths_of_corpora, st.integers(1, 12), st.sampled_from([8, 16, 32]))
def test_batches_are_full_and_few_widths_compile(lengths, batch_size, multiple):
    spy = Spy()
    embed_blocks(spy, FakeCorpus(lengths), batch_size=batch_size, length_multiple=multiple)
    assert len(spy.shapes) == -(-len(lengths) // batch_size)
    widths = [width for _, width in spy.shapes]
    assert {rows for rows, _ in spy.shapes} == {batch_size} and widths == sorted(widths)
    assert set(widths) <= {*range(multiple, WIDEST, multiple), WIDEST}


def test_short_blocks_are_not_padded_to_the_longest():
    spy = Spy()
    embed_blocks(spy, FakeCorpus([3, 39, 5, 38]), batch_size=2, length_multiple=8)
    assert spy.shapes == [(2, 8), (2, WIDEST)]


def test_a_second_refresh_compiles_nothing():
    traced = []

    @partial(jax.jit, static_argnums=1)
    def embed(blocks, length):
        traced.append((len(blocks.body.length), length))
        return jnp.stack([jnp.sum(blocks.body.ids, axis=-1), blocks.body.length], axis=1)

    corpus = FakeCorpus([3, 39, 5, 38, 1])
    first, second = (embed_blocks(embed, corpus, batch_size=2, length_multiple=8) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert traced == [(2, 8), (2, WIDEST)]  # the last batch is filled up


def test_progress_counts_blocks():
    told = []
    embed_blocks(sums, FakeCorpus([1] * 7), batch_size=3, progress=told.append)
    assert told == [0, 3, 6, 7]


@pytest.mark.parametrize("batches", [0, 1, 2, 3])
def test_a_request_to_stop_ends_it_without_a_result(batches):
    spy = Spy()
    with pytest.raises(RefreshError, match=f"stop after {min(3 * batches, 7)} of 7 blocks"):
        embed_blocks(spy, FakeCorpus([1] * 7), batch_size=3, should_stop=lambda: len(spy.shapes) == batches)
    assert len(spy.shapes) == batches


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("block", [0, 4, 6])
def test_embeddings_that_are_not_finite_are_refused(bad, block):
    def diverged(blocks, length):
        rows = sums(blocks, length)
        rows[blocks.body.ids[:, 0] == 10 + block, 1] = bad
        return rows

    with pytest.raises(IndexFault, match=f"in 1 of a batch, block {block} first"):
        embed_blocks(diverged, FakeCorpus([1] * 7), batch_size=3)


def test_what_fills_up_the_last_batch_is_not_looked_at():
    def nan_for_null(blocks, length):
        return np.where((blocks.body.length == 1)[:, None], np.nan, sums(blocks, length))

    assert embed_blocks(nan_for_null, FakeCorpus([2] * 4), batch_size=3).shape == (4, 2)
