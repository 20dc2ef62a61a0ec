"""BERT's optimiser."""

from collections.abc import Mapping

import jax
import optax

from realm_jax.types import Params

NO_DECAY = ("bias", "scale", "word_bias")  # LayerNorm and biases are not decayed


def warmup_steps(steps: int) -> int:
    """Choose the length of the linear warm-up: min(10000, max(100, steps / 10)), at most half the run.

    Source: the released code of REALM; the cap keeps runs of under 200 steps from never reaching their rate.
    """
    return min(10_000, max(100, steps // 10), max(1, steps // 2))


def make_optimizer(
    *,
    learning_rates: Mapping[str, float],
    steps: int,
    warmup: int,
    weight_decay: float,
    clip_norm: float,
) -> optax.GradientTransformation:
    """Make AdamW with linear warm-up and decay, clipped by the global norm of all gradients.

    Args:
      learning_rates: peak learning rate of each trained part, by its name in the parameters.
      steps: length of the phase.
      warmup: steps of linear warm-up; 0 takes the rule of `warmup_steps`.
      weight_decay: decoupled decay of kernels and embeddings.
      clip_norm: largest global gradient norm.

    Returns:
      A transformation for a dict of exactly the parts in `learning_rates`.

    Source: REALM, section 4.2 and the released code's optimizer.
    """
    rise = warmup or warmup_steps(steps)
    parts = {
        name: optax.adamw(_schedule(rate, rise, steps), weight_decay=weight_decay, eps=1e-6, mask=_decayed)
        for name, rate in learning_rates.items()
    }
    by_part = {name: name for name in learning_rates}
    chain = optax.chain(optax.clip_by_global_norm(clip_norm), optax.partition(parts, by_part))

    def update(
        updates: Params, state: optax.OptState, params: Params | None = None
    ) -> tuple[Params, optax.OptState]:
        # Optax raises floats to integer powers, which strict promotion of dtypes refuses.
        with jax.numpy_dtype_promotion("standard"):
            return chain.update(updates, state, params)

    return optax.GradientTransformation(chain.init, update)


def _schedule(peak: float, rise: int, steps: int) -> optax.Schedule:
    up, down = optax.linear_schedule(0.0, peak, rise), optax.linear_schedule(peak, 0.0, max(1, steps - rise))
    return optax.join_schedules([up, down], [rise])


def _decayed(params: Params) -> Params:
    def decayed(path: tuple, leaf: object) -> bool:
        del leaf
        return path[-1].key not in NO_DECAY

    return jax.tree_util.tree_map_with_path(decayed, params)
