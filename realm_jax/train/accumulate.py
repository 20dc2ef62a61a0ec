"""Gradients of a batch taken in microbatches, so that one of them is in memory at a time.

Sums and counts of the microbatches add up, and the division comes last: the result is that of the whole batch
but for rounding (and for dropout, of which every microbatch has its own). Letters: B batch, D embedding.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from realm_jax.mesh import BATCH_AXES
from realm_jax.train.state import Metrics
from realm_jax.types import Array, Params

Loss = Callable[..., tuple[Array, Metrics]]  # (params, dropout key, *inputs) -> (mean loss, metrics)


class Accumulate(Protocol):
    """A way to take the gradient of a loss in microbatches."""

    def __call__(
        self,
        loss: Loss,
        parts: Params,
        key: Array | None,
        inputs: tuple,
        *,
        complete: Callable[[Params], Params],
        microbatches: int,
        mesh: Mesh | None,
    ) -> tuple[Params, Metrics]:
        """Take the gradient.

        Args:
          loss: of all parameters; its metric `loss` is the pair whose quotient is the mean loss, unless the
            way says otherwise.
          parts: the trained parts.
          key: dropout key; None turns dropout off.
          inputs: of the whole batch; axis 0 of every leaf is B.
          complete: trained parts to all parameters, as they are computed with.
          microbatches: how many; divides B.
          mesh: the devices; None is the default device.

        Returns:
          Gradients of the trained parts, and metrics of the whole batch.
        """
        ...


def by_sums(
    loss: Loss,
    parts: Params,
    key: Array | None,
    inputs: tuple,
    *,
    complete: Callable[[Params], Params],
    microbatches: int,
    mesh: Mesh | None,
    further: Mapping[str, float] = MappingProxyType({}),
) -> tuple[Params, Metrics]:
    """Add up losses whose rows have nothing to do with one another; see `Accumulate`.

    Args:
      loss, parts, key, inputs, complete, microbatches, mesh: as in `Accumulate`.
      further: weights of the means that the loss adds to that of its metric `loss`, by their metrics' names.
        Their counts are taken first, in a forward pass of their own.
    """
    numbered = _split(inputs, microbatches, mesh)

    def measure(parts: Params, numbered: tuple[Array, tuple]) -> Metrics:
        number, inputs = numbered
        return loss(complete(parts), _key(key, number), *inputs)[1]

    def counts_of(numbered: tuple[Array, tuple]) -> dict[str, Array]:
        metrics = measure(parts, numbered)
        return {name: metrics[name][1] for name in ("loss", *further)}

    # What a nat of another sum is worth, for all sums to be divided by the count of the first.
    worth: dict[str, Array] = {}
    if further:
        counts = {name: jnp.maximum(total, 1.0) for name, total in _add_up(counts_of, numbered).items()}
        worth = {name: weight * counts["loss"] / counts[name] for name, weight in further.items()}

    def total(parts: Params, numbered: tuple[Array, tuple]) -> tuple[Array, Metrics]:
        metrics = measure(parts, numbered)
        others = [value * metrics[name][0] for name, value in worth.items()]
        return sum(others, metrics["loss"][0]), metrics

    def one(numbered: tuple[Array, tuple]) -> tuple[Params, Metrics]:
        (_, metrics), gradients = jax.value_and_grad(total, has_aux=True)(parts, numbered)
        return gradients, metrics

    gradients, metrics = _add_up(one, numbered)
    count = jnp.maximum(metrics["loss"][1], 1.0)
    return jax.tree.map(lambda leaf: leaf / count.astype(leaf.dtype), gradients), metrics


def by_embeddings(
    loss: Loss,
    parts: Params,
    key: Array | None,
    inputs: tuple,
    *,
    complete: Callable[[Params], Params],
    microbatches: int,
    mesh: Mesh | None,
    embed: Callable[..., Any],
    contrast: Callable[..., tuple[Array, Metrics]],
) -> tuple[Params, Metrics]:
    """Take the gradient of a loss in which every row meets every other; see `Accumulate`.

    All rows are embedded first, without keeping what led there. The loss of the whole batch gives the
    gradient of every embedding; then each microbatch is embedded again and handed its share.

    Args:
      loss: not used: it is `contrast` of `embed`.
      parts, key, inputs, complete, microbatches, mesh: as in `Accumulate`.
      embed: `(params, dropout key, *inputs)` to embeddings, axis 0 of every leaf the rows.
      contrast: `(embeddings, *inputs)` of the whole batch to mean loss and metrics.

    Source: Gao et al. 2021 (GradCache).
    """
    del loss
    numbered = _split(inputs, microbatches, mesh)

    def embedded(parts: Params, number: Array, inputs: tuple) -> Any:
        return embed(complete(parts), _key(key, number), *inputs)

    cached = jax.lax.map(lambda numbered: embedded(parts, *numbered), numbered)
    slopes, metrics = jax.grad(lambda cached: contrast(_merge(cached), *inputs), has_aux=True)(cached)

    def one(given: tuple[tuple[Array, tuple], Any]) -> Params:
        (number, inputs), slope = given
        _, pull = jax.vjp(lambda parts: embedded(parts, number, inputs), parts)
        return pull(slope)[0]

    return _add_up(one, (numbered, slopes)), metrics


def _add_up(one: Callable[[Any], Any], numbered: Any) -> Any:
    """Sum a function's results over axis 0 of its argument, in order."""
    shapes = jax.eval_shape(one, jax.tree.map(lambda leaf: leaf[0], numbered))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return jax.lax.scan(lambda sums, given: (jax.tree.map(jnp.add, sums, one(given)), None), zeros, numbered)[
        0
    ]


def _split(inputs: tuple, microbatches: int, mesh: Mesh | None) -> tuple[Array, tuple]:
    """Number the microbatches, and give microbatch j the rows j, j + n, ...: every device keeps its rows."""

    def split(leaf: Array) -> Array:
        turned = jnp.reshape(leaf, (-1, microbatches, *leaf.shape[1:])).swapaxes(0, 1)
        if mesh is None:
            return turned
        return jax.lax.with_sharding_constraint(turned, NamedSharding(mesh, PartitionSpec(None, BATCH_AXES)))

    return jnp.arange(microbatches, dtype=jnp.int32), jax.tree.map(split, inputs)


def _merge(tree: Any) -> Any:
    """Undo `_split`: leaves `[n, B / n, ...]` to `[B, ...]`."""
    return jax.tree.map(lambda leaf: leaf.swapaxes(0, 1).reshape(-1, *leaf.shape[2:]), tree)


def _key(key: Array | None, number: Array) -> Array | None:
    return None if key is None else jax.random.fold_in(key, number)
