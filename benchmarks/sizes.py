"""The sizes and tokens both sides compute with; needs NumPy alone."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

CLS, SEP, MASK, FIRST_WORD = 101, 102, 103, 1000  # of BERT's vocabulary
READ = 5  # blocks a question


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


class RawCorpus:
    """A prepared corpus, read without realm_jax by the side that does not have it; see docs/DESIGN.md.

    Args:
      folder: of the corpus.
    """

    def __init__(self, folder: str):
        arrays = json.loads((Path(folder) / "manifest.json").read_text(encoding="utf-8"))["arrays"]
        self._arrays = {
            name: np.memmap(Path(folder) / f"{name}.bin", about["dtype"], "r", shape=tuple(about["shape"]))
            for name, about in arrays.items()
        }
        self._text = (Path(folder) / "texts.bin").read_bytes()

    def __len__(self) -> int:
        return len(self._arrays["bodies"])

    def row(self, block_id: int) -> np.ndarray:
        """Return [CLS] title [SEP] body [SEP], int64 `[n]`."""
        title, body = (
            self._arrays[part][block_id][: self._arrays[lengths][block_id]]
            for part, lengths in (("titles", "title_lengths"), ("bodies", "body_lengths"))
        )
        return np.concatenate([title, body]).astype(np.int64)

    def body(self, block_id: int) -> bytes:
        """Return the text of a block, UTF-8."""
        start, stop = self._arrays["text_offsets"][3 * block_id + 2 : 3 * block_id + 4].tolist()
        return self._text[start:stop]


def block_embeddings(count: int, dimension: int) -> np.ndarray:
    """Draw what stands for the embeddings of blocks: float32 `[count, dimension]`."""
    return np.random.default_rng(0).standard_normal((count, dimension), dtype=np.float32)


def some_blocks(count: int, total: int) -> np.ndarray:
    """Choose blocks of a corpus at random, in its order: int64 `[count]`."""
    return np.sort(np.random.default_rng(0).choice(total, min(count, total), replace=False))
