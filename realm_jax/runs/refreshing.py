"""The refresher's place in a run: asked after every step, its versions adopted, measured, pruned."""

from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from realm_jax.config import Config
from realm_jax.data.corpus import Corpus
from realm_jax.hosts.layout import own_mesh, put
from realm_jax.hosts.meeting import agree, is_first, next_meeting, start_together
from realm_jax.index.protocol import Storage
from realm_jax.index.store import prune
from realm_jax.mesh import whole
from realm_jax.models.build import Models
from realm_jax.refresh.refresher import Refresher, Snapshot, copy_of
from realm_jax.refresh.staleness import embedding_drift, top_k_overlap
from realm_jax.refresh.workers import WORKERS
from realm_jax.runs.live_index import (
    INDEX_FOLDER,
    IndexVersion,
    LiveIndex,
    block_embedder,
    build_version,
    load_version,
)
from realm_jax.runs.phase import check_same_run, read_record
from realm_jax.runs.split_version import build_split_version
from realm_jax.train.checkpoint import Checkpoints
from realm_jax.train.state import Metrics, TrainState
from realm_jax.types import Params


class RefreshHook:
    """Refresh the live index between steps.

    Args:
      refresher: builds new versions.
      live: the index in use.
      tower: name of the parameters that embed blocks.
      root: folder of the versions.
      probe: embeds the fixed probe set with all parameters, float32 `[B, D]`.
      probe_k: results compared for each probe.
      keep_checkpoints: versions of this many checkpoints are kept.
    """

    def __init__(
        self,
        refresher: Refresher[IndexVersion],
        live: LiveIndex,
        *,
        tower: str,
        root: Path,
        probe: Callable[[Params], np.ndarray],
        probe_k: int,
        keep_checkpoints: int,
    ):
        self._refresher, self._live, self._tower, self._root = refresher, live, tower, root
        self._probe, self._probe_k = probe, probe_k
        self._saved = deque([live.current.version], maxlen=keep_checkpoints + 1)

    def __call__(self, step: int, state: TrainState, metrics: Metrics) -> None:
        """Adopt a new version if there is one, and say what using the old one had cost."""
        del metrics
        adopted = self._refresher.after_step(step, {self._tower: state.params[self._tower]})
        if adopted is None:
            return
        old, new = self._live.current, adopted.value
        probes = self._probe(state.params)
        k = min(self._probe_k, len(new.embeddings))
        stale, fresh = (version.index.search(probes, k).block_ids for version in (old, new))
        changes = {
            "probe_overlap": top_k_overlap(stale, fresh),
            "embedding_drift": embedding_drift(old.embeddings, new.embeddings),
        }
        self._live.adopt(new, seconds=adopted.seconds, changes=changes)
        if is_first():
            prune(self._root, keep={*self._saved, new.version})

    def values(self, step: int) -> dict[str, float]:
        """Return what is logged."""
        return {**self._live.values(step), "refreshes_skipped": self._refresher.skipped}

    def record(self) -> dict[str, Any]:
        """Return what a checkpoint says of the index; the version it names is kept."""
        pending = self._refresher.pending()
        self._saved.append(self._live.current.version)
        return {
            "index_version": self._live.current.version,
            "index_adopted": self._live.adopted,
            "pending_step": pending.step if pending else None,
        }

    def pending(self) -> Params | None:
        """Return the snapshot of the refresh in flight."""
        snapshot = self._refresher.pending()
        return snapshot.params if snapshot else None

    def in_phase(self, *, values: bool) -> dict[str, Any]:
        """Return the arguments of `Phase` that are the index's; `values`: log its staleness."""
        return {
            "hooks": [self],
            "extra": self.values if values else lambda step: {},
            "record": self.record,
            "pending": self.pending,
        }


def open_live_index(
    config: Config,
    workdir: Path,
    *,
    phase_name: str,
    models: Models,
    params: Params,
    corpus: Corpus,
    every: int,
    mesh: Mesh | None = None,
) -> tuple[Refresher[IndexVersion], LiveIndex]:
    """Build a run's first index, or open the one a checkpoint names and go on with its refresh.

    Args:
      config: the resolved config.
      workdir: folder of the run.
      phase_name: of the run.
      models: the models.
      params: where a new run starts from.
      corpus: the blocks.
      every: steps between snapshots; 0 never refreshes.
      mesh: the devices; None is the default device.

    Raises:
      CheckpointError: the checkpoint is of another phase or config.
    """
    root, own = workdir / INDEX_FOLDER, own_mesh(mesh)
    processes = jax.process_count()
    build = partial(
        partial(build_split_version, meeting=next_meeting("index")) if processes > 1 else build_version,
        embed=block_embedder(models, block_length=config.shapes.block_length, mesh=own),
        corpus=corpus,
        root=root,
        engine=config.index.engine,
        batch_size=config.index.embed_batch_size // processes,
        recall_k=config.index.recall_k,
        recall_floor=config.index.recall_floor,
        recall_sample=config.index.recall_sample,
        storage=Storage(own, config.index.storage),
    )
    copy = copy_of if mesh is None else copy_to_all(mesh)
    refresher = Refresher(
        build,
        WORKERS[config.refresh.worker](),
        every=every,
        lag=config.refresh.lag if config.refresh.adoption == "at_lag" else None,
        retries=config.refresh.retries,
        copy=copy,
        agree=agree,
    )
    block_params = {models.block_tower: params[models.block_tower]}
    record = read_record(workdir)
    if record is None:
        if is_first():
            prune(root, keep=set())
        return refresher, LiveIndex(build(copy(block_params), 0, lambda: False))
    check_same_run(record, name=phase_name, config=config)
    version = load_version(
        root,
        record["index_version"],
        corpus=corpus,
        recall_floor=config.index.recall_floor,
        mesh=mesh,
    )
    live = LiveIndex(version)
    live.adopted = record["index_adopted"]
    if record["pending_step"] is not None:
        snapshot = Checkpoints(workdir).restore_pending(block_params)
        refresher.resume(Snapshot(record["pending_step"], snapshot))
    return refresher, live


def copy_to_all(mesh: Mesh) -> Callable[[Params], Params]:
    """Compile the copying of parameters, however they lie, whole to every device; nobody waits for it."""
    everywhere = whole(mesh)
    program = jax.jit(partial(jax.tree.map, jnp.copy), out_shardings=everywhere)
    copied = start_together(program, "snapshot")

    def copy(params: Params) -> Params:
        laid_out = (
            leaf if isinstance(leaf, jax.Array) else put(leaf, everywhere) for leaf in jax.tree.leaves(params)
        )
        return copied(jax.tree.unflatten(jax.tree.structure(params), laid_out))

    return copy
