"""A version of the index embedded by the processes of a refresh worker, built by the first of them.

They need no folder in common but that through which they talk with the trainer: each puts its rows there.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from realm_jax.data.corpus import Corpus
from realm_jax.hosts.meeting import Meeting, is_first
from realm_jax.index.embed import embed_blocks
from realm_jax.mesh import split_over_all, whole
from realm_jax.runs.live_index import EmbedBlocks, IndexVersion, Recipe, embedding_rates, publish_version
from realm_jax.runs.rolling import Shard
from realm_jax.types import Params


def build_gathered_version(
    params: Params,
    version: int,
    should_stop: Callable[[], bool],
    *,
    embed: EmbedBlocks,
    corpus: Corpus,
    root: Path,
    batch_size: int,
    recipe: Recipe,
    mesh: Mesh,
    meeting: Meeting,
    put_rows: Callable[[int, np.ndarray], None],
    rows_of: Callable[[int], np.ndarray],
    shard: Shard | None = None,
    progress: Callable[[int], None] = lambda done: None,
    clock: Callable[[], float] = time.perf_counter,
) -> IndexVersion | None:
    """Embed a share of the blocks, or of a shard of them; the first process gathers, builds, publishes.

    Every process calls it with the same snapshot; the arguments are those of `build_version`, but for these:

    Args:
      params: as NumPy arrays.
      root: folder of the versions; that of the first process alone is written to.
      batch_size: blocks a call of this process's embedder.
      mesh: that of `embed`, of this process's devices.
      meeting: of the processes.
      put_rows: takes the number of a process and what it has embedded to where the first one reads it.
      rows_of: returns what was put there.
      progress: told how many blocks of its share this process has embedded.

    Returns:
      The version on the first process, None on the others.

    Raises:
      RecallError: the engine finds too little; on the first process.
      RefreshError: it was asked to stop.
      HostsError: another process failed.
    """
    me, processes = jax.process_index(), jax.process_count()
    block_ids = np.arange(len(corpus)) if shard is None else shard.block_ids()
    start = clock()

    def embed_own() -> None:
        tower, place = jax.device_put(params, whole(mesh)), split_over_all(mesh)
        rows = embed_blocks(
            # Placed first: of several processes, jit takes no NumPy array that is to be split.
            lambda batch, length: embed(tower, jax.device_put(batch, place), length),
            corpus,
            batch_size=batch_size,
            block_ids=np.array_split(block_ids, processes)[me],
            should_stop=should_stop,
            progress=progress,
        )
        put_rows(me, rows)

    meeting.each(embed_own)
    rates = embedding_rates(corpus, block_ids, seconds=clock() - start)
    if not is_first():
        return None
    parts = [rows_of(process) for process in range(processes)]
    rows = np.concatenate([part for part in parts if len(part)])  # without blocks a part has no dimension
    built = publish_version(rows, version, corpus=corpus, root=root, recipe=recipe, shard=shard)
    return replace(built, rates=rates)
