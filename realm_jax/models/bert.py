"""BERT, as published (post-LayerNorm).

Letters: L tokens, P of them, H hidden. Leading axes are batch.
"""

import math
from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from realm_jax.errors import ConfigError
from realm_jax.models.dropout import Dropout
from realm_jax.models.start import BERT_INIT, Initializer, Start, make_start
from realm_jax.ops.attention import Affine, cheapest
from realm_jax.ops.product import PRODUCT, add_bias, product, scores_of
from realm_jax.types import Array, Tokens

# What a layer keeps for the backward pass, by name; the rest is computed again. None: everything is kept.
REMATERIALISATIONS: dict[str, Callable[..., bool] | None] = {
    "none": None,
    "full": jax.checkpoint_policies.nothing_saveable,
    # Products with weights are kept; attention scores, of size L x L, are not.
    "matmuls": jax.checkpoint_policies.save_only_these_names(PRODUCT),
}

Pick = Callable[[Array], Array]  # states [..., L, H] -> those of P tokens [..., P, H]

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "relu": jax.nn.relu,
}


class Attention(nn.Module):
    """Attend from tokens `[..., P, H]` to every unmasked token of their row, `[..., L, H]`.

    Attributes:
      num_heads: heads; divides the hidden size.
      dropout: rate on attention probabilities.
      dtype: compute dtype; the softmax is float32.
      start: initialisers of the kernels.
    """

    num_heads: int
    dropout: float
    dtype: jnp.dtype
    start: Start

    @nn.compact
    def __call__(self, asking: Array, hidden: Array, mask: Array, *, deterministic: bool) -> Array:
        size = hidden.shape[-1]
        heads = (self.num_heads, size // self.num_heads)
        query = dense(size, self.dtype, "query", kernel_init=self.start.scores)(asking)
        keys = HeadsLayer(heads, self.dtype, self.start.scores, name="key")(size)
        values = HeadsLayer(heads, self.dtype, self.start.values, name="value")(size)
        attend = cheapest(asking=asking.shape[-2], length=hidden.shape[-2], heads=self.num_heads, hidden=size)
        scores, mix = attend(query.reshape(*query.shape[:-1], *heads), hidden, keys, values)
        scores = scores * jnp.float32(heads[1] ** -0.5)
        allowed = jnp.broadcast_to(mask[..., None, None, :], scores.shape)
        weights = jax.nn.softmax(jnp.where(allowed, scores, jnp.float32(-1e9)), axis=-1).astype(self.dtype)
        weights = Dropout(self.dropout)(weights, deterministic=deterministic)
        context = mix(weights).reshape(asking.shape)
        return dense(size, self.dtype, "out", kernel_init=self.start.values)(context)


class HeadsLayer(nn.Module):
    """Hold a linear layer to heads `[heads, D]`, with the parameters of `Dense`; its kernel in `dtype`."""

    heads: tuple[int, int]
    dtype: jnp.dtype
    kernel_init: Initializer

    @nn.compact
    def __call__(self, inputs: int) -> Affine:
        outputs = math.prod(self.heads)
        kernel = self.param("kernel", self.kernel_init, (inputs, outputs), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (outputs,), jnp.float32)
        return Affine(
            kernel=kernel.astype(self.dtype).reshape(inputs, *self.heads),
            bias=bias.reshape(self.heads),
        )


class Layer(nn.Module):
    """Apply attention and feed-forward, each with residual and LayerNorm after it.

    `asking` are the tokens whose new states are wanted, `[..., P, H]`: all of `hidden`, or some.
    """

    num_heads: int
    intermediate_size: int
    activation: str
    layer_norm_eps: float
    dropout: float
    dtype: jnp.dtype
    start: Start

    @nn.compact
    def __call__(self, asking: Array, hidden: Array, mask: Array, deterministic: bool) -> Array:
        drop = partial(Dropout(self.dropout), deterministic=deterministic)
        attended = Attention(self.num_heads, self.dropout, self.dtype, self.start, name="attention")(
            asking, hidden, mask, deterministic=deterministic
        )
        states = layer_norm(self.layer_norm_eps, self.dtype, "attention_norm")(asking + drop(attended))
        inner = dense(self.intermediate_size, self.dtype, "intermediate")(states)
        outer = dense(states.shape[-1], self.dtype, "output")(ACTIVATIONS[self.activation](inner))
        return layer_norm(self.layer_norm_eps, self.dtype, "output_norm")(states + drop(outer))


class Bert(nn.Module):
    """Encode tokens with BERT.

    Attributes:
      vocab_size: V.
      hidden_size: H.
      num_layers: Transformer layers.
      num_heads: attention heads; divides `hidden_size`.
      intermediate_size: width of the feed-forward layers.
      max_positions: longest row, in tokens.
      type_vocab_size: number of segments.
      activation: a key of `ACTIVATIONS`.
      layer_norm_eps: epsilon of every LayerNorm.
      dropout: rate on embeddings, attention probabilities and sublayer outputs.
      dtype: compute dtype; parameters, LayerNorm and softmax stay float32.
      rematerialisation: a key of `REMATERIALISATIONS`.
      start: what fresh parameters start from, see `models.start`.

    Source: Devlin et al. 2019; parameter for parameter the published checkpoints.
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    max_positions: int = 512
    type_vocab_size: int = 2
    activation: str = "gelu_tanh"
    layer_norm_eps: float = 1e-12
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32
    rematerialisation: str = "none"
    start: str = "bert"

    def setup(self) -> None:
        start = make_start(self.start, hidden_size=self.hidden_size)
        self.word = self._table(self.vocab_size, start.word)
        self.position = self._table(self.max_positions, start.place)
        self.segment = self._table(self.type_vocab_size, start.place)
        self.embedding_norm = layer_norm(self.layer_norm_eps, self.dtype)
        self.embedding_dropout = Dropout(self.dropout)
        kept = REMATERIALISATIONS[self.rematerialisation]
        make = Layer if kept is None else nn.remat(Layer, policy=kept, static_argnums=(4,))
        self.layers = [
            make(
                self.num_heads,
                self.intermediate_size,
                self.activation,
                self.layer_norm_eps,
                self.dropout,
                self.dtype,
                start,
            )
            for _ in range(self.num_layers)
        ]

    def __call__(self, tokens: Tokens, *, deterministic: bool = True, pick: Pick | None = None) -> Array:
        """Return the last hidden states, `[..., L, H]`, or `[..., P, H]` of the tokens that `pick` picks."""
        return self.hidden_states(tokens, deterministic=deterministic, pick=pick)[-1]

    def hidden_states(
        self, tokens: Tokens, *, deterministic: bool = True, pick: Pick | None = None
    ) -> list[Array]:
        """Return the states after the embeddings and after each layer.

        Args:
          tokens: `[..., L]`.
          deterministic: False turns dropout on.
          pick: chooses the tokens whose last states are wanted. The last layer then computes no others, which
            changes no value.

        Returns:
          `num_layers + 1` of `[..., L, H]`; with `pick` the last is `[..., P, H]`.
        """
        length = tokens.ids.shape[-1]
        if length > self.max_positions:
            raise ConfigError(
                f"rows must fit BERT's {self.max_positions} positions",
                got=f"{length} tokens",
                remedy="Shorten shapes.*_length, or train with a larger bert.max_positions.",
            )
        position = self.position(jnp.arange(length, dtype=jnp.int32))
        hidden = self.word(tokens.ids) + self.segment(tokens.segments)
        hidden = self.embedding_norm(hidden + jnp.broadcast_to(position, hidden.shape))
        states = [self.embedding_dropout(hidden, deterministic=deterministic)]
        for layer in self.layers:
            asking = pick(states[-1]) if pick and layer is self.layers[-1] else states[-1]
            states.append(layer(asking, states[-1], tokens.mask, deterministic))
        return states

    def attend(self, hidden: Array) -> Array:
        """Multiply with the word embeddings: `[..., H] -> float32 [..., V]`."""
        return scores_of(hidden, self.word.embedding.astype(self.dtype).T)

    def _table(self, entries: int, embedding_init: Initializer) -> nn.Embed:
        # Looked up in float32, so that the gradient of an entry is a sum over its tokens in float32.
        return nn.Embed(entries, self.hidden_size, dtype=jnp.float32, embedding_init=embedding_init)


class Float32Norm(nn.LayerNorm):
    """Normalise in float32, whatever comes in, and return `out_dtype`."""

    out_dtype: jnp.dtype = jnp.float32

    def __call__(self, x: Array) -> Array:  # type: ignore[override]
        return super().__call__(x.astype(jnp.float32)).astype(self.out_dtype)


def layer_norm(epsilon: float, dtype: jnp.dtype, name: str | None = None) -> nn.LayerNorm:
    """Make a LayerNorm that computes in float32 and returns `dtype`."""
    return Float32Norm(
        epsilon=epsilon, dtype=jnp.float32, out_dtype=dtype, name=name, use_fast_variance=False
    )


def dense(
    features: int,
    dtype: jnp.dtype,
    name: str | None = None,
    *,
    kernel_init: Initializer = BERT_INIT,
) -> "Dense":
    """Make a linear layer, with BERT's initialisation unless told otherwise."""
    return Dense(features, dtype, kernel_init, name=name)


class Dense(nn.Module):
    """A linear layer that multiplies in `dtype`; parameters and the sum with the bias are float32."""

    features: int
    dtype: jnp.dtype
    kernel_init: Initializer

    @nn.compact
    def __call__(self, states: Array) -> Array:
        shape = (states.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        return add_bias(product(states.astype(self.dtype), kernel.astype(self.dtype)), bias)
