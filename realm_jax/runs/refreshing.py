"""The refresher's place in a run: asked after every step, its versions adopted, measured, pruned."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from realm_jax.config import Config
from realm_jax.data.corpus import Corpus
from realm_jax.errors import IndexFault, RecallError
from realm_jax.hosts.layout import own_devices, own_mesh, put
from realm_jax.hosts.meeting import agree, is_first, next_meeting, start_together
from realm_jax.index.protocol import Storage
from realm_jax.index.store import prune, read_manifest
from realm_jax.mesh import row_mesh, whole
from realm_jax.models.build import Models
from realm_jax.progress import SilentReporter, reporter, to_stderr
from realm_jax.refresh.refresher import Refresher, Snapshot, copy_of
from realm_jax.refresh.staleness import embedding_drift, top_k_overlap
from realm_jax.refresh.workers import WORKERS
from realm_jax.runs.live_index import (
    INDEX_FOLDER,
    IndexVersion,
    LiveIndex,
    load_version,
    version_builder,
)
from realm_jax.runs.phase import check_same_run, read_record
from realm_jax.runs.remote_refresh import RemoteBuild, remote_build
from realm_jax.runs.rolling import Shard, oldest_shard
from realm_jax.runs.setup import devices_of
from realm_jax.runs.split_version import build_split_version
from realm_jax.train.checkpoint import Checkpoints
from realm_jax.train.state import Metrics, TrainState
from realm_jax.types import Params

Values = Callable[[int], Mapping[str, float]]  # steps done, to what is logged


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
      saved: versions of the checkpoints there are, oldest first.
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
        saved: Sequence[int] = (),
    ):
        self._refresher, self._live, self._tower, self._root = refresher, live, tower, root
        self._probe, self._probe_k = probe, probe_k
        self._saved = deque([*saved, live.current.version], maxlen=keep_checkpoints + 1)

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

    def in_phase(self, *, values: bool, more: Values = lambda step: {}) -> dict[str, Any]:
        """Return the arguments of `Phase` that are the index's; `values`: log its staleness, and `more`."""
        return {
            "hooks": [self],
            "extra": lambda step: {**(self.values(step) if values else {}), **more(step)},
            "record": self.record,
            "pending": self.pending,
        }


def saved_versions(workdir: Path) -> list[int]:
    """Return the index version of every checkpoint of a run, oldest first.

    Of several processes all ask before they meet over the index: afterwards the first may have made the
    folder of the checkpoints while another still looks whether it is there.
    """
    if not (workdir / "checkpoints").is_dir():
        return []
    checkpoints = Checkpoints(workdir)
    versions = [checkpoints.record(step=step).get("index_version") for step in checkpoints.steps()]
    checkpoints.close()
    return [version for version in versions if version is not None]


class RollingBuild:
    """Embed one shard at a time: that of the oldest version, over what the build before has left.

    Args:
      build: as `build_version`, its keywords but `shard` bound.
      first: the version in use.
      shards: number of equal parts.
    """

    def __init__(self, build: Callable[..., IndexVersion], first: IndexVersion, *, shards: int):
        self._build, self._latest, self._shards = build, first, shards

    def __call__(self, params: Params, version: int, should_stop: Callable[[], bool]) -> IndexVersion:
        """Build a version that differs from the latest in one shard."""
        latest = self._latest
        versions = latest.shards or (latest.version,) * self._shards
        shard = Shard(
            base=latest.version,
            count=len(latest.embeddings),
            read=lambda: latest.embeddings,
            versions=versions,
            number=oldest_shard(versions),
        )
        self._latest = self._build(params, version, should_stop, shard=shard)
        return self._latest


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
    root, index, refresh = workdir / INDEX_FOLDER, config.index, config.refresh
    storage = Storage(own_mesh(mesh), index.storage)
    parts: dict[str, Any] = {"models": models, "corpus": corpus, "root": root}
    copy = copy_of if mesh is None else copy_to_all(mesh)
    block_params = {models.block_tower: params[models.block_tower]}
    meeting = next_meeting("index")
    if jax.process_count() > 1:
        parts["build"] = partial(build_split_version, meeting=meeting)
        parts["processes"] = jax.process_count()
    build = version_builder(config, **parts, mesh=storage.mesh, storage=storage)
    record = read_record(workdir)
    if record is not None:
        check_same_run(record, name=phase_name, config=config)
    version = None if record is None else _saved_version(record, config, root=root, corpus=corpus, mesh=mesh)
    if version is None:
        number = 0
        if record is None:
            if is_first():
                prune(root, keep=set())
        else:  # a snapshot in flight would be older
            with Checkpoints(workdir) as checkpoints:
                number, saved = checkpoints.steps()[-1], checkpoints.restore_params()
            block_params = {models.block_tower: saved[models.block_tower]}
            record = {**record, "pending_step": None}
        # By all devices: nothing trains yet.
        blocks = -(-len(corpus) // jax.process_count())
        name = f"{phase_name}: embed {corpus.path}"
        shown = reporter(name, blocks, unit="blocks") if is_first() else SilentReporter()
        with shown as progress:
            version = build(copy(block_params), number, lambda: False, progress=progress.update)
    live = LiveIndex(version)
    if record is not None:
        live.adopted = record["index_adopted"]
    remote: RemoteBuild | None = None
    if every and refresh.worker == "process":
        build = remote = remote_build(config, workdir, corpus=corpus, root=root, mesh=mesh, meeting=meeting)
    elif every and refresh.worker == "submesh":
        spare = own_devices(devices_of(config, phase_name)[1])
        build = version_builder(config, **parts, mesh=row_mesh(spare), storage=storage)
    refresher = Refresher(
        RollingBuild(build, live.current, shards=refresh.rolling) if refresh.rolling > 1 else build,
        WORKERS[refresh.worker](),
        every=every,
        lag=refresh.lag if refresh.adoption == "at_lag" else None,
        retries=refresh.retries,
        copy=copy,
        agree=agree,
        on_close=remote.close if remote else lambda: None,
    )
    if record is not None and record["pending_step"] is not None:
        snapshot = Checkpoints(workdir).restore_pending(block_params)
        refresher.resume(Snapshot(record["pending_step"], snapshot))
    return refresher, live


def _saved_version(
    record: Mapping[str, Any], config: Config, *, root: Path, corpus: Corpus, mesh: Mesh | None
) -> IndexVersion | None:
    """Open the version that a checkpoint names; None where one process alone finds it gone or damaged.

    Raises:
      IndexFault: of several processes, or where the corpus is not known to be the one of the run.
      RecallError: it finds too little.
    """
    number = record["index_version"]
    try:
        return load_version(root, number, corpus=corpus, recall_floor=config.index.recall_floor, mesh=mesh)
    except IndexFault as fault:
        try:
            same = read_manifest(root, number).corpus_hash == corpus.content_hash
        except IndexFault:  # without its manifest, only a path speaks of the corpus
            same = config.corpus == record["config"]["corpus"]
        if isinstance(fault, RecallError) or not same or jax.process_count() > 1:
            raise
        to_stderr(f"{fault} It is built again, with the parameters of the checkpoint.")
        return None


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
