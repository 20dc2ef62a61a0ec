"""Embed all blocks of a corpus, short ones with short ones."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from realm_jax.types import NO_BLOCK, Blocks, Rows


class BlockSource(Protocol):
    """What is needed of a corpus."""

    def __len__(self) -> int: ...

    def lengths(self) -> np.ndarray: ...

    def gather(self, block_ids: np.ndarray) -> Blocks: ...


def embed_blocks(
    embed_fn: Callable[[Blocks], Any],
    corpus: BlockSource,
    *,
    batch_size: int,
    length_multiple: int = 32,
    should_stop: Callable[[], bool] = lambda: False,
    progress: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """Embed every block; batches hold blocks of similar length, cut to a few widths.

    Args:
      embed_fn: blocks `[batch_size, ...]` to `[batch_size, D]`.
      corpus: the blocks.
      batch_size: rows a call; the last batch is filled with null blocks.
      length_multiple: body widths are rounded up to multiples of this, so that few programs compile.
      should_stop: asked before each batch; True ends early.
      progress: told how many blocks are done.

    Returns:
      float32 `[N, D]` in block order.
    """
    order = np.argsort(corpus.lengths(), kind="stable")
    out: np.ndarray | None = None
    for start in range(0, len(order), batch_size):
        if should_stop():
            break
        ids = order[start : start + batch_size]
        padded = np.full(batch_size, NO_BLOCK, np.int64)
        padded[: len(ids)] = ids
        blocks = corpus.gather(padded)
        body = blocks.body
        width = min(-(-int(body.length.max()) // length_multiple) * length_multiple, body.ids.shape[1])
        cut = blocks.replace(body=Rows(ids=body.ids[:, :width], length=body.length))
        rows = np.asarray(embed_fn(cut), np.float32)[: len(ids)]
        if out is None:
            out = np.zeros((len(order), rows.shape[1]), np.float32)
        out[ids] = rows
        progress(start + len(ids))
    return out if out is not None else np.zeros((0, 0), np.float32)
