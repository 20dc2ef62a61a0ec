"""Answers: against a plain computation, for any batch size, with and without blocks."""

import dataclasses
from functools import partial

import jax
import numpy as np
import pytest

from realm_jax.errors import CheckpointError, ConfigError
from realm_jax.inspect.answer import Answer, answer_questions
from realm_jax.inspect.loaded import LoadedRun, _read_pairs, open_run
from realm_jax.inspect.pairs import WIDTHS, row_length
from realm_jax.inspect.retrieve import text_rows
from realm_jax.ops.rows import joint_tokens
from realm_jax.ops.spans import span_table
from realm_jax.types import NO_BLOCK, Rows

QUESTIONS = ["What is the capital of Peru?", "Where did people move in 1933?", "capital of Kenya", "Tokyo?"]


def test_the_answer_is_the_best_span_of_all_blocks_by_the_formula(qa: LoadedRun):
    """log p(span, z) = log softmax of the scores over blocks + log softmax of the spans of a block."""
    answer = answer_questions(qa, QUESTIONS[:1])[0]
    question = text_rows(qa, QUESTIONS[:1])
    ids = np.array([[one.block_id for one in answer.evidence]], np.int32)
    body = qa.corpus.gather(ids).body
    length, width = qa.config.shapes.joint_length, qa.models.reader.max_span_width
    scores = np.asarray(qa.models.span_scores(qa.params, joint_tokens(question, body, length=length)))[0]
    query = np.asarray(qa.embed_queries(qa.params, question))[0]
    relevance = qa.version.embeddings[ids[0]] @ query
    prior = np.exp(relevance - relevance.max())
    prior /= prior.sum()
    best = (0.0, NO_BLOCK, (0, 0))
    for k, block_id in enumerate(ids[0].tolist()):
        first, last = (
            int(question.length[0]),
            int(question.length[0] + body.length[0, k] - 1),
        )  # without [SEP]
        spans, at = {}, 0
        for w in range(width):
            for start in range(length - w):
                if first <= start and start + w < last:
                    spans[(start - first, start + w - first)] = scores[k, at]
                at += 1
        values = np.exp(np.array(list(spans.values())))
        for span, value in zip(spans, values / values.sum(), strict=True):
            best = max(best, (prior[k] * value, block_id, span))
    assert answer.probability == pytest.approx(best[0], rel=1e-4)
    assert (answer.block_id, answer.span) == best[1:]
    assert [answer.text] == qa.corpus.answer_texts([(answer.block_id, *best[2])])
    assert answer.text in qa.corpus.text(answer.block_id).body
    np.testing.assert_allclose([one.retrieval_probability for one in answer.evidence], prior, rtol=1e-4)


def same(one: Answer, other: Answer) -> bool:
    return (one.text, one.block_id, one.span) == (other.text, other.block_id, other.span)


@pytest.mark.parametrize("retriever", ["model", "bm25"])
def test_questions_asked_together_are_answered_as_when_asked_alone(qa: LoadedRun, retriever):
    together = answer_questions(qa, QUESTIONS, retriever=retriever)
    for question, one in zip(QUESTIONS, together, strict=True):
        alone = answer_questions(qa, [question], retriever=retriever)[0]
        assert same(alone, one)
        assert alone.probability == pytest.approx(one.probability, rel=1e-5)
        assert [e.block_id for e in alone.evidence] == [e.block_id for e in one.evidence]


def test_the_size_of_the_batch_does_not_matter(qa: LoadedRun, tiny_runs):
    single = open_run(tiny_runs.qa, batch_size=1)
    pairs = (answer_questions(run, QUESTIONS, retriever="bm25") for run in (qa, single))
    for one, other in zip(*pairs, strict=True):
        assert same(one, other)
        assert one.probability == pytest.approx(other.probability, rel=1e-4)


def test_no_program_is_compiled_twice(qa: LoadedRun):
    """A row length has one program, whatever is asked and however many questions come together."""
    run = dataclasses.replace(qa, batch_size=1)
    longest = run.config.shapes.joint_length

    def ask() -> tuple[int, int]:
        for retriever in ("model", "null", "bm25"):
            for count in (1, 3, 4):
                answer_questions(run, QUESTIONS[:count], retriever=retriever)  # type: ignore[arg-type]
        return run.read_pairs._cache_size(), run.embed_queries._cache_size()  # type: ignore[attr-defined]

    first = ask()
    assert first == ask()
    assert 1 < first[0] <= len({row_length(n, longest=longest) for n in range(1, longest + 1)})


@pytest.mark.parametrize("longest", [20, 96, 184, 384, 512])
def test_rows_have_few_lengths_and_waste_little(longest):
    lengths = [row_length(needed, longest=longest) for needed in range(1, longest + 1)]
    assert len(set(lengths)) <= WIDTHS and max(lengths) == longest
    for needed, length in enumerate(lengths, start=1):
        assert needed <= length < needed + max(8, longest // WIDTHS + 8)


def test_spans_are_the_same_whether_scored_together_or_in_parts(qa: LoadedRun):
    """With blocks of all lengths, in rows of their own length or of the longest."""
    questions = text_rows(qa, QUESTIONS)
    body = qa.corpus.gather(np.arange(len(QUESTIONS), dtype=np.int32)).body
    needed = int((questions.length + body.length).max())
    common = {"models": qa.models, "is_continuation": None}
    one, other = (
        jax.jit(partial(_read_pairs, **common, length=length, scored_at_once=at_once))(
            qa.params, questions, body
        )
        for length, at_once in ((needed, None), (qa.config.shapes.joint_length, 3))
    )
    width = qa.models.reader.max_span_width
    for row in range(len(QUESTIONS)):
        tables = (span_table(needed, width), span_table(qa.config.shapes.joint_length, width))
        ends = [
            [int(side[found[0][row]]) for side in table]
            for table, found in zip(tables, (one, other), strict=True)
        ]
        assert ends[0] == ends[1]
    for left, right in zip(one[1:], other[1:], strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)


def test_lexical_relevance_weighs_the_blocks(qa: LoadedRun):
    answer = answer_questions(qa, ["Tokyo"], retriever="bm25")[0]
    assert answer.evidence[0].title == "Japan" and len(answer.evidence) == 1
    assert answer.evidence[0].retrieval_probability == 1.0


def test_without_a_block_there_is_no_answer(qa: LoadedRun):
    for retriever, text in (("null", QUESTIONS[0]), ("bm25", "xylophone")):
        answer = answer_questions(qa, [text], retriever=retriever)[0]  # type: ignore[arg-type]
        assert (answer.text, answer.probability, answer.block_id, answer.span) == ("", 0.0, NO_BLOCK, None)
        assert answer.evidence == ()


def test_more_candidates_can_be_read_than_in_training(qa: LoadedRun):
    answer = answer_questions(qa, QUESTIONS[:1], candidates=6)[0]
    assert len(answer.evidence) == 6
    assert sum(one.retrieval_probability for one in answer.evidence) == pytest.approx(1, rel=1e-5)


def test_a_question_longer_than_the_row_loses_its_end(qa: LoadedRun):
    rows: Rows = text_rows(qa, ["Peru " * 200])
    assert int(rows.length[0]) == qa.config.shapes.query_length
    assert answer_questions(qa, ["Peru " * 200])[0].probability > 0


def test_what_cannot_be_answered_is_refused(qa: LoadedRun, realm: LoadedRun):
    with pytest.raises(CheckpointError, match="fine-tuned"):
        answer_questions(realm, QUESTIONS)
    with pytest.raises(ConfigError, match="question"):
        answer_questions(qa, [])
    with pytest.raises(ConfigError, match="question"):
        answer_questions(qa, ["Who?", "  "])
    with pytest.raises(ConfigError, match="at least 1 block"):
        answer_questions(qa, QUESTIONS, candidates=0)


def test_answers_are_whole_words_where_the_run_says_so(qa: LoadedRun, monkeypatch):
    """As if every second wordpiece went on with the word before it."""
    going_on = np.arange(qa.config.model.vocab_size) % 2 == 1
    monkeypatch.setitem(vars(qa.corpus.tokenizer), "is_continuation", going_on)
    settings = dataclasses.replace(qa.config.qa, whole_words=True)
    run = dataclasses.replace(qa, config=dataclasses.replace(qa.config, qa=settings))

    def breaks_words(answer: Answer) -> int:
        count = 0
        for one in answer.evidence:
            body, (start, stop) = qa.corpus.body(one.block_id), one.span
            count += bool(going_on[body[start]] or (going_on[body[stop + 1]] and stop + 2 < len(body)))
        return count

    assert sum(map(breaks_words, answer_questions(qa, QUESTIONS))) > 0
    assert sum(map(breaks_words, answer_questions(run, QUESTIONS))) == 0
