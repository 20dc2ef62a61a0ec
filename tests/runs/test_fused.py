"""A REALM run whose steps search for themselves: the run that searches beside them, on any devices."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from realm_jax.config import MeshConfig
from realm_jax.data.questions import Questions
from realm_jax.errors import ConfigError
from realm_jax.index.exact import ExactIndex
from realm_jax.index.manifest import IndexManifest
from realm_jax.index.protocol import Storage
from realm_jax.index.store import MANIFEST, version_folder, versions
from realm_jax.inspect.evaluate import evaluate_run
from realm_jax.inspect.loaded import open_run
from realm_jax.mesh import make_mesh
from realm_jax.runs.fused import FusedInputs
from realm_jax.runs.live_index import IndexVersion, LiveIndex
from realm_jax.runs.realm import run_realm
from tests.index.fake import clustered
from tests.runs.compare import logged, same
from tests.tiny_run import questions, write_jsonl

STEPS, STEPS_ON_MESH = 5, 3


def changed(config, **parts):
    """Replace values in parts of a config: `changed(config, realm={"steps": 3})`."""
    return dataclasses.replace(
        config,
        **{name: dataclasses.replace(getattr(config, name), **values) for name, values in parts.items()},
    )


@pytest.fixture(scope="module")
def config(make_config):
    """No dropout, index versions of steps 2 and 4, queries embedded with the parameters of their own step."""
    made = make_config(every=2, worker="inline")
    bert = dataclasses.replace(made.model.bert, dropout=0.0)
    return changed(made, model={"bert": bert}, realm={"batch_size": 8, "ahead": False}, refresh={"probes": 6})


def fused(config, **parts):
    return changed(config, index={"engine": "fused"}, **parts)


@pytest.fixture(scope="module")
def runs(config, tmp_path_factory) -> dict[str, Path]:
    """One run each of `exact`, `fused` (stopped and resumed on its way), and `fused` on a mesh."""
    folder = tmp_path_factory.mktemp("runs")
    run_realm(config, folder / "exact", stop_at=STEPS)
    for stop_at in (3, STEPS):
        run_realm(fused(config), folder / "fused", stop_at=stop_at)
    on_mesh = dataclasses.replace(fused(config), mesh=MeshConfig(data=2, fsdp=2, tensor=2))
    run_realm(on_mesh, folder / "mesh", stop_at=STEPS_ON_MESH)
    return {name: folder / name for name in ("exact", "fused", "mesh")}


@pytest.mark.parametrize(
    ("name", "steps", "relative"), [("fused", STEPS, 1e-4), ("mesh", STEPS_ON_MESH, 2e-3)]
)
def test_a_fused_run_equals_one_that_searches_beside_its_steps(runs, name, steps, relative):
    assert list(logged(runs[name], "index_version").values()) == [0, 2, 2, 4, 4][:steps]
    for value in ("index_version", "loss", "retrieval_utility", "gradient_norm", "valid_candidates"):
        found, expected = (logged(runs[run], value) for run in (name, "exact"))
        assert list(found) == list(expected)[:steps] == list(range(1, steps + 1))
        np.testing.assert_allclose(
            list(found.values()), list(expected.values())[:steps], rtol=relative, atol=1e-4, err_msg=value
        )
    # Nothing is searched on the host while it trains.
    assert logged(runs["exact"], "search_seconds") and not logged(runs[name], "search_seconds")


def test_an_index_that_keeps_its_rows_otherwise_is_laid_out_for_the_step_once():
    """Such as one whose rows are shared out among hosts."""
    embeddings = clustered(45, dimension=8)
    storage = Storage(make_mesh(data=2, fsdp=2, tensor=2), "int8")
    live = LiveIndex(IndexVersion(0, object(), embeddings))
    inputs = FusedInputs(None, live, storage=storage)
    first, again = (inputs.finish(step, "batch", None) for step in (0, 1))
    assert again[0].index is first[0].index and first[1] == "batch"
    expected = ExactIndex(embeddings, storage)
    live.adopt(IndexVersion(2, expected, embeddings), seconds=0.0, changes={})
    assert inputs.finish(2, "batch", None)[0].index is expected.rows
    assert jax.tree.map(lambda leaf: leaf.sharding, first[0].index) == jax.tree.map(
        lambda leaf: leaf.sharding, expected.rows
    )
    assert same(first[0].index, expected.rows)


def test_versions_are_published_as_those_of_the_exact_engine(runs):
    assert versions(runs["fused"] / "index") == [2, 4]  # those of its two checkpoints
    one, other = (
        IndexManifest.from_json((version_folder(runs[run] / "index", 4) / MANIFEST).read_text())
        for run in ("fused", "exact")
    )
    assert dataclasses.replace(one, engine="exact") == other and other.recall == 1.0


def test_a_fused_run_is_evaluated_as_any_other(runs, tmp_path):
    asked = Questions.load(write_jsonl(tmp_path / "questions.jsonl", questions()))
    found, expected = (
        evaluate_run(open_run(runs[name]), asked, ks=(1, 5), read=False).to_json()["metrics"]
        for name in ("fused", "exact")
    )
    assert found == expected and found["recall@5"]["count"] == len(asked)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("swap_probability", 0.5),
        ("evidence_pool", 8),
        ("oversample", 2),
        ("window_steps", 3),
        ("span_weight", 1.0),
    ],
)
def test_what_needs_the_candidates_on_the_host_is_refused(config, tmp_path, setting, value):
    rule = rf"got realm\.{setting} {value}(.|\n)*--index\.engine exact, or with realm\.{setting}"
    with pytest.raises(ConfigError, match=rule):
        run_realm(fused(config, realm={"evidence_window": 4, setting: value}), tmp_path)
    assert not any(tmp_path.iterdir())
