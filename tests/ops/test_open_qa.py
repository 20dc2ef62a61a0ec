"""The losses of open-domain QA against sums of exponentials written out with NumPy."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realm_jax.ops.open_qa import QA_LOSSES, SPAN_LOG_PROBS, best_spans
from realm_jax.ops.relevance import retrieval_log_prob

JITTED = {name: jax.jit(loss) for name, loss in QA_LOSSES.items()}
GRADS = {
    name: jax.jit(jax.value_and_grad(lambda rel, case, loss=loss: loss(**(case | {"relevance": rel}))[0]))
    for name, loss in QA_LOSSES.items()
}
B, R, K, S = 5, 6, 4, 7
KEYS = ("span_scores", "relevance", "span_correct", "has_answer", "is_valid")


def make(seed: int = 0) -> dict[str, np.ndarray]:
    """Questions: ordinary, answer beyond the reader, no answer, a block without spans, padding."""
    rng = np.random.default_rng(seed)
    case = {
        "span_scores": rng.normal(size=(B, K, S)).astype(np.float32) * 2,
        "relevance": rng.normal(size=(B, R)).astype(np.float32) * 2,
        "span_correct": rng.random((B, K, S)) < 0.3,
        "has_answer": rng.random((B, R)) < 0.5,
        "is_valid": np.ones((B, R), bool),
    }
    case["span_scores"][:, :, 0] = -np.inf
    case["is_valid"][0, 2] = False
    case["span_correct"][0, :, 3] = True
    case["span_correct"][1] = False
    case["has_answer"][1] = [False, False, False, False, False, True]
    case["span_correct"][2] = False
    case["has_answer"][2] = False
    case["span_scores"][3, 0] = -np.inf
    case["span_correct"][3, 1, 4] = True
    case["has_answer"][3, 1] = True
    case["is_valid"][4] = False
    return case


def parts(case: dict, b: int) -> tuple[np.ndarray, ...]:
    """Probabilities of one question in float64: p(z) over R, p(z) over K, p(y|z), and the joint shares."""
    valid = case["is_valid"][b]
    f = np.where(valid, np.exp(case["relevance"][b].astype(np.float64)), 0.0)
    e = np.where(valid[:K, None], np.exp(case["span_scores"][b].astype(np.float64)), 0.0)
    good = case["span_correct"][b]
    within = (e * good).sum(axis=1) / np.maximum(e.sum(axis=1), 1e-300)
    joint, weighted = e / e.sum(), e * f[:K, None] / (e * f[:K, None]).sum()
    return f / f.sum(), f[:K] / f[:K].sum(), within, joint[good].sum(), weighted[good].sum()


def expected(name: str, case: dict) -> tuple[float, int, dict[str, float]]:
    total, count, sums = 0.0, 0, {"retriever_loss": 0.0, "reader_loss": 0.0}
    for b in range(B):
        if not case["is_valid"][b].any():
            continue
        p_all, p_read, within, joint, weighted = parts(case, b)
        retriever = {
            "marginal": (p_read * within).sum(),
            "orqa": p_all[case["has_answer"][b]].sum(),
            "emdr2": (p_read * within).sum(),
            "pdist": 0.0,
        }[name]
        reader = {"marginal": 0.0, "orqa": weighted, "emdr2": joint, "pdist": joint}[name]
        terms = {k: -np.log(p) for k, p in (("retriever_loss", retriever), ("reader_loss", reader)) if p > 0}
        if name == "pdist" and within.sum() > 0:
            q = within / within.sum()
            hit = q > 0
            terms["retriever_loss"] = (q[hit] * np.log(q[hit] / p_read[hit])).sum()
        for key, value in terms.items():
            sums[key] += value
            total += value
        count += bool(terms)
    return total, count, sums


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", QA_LOSSES)
def test_loss_is_its_formula(name: str, seed: int) -> None:
    case = make(seed)
    total, count, extras = JITTED[name](**case)
    want, want_count, sums = expected(name, case)
    np.testing.assert_allclose(total, want, rtol=1e-5)
    assert count == want_count
    assert extras["answerable"][1] == 4
    for key, value in sums.items():
        if key in extras:
            np.testing.assert_allclose(extras[key][0], value, rtol=1e-5)


@pytest.mark.parametrize("name", QA_LOSSES)
def test_gradients_are_finite_and_zero_where_nothing_is_correct(name: str) -> None:
    case = make()

    def loss(span_scores: jax.Array, relevance: jax.Array) -> jax.Array:
        return JITTED[name](**(case | {"span_scores": span_scores, "relevance": relevance}))[0]

    spans, relevance = map(np.asarray, jax.grad(loss, argnums=(0, 1))(case["span_scores"], case["relevance"]))
    chex.assert_tree_all_finite((spans, relevance))
    assert not np.any(spans[[1, 2, 4]]) and not np.any(relevance[[2, 4]])
    assert np.any(relevance[1]) == (name == "orqa")
    assert np.any(spans[0]) and np.any(relevance[0])
    assert not np.any(spans[case["span_scores"] == -np.inf])


@pytest.mark.parametrize("name", QA_LOSSES)
def test_gradient_is_the_difference_quotient(name: str) -> None:
    case = make(3)
    finite = case["span_scores"] > -np.inf

    def loss(scores: jax.Array, relevance: jax.Array) -> jax.Array:
        masked = jnp.where(finite, scores, -jnp.inf)
        return JITTED[name](**(case | {"span_scores": masked, "relevance": relevance}))[0]

    scores, relevance = np.where(finite, case["span_scores"], 0.0).astype(np.float32), case["relevance"]
    grads = jax.grad(loss, argnums=(0, 1))(scores, relevance)
    rng = np.random.default_rng(4)
    step = 1e-2 * rng.normal(size=relevance.shape).astype(np.float32)
    slope = loss(scores, relevance + step) - loss(scores, relevance - step)
    np.testing.assert_allclose(slope, 2 * np.sum(grads[1] * step), rtol=2e-2, atol=1e-4)


def test_fixed_reader_gets_no_gradient_from_the_retrievers_term() -> None:
    case = make()
    for name in ("emdr2", "pdist"):

        def term(span_scores: jax.Array, name: str = name) -> jax.Array:
            return JITTED[name](**(case | {"span_scores": span_scores}))[2]["retriever_loss"][0]

        assert not np.any(jax.grad(term)(case["span_scores"]))


@pytest.mark.parametrize("name", QA_LOSSES)
def test_log_probabilities_stand_in_for_relevance(name: str) -> None:
    case = make()
    for key in KEYS:
        case[key] = case[key][:4]
    log_prob = np.array(retrieval_log_prob(case["relevance"], case["is_valid"]))
    log_prob[~case["is_valid"]] = 0.0
    by_score, by_prob = JITTED[name](**case)[0], JITTED[name](**(case | {"relevance": log_prob}))[0]
    np.testing.assert_allclose(by_score, by_prob, rtol=1e-5)


@pytest.mark.parametrize("name", QA_LOSSES)
def test_masked_candidates_equal_absent_ones(name: str) -> None:
    case = make(5)
    case["is_valid"][:, 1] = False
    kept = {key: np.delete(value, 1, axis=1) for key, value in case.items()}
    chex.assert_trees_all_close(JITTED[name](**case), JITTED[name](**kept), rtol=1e-5)


@pytest.mark.parametrize("name", QA_LOSSES)
def test_batch_is_the_sum_of_its_rows(name: str) -> None:
    case = make(6)
    rows = [JITTED[name](**{key: value[b : b + 1] for key, value in case.items()}) for b in range(B)]
    together = jax.tree.map(lambda *leaves: sum(leaves), *rows)
    chex.assert_trees_all_close(JITTED[name](**case), together, rtol=1e-5)


def test_marginal_reduces_to_the_reader_with_one_candidate() -> None:
    case = {key: value[:1, :1] for key, value in make().items()}
    scores = case["span_scores"][0, 0].astype(np.float64)
    want = -np.log((np.exp(scores) * case["span_correct"][0, 0]).sum() / np.exp(scores).sum())
    for name in ("marginal", "orqa"):
        _, count, extras = JITTED[name](**case)
        value = extras["reader_loss"][0] if "reader_loss" in extras else JITTED[name](**case)[0]
        np.testing.assert_allclose(value, want, rtol=1e-5)
        assert count == 1


@pytest.mark.parametrize("name", SPAN_LOG_PROBS)
def test_span_probabilities_sum_to_one(name: str) -> None:
    case = make()
    given_ = {key: case[key] for key in ("span_scores", "relevance", "is_valid")}
    mass = np.exp(SPAN_LOG_PROBS[name](**given_)).sum(axis=(1, 2))
    without = parts(case, 3)[1][0] if name == "marginal" else 0.0  # the block without spans keeps its share
    np.testing.assert_allclose(mass, [1, 1, 1, 1 - without, 0], rtol=1e-5)


def test_prediction_takes_relevance_and_spans_together() -> None:
    scores = np.array([[[1.0, 2.0, -np.inf], [0.0, 4.0, 0.0]]], np.float32)
    relevance, valid = np.array([[5.0, 1.0]], np.float32), np.ones((1, 2), bool)
    given_ = {"span_scores": scores, "relevance": relevance, "is_valid": valid}
    candidate, span, prob = best_spans(SPAN_LOG_PROBS["orqa"](**given_), count=2)
    weights = np.exp([6.0, 7.0, 1.0, 5.0, 1.0])
    np.testing.assert_array_equal(candidate, [[0, 0]])
    np.testing.assert_array_equal(span, [[1, 0]])
    np.testing.assert_allclose(prob[0], weights[[1, 0]] / weights.sum(), rtol=1e-5)
    candidate, span, prob = best_spans(SPAN_LOG_PROBS["emdr2"](**given_))
    assert (int(candidate[0, 0]), int(span[0, 0])) == (1, 1)


def test_prediction_from_nothing_has_probability_zero() -> None:
    log_prob = jnp.full((1, 2, 3), -jnp.inf)
    assert float(best_spans(log_prob)[2][0, 0]) == 0.0


@pytest.mark.parametrize("name", QA_LOSSES)
def test_a_broken_score_is_not_hidden(name: str) -> None:
    case = make()
    case["span_scores"][0, 0, 3] = np.nan
    assert np.isnan(JITTED[name](**case)[0])


def test_wrong_shapes_are_refused() -> None:
    case = make()
    with pytest.raises(AssertionError):
        QA_LOSSES["marginal"](**(case | {"relevance": case["relevance"][:, : K - 1]}))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.floats(-50, 50), st.sampled_from(sorted(QA_LOSSES)))
def test_a_shift_of_all_scores_changes_nothing(seed: int, shift: float, name: str) -> None:
    case = make(seed)
    moved = case | {
        "span_scores": case["span_scores"] + np.float32(shift),
        "relevance": case["relevance"] - np.float32(shift),
    }
    np.testing.assert_allclose(JITTED[name](**case)[0], JITTED[name](**moved)[0], rtol=1e-4, atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31))
def test_extreme_scores_stay_finite(seed: int) -> None:
    case = make(seed)
    case["span_scores"], case["relevance"] = case["span_scores"] * 1e4, case["relevance"] * 1e4
    for name, value_and_grad in GRADS.items():
        value, grads = value_and_grad(case["relevance"], case)
        assert np.isfinite(value) and np.all(np.isfinite(grads)), name
