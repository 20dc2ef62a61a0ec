"""From a loss to a compiled step: microbatches, and where its arrays lie."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import optax
from jax.sharding import Mesh

from realm_jax.hosts.meeting import start_together
from realm_jax.hosts.rows import place_rows
from realm_jax.mesh import split_over_all, split_rows, whole
from realm_jax.train.accumulate import Accumulate, by_sums
from realm_jax.train.sharding import gather, state_shardings
from realm_jax.train.state import Metrics, TrainState, apply_gradients, picked, renewed, step_key, update
from realm_jax.types import Array, Params


@dataclass(frozen=True)
class Step:
    """A compiled step: `step(state, *inputs) -> (state, metrics)`.

    Attributes:
      program: the compiled function of (state, inputs).
      start: starts it; on a mesh in the order of all programs.
    """

    program: Any
    start: Callable[[TrainState, tuple], tuple[TrainState, Metrics]]

    def __call__(self, state: TrainState, *inputs: Any) -> tuple[TrainState, Metrics]:
        return self.start(state, inputs)

    def lower(self, state: Any, *inputs: Any) -> Any:
        """Lower the very program that is run, from arrays or their shapes."""
        return self.program.lower(state, inputs)


def make_step(
    loss: Callable[..., tuple[Array, Metrics]],
    *,
    optimizer: optax.GradientTransformation,
    trained: Sequence[str],
    dropout: bool,
    microbatches: int = 1,
    accumulate: Accumulate = by_sums,
    retrieve: Callable[..., tuple] | None = None,
    mesh: Mesh | None = None,
    state: TrainState | None = None,
) -> Step:
    """Compile a loss into a step.

    Args:
      loss: `(params, key, *inputs) -> (loss, metrics)`, its keywords bound.
      optimizer: for the trained parts.
      trained: as in `create_state`.
      dropout: False passes no key.
      microbatches: parts of a batch that are in memory one after the other.
      accumulate: how their gradients become that of the batch.
      retrieve: finds the inputs of the loss inside the step, for the whole batch: `(params, store, batch)` to
        them. The step's inputs are then a store and a batch. None: they are those of the loss.
      mesh: the devices; None is the default device.
      state: with a mesh, a state or its shapes: what is laid out.

    Returns:
      `step(state, *inputs) -> (state, metrics)`; the state's buffers are donated. On a mesh the state lies as
      `state_shardings` says, axis 0 of all inputs is split over the devices of the batch, and that of a
      store's arrays over all devices; of several processes each gives its own rows.
    """

    def step(state: TrainState, inputs: tuple) -> tuple[TrainState, Metrics]:
        def complete(parts: Params) -> Params:
            params = renewed(state.params, parts)
            return params if mesh is None else gather(params, mesh=mesh)

        if retrieve is not None:
            inputs = retrieve(complete({}), *inputs)
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
        program = jax.jit(step, donate_argnums=0)
        return Step(program, program)
    placed, rows = state_shardings(mesh, state), split_rows(mesh)
    program = jax.jit(
        step,
        in_shardings=(placed, rows if retrieve is None else (split_over_all(mesh), rows)),
        out_shardings=(placed, whole(mesh)),
        donate_argnums=0,
    )
    start = start_together(program, "step")
    return Step(program, lambda state, inputs: start(state, place_rows(inputs, mesh)))
