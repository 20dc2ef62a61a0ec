"""The exact engine: large batches in parts, no program compiled twice."""

import jax
import numpy as np
import pytest

import realm_jax.index.exact as module
from realm_jax.index.exact import ExactIndex
from realm_jax.ops.topk import top_k_rows
from tests.index.fake import brute_force, clustered


@pytest.mark.parametrize("queries", [7, 8, 9, 30])
def test_many_queries_are_searched_in_parts(monkeypatch, queries):
    monkeypatch.setattr(module, "QUERIES_PER_CALL", 8)
    embeddings, wanted = clustered(100, dimension=8), clustered(queries, dimension=8, seed=1)
    found = ExactIndex(embeddings).search(wanted, 6)
    scores, ids = brute_force(wanted, embeddings, 6)
    np.testing.assert_array_equal(found.block_ids, ids)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-5, atol=1e-5)


def test_parts_share_one_program(monkeypatch):
    monkeypatch.setattr(module, "QUERIES_PER_CALL", 8)
    index = ExactIndex(clustered(100, dimension=8))
    index.search(clustered(9, dimension=8), 6)
    compiled = top_k_rows._cache_size()
    index.search(clustered(37, dimension=8), 6)
    assert top_k_rows._cache_size() == compiled


def test_a_second_index_of_the_same_size_compiles_nothing():
    queries = clustered(5, dimension=8)
    ExactIndex(clustered(100, dimension=8)).search(queries, 6)
    compiled = top_k_rows._cache_size()
    ExactIndex(clustered(100, dimension=8, seed=3)).search(queries, 6)
    assert top_k_rows._cache_size() == compiled


@pytest.mark.parametrize("k", [3, 90])
def test_more_blocks_than_fit_one_product(monkeypatch, k):
    monkeypatch.setattr(module, "ROWS_PER_BLOCK", 64)
    embeddings, queries = clustered(150, dimension=8), clustered(5, dimension=8, seed=1)
    found = ExactIndex(embeddings).search(queries, k)
    np.testing.assert_array_equal(found.block_ids, brute_force(queries, embeddings, k)[1])


def test_embeddings_may_be_device_arrays_or_memory_maps(tmp_path):
    embeddings, queries = clustered(30, dimension=8), clustered(5, dimension=8, seed=1)
    np.save(tmp_path / "e.npy", embeddings)
    expected = ExactIndex(embeddings).search(queries, 4).block_ids
    for other in (jax.numpy.asarray(embeddings), np.load(tmp_path / "e.npy", mmap_mode="r")):
        np.testing.assert_array_equal(ExactIndex(other).search(queries, 4).block_ids, expected)
