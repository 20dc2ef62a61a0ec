"""Bytes of a step on one chip, counted from shapes: nothing is computed and nothing is compiled.

What is kept for the backward pass is what JAX's own differentiation keeps, read off a traced model of one and
of two layers. A compiler may keep less; `plan --compile` asks it. Letters: L tokens.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp

from realm_jax.plan.job import Job
from realm_jax.runs.setup import candidates_read, models_of, refreshes
from realm_jax.train.sharding import param_shardings, state_shardings
from realm_jax.train.state import picked
from realm_jax.types import Params, Tokens

POLICIES = ("none", "matmuls", "full")  # of rematerialisation, from the most kept to the least
ROWS = 1009  # that are traced: a number that no weight has as its size


@dataclass(frozen=True)
class ChipMemory:
    """Bytes on one chip, by what they hold; all at once at the step's peak."""

    parameters: int  # float32
    optimizer: int  # moments
    gradients: int  # float32
    weights: int  # as they are computed with: in the dtype of the computation, and put together along fsdp
    snapshot: int  # the refresher's copy of the block tower
    inputs: int  # of a step
    index: int  # embeddings that are searched on the chips
    tokens: int  # of all blocks, where the step gathers them
    activations: int  # kept for the backward pass
    recomputed: int  # of the layer that is computed again

    @property
    def total(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True)
class Pass:
    """Rows that go through a model in a step: `rows` of `length` tokens on a chip at a time."""

    name: str  # of the model, as in `Models`
    rows: int
    length: int


def chip_memory(job: Job) -> ChipMemory:
    """Count the bytes of a step on one chip."""
    mesh, config = job.mesh, job.config
    params, state = job.params, job.state
    trained = {name: picked(params, name) for name in job.rates}
    own = partial(_params_bytes, mesh=mesh)
    width = jnp.dtype(config.model.dtype).itemsize
    copies = count_of(trained) * width if width < 4 else 0
    gathered = _params_bytes(trained, mesh=mesh, gathered=True) if config.mesh.fsdp > 1 else 0
    store = job.store(mesh)
    kept, again = kept_bytes(job)
    beside = refreshes(config, job.phase) and config.refresh.worker in ("thread", "inline")
    return ChipMemory(
        parameters=own(params),
        optimizer=_state_bytes(state, mesh=mesh) - own(params),
        gradients=own(trained),
        weights=-(-copies // config.mesh.tensor) + gathered,
        snapshot=bytes_of(params[job.models.block_tower]) if beside else 0,
        inputs=-(-bytes_of(job.batch) // job.shards),
        index=_placed_bytes(store.index) if searches_on_chips(job) else 0,
        tokens=_placed_bytes(store.blocks) if job.is_fused else 0,
        activations=kept,
        recomputed=again,
    )


def searches_on_chips(job: Job) -> bool:
    """Say whether the index is kept on the chips that train."""
    lexical = job.phase == "qa" and job.config.qa.retriever == "bm25"
    return job.phase != "ict" and not lexical and job.config.index.engine != "scann"


def count_of(tree: Any) -> int:
    """Count the numbers in a tree of shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def bytes_of(tree: Any) -> int:
    """Count the bytes of a tree of shapes."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def passes_of(job: Job) -> list[Pass]:
    """List what goes through the models with a gradient, in one microbatch on one chip."""
    shapes, settings = job.config.shapes, getattr(job.config, job.phase)
    rows = settings.batch_size // settings.microbatches // job.shards
    queries = Pass("embedder", rows, shapes.query_length)
    if job.phase == "ict":
        return [queries, Pass("embedder", rows, shapes.block_length)]
    read = rows * candidates_read(job.config, job.phase)
    blocks = Pass("embedder", read, shapes.block_length)
    if job.phase == "qa":
        retriever = [] if settings.retriever == "bm25" else [queries, blocks][: 1 + settings.end_to_end]
        return [*retriever, Pass("reader", read, shapes.joint_length)]
    words = Pass("encoder", read, shapes.joint_length)
    return [words] if settings.weights == "uniform" else [queries, blocks, words]


@cache
def kept_a_row(model: Any, *, length: int, masks: int) -> tuple[int, int]:
    """Count what differentiation keeps of one row of L tokens.

    Args:
      model: an embedder, encoder or reader.
      length: tokens of a row.
      masks: words that an encoder predicts in it.

    Returns:
      Bytes a layer, and bytes beside the layers; what does not grow with the rows is in neither.
    """

    def kept(layers: int) -> int:
        bert = model.bert.clone(num_layers=layers)
        return _kept_of_rows(model.clone(bert=bert), length=length, masks=masks)

    one, two = kept(1), kept(2)
    return two - one, 2 * one - two


def kept_bytes(job: Job) -> tuple[int, int]:
    """Return the bytes kept for the backward pass, and those of the layer that is computed again."""
    kept, again = 0, 0
    everything = models_of(job.config)
    for one in passes_of(job):
        measure: Callable[[Any], tuple[int, int]] = partial(
            kept_a_row, length=one.length, masks=job.config.shapes.max_masks
        )
        model = getattr(job.models, one.name)
        layer, rest = measure(model)
        kept += one.rows * (model.bert.num_layers * layer + rest)
        again = max(again, one.rows * (measure(getattr(everything, one.name))[0] - layer))
    return kept // job.config.mesh.tensor, again // job.config.mesh.tensor


def _kept_of_rows(model: Any, *, length: int, masks: int) -> int:
    """Return the bytes a row of what a model keeps; what has no axis for the rows is left out."""
    ids = jax.ShapeDtypeStruct((1, ROWS, length), jnp.int32)
    inputs: tuple = (Tokens(ids=ids, mask=jax.ShapeDtypeStruct(ids.shape, bool), segments=ids),)
    if hasattr(model, "word_logits"):
        inputs += (jax.ShapeDtypeStruct((1, masks), jnp.int32),)
    params = jax.eval_shape(model.init, jax.random.key(0), *inputs)

    def backward(params: Params, key: Any, *inputs: Any) -> Any:
        def forward(params: Params) -> Any:
            random = {"rngs": {"dropout": key}, "deterministic": False} if model.bert.dropout else {}
            return model.apply(params, *inputs, **random)

        return jax.vjp(forward, params)  # what comes out, and a pytree of what is kept

    kept = jax.tree.leaves(jax.eval_shape(backward, params, jax.random.key(0), *inputs))
    return bytes_of([leaf for leaf in kept if ROWS in leaf.shape]) // ROWS


def _params_bytes(tree: Params, *, mesh: Any, gathered: bool = False) -> int:
    if mesh is None:
        return bytes_of(tree)
    return _split_bytes(tree, param_shardings(mesh, tree, gathered=gathered))


def _state_bytes(tree: Any, *, mesh: Any) -> int:
    return bytes_of(tree) if mesh is None else _split_bytes(tree, state_shardings(mesh, tree))


def _placed_bytes(tree: Any) -> int:
    """Count what one chip holds of shapes that say themselves how they are laid out."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape) if leaf.sharding else leaf.shape)
        * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def _split_bytes(tree: Any, shardings: Any) -> int:
    placed = jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where), tree, shardings
    )
    return _placed_bytes(placed)
