"""From a query to the blocks it is read with: embed, search, fetch, leave out what must not be read."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import jax
import numpy as np
from jax.sharding import Mesh

from realm_jax.data.corpus import Corpus
from realm_jax.hosts.meeting import start_together
from realm_jax.hosts.rows import EVERY_ROW, BatchShare, collected, own_rows, place_rows
from realm_jax.index.protocol import Index
from realm_jax.index.retriever import retrieve_candidates
from realm_jax.mesh import batch_shards, split_rows
from realm_jax.models.build import Models
from realm_jax.ops.rows import single
from realm_jax.train.sharding import gather, param_shardings
from realm_jax.types import Array, Candidates, Params, Rows, tree_rows

Timed = Callable[[], AbstractContextManager[None]]  # a context whose seconds are noted
EmbedQueries = Callable[[Params, Rows], Array]  # (parameters, rows [b, L] of this process) -> float32 [B, D]


def query_embedder(models: Models, mesh: Mesh | None = None) -> EmbedQueries:
    """Compile the embedding of queries; takes all parameters, by name, laid out as in training."""
    if mesh is None:
        return jax.jit(lambda params, rows: models.embed_query(params, single(rows)))
    shapes = jax.eval_shape(models.init, jax.random.key(0))
    program = jax.jit(
        lambda params, rows: models.embed_query(gather(params, mesh=mesh), single(rows)),
        in_shardings=(param_shardings(mesh, shapes), split_rows(mesh)),
        out_shardings=split_rows(mesh),
    )
    start = start_together(program, "queries")
    return lambda params, rows: start(params, place_rows(rows, mesh))


def embed_probes(embed: EmbedQueries, rows: Rows, mesh: Mesh | None) -> Callable[[Params], np.ndarray]:
    """Embed the same rows again and again, with other parameters.

    Args:
      embed: from `query_embedder`.
      rows: `[B, L]`, the same on every process; any number of them.
      mesh: the devices.

    Returns:
      `(parameters) -> float32 [B, D]` on every process.
    """
    count = rows.ids.shape[0]
    short = -count % batch_shards(mesh)
    filled = jax.tree.map(lambda leaf: np.concatenate([leaf, np.repeat(leaf[:1], short, axis=0)]), rows)
    held = tree_rows(filled, own_rows(mesh, count + short))
    return lambda params: collected(embed(params, held))[:count]


class CandidateSearch:
    """Find the candidates of embedded queries.

    Args:
      corpus: the searched corpus.
      candidates: K, the null block included.
      extra: blocks searched beyond K, to replace trivial retrievals and duplicates.
      null_block: put the null block first.
      timed: makes a context in which the index is searched.
      share: what this process reads of a batch.
    """

    def __init__(
        self,
        corpus: Corpus,
        *,
        candidates: int,
        extra: int,
        null_block: bool,
        timed: Timed = nullcontext,
        share: BatchShare = EVERY_ROW,
    ):
        self._corpus, self._timed, self._share = corpus, timed, share
        self._candidates, self._extra, self._null_block = candidates, extra, null_block

    def __call__(self, index: Index, embeddings: Array, origin: np.ndarray) -> Candidates:
        """Return the candidates `[b, K]` of the rows that this process reads.

        Args:
          index: the live index.
          embeddings: float32 `[B, D]`, from `query_embedder`.
          origin: int32 `[b]`, the block each query was cut from, or NO_BLOCK.
        """
        queries = self._share.held(embeddings)
        with self._timed():
            found = self._share.drawn_of_own(index.search(queries, self._candidates + self._extra))
        return retrieve_candidates(
            found, self._corpus, candidates=self._candidates, origin=origin, null_block=self._null_block
        )
