"""The work of a model: floating-point operations of its matrix products, counted from its sizes.

A multiplication and an addition are two operations. What is no matrix product (softmax, LayerNorm, gathers)
is left out, as is usual for the share of a device's peak. Letters: L tokens.
"""

from realm_jax.models.bert import Bert
from realm_jax.models.embedder import Embedder
from realm_jax.models.knowledge_encoder import KnowledgeEncoder
from realm_jax.models.reader import Reader
from realm_jax.ops.attention import attention_products, cheapest

TRAINED = 3  # forward, and twice that backward: for the inputs and for the weights


def bert_flops(bert: Bert, *, rows: int, length: int, wanted: int | None = None) -> int:
    """Count a forward pass over rows of L tokens; of the last states `wanted` are used, or all."""
    whole = layer_flops(bert, length=length, asking=length)
    last = layer_flops(bert, length=length, asking=length if wanted is None else wanted)
    return rows * ((bert.num_layers - 1) * whole + last)


def layer_flops(bert: Bert, *, length: int, asking: int) -> int:
    """Count one layer on a row of L tokens, of which `asking` get new states."""
    hidden, inner = bert.hidden_size, bert.intermediate_size
    sizes = {"asking": asking, "length": length, "heads": bert.num_heads, "hidden": hidden}
    attention = 2 * attention_products(cheapest(**sizes), **sizes)
    queries_and_outputs = 2 * 2 * asking * hidden * hidden
    feed_forward = 2 * 2 * asking * hidden * inner
    return attention + queries_and_outputs + feed_forward


def embedder_flops(embedder: Embedder, *, rows: int, length: int) -> int:
    """Count the embedding of rows of L tokens."""
    hidden = embedder.bert.hidden_size
    pooling = {"pooler": 2 * hidden * hidden, "mean": 2 * length * hidden, "cls": 0}[embedder.pooling]
    projection = 2 * hidden * (embedder.embedding_size or 0)
    wanted = None if embedder.pooling == "mean" else 1
    return bert_flops(embedder.bert, rows=rows, length=length, wanted=wanted) + rows * (pooling + projection)


def encoder_flops(
    encoder: KnowledgeEncoder, *, rows: int, length: int, masks: int, spans: bool = False
) -> int:
    """Count the reading of joint rows of L tokens and the prediction of `masks` words in each.

    With `spans` all states are wanted, for `span_flops`, which is counted apart.
    """
    hidden = encoder.bert.hidden_size
    head = masks * 2 * hidden * (hidden + encoder.bert.vocab_size)
    wanted = None if spans else masks
    return bert_flops(encoder.bert, rows=rows, length=length, wanted=wanted) + rows * head


def reader_flops(reader: Reader, *, rows: int, length: int) -> int:
    """Count the reading of joint rows of L tokens and the scoring of all spans in each."""
    return bert_flops(reader.bert, rows=rows, length=length) + span_flops(reader, rows=rows, length=length)


def span_flops(reader: Reader, *, rows: int, length: int) -> int:
    """Count the scoring of all spans in rows of L tokens that were read."""
    spans = sum(length - width for width in range(min(reader.max_span_width, length)))
    ends = 2 * 2 * length * reader.bert.hidden_size * reader.span_hidden_size
    return rows * (ends + spans * 2 * reader.span_hidden_size)
