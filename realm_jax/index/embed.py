"""Embed all blocks of a corpus, short ones with short ones."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from realm_jax.errors import IndexFault, RefreshError
from realm_jax.types import NO_BLOCK, Blocks, Rows


class BlockSource(Protocol):
    """What is needed of a corpus."""

    def __len__(self) -> int: ...

    def lengths(self) -> np.ndarray: ...  # tokens of each body

    def gather(self, block_ids: np.ndarray) -> Blocks: ...


def embed_blocks(
    embed_fn: Callable[[Blocks], Any],
    corpus: BlockSource,
    *,
    batch_size: int,
    block_ids: np.ndarray | None = None,
    length_multiple: int = 32,
    should_stop: Callable[[], bool] = lambda: False,
    progress: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """Embed blocks; batches hold blocks of similar length, cut to a few widths.

    Args:
      embed_fn: blocks `[batch_size, ...]` to `[batch_size, D]`.
      corpus: the blocks; at least one.
      batch_size: rows a call; the last batch is filled with null blocks.
      block_ids: int `[N]`, which blocks; None: all of them, in order.
      length_multiple: body widths are rounded up to multiples of this, so that few programs compile.
      should_stop: asked before each batch.
      progress: told how many blocks are done.

    Returns:
      float32 `[N, D]`, a row a block in the order of `block_ids`.

    Raises:
      IndexFault: an embedding is not finite.
      RefreshError: it was asked to stop.
    """
    out = np.zeros((0, 0), np.float32)
    # Rows, blocks and embeddings of a batch that the device computes while the next one is gathered.
    waiting: tuple[np.ndarray, np.ndarray, Any] | None = None
    lengths = corpus.lengths()
    block_ids = np.arange(len(lengths)) if block_ids is None else block_ids
    order = np.argsort(lengths[block_ids], kind="stable")
    for start in range(0, len(order), batch_size):
        if should_stop():
            raise RefreshError(
                "the embedding of a corpus runs to its last block",
                got=f"a request to stop after {start} of {len(order)} blocks",
                remedy="It starts again when the run is resumed.",
            )
        rows = order[start : start + batch_size]
        ids = block_ids[rows]
        result = embed_fn(_batch(corpus, ids, batch_size=batch_size, length_multiple=length_multiple))
        if waiting is None:
            out = np.zeros((len(order), result.shape[1]), np.float32)
        else:
            _store(out, *waiting)
        waiting = rows, ids, result
        progress(start)
    if waiting is not None:
        _store(out, *waiting)
    progress(len(order))
    return out


def _batch(corpus: BlockSource, ids: np.ndarray, *, batch_size: int, length_multiple: int) -> Blocks:
    """Gather `[batch_size, ...]` blocks, their bodies cut to the multiple that holds the longest."""
    padded = np.full(batch_size, NO_BLOCK, np.int64)
    padded[: len(ids)] = ids
    blocks = corpus.gather(padded)
    body = blocks.body
    width = min(-(-int(body.length.max()) // length_multiple) * length_multiple, body.ids.shape[1])
    return replace(blocks, body=Rows(ids=body.ids[:, :width], length=body.length))


def _store(out: np.ndarray, rows: np.ndarray, ids: np.ndarray, result: Any) -> None:
    embeddings = np.asarray(result, np.float32)[: len(ids)]
    finite = np.isfinite(embeddings).all(axis=1)
    if not finite.all():
        raise IndexFault(
            "block embeddings are finite",
            got=f"NaN or infinity in {int((~finite).sum())} of a batch, block {ids[~finite][0]} first",
            remedy="The parameters have diverged: go back to an earlier checkpoint, lower the learning rate.",
        )
    out[rows] = embeddings
