"""The three steps: compiled once, blind to what is masked. test_sharding.py has them on eight devices.

A step costs seconds to compile, so each is compiled once here, with plain gradient descent at rate 1: what it
takes off the parameters is the gradient.
"""

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from realm_jax.train.compile import make_step
from realm_jax.train.state import create_state, picked
from realm_jax.train.steps import body_mask, reader_spans, retrieval_scores
from realm_jax.types import Rows
from tests.train.tiny import (
    BODY,
    CASES,
    QUERY,
    SPAN_WEIGHT,
    TITLE,
    B,
    K,
    candidates,
    leaves,
    masked_batch,
    models,
    question_batch,
    random_params,
    rows,
)

MODELS = models()
PARAMS = random_params(MODELS)
DESCENT = optax.sgd(1.0)


def rng(seed=0):
    return np.random.default_rng(seed)


class Case(NamedTuple):
    """A phase, and its compiled step."""

    trained: list[str]
    step: Any
    inputs: tuple
    other_inputs: tuple

    def start(self):
        return create_state(
            jax.tree.map(jnp.asarray, PARAMS), optimizer=DESCENT, trained=self.trained, seed=0
        )

    def gradient(self, *inputs):
        """Return metrics and gradients, by name."""
        state, metrics = self.step(self.start(), *inputs)
        taken = jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), PARAMS, state.params)
        return leaves(metrics), leaves({name: picked(taken, name) for name in self.trained})


@pytest.fixture(scope="module")
def cases():
    made = {}
    for name, make in CASES.items():
        loss, trained, inputs = make(MODELS, rng())
        step = make_step(loss, optimizer=DESCENT, trained=trained, dropout=False)
        made[name] = Case(trained, step, inputs, make(MODELS, rng(1))[2])
    return made


def assert_close(found, expected, *, relative):
    """Compare leaf by leaf, small values by the scale of all."""
    assert found.keys() == expected.keys()
    scale = max(np.abs(leaf).max() for leaf in expected.values())
    for name, leaf in expected.items():
        np.testing.assert_allclose(found[name], leaf, rtol=relative, atol=relative * scale, err_msg=name)


@pytest.mark.parametrize("name", CASES)
def test_a_second_step_compiles_nothing_and_the_state_is_reused(cases, name):
    case = cases[name]
    first = case.start()
    second, metrics = case.step(first, *case.inputs)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(first.params[case.trained[0]]))
    compiled = case.step.program._cache_size()
    third, _ = case.step(second, *case.other_inputs)
    assert case.step.program._cache_size() == compiled and int(third.step) == 2
    assert all(np.isfinite(value) and count >= 0 for value, count in metrics.values())
    assert {"loss", "gradient_norm", "parameter_norm", "update_norm"} <= set(metrics)


def test_the_key_of_dropout_is_handed_on_only_where_it_is_wanted():
    keys = []

    def loss(params, key, factor):
        keys.append(key)
        value = jnp.sum(params["encoder"]["kernel"]) * factor
        return value, {"loss": (value, jnp.float32(1))}

    for dropout in (False, True):
        params = {"encoder": {"kernel": jnp.ones(2)}}
        state = create_state(params, optimizer=DESCENT, trained=["encoder"], seed=0)
        make_step(loss, optimizer=DESCENT, trained=["encoder"], dropout=dropout)(state, jnp.float32(2))
    assert keys[0] is None and jnp.issubdtype(keys[1].dtype, jax.dtypes.prng_key)


def test_what_an_invalid_candidate_says_does_not_matter(cases):
    batch, clean = masked_batch(rng()), candidates(rng())
    gone = ~clean.is_valid

    def replaced(leaf, other):
        return np.where(gone.reshape(*gone.shape, *(1,) * (leaf.ndim - 2)), other, leaf)

    dirty = replace(clean, blocks=jax.tree.map(replaced, clean.blocks, candidates(rng(5)).blocks))
    assert (dirty.blocks.body.ids != clean.blocks.body.ids).any()
    (metrics, gradient), (other_metrics, other) = (cases["realm"].gradient(batch, c) for c in (clean, dirty))
    assert metrics["loss.0"] == pytest.approx(other_metrics["loss.0"], rel=1e-6)
    assert_close(other, gradient, relative=1e-5)


def test_an_unused_target_does_not_matter(cases):
    batch, found = masked_batch(rng()), candidates(rng())
    unused = batch.target_weights == 0
    dirty = replace(
        batch,
        target_ids=np.where(unused, 33, batch.target_ids).astype(np.int32),
        target_positions=np.where(unused, 4, batch.target_positions).astype(np.int32),
    )
    (metrics, gradient), (other_metrics, other) = (cases["realm"].gradient(b, found) for b in (batch, dirty))
    assert_close(other, gradient, relative=1e-5)
    for name in metrics:
        np.testing.assert_allclose(other_metrics[name], metrics[name], rtol=1e-5, err_msg=name)


def test_order_of_the_candidates_does_not_matter(cases):
    batch, found = masked_batch(rng()), candidates(rng())
    turned = jax.tree.map(lambda leaf: leaf[:, np.array([2, 0, 3, 1])], found)
    (metrics, gradient), (other_metrics, other) = (cases["realm"].gradient(batch, c) for c in (found, turned))
    assert_close(other, gradient, relative=1e-4)
    for name in metrics:
        np.testing.assert_allclose(other_metrics[name], metrics[name], rtol=1e-4, err_msg=name)


def test_the_gradient_reaches_retriever_and_encoder(cases):
    _, gradient = cases["realm"].gradient(*cases["realm"].inputs)
    for part in ("embedder", "encoder"):
        assert max(np.abs(leaf).max() for name, leaf in gradient.items() if name.startswith(part)) > 1e-4


def test_pointing_teaches_the_retriever_where_it_is_told_to():
    """The slope along a change of the embedder: of all with the identity, else without the span loss."""
    loss, _, inputs = CASES["realm"](MODELS, rng())
    change = jax.tree.map(lambda leaf: jnp.asarray(np.sign(leaf)) * 1e-3, PARAMS["embedder"])

    def along(amount, span_relevance):
        moved = jax.tree.map(lambda leaf, by: leaf + amount * by, PARAMS["embedder"], change)
        total, metrics = loss({**PARAMS, "embedder": moved}, None, *inputs, span_relevance=span_relevance)
        pointing, count = metrics["span_loss"]
        return total, pointing / count

    def slope(span_relevance):
        return jax.jit(jax.value_and_grad(partial(along, span_relevance=span_relevance), has_aux=True))

    def measured(at):
        (more, more_pointing), (less, less_pointing) = (
            jax.jit(partial(along, span_relevance=lambda x: x))(sign * at) for sign in (1.0, -1.0)
        )
        return (more - less) / (2 * at), (more_pointing - less_pointing) / (2 * at)

    everything, of_pointing = measured(1.0)
    (value, _), taught = slope(lambda x: x)(0.0)
    (same_value, _), given = slope(jax.lax.stop_gradient)(0.0)
    assert value == same_value and abs(of_pointing) > 1e-5
    np.testing.assert_allclose(taught, everything, rtol=0.05)
    np.testing.assert_allclose(taught - given, SPAN_WEIGHT * of_pointing, rtol=0.05)


def test_metrics_of_a_batch_by_hand(cases):
    batch, found = masked_batch(rng()), candidates(rng())
    metrics, _ = cases["realm"].gradient(batch, found)
    assert metrics["loss.1"] == metrics["retrieval_utility.1"] == batch.target_weights.sum() == 12
    assert (metrics["valid_candidates.0"], metrics["valid_candidates.1"]) == (found.is_valid.sum(), B)
    score = jax.jit(partial(retrieval_scores, key=None, models=MODELS, block_length=TITLE + BODY))
    weights = np.where(found.is_valid, np.exp(score(PARAMS, query=batch.query, candidates=found)), 0.0)
    assert metrics["null_probability.0"] == pytest.approx(
        (weights[:, 0] / weights.sum(axis=1)).sum(), rel=1e-4
    )


def test_the_body_of_a_joint_row_is_neither_question_nor_separator():
    question, body = rows(rng(), (B,), QUERY, cls=True), rows(rng(), (B, K), BODY, cls=False)
    on_device = [Rows(ids=jnp.asarray(r.ids), length=jnp.asarray(r.length)) for r in (question, body)]
    for length in (QUERY + BODY, QUERY + 3):
        found = np.asarray(body_mask(*on_device, length=length))
        for b in range(B):
            for k in range(K):
                start = int(question.length[b])
                stop = min(start + int(body.length[b, k]), length) - 1  # the last token is [SEP]
                assert found[b, k].tolist() == [start <= i < stop for i in range(length)]


def test_answers_are_found_behind_the_question_and_no_span_outside_the_body_is_possible():
    batch, found = question_batch(rng()), candidates(rng())
    width, length = MODELS.reader.max_span_width, QUERY + BODY
    score = jax.jit(partial(reader_spans, key=None, models=MODELS, joint_length=length))
    scores, correct = score(PARAMS, batch=batch, candidates=found)
    spans = [(i, i + w) for w in range(width) for i in range(length - w)]
    for b in range(B):
        offset = int(batch.question.length[b])
        for k in range(K):
            stop = min(offset + int(found.blocks.body.length[b, k]), length) - 1
            inside = [offset <= i and j < stop for i, j in spans]
            np.testing.assert_array_equal(np.isfinite(scores[b, k]), inside)
            starts = batch.answer_starts[b, k][batch.answer_mask[b, k]]
            answers = {(offset + int(i), offset + int(i)) for i in starts}  # of one token each
            expected = [span in answers and ok for span, ok in zip(spans, inside, strict=True)]
            assert correct[b, k].tolist() == expected
