"""Import: every layout of the public checkpoints, and every way a folder can be wrong."""

import json
import re
from pathlib import Path
from typing import Any

import chex
import jax
import numpy as np
import pytest

from realm_jax.errors import CheckpointError, ConfigError
from realm_jax.models.pretrained import import_pretrained, imported_models
from tests.models.small import (
    REALM_CLASSES,
    plain_config,
    rewrite,
    small_config,
    tensors_of,
    write,
)


def prefixed(folder: Path, prefix: str) -> None:
    """Put a prefix before BERT's own tensors."""
    own = ("embeddings.", "encoder.", "pooler.")
    rewrite(folder, {prefix + n if n.startswith(own) else n: t for n, t in tensors_of(folder).items()})


def old_norms(folder: Path) -> None:
    """Call LayerNorm's tensors gamma and beta, as converted checkpoints of 2018 do."""
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    renamed = {}
    for name, tensor in tensors_of(folder).items():
        for new, before in old.items():
            name = name.replace(new, before)
        renamed[name] = tensor
    rewrite(folder, renamed)


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_bert_with_pooler_becomes_an_embedder(tmp_path: Path) -> None:
    params = write("BertModel", plain_config(), tmp_path / "m")
    got = import_pretrained(tmp_path / "m")
    assert list(got.params) == ["embedder"]
    chex.assert_trees_all_equal(got.params["embedder"], params["embedder"])
    assert (got.config["pooling"], got.config["embedding_size"]) == ("pooler", 0)


@pytest.mark.parametrize("prefix", ["", "bert.", "0.auto_model."])
@pytest.mark.parametrize("old", [False, True])
def test_prefixes_and_old_names(tmp_path: Path, prefix: str, old: bool) -> None:
    params = write("BertModel", plain_config(), tmp_path / "m")
    prefixed(tmp_path / "m", prefix)
    if old:
        old_norms(tmp_path / "m")
    got = import_pretrained(tmp_path / "m")
    chex.assert_trees_all_equal(got.params["embedder"], params["embedder"])


def test_bert_with_pretraining_heads_gives_both_parts(tmp_path: Path) -> None:
    """Laid out as bert-base-uncased: both heads, the decoder left out as it is tied."""
    config = plain_config()
    params = write("BertForMaskedLM", config, tmp_path / "m")
    tensors = tensors_of(tmp_path / "m")
    del tensors["cls.predictions.decoder.weight"], tensors["cls.predictions.decoder.bias"]
    pooler, rows = params["embedder"]["pooler"], np.arange(16, dtype=np.float32).reshape(2, 8)
    tensors |= {"bert.pooler.dense.weight": np.ascontiguousarray(pooler["kernel"].T)}
    tensors |= {"bert.pooler.dense.bias": pooler["bias"]}
    tensors |= {"cls.seq_relationship.weight": rows, "cls.seq_relationship.bias": rows[0, :2].copy()}
    rewrite(tmp_path / "m", tensors)
    old_norms(tmp_path / "m")
    got = import_pretrained(tmp_path / "m")
    chex.assert_trees_all_equal(got.params["encoder"], params["encoder"])
    chex.assert_trees_all_equal(got.params["embedder"]["bert"], params["encoder"]["bert"])
    chex.assert_trees_all_equal(got.params["embedder"]["pooler"], pooler)
    assert sorted(got.unread) == ["cls.seq_relationship.bias", "cls.seq_relationship.weight"]


def test_bert_for_masked_words_without_pooler_pools_cls(tmp_path: Path) -> None:
    write("BertForMaskedLM", plain_config(), tmp_path / "m")
    got = import_pretrained(tmp_path / "m")
    assert sorted(got.params) == ["embedder", "encoder"]
    assert got.config["pooling"] == "cls"
    assert sorted(got.params["embedder"]) == ["bert"]


def test_the_words_bias_may_stand_under_the_decoders_name(tmp_path: Path) -> None:
    params = write("BertForMaskedLM", plain_config(), tmp_path / "m")
    tensors = tensors_of(tmp_path / "m")
    del tensors["cls.predictions.bias"]
    rewrite(tmp_path / "m", tensors)
    chex.assert_trees_all_equal(import_pretrained(tmp_path / "m").params["encoder"], params["encoder"])


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("normalize", [False, True])
def test_sentence_encoder_says_its_pooling(tmp_path: Path, pooling: str, normalize: bool) -> None:
    params = write("BertModel", plain_config(pooling=pooling, normalize=normalize), tmp_path / "m")
    tensors = tensors_of(tmp_path / "m")
    rewrite(tmp_path / "m", tensors | {"pooler.dense.bias": np.ones(8, np.float32)})
    got = import_pretrained(tmp_path / "m")
    assert (got.config["pooling"], got.config["normalize"]) == (pooling, normalize)
    chex.assert_trees_all_equal(got.params["embedder"], params["embedder"])
    assert list(got.unread) == ["pooler.dense.bias"]


def test_sentence_encoder_with_its_transformer_in_a_folder(tmp_path: Path) -> None:
    write("BertModel", plain_config(pooling="mean"), tmp_path / "m")
    inner = tmp_path / "m" / "0_Transformer"
    inner.mkdir()
    (tmp_path / "m" / "vocab.txt").write_text("[PAD]\n")
    (tmp_path / "m" / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    for name in ("config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json"):
        (tmp_path / "m" / name).rename(inner / name)
    modules = json.loads((tmp_path / "m" / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (tmp_path / "m" / "modules.json").write_text(json.dumps(modules))
    got = import_pretrained(tmp_path / "m")
    assert (got.config["pooling"], got.vocabulary) == ("mean", inner / "vocab.txt")


def test_the_pooling_is_read_without_a_list_of_modules(tmp_path: Path) -> None:
    write("BertModel", plain_config(pooling="mean"), tmp_path / "m")
    (tmp_path / "m" / "modules.json").unlink()
    got = import_pretrained(tmp_path / "m")
    assert (got.config["pooling"], got.config["normalize"]) == ("mean", False)


@pytest.mark.parametrize(("kind", "found"), [("WordPiece", True), ("BPE", False)])
def test_wordpieces_may_stand_in_the_tokenizers_file(tmp_path: Path, kind: str, found: bool) -> None:
    write("BertModel", plain_config(), tmp_path / "m")
    path = tmp_path / "m" / "tokenizer.json"
    path.write_text(json.dumps({"model": {"type": kind, "vocab": {"[PAD]": 0, "a": 1}}}))
    assert import_pretrained(tmp_path / "m").vocabulary == (path if found else None)


def test_the_caller_overrules_the_pooling(tmp_path: Path) -> None:
    write("BertModel", plain_config(), tmp_path / "m")
    got = import_pretrained(tmp_path / "m", pooling="mean", normalize=True)
    assert (got.config["pooling"], got.config["normalize"]) == ("mean", True)
    assert sorted(got.params["embedder"]) == ["bert"]
    assert sorted(got.unread) == ["pooler.dense.bias", "pooler.dense.weight"]


def test_a_realm_embedder_keeps_its_pooling(tmp_path: Path) -> None:
    write("RealmEmbedder", small_config(), tmp_path / "m")
    with pytest.raises(ConfigError, match="pools as it was trained"):
        import_pretrained(tmp_path / "m", pooling="mean")


@pytest.mark.parametrize("name", REALM_CLASSES)
def test_realm_classes(tmp_path: Path, name: str) -> None:
    params = write(name, small_config(), tmp_path / "m")
    got = import_pretrained(tmp_path / "m")
    for part, tree in got.params.items():
        chex.assert_trees_all_equal(tree, params[part])
    assert ("block_emb" in got.unread) == (name == "RealmForOpenQA")


def test_towers_that_are_equal_are_one_unless_the_config_says_two(tmp_path: Path) -> None:
    write("RealmScorer", small_config(), tmp_path / "m")
    assert list(import_pretrained(tmp_path / "m").params) == ["embedder"]
    edit_config(tmp_path / "m", two_towers=True)
    got = import_pretrained(tmp_path / "m")
    assert sorted(got.params) == ["block_embedder", "query_embedder"]
    chex.assert_trees_all_equal(got.params["block_embedder"], got.params["query_embedder"])


def test_two_towers_are_told_apart(tmp_path: Path) -> None:
    params = write("RealmScorer", small_config(two_towers=True), tmp_path / "m")
    got = import_pretrained(tmp_path / "m")
    assert got.config["two_towers"]
    chex.assert_trees_all_equal(got.params["query_embedder"], params["query_embedder"])
    chex.assert_trees_all_equal(got.params["block_embedder"], params["block_embedder"])
    name = "query_embedder.cls.dense.bias"
    np.testing.assert_array_equal(
        tensors_of(tmp_path / "m")[name], params["query_embedder"]["projection"]["bias"]
    )


def test_a_scorer_saved_without_the_repeated_tower_is_one_tower(tmp_path: Path) -> None:
    params = write("RealmScorer", small_config(), tmp_path / "m")
    kept = {n: t for n, t in tensors_of(tmp_path / "m").items() if not n.startswith("embedder.")}
    rewrite(tmp_path / "m", kept)
    chex.assert_trees_all_equal(import_pretrained(tmp_path / "m").params["embedder"], params["embedder"])


def test_kinds_are_found_without_names_of_classes(tmp_path: Path) -> None:
    """config.json may be no more than the sizes that differ from the library's defaults."""
    params = write("RealmReader", small_config(), tmp_path / "m")
    sizes = json.loads((tmp_path / "m" / "config.json").read_text())
    for name in ("architectures", "model_type", "hidden_act", "layer_norm_eps", "reader_layer_norm_eps"):
        del sizes[name]
    (tmp_path / "m" / "config.json").write_text(json.dumps(sizes))
    got = import_pretrained(tmp_path / "m")
    assert got.config == small_config()
    chex.assert_trees_all_equal(got.params["reader"], params["reader"])


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    write("RealmEmbedder", small_config(), tmp_path / "m")
    rewrite(tmp_path / "m", {n: t.astype(np.float16) for n, t in tensors_of(tmp_path / "m").items()})
    got = import_pretrained(tmp_path / "m")
    assert {leaf.dtype for leaf in jax.tree.leaves(got.params)} == {np.dtype(np.float32)}


def test_imported_parameters_fit_the_models(tmp_path: Path) -> None:
    write("RealmForOpenQA", small_config(), tmp_path / "m")
    got = import_pretrained(tmp_path / "m")
    shapes = jax.eval_shape(imported_models(got.config).init, jax.random.key(0))
    for part, tree in got.params.items():
        chex.assert_trees_all_equal_shapes_and_dtypes(tree, shapes[part])


def test_every_problem_is_in_one_error(tmp_path: Path) -> None:
    write("RealmReader", small_config(), tmp_path / "m")
    tensors = tensors_of(tmp_path / "m")
    del tensors["qa_outputs.dense_output.bias"]
    del tensors["realm.encoder.layer.1.attention.self.query.weight"]
    tensors["realm.encoder.layer.2.output.dense.bias"] = np.zeros(8, np.float32)
    tensors["realm.embeddings.position_embeddings.weight"] = np.zeros((11, 8), np.float32)
    tensors["qa_outputs.dense_intermediate.weight"] = np.zeros((12, 9), np.float32)
    tensors["head.weight"] = np.zeros(3, np.float32)
    rewrite(tmp_path / "m", tensors)
    with pytest.raises(CheckpointError) as error:
        import_pretrained(tmp_path / "m")
    text = str(error.value)
    missing, misshapen, unknown = (
        re.search(rf"\d+ {kind}: ([^;]*)", text).group(1)  # type: ignore[union-attr]
        for kind in ("missing", "misshapen", "not known")
    )
    assert missing == "realm.encoder.layer.1.attention.self.query.weight, qa_outputs.dense_output.bias"
    assert "position_embeddings.weight is [11, 8] instead of [10, 8]" in misshapen
    assert "dense_intermediate.weight is [12, 9] instead of [12, 8]" in misshapen
    assert unknown.startswith("head.weight, realm.encoder.layer.2.output.dense.bias")


def test_an_untied_decoder_is_refused(tmp_path: Path) -> None:
    write("RealmKnowledgeAugEncoder", small_config(), tmp_path / "m")
    tensors = tensors_of(tmp_path / "m")
    tensors["cls.predictions.decoder.weight"] = tensors["cls.predictions.decoder.weight"] + 1
    rewrite(tmp_path / "m", tensors)
    with pytest.raises(CheckpointError, match="cls.predictions.decoder.weight differs from"):
        import_pretrained(tmp_path / "m")


def test_both_spellings_of_one_tensor_are_refused(tmp_path: Path) -> None:
    write("BertModel", plain_config(), tmp_path / "m")
    extra = {"embeddings.LayerNorm.gamma": np.ones(8, np.float32)}
    rewrite(tmp_path / "m", tensors_of(tmp_path / "m") | extra)
    with pytest.raises(CheckpointError, match="1 not known: embeddings.LayerNorm.gamma"):
        import_pretrained(tmp_path / "m")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "roberta"}, "model_type must be bert or realm"),
        ({"hidden_act": "silu"}, "hidden_act must be one of"),
        ({"hidden_act": ["gelu"]}, "hidden_act must be one of"),
        ({"position_embedding_type": "relative_key"}, "must be absolute"),
        ({"is_decoder": True}, "is_decoder and add_cross_attention must be false"),
        ({"num_attention_heads": 3}, "must divide hidden_size, but got 3 and 8"),
        ({"num_attention_heads": 0, "hidden_size": "8"}, "got hidden_size '8', num_attention_heads 0"),
        ({"layer_norm_eps": None, "hidden_dropout_prob": -1}, "layer_norm_eps None, hidden_dropout_prob -1"),
        ({"num_hidden_layers": 3}, "16 missing: encoder.layer.2.attention.self.query.weight"),
        ({"num_hidden_layers": 1}, "16 not known: encoder.layer.1"),
        (
            {"vocab_size": 21},
            r"1 misshapen: embeddings.word_embeddings.weight is \[20, 8\] instead of \[21, 8\]",
        ),
    ],
)
def test_a_config_that_does_not_fit_is_refused(tmp_path: Path, changes: dict, message: str) -> None:
    write("BertModel", plain_config(), tmp_path / "m")
    edit_config(tmp_path / "m", **changes)
    with pytest.raises(CheckpointError, match=message):
        import_pretrained(tmp_path / "m")


@pytest.mark.parametrize("unsaid", ["model_type", "position_embedding_type"])
def test_null_is_what_is_not_said(tmp_path: Path, unsaid: str) -> None:
    write("BertModel", plain_config(), tmp_path / "m")
    edit_config(tmp_path / "m", **{unsaid: None})
    assert import_pretrained(tmp_path / "m").config == plain_config()


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="readable JSON"):
        import_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(CheckpointError, match="must hold a JSON object, but got list"):
        import_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"must hold model.safetensors"):
        import_pretrained(tmp_path)
    rewrite(tmp_path, {"weight": np.zeros(3, np.float32)})
    with pytest.raises(CheckpointError, match="at least one BERT"):
        import_pretrained(tmp_path)
