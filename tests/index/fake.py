"""Vectors with near neighbours, and a corpus that holds only what an index asks for."""

import numpy as np

from realm_jax.text.packing import null_blocks
from realm_jax.types import NO_BLOCK, Blocks, Rows

CLS, SEP = 1, 2


def clustered(count: int, *, dimension: int = 32, centres: int = 50, seed: int = 0) -> np.ndarray:
    """Draw float32 [count, dimension] around a few centres; the centres do not depend on the seed."""
    places = np.random.default_rng(7).standard_normal((centres, dimension))
    rng = np.random.default_rng(seed)
    vectors = places[rng.integers(0, centres, count)] + 0.4 * rng.standard_normal((count, dimension))
    return vectors.astype(np.float32)


def brute_force(queries: np.ndarray, embeddings: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the true scores and ids of the k nearest, ties by lower id: float32 and int64 [B, k]."""
    scores = queries.astype(np.float64) @ embeddings.T.astype(np.float64)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, axis=1).astype(np.float32), order


class FakeCorpus:
    """Block i holds the tokens 10 + i, repeated `lengths[i]` times."""

    def __init__(self, lengths: list[int], *, body_width: int = 40, duplicate_of: list[int] | None = None):
        self._lengths = np.array(lengths, np.int32)
        self._width = body_width
        self.duplicate_of = np.array(duplicate_of or range(len(lengths)), np.int32)

    def __len__(self) -> int:
        return len(self._lengths)

    def token_counts(self) -> np.ndarray:
        return self._lengths + 1 + 2  # a title is [CLS] [SEP]

    def gather(self, block_ids: np.ndarray) -> Blocks:
        ids = np.asarray(block_ids)
        blocks = null_blocks(ids.shape, title_length=3, body_length=self._width, cls_id=CLS, sep_id=SEP)
        length = np.where(ids == NO_BLOCK, 0, self._lengths[np.maximum(ids, 0)])
        place = np.arange(self._width)
        body = np.where(place < length[..., None], 10 + ids[..., None], 0)
        body = np.where(place == length[..., None], SEP, body).astype(np.int32)
        return Blocks(title=blocks.title, body=Rows(ids=body, length=(length + 1).astype(np.int32)))
