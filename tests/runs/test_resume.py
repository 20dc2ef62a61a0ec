"""A run that was stopped and resumed ends as the one that was not, bit for bit.

Snapshots are taken every 3 steps and adopted 2 steps later, on a thread: 3 -> 5, 6 -> 8; that of step 9 is
in flight when the run ends.
"""

import dataclasses
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from realm_jax.data.corpus import Corpus
from realm_jax.errors import CheckpointError, IndexFault, TrainingError
from realm_jax.index.store import open_version, versions
from realm_jax.inspect.loaded import build_index, open_run
from realm_jax.runs.realm import run_realm
from realm_jax.runs.refreshing import saved_versions
from realm_jax.train.checkpoint import Checkpoints
from tests.runs.compare import assert_same_end, logged

AT_LAG = {"adoption": "at_lag", "lag": 2, "worker": "thread"}


def assert_same_run(found: Path, expected: Path) -> None:
    assert_same_end(found, expected)
    for name in ("loss", "retrieval_utility", "gradient_norm", "index_version", "staleness_steps"):
        assert logged(found, name) == logged(expected, name), name


@pytest.fixture(scope="module")
def config(make_config):
    return make_config(**AT_LAG)


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """The run that nothing stopped."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    run_realm(config, workdir)
    return workdir


def test_versions_are_adopted_at_their_lag_and_staleness_is_logged(whole):
    versions_in_use = [0, 0, 0, 0, 3, 3, 3, 6, 6]
    assert list(logged(whole, "index_version").values()) == versions_in_use
    assert list(logged(whole, "staleness_steps").values()) == [
        step - version for step, version in enumerate(versions_in_use, start=1)
    ]
    assert list(logged(whole, "index_adopted").values()) == [0] * 4 + [1] * 3 + [2] * 2
    assert set(logged(whole, "refreshes_skipped").values()) == {0}
    assert all(seconds >= 0 for seconds in logged(whole, "staleness_seconds").values())
    overlap, drift = logged(whole, "probe_overlap"), logged(whole, "embedding_drift")
    assert list(overlap) == list(drift) == [5, 6, 7, 8, 9]  # said of the adoption last made
    assert all(0 <= share <= 1 for share in overlap.values()) and all(d > 0 for d in drift.values())


@pytest.mark.parametrize("stop_at", [2, 3, 5])
def test_stopped_before_in_the_middle_of_and_after_a_refresh(config, whole, tmp_path, stop_at):
    workdir = tmp_path / "run"
    run_realm(config, workdir, stop_at=stop_at)
    record = Checkpoints(workdir).record()
    assert record["pending_step"] == {2: None, 3: 3, 5: None}[stop_at]
    assert record["index_version"] == {2: 0, 3: 0, 5: 3}[stop_at]
    run_realm(config, workdir)
    assert_same_run(workdir, whole)


def test_what_has_diverged_replaces_no_checkpoint(config, tmp_path):
    """Nothing is logged between the steps that are saved."""
    realm = dataclasses.replace(
        config.realm,
        checkpoint_every=2,
        log_every=50,
        keep_checkpoints=1,
        optimizer=dataclasses.replace(config.realm.optimizer, learning_rate=1e30, warmup_steps=1),
    )
    with pytest.raises(TrainingError, match="finite.*--start-from"):
        run_realm(dataclasses.replace(config, realm=realm), tmp_path / "run")
    params = Checkpoints(tmp_path / "run").restore_params() if Checkpoints(tmp_path / "run").latest() else {}
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


def test_the_versions_of_all_checkpoints_are_known(whole):
    steps = Checkpoints(whole).steps()
    in_use = logged(whole, "index_version")
    assert saved_versions(whole) == [in_use[step] for step in steps] and saved_versions(whole / "no") == []


def test_what_a_crash_left_half_written_is_ignored(config, whole, tmp_path):
    workdir = tmp_path / "run"
    run_realm(config, workdir, stop_at=4)
    shutil.copytree(workdir / "checkpoints" / "4", workdir / "checkpoints" / "9.orbax-checkpoint-tmp-7")
    (workdir / "index" / ".writing-abc").mkdir()
    shutil.copy(workdir / "index" / "v00000000" / "embeddings.npy", workdir / "index" / ".writing-abc")
    half = workdir / "index" / "v00000003"
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir()
    (half / "embeddings.npy").write_bytes(b"\x93NUMPY")
    run_realm(config, workdir)
    assert_same_run(workdir, whole)
    assert not list((workdir / "index").glob(".writing-*")) and {6} <= set(versions(workdir / "index"))


def test_a_finished_run_does_nothing_more(config, whole, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    before = (workdir / "metrics.jsonl").read_text()
    assert run_realm(config, workdir) == {}
    assert (workdir / "metrics.jsonl").read_text() == before
    assert_same_run(workdir, whole)


def test_another_config_is_refused_by_name(config, whole, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    kept = (workdir / "config.json").read_text()
    other = dataclasses.replace(
        config, seed=5, realm=dataclasses.replace(config.realm, retriever_learning_rate=0.5)
    )
    with pytest.raises(CheckpointError, match=r"other values of realm\.retriever_learning_rate, seed"):
        run_realm(other, workdir)
    assert (workdir / "config.json").read_text() == kept


def test_another_phase_is_refused(config, whole, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    with pytest.raises(CheckpointError, match="a checkpoint of realm for read"):
        run_realm(config, workdir, phase_name="read")


def test_an_index_that_is_gone_is_built_again_from_the_checkpoint(config, tmp_path, capsys):
    workdir = tmp_path / "run"
    run_realm(config, workdir, stop_at=8)
    shutil.rmtree(workdir / "index" / "v00000006")
    run_realm(config, workdir)
    assert "version 6 must be in" in capsys.readouterr().err
    assert logged(workdir, "index_version")[9] == 8, "of the parameters that the checkpoint holds"
    _, rebuilt, _ = open_version(workdir / "index", 8, corpus_hash=Corpus.open(config.corpus).content_hash)
    expected = build_index(open_run(workdir, step=8), tmp_path / "again").embeddings
    np.testing.assert_allclose(rebuilt, expected, rtol=1e-5, atol=1e-5)


def test_an_index_that_is_gone_is_named_where_the_corpus_may_be_another(config, whole, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    shutil.rmtree(workdir / "index" / "v00000006")
    shutil.copytree(config.corpus, tmp_path / "moved")
    config = dataclasses.replace(config, corpus=str(tmp_path / "moved"))
    with pytest.raises(IndexFault, match="version 6 must be in"):
        run_realm(config, workdir)
