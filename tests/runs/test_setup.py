"""What a config names is opened, or refused by name before work starts."""

import dataclasses
from types import SimpleNamespace

import jax
import pytest

from realm_jax.config import MeshConfig, RefreshConfig, ShapeConfig
from realm_jax.data.corpus import Corpus
from realm_jax.data.prepare import prepare
from realm_jax.errors import ConfigError
from realm_jax.models.pretrained import import_pretrained
from realm_jax.runs.imported import export_run
from realm_jax.runs.realm import run_realm
from realm_jax.runs.setup import (
    check_vocabulary,
    devices_of,
    initial_params,
    mesh_of,
    models_of,
    resolve,
)
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


@pytest.fixture(scope="module")
def own_sizes(make_config):
    """A config whose embedder is narrower than encoder and reader."""
    config = make_config()
    small = dataclasses.replace(config.model.bert, hidden_size=8, num_heads=1, num_layers=1)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, embedder_bert=small))


def test_an_embedder_of_its_own_size_reads_and_retrieves(own_sizes, corpus, start, tmp_path):
    """Encoder and reader come from another run, whose embedder is of another size."""
    last = run_realm(own_sizes, tmp_path / "realm", encoder_from=start, stop_at=1)
    assert last["loss"] > 0
    made, given = Checkpoints(tmp_path / "realm").restore_params(), Checkpoints(start).restore_params()
    assert same(made["reader"], given["reader"])
    models = models_of(resolve(own_sizes, corpus))
    for options in ({"start_from": tmp_path / "realm"}, {"start_from": None}):
        params = initial_params(models, seed=0, encoder_from=start, **options)
        assert same(params["encoder"], given["encoder"])
    widths = {leaf.shape[-1] for leaf in jax.tree.leaves(params["embedder"]["bert"])}
    assert 8 in widths and own_sizes.model.bert.hidden_size not in widths


def test_parts_of_other_sizes_are_refused(own_sizes, corpus, start):
    models = models_of(resolve(own_sizes, corpus))
    with pytest.raises(ConfigError, match="must have the sizes of model"):
        initial_params(models, seed=0, start_from=start)
    with pytest.raises(ConfigError, match="must have the sizes of model"):
        initial_params(models, seed=0, start_from=start, encoder_from=start)


def test_an_encoder_starts_from_an_embedder_of_its_size_only(own_sizes, make_config, start, tmp_path):
    for config, encoder_from in ((own_sizes, None), (make_config(), start)):
        realm = dataclasses.replace(config.realm, encoder_from_embedder=True)
        with pytest.raises(ConfigError, match="encoder_from_embedder needs an embedder"):
            run_realm(dataclasses.replace(config, realm=realm), tmp_path / "run", encoder_from=encoder_from)


def test_an_embedder_of_its_own_size_has_its_own_rules(own_sizes, corpus):
    short = dataclasses.replace(own_sizes.model.embedder_bert, max_positions=10)
    config = dataclasses.replace(own_sizes, model=dataclasses.replace(own_sizes.model, embedder_bert=short))
    with pytest.raises(ConfigError, match=r"model\.embedder_bert\.max_positions must cover"):
        resolve(config, corpus)
    with pytest.raises(ConfigError, match=r"must divide model\.embedder_bert\.num_heads"):
        mesh_of(dataclasses.replace(own_sizes, mesh=MeshConfig(tensor=2)), "realm")


def test_a_class_of_one_size_holds_no_two(own_sizes, corpus, start, tmp_path):
    config = resolve(own_sizes, corpus)
    params = initial_params(models_of(config), seed=0, start_from=None, encoder_from=start)
    own = {
        "sidecar": tmp_path,
        "vocabulary": corpus.path / "vocab.txt",
        "block_embeddings": None,
        "corpus": corpus,
    }
    with pytest.raises(ConfigError, match="BERTs of one size"):
        export_run(params, config, tmp_path / "qa", architecture="RealmForOpenQA", **own)
    for name, part in (("RealmEmbedder", "embedder"), ("RealmReader", "reader")):
        export_run(params, config, tmp_path / name, architecture=name, **own)
        assert same(import_pretrained(tmp_path / name).params[part], params[part])


@pytest.mark.parametrize(
    ("owners", "spared", "embedding"),
    [
        ([0] * 8, 3, [5, 6, 7]),
        ([0, 0, 0, 0, 1, 1, 1, 1], 2, [3, 7]),
        ([0, 1, 0, 1, 0, 1], 4, [2, 4, 3, 5]),  # as the torus of a slice may want it
        ([0, 0, 1, 1], 0, []),
    ],
)
def test_every_process_sets_its_last_devices_apart(make_config, owners, spared, embedding):
    devices = [SimpleNamespace(id=number, process_index=owner) for number, owner in enumerate(owners)]
    refresh = RefreshConfig(worker="submesh", devices=spared) if spared else RefreshConfig()
    config = dataclasses.replace(make_config(), refresh=refresh)
    train, embed = devices_of(config, "realm", devices)
    assert [device.id for device in embed] == embedding
    assert train == [device for device in devices if device not in embed]


def test_devices_that_not_all_processes_can_set_apart_are_refused(make_config):
    devices = [SimpleNamespace(id=number, process_index=number // 2) for number in range(8)]
    config = dataclasses.replace(make_config(), refresh=RefreshConfig(worker="submesh", devices=3))
    with pytest.raises(ConfigError, match=r"refresh\.devices 3 of 4 processes.*multiple of 4"):
        devices_of(config, "realm", devices)
