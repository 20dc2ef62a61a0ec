"""What an index says of itself, and the measurement it must pass."""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from realm_jax.errors import IndexFault, RecallError
from realm_jax.index.exact import ExactIndex
from realm_jax.index.protocol import Index
from realm_jax.index.retriever import seen_before

FORMAT = 1
ROWS_AT_ONCE = 1 << 18  # of the truth search: it must not put a large index on the trainer's device


@dataclass(frozen=True)
class IndexManifest:
    """The facts about one version of an index."""

    version: int  # training step whose parameters embedded it
    corpus_hash: str
    count: int  # N
    dimension: int  # D
    engine: str
    settings: dict[str, Any]
    recall: float  # measured recall@recall_k against exact search
    recall_k: int
    recall_sample: int  # queries
    # versions of equal parts of the blocks, in order, where it is a mixture; empty: all are of `version`
    shards: list[int] = field(default_factory=list)
    format: int = FORMAT

    def to_json(self) -> str:
        """Write the manifest as JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "IndexManifest":
        """Read a manifest.

        Raises:
          IndexFault: the text is no manifest of this format.
        """
        try:
            values = json.loads(text)
            if values["format"] != FORMAT:
                raise ValueError(f"format {values['format']}")
            manifest = cls(**values)
            for name in ("version", "count", "dimension", "recall", "recall_k"):
                if isinstance(value := values[name], bool) or not isinstance(value, int | float):
                    raise ValueError(f"{name} {value!r}")
            if not all(isinstance(shard, int) for shard in manifest.shards):
                raise ValueError(f"shards {manifest.shards!r}")
            return manifest
        except (ValueError, KeyError, TypeError) as error:
            raise IndexFault(
                f"an index manifest is JSON of format {FORMAT}",
                got=str(error),
                remedy="Build the index again.",
            ) from error


def measure_recall(index: Index, embeddings: np.ndarray, queries: np.ndarray, *, k: int) -> float:
    """Measure which share of the true k nearest blocks an index finds.

    Args:
      index: the index to test.
      embeddings: float32 `[N, D]`, what it was built from.
      queries: float32 `[Q, D]`.
      k: results compared.

    Returns:
      Mean recall@k. A block as near as the k-th nearest counts as found, so ties cost nothing.
    """
    k = min(k, len(embeddings))
    ids = index.search(queries, k).block_ids
    kth = best_scores(embeddings, queries, k=k)[:, -1:]
    return recall_of(kth, true_scores(embeddings, queries, ids), ids)


def recall_of(kth: np.ndarray, scores: np.ndarray, block_ids: np.ndarray) -> float:
    """Return the share of results that are as near as the k-th nearest.

    The ids are judged by their true scores, each once: an engine's own scores may be approximate.

    Args:
      kth: float32 `[Q, 1]`, true scores of the k-th nearest.
      scores: float32 `[Q, k]`, true scores of the results.
      block_ids: int32 `[Q, k]`, the results.
    """
    tolerance = 1e-5 * np.maximum(1.0, np.abs(kth))
    return float(((scores >= kth - tolerance) & (block_ids >= 0) & ~seen_before(block_ids)).mean())


def true_scores(embeddings: np.ndarray, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Score results `[Q, k]` by their embeddings: float32 `[Q, k]`; of NO_BLOCK it is that of any row."""
    return np.einsum("qd,qkd->qk", queries, embeddings[np.maximum(rows, 0)])


def best_scores(embeddings: np.ndarray, queries: np.ndarray, *, k: int) -> np.ndarray:
    """Return the true k best scores of each query, best first: float32 `[Q, k]`, in bounded device memory."""
    best = np.full((len(queries), k), -np.inf, np.float32)
    for start in range(0, len(embeddings), ROWS_AT_ONCE):
        found = ExactIndex(embeddings[start : start + ROWS_AT_ONCE]).search(queries, k).scores
        best = -np.sort(-np.concatenate([best, found], axis=1), axis=1)[:, :k]
    return best


def check_recall(recall: float, *, k: int, floor: float, engine: str) -> None:
    """Refuse an index below its recall floor, when it is built and whenever it is opened.

    Raises:
      RecallError: it finds too little.
    """
    if not recall >= floor:  # a NaN is no recall
        raise RecallError(
            f"the {engine} index must reach recall@{k} of {floor} against exact search",
            got=f"{recall:.3f}",
            remedy="Use the engine `exact`, or lower index.recall_floor knowingly.",
        )
