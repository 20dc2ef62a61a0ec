"""Retrieval inside a step: what the host finds, bit for bit, on every mesh; one program for all versions."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import realm_jax.index.exact as exact
import realm_jax.train.fused as module
from realm_jax.data.corpus import Corpus
from realm_jax.index.exact import ExactIndex
from realm_jax.index.protocol import Storage
from realm_jax.index.retriever import retrieve_candidates
from realm_jax.index.stored_blocks import keep_blocks
from realm_jax.mesh import BATCH_AXES, make_mesh
from realm_jax.ops.held_rows import take_rows
from realm_jax.ops.marginal import token_loss
from realm_jax.ops.relevance import retrieval_log_prob
from realm_jax.ops.rows import single
from realm_jax.train.compile import make_step
from realm_jax.train.fused import FusedStore, candidates_of, retrieve, search, store_shapes
from realm_jax.train.sharding import state_shardings
from realm_jax.train.state import create_state
from realm_jax.train.steps import realm_loss
from realm_jax.types import NO_BLOCK, Search
from tests.index.fake import brute_force, clustered
from tests.train import tiny

MESHES = [(8, 1, 1), (1, 8, 1), (2, 2, 2), (4, 1, 2)]
COUNT = 45  # blocks; with the null block 46 rows, and no number of devices divides either
EXTRA = 3


class SmallCorpus(Corpus):
    """Blocks of random tokens, in memory; some are duplicates of others."""

    tokenizer = SimpleNamespace(cls_id=tiny.CLS, sep_id=tiny.SEP)


def small_corpus() -> SmallCorpus:
    rng = np.random.default_rng(5)
    blocks = tiny.blocks(rng, (COUNT,))
    arrays = {
        "titles": blocks.title.ids,
        "title_lengths": blocks.title.length,
        "bodies": blocks.body.ids,
        "body_lengths": blocks.body.length,
    }
    arrays = {name: array.astype(np.uint16) for name, array in arrays.items()}
    uids = (1 << 63) + rng.integers(0, 25, COUNT).astype(np.uint64)
    return SmallCorpus(Path(), {}, {**arrays, "uids": uids}, np.zeros(0, np.uint8))


CORPUS = small_corpus()
STORED = keep_blocks(CORPUS)


def mesh_of(sizes):
    return make_mesh(**dict(zip(("data", "fsdp", "tensor"), sizes, strict=True)))


def assert_same(found, expected):
    """Compare two trees bit for bit, types included."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for (path, one), other in zip(
        jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True
    ):
        name = jax.tree_util.keystr(path)
        assert (one.dtype, one.shape) == (other.dtype, other.shape), name
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other), err_msg=name)


choose = jax.jit(candidates_of, static_argnames=("candidates", "null_block", "mesh"))


@st.composite
def found_blocks(draw, width):
    """Four rows of different blocks, best first, and what each query was cut from."""
    rows = st.permutations(range(COUNT)).flatmap(
        lambda order: st.integers(0, width).map(lambda n: [*order[:n], *[NO_BLOCK] * (width - n)])
    )
    origins = st.integers(NO_BLOCK, COUNT - 1)
    four = [draw(st.lists(kind, min_size=4, max_size=4)) for kind in (rows, origins)]
    return tuple(np.array(values, np.int32) for values in four)


@pytest.mark.parametrize(("width", "candidates", "null_block"), [(9, 4, True), (3, 5, False), (12, 7, False)])
def test_a_step_chooses_the_candidates_that_the_host_chooses(width, candidates, null_block):
    @settings(deadline=None, max_examples=60)
    @given(found_blocks(width))
    def check(drawn):
        ids, origin = drawn
        options = {"candidates": candidates, "null_block": null_block}
        scores = np.zeros(ids.shape, np.float32)
        expected = retrieve_candidates(Search(scores, ids), CORPUS, origin=origin, **options)
        assert_same(choose(ids, STORED, origin, **options), expected)

    check()


@pytest.mark.parametrize("sizes", MESHES, ids=str)
def test_on_every_mesh_the_nearest_are_found_and_their_tokens_gathered(sizes, monkeypatch):
    """As the exact index finds them and the corpus gathers them; queries are searched three at a time."""
    monkeypatch.setattr(exact, "ROWS_PER_BLOCK", 2)
    monkeypatch.setattr(module, "QUERIES_PER_CALL", 3)
    mesh = mesh_of(sizes)
    embeddings, queries = clustered(COUNT, dimension=8), clustered(8, dimension=8, seed=1)
    origin = np.arange(NO_BLOCK, 7, dtype=np.int32)
    store = FusedStore(ExactIndex(embeddings, Storage(mesh)).rows, keep_blocks(CORPUS, mesh=mesh))
    for leaf in jax.tree.leaves(store.blocks):
        assert {shard.data.shape[0] for shard in leaf.addressable_shards} == {6}

    @jax.jit
    def find(queries, store, origin):
        ids = search(queries, store.index, count=COUNT, k=4 + EXTRA, mesh=mesh)
        return ids, candidates_of(ids, store.blocks, origin, candidates=4, null_block=True, mesh=mesh)

    ids, found = find(queries, store, origin)
    scores, expected = brute_force(queries, embeddings, 4 + EXTRA)
    np.testing.assert_array_equal(ids, expected)
    chosen = retrieve_candidates(Search(scores, expected), CORPUS, candidates=4, origin=origin)
    assert_same(found, chosen)
    share = 8 // (mesh.shape["data"] * mesh.shape["fsdp"])
    assert {shard.data.shape[0] for shard in found.blocks.body.ids.addressable_shards} == {share}


@pytest.mark.parametrize("split", [(), BATCH_AXES], ids=["whole", "split"])
def test_rows_of_every_sign_are_taken_as_they_are(split):
    mesh = mesh_of((2, 2, 2))
    held = {"a": np.arange(-12, 12, dtype=np.int32), "b": np.arange(48, dtype=np.uint16).reshape(24, 2)}
    places = np.array([[0, 23], [5, 5], [7, 0], [22, 11]], np.int32)
    found = jax.jit(partial(take_rows, mesh=mesh, split=split))(held, places)
    assert_same(found, {name: leaf[places].astype(np.int32) for name, leaf in held.items()})


MODELS = tiny.models()
PARAMS = tiny.random_params(MODELS)
TRAINED = ["embedder", "encoder"]
LOSS = partial(
    realm_loss,
    models=MODELS,
    block_length=tiny.TITLE + tiny.BODY,
    joint_length=tiny.QUERY + tiny.BODY,
    marginal_loss=token_loss,
    weigh=retrieval_log_prob,
)
EMBEDDINGS = [clustered(COUNT, dimension=tiny.DIMENSION, seed=seed) for seed in (2, 3)]


def masked_texts():
    batch = tiny.masked_batch(np.random.default_rng(0))
    return batch.replace(origin=np.arange(NO_BLOCK, tiny.B - 1, dtype=np.int32))


def step_of(mesh=None, fused=True, **options):
    """Return a step and the state it starts from."""
    state = create_state(jax.tree.map(jnp.asarray, PARAMS), optimizer=optax.sgd(0.1), trained=TRAINED, seed=0)
    if mesh is not None:
        state = jax.device_put(state, state_shardings(mesh, state))
    if fused:
        options["retrieve"] = partial(
            retrieve, models=MODELS, count=COUNT, candidates=tiny.K, extra=EXTRA, null_block=True, mesh=mesh
        )
    options |= {"optimizer": optax.sgd(0.1), "trained": TRAINED, "dropout": False}
    return make_step(LOSS, mesh=mesh, state=state, **options), state


@pytest.fixture(scope="module")
def expected():
    """Two steps that are given what the host found, in one version of the index and in the next."""
    step, state = step_of(fused=False)
    batch, metrics = masked_texts(), []
    for embeddings in EMBEDDINGS:
        queries = MODELS.embed_query(state.params, single(batch.query))
        ids = ExactIndex(embeddings).search(queries, tiny.K + EXTRA)
        found = retrieve_candidates(ids, CORPUS, candidates=tiny.K, origin=batch.origin)
        state, values = step(state, batch, found)
        metrics.append(tiny.leaves(values))
    return metrics, tiny.leaves(state.params)


def test_a_fused_step_equals_one_given_what_the_host_found(expected):
    """On a mesh, in microbatches, over two versions of the index; one program, lowered from shapes too."""
    mesh = mesh_of((2, 2, 2))
    step, state = step_of(mesh, microbatches=2)
    blocks, batch, metrics = keep_blocks(CORPUS, mesh=mesh), masked_texts(), []
    stores = [FusedStore(ExactIndex(rows, Storage(mesh)).rows, blocks) for rows in EMBEDDINGS]
    shapes = store_shapes(
        COUNT,
        dimension=tiny.DIMENSION,
        title_width=tiny.TITLE,
        body_width=tiny.BODY,
        storage="float32",
        mesh=mesh,
    )
    described, held = (
        jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.sharding), tree)
        for tree in (shapes, stores[0])
    )
    assert described == held
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (state, batch))
    from_shapes = step.lower(abstract[0], shapes, abstract[1]).as_text()
    assert from_shapes == step.lower(state, stores[0], batch).as_text()
    for store in stores:
        state, values = step(state, store, batch)
        metrics.append(tiny.leaves(values))
    assert step.program._cache_size() == 1
    for found, wanted in zip(metrics, expected[0], strict=True):
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    for name, value in tiny.leaves(state.params).items():
        np.testing.assert_allclose(value, expected[1][name], rtol=1e-4, atol=1e-4, err_msg=name)
