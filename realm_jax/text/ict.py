"""Inverse cloze task: a sentence is the query, the block it came from the answer.

Source: Lee, Chang, Toutanova 2019 (ORQA), section 4.
"""

from typing import NamedTuple

import numpy as np


class IctPair(NamedTuple):
    """A pseudo-query and its block's body."""

    query: np.ndarray  # int32 [n], the sentence
    body: np.ndarray  # int32 [m], the body, most of the time without the sentence


def ict_pair(
    body: np.ndarray, sentences: np.ndarray, rng: np.random.Generator, *, keep_probability: float = 0.1
) -> IctPair:
    """Draw a sentence of a block as the query and cut it out of the body.

    Args:
      body: int32 [m], the body's tokens, [SEP] included.
      sentences: int32 [S, 2], token ranges in the body; S >= 2, so that something is left.
      rng: source of both choices.
      keep_probability: how often the sentence stays in the body, so that the embedder learns the
        overlap of words too.

    Returns:
      The query and the body.
    """
    start, stop = sentences[rng.integers(len(sentences))]
    keep = rng.random() < keep_probability
    query = body[start:stop]
    return IctPair(query, body if keep else np.concatenate([body[:start], body[stop:]]))
