"""ScaNN: its tree finds enough and is the same every time; nothing is run from a folder."""

import builtins
import sys

import numpy as np
import pytest

from realm_jax.errors import IndexFault, MissingExtra
from realm_jax.index.manifest import measure_recall
from realm_jax.index.scann import (
    BRUTE_FORCE_BELOW,
    REORDER,
    SETTINGS,
    build_scann,
    leaves_for,
    load_scann,
    settings_for,
)
from tests.index.fake import clustered


@pytest.fixture
def needs_scann():
    pytest.importorskip("scann", reason="ScaNN has no wheel for this platform")


@pytest.mark.parametrize("count", [BRUTE_FORCE_BELOW, 1_000_000, 13_353_718])
def test_a_tree_is_searched_in_part(count):
    settings = settings_for(count)
    assert settings.leaves**2 == pytest.approx(4 * count, rel=0.01)
    assert 0 < settings.leaves_to_search <= settings.leaves / 8


@pytest.mark.parametrize(
    ("count", "k", "expected"),
    [
        (13_353_718, 10, 121),  # the root of four times sqrt(N)
        (13_353_718, 80, 242),  # twice that
        (13_353_718, 5000, 960),  # 500^(1/3) of that
        (60_000, 5000, 408),  # 50,000 blocks: sqrt(N) / 2 are in a leaf
        (60_000, 10, 31),
        (60_000, 1, 31),
    ],
)
def test_more_leaves_are_searched_for_more_results(count, k, expected):
    """As the cube root of k from ten results on, and no fewer than hold ten times k."""
    settings = settings_for(count)
    assert leaves_for(settings, count, k) == pytest.approx(expected, abs=1)
    assert leaves_for(settings, count, count) == settings.leaves
    assert leaves_for(settings_for(BRUTE_FORCE_BELOW - 1), BRUTE_FORCE_BELOW - 1, k) is None


def test_few_blocks_are_searched_without_a_tree():
    assert settings_for(BRUTE_FORCE_BELOW - 1).leaves == 0


def test_the_tree_finds_nearly_all_is_the_same_every_time_and_survives_saving(needs_scann, tmp_path):
    embeddings, queries = clustered(BRUTE_FORCE_BELOW, centres=300), clustered(64, centres=300, seed=1)
    first, second = build_scann(embeddings), build_scann(embeddings)
    assert measure_recall(first, embeddings, queries, k=10) > 0.95
    first.save(tmp_path)
    wanted = first.search(queries, 10)
    for other in (second, load_scann(tmp_path, len(embeddings))):
        found = other.search(queries, 10)
        np.testing.assert_array_equal(found.block_ids, wanted.block_ids)
        np.testing.assert_array_equal(found.scores, wanted.scores)
    assert measure_recall(first, embeddings, queries[:8], k=2000) > 0.95
    many = first.search(queries[:2], BRUTE_FORCE_BELOW)
    assert not np.isnan(many.scores).any() and (np.isneginf(many.scores) == (many.block_ids < 0)).all()


def test_as_much_is_searched_and_rescored_as_the_embeddings_ask_for(needs_scann, tmp_path):
    """Less where they lie in clusters than where they lie anywhere."""
    suggested = settings_for(BRUTE_FORCE_BELOW).leaves_to_search
    anywhere = np.random.default_rng(0).standard_normal((BRUTE_FORCE_BELOW, 16), dtype=np.float32)
    near, far = build_scann(clustered(BRUTE_FORCE_BELOW, centres=100)), build_scann(anywhere)
    assert near.settings.leaves_to_search < suggested <= far.settings.leaves_to_search
    assert near.settings.reorder < far.settings.reorder <= REORDER
    assert near.settings.leaves == far.settings.leaves
    for index, name in ((near, "near"), (far, "far")):
        (tmp_path / name).mkdir()
        index.save(tmp_path / name)
        assert load_scann(tmp_path / name, BRUTE_FORCE_BELOW).settings == index.settings


def test_clusters_that_share_a_leaf_are_found_in_few_leaves(needs_scann):
    """Two clusters a leaf: chosen by their means, 32 of 283 leaves would have to be searched."""
    leaves = settings_for(BRUTE_FORCE_BELOW).leaves
    index = build_scann(clustered(BRUTE_FORCE_BELOW, dimension=64, centres=2 * leaves))
    queries = clustered(64, dimension=64, centres=2 * leaves, seed=1)
    rows = clustered(BRUTE_FORCE_BELOW, dimension=64, centres=2 * leaves)
    assert index.settings.leaves_to_search <= 6
    assert measure_recall(index, rows, queries, k=10) > 0.95


def test_settings_that_are_none_are_refused_and_missing_ones_are_those_of_the_count(needs_scann, tmp_path):
    build_scann(clustered(10)).save(tmp_path)
    (tmp_path / SETTINGS).write_text('{"leaves": -1, "leaves_to_search": 1, "reorder": 0}')
    with pytest.raises(IndexFault, match="three numbers"):
        load_scann(tmp_path, 10)
    (tmp_path / SETTINGS).unlink()
    assert load_scann(tmp_path, 10).settings == settings_for(10)


def test_a_folder_without_an_index_is_refused(tmp_path):
    with pytest.raises(IndexFault, match="Build the index again"):
        load_scann(tmp_path, 3)


def test_a_pickle_in_the_folder_is_never_loaded(needs_scann, tmp_path):
    build_scann(clustered(10)).save(tmp_path)
    (tmp_path / "scann_docids.pkl").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(IndexFault, match="no pickle"):
        load_scann(tmp_path, 10)


def test_another_platform_is_told_the_alternative(monkeypatch):
    real = builtins.__import__

    def without_scann(name, *args, **kwargs):
        if name.startswith("scann"):
            raise ImportError(f"No module named {name!r}")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_scann)
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(MissingExtra, match=r"Linux only, .* on darwin\. Use --index\.engine exact"):
        build_scann(clustered(10))
