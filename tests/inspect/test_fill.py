"""Filling masks: against the parts it is made of, and what is refused."""

import dataclasses

import numpy as np
import pytest

from realm_jax.errors import CheckpointError, ConfigError
from realm_jax.inspect.evaluate import evaluate_run
from realm_jax.inspect.fill import fill_masks
from realm_jax.inspect.loaded import LoadedRun
from realm_jax.types import NO_BLOCK

SENTENCE = "The capital of Peru is [MASK]."


def test_the_null_block_comes_first_and_probabilities_add_up(realm: LoadedRun):
    filled = fill_masks(realm, SENTENCE)
    assert filled.fillings[0].block_id == NO_BLOCK and filled.fillings[0].text == ""
    assert len(filled.fillings) == realm.config.shapes.candidates
    assert len({one.block_id for one in filled.fillings}) == len(filled.fillings)
    assert sum(one.retrieval_probability for one in filled.fillings) == pytest.approx(1, rel=1e-5)
    assert filled.token_marginal is None and filled.fillings[0].target_probability is None


def test_the_marginal_is_the_mean_of_the_candidates_weighed_by_retrieval(realm: LoadedRun):
    size = realm.corpus.tokenizer.vocab_size
    filled = fill_masks(realm, SENTENCE, top=size)
    mixture = dict.fromkeys(realm.corpus.tokenizer.vocabulary, 0.0)
    for one in filled.fillings:
        for word, probability in one.guesses[0]:
            mixture[word] += one.retrieval_probability * probability
    assert sum(mixture.values()) == pytest.approx(1, rel=1e-4)
    for word, probability in filled.guesses[0]:
        assert probability == pytest.approx(mixture[word], rel=1e-4)
    shown = [probability for _, probability in filled.guesses[0]]
    assert shown == sorted(shown, reverse=True)


def test_a_target_of_several_wordpieces_stretches_the_mask(realm: LoadedRun):
    target = "Nairobi Santiago"
    pieces = len(realm.corpus.tokenizer.encode(target).ids)
    if pieces > realm.config.shapes.max_masks:
        target, pieces = "Lima Oslo", len(realm.corpus.tokenizer.encode("Lima Oslo").ids)
    filled = fill_masks(realm, SENTENCE, target=target)
    assert pieces > 1 and filled.sentence.count("[MASK]") == pieces == len(filled.guesses)
    chances = np.array([one.target_probability for one in filled.fillings])
    prior = np.array([one.retrieval_probability for one in filled.fillings])
    assert filled.sequence_marginal == pytest.approx(float(prior @ chances), rel=1e-4)
    assert filled.token_marginal is not None and filled.token_marginal > 0


def test_for_one_wordpiece_both_marginals_are_the_same(realm: LoadedRun):
    word = next(w for w in ("peru", "lima", "capital", "is") if w in realm.corpus.tokenizer.vocabulary)
    filled = fill_masks(realm, SENTENCE, target=word, top=realm.corpus.tokenizer.vocab_size)
    assert filled.sequence_marginal == pytest.approx(filled.token_marginal, rel=1e-4)
    assert dict(filled.guesses[0])[word] == pytest.approx(filled.token_marginal, rel=1e-4)


def test_other_retrievers_give_the_candidates(realm: LoadedRun):
    null = fill_masks(realm, SENTENCE, retriever="null")
    assert [one.block_id for one in null.fillings] == [NO_BLOCK]
    assert null.fillings[0].retrieval_probability == pytest.approx(1)
    words = fill_masks(realm, SENTENCE, retriever="bm25")
    assert words.fillings[1].title == "Peru"
    assert len(fill_masks(realm, SENTENCE, candidates=2).fillings) == 2


def test_what_cannot_be_filled_in_is_refused(realm: LoadedRun):
    with pytest.raises(ConfigError, match="holds"):
        fill_masks(realm, "The capital of Peru is Lima.")
    with pytest.raises(ConfigError, match="at most 4 masks"):
        fill_masks(realm, "[MASK] " * 5)
    with pytest.raises(ConfigError, match="0 of them within the length"):
        fill_masks(realm, "Peru " * 100 + "[MASK]")
    with pytest.raises(ConfigError, match="wordpieces"):
        fill_masks(realm, "[MASK] and [MASK] and [MASK]", target="is")
    with pytest.raises(ConfigError, match="known wordpieces"):
        fill_masks(realm, SENTENCE, target="\u4e16")


def test_an_encoder_that_was_never_trained_fills_in_nothing(realm: LoadedRun):
    ict = dataclasses.replace(realm, phase="ict")
    with pytest.raises(CheckpointError, match="encoder was trained.*phase ict.*realm_jax read"):
        fill_masks(ict, SENTENCE)
    with pytest.raises(CheckpointError, match="encoder was trained"):
        evaluate_run(ict, None, utility_batches=1)
