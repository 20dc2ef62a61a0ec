"""What fresh parameters start from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realm_jax.models.bert import Bert
from realm_jax.types import Tokens

SIZE = {"vocab_size": 300, "hidden_size": 64, "num_layers": 1, "num_heads": 4, "intermediate_size": 128}


@pytest.fixture(scope="module")
def fresh():
    ids = jnp.ones((1, 3), jnp.int32)
    tokens = Tokens(ids=ids, mask=ids > 0, segments=ids - 1)
    key = jax.random.key(0)
    return {
        start: Bert(**SIZE, start=start).init(key, tokens)["params"] for start in ("bert", "near_identity")
    }


def std(table):
    """Standard deviation, with four standard errors of it as tolerance."""
    return float(np.std(table)), 4 * float(np.std(table)) / np.sqrt(2 * table.size)


@pytest.mark.parametrize(("start", "words"), [("bert", 0.02), ("near_identity", 0.02 * 768 / 64)])
def test_word_embeddings_are_as_large_as_the_width_asks_for(fresh, start, words):
    found, tolerance = std(np.asarray(fresh[start]["word"]["embedding"]))
    assert abs(found - words) < tolerance


@pytest.mark.parametrize(("kernel", "share"), [("query", 0.5), ("key", 0.5), ("value", 0.7), ("out", 0.7)])
def test_attention_starts_near_the_identity(fresh, kernel, share):
    for start, expected in (("bert", 0.0), ("near_identity", share)):
        found = np.asarray(fresh[start]["layers_0"]["attention"][kernel]["kernel"])
        rest, tolerance = std(found - expected * np.eye(64, dtype=np.float32))
        assert abs(rest - 0.02) < tolerance


def test_the_feed_forward_layers_start_as_published(fresh):
    for start in fresh:
        found, tolerance = std(np.asarray(fresh[start]["layers_0"]["intermediate"]["kernel"]))
        assert abs(found - 0.02) < tolerance
