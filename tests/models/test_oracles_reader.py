"""Span reader against the six cases of its oracle: losses, correctness, prediction, gradients."""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realm_jax.ops.open_qa import best_spans, orqa_loss, orqa_span_log_prob
from realm_jax.ops.spans import span_allowed, span_matches, span_table
from realm_jax.types import Params
from tests.models.oracle import PRECISION, Oracle, close, load_oracle

CASES = ["answers", "wide_beam", "only_beyond_reader_beam", "span_too_wide", "no_answer", "predict_only"]
BEAM = 7  # the widest of the cases


@pytest.fixture(autouse=True)
def full_precision() -> Iterator[None]:
    with jax.default_matmul_precision(PRECISION):
        yield


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    return load_oracle("reader", tmp_path_factory.mktemp("oracle"))


def correct_spans(oracle: Oracle, case: str, allowed: np.ndarray) -> np.ndarray:
    """Mark the gold spans of the passages read, bool `[K, S]`."""
    passages, width = allowed.shape[0], oracle.models.reader.max_span_width
    starts, stops = (oracle[f"{case}/inputs/{side}_positions"][:passages] for side in ("start", "end"))
    length = oracle["inputs/input_ids"].shape[1]
    found = span_matches(starts, stops, starts >= 0, length=length, max_width=width)
    return np.asarray(found) & allowed


@pytest.fixture(scope="module")
def run(oracle: Oracle) -> Callable[..., tuple]:
    """Compile losses, gradients and prediction once; all cases are padded to the widest beam."""
    tokens, models = oracle.tokens("inputs/"), oracle.models

    def loss(params: Params, relevance: jax.Array, allowed: jax.Array, **case: jax.Array) -> tuple:
        scores = jnp.where(allowed, models.span_scores(params, tokens), -jnp.inf)[None]
        total, count, extras = orqa_loss(span_scores=scores, relevance=relevance, **case)
        log_prob = orqa_span_log_prob(span_scores=scores, relevance=relevance, is_valid=case["is_valid"])
        return total, (count, extras, scores[0], best_spans(log_prob))

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))


def padded(array: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([array, np.zeros(size - len(array), array.dtype)])[None]


@pytest.mark.parametrize("case", CASES)
def test_reader(oracle: Oracle, run: Callable[..., tuple], case: str) -> None:
    passages, length = oracle["inputs/input_ids"].shape
    width = oracle.models.reader.max_span_width
    relevance = oracle[f"{case}/inputs/relevance_score"]
    size = len(relevance)
    allowed = np.asarray(span_allowed(oracle[f"{case}/inputs/block_mask"][:passages], max_width=width))
    correct, has_answer = np.zeros_like(allowed), np.zeros(size, bool)
    if case != "predict_only":
        correct = correct_spans(oracle, case, allowed)
        has_answer = oracle[f"{case}/inputs/has_answers"]
        np.testing.assert_array_equal(correct, oracle[f"{case}/outputs/reader_correct"])
        np.testing.assert_array_equal(has_answer, oracle[f"{case}/outputs/retriever_correct"])

    (total, (count, extras, scores, best)), (gradients, by_score) = run(
        oracle.params,
        padded(relevance, BEAM),
        allowed,
        span_correct=correct[None],
        has_answer=padded(has_answer, BEAM),
        is_valid=padded(np.ones(size, bool), BEAM),
    )

    candidate, span = int(best[0][0, 0]), int(best[1][0, 0])
    starts, stops = span_table(length, width)
    assert candidate == oracle[f"{case}/outputs/block_idx"]
    assert span == oracle[f"{case}/outputs/candidate"]
    assert starts[span] == oracle[f"{case}/outputs/start_pos"]
    assert stops[span] == oracle[f"{case}/outputs/end_pos"]
    if f"{case}/outputs/span_logits" in oracle.arrays:
        np.testing.assert_array_equal(starts, oracle[f"{case}/outputs/candidate_starts"])
        np.testing.assert_array_equal(stops, oracle[f"{case}/outputs/candidate_ends"])
        close(scores, oracle[f"{case}/outputs/span_logits"])
        close(scores + relevance[:passages, None], oracle[f"{case}/outputs/reader_logits"])
    if case == "predict_only":
        return
    close(total, oracle[f"{case}/outputs/loss"])
    close(extras["retriever_loss"][0], oracle[f"{case}/outputs/retriever_loss"])
    close(extras["reader_loss"][0], oracle[f"{case}/outputs/reader_loss"])
    assert int(count) == int(case != "no_answer")
    if case == "no_answer":
        assert not any(np.any(leaf) for leaf in jax.tree.leaves((gradients, by_score)))
    else:
        oracle.check_gradients(gradients, case=f"{case}/", relevance_score=by_score[0, :size])
