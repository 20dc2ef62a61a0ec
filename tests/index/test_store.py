"""Versions on disk: whole or absent, whatever cuts a publication short."""

import dataclasses
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import realm_jax.index.store as store
from realm_jax.errors import IndexFault, RecallError
from realm_jax.index.engines import ENGINES
from realm_jax.index.manifest import IndexManifest
from realm_jax.index.store import open_version, prune, publish, read_manifest, version_folder, versions
from tests.index.fake import clustered

QUERIES = clustered(5, dimension=8, seed=9)


class Cut(BaseException):
    """The process dies here; what it holds open is as good as gone."""


def put(
    root: Path,
    version: int,
    *,
    seed: int = 0,
    engine: str = "exact",
    count: int = 30,
    recall: float = 1.0,
    shards: tuple[int, ...] = (),
) -> np.ndarray:
    embeddings = clustered(count, dimension=8, seed=seed)
    index = ENGINES[engine].build(embeddings)
    manifest = IndexManifest(
        version=version,
        corpus_hash="this",
        count=count,
        dimension=8,
        engine=engine,
        settings=ENGINES[engine].settings(index),
        recall=recall,
        recall_k=10,
        recall_sample=5,
        shards=list(shards),
    )
    publish(root, embeddings, index, manifest)
    return embeddings


def stored(root: Path, version: int) -> np.ndarray:
    return np.asarray(open_version(root, version, corpus_hash="this")[1])


@pytest.mark.parametrize("engine", list(ENGINES))
def test_round_trip(tmp_path, engine):
    if engine == "scann":
        pytest.importorskip("scann", reason="ScaNN has no wheel for this platform")
    embeddings = put(tmp_path, 7, engine=engine)
    index, mapped, manifest = open_version(tmp_path, 7, corpus_hash="this")
    assert isinstance(mapped, np.memmap) and manifest.version == 7 and manifest.engine == engine
    np.testing.assert_array_equal(mapped, embeddings)
    expected = ENGINES[engine].build(embeddings).search(QUERIES, 4)
    np.testing.assert_array_equal(index.search(QUERIES, 4).block_ids, expected.block_ids)


def test_a_version_below_the_recall_floor_is_refused_when_it_is_opened(tmp_path):
    """It may have been published under a lower floor, or come from elsewhere."""
    put(tmp_path, 7, recall=0.85)
    with pytest.raises(RecallError, match=r"exact index must reach recall@10 of 0\.9 .* got 0\.850"):
        open_version(tmp_path, 7, corpus_hash="this", recall_floor=0.9)
    assert open_version(tmp_path, 7, corpus_hash="this", recall_floor=0.85)[2].recall == 0.85


def test_versions_are_listed_in_order_of_step(tmp_path):
    assert versions(tmp_path / "none") == []
    for step in (500, 0, 123_456_789, 40):
        put(tmp_path, step)
    (tmp_path / "value").mkdir()
    (tmp_path / "value" / "manifest.json").write_text("{}")
    assert versions(tmp_path) == [0, 40, 500, 123_456_789]


def test_publishing_again_replaces(tmp_path):
    put(tmp_path, 3, seed=1)
    fresh = put(tmp_path, 3, seed=2)
    np.testing.assert_array_equal(stored(tmp_path, 3), fresh)
    assert [path.name for path in tmp_path.iterdir()] == ["v00000003"]


CALLS = ("save", "write_text", "_flush", "rename", "rmtree")


def cut_at(monkeypatch, name: str, number: int) -> None:
    """Die when something is called for the n-th time, and clean nothing up."""
    places = {
        "save": (np, "save"),
        "write_text": (Path, "write_text"),
        "_flush": (store, "_flush"),
        "rename": (Path, "rename"),
        "rmtree": (shutil, "rmtree"),
    }
    owner, attribute = places[name]
    real = getattr(owner, attribute)
    left = [number]

    def dying(*args, **kwargs):
        left[0] -= 1
        if left[0] == 0:
            monkeypatch.setattr(store, "tidy", lambda root: None)
            raise Cut
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, attribute, dying)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("replacing", [False, True])
def test_a_crash_at_any_point_leaves_the_old_version_or_the_new_one(
    tmp_path, monkeypatch, name, number, replacing
):
    other = put(tmp_path, 1, seed=1)
    old = put(tmp_path, 2, seed=2) if replacing else None
    new = clustered(30, dimension=8, seed=3)
    with monkeypatch.context() as patch:
        cut_at(patch, name, number)
        try:
            put(tmp_path, 2, seed=3)
            crashed = False
        except Cut:
            crashed = True
    np.testing.assert_array_equal(stored(tmp_path, 1), other)
    survived = 2 in versions(tmp_path)
    assert survived or (crashed and not replacing)
    if survived:
        found = stored(tmp_path, 2)
        assert (found == new).all() or (old is not None and crashed and (found == old).all())
    # The next publication finds its way from whatever was left.
    put(tmp_path, 4, seed=4)
    assert versions(tmp_path) == ([1, 2, 4] if survived else [1, 4])
    assert all(path.name.startswith("v") for path in tmp_path.iterdir())


def test_a_failure_leaves_nothing_behind_and_surfaces(tmp_path, monkeypatch):
    old = put(tmp_path, 2, seed=2)
    real = Path.rename

    def rename(self, target):
        if self.name.startswith(store.ASIDE):
            raise OSError("full")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OSError, match="full"):
        put(tmp_path, 2, seed=3)
    assert [path.name for path in tmp_path.iterdir()] == ["v00000002"]
    np.testing.assert_array_equal(stored(tmp_path, 2), old)


def test_a_half_written_folder_is_no_version(tmp_path):
    put(tmp_path, 1)
    shutil.copytree(version_folder(tmp_path, 1), tmp_path / f"{store.ASIDE}abc")
    half = version_folder(tmp_path, 2)
    half.mkdir()
    np.save(half / store.EMBEDDINGS, clustered(30, dimension=8))
    assert versions(tmp_path) == [1]
    with pytest.raises(IndexFault, match=r"version 2 must be in .* versions \[1\]"):
        open_version(tmp_path, 2, corpus_hash="this")
    put(tmp_path, 2)  # takes the place of what is no version
    assert versions(tmp_path) == [1, 2] and not list(tmp_path.glob(f"{store.ASIDE}*"))


def test_what_another_process_is_writing_stays(tmp_path):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        being_written = tmp_path / f"{store.ASIDE}{other.pid}-abc@{socket.gethostname()}"
        elsewhere = tmp_path / f"{store.ASIDE}{other.pid}-abc@another.host"
        for folder in (being_written, elsewhere):
            folder.mkdir()
        parts = tmp_path / f"{store.ASIDE}{store.PARTS}v00000007"
        parts.mkdir()
        (parts / "part-00000.npy").touch()
        put(tmp_path, 1)
        assert being_written.exists() and elsewhere.exists() and parts.exists()
        long_ago = time.time() - store.ABANDONED_SECONDS - 60
        for folder in (being_written, elsewhere, parts):
            os.utime(folder, (long_ago, long_ago))
        put(tmp_path, 2)  # one of this machine lives, a part has just been written
        assert being_written.exists() and parts.exists() and not elsewhere.exists()
        os.utime(parts / "part-00000.npy", (long_ago, long_ago))
        put(tmp_path, 3)
        assert being_written.exists() and not parts.exists()
        other.communicate(b"\n")
    put(tmp_path, 3)
    assert not being_written.exists() and versions(tmp_path) == [1, 2, 3]


def test_who_may_read_a_version_is_as_for_any_new_folder(tmp_path):
    put(tmp_path / "index", 1)
    (tmp_path / "plain").mkdir()
    assert version_folder(tmp_path / "index", 1).stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_version_whose_replacement_was_cut_short_has_a_manifest(tmp_path):
    put(tmp_path, 5)
    folder = version_folder(tmp_path, 5)
    folder.rename(folder.with_name(store.REPLACED + folder.name))
    assert read_manifest(tmp_path, 5).version == 5 and versions(tmp_path) == [5]
    with pytest.raises(IndexFault, match=r"version 6 must be in .* versions \[5\]"):
        read_manifest(tmp_path, 6)


def test_another_corpus_is_refused(tmp_path):
    put(tmp_path, 1)
    with pytest.raises(IndexFault, match="corpus that for an index of this"):
        open_version(tmp_path, 1, corpus_hash="that")


def damage_missing(folder: Path) -> None:
    (folder / store.EMBEDDINGS).unlink()


def damage_short(folder: Path) -> None:
    whole = (folder / store.EMBEDDINGS).read_bytes()
    (folder / store.EMBEDDINGS).write_bytes(whole[:-8])


def damage_shape(folder: Path) -> None:
    np.save(folder / store.EMBEDDINGS, clustered(29, dimension=8))


def damage_dtype(folder: Path) -> None:
    np.save(folder / store.EMBEDDINGS, clustered(30, dimension=8).astype(np.float64))


def damage_pickle(folder: Path) -> None:
    np.save(folder / store.EMBEDDINGS, np.array([{}], object))


def damage_engine(folder: Path) -> None:
    manifest = IndexManifest.from_json((folder / store.MANIFEST).read_text())
    (folder / store.MANIFEST).write_text(dataclasses.replace(manifest, engine="oracle").to_json())


def damage_manifest(folder: Path) -> None:
    (folder / store.MANIFEST).write_text("{")


@pytest.mark.parametrize(
    "damage",
    [
        damage_missing,
        damage_short,
        damage_shape,
        damage_dtype,
        damage_pickle,
        damage_engine,
        damage_manifest,
    ],
)
def test_a_damaged_version_is_refused_by_name(tmp_path, damage):
    put(tmp_path, 1)
    damage(version_folder(tmp_path, 1))
    with pytest.raises(IndexFault, match="Build the index again"):
        open_version(tmp_path, 1, corpus_hash="this")


def test_pruning_keeps_what_is_named_and_what_is_newer(tmp_path):
    for step in (0, 10, 20, 30, 40):
        put(tmp_path, step)
    prune(tmp_path, keep={10, 30})
    assert versions(tmp_path) == [10, 30, 40]
    prune(tmp_path, keep=set())
    assert versions(tmp_path) == [] and list(tmp_path.iterdir()) == []


def test_pruning_leaves_a_publication_in_progress_alone(tmp_path, monkeypatch):
    put(tmp_path, 0)
    real = Path.write_text

    def prune_before_the_manifest(self, *args, **kwargs):
        prune(tmp_path, keep={0})
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "write_text", prune_before_the_manifest)
    put(tmp_path, 10)
    prune(tmp_path, keep={0})
    assert versions(tmp_path) == [0, 10]
