"""The embedder: BERT, its pooler, and a projection into the space of the index.

Letters: L tokens, H hidden, D embedding.
"""

import flax.linen as nn
import jax.numpy as jnp

from realm_jax.models.bert import Bert, layer_norm
from realm_jax.types import Array, Tokens


class Embedder(nn.Module):
    """Embed a query or a block.

    Attributes:
      bert: the encoder.
      embedding_size: D.

    Source: REALM, section 3.2; the released code adds the tanh pooler and the LayerNorm.
    """

    bert: Bert
    embedding_size: int

    def setup(self) -> None:
        dense = {"dtype": self.bert.dtype, "kernel_init": nn.initializers.normal(0.02)}
        self.pooler = nn.Dense(self.bert.hidden_size, **dense)
        self.projection = nn.Dense(self.embedding_size, **dense)
        self.projection_norm = layer_norm(self.bert.layer_norm_eps, jnp.float32)

    def __call__(self, tokens: Tokens, *, deterministic: bool = True) -> Array:
        """Return embeddings, float32 `[..., D]`, of tokens `[..., L]`."""
        first = self.bert(tokens, deterministic=deterministic)[..., 0, :]
        pooled = jnp.tanh(self.pooler(first))
        return self.projection_norm(self.projection(pooled).astype(jnp.float32))
