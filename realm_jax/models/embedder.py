"""The embedder: BERT, one vector a row, and a projection into the space of the index.

Letters: L tokens, H hidden, D embedding.
"""

import flax.linen as nn
import jax.numpy as jnp

from realm_jax.errors import ConfigError
from realm_jax.models.bert import Bert, dense, layer_norm
from realm_jax.types import Array, Tokens

POOLINGS = ("pooler", "cls", "mean")


class Embedder(nn.Module):
    """Embed a query or a block.

    Attributes:
      bert: the encoder.
      embedding_size: D; None or 0 leaves the projection and its LayerNorm out, then D = H.
      pooling: what stands for the row: `pooler` (BERT's tanh pooler over [CLS]), `cls` (the state of [CLS])
        or `mean` (the mean over the unmasked tokens).
      normalize: scale embeddings to length 1.

    Source: REALM, section 3.2; the released code adds the tanh pooler and the LayerNorm. `cls` and `mean`
    without a projection are the usual sentence encoders.
    """

    bert: Bert
    embedding_size: int | None
    pooling: str = "pooler"
    normalize: bool = False

    def setup(self) -> None:
        if self.pooling not in POOLINGS:
            raise ConfigError(
                f"pooling must be one of {', '.join(POOLINGS)}",
                got=self.pooling,
                remedy="REALM uses pooler; sentence encoders say theirs in 1_Pooling/config.json.",
            )
        if self.pooling == "pooler":
            self.pooler = dense(self.bert.hidden_size, self.bert.dtype)
        if self.embedding_size:
            self.projection = dense(self.embedding_size, self.bert.dtype)
            self.projection_norm = layer_norm(self.bert.layer_norm_eps, jnp.float32)

    def __call__(self, tokens: Tokens, *, deterministic: bool = True) -> Array:
        """Return embeddings, float32 `[..., D]`, of tokens `[..., L]`."""
        pick = None if self.pooling == "mean" else first_state
        embeddings = self.pool(self.bert(tokens, deterministic=deterministic, pick=pick), tokens.mask)
        if self.embedding_size:
            embeddings = self.projection_norm(self.projection(embeddings).astype(jnp.float32))
        embeddings = embeddings.astype(jnp.float32)
        return unit_length(embeddings) if self.normalize else embeddings

    def pool(self, hidden: Array, mask: Array) -> Array:
        """Reduce last states to one vector a row, `[..., H]`: all `[..., L, H]` to their mean over the bool
        `mask` `[..., L]`, or the one of [CLS], `[..., 1, H]`."""
        if self.pooling == "mean":
            return masked_mean(hidden, mask)
        first = hidden[..., 0, :]
        return jnp.tanh(self.pooler(first)) if self.pooling == "pooler" else first


def first_state(hidden: Array) -> Array:
    """Pick the state of [CLS]: `[..., L, H]` to `[..., 1, H]`."""
    return hidden[..., :1, :]


def masked_mean(hidden: Array, mask: Array) -> Array:
    """Average the unmasked tokens.

    Args:
      hidden: `[..., L, H]`.
      mask: bool `[..., L]`; a row without a token gives 0.

    Returns:
      float32 `[..., H]`.
    """
    weights = mask.astype(jnp.float32)
    total = jnp.einsum("...lh,...l->...h", hidden.astype(jnp.float32), weights)
    count = jnp.sum(weights, axis=-1, keepdims=True)
    return total / jnp.broadcast_to(jnp.maximum(count, 1.0), total.shape)


def unit_length(embeddings: Array) -> Array:
    """Scale vectors `[..., D]` to length 1; a vector of zeros stays one, with a finite gradient."""
    square = jnp.sum(jnp.square(embeddings), axis=-1, keepdims=True)
    length = jnp.sqrt(jnp.maximum(square, jnp.float32(1e-24)))
    return embeddings / jnp.broadcast_to(length, embeddings.shape)
