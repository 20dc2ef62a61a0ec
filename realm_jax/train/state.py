"""The training state, and the one way it is updated."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import optax
from flax import struct

from realm_jax.types import Array, Params

Metrics = dict[str, tuple[Array, Array]]  # name -> (sum, count), float32 []; divided on the host
LossFn = Callable[[Params, Array], tuple[Array, Metrics]]  # (params, dropout key) -> (loss, metrics)


@struct.dataclass
class TrainState:
    """Everything a step changes."""

    step: Array  # int32 []
    params: Params  # all parts, by name; a phase trains some of them
    opt_state: optax.OptState  # of the trained parts only
    key: Array  # uint32 [2], raw key data; the key of step s is fold_in(key, s)


def create_state(
    params: Params, *, optimizer: optax.GradientTransformation, trained: Sequence[str], seed: int
) -> TrainState:
    """Start a phase: step 0, fresh optimiser moments.

    Args:
      params: all parts, by name.
      optimizer: from `make_optimizer`, for the trained parts.
      trained: names of the parts this phase trains, or of modules of them as "part/module".
      seed: of dropout.
    """
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=optimizer.init({name: picked(params, name) for name in trained}),
        key=jax.random.key_data(jax.random.key(seed)),
    )


def picked(params: Params, name: str) -> Params:
    """Return a part, or a module of it: "reader", "reader/start"."""
    for step in name.split("/"):
        params = params[step]
    return params


def renewed(params: Params, parts: Mapping[str, Params]) -> Params:
    """Return the parameters with some parts, or modules of them, replaced."""
    new = dict(params)
    for name, value in parts.items():
        part, _, module = name.partition("/")
        new[part] = renewed(new[part], {module: value}) if module else value
    return new


def update(
    state: TrainState,
    loss_fn: LossFn,
    *,
    optimizer: optax.GradientTransformation,
    trained: Sequence[str],
) -> tuple[TrainState, Metrics]:
    """Take one gradient step on the trained parts.

    Args:
      state: the state before.
      loss_fn: scalar loss and metrics of (all parameters, dropout key).
      optimizer: as in `create_state`.
      trained: as in `create_state`; the other parts get no gradient and no weight decay.

    Returns:
      The state after, and the metrics with gradient, parameter and update norms added.
    """
    key = step_key(state)
    parts = {name: picked(state.params, name) for name in trained}

    def loss_of_parts(parts: Params) -> tuple[Array, Metrics]:
        return loss_fn(renewed(state.params, parts), key)

    (_, metrics), gradients = jax.value_and_grad(loss_of_parts, has_aux=True)(parts)
    return apply_gradients(state, gradients, metrics, optimizer=optimizer)


def step_key(state: TrainState) -> Array:
    """Return the dropout key of the next step."""
    return jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)


def apply_gradients(
    state: TrainState, gradients: Params, metrics: Metrics, *, optimizer: optax.GradientTransformation
) -> tuple[TrainState, Metrics]:
    """Move the trained parts.

    Args:
      state: the state before.
      gradients: of what is trained, by the names given to `create_state`.
      metrics: of the step.
      optimizer: as in `create_state`.

    Returns:
      The state after, and the metrics with gradient, parameter and update norms added.
    """
    parts = {name: picked(state.params, name) for name in gradients}
    updates, opt_state = optimizer.update(gradients, state.opt_state, parts)
    new_parts = optax.apply_updates(parts, updates)
    norms = {"gradient_norm": gradients, "parameter_norm": new_parts, "update_norm": updates}
    metrics = metrics | {name: (optax.global_norm(tree), jnp.float32(1)) for name, tree in norms.items()}
    return (
        replace(state, step=state.step + 1, params=renewed(state.params, new_parts), opt_state=opt_state),
        metrics,
    )
