"""What an old index costs, by formulas."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_jax.refresh.staleness import embedding_drift, top_k_overlap
from realm_jax.types import NO_BLOCK


@st.composite
def results(draw):
    k, batch = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    row = st.permutations(range(9)).map(lambda order: order[:k])
    return tuple(np.array([draw(row) for _ in range(batch)]) for _ in range(2))


@given(results())
def test_overlap_is_the_mean_share_of_common_ids(pair):
    stale, fresh = pair
    shares = [len({*a} & {*b}) / len(b) for a, b in zip(stale.tolist(), fresh.tolist(), strict=True)]
    assert top_k_overlap(stale, fresh) == pytest.approx(sum(shares) / len(shares))
    assert top_k_overlap(stale, fresh) == pytest.approx(top_k_overlap(fresh, stale))


def test_order_does_not_matter():
    assert top_k_overlap(np.array([[1, 2, 3]]), np.array([[3, 1, 2]])) == 1.0


def test_padding_is_no_common_result():
    padded = np.array([[4, NO_BLOCK, NO_BLOCK]])
    assert top_k_overlap(padded, np.array([[5, NO_BLOCK, NO_BLOCK]])) == 0.0
    assert top_k_overlap(padded, padded) == 1.0
    assert top_k_overlap(np.array([[4, 5]]), np.array([[4, NO_BLOCK]])) == 1.0
    assert top_k_overlap(np.array([[4, NO_BLOCK]]), np.array([[4, 5]])) == 0.5


def test_nothing_to_find_is_nothing_missed():
    assert top_k_overlap(np.array([[4, 5]]), np.array([[NO_BLOCK, NO_BLOCK]])) == 1.0


def test_drift_of_a_step_in_one_direction():
    fresh = np.array([[3.0, 4.0], [0.0, 5.0]], np.float32)  # norms 5 and 5
    stale = fresh - np.array([[0.0, 1.0], [0.0, 3.0]], np.float32)  # moved by 1 and 3
    assert embedding_drift(stale, fresh) == pytest.approx(((1 + 3) / 2) / 5)


def test_drift_is_zero_when_nothing_moved_and_does_not_depend_on_the_scale():
    rng = np.random.default_rng(0)
    stale, fresh = rng.standard_normal((2, 50, 8)).astype(np.float32)
    assert embedding_drift(fresh, fresh) == 0.0
    assert embedding_drift(10 * stale, 10 * fresh) == pytest.approx(embedding_drift(stale, fresh), rel=1e-6)
    assert embedding_drift(np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32)) == 0.0


def test_drift_looks_at_rows_spread_over_all():
    stale = np.zeros((1001, 2), np.float32)
    fresh = np.ones((1001, 2), np.float32)
    stale[[0, 500, 1000]] = 1.0  # the three rows that a sample of three looks at did not move
    assert embedding_drift(stale, fresh, sample=3) == 0.0
    assert embedding_drift(stale, fresh, sample=2000) == pytest.approx(998 / 1001)
