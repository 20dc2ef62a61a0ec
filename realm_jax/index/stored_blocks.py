"""The tokens of all blocks on the devices, where a fused step gathers its candidates."""

import jax
import numpy as np
from jax.sharding import Mesh

from realm_jax.data.corpus import Corpus
from realm_jax.index.exact import spread_rows
from realm_jax.types import NO_BLOCK, Array, Blocks, Rows, StoredBlocks


def stored_rows(count: int, *, devices: int) -> int:
    """Count the rows of N blocks: the null block added, and padding to a multiple of the devices."""
    return -(-(count + 1) // devices) * devices


def keep_blocks(corpus: Corpus, *, mesh: Mesh | None = None) -> StoredBlocks:
    """Put titles, bodies and their lengths on the devices, each device its share of the rows.

    Args:
      corpus: N blocks; its arrays are read once, a device's share at a time.
      mesh: the devices; None is the default device.

    Returns:
      Rows in the types of the corpus: uint16 where the vocabulary allows it.
    """
    total = stored_rows(len(corpus), devices=1 if mesh is None else mesh.size)

    def keep(array: np.ndarray, null: np.ndarray) -> Array:
        def part(start: int, stop: int) -> np.ndarray:
            rows = array[max(start - 1, 0) : max(stop - 1, 0)]
            if start == 0:
                rows = np.concatenate([null.astype(array.dtype), rows])
            return np.pad(rows, ((0, stop - start - len(rows)), *((0, 0),) * (rows.ndim - 1)))

        return spread_rows(part, (total, *array.shape[1:]), mesh=mesh)

    arrays = corpus.arrays
    blocks = Blocks(
        title=Rows(ids=arrays["titles"], length=arrays["title_lengths"]),
        body=Rows(ids=arrays["bodies"], length=arrays["body_lengths"]),
    )
    null = np.array([NO_BLOCK], np.int32)
    return StoredBlocks(
        blocks=jax.tree.map(keep, blocks, corpus.gather(null)),
        duplicate_of=keep(corpus.duplicate_of, null),
    )
