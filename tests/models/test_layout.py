"""Parts are found in a file by the names that stand in it."""

import pytest

from realm_jax.errors import CheckpointError
from realm_jax.models.layout import EMBEDDER, ENCODER, READER, Place, architecture, find_places
from tests.models.small import small_config


def names(*places: Place) -> list[str]:
    return [rule.name for place in places for rule in place.rules(1)]


def test_parts_under_prefixes() -> None:
    parts = {
        "query_embedder": Place("scorer.query_embedder.", "realm.", EMBEDDER),
        "block_embedder": Place("scorer.embedder.", "realm.", EMBEDDER),
        "encoder": Place("encoder.", "realm.", ENCODER),
        "reader": Place("deep.er.", "realm.", READER),
    }
    assert find_places(names(*parts.values())) == (parts, "realm")


def test_a_place_without_words_is_still_found() -> None:
    """Tensors that are missing are then reported by name, not as a file without a BERT."""
    place = Place("", "realm.", READER)
    kept = [name for name in names(place) if "word_embeddings" not in name and "dense_inter" not in name]
    assert find_places(kept)[0] == {"reader": place}


def test_bert_is_an_embedder_and_with_a_head_an_encoder_too() -> None:
    bert = Place("", "bert.", ("bert", "pooler"))
    assert find_places(names(bert)) == ({"embedder": bert}, "bert")
    encoder = Place("", "bert.", ENCODER)
    assert find_places([*names(bert), *names(encoder)])[0] == {"embedder": bert, "encoder": encoder}


def test_none_and_twice_are_refused() -> None:
    with pytest.raises(CheckpointError, match="got none among the tensors a, b"):
        find_places(["a", "b"])
    twice = names(Place("one.", "realm.", ENCODER), Place("two.", "realm.", ENCODER))
    with pytest.raises(CheckpointError, match="encoder, encoder"):
        find_places(twice)


def test_architectures_are_found_again() -> None:
    for two in (False, True):
        config = small_config(two_towers=two)
        kind = architecture("RealmScorer", config)
        assert find_places(names(*kind.places.values()))[0] == kind.places
