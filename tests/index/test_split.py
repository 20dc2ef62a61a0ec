"""An index over several hosts: shares, their blocks, and recall that is measured together."""

import numpy as np
import pytest

from realm_jax.index.engines import ENGINES
from realm_jax.index.exact import ExactIndex
from realm_jax.index.manifest import IndexManifest, measure_recall
from realm_jax.index.parts import prepare_parts, publish_parts, read_rows, write_part
from realm_jax.index.split import ShareOfBlocks, found_here, merged_recall, shares_of
from realm_jax.index.store import open_version, versions
from realm_jax.types import NO_BLOCK, Search
from tests.index.fake import FakeCorpus, clustered


@pytest.mark.parametrize(("count", "processes"), [(12, 4), (13, 4), (2, 4), (1, 1), (10, 3)])
def test_shares_are_all_rows_in_order_and_none_is_longer_than_the_first(count, processes):
    shares = shares_of(count, processes)
    assert len(shares) == processes and shares[0].first == 0 and shares[-1].stop == count
    assert [share.first for share in shares[1:]] == [share.stop for share in shares[:-1]]
    assert max(share.stop - share.first for share in shares) == shares[0].stop == -(-count // processes)


def test_the_blocks_of_a_share_are_those_of_the_corpus_from_its_first_on():
    corpus = FakeCorpus([3, 1, 4, 1, 5, 9, 2])
    share = shares_of(7, 3)[1]  # blocks 3, 4, 5
    blocks = ShareOfBlocks(corpus, share)
    assert len(blocks) == 3
    np.testing.assert_array_equal(blocks.token_counts(), corpus.token_counts()[3:6])
    found, expected = blocks.gather(np.array([2, 0, NO_BLOCK])), corpus.gather(np.array([5, 3, NO_BLOCK]))
    np.testing.assert_array_equal(found.body.ids, expected.body.ids)


class Blind:
    """An exact index that never finds its first rows."""

    def __init__(self, rows: np.ndarray, blind: int):
        self._exact, self._blind = ExactIndex(rows[blind:]), blind

    def __len__(self) -> int:
        return len(self._exact) + self._blind

    def search(self, queries: np.ndarray, k: int) -> Search:
        found = self._exact.search(queries, k)
        ids = np.where(found.block_ids >= 0, found.block_ids + self._blind, NO_BLOCK)
        return Search(scores=found.scores, block_ids=ids.astype(np.int32))


@pytest.mark.parametrize("processes", [1, 3, 50])
def test_recall_of_shares_is_that_of_an_index_with_the_same_blind_spots(processes):
    """Every share is blind to its first row: of rows 0, 14 and 28 where there are three."""
    rows, k = clustered(40, dimension=8), 5
    queries = rows[::3]
    shares = shares_of(len(rows), processes)
    parts = []
    for share in shares:
        held = rows[share.first : share.stop]
        # As it comes through a meeting; a share of one row sees it.
        parts.append(
            list(found_here(Blind(held, int(len(held) > 1)) if len(held) else None, share, held, queries, k))
        )
    hidden = [share.first for share in shares if share.stop - share.first > 1]
    scores = queries @ rows.T
    nearest = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    expected = 1 - np.isin(nearest, hidden).mean()
    assert merged_recall(parts, k) == pytest.approx(expected)
    if not hidden:
        assert merged_recall(parts, k) == measure_recall(ExactIndex(rows), rows, queries, k=k) == 1.0


def manifest(count: int, engine: str) -> IndexManifest:
    return IndexManifest(
        version=4,
        corpus_hash="this",
        count=count,
        dimension=8,
        engine=engine,
        settings={"processes": 3},
        recall=1.0,
        recall_k=5,
        recall_sample=4,
    )


@pytest.mark.parametrize("engine", list(ENGINES))
def test_parts_become_a_version_that_one_process_opens(engine, tmp_path):
    if engine == "scann":
        pytest.importorskip("scann", reason="ScaNN has no wheel for this platform")
    rows, shares = clustered(11, dimension=8), shares_of(11, 3)
    (tmp_path / ".writing-left-by-a-crash").mkdir()
    prepare_parts(tmp_path, 4)
    assert not (tmp_path / ".writing-left-by-a-crash").exists()
    for process in (2, 0, 1):
        share = shares[process]
        write_part(tmp_path, 4, process, rows[share.first : share.stop])
    some = np.array([0, 3, 4, 10])
    np.testing.assert_array_equal(read_rows(tmp_path, 4, shares, some), rows[some])
    assert versions(tmp_path) == []  # nothing is seen before all of it is
    publish_parts(tmp_path, shares, manifest(11, engine))
    index, embeddings, _ = open_version(tmp_path, 4, corpus_hash="this")
    np.testing.assert_array_equal(embeddings, rows)
    np.testing.assert_array_equal(index.search(rows, 1).block_ids[:, 0], (rows @ rows.T).argmax(axis=1))
    assert sorted(path.name for path in (tmp_path / "v00000004").iterdir()) == [
        "embeddings.npy",
        "manifest.json",
    ]
