"""The index a run searches: built from parameters, published, adopted, replaced."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from realm_jax.config import Config, IndexConfig
from realm_jax.data.corpus import Corpus
from realm_jax.index.embed import embed_blocks
from realm_jax.index.engines import ENGINES
from realm_jax.index.manifest import IndexManifest, check_recall, measure_recall
from realm_jax.index.protocol import HERE, Index, Storage
from realm_jax.index.store import open_version, publish
from realm_jax.mesh import split_over_all, whole
from realm_jax.models.build import Models
from realm_jax.ops.rows import block_tokens
from realm_jax.refresh.staleness import shard_staleness
from realm_jax.runs.rolling import Shard, shard_sizes
from realm_jax.types import Array, Blocks, Params

INDEX_FOLDER = "index"  # in a run folder

EmbedBlocks = Callable[[Params, Blocks, int], Array]  # (parameters, blocks [b, ...], row length) -> [b, D]


@dataclass(frozen=True)
class IndexVersion:
    """One version of the index, in memory."""

    version: int  # training step whose parameters embedded it, or the newest of its shards
    index: Index
    embeddings: np.ndarray  # float32 [N, D]
    shards: tuple[int, ...] = ()  # versions of equal parts where it is a mixture
    rates: Mapping[str, float] = field(default_factory=dict)  # how fast it was embedded, to be logged


@dataclass(frozen=True)
class Recipe:
    """How an index is made of embeddings, and what it must find to be published."""

    engine: str  # a key of ENGINES
    recall_k: int  # k of the measurement
    recall_floor: float  # recall@k below which the index is refused
    recall_sample: int  # blocks whose embeddings are the queries of the measurement
    storage: Storage = HERE  # where and how an engine on the device keeps its rows

    def sample(self, count: int) -> np.ndarray:
        """Draw the blocks of the measurement from so many, the same ones every time: int64, ascending."""
        rng = np.random.default_rng(0)
        return np.sort(rng.choice(count, min(self.recall_sample, count), replace=False))


def recipe_of(index: IndexConfig, storage: Storage = HERE) -> Recipe:
    """Return the recipe that a config asks for."""
    return Recipe(index.engine, index.recall_k, index.recall_floor, index.recall_sample, storage)


def block_embedder(models: Models, *, block_length: int, mesh: Mesh | None = None) -> EmbedBlocks:
    """Compile the embedding of blocks in rows of a length; takes a dict with the block tower's parameters.

    On a mesh every device has all parameters and embeds its share of the rows. So the program exchanges
    nothing between devices, and may run beside training from a thread of its own.

    Args:
      models: the models.
      block_length: longest row the embedder reads; longer ones are cut to it.
      mesh: the devices rows are split over; None is the default device.
    """

    def embed(params: Params, blocks: Blocks, length: int) -> Array:
        return models.embed_block(params, block_tokens(blocks, length=min(length, block_length)))

    if mesh is None:
        return jax.jit(embed, static_argnums=2)
    rows = split_over_all(mesh)
    return jax.jit(embed, static_argnums=2, in_shardings=(whole(mesh), rows), out_shardings=rows)


def build_version(
    params: Params,
    version: int,
    should_stop: Callable[[], bool],
    *,
    embed: EmbedBlocks,
    corpus: Corpus,
    root: Path,
    batch_size: int,
    recipe: Recipe,
    mesh: Mesh | None = None,
    shard: Shard | None = None,
    progress: Callable[[int], None] = lambda done: None,
    clock: Callable[[], float] = time.perf_counter,
) -> IndexVersion:
    """Embed all blocks or a shard of them, build the engine, measure its recall, publish.

    Args:
      params: a dict with the block tower's parameters.
      version: training step of these parameters.
      should_stop: asked between batches.
      embed: from `block_embedder`.
      corpus: the blocks.
      root: folder of the versions.
      batch_size: blocks a call of the embedder; a multiple of the devices of the mesh.
      recipe: of the index.
      mesh: that of `embed`.
      shard: what is embedded anew; None: all blocks.
      progress: told how many blocks are embedded.
      clock: seconds now.

    Raises:
      RecallError: the engine finds too little.
      RefreshError: it was asked to stop.
    """
    params = jax.device_put(params, whole(mesh))  # once, not with every batch
    block_ids = np.arange(len(corpus)) if shard is None else shard.block_ids()
    start = clock()
    rows = embed_blocks(
        partial(embed, params),
        corpus,
        batch_size=batch_size,
        block_ids=block_ids,
        should_stop=should_stop,
        progress=progress,
    )
    rates = embedding_rates(corpus, block_ids, seconds=clock() - start)
    built = publish_version(rows, version, corpus=corpus, root=root, recipe=recipe, shard=shard)
    return replace(built, rates=rates)


def embedding_rates(corpus: Corpus, block_ids: np.ndarray, *, seconds: float) -> dict[str, float]:
    """Return how many blocks and tokens a second were embedded, to be logged."""
    counts = {"blocks": len(block_ids), "tokens": int(corpus.token_counts()[block_ids].sum())}
    return {f"embedded_{name}_per_second": count / seconds for name, count in counts.items() if seconds > 0}


def version_builder(
    config: Config,
    *,
    models: Models,
    corpus: Corpus,
    root: Path,
    mesh: Mesh | None,
    storage: Storage,
    build: Callable[..., Any] = build_version,
    processes: int = 1,
) -> Callable[..., Any]:
    """Bind a build to what a config says; blocks are embedded on `mesh`, of this process's devices.

    Args:
      config: the resolved config.
      models: the models.
      corpus: the blocks.
      root: folder of the versions.
      mesh: the devices that embed; None is the default device.
      storage: where and how an engine on the device keeps its rows.
      build: `build_version`, or a function with its arguments.
      processes: that divide a batch of blocks among them.

    Returns:
      `build` with what is left to give: parameters, version, when to stop; shard and progress.
    """
    return partial(
        build,
        embed=block_embedder(models, block_length=config.shapes.block_length, mesh=mesh),
        corpus=corpus,
        root=root,
        mesh=mesh,
        batch_size=config.index.embed_batch_size // processes,
        recipe=recipe_of(config.index, storage),
    )


def publish_version(
    rows: np.ndarray,
    version: int,
    *,
    corpus: Corpus,
    root: Path,
    recipe: Recipe,
    shard: Shard | None = None,
) -> IndexVersion:
    """Build the engine over block embeddings, measure its recall, publish.

    Args:
      rows: float32 `[N, D]`; of a shard those of its blocks.
      version: training step of the parameters that embedded them.
      corpus: the blocks.
      root: folder of the versions.
      recipe: of the index.
      shard: what was embedded anew; None: all blocks.

    Raises:
      RecallError: the engine finds too little.
    """
    embeddings = rows if shard is None else shard.renewed(rows)
    shards = () if shard is None else shard.versions_with(version)
    index = ENGINES[recipe.engine].build(embeddings, recipe.storage)
    sample = recipe.sample(len(embeddings))
    recall = measure_recall(index, embeddings, embeddings[sample], k=recipe.recall_k)
    manifest = checked_manifest(
        version,
        corpus=corpus,
        recipe=recipe,
        dimension=embeddings.shape[1],
        settings=ENGINES[recipe.engine].settings(index, recipe.storage),
        recall=recall,
        shards=shards,
    )
    publish(root, embeddings, index, manifest)
    return IndexVersion(version, index, embeddings, shards)


def checked_manifest(
    version: int,
    *,
    corpus: Corpus,
    recipe: Recipe,
    dimension: int,
    settings: dict[str, Any],
    recall: float,
    shards: tuple[int, ...],
) -> IndexManifest:
    """Check the recall of a version, and put its manifest together.

    Args:
      version: training step of the parameters that embedded it.
      corpus: the blocks.
      recipe: of the index.
      dimension: D.
      settings: of the engine as it was built.
      recall: measured by the recipe.
      shards: versions of equal parts where it is a mixture.

    Raises:
      RecallError: it is below the recipe's floor.
    """
    check_recall(recall, k=recipe.recall_k, floor=recipe.recall_floor, engine=recipe.engine)
    return IndexManifest(
        version=version,
        corpus_hash=corpus.content_hash,
        count=len(corpus),
        dimension=dimension,
        engine=recipe.engine,
        settings=settings,
        recall=recall,
        recall_k=recipe.recall_k,
        recall_sample=min(recipe.recall_sample, len(corpus)),
        shards=list(shards),
    )


def load_version(
    root: Path, version: int, *, corpus: Corpus, recall_floor: float = 0.0, mesh: Mesh | None = None
) -> IndexVersion:
    """Open a published version; see `open_version`."""
    index, embeddings, manifest = open_version(
        root, version, corpus_hash=corpus.content_hash, recall_floor=recall_floor, mesh=mesh
    )
    return IndexVersion(version, index, np.asarray(embeddings), tuple(manifest.shards))


class LiveIndex:
    """The version in use, and how old it is.

    Args:
      version: the first version.
      clock: seconds now.
    """

    def __init__(self, version: IndexVersion, *, clock: Callable[[], float] = time.monotonic):
        self.current, self._clock = version, clock
        self._snapshot_seconds = clock()
        self._changes: dict[str, float] = {}
        self.adopted = 0

    def adopt(self, version: IndexVersion, *, seconds: float, changes: Mapping[str, float]) -> None:
        """Search this version from now on.

        Args:
          version: the new version.
          seconds: time since its snapshot was taken.
          changes: what it changed, logged until the next one is adopted.
        """
        self.current, self._changes = version, {**changes, "refresh_seconds": seconds, **version.rates}
        self._snapshot_seconds = self._clock() - seconds
        self.adopted += 1

    def values(self, step: int) -> dict[str, float]:
        """Return what is logged: version, staleness, what the last adoption changed.

        Staleness in steps is the mean over all blocks, for a mixture with the largest beside it; that in
        seconds is of the newest snapshot.
        """
        current = self.current
        shards = current.shards or (current.version,)
        sizes = shard_sizes(len(current.embeddings), len(shards))
        mean, largest = shard_staleness(step, shards, sizes)
        return {
            "index_version": current.version,
            "index_adopted": self.adopted,
            "staleness_steps": mean,
            **({"staleness_steps_max": largest} if current.shards else {}),
            "staleness_seconds": self._clock() - self._snapshot_seconds,
            **self._changes,
        }
