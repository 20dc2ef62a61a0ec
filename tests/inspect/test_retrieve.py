"""Search by model and by words, and the candidates that are read."""

import numpy as np
import pytest

from realm_jax.errors import ConfigError
from realm_jax.inspect.loaded import LoadedRun, open_run
from realm_jax.inspect.retrieve import read_candidates, retrieve, search, text_rows
from realm_jax.types import NO_BLOCK, Search

TEXTS = ["capital of Peru", "rivers of Kenya", "Tokyo", "many people moved", "Dublin?"]


def test_the_model_finds_the_blocks_of_largest_inner_product(realm: LoadedRun):
    queries = np.asarray(realm.embed_queries(realm.params, text_rows(realm, TEXTS[:2])))
    expected = queries @ realm.version.embeddings.T
    found = search(realm, TEXTS[:2], retriever="model", k=12)
    np.testing.assert_allclose(found.scores, -np.sort(-expected, axis=1), rtol=1e-4)
    for row, ids in enumerate(found.block_ids):
        np.testing.assert_allclose(expected[row, ids], found.scores[row], rtol=1e-4)


def test_texts_searched_together_find_what_they_find_alone(realm: LoadedRun):
    together = search(realm, TEXTS, retriever="model", k=5)
    for row, text in enumerate(TEXTS):
        alone = search(realm, [text], retriever="model", k=5)
        np.testing.assert_array_equal(alone.block_ids[0], together.block_ids[row])
        np.testing.assert_allclose(alone.scores[0], together.scores[row], rtol=1e-6)


def test_the_size_of_the_batch_does_not_matter(realm: LoadedRun, tiny_runs):
    many = search(open_run(tiny_runs.realm, batch_size=8), TEXTS, retriever="model", k=5)
    np.testing.assert_allclose(many.scores, search(realm, TEXTS, retriever="model", k=5).scores, rtol=1e-5)


def test_words_find_the_block_that_holds_them(realm: LoadedRun):
    (score, block_id, block), *_ = retrieve(realm, "Which land has Tokyo?", retriever="bm25", k=3)
    assert block.title == "Japan" and score > 0 and realm.corpus.text(block_id) == block


def test_the_null_retriever_finds_nothing(realm: LoadedRun):
    assert (search(realm, TEXTS, retriever="null", k=3).block_ids == NO_BLOCK).all()
    assert retrieve(realm, "Peru", retriever="null") == []


def test_an_unknown_retriever_is_refused(realm: LoadedRun):
    with pytest.raises(ConfigError, match="model, bm25, null"):
        search(realm, TEXTS, retriever="magic", k=1)  # type: ignore[arg-type]


def test_candidates_keep_their_scores_and_rows_without_any_read_the_null_block(realm: LoadedRun):
    found = Search(
        scores=np.array([[3.0, 2.0, 1.0], [-np.inf] * 3], np.float32),
        block_ids=np.array([[5, 5, 7], [NO_BLOCK] * 3], np.int32),
    )
    candidates, scores = read_candidates(realm, found, count=3)
    assert candidates.block_ids.tolist() == [[5, 7, NO_BLOCK], [NO_BLOCK] * 3]
    assert candidates.is_valid.tolist() == [[True, True, False], [True, False, False]]
    assert candidates.is_null.tolist() == [[False] * 3, [True, False, False]]
    assert scores.tolist() == [[3.0, 1.0, 0.0], [0.0, 0.0, 0.0]]


def test_a_mask_in_a_text_is_the_special_token(realm: LoadedRun):
    rows = text_rows(realm, ["Peru [MASK]"])
    assert realm.corpus.tokenizer.mask_id in rows.ids[0]
