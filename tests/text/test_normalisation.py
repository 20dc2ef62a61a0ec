"""Cased vocabularies: what the files beside them say, and that corpora, runs and exports keep it."""

import json
import pickle

import numpy as np
import pytest

from realm_jax.cli import main
from realm_jax.data.corpus import Corpus
from realm_jax.errors import CorpusError
from realm_jax.text.normalisation import UNCASED, Normalisation, read_normalisation
from realm_jax.text.tokenizer import SPECIAL_TOKENS, Tokenizer
from realm_jax.text.word_cache import WordCache
from tests.models.small import plain_config, write

CASED = Normalisation(lowercase=False)
WORDS = (
    *SPECIAL_TOKENS,
    "Paris",
    "paris",
    "caf\u00e9",
    "cafe",
    "\u4e2d",
    "\u56fd",
    "\u4e2d\u56fd",
    "is",
    "##.",
)
TEXT = "Paris paris Caf\u00e9 caf\u00e9 \u4e2d\u56fd"


def pieces(normalisation):
    tokenizer = Tokenizer(WORDS, normalisation)
    return [tokenizer.vocabulary[i] for i in tokenizer.encode(TEXT).ids]


@pytest.mark.parametrize(
    "normalisation, expected",
    [
        (UNCASED, ["paris", "paris", "cafe", "cafe", "\u4e2d", "\u56fd"]),
        (CASED, ["Paris", "paris", "[UNK]", "caf\u00e9", "\u4e2d", "\u56fd"]),
        (
            Normalisation(strip_accents=False),
            ["paris", "paris", "caf\u00e9", "caf\u00e9", "\u4e2d", "\u56fd"],
        ),
        (Normalisation(False, True), ["Paris", "paris", "[UNK]", "cafe", "\u4e2d", "\u56fd"]),
        (Normalisation(split_ideographs=False), ["paris", "paris", "cafe", "cafe", "\u4e2d\u56fd"]),
    ],
)
def test_texts_are_normalised_as_asked(normalisation, expected):
    assert pieces(normalisation) == expected


def test_it_is_part_of_a_tokenizer_wherever_that_goes(tmp_path):
    tokenizer, uncased = Tokenizer(WORDS, CASED), Tokenizer(WORDS)
    assert tokenizer.content_hash != uncased.content_hash
    tokenizer.save(tmp_path / "vocab.txt")
    for other in (Tokenizer.load(tmp_path / "vocab.txt"), pickle.loads(pickle.dumps(tokenizer))):
        assert other.normalisation == CASED and other.content_hash == tokenizer.content_hash
        np.testing.assert_array_equal(other.encode(TEXT).ids, tokenizer.encode(TEXT).ids)
    encoded = WordCache(tokenizer).encode([TEXT, "paris Paris."])
    expected = [e.ids for e in tokenizer.encode_batch([TEXT, "paris Paris."], special_tokens=False)]
    np.testing.assert_array_equal(encoded.ids, np.concatenate(expected))
    (tmp_path / "plain").mkdir()
    uncased.save(tmp_path / "plain/vocab.txt")  # nothing to say: one file, as ever
    assert [path.name for path in (tmp_path / "plain").iterdir()] == ["vocab.txt"]


def test_the_settings_have_the_last_word_and_the_tokenizer_the_one_before(tmp_path):
    assert read_normalisation(tmp_path) == UNCASED
    normalizer = {"type": "BertNormalizer", "lowercase": False, "handle_chinese_chars": False}
    model = {"type": "WordPiece", "vocab": {word: i for i, word in enumerate(WORDS)}}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"normalizer": normalizer, "model": model}))
    assert read_normalisation(tmp_path) == Normalisation(False, None, False)
    assert Tokenizer.load(tmp_path / "tokenizer.json").normalisation == Normalisation(False, None, False)
    (tmp_path / "tokenizer_config.json").write_text('{"strip_accents": true, "model_max_length": 512}')
    assert read_normalisation(tmp_path) == Normalisation(False, True, False)
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true, "strip_accents": true}')
    assert read_normalisation(tmp_path) == Normalisation(True, None, False)


@pytest.mark.parametrize("content", ["[1]", "{", '{"do_lower_case": "no"}'])
def test_settings_that_cannot_be_read_are_named(tmp_path, content):
    Tokenizer(WORDS).save(tmp_path / "vocab.txt")
    (tmp_path / "tokenizer_config.json").write_text(content)
    with pytest.raises(CorpusError, match="say how texts are normalised"):
        Tokenizer.load(tmp_path / "vocab.txt")


def test_a_cased_model_stays_cased_from_import_to_export(tmp_path, capsys):
    """By the commands: the run's vocabulary, the corpus prepared with it, and what is exported."""
    model, run, corpus = tmp_path / "model", tmp_path / "run", tmp_path / "corpus"
    write("BertModel", plain_config(pooling="cls") | {"vocab_size": len(WORDS)}, model)
    Tokenizer(WORDS, CASED).save(model / "vocab.txt")
    assert main(["import", str(model), "--workdir", str(run)]) == 0
    assert Tokenizer.load(run / "vocab.txt").normalisation == CASED
    source = tmp_path / "texts.jsonl"
    lines = [{"title": "paris", "text": f"Paris is {i}. Paris paris."} for i in range(600)]
    source.write_text("\n".join(map(json.dumps, lines)))
    prepare = [
        "prepare",
        str(source),
        "--out",
        str(corpus),
        "--max-block-tokens",
        "32",
        "--title-tokens",
        "8",
    ]
    assert main([*prepare, "--tokenizer", str(run), "--workers", "2"]) == 0
    assert main([*prepare, "--tokenizer", str(corpus), "--overwrite"]) == 0  # its own settings are in no way
    opened = Corpus.open(corpus)
    ids = np.asarray(opened.arrays["bodies"])[0].tolist()
    assert {WORDS.index("Paris"), WORDS.index("paris")} <= set(ids)
    out = tmp_path / "out"
    assert main(["export", str(run), "--out", str(out)]) == 0
    assert json.loads((out / "tokenizer_config.json").read_text())["do_lower_case"] is False
    uncased = tmp_path / "uncased"
    Tokenizer(WORDS).save(tmp_path / "vocab.txt")
    assert main([*prepare[:2], "--out", str(uncased), "--tokenizer", str(tmp_path / "vocab.txt")]) == 0
    assert main(["retrieve", str(run), "--corpus", str(uncased), "Paris"]) == 2
    assert "corpora of its own vocabulary" in capsys.readouterr().err


def test_no_vocabulary_is_trained_beside_the_settings_of_another(tmp_path, capsys):
    (tmp_path / "a.jsonl").write_text('{"title": "a", "text": "b c d"}')
    command = ["vocabulary", str(tmp_path / "a.jsonl"), "--size", "50", "--out", str(tmp_path / "vocab.txt")]
    cased = {"normalizer": {"type": "BertNormalizer", "lowercase": False}}
    for name, content in (("tokenizer_config.json", {"do_lower_case": False}), ("tokenizer.json", cased)):
        (tmp_path / name).write_text(json.dumps(content))
        assert main(command) == 2
        assert "says otherwise" in capsys.readouterr().err and not (tmp_path / "vocab.txt").exists()
        (tmp_path / name).unlink()
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    assert main(command) == 0
