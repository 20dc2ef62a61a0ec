"""A prepared corpus: what is gathered is what the text says."""

import json
import shutil
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from realm_jax.data.corpus import Corpus
from realm_jax.data.prepare import prepare
from realm_jax.errors import CorpusError
from realm_jax.text.answers import exact_match
from realm_jax.types import NO_BLOCK
from tests.data.conftest import records, write_jsonl


def test_rows_are_the_encoded_texts_in_their_frame(corpus):
    tokenizer = corpus.tokenizer
    blocks = corpus.gather(np.arange(len(corpus)))
    for i in range(len(corpus)):
        text = corpus.text(i)
        title = tokenizer.encode(text.title, special_tokens=False).ids[: corpus.title_width - 2]
        body = tokenizer.encode(text.body, special_tokens=False).ids
        assert blocks.title.ids[i, : blocks.title.length[i]].tolist() == [
            tokenizer.cls_id,
            *title,
            tokenizer.sep_id,
        ]
        assert blocks.body.ids[i, : blocks.body.length[i]].tolist() == [*body, tokenizer.sep_id]
        assert not blocks.body.ids[i, blocks.body.length[i] :].any()
        assert np.array_equal(corpus.body(i), blocks.body.ids[i, : blocks.body.length[i]])
    assert blocks.title.ids.dtype == blocks.body.ids.dtype == blocks.body.length.dtype == np.int32
    assert np.array_equal(corpus.lengths(), blocks.body.length)


def test_blocks_make_up_their_documents(corpus):
    texts: dict[str, list[str]] = {}
    for i in range(len(corpus)):
        texts.setdefault(corpus.text(i).document_id, []).append(corpus.text(i).body)
    for record in records(60):
        parts = texts[str(record["id"])]
        assert " ".join(parts) == record["text"]
        assert all(part[-1] in ".!" for part in parts)  # whole sentences


def test_sentences_cover_the_body(corpus):
    for i in range(len(corpus)):
        sentences = corpus.sentences(i)
        assert sentences.dtype == np.int32
        assert sentences[0, 0] == 0 and sentences[-1, 1] == corpus.lengths()[i] - 1
        assert np.array_equal(sentences[1:, 0], sentences[:-1, 1])


def test_spans_say_what_was_tagged(corpus):
    kinds = corpus.manifest["kinds"]
    found = {
        (kinds[kind], *corpus.answer_texts([(i, start, stop - 1)]))
        for i in range(len(corpus))
        for start, stop, kind in corpus.spans(i).tolist()
    }
    assert {("entity", "Paris"), ("entity", "Dr. Jones"), ("date", "4 July 1953"), ("date", "1907")} <= found
    assert ("number", "9,500") in found
    for i in range(len(corpus)):
        for start, stop, _ in corpus.spans(i).tolist():
            assert ((corpus.sentences(i)[:, 0] <= start) & (stop <= corpus.sentences(i)[:, 1])).any()


def test_answer_text_takes_inclusive_ends_and_keeps_the_original_spelling(corpus):
    i = next(i for i in range(len(corpus)) if "caf\u00e9-lined" in corpus.text(i).body)
    body, tokenizer = corpus.text(i).body, corpus.tokenizer
    offsets = tokenizer.encode(body, special_tokens=False).offsets
    begin = body.index("caf\u00e9")
    start, stop = np.flatnonzero((offsets[:, 0] >= begin) & (offsets[:, 1] <= begin + 4))[[0, -1]]
    to_sep = int(corpus.lengths()[i]) - 1
    assert corpus.answer_texts([(i, int(start), int(stop)), (i, 0, to_sep)]) == ["caf\u00e9", body]


@given(npst.arrays(np.int32, npst.array_shapes(max_dims=3, max_side=4), elements=st.integers(-1, 59)))
@settings(max_examples=40, deadline=None)
def test_gather_takes_any_shape_and_the_null_block(corpus, ids):
    blocks = corpus.gather(ids)
    assert blocks.title.ids.shape == (*ids.shape, corpus.title_width)
    assert blocks.body.ids.shape == (*ids.shape, corpus.body_width)
    for where, block_id in np.ndenumerate(ids):
        length = blocks.body.length[where]
        row = blocks.body.ids[where]
        if block_id == NO_BLOCK:
            assert row[:length].tolist() == [corpus.tokenizer.sep_id] and blocks.title.length[where] == 2
            assert blocks.title.ids[where][:2].tolist() == [corpus.tokenizer.cls_id, corpus.tokenizer.sep_id]
        else:
            assert np.array_equal(row[:length], corpus.body(int(block_id)))
        assert not row[length:].any()


@pytest.mark.parametrize("wrong", [-2, 10**6])
def test_gather_refuses_ids_of_another_corpus(corpus, wrong):
    with pytest.raises(CorpusError, match="Block ids"):
        corpus.gather(np.array([0, wrong]))


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_an_answer_keeps_its_last_accent(corpus, tmp_path, form):
    text = unicodedata.normalize(form, "He was called Pel\u00e9 once.")
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps({"title": "", "text": text}))
    prepare([path], tmp_path / "c", tokenizer=corpus.path)
    accented = Corpus.open(tmp_path / "c")
    first, last = (
        len(accented.tokenizer.encode(part).ids) for part in ("He was called", "He was called Pele")
    )
    assert exact_match(accented.answer_texts([(0, first, last - 1)])[0], ["Pel\u00e9"])


def test_what_is_gathered_can_be_changed_without_changing_the_corpus(corpus):
    blocks = corpus.gather(np.array([0]))
    blocks.body.ids[:] = 0
    assert corpus.gather(np.array([0])).body.ids.any()


def test_duplicates_point_to_the_first(corpus, tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [{"title": title, "text": "One here."} for title in "aba"])
    prepare([path], tmp_path / "c", tokenizer=corpus.path)
    again = Corpus.open(tmp_path / "c")
    assert again.duplicate_of.tolist() == [0, 1, 0] and again.duplicate_of.dtype == np.int32
    first, other, twin = again.arrays["uids"].tolist()
    assert first == twin != other


def test_special_tokens_in_a_text_are_text(corpus, tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [{"title": "[SEP]", "text": "A [MASK] and [PAD] [SEP] here."}])
    prepare([path], tmp_path / "c", tokenizer=corpus.path)
    again = Corpus.open(tmp_path / "c")
    specials = {again.tokenizer.mask_id, again.tokenizer.pad_id, again.tokenizer.sep_id}
    assert not specials & set(again.body(0)[:-1].tolist())
    assert again.answer_texts([(0, 0, 99)]) == ["A [MASK] and [PAD] [SEP] here."]


def test_a_word_longer_than_the_budget_is_cut_and_still_answers(corpus, tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [{"title": "", "text": "ab " + "skn" * 16 + " cd"}])
    prepare([path], tmp_path / "c", tokenizer=corpus.path, max_block_tokens=12)
    again = Corpus.open(tmp_path / "c")
    assert len(again) > 2 and (again.lengths() <= 12).all()
    pieces = [again.text(i).body for i in range(len(again))]
    assert "".join("".join(pieces).split()) == "ab" + "skn" * 16 + "cd"
    assert again.answer_texts([(1, 0, 0)])[0]  # tokens of the inside of a word, spelled out


documents = st.lists(
    st.text(st.sampled_from("aB1 .,!?\n\u00e9\u0301\u4e2d\x00\u200b-'"))
    | st.text(st.characters(codec="utf-8")),
    min_size=1,
    max_size=5,
)


@given(documents, st.integers(3, 12))
@settings(max_examples=60, deadline=None)
def test_any_text_survives(corpus, tmp_path_factory, texts, width):
    folder = tmp_path_factory.mktemp("any")
    rows: list[dict[str, object]] = [{"title": "t", "text": text} for text in [*texts, "Paris is here."]]
    source = write_jsonl(folder / "a.jsonl", rows)
    prepare([source], folder / "c", tokenizer=corpus.path, max_block_tokens=width)
    again = Corpus.open(folder / "c")
    tokenizer = again.tokenizer
    every = [
        token
        for text in [*texts, "Paris is here."]
        if text.strip()
        for token in tokenizer.encode(text, special_tokens=False).ids.tolist()
    ]
    stored = [token for i in range(len(again)) for token in again.body(i)[:-1].tolist()]
    assert stored == every  # no token lost, none added, in order
    for i in range(len(again)):
        body = again.body(i)[:-1]
        if not tokenizer.is_continuation[body[0]] and not (
            i + 1 < len(again) and tokenizer.is_continuation[again.body(i + 1)[0]]
        ):
            assert np.array_equal(tokenizer.encode(again.text(i).body, special_tokens=False).ids, body)


def test_span_pool_holds_each_span_once(corpus, monkeypatch):
    pool = corpus.span_pool()
    distinct = {
        tuple(corpus.body(i)[a:b].tolist())
        for i in range(len(corpus))
        for a, b, _ in corpus.spans(i).tolist()
    }
    assert len(pool) == len(distinct)
    monkeypatch.setattr("realm_jax.data.corpus.POOL_BLOCKS", 2)
    assert len(corpus.span_pool()) < len(pool)


def test_folders_that_are_no_corpus(corpus, tmp_path):
    with pytest.raises(CorpusError, match="needs a prepared corpus.*--corpus"):
        Corpus.open("")
    (tmp_path / "index").mkdir()
    for other in ('{"format": 1, "version": 3}', "[1]"):  # what else has a manifest, such as an index version
        (tmp_path / "index" / "manifest.json").write_text(other)
        with pytest.raises(CorpusError, match="that of something else"):
            Corpus.open(tmp_path / "index")
    with pytest.raises(CorpusError, match="manifest.json"):
        Corpus.open(tmp_path)

    def damaged(name, change):
        folder = tmp_path / name
        shutil.copytree(corpus.path, folder)
        change(folder)
        return folder

    def cut(folder):
        (folder / "bodies.bin").write_bytes((folder / "bodies.bin").read_bytes()[:-2])

    def newer(folder):
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))

    with pytest.raises(CorpusError, match="bodies.bin of this corpus has"):
        Corpus.open(damaged("cut", cut))
    with pytest.raises(CorpusError, match="no such file"):
        Corpus.open(damaged("lost", lambda folder: (folder / "uids.bin").unlink()))
    with pytest.raises(CorpusError, match="format"):
        Corpus.open(damaged("newer", newer))
    swapped = damaged(
        "other", lambda folder: (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
    )
    with pytest.raises(CorpusError, match="vocabulary"):
        Corpus.open(swapped).tokenizer  # noqa: B018 - the property reads the file
