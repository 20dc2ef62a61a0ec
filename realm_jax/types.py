"""The frozen pytrees that cross folders.

Letters: B batch, K candidates (null block included), L tokens, M masked positions, S answer spans,
R blocks of a beam, D embedding.
Leading axes are written `...` where any number of them is allowed. Arrays are NumPy on the host and
jax.Array inside a step; both fit the same fields.
"""

from typing import Any

import numpy as np
from flax import struct

Array = Any  # np.ndarray | jax.Array
Params = Any  # a nested dict of arrays

NO_BLOCK = -1  # the block id of the null block, of padding, and of a query that was cut from no block


@struct.dataclass
class Rows:
    """Token rows of unequal length, padded with id 0 at the end."""

    ids: Array  # int32 [..., L]
    length: Array  # int32 [...]; 0 <= length <= L


@struct.dataclass
class Tokens:
    """What BERT reads."""

    ids: Array  # int32 [..., L]
    mask: Array  # bool [..., L]; False on padding
    segments: Array  # int32 [..., L]


@struct.dataclass
class Blocks:
    """Blocks as the prepared corpus stores them; the null block is [CLS] [SEP] and [SEP]."""

    title: Rows  # [CLS] title [SEP], [..., L_title]
    body: Rows  # body [SEP], [..., L_body]


@struct.dataclass
class StoredBlocks:
    """Blocks as devices keep them: row 0 is the null block, block i stands in row i + 1, padding behind."""

    blocks: Blocks  # [rows, ...], in the integer types of the prepared corpus
    duplicate_of: Array  # int32 [rows]; the first block with the same text, NO_BLOCK of the null block


@struct.dataclass
class MaskedBatch:
    """Masked texts (x) and the tokens that were masked (y)."""

    query: Rows  # [CLS] x [SEP] with [MASK] at the targets, [B, L]
    target_positions: Array  # int32 [B, M], positions in the query row
    target_ids: Array  # int32 [B, M]
    target_weights: Array  # float32 [B, M]; 1 on targets, 0 on padding
    origin: Array  # int32 [B]; the block of the searched corpus that x was cut from, or NO_BLOCK


@struct.dataclass
class IctBatch:
    """Pseudo-queries and their blocks; row b of one belongs to row b of the other."""

    query: Rows  # [CLS] sentence [SEP], [B, L]
    blocks: Blocks  # [B, ...]; the sentence is cut out most of the time
    block_ids: Array  # int32 [B]; equal ids are not negatives of each other


@struct.dataclass
class Candidates:
    """The blocks a query is read with."""

    block_ids: Array  # int32 [B, K]; NO_BLOCK for the null block and for padding
    blocks: Blocks  # [B, K, ...]
    is_null: Array  # bool [B, K]
    is_valid: Array  # bool [B, K]; False on trivial retrievals, duplicates and padding: probability 0


@struct.dataclass
class QuestionBatch:
    """Questions and, for each candidate, where an answer stands in its body."""

    question: Rows  # [CLS] question [SEP], [B, L], as the reader reads it
    answer_starts: Array  # int32 [B, K, S], token positions in the body
    answer_stops: Array  # int32 [B, K, S], inclusive last token
    answer_mask: Array  # bool [B, K, S]; False on padding
    asked: Rows | None = None  # the question as the retriever embeds it, where it is read rewritten


@struct.dataclass
class Beam:
    """The blocks a question's retriever is judged by: the K that are read, then further ones, R in all."""

    has_answer: Array  # bool [B, R]; the answer string stands in the block, whatever its width
    is_valid: Array  # bool [B, R]; False on padding: probability 0
    embeddings: Array | None = None  # float32 [B, R, D], rows of the index; None: the scores are given
    scores: Array | None = None  # float32 [B, R], of a retriever that is not trained; None: they are computed


@struct.dataclass
class Search:
    """What an index returns, best first; rows short of k are filled with NO_BLOCK and -inf."""

    scores: Array  # float32 [B, k]
    block_ids: Array  # int32 [B, k]


def tree_rows(tree: Any, rows: Any) -> Any:
    """Select rows of the leading axis in every NumPy leaf.

    Args:
      tree: a pytree of arrays `[B, ...]`.
      rows: an index, slice or integer array for axis 0.

    Returns:
      The same pytree with leaves `leaf[rows]`.
    """
    import jax

    return jax.tree.map(lambda leaf: np.asarray(leaf)[rows], tree)
