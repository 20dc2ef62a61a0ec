"""A version of the index made by several processes: each embeds, indexes and writes its share of the rows.

They meet between the stages, so that what fails on one process fails on all, and is tried again by all. No
stage needs another process's devices: a refresh exchanges nothing that training could wait for.
"""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from realm_jax.data.corpus import Corpus
from realm_jax.hosts.layout import own_copy
from realm_jax.hosts.meeting import Meeting, is_first
from realm_jax.index.embed import embed_blocks
from realm_jax.index.engines import ENGINES
from realm_jax.index.parts import prepare_parts, publish_parts, read_rows, write_part
from realm_jax.index.protocol import Index
from realm_jax.index.split import PROCESSES, ShareOfBlocks, SplitIndex, found_here, merged_recall, shares_of
from realm_jax.index.store import map_embeddings
from realm_jax.mesh import split_over_all
from realm_jax.runs.live_index import EmbedBlocks, IndexVersion, Recipe, checked_manifest
from realm_jax.runs.rolling import Shard
from realm_jax.types import Params


def build_split_version(
    params: Params,
    version: int,
    should_stop: Callable[[], bool],
    *,
    embed: EmbedBlocks,
    corpus: Corpus,
    root: Path,
    batch_size: int,
    recipe: Recipe,
    mesh: Mesh | None,
    meeting: Meeting,
    shard: Shard | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> IndexVersion:
    """Embed all blocks or a shard of them, build the engines, measure their recall together, publish.

    Every process calls it with the same snapshot; the arguments are those of `build_version`, but for these:

    Args:
      params: the block tower's parameters, whole on every device that trains.
      root: folder of the versions, which all processes see.
      batch_size: blocks a call of this process's embedder.
      recipe: of the index, stored on those devices of this process that search.
      mesh: that of `embed`, of this process's devices.
      meeting: of the processes.
      progress: told how many blocks of its share this process has embedded.

    Raises:
      RecallError: the engines find too little.
      RefreshError: it was asked to stop.
      HostsError: another process failed.
    """
    shares = shares_of(len(corpus), jax.process_count())
    share = shares[jax.process_index()]
    meeting.each(lambda: prepare_parts(root, version) if is_first() else None)

    own: Index | None = None
    rows = np.zeros((0, 0), np.float32)

    def build() -> None:
        nonlocal own, rows
        blocks = ShareOfBlocks(corpus, share)
        if not len(blocks):
            return
        tower = own_copy(params, mesh)
        place = None if mesh is None else split_over_all(mesh)
        rows = embed_blocks(
            # Placed first: of several processes, jit takes no NumPy array that is to be split.
            lambda batch, length: embed(tower, jax.device_put(batch, place), length),
            blocks,
            batch_size=batch_size,
            block_ids=None if shard is None else shard.ids_in(*share),
            should_stop=should_stop,
            progress=progress,
        )
        if shard is not None:
            rows = shard.renewed(rows, first=share.first, stop=share.stop)
        write_part(root, version, jax.process_index(), rows)
        own = ENGINES[recipe.engine].build(rows, recipe.storage)

    meeting.each(build)
    sample = recipe.sample(len(corpus))
    queries = read_rows(root, version, shares, sample)
    k = min(recipe.recall_k, len(corpus))
    recall = merged_recall(meeting.each(lambda: found_here(own, share, rows, queries, k)), k)
    # The first has blocks.
    settings = ENGINES[recipe.engine].settings(own, recipe.storage) if own is not None else {}
    manifest = checked_manifest(
        version,
        corpus=corpus,
        recipe=recipe,
        dimension=queries.shape[1],
        settings={**settings, PROCESSES: len(shares)},
        recall=recall,
        shards=() if shard is None else shard.versions_with(version),
    )
    meeting.each(lambda: publish_parts(root, shares, manifest) if is_first() else None)
    embeddings = map_embeddings(root, manifest)
    return IndexVersion(version, SplitIndex(own, share, len(corpus)), embeddings, tuple(manifest.shards))
