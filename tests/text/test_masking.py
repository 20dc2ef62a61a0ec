"""Maskers: what they choose, how often, and within which bounds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_jax.errors import ConfigError
from realm_jax.text.masking import MASKERS, get_masker, random_span_mask, salient_mask, uniform_mask

IDS = np.arange(100, 120, dtype=np.int32)
SPANS = np.array([[0, 2, 0], [5, 6, 2], [8, 15, 2]], np.int32)


def rng(seed=0):
    return np.random.default_rng(seed)


def test_salient_masks_one_span_whole_each_equally_often():
    drawn = [tuple(salient_mask(IDS, SPANS, rng(seed), 10).tolist()) for seed in range(600)]
    counts = [drawn.count(tuple(range(start, stop))) for start, stop, _ in SPANS.tolist()]
    assert sum(counts) == 600
    # Binomial(600, 1/3): standard deviation 11.5; five of them.
    assert all(abs(count - 200) < 58 for count in counts)


def test_salient_passes_over_spans_that_are_too_long():
    assert {len(salient_mask(IDS, SPANS, rng(seed), 5)) for seed in range(50)} == {1, 2}
    with pytest.raises(ConfigError, match="at most 0"):
        salient_mask(IDS, SPANS, rng(), 0)
    with pytest.raises(ConfigError, match="span"):
        salient_mask(IDS, SPANS[:0], rng(), 5)


def test_random_span_lengths_are_geometric_with_a_lid():
    ids = np.zeros(50, np.int32)
    lengths = np.array([len(random_span_mask(ids, SPANS, rng(seed), 20)) for seed in range(4000)])
    assert lengths.min() == 1 and lengths.max() == 10
    # Mean of min(G, 10) is the sum over n = 1..10 of P(G >= n) = 0.8 ** (n - 1), that is 4.463; the standard
    # error over 4000 draws is below 0.05.
    assert abs(lengths.mean() - (1 - 0.8**10) / 0.2) < 0.2


@pytest.mark.parametrize(("n", "count"), [(1, 1), (3, 1), (20, 3), (100, 10)])
def test_uniform_masks_fifteen_percent(n, count):
    positions = uniform_mask(np.zeros(n, np.int32), SPANS[:0], rng(), 10)
    assert len(positions) == count  # the last is cut by max_masks


@pytest.mark.parametrize("name", list(MASKERS))
@given(n=st.integers(1, 40), most=st.integers(1, 12), seed=st.integers(0, 999))
def test_positions_are_in_order_and_inside(name, n, most, seed):
    spans = np.array([[min(2, n - 1), n, 1], [n - 1, n, 2]], np.int32)
    positions = get_masker(name).positions(np.zeros(n, np.int32), spans, rng(seed), most)
    assert positions.dtype == np.int32 and 1 <= len(positions) <= most
    assert positions[0] >= 0 and positions[-1] < n and (np.diff(positions) > 0).all()
    again = get_masker(name).positions(np.zeros(n, np.int32), spans, rng(seed), most)
    assert np.array_equal(positions, again)


def test_unknown_masker_names_the_known():
    with pytest.raises(ConfigError, match="salient, random_span, uniform"):
        get_masker("whole_word")
