"""Embed all blocks of a corpus, short ones with short ones."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from realm_jax.errors import IndexFault, RefreshError
from realm_jax.types import NO_BLOCK, Blocks

LENGTH_MULTIPLE = 16  # row lengths are rounded up to multiples of this, so that few programs compile


class BlockSource(Protocol):
    """What is needed of a corpus."""

    def __len__(self) -> int: ...

    def token_counts(self) -> np.ndarray: ...  # of each block, title and body

    def gather(self, block_ids: np.ndarray) -> Blocks: ...


def embed_blocks(
    embed_fn: Callable[[Blocks, int], Any],
    corpus: BlockSource,
    *,
    batch_size: int,
    block_ids: np.ndarray | None = None,
    length_multiple: int = LENGTH_MULTIPLE,
    should_stop: Callable[[], bool] = lambda: False,
    progress: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """Embed blocks; batches hold blocks of similar length, in rows of a few lengths.

    Args:
      embed_fn: blocks `[batch_size, ...]`, and the length of a row that holds title and body of each, to
        `[batch_size, D]`.
      corpus: the blocks; at least one.
      batch_size: rows a call; the last batch is filled with null blocks.
      block_ids: int `[N]`, which blocks; None: all of them, in order.
      length_multiple: row lengths are multiples of this, or that of a row in which every block fits.
      should_stop: asked before each batch, and before the embeddings are returned.
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
    lengths = corpus.token_counts()
    block_ids = np.arange(len(lengths)) if block_ids is None else block_ids
    order = np.argsort(lengths[block_ids], kind="stable")
    for start in range(0, len(order), batch_size):
        _check_wanted(should_stop, done=start, count=len(order))
        rows = order[start : start + batch_size]
        ids = block_ids[rows]
        blocks = corpus.gather(np.pad(ids, (0, batch_size - len(ids)), constant_values=NO_BLOCK))
        widest = blocks.title.ids.shape[-1] + blocks.body.ids.shape[-1]
        result = embed_fn(blocks, int(row_lengths(lengths[ids[-1]], widest=widest, multiple=length_multiple)))
        if waiting is None:
            out = np.zeros((len(order), result.shape[1]), np.float32)
        else:
            _store(out, *waiting)
        waiting = rows, ids, result
        progress(start)
    if waiting is not None:
        _store(out, *waiting)
    progress(len(order))
    _check_wanted(should_stop, done=len(order), count=len(order))
    return out


def row_lengths(token_counts: np.ndarray, *, widest: int, multiple: int = LENGTH_MULTIPLE) -> np.ndarray:
    """Return the lengths of rows for blocks of so many tokens: multiples, but at most `widest`."""
    return np.minimum(-(-token_counts // multiple) * multiple, widest)


def _check_wanted(should_stop: Callable[[], bool], *, done: int, count: int) -> None:
    if should_stop():
        raise RefreshError(
            "a refresh runs to its end",
            got=f"a request to stop after {done} of {count} blocks",
            remedy="It starts again when the run is resumed.",
        )


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
