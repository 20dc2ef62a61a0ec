"""Question sets, and where answers stand in blocks."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realm_jax.data.questions import (
    Question,
    Questions,
    find_occurrences,
    question_rows,
    question_stream,
    regex_occurrences,
)
from realm_jax.errors import CheckpointError, CorpusError
from realm_jax.text.regex import RegexMatcher
from realm_jax.types import NO_BLOCK
from tests.data.conftest import answer_occurrences, write_jsonl
from tests.shared_data import shared_path

GOOD = {
    "question": "where?",
    "answers": ["Paris", "Paris, France"],
    "id": "a1",
    "gold_passage_ids": [3, "x"],
    "source": "mine",
}


def question(text):
    return Question("", text, ("a",))


def test_questions_are_read_with_all_their_fields(tmp_path):
    rows = [GOOD, {"question": "when?", "answers": ["19.."], "is_regex": True}]
    asked = Questions.load(write_jsonl(tmp_path / "q.jsonl", rows))
    assert len(asked) == 2 and asked.bad_counts == {}
    assert asked[0]._asdict() == {
        **GOOD,
        "answers": ("Paris", "Paris, France"),
        "is_regex": False,
        "gold_passage_ids": ("3", "x"),
    }
    assert asked[1].is_regex and asked[1].id.endswith("q.jsonl:2")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("{", "broken_json"),
        ("[]", "not_an_object"),
        ('{"answers": ["a"]}', "missing_field"),
        ('{"question": "a"}', "missing_field"),
        ('{"question": 5, "answers": ["a"]}', "wrong_type"),
        ('{"question": "a", "answers": "a"}', "wrong_type"),
        ('{"question": "a", "answers": [1]}', "wrong_type"),
        ('{"question": "a", "answers": ["a"], "is_regex": 1}', "wrong_type"),
        ('{"question": "a", "answers": ["a"], "gold_passage_ids": 1}', "wrong_type"),
        ('{"question": " ", "answers": ["a"]}', "empty_text"),
        ('{"question": "a", "answers": ["", " "]}', "empty_text"),
        ('{"question": "a", "answers": ["b", "(c"], "is_regex": true}', "broken_pattern"),
        ('{"question": "a", "answers": ["(?a)c"], "is_regex": true}', "broken_pattern"),
        ('{"question": "a", "answers": ["a"], "gold_passage_ids": [[3]]}', "wrong_type"),
        ('{"question": "a", "answers": ["a"], "id": 1.5}', "wrong_type"),
        ('{"question": "a", "answers": ["a"], "source": "\\ud800"}', "invalid_utf8"),
    ],
)
def test_bad_questions_are_left_out_with_file_and_line(tmp_path, record, reason):
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + record + "\n")
    asked = Questions.load(path)
    assert len(asked) == 1 and asked.bad_counts == {reason: 1}
    assert str(asked.bad_records[0]).startswith(f"{path}:2: {reason}")
    assert asked.left_out() == [f"left out: {asked.bad_records[0]}", f"questions left out: 1 {reason}"]


def test_what_is_null_is_absent(tmp_path):
    row = {"id": None, "source": None, "gold_passage_ids": None, "is_regex": None, "answers": None}
    path = write_jsonl(tmp_path / "q.jsonl", [{**row, "question": "a", "answer": ["b"]}])
    asked = Questions.load(path)
    assert list(asked) == [Question(f"{path}:1", "a", ("b",))] and asked.left_out() == []


def test_a_set_without_questions_is_refused(tmp_path):
    with pytest.raises(CorpusError, match="jsonl"):
        Questions.load(tmp_path / "absent.jsonl")
    (tmp_path / "q.jsonl").write_text("7\n")
    with pytest.raises(CorpusError, match="q.jsonl:1: not_an_object"):
        Questions.load(tmp_path / "q.jsonl")


@pytest.mark.parametrize(
    "name",
    ["wiki_nq_mini/qa_dev.jsonl", "open_qa/curated_trec_test.jsonl", "wiki_nq_mini/qa_train_extra.jsonl.gz"],
)
def test_public_sets_are_read_whole(name):
    asked = Questions.load(shared_path("data", name))
    assert len(asked) > 300 and asked.bad_counts == {}


def test_rows_are_framed_and_cut(corpus):
    asked = Questions((question("capital of france"), question("the " * 50)), {}, ())
    rows = question_rows(asked, corpus.tokenizer, query_length=10)
    tokenizer = corpus.tokenizer
    expected = [tokenizer.cls_id, *tokenizer.encode("capital of france").ids, tokenizer.sep_id]
    assert rows.ids[0, : rows.length[0]].tolist() == expected
    assert rows.length[1] == 10 and rows.ids[1, -1] == tokenizer.sep_id


def test_the_stream_names_the_questions_it_gives(corpus, tmp_path):
    path = write_jsonl(
        tmp_path / "q.jsonl", [{"question": f"capital {i}", "answers": ["a"]} for i in range(7)]
    )
    asked = Questions.load(path)
    rows = question_rows(asked, corpus.tokenizer, query_length=12)
    stream = question_stream(asked, corpus.tokenizer, batch_size=7, query_length=12, seed=0)
    for _ in range(3):
        batch = next(stream)
        assert sorted(batch.numbers.tolist()) == list(range(7))
        assert np.array_equal(batch.question.ids, rows.ids[batch.numbers])


def test_a_stream_does_not_go_on_with_other_answers(corpus, tmp_path):
    row = {"id": "1", "question": "capital"}
    one, other = (
        Questions.load(write_jsonl(tmp_path / f"{a}.jsonl", [{**row, "answers": [a]}])) for a in ("a", "b")
    )
    sizes = {"batch_size": 1, "query_length": 12, "seed": 0}
    position = question_stream(one, corpus.tokenizer, **sizes).get_state()
    question_stream(one, corpus.tokenizer, **sizes).set_state(position)
    with pytest.raises(CheckpointError):
        question_stream(other, corpus.tokenizer, **sizes).set_state(position)


def block_with(corpus, text):
    return next(i for i in range(len(corpus)) if text in corpus.text(i).body)


def texts_of(corpus, found, b, k, block_id):
    return corpus.answer_texts(
        [
            (block_id, int(i), int(j))
            for i, j, real in zip(found.starts[b, k], found.stops[b, k], found.mask[b, k], strict=True)
            if real
        ]
    )


def test_answers_are_found_as_whole_words_whatever_their_case(corpus):
    paris, lima = block_with(corpus, "is Paris."), block_with(corpus, "is Lima.")
    ids = np.array([[paris, NO_BLOCK, lima], [lima, paris, NO_BLOCK]], np.int32)
    found = answer_occurrences(corpus, ids, [["PARIS", "Par", "pari"], ["is Lima", "Lima"]], max_spans=8)
    assert found.has_answer.tolist() == [[True, False, False], [True, False, False]]
    assert set(texts_of(corpus, found, 0, 0, paris)) == {"Paris"}
    assert set(texts_of(corpus, found, 1, 0, lima)) == {"Lima", "is Lima"}
    assert found.mask[0, 0].sum() == corpus.text(paris).body.count("Paris")
    assert found.starts.dtype == found.stops.dtype == np.int32


def test_has_answer_does_not_depend_on_how_many_spans_are_kept(corpus):
    ids = np.array([[block_with(corpus, "is Paris.")]])
    found = answer_occurrences(corpus, ids, [["paris"]], max_spans=1)
    assert found.has_answer.all() and found.mask.shape == (1, 1, 1) and found.mask.all()


def test_unknown_words_match_nothing(corpus):
    ids = np.arange(len(corpus))[None]
    assert not answer_occurrences(corpus, ids, [["\u4e2d\u6587", ""]], max_spans=2).has_answer.any()


cells = st.integers(0, 4)


@given(
    st.lists(
        st.lists(st.lists(cells, min_size=6, max_size=6), min_size=2, max_size=2), min_size=1, max_size=3
    ),
    st.lists(st.lists(st.lists(cells, min_size=1, max_size=14), max_size=3), min_size=3, max_size=3),
    st.integers(1, 4),
)
@settings(deadline=None)
def test_occurrences_equal_a_plain_search(bodies, answers, max_spans):
    # Token 4 goes on a word, token 0 is unknown.
    matrix = np.array(bodies, np.int32)
    runs = [[np.array(run, np.int32) for run in row] for row in answers[: len(bodies)]]
    goes_on = np.array([False, False, False, False, True])
    found = find_occurrences(matrix, runs, max_spans=max_spans, is_continuation=goes_on, unk_id=0)
    for b, row in enumerate(bodies):
        for k, body in enumerate(row):
            expected = sorted(
                {
                    (i, i + len(run) - 1)
                    for run in answers[b]
                    for i in range(6)
                    if body[i : i + len(run)] == run
                    and 0 not in run
                    and run[0] != 4
                    and (i + len(run) == 6 or body[i + len(run)] != 4)
                }
            )
            count = int(found.mask[b, k].sum())
            got = list(zip(found.starts[b, k].tolist(), found.stops[b, k].tolist(), strict=True))
            assert got[:count] == expected[:max_spans] and count == min(len(expected), max_spans)
            assert not found.mask[b, k, count:].any()
            assert found.has_answer[b, k] == bool(expected)


def test_regular_expressions_are_found_in_the_text(corpus):
    block = block_with(corpus, "Dr. Jones went to Paris on 4 July")
    ids = np.array([[block, NO_BLOCK]])
    with RegexMatcher() as matcher:
        found = regex_occurrences(
            corpus, ids, [[r"\d+ july \d{4}", r"no such"]], matcher=matcher, max_spans=3
        )
    got = texts_of(corpus, found, 0, 0, block)
    assert got and all(text.startswith("4 July 19") for text in got)
    assert found.has_answer.tolist() == [[True, False]]


def test_no_name_of_a_set_says_which_option_names_one():
    with pytest.raises(CorpusError, match="no name of one.*--train-questions"):
        Questions.load("")
