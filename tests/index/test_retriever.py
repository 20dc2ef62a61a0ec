"""Candidates: the rules of REALM against a version in plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realm_jax.index.retriever import retrieve_candidates
from realm_jax.types import NO_BLOCK, Search
from tests.index.fake import CLS, SEP, FakeCorpus

BLOCKS = 9
DUPLICATE_OF = [0, 1, 1, 3, 0, 5, 6, 6, 6]
CORPUS = FakeCorpus([1 + i for i in range(BLOCKS)], duplicate_of=DUPLICATE_OF)


def search_of(rows: list[list[int]]) -> Search:
    ids = np.array(rows, np.int32)
    return Search(scores=np.where(ids < 0, -np.inf, 0.0).astype(np.float32), block_ids=ids)


def by_hand(row: list[int], origin: int, *, candidates: int, null_block: bool) -> list[int | None]:
    """Choose the blocks of one query; None is the null block."""
    chosen: list[int | None] = [None] if null_block else []
    seen = {DUPLICATE_OF[origin]} if origin != NO_BLOCK else set()
    for block in row:
        if block == NO_BLOCK or DUPLICATE_OF[block] in seen or len(chosen) == candidates:
            continue
        seen.add(DUPLICATE_OF[block])
        chosen.append(block)
    return chosen


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
        assert found.is_null[b].tolist() == [k == 0 and null_block for k in range(candidates)]


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
