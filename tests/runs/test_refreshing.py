"""The hook between loop and refresher: what is adopted, measured, recorded and pruned."""

from types import SimpleNamespace

import numpy as np
import pytest

from realm_jax.index.exact import ExactIndex
from realm_jax.index.manifest import IndexManifest
from realm_jax.index.store import publish, versions
from realm_jax.refresh.refresher import Refresher
from realm_jax.refresh.workers import InlineWorker
from realm_jax.runs.live_index import IndexVersion, LiveIndex
from realm_jax.runs.refreshing import RefreshHook

# Four blocks at right angles; a version turns them by its step, so that what is nearest changes.
BLOCKS = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], np.float32)


def version_at(root, step, turn):
    embeddings = np.roll(BLOCKS, turn, axis=0)
    index = ExactIndex(embeddings)
    manifest = IndexManifest(
        version=step,
        corpus_hash="this",
        count=4,
        dimension=2,
        engine="exact",
        settings={},
        recall=1.0,
        recall_k=1,
        recall_sample=1,
    )
    publish(root, embeddings, index, manifest)
    return IndexVersion(step, index, embeddings)


def hook_for(root, *, every, lag=None, keep=1, probe_k=1, saved=()):
    def build(params, step, should_stop):
        return version_at(root, step, turn=int(params["tower"]))

    live = LiveIndex(version_at(root, 0, turn=0), clock=lambda: 0.0)
    refresher = Refresher(build, InlineWorker(), every=every, lag=lag, clock=lambda: 0.0)
    return RefreshHook(
        refresher,
        live,
        tower="tower",
        root=root,
        probe=lambda params: np.array([[0.9, 0.1], [0.1, 0.9]], np.float32) * params["scale"],
        probe_k=probe_k,
        keep_checkpoints=keep,
        saved=saved,
    ), live


def drive(hook, first, last, *, turn=1):
    for step in range(first, last + 1):
        hook(step, SimpleNamespace(params={"tower": np.float32(turn), "scale": np.float32(2)}), {})


def test_the_cost_of_the_old_index_is_measured_when_the_new_one_is_adopted(tmp_path):
    hook, live = hook_for(tmp_path, every=2)
    drive(hook, 1, 1)
    assert live.current.version == 0 and "probe_overlap" not in hook.values(1)
    drive(hook, 2, 2)
    values = hook.values(2)
    assert live.current.version == 2 and values["staleness_steps"] == 0 and values["index_adopted"] == 1
    assert values["probe_overlap"] == 0.0  # every block turned away from the probe it was nearest to
    assert values["embedding_drift"] == pytest.approx(np.sqrt(2))
    drive(hook, 3, 4)
    assert hook.values(4)["probe_overlap"] == 1.0 and hook.values(4)["embedding_drift"] == 0.0


def test_more_results_than_blocks_are_not_compared(tmp_path):
    hook, _ = hook_for(tmp_path, every=1, probe_k=50)
    drive(hook, 1, 1)
    assert hook.values(1)["probe_overlap"] == 1.0  # all four blocks, in both


def test_a_checkpoint_records_index_and_refresh_in_flight(tmp_path):
    hook, _ = hook_for(tmp_path, every=4, lag=2)
    drive(hook, 1, 3)
    assert hook.record() == {"index_version": 0, "index_adopted": 0, "pending_step": None}
    assert hook.pending() is None
    drive(hook, 4, 5, turn=3)
    assert hook.record() == {"index_version": 0, "index_adopted": 0, "pending_step": 4}
    assert hook.pending() == {"tower": 3.0}
    drive(hook, 6, 6)
    assert hook.record() == {"index_version": 4, "index_adopted": 1, "pending_step": None}


def test_versions_that_checkpoints_name_stay_and_others_go(tmp_path):
    hook, _ = hook_for(tmp_path, every=1, keep=2)
    drive(hook, 1, 3)
    hook.record()  # a checkpoint with version 3
    drive(hook, 4, 6)
    hook.record()  # a checkpoint with version 6
    drive(hook, 7, 9)
    assert {3, 6, 9} <= set(versions(tmp_path)) and not {1, 2, 4, 5, 7, 8} & set(versions(tmp_path))


def test_versions_of_checkpoints_from_before_a_resumption_stay(tmp_path):
    for step in (3, 6):
        version_at(tmp_path, step, turn=0)
    hook, _ = hook_for(tmp_path, every=1, keep=2, saved=[3, 6])
    drive(hook, 7, 9)
    assert {3, 6, 9} <= set(versions(tmp_path)) and 7 not in versions(tmp_path)


def test_a_version_published_but_not_yet_adopted_is_not_pruned(tmp_path):
    """At step 2 version 1 is adopted and version 2 is published at once, before old versions are pruned."""
    hook, live = hook_for(tmp_path, every=1, lag=1)
    drive(hook, 1, 2)
    assert live.current.version == 1 and 2 in versions(tmp_path)
