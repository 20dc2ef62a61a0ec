"""Open QA from the question's text to the answer's, against the oracle."""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realm_jax.ops.open_qa import best_spans, orqa_loss, orqa_span_log_prob
from realm_jax.ops.relevance import relevance_score
from realm_jax.ops.rows import joint_tokens, single
from realm_jax.ops.spans import span_allowed, span_matches, span_table
from realm_jax.text.answers import span_starts
from realm_jax.text.tokenizer import Tokenizer
from realm_jax.train.steps import body_mask
from realm_jax.types import Params, Rows
from tests.models.oracle import PRECISION, Oracle, close, load_oracle

QUESTIONS, CASES = range(5), ["eval", "train"]
QUESTION_LENGTH, BODY_LENGTH, LENGTH = 16, 80, 48  # tokens; LENGTH is the oracle's reader_seq_len


@pytest.fixture(autouse=True)
def full_precision() -> Iterator[None]:
    with jax.default_matmul_precision(PRECISION):
        yield


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    return load_oracle("open_qa", tmp_path_factory.mktemp("oracle"))


@pytest.fixture(scope="module")
def tokenizer(oracle: Oracle) -> Tokenizer:
    assert oracle.pretrained.vocabulary is not None
    return Tokenizer.load(oracle.pretrained.vocabulary)


def rows(parts: list[np.ndarray], *, size: int) -> Rows:
    """Pad token rows."""
    ids = np.zeros((len(parts), size), np.int32)
    for row, part in zip(ids, parts, strict=True):
        row[: len(part)] = part
    return Rows(ids=ids, length=np.array([len(part) for part in parts], np.int32))


def cls_sep(tokenizer: Tokenizer, text: str) -> np.ndarray:
    return np.array([tokenizer.cls_id, *tokenizer.encode(text).ids, tokenizer.sep_id], np.int32)


def sep(tokenizer: Tokenizer, text: str) -> np.ndarray:
    return cls_sep(tokenizer, text)[1:]


@pytest.fixture(scope="module")
def run(oracle: Oracle) -> Callable[..., tuple]:
    """Compile search, reading, losses and gradients; once for a beam, as every row has the longest length."""
    models, config = oracle.models, oracle.about["config"]
    read, width = config["reader_beam_size"], config["max_span_width"]
    embeddings = jnp.asarray(oracle.pretrained.unread["block_emb"])

    def loss(
        params: Params,
        question: Rows,
        bodies: Rows,
        blocks: jax.Array,
        correct: jax.Array,
        has_answer: jax.Array,
    ) -> tuple:
        query = models.embed_query(params, single(question))
        relevance = relevance_score(query, embeddings[blocks])
        joint = joint_tokens(question, bodies, length=LENGTH)
        allowed = span_allowed(body_mask(question, bodies, length=LENGTH)[:, :read], max_width=width)
        scores = models.span_scores(params, jax.tree.map(lambda leaf: leaf[:, :read], joint))
        scores = jnp.where(allowed, scores, -jnp.inf)
        valid = jnp.ones(relevance.shape, bool)
        total, _, extras = orqa_loss(
            span_scores=scores,
            relevance=relevance,
            span_correct=correct,
            has_answer=has_answer,
            is_valid=valid,
        )
        log_prob = orqa_span_log_prob(span_scores=scores, relevance=relevance, is_valid=valid)
        return total, (extras, scores[0] + relevance[0, :read, None], best_spans(log_prob))

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


@pytest.fixture(scope="module")
def embed(oracle: Oracle) -> Callable[..., jax.Array]:
    return jax.jit(lambda params, question: oracle.models.embed_query(params, single(question)))


@pytest.mark.parametrize("mode", CASES)
@pytest.mark.parametrize("number", QUESTIONS)
def test_question_to_answer(
    oracle: Oracle,
    tokenizer: Tokenizer,
    embed: Callable[..., jax.Array],
    run: Callable[..., tuple],
    number: int,
    mode: str,
) -> None:
    case, example = f"q{number}/{mode}/", oracle.about["examples"][number]
    config = oracle.about["config"]
    searched = config["reader_beam_size" if mode == "eval" else "searcher_beam_size"]
    read, width = config["reader_beam_size"], config["max_span_width"]

    # Text to tokens, and the exact search.
    question = rows([cls_sep(tokenizer, example["question"])], size=QUESTION_LENGTH)
    tokens = oracle[case + "inputs/question_ids"]
    np.testing.assert_array_equal(question.ids[:, : question.length[0]], tokens)
    query = embed(oracle.params, question)
    close(query, oracle[case + "outputs/question_projection"])
    scores, blocks = jax.lax.top_k(query @ oracle.pretrained.unread["block_emb"].T, searched)
    np.testing.assert_array_equal(blocks[0], oracle[case + "outputs/retrieved_block_ids"])
    close(scores[0], oracle[case + "outputs/retrieved_scores"])

    # The joint rows of all blocks found; the oracle's are as long as the longest of them.
    texts = [oracle.about["block_records"][block] for block in np.asarray(blocks[0])]
    bodies = rows([sep(tokenizer, text) for text in texts], size=BODY_LENGTH)
    bodies = jax.tree.map(lambda leaf: leaf[None], bodies)
    joint = joint_tokens(question, bodies, length=LENGTH)
    body = np.asarray(body_mask(question, bodies, length=LENGTH))[0]
    shown = oracle[case + "outputs/concat_input_ids"].shape[1]
    for field, name in (("ids", "input_ids"), ("mask", "attention_mask"), ("segments", "token_type_ids")):
        whole = np.asarray(getattr(joint, field))[0]
        np.testing.assert_array_equal(whole[:, :shown], oracle[case + f"outputs/concat_{name}"])
        assert not whole[:, shown:].any()
    np.testing.assert_array_equal(body[:, :shown], oracle[case + "outputs/block_mask"])

    # Where the answers stand.
    starts, stops = answer_spans(tokenizer, np.asarray(joint.ids[0]), body, example)
    wanted = [oracle[f"{case}outputs/{side}_positions"] for side in ("start", "end")]
    assert gold(starts, stops) == gold(*wanted)
    has_answer = (starts >= 0).any(axis=1)
    np.testing.assert_array_equal(has_answer, oracle[case + "outputs/has_answers"])
    np.testing.assert_array_equal(has_answer, oracle[case + "outputs/retriever_correct"])
    matches = span_matches(starts[:read], stops[:read], starts[:read] >= 0, length=LENGTH, max_width=width)
    correct = np.asarray(matches & span_allowed(body[:read], max_width=width))
    table = span_table(LENGTH, width)
    inside = table[1] < shown  # the spans of the oracle's shorter rows, in the same order
    np.testing.assert_array_equal(correct[:, inside], oracle[case + "outputs/reader_correct"])

    # Losses, gradients, prediction.
    (total, (extras, logits, best)), gradients = run(
        oracle.params, question, bodies, blocks, correct[None], has_answer[None]
    )
    close(total, oracle[case + "outputs/loss"])
    close(extras["retriever_loss"][0], oracle[case + "outputs/retriever_loss"])
    close(extras["reader_loss"][0], oracle[case + "outputs/reader_loss"])
    if any(name.startswith(case + "grads/") for name in oracle.arrays):
        oracle.check_gradients(gradients, case=case)
    close(np.asarray(logits)[:, inside], oracle[case + "outputs/reader_logits"])
    block, place = int(best[0][0, 0]), int(best[1][0, 0])
    first, last = int(table[0][place]), int(table[1][place])
    assert block == oracle[case + "outputs/block_idx"]
    assert np.count_nonzero(inside[:place]) == oracle[case + "outputs/candidate"]
    assert (first, last) == (oracle[case + "outputs/start_pos"], oracle[case + "outputs/end_pos"])
    answer = np.asarray(joint.ids[0, block, first : last + 1])
    np.testing.assert_array_equal(answer, oracle[case + "outputs/predicted_answer_ids"])
    if mode == "eval":
        assert tokenizer.decode(answer) == example["predicted_answer"]


def answer_spans(
    tokenizer: Tokenizer, ids: np.ndarray, body: np.ndarray, example: dict
) -> tuple[np.ndarray, np.ndarray]:
    """Find all answers in the bodies of joint rows: first and last tokens `[R, n]`, padded with -1."""
    found: list[list[tuple[int, int]]] = [[] for _ in ids]
    for answer, stored in zip(example["answers"], example["answer_ids"], strict=True):
        tokens = tokenizer.encode(answer).ids
        np.testing.assert_array_equal(tokens, stored)
        for row, start in np.argwhere(span_starts(ids, tokens) & body):
            found[row].append((start, start + len(tokens) - 1))
    most = max(1, *(len(spans) for spans in found))
    padded = np.array([spans + [(-1, -1)] * (most - len(spans)) for spans in found], np.int32)
    return padded[..., 0], padded[..., 1]


def gold(starts: np.ndarray, stops: np.ndarray) -> list[set[tuple[int, int]]]:
    rows = zip(starts, stops, strict=True)
    return [set(zip(a[a >= 0].tolist(), b[b >= 0].tolist(), strict=True)) for a, b in rows]
