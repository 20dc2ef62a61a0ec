"""From a query to the blocks it is read with: embed, search, fetch, leave out what must not be read."""

from collections.abc import Callable

import jax
import numpy as np

from realm_jax.data.corpus import Corpus
from realm_jax.index.protocol import Index
from realm_jax.index.retriever import retrieve_candidates
from realm_jax.models.build import Models
from realm_jax.ops.rows import single
from realm_jax.types import Array, Candidates, Params, Rows

EmbedQueries = Callable[[Params, Rows], Array]  # (parameters, rows [B, L]) -> float32 [B, D]


def query_embedder(models: Models) -> EmbedQueries:
    """Compile the embedding of queries; takes all parameters, by name."""
    return jax.jit(lambda params, rows: models.embed_query(params, single(rows)))


class CandidateSearch:
    """Find the candidates of embedded queries.

    Args:
      corpus: the searched corpus.
      candidates: K, the null block included.
      extra: blocks searched beyond K, to replace trivial retrievals and duplicates.
      null_block: put the null block first.
    """

    def __init__(self, corpus: Corpus, *, candidates: int, extra: int, null_block: bool):
        self._corpus = corpus
        self._candidates, self._extra, self._null_block = candidates, extra, null_block

    def __call__(self, index: Index, embeddings: Array, origin: np.ndarray) -> Candidates:
        """Return `[B, K]` candidates.

        Args:
          index: the live index.
          embeddings: float32 `[B, D]`, from `query_embedder`.
          origin: int32 `[B]`, the block each query was cut from, or NO_BLOCK.
        """
        found = index.search(np.asarray(embeddings), self._candidates + self._extra)
        return retrieve_candidates(
            found, self._corpus, candidates=self._candidates, origin=origin, null_block=self._null_block
        )
