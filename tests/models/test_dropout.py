"""Dropout: how much is dropped, what is kept, and that no decision hangs on another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realm_jax.models.dropout import Dropout, dropped_of, random_bytes


def dropped_out(rate: float, shape: tuple[int, ...], dtype=jnp.float32) -> np.ndarray:
    keys = {"dropout": jax.random.key(3)}
    return np.asarray(Dropout(rate).apply({}, jnp.ones(shape, dtype), deterministic=False, rngs=keys))


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_values_are_dropped_at_the_rate_or_scaled(rate):
    out = dropped_out(rate, (300, 77))
    share = round(rate * 256) / 256
    assert set(np.unique(out)) == {np.float32(0), np.float32(1 / (1 - share))}
    # Five standard deviations of a mean of independent decisions.
    assert abs((out == 0).mean() - share) < 5 * (share * (1 - share) / out.size) ** 0.5


def test_neighbours_are_independent():
    """Also those whose bytes are of one word: each pair is dropped together as often as two coins say."""
    zero = dropped_out(0.5, (20_000, 4)) == 0
    for one in range(4):
        for other in range(one):
            assert abs((zero[:, one] & zero[:, other]).mean() - 0.25) < 5 * (0.25 * 0.75 / 20_000) ** 0.5


def test_all_bytes_occur_equally_often():
    counts = np.bincount(np.asarray(random_bytes(jax.random.key(0), (256, 1001))).ravel(), minlength=256)
    expected = counts.sum() / 256
    # Pearson's statistic has 255 degrees of freedom: mean 255, variance 510.
    assert abs((np.square(counts - expected) / expected).sum() - 255) < 5 * 510**0.5


def test_nothing_happens_without_a_rate_or_where_it_is_off():
    x = jnp.arange(6.0)
    assert Dropout(0.0).apply({}, x, deterministic=False) is x
    assert Dropout(0.3).apply({}, x, deterministic=True) is x


@pytest.mark.parametrize(("rate", "dropped"), [(0.0, 0), (1e-6, 1), (0.1, 26), (0.9999, 255)])
def test_rates_are_256ths(rate, dropped):
    assert dropped_of(rate) == dropped


def test_the_type_stays():
    assert dropped_out(0.1, (3, 5), jnp.bfloat16).dtype == jnp.bfloat16
