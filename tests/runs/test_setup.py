"""What a config names is opened, or refused by name before work starts."""

import dataclasses

import jax
import pytest

from realm_jax.config import ShapeConfig
from realm_jax.data.corpus import Corpus
from realm_jax.data.prepare import prepare
from realm_jax.errors import ConfigError
from realm_jax.runs.realm import run_realm
from realm_jax.runs.setup import check_vocabulary, initial_params, models_of, resolve
from realm_jax.train.checkpoint import Checkpoints
from tests.runs.compare import same
from tests.tiny_run import documents, write_jsonl


@pytest.fixture(scope="module")
def corpus(make_config):
    return Corpus.open(make_config().corpus)


@pytest.fixture(scope="module")
def start(make_config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "realm"
    run_realm(make_config(), workdir, stop_at=0)
    return workdir


def test_the_vocabulary_is_that_of_the_corpus(make_config, corpus):
    config = resolve(make_config(), corpus)
    assert config.model.vocab_size == len(corpus.tokenizer)
    assert resolve(config, corpus) == config


def test_another_vocabulary_size_is_refused(make_config, corpus):
    config = make_config()
    wrong = dataclasses.replace(config, model=dataclasses.replace(config.model, vocab_size=30_522))
    with pytest.raises(ConfigError, match="30522 for a corpus with"):
        resolve(wrong, corpus)


@pytest.mark.parametrize("name", ["query_length", "block_length", "joint_length"])
def test_a_row_longer_than_the_positions_is_refused(make_config, corpus, name):
    shapes = {"query_length": 24, "block_length": 64, "joint_length": 97} | {name: 97}
    if name == "query_length":
        shapes["joint_length"] = 98
    config = dataclasses.replace(make_config(), shapes=ShapeConfig(**shapes))
    with pytest.raises(ConfigError, match=r"96 positions for 9\d tokens"):
        resolve(config, corpus)


def test_texts_of_another_vocabulary_are_refused(corpus, tmp_path):
    source = write_jsonl(tmp_path / "documents.jsonl", documents()[:6])
    prepare([source], tmp_path / "text", vocab_size=120, max_block_tokens=60, title_tokens=8, workers=1)
    with pytest.raises(ConfigError, match="share their vocabulary"):
        check_vocabulary(Corpus.open(tmp_path / "text"), corpus)
    check_vocabulary(corpus, corpus)


def test_parameters_come_from_the_seed_or_from_the_run_before(make_config, corpus, start):
    models = models_of(resolve(make_config(), corpus))
    first, again, other = (initial_params(models, seed=seed, start_from=None) for seed in (0, 0, 1))
    assert same(first, again) and not same(first, other)
    saved = Checkpoints(start).restore_params()
    assert same(initial_params(models, seed=1, start_from=start), saved)


def test_a_shared_embedder_becomes_two_towers_that_do_not_share_memory(make_config, corpus, start):
    config = resolve(make_config(), corpus)
    models = models_of(dataclasses.replace(config, model=dataclasses.replace(config.model, two_towers=True)))
    params = initial_params(models, seed=0, start_from=start)
    saved = Checkpoints(start).restore_params()
    for tower in ("query_embedder", "block_embedder"):
        assert same(params[tower], saved["embedder"])
    changed = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf + 1, tree), donate_argnums=0)(
        params["query_embedder"]
    )
    assert not same(changed, params["block_embedder"])
    assert same(params["block_embedder"], saved["embedder"])


def test_parameters_of_another_size_are_refused_by_name(make_config, corpus, start):
    config = resolve(make_config(), corpus)
    smaller = dataclasses.replace(config, model=dataclasses.replace(config.model, embedding_size=8))
    with pytest.raises(ConfigError, match=r"embedder\.projection.* there, .* here") as refused:
        initial_params(models_of(smaller), seed=0, start_from=start)
    assert str(start / "config.json") in str(refused.value)
