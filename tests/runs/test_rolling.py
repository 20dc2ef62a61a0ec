"""Rolling refresh: one part of the blocks at a time, in turn, over what was there before."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realm_jax.index.store import versions
from realm_jax.refresh.staleness import shard_staleness
from realm_jax.runs.live_index import IndexVersion, LiveIndex, load_version
from realm_jax.runs.refreshing import RollingBuild
from realm_jax.runs.rolling import Shard, oldest_shard, shard_sizes
from tests.runs.test_live_index import LENGTHS, Corpus, build


def not_read() -> np.ndarray:
    """Stand for embeddings that lie on another machine and are not wanted here."""
    raise AssertionError("only who puts rows among the old ones reads these")


@settings(deadline=None)
@given(st.integers(0, 500), st.integers(1, 40))
def test_parts_are_equal_and_cover_the_blocks_once(count, shards):
    sizes = shard_sizes(count, shards)
    assert sizes.max() - sizes.min() <= 1
    parts = [Shard(0, count, not_read, (0,) * shards, number).block_ids() for number in range(shards)]
    assert [len(part) for part in parts] == list(sizes)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(count))


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 7), st.data())
def test_ranges_renew_the_rows_that_all_blocks_would(count, shards, data):
    """A range is what one process of several has."""
    embeddings = np.zeros((count, 2), np.float32)
    shard = Shard(0, count, lambda: embeddings, (0,) * shards, data.draw(st.integers(0, shards - 1)))
    new = np.repeat(1 + shard.block_ids(), 2).reshape(-1, 2).astype(np.float32)
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, count), max_size=3))), count]
    parts = []
    for first, stop in itertools.pairwise(cuts):
        rows = new[(shard.block_ids() >= first) & (shard.block_ids() < stop)]
        assert len(shard.ids_in(first, stop)) == len(rows)
        parts.append(shard.renewed(rows, first=first, stop=stop))
    expected = np.where(np.arange(count) % shards == shard.number, 1 + np.arange(count), 0)
    np.testing.assert_array_equal(np.concatenate(parts), np.stack([expected] * 2, axis=1))
    np.testing.assert_array_equal(shard.renewed(new), np.concatenate(parts))
    assert not embeddings.any(), "the version in use is not touched"


def test_the_oldest_part_comes_next_the_first_of_several():
    assert oldest_shard((0, 0, 0)) == 0 and oldest_shard((9, 3, 6)) == 1 and oldest_shard((9, 6, 6)) == 1


def test_each_refresh_renews_one_part_and_leaves_the_others(tmp_path):
    """The parameter stretches the embeddings: a row says by its length when it was embedded."""
    first = build(tmp_path, step=0, stretch=1.0)
    calls = []

    def one_shard(params, version, should_stop, *, shard):
        calls.append((shard.base, shard.number))
        return build(tmp_path, step=version, stretch=params, shard=shard)

    rolling = RollingBuild(one_shard, first, shards=3)
    expected = np.ones(6)
    for turn in range(1, 6):
        version = rolling(10.0 * turn, 40 * turn, lambda: False)
        number = (turn - 1) % 3
        expected[number::3] = 10.0 * turn
        np.testing.assert_allclose(np.linalg.norm(version.embeddings, axis=1), expected, rtol=1e-6)
    assert calls == [(0, 0), (40, 1), (80, 2), (120, 0), (160, 1)]
    assert version.shards == (160, 200, 120) and version.version == 200
    assert versions(tmp_path) == [0, 40, 80, 120, 160, 200]
    loaded = load_version(tmp_path, 200, corpus=Corpus(LENGTHS))
    assert loaded.shards == version.shards
    np.testing.assert_array_equal(loaded.embeddings, version.embeddings)
    query = np.array([[1.0, 0.0]], np.float32)
    scores = version.embeddings @ query[0]  # what is searched is the mixture
    np.testing.assert_allclose(loaded.index.search(query, 6).scores[0], -np.sort(-scores), rtol=1e-5)


def test_a_part_that_failed_is_tried_again_over_the_same_version(tmp_path):
    seen = []

    def fails_once(params, version, should_stop, *, shard):
        seen.append((shard.base, shard.number))
        if len(seen) == 2:
            raise OSError("full")
        return build(tmp_path, step=version, shard=shard)

    rolling = RollingBuild(fails_once, build(tmp_path, step=0), shards=2)
    rolling(2.0, 4, lambda: False)
    with pytest.raises(OSError, match="full"):
        rolling(2.0, 8, lambda: False)
    assert rolling(2.0, 8, lambda: False).shards == (4, 8)
    assert seen == [(0, 0), (4, 1), (4, 1)]


def test_the_age_of_a_mixture_is_the_mean_over_blocks_and_the_largest(tmp_path):
    assert shard_staleness(50, (40, 10), np.array([3, 1])) == ((3 * 10 + 1 * 40) / 4, 40.0)
    assert shard_staleness(50, (40,), np.array([7])) == (10.0, 10.0)
    mixture = IndexVersion(40, None, np.zeros((5, 2), np.float32), (40, 10))  # parts of 3 and 2 blocks
    values = LiveIndex(mixture, clock=lambda: 0.0).values(50)
    assert values["staleness_steps"] == (3 * 10 + 2 * 40) / 5 and values["staleness_steps_max"] == 40
    assert values["index_version"] == 40
