"""Counted FLOPs against those of the products that JAX itself would run."""

import math

import jax
import numpy as np
import pytest

from realm_jax.models.bert import Bert
from realm_jax.models.build import build_models
from realm_jax.models.flops import bert_flops, embedder_flops, encoder_flops, reader_flops, span_flops
from realm_jax.types import Tokens

ROWS, LENGTH, MASKS = 6, 11, 3


def models(**changes):
    bert = Bert(
        vocab_size=23, hidden_size=8, num_layers=2, num_heads=2, intermediate_size=20, max_positions=16
    )
    sizes = {"embedding_size": 5, "span_hidden_size": 7, "span_norm_eps": 1e-3, "max_span_width": 4}
    return build_models(bert=bert, two_towers=False, **{**sizes, **changes})


def is_program(value) -> bool:
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")


def product_flops(jaxpr) -> int:
    """Add up 2 x (elements of the result) x (length of the sum) of every matrix product, nested ones too."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (summed, _), _ = equation.params["dimension_numbers"]
            left, right = (variable.aval.shape for variable in equation.invars)
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in summed)
        programs = filter(is_program, jax.tree.leaves(equation.params, is_leaf=is_program))
        inner = [product_flops(getattr(program, "jaxpr", program)) for program in programs]
        # Of a choice one branch runs: each platform has its own order of the same products.
        total += max(inner, default=0) if equation.primitive.name == "cond" else sum(inner)
    return total


def traced(function, *arguments):
    return product_flops(jax.make_jaxpr(function)(*arguments).jaxpr)


def tokens(*shape):
    ids = np.ones(shape, np.int32)
    return Tokens(ids=ids, mask=ids > 0, segments=ids)


@pytest.mark.parametrize(
    "changes", [{}, {"embedding_size": None, "pooling": "mean"}, {"pooling": "cls"}], ids=str
)
def test_embedding(changes):
    made = models(**changes)
    params = jax.eval_shape(made.init, jax.random.key(0))
    found = traced(lambda p: made.embed_block(p, tokens(ROWS, LENGTH)), params)
    assert embedder_flops(made.embedder, rows=ROWS, length=LENGTH) == found


def test_reading_and_predicting_words():
    made = models()
    params = jax.eval_shape(made.init, jax.random.key(0))
    where = np.zeros((2, MASKS), np.int32)
    found = traced(lambda p: made.word_logits(p, tokens(2, ROWS // 2, LENGTH), where), params)
    assert encoder_flops(made.encoder, rows=ROWS, length=LENGTH, masks=MASKS) == found
    found = traced(lambda p: made.words_of(p, made.read(p, tokens(ROWS, LENGTH))[:, :MASKS]), params)
    assert encoder_flops(made.encoder, rows=ROWS, length=LENGTH, masks=MASKS, spans=True) == found


def test_reading_and_scoring_spans():
    made = models()
    params = jax.eval_shape(made.init, jax.random.key(0))
    found = traced(lambda p: made.span_scores(p, tokens(2, ROWS // 2, LENGTH)), params)
    assert reader_flops(made.reader, rows=ROWS, length=LENGTH) == found
    found = traced(lambda p: made.spans_of(p, np.ones((ROWS, LENGTH, 8), np.float32)), params)
    assert span_flops(made.reader, rows=ROWS, length=LENGTH) == found


def test_a_gradient_is_three_times_a_forward_pass():
    """But for the first layer's inputs, which are embeddings and have a gradient too."""
    bert = models().embedder.bert
    params = jax.eval_shape(bert.init, jax.random.key(0), tokens(ROWS, LENGTH))
    found = traced(jax.grad(lambda p: bert.apply(p, tokens(ROWS, LENGTH)).sum()), params)
    assert found == 3 * bert_flops(bert, rows=ROWS, length=LENGTH)
