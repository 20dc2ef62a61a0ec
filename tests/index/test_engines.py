"""One contract, every engine."""

import re

import numpy as np
import pytest

from realm_jax.index.engines import ENGINES
from realm_jax.types import NO_BLOCK
from tests.index.fake import brute_force, clustered
from tests.index.hosts import on_hosts


@pytest.fixture(params=[*ENGINES, *(f"{name} on three hosts" for name in ENGINES)])
def engine(request):
    name, _, split = request.param.partition(" ")
    if name == "scann":
        pytest.importorskip("scann", reason="ScaNN has no wheel for this platform")
    return on_hosts(ENGINES[name], processes=3) if split else ENGINES[name]


def test_finds_the_nearest_best_first(engine):
    embeddings, queries = clustered(700), clustered(33, seed=1)
    found = engine.build(embeddings).search(queries, 10)
    scores, ids = brute_force(queries, embeddings, 10)
    np.testing.assert_array_equal(found.block_ids, ids)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-5, atol=1e-5)
    assert (np.diff(found.scores, axis=1) <= 0).all()


def test_types_shapes_and_length(engine):
    index = engine.build(clustered(20, dimension=8))
    found = index.search(clustered(3, dimension=8), 5)
    assert len(index) == 20
    assert found.scores.shape == found.block_ids.shape == (3, 5)
    assert (found.scores.dtype, found.block_ids.dtype) == (np.float32, np.int32)


@pytest.mark.parametrize(("count", "k"), [(1, 1), (1, 4), (5, 5), (5, 9), (70, 100)])
def test_pads_what_is_missing(engine, count, k):
    embeddings, queries = clustered(count, dimension=8), clustered(4, dimension=8, seed=1)
    found = engine.build(embeddings).search(queries, k)
    real = min(count, k)
    np.testing.assert_array_equal(found.block_ids[:, :real], brute_force(queries, embeddings, real)[1])
    assert (found.block_ids[:, real:] == NO_BLOCK).all() and np.isneginf(found.scores[:, real:]).all()


def test_equal_blocks_are_listed_by_lower_id(engine):
    rows = clustered(4, dimension=8)
    queries = clustered(6, dimension=8, seed=1)
    found = engine.build(np.concatenate([rows, rows, rows])).search(queries, 12)
    nearest = brute_force(queries, rows, 4)[1]
    expected = np.stack([nearest, nearest + 4, nearest + 8], axis=-1).reshape(6, 12)
    np.testing.assert_array_equal(found.block_ids, expected)


def test_no_query_gives_no_result(engine):
    found = engine.build(clustered(9, dimension=8)).search(np.zeros((0, 8), np.float32), 3)
    assert found.scores.shape == found.block_ids.shape == (0, 3)


def test_a_query_does_not_depend_on_its_batch(engine):
    embeddings, queries = clustered(300), clustered(16, seed=1)
    index = engine.build(embeddings)
    together = index.search(queries, 7).block_ids
    alone = np.concatenate([index.search(query[None], 7).block_ids for query in queries])
    np.testing.assert_array_equal(together, alone)


def test_building_twice_gives_the_same_bits(engine):
    embeddings, queries = clustered(500), clustered(16, seed=1)
    first, second = (engine.build(embeddings.copy()).search(queries, 8) for _ in range(2))
    np.testing.assert_array_equal(first.block_ids, second.block_ids)
    np.testing.assert_array_equal(first.scores, second.scores)


def test_save_and_load_after_the_folder_was_renamed(engine, tmp_path):
    embeddings, queries = clustered(400), clustered(16, seed=1)
    (tmp_path / "aside").mkdir()
    index = engine.build(embeddings)
    engine.save(index, tmp_path / "aside")
    (tmp_path / "aside").rename(tmp_path / "final")
    loaded = engine.load(embeddings, tmp_path / "final")
    assert len(loaded) == 400
    for before, after in zip(
        *((s.scores, s.block_ids) for s in (index.search(queries, 5), loaded.search(queries, 5))), strict=True
    ):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("name", ENGINES)
def test_settings_are_plain_values(name):
    if name == "scann":
        pytest.importorskip("scann", reason="ScaNN has no wheel for this platform")
    engine = ENGINES[name]
    for name, value in engine.settings(engine.build(clustered(30, dimension=8))).items():
        assert re.fullmatch(r"[a-z_]+", name) and isinstance(value, int | float | str)
