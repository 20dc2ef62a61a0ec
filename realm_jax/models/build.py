"""Build the models of a run, and their parameters."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from realm_jax.models.bert import Bert
from realm_jax.models.embedder import Embedder
from realm_jax.models.knowledge_encoder import KnowledgeEncoder
from realm_jax.models.reader import Reader
from realm_jax.types import Array, Params, Tokens

TOWERS = {False: ("embedder", "embedder"), True: ("query_embedder", "block_embedder")}


@dataclass(frozen=True)
class Models:
    """The modules of one run; their parameters live in one dict under the names used here.

    Attributes:
      embedder: shared by both towers; with `two_towers` its parameters exist twice.
      encoder: the knowledge-augmented encoder.
      reader: the span reader.
      two_towers: queries and blocks have embedders of their own.
    """

    embedder: Embedder
    encoder: KnowledgeEncoder
    reader: Reader
    two_towers: bool

    @property
    def query_tower(self) -> str:
        """Name of the parameters that embed queries."""
        return TOWERS[self.two_towers][0]

    @property
    def block_tower(self) -> str:
        """Name of the parameters that embed blocks."""
        return TOWERS[self.two_towers][1]

    def embed_query(self, params: Params, tokens: Tokens, *, dropout_key: Array | None = None) -> Array:
        """Embed queries: `[..., L] -> float32 [..., D]`."""
        return self.embedder.apply({"params": params[self.query_tower]}, tokens, **_dropout(dropout_key))

    def embed_block(self, params: Params, tokens: Tokens, *, dropout_key: Array | None = None) -> Array:
        """Embed blocks: `[..., L] -> float32 [..., D]`."""
        return self.embedder.apply({"params": params[self.block_tower]}, tokens, **_dropout(dropout_key))

    def word_logits(self, params: Params, joint: Tokens, positions: Array) -> Array:
        """Predict masked words: `[B, K, L], [B, M] -> float32 [B, K, M, V]`."""
        return self.encoder.apply({"params": params["encoder"]}, joint, positions)

    def read(
        self,
        params: Params,
        joint: Tokens,
        positions: Array | None = None,
        *,
        dropout_key: Array | None = None,
    ) -> Array:
        """Read with the encoder: hidden states `[B, K, L, H]`, or `[B, K, M, H]` at `[B, M]` positions."""
        return self.encoder.apply(
            {"params": params["encoder"]}, joint, positions, method="read", **_dropout(dropout_key)
        )

    def words_of(self, params: Params, states: Array) -> Array:
        """Predict words from states of the encoder: `[..., H] -> float32 [..., V]`."""
        return self.encoder.apply({"params": params["encoder"]}, states, method="word_logits")

    def spans_of(self, params: Params, hidden: Array) -> Array:
        """Score spans from what the encoder read, by the reader's head: `[..., L, H] -> float32 [..., S]`."""
        return self.reader.apply({"params": params["reader"]}, hidden, method="score_spans")

    def reader_states(self, params: Params, joint: Tokens) -> Array:
        """Read question and block: `[B, K, L] -> [B, K, L, H]`, the states whose spans `spans_of` scores."""
        return self.reader.apply({"params": params["reader"]}, joint, method="states")

    def span_scores(self, params: Params, joint: Tokens, *, dropout_key: Array | None = None) -> Array:
        """Score answer spans: `[B, K, L] -> float32 [B, K, S]`."""
        return self.reader.apply({"params": params["reader"]}, joint, **_dropout(dropout_key))

    def init(self, key: Array) -> Params:
        """Make fresh parameters; every part has its own key, so adding one part leaves the others alone."""
        row = jnp.zeros((1, 1, 2), jnp.int32)
        tokens = Tokens(ids=row, mask=row == 0, segments=row)
        names = dict.fromkeys((self.query_tower, self.block_tower))
        keys = {
            name: jax.random.fold_in(key, place) for place, name in enumerate((*names, "encoder", "reader"))
        }
        params = {name: self.embedder.init(keys[name], tokens)["params"] for name in names}
        params["encoder"] = self.encoder.init(keys["encoder"], tokens, row[0, :, :1])["params"]
        params["reader"] = self.reader.init(keys["reader"], tokens)["params"]
        return params


def build_models(
    *,
    bert: Bert,
    embedding_size: int | None,
    two_towers: bool,
    span_hidden_size: int,
    span_norm_eps: float,
    max_span_width: int,
    pooling: str = "pooler",
    normalize: bool = False,
    embedder_bert: Bert | None = None,
) -> Models:
    """Build the three models around BERTs.

    Args:
      bert: of encoder and reader; each model gets parameters of its own for it.
      embedding_size: D; None or 0 leaves the projection out.
      two_towers: separate embedders for queries and blocks.
      span_hidden_size: hidden width of the span scorer.
      span_norm_eps: epsilon of the span scorer's LayerNorm.
      max_span_width: widest answer, tokens.
      pooling: what the embedder makes of a row's states: `pooler`, `cls` or `mean`.
      normalize: scale embeddings to length 1.
      embedder_bert: of the embedder; None is one of the same size.
    """
    return Models(
        embedder=Embedder(
            bert=embedder_bert or bert, embedding_size=embedding_size, pooling=pooling, normalize=normalize
        ),
        encoder=KnowledgeEncoder(bert=bert),
        reader=Reader(
            bert=bert,
            span_hidden_size=span_hidden_size,
            max_span_width=max_span_width,
            span_norm_eps=span_norm_eps,
        ),
        two_towers=two_towers,
    )


def _dropout(key: Array | None) -> dict:
    if key is None:
        return {"deterministic": True}
    return {"deterministic": False, "rngs": {"dropout": key}}
