"""Search the corpus for any text: with the run's own index, by BM25, or not at all."""

from collections.abc import Sequence
from typing import get_args

import jax
import numpy as np

from realm_jax.config import RetrieverName
from realm_jax.data.corpus import BlockText
from realm_jax.errors import ConfigError
from realm_jax.index.retriever import choose_blocks, retrieve_candidates
from realm_jax.inspect.loaded import LoadedRun
from realm_jax.text.packing import pack_texts
from realm_jax.types import NO_BLOCK, Candidates, Rows, Search


def text_rows(run: LoadedRun, texts: Sequence[str]) -> Rows:
    """Tokenise texts for a run by `pack_texts`: rows `[B, L]`, L being its query length."""
    return pack_texts(texts, run.corpus.tokenizer, length=run.config.shapes.query_length)


def search(run: LoadedRun, texts: Sequence[str], *, retriever: RetrieverName, k: int) -> Search:
    """Find the k best blocks of each text.

    Args:
      run: the run.
      texts: B questions or sentences.
      retriever: `model` (the run's embedder and index), `bm25`, or `null`, which finds nothing.
      k: how many.

    Returns:
      Scores and ids `[B, k]`.

    Raises:
      ConfigError: another retriever.
    """
    if retriever not in get_args(RetrieverName):
        raise ConfigError(
            f"a retriever is one of {', '.join(get_args(RetrieverName))}",
            got=retriever,
            remedy="Choose one of them.",
        )
    if retriever == "null":
        shape = (len(texts), k)
        return Search(
            scores=np.full(shape, -np.inf, np.float32), block_ids=np.full(shape, NO_BLOCK, np.int32)
        )
    if retriever == "bm25":
        return run.lexical.search_texts(texts, k)
    return search_rows(run, text_rows(run, texts), k=k)


def search_rows(run: LoadedRun, rows: Rows, *, k: int) -> Search:
    """Find the k best blocks of tokenised texts `[B, L]` with the run's embedder and index."""
    count = len(rows.length)
    batches = (jax.tree.map(lambda leaf, n=numbers: leaf[n], rows) for numbers, _ in run.batches(count))
    embeddings = np.concatenate([np.asarray(run.embed_queries(run.params, batch)) for batch in batches])
    # One search for all passes over the index once for many; whole batches, for few programs to compile.
    return jax.tree.map(lambda leaf: leaf[:count], run.version.index.search(embeddings, k))


def read_candidates(run: LoadedRun, found: Search, *, count: int) -> tuple[Candidates, np.ndarray]:
    """Choose the blocks that are read: the best ones, without duplicates.

    Args:
      run: the run.
      found: search results `[B, k]`.
      count: K.

    Returns:
      Candidates `[B, K]` and their scores float32 `[B, K]`, 0 where a candidate is no block. A row for which
      nothing was found reads the null block.
    """
    origin = np.full(len(found.block_ids), NO_BLOCK, np.int32)
    kept = choose_blocks(found, run.corpus.duplicate_of, count=count, origin=origin)
    candidates = retrieve_candidates(kept, run.corpus, candidates=count, origin=origin, null_block=False)
    scores = np.where(np.isfinite(kept.scores), kept.scores, 0.0).astype(np.float32)
    return candidates, scores


def retrieve(
    run: LoadedRun, text: str, *, retriever: RetrieverName = "model", k: int = 5
) -> list[tuple[float, int, BlockText]]:
    """Search the corpus for one text.

    Returns:
      Score, block id and text of at most k blocks, best first.

    Raises:
      ConfigError: k is below 1.
    """
    if k < 1:
        raise ConfigError("a search finds at least 1 block", got=f"k {k}", remedy="5 is usual.")
    found = search(run, [text], retriever=retriever, k=k)
    return [
        (float(score), block_id, run.corpus.text(block_id))
        for score, block_id in zip(found.scores[0], found.block_ids[0].tolist(), strict=True)
        if block_id != NO_BLOCK
    ]
