"""Candidates: the rules of REALM against a version in plain loops."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realm_jax.index.retriever import retrieve_candidates, seen_before
from realm_jax.types import NO_BLOCK, Search
from tests.index.fake import CLS, SEP, FakeCorpus

BLOCKS = 9
DUPLICATE_OF = [0, 1, 1, 3, 0, 5, 6, 6, 6]
CORPUS = FakeCorpus([1 + i for i in range(BLOCKS)], duplicate_of=DUPLICATE_OF)


def search_of(rows: list[list[int]]) -> Search:
    ids = np.array(rows, np.int32)
    return Search(scores=np.where(ids < 0, -np.inf, 0.0).astype(np.float32), block_ids=ids)


def by_hand(row: list[int], origin: int, *, candidates: int, null_block: bool) -> list[int | None]:
    """Choose the blocks of one query; None is the null block, the only one where nothing else is left."""
    chosen: list[int | None] = [None] if null_block else []
    seen = {DUPLICATE_OF[origin]} if origin != NO_BLOCK else set()
    for block in row:
        if block == NO_BLOCK or DUPLICATE_OF[block] in seen or len(chosen) == candidates:
            continue
        seen.add(DUPLICATE_OF[block])
        chosen.append(block)
    return chosen or [None]


@st.composite
def queries(draw):
    found = draw(st.integers(0, BLOCKS))
    rows = st.permutations(range(BLOCKS)).map(lambda order: order[:found])
    padded = st.tuples(rows, st.integers(0, 3)).map(lambda r: [*r[0], *[NO_BLOCK] * r[1]])
    batch = draw(st.lists(padded, min_size=1, max_size=4))
    width = max(len(row) for row in batch)
    batch = [row + [NO_BLOCK] * (width - len(row)) for row in batch]
    origin = [draw(st.integers(NO_BLOCK, BLOCKS - 1)) for _ in batch]
    return batch, origin


@settings(deadline=None, max_examples=200)
@given(queries(), st.integers(1, 7), st.booleans())
def test_the_rules(drawn, candidates, null_block):
    rows, origin = drawn
    found = retrieve_candidates(
        search_of(rows),
        CORPUS,
        candidates=candidates,
        origin=np.array(origin, np.int32),
        null_block=null_block,
    )
    assert found.block_ids.shape == found.is_null.shape == found.is_valid.shape == (len(rows), candidates)
    assert (found.block_ids.dtype, found.is_null.dtype, found.is_valid.dtype) == (np.int32, bool, bool)
    for b, row in enumerate(rows):
        chosen = by_hand(row, origin[b], candidates=candidates, null_block=null_block)
        assert found.is_valid[b].tolist() == [True] * len(chosen) + [False] * (candidates - len(chosen))
        ids = [NO_BLOCK if block is None else block for block in chosen]
        assert found.block_ids[b].tolist() == ids + [NO_BLOCK] * (candidates - len(chosen))
        nulls = [block is None for block in chosen] + [False] * (candidates - len(chosen))
        assert found.is_null[b].tolist() == nulls


@settings(deadline=None)
@given(
    st.integers(0, 4).flatmap(
        lambda k: st.lists(st.lists(st.integers(-2, 3), min_size=k, max_size=k), min_size=1)
    )
)
def test_what_was_seen_before_is_what_equals_an_entry_further_left(rows):
    ids = np.array(rows, np.int32)
    expected = [[row[i] in row[:i] for i in range(len(row))] for row in rows]
    assert seen_before(ids).tolist() == expected


def test_long_rows_take_no_memory_of_their_square():
    """Rows of 20,000 results, as with many candidates: comparing each with each would take 400 MB a row."""
    ids = np.tile(np.arange(10_000, dtype=np.int32), (2, 2))
    tracemalloc.start()
    seen = seen_before(ids)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 40 * ids.size and seen[:, :10_000].sum() == 0 and seen[:, 10_000:].all()


@pytest.mark.parametrize("row", [[6, 7, 8], [NO_BLOCK] * 3])
def test_where_nothing_is_left_the_null_block_is_read(row):
    """Every result is trivial or padding, and there would be nothing to normalise p(z|x) over."""
    found = retrieve_candidates(
        search_of([row, [3, 6, 7]]), CORPUS, candidates=2, origin=np.array([7, 7]), null_block=False
    )
    assert found.block_ids.tolist() == [[NO_BLOCK, NO_BLOCK], [3, NO_BLOCK]]
    assert found.is_null.tolist() == [[True, False], [False, False]]
    assert found.is_valid.tolist() == [[True, False], [True, False]]
    assert found.blocks.body.length[0, 0] == 1 and found.blocks.body.ids[0, 0, 0] == SEP


def test_tokens_are_those_of_the_blocks():
    found = retrieve_candidates(search_of([[3, 5, -1]]), CORPUS, candidates=4, origin=np.array([NO_BLOCK]))
    bodies = [
        row[:n].tolist() for row, n in zip(found.blocks.body.ids[0], found.blocks.body.length[0], strict=True)
    ]
    assert bodies == [[SEP], [13] * 4 + [SEP], [15] * 6 + [SEP], [SEP]]
    assert found.blocks.title.ids[0, :, :2].tolist() == [[CLS, SEP]] * 4


@pytest.mark.parametrize("origin", [6, 7, 8])
def test_another_copy_of_the_block_a_query_was_cut_from_is_trivial_too(origin):
    found = retrieve_candidates(search_of([[6, 7, 8, 3]]), CORPUS, candidates=3, origin=np.array([origin]))
    assert found.block_ids.tolist() == [[NO_BLOCK, 3, NO_BLOCK]]
    assert found.is_valid.tolist() == [[True, True, False]]


def test_queries_do_not_disturb_each_other():
    rows, origin = [[1, 2, 3], [2, 1, 0], [8, 7, 6]], np.array([3, NO_BLOCK, 0])
    together = retrieve_candidates(search_of(rows), CORPUS, candidates=3, origin=origin)
    for b in range(3):
        alone = retrieve_candidates(
            search_of(rows[b : b + 1]), CORPUS, candidates=3, origin=origin[b : b + 1]
        )
        np.testing.assert_array_equal(alone.block_ids[0], together.block_ids[b])
        np.testing.assert_array_equal(alone.is_valid[0], together.is_valid[b])
