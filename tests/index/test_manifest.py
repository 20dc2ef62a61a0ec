"""The manifest's round trip, and a measurement of recall that cannot be talked into a pass."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realm_jax.errors import IndexFault, RecallError
from realm_jax.index.exact import ExactIndex
from realm_jax.index.manifest import IndexManifest, check_recall, measure_recall
from realm_jax.types import NO_BLOCK, Search
from tests.index.fake import brute_force, clustered

MANIFEST = IndexManifest(
    version=500,
    corpus_hash="c0ffee",
    count=3,
    dimension=2,
    engine="scann",
    settings={"leaves": 0},
    recall=0.975,
    recall_k=10,
    recall_sample=256,
)
EMBEDDINGS, QUERIES = clustered(60, dimension=8), clustered(40, dimension=8, seed=1)


class Answers:
    """An index that returns what it is told to, whatever is asked."""

    def __init__(self, block_ids, scores=np.inf):
        self._ids, self._scores = np.asarray(block_ids, np.int32), scores

    def __len__(self):
        return len(EMBEDDINGS)

    def search(self, query_embeddings, k):
        scores = np.broadcast_to(np.float32(self._scores), self._ids.shape)
        return Search(scores=scores[:, :k], block_ids=self._ids[:, :k])


def test_round_trip():
    assert IndexManifest.from_json(MANIFEST.to_json()) == MANIFEST


def broken(**changes):
    return json.dumps({k: v for k, v in (json.loads(MANIFEST.to_json()) | changes).items() if v is not None})


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "3", "{}", broken(format=2), broken(count=None), broken(colour="red")),
        *(broken(recall="0.975"), broken(recall=True), broken(shards=3), broken(shards=["4"])),
    ],
)
def test_what_is_no_manifest_is_refused(text):
    with pytest.raises(IndexFault, match="Build the index again"):
        IndexManifest.from_json(text)


def test_exact_search_has_recall_one():
    assert measure_recall(ExactIndex(EMBEDDINGS), EMBEDDINGS, QUERIES, k=10) == 1.0


def test_k_beyond_the_blocks_measures_all_of_them():
    assert measure_recall(ExactIndex(EMBEDDINGS), EMBEDDINGS, QUERIES, k=1000) == 1.0


@settings(deadline=None)
@given(missing=st.integers(0, 5))
def test_each_missing_neighbour_costs_its_share(missing):
    _, ids = brute_force(QUERIES, EMBEDDINGS, 60)
    found = np.concatenate([ids[:, : 5 - missing], ids[:, 5 : 5 + missing]], axis=1)
    assert measure_recall(Answers(found), EMBEDDINGS, QUERIES, k=5) == pytest.approx(1 - missing / 5)


def test_the_truth_is_searched_in_parts(monkeypatch):
    _, ids = brute_force(QUERIES, EMBEDDINGS, 5)
    monkeypatch.setattr("realm_jax.index.manifest.ROWS_AT_ONCE", 7)
    assert measure_recall(Answers(ids), EMBEDDINGS, QUERIES, k=5) == 1.0
    assert measure_recall(Answers(ids[:, 1:]), EMBEDDINGS, QUERIES, k=4) < 1.0


def test_order_does_not_matter():
    _, ids = brute_force(QUERIES, EMBEDDINGS, 5)
    assert measure_recall(Answers(ids[:, ::-1]), EMBEDDINGS, QUERIES, k=5) == 1.0


def test_a_neighbour_found_twice_counts_once():
    nearest = brute_force(QUERIES, EMBEDDINGS, 1)[1]
    assert measure_recall(Answers(np.repeat(nearest, 5, axis=1)), EMBEDDINGS, QUERIES, k=5) == 0.2


def test_padding_is_not_found():
    ids = np.full((len(QUERIES), 5), NO_BLOCK)
    assert measure_recall(Answers(ids), EMBEDDINGS, QUERIES, k=5) == 0.0


def test_the_engines_own_scores_are_not_believed():
    worst = np.argsort(QUERIES @ EMBEDDINGS.T, axis=1)[:, :5]
    assert measure_recall(Answers(worst, scores=1e9), EMBEDDINGS, QUERIES, k=5) == 0.0


def test_ties_cost_nothing():
    twice = np.concatenate([EMBEDDINGS, EMBEDDINGS])
    second = brute_force(QUERIES, EMBEDDINGS, 1)[1] + len(EMBEDDINGS)
    assert measure_recall(Answers(second), twice, QUERIES, k=1) == 1.0


def test_the_floor():
    check_recall(0.9, k=10, floor=0.9, engine="scann")
    with pytest.raises(RecallError, match=r"scann .* recall@10 of 0\.9 .* got 0\.899") as refused:
        check_recall(0.899, k=10, floor=0.9, engine="scann")
    assert isinstance(refused.value, IndexFault)
    with pytest.raises(RecallError):
        check_recall(float("nan"), k=10, floor=0.0, engine="scann")
