"""The index in use: built, refused, published, loaded, and how old it says it is."""

import numpy as np
import pytest

from realm_jax.errors import IndexFault, RecallError, RefreshError
from realm_jax.index.engines import ENGINES, Engine
from realm_jax.index.store import versions
from realm_jax.runs.live_index import IndexVersion, LiveIndex, Recipe, build_version, load_version
from realm_jax.types import Search
from tests.index.fake import FakeCorpus

LENGTHS = [3, 9, 4, 1, 7, 2]


class Corpus(FakeCorpus):
    content_hash = "this"


def embed(params, blocks, length):
    """A direction of its own for every block, stretched by the parameter."""
    number = blocks.body.ids[:, 0].astype(np.float32)
    return params["block_tower"] * np.stack([np.cos(number), np.sin(number)], axis=1)


def build(root, *, step=40, stretch=2.0, stop=lambda: False, shard=None, **changes):
    recipe = Recipe(**{"engine": "exact", "recall_k": 3, "recall_floor": 0.9, "recall_sample": 5, **changes})
    return build_version(
        {"block_tower": np.float32(stretch)},
        step,
        stop,
        embed=embed,
        corpus=Corpus(LENGTHS),
        root=root,
        batch_size=4,
        recipe=recipe,
        shard=shard,
    )


def test_a_version_is_published_and_loads_as_it_is(tmp_path):
    built = build(tmp_path)
    assert built.version == 40 and versions(tmp_path) == [40]
    number = 10.0 + np.arange(6)
    np.testing.assert_allclose(built.embeddings, 2 * np.stack([np.cos(number), np.sin(number)], 1), rtol=1e-6)
    loaded = load_version(tmp_path, 40, corpus=Corpus(LENGTHS))
    assert loaded.version == 40
    np.testing.assert_array_equal(loaded.embeddings, built.embeddings)
    query = np.array([[1.0, 0.0]], np.float32)
    first, second = (version.index.search(query, 6).block_ids for version in (built, loaded))
    np.testing.assert_array_equal(first, second)


def test_the_index_of_another_corpus_is_refused(tmp_path):
    build(tmp_path)
    other = Corpus(LENGTHS)
    other.content_hash = "that"
    with pytest.raises(IndexFault, match="with the corpus it was built from"):
        load_version(tmp_path, 40, corpus=other)


class Blind:
    """An index that finds the same block whatever is asked."""

    def __init__(self, embeddings):
        self._count = len(embeddings)

    def __len__(self):
        return self._count

    def search(self, query_embeddings, k):
        shape = (len(query_embeddings), k)
        return Search(scores=np.ones(shape, np.float32), block_ids=np.zeros(shape, np.int32))


def test_an_index_that_finds_too_little_is_not_published(tmp_path, monkeypatch):
    blind = Engine(
        lambda embeddings, storage: Blind(embeddings),
        lambda index, folder: None,
        lambda embeddings, folder, storage: Blind(embeddings),
        lambda count, storage: {},
    )
    monkeypatch.setitem(ENGINES, "blind", blind)
    with pytest.raises(RecallError, match="blind"):
        build(tmp_path, engine="blind")
    assert versions(tmp_path) == []
    assert build(tmp_path, engine="blind", recall_floor=0.0).version == 40


@pytest.mark.parametrize("batches", [0, 1, 2])
def test_a_request_to_stop_publishes_nothing(tmp_path, batches):
    """Six blocks are two batches: the third question comes before the index is built."""
    asked = []

    def stop():
        asked.append(None)
        return len(asked) > batches

    with pytest.raises(RefreshError, match="request to stop"):
        build(tmp_path, stop=stop)
    assert versions(tmp_path) == []


def test_parameters_that_diverged_are_not_published(tmp_path):
    with pytest.raises(IndexFault, match="finite"):
        build(tmp_path, stretch=np.nan)
    assert versions(tmp_path) == []


def test_staleness_in_steps_and_seconds():
    now = [1000.0]
    versions_ = [
        IndexVersion(step, Blind(np.zeros((3, 2))), np.zeros((3, 2), np.float32)) for step in (0, 20)
    ]
    live = LiveIndex(versions_[0], clock=lambda: now[0])
    now[0] = 1007.0
    assert live.values(12) == {
        "index_version": 0,
        "index_adopted": 0,
        "staleness_steps": 12,
        "staleness_seconds": 7.0,
    }
    live.adopt(versions_[1], seconds=3.5, changes={"probe_overlap": 0.75})
    now[0] = 1009.0  # 2 seconds after the adoption, 5.5 after the snapshot
    assert live.current is versions_[1]
    assert live.values(25) == {
        "index_version": 20,
        "index_adopted": 1,
        "staleness_steps": 5,
        "staleness_seconds": 5.5,
        "probe_overlap": 0.75,
        "refresh_seconds": 3.5,
    }
