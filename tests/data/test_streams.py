"""Streams: true to the corpus, a function of (seed, index), resumable at every position."""

import hashlib
import json

import jax
import numpy as np
import pytest

from realm_jax.data.corpus import Corpus
from realm_jax.data.prepare import prepare
from realm_jax.data.questions import Questions, question_stream
from realm_jax.data.streams import ict_stream, masked_stream
from realm_jax.errors import CheckpointError, ConfigError
from realm_jax.types import NO_BLOCK, tree_rows
from tests.data.conftest import write_jsonl

ICT = {"batch_size": 8, "query_length": 24, "seed": 3}
MASKED = {"batch_size": 8, "query_length": 24, "max_masks": 6, "same_corpus": True, "seed": 3}


def questions(tmp_path):
    rows = [{"question": f"what is the capital {i}?", "answers": ["Paris"]} for i in range(13)]
    return Questions.load(write_jsonl(tmp_path / "q.jsonl", rows))


def makers(corpus, tmp_path):
    """Each stream, as a function of changes to its settings."""
    asked = questions(tmp_path)
    return {
        "ict": lambda **kw: ict_stream(corpus, **{**ICT, **kw}),
        "masked": lambda **kw: masked_stream(corpus, **{**MASKED, **kw}),
        "questions": lambda **kw: question_stream(
            asked, corpus.tokenizer, **{"batch_size": 8, "query_length": 24, "seed": 3, **kw}
        ),
    }


def take(stream, count):
    return [next(stream) for _ in range(count)]


def same(a, b):
    equal = jax.tree.map(lambda x, y: x.dtype == y.dtype and np.array_equal(x, y), a, b)
    return all(jax.tree.leaves(equal))


@pytest.mark.parametrize("name", ["ict", "masked", "questions"])
def test_a_stream_resumes_at_every_position_in_a_fresh_iterator(corpus, tmp_path, name):
    make = makers(corpus, tmp_path)[name]
    steps = 12  # the questions begin a second epoch and more in it
    stream, states, batches = make(), [], []
    for _ in range(steps):
        states.append(json.loads(json.dumps(stream.get_state())))
        batches.append(next(stream))
    for position, state in enumerate(states):
        assert jax.tree.structure(state) == jax.tree.structure(states[0])
        resumed = make()
        resumed.set_state(state)
        assert resumed.get_state() == state
        assert same(take(resumed, steps - position), batches[position:])
    stream.set_state(states[0])  # also backwards, in the same one
    assert same(next(stream), batches[0])


@pytest.mark.parametrize("name", ["ict", "masked", "questions"])
def test_seeds_give_different_streams_and_neighbours_share_nothing(corpus, tmp_path, name):
    make = makers(corpus, tmp_path)[name]
    one, again, other = (take(make(seed=seed), 6) for seed in (3, 3, 4))
    assert same(one, again)
    # A stream built as seed + epoch would show the second epoch of seed 3 as the first of seed 4.
    assert not any(same(a, b) for a in one for b in other)


@pytest.mark.parametrize("name", ["ict", "masked", "questions"])
def test_rows_of_a_batch_are_those_of_the_whole_one_at_the_same_position(corpus, tmp_path, name):
    make = makers(corpus, tmp_path)[name]
    rows = np.array([1, 2, 6])
    whole, some = make(), make(rows=rows)
    for _ in range(4):
        assert same(next(some), tree_rows(next(whole), rows))
        assert some.get_state() == whole.get_state()


@pytest.mark.parametrize("name", ["ict", "masked", "questions"])
@pytest.mark.parametrize("change", [{"seed": 4}, {"batch_size": 4}, {"query_length": 20}])
def test_a_state_of_another_recipe_is_refused(corpus, tmp_path, name, change):
    make = makers(corpus, tmp_path)[name]
    with pytest.raises(CheckpointError, match="same data and settings"):
        make(**change).set_state(make().get_state())


def test_ict_pairs_are_sentences_of_their_blocks(corpus):
    tokenizer = corpus.tokenizer
    kept = 0
    for batch in take(ict_stream(corpus, **ICT), 40):
        for b, block_id in enumerate(batch.block_ids.tolist()):
            row = batch.query.ids[b, : batch.query.length[b]]
            assert row[0] == tokenizer.cls_id and row[-1] == tokenizer.sep_id
            body = batch.blocks.body.ids[b, : batch.blocks.body.length[b]]
            whole = corpus.body(block_id)
            cut = [np.concatenate([whole[:i], whole[j:]]) for i, j in corpus.sentences(block_id)]
            fits = [
                c
                for c, (i, j) in zip(cut, corpus.sentences(block_id), strict=True)
                if np.array_equal(whole[i : min(j, i + 22)], row[1:-1])
            ]
            assert fits
            kept += np.array_equal(body, whole)
            assert np.array_equal(body, whole) or any(np.array_equal(body, c) for c in fits)
            title = corpus.gather(np.array(block_id)).title
            assert np.array_equal(batch.blocks.title.ids[b], title.ids)
    # Binomial(320, 0.1): 32 expected, standard deviation 5.4; five of them.
    assert 5 < kept < 59


def test_ict_covers_every_eligible_block_once_an_epoch(corpus):
    stream = ict_stream(corpus, **{**ICT, "batch_size": 1})
    eligible = [i for i in range(len(corpus)) if len(corpus.sentences(i)) >= 2]
    assert stream.examples == len(eligible)
    assert stream.dropped == {"one_sentence": len(corpus) - len(eligible)}
    first = [int(b.block_ids[0]) for b in take(stream, len(eligible))]
    second = [int(b.block_ids[0]) for b in take(stream, len(eligible))]
    assert sorted(first) == sorted(second) == eligible and first != second


def restored(corpus, batch, b):
    """Return the query with its targets put back, and the masked positions."""
    row = batch.query.ids[b, : batch.query.length[b]].copy()
    count = int(batch.target_weights[b].sum())
    positions = batch.target_positions[b, :count]
    assert (row[positions] == corpus.tokenizer.mask_id).all()
    assert (row == corpus.tokenizer.mask_id).sum() == count >= 1
    assert not batch.target_ids[b, count:].any() and (batch.target_weights[b, :count] == 1).all()
    row[positions] = batch.target_ids[b, :count]
    return row, positions


def test_one_salient_span_of_one_sentence_is_masked_whole(corpus):
    for batch in take(masked_stream(corpus, **MASKED), 30):
        for b, block_id in enumerate(batch.origin.tolist()):
            row, positions = restored(corpus, batch, b)
            body = corpus.body(block_id)
            matches = [
                i for i, j in corpus.sentences(block_id).tolist() if np.array_equal(body[i:j], row[1:-1])
            ]
            spans = corpus.spans(block_id)[:, :2].tolist()
            assert any([start - 1 + positions[0], start + positions[-1]] in spans for start in matches)


@pytest.mark.parametrize("masker", ["random_span", "uniform"])
def test_the_other_maskers_need_no_span(corpus, masker):
    stream = masked_stream(corpus, **MASKED, masker=masker)
    assert stream.dropped["no_salient_span"] == 0
    for batch in take(stream, 5):
        for b in range(8):
            restored(corpus, batch, b)


def test_dropped_sentences_are_counted_by_reason(corpus):
    total = corpus.manifest["counts"]["sentences"]
    sentences = [(i, a, b) for i in range(len(corpus)) for a, b in corpus.sentences(i).tolist()]
    limit, most = 14, 1
    expected = {"sentence_too_long": 0, "no_salient_span": 0, "span_too_long": 0}
    for i, a, b in sentences:
        inside = [q - p for p, q, _ in corpus.spans(i).tolist() if a <= p and q <= b]
        if b - a > limit:
            expected["sentence_too_long"] += 1
        elif not inside:
            expected["no_salient_span"] += 1
        elif min(inside) > most:
            expected["span_too_long"] += 1
    stream = masked_stream(corpus, **{**MASKED, "query_length": limit + 2, "max_masks": most})
    assert stream.dropped == expected and min(expected.values()) > 0
    assert stream.examples == total - sum(expected.values())


def test_a_masked_stream_goes_on_from_checkpoints_with_settings_that_are_gone(corpus):
    stream = masked_stream(corpus, **MASKED)
    recipe = {
        "stream": "masked",
        "corpus": corpus.content_hash,
        "query_length": 24,
        "max_masks": 6,
        "masker": "salient",
        "kinds": [0, 1, 2],
        "same_corpus": True,
        "context_sentences": 0,
        "count": stream.examples,
        "batch_size": 8,
        "seed": 3,
    }
    then = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]
    assert stream.get_state()["recipe"] == then


def test_text_of_another_corpus_has_no_origin(corpus):
    batch = next(masked_stream(corpus, **{**MASKED, "same_corpus": False}))
    assert (batch.origin == NO_BLOCK).all() and batch.origin.dtype == np.int32


def test_streams_without_an_example_say_why(corpus, tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [{"title": "a", "text": "nothing here."}])
    prepare([path], tmp_path / "c", tokenizer=corpus.path)
    bare = Corpus.open(tmp_path / "c")
    with pytest.raises(ConfigError, match="'no_salient_span': 1"):
        masked_stream(bare, **MASKED)
    with pytest.raises(ConfigError, match="'one_sentence': 1"):
        ict_stream(bare, **ICT)
    with pytest.raises(ConfigError, match="batch_size"):
        ict_stream(corpus, **{**ICT, "batch_size": 0})
