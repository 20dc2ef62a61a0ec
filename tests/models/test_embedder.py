"""The embedder: its poolings, the projection and the unit length, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realm_jax.errors import ConfigError
from realm_jax.models.bert import Bert
from realm_jax.models.embedder import Embedder, masked_mean, unit_length
from realm_jax.types import Tokens

BERT = Bert(vocab_size=40, hidden_size=8, num_layers=1, num_heads=2, intermediate_size=16, max_positions=12)
IDS = np.random.default_rng(0).integers(5, 40, (3, 6)).astype(np.int32)
MASK = np.arange(6) < np.array([[6], [4], [1]])
TOKENS = Tokens(ids=IDS, mask=MASK, segments=np.zeros_like(IDS))


def embed(model: Embedder, tokens: Tokens = TOKENS) -> tuple[np.ndarray, dict]:
    params = model.init(jax.random.key(0), TOKENS)["params"]
    return np.asarray(model.apply({"params": params}, tokens)), params


def states(params: dict) -> np.ndarray:
    return np.asarray(BERT.apply({"params": params["bert"]}, TOKENS))


def test_default_is_pooler_projection_and_norm() -> None:
    got, params = embed(Embedder(bert=BERT, embedding_size=4))
    assert sorted(params) == ["bert", "pooler", "projection", "projection_norm"]
    pooled = np.tanh(states(params)[:, 0] @ params["pooler"]["kernel"])
    projected = pooled @ params["projection"]["kernel"]
    centred = projected - projected.mean(-1, keepdims=True)
    np.testing.assert_allclose(got, centred / centred.std(-1, keepdims=True), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("none", [None, 0])
def test_cls_without_projection_is_the_first_state(none: int | None) -> None:
    got, params = embed(Embedder(bert=BERT, embedding_size=none, pooling="cls"))
    assert sorted(params) == ["bert"]
    np.testing.assert_allclose(got, states(params)[:, 0], rtol=1e-6)


def test_mean_is_over_the_unmasked_tokens_of_unit_length() -> None:
    got, params = embed(Embedder(bert=BERT, embedding_size=None, pooling="mean", normalize=True))
    hidden = states(params)
    means = np.stack([hidden[b, MASK[b]].mean(0) for b in range(3)])
    np.testing.assert_allclose(got, means / np.linalg.norm(means, axis=-1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("pooling", ["pooler", "cls", "mean"])
def test_padding_changes_nothing(pooling: str) -> None:
    model = Embedder(bert=BERT, embedding_size=4, pooling=pooling)
    padded = Tokens(ids=np.where(MASK, IDS, 7).astype(np.int32), mask=MASK, segments=np.zeros_like(IDS))
    np.testing.assert_allclose(embed(model)[0], embed(model, padded)[0], rtol=1e-5, atol=1e-6)


def test_empty_rows_and_zero_vectors_stay_finite() -> None:
    assert not np.any(masked_mean(jnp.ones((1, 3, 2)), jnp.zeros((1, 3), bool)))
    zero = jnp.zeros((1, 4))
    assert not np.any(unit_length(zero))
    assert np.all(np.isfinite(jax.grad(lambda x: unit_length(x).sum())(zero)))


def test_an_unknown_pooling_is_refused() -> None:
    with pytest.raises(ConfigError, match="pooler, cls, mean"):
        embed(Embedder(bert=BERT, embedding_size=None, pooling="max"))
