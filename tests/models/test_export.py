"""Export: import gives back what was exported, and export gives back what was imported."""

import json
from pathlib import Path

import chex
import ml_dtypes
import numpy as np
import pytest

from realm_jax.errors import CheckpointError, ConfigError
from realm_jax.models.export import export_pretrained, source_for, to_tensors
from realm_jax.models.pretrained import import_pretrained
from tests.models.oracle import oracle_folder
from tests.models.small import (
    REALM_CLASSES,
    block_embeddings,
    plain_config,
    rewrite,
    small_config,
    small_params,
    tensors_of,
    write,
)


def again(folder: Path, target: Path) -> None:
    """Import a folder and export what came in."""
    got = import_pretrained(folder)
    export_pretrained(
        got.params, got.config, target, source=got.source, unread=got.unread, vocabulary=got.vocabulary
    )


def same_tensors(one: Path, other: Path) -> None:
    a, b = tensors_of(one), tensors_of(other)
    assert sorted(a) == sorted(b)
    for name, tensor in a.items():
        assert tensor.dtype == b[name].dtype, name
        np.testing.assert_array_equal(tensor, b[name], err_msg=name)


@pytest.mark.parametrize("two", [False, True])
@pytest.mark.parametrize("name", REALM_CLASSES)
def test_import_of_an_export_is_the_identity(tmp_path: Path, name: str, two: bool) -> None:
    config = small_config(two_towers=two)
    params = write(name, config, tmp_path / "m")
    got = import_pretrained(tmp_path / "m")
    scorer = name == "RealmScorer"
    for part, tree in got.params.items():
        # A class with one embedder holds the queries'.
        here = "query_embedder" if two and part == "embedder" else part
        chex.assert_trees_all_equal(tree, params[here])
    assert got.config == config | {"two_towers": two and scorer}
    again(tmp_path / "m", tmp_path / "n")
    same_tensors(tmp_path / "m", tmp_path / "n")
    assert json.loads((tmp_path / "m/config.json").read_text()) == json.loads(
        (tmp_path / "n/config.json").read_text()
    )


@pytest.mark.parametrize("pooling", ["pooler", "cls", "mean"])
def test_plain_bert_there_and_back(tmp_path: Path, pooling: str) -> None:
    config = plain_config(pooling=pooling, normalize=pooling == "mean")
    params = write("BertModel", config, tmp_path / "m")
    got = import_pretrained(tmp_path / "m")
    assert got.config == config
    chex.assert_trees_all_equal(got.params["embedder"], params["embedder"])
    again(tmp_path / "m", tmp_path / "n")
    same_tensors(tmp_path / "m", tmp_path / "n")
    assert import_pretrained(tmp_path / "n").config == config


@pytest.mark.parametrize("name", ["embedder", "scorer", "scorer_two_towers", "encoder", "reader", "open_qa"])
def test_oracles_come_out_as_they_went_in(tmp_path: Path, name: str) -> None:
    folder = oracle_folder(name, tmp_path)
    again(folder, tmp_path / "out")
    same_tensors(folder, tmp_path / "out")
    before, after = (json.loads((path / "config.json").read_text()) for path in (folder, tmp_path / "out"))
    assert before == after
    assert (folder / "vocab.txt").exists() == (tmp_path / "out/vocab.txt").exists()


@pytest.mark.parametrize("name", ["embedder", "scorer", "encoder", "reader", "open_qa"])
def test_a_class_export_holds_every_tensor_of_the_class(tmp_path: Path, name: str) -> None:
    """The oracle's file has all names and shapes of the public class; with them, ours loads strictly."""
    folder = oracle_folder(name, tmp_path)
    got = import_pretrained(folder)
    classes = {
        "embedder": "RealmEmbedder",
        "scorer": "RealmScorer",
        "encoder": "RealmKnowledgeAugEncoder",
        "reader": "RealmReader",
        "open_qa": "RealmForOpenQA",
    }
    unread = {key: value for key, value in got.unread.items() if key == "block_emb"}
    source = source_for(classes[name], got.config)
    export_pretrained(got.params, got.config, tmp_path / "out", source=source, unread=unread)
    shapes = [{n: t.shape for n, t in tensors_of(path).items()} for path in (folder, tmp_path / "out")]
    assert shapes[0] == shapes[1]


def test_names_prefixes_and_dtypes_come_back(tmp_path: Path) -> None:
    write("BertForMaskedLM", plain_config(), tmp_path / "m")
    old = {}
    for name, tensor in tensors_of(tmp_path / "m").items():
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        old["model." + name] = tensor.astype(ml_dtypes.bfloat16 if "dense" in name else np.float16)
    del old["model.cls.predictions.bias"]
    old["model.bert.embeddings.position_ids"] = np.arange(10)[None]
    rewrite(tmp_path / "m", old)
    again(tmp_path / "m", tmp_path / "n")
    same_tensors(tmp_path / "m", tmp_path / "n")


def test_parts_that_share_a_file_must_agree(tmp_path: Path) -> None:
    write("BertForMaskedLM", plain_config(), tmp_path / "m")
    got = import_pretrained(tmp_path / "m")
    got.params["embedder"]["bert"] = small_params(plain_config(), seed=5)["embedder"]["bert"]
    with pytest.raises(CheckpointError, match="must be equal"):
        to_tensors(got.params, got.source, num_layers=2)


def test_what_is_missing_or_in_the_way_is_refused(tmp_path: Path) -> None:
    config = small_config()
    params = small_params(config)
    with pytest.raises(ConfigError, match="no reader"):
        export_pretrained(
            {"embedder": params["embedder"]},
            config,
            tmp_path / "m",
            source=source_for("RealmForOpenQA", config),
            unread=block_embeddings(config),
        )
    with pytest.raises(ConfigError, match="carries the block embeddings"):
        export_pretrained(params, config, tmp_path / "m", source=source_for("RealmForOpenQA", config))
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    with pytest.raises(CheckpointError, match="empty folder"):
        export_pretrained(params, config, tmp_path / "full", source=source_for("RealmReader", config))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]


def test_open_qa_counts_its_blocks(tmp_path: Path) -> None:
    write("RealmForOpenQA", small_config(), tmp_path / "m")
    assert json.loads((tmp_path / "m/config.json").read_text())["num_block_records"] == 5


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("BertModel", small_config()),
        ("RealmScorer", plain_config()),
        ("RealmEmbedder", small_config(pooling="mean")),
        ("RealmForOpenQA", small_config(normalize=True)),
        ("GPT", small_config()),
    ],
)
def test_a_class_without_room_for_the_embedder_is_refused(name: str, config: dict) -> None:
    with pytest.raises(ConfigError):
        source_for(name, config)
