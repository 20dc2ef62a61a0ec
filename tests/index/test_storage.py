"""Engines on the device: rows split over a mesh, or kept in fewer bits, against NumPy."""

import jax
import ml_dtypes
import numpy as np
import pytest

import realm_jax.index.exact as module
from realm_jax.index.approx import ApproxIndex
from realm_jax.index.engines import ENGINES
from realm_jax.index.exact import ExactIndex, row_scales
from realm_jax.index.manifest import measure_recall
from realm_jax.index.protocol import Storage
from realm_jax.mesh import AXES, make_mesh
from realm_jax.ops.topk import top_k_rows
from tests.index.fake import brute_force, clustered

SIZES = [(8, 1, 1), (1, 8, 1), (2, 2, 2), (3, 1, 2)]


def mesh_of(sizes):
    return make_mesh(**dict(zip(AXES, sizes, strict=True)))


@pytest.fixture(scope="module", params=SIZES, ids=str)
def mesh(request):
    return mesh_of(request.param)


@pytest.mark.parametrize("kind", [ExactIndex, ApproxIndex])
def test_the_nearest_are_found_on_every_mesh(mesh, kind, monkeypatch):
    """701 rows split evenly over no number of devices, nor over blocks; some devices hold padding alone."""
    monkeypatch.setattr(module, "ROWS_PER_BLOCK", 64)
    embeddings, queries = clustered(701, dimension=8), clustered(5, dimension=8, seed=1)
    index = kind(embeddings, Storage(mesh))
    found = index.search(queries, 9)
    scores, ids = brute_force(queries, embeddings, 9)
    np.testing.assert_array_equal(found.block_ids, ids)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-5, atol=1e-5)
    assert len(index) == 701


def test_equal_rows_on_different_devices_are_listed_by_lower_id(mesh):
    """Every row is there 40 times, in blocks and devices of its own, and all of them score the same."""
    embeddings = np.tile(np.eye(4, dtype=np.float32), (200, 1))
    queries = np.array([[4, 3, 2, 1], [0, 0, 0, 1]], np.float32)
    found = ExactIndex(embeddings, Storage(mesh)).search(queries, 203)
    np.testing.assert_array_equal(found.block_ids, brute_force(queries, embeddings, 203)[1])


def test_fewer_rows_than_devices(mesh):
    embeddings, queries = clustered(3, dimension=8), clustered(2, dimension=8, seed=1)
    found = ExactIndex(embeddings, Storage(mesh)).search(queries, 5)
    np.testing.assert_array_equal(found.block_ids[:, :3], brute_force(queries, embeddings, 3)[1])
    assert (found.block_ids[:, 3:] == -1).all() and np.isneginf(found.scores[:, 3:]).all()


def test_every_device_holds_its_share_alone():
    mesh = mesh_of((2, 2, 2))
    index = ExactIndex(clustered(1600, dimension=8), Storage(mesh, "int8"))
    for leaf in jax.tree.leaves(index.rows):
        assert {shard.data.shape[0] for shard in leaf.addressable_shards} == {200}


def as_kept(queries, embeddings, dtype):
    """Round both as the module says, in NumPy; products and sums in float64."""
    rounded = queries.astype(ml_dtypes.bfloat16).astype(np.float64)
    if dtype == "bfloat16":
        return rounded, embeddings.astype(ml_dtypes.bfloat16).astype(np.float64)
    step = np.abs(embeddings).max(axis=1, keepdims=True) / np.float32(127)
    return rounded, np.rint(embeddings / step) * step.astype(np.float64)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("sizes", [None, (2, 2, 2)], ids=str)
def test_rows_in_fewer_bits_score_as_their_rounded_values(dtype, sizes):
    embeddings, queries = clustered(701, dimension=16), clustered(5, dimension=16, seed=1)
    index = ExactIndex(embeddings, Storage(mesh_of(sizes) if sizes else None, dtype))
    assert index.rows.values.dtype == dtype
    found = index.search(queries, 9)
    scores, _ = brute_force(*as_kept(queries, embeddings, dtype), 9)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-4, atol=1e-4)
    of_found = np.einsum("qd,qkd->qk", queries, embeddings[found.block_ids])
    np.testing.assert_allclose(of_found, found.scores, rtol=0.05, atol=0.05)  # the ids go with the scores
    assert measure_recall(index, embeddings, queries, k=9) > 0.9


def test_a_row_of_zeros_has_a_scale():
    rows = np.array([[0, 0], [-254, 127]], np.float32)
    np.testing.assert_allclose(row_scales(rows), [1, 2])


def test_a_second_mesh_index_of_the_same_size_compiles_nothing():
    mesh, queries = mesh_of((8, 1, 1)), clustered(5, dimension=8)
    ExactIndex(clustered(100, dimension=8), Storage(mesh)).search(queries, 6)
    compiled = top_k_rows._cache_size()
    ExactIndex(clustered(99, dimension=8, seed=3), Storage(mesh_of((8, 1, 1)))).search(queries, 6)
    assert top_k_rows._cache_size() == compiled


@pytest.mark.parametrize("engine", ["exact", "approx"])
def test_what_is_saved_is_kept_the_same_way_when_loaded(engine, tmp_path):
    storage = Storage(mesh_of((2, 2, 2)), "int8")
    embeddings, queries = clustered(100, dimension=8), clustered(5, dimension=8, seed=1)
    built = ENGINES[engine].build(embeddings, storage)
    assert ENGINES[engine].settings(built, storage) == {"storage": "int8"}
    ENGINES[engine].save(built, tmp_path)
    loaded = ENGINES[engine].load(embeddings, tmp_path, storage)
    one, other = built.search(queries, 4), loaded.search(queries, 4)
    np.testing.assert_array_equal(one.block_ids, other.block_ids)
    np.testing.assert_array_equal(one.scores, other.scores)


def test_the_approximate_engine_asks_the_accelerator_for_its_partial_reduction():
    """And says how many rows there are in all, of which a block is a part."""
    rows = ApproxIndex(clustered(200, dimension=8)).rows
    options = {"k": 4, "rows_per_block": rows.values.shape[0]}
    arguments = (np.zeros((2, 8), np.float32), rows, np.int32(200))
    program = str(top_k_rows.trace(*arguments, recall=0.98, **options).jaxpr)
    assert "approx_top_k" in program and f"reduction_input_size_override={rows.values.shape[0]}" in program
    assert "approx_top_k" not in str(top_k_rows.trace(*arguments, **options).jaxpr)
