"""A warm start takes what fits, says what stays fresh, and refuses another size."""

from typing import Any

import chex
import pytest

from realm_jax.errors import CheckpointError
from realm_jax.models.warm_start import warm_start
from tests.models.small import plain_config, small_config, small_params


def test_a_sentence_encoder_starts_every_part() -> None:
    fresh = small_params(small_config(two_towers=True))
    imported = {"embedder": small_params(plain_config(pooling="mean"), seed=1)["embedder"]}
    started, left = warm_start(fresh, imported)
    for part in fresh:
        chex.assert_trees_all_equal(started[part]["bert"], imported["embedder"]["bert"])
    chex.assert_trees_all_equal(started["reader"]["score"], fresh["reader"]["score"])
    assert {name for name in left if name.startswith("query_embedder")} == {
        "query_embedder/pooler",
        "query_embedder/projection",
        "query_embedder/projection_norm",
    }


def test_a_part_of_the_same_name_comes_whole() -> None:
    fresh, imported = small_params(small_config()), small_params(small_config(), seed=1)
    started, left = warm_start(fresh, {"encoder": imported["encoder"], "embedder": imported["embedder"]})
    chex.assert_trees_all_equal(started["encoder"], imported["encoder"])
    chex.assert_trees_all_equal(started["embedder"], imported["embedder"])
    chex.assert_trees_all_equal(started["reader"]["bert"], imported["encoder"]["bert"])
    assert left == ["reader/end", "reader/score", "reader/span_norm", "reader/start"]


def test_a_head_of_another_size_stays_fresh() -> None:
    fresh = small_params(small_config())
    imported = small_params(small_config(embedding_size=3), seed=1)
    started, left = warm_start(fresh, imported)
    chex.assert_trees_all_equal(started["embedder"]["projection"], fresh["embedder"]["projection"])
    chex.assert_trees_all_equal(started["embedder"]["pooler"], imported["embedder"]["pooler"])
    assert left == ["embedder/projection", "embedder/projection_norm"]


@pytest.mark.parametrize(
    ("changes", "which"),
    [
        ({"vocab_size": 21}, r"word.*float32\[21, \d+\] imported for float32\["),
        ({"bert": small_config()["bert"] | {"num_layers": 1}}, r"nothing imported for float32\["),
    ],
)
def test_a_bert_of_another_size_is_refused(changes: dict[str, Any], which: str) -> None:
    with pytest.raises(CheckpointError, match=f"the BERT of embedder must have the size.*{which}"):
        warm_start(small_params(small_config()), small_params(small_config(**changes)))


def test_nothing_to_start_from_is_refused() -> None:
    with pytest.raises(CheckpointError, match="needs an imported part"):
        warm_start(small_params(small_config()), {})
