"""The work of a model: floating-point operations of its matrix products, counted from its sizes.

A multiplication and an addition are two operations. What is no matrix product (softmax, LayerNorm, gathers)
is left out, as is usual for the share of a device's peak. Letters: L tokens.
"""

from realm_jax.models.bert import Bert
from realm_jax.models.embedder import Embedder
from realm_jax.models.knowledge_encoder import KnowledgeEncoder
from realm_jax.models.reader import Reader

TRAINED = 3  # forward, and twice that backward: for the inputs and for the weights


def bert_flops(bert: Bert, *, rows: int, length: int) -> int:
    """Count a forward pass over rows of L tokens."""
    hidden, inner = bert.hidden_size, bert.intermediate_size
    projections = 4 * 2 * length * hidden * hidden
    attention = 2 * 2 * length * length * hidden
    feed_forward = 2 * 2 * length * hidden * inner
    return rows * bert.num_layers * (projections + attention + feed_forward)


def embedder_flops(embedder: Embedder, *, rows: int, length: int) -> int:
    """Count the embedding of rows of L tokens."""
    hidden = embedder.bert.hidden_size
    pooling = {"pooler": 2 * hidden * hidden, "mean": 2 * length * hidden, "cls": 0}[embedder.pooling]
    projection = 2 * hidden * (embedder.embedding_size or 0)
    return bert_flops(embedder.bert, rows=rows, length=length) + rows * (pooling + projection)


def encoder_flops(encoder: KnowledgeEncoder, *, rows: int, length: int, masks: int) -> int:
    """Count the reading of joint rows of L tokens and the prediction of `masks` words in each."""
    hidden = encoder.bert.hidden_size
    head = masks * 2 * hidden * (hidden + encoder.bert.vocab_size)
    return bert_flops(encoder.bert, rows=rows, length=length) + rows * head


def reader_flops(reader: Reader, *, rows: int, length: int) -> int:
    """Count the reading of joint rows of L tokens and the scoring of all spans in each."""
    return bert_flops(reader.bert, rows=rows, length=length) + span_flops(reader, rows=rows, length=length)


def span_flops(reader: Reader, *, rows: int, length: int) -> int:
    """Count the scoring of all spans in rows of L tokens that were read."""
    spans = sum(length - width for width in range(min(reader.max_span_width, length)))
    ends = 2 * 2 * length * reader.bert.hidden_size * reader.span_hidden_size
    return rows * (ends + spans * 2 * reader.span_hidden_size)
