"""How fine-tuning scores the blocks of its beam: with what may be trained of the retriever.

Letters: B batch, K candidates that are read, R blocks of the beam, the first K of them read, D embedding.

All have the signature of `Relevance`.
"""

from typing import Protocol

import jax.numpy as jnp

from realm_jax.models.build import Models
from realm_jax.ops.relevance import relevance_score
from realm_jax.ops.rows import block_tokens, single
from realm_jax.types import Array, Beam, Candidates, Params, Rows


class Relevance(Protocol):
    """Score questions `[B, L]` against their beams: float32 `[B, R]`; `keys` are None without dropout."""

    def __call__(
        self,
        params: Params,
        keys: tuple[Array | None, Array | None],
        question: Rows,
        candidates: Candidates,
        beam: Beam,
    ) -> Array: ...


def given_relevance(
    params: Params,
    keys: tuple[Array | None, Array | None],
    question: Rows,
    candidates: Candidates,
    beam: Beam,
) -> Array:
    """Take the scores of the search: nothing of the retriever is trained."""
    del params, keys, question, candidates
    return beam.scores


def query_side_relevance(
    params: Params,
    keys: tuple[Array | None, Array | None],
    question: Rows,
    candidates: Candidates,
    beam: Beam,
    *,
    models: Models,
) -> Array:
    """Embed the questions, and take the blocks' rows of the index: the query embedder alone is trained.

    Source: ORQA, section 5; REALM, section 4.2.
    """
    del candidates
    queries = models.embed_query(params, single(question), dropout_key=keys[0])
    return relevance_score(queries, beam.embeddings)


def end_to_end_relevance(
    params: Params,
    keys: tuple[Array | None, Array | None],
    question: Rows,
    candidates: Candidates,
    beam: Beam,
    *,
    models: Models,
    block_length: int,
) -> Array:
    """Embed questions and the blocks that are read; further blocks of the beam keep their rows of the index.

    Source: EMDR2 and Atlas, which train both sides and embed the corpus anew from time to time.
    """
    queries = models.embed_query(params, single(question), dropout_key=keys[0])
    tokens = block_tokens(candidates.blocks, length=block_length)
    read = models.embed_block(params, tokens, dropout_key=keys[1])  # [B, K, D]
    others = jnp.asarray(beam.embeddings)[:, read.shape[1] :]
    return relevance_score(queries, jnp.concatenate([read, others], axis=1))
