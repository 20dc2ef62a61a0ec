"""BM25: scores by its formula, order, and what is never found."""

import json
import math
from collections import Counter

import numpy as np
import pytest

from realm_jax.data.corpus import Corpus
from realm_jax.data.prepare import prepare
from realm_jax.index.lexical import LexicalIndex, terms
from realm_jax.types import NO_BLOCK

DOCUMENTS = [
    ("Peru", "Lima is the capital of Peru. Llamas live in Peru."),
    ("Cuba", "Havana is the capital of Cuba."),
    ("Rivers", "The Amazon rises in Peru and flows far, far away to the sea."),
    ("Twin", "An obscure zebra."),
    ("Twin", "An obscure zebra."),
]
K1, B = 0.9, 0.4


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    rows = [{"id": i, "title": title, "text": text} for i, (title, text) in enumerate(DOCUMENTS)]
    (folder / "docs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare([folder / "docs.jsonl"], folder / "out", vocab_size=200, workers=1)
    return Corpus.open(folder / "out")


@pytest.fixture(scope="module")
def index(corpus: Corpus) -> LexicalIndex:
    return LexicalIndex.build(corpus)


def bm25(query: str) -> np.ndarray:
    """Score all documents by the formula, with the idf log(1 + (N - n + 0.5) / (n + 0.5))."""
    bags = [Counter(terms(f"{title} {text}")) for title, text in DOCUMENTS]
    mean = sum(sum(bag.values()) for bag in bags) / len(bags)
    scores = np.zeros(len(bags))
    for term in terms(query):
        n = sum(term in bag for bag in bags)
        idf = math.log(1 + (len(bags) - n + 0.5) / (n + 0.5))
        for i, bag in enumerate(bags):
            tf, length = bag[term], sum(bag.values())
            scores[i] += idf * tf / (tf + K1 * (1 - B + B * length / mean)) if tf else 0.0
    return scores


@pytest.mark.parametrize("query", ["capital of Peru", "PERU", "amazon far far", "zebra in Cuba"])
def test_scores_follow_the_formula(index, query):
    found = index.search_texts([query], 5)
    expected = bm25(query)
    order = [i for i in np.lexsort((np.arange(5), -expected)) if expected[i] > 0]
    assert found.block_ids[0, : len(order)].tolist() == order
    np.testing.assert_allclose(found.scores[0, : len(order)], expected[order], rtol=1e-5)
    assert (found.block_ids[0, len(order) :] == NO_BLOCK).all()
    assert np.isneginf(found.scores[0, len(order) :]).all()


def test_equal_scores_come_in_order_of_ids_also_where_k_cuts_them(index):
    assert index.search_texts(["zebra"], 2).block_ids.tolist() == [[3, 4]]
    assert index.search_texts(["zebra"], 1).block_ids.tolist() == [[3]]


@pytest.mark.parametrize("query", ["", "the of and", "xylophone", "??"])
def test_nothing_is_found_for_a_text_without_known_words(index, query):
    found = index.search_texts([query], 3)
    assert (found.block_ids == NO_BLOCK).all() and np.isneginf(found.scores).all()


def test_a_smaller_k_gives_the_beginning_of_a_larger_one(index):
    large, small = (index.search_texts(["capital of Peru", "sea"], k) for k in (5, 2))
    np.testing.assert_array_equal(large.block_ids[:, :2], small.block_ids)
    np.testing.assert_array_equal(large.scores[:, :2], small.scores)


def test_k_may_exceed_the_corpus(index):
    assert len(index) == len(DOCUMENTS)
    found = index.search_texts(["Peru"], 50)
    assert found.block_ids.shape == (1, 50) and (found.block_ids[0] >= 0).sum() == 2
