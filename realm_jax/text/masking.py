"""Which tokens of a sentence are masked: a salient span, a random span, or tokens here and there.

All chosen tokens become [MASK]; none is kept or replaced by another word as in BERT.
Source: REALM section 3.4 (salient spans) and table 2 (random spans, random uniform masks).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from realm_jax.errors import ConfigError


class Masker(NamedTuple):
    """A way to choose the tokens to mask."""

    # (token ids int32 [n], salient spans int32 [P, 3], generator, most masks) -> positions int32 [m], m >= 1
    positions: Callable[[np.ndarray, np.ndarray, np.random.Generator, int], np.ndarray]
    needs_span: bool  # a sentence needs a salient span of at most `max_masks` tokens


def salient_mask(ids: np.ndarray, spans: np.ndarray, rng: np.random.Generator, max_masks: int) -> np.ndarray:
    """Mask one salient span whole, each of those short enough with equal probability.

    Args:
      ids: int32 [n], one sentence.
      spans: int32 [P, 3]; start, stop (exclusive), kind.
      rng: source of the choice.
      max_masks: longest span taken.

    Returns:
      Positions int32 [m], in order.

    Raises:
      ConfigError: no span is short enough.
    """
    del ids
    fits = spans[spans[:, 1] - spans[:, 0] <= max_masks]
    if not len(fits):
        raise ConfigError(
            f"Salient masking needs a span of at most {max_masks} tokens",
            got=spans.tolist(),
            remedy="Leave such sentences out, or raise max_masks.",
        )
    start, stop = fits[rng.integers(len(fits)), :2]
    return np.arange(start, stop, dtype=np.int32)


def random_span_mask(
    ids: np.ndarray, spans: np.ndarray, rng: np.random.Generator, max_masks: int
) -> np.ndarray:
    """Mask a run of tokens anywhere; its length is geometric (p = 0.2) and at most 10.

    Source: span masking of SpanBERT (Joshi et al. 2019), section 3.1, which counts words where this
    counts wordpieces.

    Returns:
      Positions int32 [m], in order.
    """
    del spans
    length = min(int(rng.geometric(0.2)), 10, max_masks, len(ids))
    start = int(rng.integers(len(ids) - length + 1))
    return np.arange(start, start + length, dtype=np.int32)


def uniform_mask(ids: np.ndarray, spans: np.ndarray, rng: np.random.Generator, max_masks: int) -> np.ndarray:
    """Mask 15% of the tokens, at least one, each with equal probability.

    Source: Devlin et al. 2018, section 3.1.

    Returns:
      Positions int32 [m], in order.
    """
    del spans
    count = min(max(1, round(0.15 * len(ids))), max_masks)
    return np.sort(rng.permutation(len(ids))[:count]).astype(np.int32)


MASKERS: dict[str, Masker] = {
    "salient": Masker(salient_mask, needs_span=True),
    "random_span": Masker(random_span_mask, needs_span=False),
    "uniform": Masker(uniform_mask, needs_span=False),
}


def get_masker(name: str) -> Masker:
    """Return the masker of that name."""
    if name not in MASKERS:
        raise ConfigError(f"A masker is one of {', '.join(MASKERS)}", got=name, remedy="Choose one of them.")
    return MASKERS[name]
