"""Training a vocabulary: the same texts give the same one, and what is refused."""

import pytest

from realm_jax.errors import ConfigError
from realm_jax.text.tokenizer import SPECIAL_TOKENS, Tokenizer
from realm_jax.text.vocabulary import train_vocabulary

TEXTS = ["The cathedral of Reims, the cathedrals of France.", "A cathedral café in Reims (1211)."] * 3


def test_training_is_repeatable_and_starts_with_the_specials():
    first, second = (train_vocabulary(TEXTS, vocab_size=90) for _ in range(2))
    assert first == second and tuple(first[:5]) == SPECIAL_TOKENS and len(first) <= 90
    # The order of the texts does not matter either: only counts do.
    assert train_vocabulary(list(reversed(TEXTS)), vocab_size=90) == first


def test_a_trained_vocabulary_knows_its_texts():
    tokenizer = Tokenizer(train_vocabulary(TEXTS, vocab_size=120))
    for text in TEXTS:
        assert tokenizer.unk_id not in tokenizer.encode(text).ids
    assert len(tokenizer.encode("cathedral").ids) == 1


def test_rare_characters_are_left_out():
    vocabulary = train_vocabulary([*TEXTS, "\u4e2d once"], vocab_size=120)
    assert "\u4e2d" not in vocabulary and "e" in vocabulary


def test_what_training_refuses():
    with pytest.raises(ConfigError, match="twice"):
        train_vocabulary(iter(TEXTS), vocab_size=90)
    with pytest.raises(ConfigError, match="alphabet"):
        train_vocabulary(TEXTS, vocab_size=12)


@pytest.mark.parametrize("wrong", [{"min_frequency": 0}, {"vocab_size": 10**13}, {"vocab_size": 0}])
def test_sizes_no_vocabulary_can_have(wrong):
    with pytest.raises(ConfigError, match="at least once"):
        train_vocabulary(TEXTS, **{"vocab_size": 100, **wrong})
