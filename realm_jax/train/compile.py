"""From a loss to a compiled step: microbatches, and where its arrays lie."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import optax
from jax.sharding import Mesh

from realm_jax.hosts.meeting import start_together
from realm_jax.hosts.rows import place_rows
from realm_jax.mesh import split_rows, whole
from realm_jax.train.accumulate import Accumulate, by_sums
from realm_jax.train.sharding import gather, state_shardings
from realm_jax.train.state import Metrics, TrainState, apply_gradients, picked, renewed, step_key, update
from realm_jax.types import Array, Params


def make_step(
    loss: Callable[..., tuple[Array, Metrics]],
    *,
    optimizer: optax.GradientTransformation,
    trained: Sequence[str],
    dropout: bool,
    microbatches: int = 1,
    accumulate: Accumulate = by_sums,
    mesh: Mesh | None = None,
    state: TrainState | None = None,
) -> Callable[..., tuple[TrainState, Metrics]]:
    """Compile a loss into a step.

    Args:
      loss: `(params, key, *inputs) -> (loss, metrics)`, its keywords bound.
      optimizer: for the trained parts.
      trained: as in `create_state`.
      dropout: False passes no key.
      microbatches: parts of a batch that are in memory one after the other.
      accumulate: how their gradients become that of the batch.
      mesh: the devices; None is the default device.
      state: with a mesh, a state or its shapes: what is laid out.

    Returns:
      `step(state, *inputs) -> (state, metrics)`; the state's buffers are donated. On a mesh the state lies as
      `state_shardings` says, and axis 0 of all inputs is split over the devices of the batch; of several
      processes each gives its own rows.
    """

    def step(state: TrainState, *inputs: Any) -> tuple[TrainState, Metrics]:
        def complete(parts: Params) -> Params:
            params = renewed(state.params, parts)
            return params if mesh is None else gather(params, mesh=mesh)

        if microbatches == 1:

            def loss_fn(params: Params, key: Array) -> tuple[Array, Metrics]:
                return loss(complete(params), key if dropout else None, *inputs)

            return update(state, loss_fn, optimizer=optimizer, trained=trained)
        gradients, metrics = accumulate(
            loss,
            {name: picked(state.params, name) for name in trained},
            step_key(state) if dropout else None,
            inputs,
            complete=complete,
            microbatches=microbatches,
            mesh=mesh,
        )
        return apply_gradients(state, gradients, metrics, optimizer=optimizer)

    if mesh is None:
        return partial(jax.jit, donate_argnums=0)(step)
    placed = state_shardings(mesh, state)
    program = jax.jit(
        lambda state, inputs: step(state, *inputs),
        in_shardings=(placed, split_rows(mesh)),
        out_shardings=(placed, whole(mesh)),
        donate_argnums=0,
    )
    start = start_together(program, "step")
    return lambda state, *inputs: start(state, place_rows(inputs, mesh))
