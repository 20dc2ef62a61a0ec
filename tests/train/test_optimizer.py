"""The optimiser on single weights, by the formulas of Adam, decay, schedule and clipping."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from realm_jax.train.optimizer import make_optimizer, warmup_steps
from tests.train.tiny import leaves, models

SETTINGS = {"steps": 10, "warmup": 4, "weight_decay": 0.0, "clip_norm": 1e9}


def run(params, gradients, count, **changes):
    """Return the updates of each of `count` steps."""
    optimizer = make_optimizer(**{**SETTINGS, **changes})
    update, state, found = jax.jit(optimizer.update), optimizer.init(params), []
    for _ in range(count):
        updates, state = update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        found.append(updates)
    return found


def one(value, name="kernel"):
    return {"encoder": {"layer": {name: jnp.asarray([value], jnp.float32)}}}


def moved(updates, name="kernel"):
    return [float(u["encoder"]["layer"][name][0]) for u in updates]


def test_the_rate_rises_and_falls_on_straight_lines():
    """A constant gradient makes Adam's direction its sign, so the update is the rate itself."""
    found = moved(run(one(5.0), one(3.0), 11, learning_rates={"encoder": 0.8}))
    expected = [-0.8 * (s / 4 if s < 4 else (10 - s) / 6) for s in range(11)]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_adam_by_hand():
    """Gradients 1 then -2: m and v with bias correction, beta1 0.9, beta2 0.999, epsilon 1e-6."""
    optimizer = make_optimizer(**{**SETTINGS, "warmup": 1}, learning_rates={"encoder": 0.1})
    params = one(0.5)
    state = optimizer.init(params)
    m = v = 0.0
    for step, gradient in enumerate((1.0, -2.0, 0.5)):
        updates, state = optimizer.update(one(gradient), state, params)
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        corrected = (m / (1 - 0.9 ** (step + 1))) / (math.sqrt(v / (1 - 0.999 ** (step + 1))) + 1e-6)
        rate = 0.1 * (0 if step == 0 else (10 - step) / 9)
        assert moved([updates])[0] == pytest.approx(-rate * corrected, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("name", ["kernel", "embedding", "bias", "scale", "word_bias"])
def test_decay_pulls_at_weights_but_not_at_biases_and_norms(name):
    """Without a gradient the update is the decay alone: rate x decay x weight."""
    decays = name in ("kernel", "embedding")
    found = moved(
        run(one(5.0, name), one(0.0, name), 3, learning_rates={"encoder": 0.8}, weight_decay=0.01), name
    )
    assert found == pytest.approx([-0.8 * s / 4 * 0.01 * 5.0 * decays for s in range(3)], rel=0.01)


def test_every_part_of_the_real_model_is_decayed_or_not_by_its_kind():
    params = jax.eval_shape(models().init, jax.random.key(0))
    ones, zeros = (
        jax.tree.map(lambda leaf, m=make: m(leaf.shape, np.float32), params) for make in (np.ones, np.zeros)
    )
    updates = run(ones, zeros, 2, learning_rates=dict.fromkeys(params, 1.0), weight_decay=0.1)[1]
    for name, update in leaves(updates).items():
        is_norm_or_bias = name.rsplit(".", 1)[-1] in ("bias", "scale", "word_bias")
        assert (update == 0).all() if is_norm_or_bias else (update < 0).all(), name
    kept = {name.rsplit(".", 1)[-1] for name, update in leaves(updates).items() if (update < 0).all()}
    assert kept == {"kernel", "embedding"}


def test_gradients_are_clipped_by_the_norm_of_all_parts_together():
    """(3, 4) has norm 5; clipped to 1 it is (0.6, 0.8). Adam forgets size, so look at its first moment."""
    optimizer = make_optimizer(**{**SETTINGS, "clip_norm": 1.0}, learning_rates={"a": 0.1, "b": 0.1})
    params = {"a": {"kernel": jnp.zeros(1)}, "b": {"kernel": jnp.zeros(1)}}
    gradients = {"a": {"kernel": jnp.full(1, 3.0)}, "b": {"kernel": jnp.full(1, 4.0)}}
    _, state = optimizer.update(gradients, optimizer.init(params), params)
    moments = {n: v for n, v in leaves(state).items() if ".mu." in n}
    found = {n.rsplit(".", 2)[-2]: float(v[0]) for n, v in moments.items()}
    assert found == pytest.approx({"a": 0.1 * 0.6, "b": 0.1 * 0.8}, rel=1e-5)


def test_every_part_has_its_own_rate():
    params = {"encoder": {"kernel": jnp.ones(1)}, "embedder": {"kernel": jnp.ones(1)}}
    updates = run(params, params, 3, learning_rates={"encoder": 0.4, "embedder": 0.1})
    ratio = updates[2]["encoder"]["kernel"] / updates[2]["embedder"]["kernel"]
    assert ratio.item() == pytest.approx(4.0, rel=1e-5)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(200_000, 10_000), (50_000, 5_000), (2_000, 200), (1_000, 100), (400, 100), (150, 75), (2, 1), (1, 1)],
)
def test_length_of_the_warm_up(steps, expected):
    assert warmup_steps(steps) == expected


def test_no_warm_up_given_takes_the_rule():
    given, ruled = (
        moved(run(one(1.0), one(1.0), 5, learning_rates={"encoder": 0.1}, steps=1000, warmup=w))
        for w in (100, 0)
    )
    assert given == ruled
