"""Swapped facts: consistent, whole words, within the row, and the rest untouched."""

from dataclasses import replace
from typing import NamedTuple

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realm_jax.errors import ConfigError
from realm_jax.text.packing import pack_rows
from realm_jax.text.swap import SpanPool, swap_facts
from realm_jax.types import NO_BLOCK, Blocks, Candidates, MaskedBatch

CLS, SEP, MASK = 2, 3, 4
# Words are 10..39, continuations of words 40..49.
CONTINUATION = np.arange(50) >= 40


def span(*ids):
    return np.array(ids, np.int32)


def pool(*spans, kinds=None):
    return SpanPool(list(spans), np.array(kinds or [2] * len(spans)), is_continuation=CONTINUATION)


def batch(rows, positions, targets, *, length=12, masks=4):
    target = pack_rows([span(*t) for t in targets], length=masks)
    return MaskedBatch(
        query=pack_rows([span(*row) for row in rows], length=length),
        target_positions=pack_rows([span(*p) for p in positions], length=masks).ids,
        target_ids=target.ids,
        target_weights=(np.arange(masks) < target.length[:, None]).astype(np.float32),
        origin=np.full(len(rows), NO_BLOCK, np.int32),
    )


def candidates(bodies, *, valid=None, length=10):
    B, K = len(bodies), len(bodies[0])
    flat = pack_rows([span(*row) for bodies_of_one in bodies for row in bodies_of_one], length=length)
    body = jax.tree.map(lambda leaf: leaf.reshape(B, K, *leaf.shape[1:]), flat)
    title = jax.tree.map(np.zeros_like, body)
    return Candidates(
        block_ids=np.zeros((B, K), np.int32),
        blocks=Blocks(title=title, body=body),
        is_null=np.zeros((B, K), bool),
        is_valid=np.ones((B, K), bool) if valid is None else np.array(valid),
    )


def no_spans(block_id):
    del block_id
    return np.zeros((0, 3), np.int32)


class Swapped(NamedTuple):
    batch: MaskedBatch
    candidates: Candidates


def swap(x, z, spans, *, probability=1.0, max_masks=4, block_spans=no_spans, seed=0):
    return Swapped(
        *swap_facts(
            x,
            z,
            spans,
            rng=np.random.default_rng(seed),
            probability=probability,
            max_masks=max_masks,
            mask_id=MASK,
            block_spans=block_spans,
        )
    )


def rows_swapped(got, x):
    """Say which rows have another target: bool [B]."""
    return (got.batch.target_ids != x.target_ids).any(axis=1)


def query(swapped, b):
    return swapped.batch.query.ids[b, : swapped.batch.query.length[b]].tolist()


def body(swapped, b, k):
    row = swapped.candidates.blocks.body
    return row.ids[b, k, : row.length[b, k]].tolist()


def test_a_longer_fact_replaces_target_and_evidence():
    x = batch([[CLS, 10, MASK, 11, SEP]], [[2]], [[20]])
    z = candidates([[[10, 20, 12, 20, SEP], [13, SEP]]])
    got = swap(x, z, pool(span(20), span(30, 41, 31)))
    assert query(got, 0) == [CLS, 10, MASK, MASK, MASK, 11, SEP]
    assert got.batch.target_ids.tolist() == [[30, 41, 31, 0]]
    assert got.batch.target_positions.tolist() == [[2, 3, 4, 0]]
    assert got.batch.target_weights.tolist() == [[1, 1, 1, 0]]
    assert body(got, 0, 0) == [10, 30, 41, 31, 12, 30, 41, 31, SEP] and body(got, 0, 1) == [13, SEP]


def test_a_shorter_fact_and_a_second_mention_in_the_query():
    x = batch([[CLS, 20, 41, 10, MASK, MASK, 11, SEP]], [[4, 5]], [[20, 41]])
    z = candidates([[[20, 41, SEP]]])
    got = swap(x, z, pool(span(20, 41), span(30)))
    assert query(got, 0) == [CLS, 30, 10, MASK, 11, SEP]
    assert got.batch.target_positions[0].tolist() == [3, 0, 0, 0] and got.batch.target_weights[0].sum() == 1
    assert body(got, 0, 0) == [30, SEP]


def test_the_arguments_are_not_changed():
    x, z = batch([[CLS, MASK, SEP]], [[1]], [[20]]), candidates([[[20, SEP]]])
    before = jax.tree.map(np.copy, (x, z))
    swap(x, z, pool(span(20), span(30)))
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, before, (x, z))))


def one(row=(CLS, MASK, SEP), positions=(1,), targets=(20,), **kwargs):
    return batch([row], [positions], [targets], **kwargs)


OTHER = pool(span(20), span(30))
CANNOT = {
    "the target stands in no candidate": (one(), candidates([[[21, SEP]]]), OTHER),
    "only in one that is not valid": (one(), candidates([[[20, SEP]]], valid=[[False]]), OTHER),
    "only as the beginning of a longer word": (one(), candidates([[[20, 41, SEP]]]), OTHER),
    "the targets are not one run": (
        one((CLS, MASK, 10, MASK, SEP), (1, 3), (20, 21)),
        candidates([[[20, 21, SEP]]]),
        OTHER,
    ),
    "the masked run begins inside a word": (
        one((CLS, 10, MASK, SEP), (2,), (41,)),
        candidates([[[10, 41, SEP]]]),
        OTHER,
    ),
    "there is no other span of that kind": (
        one(),
        candidates([[[20, SEP]]]),
        pool(span(20), span(30), kinds=[0, 1]),
    ),
    "the new masks do not fit the query": (
        one((CLS, 10, MASK, SEP), (2,), length=4),
        candidates([[[20, SEP]]]),
        pool(span(20), span(30, 31)),
    ),
}


@pytest.mark.parametrize(("x", "z", "spans"), CANNOT.values(), ids=CANNOT.keys())
def test_rows_that_cannot_be_swapped_stay(x, z, spans):
    got = swap(x, z, spans)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, (x, z), (got.batch, got.candidates))))


def test_rows_are_cut_but_keep_their_end_mark():
    x = batch([[CLS, MASK, 11, 12, SEP]], [[1]], [[20]], length=5)
    z = candidates([[[20, 11, 12, SEP]]], length=4)
    got = swap(x, z, pool(span(20), span(30, 31)))
    assert got.batch.query.ids[0].tolist() == [CLS, MASK, MASK, 11, SEP]
    assert body(got, 0, 0) == [30, 31, 11, SEP]


def test_a_fact_that_is_cut_off_is_not_swapped():
    x = batch([[CLS, MASK, SEP]], [[1]], [[20]])
    z = candidates([[[11, 12, 20, SEP]]], length=4)
    assert not rows_swapped(swap(x, z, pool(span(20), span(30, 31))), x).any()


def test_probability_is_of_rows():
    rows = 400
    x = batch([[CLS, MASK, SEP]] * rows, [[1]] * rows, [[20]] * rows)
    z = candidates([[[20, SEP]]] * rows)
    never, half = (swap(x, z, pool(span(20), span(30)), probability=p) for p in (0.0, 0.5))
    assert not rows_swapped(never, x).any()
    # Binomial(400, 0.5): standard deviation 10; five of them.
    assert abs(rows_swapped(half, x).sum() - 200) < 50


def blocks_of(*bodies, length=10):
    """Candidates of one row whose block ids are their places, the null block behind them."""
    z = candidates([[*bodies, [SEP]]], length=length)
    return replace(z, block_ids=np.array([[*range(len(bodies)), NO_BLOCK]], np.int32))


def spans_at(*places):
    """Salient spans of kind 2 by block: (start, stop) each."""

    def of(block_id):
        assert block_id != NO_BLOCK, "the null block has no spans"
        return np.array([(*place, 2) for place in places[block_id]], np.int32).reshape(-1, 3)

    return of


def test_every_other_span_is_disguised_too_in_all_candidates():
    x = one()
    z = blocks_of([20, 12, 21, 41, SEP], [13, 22, SEP])
    spans = pool(span(20), span(30), span(21, 41), span(31, 42), span(22))
    got = swap(x, z, spans, block_spans=spans_at([(0, 1), (2, 4)], [(1, 2)]))
    new = int(got.batch.target_ids[0, 0])
    assert new in (22, 30)
    assert body(got, 0, 0) == [new, 12, 31, 42, SEP]
    first, other, last = body(got, 0, 1)
    assert (first, last) == (13, SEP) and other in (20, 30)  # of one token and not 22 itself
    assert body(got, 0, 2) == [SEP]


def test_spans_that_the_query_names_stay():
    x = one((CLS, MASK, 21, SEP))
    z = blocks_of([20, 21, 22, SEP])
    spans = pool(span(20), span(21), span(22), span(30))
    for seed in range(10):
        got = swap(x, z, spans, block_spans=spans_at([(0, 1), (1, 2), (2, 3)]), seed=seed)
        _, named, other, _ = body(got, 0, 0)
        assert named == 21 and other != 22


def test_the_same_span_gets_the_same_replacement_wherever_it_stands():
    x = one()
    z = blocks_of([20, 21, 12, 21, SEP], [21, 13, SEP])
    spans = pool(*(span(i) for i in range(20, 40)))
    drawn = set()
    for seed in range(10):
        got = swap(x, z, spans, block_spans=spans_at([(1, 2), (3, 4)], [(0, 1)]), seed=seed)
        first, second, third = body(got, 0, 0)[1], body(got, 0, 0)[3], body(got, 0, 1)[0]
        assert first == second == third != 21
        drawn.add(first)
    assert len(drawn) > 3


def test_other_spans_are_replaced_with_the_same_probability():
    x, count = one(), 200
    z = blocks_of([20, *(i for i in range(100, 100 + count)), SEP], length=count + 2)
    goes_on = np.zeros(400, bool)
    spans = SpanPool([span(i) for i in (20, *range(100, 400))], np.full(301, 2), is_continuation=goes_on)
    got = swap(x, z, spans, block_spans=spans_at([(i, i + 1) for i in range(count + 1)]), probability=0.5)
    changed = sum(a != b for a, b in zip(body(got, 0, 0)[1:-1], range(100, 100 + count), strict=True))
    # Binomial(200, 0.5): standard deviation 7.1; five of them.
    assert abs(changed - count // 2) < 36


def test_rows_that_are_not_drawn_keep_their_fact_and_are_disguised_all_the_same():
    rows = 40
    x = batch([[CLS, MASK, SEP]] * rows, [[1]] * rows, [[20]] * rows)
    z = candidates([[[20, 21, SEP]]] * rows)
    spans = pool(span(20), span(21), span(30))
    got = swap(x, z, spans, block_spans=spans_at([(0, 1), (1, 2)]), probability=0.5)
    kept = ~rows_swapped(got, x)
    assert np.array_equal(got.batch.query.ids[kept], x.query.ids[kept])
    bodies = got.candidates.blocks.body.ids[kept, 0]
    assert (bodies[:, 0] == 20).all()
    others = set(bodies[:, 1].tolist())
    assert 21 in others and len(others) > 1  # some of their other spans were replaced, some were not


def test_a_row_without_evidence_is_not_disguised():
    x, z = one(), blocks_of([21, 22, SEP])
    got = swap(x, z, pool(span(20), span(21), span(22), span(30)), block_spans=spans_at([(0, 1), (1, 2)]))
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, (x, z), tuple(got))))


def test_max_masks_bounds_the_replacement():
    x, z = batch([[CLS, MASK, SEP]], [[1]], [[20]]), candidates([[[20, SEP]]])
    spans = pool(span(20), span(30, 31, 32), span(33, 34))
    assert swap(x, z, spans, max_masks=2).batch.target_ids[0].tolist() == [33, 34, 0, 0]
    with pytest.raises(ConfigError, match="at most the batch's 4"):
        swap(x, z, spans, max_masks=5)


def test_the_pool_prefers_the_kind_and_the_length():
    spans = pool(span(20), span(21), span(22, 23), span(24, 25, 26), span(27), kinds=[2, 2, 2, 2, 0])

    def draws(old, **kwargs):
        found = [spans.draw(old, np.random.default_rng(seed), **kwargs) for seed in range(30)]
        return {None if new is None else tuple(new.tolist()) for new in found}

    assert draws(span(20), kind=2, max_length=9) == {(21,)}
    assert draws(span(22, 23), kind=2, max_length=9) == {(20,), (21,), (24, 25, 26)}  # the nearest lengths
    assert draws(span(22, 23), kind=2, max_length=1) == {(20,), (21,)}
    assert draws(span(27), kind=0, max_length=9) == {None}
    assert draws(span(27), kind=None, max_length=9) == {(20,), (21,)}
    assert spans.kind(span(27)) == 0 and spans.kind(span(28)) is None and len(spans) == 5


def test_the_pool_does_not_depend_on_the_order_it_was_filled_in():
    spans = [span(i) for i in range(10, 30)]
    first, second = pool(*spans), pool(*reversed(spans), *spans)
    for seed in range(10):
        draws = [p.draw(span(10), np.random.default_rng(seed), kind=2, max_length=3) for p in (first, second)]
        assert np.array_equal(*draws)


words = st.lists(st.integers(10, 14), min_size=1, max_size=8)


@given(st.lists(st.tuples(words, words, st.integers(0, 7)), min_size=1, max_size=4), st.integers(0, 99))
@settings(deadline=None)
def test_swapped_rows_stay_sound(rows, seed):
    queries, positions, targets, bodies = [], [], [], []
    for left, evidence, at in rows:
        at = min(at, len(left) - 1)
        queries.append([CLS, *left[:at], MASK, *left[at + 1 :], SEP])
        positions.append([at + 1])
        targets.append([left[at]])
        bodies.append([[*evidence, SEP]])
    x, z = batch(queries, positions, targets), candidates(bodies)
    got = swap(x, z, pool(*(span(i) for i in range(10, 15)), span(15, 41), span(16, 42, 43)), seed=seed)
    swapped = rows_swapped(got, x)
    for b in range(len(rows)):
        count = int(got.batch.target_weights[b].sum())
        row = got.batch.query.ids[b]
        where = got.batch.target_positions[b, :count]
        assert (row[where] == MASK).all() and (row == MASK).sum() == count
        assert row[got.batch.query.length[b] - 1] == SEP and (row[got.batch.query.length[b] :] == 0).all()
        assert body(got, b, 0)[-1] == SEP
        if swapped[b]:
            new = got.batch.target_ids[b, :count].tolist()
            assert new != targets[b] and targets[b][0] not in body(got, b, 0)
            text = body(got, b, 0)
            assert any(text[i : i + count] == new for i in range(len(text)))
