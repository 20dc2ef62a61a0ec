"""A run on eight devices: the same as on one, with an index that is refreshed beside it."""

import dataclasses

import jax
import numpy as np
import pytest

from realm_jax.config import MeshConfig
from realm_jax.data.corpus import Corpus
from realm_jax.errors import ConfigError
from realm_jax.runs import live_index
from realm_jax.runs.ict import run_ict
from realm_jax.runs.live_index import block_embedder
from realm_jax.runs.qa import run_qa
from realm_jax.runs.realm import run_realm
from realm_jax.runs.setup import mesh_of, models_of, resolve
from realm_jax.train.checkpoint import Checkpoints
from tests.runs.compare import logged
from tests.tiny_run import questions, write_jsonl

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


@pytest.fixture(scope="module")
def config(make_config):
    """No dropout; the refresh of step 2 is adopted at step 4, while the thread may still be embedding."""
    made = make_config(every=2, adoption="at_lag", lag=2, worker="thread")
    bert = dataclasses.replace(made.model.bert, dropout=0.0)
    return dataclasses.replace(
        made,
        model=dataclasses.replace(made.model, bert=bert),
        realm=dataclasses.replace(made.realm, batch_size=8),
        refresh=dataclasses.replace(made.refresh, probes=6),
    )


def on(config, **sizes):
    return dataclasses.replace(config, mesh=MeshConfig(**sizes))


@pytest.fixture(scope="module")
def single(config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "single"
    run_realm(config, workdir, stop_at=5)
    return workdir


def test_a_run_with_refreshes_equals_that_on_one_device(config, single, tmp_path, monkeypatch):
    """Stopped on its way and resumed on another mesh, of four devices, while two others embed."""
    run_realm(on(config, data=2, fsdp=2, tensor=2), tmp_path, stop_at=3)
    spared = dataclasses.replace(
        on(config, data=1, fsdp=2, tensor=2),
        refresh=dataclasses.replace(config.refresh, worker="submesh", devices=2),
    )
    embedding = []

    def embedder(models, *, block_length, mesh):
        embedding.append(mesh)
        return block_embedder(models, block_length=block_length, mesh=mesh)

    monkeypatch.setattr(live_index, "block_embedder", embedder)
    run_realm(spared, tmp_path, stop_at=5)
    assert list(embedding[-1].devices.flat) == jax.devices()[-2:]
    assert logged(tmp_path, "index_version") == logged(single, "index_version")
    for name in ("loss", "retrieval_utility", "gradient_norm"):
        found, expected = (list(logged(folder, name).values()) for folder in (tmp_path, single))
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-4, err_msg=name)
    found, expected = (Checkpoints(folder).restore_params() for folder in (tmp_path, single))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3)


def test_ict_in_microbatches_on_a_mesh_equals_that_on_one_device(config, tmp_path):
    """Recorded by the profiler on its way."""
    config = dataclasses.replace(config, ict=dataclasses.replace(config.ict, batch_size=8, log_every=1))
    split = dataclasses.replace(
        on(config, data=2, fsdp=2, tensor=2),
        ict=dataclasses.replace(config.ict, microbatches=2, rematerialisation="matmuls"),
    )
    run_ict(config, tmp_path / "single", stop_at=3)
    last = run_ict(split, tmp_path / "split", stop_at=3, trace_steps=1)
    # Of nearly equal scores the best may change with rounding, which differs between processors: a row.
    for name, atol in (("loss", 1e-4), ("gradient_norm", 1e-4), ("accuracy", 1 / 8 + 1e-4)):
        found, expected = (list(logged(tmp_path / run, name).values()) for run in ("split", "single"))
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=atol, err_msg=name)
    assert last["data_seconds"] > 0 and last["inputs_seconds"] > 0 and last["model_flops_per_second"] > 0
    assert list((tmp_path / "split" / "trace").rglob("*.xplane.pb"))
    assert not (tmp_path / "single" / "trace").exists()


def test_fine_tuning_on_a_mesh_equals_that_on_one_device(config, tmp_path):
    qa = dataclasses.replace(config.qa, batch_size=8, log_every=1)
    config = dataclasses.replace(
        config, train_questions=str(write_jsonl(tmp_path / "questions.jsonl", questions())), qa=qa
    )
    run_qa(config, tmp_path / "single", stop_at=2)
    run_qa(on(config, data=4, fsdp=1, tensor=2), tmp_path / "split", stop_at=2)
    for name in ("loss", "retrieved", "gradient_norm"):
        found, expected = (list(logged(tmp_path / run, name).values()) for run in ("split", "single"))
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-4, err_msg=name)
    # A search ends before or after the line of the step it runs beside; the first line always has one.
    assert logged(tmp_path / "split", "search_seconds")[1] > 0
    assert all(seconds > 0 for seconds in logged(tmp_path / "split", "inputs_seconds").values())


def test_blocks_are_embedded_without_a_word_between_devices(config):
    """Or trainer and refresher could wait for one another for ever."""
    corpus = Corpus.open(config.corpus)
    resolved = resolve(on(config, data=0, fsdp=2, tensor=2), corpus)
    mesh, models = mesh_of(resolved, "realm"), models_of(resolved)
    embed = block_embedder(models, block_length=resolved.shapes.block_length, mesh=mesh)
    params = jax.eval_shape(models.init, jax.random.key(0))
    blocks = corpus.gather(np.arange(8))
    program = embed.lower({"embedder": params["embedder"]}, blocks, 32).compile()
    assert not [name for name in COLLECTIVES if name in program.as_text()]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"realm": {"batch_size": 6}}, r"realm\.batch_size must be a multiple"),
        ({"index": {"embed_batch_size": 12}}, r"index\.embed_batch_size must be a multiple"),
        ({"mesh": {"tensor": 4, "fsdp": 2}}, r"mesh\.tensor must divide model\.bert\.num_heads"),
    ],
)
def test_what_cannot_be_split_is_refused_before_work_starts(config, tmp_path, change, rule):
    changed = on(config, data=0, fsdp=2, tensor=2)
    for part, values in change.items():
        changed = dataclasses.replace(
            changed, **{part: dataclasses.replace(getattr(changed, part), **values)}
        )
    with pytest.raises(ConfigError, match=rule):
        run_realm(changed, tmp_path)
    assert not any(tmp_path.iterdir())
