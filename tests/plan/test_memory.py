"""Bytes of a chip: against arrays that are really laid out, and against the sizes of what a layer keeps."""

import dataclasses

import jax
import numpy as np
import pytest

from realm_jax.mesh import make_mesh
from realm_jax.plan.memory import chip_memory, count_of, kept_a_row, passes_of
from realm_jax.runs.setup import models_of
from realm_jax.train.sharding import state_shardings
from realm_jax.train.state import picked
from tests.plan.small import BLOCK, HIDDEN, INNER, JOINT, MASKS, QUERY, VOCABULARY, small_config, small_job


def on_first_device(tree) -> int:
    device = jax.devices()[0]
    shards = [shard for leaf in jax.tree.leaves(tree) for shard in leaf.addressable_shards]
    return sum(shard.data.nbytes for shard in shards if shard.device == device)


@pytest.mark.parametrize("sizes", [(8, 1, 1), (2, 2, 2)])
def test_state_and_store_take_what_they_take_on_devices(sizes):
    names = dict(zip(("data", "fsdp", "tensor"), sizes, strict=True))
    job = small_job(mesh=names)
    mesh = make_mesh(**names)

    def put(leaf, sharding):
        return jax.device_put(np.zeros(leaf.shape, leaf.dtype), sharding)

    state = jax.tree.map(put, job.state, state_shardings(mesh, job.state))
    memory = chip_memory(job)
    assert memory.parameters == on_first_device(state.params)
    assert memory.parameters + memory.optimizer == on_first_device(state)
    store = jax.tree.map(lambda leaf: put(leaf, leaf.sharding), job.store(mesh))
    assert (memory.index, memory.tokens) == (on_first_device(store.index), on_first_device(store.blocks))
    assert memory.gradients == on_first_device({name: picked(state.params, name) for name in job.rates})


def test_on_one_chip_nothing_is_split():
    job = small_job("v6e:1x1")
    memory = chip_memory(job)
    assert job.mesh is None and memory.parameters == 4 * count_of(job.params)
    assert memory.index == 2 * 8 * 1000  # bfloat16, 8 wide
    trained = count_of({name: job.params[name] for name in ("embedder", "encoder")})
    assert memory.weights == 2 * trained  # bfloat16 beside float32
    assert memory.gradients == 4 * trained


@pytest.mark.parametrize(
    ("policy", "numbers"),
    [("full", HIDDEN), ("matmuls", HIDDEN + 5 * HIDDEN + INNER)],
)
def test_a_layer_keeps_its_input_and_with_matmuls_its_products_with_weights(policy, numbers):
    """Queries, keys, values, out and output of width H, intermediate of width I, in bfloat16."""
    models = models_of(small_config(), rematerialisation=policy)
    layer, _ = kept_a_row(models.embedder, length=BLOCK, masks=0)
    assert layer == BLOCK * 2 * numbers
    everything, _ = kept_a_row(models_of(small_config()).embedder, length=BLOCK, masks=0)
    assert everything > layer


def test_word_logits_are_kept_beside_the_layers():
    models = models_of(small_config(), rematerialisation="full")
    _, few = kept_a_row(models.encoder, length=JOINT, masks=MASKS)
    _, many = kept_a_row(models.encoder, length=JOINT, masks=MASKS + 1)
    # Its float32 logits, and states of width H on the way there.
    assert 4 * VOCABULARY < many - few < 4 * VOCABULARY + 40 * HIDDEN


def test_microbatches_and_chips_divide_the_rows():
    def rows(**parts):
        return [(one.name, one.rows, one.length) for one in passes_of(small_job(**parts))]

    assert rows() == [("embedder", 2, 8), ("embedder", 6, 12), ("encoder", 6, 16)]
    assert rows(realm={"microbatches": 2}) == [("embedder", 1, 8), ("embedder", 3, 12), ("encoder", 3, 16)]
    assert rows(realm={"weights": "uniform"}) == [("encoder", 6, 16)]
    assert rows(phase="qa") == [("embedder", 2, 8), ("reader", 10, 16)]
    assert rows(phase="ict") == [("embedder", 2, 8), ("embedder", 2, 12)]


def test_less_is_kept_from_policy_to_policy_and_with_every_microbatch():
    job = small_job()
    total = [chip_memory(job.changed(rematerialisation=name)) for name in ("none", "matmuls", "full")]
    assert total[0].activations > total[1].activations > total[2].activations
    assert total[0].recomputed == 0 < total[1].recomputed < total[2].recomputed
    half = chip_memory(job.changed(microbatches=2))
    assert 2 * half.activations == total[0].activations
    assert dataclasses.replace(half, activations=0, recomputed=0) == dataclasses.replace(
        total[0], activations=0, recomputed=0
    )


def test_inputs_of_fine_tuning():
    """Questions twice (asked, read), candidates, places of answers, the beam and its rows of the index."""
    rows, read, beam, places = 16, 5, 20, 8
    job = small_job("v5e:1x1", phase="qa", qa={"beam": beam, "loss": "orqa"})
    question = 4 * QUERY + 4
    tokens = 4 * (job.corpus.title_width + job.corpus.body_width) + 2 * 4
    candidate = 4 + tokens + 2 + places * (4 + 4 + 1)
    in_beam = 2 + 4 * 8
    assert chip_memory(job).inputs == rows * (2 * question + read * candidate + beam * in_beam)
    lexical = small_job("v5e:1x1", phase="qa", qa={"retriever": "bm25"})
    assert chip_memory(lexical).inputs == rows * (2 * question + read * (candidate + 2 + 4))
