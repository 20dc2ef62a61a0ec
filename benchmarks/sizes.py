"""The sizes and tokens both sides compute with; needs NumPy alone."""

from dataclasses import dataclass

import numpy as np

CLS, SEP, MASK, FIRST_WORD = 101, 102, 103, 1000  # of BERT's vocabulary


@dataclass(frozen=True)
class Size:
    """A BERT of any size, and what goes through it."""

    hidden: int = 128
    layers: int = 2
    heads: int = 2
    intermediate: int = 512
    vocabulary: int = 30522
    embedding: int = 128
    dropout: float = 0.1
    batch: int = 8  # texts
    candidates: int = 8  # blocks a text, the null block first
    query_length: int = 64
    block_length: int = 128
    masks: int = 8  # a text


@dataclass(frozen=True)
class StepTokens:
    """The tokens of a pre-training step; every row is as long as it may be, but for the null block."""

    queries: np.ndarray  # int32 [B, L_query], [CLS] x [SEP] with [MASK]
    positions: np.ndarray  # int32 [B, M], in ascending order
    targets: np.ndarray  # int32 [B, M]
    titles: np.ndarray  # int32 [B, K - 1, 8], without special tokens
    bodies: np.ndarray  # int32 [B, K - 1, L_block - 1], without special tokens


def step_tokens(size: Size, *, seed: int = 0) -> StepTokens:
    """Draw the tokens of a step."""
    rng = np.random.default_rng(seed)

    def words(*shape: int) -> np.ndarray:
        low = min(FIRST_WORD, size.vocabulary // 2)
        return rng.integers(low, size.vocabulary, shape).astype(np.int32)

    queries = words(size.batch, size.query_length)
    queries[:, 0], queries[:, -1] = CLS, SEP
    places = np.arange(1, size.query_length - 1)
    positions = np.stack([np.sort(rng.choice(places, size.masks, replace=False)) for _ in queries])
    targets = np.take_along_axis(queries, positions, axis=1)
    np.put_along_axis(queries, positions, MASK, axis=1)
    blocks = size.batch, size.candidates - 1
    return StepTokens(
        queries, positions.astype(np.int32), targets, words(*blocks, 8), words(*blocks, size.block_length - 1)
    )
