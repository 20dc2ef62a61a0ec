"""What fresh parameters of a BERT start from.

`bert` is the published initialisation. It suits 768 wide states: 0.02 * 768 makes the logits of the masked-LM
head as large as they must become. `near_identity` is for narrow models that are trained from nothing in
minutes. Word embeddings are as large in proportion to the width. Attention starts as something useful: value
and output kernels near the identity pass on what is attended to; query and key kernels near the identity
attend to tokens that are alike. docs/RESULTS.md says what it is worth.

Source: Devlin et al. 2019; Trockman and Kolter 2023, "Mimetic Initialization of Self-Attention Layers".
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from realm_jax.types import Array

BERT_STD = 0.02  # of the published model, everywhere
BERT_WIDTH = 768

Initializer = Callable[..., Array]
BERT_INIT: Initializer = nn.initializers.normal(BERT_STD)


@dataclass(frozen=True)
class Start:
    """The initialisers of one kind of start.

    Attributes:
      word: of word embeddings `[V, H]`.
      place: of position and segment embeddings.
      scores: of query and key kernels `[H, H]`.
      values: of value and output kernels `[H, H]`.
    """

    word: Initializer
    place: Initializer
    scores: Initializer
    values: Initializer


def make_start(name: str, *, hidden_size: int) -> Start:
    """Choose the initialisers of a BERT: `bert` or `near_identity`."""
    if name == "bert":
        return Start(BERT_INIT, BERT_INIT, BERT_INIT, BERT_INIT)
    std = BERT_STD * BERT_WIDTH / hidden_size
    return Start(
        word=nn.initializers.normal(std),
        place=nn.initializers.normal(std / 3),
        scores=partial(near_identity, share=0.5),
        values=partial(near_identity, share=0.7),
    )


def near_identity(
    key: Array, shape: tuple[int, int], dtype: jnp.dtype = jnp.float32, *, share: float
) -> Array:
    """Add `share` times the identity to BERT's random kernel."""
    return nn.initializers.normal(BERT_STD)(key, shape, dtype) + share * jnp.eye(*shape, dtype=dtype)
