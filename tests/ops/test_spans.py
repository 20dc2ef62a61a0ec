"""Spans of a row: every one, once, in the order that is promised."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realm_jax.ops.spans import (
    normalised_span_scores,
    span_allowed,
    span_matches,
    span_table,
    spans_of_words,
    weighed_sum,
)


def by_loops(length, max_width):
    return [(i, i + w - 1) for w in range(1, max_width + 1) for i in range(length - w + 1)]


@given(st.integers(1, 30), st.integers(1, 35))
def test_the_table_lists_every_span_once_by_width_then_start(length, max_width):
    starts, stops = span_table(length, max_width)
    assert (starts.dtype, stops.dtype) == (np.int32, np.int32)
    pairs = list(zip(starts.tolist(), stops.tolist(), strict=True))
    assert pairs == by_loops(length, max_width)
    assert len(pairs) == sum(length - w + 1 for w in range(1, min(length, max_width) + 1))


MASKS = st.lists(st.booleans(), min_size=8, max_size=8)


@settings(deadline=None, max_examples=50)
@given(st.lists(MASKS, min_size=2, max_size=2), st.sampled_from([1, 3, 8]))
def test_a_span_needs_both_its_ends(rows, max_width):
    found = span_allowed(jnp.asarray(rows), max_width=max_width)
    expected = [[row[i] and row[j] for i, j in by_loops(8, max_width)] for row in rows]
    np.testing.assert_array_equal(found, expected)


ANSWERS = st.lists(st.tuples(st.integers(-1, 9), st.integers(-1, 9), st.booleans()), min_size=3, max_size=3)


@settings(deadline=None, max_examples=50)
@given(st.lists(ANSWERS, min_size=2, max_size=2), st.sampled_from([2, 8]))
def test_matches_are_the_given_spans_that_are_no_padding(answers, max_width):
    """Answers outside the row, wider than max_width, or turned round match nothing."""
    starts, stops, mask = (jnp.asarray([[a[i] for a in row] for row in answers]) for i in range(3))
    found = span_matches(starts, stops, mask, length=8, max_width=max_width)
    wanted = [{(a, b) for a, b, real in row if real} for row in answers]
    np.testing.assert_array_equal(found, [[s in row for s in by_loops(8, max_width)] for row in wanted])


def test_any_number_of_leading_axes():
    rng = np.random.default_rng(0)
    starts = jnp.asarray(rng.integers(0, 6, (2, 3, 4)), jnp.int32)
    mask = jnp.asarray(rng.random((2, 3, 4)) < 0.7)
    match = jax.jit(span_matches, static_argnames=("length", "max_width"))
    whole = match(starts, starts + 1, mask, length=8, max_width=3)
    for b in range(2):
        part = span_matches(starts[b], starts[b] + 1, mask[b], length=8, max_width=3)
        np.testing.assert_array_equal(whole[b], part)
    one = span_matches(starts[0, 0], starts[0, 0] + 1, mask[0, 0], length=8, max_width=3)
    np.testing.assert_array_equal(whole[0, 0], one)


@pytest.mark.parametrize("length", [1, 5])
def test_width_one_is_the_mask_itself(length):
    mask = jnp.asarray(np.arange(length) % 2 == 0)
    np.testing.assert_array_equal(span_allowed(mask, max_width=1), mask)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 9), st.integers(1, 12))
def test_scores_are_a_layer_norm_and_a_linear_layer_over_every_span(length, max_width):
    rng = np.random.default_rng(length)
    starts, ends = (rng.standard_normal((2, length, 5)).astype(np.float32) for _ in range(2))
    scale, shift, kernel = rng.standard_normal((3, 5)).astype(np.float32)
    found = normalised_span_scores(
        jnp.asarray(starts),
        jnp.asarray(ends),
        max_width=max_width,
        weights=jnp.asarray(scale * kernel),
        bias=jnp.asarray(np.sum(shift * kernel) + np.float32(0.5)),
        epsilon=1e-3,
    )
    first, last = span_table(length, max_width)
    hidden = np.maximum(starts[:, first] + ends[:, last], 0).astype(np.float64)
    normal = (hidden - hidden.mean(-1, keepdims=True)) / np.sqrt(hidden.var(-1, keepdims=True) + 1e-3)
    np.testing.assert_allclose(found, (normal * scale + shift) @ kernel + 0.5, rtol=1e-4, atol=1e-5)


def test_processors_and_accelerators_weigh_the_same_way():
    """Only a processor's way runs here."""
    rng = np.random.default_rng(0)
    hidden, weights = (rng.standard_normal(shape).astype(np.float32) for shape in ((2, 3, 7), 7))
    np.testing.assert_allclose(
        weighed_sum(jnp.asarray(hidden), jnp.asarray(weights)), hidden @ weights, rtol=1e-4
    )


def test_scores_stay_exact_where_features_are_far_above_their_spread():
    """Sums of squares that are not centred lose a hundred times what float32 has to lose here."""
    rng = np.random.default_rng(0)
    starts, ends = (10 + 0.3 * rng.standard_normal((2, 6, 64)).astype(np.float32) for _ in range(2))
    kernel = rng.standard_normal(64).astype(np.float32)
    found = normalised_span_scores(
        jnp.asarray(starts),
        jnp.asarray(ends),
        max_width=3,
        weights=jnp.asarray(kernel),
        bias=jnp.zeros(()),
        epsilon=1e-3,
    )
    first, last = span_table(6, 3)
    hidden = starts[:, first].astype(np.float64) + ends[:, last]
    normal = (hidden - hidden.mean(-1, keepdims=True)) / np.sqrt(hidden.var(-1, keepdims=True) + 1e-3)
    wanted = normal @ kernel.astype(np.float64)
    assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()


@settings(deadline=None, max_examples=50)
@given(MASKS, st.sampled_from([1, 3, 8]))
def test_spans_of_words_neither_begin_nor_end_inside_a_word(is_continuation, max_width):
    found = np.asarray(spans_of_words(jnp.asarray(is_continuation), max_width=max_width)).tolist()
    following = [*is_continuation[1:], False]
    assert found == [not is_continuation[i] and not following[j] for i, j in by_loops(8, max_width)]
